//! What people look at: log lines, ladders, dry runs.

pub mod dry_run;
pub mod facts;
pub mod ladder;
pub mod line;
pub mod log;
pub mod redact;
pub mod selfsigned;
