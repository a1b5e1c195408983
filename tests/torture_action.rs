//! The torture messages against the whole core: what a caller gets for each, and that nothing is left of it.
//!
//! `relay` in an index means that the final code of the stub callee, 486, reached the caller.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backchannel::b2bua::B2bua;
use backchannel::b2bua::io::Action;
use backchannel::b2bua::io::Counts;
use backchannel::b2bua::io::Flow;
use backchannel::b2bua::io::Input;
use backchannel::b2bua::io::LossReason;
use backchannel::b2bua::io::Reach;
use backchannel::call::anchor::MediaEvent;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::anchor::MediaStats;
use backchannel::call::anchor::PortPair;
use backchannel::call::rules::TargetName;
use backchannel::config::Config;
use backchannel::ids::ConnId;
use backchannel::ids::ListenerId;
use backchannel::report::Level;
use backchannel::time::Time;
use backchannel::wire::draft::Draft;
use backchannel::wire::message::Message;
use backchannel::wire::stream::Frame;
use backchannel::wire::stream::Framer;
use bytes::Bytes;
use proptest::prelude::*;

const CALLER: &str = "198.51.100.1:5060";
const CALLEE: &str = "203.0.113.2:5080";
const START: Time = Time::from_micros(1_800_000_000_000_000);
/// Longer than any transaction, ring time and rest of a port after a refused call.
const QUIET: Duration = Duration::from_secs(300);

const CONFIG: &str = r#"
[node]
name = "bc-1"
[sip]
listen = ["udp://192.0.2.9:5060", "tcp://192.0.2.9:5060", "udp://[2001:db8:9::9]:5060"]
[cxone]
allow = ["198.51.100.1"]
[cxone.api]
client_id = "app"
client_secret = "s3cret"
access_key_id = "key"
access_key_secret = "keysecret"
[synthflow]
options_interval = "0"
target = "sip:synthflow.example:5080"
"#;

/// Where the observed action is not the preferred one, and why. Over a datagram.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("max-forwards-zero", "200", "RFC 3261 §16.3 item 3 is for proxies; an OPTIONS to us has arrived, and is not sent on"),
    ("rfc2543-invite", "400", NO_CONTACT),
    ("inv2543", "400", NO_CONTACT),
    ("v6-ipv6-in-sdp", "488", "G.726 alone: no codec in common, which is said before anything rings"),
    ("v6-ipv4-mapped-ipv6", "488", "G.726 alone: no codec in common, which is said before anything rings"),
];

const NO_CONTACT: &str = "without a Contact (RFC 3261 §8.1.1.8) the call could be answered, but never ended by us";

/// What differs over a stream, where Content-Length is all the framing there is.
const STREAMED: &[(&str, &str, &str)] = &[
    ("second-request-behind", "405+relay", "what is behind the first message of a stream is the second one"),
    ("dblreq", "405+400", "what is behind the first message of a stream is the second one; it has no Contact"),
    ("length-beyond-datagram", "drop", "a stream waits for the rest"),
    ("clerr", "drop", "a stream waits for the rest"),
];

fn config() -> Arc<Config> {
    let read = |path: &Path| match path.to_str() {
        Some("/proc/sys/net/ipv4/ip_local_port_range") => Ok("32768\t60999\n".to_owned()),
        Some("/proc/sys/kernel/hostname") => Ok("edge\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    match Config::parse(CONFIG, Path::new("torture.toml"), &|_| None, &read) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(errors) => panic!("the configuration is bad: {errors:?}"),
    }
}

/// The core, a callee that refuses every INVITE with 486, and an edge for which everything works at once.
struct World {
    core: B2bua,
    now: Time,
    next_port: u16,
    /// Final and provisional answers to the caller, in order.
    answers: Vec<u16>,
    last: Bytes,
    relayed: usize,
    closed: usize,
    serial: u32,
}

impl World {
    fn new(config: &Arc<Config>) -> World {
        let core = B2bua::new(Arc::clone(config), [7; 32], 0, false, START);
        let mut world =
            World { core, now: START, next_port: 10_000, answers: Vec::new(), last: Bytes::new(), relayed: 0, closed: 0, serial: 0 };
        world.drain();
        let reach = Reach { ip: "203.0.113.2".parse().unwrap(), local: "192.0.2.9".parse().unwrap(), at: None };
        world.input(Input::Targets { name: TargetName("synthflow.example".into()), result: Ok(vec![reach]) });
        world
    }

    fn input(&mut self, input: Input) {
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

    fn act(&mut self, action: Action, inputs: &mut Vec<Input>) {
        match action {
            Action::Send { flow, bytes } => self.sent(flow, bytes, inputs),
            Action::BindPorts { count, v6 } => {
                let ip = if v6 { "2001:db8:9::9" } else { "192.0.2.9" }.parse().unwrap();
                let pair = |_| {
                    self.next_port += 2;
                    PortPair { ip, rtp: self.next_port, rtcp: self.next_port + 1 }
                };
                inputs.push(Input::PortsBound { pairs: (0..count).map(pair).collect(), exhausted: false });
            }
            Action::Media { call, side, order: MediaOrder::Close } => {
                inputs.push(Input::Media { call, side, event: MediaEvent::Closed(MediaStats::default()) });
            }
            Action::Record { record, .. } => inputs.push(Input::Recorded { up_to: record }),
            Action::Report(event) => assert!(event.fact.level() != Level::Error, "{event:?}"),
            Action::Dial { conn, target, .. } => {
                let local = "192.0.2.9:40000".parse().unwrap();
                inputs.push(Input::FlowUp { conn, local, remote: target.addr, dialled: true });
            }
            Action::Resolve { query, .. } => inputs.push(Input::Resolved { query, result: Err("no such name".into()) }),
            Action::Close { .. } => self.closed += 1,
            _ => {}
        }
    }

    /// Nobody acknowledges a refusal here: its repetitions count once.
    fn sent(&mut self, flow: Flow, bytes: Bytes, inputs: &mut Vec<Input>) {
        let message = Message::parse(bytes.clone()).expect("what we send parses");
        // RFC 3261 §8.2.6.2: a response repeats the header fields of its request, whatever is wrong with them.
        let repeats_a_defect = matches!(message.status(), 400 | 505);
        if let Err(defect) = message.check()
            && !repeats_a_defect
        {
            panic!("what we send is sound: {defect:?}\n{}", String::from_utf8_lossy(&bytes));
        }
        if !message.is_request() {
            if self.last != bytes {
                self.answers.push(message.status());
                self.last = bytes;
            }
        } else if message.method().as_str() == "INVITE" {
            self.relayed += 1;
            let refusal = Draft::response(&message, "192.0.2.9:5060".parse().unwrap(), 486, "", None);
            let (remote, local) = (CALLEE.parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
            let bytes = with_to_tag(&refusal.print(None));
            inputs.push(Input::Sip { flow, remote, local, bytes });
        }
    }

    /// Time passes until nothing is due any more, or for so long.
    fn quiet(&mut self) {
        self.until(self.now + QUIET);
    }

    fn until(&mut self, end: Time) {
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(end);
    }

    fn datagram(&mut self, bytes: &[u8]) {
        let (remote, local): (SocketAddr, _) = (CALLER.parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
        let flow = Flow::Udp { listener: ListenerId(0), remote };
        self.input(Input::Sip { flow, remote, local, bytes: Bytes::copy_from_slice(bytes) });
    }

    /// A connection of its own: up, these bytes, and closed by the peer at the end.
    fn stream(&mut self, bytes: &[u8]) {
        let flow = self.feed_stream(bytes);
        self.quiet();
        self.input(Input::FlowLost { flow, why: LossReason::Closed("bye".into()) });
    }

    fn feed_stream(&mut self, bytes: &[u8]) -> Flow {
        self.serial += 1;
        let (conn, remote, local) = (ConnId(u64::from(self.serial)), CALLER.parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
        let flow = Flow::Stream(conn);
        self.input(Input::FlowUp { conn, local, remote, dialled: false });
        let mut framer = Framer::default();
        framer.push(bytes);
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(bytes))) => self.input(Input::Sip { flow, remote, local, bytes }),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(e) => {
                    self.input(Input::Broken { flow, remote, local, why: e.why, head: e.head });
                    break;
                }
            }
        }
        flow
    }

    /// What the caller got: `relay`, a final status, `drop`; several finals joined by `+`.
    fn action(&mut self) -> String {
        let finals: Vec<String> = self.answers.iter().filter(|s| **s >= 200).map(|s| self.word(*s)).collect();
        self.answers.clear();
        self.relayed = 0;
        match finals.as_slice() {
            [] => "drop".to_owned(),
            several => several.join("+"),
        }
    }

    fn word(&self, status: u16) -> String {
        if status == 486 && self.relayed > 0 { "relay".to_owned() } else { status.to_string() }
    }

    /// Nothing is left, and an OPTIONS is answered.
    fn fault(&mut self) -> Option<String> {
        self.quiet();
        let counts = self.core.counts();
        if counts != (Counts { ports_free: counts.ports_free, ..Counts::default() }) {
            return Some(format!("left: {counts:?}"));
        }
        self.answers.clear();
        self.serial += 1;
        let n = self.serial;
        let options = format!(
            "OPTIONS sip:192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKalive{n};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:trunk@{CALLER}>;tag=alive{n}\r\nTo: <sip:192.0.2.9>\r\nCall-ID: alive{n}\r\nCSeq: {n} OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.datagram(options.as_bytes());
        let got = std::mem::take(&mut self.answers);
        self.quiet();
        (got != [200]).then(|| format!("OPTIONS got {got:?}"))
    }
}

/// A UAS's To tag on a response that was drafted without one.
fn with_to_tag(response: &Bytes) -> Bytes {
    let text = String::from_utf8(response.to_vec()).expect("our INVITE is text");
    let lines =
        text.split("\r\n").map(|l| if l.starts_with("To:") && !l.contains(";tag=") { format!("{l};tag=stub") } else { l.to_owned() });
    Bytes::from(lines.collect::<Vec<_>>().join("\r\n"))
}

struct Row {
    name: String,
    preferred: Vec<String>,
    acceptable: Vec<String>,
    bytes: Vec<u8>,
}

/// `foreign`: the index has a column of acceptable actions; our own has none, and its list is of equals after the first.
fn rows(folder: &Path, foreign: bool) -> Vec<Row> {
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let list = |text: &str| text.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let columns: Vec<_> = line.split('\t').collect();
        let bytes = std::fs::read(folder.join(format!("{}.dat", columns[0]))).unwrap();
        let mut preferred = list(columns[3]);
        let acceptable = if foreign { list(columns[4]) } else { preferred.split_off(1) };
        Row { name: columns[0].to_owned(), preferred, acceptable, bytes }
    };
    index.lines().skip(1).map(row).collect()
}

fn own_rows() -> Vec<Row> {
    rows(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture"), false)
}

fn foreign_rows() -> Vec<Row> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/torture");
    let folder = std::env::var_os("BACKCHANNEL_TORTURE").map_or(default, PathBuf::from);
    if folder.join("index.tsv").exists() { rows(&folder, true) } else { Vec::new() }
}

fn allows(list: &[String], got: &str) -> bool {
    let is_4xx = got.len() == 3 && got.starts_with('4');
    list.iter().any(|w| w == got || (w == "4xx" && is_4xx))
}

/// One line for each message whose action is not what its index prefers and no table explains.
fn faults(rows: &[Row], send: fn(&mut World, &[u8]), explained: &[(&str, &str, &str)]) -> String {
    let config = config();
    let mut table = String::new();
    for row in rows {
        let mut world = World::new(&config);
        send(&mut world, &row.bytes);
        world.quiet();
        let got = world.action();
        let is_explained = explained.iter().any(|(name, action, _)| *name == row.name && *action == got);
        if !allows(&row.preferred, &got) && !is_explained {
            let how = if allows(&row.acceptable, &got) { "acceptable, not explained" } else { "WRONG" };
            let _ = writeln!(table, "{:<36} {got:<12} wanted {:?}, else {:?}: {how}", row.name, row.preferred, row.acceptable);
        }
        if let Some(fault) = world.fault() {
            let _ = writeln!(table, "{:<36} {fault}", row.name);
        }
    }
    table
}

#[test]
fn our_own_messages_get_the_action_that_their_index_prefers() {
    let table = faults(&own_rows(), World::datagram, ACCEPTED);
    assert!(table.is_empty(), "\n{table}");
}

#[test]
fn the_messages_of_the_rfcs_get_the_action_that_their_index_prefers() {
    let table = faults(&foreign_rows(), World::datagram, ACCEPTED);
    assert!(table.is_empty(), "\n{table}");
}

#[test]
fn over_a_stream_they_get_the_same() {
    let explained = [ACCEPTED, STREAMED].concat();
    let rows: Vec<Row> = own_rows().into_iter().chain(foreign_rows()).collect();
    let table = faults(&rows, World::stream, &explained);
    assert!(table.is_empty(), "\n{table}");
}

// ---- mutations

/// Splitmix64: the same story for the same seed on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, below: usize) -> usize {
        if below == 0 { 0 } else { (self.next() % below as u64) as usize }
    }
}

/// One to four faults of one kind or another.
fn mutated(rows: &[Row], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = rows[dice.below(rows.len())].bytes.clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let other = &rows[dice.below(rows.len())].bytes;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.below(other.len())..]);
            }
            4 => double_a_line(&mut bytes, dice),
            _ => {
                let end = (at + dice.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

fn double_a_line(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let (from, to) = (dice.below(lines.len()), dice.below(lines.len()));
    if let Some(line) = lines.get(from) {
        let mut all = lines.clone();
        all.insert(to, line.clone());
        *bytes = all.concat();
    }
}

/// One core for all of them, so that what one leaves behind would be seen.
#[test]
fn nothing_is_left_of_two_thousand_mutations() {
    let rows: Vec<Row> = own_rows().into_iter().chain(foreign_rows()).collect();
    let mut world = World::new(&config());
    for seed in 0..2_000 {
        let bytes = mutated(&rows, &mut Dice(seed));
        if seed % 3 == 0 {
            world.stream(&bytes);
        } else {
            world.datagram(&bytes);
        }
        if let Some(fault) = world.fault() {
            panic!("seed {seed}: {fault}\n{}", String::from_utf8_lossy(&bytes));
        }
    }
}

// ---- anything at all

/// A good call whose messages stand between the garbage: INVITE, its repetition, CANCEL, ACK.
fn good(at: usize, serial: u32) -> Vec<u8> {
    let (method, ack_or_cancel) = [("INVITE", false), ("INVITE", false), ("CANCEL", true), ("ACK", true), ("OPTIONS", false)][at % 5];
    let sdp = "v=0\r\no=peer 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n";
    let body = if method == "INVITE" { sdp } else { "" };
    let serial = if ack_or_cancel { serial.saturating_sub(1) } else { serial };
    format!(
        "{method} sip:+12065551234@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKgood{serial};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+12065550111@{CALLER}>;tag=good{serial}\r\nTo: <sip:+12065551234@192.0.2.9>\r\n\
         Call-ID: good{serial}\r\nCSeq: 1 {method}\r\nContact: <sip:trunk@{CALLER}>\r\nX-InContact-MasterId: 1\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Good(usize),
    /// A good message with one piece replaced.
    Spliced(usize, prop::sample::Index, Vec<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Step::Bytes),
        4 => (0..5usize).prop_map(Step::Good),
        4 => (0..5usize, any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(m, at, b)| Step::Spliced(m, at, b)),
        2 => (0..5_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_known_peer_sends_the_core_lives_and_forgets_it(steps in prop::collection::vec(step(), 1..40), streams in any::<bool>()) {
        let mut world = World::new(&config());
        for (n, step) in steps.into_iter().enumerate() {
            let serial = n as u32;
            let bytes = match step {
                Step::Wait(ms) => {
                    let end = world.now + Duration::from_millis(ms);
                    world.until(end);
                    continue;
                }
                Step::Bytes(bytes) => bytes,
                Step::Good(which) => good(which, serial),
                Step::Spliced(which, at, with) => {
                    let mut bytes = good(which, serial);
                    let at = at.index(bytes.len());
                    bytes.splice(at..(at + with.len()).min(bytes.len()), with);
                    bytes
                }
            };
            if streams && n % 2 == 0 {
                world.feed_stream(&bytes);
            } else {
                world.datagram(&bytes);
            }
        }
        prop_assert_eq!(world.fault(), None);
    }
}
