//! Ground floor: bytes to values and back.

mod check;
pub mod draft;
mod head;
pub mod header;
pub mod message;
pub mod method;
mod name;
pub mod rtp;
pub mod salvage;
pub mod sdp;
pub mod stream;
pub mod uri;
pub mod x_ei;
