//! Backchannel, floor by floor.

/// The ladders' language speaks of the crate by its name; unit tests use it too.
#[cfg(test)]
extern crate self as backchannel;

pub mod ids;
pub mod report;
pub mod time;

pub mod wire;

pub mod transaction;

pub mod dialog;

pub mod call;

pub mod policy;

pub mod b2bua;

pub mod edge;

pub mod ops;

pub mod mock;

pub mod config;

pub mod cli;
