//! The timer wheel: one for the whole core. A machine only states its deadlines.

use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::ServerTxId;
use crate::time::Time;

/// Whose deadline it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    Server(ServerTxId),
    Client(ClientTxId),
    Call(CallHandle),
    /// Port quarantine.
    Ports,
    /// The drain deadline.
    Drain,
    /// Flows, queries, parked requests.
    House,
}

/// A hashed wheel with lazy cancel: each owner has at most one live deadline, told apart by generation.
#[derive(Debug)]
pub struct Wheel {
    now: Time,
}

#[allow(unused_variables, clippy::todo)]
impl Wheel {
    pub fn new(now: Time) -> Wheel {
        todo!()
    }
    /// Sets, moves or (with `None`) removes the owner's deadline. O(1).
    pub fn set(&mut self, owner: Owner, at: Option<Time>) {
        todo!()
    }
    /// The earliest deadline, or a time before it at which nothing is due but the wheel wants to look again. O(1).
    pub fn next(&self) -> Option<Time> {
        todo!()
    }
    /// One owner whose deadline is due, its entry removed, in order of deadline and then of setting. `None`: nothing is due at `now`.
    pub fn pop(&mut self, now: Time) -> Option<Owner> {
        todo!()
    }
    /// Live deadlines.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
