//! Everything that can happen to the core, and everything that the core can do to the world.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::MediaEvent;
use crate::call::anchor::MediaOrder;
use crate::call::anchor::PortPair;
use crate::call::escalation::Signal;
use crate::call::escalation::SignalAnswer;
use crate::call::rules::Lookup;
use crate::call::rules::Target;
use crate::call::rules::TargetName;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::ids::AskId;
use crate::ids::CallHandle;
use crate::ids::ConnId;
use crate::ids::ListenerId;
use crate::ids::QueryId;
use crate::ids::RecordId;
use crate::ids::Side;
use crate::report::CallEvent;
use crate::time::Time;
use crate::trunk::Change;
use crate::wire::message::FrameError;

/// Transport, local and remote address (RFC 5626 §2): where a message came from, or where it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    Udp { listener: ListenerId, remote: SocketAddr },
    Stream(ConnId),
}

/// Why a flow is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LossReason {
    /// The dial did not succeed: refused, unreachable, or silent for too long.
    NotConnected(String),
    /// The peer closed or reset it.
    Closed(String),
    /// A datagram could not be sent, or ICMP said that nobody listens there.
    Unreachable(String),
}

/// A resolved address, and the local address from which this host reaches it (what a wildcard listener advertises towards it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    pub ip: IpAddr,
    pub local: IpAddr,
    /// Transport and port, where SRV says them (RFC 3263 §4.2).
    pub at: Option<(Transport, u16)>,
}

impl Reach {
    /// What this is for that target: one with a port of its own has no use for SRV, others keep plain addresses as a last resort.
    pub fn target(&self, spec: &TargetSpec) -> Option<Target> {
        let (transport, port) = match (spec.lookup, self.at) {
            (Lookup::Address, Some(_)) => return None,
            (_, None) => (spec.transport, spec.port),
            (Lookup::Service | Lookup::Naptr, Some(at)) => at,
        };
        Some(Target { transport, addr: SocketAddr::new(self.ip, port) })
    }
}

/// Everything that can happen to us.
#[derive(Debug)]
pub enum Input {
    /// One datagram, or one framed message of a stream. `remote` is its source, `local` our address towards that peer (never a wildcard).
    Sip {
        flow: Flow,
        remote: SocketAddr,
        local: SocketAddr,
        bytes: Bytes,
    },
    /// A listener is bound; `local` has the port that was really taken.
    Listening {
        listener: ListenerId,
        transport: Transport,
        local: SocketAddr,
    },
    /// A stream that cannot be framed any more; `head` is what came of the offending message, to answer it.
    Broken {
        flow: Flow,
        remote: SocketAddr,
        local: SocketAddr,
        why: FrameError,
        head: Bytes,
    },
    /// A stream is up: accepted by the edge (`dialled` false), or the answer to a `Dial`.
    FlowUp {
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        dialled: bool,
    },
    FlowLost {
        flow: Flow,
        why: LossReason,
    },
    /// A configured name, resolved ahead and at each TTL. An error leaves the last good answer in place.
    Targets {
        name: TargetName,
        result: Result<Vec<Reach>, String>,
    },
    /// A Contact, Route or Via name.
    Resolved {
        query: QueryId,
        result: Result<Vec<Reach>, String>,
    },
    /// Pairs that the edge has bound since it was asked; the ledger is ours.
    PortsBound {
        pairs: Vec<PortPair>,
        exhausted: bool,
    },
    Media {
        call: CallHandle,
        side: Side,
        event: MediaEvent,
    },
    /// Cumulative: all records up to this one are on disk.
    Recorded {
        up_to: RecordId,
    },
    RecordFailed {
        record: RecordId,
        why: String,
    },
    SignalAnswered {
        call: CallHandle,
        try_no: u8,
        answer: SignalAnswer,
    },
    Asked {
        ask: AskId,
        command: Command,
    },
}

/// What a person or a signal asks of the running process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// No new calls; running ones may end within the deadline. A second one ends them now.
    Drain { within: Duration },
    /// Numbers that must be back to nothing when no call is up.
    Counts,
}

/// The reply to a `Command`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Draining { calls: usize },
    Counts(Counts),
}

/// What the core holds at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub calls: usize,
    pub dialogs: usize,
    pub server_transactions: usize,
    pub client_transactions: usize,
    pub timers: usize,
    pub ports_free: usize,
    pub ports_taken: usize,
    pub ports_quarantined: usize,
    pub queries: usize,
}

/// Everything we can do to the world.
#[derive(Debug)]
pub enum Action {
    /// Open a stream; what is sent on it before it is up waits in the edge, bounded.
    /// `name`: whom a TLS peer must prove to be, also its server name.
    Dial {
        conn: ConnId,
        target: Target,
        name: CompactString,
    },
    Send {
        flow: Flow,
        bytes: Bytes,
    },
    Close {
        flow: Flow,
    },
    Resolve {
        query: QueryId,
        name: CompactString,
    },
    /// Bind so many more pairs of this family.
    BindPorts {
        count: usize,
        v6: bool,
    },
    Media {
        call: CallHandle,
        side: Side,
        order: MediaOrder,
    },
    Record {
        record: RecordId,
        entry: Entry,
    },
    /// One HTTP try; `until` is the deadline of all tries together.
    Signal {
        call: CallHandle,
        try_no: u8,
        signal: Signal,
        until: Time,
    },
    /// The answer is not awaited any more. A request that was already written is not cancelled (product.md §4).
    CancelSignal {
        call: CallHandle,
    },
    Answer {
        ask: AskId,
        reply: Reply,
    },
    Report(Box<CallEvent>),
    /// Something that belongs to no call was dropped: for a log line, at most one a second and source (product.md §5).
    Dropped {
        remote: SocketAddr,
        why: &'static str,
    },
    /// A target of Synthflow's went down or came up: for a log line.
    Trunk(Change),
    /// Draining and no call is left.
    Drained,
}

/// A journal entry. The two barriers of an escalation are here from the start (house.md §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Barrier 1: the intent, before the 202 or 200 leaves.
    SignalRecorded { call: CallHandle, signal: Signal },
    /// Barrier 2: this try is about to be written, so that after a crash *unsent* and *in flight* can be told apart.
    SignalRequesting { call: CallHandle, try_no: u8 },
    /// The end of an escalation, by its word in the log.
    SignalSettled { call: CallHandle, outcome: &'static str },
}
