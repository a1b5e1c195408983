//! Ground floor: bytes to values and back.

pub mod draft;
pub mod header;
pub mod message;
pub mod method;
pub mod rtp;
pub mod sdp;
pub mod stream;
pub mod uri;
pub mod x_ei;
