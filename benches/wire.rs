//! What the wire costs: allocations and instructions of one INVITE, against their budgets. Times are not measured: they depend on the machine.
//!
//! `cargo bench --bench wire` does both; with the argument `callgrind` only the instructions are counted (this needs valgrind).

#![allow(unsafe_code)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::env;
use std::hint::black_box;
use std::process::Command;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use backchannel::wire::draft::Draft;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use backchannel::wire::method::Method;
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

/// An INVITE as a carrier's edge sends it: 1.3 kB.
const INVITE: &str = "INVITE sip:+18005550123@198.51.100.20:5060;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK-524287-1---7a1c5d0e9b3f2a46;rport\r\n\
Via: SIP/2.0/UDP 10.20.30.40:5060;branch=z9hG4bKmhq2v1e8a0c1n4;received=10.20.30.41\r\n\
Record-Route: <sip:203.0.113.7;lr;ftag=gK0c7a11b2>\r\n\
Max-Forwards: 67\r\n\
From: \"Alice Example\" <sip:+14155550100@sbc.cxone.example;user=phone>;tag=gK0c7a11b2\r\n\
To: <sip:+18005550123@198.51.100.20;user=phone>\r\n\
Call-ID: 1284638402_93847561@203.0.113.7\r\n\
CSeq: 8121 INVITE\r\n\
Contact: \"Alice Example\" <sip:+14155550100@203.0.113.7:5060>\r\n\
Allow: INVITE,ACK,CANCEL,BYE,REGISTER,REFER,INFO,SUBSCRIBE,NOTIFY,PRACK,UPDATE,OPTIONS\r\n\
Accept: application/sdp, application/isup, multipart/mixed\r\n\
Supported: timer,100rel,precondition,replaces\r\n\
Session-Expires: 1800;refresher=uac\r\n\
Min-SE: 90\r\n\
User-Agent: CXone-SBC/9.2.1\r\n\
P-Asserted-Identity: \"Alice Example\" <sip:+14155550100@sbc.cxone.example>\r\n\
X-CXone-Contact-Id: 481516234299\r\n\
X-CXone-Tenant: 7f0d2c\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 230\r\n\
\r\n\
v=0\r\n\
o=Sonus_UAC 511874 917321 IN IP4 203.0.113.7\r\n\
s=SIP Media Capabilities\r\n\
c=IN IP4 203.0.113.9\r\n\
t=0 0\r\n\
m=audio 40256 RTP/AVP 0 8 101\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=sendrecv\r\n\
a=ptime:20 \r\n";

/// As long as a datagram can be, nearly.
const DATAGRAM_BYTES: usize = 64 * 1024;

struct Budget {
    what: &'static str,
    input: fn() -> Vec<u8>,
    work: fn(Bytes),
    allocations_max: u64,
    instructions_max: u64,
}

const BUDGETS: [Budget; 7] = [
    Budget { what: "parse", input: invite, work: parse, allocations_max: 2, instructions_max: 12_000 },
    Budget { what: "hop", input: invite, work: hop, allocations_max: 4, instructions_max: 25_000 },
    Budget { what: "parse and check", input: invite, work: check, allocations_max: 2, instructions_max: 25_000 },
    Budget { what: "garbage", input: garbage, work: parse, allocations_max: 0, instructions_max: 1_000 },
    Budget { what: "one-line", input: one_line, work: parse, allocations_max: 0, instructions_max: 20_000 },
    Budget { what: "line-feeds", input: line_feeds, work: parse, allocations_max: 0, instructions_max: 20_000 },
    Budget { what: "header-lines", input: header_lines, work: parse, allocations_max: 4, instructions_max: 100_000 },
];

fn invite() -> Vec<u8> {
    INVITE.as_bytes().to_vec()
}

fn garbage() -> Vec<u8> {
    (0..DATAGRAM_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn one_line() -> Vec<u8> {
    padded("INVITE sip:b@h SIP/2.0\r\nSubject: ", "x")
}

fn line_feeds() -> Vec<u8> {
    padded("INVITE sip:b@h SIP/2.0\r\nSubject: ", "\n")
}

fn header_lines() -> Vec<u8> {
    padded("INVITE sip:b@h SIP/2.0\r\n", "X: y\r\n")
}

/// 64 KiB of the same.
fn padded(start: &str, piece: &str) -> Vec<u8> {
    let mut text = start.as_bytes().to_vec();
    text.extend(piece.as_bytes().iter().cycle().take(DATAGRAM_BYTES - start.len()));
    text
}

fn parse(raw: Bytes) {
    let _ = black_box(Message::parse(raw));
}

fn check(raw: Bytes) {
    black_box(Message::parse(raw).is_ok_and(|message| message.check().is_ok()));
}

/// One message through us: framed, its keys read, and its copy for the other side printed.
fn hop(raw: Bytes) {
    let Ok(message) = Message::parse(raw) else { return };
    black_box((message.via().ok().and_then(|via| via.branch()), message.from_tag(), message.to_tag()));
    black_box((message.call_id().ok(), message.cseq().ok()));
    let mut draft = Draft::request(Method::INVITE, b"sip:agent@192.0.2.50:5060");
    draft.put("Max-Forwards", "66");
    draft.put("From", "\"Alice Example\" <sip:+14155550100@198.51.100.20>;tag=a3k9x7m2q5w8e4r6");
    draft.put("To", "<sip:agent@192.0.2.50>");
    draft.put("Call-ID", "aq7w2e9r4t6y8u3i5o1pkj");
    draft.put("CSeq", "1 INVITE");
    draft.put("Contact", "<sip:198.51.100.20:5060>");
    for line in message.lines() {
        if !matches!(
            line.name,
            Name::Via | Name::RecordRoute | Name::MaxForwards | Name::From | Name::To | Name::CallId | Name::CSeq | Name::Contact
        ) {
            draft.keep(line);
        }
    }
    draft.body("", message.body());
    black_box(draft.print(Some("SIP/2.0/UDP 198.51.100.20:5060;branch=z9hG4bKa7k2m9x4q6w3e8r;rport")));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, what, times] = arguments.as_slice()
        && mode == "repeat"
    {
        return repeat(what, times);
    }
    let only_instructions = arguments.iter().any(|argument| argument == "callgrind");
    let allocations = only_instructions || allocations();
    if allocations & instructions() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn repeat(what: &str, times: &str) -> ExitCode {
    let Some(budget) = BUDGETS.iter().find(|budget| budget.what == what) else { return ExitCode::FAILURE };
    let raw = Bytes::from((budget.input)());
    for _ in 0..times.parse().unwrap_or(0) {
        (budget.work)(raw.clone());
    }
    ExitCode::SUCCESS
}

fn allocations() -> bool {
    let mut within = true;
    for budget in &BUDGETS {
        // As the edge hands them over: a buffer that nobody else refers to yet.
        let raw = Bytes::from((budget.input)());
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (budget.work)(raw);
        let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        within &= report(budget.what, "allocations", count, budget.allocations_max);
    }
    within
}

fn instructions() -> bool {
    const TIMES: u64 = 500;
    let mut within = true;
    for budget in &BUDGETS {
        match (collected(budget.what, TIMES), collected(budget.what, 2 * TIMES)) {
            (Ok(once), Ok(twice)) => {
                within &= report(budget.what, "instructions", twice.saturating_sub(once) / TIMES, budget.instructions_max);
            }
            (Err(why), _) | (_, Err(why)) => {
                eprintln!("instructions of {} were not counted: {why}", budget.what);
                within = false;
            }
        }
    }
    within
}

/// Instructions of the whole process; the difference of two runs leaves out what does not repeat.
fn collected(what: &str, times: u64) -> Result<u64, String> {
    let myself = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(myself)
        .args(["repeat", what, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind could not be started ({error}); install it"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed: {text}"));
    }
    let count = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().parse());
    count.and_then(Result::ok).ok_or_else(|| format!("valgrind printed no count: {text}"))
}

fn report(what: &str, unit: &str, count: u64, max: u64) -> bool {
    let verdict = if count <= max { "within" } else { "OVER" };
    println!("wire {what}: {count} {unit}, {verdict} the budget of {max}");
    count <= max
}
