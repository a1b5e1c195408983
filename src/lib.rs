//! Backchannel: a SIP back-to-back user agent between a NICE CXone carrier trunk and Synthflow voice AI. This is the map.
//!
//! A message travels an arch: up one staircase, across the call, down the other.
//!
//! ```text
//!   roof     edge         the only doors to the world: sockets, clock, HTTP, tasks; ops, mock and cli live here too
//!   ──────   b2bua        the stairwell: routes each input to its floor and back down; port ledger, timers, panic wall
//!   4th      policy       what this product decides: header rules, X-EI, routing, admission, what a REFER or BYE means
//!   3rd      call         two legs make a call; `call::handover` and `call::escalation` are its way out, `call::anchor` its media
//!   2nd      dialog       who talks to whom, in what order (RFC 3261 §12)
//!   1st      transaction  one request reliably answered (RFC 3261 §17, RFC 6026)
//!   ground   wire         bytes to values and back: SIP, SDP, RTP, X-EI
//! ```
//!
//! Where to look: a header rule in `policy::headers`; a timer of the RFC in `transaction`, a deadline of a call in `Call::deadline`;
//! the signal's tries in `call::escalation`, its HTTP in `edge::cxone`; a log line in `ops::facts`; a key in `config::keys`.
//!
//! What is absent: below the roof nothing knows a clock, a socket, a task, a lock, a file or a die that it was not given; policy
//! keeps no state; a packet never waits for a call. Each floor looks only downstairs; who may import whom is this table, and
//! `tests/floors.rs` holds it:
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
//! | `b2bua` | `policy`, `call`, `dialog`, `transaction`, `wire`, `config`, `report`, `ids`, `time` |

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
