//! The loop around the core: every input goes in here, every action comes out here, all on one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use compact_str::CompactString;
use std::collections::HashMap;
use std::collections::HashSet;
use tokio::sync::Notify;
use tokio::sync::mpsc;

use crate::b2bua::B2bua;
use crate::b2bua::io::Action;
use crate::b2bua::io::Command;
use crate::b2bua::io::Flow;
use crate::b2bua::io::Input;
use crate::b2bua::io::LossReason;
use crate::b2bua::io::Reach;
use crate::b2bua::io::Reply;
use crate::call::anchor::MediaOrder;
use crate::call::escalation::Signal;
use crate::call::rules::Target;
use crate::call::rules::TargetName;
use crate::config::Allow;
use crate::edge::clock::Clock;
use crate::edge::sip::local::LocalAddresses;
use crate::edge::sip::local::route_to;
use crate::edge::sip::stream::Streams;
use crate::edge::sip::tcp;
use crate::edge::sip::tcp::Dial;
use crate::edge::sip::tls::Handshakes;
use crate::edge::sip::udp::UdpPort;
use crate::ids::AskId;
use crate::ids::CallHandle;
use crate::ids::ConnId;
use crate::ids::ListenerId;
use crate::ids::QueryId;
use crate::ids::Side;
use crate::report::CallEvent;
use crate::time::Time;
use crate::trunk::Change;

/// Inputs of other threads handled in a row before sockets get their turn.
const INPUTS_IN_A_ROW_MAX: usize = 64;

/// The least time between two looks at deadlines: a deadline that stays due must not spin.
const DEADLINE_PAUSE: Duration = Duration::from_millis(1);

/// Lines about dropped messages in one second, all sources together.
const DROP_LINES_PER_SECOND_MAX: usize = 20;

/// The core's face, so that sockets can be tested with a smaller one.
pub trait Core: 'static {
    fn handle(&mut self, input: Input, now: Time);
    fn handle_timeout(&mut self, now: Time);
    fn next_deadline(&self) -> Option<Time>;
    fn poll_action(&mut self) -> Option<Action>;
    /// Nothing is held at all: a good moment for what takes a while.
    fn is_at_rest(&self) -> bool {
        false
    }
}

impl Core for B2bua {
    fn is_at_rest(&self) -> bool {
        B2bua::is_at_rest(self)
    }

    fn handle(&mut self, input: Input, now: Time) {
        B2bua::handle(self, input, now);
    }

    fn handle_timeout(&mut self, now: Time) {
        B2bua::handle_timeout(self, now);
    }

    fn next_deadline(&self) -> Option<Time> {
        B2bua::next_deadline(self)
    }

    fn poll_action(&mut self) -> Option<Action> {
        B2bua::poll_action(self)
    }
}

/// The ways out to other threads. None of them may block.
pub trait Doors {
    fn bind_ports(&mut self, count: usize, v6: bool);
    fn media(&mut self, call: CallHandle, side: Side, order: MediaOrder);
    fn signal(&mut self, call: CallHandle, try_no: u8, signal: Signal, until: Time);
    fn cancel_signal(&mut self, call: CallHandle);
    /// False: the question could not even be put.
    fn resolve(&mut self, query: QueryId, name: &CompactString) -> bool;
    fn answer(&mut self, ask: AskId, reply: Reply);
    fn report(&mut self, event: Box<CallEvent>);
}

/// Who may open a connection: the allow lists and what the targets resolve to (product.md §2).
#[derive(Debug, Default)]
pub struct Admission {
    allow: Vec<Allow>,
    targets: HashMap<TargetName, Vec<IpAddr>>,
}

impl Admission {
    pub fn new(allow: Vec<Allow>) -> Admission {
        Admission { allow, targets: HashMap::new() }
    }

    /// Ports are the core's business: here any will do.
    pub fn admits(&self, remote: SocketAddr) -> bool {
        let ip = remote.ip().to_canonical();
        self.allow.iter().any(|a| a.matches(remote, true)) || self.targets.values().flatten().any(|t| *t == ip)
    }

    /// The last good answer stays.
    fn learn(&mut self, name: &TargetName, reached: &[Reach]) {
        if !reached.is_empty() {
            self.targets.insert(name.clone(), reached.iter().map(|r| r.ip.to_canonical()).collect());
        }
    }
}

/// What was thrown away before the core saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Connections of strangers.
    pub strangers: u64,
    /// Connections over `CONNECTIONS_MAX`.
    pub full: u64,
    /// Messages that the core dropped without a line of their own.
    pub messages: u64,
    /// Datagrams of peers that we have no route to.
    pub unroutable: u64,
    /// Datagrams that found the send buffer full.
    pub datagrams: u64,
}

/// Lines about dropped messages: one a second and source, and not many altogether, for sources can be forged.
#[derive(Debug, Default)]
struct DropLines {
    second: u64,
    said: HashSet<IpAddr>,
    silent: u64,
}

impl DropLines {
    fn say(&mut self, remote: SocketAddr, why: &str, now: Time) {
        if self.admits(remote.ip(), now) {
            tracing::info!(source = %remote, why, "sip.ignored");
        } else {
            self.silent += 1;
        }
    }

    fn admits(&mut self, source: IpAddr, now: Time) -> bool {
        let second = now.as_micros() / 1_000_000;
        if second != self.second {
            self.second = second;
            self.said.clear();
        }
        self.said.len() < DROP_LINES_PER_SECOND_MAX && self.said.insert(source)
    }

    fn take_silent(&mut self) -> u64 {
        std::mem::take(&mut self.silent)
    }
}

/// How a node starts its thread for TLS.
pub type StartHandshakes = Box<dyn Fn() -> Result<Handshakes, String>>;

/// The core and its sockets.
pub struct Shell<C: Core> {
    core: C,
    pub clock: Clock,
    pub streams: Streams,
    udp: Vec<UdpPort>,
    locals: LocalAddresses,
    admission: Admission,
    doors: Box<dyn Doors>,
    /// Concrete addresses that our stream listeners are bound to: what we dial from.
    dial_from: Vec<SocketAddr>,
    /// What our own actions came to; handed in when the actions are drained.
    inbox: VecDeque<Input>,
    dials: Vec<Dial>,
    start_handshakes: StartHandshakes,
    handshakes: Option<Handshakes>,
    /// When the timekeeper will wake up.
    armed: Option<Time>,
    rearm: Rc<Notify>,
    targets_heard: HashSet<TargetName>,
    /// Orders to bind ports that are not answered yet.
    binds_asked: usize,
    heard: Rc<Notify>,
    dropped: Dropped,
    drops: DropLines,
    drained: bool,
    done: Rc<Notify>,
}

impl<C: Core> Shell<C> {
    pub fn new(core: C, clock: Clock, udp: Vec<UdpPort>, admission: Admission, doors: Box<dyn Doors>, dial_from: Vec<SocketAddr>) -> Self {
        Shell {
            core,
            clock,
            streams: Streams::default(),
            udp,
            locals: LocalAddresses::default(),
            admission,
            doors,
            dial_from: dial_from.into_iter().filter(|a| !a.ip().is_unspecified()).collect(),
            inbox: VecDeque::new(),
            dials: Vec::new(),
            start_handshakes: Box::new(|| Err("no TLS here".to_owned())),
            handshakes: None,
            armed: None,
            rearm: Rc::new(Notify::new()),
            targets_heard: HashSet::new(),
            binds_asked: 0,
            heard: Rc::new(Notify::new()),
            dropped: Dropped::default(),
            drops: DropLines::default(),
            drained: false,
            done: Rc::new(Notify::new()),
        }
    }

    /// TLS, for listeners and dials.
    pub fn with_tls(self, start_handshakes: StartHandshakes) -> Self {
        Shell { start_handshakes, ..self }
    }

    pub fn udp_port(&mut self, id: ListenerId) -> Option<&mut UdpPort> {
        self.udp.iter_mut().find(|p| p.id == id)
    }

    pub fn admits(&mut self, remote: SocketAddr) -> bool {
        let admitted = self.admission.admits(remote);
        self.dropped.strangers += u64::from(!admitted);
        admitted
    }

    pub fn count_full(&mut self) {
        self.dropped.full += 1;
    }

    /// What was dropped since the last question.
    pub fn take_dropped(&mut self) -> Dropped {
        self.dropped.datagrams += self.udp.iter_mut().map(UdpPort::take_dropped).sum::<u64>();
        self.dropped.messages += self.drops.take_silent();
        std::mem::take(&mut self.dropped)
    }

    /// See `Core::is_at_rest`.
    pub fn is_at_rest(&self) -> bool {
        self.core.is_at_rest()
    }

    pub fn is_flushed(&self) -> bool {
        self.streams.is_flushed() && self.udp.iter().all(UdpPort::is_flushed)
    }

    fn take_in(&mut self, input: Input, now: Time) {
        if let Input::Targets { name, result } = &input {
            if let Ok(reached) = result {
                self.admission.learn(name, reached);
            }
            self.targets_heard.insert(name.clone());
            self.heard.notify_one();
        }
        if let Input::PortsBound { .. } = &input {
            self.binds_asked = self.binds_asked.saturating_sub(1);
            self.heard.notify_one();
        }
        self.core.handle(input, now);
        self.settle(now);
    }

    /// Drains the core's actions, then hands in what they came to, until both are empty.
    fn settle(&mut self, now: Time) {
        loop {
            while let Some(action) = self.core.poll_action() {
                self.act(action, now);
            }
            match self.inbox.pop_front() {
                Some(input) => self.core.handle(input, now),
                None => break,
            }
        }
        if let Some(next) = self.core.next_deadline() {
            // A later one needs no wake-up: the timekeeper looks again when the earlier one has come.
            if self.armed.is_none_or(|armed| next < armed) {
                self.armed = Some(next);
                self.rearm.notify_one();
            }
        }
    }

    fn act(&mut self, action: Action, now: Time) {
        match action {
            Action::Send { flow, bytes } => self.send(flow, bytes),
            Action::Dial { conn, target, name } => self.dial(conn, target, name),
            Action::Close { flow: Flow::Stream(conn) } => self.streams.close(conn),
            Action::Close { flow: Flow::Udp { .. } } => {}
            Action::Resolve { query, name } => self.resolve(query, name),
            Action::BindPorts { count, v6 } => {
                self.binds_asked += 1;
                self.doors.bind_ports(count, v6);
            }
            Action::Media { call, side, order } => self.doors.media(call, side, order),
            // There is no journal in this version: what is asked to be on disk counts as recorded.
            Action::Record { record, entry: _ } => self.inbox.push_back(Input::Recorded { up_to: record }),
            Action::Signal { call, try_no, signal, until } => self.doors.signal(call, try_no, signal, until),
            Action::CancelSignal { call } => self.doors.cancel_signal(call),
            Action::Answer { ask, reply } => self.doors.answer(ask, reply),
            Action::Report(event) => self.doors.report(event),
            Action::Dropped { remote, why } => self.drops.say(remote, why, now),
            Action::Trunk(change) => say_trunk(&change),
            Action::Drained => {
                self.drained = true;
                self.done.notify_one();
            }
        }
    }

    fn send(&mut self, flow: Flow, bytes: bytes::Bytes) {
        let sent = match flow {
            Flow::Stream(conn) => self.streams.send(conn, bytes).map_err(|e| LossReason::Closed(e.to_string())),
            Flow::Udp { listener, remote } => match self.udp_port(listener) {
                Some(port) => port.send(remote, bytes).map_err(|e| LossReason::Unreachable(e.to_string())),
                None => Err(LossReason::Unreachable(format!("no UDP listener {}", listener.0))),
            },
        };
        if let Err(why) = sent {
            self.inbox.push_back(Input::FlowLost { flow, why });
        }
    }

    fn dial(&mut self, conn: ConnId, target: Target, name: CompactString) {
        match self.streams.dialling(conn) {
            Some(wake) => self.dials.push(Dial { conn, remote: target.addr, name, wake }),
            None => {
                let why = LossReason::NotConnected("too many connections are dialled".to_owned());
                self.inbox.push_back(Input::FlowLost { flow: Flow::Stream(conn), why });
            }
        }
    }

    /// The thread of TLS handshakes, started with the first one.
    pub fn handshakes(&mut self) -> Result<&Handshakes, String> {
        match &mut self.handshakes {
            Some(running) => Ok(running),
            none => Ok(none.insert((self.start_handshakes)()?)),
        }
    }

    /// A connection that came to nothing.
    pub fn say_refused(&mut self, remote: SocketAddr, why: &str) {
        self.drops.say(remote, why, self.clock.now());
    }

    fn resolve(&mut self, query: QueryId, name: CompactString) {
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let result = match literal {
            Ok(ip) => reach(ip).map(|r| vec![r]).ok_or_else(|| format!("no route to {ip}")),
            Err(_) if self.doors.resolve(query, &name) => return,
            Err(_) => Err("too many names are being resolved".to_owned()),
        };
        self.inbox.push_back(Input::Resolved { query, result });
    }
}

/// Once per change.
fn say_trunk(change: &Change) {
    let (target, transport, why) = (change.target.addr, change.target.transport.as_str(), change.why.as_str());
    if change.up {
        tracing::info!(%target, transport, why, "trunk.up");
    } else {
        tracing::warn!(%target, transport, why, "trunk.down");
    }
}

/// An address and ours towards it; `None` when there is no route.
pub fn reach(ip: IpAddr) -> Option<Reach> {
    let ip = ip.to_canonical();
    route_to(ip).map(|local| Reach { ip, local, at: None })
}

/// The shell, shared by the tasks of one thread. Never borrowed across an `await`.
pub struct Desk<C: Core>(Rc<RefCell<Shell<C>>>);

impl<C: Core> Clone for Desk<C> {
    fn clone(&self) -> Self {
        Desk(self.0.clone())
    }
}

impl<C: Core> Desk<C> {
    pub fn new(shell: Shell<C>) -> Self {
        Desk(Rc::new(RefCell::new(shell)))
    }

    pub fn with<R>(&self, use_it: impl FnOnce(&mut Shell<C>) -> R) -> R {
        use_it(&mut self.0.borrow_mut())
    }

    /// Hands one input to the core and does what comes of it.
    pub fn give(&self, input: Input) {
        self.with(|shell| {
            let now = shell.clock.now();
            shell.take_in(input, now);
        });
        self.start_dials();
    }

    /// As `give`, for an input that must name our address towards `remote` on a listener bound to `bound`.
    pub fn give_from(&self, bound: SocketAddr, remote: SocketAddr, input: impl FnOnce(SocketAddr) -> Input) {
        self.with(|shell| {
            let now = shell.clock.now();
            // Without a way back an answer is as impossible as an address of ours to put into it.
            match shell.locals.towards(bound, remote, now) {
                Some(local) => shell.take_in(input(local), now),
                None => shell.dropped.unroutable += 1,
            }
        });
        self.start_dials();
    }

    /// Sends something that is not the core's: keep-alives.
    pub fn send(&self, flow: Flow, bytes: bytes::Bytes) {
        self.with(|shell| {
            let now = shell.clock.now();
            shell.send(flow, bytes);
            shell.settle(now);
        });
        self.start_dials();
    }

    /// A connection that is gone; told once, and not when the core itself has closed it.
    pub fn flow_lost(&self, conn: ConnId, why: LossReason) {
        let live = self.with(|shell| {
            let live = shell.streams.is_live(conn);
            shell.streams.remove(conn);
            live
        });
        if live {
            self.give(Input::FlowLost { flow: Flow::Stream(conn), why });
        }
    }

    /// A datagram that waited could not be sent.
    pub fn unreachable(&self, listener: ListenerId, remote: SocketAddr, error: &io::Error) {
        self.give(Input::FlowLost { flow: Flow::Udp { listener, remote }, why: LossReason::Unreachable(error.to_string()) });
    }

    /// Lets the core act on its own before anything came in.
    pub fn start(&self) {
        self.tick();
    }

    /// Resolves when draining and no call is left.
    pub async fn drained(&self) {
        let done = self.with(|shell| shell.done.clone());
        while !self.with(|shell| shell.drained) {
            done.notified().await;
        }
    }

    /// Resolves when each of these names was answered once, well or badly, and so was what the core wanted bound: a call that comes
    /// earlier would only hear 503.
    pub async fn prepared(&self, names: &[TargetName]) {
        let heard = self.with(|shell| shell.heard.clone());
        while !self.with(|shell| shell.binds_asked == 0 && names.iter().all(|n| shell.targets_heard.contains(n))) {
            heard.notified().await;
        }
    }

    /// Runs the core's deadlines until its task is dropped.
    pub async fn keep_time(self) {
        let rearm = self.with(|shell| shell.rearm.clone());
        let mut not_before = Time::default();
        loop {
            let (next, clock) = self.with(|shell| {
                shell.armed = shell.core.next_deadline();
                (shell.armed, shell.clock)
            });
            let Some(next) = next else {
                rearm.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(clock.instant(next.max(not_before)).into()) => {
                    self.tick();
                    not_before = clock.now() + DEADLINE_PAUSE;
                }
                () = rearm.notified() => {}
            }
        }
    }

    fn tick(&self) {
        self.with(|shell| {
            let now = shell.clock.now();
            shell.core.handle_timeout(now);
            shell.settle(now);
        });
        self.start_dials();
    }

    /// Takes the inputs of other threads until they are all gone.
    pub async fn hear(self, mut inputs: mpsc::Receiver<Input>) {
        let mut some = Vec::with_capacity(INPUTS_IN_A_ROW_MAX);
        while inputs.recv_many(&mut some, INPUTS_IN_A_ROW_MAX).await > 0 {
            for input in some.drain(..) {
                self.give(input);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Outside of the borrow: a task may run the core at once.
    fn start_dials(&self) {
        loop {
            let dial = self.with(|shell| {
                let dial = shell.dials.pop()?;
                let from = shell.dial_from.iter().find(|a| a.is_ipv4() == dial.remote.is_ipv4()).copied();
                Some((dial, from))
            });
            let Some((dial, from)) = dial else { return };
            tokio::task::spawn_local(tcp::dial(self.clone(), dial, from));
        }
    }

    /// Puts a command to the core; its answer goes to `Doors::answer`.
    pub fn ask(&self, ask: AskId, command: Command) {
        self.give(Input::Asked { ask, command });
    }
}

#[cfg(test)]
pub mod testing {
    //! A core that echoes, and doors that lead nowhere.

    use std::future::Future;

    use super::*;

    /// Sends back what it hears; closes a stream behind an echoed BYE; is drained when told to drain.
    #[derive(Debug, Default)]
    pub struct StubCore {
        pub heard: Vec<String>,
        pub actions: VecDeque<Action>,
        pub deadline: Option<Time>,
        pub fired: u32,
        pub told: Option<std::sync::mpsc::Sender<Command>>,
    }

    impl StubCore {
        pub fn dial_and_send(&mut self, conn: ConnId, addr: SocketAddr, bytes: &'static [u8]) {
            let target = Target { transport: crate::call::rules::Transport::Tcp, addr };
            self.actions.push_back(Action::Dial { conn, target, name: CompactString::default() });
            self.actions.push_back(Action::Send { flow: Flow::Stream(conn), bytes: bytes::Bytes::from_static(bytes) });
        }
    }

    impl Core for StubCore {
        fn handle(&mut self, input: Input, _now: Time) {
            match input {
                Input::Sip { flow, local, bytes, .. } => {
                    self.heard.push(format!("sip local {local}"));
                    let bye = bytes.starts_with(b"BYE");
                    self.actions.push_back(Action::Send { flow, bytes });
                    if bye {
                        self.actions.push_back(Action::Close { flow });
                    }
                }
                Input::FlowUp { dialled, .. } => self.heard.push(if dialled { "up dialled".into() } else { "up".into() }),
                Input::FlowLost { why, .. } => self.heard.push(format!("lost {why:?}")),
                Input::Broken { .. } => self.heard.push("broken".into()),
                Input::Asked { ask, command } => {
                    self.heard.push(format!("{command:?}"));
                    if let Some(told) = &self.told {
                        let _ = told.send(command);
                    }
                    self.actions.push_back(Action::Answer { ask, reply: Reply::Draining { calls: 0 } });
                    self.actions.push_back(Action::Drained);
                }
                other => self.heard.push(format!("{other:?}")),
            }
        }

        fn handle_timeout(&mut self, now: Time) {
            if self.deadline.is_some_and(|d| d <= now) {
                self.deadline = None;
                self.fired += 1;
            }
        }

        fn next_deadline(&self) -> Option<Time> {
            self.deadline
        }

        fn poll_action(&mut self) -> Option<Action> {
            self.actions.pop_front()
        }
    }

    struct Nowhere;

    impl Doors for Nowhere {
        fn bind_ports(&mut self, _: usize, _: bool) {}
        fn media(&mut self, _: CallHandle, _: Side, _: MediaOrder) {}
        fn signal(&mut self, _: CallHandle, _: u8, _: Signal, _: Time) {}
        fn cancel_signal(&mut self, _: CallHandle) {}
        fn resolve(&mut self, _: QueryId, _: &CompactString) -> bool {
            false
        }
        fn answer(&mut self, _: AskId, _: Reply) {}
        fn report(&mut self, _: Box<CallEvent>) {}
    }

    impl<C: Core> Shell<C> {
        pub fn core(&mut self) -> &mut C {
            &mut self.core
        }
    }

    /// `allow`: one network, as `192.0.2.0/24`.
    pub fn desk_with(udp: Vec<UdpPort>, allow: &str) -> Desk<StubCore> {
        let (network, prefix) = allow.split_once('/').unwrap();
        let allow = Allow { network: network.parse().unwrap(), prefix: prefix.parse().unwrap(), port: None };
        let core = StubCore::default();
        Desk::new(Shell::new(core, Clock::start(), udp, Admission::new(vec![allow]), Box::new(Nowhere), Vec::new()))
    }

    /// From now on it has TLS.
    pub fn give_tls(desk: &Desk<StubCore>, config: crate::config::Config) {
        desk.with(|shell| shell.start_handshakes = Box::new(move || Handshakes::start(&config)));
    }

    pub fn on_one_thread(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bounded = async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() };
        tokio::task::LocalSet::new().block_on(&runtime, bounded);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::testing::StubCore;
    use super::testing::desk_with;
    use super::testing::on_one_thread;
    use super::*;
    use crate::b2bua::io::Entry;
    use crate::edge::sip::stream::CONNECTIONS_DIALLED_MAX;
    use crate::ids::CONN_DIALLED;
    use crate::ids::RecordId;

    fn after(desk: &Desk<StubCore>, action: Action) -> Vec<String> {
        desk.with(|shell| shell.core().actions.push_back(action));
        desk.start();
        desk.with(|shell| std::mem::take(&mut shell.core().heard))
    }

    #[test]
    fn what_an_action_comes_to_is_handed_in_when_the_actions_are_drained() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let entry = Entry::SignalSettled { call: CallHandle(1), outcome: "delivered" };
            assert_eq!(after(&desk, Action::Record { record: RecordId(4), entry }), ["Recorded { up_to: RecordId(4) }"]);
            let literal = after(&desk, Action::Resolve { query: QueryId(1), name: "127.0.0.1".into() });
            assert_eq!(literal, ["Resolved { query: QueryId(1), result: Ok([Reach { ip: 127.0.0.1, local: 127.0.0.1, at: None }]) }"]);
            let refused = after(&desk, Action::Resolve { query: QueryId(2), name: "x.invalid".into() });
            assert_eq!(refused, ["Resolved { query: QueryId(2), result: Err(\"too many names are being resolved\") }"]);
            let flow = Flow::Stream(ConnId(99));
            let lost = after(&desk, Action::Send { flow, bytes: Bytes::from_static(b"x") });
            assert_eq!(lost, ["lost Closed(\"not connected\")"]);
        });
    }

    #[test]
    fn one_dial_too_many_is_told_to_the_core_as_one_that_failed() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let taken = |n: usize| ConnId(CONN_DIALLED | n as u64);
            desk.with(|shell| assert!((1..=CONNECTIONS_DIALLED_MAX).all(|n| shell.streams.dialling(taken(n)).is_some())));
            let target = Target { transport: crate::call::rules::Transport::Tcp, addr: "127.0.0.1:9".parse().unwrap() };
            let lost = after(&desk, Action::Dial { conn: ConnId(CONN_DIALLED), target, name: CompactString::default() });
            assert_eq!(lost, ["lost NotConnected(\"too many connections are dialled\")"]);
        });
    }

    #[test]
    fn a_deadline_set_while_the_timekeeper_sleeps_is_kept() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            tokio::task::spawn_local(desk.clone().keep_time());
            tokio::task::yield_now().await;
            desk.with(|shell| {
                let soon = shell.clock.now() + Duration::from_millis(5);
                shell.core().deadline = Some(soon + Duration::from_secs(3600));
            });
            desk.start();
            tokio::task::yield_now().await;
            // An earlier one while it sleeps for the later one.
            desk.with(|shell| shell.core().deadline = Some(shell.clock.now() + Duration::from_millis(5)));
            desk.start();
            while desk.with(|shell| shell.core().fired) == 0 {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn a_node_is_prepared_when_its_targets_and_ports_were_answered() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let names = [TargetName("sip.example".into())];
            let is_prepared = || async { tokio::time::timeout(Duration::ZERO, desk.prepared(&names)).await.is_ok() };
            after(&desk, Action::BindPorts { count: 8, v6: false });
            desk.give(Input::Targets { name: names[0].clone(), result: Err("dead".into()) });
            assert!(!is_prepared().await);
            desk.give(Input::PortsBound { pairs: Vec::new(), exhausted: true });
            assert!(is_prepared().await);
        });
    }

    #[test]
    fn a_flood_of_dropped_messages_is_one_line_a_second_and_source_and_not_many_altogether() {
        let mut lines = DropLines::default();
        let (now, source) = (Time::from_micros(7_000_000), "192.0.2.1:5060".parse().unwrap());
        (0..5).for_each(|_| lines.say(source, "stranger", now));
        assert_eq!((lines.take_silent(), lines.said.len()), (4, 1));
        let forged = |n: usize| SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 5060));
        (1..=DROP_LINES_PER_SECOND_MAX).for_each(|n| lines.say(forged(n), "stranger", now));
        assert_eq!((lines.take_silent(), lines.said.len()), (1, DROP_LINES_PER_SECOND_MAX));
        lines.say(source, "stranger", now + Duration::from_secs(1));
        assert_eq!(lines.take_silent(), 0);
    }

    #[test]
    fn a_resolved_target_may_connect_and_a_failed_refresh_does_not_lock_it_out() {
        let mut admission = Admission::default();
        let (name, target) = (TargetName("sip.example".into()), "192.0.2.9:40000".parse().unwrap());
        assert!(!admission.admits(target));
        let ip = "192.0.2.9".parse().unwrap();
        admission.learn(&name, &[Reach { ip, local: ip, at: None }]);
        assert!(admission.admits(target));
        assert!(admission.admits("[::ffff:192.0.2.9]:5060".parse().unwrap()));
        admission.learn(&name, &[]);
        assert!(admission.admits(target));
    }
}
