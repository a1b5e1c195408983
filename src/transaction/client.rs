//! Client transactions: INVITE (RFC 3261 §17.1.1 with RFC 6026 §7.2) and non-INVITE (§17.1.2).

use bytes::Bytes;

use crate::time::Time;
use crate::transaction::Timer;
use crate::transaction::Timers;
use crate::wire::message::Message;

/// What a client transaction wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    Send(Bytes),
    /// The response just received goes up. In Accepted every 2xx does (RFC 6026 §7.2): the user tells retransmissions from forks.
    Response,
    /// A retransmission of a response that was already passed up; dealt with here.
    Absorbed,
    /// Timer B or F: no final answer (for the user: 408).
    Expired(Timer),
    Terminated,
}

/// One request of ours.
#[derive(Debug)]
pub struct Client {
    request: Bytes,
}

#[allow(unused_variables, clippy::todo)]
impl Client {
    /// Starts in Calling; pushes the first `Send`.
    pub fn invite(request: Bytes, reliable: bool, timers: Timers, now: Time, out: &mut Vec<Out>) -> Client {
        todo!()
    }
    /// Starts in Trying; pushes the first `Send`.
    pub fn non_invite(request: Bytes, reliable: bool, timers: Timers, now: Time, out: &mut Vec<Out>) -> Client {
        todo!()
    }
    pub fn on_response(&mut self, response: &Message, now: Time, out: &mut Vec<Out>) {
        todo!()
    }
    pub fn on_timeout(&mut self, now: Time, out: &mut Vec<Out>) {
        todo!()
    }
    /// The transport says that the request cannot go out (RFC 3261 §17.1.4): straight to Terminated, without `Expired`.
    pub fn on_transport_error(&mut self, out: &mut Vec<Out>) {
        todo!()
    }
    pub fn deadline(&self) -> Option<(Time, Timer)> {
        todo!()
    }
    /// The request as it was sent, for `cancel_for`.
    pub fn request(&self) -> &Bytes {
        &self.request
    }
    /// A provisional response has come and no final one: a CANCEL may go (RFC 3261 §9.1).
    pub fn is_proceeding(&self) -> bool {
        todo!()
    }
    /// Still without a final response.
    pub fn is_pending(&self) -> bool {
        todo!()
    }
}
