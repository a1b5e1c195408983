//! The port ledger: which pairs the edge has bound, which are lent out, which rest.

use crate::call::anchor::PortPair;
use crate::time::Time;

/// Free list (oldest first), quarantine by time, and what to ask the edge for.
#[derive(Debug)]
pub struct Ledger {}

#[allow(unused_variables, clippy::todo)]
impl Ledger {
    pub fn new() -> Ledger {
        todo!()
    }
    pub fn bound(&mut self, pairs: &[PortPair], exhausted: bool) {
        todo!()
    }
    /// Takes a free pair of that family.
    pub fn take(&mut self, v6: bool) -> Option<PortPair> {
        todo!()
    }
    /// Gives one back; it rests until `PORT_QUARANTINE` is over.
    pub fn give_back(&mut self, pair: PortPair, now: Time) {
        todo!()
    }
    pub fn on_timeout(&mut self, now: Time) {
        todo!()
    }
    pub fn deadline(&self) -> Option<Time> {
        todo!()
    }
    /// How many more pairs of that family to bind now, so that a few are always ahead. Counts a request as under way until `bound`.
    pub fn wants(&mut self, v6: bool) -> usize {
        todo!()
    }
    pub fn free(&self, v6: bool) -> usize {
        todo!()
    }
    pub fn taken(&self) -> usize {
        todo!()
    }
    pub fn quarantined(&self) -> usize {
        todo!()
    }
}
