//! Borrowed views of header values. They are given values without line ends (the message unfolds them) and allocate nothing.

mod cseq;
mod name_addr;
mod params;
pub mod scan;
mod via;

pub use cseq::CSeq;
pub use name_addr::NameAddr;
pub use name_addr::is_star;
pub use params::Params;
pub use scan::elements;
pub use scan::unquote;
pub use via::Via;
pub use via::vias;
