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
target = "sip:synthflow.example:5080"
"#;

/// Where the observed action is not the preferred one, and why. Over a datagram.
const ACCEPTED: &[(&str, &str, &str)] = &[];

/// What differs over a stream, where Content-Length is all the framing there is.
const STREAMED: &[(&str, &str, &str)] = &[];

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
    relayed: usize,
    closed: usize,
    serial: u32,
}

impl World {
    fn new(config: &Arc<Config>) -> World {
        let core = B2bua::new(Arc::clone(config), [7; 32], 0, false, START);
        let mut world = World { core, now: START, next_port: 10_000, answers: Vec::new(), relayed: 0, closed: 0, serial: 0 };
        world.drain();
        let reach = Reach { ip: "203.0.113.2".parse().unwrap(), local: "192.0.2.9".parse().unwrap() };
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
            Action::Dial { conn, target } => {
                let local = "192.0.2.9:40000".parse().unwrap();
                inputs.push(Input::FlowUp { conn, local, remote: target.addr, dialled: true });
            }
            Action::Resolve { query, .. } => inputs.push(Input::Resolved { query, result: Err("no such name".into()) }),
            Action::Close { .. } => self.closed += 1,
            _ => {}
        }
    }

    fn sent(&mut self, flow: Flow, bytes: Bytes, inputs: &mut Vec<Input>) {
        let message = Message::parse(bytes.clone()).expect("what we send parses");
        if let Err(defect) = message.check() {
            panic!("what we send is sound: {defect:?}\n{}", String::from_utf8_lossy(&bytes));
        }
        if !message.is_request() {
            self.answers.push(message.status());
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
        let end = self.now + QUIET;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.drain();
        }
    }

    fn datagram(&mut self, bytes: &[u8]) {
        let (remote, local): (SocketAddr, _) = (CALLER.parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
        let flow = Flow::Udp { listener: ListenerId(0), remote };
        self.input(Input::Sip { flow, remote, local, bytes: Bytes::copy_from_slice(bytes) });
    }

    /// A connection of its own: up, these bytes, and closed by the peer at the end.
    fn stream(&mut self, bytes: &[u8]) {
        self.serial += 1;
        let (conn, remote, local) = (ConnId(u64::from(self.serial)), CALLER.parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
        let flow = Flow::Stream(conn);
        self.input(Input::FlowUp { conn, local, remote, dialled: false });
        let mut framer = Framer::default();
        framer.push(bytes);
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(bytes))) => self.input(Input::Sip { flow, remote, local, bytes }),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(e) => {
                    self.input(Input::Broken { flow, remote, local, why: e.why, head: e.head });
                    break;
                }
            }
        }
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
    let lines = text.split("\r\n").map(|l| if l.starts_with("To:") && !l.contains(";tag=") { format!("{l};tag=stub") } else { l.to_owned() });
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
