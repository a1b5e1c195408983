//! `config.toml` → `Config`. The names are the contract of product.md §1.

mod behaviour;
pub mod errors;
pub mod keys;
mod load;
pub mod ports;
pub mod presets;
mod secrets;
mod sides;
pub mod template;
pub mod tls;
mod tree;
pub mod values;
pub mod warnings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use compact_str::CompactString;

use crate::call::anchor::Latch;
use crate::call::rules::OnBotLost;
use crate::call::rules::OnFailure;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: Node,
    pub sip: Sip,
    pub media: Media,
    pub cxone: Cxone,
    pub api: Api,
    pub synthflow: Synthflow,
    /// Templates of X-EI's tokens.
    pub x_ei: XEi,
    pub headers: Headers,
    pub escalation: Escalation,
    pub dns_servers: Vec<SocketAddr>,
    pub log: Log,
}

/// A configuration, and what is allowed in it yet probably not meant.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

/// `[node]`
#[derive(Clone, Debug)]
pub struct Node {
    pub name: CompactString,
    pub state_dir: PathBuf,
    pub max_calls: usize,
    pub max_cps: u32,
    pub drain_deadline: Duration,
}

/// One of `sip.listen`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen {
    pub transport: Transport,
    pub addr: SocketAddr,
}

/// `[sip]`
#[derive(Clone, Debug)]
pub struct Sip {
    pub listen: Vec<Listen>,
    /// At most one a family; empty: the listen address, or for a wildcard our address towards the peer.
    pub advertise: Vec<IpAddr>,
    /// There with a `tls://` listener.
    pub tls: Option<tls::Identity>,
    pub udp_mtu: usize,
    pub t1: Duration,
    pub ring_timeout: Duration,
    pub max_call_duration: Duration,
    /// Zero: off.
    pub session_expires: Duration,
    pub min_se: Duration,
}

/// `[media]`
#[derive(Clone, Debug)]
pub struct Media {
    /// One a family that `sip.listen` has.
    pub bind: Vec<IpAddr>,
    pub advertise: Vec<IpAddr>,
    pub ports: RangeInclusive<u16>,
    /// Zero: off.
    pub timeout: Duration,
    pub latch: Latch,
    pub dscp: u8,
}

/// An entry of an allow list: CIDR, and perhaps a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allow {
    pub network: IpAddr,
    pub prefix: u8,
    pub port: Option<u16>,
}

impl Allow {
    /// IPv4-mapped IPv6 sources count as IPv4. `any_port`: a request in a dialog (product.md §2).
    pub fn matches(&self, source: SocketAddr, any_port: bool) -> bool {
        let ip = source.ip().to_canonical();
        let inside = match (self.network, ip) {
            (IpAddr::V4(n), IpAddr::V4(i)) => self.prefix == 0 || (u32::from(n) ^ u32::from(i)) >> (32 - u32::from(self.prefix)) == 0,
            (IpAddr::V6(n), IpAddr::V6(i)) => self.prefix == 0 || (u128::from(n) ^ u128::from(i)) >> (128 - u32::from(self.prefix)) == 0,
            _ => false,
        };
        inside && (any_port || self.port.is_none_or(|p| p == source.port()))
    }
}

/// `missing_contact_id`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingContactId {
    Continue,
    Reject,
}

/// `[cxone]`
#[derive(Clone, Debug)]
pub struct Cxone {
    pub allow: Vec<Allow>,
    pub contact_id: Vec<String>,
    pub missing_contact_id: MissingContactId,
    /// Name and template, in order.
    pub answer_headers: Vec<(String, Template)>,
    pub after_signal: Duration,
    /// 503 or 500.
    pub relay_503: u16,
    pub advertise: Vec<IpAddr>,
    /// Empty: CXone is not asked who it is.
    pub username: String,
    pub password: Secret,
}

/// `[cxone.api]`. Secrets are read already; `Debug` must not show them.
#[derive(Clone, Debug)]
pub struct Api {
    pub issuer: String,
    pub base_url: String,
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub access_key_id: String,
    pub access_key_secret: Secret,
    pub version: String,
    pub timeout: Duration,
    pub settle: Duration,
    pub repeat_unanswered: bool,
    pub deadline: Duration,
    pub ca_file: Option<PathBuf>,
}

/// A secret's text; never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[synthflow]`
#[derive(Clone, Debug)]
pub struct Synthflow {
    /// `target`, then `fallback`.
    pub targets: Vec<TargetSpec>,
    /// PEM: trusted besides the system's certificates.
    pub tls_ca: Option<String>,
    pub first_response: Duration,
    /// Besides what the targets resolve to.
    pub allow: Vec<Allow>,
    pub number: String,
    pub number_map: BTreeMap<String, String>,
    /// Lower case.
    pub codecs: Vec<CompactString>,
    pub advertise: Vec<IpAddr>,
    /// Empty: challenges are not answered.
    pub username: String,
    pub password: Secret,
    /// Empty: any.
    pub realm: String,
    /// Zero: off.
    pub options_interval: Duration,
}

/// Text with `{words}`, parsed and checked when the configuration is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template(pub Vec<Piece>);

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Text(String),
    ContactId,
    CallId,
    Node,
    From,
    To,
    Diversion,
    Queue,
    Reason,
    SignalId,
    ReferredTo,
    Header(String),
}

/// `[x_ei]`
#[derive(Clone, Debug)]
pub struct XEi {
    pub s: Template,
    pub e: Template,
    pub o: Template,
}

/// What becomes of a header that came several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeated {
    First,
    Last,
    Join,
}

/// An exact name or a prefix with a trailing `*`; any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamePattern(pub String);

impl NamePattern {
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix)),
            None => name.eq_ignore_ascii_case(&self.0),
        }
    }
}

/// `[headers]`
#[derive(Clone, Debug)]
pub struct Headers {
    pub pass: Vec<NamePattern>,
    pub drop: Vec<NamePattern>,
    pub rename: Vec<(String, String)>,
    pub set: Vec<(String, Template)>,
    pub repeated: Repeated,
    /// Bytes; 0 = unlimited.
    pub budget: usize,
    pub drop_order: Vec<NamePattern>,
}

/// `unknown_queue`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownQueue {
    Default,
    Pass,
    Refuse,
}

/// `[escalation]`
#[derive(Clone, Debug)]
pub struct Escalation {
    pub accept_refer: bool,
    pub accept_bye: bool,
    pub bye_headers: Vec<String>,
    /// Lower case.
    pub reason_texts: Vec<String>,
    pub queue_headers: Vec<String>,
    pub default_queue: String,
    pub unknown_queue: UnknownQueue,
    pub plain_bye_signal: String,
    pub on_failure: OnFailure,
    pub on_bot_lost: OnBotLost,
    pub failure_reason: String,
    pub queues: BTreeMap<String, String>,
    /// `p1` … `p9`, in order.
    pub params: Vec<(CompactString, Template)>,
}

/// `log.format`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Pretty,
    Json,
    Logfmt,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
    pub file: Option<PathBuf>,
    pub redact: bool,
}
