//! The ways from the core's thread to the other ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use compact_str::CompactString;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::b2bua::io::Input;
use crate::b2bua::io::Reply;
use crate::call::anchor::MediaOrder;
use crate::call::escalation::Signal;
use crate::call::rules::TargetName;
use crate::config::Config;
use crate::edge::core_loop::Doors;
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
    pub resolver: ResolverHandle,
    pub log: LogHandle,
    pub answers: Answers,
}

impl Outside {
    /// Starts the threads.
    pub fn start(
        config: &Config,
        names: &[TargetName],
        inputs: &mpsc::Sender<Input>,
        log: LogHandle,
        answers: Answers,
    ) -> Result<Outside, StartError> {
        let resolver = ResolverHandle::start(names.to_vec(), config.dns_servers.clone(), inputs.clone())
            .map_err(|e| StartError(format!("resolver: {e}")))?;
        Ok(Outside { resolver, log, answers })
    }
}

impl Doors for Outside {
    fn bind_ports(&mut self, _count: usize, _v6: bool) {}

    fn media(&mut self, _call: CallHandle, _side: Side, _order: MediaOrder) {}

    fn signal(&mut self, _call: CallHandle, _try_no: u8, _signal: Signal, _until: Time) {}

    fn cancel_signal(&mut self, _call: CallHandle) {}

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
