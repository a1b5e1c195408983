//! The roof: the only doors to the world.

pub mod cxone;
pub mod limits;
pub mod media;
