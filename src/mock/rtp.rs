//! Real audio packets of the mocks: PCMU (RFC 3551 §4.5.14), 20 ms each, sent in time and counted.

use std::f64::consts::TAU;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rtp_rs::RtpPacketBuilder;
use rtp_rs::RtpReader;
use rtp_rs::Seq;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// The time that one packet covers.
pub const PACKET_TIME: Duration = Duration::from_millis(20);

/// Samples of a packet at 8 kHz; one byte each in G.711.
pub const PACKET_SAMPLES: usize = 160;

/// Ports that are tried for an even one.
const PORT_TRIES_MAX: usize = 64;

/// A longer datagram is cut; no voice packet is.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// µ-law zero.
const SILENCE: u8 = 0xff;

const PCMU: u8 = 0;

/// What an end sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// A tone of 440 Hz.
    Tone,
    /// What it hears.
    Echo,
    /// Packets of silence.
    Silence,
}

/// Packets of one end so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RtpCounts {
    pub sent: u64,
    /// RTP with PCMU.
    pub received: u64,
    /// Of those, packets that were not silence.
    pub voiced: u64,
    /// Anything else that came.
    pub odd: u64,
}

#[derive(Default, Debug)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    voiced: AtomicU64,
    odd: AtomicU64,
}

/// A bound port, not yet used.
#[derive(Debug)]
pub struct RtpPort {
    socket: UdpSocket,
    addr: SocketAddr,
}

impl RtpPort {
    /// An even port (RFC 3550 §11) that the kernel chose.
    pub async fn bind(ip: IpAddr) -> io::Result<RtpPort> {
        // Odd ones are held until the end of the search, or the kernel could offer the same one again.
        let mut odd = Vec::new();
        while odd.len() < PORT_TRIES_MAX {
            let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).await?;
            let addr = socket.local_addr()?;
            if addr.port() % 2 == 0 {
                return Ok(RtpPort { socket, addr });
            }
            odd.push(socket);
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no even port is free"))
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to receive, and to send once there is someone to send to. `packets_max`: stop sending after so many.
    pub fn start(self, play: Play, remote: Option<SocketAddr>, packets_max: Option<u64>) -> RtpStream {
        let counters = Arc::new(Counters::default());
        let (aim, aimed) = watch::channel(remote);
        let addr = self.addr;
        let worker = Worker { socket: self.socket, counters: counters.clone(), aimed, ssrc: rand_ssrc(addr), next: 0, tone: 0 };
        let task = tokio::spawn(worker.run(play, packets_max.unwrap_or(u64::MAX)));
        RtpStream { counters, aim, addr, task }
    }
}

/// A running port; it ends when this is dropped.
#[derive(Debug)]
pub struct RtpStream {
    counters: Arc<Counters>,
    aim: watch::Sender<Option<SocketAddr>>,
    addr: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl RtpStream {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn counts(&self) -> RtpCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        RtpCounts { sent: read(&c.sent), received: read(&c.received), voiced: read(&c.voiced), odd: read(&c.odd) }
    }

    /// Where packets go from now on; `None`: nowhere (hold).
    pub fn aim(&self, remote: Option<SocketAddr>) {
        self.aim.send_replace(remote);
    }
}

impl Drop for RtpStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    socket: UdpSocket,
    counters: Arc<Counters>,
    aimed: watch::Receiver<Option<SocketAddr>>,
    ssrc: u32,
    /// Packets made so far: sequence number and timestamp follow from it.
    next: u64,
    /// Samples of tone made so far.
    tone: u64,
}

impl Worker {
    async fn run(mut self, play: Play, packets_max: u64) {
        let mut tick = tokio::time::interval(PACKET_TIME);
        // A late tick is made up for: the number of packets is what counts, and a relay must bear it.
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // An ICMP error of an earlier packet is no reason to stop.
                    let Ok((length, _)) = received else { continue };
                    let payload = self.count(buffer.get(..length).unwrap_or_default());
                    if let (Play::Echo, Some(payload)) = (play, payload) && self.next < packets_max {
                        self.send(&payload).await;
                    }
                }
                _ = tick.tick(), if play != Play::Echo && self.next < packets_max => {
                    let payload = if play == Play::Tone { self.tone() } else { [SILENCE; PACKET_SAMPLES] };
                    self.send(&payload).await;
                }
            }
        }
    }

    /// The payload of a packet that is PCMU.
    fn count(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let reader = RtpReader::new(packet).ok().filter(|r| r.payload_type() == PCMU);
        let Some(reader) = reader else {
            self.counters.odd.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        // 0x7f is µ-law's other zero.
        if reader.payload().iter().any(|&sample| sample | 0x80 != SILENCE) {
            self.counters.voiced.fetch_add(1, Ordering::Relaxed);
        }
        Some(reader.payload().to_vec())
    }

    async fn send(&mut self, payload: &[u8]) {
        let Some(remote) = *self.aimed.borrow() else { return };
        let samples = self.next.wrapping_mul(PACKET_SAMPLES as u64);
        let packet = RtpPacketBuilder::new()
            .payload_type(PCMU)
            .marked(self.next == 0)
            // Both wrap, as RFC 3550 §5.1 has it.
            .sequence(Seq::from(self.next as u16))
            .timestamp(samples as u32)
            .ssrc(self.ssrc)
            .payload(payload)
            .build();
        let Ok(packet) = packet else { return };
        if self.socket.send_to(&packet, remote).await.is_ok() {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
        self.next += 1;
    }

    fn tone(&mut self) -> [u8; PACKET_SAMPLES] {
        let mut payload = [SILENCE; PACKET_SAMPLES];
        for sample in &mut payload {
            // 440 Hz repeat exactly every 200 samples at 8 kHz, so that the number stays small.
            let phase = TAU * 440.0 * (self.tone % 200) as f64 / 8000.0;
            *sample = ulaw((phase.sin() * 8000.0) as i16);
            self.tone += 1;
        }
        payload
    }
}

/// Told apart by their addresses, which is enough for two ends of a test.
fn rand_ssrc(addr: SocketAddr) -> u32 {
    0xbc00_0000 | u32::from(addr.port())
}

/// ITU-T G.711 µ-law of a 16-bit sample.
fn ulaw(sample: i16) -> u8 {
    const BIAS: u32 = 0x84;
    const CLIP: u32 = 32_635;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = u32::from(sample.unsigned_abs()).min(CLIP) + BIAS;
    // The segment is the place of the highest bit above the seventh.
    let exponent = magnitude.ilog2().saturating_sub(7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4 | mantissa) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while !done() {
                tick.tick().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{what}");
    }

    #[test]
    fn ulaw_is_as_the_table_says() {
        // ITU-T G.711 table 2a: the ends of the first and of the last segment, and zero.
        assert_eq!([0, 8, 32_635, i16::MAX, -32_635, i16::MIN].map(ulaw), [0xff, 0xfe, 0x80, 0x80, 0x00, 0x00]);
        assert_eq!(ulaw(-8), 0x7e);
    }

    #[tokio::test]
    async fn a_tone_is_echoed_packet_by_packet() {
        let (a, b) = (RtpPort::bind(LOOPBACK).await.unwrap(), RtpPort::bind(LOOPBACK).await.unwrap());
        assert_eq!((a.addr().port() % 2, b.addr().port() % 2), (0, 0));
        let (to_a, to_b) = (a.addr(), b.addr());
        let b = b.start(Play::Echo, Some(to_a), None);
        let a = a.start(Play::Tone, Some(to_b), Some(10));
        until("ten packets come back", || a.counts().received == 10).await;
        assert_eq!(a.counts(), RtpCounts { sent: 10, received: 10, voiced: 10, odd: 0 });
        assert_eq!(b.counts(), RtpCounts { sent: 10, received: 10, voiced: 10, odd: 0 });
    }

    #[tokio::test]
    async fn silence_is_not_voiced_and_noise_is_odd() {
        let (a, b) = (RtpPort::bind(LOOPBACK).await.unwrap(), RtpPort::bind(LOOPBACK).await.unwrap());
        let to_b = b.addr();
        let b = b.start(Play::Silence, None, None);
        UdpSocket::bind("127.0.0.1:0").await.unwrap().send_to(b"hello", to_b).await.unwrap();
        let a = a.start(Play::Silence, None, Some(3));
        a.aim(Some(to_b));
        until("three packets and one that is none", || b.counts().received == 3 && b.counts().odd == 1).await;
        assert_eq!((b.counts().voiced, b.counts().sent), (0, 0));
    }
}
