//! The ways from the core's thread to the other ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use compact_str::CompactString;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::b2bua::io::Input;
use crate::b2bua::io::Reply;
use crate::call::anchor::MediaOrder;
use crate::call::escalation::Signal;
use crate::call::escalation::SignalAnswer;
use crate::config::Config;
use crate::edge::clock::Clock;
use crate::edge::core_loop::Doors;
use crate::edge::cxone::CxoneClient;
use crate::edge::cxone::CxoneHandle;
use crate::edge::media::MediaConfig;
use crate::edge::media::MediaHandle;
use crate::edge::media::MediaThread;
use crate::edge::resolver::ResolverHandle;
use crate::edge::serve::StartError;
use crate::ids::AskId;
use crate::ids::CallHandle;
use crate::ids::QueryId;
use crate::ids::Side;
use crate::ops::log::LogHandle;
use crate::report::CallEvent;
use crate::time::Time;

/// Who waits for the reply to which command.
#[derive(Clone, Debug, Default)]
pub struct Answers(Rc<RefCell<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    minted: u64,
    replies: HashMap<AskId, Option<oneshot::Sender<Reply>>>,
}

impl Answers {
    /// An id for a command; its reply goes to `reply`, or only into the log.
    pub fn expect(&self, reply: Option<oneshot::Sender<Reply>>) -> AskId {
        let mut waiting = self.0.borrow_mut();
        waiting.minted += 1;
        let ask = AskId(waiting.minted);
        waiting.replies.insert(ask, reply);
        ask
    }

    fn answer(&self, ask: AskId, reply: Reply) {
        if let Reply::Draining { calls } = &reply {
            tracing::info!(calls, "drain.begun");
        }
        if let Some(Some(waits)) = self.0.borrow_mut().replies.remove(&ask) {
            // Who asked may have left.
            let _ = waits.send(reply);
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Outside {
    clock: Clock,
    /// Taken when the threads are stopped.
    media: Option<MediaHandle>,
    resolver: ResolverHandle,
    /// `None`: this configuration never signals, so there are no credentials to fetch a token with.
    cxone: Option<CxoneHandle>,
    /// For what is answered here.
    inputs: mpsc::Sender<Input>,
    /// One HTTP request (`cxone.api.timeout`).
    signal_timeout: Duration,
    log: LogHandle,
    answers: Answers,
}

impl Outside {
    /// Starts the threads. The targets are kept resolved.
    pub fn start(
        config: &Config,
        inputs: &mpsc::Sender<Input>,
        clock: Clock,
        log: LogHandle,
        answers: Answers,
    ) -> Result<Outside, StartError> {
        let media = start_media(config, inputs.clone())?;
        let resolver = ResolverHandle::start(config.synthflow.targets.clone(), config.dns_servers.clone(), inputs.clone())
            .map_err(|e| StartError(format!("resolver: {e}")))?;
        let signals = &config.escalation;
        let cxone = if signals.accept_refer || signals.accept_bye || !signals.plain_bye_signal.is_empty() {
            Some(start_cxone(config, inputs.clone())?)
        } else {
            None
        };
        Ok(Outside { clock, media: Some(media), resolver, cxone, inputs: inputs.clone(), signal_timeout: config.api.timeout, log, answers })
    }
}

fn start_media(config: &Config, inputs: mpsc::Sender<Input>) -> Result<MediaHandle, StartError> {
    let media = MediaConfig { bind: config.media.bind.clone(), ports: config.media.ports.clone(), dscp: config.media.dscp };
    let bound_inputs = inputs.clone();
    let events = move |call, side, event| hand_in(&inputs, Input::Media { call, side, event });
    let bound = move |pairs, exhausted| hand_in(&bound_inputs, Input::PortsBound { pairs, exhausted });
    MediaThread::start(media, events, bound).map_err(|e| StartError(format!("the media thread: {e}")))
}

fn start_cxone(config: &Config, inputs: mpsc::Sender<Input>) -> Result<CxoneHandle, StartError> {
    let answered = move |call, try_no, answer| hand_in(&inputs, Input::SignalAnswered { call, try_no, answer });
    CxoneClient::start(config.api.clone(), answered).map_err(|e| StartError(format!("cxone.api: {e}")))
}

/// From any thread, never waiting. The queue is larger than all that can be under way at once: overflow means that the core hangs.
fn hand_in(inputs: &mpsc::Sender<Input>, input: Input) {
    if let Err(TrySendError::Full(lost)) = inputs.try_send(input) {
        tracing::error!(?lost, "core.stuck");
    }
}

/// The next node of this process, a test's or the demo's, may want the same ports.
impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(media) = self.media.take() {
            media.stop();
        }
    }
}

impl Doors for Outside {
    fn bind_ports(&mut self, count: usize, v6: bool) {
        if let Some(media) = &mut self.media {
            media.bind(count, v6);
        }
    }

    fn media(&mut self, call: CallHandle, side: Side, order: MediaOrder) {
        if let Some(media) = &mut self.media {
            media.order(call, side, order);
        }
    }

    fn signal(&mut self, call: CallHandle, try_no: u8, signal: Signal, until: Time) {
        match &self.cxone {
            Some(cxone) => cxone.signal(call, try_no, signal, self.signal_timeout, until, self.clock.now()),
            None => {
                let why = "this configuration has no way to escalate".to_owned();
                let answer = SignalAnswer::NotSent { why, retry_after: None, final_: true };
                hand_in(&self.inputs, Input::SignalAnswered { call, try_no, answer });
            }
        }
    }

    fn cancel_signal(&mut self, call: CallHandle) {
        if let Some(cxone) = &self.cxone {
            cxone.cancel(call);
        }
    }

    fn resolve(&mut self, query: QueryId, name: &CompactString) -> bool {
        self.resolver.ask(query, name)
    }

    fn answer(&mut self, ask: AskId, reply: Reply) {
        self.answers.answer(ask, reply);
    }

    fn report(&mut self, event: Box<CallEvent>) {
        self.log.report(event);
    }
}
