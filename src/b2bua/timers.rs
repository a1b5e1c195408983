//! The timer wheel: one for the whole core. A machine only states its deadlines.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::hash_map;

use ahash::RandomState;

use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::ServerTxId;
use crate::time::Time;

/// Stale entries that may stay beside the live ones: below this, sweeping costs more than it frees.
pub const TIMER_STALE_ENTRIES_MIN: usize = 64;

/// Whose deadline it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    Server(ServerTxId),
    Client(ClientTxId),
    Call(CallHandle),
    /// Port quarantine.
    Ports,
    /// The drain deadline.
    Drain,
}

/// Every deadline of the core, with lazy cancel: each owner has at most one live deadline, told apart by generation.
///
/// A turn of the wheel is a heap over exact times, not a ring of ticks: deadlines fire to the microsecond and in an order that is the
/// same in every run, and the next one is known without a search. Nearly all timers are set later than those that are there and are
/// cancelled long before they are due; the first puts a new entry at the bottom of the heap, where it stays without a climb, and the
/// second only forgets its generation. Stale entries are swept when they outnumber the live ones, so each costs O(1) over its life.
#[derive(Debug)]
pub struct Wheel {
    heap: BinaryHeap<Entry>,
    /// The live deadline of each owner. The top of the heap is always live.
    live: HashMap<Owner, Live, RandomState>,
    /// Rises with each `set`, so it also orders deadlines of the same microsecond.
    generation: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Live {
    at: Time,
    generation: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    live: Live,
    owner: Owner,
}

impl Entry {
    fn is_live(&self, live: &HashMap<Owner, Live, RandomState>) -> bool {
        live.get(&self.owner) == Some(&self.live)
    }
}

/// Reversed: `BinaryHeap` has its greatest element on top. No two entries share a generation, so the order is total.
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.live.at, other.live.generation).cmp(&(self.live.at, self.live.generation))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new()
    }
}

impl Wheel {
    /// Empty. The wheel keeps no clock: a deadline may lie before `now`, and is due at once.
    pub fn new() -> Wheel {
        Wheel {
            heap: BinaryHeap::new(),
            live: HashMap::with_hasher(RandomState::with_seeds(0x7469, 0x6d65, 0x7773, 0x6865)),
            generation: 0,
        }
    }

    /// Sets, moves or (with `None`) removes the owner's deadline. Setting the time that is set already keeps its place in the order.
    pub fn set(&mut self, owner: Owner, at: Option<Time>) {
        let Some(at) = at else {
            if let Some(old) = self.live.remove(&owner) {
                self.tidy(old);
            }
            return;
        };
        let live = Live { at, generation: self.generation };
        let old = match self.live.entry(owner) {
            hash_map::Entry::Occupied(old) if old.get().at == at => return,
            hash_map::Entry::Occupied(mut old) => Some(old.insert(live)),
            hash_map::Entry::Vacant(new) => {
                new.insert(live);
                None
            }
        };
        self.generation += 1;
        self.heap.push(Entry { live, owner });
        if let Some(old) = old {
            self.tidy(old);
        }
    }

    /// The earliest deadline, exactly. O(1).
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|top| top.live.at)
    }

    /// One owner whose deadline is due, its entry removed, in order of deadline and then of setting. `None`: nothing is due at `now`.
    pub fn pop(&mut self, now: Time) -> Option<Owner> {
        if self.next()? > now {
            return None;
        }
        let Entry { live, owner } = self.heap.pop()?;
        self.live.remove(&owner);
        self.prune();
        self.tidy(live);
        Some(owner)
    }

    /// Live deadlines.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// No deadline is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// After `gone` went stale: restores what `next` rests on (a live top) and the bound on memory.
    fn tidy(&mut self, gone: Live) {
        if self.heap.peek().is_some_and(|top| top.live == gone) {
            self.prune();
        }
        if self.heap.len() > 2 * self.live.len() + TIMER_STALE_ENTRIES_MIN {
            let live = &self.live;
            self.heap.retain(|entry| entry.is_live(live));
        }
        if self.heap.capacity().max(self.live.capacity()) > 16 * self.live.len() + 16 * TIMER_STALE_ENTRIES_MIN {
            self.shrink();
        }
    }

    fn prune(&mut self) {
        while self.heap.peek().is_some_and(|top| !top.is_live(&self.live)) {
            self.heap.pop();
        }
    }

    /// Halfway down only, so that a load that swings does not allocate with each swing.
    fn shrink(&mut self) {
        let room = 4 * self.live.len() + 4 * TIMER_STALE_ENTRIES_MIN;
        self.heap.shrink_to(room);
        self.live.shrink_to(room);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn call(n: u64) -> Owner {
        Owner::Call(CallHandle(n))
    }

    fn due(wheel: &mut Wheel, now: u64) -> Vec<Owner> {
        std::iter::from_fn(|| wheel.pop(at(now))).collect()
    }

    #[test]
    fn a_deadline_fires_at_its_microsecond_and_not_before() {
        let mut w = Wheel::new();
        w.set(Owner::Ports, Some(at(1_500)));
        assert_eq!(w.next(), Some(at(1_500)));
        assert_eq!(w.pop(at(1_499)), None);
        assert_eq!(w.pop(at(1_500)), Some(Owner::Ports));
        assert_eq!(w.pop(at(1_500)), None);
        assert_eq!(w.next(), None);
    }

    #[test]
    fn deadlines_fire_in_order_of_time_and_then_of_setting() {
        let mut w = Wheel::new();
        w.set(call(3), Some(at(20)));
        w.set(call(2), Some(at(10)));
        w.set(call(1), Some(at(10)));
        w.set(Owner::Drain, Some(at(5)));
        assert_eq!(due(&mut w, 100), [Owner::Drain, call(2), call(1), call(3)]);
    }

    #[test]
    fn moving_a_deadline_puts_it_behind_its_new_equals_and_setting_it_again_does_not() {
        let mut w = Wheel::new();
        w.set(call(1), Some(at(10)));
        w.set(call(2), Some(at(10)));
        w.set(call(1), Some(at(10)));
        assert_eq!(due(&mut w, 10), [call(1), call(2)]);
        w.set(call(1), Some(at(10)));
        w.set(call(2), Some(at(10)));
        w.set(call(1), Some(at(11)));
        w.set(call(1), Some(at(10)));
        assert_eq!(due(&mut w, 10), [call(2), call(1)]);
    }

    #[test]
    fn an_owner_has_one_deadline_the_last_one_set() {
        let mut w = Wheel::new();
        w.set(Owner::Drain, Some(at(10)));
        w.set(Owner::Drain, Some(at(30)));
        assert_eq!((w.len(), w.next()), (1, Some(at(30))));
        assert_eq!(w.pop(at(29)), None);
        w.set(Owner::Drain, Some(at(20)));
        assert_eq!(due(&mut w, 100), [Owner::Drain]);
        assert!(w.is_empty());
    }

    #[test]
    fn removing_the_earliest_shows_the_one_behind_it() {
        let mut w = Wheel::new();
        w.set(call(1), Some(at(10)));
        w.set(call(2), Some(at(20)));
        w.set(call(1), None);
        w.set(call(9), None);
        assert_eq!((w.len(), w.next()), (1, Some(at(20))));
        assert_eq!(due(&mut w, 100), [call(2)]);
    }

    #[test]
    fn owners_of_different_kinds_with_the_same_number_are_different() {
        let mut w = Wheel::new();
        w.set(Owner::Server(ServerTxId(1)), Some(at(1)));
        w.set(Owner::Client(ClientTxId(1)), Some(at(2)));
        w.set(call(1), Some(at(3)));
        w.set(Owner::Client(ClientTxId(1)), None);
        assert_eq!(due(&mut w, 9), [Owner::Server(ServerTxId(1)), call(1)]);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        let mut w = Wheel::new();
        w.set(call(1), Some(at(7)));
        assert_eq!(w.next(), Some(at(7)));
        assert_eq!(w.pop(at(1_000)), Some(call(1)));
    }

    #[test]
    fn stale_entries_never_outnumber_the_live_ones_by_more_than_the_bound() {
        let mut w = Wheel::new();
        w.set(Owner::Drain, Some(at(u64::MAX)));
        for i in 0..10_000 {
            w.set(call(1), Some(at(1_000_000 + i)));
            assert!(w.heap.len() <= 2 * w.len() + TIMER_STALE_ENTRIES_MIN);
        }
        assert_eq!(w.len(), 2);
        assert_eq!(w.next(), Some(at(1_009_999)));
    }

    #[test]
    fn memory_returns_to_a_bound_when_timers_are_cancelled_or_fire() {
        for fire in [false, true] {
            let mut w = Wheel::new();
            for i in 0..50_000 {
                w.set(call(i), Some(at(i)));
            }
            for i in 0..50_000 {
                if fire {
                    assert_eq!(w.pop(at(i)), Some(call(i)));
                } else {
                    w.set(call(i), None);
                }
            }
            assert!(w.is_empty());
            assert!(w.heap.capacity() <= 16 * TIMER_STALE_ENTRIES_MIN, "{} entries", w.heap.capacity());
            assert!(w.live.capacity() <= 16 * TIMER_STALE_ENTRIES_MIN, "{} owners", w.live.capacity());
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u64),
        Remove(u64),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40u64, 0..200u64).prop_map(|(owner, after)| Step::Set(owner, after)),
            2 => (0..40u64).prop_map(Step::Remove),
            1 => (0..60u64).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// The model is a plain list, searched from end to end.
        #[test]
        fn the_wheel_does_what_a_plain_list_does(steps in prop::collection::vec(step(), 0..400)) {
            let mut wheel = Wheel::new();
            let mut list: Vec<(u64, usize, u64)> = Vec::new();
            let mut now = 0;
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Set(owner, after) => {
                        wheel.set(call(owner), Some(at(now + after)));
                        if !list.iter().any(|e| e.2 == owner && e.0 == now + after) {
                            list.retain(|e| e.2 != owner);
                            list.push((now + after, n, owner));
                        }
                    }
                    Step::Remove(owner) => {
                        wheel.set(call(owner), None);
                        list.retain(|e| e.2 != owner);
                    }
                    Step::Advance(by) => {
                        now += by;
                        while let Some(first) = list.iter().copied().min().filter(|e| e.0 <= now) {
                            prop_assert_eq!(wheel.pop(at(now)), Some(call(first.2)));
                            list.retain(|e| *e != first);
                        }
                        prop_assert_eq!(wheel.pop(at(now)), None);
                    }
                }
                prop_assert_eq!(wheel.next(), list.iter().map(|e| at(e.0)).min());
                prop_assert_eq!(wheel.len(), list.len());
            }
        }
    }
}
