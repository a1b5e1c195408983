//! The implicit subscription of a REFER (RFC 3515 §2.4.4, RFC 6665): NOTIFY 100, then one final NOTIFY, in that order on the wire.

use std::time::Duration;

use bytes::Bytes;

use crate::dialog::Dialog;
use crate::ids::ClientTxId;
use crate::ids::ServerTxId;
use crate::time::Time;
use crate::wire::draft::Draft;
use crate::wire::draft::reason_phrase;
use crate::wire::method::Method;

/// Our BYE to the referrer waits at most this long for the answer to the final NOTIFY (product.md §4).
pub const FINAL_NOTIFY_WAIT: Duration = Duration::from_secs(2);

/// ```text
///  Requested ──202──► Trying ──answer──► Told ──final──► Final ──answer, 2 s──► Over
///                       │ final known: kept until the answer
///                       └── refused, unanswered NOTIFY ──► Over (RFC 5057: the subscription only, never the call)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// The 202 has not left: the intent is not on disk yet.
    Requested {
        tx: ServerTxId,
    },
    /// NOTIFY 100 is out. `result`: the final status, known before its answer came.
    Trying {
        notify: ClientTxId,
        result: Option<u16>,
    },
    Told,
    Final {
        notify: ClientTxId,
        until: Time,
    },
    Over,
}

/// One accepted REFER.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referral {
    /// CSeq of the REFER, in Event when it is not the first one in the dialog (RFC 3515 §2.4.6).
    id: Option<u32>,
    state: State,
}

impl Referral {
    pub fn new(tx: ServerTxId, id: Option<u32>) -> Referral {
        Referral { id, state: State::Requested { tx } }
    }

    /// The REFER that waits for its 202, once.
    pub fn accept(&mut self, notify: ClientTxId, dialog: &mut Dialog, contact: &str) -> Option<(ServerTxId, Draft)> {
        let State::Requested { tx } = self.state else { return None };
        self.state = State::Trying { notify, result: None };
        Some((tx, self.notify(100, dialog, contact)))
    }

    /// The outcome is known. A NOTIFY when it may leave now.
    pub fn settle(&mut self, status: u16, notify: ClientTxId, dialog: &mut Dialog, contact: &str, now: Time) -> Option<Draft> {
        match self.state {
            State::Trying { notify: first, .. } => {
                self.state = State::Trying { notify: first, result: Some(status) };
                None
            }
            State::Told => {
                self.state = State::Final { notify, until: now + FINAL_NOTIFY_WAIT };
                Some(self.notify(status, dialog, contact))
            }
            State::Requested { .. } | State::Final { .. } | State::Over => None,
        }
    }

    /// The answer to a NOTIFY of ours (`accepted`: a 2xx). `Some(status)`: the final NOTIFY may leave now, through `settle`.
    pub fn on_answer(&mut self, tx: ClientTxId, accepted: bool) -> Option<u16> {
        match self.state {
            State::Trying { notify, result } if notify == tx => {
                self.state = if accepted { State::Told } else { State::Over };
                result.filter(|_| accepted)
            }
            State::Final { notify, .. } if notify == tx => {
                self.state = State::Over;
                None
            }
            _ => None,
        }
    }

    pub fn on_timeout(&mut self, now: Time) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.state = State::Over;
        }
    }

    /// Only the final NOTIFY holds anything up.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Final { until, .. } => Some(until),
            _ => None,
        }
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The REFER still waits for its answer.
    pub fn waiting(&self) -> Option<ServerTxId> {
        match self.state {
            State::Requested { tx } => Some(tx),
            _ => None,
        }
    }

    pub fn refuse(&mut self) {
        self.state = State::Over;
    }

    fn notify(&self, status: u16, dialog: &mut Dialog, contact: &str) -> Draft {
        let mut draft = dialog.request(Method::NOTIFY);
        draft.put("Contact", contact);
        match self.id {
            Some(id) => draft.put("Event", format!("refer;id={id}")),
            None => draft.put("Event", "refer"),
        };
        let state = if status == 100 { "active;expires=60" } else { "terminated;reason=noresource" };
        draft.put("Subscription-State", state);
        draft.body("message/sipfrag;version=2.0", sipfrag(status));
        draft
    }
}

/// A status line with CRLF, and nothing else (RFC 3420 §2, RFC 3515 §2.4.5).
pub fn sipfrag(status: u16) -> Bytes {
    Bytes::from(format!("SIP/2.0 {status} {}\r\n", reason_phrase(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sipfrag_is_a_status_line_with_crlf() {
        assert_eq!(&sipfrag(100)[..], b"SIP/2.0 100 Trying\r\n");
        assert_eq!(&sipfrag(200)[..], b"SIP/2.0 200 OK\r\n");
        assert_eq!(&sipfrag(503)[..], b"SIP/2.0 503 Service Unavailable\r\n");
    }
}
