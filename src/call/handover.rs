//! The way out of a call: an escalation and what becomes of both legs meanwhile (product.md §4). Only entering `Escalating` mints
//! a signal id; `failed` leads back to `Bridged`, `delivered` does not: so an escalation is signalled once by construction.

use crate::call::Call;
use crate::call::Ending;
use crate::call::State;
use crate::call::escalation;
use crate::call::escalation::Escalation;
use crate::call::escalation::Marker;
use crate::call::escalation::Outcome;
use crate::call::escalation::Signal;
use crate::call::escalation::SignalAnswer;
use crate::call::out::Cx;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::line;
use crate::call::rules::Ask;
use crate::call::rules::AskedBy;
use crate::call::rules::ByeVerdict;
use crate::call::rules::Carried;
use crate::call::rules::OnFailure;
use crate::call::rules::ReferVerdict;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::ids::SignalId;
use crate::report::By;
use crate::report::Fact;
use crate::time::Time;
use crate::wire::message::Message;

/// Whether Synthflow's request has been answered.
#[derive(Debug)]
enum Stage {
    /// The intent is not on disk yet; a BYE waits for its 200.
    Recording {
        bye: Option<ServerTxId>,
    },
    Accepted,
}

/// An escalation under way.
#[derive(Debug)]
pub(super) struct Handover {
    escalation: Escalation,
    ask: Ask,
    stage: Stage,
    /// When the running try left.
    tried: Time,
}

impl Handover {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.escalation.deadline()
    }
}

/// What became of the last escalation.
#[derive(Debug)]
pub(super) enum Past {
    Delivered,
    /// The bot may ask again, with a new id.
    Failed,
    /// A new request re-uses the id.
    Unknown(SignalId),
}

impl Call {
    // ---- into Escalating

    pub(super) fn referred(&mut self, tx: ServerTxId, refer: &Message, cx: &mut Cx<'_>) {
        match self.rules.policy.read_refer(refer) {
            ReferVerdict::Refuse { status, why } => self.refuse_refer(tx, status, why, cx),
            ReferVerdict::Escalate(_) if self.contact.is_none() => self.refuse_refer(tx, 603, "no contact id".into(), cx),
            ReferVerdict::Escalate(ask) => {
                if self.callee.refer(tx, refer) {
                    self.escalate(ask, None, cx);
                } else {
                    self.refuse_refer(tx, 503, "too many REFERs at once".into(), cx);
                }
            }
        }
    }

    fn refuse_refer(&mut self, tx: ServerTxId, status: u16, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::EscalationRefused { by: AskedBy::Refer.as_str(), why });
        // product.md §5: what is malformed hears which header it was; a 400 to a REFER is always about this one.
        let reply = Reply::new(status);
        cx.respond(tx, if status == 400 { reply.reason("Bad Refer-To") } else { reply });
    }

    /// A BYE of Synthflow in a running call: plain, or with a wish.
    pub(super) fn bot_hung_up(&mut self, tx: ServerTxId, bye: &Message, cx: &mut Cx<'_>) {
        match self.rules.policy.read_bye(bye) {
            ByeVerdict::Escalate(_) if self.contact.is_none() => {
                cx.report(Fact::EscalationRefused { by: AskedBy::Bye.as_str(), why: "no contact id".into() });
                cx.respond(tx, Reply::new(200));
                self.callee.ended();
                let headers = vec![self.failure_reason()];
                self.end(By::Synthflow, "escalating BYE without a contact id".into(), 41, headers, Vec::new(), cx);
            }
            ByeVerdict::Escalate(ask) => self.escalate(ask, Some(tx), cx),
            ByeVerdict::PlainSignal(ask) if self.contact.is_some() => self.escalate(ask, Some(tx), cx),
            ByeVerdict::PlainSignal(_) | ByeVerdict::Plain => self.hung_up(Side::Callee, tx, bye, cx),
        }
    }

    /// Synthflow's leg died without a BYE: `on_bot_lost`.
    pub(super) fn bot_lost(&mut self, why: String, cx: &mut Cx<'_>) {
        match self.rules.policy.read_bot_lost().filter(|_| self.contact.is_some()) {
            Some(ask) => {
                cx.report(Fact::LegLost { side: Side::Callee, why });
                self.hold_caller(cx);
                self.escalate(ask, None, cx);
            }
            None => self.lost(Side::Callee, why, cx),
        }
    }

    /// Enters `Escalating`; `bye`: the BYE whose 200 waits for the record.
    fn escalate(&mut self, ask: Ask, bye: Option<ServerTxId>, cx: &mut Cx<'_>) {
        let Some(contact) = self.contact.clone() else { return };
        let id = match self.past.take() {
            Some(Past::Unknown(id)) => id,
            _ => cx.mint.signal_id(),
        };
        let params = self.rules.policy.signal_params(&ask, id.as_str());
        cx.report(Fact::EscalationRequested { by: ask.by.as_str(), queue: ask.queue.to_string(), signal: id.to_string() });
        let signal = Signal { id, contact, params, fresh_token: false };
        let mut wants = Vec::new();
        let escalation = Escalation::start(signal, self.rules.signal.clone(), cx.now, &mut wants);
        self.state = State::Escalating(Box::new(Handover { escalation, ask, stage: Stage::Recording { bye }, tried: cx.now }));
        self.run(wants, cx);
    }

    // ---- while Escalating

    /// A further REFER joins the escalation that is under way.
    pub(super) fn referred_again(&mut self, tx: ServerTxId, refer: &Message, cx: &mut Cx<'_>) {
        if let ReferVerdict::Refuse { status, why } = self.rules.policy.read_refer(refer) {
            return self.refuse_refer(tx, status, why, cx);
        }
        if !self.callee.refer(tx, refer) {
            return self.refuse_refer(tx, 503, "too many REFERs at once".into(), cx);
        }
        if let State::Escalating(h) = &self.state
            && matches!(h.stage, Stage::Accepted)
        {
            self.callee.accept_referrals(cx);
        }
    }

    /// Synthflow's BYE, of whatever kind, ends its own leg only; CXone's is held.
    pub(super) fn bot_left(&mut self, tx: ServerTxId, cx: &mut Cx<'_>) {
        if let State::Escalating(h) = &mut self.state {
            // On disk first: neither the 202 of a REFER nor the 200 of this BYE leaves before the intent is.
            if let Stage::Recording { bye: waiting @ None } = &mut h.stage {
                *waiting = Some(tx);
                return;
            }
        }
        cx.respond(tx, Reply::new(200));
        self.leg_left(By::Synthflow, "BYE while an escalation is under way".into(), cx);
    }

    pub(super) fn bot_lost_in_handover(&mut self, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::LegLost { side: Side::Callee, why });
        self.hold_caller(cx);
    }

    /// CXone's BYE: the proof that the signal arrived, or a caller who hung up.
    pub(super) fn contact_hung_up(&mut self, tx: ServerTxId, bye: &Message, cx: &mut Cx<'_>) {
        cx.respond(tx, Reply::new(200));
        self.drop_renegotiation(487, cx);
        self.caller.ended();
        self.ending = Some(Ending::bye(By::Cxone, bye));
        self.contact_gone(true, cx);
    }

    pub(super) fn contact_lost(&mut self, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::LegLost { side: Side::Caller, why: why.clone() });
        self.drop_renegotiation(487, cx);
        self.ending = Some(Ending { by: By::Cxone, why, cause: 41, status: 0 });
        self.contact_gone(false, cx);
    }

    fn contact_gone(&mut self, bye: bool, cx: &mut Cx<'_>) {
        self.with_escalation(cx, |e, now, wants| e.on_contact_gone(bye, now, wants));
    }

    pub(super) fn handover_timed_out(&mut self, cx: &mut Cx<'_>) {
        self.with_escalation(cx, |e, now, wants| e.on_timeout(now, wants));
    }

    /// The journal says that this is on disk, or that it cannot be.
    pub fn on_recorded(&mut self, marker: Marker, failed: Option<String>, cx: &mut Cx<'_>) {
        if let Some(why) = failed {
            cx.report(Fact::Warning { text: format!("journal: {why}; durable=no") });
            return self.with_escalation(cx, |e, now, wants| e.on_record_failed(marker, now, wants));
        }
        self.with_escalation(cx, |e, now, wants| e.on_recorded(marker, now, wants));
    }

    /// What one HTTP try came to.
    pub fn on_signal_answer(&mut self, try_no: u8, answer: SignalAnswer, cx: &mut Cx<'_>) {
        let dice = u16::try_from(cx.mint.below(1000)).unwrap_or_default();
        if let State::Escalating(h) = &self.state {
            let (http, text) = match &answer {
                SignalAnswer::Delivered { status } => (Some(*status), String::new()),
                SignalAnswer::Refused { status, text, .. } => (Some(*status), text.clone()),
                SignalAnswer::NotSent { why, .. } => (None, format!("not sent: {why}")),
                SignalAnswer::Unanswered { status, why } => (*status, format!("no answer: {why}")),
            };
            cx.report(Fact::SignalAnswered { try_no, http, took: cx.now.since(h.tried), text });
        }
        self.with_escalation(cx, |e, now, wants| e.on_answer(try_no, answer, dice, now, wants));
    }

    /// We end the call ourselves while an escalation is unsettled: nothing more is tried, what was asked is answered, and what is known
    /// of the signal is written down.
    pub(super) fn abandon_handover(&mut self, cx: &mut Cx<'_>) {
        if !matches!(self.state, State::Escalating(_)) {
            return;
        }
        let State::Escalating(mut h) = std::mem::replace(&mut self.state, State::Bridged) else { return };
        let mut wants = Vec::new();
        h.escalation.on_contact_gone(false, cx.now, &mut wants);
        if wants.contains(&escalation::Out::Cancel) {
            cx.out.push(Out::CancelSignal);
        }
        let outcome = match (h.escalation.outcome(), &h.stage) {
            (Some(Outcome::Expired), _) | (None, Stage::Recording { .. }) => Outcome::Expired,
            // A request is out, or was, and nobody knows what became of it.
            _ => Outcome::Unknown,
        };
        self.report_settled(&outcome, &h, "the call was ended here", cx);
        if let Stage::Recording { bye: Some(tx) } = h.stage {
            cx.respond(tx, Reply::new(200));
            self.callee.ended();
        }
        self.callee.settle_referrals(503, cx);
    }

    fn report_settled(&mut self, outcome: &Outcome, h: &Handover, why: &str, cx: &mut Cx<'_>) {
        cx.report(Fact::EscalationSettled {
            outcome: outcome.as_str(),
            queue: h.ask.queue.to_string(),
            tries: h.escalation.tries(),
            took: cx.now.since(h.escalation.started_at()),
            why: why.to_string(),
        });
        cx.out.push(Out::RecordSettled { outcome: outcome.as_str() });
    }

    fn with_escalation(&mut self, cx: &mut Cx<'_>, step: impl FnOnce(&mut Escalation, Time, &mut Vec<escalation::Out>)) {
        let State::Escalating(h) = &mut self.state else { return };
        let mut wants = Vec::new();
        step(&mut h.escalation, cx.now, &mut wants);
        self.run(wants, cx);
        self.clear(cx);
    }

    fn run(&mut self, wants: Vec<escalation::Out>, cx: &mut Cx<'_>) {
        for want in wants {
            match want {
                escalation::Out::Record(Marker::Intent) => {
                    if let State::Escalating(h) = &self.state {
                        cx.out.push(Out::RecordIntent { signal: h.escalation.signal().clone() });
                    }
                }
                escalation::Out::Record(Marker::Requesting { try_no }) => cx.out.push(Out::RecordRequesting { try_no }),
                escalation::Out::Accepted { durable } => self.accept(durable, cx),
                escalation::Out::Signal { try_no, signal, until } => {
                    if let State::Escalating(h) = &mut self.state {
                        h.tried = cx.now;
                    }
                    cx.report(Fact::SignalTry { try_no, signal: signal.id.to_string() });
                    cx.out.push(Out::Signal { try_no, signal, until });
                }
                escalation::Out::Cancel => cx.out.push(Out::CancelSignal),
                escalation::Out::Settled(outcome) => self.settled(&outcome, cx),
            }
        }
    }

    /// Barrier 1 is behind us: the 202 or 200 leaves.
    fn accept(&mut self, durable: bool, cx: &mut Cx<'_>) {
        if !durable {
            cx.report(Fact::Warning { text: "escalation answered before it was on disk; durable=no".into() });
        }
        self.callee.accept_referrals(cx);
        let State::Escalating(h) = &mut self.state else { return };
        if let Stage::Recording { bye: Some(tx) } = std::mem::replace(&mut h.stage, Stage::Accepted) {
            cx.respond(tx, Reply::new(200));
            self.leg_left(By::Synthflow, "BYE while an escalation is under way".into(), cx);
        }
    }

    // ---- out of Escalating

    fn settled(&mut self, outcome: &Outcome, cx: &mut Cx<'_>) {
        let State::Escalating(h) = std::mem::replace(&mut self.state, State::Bridged) else { return };
        // Of a first try that was taken, `escalation.answer` has said all there is.
        let why = if *outcome == Outcome::Delivered && h.escalation.tries() == 1 { "" } else { h.escalation.why() };
        self.report_settled(outcome, &h, why, cx);
        match outcome {
            Outcome::Delivered | Outcome::Presumed => self.succeeded(h.ask.by, cx),
            Outcome::Failed { .. } => self.failed(Past::Failed, h.ask.by, cx),
            Outcome::Unknown => self.failed(Past::Unknown(h.escalation.signal().id.clone()), h.ask.by, cx),
            Outcome::Expired => {
                self.callee.settle_referrals(487, cx);
                self.contact_has_gone(cx);
            }
        }
    }

    fn succeeded(&mut self, by: AskedBy, cx: &mut Cx<'_>) {
        self.past = Some(Past::Delivered);
        self.signals += 1;
        self.callee.settle_referrals(200, cx);
        if !self.caller.is_up() {
            return self.contact_has_gone(cx);
        }
        self.state = State::Signalled { until: cx.now + self.rules.signal.after_signal, plain: by == AskedBy::PlainBye };
    }

    fn failed(&mut self, past: Past, by: AskedBy, cx: &mut Cx<'_>) {
        self.past = Some(past);
        self.callee.settle_referrals(503, cx);
        if !self.caller.is_up() {
            return self.contact_has_gone(cx);
        }
        let reason = self.failure_reason();
        if !self.callee.is_up() {
            let headers = if by == AskedBy::PlainBye { Vec::new() } else { vec![reason] };
            return self.end(By::Synthflow, "escalation failed, and the bot has gone".into(), 41, headers, Vec::new(), cx);
        }
        match self.rules.on_failure {
            OnFailure::Keep => self.sessions.watch(self.rules.times.media_timeout, cx),
            OnFailure::Bye => self.end(By::Backchannel, "escalation failed".into(), 41, vec![reason.clone()], vec![reason], cx),
        }
    }

    fn contact_has_gone(&mut self, cx: &mut Cx<'_>) {
        self.end(By::Cxone, "BYE".into(), 16, Vec::new(), Vec::new(), cx);
    }

    // ---- Signalled

    pub(super) fn bot_left_after_signal(&mut self, tx: ServerTxId, cx: &mut Cx<'_>) {
        cx.respond(tx, Reply::new(200));
        self.leg_left(By::Synthflow, "BYE after the signal".into(), cx);
    }

    pub(super) fn bot_lost_after_signal(&mut self, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::LegLost { side: Side::Callee, why });
        self.hold_caller(cx);
    }

    /// `delivered`: a later REFER hears so, and nothing is sent.
    pub(super) fn referred_after_signal(&mut self, tx: ServerTxId, refer: &Message, cx: &mut Cx<'_>) {
        if !self.callee.refer(tx, refer) {
            return self.refuse_refer(tx, 503, "too many REFERs at once".into(), cx);
        }
        self.callee.settle_referrals(200, cx);
    }

    /// CXone took the signal but did not end its leg.
    pub(super) fn not_fetched(&mut self, plain: bool, cx: &mut Cx<'_>) {
        let why = format!("no BYE from CXone within {} s of a delivered signal", self.rules.signal.after_signal.as_secs());
        cx.report(Fact::Warning { text: format!("{why}: is ONSIGNAL missing in the parent script?") });
        let headers = if plain { Vec::new() } else { vec![self.failure_reason()] };
        self.end(By::Backchannel, why, 41, headers, Vec::new(), cx);
    }

    // ---- CXone's leg, held

    fn leg_left(&mut self, by: By, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::LegEnded { side: Side::Callee, by, why });
        self.hold_caller(cx);
    }

    /// Synthflow's leg is gone; CXone's hears silence from us, and its media time-out is parked.
    fn hold_caller(&mut self, cx: &mut Cx<'_>) {
        // product.md §4: "a re-INVITE that was pending gets 488".
        self.drop_renegotiation(488, cx);
        self.callee.ended();
        self.sessions.watch(std::time::Duration::ZERO, cx);
        self.sessions.silence(Side::Caller, cx);
    }

    fn failure_reason(&self) -> Carried {
        line("Reason", self.rules.failure_reason.clone())
    }
}
