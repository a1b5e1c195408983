//! The language of ladders. Three columns: `caller()` is CXone's trunk, `callee()` is Synthflow, `cxone()` is the API.
//!
//! Every message and signal that the core sends must be claimed by a `gets`; what is left makes the test fail when the ladder is
//! dropped, with the whole ladder printed. Media orders, records and reports are played along with and can be asked for.

use std::fmt::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backchannel::b2bua::B2bua;
use backchannel::b2bua::Limits;
use backchannel::b2bua::io::Action;
use backchannel::b2bua::io::Command;
use backchannel::b2bua::io::Counts;
use backchannel::b2bua::io::Entry;
use backchannel::b2bua::io::Flow;
use backchannel::b2bua::io::Input;
use backchannel::b2bua::io::LossReason;
use backchannel::b2bua::io::Reach;
use backchannel::b2bua::io::Reply;
use backchannel::call::anchor::MediaEvent;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::anchor::MediaStats;
use backchannel::call::anchor::PortPair;
use backchannel::call::escalation::Signal;
use backchannel::call::escalation::SignalAnswer;
use backchannel::call::rules::TargetName;
use backchannel::call::rules::Transport;
use backchannel::config::Config;
use backchannel::ids::AskId;
use backchannel::ids::CONN_TLS;
use backchannel::ids::CallHandle;
use backchannel::ids::ConnId;
use backchannel::ids::ListenerId;
use backchannel::ids::RecordId;
use backchannel::ids::Side;
use backchannel::report::CallEvent;
use backchannel::report::Fact;
use backchannel::report::Level;
use backchannel::time::Time;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;

pub const US: &str = "192.0.2.9";
pub const CALLER: &str = "198.51.100.1:5060";
pub const CALLEE: &str = "203.0.113.2:5080";
/// Every ladder starts here.
const START: Time = Time::from_micros(1_800_000_000_000_000);
/// How far `gets` looks ahead: past 64*T1 and every deadline of an escalation.
const PATIENCE: Duration = Duration::from_secs(70);

/// Which column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Caller,
    Callee,
}

/// Something the core did that a ladder must claim.
#[derive(Debug, Clone)]
enum Seen {
    Message { to: SocketAddr, flow: Flow, message: Message },
    Signal { call: CallHandle, try_no: u8, signal: Signal },
}

/// One end's memory of its dialog.
#[derive(Debug)]
struct Party {
    addr: SocketAddr,
    flow: Flow,
    /// As this end's Vias spell it.
    transport: &'static str,
    /// `;rport` in its Vias.
    rport: bool,
    /// Another Contact than the usual one.
    contact: Option<String>,
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    branch: u32,
    /// The last request that came, by method.
    requests: Vec<Message>,
    /// What this end sent last, for repetitions.
    sent: Option<Bytes>,
    /// Its last answer to an INVITE.
    answered: Option<Bytes>,
    invite: Option<Message>,
}

pub struct Ladder {
    core: B2bua,
    now: Time,
    seen: Vec<(Time, Seen)>,
    pub events: Vec<CallEvent>,
    pub orders: Vec<(Side, MediaOrder)>,
    pub cancelled: u32,
    pub drained: bool,
    pub drained_times: u32,
    pub dropped: Vec<&'static str>,
    /// Targets that went down or came up.
    pub changes: Vec<backchannel::trunk::Change>,
    story: String,
    caller: Party,
    callee: Party,
    next_port: u16,
    journal: Journal,
    pub last_call: Option<CallHandle>,
    held_records: Vec<RecordId>,
    last_try: Option<(CallHandle, u8)>,
    dials: Vec<(ConnId, SocketAddr)>,
    /// Whom each dial must find.
    pub dialled_as: Vec<String>,
    pub expect_errors: bool,
    /// What a Contact, Route or Via name resolves to; others do not.
    names: Vec<(String, IpAddr)>,
    /// What the message that was claimed last went out on.
    pub last_flow: Option<Flow>,
    pub closed: Vec<Flow>,
    pub entries: Vec<Entry>,
    sent_all: Vec<(SocketAddr, Message)>,
}

/// How the disk behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    AtOnce,
    Stuck,
    Broken,
}

pub const CONFIG: &str = r#"
[node]
name = "bc-1"
[sip]
listen = ["udp://192.0.2.9:5060", "tcp://192.0.2.9:5060"]
[cxone]
allow = ["198.51.100.1"]
[cxone.api]
client_id = "app"
client_secret = "s3cret"
access_key_id = "key"
access_key_secret = "keysecret"
[synthflow]
target = "sip:synthflow.example:5080"
options_interval = "0"
[escalation.queues]
billing = "billing"
"+12065550100" = "support"
"#;

pub fn config(text: &str) -> Arc<Config> {
    let read = |path: &Path| match path.to_str() {
        Some("/proc/sys/net/ipv4/ip_local_port_range") => Ok("32768\t60999\n".to_owned()),
        Some("/proc/sys/kernel/hostname") => Ok("edge\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    match Config::parse(text, Path::new("ladder.toml"), &|_| None, &read) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(errors) => panic!("the ladder's configuration is bad: {errors:?}"),
    }
}

pub fn offer(host: &str, port: u16) -> String {
    format!(
        "v=0\r\no=peer 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
    )
}

impl Ladder {
    pub fn new() -> Ladder {
        Ladder::with(CONFIG)
    }

    /// `CONFIG` with one line replaced or keys added to its sections: `("[cxone]", "missing_contact_id = \"reject\"")`.
    pub fn having(additions: &[(&str, &str)]) -> Ladder {
        let mut text = CONFIG.to_owned();
        for (section, line) in additions {
            match text.contains(section) {
                true => text = text.replacen(section, &format!("{section}\n{line}"), 1),
                false => text = format!("{text}\n{section}\n{line}\n"),
            }
        }
        Ladder::with(&text)
    }

    pub fn with(text: &str) -> Ladder {
        let config = config(text);
        let core = B2bua::new(config, [7; 32], 0, true, START);
        let party = |addr: &str, who: &str| Party {
            addr: addr.parse().unwrap(),
            flow: Flow::Udp { listener: ListenerId(0), remote: addr.parse().unwrap() },
            transport: "UDP",
            rport: true,
            contact: None,
            call_id: format!("{who}-1@{addr}"),
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            cseq: 100,
            branch: 0,
            requests: Vec::new(),
            sent: None,
            answered: None,
            invite: None,
        };
        let mut ladder = Ladder {
            core,
            now: START,
            seen: Vec::new(),
            events: Vec::new(),
            orders: Vec::new(),
            cancelled: 0,
            drained: false,
            drained_times: 0,
            dropped: Vec::new(),
            changes: Vec::new(),
            story: String::new(),
            caller: party(CALLER, "caller"),
            callee: party(CALLEE, "callee"),
            next_port: 10_000,
            journal: Journal::AtOnce,
            last_call: None,
            held_records: Vec::new(),
            last_try: None,
            dials: Vec::new(),
            dialled_as: Vec::new(),
            expect_errors: false,
            names: Vec::new(),
            last_flow: None,
            closed: Vec::new(),
            entries: Vec::new(),
            sent_all: Vec::new(),
        };
        ladder.drain();
        ladder.resolve(&["203.0.113.2"]);
        ladder
    }

    /// `CONFIG` with words replaced.
    pub fn replacing(pairs: &[(&str, &str)]) -> Ladder {
        let mut text = CONFIG.to_owned();
        for (from, to) in pairs {
            assert!(text.contains(from), "{from} is not in the configuration");
            text = text.replacen(from, to, 1);
        }
        Ladder::with(&text)
    }

    /// A name that Contacts and routes may use.
    pub fn name(&mut self, name: &str, ip: &str) {
        self.names.push((name.to_owned(), ip.parse().unwrap()));
    }

    pub fn limit(&mut self, limits: Limits) {
        self.core.limit(limits);
    }

    /// For tests inside the crate, which reach what the core does not show.
    #[allow(dead_code)]
    pub fn with_core(&mut self, step: impl FnOnce(&mut B2bua, Time)) {
        step(&mut self.core, self.now);
        self.drain();
    }

    /// What the callee's name resolves to.
    pub fn resolve(&mut self, ips: &[&str]) {
        let local: IpAddr = US.parse().unwrap();
        let reach = ips.iter().map(|ip| Reach { ip: ip.parse().unwrap(), local, at: None }).collect();
        self.input(Input::Targets { name: TargetName("synthflow.example".into()), result: Ok(reach) });
    }

    /// The callee's name resolves to one address, which sees us as `local`.
    pub fn resolve_at(&mut self, ip: &str, local: &str) {
        let reach = vec![Reach { ip: ip.parse().unwrap(), local: local.parse().unwrap(), at: None }];
        self.input(Input::Targets { name: TargetName("synthflow.example".into()), result: Ok(reach) });
    }

    /// An answered call, every message claimed, both dialogs remembered.
    pub fn answered() -> Ladder {
        let mut l = Ladder::new();
        l.answer();
        l
    }

    pub fn answered_having(additions: &[(&str, &str)]) -> Ladder {
        let mut l = Ladder::having(additions);
        l.answer();
        l
    }

    pub fn answer(&mut self) {
        self.caller().invites();
        self.caller().gets(100);
        self.callee().gets("INVITE");
        self.callee().answers(180);
        self.caller().gets(180);
        self.callee().answers(200);
        self.callee().gets("ACK");
        self.caller().gets(200);
        self.caller().acks();
    }

    pub fn journal(&mut self, how: Journal) {
        self.journal = how;
        if how == Journal::AtOnce {
            let held = std::mem::take(&mut self.held_records);
            if let Some(last) = held.last() {
                self.input(Input::Recorded { up_to: *last });
            }
        }
    }

    pub fn caller(&mut self) -> End<'_> {
        End { ladder: self, who: Who::Caller }
    }

    pub fn callee(&mut self) -> End<'_> {
        End { ladder: self, who: Who::Callee }
    }

    pub fn cxone(&mut self) -> Api<'_> {
        Api { ladder: self }
    }

    pub fn now(&self) -> Duration {
        self.now.since(START)
    }

    pub fn counts(&self) -> Counts {
        self.core.counts()
    }

    /// Lets time pass; what is due happens.
    pub fn after(&mut self, d: Duration) {
        let end = self.now + d;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub fn after_ms(&mut self, ms: u64) {
        self.after(Duration::from_millis(ms));
    }

    /// Nothing that would have to be claimed happens in this time, and nothing waits to be claimed.
    pub fn nothing_happens(&mut self, d: Duration) {
        self.after(d);
        if let Some((_, seen)) = self.seen.first() {
            let text = describe(seen);
            self.fail(&format!("expected nothing, got {text}"));
        }
    }

    /// All is back to nothing: calls, dialogs, transactions, deadlines, ports.
    pub fn all_is_over(&mut self) {
        self.nothing_happens(Duration::from_secs(40));
        let counts = self.counts();
        let left = Counts { ports_free: counts.ports_free, ..Counts::default() };
        if counts != left {
            self.fail(&format!("something is left: {counts:?}"));
        }
    }

    pub fn reported(&self, word: &str) -> Vec<&CallEvent> {
        self.events.iter().filter(|e| e.fact.word() == word).collect()
    }

    pub fn asks(&mut self, command: Command) {
        self.input(Input::Asked { ask: AskId(1), command });
    }

    pub fn media(&mut self, side: Side, event: MediaEvent) {
        let call = self.last_call.expect("a call was started");
        self.input(Input::Media { call, side, event });
    }

    pub fn raw(&mut self, from: &str, bytes: impl Into<Vec<u8>>) {
        let remote: SocketAddr = from.parse().unwrap();
        let flow = Flow::Udp { listener: ListenerId(0), remote };
        self.story(&format!("{from} ──► raw"));
        self.bytes(flow, remote, bytes.into().into());
    }

    /// What went to this address and was not claimed yet.
    pub fn take_for(&mut self, to: &str) -> Option<Message> {
        let to: SocketAddr = to.parse().unwrap();
        let at = self.seen.iter().position(|(_, s)| matches!(s, Seen::Message { to: t, .. } if *t == to))?;
        match self.seen.remove(at).1 {
            Seen::Message { message, .. } => Some(message),
            Seen::Signal { .. } => None,
        }
    }

    /// Claims a message of this method that went there, if there is one.
    pub fn take_if(&mut self, to: &str, method: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        let fits = |s: &Seen| matches!(s, Seen::Message { to: t, message, .. } if *t == to && method.fits(message));
        let at = self.seen.iter().position(|(_, s)| fits(s));
        at.map(|at| self.seen.remove(at)).is_some()
    }

    fn bytes(&mut self, flow: Flow, remote: SocketAddr, bytes: Bytes) {
        let own: IpAddr = if remote.is_ipv6() { "2001:db8::9".parse().unwrap() } else { US.parse().unwrap() };
        self.input(Input::Sip { flow, remote, local: SocketAddr::new(own, 5060), bytes });
    }

    pub fn input(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.drain();
    }

    pub fn flow_up(&mut self, at: usize) {
        let (conn, remote) = self.dials[at];
        let local = SocketAddr::new(US.parse().unwrap(), 40_000);
        self.input(Input::FlowUp { conn, local, remote, dialled: true });
    }

    pub fn flow_lost(&mut self, at: usize, why: LossReason) {
        let flow = Flow::Stream(self.dials[at].0);
        self.input(Input::FlowLost { flow, why });
    }

    pub fn dialled(&self, at: usize) -> SocketAddr {
        self.dials[at].1
    }

    pub fn dials(&self) -> usize {
        self.dials.len()
    }

    /// Does to each action what the edge would.
    fn drain(&mut self) {
        let mut inputs = Vec::new();
        while let Some(action) = self.core.poll_action() {
            self.act(action, &mut inputs);
        }
        for input in inputs {
            self.input(input);
        }
    }

    /// The first session description that went to this side, in an INVITE or its 2xx.
    pub fn described(&self, side: Side) -> Message {
        let to = if side == Side::Caller { self.caller.addr } else { self.callee.addr };
        let found = self.sent_all.iter().find(|(at, m)| *at == to && !m.body().is_empty());
        found.expect("a description went there").1.clone()
    }

    fn act(&mut self, action: Action, inputs: &mut Vec<Input>) {
        match action {
            Action::Send { flow, bytes } => self.sent(flow, &bytes),
            Action::Signal { call, try_no, signal, .. } => {
                self.story(&format!("                    signal (try {try_no}) ──► API {:?}", signal.params));
                self.seen.push((self.now, Seen::Signal { call, try_no, signal }));
            }
            Action::CancelSignal { .. } => self.cancelled += 1,
            Action::BindPorts { count, v6 } => inputs.push(self.bind(count, v6)),
            Action::Media { call, side, order } => {
                self.last_call = Some(call);
                if order == MediaOrder::Close {
                    inputs.push(Input::Media { call, side, event: MediaEvent::Closed(MediaStats::default()) });
                }
                self.orders.push((side, order));
            }
            Action::Record { record, entry } => {
                self.entries.push(entry);
                match self.journal {
                    Journal::AtOnce => inputs.push(Input::Recorded { up_to: record }),
                    Journal::Stuck => self.held_records.push(record),
                    Journal::Broken => inputs.push(Input::RecordFailed { record, why: "no space left".into() }),
                }
            }
            Action::Report(event) => {
                assert!(self.expect_errors || event.fact.level() != Level::Error, "{event:?}");
                if !matches!(event.fact, Fact::Message { .. }) {
                    self.story(&format!("                    · {} {:?}", event.fact.word(), event.fact));
                }
                self.events.push(*event);
            }
            Action::Dial { conn, target, name } => {
                assert_eq!(conn.is_tls(), target.transport == Transport::Tls);
                self.dialled_as.push(name.to_string());
                self.dials.push((conn, target.addr));
            }
            Action::Dropped { why, .. } => self.dropped.push(why),
            Action::Trunk(change) => self.changes.push(change),
            Action::Drained => {
                self.drained = true;
                self.drained_times += 1;
            }
            Action::Answer { reply, .. } => assert!(matches!(reply, Reply::Draining { .. } | Reply::Counts(_))),
            Action::Close { flow } => self.closed.push(flow),
            Action::Resolve { query, name } => {
                self.story(&format!("                    ? {name}"));
                let local: IpAddr = US.parse().unwrap();
                let found = self.names.iter().find(|(n, _)| *n == name).map(|(_, ip)| vec![Reach { ip: *ip, local, at: None }]);
                inputs.push(Input::Resolved { query, result: found.ok_or_else(|| "no such name".into()) });
            }
        }
    }

    fn bind(&mut self, count: usize, v6: bool) -> Input {
        let ip = if v6 { "2001:db8::9".parse().unwrap() } else { US.parse().unwrap() };
        let pairs = (0..count)
            .map(|_| {
                self.next_port += 2;
                PortPair { ip, rtp: self.next_port, rtcp: self.next_port + 1 }
            })
            .collect();
        Input::PortsBound { pairs, exhausted: false }
    }

    fn sent(&mut self, flow: Flow, bytes: &Bytes) {
        let message = Message::parse(bytes.clone()).expect("what we send parses");
        // A 400 can not repeat what the request did not have.
        let sound = message.check().or_else(|d| if message.status() == 400 { Ok(()) } else { Err(d) });
        sound.unwrap_or_else(|d| panic!("what we send is sound: {d:?}\n{}", text(bytes)));
        let to = match flow {
            Flow::Udp { remote, .. } => remote,
            Flow::Stream(conn) => match self.dials.iter().find(|(c, _)| *c == conn) {
                Some((_, remote)) => *remote,
                None => self.caller.addr,
            },
        };
        self.no_leak(to, bytes);
        let line = text(bytes).lines().next().unwrap_or_default().to_owned();
        let arrow = if to == self.caller.addr { format!("◄── {line}") } else { format!("                    {line} ──► {to}") };
        self.story(&arrow);
        self.sent_all.push((to, message.clone()));
        self.seen.push((self.now, Seen::Message { to, flow, message }));
    }

    /// No address of one side ever shows on the other (product.md §2).
    fn no_leak(&self, to: SocketAddr, bytes: &Bytes) {
        let (caller, callee) = (self.caller.addr.ip().to_string(), self.callee.addr.ip().to_string());
        let foreign = if to.ip() == self.caller.addr.ip() { callee } else { caller };
        let text = text(bytes);
        assert!(!text.contains(&foreign), "an address of the other side leaks to {to}:\n{text}");
    }

    fn story(&mut self, line: &str) {
        let at = self.now.since(START).as_millis();
        let _ = writeln!(self.story, "{at:>7} ms  {line}");
    }

    fn fail(&mut self, why: &str) -> ! {
        let story = std::mem::take(&mut self.story);
        self.seen.clear();
        panic!("{why}\n{story}");
    }
}

impl Drop for Ladder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left: Vec<String> = self.seen.iter().map(|(_, s)| describe(s)).collect();
        assert!(left.is_empty(), "not claimed: {left:#?}\n{}", self.story);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Message { to, message, .. } => format!("{} to {to}", text(message.raw()).lines().next().unwrap_or_default()),
        Seen::Signal { try_no, signal, .. } => format!("signal {signal:?} try {try_no}"),
    }
}

/// What a `gets` asks for: a status or a method.
pub trait Wanted {
    fn fits(&self, message: &Message) -> bool;
    fn name(&self) -> String;
}

impl Wanted for u16 {
    fn fits(&self, message: &Message) -> bool {
        message.status() == *self
    }
    fn name(&self) -> String {
        self.to_string()
    }
}

impl Wanted for &str {
    fn fits(&self, message: &Message) -> bool {
        message.is_request() && message.method().as_str() == *self
    }
    fn name(&self) -> String {
        (*self).to_owned()
    }
}

/// A NOTIFY with this sipfrag status line.
pub struct Notify(pub &'static str);

impl Wanted for Notify {
    fn fits(&self, message: &Message) -> bool {
        message.is_request()
            && message.method().as_str() == "NOTIFY"
            && message.body() == format!("SIP/2.0 {}\r\n", self.0)
            && message.value(Name::ContentType).is_some_and(|c| c.starts_with(b"message/sipfrag"))
    }
    fn name(&self) -> String {
        format!("NOTIFY {}", self.0)
    }
}

struct AnyOf(Vec<String>);

impl Wanted for AnyOf {
    fn fits(&self, message: &Message) -> bool {
        message.is_request() && self.0.iter().any(|m| m == message.method().as_str())
    }
    fn name(&self) -> String {
        self.0.join(" or ")
    }
}

/// One SIP end.
pub struct End<'a> {
    ladder: &'a mut Ladder,
    who: Who,
}

impl End<'_> {
    fn party(&mut self) -> &mut Party {
        match self.who {
            Who::Caller => &mut self.ladder.caller,
            Who::Callee => &mut self.ladder.callee,
        }
    }

    /// The next message to this end must be this one. Time passes until it comes.
    pub fn gets(&mut self, wanted: impl Wanted) -> Message {
        let addr = self.party().addr;
        let limit = self.ladder.now + PATIENCE;
        loop {
            let at = self.ladder.seen.iter().position(|(_, s)| matches!(s, Seen::Message { to, .. } if *to == addr));
            if let Some(at) = at {
                let (_, seen) = self.ladder.seen.remove(at);
                let Seen::Message { flow, message, .. } = seen else { unreachable!() };
                self.ladder.last_flow = Some(flow);
                if !wanted.fits(&message) {
                    let got = text(message.raw());
                    self.ladder.fail(&format!("{:?} expected {}, got:\n{got}", self.who, wanted.name()));
                }
                self.learn(&message, flow);
                return message;
            }
            match self.ladder.core.next_deadline().filter(|d| *d <= limit && self.ladder.seen.is_empty()) {
                Some(next) => {
                    let d = next.since(self.ladder.now);
                    self.ladder.after(d);
                }
                None => self.ladder.fail(&format!("{:?} expected {}, nothing came", self.who, wanted.name())),
            }
        }
    }

    /// The next message, one of these methods.
    pub fn gets_any(&mut self, methods: &[&str]) -> Message {
        let any = AnyOf(methods.iter().map(|m| (*m).to_owned()).collect());
        self.gets(any)
    }

    /// Remembers what a user agent would of a message.
    fn learn(&mut self, message: &Message, flow: Flow) {
        let p = self.party();
        if message.is_request() {
            if message.method().as_str() != "ACK" {
                p.requests.retain(|r| r.method() != message.method());
                p.requests.push(message.clone());
            }
            if message.method().as_str() == "INVITE" && message.to_tag().is_none() {
                p.flow = flow;
                p.call_id = message.call_id().unwrap().to_owned();
                p.remote = text(message.value(Name::From).unwrap());
                p.local = format!("{};tag=calleetag", text(message.value(Name::To).unwrap()));
                p.target = text(message.contact().unwrap().uri);
            }
        } else if message.to_tag().is_some() && message.method().as_str() == "INVITE" {
            p.remote = text(message.value(Name::To).unwrap());
            if let Some(contact) = message.contact() {
                p.target = text(contact.uri);
            }
        }
    }

    // ---- requests of this end

    /// From now on this end speaks over a connection that it opened; `at` counts them.
    pub fn connects(&mut self, at: u64) -> Flow {
        self.connects_over("TCP", ConnId(at), 49_000 + u16::try_from(at).unwrap())
    }

    /// The same over TLS, from a port of its own.
    pub fn connects_with_tls(&mut self, port: u16) -> Flow {
        self.connects_over("TLS", ConnId(u64::from(port) | CONN_TLS), port)
    }

    fn connects_over(&mut self, transport: &'static str, conn: ConnId, port: u16) -> Flow {
        let flow = Flow::Stream(conn);
        let p = self.party();
        (p.flow, p.transport) = (flow, transport);
        let remote = SocketAddr::new(p.addr.ip(), port);
        p.contact = Some(format!("<sip:end@{};transport={}>", p.addr, transport.to_ascii_lowercase()));
        let local = SocketAddr::new(US.parse().unwrap(), 5060);
        self.ladder.input(Input::FlowUp { conn, local, remote, dialled: false });
        flow
    }

    pub fn loses(&mut self, flow: Flow) {
        self.ladder.input(Input::FlowLost { flow, why: LossReason::Closed("reset".into()) });
    }

    pub fn contact(&mut self, contact: &str) {
        self.party().contact = Some(contact.to_owned());
    }

    pub fn without_rport(&mut self) {
        self.party().rport = false;
    }

    pub fn cseq(&mut self, cseq: u32) {
        self.party().cseq = cseq;
    }

    pub fn invite_text(&mut self, headers: &str, body: &str) -> String {
        let p = self.party();
        p.branch += 1;
        let host = p.addr;
        let contact = p.contact.clone().unwrap_or_else(|| format!("<sip:trunk@{host}>"));
        let (transport, rport) = (p.transport, if p.rport { ";rport" } else { "" });
        p.local = format!("\"Ann\" <sip:+12065550111@{host}>;tag=callertag");
        p.remote = format!("<sip:+12065551234@{US}>");
        p.target = format!("sip:+12065551234@{US}");
        let content = if body.is_empty() { String::new() } else { "Content-Type: application/sdp\r\n".to_owned() };
        format!(
            "INVITE {} SIP/2.0\r\nVia: SIP/2.0/{transport} {host};branch=z9hG4bKcaller{}{rport}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} INVITE\r\nContact: {contact}\r\n{headers}{content}Content-Length: {}\r\n\r\n{body}",
            p.target,
            p.branch,
            p.local,
            p.remote,
            p.call_id,
            p.cseq,
            body.len()
        )
    }

    pub fn invites(&mut self) {
        self.invites_with("X-InContact-MasterId: 48812\r\nX-Customer-Tier: gold\r\n");
    }

    pub fn invites_with(&mut self, headers: &str) {
        let ip = self.party().addr.ip().to_string();
        let text = self.invite_text(headers, &offer(&ip, 20_000));
        self.sends_text(text);
    }

    /// Any text, from this end's address.
    pub fn sends_text(&mut self, text: String) {
        let bytes = Bytes::from(text);
        let (flow, addr) = (self.party().flow, self.party().addr);
        let message = Message::parse(bytes.clone());
        if let Ok(message) = message
            && message.method().as_str() == "INVITE"
            && message.is_request()
        {
            self.party().invite = Some(message);
        }
        if let Ok(message) = Message::parse(bytes.clone())
            && message.status() >= 200
            && message.method().as_str() == "INVITE"
        {
            self.party().answered = Some(bytes.clone());
        }
        self.party().sent = Some(bytes.clone());
        let line = self::text(&bytes).lines().next().unwrap_or_default().to_owned();
        let who = self.who;
        self.ladder.story(&match who {
            Who::Caller => format!("──► {line}"),
            Who::Callee => format!("                    ◄── {line}"),
        });
        self.ladder.bytes(flow, addr, bytes);
    }

    /// The last message once more: it was lost, or the answer was.
    pub fn repeats(&mut self) {
        let bytes = self.party().sent.clone().expect("something was sent");
        let (flow, addr) = (self.party().flow, self.party().addr);
        self.ladder.story("    (repeated)");
        self.ladder.bytes(flow, addr, bytes);
    }

    /// The last final answer of this status once more.
    pub fn repeats_sent(&mut self, status: u16) {
        let bytes = self.party().answered.clone().expect("an answer was sent");
        assert_eq!(Message::parse(bytes.clone()).unwrap().status(), status);
        let (flow, addr) = (self.party().flow, self.party().addr);
        self.ladder.bytes(flow, addr, bytes);
    }

    /// The request of this method that this end sent last.
    pub fn sent_request(&mut self, method: &str) -> Message {
        let message = Message::parse(self.party().sent.clone().expect("something was sent")).unwrap();
        assert_eq!(message.method().as_str(), method);
        message
    }

    /// CANCEL of the INVITE that this end sent last.
    pub fn cancels_last(&mut self) {
        let invite = self.sent_invite();
        let cancel = backchannel::transaction::cancel_for(&invite.raw().clone());
        self.sends_text(text(&cancel));
    }

    pub fn acks(&mut self) {
        let cseq = self.party().cseq;
        self.in_dialog("ACK", cseq, "", "", "");
    }

    /// The ACK to a 2xx, with the answer to a late offer.
    pub fn acks_with(&mut self, sdp: &str) {
        let cseq = self.party().cseq;
        self.in_dialog("ACK", cseq, "", "application/sdp", sdp);
    }

    /// The ACK to a non-2xx final response (RFC 3261 §17.1.1.3): the INVITE's own branch.
    pub fn acks_refusal(&mut self) {
        let invite = self.sent_invite();
        self.acks_refusal_of(&invite);
    }

    pub fn sent_invite(&mut self) -> Message {
        self.party().invite.clone().expect("an INVITE was sent")
    }

    pub fn acks_refusal_of(&mut self, invite: &Message) {
        let call_id = self.party().call_id.clone();
        self.acks_refusal_with(invite, &call_id);
    }

    pub fn acks_refusal_with(&mut self, invite: &Message, call_id: &str) {
        let p = self.party();
        let text = format!(
            "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
            text(invite.uri()),
            text(invite.value(Name::Via).unwrap()),
            text(invite.value(Name::From).unwrap()),
            p.remote,
            call_id,
            invite.cseq().unwrap().number
        );
        self.sends_text(text);
    }

    pub fn cancels(&mut self) {
        let p = self.party();
        let invite = p.invite.clone().expect("an INVITE was sent");
        let text = format!(
            "CANCEL {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
            text(invite.uri()),
            text(invite.value(Name::Via).unwrap()),
            text(invite.value(Name::From).unwrap()),
            text(invite.value(Name::To).unwrap()),
            p.call_id,
            p.cseq
        );
        self.sends_text(text);
    }

    /// A request in the dialog, one CSeq higher.
    pub fn sends(&mut self, method: &str) {
        self.sends_with(method, "");
    }

    pub fn sends_with(&mut self, method: &str, headers: &str) {
        self.sends_body(method, headers, "", "");
    }

    pub fn sends_body(&mut self, method: &str, headers: &str, content_type: &str, body: &str) {
        self.party().cseq += 1;
        let cseq = self.party().cseq;
        self.in_dialog(method, cseq, headers, content_type, body);
    }

    fn in_dialog(&mut self, method: &str, cseq: u32, headers: &str, content_type: &str, body: &str) {
        let p = self.party();
        p.branch += 1;
        let (host, branch) = (p.addr, p.branch);
        let contact = p.contact.clone().unwrap_or_else(|| format!("<sip:end@{host}>"));
        let (transport, rport) = (p.transport, if p.rport { ";rport" } else { "" });
        let content = if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{transport} {host};branch=z9hG4bKin{method}{branch}{rport}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: {contact}\r\n{headers}{content}Content-Length: {}\r\n\r\n{body}",
            p.target,
            p.local,
            p.remote,
            p.call_id,
            body.len()
        );
        if method == "INVITE" {
            self.party().invite = None;
        }
        self.sends_text(text);
    }

    // ---- responses of this end

    /// Answers the INVITE that came: 180 and 4xx without, 183 and 2xx with SDP.
    pub fn answers(&mut self, status: u16) {
        let ip = self.party().addr.ip().to_string();
        let body = if status == 183 || (200..300).contains(&status) { offer(&ip, 30_000) } else { String::new() };
        self.answers_with(status, "calleetag", "", &body);
    }

    pub fn answers_with(&mut self, status: u16, tag: &str, headers: &str, body: &str) {
        let invite = self.request("INVITE");
        let to = text(invite.value(Name::To).unwrap());
        let to = if to.contains(";tag=") { to } else { format!("{to};tag={tag}") };
        self.respond(&invite, status, &to, headers, body);
    }

    /// Answers the last request of this method.
    pub fn answers_to(&mut self, method: &str, status: u16) {
        let request = self.request(method);
        let to = text(request.value(Name::To).unwrap());
        let to = if to.contains(";tag=") { to } else { format!("{to};tag=calleetag") };
        self.respond(&request, status, &to, "", "");
    }

    /// Answers the last request of this method, with a description.
    pub fn answers_request(&mut self, method: &str, status: u16, headers: &str, body: &str) {
        let request = self.request(method);
        let to = text(request.value(Name::To).unwrap());
        self.respond(&request, status, &to, headers, body);
    }

    pub fn answers_with_headers(&mut self, method: &str, status: u16, headers: &str) {
        self.answers_request(method, status, headers, "");
    }

    /// Answers an INVITE that another address got.
    pub fn answers_message(&mut self, request: &Message, status: u16, tag: &str, body: &str) {
        let to = text(request.value(Name::To).unwrap());
        let to = if to.contains(";tag=") { to } else { format!("{to};tag={tag}") };
        self.respond(request, status, &to, "", body);
    }

    /// This end listens there from now on.
    pub fn moves(&mut self, addr: &str) {
        let p = self.party();
        p.addr = addr.parse().unwrap();
        if let Flow::Udp { remote, .. } = &mut p.flow {
            *remote = p.addr;
        }
    }

    pub fn request(&mut self, method: &str) -> Message {
        let found = self.party().requests.iter().find(|r| r.method().as_str() == method).cloned();
        found.unwrap_or_else(|| panic!("no {method} has come"))
    }

    fn respond(&mut self, request: &Message, status: u16, to: &str, headers: &str, body: &str) {
        let host = self.party().addr;
        let vias: String = request.values(Name::Via).map(|v| format!("Via: {}\r\n", text(v))).collect();
        let contact = self.party().contact.clone().unwrap_or_else(|| format!("<sip:bot@{host}>"));
        let contact = if status > 100 && status < 300 { format!("Contact: {contact}\r\n") } else { String::new() };
        let content = if body.is_empty() { String::new() } else { "Content-Type: application/sdp\r\n".to_owned() };
        let reason = backchannel::wire::draft::reason_phrase(status);
        let text = format!(
            "SIP/2.0 {status} {reason}\r\n{vias}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{contact}{headers}{content}Content-Length: {}\r\n\r\n{body}",
            text(request.value(Name::From).unwrap()),
            request.call_id().unwrap(),
            text(request.value(Name::CSeq).unwrap()),
            body.len()
        );
        self.sends_text(text);
    }
}

/// CXone's API.
pub struct Api<'a> {
    ladder: &'a mut Ladder,
}

impl Api<'_> {
    /// A signal must be on its way. Time passes until it is.
    pub fn gets_signal(&mut self) -> Signal {
        let limit = self.ladder.now + PATIENCE;
        loop {
            let at = self.ladder.seen.iter().position(|(_, s)| matches!(s, Seen::Signal { .. }));
            if let Some(at) = at {
                let Seen::Signal { call, try_no, signal } = self.ladder.seen.remove(at).1 else { unreachable!() };
                self.ladder.last_try = Some((call, try_no));
                return signal;
            }
            match self.ladder.core.next_deadline().filter(|d| *d <= limit && self.ladder.seen.is_empty()) {
                Some(next) => {
                    let d = next.since(self.ladder.now);
                    self.ladder.after(d);
                }
                None => self.ladder.fail("the API expected a signal, none came"),
            }
        }
    }

    /// Whether another try comes before that time of the ladder; then it is claimed.
    pub fn gets_signal_before(&mut self, end: Duration) -> bool {
        loop {
            if self.ladder.seen.iter().any(|(_, s)| matches!(s, Seen::Signal { .. })) {
                self.gets_signal();
                return true;
            }
            match self.ladder.core.next_deadline().filter(|d| d.since(START) <= end && self.ladder.seen.is_empty()) {
                Some(next) => {
                    let d = next.since(self.ladder.now);
                    self.ladder.after(d);
                }
                None => return false,
            }
        }
    }

    pub fn accepts(&mut self) {
        self.says(SignalAnswer::Delivered { status: 204 });
    }

    pub fn refuses(&mut self, status: u16) {
        self.says(SignalAnswer::Refused { status, retry_after: None, text: "no".into() });
    }

    pub fn is_silent(&mut self) {
        self.says(SignalAnswer::Unanswered { status: None, why: "timed out".into() });
    }

    pub fn says(&mut self, answer: SignalAnswer) {
        let (call, try_no) = self.ladder.last_try.expect("a signal came");
        self.ladder.story(&format!("                    API ──► {answer:?}"));
        self.ladder.input(Input::SignalAnswered { call, try_no, answer });
    }
}

pub fn transport_of(flow: Flow) -> Transport {
    match flow {
        Flow::Udp { .. } => Transport::Udp,
        Flow::Stream(conn) if conn.is_tls() => Transport::Tls,
        Flow::Stream(_) => Transport::Tcp,
    }
}
