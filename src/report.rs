//! The one list of facts that logs, ladders, records and metrics are made of. The core makes these and nothing else; `ops` turns
//! them into lines.

use std::net::SocketAddr;
use std::time::Duration;

use crate::call::anchor::MediaStats;
use crate::ids::CallId;
use crate::ids::ContactId;
use crate::ids::Side;
use crate::ids::SipCallId;
use crate::time::Time;

/// One fact about one call.
#[derive(Clone, PartialEq, Debug)]
pub struct CallEvent {
    pub at: Time,
    pub call: CallId,
    pub contact: Option<ContactId>,
    pub fact: Fact,
}

/// Who ended a call, or made it fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Cxone,
    Synthflow,
    Backchannel,
}

impl By {
    pub fn peer(side: Side) -> By {
        match side {
            Side::Caller => By::Cxone,
            Side::Callee => By::Synthflow,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            By::Cxone => "cxone",
            By::Synthflow => "synthflow",
            By::Backchannel => "backchannel",
        }
    }
}

/// What happened. The word in the log line stands beside each.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// `call.offered`: CXone's INVITE was admitted.
    Offered { caller_call_id: SipCallId, source: SocketAddr, from: String, to: String },
    /// `call.refused`: an INVITE that became no call.
    Refused { caller_call_id: SipCallId, source: SocketAddr, status: u16, why: String },
    /// `call.dialled`: our INVITE left for this target; `attempt` counts from 1.
    Dialled { callee_call_id: SipCallId, target: SocketAddr, transport: &'static str, attempt: u32, bytes: usize },
    /// `call.progress`: a provisional answer from Synthflow.
    Progress { status: u16, early_media: bool },
    /// `call.answered`: both legs are up.
    Answered {
        caller_call_id: SipCallId,
        callee_call_id: SipCallId,
        pdd: Duration,
        codec: String,
        caller_rtp: Option<SocketAddr>,
        callee_rtp: Option<SocketAddr>,
    },
    /// `call.failed`: ended before it was answered. The closing line of such a call.
    Failed { by: By, status: u16, why: String, caller_call_id: SipCallId, callee_call_id: Option<SipCallId>, after: Duration },
    /// `call.ended`: the closing line of an answered call.
    Ended {
        by: By,
        why: String,
        cause: u16,
        duration: Duration,
        caller_call_id: SipCallId,
        callee_call_id: SipCallId,
        caller_media: MediaStats,
        callee_media: MediaStats,
        signals: u32,
    },
    /// `call.warning`: something was repaired, dropped or missing; the call goes on.
    Warning { text: String },
    /// `call.no_ack`: the third 2xx that nobody acknowledged, and the Contact that we advertised in it.
    NoAck { side: Side, contact_uri: String, sent: u32 },
    /// `media.latched`
    Latched { side: Side, said: Option<SocketAddr>, wire: SocketAddr },
    /// `media.idle`: no packet from either side for so long.
    MediaIdle { after: Duration },
    /// `escalation.requested`
    EscalationRequested { by: &'static str, queue: String, signal: String },
    /// `escalation.refused`: e.g. no contact id.
    EscalationRefused { by: &'static str, why: String },
    /// `escalation.try`
    SignalTry { try_no: u8, signal: String },
    /// `escalation.answer`
    SignalAnswered { try_no: u8, http: Option<u16>, took: Duration, text: String },
    /// `escalation.signalled | failed | presumed | unknown | expired`
    EscalationSettled { outcome: &'static str, queue: String, tries: u8, took: Duration, why: String },
    /// `leg.ended`: one leg ended while the other is held.
    LegEnded { side: Side, by: By, why: String },
    /// `leg.lost`: a peer that does not answer any more.
    LegLost { side: Side, why: String },
    /// `call.broken`: a bug of ours ended this call.
    Broken { what: &'static str },
    /// `sip.message`: for ladders, only when the core was told to report messages. `line` is the start line, `note` what matters in
    /// it (X-EI, a sipfrag …).
    Message { side: Side, sent: bool, line: String, note: String },
}

/// How loud a fact is: INFO is a call's life, DEBUG why it bent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Fact {
    pub fn level(&self) -> Level {
        match self {
            Fact::Message { .. } | Fact::SignalTry { .. } => Level::Debug,
            Fact::Warning { .. } | Fact::NoAck { .. } | Fact::LegLost { .. } | Fact::EscalationRefused { .. } | Fact::MediaIdle { .. } => {
                Level::Warn
            }
            Fact::EscalationSettled { outcome: "failed" | "unknown", .. } => Level::Warn,
            Fact::Broken { .. } => Level::Error,
            _ => Level::Info,
        }
    }

    /// The word that names the event in a log line.
    pub fn word(&self) -> &'static str {
        match self {
            Fact::Offered { .. } => "call.offered",
            Fact::Refused { .. } => "call.refused",
            Fact::Dialled { .. } => "call.dialled",
            Fact::Progress { .. } => "call.progress",
            Fact::Answered { .. } => "call.answered",
            Fact::Failed { .. } => "call.failed",
            Fact::Ended { .. } => "call.ended",
            Fact::Warning { .. } => "call.warning",
            Fact::NoAck { .. } => "call.no_ack",
            Fact::Latched { .. } => "media.latched",
            Fact::MediaIdle { .. } => "media.idle",
            Fact::EscalationRequested { .. } => "escalation.requested",
            Fact::EscalationRefused { .. } => "escalation.refused",
            Fact::SignalTry { .. } => "escalation.try",
            Fact::SignalAnswered { .. } => "escalation.answer",
            Fact::EscalationSettled { outcome, .. } => match *outcome {
                "delivered" => "escalation.signalled",
                "failed" => "escalation.failed",
                "presumed" => "escalation.presumed",
                "unknown" => "escalation.unknown",
                _ => "escalation.expired",
            },
            Fact::LegEnded { .. } => "leg.ended",
            Fact::LegLost { .. } => "leg.lost",
            Fact::Broken { .. } => "call.broken",
            Fact::Message { .. } => "sip.message",
        }
    }
}
