//! The stairwell: routes each input to its floor and back down.

mod calls;
mod digest;
mod flows;
pub mod gate;
mod inbound;
mod invites;
pub mod io;
mod outbound;
mod peers;
mod places;
pub mod ports;
mod probes;
mod screen;
pub mod timers;
#[cfg(test)]
mod wall;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use compact_str::CompactString;

use crate::b2bua::calls::CallEntry;
use crate::b2bua::calls::Later;
use crate::b2bua::calls::Rate;
use crate::b2bua::digest::Challenger;
use crate::b2bua::flows::Flows;
use crate::b2bua::gate::Gate;
use crate::b2bua::inbound::ServerEntry;
use crate::b2bua::io::Action;
use crate::b2bua::io::Command;
use crate::b2bua::io::Counts;
use crate::b2bua::io::Input;
use crate::b2bua::io::Reach;
use crate::b2bua::io::Reply as CommandReply;
use crate::b2bua::outbound::ClientEntry;
use crate::b2bua::peers::Standing;
use crate::b2bua::places::Asked;
use crate::b2bua::ports::Ledger;
use crate::b2bua::timers::Owner;
use crate::b2bua::timers::Wheel;
use crate::call::escalation::Marker;
use crate::call::rules::Target;
use crate::call::rules::TargetName;
use crate::config::Config;
use crate::ids::AskId;
use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::LocalTag;
use crate::ids::Minter;
use crate::ids::QueryId;
use crate::ids::RecordId;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::time::Time;
use crate::transaction::MergeKey;
use crate::transaction::ServerKey;
use crate::transaction::Timers;
use crate::trunk::Trunk;
use crate::wire::auth::Session;

/// A keyed map: what a peer chooses can not make its buckets collide. Never iterated: its order would differ between runs.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Entries for which a map keeps its room whatever happens.
const ROOM_KEPT_ENTRIES: usize = 1024;

/// Gives back what a peak of load took. Only when little of it is in use, and halfway down: a load that swings shall not allocate with
/// each swing.
pub(crate) fn give_room_back<K: Eq + Hash, V>(map: &mut Map<K, V>) {
    if map.capacity() > 16 * (map.len() + ROOM_KEPT_ENTRIES) {
        map.shrink_to(4 * (map.len() + ROOM_KEPT_ENTRIES));
    }
}

/// RFC 3261 table 4.
const T2: Duration = Duration::from_secs(4);
/// RFC 3261 table 4.
const T4: Duration = Duration::from_secs(5);
/// After a second wish to end, calls whose BYE nobody answers are waited for no longer than this.
const FORCED_DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Server transactions of one core; a request beyond them is answered 503 without state.
pub const SERVER_TRANSACTIONS_MAX: usize = 200_000;
/// With no more than these and no call the core rests.
const RESTING_TRANSACTIONS_MAX: usize = 64;
/// Client transactions of one core.
pub const CLIENT_TRANSACTIONS_MAX: usize = 200_000;

/// Forks of one INVITE that are acknowledged and ended when they answer, too (RFC 3261 §13.2.2.4); no carrier has as many.
pub const FORKS_ENDED_MAX: usize = 8;

/// How much one core holds at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub server_transactions: usize,
    pub client_transactions: usize,
    pub queries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { server_transactions: SERVER_TRANSACTIONS_MAX, client_transactions: CLIENT_TRANSACTIONS_MAX, queries: places::QUERIES_MAX }
    }
}

/// Letting nothing new in.
#[derive(Debug)]
enum Drain {
    No,
    /// Running calls may end by themselves until then.
    Until(Time),
    /// They were told to end.
    Forced(Time),
    Done,
}

/// The core: every call of one thread.
pub struct B2bua {
    config: Arc<Config>,
    timers: Timers,
    limits: Limits,
    mint: Minter,
    report_messages: bool,
    wheel: Wheel,
    ledger: Ledger,
    flows: Flows,
    targets: Map<TargetName, Vec<Reach>>,
    servers: Map<ServerTxId, ServerEntry>,
    server_keys: Map<ServerKey, ServerTxId>,
    merged: Map<MergeKey, ServerTxId>,
    clients: Map<ClientTxId, ClientEntry>,
    /// By branch and "is it a CANCEL" (RFC 3261 §17.1.3: method of the CSeq).
    branches: Map<(Box<[u8]>, bool), ClientTxId>,
    gate: Gate,
    trunk: Trunk,
    /// OPTIONS of ours under way.
    probes: Map<ClientTxId, Target>,
    /// Nonces of Synthflow's, to be used again.
    nonces: Map<Challenger, Session>,
    /// Ordered, so that a walk over all calls is the same in every run.
    calls: BTreeMap<CallHandle, Box<CallEntry>>,
    owners: Map<LocalTag, (CallHandle, Side)>,
    queries: Map<QueryId, Asked>,
    /// The query that is under way for a name.
    names: Map<CompactString, QueryId>,
    /// Records under way, oldest first.
    records: VecDeque<(RecordId, CallHandle, Marker)>,
    rate: Rate,
    drain: Drain,
    /// What a call is told once the present step is done.
    later: VecDeque<Later>,
    actions: VecDeque<Action>,
}

impl std::fmt::Debug for B2bua {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("B2bua").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl B2bua {
    /// `report_messages`: make a `Fact::Message` of each SIP message (for ladders).
    pub fn new(config: Arc<Config>, seed: [u8; 32], shard: u8, report_messages: bool, now: Time) -> Self {
        let mut mint = Minter::new(seed, shard);
        let mut key = || mint.below(u64::MAX);
        let hasher = RandomState::with_seeds(key(), key(), key(), key());
        let gate = Gate::new(&mut mint, hasher.clone());
        let timers = Timers { t1: config.sip.t1, t2: T2, t4: T4 };
        let mut core = B2bua {
            timers,
            limits: Limits::default(),
            report_messages,
            wheel: Wheel::new(),
            ledger: Ledger::new(),
            flows: Flows::new(&config, hasher.clone()),
            targets: Map::with_hasher(hasher.clone()),
            servers: Map::with_hasher(hasher.clone()),
            server_keys: Map::with_hasher(hasher.clone()),
            merged: Map::with_hasher(hasher.clone()),
            clients: Map::with_hasher(hasher.clone()),
            branches: Map::with_hasher(hasher.clone()),
            gate,
            trunk: Trunk::new(config.synthflow.options_interval),
            probes: Map::with_hasher(hasher.clone()),
            nonces: Map::with_hasher(hasher.clone()),
            calls: BTreeMap::new(),
            owners: Map::with_hasher(hasher.clone()),
            queries: Map::with_hasher(hasher.clone()),
            names: Map::with_hasher(hasher),
            records: VecDeque::new(),
            rate: Rate::new(config.node.max_cps, now),
            drain: Drain::No,
            later: VecDeque::new(),
            actions: VecDeque::new(),
            mint,
            config,
        };
        core.bind_ahead();
        core
    }

    /// Less than the usual limits, for a small machine or a test one past them.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one input. Afterwards `poll_action` is drained to `None`.
    pub fn handle(&mut self, input: Input, now: Time) {
        debug_assert!(self.actions.is_empty() || matches!(input, Input::Listening { .. }), "actions were left");
        match input {
            Input::Sip { flow, remote, local, bytes } => self.on_sip(flow, remote, local, bytes, now),
            Input::Broken { flow, remote, local, why, head } => self.on_broken(flow, remote, local, &why, head, now),
            Input::Listening { listener, transport, local } => self.flows.listening(listener, transport, local),
            Input::FlowUp { conn, local, remote, dialled: _ } => self.on_flow_up(conn, local, remote, now),
            Input::FlowLost { flow, why } => self.on_flow_lost(flow, &why, now),
            Input::Targets { name, result } => {
                if let Ok(reach) = result
                    && !reach.is_empty()
                {
                    self.targets.insert(name, reach);
                    self.watch_targets(now);
                }
            }
            Input::Resolved { query, result } => self.on_resolved(query, result, now),
            Input::PortsBound { pairs, exhausted } => {
                self.ledger.bound(&pairs, exhausted);
                self.bind_ahead();
            }
            Input::Media { call, side, event } => self.with_call(call, now, |c, cx| c.on_media(side, event, cx)),
            Input::Recorded { up_to } => self.on_recorded(up_to, now),
            Input::RecordFailed { record, why } => self.on_record_failed(record, &why, now),
            Input::SignalAnswered { call, try_no, answer } => self.with_call(call, now, |c, cx| c.on_signal_answer(try_no, answer, cx)),
            Input::Asked { ask, command } => self.on_command(ask, command, now),
        }
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(owner) = self.wheel.pop(now) {
            match owner {
                Owner::Server(tx) => self.on_server_timeout(tx, now),
                Owner::Client(tx) => self.on_client_timeout(tx, now),
                Owner::Call(call) => self.with_call(call, now, |c, cx| c.on_timeout(cx)),
                Owner::Ports => {
                    self.ledger.on_timeout(now);
                    self.wheel.set(Owner::Ports, self.ledger.deadline());
                    self.bind_ahead();
                }
                Owner::Drain => self.on_drain_deadline(now),
                Owner::Trunk => self.probe_targets(now),
            }
            self.settle(now);
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Everything that one step made other machines wait to hear, until nothing is left.
    fn settle(&mut self, now: Time) {
        while let Some(later) = self.later.pop_front() {
            self.on_later(later, now);
        }
        if self.calls.is_empty() && matches!(self.drain, Drain::Until(_) | Drain::Forced(_)) {
            self.drained();
        }
    }

    fn bind_ahead(&mut self) {
        for v6 in [false, true] {
            if !self.config.media.bind.iter().any(|ip| ip.is_ipv6() == v6) {
                continue;
            }
            let count = self.ledger.wants(v6);
            if count > 0 {
                self.actions.push_back(Action::BindPorts { count, v6 });
            }
        }
    }

    fn standing(&self, remote: SocketAddr, any_port: bool) -> Standing {
        Standing::of(remote, &self.config, &self.targets, any_port)
    }

    fn is_draining(&self) -> bool {
        !matches!(self.drain, Drain::No)
    }

    // ---- commands

    fn on_command(&mut self, ask: AskId, command: Command, now: Time) {
        let reply = match command {
            Command::Counts => CommandReply::Counts(self.counts()),
            Command::Drain { within } => {
                self.drain(within, now);
                CommandReply::Draining { calls: self.calls.len() }
            }
        };
        self.actions.push_back(Action::Answer { ask, reply });
    }

    fn drain(&mut self, within: Duration, now: Time) {
        match self.drain {
            Drain::No if !within.is_zero() => {
                self.drain = Drain::Until(now + within);
                self.wheel.set(Owner::Drain, Some(now + within));
            }
            Drain::Done | Drain::Forced(_) => {}
            Drain::No | Drain::Until(_) => self.force(now),
        }
    }

    fn on_drain_deadline(&mut self, now: Time) {
        match self.drain {
            Drain::Until(at) if at <= now => self.force(now),
            Drain::Forced(at) if at <= now => self.drained(),
            _ => {}
        }
    }

    fn force(&mut self, now: Time) {
        self.drain = Drain::Forced(now + FORCED_DRAIN_WAIT);
        self.wheel.set(Owner::Drain, Some(now + FORCED_DRAIN_WAIT));
        let all: Vec<CallHandle> = self.calls.keys().copied().collect();
        for call in all {
            self.with_call(call, now, |c, cx| c.hang_up("shutting down", cx));
        }
    }

    fn drained(&mut self) {
        self.drain = Drain::Done;
        self.wheel.set(Owner::Drain, None);
        self.actions.push_back(Action::Drained);
    }

    /// Nothing is up, and next to no transaction waits for its timers: probes of a dead target never end.
    pub fn is_at_rest(&self) -> bool {
        self.calls.is_empty() && self.servers.len() + self.clients.len() <= RESTING_TRANSACTIONS_MAX
    }

    /// What the core holds.
    pub fn counts(&self) -> Counts {
        Counts {
            calls: self.calls.len(),
            dialogs: self.owners.len(),
            server_transactions: self.servers.len(),
            client_transactions: self.clients.len(),
            timers: self.wheel.len(),
            ports_free: self.ledger.free(false) + self.ledger.free(true),
            ports_taken: self.ledger.taken(),
            ports_quarantined: self.ledger.quarantined(),
            queries: self.queries.len(),
        }
    }
}

#[cfg(test)]
mod room_tests {
    use super::*;

    #[test]
    fn a_map_gives_the_room_of_a_peak_back_and_keeps_that_of_its_daily_load() {
        let mut map: Map<u32, [u8; 64]> = Map::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        (0..50_000).for_each(|n| {
            map.insert(n, [0; 64]);
        });
        let peak = map.capacity();
        let mut shrunk = 0;
        for n in 0..50_000 {
            map.remove(&n);
            let before = map.capacity();
            give_room_back(&mut map);
            shrunk += usize::from(map.capacity() < before);
        }
        assert!(map.capacity() < 16 * ROOM_KEPT_ENTRIES && peak > 50_000, "{peak} -> {}", map.capacity());
        assert!(shrunk <= 3, "{shrunk} times");
        let daily = map.capacity();
        (0..1_000).for_each(|n| {
            map.insert(n, [0; 64]);
        });
        map.clear();
        give_room_back(&mut map);
        assert_eq!(map.capacity(), daily);
    }
}
