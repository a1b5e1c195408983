//! Sets up the four ends on loopback, plays the call, and takes them down again. Bounded by `DEMO_TIME_MAX`.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::b2bua::io::Command;
use crate::b2bua::io::Counts;
use crate::b2bua::io::Reply;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::cli::demo::checks::CONTEXT;
use crate::cli::demo::checks::PACKETS;
use crate::cli::demo::checks::QUEUE;
use crate::cli::demo::checks::Seen;
use crate::cli::demo::checks::checks;
use crate::config::Config;
use crate::edge::serve;
use crate::edge::serve::Bound;
use crate::edge::serve::Remote;
use crate::edge::serve::ServeOptions;
use crate::edge::serve::StartError;
use crate::mock::carrier::Carrier;
use crate::mock::carrier::CarrierCall;
use crate::mock::carrier::CarrierEvent;
use crate::mock::carrier::HangUp;
use crate::mock::carrier::hang_up;
use crate::mock::cxone::MockCxone;
use crate::mock::cxone::MockCxoneEvent;
use crate::mock::cxone::MockCxoneOptions;
use crate::mock::cxone::MockSignal;
use crate::mock::rtp::Play;
use crate::mock::synthflow::MockSynthflow;
use crate::mock::synthflow::SynthflowEvent;
use crate::mock::synthflow::SynthflowOptions;
use crate::report::CallEvent;
use crate::transaction::Timers;

/// The whole demo; a good one takes two seconds.
pub const DEMO_TIME_MAX: Duration = Duration::from_secs(20);

/// What of it may pass until the call is over; the rest is for the end of the node.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// Until the core has let go of what the call held.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(1);

/// A second of audio, and a little more, so that all of it is through before CXone hangs up.
const REFER_AFTER: Duration = Duration::from_millis(1_150);

/// From the signal to End Call in the parent script.
const END_CALL_AFTER: Duration = Duration::from_millis(300);

/// Between two looks at what the core still holds.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Events that wait to be seen.
const EVENTS_WAITING_MAX: usize = 4096;

/// Pairs of media ports that the node gets.
const MEDIA_PORTS: u16 = 64;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What the demo plays; a test lets it go wrong.
pub struct Script {
    /// Synthflow's side.
    pub bot: SynthflowOptions,
    /// What may pass until the call is over.
    pub call_time: Duration,
}

impl Default for Script {
    fn default() -> Script {
        let bot = SynthflowOptions {
            tcp: Some(SocketAddr::from((LOOPBACK, 0))),
            play: Play::Tone,
            ring: true,
            refer: Some(QUEUE.to_owned()),
            after: REFER_AFTER,
            ..SynthflowOptions::default()
        };
        Script { bot, call_time: CALL_TIME_MAX }
    }
}

enum Event {
    Trunk(CarrierEvent),
    Bot(SynthflowEvent),
    Signal(MockSignal),
    Fact(Box<CallEvent>),
}

/// Plays the call. An error says what kept it from coming to its end; what was seen until then is in `seen`.
pub fn play(script: Script, seen: &mut Seen) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("runtime: {e}"))?;
    let state = StateDir::new();
    let deadline = std::time::Instant::now() + DEMO_TIME_MAX;
    let played = runtime.block_on(act(script, seen, &state.0, deadline.into()));
    // A thread that still waits for a node that hangs is not waited for.
    runtime.shutdown_background();
    played
}

/// Removed at the end, whatever happened.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> StateDir {
        // Two in one process must not meet either.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        StateDir(std::env::temp_dir().join(format!("backchannel-demo-{}-{number}", std::process::id())))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // It is not there when the node did not come so far.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn act(script: Script, seen: &mut Seen, state_dir: &Path, deadline: Instant) -> Result<(), String> {
    let (say, mut events) = mpsc::channel(EVENTS_WAITING_MAX);
    let (hang_up, ear) = hang_up();
    // Dropped at the end of this function, which ends the mocks.
    let mut mocks = JoinSet::new();
    let api = start_api(&mut mocks, say.clone(), hang_up).await.map_err(|e| format!("mock cxone: {e}"))?;
    let synthflow = start_synthflow(&mut mocks, script.bot, say.clone()).await.map_err(|e| format!("mock synthflow: {e}"))?;
    let config = config(state_dir, &api, synthflow)?;
    let node = Node::start(config, say.clone()).await?;

    let carrier = Carrier::bind(SocketAddr::from((LOOPBACK, 0)), None, Timers::default()).await;
    let carrier = carrier.map_err(|e| format!("mock carrier: {e}"))?;
    let trunk = carrier.handle().map_err(|e| format!("mock carrier: {e}"))?;
    mocks.spawn(carrier.run());
    let call = carrier_call(node.trunk_target()?);
    mocks.spawn(async move {
        let placed = trunk.call(call, ear, |event| drop(say.try_send(Event::Trunk(event)))).await;
        if let Err(e) = placed {
            eprintln!("mock carrier: {e}");
        }
    });

    let over = watch(seen, &mut events, (Instant::now() + script.call_time).min(deadline)).await;
    seen.counts = node.settled((Instant::now() + SETTLE_TIME_MAX).min(deadline)).await;
    let stopped = node.stop(deadline).await;
    // The log's thread hands over the last facts before the node ends.
    while let Ok(event) = events.try_recv() {
        take(seen, event);
    }
    if !over {
        let missing: Vec<String> = checks(seen).iter().filter(|c| !c.is_right()).map(|c| format!("\n  {c}")).collect();
        return Err(format!("the call was not over after {} s; what did not happen:{}", script.call_time.as_secs(), missing.concat()));
    }
    stopped
}

async fn start_api(mocks: &mut JoinSet<()>, say: mpsc::Sender<Event>, hang_up: HangUp) -> io::Result<String> {
    let mock = MockCxone::bind(MockCxoneOptions::default()).await?;
    let url = mock.url();
    mocks.spawn(async move {
        let served = mock.run(move |event| {
            let MockCxoneEvent::Signal(signal) = event else { return };
            if signal.status.is_some_and(|status| status / 100 == 2) {
                tokio::spawn(end_call(hang_up.clone()));
            }
            let _ = say.try_send(Event::Signal(signal));
        });
        if let Err(e) = served.await {
            eprintln!("mock cxone: {e}");
        }
    });
    Ok(url)
}

/// ONSIGNAL: the parent script takes the caller back.
async fn end_call(hang_up: HangUp) {
    sleep(END_CALL_AFTER).await;
    hang_up.now();
}

async fn start_synthflow(mocks: &mut JoinSet<()>, options: SynthflowOptions, say: mpsc::Sender<Event>) -> io::Result<SocketAddr> {
    let (addresses, mock) = MockSynthflow::bind(options).await?;
    mocks.spawn(mock.run(move |_, event| drop(say.try_send(Event::Bot(event)))));
    addresses.tcp.ok_or_else(|| io::Error::other("not bound"))
}

fn carrier_call(target: Target) -> CarrierCall {
    CarrierCall {
        target,
        number: "+12065551234".to_owned(),
        from: "+12065550123".to_owned(),
        headers: CONTEXT.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        play: Play::Tone,
        packets: PACKETS,
    }
}

/// What a user would write, read as `serve` reads it.
fn config(state_dir: &Path, api: &str, synthflow: SocketAddr) -> Result<Config, String> {
    let media = media_ports().map_err(|e| format!("media ports: {e}"))?;
    let state_dir = state_dir.display();
    let text = format!(
        "[node]\nname = \"demo\"\nstate_dir = '{state_dir}'\n\
         [sip]\nlisten = [\"udp://{LOOPBACK}:5060\", \"tcp://{LOOPBACK}:5060\"]\n\
         [media]\nports = \"{media}-{}\"\n\
         [cxone]\nallow = [\"{LOOPBACK}\"]\n\
         [cxone.api]\nissuer = \"{api}\"\nclient_id = \"demo\"\nclient_secret = \"demo\"\naccess_key_id = \"demo\"\n\
         access_key_secret = \"demo\"\n\
         [synthflow]\ntarget = \"sip:{synthflow};transport=tcp\"\n\
         [escalation.queues]\n{QUEUE} = \"{QUEUE}\"\n",
        media + MEDIA_PORTS - 1
    );
    let no_file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let mut config = Config::parse(&text, Path::new("demo.toml"), &|_| None, &no_file).map_err(|e| e.to_string())?.config;
    // A user names a port; here the kernel chooses one, so that the demo runs beside a node.
    config.sip.listen.iter_mut().for_each(|listen| listen.addr.set_port(0));
    Ok(config)
}

/// The even start of a range near a port that the kernel gives away just now.
fn media_ports() -> io::Result<u16> {
    let near = UdpSocket::bind((LOOPBACK, 0))?.local_addr()?.port();
    Ok(near.min(u16::MAX - MEDIA_PORTS) & !1)
}

async fn watch(seen: &mut Seen, events: &mut mpsc::Receiver<Event>, until: Instant) -> bool {
    while !seen.is_over() {
        match timeout_at(until, events.recv()).await {
            Ok(Some(event)) => take(seen, event),
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

fn take(seen: &mut Seen, event: Event) {
    match event {
        Event::Trunk(event) => seen.trunk.push(event),
        Event::Bot(event) => seen.bot.push(event),
        Event::Signal(signal) => seen.signals.push(signal),
        Event::Fact(event) => seen.facts.push(*event),
    }
}

/// The real server, on a thread of its own as in `serve`.
struct Node {
    thread: JoinHandle<Result<(), StartError>>,
    remote: Remote,
    bound: Bound,
}

impl Node {
    async fn start(config: Config, say: mpsc::Sender<Event>) -> Result<Node, String> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (remote, remote_end) = Remote::new();
        let options = ServeOptions {
            report_messages: true,
            event_sink: Some(Box::new(move |event| drop(say.try_send(Event::Fact(Box::new(event.clone())))))),
            ready: Some(ready),
            remote: Some(remote_end),
            ..ServeOptions::default()
        };
        let thread = std::thread::Builder::new().name("node".to_owned()).spawn(move || serve::run(Arc::new(config), options));
        let thread = thread.map_err(|e| format!("thread: {e}"))?;
        let bound = blocking(move || is_ready.recv_timeout(CALL_TIME_MAX).ok()).await.flatten();
        match bound {
            Some(bound) => Ok(Node { thread, remote, bound }),
            None if thread.is_finished() => Err(format!("the node did not start: {}", joined(thread).err().unwrap_or_default())),
            None => Err("the node was not ready in time".to_owned()),
        }
    }

    fn trunk_target(&self) -> Result<Target, String> {
        let udp = self.bound.listeners.iter().find(|l| l.transport == Transport::Udp);
        let udp = udp.ok_or_else(|| "the node has no UDP listener".to_owned())?;
        Ok(Target { transport: Transport::Udp, addr: udp.addr })
    }

    /// What the core holds once it is nothing, or when time is up.
    async fn settled(&self, until: Instant) -> Option<Counts> {
        loop {
            let remote = self.remote.clone();
            let asked = blocking(move || remote.ask(Command::Counts));
            let Ok(Some(Some(Reply::Counts(counts)))) = timeout_at(until, asked).await else { return None };
            if (counts.calls, counts.dialogs, counts.ports_taken) == (0, 0, 0) || Instant::now() >= until {
                return Some(counts);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn stop(self, deadline: Instant) -> Result<(), String> {
        self.remote.drain(Duration::ZERO);
        let thread = self.thread;
        match timeout_at(deadline, blocking(move || joined(thread))).await {
            Ok(ended) => ended.unwrap_or_else(|| Err("the node's end was not seen".to_owned())),
            Err(_) => Err("the node did not stop in time".to_owned()),
        }
    }
}

fn joined(thread: JoinHandle<Result<(), StartError>>) -> Result<(), String> {
    match thread.join() {
        Ok(ended) => ended.map_err(|e| e.to_string()),
        Err(_) => Err("the node panicked".to_owned()),
    }
}

/// Waits on a thread where waiting is allowed.
async fn blocking<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(wait).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(seen: &Seen) -> Vec<String> {
        checks(seen).iter().filter(|c| !c.is_right()).map(ToString::to_string).collect()
    }

    #[test]
    fn a_bot_that_refuses_makes_a_demo_that_failed() {
        let mut seen = Seen::default();
        let script = Script::default();
        let bot = SynthflowOptions { refuse: Some(486), ..script.bot };
        assert_eq!(play(Script { bot, ..script }, &mut seen), Ok(()), "the call did come to its end");
        assert!(seen.trunk.contains(&CarrierEvent::Refused(486)), "{:?}", seen.trunk);
        assert!(wrong(&seen).contains(&"FAILED  the REFER gets 202: it did not happen".to_owned()));
    }

    #[test]
    fn a_call_that_does_not_end_ends_the_demo_and_it_says_what_did_not_happen() {
        let mut seen = Seen::default();
        let script = Script::default();
        let bot = SynthflowOptions { refer: None, ..script.bot };
        let why = play(Script { bot, call_time: Duration::from_secs(2) }, &mut seen).unwrap_err();
        assert!(why.starts_with("the call was not over after 2 s"), "{why}");
        assert!(why.contains("the REFER gets 202: it did not happen") && !why.contains("X-EI"), "{why}");
    }

    #[test]
    fn nothing_is_left_in_the_file_system() {
        let path = {
            let state = StateDir::new();
            std::fs::create_dir_all(state.0.join("failed")).unwrap();
            state.0.clone()
        };
        assert!(!path.exists());
    }
}
