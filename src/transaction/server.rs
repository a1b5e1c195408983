//! Server transactions: INVITE (RFC 3261 §17.2.1 with RFC 6026 §7.1) and non-INVITE (§17.2.2).

use bytes::Bytes;

use crate::time::Time;
use crate::transaction::Timer;
use crate::transaction::Timers;
use crate::wire::message::Message;

/// What a server transaction wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    Send(Bytes),
    /// The ACK to a non-2xx arrived.
    Acknowledged,
    /// In Accepted an ACK with this transaction's branch goes up to the user (RFC 6026 §7.1).
    Ack,
    /// Dealt with here: a repetition.
    Absorbed,
    /// Timer H: a non-2xx final response that nobody acknowledged.
    Expired(Timer),
    Terminated,
}

/// One request of a peer.
#[derive(Debug)]
pub struct Server {
    last: Option<Bytes>,
}

#[allow(unused_variables, clippy::todo)]
impl Server {
    /// Starts in Proceeding. The stairwell sends the 100 through `respond`.
    pub fn invite(reliable: bool, timers: Timers, now: Time) -> Server {
        todo!()
    }
    /// Starts in Trying.
    pub fn non_invite(reliable: bool, timers: Timers, now: Time) -> Server {
        todo!()
    }
    /// A repetition of the request, or an ACK that matches it.
    pub fn on_request(&mut self, request: &Message, now: Time, out: &mut Vec<Out>) {
        todo!()
    }
    /// A response of the user, printed. A 2xx to INVITE is repeated by the user (RFC 3261 §13.3.1.4, RFC 6026 §7.1): through here too, in
    /// Accepted. A response after a non-2xx final one is dropped.
    pub fn respond(&mut self, status: u16, printed: Bytes, now: Time, out: &mut Vec<Out>) {
        todo!()
    }
    pub fn on_timeout(&mut self, now: Time, out: &mut Vec<Out>) {
        todo!()
    }
    pub fn on_transport_error(&mut self, out: &mut Vec<Out>) {
        todo!()
    }
    pub fn deadline(&self) -> Option<(Time, Timer)> {
        todo!()
    }
    /// No final response has gone out yet.
    pub fn is_pending(&self) -> bool {
        todo!()
    }
    /// The last response sent.
    pub fn last(&self) -> Option<&Bytes> {
        self.last.as_ref()
    }
}
