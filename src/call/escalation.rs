//! One escalation: recorded → requesting (try n) → settled. Every retry, settle and deadline decision of product.md §4 is here.

use std::time::Duration;

use compact_str::CompactString;

use crate::ids::ContactId;
use crate::ids::SignalId;

/// One *Signal a Contact* as it goes to CXone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    pub id: SignalId,
    pub contact: ContactId,
    /// `p1…`, not yet percent-encoded.
    pub params: Vec<(CompactString, String)>,
    /// A 401 or 403 came: fetch a new token before this try.
    pub fresh_token: bool,
}

/// What one HTTP try came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignalAnswer {
    /// Any 2xx.
    Delivered { status: u16 },
    /// A status that says CXone did not take it: 4xx, 5xx except 408, 502, 504.
    Refused { status: u16, retry_after: Option<Duration>, text: String },
    /// The request was never written: refused connection, no token, no address.
    NotSent { why: String, retry_after: Option<Duration>, final_: bool },
    /// It was written, and whether it arrived is not known: time-out, reset, 408, 502, 504.
    Unanswered { status: Option<u16>, why: String },
}
