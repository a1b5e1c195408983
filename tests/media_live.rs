//! The media thread over real sockets on loopback. Nothing here waits by sleeping: a socket read or a channel does.

// The helpers of an integration test are not inside a #[test], where clippy.toml allows these.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use backchannel::call::anchor::Latch;
use backchannel::call::anchor::MediaEvent;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::anchor::MediaPeer;
use backchannel::call::anchor::MediaStats;
use backchannel::call::anchor::PortPair;
use backchannel::edge::media::MediaConfig;
use backchannel::edge::media::MediaHandle;
use backchannel::edge::media::MediaThread;
use backchannel::ids::CallHandle;
use backchannel::ids::Side;
use backchannel::ids::Side::Callee;
use backchannel::ids::Side::Caller;

const PATIENCE: Duration = Duration::from_secs(10);

/// A loopback address that no other process of these tests uses: they may run several times at once on one machine.
fn local() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high, low, 1))
}

/// Below the range that the system gives to sockets of its choice, and another part of it for each test.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

fn port_range(ports: u16) -> RangeInclusive<u16> {
    let first = NEXT_PORT.fetch_add(ports, Ordering::Relaxed);
    first..=first + ports - 1
}

struct Bench {
    media: MediaHandle,
    events: Receiver<(CallHandle, Side, MediaEvent)>,
    bound: Receiver<(Vec<PortPair>, bool)>,
    pairs: Vec<PortPair>,
}

impl Bench {
    /// A media thread with so many pairs bound.
    fn new(ip: IpAddr, pairs: usize) -> Bench {
        let spare = 40;
        Bench::over(ip, pairs, port_range(2 * u16::try_from(pairs + spare).unwrap()))
    }

    fn over(ip: IpAddr, pairs: usize, ports: RangeInclusive<u16>) -> Bench {
        let (event, events) = mpsc::channel();
        let (pair, bound) = mpsc::channel();
        let config = MediaConfig { bind: vec![ip], ports, dscp: 46 };
        let media = MediaThread::start(
            config,
            move |call, side, e| drop(event.send((call, side, e))),
            move |pairs, exhausted| drop(pair.send((pairs, exhausted))),
        );
        let mut bench = Bench { media: media.unwrap(), events, bound, pairs: Vec::new() };
        bench.media.bind(pairs, ip.is_ipv6());
        let (bound, exhausted) = bench.bound.recv_timeout(PATIENCE).unwrap();
        assert_eq!((bound.len(), exhausted), (pairs, false));
        bench.pairs = bound;
        bench
    }

    /// Returns when all orders so far are in force: asks are answered in order.
    fn settle(&mut self) {
        self.media.bind(0, self.pairs[0].ip.is_ipv6());
        assert_eq!(self.bound.recv_timeout(PATIENCE).unwrap(), (vec![], false));
    }

    fn event(&self) -> (CallHandle, Side, MediaEvent) {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Closes a side and returns its counters; what else is said meanwhile must be nothing.
    fn close(&mut self, call: CallHandle, side: Side) -> MediaStats {
        self.media.order(call, side, MediaOrder::Close);
        match self.event() {
            (c, s, MediaEvent::Closed(stats)) if c == call && s == side => stats,
            other => panic!("{other:?}"),
        }
    }
}

/// A phone: an RTP socket and an RTCP socket.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Phone {
    fn new(ip: IpAddr) -> Phone {
        let socket = || {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        Phone { rtp: socket(), rtcp: socket() }
    }

    fn peer(&self) -> MediaPeer {
        MediaPeer { rtp: self.rtp.local_addr().unwrap(), rtcp: self.rtcp.local_addr().unwrap() }
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 4096];
    let (n, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..n].to_vec(), from)
}

/// A G.711 packet whose payload depends on its number and sender.
fn packet(ssrc: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut packet = vec![0x80, 0, high, low, 0, 0, high, low, ssrc, ssrc, ssrc, ssrc];
    packet.extend((0..160).map(|n| (n as u8).wrapping_mul(ssrc).wrapping_add(low)));
    packet
}

/// Both sides of a call in service.
fn connect(bench: &mut Bench, call: u64, pairs: [PortPair; 2], phones: [&Phone; 2]) -> CallHandle {
    let call = CallHandle(call);
    for ((side, pair), phone) in [Caller, Callee].into_iter().zip(pairs).zip(phones) {
        bench.media.order(call, side, MediaOrder::Open { pair, latch: Latch::Strict });
        bench.media.order(call, side, MediaOrder::Aim { peer: Some(phone.peer()) });
    }
    bench.settle();
    call
}

fn rtp_of(pair: PortPair) -> SocketAddr {
    SocketAddr::new(pair.ip, pair.rtp)
}

fn rtcp_of(pair: PortPair) -> SocketAddr {
    SocketAddr::new(pair.ip, pair.rtcp)
}

/// Sends one packet and takes it at the other end, so that the latch is known to be in force.
fn first_packet(from: &Phone, pair: PortPair, to: &Phone) {
    from.rtp.send_to(&packet(9, 0), rtp_of(pair)).unwrap();
    assert_eq!(receive(&to.rtp).0, packet(9, 0));
}

fn is_latched(event: &MediaEvent, phone: &Phone) -> bool {
    matches!(event, MediaEvent::Latched { wire, said } if *wire == phone.peer().rtp && *said == Some(*wire))
}

fn two_hundred_packets_each_way(ip: IpAddr) {
    let mut bench = Bench::new(ip, 2);
    let (caller, callee) = (Phone::new(ip), Phone::new(ip));
    let [a, b] = [bench.pairs[0], bench.pairs[1]];
    let call = connect(&mut bench, 1, [a, b], [&caller, &callee]);
    first_packet(&caller, a, &callee);
    first_packet(&callee, b, &caller);
    assert!(is_latched(&bench.event().2, &caller));
    assert!(is_latched(&bench.event().2, &callee));
    for number in 0..200 {
        caller.rtp.send_to(&packet(1, number), rtp_of(a)).unwrap();
        callee.rtp.send_to(&packet(2, number), rtp_of(b)).unwrap();
        assert_eq!(receive(&callee.rtp), (packet(1, number), rtp_of(b)), "byte for byte, from the port that its SDP shows");
        assert_eq!(receive(&caller.rtp), (packet(2, number), rtp_of(a)));
    }
    let report = [0x80, 201, 0, 1, 1, 2, 3, 4];
    caller.rtcp.send_to(&report, rtcp_of(a)).unwrap();
    assert_eq!(receive(&callee.rtcp), (report.to_vec(), rtcp_of(b)));
    let stats = bench.close(call, Caller);
    assert_eq!((stats.rx, stats.rx_bytes, stats.tx, stats.rtcp_rx), (201, 201 * 172, 201, 1));
    assert_eq!(bench.close(call, Callee).rx, 201);
    assert_eq!(bench.close(call, Callee), MediaStats::default(), "a second close is answered too");
    bench.media.stop();
}

#[test]
fn two_hundred_packets_each_way_arrive_byte_for_byte() {
    two_hundred_packets_each_way(local());
}

#[test]
fn ipv6_packets_arrive_too() {
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((ip, 0)).is_ok() {
        two_hundred_packets_each_way(ip);
    }
}

#[test]
fn a_strangers_packets_and_garbage_go_nowhere() {
    let mut bench = Bench::new(local(), 2);
    let (caller, callee, stranger) = (Phone::new(local()), Phone::new(local()), Phone::new(local()));
    let [a, b] = [bench.pairs[0], bench.pairs[1]];
    let call = connect(&mut bench, 1, [a, b], [&caller, &callee]);
    first_packet(&caller, a, &callee);
    assert!(is_latched(&bench.event().2, &caller));
    for number in 0..50 {
        stranger.rtp.send_to(&packet(66, number), rtp_of(a)).unwrap();
        caller.rtp.send_to(b"\x00\x01\x00\x00 a stun packet", rtp_of(a)).unwrap();
    }
    caller.rtp.send_to(&packet(1, 7), rtp_of(a)).unwrap();
    assert_eq!(receive(&callee.rtp).0, packet(1, 7), "the next one heard is the caller's");
    assert_eq!(bench.close(call, Caller).dropped, 100);
    assert_eq!(bench.close(call, Callee).dropped, 0);
}

#[test]
fn a_peer_that_has_gone_does_not_stop_the_other() {
    let mut bench = Bench::new(local(), 2);
    let (caller, gone, callee) = (Phone::new(local()), Phone::new(local()), Phone::new(local()));
    let [a, b] = [bench.pairs[0], bench.pairs[1]];
    let call = connect(&mut bench, 1, [a, b], [&caller, &gone]);
    first_packet(&caller, a, &gone);
    // From here on each packet to it brings an ICMP port unreachable back.
    drop(gone);
    for number in 0..50 {
        caller.rtp.send_to(&packet(1, number), rtp_of(a)).unwrap();
        // A round obeys first and relays then: after the second one the packet has left.
        bench.settle();
        bench.settle();
    }
    bench.media.order(call, Callee, MediaOrder::Aim { peer: Some(callee.peer()) });
    bench.settle();
    first_packet(&caller, a, &callee);
    first_packet(&callee, b, &caller);
    assert!(bench.media.is_running());
}

#[test]
fn a_silent_call_is_told_once() {
    let mut bench = Bench::new(local(), 2);
    let (caller, callee) = (Phone::new(local()), Phone::new(local()));
    let [a, b] = [bench.pairs[0], bench.pairs[1]];
    let call = connect(&mut bench, 1, [a, b], [&caller, &callee]);
    bench.media.order(call, Caller, MediaOrder::Watch { idle: Duration::from_millis(200) });
    assert_eq!(bench.event(), (call, Caller, MediaEvent::Idle));
    bench.close(call, Caller);
}

#[test]
fn a_held_side_hears_silence_and_its_own_packets_end_here() {
    let mut bench = Bench::new(local(), 2);
    let (caller, callee) = (Phone::new(local()), Phone::new(local()));
    let [a, b] = [bench.pairs[0], bench.pairs[1]];
    let call = connect(&mut bench, 1, [a, b], [&caller, &callee]);
    bench.close(call, Callee);
    bench.media.order(call, Caller, MediaOrder::Silence { payload_type: 8, silence_byte: 0xd5, samples: 160 });
    let mut before: Option<(u16, u32)> = None;
    for _ in 0..10 {
        let (packet, from) = receive(&caller.rtp);
        assert_eq!(from, rtp_of(a));
        let rtp = rtp_rs::RtpReader::new(&packet).unwrap();
        assert_eq!((rtp.payload_type(), rtp.payload()), (8, &[0xd5; 160][..]));
        let (sequence, timestamp) = (u16::from(rtp.sequence_number()), rtp.timestamp());
        if let Some((last_sequence, last_timestamp)) = before {
            assert_eq!(sequence, last_sequence.wrapping_add(1));
            assert_eq!(timestamp.wrapping_sub(last_timestamp) % 160, 0);
        }
        before = Some((sequence, timestamp));
    }
    assert!(bench.close(call, Caller).tx >= 10);
}

#[test]
fn a_closed_pair_serves_the_next_call_and_a_taken_one_does_not() {
    let mut bench = Bench::new(local(), 3);
    let (caller, callee) = (Phone::new(local()), Phone::new(local()));
    let [a, b, c] = [bench.pairs[0], bench.pairs[1], bench.pairs[2]];
    let first = connect(&mut bench, 1, [a, b], [&caller, &callee]);
    let second = CallHandle(2);
    bench.media.order(second, Caller, MediaOrder::Open { pair: a, latch: Latch::Strict });
    assert!(matches!(bench.event(), (call, Caller, MediaEvent::Failed { .. }) if call == second));
    let nobodys = PortPair { rtp: 2, rtcp: 3, ..a };
    bench.media.order(second, Caller, MediaOrder::Open { pair: nobodys, latch: Latch::Strict });
    assert!(matches!(bench.event(), (_, _, MediaEvent::Failed { why }) if why.contains("not bound")));
    bench.close(first, Caller);
    bench.close(first, Callee);
    caller.rtp.send_to(&packet(1, 1), rtp_of(a)).unwrap();
    connect(&mut bench, 2, [a, c], [&caller, &callee]);
    first_packet(&caller, a, &callee);
    assert!(is_latched(&bench.event().2, &caller));
    assert!(bench.media.strays() >= 1, "what came in between was nobody's");
}

#[test]
fn exhaustion_is_said_and_a_stopped_thread_lets_its_ports_go() {
    let ports = port_range(8);
    let mut bench = Bench::over(local(), 4, ports.clone());
    bench.media.bind(1, false);
    assert_eq!(bench.bound.recv_timeout(PATIENCE).unwrap(), (vec![], true));
    bench.media.bind(1, true);
    assert_eq!(bench.bound.recv_timeout(PATIENCE).unwrap(), (vec![], true), "no IPv6 address to bind");
    assert!(UdpSocket::bind((local(), *ports.start())).is_err());
    bench.media.stop();
    ports.for_each(|port| drop(UdpSocket::bind((local(), port)).unwrap()));
}

#[test]
fn a_flood_on_one_call_does_not_starve_another() {
    let mut bench = Bench::new(local(), 4);
    let phones: Vec<Phone> = (0..4).map(|_| Phone::new(local())).collect();
    let [a, b, c, d] = [bench.pairs[0], bench.pairs[1], bench.pairs[2], bench.pairs[3]];
    connect(&mut bench, 1, [a, b], [&phones[0], &phones[1]]);
    connect(&mut bench, 2, [c, d], [&phones[2], &phones[3]]);
    first_packet(&phones[2], c, &phones[3]);
    for number in 0..100 {
        for flood in 0..40 {
            phones[0].rtp.send_to(&packet(1, flood), rtp_of(a)).unwrap();
        }
        phones[2].rtp.send_to(&packet(3, number), rtp_of(c)).unwrap();
        assert_eq!(receive(&phones[3].rtp).0, packet(3, number));
    }
}

#[test]
fn fifty_calls_at_once_keep_their_packets_apart() {
    const CALLS: usize = 50;
    const PACKETS: u16 = 20;
    let mut bench = Bench::new(local(), 2 * CALLS);
    let phones: Vec<[Phone; 2]> = (0..CALLS).map(|_| [Phone::new(local()), Phone::new(local())]).collect();
    let pairs: Vec<[PortPair; 2]> = bench.pairs.chunks(2).map(|p| [p[0], p[1]]).collect();
    for (n, (pairs, [caller, callee])) in pairs.iter().zip(&phones).enumerate() {
        connect(&mut bench, n as u64, *pairs, [caller, callee]);
    }
    for ([a, b], [caller, callee]) in pairs.iter().zip(&phones) {
        first_packet(caller, *a, callee);
        first_packet(callee, *b, caller);
    }
    for number in 0..PACKETS {
        for (n, ([a, b], [caller, callee])) in pairs.iter().zip(&phones).enumerate() {
            caller.rtp.send_to(&packet(n as u8, number), rtp_of(*a)).unwrap();
            callee.rtp.send_to(&packet(100 + n as u8, number), rtp_of(*b)).unwrap();
        }
        for (n, ([a, b], [caller, callee])) in pairs.iter().zip(&phones).enumerate() {
            assert_eq!(receive(&callee.rtp), (packet(n as u8, number), rtp_of(*b)));
            assert_eq!(receive(&caller.rtp), (packet(100 + n as u8, number), rtp_of(*a)));
        }
    }
    for n in 0..CALLS {
        bench.media.order(CallHandle(n as u64), Caller, MediaOrder::Close);
        bench.media.order(CallHandle(n as u64), Callee, MediaOrder::Close);
    }
    let mut closed = BTreeMap::new();
    while closed.len() < 2 * CALLS {
        if let (call, side, MediaEvent::Closed(stats)) = bench.event() {
            assert_eq!((stats.rx, stats.tx, stats.dropped), (u64::from(PACKETS) + 1, u64::from(PACKETS) + 1, 0));
            assert!(closed.insert((call, side.peer()), stats).is_none());
        }
    }
}
