//! Ladders in virtual time: each names a behaviour, plays it through the whole core, and claims every action.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod found;

mod basic;
mod cancel;
mod digest;
mod drain;
mod dsl;
mod escalation;
mod failover;
mod gate;
mod handover;
mod probes;
mod refusals;
mod reliable;
mod renegotiation;
mod routes;
mod session;
mod stream;
mod timers;
mod tls;
