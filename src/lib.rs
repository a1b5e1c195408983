//! Backchannel, floor by floor.
//!
//! A message travels an arch: up one staircase, across the call, down the other. Below the roof (`edge`, `ops`, `mock`, `cli`) nothing
//! knows a clock, a socket, a task, a lock, a file or a die that it was not given. Each floor looks only downstairs; who may import
//! whom is this table, and `tests/floors.rs` holds it:
//!
//! | floor | may import |
//! |---|---|
//! | `time` | |
//! | `ids` | `time` |
//! | `report` | `ids`, `time`, `call` |
//! | `wire` | `ids` |
//! | `transaction` | `wire`, `ids`, `time` |
//! | `dialog` | `wire`, `ids` |
//! | `call` | `wire`, `dialog`, `transaction`, `ids`, `time`, `report` |
//! | `config` | `call`, `wire`, `ids` |
//! | `policy` | `call`, `wire`, `config`, `ids` |
//! | `trunk` | `wire`, `transaction`, `dialog`, `call`, `config`, `ids`, `time`, `report` |
//! | `b2bua` | `policy`, `trunk`, `call`, `dialog`, `transaction`, `wire`, `config`, `report`, `ids`, `time` |

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
