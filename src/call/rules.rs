//! What policy answers when a call asks to start: a `Plan` with its `Rules`, or a `Refusal`. Defined here, built by `policy`.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::Latch;
use crate::ids::ContactId;
use crate::ids::Side;
use crate::wire::message::Message;

/// UDP or a stream, plain or TLS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// As a Via spells it (RFC 3261 §20.42).
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// As a SIP URI of ours names it: UDP is the default (RFC 3263 §4.1). RFC 3261 §26.2.2 would have `sips:` alone for TLS; peers of
    /// trunks write and understand `transport=tls`.
    pub fn uri_parameter(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        }
    }

    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// RFC 3261 §19.1.2.
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }
}

/// One address to send a request to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    pub transport: Transport,
    pub addr: SocketAddr,
}

/// A host name (or literal address) of the configuration that the edge keeps resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TargetName(pub CompactString);

/// A configured SIP target, `sip:host:port;transport=…`, whose host is resolved apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetSpec {
    pub name: TargetName,
    pub port: u16,
    pub transport: Transport,
    pub lookup: Lookup,
}

/// How the host of a target is looked up (RFC 3263 §4.1, §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It has a port, or is an address: A and AAAA.
    Address,
    /// No port, but a transport: SRV.
    Service,
    /// Neither: NAPTR, then SRV.
    Naptr,
}

/// One header line on its way from one leg to the other: the exact spelling of its name, its value without CR or LF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub name: Bytes,
    pub value: Bytes,
}

/// What a REFER or BYE of Synthflow asks for (product.md §4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    pub by: AskedBy,
    /// CXone's queue, already looked up in `[escalation.queues]`.
    pub queue: CompactString,
    /// For `{reason}`: the Reason text or the header that asked.
    pub reason: String,
    /// For `{referred_to}`: the user part of Refer-To.
    pub referred_to: String,
    /// The asking message's lines that `[escalation.params]` names with `{header.NAME}`; empty when no message asked.
    pub headers: Vec<Carried>,
}

/// Which of the ways in (product.md §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskedBy {
    Refer,
    Bye,
    /// `plain_bye_signal`: an ordinary end that is signalled too.
    PlainBye,
}

impl AskedBy {
    /// As the log says it.
    pub fn as_str(self) -> &'static str {
        match self {
            AskedBy::Refer => "refer",
            AskedBy::Bye => "bye",
            AskedBy::PlainBye => "plain-bye",
        }
    }
}

/// What a BYE of Synthflow means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ByeVerdict {
    Plain,
    Escalate(Ask),
    /// `plain_bye_signal` is set: end, but signal too.
    PlainSignal(Ask),
}

/// What a REFER of Synthflow means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReferVerdict {
    Escalate(Ask),
    /// Answered with this status; `why` for the log.
    Refuse {
        status: u16,
        why: String,
    },
}

/// The decisions of a running call, fixed at admission: header edits by direction and message, and the reading of Synthflow's
/// wishes. Built by policy from the configuration of that moment, so that a reload never touches a running call.
pub trait CallPolicy: Send + Sync {
    /// The header lines of `message`, received from `from`, that go on to the other side, in order, ready to print.
    fn carry(&self, from: Side, message: &Message) -> Vec<Carried>;

    /// What our 2xx to CXone carries besides (`answer_headers`).
    fn answer_headers(&self) -> Vec<Carried>;

    fn read_bye(&self, bye: &Message) -> ByeVerdict;

    fn read_refer(&self, refer: &Message) -> ReferVerdict;

    /// `on_bot_lost = "signal"`: what a leg of Synthflow that died without a BYE asks for.
    fn read_bot_lost(&self) -> Option<Ask> {
        None
    }

    /// `p1…` of the signal (`[escalation.params]`), in order of their names; empty results are left out.
    fn signal_params(&self, ask: &Ask, signal_id: &str) -> Vec<(CompactString, String)>;
}

/// Times and switches of one call, fixed at admission.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallTimes {
    pub session: SessionTimes,
    pub ring_timeout: Duration,
    pub first_response: Duration,
    /// Zero: off.
    pub max_call_duration: Duration,
    /// Zero: off.
    pub media_timeout: Duration,
}

/// When and how a signal is tried, repeated and settled (product.md §4); all of it is decided in `call::escalation`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalTimes {
    /// One request.
    pub timeout: Duration,
    pub settle: Duration,
    pub repeat_unanswered: bool,
    pub deadline: Duration,
    pub after_signal: Duration,
}

/// `on_failure`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    Keep,
    Bye,
}

/// `on_bot_lost`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnBotLost {
    End,
    Signal,
}

/// `sip.session_expires` and `sip.min_se` (RFC 4028).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTimes {
    /// Zero: off.
    pub expires: Duration,
    pub min_se: Duration,
}

/// Rules for the whole call.
pub struct Rules {
    pub times: CallTimes,
    pub signal: SignalTimes,
    pub on_failure: OnFailure,
    /// A whole Reason value, e.g. `Q.850;cause=41;text="escalation failed"`.
    pub failure_reason: String,
    pub latch: Latch,
    /// Encoding names offered onward, in this order, lower case.
    pub codecs: Vec<CompactString>,
    /// What CXone hears when Synthflow is unavailable: 503 or 500 (`relay_503`).
    pub relay_503: u16,
    pub policy: Box<dyn CallPolicy>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("times", &self.times).field("signal", &self.signal).finish_non_exhaustive()
    }
}

/// May this call start, and how?
#[derive(Debug, Clone)]
pub struct Plan {
    pub contact: Option<ContactId>,
    /// User part of the new Request-URI and To.
    pub callee_number: CompactString,
    /// `"Display" ` with its quotes and user part of the new From, as bytes that are safe to print; the host is ours.
    pub caller_display: Bytes,
    pub caller_user: Bytes,
    /// Where to send it, in order of preference; resolved addresses. Never empty.
    pub targets: Vec<PlannedTarget>,
    /// All header lines that policy puts into the INVITE: X-EI, X- headers, PAI and the like, in order.
    pub headers: Vec<Carried>,
    /// The same for an INVITE that leaves over UDP, when the budget dropped some.
    pub udp_headers: Option<Vec<Carried>>,
    pub rules: Arc<Rules>,
    /// Lines for the log, each said once: what was repaired, dropped, missing.
    pub warnings: Vec<String>,
}

/// An address and the host that the Request-URI shows for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedTarget {
    pub target: Target,
    /// `host:port` for the Request-URI and the To header.
    pub shown: CompactString,
}

/// No, and what the caller hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub status: u16,
    /// Reason phrase.
    pub reason: CompactString,
    /// Further header lines: Retry-After, Warning, Accept …
    pub headers: Vec<Carried>,
    /// For the log: which rule and value.
    pub why: String,
}

impl Refusal {
    /// Of a peer that did not answer, or of a call whose status says all that CXone is to hear.
    pub fn without_words(status: u16, why: impl Into<String>) -> Refusal {
        Refusal { status, reason: CompactString::default(), headers: Vec::new(), why: why.into() }
    }
}

/// Policy's two answers.
#[derive(Debug)]
pub enum Verdict {
    Plan(Box<Plan>),
    Refusal(Refusal),
}

/// What policy is told about the world besides the INVITE: counts, rates and resolved names.
#[derive(Debug)]
pub struct Situation<'a> {
    pub calls: usize,
    pub draining: bool,
    /// INVITEs may start by the rate limit (`max_cps`, a burst of one second).
    pub rate_ok: bool,
    /// A pair for each leg is free.
    pub ports_free: bool,
    /// Resolved addresses of a configured name; empty when none is known yet.
    pub resolve: &'a dyn Resolve,
    pub call_id: &'a str,
    /// Our `host[:port]` as Synthflow sees it: stands where CXone's hosts stood in what is passed on to Synthflow.
    pub our_host: &'a str,
    /// The same towards CXone.
    pub our_host_caller: &'a str,
    /// A number for jitter, uniform in 0..1000.
    pub dice: u16,
}

/// The resolved names, as policy sees them.
pub trait Resolve: std::fmt::Debug {
    fn addresses(&self, name: &TargetName) -> Vec<IpAddr>;

    /// Where this target is, in order.
    fn places(&self, spec: &TargetSpec) -> Vec<Target> {
        let at = |ip| Target { transport: spec.transport, addr: SocketAddr::new(ip, spec.port) };
        self.addresses(&spec.name).into_iter().map(at).collect()
    }
}
