//! What people look at.

pub mod dry_run;
