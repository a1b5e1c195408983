//! The loop of the media thread.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mio::Events;
use mio::Poll;
use mio::Token;

use super::Ask;
use super::Inbox;
use super::MediaConfig;
use super::pool::Owner;
use super::pool::Pool;
use super::pool::SocketId;
use crate::call::anchor::Latch;
use crate::call::anchor::MediaEvent;
use crate::call::anchor::MediaOrder;
use crate::call::anchor::PortPair;
use crate::call::anchor::relay::Port;
use crate::call::anchor::relay::Relay;
use crate::call::anchor::relay::Route;
use crate::edge::clock::Clock;
use crate::ids::CallHandle;
use crate::ids::Side;
use crate::time::Time;
use crate::wire::rtp::RTP_BYTES_MAX;
use crate::wire::rtp::SILENCE_BYTES_MAX;

pub(super) const WAKE: Token = Token(usize::MAX);

const EVENTS_PER_POLL: usize = 1024;

/// Packets that one socket may bring before the others have their turn.
const PACKETS_PER_TURN: usize = 16;

/// A round with more packets than this is a busy one, and the next waits for its millisecond.
const GATHER_OVER_PACKETS: usize = 4;

const GATHER_MICROS: u64 = 1_000;

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// While there are calls: how long an order that is not urgent may wait.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Packets that are thrown away when a pair is taken into service; more than its receive buffer holds.
const FLUSH_PACKETS_MAX: usize = 1_024;

type OnEvent = Box<dyn Fn(CallHandle, Side, MediaEvent) + Send>;
type OnBound = Box<dyn Fn(Vec<PortPair>, bool) + Send>;

/// A call, and which slots its sides have.
struct LiveCall {
    handle: CallHandle,
    relay: Relay,
    caller: Option<usize>,
    callee: Option<usize>,
}

impl LiveCall {
    fn slot(&self, side: Side) -> Option<usize> {
        match side {
            Side::Caller => self.caller,
            Side::Callee => self.callee,
        }
    }

    fn set_slot(&mut self, side: Side, slot: Option<usize>) -> Option<usize> {
        let place = match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        };
        std::mem::replace(place, slot)
    }
}

/// How a socket's turn ended.
enum Turn {
    Drained,
    /// There may be more: the edge-triggered poll will not tell again.
    More,
}

pub(super) struct Worker {
    poll: Poll,
    inbox: Inbox,
    pool: Pool,
    calls: Vec<Option<LiveCall>>,
    vacant: Vec<usize>,
    places: HashMap<CallHandle, usize>,
    /// Sockets that have, or may have, packets.
    hot: VecDeque<SocketId>,
    /// Calls with a held side.
    silent: Vec<usize>,
    silence_due: Option<Time>,
    sweep_due: Time,
    clock: Clock,
    /// Read once a round.
    now: Time,
    buffer: Box<[u8; RTP_BYTES_MAX + 1]>,
    on_event: OnEvent,
    on_bound: OnBound,
}

impl Worker {
    pub fn new(poll: Poll, inbox: Inbox, config: &MediaConfig, on_event: OnEvent, on_bound: OnBound) -> Worker {
        let clock = Clock::start();
        let now = clock.now();
        Worker {
            poll,
            inbox,
            pool: Pool::new(config),
            calls: Vec::new(),
            vacant: Vec::new(),
            places: HashMap::new(),
            hot: VecDeque::new(),
            silent: Vec::new(),
            silence_due: None,
            sweep_due: now + SWEEP_EVERY,
            clock,
            now,
            buffer: Box::new([0; RTP_BYTES_MAX + 1]),
            on_event,
            on_bound,
        }
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut asks = VecDeque::new();
        while !self.inbox.is_stopping() {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "media.poll_failed");
                    thread::sleep(Duration::from_millis(10));
                }
            }
            self.now = self.clock.now();
            for event in events.iter().filter(|e| e.token() != WAKE) {
                self.heat(SocketId::of(event.token()));
            }
            // Orders that woke nobody are there too.
            self.inbox.take(&mut asks);
            asks.drain(..).for_each(|ask| self.obey(ask));
            let packets = self.round();
            self.sound_silence();
            self.sweep();
            if packets > GATHER_OVER_PACKETS && self.hot.is_empty() {
                let into = self.clock.now().as_micros() % GATHER_MICROS;
                thread::sleep(Duration::from_micros(GATHER_MICROS - into));
            }
        }
    }

    /// How long the poll may wait.
    fn patience(&self) -> Duration {
        if !self.hot.is_empty() {
            return Duration::ZERO;
        }
        let due = self.silence_due.map_or(self.sweep_due, |silence| silence.min(self.sweep_due));
        let rest = due.since(self.clock.now());
        if self.places.is_empty() { rest } else { rest.min(LOOK_EVERY) }
    }

    fn heat(&mut self, id: SocketId) {
        if let Some(slot) = self.pool.slots.get_mut(id.slot)
            && !std::mem::replace(&mut slot.line(id.port).queued, true)
        {
            self.hot.push_back(id);
        }
    }

    /// One turn for each hot socket; who has more goes to the back. Returns the number of packets.
    fn round(&mut self) -> usize {
        let mut packets = 0;
        for _ in 0..self.hot.len() {
            let Some(id) = self.hot.pop_front() else {
                break;
            };
            match self.turn(id, &mut packets) {
                Turn::More => self.hot.push_back(id),
                Turn::Drained => {
                    if let Some(slot) = self.pool.slots.get_mut(id.slot) {
                        slot.line(id.port).queued = false;
                    }
                }
            }
        }
        packets
    }

    fn turn(&mut self, id: SocketId, packets: &mut usize) -> Turn {
        let Some(slot) = self.pool.slots.get(id.slot) else {
            return Turn::Drained;
        };
        let owner = slot.owner;
        for _ in 0..PACKETS_PER_TURN {
            let received = self.pool.slots[id.slot].socket(id.port).recv_from(&mut self.buffer[..]);
            match received {
                Ok((length, from)) => {
                    *packets += 1;
                    match owner {
                        Some(owner) => self.pass(owner, id.port, from, length),
                        None => self.inbox.count_strays(1),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Drained,
                // An ICMP error of an earlier send, or a signal: it says nothing about the next packet.
                Err(_) => {}
            }
        }
        Turn::More
    }

    fn pass(&mut self, Owner { call, side }: Owner, port: Port, from: SocketAddr, length: usize) {
        let Some(Some(live)) = self.calls.get_mut(call) else {
            return;
        };
        let packet = &self.buffer[..length];
        if let Route::Forward { to, port } = live.relay.route(side, port, from, packet, self.now) {
            let slot = live.slot(!side).and_then(|slot| self.pool.slots.get(slot));
            let sent = slot.is_some_and(|slot| slot.socket(port).send_to(packet, to).is_ok());
            if !sent {
                live.relay.not_sent(!side, port);
            }
        }
        if let Some((side, event)) = live.relay.take_event() {
            (self.on_event)(live.handle, side, event);
        }
    }

    fn obey(&mut self, ask: Ask) {
        match ask {
            Ask::Bind { count, v6 } => {
                let (pairs, exhausted) = self.pool.bind(self.poll.registry(), count, v6);
                (self.on_bound)(pairs, exhausted);
            }
            Ask::Order { call, side, order: MediaOrder::Open { pair, latch } } => {
                if let Err(why) = self.open(call, side, &pair, latch) {
                    (self.on_event)(call, side, MediaEvent::Failed { why });
                }
            }
            Ask::Order { call, side, order: MediaOrder::Close } => self.close(call, side),
            Ask::Order { call, side, order } => {
                let place = self.places.get(&call).copied();
                let Some((place, live)) = place.and_then(|at| Some((at, self.calls.get_mut(at)?.as_mut()?))) else {
                    return tracing::debug!(call = call.0, ?side, ?order, "media.order_for_nobody");
                };
                match order {
                    MediaOrder::Aim { peer } => live.relay.aim(side, peer, self.now),
                    MediaOrder::Watch { idle } => live.relay.watch(side, idle, self.now),
                    MediaOrder::Silence { payload_type, silence_byte, samples } => {
                        live.relay.hold(side, payload_type, silence_byte, samples, self.now);
                        if !self.silent.contains(&place) {
                            self.silent.push(place);
                        }
                        self.silence_due = Some(self.now);
                    }
                    MediaOrder::Open { .. } | MediaOrder::Close => {}
                }
            }
        }
    }

    fn open(&mut self, call: CallHandle, side: Side, pair: &PortPair, latch: Latch) -> Result<(), String> {
        let slot = self.pool.find(pair).ok_or_else(|| format!("port {} at {} is not bound", pair.rtp, pair.ip))?;
        let place = self.places.get(&call).copied();
        match self.pool.slots[slot].owner {
            Some(owner) if place != Some(owner.call) || side != owner.side => {
                return Err(format!("port {} at {} is in use", pair.rtp, pair.ip));
            }
            _ => {}
        }
        self.flush(slot);
        let place = place.unwrap_or_else(|| self.admit(call));
        let Some(live) = self.calls.get_mut(place).and_then(Option::as_mut) else {
            return Err("the call is gone".to_owned());
        };
        live.relay.open(side, latch, self.now);
        if let Some(old) = live.set_slot(side, Some(slot)) {
            self.pool.slots[old].owner = None;
        }
        self.pool.slots[slot].owner = Some(Owner { call: place, side });
        Ok(())
    }

    /// Throws away what came while the pair was nobody's.
    fn flush(&mut self, slot: usize) {
        let mut strays = 0;
        for port in [Port::Rtp, Port::Rtcp] {
            for _ in 0..FLUSH_PACKETS_MAX {
                match self.pool.slots[slot].socket(port).recv_from(&mut self.buffer[..]) {
                    Ok(_) => strays += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            // Should more have come than we looked at, nobody would tell.
            self.heat(SocketId { slot, port });
        }
        self.inbox.count_strays(strays);
    }

    fn admit(&mut self, handle: CallHandle) -> usize {
        // Random for each process, so that nobody outside can tell it (RFC 3550 §8.1).
        let ssrc = self.places.hasher().hash_one((handle, self.now)) as u32;
        let live = LiveCall { handle, relay: Relay::new(ssrc, self.now), caller: None, callee: None };
        let place = self.vacant.pop().unwrap_or(self.calls.len());
        match self.calls.get_mut(place) {
            Some(vacant) => *vacant = Some(live),
            None => self.calls.push(Some(live)),
        }
        self.places.insert(handle, place);
        place
    }

    /// Answered also for a side that is not open: the core's ledger waits for it.
    fn close(&mut self, call: CallHandle, side: Side) {
        let mut stats = crate::call::anchor::MediaStats::default();
        if let Some(place) = self.places.get(&call).copied()
            && let Some(Some(live)) = self.calls.get_mut(place)
        {
            stats = live.relay.close(side);
            if let Some(slot) = live.set_slot(side, None) {
                self.pool.slots[slot].owner = None;
            }
            if live.relay.is_closed() {
                self.calls[place] = None;
                self.vacant.push(place);
                self.places.remove(&call);
            }
        }
        (self.on_event)(call, side, MediaEvent::Closed(stats));
    }

    /// Sends the packets of silence that are due.
    fn sound_silence(&mut self) {
        if self.silence_due.is_none_or(|due| self.now < due) {
            return;
        }
        let mut out = [0; SILENCE_BYTES_MAX];
        let mut next = None;
        let (calls, pool, now) = (&mut self.calls, &self.pool, self.now);
        self.silent.retain(|place| {
            let Some(Some(live)) = calls.get_mut(*place) else {
                return false;
            };
            for side in [Side::Caller, Side::Callee] {
                while let Some((to, length)) = live.relay.silence(side, now, &mut out) {
                    let slot = live.slot(side).and_then(|slot| pool.slots.get(slot));
                    if slot.is_none_or(|slot| slot.socket(Port::Rtp).send_to(&out[..length], to).is_err()) {
                        live.relay.not_sent(side, Port::Rtp);
                    }
                }
            }
            let due = live.relay.next_silence();
            next = next.into_iter().chain(due).min();
            due.is_some()
        });
        self.silence_due = next;
    }

    fn sweep(&mut self) {
        if self.now < self.sweep_due {
            return;
        }
        self.sweep_due = self.now + SWEEP_EVERY;
        for live in self.calls.iter_mut().flatten() {
            if let Some((side, event)) = live.relay.on_idle_sweep(self.now) {
                (self.on_event)(live.handle, side, event);
            }
        }
    }
}
