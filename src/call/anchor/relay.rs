//! The packet relay of one call, without a socket: it says where a packet goes, or why it goes nowhere.
//!
//! One side of it, once for RTP and once for RTCP:
//!
//! ```text
//!            Open / Aim (another address)
//!                     │
//!                     ▼      first valid source within LATCH_WINDOW (strict, learn), or the SDP's address
//!        ┌────────► Open ───────────────────────────────────────────────► Latched ─┐
//!        │            sends to the SDP's address                 sends to the wire │ the SDP's address speaks: latched there
//!        └───────────────────────────────── Aim (another address) ◄────────────────┘ learn: LEARN_SILENCE over: any source
//! ```
//!
//! **What the window costs.** A peer behind NAT speaks from an address that its SDP cannot know, so for two seconds after each new
//! SDP the first valid packet from anywhere is believed. A stranger who guesses the port and comes first in that window is heard, and
//! hears, until the SDP's own address speaks; if the peer really is behind NAT, that is never, and he keeps the stream until an SDP
//! names another address. Whoever knows that no peer is behind NAT sets `sdp` and closes the window. The SDP's address wins at any time: signalling
//! vouches for it. After the window a stranger's packet does nothing, whatever its SSRC (RFC 3550 §8.2 lets a peer change its own).

use std::net::SocketAddr;
use std::time::Duration;

use crate::call::anchor::Latch;
use crate::call::anchor::MediaEvent;
use crate::call::anchor::MediaPeer;
use crate::call::anchor::MediaStats;
use crate::ids::Side;
use crate::time::Time;
use crate::wire::rtp::NotMedia;
use crate::wire::rtp::Packet;
use crate::wire::rtp::RtpHead;
use crate::wire::rtp::SILENCE_BYTES_MAX;
use crate::wire::rtp::SILENCE_SAMPLES_MAX;
use crate::wire::rtp::print_silence;

/// `strict`: how long after `Open` or a new `Aim` a source other than the SDP's is believed.
pub const LATCH_WINDOW: Duration = Duration::from_secs(2);

/// `learn`: after this much silence of the latched source any source may take its place.
pub const LEARN_SILENCE: Duration = Duration::from_secs(3);

/// After a new SDP the old source's packets are still under way: they may not latch the stream back where it was.
pub const STALE_SOURCE: Duration = Duration::from_millis(500);

/// More packets of silence than this are not made up for when the clock jumped.
const SILENCE_BACKLOG_PACKETS: u64 = 4;

/// Which of a pair's two ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    Rtp,
    Rtcp,
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Send it as it is from the other side's `port` to this address.
    Forward {
        to: SocketAddr,
        port: Port,
    },
    Drop(Why),
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// This side is not in service.
    NotOpen,
    NotMedia(NotMedia),
    /// RTP on the RTCP port.
    WrongPort,
    /// Not from where this side's media comes from.
    Stranger,
    /// The other side is not open, or its peer has not said where it listens.
    NoPeer,
    /// One of the sides is held: it hears our silence only.
    Held,
}

/// Where the SDP wants a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Never,
    At(SocketAddr),
    /// It wants nothing now (port 0, `c=0.0.0.0`); last time it was there, and it may still speak from there.
    Away(SocketAddr),
}

impl Said {
    fn address(self) -> Option<SocketAddr> {
        match self {
            Said::Never => None,
            Said::At(addr) | Said::Away(addr) => Some(addr),
        }
    }
}

/// Where packets are taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Open { since: Time, stale: Option<SocketAddr> },
    Latched { wire: SocketAddr, heard: Time },
}

/// What a packet's source means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    Known,
    Latched,
    Stranger,
}

/// One stream of packets with one peer.
#[derive(Clone, Copy, Debug)]
struct Channel {
    said: Said,
    source: Source,
}

impl Channel {
    fn new(now: Time) -> Channel {
        Channel { said: Said::Never, source: Source::Open { since: now, stale: None } }
    }

    /// The same address again (a session refresh, a 200 after its 183) keeps a latch: a silent peer behind NAT must not lose its
    /// audio to it.
    fn aim(&mut self, at: SocketAddr, now: Time) {
        let moved = self.said.address().is_none_or(|before| !same(before, at));
        self.said = Said::At(at);
        self.source = match self.source {
            Source::Latched { .. } if !moved => return,
            Source::Latched { wire, .. } => Source::Open { since: now, stale: Some(wire) },
            Source::Open { stale, .. } => Source::Open { since: now, stale },
        };
    }

    fn aim_away(&mut self) {
        if let Said::At(addr) = self.said {
            self.said = Said::Away(addr);
        }
    }

    fn hear(&mut self, from: SocketAddr, latch: Latch, now: Time) -> Heard {
        if let Source::Latched { wire, heard } = &mut self.source
            && same(*wire, from)
        {
            *heard = now;
            return Heard::Known;
        }
        if self.is_said(from) || self.believes(from, latch, now) {
            self.source = Source::Latched { wire: from, heard: now };
            return Heard::Latched;
        }
        Heard::Stranger
    }

    fn is_said(&self, from: SocketAddr) -> bool {
        self.said.address().is_some_and(|said| same(said, from))
    }

    /// May a source that the SDP does not name be latched now?
    fn believes(&self, from: SocketAddr, latch: Latch, now: Time) -> bool {
        let in_window = match self.source {
            Source::Latched { .. } => false,
            Source::Open { since, stale } => {
                let open = now.since(since);
                let is_stale = open < STALE_SOURCE && stale.is_some_and(|old| same(old, from));
                open <= LATCH_WINDOW && !is_stale
            }
        };
        match latch {
            Latch::Sdp => false,
            Latch::Strict => in_window,
            Latch::Learn => {
                let (Source::Open { since: quiet, .. } | Source::Latched { heard: quiet, .. }) = self.source;
                in_window || now.since(quiet) >= LEARN_SILENCE
            }
        }
    }

    /// Its packets are taken, without any latching.
    fn knows(&self, from: SocketAddr) -> bool {
        self.is_said(from) || matches!(self.source, Source::Latched { wire, .. } if same(wire, from))
    }

    /// Symmetric: to where it speaks from, else to where its SDP says.
    fn destination(&self) -> Option<SocketAddr> {
        match (self.said, self.source) {
            (Said::At(_), Source::Latched { wire, .. }) => Some(wire),
            (Said::At(said), Source::Open { .. }) => Some(said),
            (Said::Never | Said::Away(_), _) => None,
        }
    }
}

/// Port and address; an IPv6 flow label or scope is not part of what SDP can say.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip() == b.ip()
}

/// What a side's peer hears.
#[derive(Clone, Copy, Debug)]
enum Output {
    /// The other side.
    Relay,
    /// Us, in a stream of our own.
    Silence { next: RtpHead, byte: u8, samples: u16, due: Time },
}

/// One side in service.
#[derive(Clone, Copy, Debug)]
struct OpenSide {
    latch: Latch,
    rtp: Channel,
    rtcp: Channel,
    output: Output,
    stats: MediaStats,
}

impl OpenSide {
    fn is_held(&self) -> bool {
        matches!(self.output, Output::Silence { .. })
    }

    fn drop(&mut self, why: Why) -> Route {
        self.stats.dropped += 1;
        Route::Drop(why)
    }
}

/// The clock that ends a call nobody speaks in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watched {
    Off,
    On {
        idle: Duration,
        by: Side,
    },
    /// Said once; a new `Watch` starts it again.
    Over,
}

/// The relay of one call: two sides and the idle clock. Neither allocates nor locks.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    caller: Option<OpenSide>,
    callee: Option<OpenSide>,
    watched: Watched,
    /// When a packet of either peer came last.
    heard: Time,
    event: Option<(Side, LatchedAt)>,
    ssrc: u32,
}

/// A `MediaEvent::Latched` that can be copied.
#[derive(Clone, Copy, Debug)]
struct LatchedAt {
    said: Option<SocketAddr>,
    wire: SocketAddr,
}

impl Relay {
    /// `ssrc` is random (RFC 3550 §8): our own streams of silence begin from it.
    pub fn new(ssrc: u32, now: Time) -> Relay {
        Relay { caller: None, callee: None, watched: Watched::Off, heard: now, event: None, ssrc }
    }

    fn side(&mut self, side: Side) -> &mut Option<OpenSide> {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    /// `MediaOrder::Open`.
    pub fn open(&mut self, side: Side, latch: Latch, now: Time) {
        let channel = Channel::new(now);
        let open = OpenSide { latch, rtp: channel, rtcp: channel, output: Output::Relay, stats: MediaStats::default() };
        *self.side(side) = Some(open);
    }

    /// `MediaOrder::Aim`. Another address than before redirects the next packet and opens the latch; `None` stops what we send, and
    /// what that peer sends (music on hold) is still taken.
    pub fn aim(&mut self, side: Side, peer: Option<MediaPeer>, now: Time) {
        let Some(open) = self.side(side) else {
            return;
        };
        match peer {
            Some(peer) => {
                open.rtp.aim(peer.rtp, now);
                open.rtcp.aim(peer.rtcp, now);
            }
            None => {
                open.rtp.aim_away();
                open.rtcp.aim_away();
            }
        }
    }

    /// `MediaOrder::Watch`: the idle clock of the call starts now; zero is off.
    pub fn watch(&mut self, side: Side, idle: Duration, now: Time) {
        self.heard = now;
        self.watched = if idle.is_zero() { Watched::Off } else { Watched::On { idle, by: side } };
    }

    /// `MediaOrder::Silence`: from now on this side's peer hears us and nobody hears it. `samples` a packet, 8,000 a second.
    pub fn hold(&mut self, side: Side, payload_type: u8, byte: u8, samples: u16, now: Time) {
        let ssrc = match side {
            Side::Caller => self.ssrc,
            Side::Callee => !self.ssrc,
        };
        let Some(open) = self.side(side) else {
            return;
        };
        let samples = samples.clamp(8, SILENCE_SAMPLES_MAX);
        let (mut next, due) = match open.output {
            Output::Silence { next, due, .. } => (next, due),
            Output::Relay => {
                let sequence = (ssrc >> 16 ^ ssrc) as u16;
                (RtpHead { marker: true, payload_type, sequence, timestamp: ssrc.rotate_left(13), ssrc }, now)
            }
        };
        next.payload_type = payload_type;
        open.output = Output::Silence { next, byte, samples, due };
    }

    /// `MediaOrder::Close`: the side's counters; all zero when it was not open.
    pub fn close(&mut self, side: Side) -> MediaStats {
        self.side(side).take().map(|open| open.stats).unwrap_or_default()
    }

    /// Neither side is in service.
    pub fn is_closed(&self) -> bool {
        self.caller.is_none() && self.callee.is_none()
    }

    /// One packet that arrived on `side`'s `port`. RTCP on the RTP port (RFC 5761, though we never agree to it) is taken from the RTP
    /// source and leaves by the other side's RTCP port.
    pub fn route(&mut self, side: Side, port: Port, from: SocketAddr, packet: &[u8], now: Time) -> Route {
        let (this, that) = match side {
            Side::Caller => (&mut self.caller, &mut self.callee),
            Side::Callee => (&mut self.callee, &mut self.caller),
        };
        let Some(this) = this else {
            return Route::Drop(Why::NotOpen);
        };
        let parsed = match Packet::parse(packet) {
            Ok(parsed) => parsed,
            Err(why) => return this.drop(Why::NotMedia(why)),
        };
        let (heard, out) = match (port, parsed) {
            (Port::Rtp, Packet::Rtp(_)) => (this.rtp.hear(from, this.latch, now), Port::Rtp),
            (Port::Rtcp, Packet::Rtcp { .. }) => (this.rtcp.hear(from, this.latch, now), Port::Rtcp),
            (Port::Rtp, Packet::Rtcp { .. }) if this.rtp.knows(from) => (Heard::Known, Port::Rtcp),
            (Port::Rtp, Packet::Rtcp { .. }) => (Heard::Stranger, Port::Rtcp),
            (Port::Rtcp, Packet::Rtp(_)) => return this.drop(Why::WrongPort),
        };
        match heard {
            Heard::Stranger => return this.drop(Why::Stranger),
            Heard::Latched if out == Port::Rtp => self.event = Some((side, LatchedAt { said: this.rtp.said.address(), wire: from })),
            Heard::Latched | Heard::Known => {}
        }
        self.heard = now;
        let Some(that) = that else {
            return this.drop(Why::NoPeer);
        };
        if this.is_held() || that.is_held() {
            return this.drop(Why::Held);
        }
        let destination = if out == Port::Rtp { that.rtp.destination() } else { that.rtcp.destination() };
        let Some(to) = destination else {
            return this.drop(Why::NoPeer);
        };
        match out {
            Port::Rtp => {
                this.stats.rx += 1;
                this.stats.rx_bytes += packet.len() as u64;
                that.stats.tx += 1;
            }
            Port::Rtcp => this.stats.rtcp_rx += 1,
        }
        Route::Forward { to, port: out }
    }

    /// The packet that `route` or `silence` made for this side's peer could not be sent.
    pub fn not_sent(&mut self, side: Side, port: Port) {
        if let Some(open) = self.side(side) {
            open.stats.tx -= u64::from(port == Port::Rtp && open.stats.tx > 0);
            open.stats.dropped += 1;
        }
    }

    /// What the last `route` has to tell.
    pub fn take_event(&mut self) -> Option<(Side, MediaEvent)> {
        let (side, LatchedAt { said, wire }) = self.event.take()?;
        Some((side, MediaEvent::Latched { said, wire }))
    }

    /// `Idle`, once, when no packet came for the time of `Watch`. A held call is not watched (product.md §4).
    pub fn on_idle_sweep(&mut self, now: Time) -> Option<(Side, MediaEvent)> {
        let Watched::On { idle, by } = self.watched else {
            return None;
        };
        if self.next_silence().is_some() {
            self.heard = now;
        }
        if now.since(self.heard) < idle {
            return None;
        }
        self.watched = Watched::Over;
        Some((by, MediaEvent::Idle))
    }

    /// When a packet of silence is due on either side.
    pub fn next_silence(&self) -> Option<Time> {
        let due = |open: &Option<OpenSide>| match open {
            Some(OpenSide { output: Output::Silence { due, .. }, .. }) => Some(*due),
            _ => None,
        };
        due(&self.caller).into_iter().chain(due(&self.callee)).min()
    }

    /// A packet of silence that is due for this side's peer: where to, and its length in `out`. Call until `None`.
    pub fn silence(&mut self, side: Side, now: Time, out: &mut [u8; SILENCE_BYTES_MAX]) -> Option<(SocketAddr, usize)> {
        let open = self.side(side).as_mut()?;
        let to = open.rtp.destination();
        let Output::Silence { next, byte, samples, due } = &mut open.output else {
            return None;
        };
        let interval = Duration::from_micros(u64::from(*samples) * 125);
        let late = now.since(*due).as_micros() as u64 / interval.as_micros() as u64;
        if now < *due {
            return None;
        }
        if late > SILENCE_BACKLOG_PACKETS || to.is_none() {
            // The stream has a gap, and its timestamps say how long (RFC 3550 §5.1).
            *due = *due + interval * u32::try_from(late).unwrap_or(u32::MAX);
            next.timestamp = next.timestamp.wrapping_add(u32::from(*samples).wrapping_mul(late as u32));
        }
        let head = *next;
        *due = *due + interval;
        next.timestamp = next.timestamp.wrapping_add(u32::from(*samples));
        let to = to?;
        next.sequence = next.sequence.wrapping_add(1);
        next.marker = false;
        open.stats.tx += 1;
        Some((to, print_silence(head, *byte, *samples, out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "192.0.2.1:4000";
    const CALLEE: &str = "198.51.100.7:6000";
    const STRANGER: &str = "203.0.113.66:9";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ms(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1_000)
    }

    fn peer(rtp: &str) -> Option<MediaPeer> {
        let rtp = at(rtp);
        Some(MediaPeer { rtp, rtcp: SocketAddr::new(rtp.ip(), rtp.port() + 1) })
    }

    fn rtp() -> Vec<u8> {
        let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
        packet.extend([0xff; 160]);
        packet
    }

    fn rtcp() -> Vec<u8> {
        vec![0x80, 201, 0, 1, 1, 2, 3, 4]
    }

    fn relay(latch: Latch) -> Relay {
        let mut r = Relay::new(0x1234_5678, ms(0));
        for (side, said) in [(Side::Caller, CALLER), (Side::Callee, CALLEE)] {
            r.open(side, latch, ms(0));
            r.aim(side, peer(said), ms(0));
        }
        r
    }

    /// Where an RTP packet from `from` on the caller's port goes.
    fn from_caller(r: &mut Relay, from: &str, now: u64) -> Route {
        r.route(Side::Caller, Port::Rtp, at(from), &rtp(), ms(now))
    }

    fn to(text: &str) -> Route {
        Route::Forward { to: at(text), port: Port::Rtp }
    }

    const STRANGE: Route = Route::Drop(Why::Stranger);

    #[test]
    fn packets_cross_from_the_first_one_on_and_are_counted_on_both_sides() {
        let mut r = relay(Latch::Strict);
        assert_eq!(from_caller(&mut r, CALLER, 0), to(CALLEE));
        assert_eq!(r.take_event(), Some((Side::Caller, MediaEvent::Latched { said: Some(at(CALLER)), wire: at(CALLER) })));
        assert_eq!(from_caller(&mut r, CALLER, 20), to(CALLEE));
        assert_eq!(r.take_event(), None, "latched is said once");
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(20)), to(CALLER));
        let rtcp_from = at("192.0.2.1:4001");
        let out = r.route(Side::Caller, Port::Rtcp, rtcp_from, &rtcp(), ms(20));
        assert_eq!(out, Route::Forward { to: at("198.51.100.7:6001"), port: Port::Rtcp });
        let caller = r.close(Side::Caller);
        assert_eq!(caller, MediaStats { rx: 2, rx_bytes: 344, tx: 1, rtcp_rx: 1, dropped: 0 });
        assert!(!r.is_closed());
        let callee = r.close(Side::Callee);
        assert_eq!(callee, MediaStats { rx: 1, rx_bytes: 172, tx: 2, rtcp_rx: 0, dropped: 0 });
        assert!(r.is_closed());
        assert_eq!(r.close(Side::Caller), MediaStats::default());
    }

    /// Each row: mode, packets `(time in ms, source, is it relayed)` on the caller's RTP port.
    #[test]
    fn who_is_believed_when() {
        const NAT: &str = "203.0.113.5:31000";
        type Row = (&'static str, Latch, &'static [(u64, &'static str, bool)]);
        let table: &[Row] = &[
            ("the SDP's address latches at once", Latch::Strict, &[(0, CALLER, true), (1, STRANGER, false), (2, CALLER, true)]),
            ("a stranger after the latch gets nothing, however long", Latch::Strict, &[(0, CALLER, true), (60_000, STRANGER, false)]),
            (
                "behind NAT: the first source in the window",
                Latch::Strict,
                &[(1_500, NAT, true), (1_600, STRANGER, false), (90_000, NAT, true)],
            ),
            ("the window's last moment", Latch::Strict, &[(2_000, NAT, true)]),
            ("one past the window", Latch::Strict, &[(2_001, NAT, false), (2_002, CALLER, true), (2_003, NAT, false)]),
            ("the SDP's address wins over a stranger", Latch::Strict, &[(0, STRANGER, true), (20, CALLER, true), (21, STRANGER, false)]),
            ("and also after the window", Latch::Strict, &[(0, STRANGER, true), (9_000, CALLER, true), (9_001, STRANGER, false)]),
            ("same address, other port, is another source", Latch::Strict, &[(2_500, "192.0.2.1:4002", false)]),
            ("sdp: nobody else, not even first", Latch::Sdp, &[(0, NAT, false), (1, CALLER, true), (9_000, NAT, false)]),
            ("learn: closed while the source speaks", Latch::Learn, &[(0, CALLER, true), (2_999, NAT, false)]),
            ("learn: open after 3 s of silence", Latch::Learn, &[(0, CALLER, true), (3_000, NAT, true), (3_020, STRANGER, false)]),
            ("learn: a late first packet", Latch::Learn, &[(2_500, NAT, false), (3_000, NAT, true)]),
            ("strict: never open again", Latch::Strict, &[(0, CALLER, true), (3_600_000, NAT, false)]),
        ];
        for (name, latch, packets) in table {
            let mut r = relay(*latch);
            for (time, from, relayed) in *packets {
                let want = if *relayed { to(CALLEE) } else { STRANGE };
                assert_eq!(from_caller(&mut r, from, *time), want, "{name}: {from} at {time} ms");
            }
        }
    }

    /// RFC 4961 is symmetric RTP: what a peer behind NAT is sent goes to where it speaks from.
    #[test]
    fn a_peer_behind_nat_is_answered_where_it_speaks_from() {
        let mut r = relay(Latch::Strict);
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(0)), to(CALLER), "its SDP's address until it speaks");
        from_caller(&mut r, "203.0.113.5:31000", 10);
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(20)), to("203.0.113.5:31000"));
        let out = r.route(Side::Callee, Port::Rtcp, at("198.51.100.7:6001"), &rtcp(), ms(20));
        assert_eq!(out, Route::Forward { to: at("192.0.2.1:4001"), port: Port::Rtcp }, "RTCP has a latch of its own");
        r.route(Side::Caller, Port::Rtcp, at("203.0.113.5:31001"), &rtcp(), ms(30));
        let out = r.route(Side::Callee, Port::Rtcp, at("198.51.100.7:6001"), &rtcp(), ms(40));
        assert_eq!(out, Route::Forward { to: at("203.0.113.5:31001"), port: Port::Rtcp });
    }

    #[test]
    fn any_ssrc_of_the_latched_source_is_taken() {
        let mut r = relay(Latch::Strict);
        let mut packet = rtp();
        assert_eq!(r.route(Side::Caller, Port::Rtp, at(CALLER), &packet, ms(0)), to(CALLEE));
        // RFC 3550 §8.2: a source that finds its SSRC taken changes it in mid-stream.
        packet[8..12].copy_from_slice(&[9, 9, 9, 9]);
        assert_eq!(r.route(Side::Caller, Port::Rtp, at(CALLER), &packet, ms(20)), to(CALLEE));
    }

    #[test]
    fn a_new_aim_redirects_the_next_packet_and_opens_the_latch() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, CALLER, 0);
        r.aim(Side::Caller, peer("192.0.2.9:5000"), ms(10_000));
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(10_001)), to("192.0.2.9:5000"));
        assert_eq!(from_caller(&mut r, CALLER, 10_100), STRANGE, "what was under way from the old source does not latch it back");
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 10_200), to(CALLEE));
        assert_eq!(from_caller(&mut r, CALLER, 10_600), STRANGE);
    }

    #[test]
    fn a_nat_that_keeps_its_address_over_a_new_sdp_latches_again() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, "203.0.113.5:31000", 0);
        r.aim(Side::Caller, peer("192.0.2.9:5000"), ms(10_000));
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 10_499), STRANGE);
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 10_500), to(CALLEE));
    }

    #[test]
    fn the_same_sdp_again_keeps_the_latch() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, "203.0.113.5:31000", 0);
        r.aim(Side::Caller, peer(CALLER), ms(60_000));
        assert_eq!(from_caller(&mut r, STRANGER, 60_001), STRANGE);
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(60_002)), to("203.0.113.5:31000"));
    }

    #[test]
    fn the_same_sdp_again_opens_a_window_that_nobody_used() {
        let mut r = relay(Latch::Strict);
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 5_000), STRANGE);
        r.aim(Side::Caller, peer(CALLER), ms(6_000));
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 7_000), to(CALLEE));
    }

    #[test]
    fn a_peer_that_wants_nothing_gets_nothing_but_is_heard() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, CALLER, 0);
        r.aim(Side::Caller, None, ms(1_000));
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(1_001)), Route::Drop(Why::NoPeer));
        assert_eq!(from_caller(&mut r, CALLER, 1_020), to(CALLEE), "music on hold");
        assert_eq!(from_caller(&mut r, STRANGER, 1_030), STRANGE);
        r.aim(Side::Caller, peer(CALLER), ms(2_000));
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(2_001)), to(CALLER));
        assert_eq!(from_caller(&mut r, STRANGER, 2_030), STRANGE, "resuming at the same place opens no window");
    }

    #[test]
    fn nothing_is_sent_before_a_peer_has_said_where() {
        let mut r = Relay::new(1, ms(0));
        assert_eq!(from_caller(&mut r, CALLER, 0), Route::Drop(Why::NotOpen));
        r.open(Side::Caller, Latch::Strict, ms(0));
        r.aim(Side::Caller, peer(CALLER), ms(0));
        assert_eq!(from_caller(&mut r, CALLER, 0), Route::Drop(Why::NoPeer));
        r.open(Side::Callee, Latch::Strict, ms(0));
        assert_eq!(from_caller(&mut r, CALLER, 0), Route::Drop(Why::NoPeer));
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(100)), to(CALLER), "early media ahead of its SDP");
        assert_eq!(from_caller(&mut r, CALLER, 110), Route::Drop(Why::NoPeer), "but nothing back on a guess");
    }

    #[test]
    fn garbage_never_latches_and_is_counted() {
        let mut r = relay(Latch::Strict);
        let stun = [0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0];
        let out = r.route(Side::Caller, Port::Rtp, at(STRANGER), &stun, ms(0));
        assert_eq!(out, Route::Drop(Why::NotMedia(NotMedia::Version)));
        assert_eq!(r.route(Side::Caller, Port::Rtcp, at(CALLER), &rtp(), ms(0)), Route::Drop(Why::WrongPort));
        assert_eq!(r.route(Side::Caller, Port::Rtp, at(STRANGER), &rtcp(), ms(0)), STRANGE, "RTCP does not latch the RTP port");
        assert_eq!(r.take_event(), None);
        assert_eq!(from_caller(&mut r, "203.0.113.5:31000", 10), to(CALLEE), "the window is still unused");
        assert_eq!(r.close(Side::Caller).dropped, 3);
    }

    /// RFC 5761: a peer that multiplexes without asking is still understood.
    #[test]
    fn rtcp_on_the_rtp_port_leaves_by_the_rtcp_port() {
        let mut r = relay(Latch::Strict);
        let out = r.route(Side::Caller, Port::Rtp, at(CALLER), &rtcp(), ms(0));
        assert_eq!(out, Route::Forward { to: at("198.51.100.7:6001"), port: Port::Rtcp });
    }

    #[test]
    fn idle_is_said_once_and_only_when_neither_side_speaks() {
        let mut r = relay(Latch::Strict);
        assert_eq!(r.on_idle_sweep(ms(999_000)), None, "not watched before the answer");
        r.watch(Side::Caller, Duration::from_secs(60), ms(0));
        assert_eq!(r.on_idle_sweep(ms(59_999)), None);
        r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(59_999));
        assert_eq!(r.on_idle_sweep(ms(119_998)), None);
        assert_eq!(from_caller(&mut r, STRANGER, 119_998), STRANGE, "a stranger keeps no call alive");
        assert_eq!(r.on_idle_sweep(ms(119_999)), Some((Side::Caller, MediaEvent::Idle)));
        assert_eq!(r.on_idle_sweep(ms(200_000)), None);
        r.watch(Side::Callee, Duration::ZERO, ms(200_000));
        assert_eq!(r.on_idle_sweep(ms(900_000)), None, "zero is off");
    }

    fn silence(r: &mut Relay, now: u64) -> Vec<(SocketAddr, RtpHead, Vec<u8>)> {
        let mut all = Vec::new();
        let mut out = [0; SILENCE_BYTES_MAX];
        while let Some((to, n)) = r.silence(Side::Caller, ms(now), &mut out) {
            let Ok(Packet::Rtp(head)) = Packet::parse(&out[..n]) else { panic!("no RTP") };
            all.push((to, head, out[12..n].to_vec()));
        }
        all
    }

    #[test]
    fn a_held_side_hears_silence_every_20_ms_and_nobody_else() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, CALLER, 0);
        r.watch(Side::Caller, Duration::from_secs(60), ms(0));
        assert_eq!(r.next_silence(), None);
        r.hold(Side::Caller, 8, 0xd5, 160, ms(1_000));
        assert_eq!(r.next_silence(), Some(ms(1_000)));
        let first = silence(&mut r, 1_000);
        assert_eq!(first.len(), 1);
        let (to, head, payload) = &first[0];
        assert_eq!((*to, head.payload_type, head.marker), (at(CALLER), 8, true));
        assert_eq!(*payload, [0xd5; 160]);
        assert!(silence(&mut r, 1_019).is_empty());
        let second = silence(&mut r, 1_020);
        let (_, next, _) = &second[0];
        // RFC 3550 §5.1: the sequence number rises by one, the timestamp by the samples sent.
        assert_eq!(next.sequence, head.sequence.wrapping_add(1));
        assert_eq!(next.timestamp, head.timestamp.wrapping_add(160));
        assert_eq!((next.ssrc, next.marker), (head.ssrc, false));
        assert_eq!(from_caller(&mut r, CALLER, 1_030), Route::Drop(Why::Held));
        assert_eq!(r.route(Side::Callee, Port::Rtp, at(CALLEE), &rtp(), ms(1_030)), Route::Drop(Why::Held));
        assert_eq!(r.on_idle_sweep(ms(500_000)), None, "a held call is not watched");
        assert_eq!(r.close(Side::Caller).tx, 2);
        assert_eq!(r.next_silence(), None);
    }

    #[test]
    fn a_late_tick_makes_up_for_a_little_and_jumps_over_much() {
        let mut r = relay(Latch::Strict);
        r.hold(Side::Caller, 0, 0xff, 160, ms(0));
        let head = silence(&mut r, 0)[0].1;
        assert_eq!(silence(&mut r, 60).len(), 3);
        let after = silence(&mut r, 1_000);
        assert_eq!(after.len(), 1, "no burst");
        assert_eq!(after[0].1.timestamp, head.timestamp.wrapping_add(50 * 160), "the timestamp shows the gap");
        assert_eq!(after[0].1.sequence, head.sequence.wrapping_add(4), "and no packet was lost");
        assert_eq!(r.next_silence(), Some(ms(1_020)));
    }

    #[test]
    fn silence_without_an_address_only_passes_the_time() {
        let mut r = relay(Latch::Strict);
        r.hold(Side::Caller, 0, 0xff, 160, ms(0));
        r.aim(Side::Caller, None, ms(0));
        assert!(silence(&mut r, 0).is_empty());
        assert_eq!(r.next_silence(), Some(ms(20)));
        r.aim(Side::Caller, peer("192.0.2.9:5000"), ms(10));
        assert_eq!(silence(&mut r, 20)[0].0, at("192.0.2.9:5000"));
        r.hold(Side::Caller, 8, 0xd5, 160, ms(30));
        let (_, head, payload) = silence(&mut r, 40).remove(0);
        assert_eq!((head.payload_type, payload[0], head.marker), (8, 0xd5, false), "another codec, the same stream");
    }

    #[test]
    fn what_could_not_be_sent_was_not_sent() {
        let mut r = relay(Latch::Strict);
        from_caller(&mut r, CALLER, 0);
        r.not_sent(Side::Callee, Port::Rtp);
        assert_eq!(r.close(Side::Callee), MediaStats { dropped: 1, ..MediaStats::default() });
    }
}
