//! The far ends: CXone's carrier trunk, CXone's API, Synthflow. For tests, the demo and `backchannel mock`.

pub mod carrier;
pub mod cxone;
pub mod rtp;
pub mod sdp;
pub mod synthflow;
pub mod ua;

#[cfg(test)]
mod tests;
