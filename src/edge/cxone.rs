//! CXone's API as a client: one HTTP try at a time, and the token that it needs. What is tried, and how often, is decided in
//! `call::escalation`; this thread only says what a try came to.

mod http;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::Response;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::task::Id;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::call::escalation::Signal;
use crate::call::escalation::SignalAnswer;
use crate::config::Api;
use crate::edge::cxone::token::TokenError;
use crate::edge::cxone::token::Tokens;
use crate::ids::CallHandle;
use crate::time::Time;

/// Orders that wait for the client's thread. It never blocks, so this fills up only when the machine stands still.
pub const SIGNAL_ORDERS_MAX: usize = 4096;
/// Tries under way at once; each holds a connection.
pub const SIGNAL_TRIES_AT_ONCE_MAX: usize = 1024;

type Answers = Box<dyn Fn(CallHandle, u8, SignalAnswer) + Send + Sync>;

/// The client; it lives on a thread of its own and is reached through its handle.
#[derive(Debug)]
pub struct CxoneClient;

/// The way to the client's thread. The thread ends when the last handle is gone and the tries under way are over.
#[derive(Clone)]
pub struct CxoneHandle {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

impl fmt::Debug for CxoneHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CxoneHandle").field("api", &self.shared.api).finish_non_exhaustive()
    }
}

struct Shared {
    api: Api,
    http: Client,
    tokens: Arc<Tokens>,
    answers: Answers,
}

enum Order {
    Signal(Try),
    Cancel(CallHandle),
}

struct Try {
    call: CallHandle,
    try_no: u8,
    signal: Signal,
    timeout: Duration,
    until: Instant,
}

impl CxoneClient {
    /// Starts the thread; it fetches a token at once. `answers` is called once for each try, from the client's thread, or from the
    /// thread that calls `signal` when the order cannot be taken; it must not block. Errors: a `ca_file` that cannot be used, no thread.
    pub fn start(api: Api, answers: impl Fn(CallHandle, u8, SignalAnswer) + Send + Sync + 'static) -> Result<CxoneHandle, String> {
        let http = http::client(&api)?;
        let tokens = Arc::new(Tokens::new(api.clone(), http.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("the thread of the CXone API has no runtime: {e}"))?;
        let (orders, inbox) = mpsc::channel(SIGNAL_ORDERS_MAX);
        let shared = Arc::new(Shared { api, http, tokens, answers: Box::new(answers) });
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("cxone-api".to_owned())
            .spawn(move || {
                runtime.block_on(run(own, inbox));
                // A name lookup that hangs in the C library must not hold the process.
                runtime.shutdown_background();
            })
            .map_err(|e| format!("the CXone API has no thread: {e}"))?;
        Ok(CxoneHandle { orders, shared })
    }

    /// Discovery and one token, now: for `check --online`. The answer is the address that signals would go to. Blocks; not to be
    /// called from a runtime's thread.
    pub fn probe(api: &Api) -> Result<String, String> {
        let tokens = Arc::new(Tokens::new(api.clone(), http::client(api)?));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let access = runtime.block_on(tokens.access(false));
        runtime.shutdown_background();
        access.map(|access| access.base.to_string()).map_err(|e| e.why)
    }
}

impl CxoneHandle {
    /// One try, bounded by `timeout` for each of its HTTP requests and by `until` altogether. Never blocks.
    pub fn signal(&self, call: CallHandle, try_no: u8, signal: Signal, timeout: Duration, until: Time, now: Time) {
        let until = Instant::now() + until.since(now);
        let order = Order::Signal(Try { call, try_no, signal, timeout, until });
        let why = match self.orders.try_send(order) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the queue to the CXone API is full",
            Err(TrySendError::Closed(_)) => "the thread of the CXone API is gone",
        };
        (self.shared.answers)(call, try_no, not_sent(why, false));
    }

    /// The try of this call is not written if it is not written yet; its answer is then a final `NotSent`. A written one runs on.
    pub fn cancel(&self, call: CallHandle) {
        if self.orders.try_send(Order::Cancel(call)).is_err() {
            tracing::warn!(call = call.0, why = "the queue to the CXone API is full", "cxone.cancel_lost");
        }
    }

    /// Why a signal could not be sent now, if that is known: for readiness.
    pub fn trouble(&self) -> Option<String> {
        self.shared.tokens.trouble()
    }
}

/// The tries under way, so that one can be called back and none is lost.
#[derive(Default)]
struct Underway {
    tasks: JoinSet<()>,
    tries: HashMap<Id, (CallHandle, u8)>,
    cancels: HashMap<CallHandle, (Id, oneshot::Sender<()>)>,
}

impl Underway {
    fn start(&mut self, shared: &Arc<Shared>, one: Try) {
        let (call, try_no) = (one.call, one.try_no);
        if self.tasks.len() >= SIGNAL_TRIES_AT_ONCE_MAX {
            return (shared.answers)(call, try_no, not_sent("too many signals are under way", false));
        }
        let (cancel, cancelled) = oneshot::channel();
        let id = self.tasks.spawn(attempt(Arc::clone(shared), one, cancelled)).id();
        self.tries.insert(id, (call, try_no));
        self.cancels.insert(call, (id, cancel));
    }

    fn cancel(&mut self, call: CallHandle) {
        if let Some((_, cancel)) = self.cancels.remove(&call) {
            let _ = cancel.send(());
        }
    }

    fn over(&mut self, done: Result<(Id, ()), JoinError>, shared: &Shared) {
        let id = match &done {
            Ok((id, ())) => *id,
            Err(e) => e.id(),
        };
        let Some((call, try_no)) = self.tries.remove(&id) else { return };
        if self.cancels.get(&call).is_some_and(|(newest, _)| *newest == id) {
            self.cancels.remove(&call);
        }
        if done.is_err() {
            tracing::error!(call = call.0, try_no, "cxone.try_died");
            (shared.answers)(call, try_no, SignalAnswer::Unanswered { status: None, why: "internal error".to_owned() });
        }
    }
}

async fn run(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let keeper = tokio::spawn(Arc::clone(&shared.tokens).keep());
    let mut underway = Underway::default();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Signal(one)) => underway.start(&shared, one),
                Some(Order::Cancel(call)) => underway.cancel(call),
                None => break,
            },
            Some(done) = underway.tasks.join_next_with_id() => underway.over(done, &shared),
        }
    }
    keeper.abort();
    while let Some(done) = underway.tasks.join_next_with_id().await {
        underway.over(done, &shared);
    }
}

async fn attempt(shared: Arc<Shared>, one: Try, cancelled: oneshot::Receiver<()>) {
    let (call, try_no) = (one.call, one.try_no);
    let (answer, rest) = try_once(&shared, one, cancelled).await;
    (shared.answers)(call, try_no, answer);
    // Only a connection that was read to its end can be used again.
    if let Some((response, limit)) = rest {
        http::drain(response, limit).await;
    }
}

type Rest = Option<(Response, Instant)>;

async fn try_once(shared: &Shared, one: Try, mut cancelled: oneshot::Receiver<()>) -> (SignalAnswer, Rest) {
    let access = tokio::select! {
        biased;
        Ok(()) = &mut cancelled => return (cancelled_answer(), None),
        access = timeout_at(one.until, shared.tokens.access(one.signal.fresh_token)) => access,
    };
    let access = match access {
        Ok(Ok(access)) => access,
        Ok(Err(TokenError { why, retry_after, final_ })) => return (SignalAnswer::NotSent { why, retry_after, final_ }, None),
        Err(_) => return (not_sent("no token before the deadline", false), None),
    };
    let url = match http::signal_url(&access.base, &shared.api.version, &one.signal) {
        Ok(url) => url,
        Err(why) => return (not_sent(&why, true), None),
    };
    let now = Instant::now();
    let limit = one.until.min(now + one.timeout);
    if limit <= now {
        return (not_sent("the deadline came before the request", false), None);
    }
    // From here on it may have been written.
    if cancelled.try_recv().is_ok() {
        return (cancelled_answer(), None);
    }
    let request = shared.http.post(url).bearer_auth(&access.token.0).header(reqwest::header::CONTENT_LENGTH, 0);
    let response = match timeout_at(limit, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return (http::answer_to_error(error), None),
        Err(_) => {
            let why = format!("no answer within {} ms", limit.duration_since(now).as_millis());
            return (SignalAnswer::Unanswered { status: None, why }, None);
        }
    };
    let status = response.status().as_u16();
    match status {
        200..=299 => return (SignalAnswer::Delivered { status }, Some((response, limit))),
        401 | 403 => shared.tokens.refused(access.generation),
        _ => {}
    }
    (http::answer_to_refusal(response, limit, &access.token).await, None)
}

fn not_sent(why: &str, final_: bool) -> SignalAnswer {
    SignalAnswer::NotSent { why: why.to_owned(), retry_after: None, final_ }
}

fn cancelled_answer() -> SignalAnswer {
    not_sent("called back before it was sent", true)
}
