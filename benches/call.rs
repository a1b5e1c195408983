//! What one call costs the core: allocations, bytes and instructions from CXone's INVITE to the last answer, with real messages in
//! virtual time. `cargo bench --bench call`; with the argument `callgrind` the instructions are counted too (this needs valgrind).

#![allow(unsafe_code, clippy::panic)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backchannel::b2bua::B2bua;
use backchannel::b2bua::io::Action;
use backchannel::b2bua::io::Flow;
use backchannel::b2bua::io::Input;
use backchannel::b2bua::io::Reach;
use backchannel::call::anchor::MediaEvent;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::anchor::MediaStats;
use backchannel::call::anchor::PortPair;
use backchannel::call::rules::TargetName;
use backchannel::config::Config;
use backchannel::ids::ListenerId;
use backchannel::time::Time;
use backchannel::wire::draft::Draft;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system allocator unchanged; the counter touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(place, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Of one call, the simulated ends' own work included.
const CALL_ALLOCATIONS_MAX: u64 = 700;
/// Of one call, the simulated ends' own work included.
const CALL_INSTRUCTIONS_MAX: u64 = 900_000;

const CONFIG: &str = r#"
[node]
name = "bench"
max_calls = 100000
max_cps = 100000
[sip]
listen = ["udp://192.0.2.9:5060"]
[cxone]
allow = ["198.51.100.1"]
[escalation]
accept = []
[synthflow]
options_interval = "0"
target = "sip:203.0.113.2:5080"
"#;

const CALLER: &str = "198.51.100.1:5060";
const CALLEE: &str = "203.0.113.2:5080";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

struct World {
    core: B2bua,
    now: Time,
    next_port: u16,
    mail: Vec<(SocketAddr, Bytes)>,
}

impl World {
    fn new() -> World {
        let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let loaded = Config::parse(CONFIG, Path::new("bench.toml"), &|_| None, &read);
        let config = loaded.map(|l| Arc::new(l.config)).unwrap_or_else(|e| panic!("{e:?}"));
        let now = Time::from_micros(1_800_000_000_000_000);
        let mut world = World { core: B2bua::new(config, [1; 32], 0, false, now), now, next_port: 10_000, mail: Vec::new() };
        world.drain();
        let at = |ip: &str| ip.parse().unwrap_or_else(|_| panic!("{ip}"));
        let reach = vec![Reach { ip: at("203.0.113.2"), local: at("192.0.2.9"), at: None }];
        world.input(Input::Targets { name: TargetName("203.0.113.2".into()), result: Ok(reach) });
        world
    }

    fn input(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        let mut inputs = Vec::new();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Send { flow: Flow::Udp { remote, .. }, bytes } => self.mail.push((remote, bytes)),
                Action::BindPorts { count, .. } => {
                    let ip = "192.0.2.9".parse().unwrap_or_else(|_| panic!());
                    let pair = |n: usize| {
                        let rtp = self.next_port + 2 * n as u16;
                        PortPair { ip, rtp, rtcp: rtp + 1 }
                    };
                    let pairs = (0..count).map(pair).collect();
                    self.next_port += 2 * count as u16;
                    inputs.push(Input::PortsBound { pairs, exhausted: false });
                }
                Action::Media { call, side, order: MediaOrder::Close } => {
                    inputs.push(Input::Media { call, side, event: MediaEvent::Closed(MediaStats::default()) });
                }
                _ => {}
            }
        }
        for input in inputs {
            self.input(input);
        }
    }

    fn say(&mut self, from: &str, bytes: Bytes) {
        let remote: SocketAddr = from.parse().unwrap_or_else(|_| panic!("{from}"));
        let local = "192.0.2.9:5060".parse().unwrap_or_else(|_| panic!());
        self.input(Input::Sip { flow: Flow::Udp { listener: ListenerId(0), remote }, remote, local, bytes });
    }

    fn last_to(&mut self, to: &str) -> Message {
        let to: SocketAddr = to.parse().unwrap_or_else(|_| panic!("{to}"));
        let at = self.mail.iter().rposition(|(t, _)| *t == to).unwrap_or_else(|| panic!("nothing to {to}"));
        let (_, bytes) = self.mail.remove(at);
        Message::parse(bytes).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// One whole call; then time goes on, so that old transactions end at the rate of new ones.
    fn call(&mut self, n: u64) {
        let via = |branch: &str| format!("Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK{branch}{n};rport\r\n");
        let head = format!("From: <sip:+12065550111@{CALLER}>;tag=c{n}\r\nCall-ID: call-{n}@caller\r\nMax-Forwards: 70\r\n");
        let invite = format!(
            "INVITE sip:+12065551234@192.0.2.9 SIP/2.0\r\n{}{head}To: <sip:+12065551234@192.0.2.9>\r\nCSeq: 1 INVITE\r\nContact: <sip:c@{CALLER}>\r\n\
             X-InContact-MasterId: {n}\r\nX-Customer: gold\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            via("i"),
            SDP.len()
        );
        self.say(CALLER, invite.into());
        let invite = self.last_to(CALLEE);
        let source: SocketAddr = CALLEE.parse().unwrap_or_else(|_| panic!());
        let tag = backchannel::ids::LocalTag::new("callee");
        for status in [180, 200] {
            let mut answer = Draft::response(&invite, source, status, "", Some(&tag));
            answer.put("Contact", format!("<sip:b@{CALLEE}>"));
            if status == 200 {
                answer.body("application/sdp", Bytes::from_static(SDP.as_bytes()));
            }
            self.say(CALLEE, answer.print(None));
        }
        let ok = self.last_to(CALLER);
        let to = String::from_utf8_lossy(ok.value(Name::To).unwrap_or_default()).into_owned();
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            let request = format!(
                "{method} sip:backchannel@192.0.2.9:5060 SIP/2.0\r\n{}{head}To: {to}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
                via(method)
            );
            self.say(CALLER, request.into());
        }
        let bye = self.last_to(CALLEE);
        self.say(CALLEE, Draft::response(&bye, source, 200, "", None).print(None));
        self.mail.clear();
        self.now = self.now + Duration::from_millis(5);
        self.core.handle_timeout(self.now);
        self.drain();
    }
}

fn play(calls: u64) -> World {
    let mut world = World::new();
    (0..calls).for_each(|n| world.call(n));
    world
}

fn instructions(calls: u64) -> Option<u64> {
    let me = env::current_exe().ok()?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(me)
        .arg(format!("play={calls}"))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    text.lines().find_map(|l| l.split("Collected : ").nth(1)?.trim().parse().ok())
}

fn main() -> ExitCode {
    if let Some(calls) = env::args().find_map(|a| a.strip_prefix("play=")?.parse().ok()) {
        play(calls);
        return ExitCode::SUCCESS;
    }
    // The first calls fill tables; then every call costs the same.
    let mut world = play(2_000);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (2_000..3_000).for_each(|n| world.call(n));
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) / 1_000;
    println!("one call: {allocations} allocations (at most {CALL_ALLOCATIONS_MAX})");
    let (Some(few), Some(many)) = (instructions(500), instructions(1_500)) else {
        eprintln!("valgrind is missing: the instructions were not counted");
        return ExitCode::FAILURE;
    };
    let per_call = (many - few) / 1_000;
    println!("one call: {per_call} instructions (at most {CALL_INSTRUCTIONS_MAX})");
    let good = allocations <= CALL_ALLOCATIONS_MAX && per_call <= CALL_INSTRUCTIONS_MAX;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
