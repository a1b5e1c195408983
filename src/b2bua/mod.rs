//! The stairwell: routes each input to its floor and back down.

pub mod io;
pub mod ports;
pub mod timers;

use std::sync::Arc;

use crate::b2bua::io::Action;
use crate::b2bua::io::Input;
use crate::config::Config;
use crate::time::Time;

/// The core: every call of one thread.
#[derive(Debug)]
pub struct B2bua {
    config: Arc<Config>,
}

#[allow(unused_variables, clippy::todo)]
impl B2bua {
    /// `report_messages`: make a `Fact::Message` of each SIP message (for ladders).
    pub fn new(config: Arc<Config>, seed: [u8; 32], shard: u8, report_messages: bool, now: Time) -> Self {
        todo!()
    }
    pub fn handle(&mut self, input: Input, now: Time) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Time) {
        todo!()
    }
    pub fn next_deadline(&self) -> Option<Time> {
        todo!()
    }
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
}
