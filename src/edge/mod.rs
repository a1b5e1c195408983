//! The roof: the only doors to the world. Clock, sockets, tasks, threads.

pub mod clock;
pub mod core_loop;
pub mod cxone;
pub mod doors;
pub mod limits;
pub mod media;
mod memory;
pub mod resolver;
pub mod serve;
pub mod sip;
