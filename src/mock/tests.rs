//! Carrier and Synthflow talk to each other, without a server between them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::mock::carrier::Carrier;
use crate::mock::carrier::CarrierCall;
use crate::mock::carrier::CarrierEvent;
use crate::mock::carrier::HangUp;
use crate::mock::carrier::hang_up;
use crate::mock::rtp::Play;
use crate::mock::rtp::RtpCounts;
use crate::mock::sdp::audio_addr;
use crate::mock::synthflow::MockSynthflow;
use crate::mock::synthflow::SynthflowEvent;
use crate::mock::synthflow::SynthflowOptions;
use crate::mock::ua::Ua;
use crate::mock::ua::UaOptions;
use crate::transaction::Timers;
use crate::wire::message::Message;

const PATIENCE: Duration = Duration::from_secs(20);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Bot(SynthflowEvent),
    Trunk(CarrierEvent),
}

/// Both mocks at work, and what they told.
struct Scene {
    events: mpsc::UnboundedReceiver<Event>,
    hang_up: HangUp,
    tasks: tokio::task::JoinSet<()>,
}

fn options() -> SynthflowOptions {
    SynthflowOptions { udp: Some(LOOPBACK), tcp: Some(LOOPBACK), after: Duration::ZERO, ..SynthflowOptions::default() }
}

fn call(target: Target) -> CarrierCall {
    let headers = vec![("X-EI".to_owned(), "E.42;".to_owned()), ("X-customer_Tier".to_owned(), "gold".to_owned())];
    CarrierCall { target, number: "+12065551234".to_owned(), from: "+12065550123".to_owned(), headers, play: Play::Tone, packets: 10 }
}

impl Scene {
    async fn open(options: SynthflowOptions, transport: Transport) -> Scene {
        let (addresses, bot) = MockSynthflow::bind(options).await.unwrap();
        let addr = if transport == Transport::Udp { addresses.udp } else { addresses.tcp };
        Scene::with(bot, Target { transport, addr: addr.unwrap() }, Timers::default()).await
    }

    async fn with(bot: MockSynthflow, target: Target, timers: Timers) -> Scene {
        let mut tasks = tokio::task::JoinSet::new();
        let (say, events) = mpsc::unbounded_channel();
        let bots = say.clone();
        tasks.spawn(bot.run(move |_, event| drop(bots.send(Event::Bot(event)))));
        let carrier = Carrier::bind(LOOPBACK, Some(LOOPBACK), timers).await.unwrap();
        let handle = carrier.handle().unwrap();
        tasks.spawn(carrier.run());
        let (hang_up, ear) = hang_up();
        tasks.spawn(async move { handle.call(call(target), ear, |event| drop(say.send(Event::Trunk(event)))).await.unwrap() });
        Scene { events, hang_up, tasks }
    }

    /// All events up to this one; the last one is it.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let next = timeout(PATIENCE, self.events.recv()).await;
            let Ok(Some(event)) = next else { panic!("it did not happen; seen: {seen:#?}") };
            seen.push(event);
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
    }

    async fn both_counts(&mut self) -> (RtpCounts, RtpCounts) {
        let (mut bot, mut trunk) = (None, None);
        while bot.is_none() || trunk.is_none() {
            match self.until(|e| matches!(e, Event::Bot(SynthflowEvent::Rtp(_)) | Event::Trunk(CarrierEvent::Rtp(_)))).await.pop() {
                Some(Event::Bot(SynthflowEvent::Rtp(counts))) => bot = Some(counts),
                Some(Event::Trunk(CarrierEvent::Rtp(counts))) => trunk = Some(counts),
                _ => {}
            }
        }
        (bot.unwrap(), trunk.unwrap())
    }
}

async fn a_whole_call(transport: Transport) {
    let mut scene = Scene::open(SynthflowOptions { ring: true, ..options() }, transport).await;
    let seen = scene.until(|e| *e == Event::Bot(SynthflowEvent::Answered)).await;
    let Some(Event::Bot(SynthflowEvent::InviteReceived { request_uri, x_ei, x_headers, .. })) = seen.first() else { panic!("{seen:?}") };
    assert!(request_uri.starts_with("sip:+12065551234@127.0.0.1:"), "{request_uri}");
    assert_eq!(x_ei.as_deref(), Some("E.42;"));
    assert_eq!(x_headers[1], ("X-customer_Tier".to_owned(), "gold".to_owned()));
    assert!(
        seen.contains(&Event::Trunk(CarrierEvent::Progress(100))) && seen.contains(&Event::Trunk(CarrierEvent::Progress(180))),
        "{seen:?}"
    );
    scene.until(|e| *e == Event::Trunk(CarrierEvent::Talked)).await;
    scene.hang_up.now();
    let (bot, trunk) = scene.both_counts().await;
    assert_eq!((trunk.sent, bot.received, bot.voiced), (10, 10, 10));
    // The echo of the last packet and the BYE may pass each other.
    assert!(bot.sent >= 9 && trunk.received >= 8, "{bot:?} {trunk:?}");
}

#[tokio::test]
async fn a_call_over_udp_is_answered_echoed_and_ended_by_the_carrier() {
    a_whole_call(Transport::Udp).await;
}

#[tokio::test]
async fn a_call_over_tcp_is_answered_echoed_and_ended_by_the_carrier() {
    a_whole_call(Transport::Tcp).await;
}

async fn synthflow_hangs_up(transport: Transport) {
    let bye_headers = vec![("X-Queue".to_owned(), "billing".to_owned())];
    let mut scene = Scene::open(SynthflowOptions { bye: true, bye_headers, ..options() }, transport).await;
    let seen = scene.until(|e| *e == Event::Bot(SynthflowEvent::ByeAnswered(200))).await;
    assert!(seen.contains(&Event::Bot(SynthflowEvent::ByeSent)), "{seen:?}");
    assert!(!seen.contains(&Event::Trunk(CarrierEvent::ByeSent)), "{seen:?}");
}

#[tokio::test]
async fn synthflow_hangs_up_over_udp() {
    synthflow_hangs_up(Transport::Udp).await;
}

#[tokio::test]
async fn synthflow_hangs_up_over_tcp_on_a_connection_to_the_contact() {
    synthflow_hangs_up(Transport::Tcp).await;
}

#[tokio::test]
async fn a_refer_is_a_request_in_the_dialog_and_a_carrier_refuses_it() {
    let mut scene = Scene::open(SynthflowOptions { refer: Some("billing".to_owned()), ..options() }, Transport::Udp).await;
    let seen = scene.until(|e| matches!(e, Event::Bot(SynthflowEvent::ReferAnswered(_)))).await;
    assert!(seen.contains(&Event::Bot(SynthflowEvent::ReferSent("sip:billing@127.0.0.1".to_owned()))), "{seen:?}");
    assert_eq!(seen.last(), Some(&Event::Bot(SynthflowEvent::ReferAnswered(405))), "and not 481: the dialog was found");
}

#[tokio::test]
async fn a_refusal_is_acknowledged_and_ends_the_call() {
    let mut scene = Scene::open(SynthflowOptions { refuse: Some(486), ..options() }, Transport::Udp).await;
    let seen = scene.until(|e| *e == Event::Trunk(CarrierEvent::Refused(486))).await;
    assert!(seen.contains(&Event::Bot(SynthflowEvent::Refused(486))), "{seen:?}");
}

#[tokio::test]
async fn a_call_that_is_not_answered_yet_can_be_cancelled() {
    let never = SynthflowOptions { early_media: true, answer_after: PATIENCE * 2, ..options() };
    let mut scene = Scene::open(never, Transport::Udp).await;
    scene.until(|e| *e == Event::Trunk(CarrierEvent::Progress(183))).await;
    scene.hang_up.now();
    let seen = scene.until(|e| matches!(e, Event::Trunk(CarrierEvent::Refused(_)))).await;
    // RFC 3261 §9.2: "it SHOULD immediately respond to the INVITE with a 487 (Request Terminated)".
    assert_eq!(seen.last(), Some(&Event::Trunk(CarrierEvent::Refused(487))));
}

/// Passes datagrams on between a caller and `far`, losing the first so many of each direction.
async fn lossy(far: SocketAddr, lose: usize) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let (near_side, far_side) = (UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(LOOPBACK).await.unwrap());
    let near_addr = near_side.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut near, mut there, mut back) = (None, 0, 0);
        let (mut a, mut b) = (vec![0; 65_535], vec![0; 65_535]);
        loop {
            tokio::select! {
                Ok((n, from)) = near_side.recv_from(&mut a) => {
                    near = Some(from);
                    there += 1;
                    if there > lose {
                        far_side.send_to(&a[..n], far).await.unwrap();
                    }
                }
                Ok((n, _)) = far_side.recv_from(&mut b) => {
                    back += 1;
                    if let (Some(near), true) = (near, back > lose) {
                        near_side.send_to(&b[..n], near).await.unwrap();
                    }
                }
            }
        }
    });
    (near_addr, task)
}

#[tokio::test]
async fn lost_datagrams_are_repeated() {
    let timers = Timers { t1: Duration::from_millis(20), ..Timers::default() };
    let (addresses, bot) = MockSynthflow::bind(SynthflowOptions { timers, bye: true, ..options() }).await.unwrap();
    // INVITE, 100 and 200 are lost at least once each.
    let (between, _task) = lossy(addresses.udp.unwrap(), 2).await;
    let mut scene = Scene::with(bot, Target { transport: Transport::Udp, addr: between }, timers).await;
    scene.until(|e| *e == Event::Bot(SynthflowEvent::Answered)).await;
    scene.until(|e| *e == Event::Bot(SynthflowEvent::ByeAnswered(200))).await;
}

#[tokio::test]
async fn a_hundred_calls_at_a_time_are_a_hundred_calls() {
    let (addresses, bot) = MockSynthflow::bind(SynthflowOptions { bye: true, ..options() }).await.unwrap();
    let target = Target { transport: Transport::Udp, addr: addresses.udp.unwrap() };
    let mut scene = Scene::with(bot, target, Timers::default()).await;
    let carrier = Carrier::bind(LOOPBACK, Some(LOOPBACK), Timers::default()).await.unwrap();
    let handle = carrier.handle().unwrap();
    scene.tasks.spawn(carrier.run());
    for _ in 0..99 {
        let handle = handle.clone();
        scene.tasks.spawn(async move { handle.call(call(target), hang_up().1, |_| {}).await.unwrap() });
    }
    for _ in 0..100 {
        scene.until(|e| *e == Event::Bot(SynthflowEvent::ByeAnswered(200))).await;
    }
}

/// A peer that writes its messages by hand.
struct Hand {
    socket: UdpSocket,
    far: SocketAddr,
}

impl Hand {
    async fn to(far: SocketAddr) -> Hand {
        Hand { socket: UdpSocket::bind(LOOPBACK).await.unwrap(), far }
    }

    async fn send(&self, method: &str, number: u32, to_tag: &str, body: &str) {
        let addr = self.socket.local_addr().unwrap();
        let branch = if method == "ACK" { "ack".to_owned() } else { format!("{method}{number}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} sip:bot@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@127.0.0.1>;tag=me\r\nTo: <sip:bot@127.0.0.1>{to_tag}\r\nCall-ID: c1\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:a@{addr}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send_to(text.as_bytes(), self.far).await.unwrap();
    }

    /// The next final answer to this method, whole.
    async fn gets(&self, method: &str) -> Message {
        let mut buffer = vec![0; 65_535];
        loop {
            let (n, _) = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
            let message = Message::parse(bytes::Bytes::copy_from_slice(&buffer[..n])).unwrap();
            if message.status() >= 200 && message.method().as_str() == method {
                return message;
            }
        }
    }
}

const HOLD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";

#[tokio::test]
async fn a_late_offer_a_hold_and_what_belongs_nowhere_are_answered_as_the_clauses_say() {
    let (addresses, bot) = MockSynthflow::bind(options()).await.unwrap();
    let (say, mut events) = mpsc::unbounded_channel();
    let _bot = tokio::spawn(bot.run(move |_, event| drop(say.send(event))));
    let hand = Hand::to(addresses.udp.unwrap()).await;

    hand.send("OPTIONS", 1, "", "").await;
    assert_eq!(hand.gets("OPTIONS").await.status(), 200);
    hand.send("BYE", 2, ";tag=unknown", "").await;
    assert_eq!(hand.gets("BYE").await.status(), 481);
    hand.send("PUBLISH", 3, "", "").await;
    let refused = hand.gets("PUBLISH").await;
    // RFC 3261 §21.4.6: "The response MUST include an Allow header field containing a list of valid methods".
    assert!(refused.status() == 405 && refused.named("Allow").next().is_some());

    hand.send("INVITE", 4, "", "").await;
    let ok = hand.gets("INVITE").await;
    // RFC 3261 §13.3.1.4: without an offer in the INVITE, "the 2xx MUST contain an offer".
    assert!(ok.status() == 200 && audio_addr(&ok.body()).is_some());
    let tag = format!(";tag={}", ok.to_tag().unwrap());
    // The same 200 again until the ACK (RFC 3261 §13.3.1.4).
    assert_eq!(hand.gets("INVITE").await.body(), ok.body());
    hand.send("ACK", 4, &tag, &HOLD.replace("sendonly", "sendrecv")).await;
    while timeout(PATIENCE, events.recv()).await.unwrap() != Some(SynthflowEvent::Answered) {}

    hand.send("INVITE", 5, &tag, HOLD).await;
    let held = hand.gets("INVITE").await;
    assert!(held.status() == 200 && held.body().ends_with(b"a=recvonly\r\n"), "{:?}", held.body());
    hand.send("ACK", 5, &tag, "").await;
    hand.send("INFO", 5, &tag, "").await;
    // RFC 3261 §12.2.2: a number that is not higher is out of order, "and MUST be rejected with a 500".
    assert_eq!(hand.gets("INFO").await.status(), 500);
    hand.send("BYE", 6, &tag, "").await;
    assert_eq!(hand.gets("BYE").await.status(), 200);
}

#[tokio::test]
async fn one_call_more_than_the_limit_gets_503() {
    let (ua, mut incoming) = Ua::bind(UaOptions { udp: Some(LOOPBACK), calls_max: 1, ..UaOptions::default() }).await.unwrap();
    let far = ua.udp_addr().unwrap();
    let _ua = tokio::spawn(ua.run());
    let (first, second) = (Hand::to(far).await, Hand::to(far).await);
    first.send("INVITE", 1, "", HOLD).await;
    let taken = timeout(PATIENCE, incoming.recv()).await.unwrap().unwrap();
    second.send("INVITE", 2, "", HOLD).await;
    assert_eq!(second.gets("INVITE").await.status(), 503);
    // A call that its owner let go of makes room.
    drop(taken);
    second.send("INVITE", 3, "", HOLD).await;
    assert!(timeout(PATIENCE, incoming.recv()).await.unwrap().is_some());
}
