//! The main job: bind, start the threads, run the core, drain, leave.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand_core::OsRng;
use rand_core::TryRngCore;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::b2bua::B2bua;
use crate::b2bua::io::Command;
use crate::b2bua::io::Input;
use crate::b2bua::io::Reply;
use crate::call::rules::TargetName;
use crate::call::rules::Transport;
use crate::config::Config;
use crate::config::Listen;
use crate::edge::clock::Clock;
use crate::edge::core_loop::Admission;
use crate::edge::core_loop::Core;
use crate::edge::core_loop::Desk;
use crate::edge::core_loop::Dropped;
use crate::edge::core_loop::Shell;
use crate::edge::doors::Answers;
use crate::edge::doors::Outside;
use crate::edge::limits;
use crate::edge::memory;
use crate::edge::sip::bind_tcp;
use crate::edge::sip::bind_udp;
use crate::edge::sip::tcp;
use crate::edge::sip::tls::Handshakes;
use crate::edge::sip::udp;
use crate::edge::sip::udp::UdpPort;
use crate::ids::ListenerId;
use crate::ops::log;
use crate::ops::log::Destination;
use crate::ops::log::EventSink;
use crate::ops::log::LogGuard;
use crate::ops::log::LogHandle;
use crate::ops::log::LogSettings;
use crate::ops::redact::Redactor;
use crate::time::Time;

/// Inputs of other threads that wait for the core, at least; a call has at most a few under way.
pub const INPUTS_WAITING_MIN: usize = 8192;

/// Inputs that one call can have under way: each side's media events, a signal's answer.
const INPUTS_PER_CALL_MAX: usize = 8;

/// Commands that wait for the core.
const COMMANDS_WAITING_MAX: usize = 64;

/// How long the start waits for the first answer about each target, and for the first ports.
const PREPARATION_MAX: Duration = Duration::from_secs(3);

/// After a forced drain: what has not ended by then is left.
const FORCED_DRAIN_MAX: Duration = Duration::from_secs(5);

/// What was sent last may take so long to leave.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(1);

/// After so many looks in a row that found nothing going on, all that a burst left behind has been handed back.
const LOOKS_AT_REST_MAX: u32 = 6;

/// How often drops are said, when there were any.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(10);

/// Why the node did not start; the text says what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn failed(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |e| StartError(format!("{what}: {e}"))
}

/// How to run, besides the configuration.
#[derive(Default)]
pub struct ServeOptions {
    /// Make a fact of each SIP message, for ladders.
    pub report_messages: bool,
    /// Sees every call event on the log's thread.
    pub event_sink: Option<EventSink>,
    /// No lines: events only reach the sink.
    pub quiet: bool,
    /// Told once everything is bound and the targets were asked.
    pub ready: Option<std::sync::mpsc::Sender<Bound>>,
    /// The other end of a `Remote`: stop and ask from another thread.
    pub remote: Option<RemoteEnd>,
    /// Obey SIGTERM, SIGINT and SIGHUP: for a process of its own.
    pub signals: bool,
}

/// What is listened on: the ports are the real ones where the configuration said 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound {
    pub listeners: Vec<Listen>,
}

type Request = (Command, Option<oneshot::Sender<Reply>>);

/// Asks a running node from another thread.
#[derive(Clone, Debug)]
pub struct Remote {
    commands: mpsc::Sender<Request>,
}

/// The node's end of a `Remote`.
#[derive(Debug)]
pub struct RemoteEnd(mpsc::Receiver<Request>);

impl Remote {
    pub fn new() -> (Remote, RemoteEnd) {
        let (commands, end) = mpsc::channel(COMMANDS_WAITING_MAX);
        (Remote { commands }, RemoteEnd(end))
    }

    /// Waits for the core's reply; `None` when the node is gone or has too much to do. Not inside a runtime.
    pub fn ask(&self, command: Command) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send((command, Some(reply))).ok()?;
        answer.blocking_recv().ok()
    }

    /// Ends the node; `within` is what running calls may take.
    pub fn drain(&self, within: Duration) {
        let _ = self.commands.try_send((Command::Drain { within }, None));
    }
}

/// Runs a node on this thread until it is drained.
pub fn run(config: Arc<Config>, options: ServeOptions) -> Result<(), StartError> {
    let mut seed = [0u8; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(|e| StartError(format!("random numbers: {e}")))?;
    let report_messages = options.report_messages;
    run_core(config, options, |config, now| B2bua::new(config, seed, 0, report_messages, now))
}

/// `node.state_dir`: created if missing (product.md §1).
fn make_state_dir(config: &Config) -> Result<(), StartError> {
    let dir = &config.node.state_dir;
    std::fs::create_dir_all(dir).map_err(failed(format!("node.state_dir: {} cannot be created", dir.display())))
}

/// As `run`, with a core of the caller's: sockets can be tested with a small one.
fn run_core<C: Core>(config: Arc<Config>, mut options: ServeOptions, core: impl FnOnce(Arc<Config>, Time) -> C) -> Result<(), StartError> {
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("runtime"))?;
    // Better said at the start than by a call that gets no port.
    if let Some(why) = limits::shortage(limits::raise_nofile(), config.node.max_calls) {
        return Err(StartError(why));
    }
    make_state_dir(&config)?;
    let (log, guard) = start_log(&config, &mut options, clock)?;
    let tasks = LocalSet::new();
    let ran = tasks.block_on(&runtime, serve(config, options, clock, log, core));
    // Sockets close, and the threads behind channels end, when what holds them is dropped.
    drop(tasks);
    drop(runtime);
    guard.finish(LAST_FLUSH_MAX);
    ran
}

fn start_log(config: &Config, options: &mut ServeOptions, clock: Clock) -> Result<(LogHandle, LogGuard), StartError> {
    let destination = match (&config.log.file, options.quiet) {
        (_, true) => Destination::Nowhere,
        (Some(path), false) => Destination::File(path.clone()),
        (None, false) => Destination::Stdout,
    };
    let settings = LogSettings {
        format: config.log.format,
        level: config.log.level.clone(),
        redactor: Redactor::new(config.log.redact, &config.node.name),
        destination,
    };
    let started = log::start(settings, clock, options.event_sink.take()).map_err(failed("log"))?;
    // Only the first node of a process gets its plain lines; a second one is a test's.
    started.0.install();
    Ok(started)
}

/// What was bound, in the order of `sip.listen`.
struct Sockets {
    listeners: Vec<Listen>,
    udp: Vec<UdpPort>,
    /// With TLS or without.
    tcp: Vec<(tokio::net::TcpListener, bool)>,
}

impl Sockets {
    fn bind(listen: &[Listen]) -> Result<Sockets, StartError> {
        let mut sockets = Sockets { listeners: Vec::new(), udp: Vec::new(), tcp: Vec::new() };
        for (place, one) in listen.iter().enumerate() {
            let what = format!("cannot listen on {}://{}", one.transport.as_str().to_ascii_lowercase(), one.addr);
            let bound = sockets.bind_one(place, one).map_err(failed(what))?;
            sockets.listeners.push(Listen { transport: one.transport, addr: bound });
        }
        Ok(sockets)
    }

    fn bind_one(&mut self, place: usize, one: &Listen) -> io::Result<SocketAddr> {
        match one.transport {
            Transport::Udp => {
                let id = u16::try_from(place).map_err(|_| io::Error::other("more than 65,536 listeners"))?;
                let port = UdpPort::new(ListenerId(id), bind_udp(one.addr)?)?;
                let bound = port.bound;
                self.udp.push(port);
                Ok(bound)
            }
            Transport::Tcp | Transport::Tls => {
                let secure = one.transport == Transport::Tls;
                // UDP and TCP with port 0 at one address share what the kernel chose: a URI names one port for both.
                let chosen = self
                    .listeners
                    .iter()
                    .find(|l| !secure && one.addr.port() == 0 && l.transport != Transport::Tls && l.addr.ip() == one.addr.ip());
                let addr = chosen.map_or(one.addr, |l| l.addr);
                let listener = tokio::net::TcpListener::from_std(bind_tcp(addr)?)?;
                let bound = listener.local_addr()?;
                self.tcp.push((listener, secure));
                Ok(bound)
            }
        }
    }
}

async fn serve<C: Core>(
    config: Arc<Config>,
    options: ServeOptions,
    clock: Clock,
    log: LogHandle,
    core: impl FnOnce(Arc<Config>, Time) -> C,
) -> Result<(), StartError> {
    let sockets = Sockets::bind(&config.sip.listen)?;
    let bound = Bound { listeners: sockets.listeners.clone() };
    let mut config = Arc::unwrap_or_clone(config);
    config.sip.listen.clone_from(&bound.listeners);
    let config = Arc::new(config);
    let names = target_names(&config);

    let (inputs, heard) = mpsc::channel(INPUTS_WAITING_MIN.max(config.node.max_calls.saturating_mul(INPUTS_PER_CALL_MAX)));
    let answers = Answers::default();
    let doors = Outside::start(&config, &inputs, clock, log.clone(), answers.clone())?;
    drop(inputs);

    let udp_ids: Vec<ListenerId> = sockets.udp.iter().map(|p| p.id).collect();
    let allow = config.cxone.allow.iter().chain(&config.synthflow.allow).copied().collect();
    let dial_from = bound.listeners.iter().map(|l| l.addr).collect();
    let shell = Shell::new(core(config.clone(), clock.now()), clock, sockets.udp, Admission::new(allow), Box::new(doors), dial_from);
    let own = config.clone();
    let mut shell = shell.with_tls(Box::new(move || Handshakes::start(&own)));
    if config.sip.listen.iter().any(|l| l.transport == Transport::Tls) {
        shell.handshakes().map_err(|e| StartError(format!("tls: {e}")))?;
    }
    let desk = Desk::new(shell);
    for (place, listener) in bound.listeners.iter().enumerate() {
        let id = ListenerId(u16::try_from(place).unwrap_or(u16::MAX));
        desk.give(Input::Listening { listener: id, transport: listener.transport, local: listener.addr });
    }
    desk.start();
    tokio::task::spawn_local(desk.clone().keep_time());
    tokio::task::spawn_local(desk.clone().hear(heard));
    let leave = Rc::new(Notify::new());
    let orders = Orders { desk: desk.clone(), answers, leave: leave.clone(), drain_deadline: config.node.drain_deadline };
    if options.signals {
        let kinds = Signals::install().map_err(failed("signals"))?;
        tokio::task::spawn_local(orders.clone().obey_signals(kinds, log));
    }
    if let Some(remote) = options.remote {
        tokio::task::spawn_local(orders.obey_remote(remote));
    }

    // A dead name server is no reason to wait longer.
    let _ = tokio::time::timeout(PREPARATION_MAX, desk.prepared(&names)).await;
    for id in udp_ids {
        tokio::task::spawn_local(udp::serve(desk.clone(), id));
    }
    for (listener, secure) in sockets.tcp {
        tokio::task::spawn_local(tcp::accept(desk.clone(), listener, secure));
    }
    tokio::task::spawn_local(keep_house(desk.clone()));
    say_ready(&config, &bound);
    if let Some(ready) = options.ready {
        let _ = ready.send(bound);
    }

    tokio::select! {
        () = desk.drained() => tracing::info!("drain.ended"),
        () = leave.notified() => tracing::warn!("drain.abandoned"),
    }
    let _ = tokio::time::timeout(LAST_FLUSH_MAX, flushed(&desk)).await;
    Ok(())
}

/// The hosts of `target` and `fallback`, each once.
fn target_names(config: &Config) -> Vec<TargetName> {
    let mut names: Vec<TargetName> = Vec::new();
    for target in &config.synthflow.targets {
        if !names.contains(&target.name) {
            names.push(target.name.clone());
        }
    }
    names
}

/// One line for each door, so that a wrong address is seen before the first call.
fn say_ready(config: &Config, bound: &Bound) {
    for listener in &bound.listeners {
        let own = config.sip.advertise.iter().find(|a| a.is_ipv4() == listener.addr.is_ipv4());
        let advertise = match own {
            Some(ip) => ip.to_string(),
            None if listener.addr.ip().is_unspecified() => "our address towards each peer".to_owned(),
            None => listener.addr.ip().to_string(),
        };
        let transport = listener.transport.as_str().to_ascii_lowercase();
        tracing::info!(transport, addr = %listener.addr, advertise, "sip.listening");
    }
    for target in &config.synthflow.targets {
        let transport = target.transport.as_str().to_ascii_lowercase();
        tracing::info!(host = %target.name.0, port = u64::from(target.port), transport, "synthflow.target");
    }
    let api = if config.api.base_url.is_empty() { &config.api.issuer } else { &config.api.base_url };
    tracing::info!(base = api.as_str(), version = config.api.version.as_str(), "cxone.api");
    tracing::info!(node = config.node.name.as_str(), max_calls = config.node.max_calls as u64, "ready");
}

async fn flushed<C: Core>(desk: &Desk<C>) {
    while !desk.with(|shell| shell.is_flushed()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What comes round: counters of drops are said, and the memory of a burst goes back to the system once it is over.
async fn keep_house<C: Core>(desk: Desk<C>) {
    let mut looks_at_rest = LOOKS_AT_REST_MAX;
    loop {
        tokio::time::sleep(DROPS_SAID_EVERY).await;
        let rests = desk.with(|shell| shell.is_at_rest());
        looks_at_rest = if rests { looks_at_rest.saturating_add(1) } else { 0 };
        // Not once only: the last transactions end, and free what they hold, after the first look that finds the core at rest.
        if rests && looks_at_rest < LOOKS_AT_REST_MAX {
            memory::give_back();
        }
        let dropped = desk.with(|shell| shell.take_dropped());
        if dropped != Dropped::default() {
            let Dropped { strangers, full, messages, unroutable, datagrams } = dropped;
            tracing::warn!(strangers, full, messages, unroutable, datagrams, "sip.dropped");
        }
    }
}

/// The process's signals that we obey.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { terminate, interrupt, hangup: signal(SignalKind::hangup())? })
    }
}

/// What people want of the running node.
struct Orders<C: Core> {
    desk: Desk<C>,
    answers: Answers,
    leave: Rc<Notify>,
    drain_deadline: Duration,
}

impl<C: Core> Clone for Orders<C> {
    fn clone(&self) -> Self {
        Orders { desk: self.desk.clone(), answers: self.answers.clone(), leave: self.leave.clone(), drain_deadline: self.drain_deadline }
    }
}

impl<C: Core> Orders<C> {
    /// The first SIGTERM or SIGINT drains, the second ends the calls, the third leaves. SIGHUP opens the log file anew.
    async fn obey_signals(self, mut signals: Signals, log: LogHandle) {
        let mut stops = 0u32;
        loop {
            tokio::select! {
                Some(()) = signals.terminate.recv() => stops += 1,
                Some(()) = signals.interrupt.recv() => stops += 1,
                Some(()) = signals.hangup.recv() => {
                    log.reopen();
                    tracing::info!("log.reopened");
                    continue;
                }
                else => return,
            }
            match stops {
                1 => self.ask(Command::Drain { within: self.drain_deadline }, None),
                2 => self.ask(Command::Drain { within: Duration::ZERO }, None),
                _ => self.leave.notify_one(),
            }
        }
    }

    async fn obey_remote(self, mut remote: RemoteEnd) {
        while let Some((command, reply)) = remote.0.recv().await {
            self.ask(command, reply);
        }
    }

    fn ask(&self, command: Command, reply: Option<oneshot::Sender<Reply>>) {
        if command == (Command::Drain { within: Duration::ZERO }) {
            let leave = self.leave.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FORCED_DRAIN_MAX).await;
                leave.notify_one();
            });
        }
        let ask = self.answers.expect(reply);
        self.desk.ask(ask, command);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::path::Path;

    use super::*;
    use crate::edge::core_loop::testing::StubCore;

    fn config() -> Arc<Config> {
        let text = "[sip]\nlisten = [\"udp://127.0.0.1:5060\", \"tcp://127.0.0.1:5060\"]\n[cxone]\nallow = [\"127.0.0.1\"]\n\
                    [synthflow]\ntarget = \"sip:127.0.0.1:5070\"\n[escalation]\naccept = []\n";
        let none = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        let mut config = Config::parse(text, Path::new("config.toml"), &|_| None, &none).unwrap().config;
        config.sip.listen.iter_mut().for_each(|l| l.addr.set_port(0));
        Arc::new(config)
    }

    #[test]
    fn a_node_says_its_ports_answers_and_leaves_when_drained() {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (remote, end) = Remote::new();
        let options = ServeOptions { quiet: true, ready: Some(ready), remote: Some(end), ..ServeOptions::default() };
        let node = std::thread::spawn(move || run_core(config(), options, |_, _| StubCore::default()));
        let bound = is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(bound.listeners.len(), 2);
        // One URI names both transports.
        assert_eq!(bound.listeners[0].addr, bound.listeners[1].addr);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.send_to(b"hello", bound.listeners[0].addr).unwrap();
        let mut back = [0u8; 16];
        assert_eq!(peer.recv(&mut back).unwrap(), 5);
        assert_eq!(remote.ask(Command::Drain { within: Duration::from_secs(1) }), Some(Reply::Draining { calls: 0 }));
        assert_eq!(node.join().unwrap(), Ok(()));
        assert_eq!(remote.ask(Command::Counts), None);
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_cause() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = Listen { transport: Transport::Udp, addr: taken.local_addr().unwrap() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let why = runtime.block_on(async { Sockets::bind(&[listen]).err().unwrap() });
        assert!(why.0.starts_with(&format!("cannot listen on udp://{}: ", listen.addr)), "{why}");
        assert!(why.0.contains("in use"), "{why}");
    }

    #[test]
    fn sighup_opens_the_log_anew_and_sigterm_drains() {
        use rustix::process::Signal;
        let file = std::env::temp_dir().join(format!("backchannel-serve-{}", std::process::id()));
        let mut config = Arc::unwrap_or_clone(config());
        config.log.file = Some(file.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let options = ServeOptions { ready: Some(ready), signals: true, ..ServeOptions::default() };
        let (told, commands) = std::sync::mpsc::channel();
        let node =
            std::thread::spawn(move || run_core(Arc::new(config), options, |_, _| StubCore { told: Some(told), ..StubCore::default() }));
        is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
        std::fs::remove_file(&file).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, Signal::HUP).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !file.exists() {
            assert!(std::time::Instant::now() < until, "the log file did not come back");
            std::thread::yield_now();
        }
        rustix::process::kill_process(own, Signal::TERM).unwrap();
        assert_eq!(node.join().unwrap(), Ok(()));
        std::fs::remove_file(&file).unwrap();
        // `node.drain_deadline`
        assert_eq!(commands.try_iter().last(), Some(Command::Drain { within: Duration::from_secs(3600) }));
    }

    #[test]
    fn one_command_more_than_may_wait_is_refused_at_once() {
        let (remote, _end) = Remote::new();
        for _ in 0..COMMANDS_WAITING_MAX {
            remote.drain(Duration::ZERO);
        }
        assert_eq!(remote.ask(Command::Counts), None);
    }

    /// A far end on loopback.
    struct Far(UdpSocket);

    impl Far {
        fn new() -> Far {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Far(socket)
        }

        fn addr(&self) -> SocketAddr {
            self.0.local_addr().unwrap()
        }

        /// The next message that starts so; others are repetitions and provisional answers.
        fn gets(&self, start: &str) -> String {
            let mut seen = Vec::new();
            let mut buffer = [0u8; 65_535];
            loop {
                let len = self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("{start}: {e}, after {seen:?}"));
                let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
                if text.starts_with(start) {
                    return text;
                }
                seen.push(text);
            }
        }

        fn sdp(&self) -> String {
            let port = self.addr().port() & !1;
            format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
            )
        }
    }

    fn line<'a>(message: &'a str, name: &str) -> &'a str {
        message.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap_or_else(|| panic!("no {name} in {message}"))
    }

    fn answer(request: &str, status: &str, more: &str, body: &str) -> String {
        let same: String = ["Via", "From", "Call-ID", "CSeq"].iter().map(|n| format!("{}\r\n", line(request, n))).collect();
        let to = line(request, "To");
        let tag = if to.contains("tag=") { "" } else { ";tag=far" };
        format!("SIP/2.0 {status}\r\n{same}{to}{tag}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_call_goes_through_real_sockets_and_the_node_drains() {
        let (cxone, synthflow) = (Far::new(), Far::new());
        let text = format!(
            "[node]\nmax_calls = 100\n[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n[media]\nports = \"23000-23099\"\n\
             [cxone]\nallow = [\"127.0.0.1\"]\n[synthflow]\ntarget = \"sip:127.0.0.1:{};transport=udp\"\n[escalation]\naccept = []\n",
            synthflow.addr().port()
        );
        let mut config = Config::parse(&text, Path::new("config.toml"), &|_| None, &|_| Err(io::Error::other("none"))).unwrap().config;
        config.sip.listen[0].addr.set_port(0);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (remote, end) = Remote::new();
        let (facts, told) = std::sync::mpsc::channel();
        let event_sink: EventSink = Box::new(move |event| {
            let _ = facts.send(event.fact.word());
        });
        let options =
            ServeOptions { quiet: true, ready: Some(ready), remote: Some(end), event_sink: Some(event_sink), ..ServeOptions::default() };
        let node = std::thread::spawn(move || run(Arc::new(config), options));
        let ours = is_ready.recv_timeout(Duration::from_secs(10)).unwrap().listeners[0].addr;

        let (from, sdp) = (cxone.addr(), cxone.sdp());
        let head = |method: &str, to_tag: &str, cseq: u32| {
            format!(
                "{method} sip:+12065551234@{ours} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}{cseq}\r\nMax-Forwards: 70\r\n\
                 From: <sip:+12065550123@{from}>;tag=cx\r\nTo: <sip:+12065551234@{ours}>{to_tag}\r\nCall-ID: live@cx\r\nCSeq: {cseq} {method}\r\n\
                 Contact: <sip:{from}>\r\n"
            )
        };
        let body = format!("X-Contact-ID: 48812\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
        cxone.0.send_to((head("INVITE", "", 1) + &body).as_bytes(), ours).unwrap();
        let invite = synthflow.gets("INVITE ");
        assert!(line(&invite, "X-EI").contains("E.48812;"), "{invite}");
        assert!(invite.contains(&format!("{ours}")) && !invite.contains(&from.to_string()), "{invite}");
        let more = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", synthflow.addr());
        synthflow.0.send_to(answer(&invite, "200 OK", &more, &synthflow.sdp()).as_bytes(), ours).unwrap();
        let ok = cxone.gets("SIP/2.0 200");
        let tag = line(&ok, "To").split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).unwrap();
        cxone.0.send_to((head("ACK", &tag, 1) + "Content-Length: 0\r\n\r\n").as_bytes(), ours).unwrap();
        synthflow.gets("ACK ");
        cxone.0.send_to((head("BYE", &tag, 2) + "Content-Length: 0\r\n\r\n").as_bytes(), ours).unwrap();
        cxone.gets("SIP/2.0 200");
        let bye = synthflow.gets("BYE ");
        synthflow.0.send_to(answer(&bye, "200 OK", "", "").as_bytes(), ours).unwrap();

        remote.drain(Duration::from_secs(5));
        assert_eq!(node.join().unwrap(), Ok(()));
        let words: Vec<&str> = told.try_iter().collect();
        for word in ["call.offered", "call.dialled", "call.answered", "call.ended"] {
            assert_eq!(words.iter().filter(|w| **w == word).count(), 1, "{word} in {words:?}");
        }
    }
}
