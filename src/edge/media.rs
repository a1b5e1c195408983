//! The media thread: every RTP and RTCP socket of one core, on a poll of its own. The control plane sends it orders and hears
//! events, never packets.
//!
//! A packet's way is recv → `Relay::route` → send on one thread with one buffer. What costs is not that but waking up, so a busy
//! thread gathers: after a round with more than a few packets it sleeps to the next millisecond and takes all that came.

mod pool;
mod worker;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::thread;
use std::thread::JoinHandle;

use mio::Poll;
use mio::Waker;

use crate::call::anchor::MediaEvent;
use crate::call::anchor::MediaOrder;
use crate::call::anchor::PortPair;
use crate::ids::CallHandle;
use crate::ids::Side;

/// Orders under way to the thread before the spill is used: 200 calls' worth.
const ORDERS_MAX: usize = 1024;

/// What `[media]` says to this thread.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// The first address of each family is used.
    pub bind: Vec<IpAddr>,
    /// RTP even, RTCP odd.
    pub ports: RangeInclusive<u16>,
    /// 0 … 63.
    pub dscp: u8,
}

/// What the control plane asks.
#[derive(Debug)]
enum Ask {
    Bind { count: usize, v6: bool },
    Order { call: CallHandle, side: Side, order: MediaOrder },
}

/// What both ends hold.
#[derive(Debug)]
struct Shared {
    waker: Waker,
    /// A wake-up is under way: the next order needs none.
    woken: AtomicBool,
    stopping: AtomicBool,
    /// Orders that found the queue full. The thread takes them itself, so nobody has to come back for them.
    spill: Mutex<VecDeque<Ask>>,
    spilled: AtomicBool,
    /// Packets on pairs that no call has.
    strays: AtomicU64,
}

impl Shared {
    fn spill(&self) -> MutexGuard<'_, VecDeque<Ask>> {
        self.spill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts media threads.
#[derive(Debug)]
pub struct MediaThread;

impl MediaThread {
    /// Nothing is bound yet. `events` and `bound` are called on the media thread and must not block: they put into a queue.
    pub fn start(
        config: MediaConfig,
        events: impl Fn(CallHandle, Side, MediaEvent) + Send + 'static,
        bound: impl Fn(Vec<PortPair>, bool) + Send + 'static,
    ) -> io::Result<MediaHandle> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            waker: Waker::new(poll.registry(), worker::WAKE)?,
            woken: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            spill: Mutex::new(VecDeque::new()),
            spilled: AtomicBool::new(false),
            strays: AtomicU64::new(0),
        });
        let (queue, asks) = mpsc::sync_channel(ORDERS_MAX);
        let inbox = Inbox { asks, shared: Arc::clone(&shared) };
        let worker = worker::Worker::new(poll, inbox, &config, Box::new(events), Box::new(bound));
        let thread = thread::Builder::new().name("media".to_owned()).spawn(move || worker.run())?;
        Ok(MediaHandle { queue, shared, thread: Some(thread) })
    }
}

impl Ask {
    /// Whether somebody would hear the difference if it waited for the thread's next look. A pair without a call can wait for
    /// its first packet, and a closing one for its last; an address may not.
    fn is_urgent(&self) -> bool {
        !matches!(self, Ask::Order { order: MediaOrder::Open { .. } | MediaOrder::Watch { .. } | MediaOrder::Close, .. })
    }
}

/// The control plane's end. One owner, so that orders arrive as they were given; dropping it stops the thread.
#[derive(Debug)]
pub struct MediaHandle {
    queue: SyncSender<Ask>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MediaHandle {
    /// Bind so many more pairs; the answer is `bound(pairs, exhausted)`.
    pub fn bind(&mut self, count: usize, v6: bool) {
        self.ask(Ask::Bind { count, v6 });
    }

    /// Never blocks and never loses an order, nor the order of orders.
    pub fn order(&mut self, call: CallHandle, side: Side, order: MediaOrder) {
        self.ask(Ask::Order { call, side, order });
    }

    /// Packets that arrived on pairs without a call.
    pub fn strays(&self) -> u64 {
        self.shared.strays.load(Ordering::Relaxed)
    }

    /// False when the thread has died; no order does anything then.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Stops the thread and waits until its ports are free.
    pub fn stop(mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn ask(&mut self, ask: Ask) {
        let urgent = ask.is_urgent();
        if let Some(ask) = self.queued(ask) {
            let mut spill = self.shared.spill();
            spill.push_back(ask);
            self.shared.spilled.store(true, Ordering::SeqCst);
        }
        if urgent && !self.shared.woken.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Gives it back when it has to be spilt: the queue is full, or others were spilt before and have not been taken.
    fn queued(&self, ask: Ask) -> Option<Ask> {
        if self.shared.spilled.load(Ordering::SeqCst) {
            return Some(ask);
        }
        match self.queue.try_send(ask) {
            Ok(()) => None,
            Err(TrySendError::Full(ask)) => Some(ask),
            Err(TrySendError::Disconnected(ask)) => {
                tracing::error!(?ask, "media.thread_gone");
                None
            }
        }
    }

    fn wake(&self) {
        if let Err(error) = self.shared.waker.wake() {
            tracing::error!(%error, "media.thread_asleep");
        }
    }

    fn request_stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }
}

impl Drop for MediaHandle {
    fn drop(&mut self) {
        self.request_stop();
    }
}

/// The thread's end of the queue.
#[derive(Debug)]
struct Inbox {
    asks: Receiver<Ask>,
    shared: Arc<Shared>,
}

impl Inbox {
    /// Everything that was asked so far, in order. After this an ask wakes the thread again.
    fn take(&self, into: &mut VecDeque<Ask>) {
        self.shared.woken.store(false, Ordering::SeqCst);
        into.extend(self.asks.try_iter().take(ORDERS_MAX));
        if self.shared.spilled.load(Ordering::SeqCst) {
            let mut spill = self.shared.spill();
            // What is in the queue now was put there before the first spilt one: since then the handle only spills.
            into.extend(self.asks.try_iter());
            into.append(&mut spill);
            self.shared.spilled.store(false, Ordering::SeqCst);
        } else if into.len() >= ORDERS_MAX {
            // There may be more, whose wake-up was saved.
            let _ = self.shared.waker.wake();
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    fn count_strays(&self, packets: u64) {
        self.shared.strays.fetch_add(packets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue's two ends without a thread between them.
    fn ends() -> (MediaHandle, Inbox, Poll) {
        let poll = Poll::new().unwrap();
        let shared = Arc::new(Shared {
            waker: Waker::new(poll.registry(), worker::WAKE).unwrap(),
            woken: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            spill: Mutex::new(VecDeque::new()),
            spilled: AtomicBool::new(false),
            strays: AtomicU64::new(0),
        });
        let (queue, asks) = mpsc::sync_channel(ORDERS_MAX);
        (MediaHandle { queue, shared: Arc::clone(&shared), thread: None }, Inbox { asks, shared }, poll)
    }

    fn counts(taken: &VecDeque<Ask>) -> Vec<usize> {
        taken.iter().map(|a| if let Ask::Bind { count, .. } = a { *count } else { panic!("{a:?}") }).collect()
    }

    #[test]
    fn orders_past_the_queue_are_neither_lost_nor_reordered() {
        let (mut handle, inbox, _poll) = ends();
        let all = ORDERS_MAX * 3 + 1;
        for count in 0..ORDERS_MAX + 1 {
            handle.bind(count, false);
        }
        assert!(handle.shared.spilled.load(Ordering::SeqCst), "one past the queue is spilt");
        for count in ORDERS_MAX + 1..all {
            handle.bind(count, false);
        }
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(counts(&taken), (0..all).collect::<Vec<_>>());
        handle.bind(7, false);
        assert!(!handle.shared.spilled.load(Ordering::SeqCst), "then the queue is used again");
        taken.clear();
        inbox.take(&mut taken);
        assert_eq!(counts(&taken), [7]);
    }

    #[test]
    fn orders_from_a_fast_thread_arrive_in_order() {
        let (mut handle, inbox, _poll) = ends();
        let giver = thread::spawn(move || {
            (0..50_000).for_each(|count| handle.bind(count, false));
        });
        let mut taken = VecDeque::new();
        while taken.len() < 50_000 {
            inbox.take(&mut taken);
        }
        giver.join().unwrap();
        assert_eq!(counts(&taken), (0..50_000).collect::<Vec<_>>());
    }
}
