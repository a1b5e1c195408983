//! What people look at: log lines, ladders.

pub mod facts;
pub mod ladder;
pub mod line;
pub mod log;
pub mod redact;
