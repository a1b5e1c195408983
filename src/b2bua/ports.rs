//! The port ledger: which pairs the edge has bound, which are lent out, which rest.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use ahash::RandomState;

use crate::call::anchor::PortPair;
use crate::time::Time;

/// How long a pair rests after its call: packets of the old peer that are still under way must not reach a new call.
pub const PORT_QUARANTINE: Duration = Duration::from_secs(2);

/// Free pairs that are kept bound ahead of need, per family: SDP is written at once, and binding takes a turn of the edge.
pub const PORT_PAIRS_AHEAD: usize = 64;

/// The largest request to the edge. Each pair is two sockets, so this is also how far the ledger can overshoot.
pub const PORT_PAIRS_BATCH_MAX: usize = 512;

/// Free list (oldest first), quarantine by time, and what to ask the edge for.
#[derive(Debug)]
pub struct Ledger {
    v4: Family,
    v6: Family,
    /// Every pair that was ever bound, and where it is: nothing is lent twice, and nothing unknown comes in by `give_back`.
    places: HashMap<PortPair, Place, RandomState>,
    taken: usize,
    /// By end of rest: the quarantine is the same for all, so the order of giving back is the order of release.
    resting: VecDeque<(Time, PortPair)>,
    /// Requests without an answer yet, oldest first (`true`: IPv6). An answer without a pair in it names no family.
    unanswered: VecDeque<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Free,
    Taken,
    Resting,
}

#[derive(Debug)]
struct Family {
    free: VecDeque<PortPair>,
    supply: Supply,
    batch: usize,
}

/// What the edge can still give.
///
/// ```text
///             wants > 0            bound: some pairs
///   Ready ─────────────► Asked ─────────────────────► Ready
///     ▲                    │ bound: none, not exhausted (out of descriptors, say)
///     │  take, give_back   ▼
///     └───────────────── Stuck          bound: exhausted, from anywhere ──► Exhausted
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Supply {
    Ready,
    Asked,
    /// The last request brought nothing. Asking again at once would spin; the next change of use is reason enough to try again.
    Stuck,
    /// The whole range is bound.
    Exhausted,
}

impl Family {
    fn new() -> Family {
        Family { free: VecDeque::new(), supply: Supply::Ready, batch: PORT_PAIRS_AHEAD }
    }

    /// Only a request that was met makes the next one larger.
    fn answered(&mut self, some: bool, exhausted: bool) {
        if some && self.supply == Supply::Asked {
            self.batch = (self.batch * 2).min(PORT_PAIRS_BATCH_MAX);
        }
        self.supply = match self.supply {
            Supply::Exhausted => Supply::Exhausted,
            _ if exhausted => Supply::Exhausted,
            _ if some => Supply::Ready,
            Supply::Asked => Supply::Stuck,
            other => other,
        };
    }

    fn use_changed(&mut self) {
        if self.supply == Supply::Stuck {
            self.supply = Supply::Ready;
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

impl Ledger {
    /// Empty: the first pairs come by `wants` and `bound`.
    pub fn new() -> Ledger {
        Ledger {
            v4: Family::new(),
            v6: Family::new(),
            places: HashMap::with_hasher(RandomState::with_seeds(0x706f, 0x7274, 0x7061, 0x6972)),
            taken: 0,
            resting: VecDeque::new(),
            unanswered: VecDeque::new(),
        }
    }

    /// Pairs that the edge has bound. The first pair names the family that is answered; an answer without pairs belongs to the oldest
    /// request, as the edge answers in order. A pair that is known already changes nothing.
    pub fn bound(&mut self, pairs: &[PortPair], exhausted: bool) {
        for &pair in pairs {
            if self.places.contains_key(&pair) {
                continue;
            }
            self.places.insert(pair, Place::Free);
            self.family(pair.ip.is_ipv6()).free.push_back(pair);
        }
        let answered = pairs.first().map(|pair| pair.ip.is_ipv6()).or_else(|| self.unanswered.front().copied());
        let Some(v6) = answered else { return };
        if let Some(at) = self.unanswered.iter().position(|&asked| asked == v6) {
            self.unanswered.remove(at);
        }
        self.family(v6).answered(!pairs.is_empty(), exhausted);
    }

    /// Takes a free pair of that family.
    pub fn take(&mut self, v6: bool) -> Option<PortPair> {
        let family = self.family(v6);
        family.use_changed();
        let pair = family.free.pop_front()?;
        self.places.insert(pair, Place::Taken);
        self.taken += 1;
        Some(pair)
    }

    /// Gives one back; it rests until `PORT_QUARANTINE` is over. `false`: it was not taken, and nothing happened.
    pub fn give_back(&mut self, pair: PortPair, now: Time) -> bool {
        match self.places.get_mut(&pair) {
            Some(place @ Place::Taken) => *place = Place::Resting,
            Some(Place::Free | Place::Resting) | None => return false,
        }
        self.taken -= 1;
        self.family(pair.ip.is_ipv6()).use_changed();
        self.resting.push_back((now + PORT_QUARANTINE, pair));
        true
    }

    /// Ends the rest of every pair whose time has come.
    pub fn on_timeout(&mut self, now: Time) {
        while let Some(&(until, pair)) = self.resting.front()
            && until <= now
        {
            self.resting.pop_front();
            self.places.insert(pair, Place::Free);
            self.family(pair.ip.is_ipv6()).free.push_back(pair);
        }
    }

    /// When the next pair has rested.
    pub fn deadline(&self) -> Option<Time> {
        self.resting.front().map(|&(until, _)| until)
    }

    /// How many more pairs of that family to bind now, so that a few are always ahead. Counts a request as under way until `bound`.
    pub fn wants(&mut self, v6: bool) -> usize {
        let family = self.family(v6);
        if family.supply != Supply::Ready || family.free.len() >= PORT_PAIRS_AHEAD {
            return 0;
        }
        family.supply = Supply::Asked;
        let count = family.batch;
        self.unanswered.push_back(v6);
        count
    }

    /// Pairs of that family that can be taken now.
    pub fn free(&self, v6: bool) -> usize {
        if v6 { self.v6.free.len() } else { self.v4.free.len() }
    }

    /// Pairs lent out, both families.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Pairs at rest, both families.
    pub fn quarantined(&self) -> usize {
        self.resting.len()
    }

    fn family(&mut self, v6: bool) -> &mut Family {
        if v6 { &mut self.v6 } else { &mut self.v4 }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use super::*;

    fn v4(rtp: u16) -> PortPair {
        PortPair { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), rtp, rtcp: rtp + 1 }
    }

    fn v6(rtp: u16) -> PortPair {
        PortPair { ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED), rtp, rtcp: rtp + 1 }
    }

    fn many(from: u16, count: usize) -> Vec<PortPair> {
        (0..count).map(|i| v4(from + 2 * u16::try_from(i).unwrap())).collect()
    }

    fn ms(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn pairs_are_lent_oldest_freed_first() {
        let mut l = Ledger::new();
        l.bound(&[v4(10), v4(12), v4(14)], false);
        assert_eq!(l.take(false), Some(v4(10)));
        assert_eq!(l.take(false), Some(v4(12)));
        assert!(l.give_back(v4(12), ms(0)));
        assert!(l.give_back(v4(10), ms(1)));
        l.on_timeout(ms(5_000));
        let order: Vec<_> = std::iter::from_fn(|| l.take(false)).collect();
        assert_eq!(order, [v4(14), v4(12), v4(10)]);
    }

    #[test]
    fn a_pair_rests_for_two_seconds_and_not_a_microsecond_less() {
        let mut l = Ledger::new();
        l.bound(&[v4(10)], true);
        assert_eq!(l.take(false), Some(v4(10)));
        assert_eq!(l.deadline(), None);
        assert!(l.give_back(v4(10), ms(1_000)));
        assert_eq!((l.taken(), l.quarantined(), l.free(false)), (0, 1, 0));
        assert_eq!(l.deadline(), Some(ms(3_000)));
        assert_eq!(l.take(false), None);
        l.on_timeout(Time::from_micros(2_999_999));
        assert_eq!((l.quarantined(), l.free(false)), (1, 0));
        l.on_timeout(ms(3_000));
        assert_eq!((l.quarantined(), l.free(false)), (0, 1));
        assert_eq!(l.deadline(), None);
    }

    #[test]
    fn families_do_not_mix() {
        let mut l = Ledger::new();
        l.bound(&[v4(10)], false);
        l.bound(&[v6(10)], false);
        assert_eq!((l.free(false), l.free(true)), (1, 1));
        assert_eq!(l.take(true), Some(v6(10)));
        assert_eq!(l.take(true), None);
        assert_eq!(l.take(false), Some(v4(10)));
        assert_eq!(l.taken(), 2);
    }

    #[test]
    fn what_was_not_taken_is_not_accepted_back() {
        let mut l = Ledger::new();
        l.bound(&[v4(10), v4(12)], false);
        assert!(!l.give_back(v4(10), ms(0)), "it is free");
        assert!(!l.give_back(v4(99), ms(0)), "it was never bound");
        assert_eq!(l.take(false), Some(v4(10)));
        assert!(l.give_back(v4(10), ms(0)));
        assert!(!l.give_back(v4(10), ms(1)), "it rests already");
        assert_eq!((l.free(false), l.taken(), l.quarantined()), (1, 0, 1));
    }

    #[test]
    fn a_pair_that_is_bound_twice_is_lent_once() {
        let mut l = Ledger::new();
        l.bound(&[v4(10), v4(10)], false);
        assert_eq!(l.take(false), Some(v4(10)));
        l.bound(&[v4(10)], false);
        assert_eq!(l.take(false), None);
        assert_eq!(l.taken(), 1);
    }

    #[test]
    fn sixty_four_free_pairs_are_enough_and_sixty_three_are_not() {
        let mut l = Ledger::new();
        assert_eq!(l.wants(false), PORT_PAIRS_AHEAD);
        l.bound(&many(10_000, PORT_PAIRS_AHEAD), false);
        assert_eq!(l.wants(false), 0);
        assert!(l.take(false).is_some());
        assert_eq!(l.wants(false), 128);
    }

    #[test]
    fn batches_double_up_to_512_and_not_past_it() {
        let mut l = Ledger::new();
        let mut port = 0;
        let mut asked = Vec::new();
        for _ in 0..6 {
            let count = l.wants(false);
            asked.push(count);
            l.bound(&many(port, count), false);
            port += 2 * u16::try_from(count).unwrap();
            while l.free(false) >= PORT_PAIRS_AHEAD {
                assert!(l.take(false).is_some());
            }
        }
        assert_eq!(asked, [64, 128, 256, 512, PORT_PAIRS_BATCH_MAX, PORT_PAIRS_BATCH_MAX]);
    }

    #[test]
    fn nothing_is_asked_while_a_request_of_that_family_is_under_way() {
        let mut l = Ledger::new();
        assert_eq!(l.wants(false), 64);
        assert_eq!(l.wants(false), 0);
        assert_eq!(l.wants(true), 64, "the other family has its own request");
        l.bound(&[v6(10)], false);
        assert_eq!(l.wants(false), 0, "that was the answer of the other family");
        assert_eq!(l.wants(true), 128);
    }

    #[test]
    fn an_exhausted_range_is_never_asked_again() {
        let mut l = Ledger::new();
        assert_eq!(l.wants(false), 64);
        l.bound(&[v4(10)], true);
        assert_eq!(l.wants(false), 0);
        assert_eq!(l.take(false), Some(v4(10)));
        assert_eq!(l.wants(false), 0);
        assert_eq!(l.take(false), None, "one past the last pair");
        assert!(l.give_back(v4(10), ms(0)));
        l.on_timeout(ms(2_000));
        l.bound(&[], false);
        assert_eq!(l.wants(false), 0);
        assert_eq!(l.wants(true), 64, "IPv6 has a range of its own");
    }

    #[test]
    fn an_empty_answer_belongs_to_the_oldest_request() {
        let mut l = Ledger::new();
        assert_eq!((l.wants(true), l.wants(false)), (64, 64));
        l.bound(&[], true);
        l.bound(&many(10, 64), false);
        assert!(l.take(false).is_some());
        assert_eq!((l.wants(true), l.wants(false)), (0, 128));
    }

    #[test]
    fn a_failed_bind_is_tried_again_only_when_use_changes() {
        let mut l = Ledger::new();
        l.bound(&[v4(10)], false);
        assert_eq!(l.wants(false), 64);
        l.bound(&[], false);
        assert_eq!(l.wants(false), 0);
        assert_eq!(l.take(false), Some(v4(10)));
        assert_eq!(l.wants(false), 64, "no larger than the one that failed");
        l.bound(&[], false);
        assert_eq!(l.wants(false), 0);
        assert!(l.give_back(v4(10), ms(0)));
        assert_eq!(l.wants(false), 64);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_taken_in() {
        let mut l = Ledger::new();
        l.bound(&[], true);
        assert_eq!(l.wants(false), 64, "no family was named");
        l.bound(&many(10, 3), false);
        l.bound(&many(100, 70), false);
        assert_eq!(l.free(false), 73);
        assert_eq!(l.wants(false), 0);
    }
}
