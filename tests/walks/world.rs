//! The world around the core, in virtual time: a network that loses, doubles and delays, an API, a journal, a resolver.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backchannel::b2bua::B2bua;
use backchannel::b2bua::io::Action;
use backchannel::b2bua::io::Command;
use backchannel::b2bua::io::Flow;
use backchannel::b2bua::io::Input;
use backchannel::b2bua::io::LossReason;
use backchannel::b2bua::io::Reach;
use backchannel::call::anchor::MediaEvent;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::anchor::MediaStats;
use backchannel::call::anchor::PortPair;
use backchannel::call::escalation::SignalAnswer;
use backchannel::call::rules::TargetName;
use backchannel::config::Config;
use backchannel::ids::AskId;
use backchannel::ids::CONN_DIALLED;
use backchannel::ids::CallHandle;
use backchannel::ids::ConnId;
use backchannel::ids::ListenerId;
use backchannel::ids::QueryId;
use backchannel::ids::RecordId;
use backchannel::ids::Side;
use backchannel::report::Fact;
use backchannel::time::Time;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;

use crate::agent::Act;
use crate::agent::Agent;
use crate::agent::LineId;
use crate::agent::TxId;
use crate::watch::Watch;

pub const US: &str = "192.0.2.9";
const START: Time = Time::from_micros(1_800_000_000_000_000);
/// When media fall idle, in seconds: the end of calls that nobody hangs up.
const IDLE_SECONDS: [u64; 3] = [120, 160, 200];
/// Nothing may be due after this.
const HORIZON: Duration = Duration::from_secs(900);

const CONFIG: &str = r#"
[node]
name = "bc-1"
[sip]
listen = ["udp://192.0.2.9:5060", "tcp://192.0.2.9:5060"]
ring_timeout = "20s"
[cxone]
allow = ["198.51.100.0/24"]
[cxone.api]
client_id = "app"
client_secret = "s3cret"
access_key_id = "key"
access_key_secret = "keysecret"
[synthflow]
options_interval = "0"
target = "TARGET"
FALLBACK
[escalation]
ON_FAILURE
[escalation.queues]
billing = "billing"
"#;

/// Splitmix64: the same story for the same seed on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.next() % below }
    }

    /// So many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1_000 + self.below((to - from) * 1_000 + 1))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How one walk's world is.
#[derive(Clone, Debug)]
pub struct Habits {
    pub callers: usize,
    pub calls_each: u64,
    pub loss: u64,
    pub doubled: u64,
    pub slow: u64,
    pub jitter_ms: u64,
    pub journal: Journal,
    pub resets: u64,
    pub callee_tcp: bool,
    pub fallback: bool,
    pub bye_on_failure: bool,
    pub drain: Option<(Duration, Duration)>,
    pub late_targets: bool,
    /// CANCEL, 200 and BYE in the same milliseconds, on a clean network.
    pub race: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Journal {
    AtOnce,
    Slow,
    Broken,
    Moody,
}

impl Habits {
    pub fn of(dice: &mut Dice) -> Habits {
        Habits {
            callers: 1 + dice.below(4) as usize,
            calls_each: 1 + dice.below(2),
            loss: dice.pick(&[0, 0, 5, 15, 30]),
            doubled: dice.pick(&[0, 0, 10, 30]),
            slow: dice.pick(&[0, 0, 5, 20]),
            jitter_ms: dice.pick(&[1, 20, 80]),
            journal: dice.pick(&[Journal::AtOnce, Journal::AtOnce, Journal::Slow, Journal::Broken, Journal::Moody]),
            resets: dice.pick(&[0, 0, 1, 3]),
            callee_tcp: dice.chance(40),
            fallback: dice.chance(25),
            bye_on_failure: dice.chance(25),
            drain: dice.chance(10).then(|| (dice.ms(0, 40_000), dice.pick(&[Duration::ZERO, Duration::from_secs(20)]))),
            late_targets: dice.chance(5),
            race: false,
        }
    }

    pub fn race(dice: &mut Dice) -> Habits {
        Habits {
            callers: 1,
            calls_each: 1,
            loss: 0,
            doubled: 0,
            slow: 0,
            jitter_ms: dice.pick(&[1, 30, 120]),
            journal: Journal::AtOnce,
            resets: 0,
            callee_tcp: dice.chance(30),
            fallback: false,
            bye_on_failure: false,
            drain: None,
            late_targets: false,
            race: true,
        }
    }
}

pub enum Event {
    /// `sound`: made by a user agent that speaks SIP, so the invariants hold for it.
    ToCore {
        flow: Flow,
        remote: SocketAddr,
        bytes: Bytes,
        sound: bool,
    },
    ToPeer {
        agent: usize,
        flow: Flow,
        bytes: Bytes,
    },
    Input(Input),
    ConnUp {
        conn: ConnId,
    },
    ConnLost {
        conn: ConnId,
        why: LossReason,
    },
    ClientTimer {
        agent: usize,
        tx: TxId,
    },
    ServerTimer {
        agent: usize,
        tx: TxId,
    },
    Repeat {
        line: LineId,
    },
    Do {
        line: LineId,
        act: Act,
    },
    NewCall {
        agent: usize,
    },
    Idle,
}

#[derive(Debug)]
pub struct Conn {
    pub agent: usize,
    pub remote: SocketAddr,
    pub state: ConnState,
    to_core: Time,
    to_peer: Time,
}

#[derive(Debug)]
pub enum ConnState {
    Dialling(Vec<Bytes>),
    Up,
    Lost,
}

pub struct World {
    pub core: B2bua,
    pub now: Time,
    pub dice: Dice,
    pub habits: Habits,
    pub agents: Vec<Agent>,
    pub conns: BTreeMap<ConnId, Conn>,
    pub watch: Watch,
    pub story: Vec<String>,
    /// A hash of everything that the core did, in order.
    pub digest: u64,
    queue: BTreeMap<(Time, u64), Event>,
    pub serial: u64,
    next_port: u16,
    recorded_at: Time,
    open_media: Vec<(CallHandle, Side)>,
    pub bye_deliveries: Vec<(String, String)>,
}

pub fn config(habits: &Habits) -> Arc<Config> {
    let transport = if habits.callee_tcp { ";transport=tcp" } else { "" };
    let fallback = if habits.fallback { format!("fallback = [\"sip:second.example:5080{transport}\"]") } else { String::new() };
    let on_failure = if habits.bye_on_failure { "on_failure = \"bye\"" } else { "" };
    let text = CONFIG
        .replace("TARGET", &format!("sip:synthflow.example:5080{transport}"))
        .replace("FALLBACK", &fallback)
        .replace("ON_FAILURE", on_failure);
    let read = |path: &Path| match path.to_str() {
        Some("/proc/sys/net/ipv4/ip_local_port_range") => Ok("32768\t60999\n".to_owned()),
        Some("/proc/sys/kernel/hostname") => Ok("edge\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    match Config::parse(&text, Path::new("walk.toml"), &|_| None, &read) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(errors) => panic!("the configuration is bad: {errors:?}"),
    }
}

impl World {
    pub fn new(seed: u64, habits: fn(&mut Dice) -> Habits) -> World {
        let mut dice = Dice(seed);
        let habits = habits(&mut dice);
        let core = B2bua::new(config(&habits), [7; 32], 0, false, START);
        let mut agents = vec![Agent::callee("203.0.113.2:5080"), Agent::callee("203.0.113.3:5080")];
        for n in 0..habits.callers {
            let stream = dice.chance(35);
            agents.push(Agent::caller(&format!("198.51.100.{}:5060", n + 1), stream));
        }
        let mut world = World {
            core,
            now: START,
            dice,
            agents,
            conns: BTreeMap::new(),
            watch: Watch::default(),
            story: vec![format!("seed {seed}: {habits:?}")],
            habits,
            digest: 0,
            queue: BTreeMap::new(),
            serial: 0,
            next_port: 10_000,
            recorded_at: START,
            open_media: Vec::new(),
            bye_deliveries: Vec::new(),
        };
        world.drain();
        world.set_the_stage();
        world
    }

    fn set_the_stage(&mut self) {
        for (name, ip) in [("synthflow.example", "203.0.113.2"), ("second.example", "203.0.113.3")] {
            let reach = Reach { ip: ip.parse().unwrap(), local: US.parse().unwrap(), at: None };
            let input = Input::Targets { name: TargetName(name.into()), result: Ok(vec![reach]) };
            let late = if self.habits.late_targets { Duration::from_secs(5) } else { Duration::ZERO };
            self.after(late, Event::Input(input));
        }
        for agent in 2..self.agents.len() {
            for _ in 0..self.habits.calls_each {
                let at = self.dice.ms(1, if self.habits.race { 2 } else { 20_000 });
                self.after(at, Event::NewCall { agent });
            }
        }
        if let Some((at, within)) = self.habits.drain {
            self.after(at, Event::Input(Input::Asked { ask: AskId(1), command: Command::Drain { within } }));
        }
        for at in IDLE_SECONDS {
            self.after(Duration::from_secs(at), Event::Idle);
        }
    }

    /// Everything that happens, until nothing is left to happen.
    pub fn run(&mut self) {
        let end = START + HORIZON;
        loop {
            let event = self.queue.keys().next().copied();
            let timer = self.core.next_deadline();
            match (event, timer) {
                (Some((at, _)), timer) if timer.is_none_or(|t| t > at) => {
                    let Some((key, event)) = self.queue.pop_first() else { break };
                    self.now = self.now.max(key.0);
                    self.happens(event);
                }
                (_, Some(at)) if at <= end => {
                    self.now = self.now.max(at);
                    self.core.handle_timeout(self.now);
                    self.drain();
                }
                _ => break,
            }
            if !self.watch.faults.is_empty() {
                break;
            }
        }
        for (call_id, branch) in std::mem::take(&mut self.bye_deliveries) {
            if self.watch.final_status(&branch, "BYE") == Some(200) {
                self.watch.must_escalate(&call_id);
            }
        }
        if self.watch.faults.is_empty() {
            let counts = self.core.counts();
            self.watch.over(counts);
        }
    }

    pub fn after(&mut self, d: Duration, event: Event) {
        self.at(self.now + d, event);
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.queue.insert((at, self.serial), event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ToCore { flow, remote, bytes, sound } => self.reach_core(flow, remote, bytes, sound),
            Event::ToPeer { agent, flow, bytes } => {
                if self.is_live(flow) {
                    self.agent_hears(agent, flow, bytes);
                }
            }
            Event::Input(input) => self.input(input),
            Event::ConnUp { conn } => self.conn_up(conn),
            Event::ConnLost { conn, why } => self.conn_lost(conn, why),
            Event::ClientTimer { agent, tx } => self.client_timer(agent, tx),
            Event::ServerTimer { agent, tx } => self.server_timer(agent, tx),
            Event::Repeat { line } => self.repeat(line),
            Event::Do { line, act } => self.does(line, act),
            Event::NewCall { agent } => self.new_call(agent),
            Event::Idle => {
                for (call, side) in self.open_media.clone() {
                    self.input(Input::Media { call, side, event: MediaEvent::Idle });
                }
            }
        }
    }

    pub fn tell(&mut self, line: String) {
        let at = self.now.since(START).as_micros();
        self.story.push(format!("{:>7}.{:03} ms  {line}", at / 1_000, at % 1_000));
    }

    fn reach_core(&mut self, flow: Flow, remote: SocketAddr, bytes: Bytes, sound: bool) {
        if !self.is_live(flow) {
            return;
        }
        self.tell(format!("{remote} ──► {}", first_line(&bytes)));
        if sound && let Ok(message) = Message::parse(bytes.clone()) {
            let nowhere = message.contact().is_some_and(|c| c.uri.windows(5).any(|w| w == b"never"));
            self.watch.reached(&message, nowhere, self.now);
            let escalates = message.method().as_str() == "BYE" && message.named("X-Queue").next().is_some();
            let call_id = message.call_id().unwrap_or_default().to_owned();
            if message.is_request() && escalates && self.watch.is_up(&call_id) {
                let branch = message.via().ok().and_then(|v| v.branch().map(|b| String::from_utf8_lossy(b).into_owned()));
                self.bye_deliveries.push((call_id, branch.unwrap_or_default()));
            }
        }
        let local = SocketAddr::new(US.parse().unwrap(), 5060);
        self.input(Input::Sip { flow, remote, local, bytes });
    }

    pub fn input(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        let mut inputs = Vec::new();
        while let Some(action) = self.core.poll_action() {
            self.act(action, &mut inputs);
        }
        for input in inputs {
            self.input(input);
        }
    }

    fn note(&mut self, what: &[u8]) {
        for byte in what {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.digest ^= self.now.as_micros();
    }

    fn act(&mut self, action: Action, inputs: &mut Vec<Input>) {
        match action {
            Action::Send { flow, bytes } => self.core_sends(flow, bytes),
            Action::Dial { conn, target, .. } => self.dial(conn, target.addr),
            Action::Close { flow: Flow::Stream(conn) } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.state = ConnState::Lost;
                }
            }
            Action::Close { .. } => {}
            Action::Resolve { query, name } => self.resolve(query, &name),
            Action::BindPorts { count, v6 } => inputs.push(self.bind(count, v6)),
            Action::Media { call, side, order } => self.media(call, side, &order, inputs),
            Action::Record { record, .. } => self.record(record, inputs),
            Action::Signal { call, try_no, signal, until } => {
                self.note(signal.id.as_bytes());
                self.tell(format!("            signal {} try {try_no}", signal.id));
                let (after, answer) = self.api(until);
                self.watch.signalled(&signal, answer.as_ref());
                if let Some(answer) = answer {
                    let delivered = matches!(answer, SignalAnswer::Delivered { .. });
                    self.after(after, Event::Input(Input::SignalAnswered { call, try_no, answer }));
                    if delivered && self.dice.chance(60) {
                        self.caller_of_signal_hangs_up(signal.contact.as_str(), after);
                    }
                }
            }
            Action::CancelSignal { .. } => self.tell("            signal is not awaited any more".into()),
            Action::Report(event) => {
                let line = format!("            · {} {:?}", event.fact.word(), event.fact);
                self.note(line.as_bytes());
                if !matches!(event.fact, Fact::Message { .. }) {
                    self.tell(line);
                }
                self.watch.reported(&event);
            }
            Action::Answer { .. } | Action::Dropped { .. } | Action::Trunk(_) | Action::Drained => {}
        }
    }

    // ---- the network

    pub fn is_live(&self, flow: Flow) -> bool {
        match flow {
            Flow::Udp { .. } => true,
            Flow::Stream(conn) => self.conns.get(&conn).is_some_and(|c| matches!(c.state, ConnState::Up)),
        }
    }

    fn core_sends(&mut self, flow: Flow, bytes: Bytes) {
        self.note(&bytes);
        let (agent, remote) = match flow {
            Flow::Udp { remote, .. } => (self.agents.iter().position(|a| a.addr == remote), remote),
            Flow::Stream(conn) => match self.conns.get(&conn) {
                Some(c) => (Some(c.agent), c.remote),
                None => return self.watch.faults.push(format!("sent on a connection that never was: {conn:?}")),
            },
        };
        let side = if remote.ip().to_string().starts_with("198.") { Side::Caller } else { Side::Callee };
        self.tell(format!("            {} ──► {remote} {}", first_line(&bytes), if self.is_live(flow) { "" } else { "(not up)" }));
        self.watch.sent(side, &bytes, self.now);
        let Some(agent) = agent else {
            return self.watch.faults.push(format!("sent to {remote}, where nobody is: {}", first_line(&bytes)));
        };
        match flow {
            Flow::Udp { .. } => {
                for at in self.deliveries() {
                    self.at(at, Event::ToPeer { agent, flow, bytes: bytes.clone() });
                }
            }
            Flow::Stream(conn) => self.on_stream(conn, agent, flow, bytes),
        }
    }

    fn on_stream(&mut self, id: ConnId, agent: usize, flow: Flow, bytes: Bytes) {
        let delay = self.dice.ms(5, 15);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match &mut conn.state {
            ConnState::Dialling(waiting) => waiting.push(bytes),
            ConnState::Up => {
                conn.to_peer = conn.to_peer.max(self.now + delay) + Duration::from_micros(1);
                let at = conn.to_peer;
                self.at(at, Event::ToPeer { agent, flow, bytes });
                self.maybe_reset(id);
            }
            ConnState::Lost => {}
        }
    }

    fn maybe_reset(&mut self, conn: ConnId) {
        if self.dice.below(100) < self.habits.resets {
            let at = self.dice.ms(0, 100);
            self.after(at, Event::ConnLost { conn, why: LossReason::Closed("reset".into()) });
        }
    }

    /// When a datagram arrives: never, once, twice.
    fn deliveries(&mut self) -> Vec<Time> {
        if self.dice.chance(self.habits.loss) {
            return Vec::new();
        }
        let copies = 1 + u64::from(self.dice.chance(self.habits.doubled));
        (0..copies)
            .map(|_| {
                let slow = self.dice.chance(self.habits.slow);
                let most = if slow { 2_000 } else { self.habits.jitter_ms };
                self.now + self.dice.ms(1, most)
            })
            .collect()
    }

    /// An agent's bytes on their way to the core.
    pub fn agent_sends(&mut self, agent: usize, flow: Option<Flow>, bytes: Bytes, sound: bool) {
        let live = flow.filter(|f| matches!(f, Flow::Stream(_)) && self.is_live(*f));
        let stream = live.is_some() || self.agents[agent].stream || matches!(flow, Some(Flow::Stream(_)));
        if !stream {
            let remote = self.agents[agent].addr;
            let flow = Flow::Udp { listener: ListenerId(0), remote };
            for at in self.deliveries() {
                self.at(at, Event::ToCore { flow, remote, bytes: bytes.clone(), sound });
            }
            return;
        }
        let id = match live {
            Some(Flow::Stream(conn)) => conn,
            _ => self.connect(agent),
        };
        let delay = self.dice.ms(5, 15);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.to_core = conn.to_core.max(self.now + delay) + Duration::from_micros(1);
            let (at, remote) = (conn.to_core, conn.remote);
            self.at(at, Event::ToCore { flow: Flow::Stream(id), remote, bytes, sound });
            self.maybe_reset(id);
        }
    }

    /// An agent's own connection to us: the one that is up, or a new one.
    fn connect(&mut self, agent: usize) -> ConnId {
        let up = self.conns.iter().rev().find(|(_, c)| c.agent == agent && matches!(c.state, ConnState::Up));
        if let Some((id, _)) = up {
            return *id;
        }
        self.serial += 1;
        let conn = ConnId(self.serial & !CONN_DIALLED);
        let port = 50_000 + (self.serial % 10_000) as u16;
        let remote = SocketAddr::new(self.agents[agent].addr.ip(), port);
        self.conns.insert(conn, Conn { agent, remote, state: ConnState::Up, to_core: self.now, to_peer: self.now });
        let local = SocketAddr::new(US.parse().unwrap(), 5060);
        self.at(self.now, Event::Input(Input::FlowUp { conn, local, remote, dialled: false }));
        conn
    }

    fn dial(&mut self, conn: ConnId, remote: SocketAddr) {
        self.tell(format!("            dials {remote}"));
        let agent = self.agents.iter().position(|a| a.addr == remote);
        if agent.is_none() {
            self.watch.faults.push(format!("dials {remote}, where nobody listens"));
        }
        let state = ConnState::Dialling(Vec::new());
        self.conns.insert(conn, Conn { agent: agent.unwrap_or(0), remote, state, to_core: self.now, to_peer: self.now });
        let lucky = 100 - 5 * self.habits.resets.min(1) - if self.habits.callee_tcp { 0 } else { 30 };
        if agent.is_some() && self.dice.chance(lucky) {
            let at = self.dice.ms(5, if self.dice.0.is_multiple_of(20) { 3_000 } else { 60 });
            return self.after(at, Event::ConnUp { conn });
        }
        // Refused at once, or silent until the edge gives up.
        let at = if self.dice.chance(50) { self.dice.ms(5, 40) } else { Duration::from_secs(5) };
        self.after(at, Event::ConnLost { conn, why: LossReason::NotConnected("refused".into()) });
    }

    fn conn_up(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let ConnState::Dialling(waiting) = std::mem::replace(&mut conn.state, ConnState::Up) else {
            conn.state = ConnState::Lost;
            return;
        };
        let (agent, remote) = (conn.agent, conn.remote);
        for bytes in waiting {
            self.on_stream(id, agent, Flow::Stream(id), bytes);
        }
        let local = SocketAddr::new(US.parse().unwrap(), 40_000);
        self.input(Input::FlowUp { conn: id, local, remote, dialled: true });
    }

    fn conn_lost(&mut self, id: ConnId, why: LossReason) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if matches!(conn.state, ConnState::Lost) {
            return;
        }
        conn.state = ConnState::Lost;
        let remote = conn.remote;
        self.tell(format!("            connection with {remote} lost: {why:?}"));
        self.input(Input::FlowLost { flow: Flow::Stream(id), why });
    }

    // ---- the edge

    fn resolve(&mut self, query: QueryId, name: &str) {
        let ip: IpAddr = "203.0.113.2".parse().unwrap();
        let found = !name.contains("never");
        let result = if found { Ok(vec![Reach { ip, local: US.parse().unwrap(), at: None }]) } else { Err("no such name".to_owned()) };
        let at = self.dice.ms(0, if self.dice.0.is_multiple_of(3) { 4_000 } else { 20 });
        self.after(at, Event::Input(Input::Resolved { query, result }));
    }

    fn bind(&mut self, count: usize, v6: bool) -> Input {
        let ip = if v6 { "::1".parse().unwrap() } else { US.parse().unwrap() };
        let pair = |_| {
            self.next_port += 2;
            PortPair { ip, rtp: self.next_port, rtcp: self.next_port + 1 }
        };
        Input::PortsBound { pairs: (0..count).map(pair).collect(), exhausted: false }
    }

    fn media(&mut self, call: CallHandle, side: Side, order: &MediaOrder, inputs: &mut Vec<Input>) {
        match order {
            MediaOrder::Open { .. } => self.open_media.push((call, side)),
            MediaOrder::Close => {
                self.open_media.retain(|m| *m != (call, side));
                inputs.push(Input::Media { call, side, event: MediaEvent::Closed(MediaStats::default()) });
            }
            _ => {}
        }
    }

    fn record(&mut self, record: RecordId, inputs: &mut Vec<Input>) {
        let mood = match self.habits.journal {
            Journal::Moody => self.dice.pick(&[Journal::AtOnce, Journal::Slow, Journal::Broken]),
            other => other,
        };
        match mood {
            Journal::AtOnce if self.recorded_at <= self.now => inputs.push(Input::Recorded { up_to: record }),
            Journal::Broken => inputs.push(Input::RecordFailed { record, why: "no space left".into() }),
            _ => {
                // In order: a journal is one file.
                self.recorded_at = self.recorded_at.max(self.now + self.dice.ms(0, 700)) + Duration::from_micros(1);
                let at = self.recorded_at;
                self.at(at, Event::Input(Input::Recorded { up_to: record }));
            }
        }
    }

    /// What CXone's API says to one try, and when.
    fn api(&mut self, until: Time) -> (Duration, Option<SignalAnswer>) {
        let left = until.since(self.now);
        let refused = |status| SignalAnswer::Refused { status, retry_after: None, text: "no".into() };
        let unanswered = |status| SignalAnswer::Unanswered { status, why: "no answer".into() };
        let not_sent = |final_| SignalAnswer::NotSent { why: "refused".into(), retry_after: None, final_ };
        let soon = self.dice.ms(5, 400);
        let (at, answer) = match self.dice.below(20) {
            0..=8 => (soon, Some(SignalAnswer::Delivered { status: 204 })),
            9 => (soon, Some(refused(401))),
            10 => (soon, Some(refused(404))),
            11 => (soon, Some(SignalAnswer::Refused { status: 429, retry_after: Some(Duration::from_secs(1)), text: String::new() })),
            12 => (soon, Some(refused(500))),
            13 => (soon, Some(refused(503))),
            14 => (Duration::from_secs(3), Some(unanswered(None))),
            15 => (soon, Some(unanswered(Some(502)))),
            16 => (soon, Some(unanswered(None))),
            17 => (soon, Some(not_sent(self.dice.chance(30)))),
            18 => (self.dice.ms(2_000, 3_000), Some(SignalAnswer::Delivered { status: 200 })),
            _ => return (left, None),
        };
        (at.min(left.max(Duration::from_millis(1))), answer)
    }
}

pub fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut text = String::from_utf8_lossy(line).into_owned();
    if let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) {
        let cseq = message.value(Name::CSeq).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
        text = format!("{text} [{} {cseq}]", message.call_id().unwrap_or_default());
    }
    text
}
