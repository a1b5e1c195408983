//! One story: a folder of `sip-scenarios/`, a node with a configuration, SIPp on both sides, the mock of CXone's API.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use backchannel::mock::cxone::MockCxone;
use backchannel::mock::cxone::MockCxoneOptions;
use backchannel::mock::cxone::MockCxoneRecord;
use backchannel::mock::cxone::MockSignal;

use crate::audit;
use crate::audit::Trace;
use crate::node::Log;
use crate::node::Node;
use crate::sipp::Run;
use crate::sipp::Sipp;
use crate::sipp::Transport;

/// The SIP port of everybody; the addresses differ.
pub const SIP_PORT: u16 = 5060;

/// Addresses that one story uses.
const ADDRESSES_OF_A_STORY: u32 = 8;

pub fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-scenarios")
}

/// How CXone's API behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    Accepts,
    /// Nothing listens there.
    Down,
}

/// What a test says about its folder.
#[derive(Clone, Debug)]
pub struct Story {
    folder: &'static str,
    caller: Transport,
    callee: Transport,
    has_callee: bool,
    stranger: bool,
    calls: u32,
    api: Api,
    sip: &'static str,
    repeats: bool,
    expected: Vec<&'static str>,
}

impl Story {
    pub fn new(folder: &'static str) -> Story {
        Story {
            folder,
            caller: Transport::Udp,
            callee: Transport::Udp,
            has_callee: true,
            stranger: false,
            calls: 1,
            api: Api::Accepts,
            sip: "",
            repeats: true,
            expected: Vec::new(),
        }
    }

    pub fn calls(self, calls: u32) -> Story {
        Story { calls, ..self }
    }

    pub fn over(self, caller: Transport, callee: Transport) -> Story {
        Story { caller, callee, ..self }
    }

    pub fn without_callee(self) -> Story {
        Story { has_callee: false, ..self }
    }

    /// The caller is not in `cxone.allow`.
    pub fn stranger(self) -> Story {
        Story { stranger: true, ..self }
    }

    pub fn api(self, api: Api) -> Story {
        Story { api, ..self }
    }

    /// Lines for `[sip]`.
    pub fn sip(self, sip: &'static str) -> Story {
        Story { sip, ..self }
    }

    /// SIPp neither repeats nor absorbs: repetitions are the story.
    pub fn without_repetitions(self) -> Story {
        Story { repeats: false, ..self }
    }

    /// Words of the WARN lines that belong to this story; any other fails it.
    pub fn expects(self, words: &[&'static str]) -> Story {
        Story { expected: words.to_vec(), ..self }
    }

    /// The whole story, for a folder with one caller.
    pub fn play(self) -> Played {
        let mut stage = self.open();
        let callee = self.has_callee.then(|| stage.callee(&self));
        let caller = stage.caller(&self, "caller", if self.stranger { 6 } else { 2 });
        caller.finish();
        if let Some(callee) = callee {
            callee.finish();
        }
        stage.close(&self, true)
    }

    /// Starts the API and the node.
    pub fn open(&self) -> Stage {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live").join(format!("{}-{}", self.folder, std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let addresses = Addresses::take();
        let (api, record) = match self.api {
            Api::Accepts => start_mock(addresses.of(5)),
            Api::Down => (format!("http://{}:1", addresses.of(5)), MockCxoneRecord::default()),
        };
        let config = dir.join("config.toml");
        fs::write(&config, self.config(&addresses, &api)).unwrap();
        let node = Node::start(&config, &dir);
        Stage { dir, addresses, node, record, done: Vec::new() }
    }

    fn config(&self, at: &Addresses, api: &str) -> String {
        let (us, caller, callee) = (at.of(1), at.of(2), at.of(3));
        let (sip, transport) = (self.sip, self.callee.as_uri());
        // Two callers where a story has two; a stranger is neither.
        let second = at.of(4);
        format!(
            r#"[node]
name = "live"
state_dir = "state"
[sip]
listen = ["udp://{us}:{SIP_PORT}", "tcp://{us}:{SIP_PORT}"]
{sip}
[media]
ports = "20000-20399"
[cxone]
allow = ["{caller}", "{second}"]
[cxone.api]
issuer = "{api}"
client_id = "client"
client_secret = "client secret"
access_key_id = "key"
access_key_secret = "key secret"
timeout = "1s"
settle = "500ms"
deadline = "3s"
[synthflow]
target = "sip:{callee}:{SIP_PORT};transport={transport}"
allow = ["{callee}"]
[escalation.queues]
billing = "billing"
[log]
format = "json"
level = "debug"
"#
        )
    }
}

/// The loopback addresses of one story. The process and the story make them its own, so that stories, and whole test runs, can
/// run side by side.
struct Addresses(u32);

impl Addresses {
    fn take() -> Addresses {
        static STORIES: AtomicU32 = AtomicU32::new(0);
        let story = STORIES.fetch_add(1, Ordering::Relaxed);
        assert!(story < 256 / ADDRESSES_OF_A_STORY, "a process has addresses for {} stories", 256 / ADDRESSES_OF_A_STORY);
        // 127.16.0.0 to 127.255.255.255: what lives on 127.0.0.0/16 is left alone.
        let process = std::process::id() % (240 << 8);
        Addresses((127 << 24) + (16 << 16) + (process << 8) + story * ADDRESSES_OF_A_STORY)
    }

    fn of(&self, role: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.0 + role)
    }
}

/// The mock runs until the test's process ends.
fn start_mock(ip: Ipv4Addr) -> (String, MockCxoneRecord) {
    let (told, hear) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = MockCxoneOptions { listen: SocketAddr::from((ip, 0)), ..MockCxoneOptions::default() };
            let mock = MockCxone::bind(options).await.unwrap();
            told.send((mock.url(), mock.record())).unwrap();
            mock.run(|_| {}).await.unwrap();
        });
    });
    hear.recv().unwrap()
}

/// A story under way.
pub struct Stage {
    dir: PathBuf,
    addresses: Addresses,
    pub node: Node,
    record: MockCxoneRecord,
    done: Vec<(&'static str, Ipv4Addr, PathBuf)>,
}

impl Stage {
    pub fn callee(&mut self, story: &Story) -> Run {
        let ip = self.addresses.of(3);
        self.sipp(story, "callee", ip, story.callee, None)
    }

    /// `role`: which address; 2 and 4 are allowed to call.
    pub fn caller(&mut self, story: &Story, file: &'static str, role: u32) -> Run {
        let ip = self.addresses.of(role);
        let us = SocketAddr::from((self.addresses.of(1), SIP_PORT));
        self.sipp(story, file, ip, story.caller, Some(us))
    }

    fn sipp(&mut self, story: &Story, file: &'static str, ip: Ipv4Addr, transport: Transport, remote: Option<SocketAddr>) -> Run {
        let scenario = scenarios().join(story.folder).join(format!("{file}.xml"));
        let sipp = Sipp { scenario, ip, transport, remote, calls: story.calls, repeats: story.repeats };
        let run = sipp.start(&self.dir, file);
        self.done.push((file, ip, run.messages.clone()));
        run
    }

    /// Ends the node and reads everything that was written down; `stop`: with a SIGTERM.
    pub fn close(mut self, story: &Story, stop: bool) -> Played {
        if stop {
            self.node.terminate();
        }
        self.node.wait_for_end();
        let log = self.node.log();
        log.has_no_surprise(&story.expected);

        let us = self.addresses.of(1);
        let trace = |name: &str| self.done.iter().find(|d| d.0 == name).map(|d| Trace::read(&d.2)).unwrap_or_default();
        let (caller, callee) = (trace("caller"), trace("callee"));
        for (name, ip, file) in &self.done {
            let others: Vec<Ipv4Addr> =
                (1..ADDRESSES_OF_A_STORY).map(|role| self.addresses.of(role)).filter(|a| a != ip && *a != us).collect();
            audit::everything(name, &Trace::read(file), us, &others);
        }
        let signals = self.record.signals();
        self.node.forget(&self.dir);
        Played { log, caller, callee, signals }
    }
}

/// What a story left behind.
pub struct Played {
    pub log: Log,
    pub caller: Trace,
    pub callee: Trace,
    pub signals: Vec<MockSignal>,
}

impl Played {
    /// One closing line for each call, and who ended it.
    pub fn each_call_ended(&self, calls: usize, by: &str) {
        let ended = self.log.of("call.ended");
        assert_eq!(ended.len(), calls, "closing lines");
        for line in ended {
            assert_eq!(line["by"], by, "{line}");
        }
        assert_eq!(self.log.of("call.failed").len(), 0);
    }

    /// One signal for each contact, with CXone's id for it and the queue that the bot named.
    pub fn each_call_signalled(&self, calls: usize, queue: &str) {
        let mut contacts: Vec<&str> = self.signals.iter().map(|s| s.contact.as_str()).collect();
        contacts.sort_unstable();
        let expected: Vec<String> = (1..=calls).map(|n| format!("4881{n}")).collect();
        assert_eq!(contacts, expected);
        for signal in &self.signals {
            assert!(signal.params.contains(&("p1".to_owned(), queue.to_owned())), "{signal:?}");
            assert_eq!(signal.status, Some(204));
        }
    }
}
