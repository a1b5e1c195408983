//! The stairwell: routes each input to its floor and back down.

pub mod io;
pub mod ports;
pub mod timers;
