//! First floor: one request reliably answered (RFC 3261 §17, RFC 6026). No flow, no Via, no user: the stairwell attaches those.

pub mod client;
pub mod server;

use std::time::Duration;

use bytes::Bytes;

use crate::wire::message::Message;

/// T1, T2, T4 (RFC 3261 §17.1.1.2, table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
}

/// The RFC's names of timers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Timer {
    A,
    B,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
}

/// Key of a server transaction (RFC 3261 §17.2.3): branch, sent-by and method (ACK counts as INVITE), or the RFC 2543 fallback.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerKey(Box<[u8]>);

#[allow(unused_variables, clippy::todo)]
impl ServerKey {
    /// Of a request that passed `Message::check`.
    pub fn of(request: &Message) -> ServerKey {
        todo!()
    }
    /// The INVITE that this CANCEL is for (RFC 3261 §9.2).
    pub fn cancelled(cancel: &Message) -> ServerKey {
        todo!()
    }
}

/// What makes two requests the same one that came over two paths (RFC 3261 §8.2.2.2): From tag, Call-ID, CSeq.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MergeKey(Box<[u8]>);

#[allow(unused_variables, clippy::todo)]
impl MergeKey {
    /// `None` when the request has a To tag: the rule is for requests outside a dialog.
    pub fn of(request: &Message) -> Option<MergeKey> {
        todo!()
    }
}

/// The ACK to a non-2xx final response (RFC 3261 §17.1.1.3), made from the INVITE as it was sent.
#[allow(unused_variables, clippy::todo)]
pub fn ack_for(invite: &Bytes, response: &Message) -> Bytes {
    todo!()
}

/// The CANCEL for an INVITE as it was sent (RFC 3261 §9.1): same Request-URI, Call-ID, To, From, CSeq number, Route and top Via.
#[allow(unused_variables, clippy::todo)]
pub fn cancel_for(invite: &Bytes) -> Bytes {
    todo!()
}
