//! Third floor: two legs make a call.

pub mod anchor;
pub mod escalation;
mod handover;
pub mod leg;
pub mod out;
pub mod referral;
mod renegotiation;
pub mod rules;
mod sessions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::MediaEvent;
use crate::call::anchor::PortPair;
use crate::call::handover::Handover;
use crate::call::handover::Past;
use crate::call::leg::Invitation;
use crate::call::leg::Leg;
use crate::call::leg::LegEvent;
use crate::call::out::Cx;
use crate::call::out::Face;
use crate::call::out::Hop;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::line;
use crate::call::renegotiation::Crossing;
use crate::call::renegotiation::Request;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::Refusal;
use crate::call::rules::Rules;
use crate::call::sessions::Sessions;
use crate::ids::ClientTxId;
use crate::ids::ContactId;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::ids::SipCallId;
use crate::report::By;
use crate::report::Fact;
use crate::time::Time;
use crate::transaction::Timers;
use crate::wire::header::Reason;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::sdp::Sdp;

/// What is awaited when a call ends, the relay's counters and the answer to a final NOTIFY, has this long (product.md §4).
pub const CLEARING_WAIT: Duration = Duration::from_secs(2);

/// The B2BUA machine.
///
/// ```text
///  Calling ──200──► Bridged ──REFER, escalating BYE──► Escalating ──delivered──► Signalled
///     │                │  ◄────────── failed ────────────────┘ │                    │
///     │                │                            contact gone, bot gone and failed
///     └─ refused, CANCEL, time-out ─► Clearing ◄───── BYE ─────┴──── BYE, after_signal
///                                        └── legs over, media closed ──► Over
/// ```
#[derive(Debug)]
enum State {
    /// The callee has not answered.
    Calling {
        ring_until: Time,
    },
    Bridged,
    Escalating(Box<Handover>),
    /// CXone took the signal; its BYE is awaited.
    Signalled {
        until: Time,
        plain: bool,
    },
    /// Everything that can be said has been said; answers and counters are awaited.
    /// `bye`: what Synthflow's BYE says, when it waits for the answer to a NOTIFY.
    Clearing {
        until: Time,
        bye: Vec<Carried>,
    },
    Over,
}

/// How a call ended, for its closing line.
#[derive(Debug, Clone)]
struct Ending {
    by: By,
    why: String,
    /// Q.850 cause, 16 for a normal end.
    cause: u16,
    /// Of a call that was never answered.
    status: u16,
}

impl Ending {
    /// By a BYE, whose Reason says why.
    fn bye(by: By, bye: &Message) -> Ending {
        let why = bye.value(Name::Reason).map_or("BYE".into(), |r| String::from_utf8_lossy(r).into_owned());
        Ending { by, why, cause: q850_cause(bye).unwrap_or(16), status: 0 }
    }
}

/// Moments of the call's life.
#[derive(Debug, Clone, Copy)]
struct Moments {
    offered: Time,
    /// First 180 or 183, else the answer.
    progress: Option<Time>,
    answered: Option<Time>,
}

/// Two legs, their media, and what they are doing.
#[derive(Debug)]
pub struct Call {
    contact: Option<ContactId>,
    rules: Arc<Rules>,
    invite: Message,
    caller: Leg,
    callee: Leg,
    sessions: Sessions,
    /// A change of the session that one side asked for.
    crossing: Option<Box<Crossing>>,
    state: State,
    moments: Moments,
    ending: Option<Ending>,
    /// What became of the last escalation.
    past: Option<Past>,
    signals: u32,
}

/// What a call starts from, besides its plan.
pub struct Start {
    pub invite: Message,
    /// Its session description, when it has one.
    pub offer: Option<Sdp>,
    pub invite_tx: ServerTxId,
    pub caller_face: Face,
    /// Never empty.
    pub hops: Vec<Hop>,
    pub timers: Timers,
    pub caller_media: (PortPair, IpAddr),
    pub callee_media: (PortPair, IpAddr),
}

/// No codec that both sides could speak (488): both lists, for the log.
#[derive(Debug)]
pub struct NoCodec {
    pub offered: String,
    pub ours: String,
}

impl Call {
    /// A planned call: dials the callee. `Err`: nothing was started; the pairs are still the caller's.
    pub fn start(start: Start, plan: Plan, cx: &mut Cx<'_>) -> Result<Call, NoCodec> {
        let Start { invite, offer, invite_tx, caller_face, hops, timers, caller_media, callee_media } = start;
        let rules = Arc::clone(&plan.rules);
        if let Some(offer) = &offer
            && !offer.has_common(&rules.codecs)
        {
            return Err(NoCodec { offered: codec_list(offer), ours: rules.codecs.join(",") });
        }
        let caller = Leg::invited(Side::Caller, &invite, invite_tx, caller_face, timers, rules.times.session, cx);
        let mut sessions = Sessions::open(caller_media, callee_media, rules.latch, cx);
        let body = offer.and_then(|o| sessions.cross(Side::Caller, &o, &rules.codecs, cx));
        let invitation = Invitation::of(&plan, &invite, body);
        let nowhere = || NoCodec { offered: String::new(), ours: String::new() };
        let mut callee = Leg::outgoing(Side::Callee, hops, invitation, &rules.times, timers, cx).ok_or_else(nowhere)?;
        callee.dial(cx);
        Ok(Call {
            contact: plan.contact,
            state: State::Calling { ring_until: cx.now + rules.times.ring_timeout },
            rules,
            invite,
            caller,
            callee,
            sessions,
            crossing: None,
            moments: Moments { offered: cx.now, progress: None, answered: None },
            ending: None,
            past: None,
            signals: 0,
        })
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    fn look(&self, side: Side) -> &Leg {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    // ---- the doors: what the stairwell brings

    pub fn on_request(&mut self, side: Side, request: &Message, tx: ServerTxId, cx: &mut Cx<'_>) {
        let carried = self.rules.policy.carry(side, request);
        let event = self.leg(side).on_request(request, tx, carried, cx);
        self.on(side, event, cx);
    }

    pub fn on_ack(&mut self, side: Side, ack: &Message, cx: &mut Cx<'_>) {
        let event = self.leg(side).on_ack(ack, cx);
        self.on(side, event, cx);
    }

    pub fn on_cancel(&mut self, side: Side, cancel: &Message, cx: &mut Cx<'_>) {
        let event = self.leg(side).on_cancel(cancel);
        self.on(side, event, cx);
    }

    /// `request`: ours, as it was sent.
    pub fn on_response(&mut self, side: Side, tx: ClientTxId, used: Use, response: &Message, request: &Bytes, cx: &mut Cx<'_>) {
        let carried = if response.status() > 100 { self.rules.policy.carry(side, response) } else { Vec::new() };
        let event = self.leg(side).on_response(tx, used, response, request, carried, cx);
        self.on(side, event, cx);
    }

    /// The CSeq number for a request of that leg that is sent once more.
    pub fn next_cseq(&mut self, side: Side, used: Use) -> u32 {
        self.leg(side).next_cseq(used)
    }

    /// `status` stands for the answer that did not come: 408 or 503 (RFC 3261 §8.1.3.1).
    pub fn on_no_response(&mut self, side: Side, tx: ClientTxId, used: Use, status: u16, why: String, cx: &mut Cx<'_>) {
        let event = self.leg(side).on_no_response(tx, used, status, why, cx);
        self.on(side, event, cx);
    }

    /// The server transaction of our non-2xx answer saw no ACK; the leg is over all the same.
    pub fn on_unacknowledged(&mut self, side: Side, cx: &mut Cx<'_>) {
        cx.report(Fact::LegLost { side, why: "no ACK for our final answer".into() });
    }

    pub fn on_media(&mut self, side: Side, event: MediaEvent, cx: &mut Cx<'_>) {
        match event {
            MediaEvent::Latched { said, wire } => cx.report(Fact::Latched { side, said, wire }),
            MediaEvent::Idle => self.on_media_idle(cx),
            MediaEvent::Failed { why } => cx.report(Fact::Warning { text: format!("media of {}: {why}", side.peer()) }),
            MediaEvent::Closed(stats) => {
                self.sessions.closed(side, stats, cx);
                self.clear(cx);
            }
        }
    }

    fn on_media_idle(&mut self, cx: &mut Cx<'_>) {
        if matches!(self.state, State::Bridged) {
            let after = self.rules.times.media_timeout;
            cx.report(Fact::MediaIdle { after });
            let reason = reason_line(41, &format!("no media for {} s", after.as_secs()));
            self.end(By::Backchannel, format!("no media for {} s", after.as_secs()), 41, vec![reason.clone()], vec![reason], cx);
        }
    }

    /// An operator, the drain deadline, or the panic wall ends the call.
    pub fn hang_up(&mut self, why: &str, cx: &mut Cx<'_>) {
        if !matches!(self.state, State::Clearing { .. } | State::Over) {
            self.abandon_handover(cx);
            let reason = reason_line(41, why);
            self.end(By::Backchannel, why.to_string(), 41, vec![reason.clone()], vec![reason], cx);
        }
    }

    pub fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        for side in [Side::Caller, Side::Callee] {
            if self.leg(side).deadline().is_some_and(|at| at <= cx.now) {
                let event = self.leg(side).on_timeout(cx);
                self.on(side, event, cx);
            }
            if self.leg(side).is_refresh_due(cx.now) {
                self.refresh(side, cx);
            }
        }
        match &self.state {
            State::Calling { ring_until } if *ring_until <= cx.now => self.ring_timed_out(cx),
            State::Escalating(h) if h.deadline().is_some_and(|at| at <= cx.now) => self.handover_timed_out(cx),
            State::Signalled { until, plain } if *until <= cx.now => self.not_fetched(*plain, cx),
            State::Clearing { until, .. } if *until <= cx.now => self.waited_enough(cx),
            _ => {}
        }
        self.renegotiation_timed_out(cx);
        if self.life_ends().is_some_and(|at| at <= cx.now) {
            self.hang_up("max_call_duration reached", cx);
        }
        self.clear(cx);
    }

    pub fn deadline(&self) -> Option<Time> {
        let state = match &self.state {
            State::Calling { ring_until } => Some(*ring_until),
            State::Escalating(h) => h.deadline(),
            State::Signalled { until, .. } => Some(*until),
            State::Clearing { until, .. } if !self.sessions.is_closed() || self.callee.is_notifying() => Some(*until),
            _ => None,
        };
        let crossing = self.crossing.as_ref().and_then(|c| c.deadline());
        [state, self.caller.deadline(), self.callee.deadline(), self.life_ends(), crossing].into_iter().flatten().min()
    }

    fn life_ends(&self) -> Option<Time> {
        let most = self.rules.times.max_call_duration;
        let running = !matches!(self.state, State::Clearing { .. } | State::Over);
        self.moments.answered.filter(|_| running && !most.is_zero()).map(|at| at + most)
    }

    // ---- the machine

    fn on(&mut self, side: Side, event: Option<LegEvent>, cx: &mut Cx<'_>) {
        use LegEvent as E;
        use State as S;
        let Some(event) = event else { return self.clear(cx) };
        match (&mut self.state, side, event) {
            (S::Calling { .. }, Side::Callee, E::Progress { status, reason, tag, session, carried }) => {
                let reply = Reply::new(status).reason(reason).headers(carried);
                self.progress(reply, tag.as_ref(), session, cx);
            }
            (S::Calling { .. }, Side::Callee, E::Answered { status, reason, tag, session, carried }) => {
                let reply = Reply::new(status).reason(reason).headers(carried);
                self.answered(reply, tag, session, cx);
            }
            (S::Calling { .. }, Side::Callee, E::Refused(refusal)) => self.refused(refusal, cx),
            (S::Calling { .. }, Side::Caller, E::Cancelled { why }) => self.cancelled(why, cx),
            (S::Calling { .. }, Side::Caller, E::HungUp { tx, .. }) => {
                cx.respond(tx, Reply::new(200));
                self.cancelled("BYE before the answer".into(), cx);
            }

            (S::Bridged, Side::Caller, E::HungUp { tx, message }) => self.hung_up(Side::Caller, tx, &message, cx),
            (S::Bridged, Side::Callee, E::HungUp { tx, message }) => self.bot_hung_up(tx, &message, cx),
            (S::Bridged, Side::Callee, E::Referred { tx, message }) => self.referred(tx, &message, cx),
            (S::Bridged, Side::Callee, E::Lost { why }) => self.bot_lost(why, cx),

            (S::Escalating(_), Side::Callee, E::HungUp { tx, .. }) => self.bot_left(tx, cx),
            (S::Escalating(_), Side::Callee, E::Referred { tx, message }) => self.referred_again(tx, &message, cx),
            (S::Escalating(_), Side::Callee, E::Lost { why }) => self.bot_lost_in_handover(why, cx),
            (S::Escalating(_), Side::Caller, E::HungUp { tx, message }) => self.contact_hung_up(tx, &message, cx),
            (S::Escalating(_), Side::Caller, E::Lost { why }) => self.contact_lost(why, cx),

            (S::Signalled { .. }, Side::Caller, E::HungUp { tx, message }) => self.hung_up(Side::Caller, tx, &message, cx),
            (S::Signalled { .. }, Side::Callee, E::HungUp { tx, .. }) => self.bot_left_after_signal(tx, cx),
            (S::Signalled { .. }, Side::Callee, E::Referred { tx, message }) => self.referred_after_signal(tx, &message, cx),
            (S::Signalled { .. }, Side::Callee, E::Lost { why }) => self.bot_lost_after_signal(why, cx),

            (S::Bridged | S::Signalled { .. }, _, E::Lost { why }) => self.lost(side, why, cx),
            (S::Clearing { .. } | S::Over, _, E::HungUp { tx, .. }) => {
                cx.respond(tx, Reply::new(200));
                self.leg(side).ended();
            }
            (_, Side::Caller, E::Referred { tx, .. }) => cx.respond(tx, Reply::new(603)),
            (_, _, E::Referred { tx, .. }) => cx.respond(tx, Reply::new(481)),
            (S::Clearing { .. } | S::Over, _, E::Renegotiate { tx, .. }) => cx.respond(tx, Reply::new(481)),
            (_, _, E::Renegotiate { tx, message, offer, invite, carried }) => {
                self.renegotiate(side, Request { tx, message, offer, invite }, &carried, cx);
            }
            (_, _, answer @ (E::Renegotiated { .. } | E::RenegotiationRefused { .. })) => {
                self.renegotiation_answered(side, answer, cx);
            }
            (S::Bridged | S::Escalating(_) | S::Signalled { .. }, _, E::Cancelled { .. }) => self.renegotiation_cancelled(side, cx),
            (_, _, E::Passed { tx, method, carried, content_type, body }) => {
                let passed = self.leg(!side).pass(tx, method, &carried, &content_type, body, cx);
                if !passed {
                    cx.respond(tx, Reply::new(200));
                }
            }
            (_, _, E::PassedBack { tx, status, reason }) => cx.respond(tx, Reply::new(status).reason(reason)),
            (S::Clearing { .. } | S::Over, _, E::Acknowledged { .. }) => {}
            (_, _, E::Acknowledged { session, .. }) => self.acknowledged(side, session, cx),
            // A NOTIFY's answer may be what a BYE of ours waits for; `clear` looks. The rest came too late to matter.
            (
                _,
                _,
                E::Notified
                | E::Progress { .. }
                | E::Answered { .. }
                | E::Refused(_)
                | E::Cancelled { .. }
                | E::Lost { .. }
                | E::HungUp { .. },
            ) => {}
        }
        self.clear(cx);
    }

    fn progress(&mut self, reply: Reply, tag: Option<&crate::ids::RemoteTag>, session: Option<Sdp>, cx: &mut Cx<'_>) {
        let status = reply.status;
        // Before CXone has offered anything this would be an offer, which no unreliable response may carry (RFC 3261 §13.2.1).
        let session = session.filter(|_| self.sessions.has_heard(Side::Caller));
        let sdp = session.as_ref().and_then(|s| self.sessions.cross(Side::Callee, s, &[], cx));
        if self.moments.progress.is_none() {
            self.moments.progress = Some(cx.now);
        }
        cx.report(Fact::Progress { status, early_media: sdp.is_some() });
        self.caller.progress(reply.sdp(sdp), tag, cx);
    }

    fn answered(&mut self, mut reply: Reply, tag: crate::ids::RemoteTag, session: Option<Sdp>, cx: &mut Cx<'_>) {
        // The offer was ours to give when CXone's INVITE had none (RFC 3264 §4): then this is the offer, and the ACK has the answer.
        let late_offer = !self.sessions.has_heard(Side::Caller);
        let codecs = if late_offer { self.rules.codecs.clone() } else { Vec::new() };
        let sdp = session.as_ref().and_then(|s| self.sessions.cross(Side::Callee, s, &codecs, cx));
        let sdp = sdp.or_else(|| self.sessions.sent(Side::Caller));
        if sdp.is_none() {
            self.callee.hang_up(Reply::new(487), vec![reason_line(127, "2xx without a usable session description")], cx);
            return self.refuse_caller(By::Synthflow, 502, "2xx without a usable session description".into(), Reply::new(502), cx);
        }
        let ours = self.rules.policy.answer_headers();
        reply.headers.retain(|h| !ours.iter().any(|o| o.name.eq_ignore_ascii_case(&h.name)));
        reply.headers.extend(ours);
        if self.caller.answer(reply.sdp(sdp), Some(&tag), &self.invite, cx).is_none() {
            self.callee.hang_up(Reply::new(487), Vec::new(), cx);
            return self.refuse_caller(
                By::Backchannel,
                400,
                "INVITE without Contact".into(),
                Reply::new(400).reason("Missing Contact"),
                cx,
            );
        }
        if !late_offer {
            self.callee.acknowledge(None, cx);
        }
        self.moments.answered = Some(cx.now);
        self.moments.progress.get_or_insert(cx.now);
        self.state = State::Bridged;
        self.sessions.watch(self.rules.times.media_timeout, cx);
        self.report_answered(cx);
    }

    fn report_answered(&mut self, cx: &mut Cx<'_>) {
        cx.report(Fact::Answered {
            caller_call_id: self.caller.call_id().clone(),
            callee_call_id: self.callee.call_id().clone(),
            pdd: self.moments.progress.unwrap_or(cx.now).since(self.moments.offered),
            codec: self.sessions.codec(Side::Caller).map_or_else(|| "none".into(), |c| c.name.to_string()),
            caller_rtp: self.sessions.heard(Side::Caller),
            callee_rtp: self.sessions.heard(Side::Callee),
        });
    }

    /// CXone's ACK; with late offer it has the answer, which Synthflow's ACK waits for.
    fn acknowledged(&mut self, side: Side, session: Option<Sdp>, cx: &mut Cx<'_>) {
        if side == Side::Caller && self.callee.awaits_answer() {
            let answer = session.as_ref().and_then(|s| self.sessions.cross(Side::Caller, s, &[], cx));
            if answer.is_none() {
                let why = "ACK without the answer to our offer".to_string();
                self.abandon_handover(cx);
                let reason = reason_line(127, &why);
                return self.end(By::Cxone, why, 127, vec![reason.clone()], vec![reason], cx);
            }
            self.callee.acknowledge(answer, cx);
            return;
        }
        // The answer to an offer of ours in a 2xx to an offerless re-INVITE.
        if !self.answered_offer(side, session.as_ref(), cx)
            && let Some(sdp) = session
        {
            self.sessions.hear(side, &sdp, cx);
        }
    }

    fn refused(&mut self, refusal: Refusal, cx: &mut Cx<'_>) {
        let Refusal { status, reason, headers, why } = refusal;
        let (status, reason) = match status {
            503 if self.rules.relay_503 != 503 => (self.rules.relay_503, CompactString::default()),
            // A redirection is not for CXone to follow, nor a challenge for it to answer (product.md §2).
            300..=399 => (480, CompactString::default()),
            401 | 407 => (403, CompactString::default()),
            // Of our session timer, not of CXone's.
            422 => (500, CompactString::default()),
            _ => (status, reason),
        };
        self.refuse_caller(By::Synthflow, status, why, Reply::new(status).reason(reason).headers(headers), cx);
    }

    fn refuse_caller(&mut self, by: By, status: u16, why: String, reply: Reply, cx: &mut Cx<'_>) {
        self.caller.refuse(reply, cx);
        self.closing(Ending { by, why, cause: 0, status }, Vec::new(), cx);
    }

    fn cancelled(&mut self, why: String, cx: &mut Cx<'_>) {
        self.callee.hang_up(Reply::new(487), Vec::new(), cx);
        self.refuse_caller(By::Cxone, 487, why, Reply::new(487), cx);
    }

    fn ring_timed_out(&mut self, cx: &mut Cx<'_>) {
        // PLACECALL's NoAnswer branch: 480 when it rang, 408 when nothing was heard (facts.md §6).
        let status = if self.moments.progress.is_some() { 480 } else { 408 };
        self.callee.hang_up(Reply::new(487), Vec::new(), cx);
        let why = format!("no answer within {} s", self.rules.times.ring_timeout.as_secs());
        self.refuse_caller(By::Backchannel, status, why, Reply::new(status), cx);
    }

    fn hung_up(&mut self, side: Side, tx: ServerTxId, bye: &Message, cx: &mut Cx<'_>) {
        cx.respond(tx, Reply::new(200));
        self.drop_renegotiation(487, cx);
        self.leg(side).ended();
        let carried = self.rules.policy.carry(side, bye);
        let Ending { why, cause, .. } = Ending::bye(By::peer(side), bye);
        let (caller, callee) = if side == Side::Caller { (Vec::new(), carried) } else { (carried, Vec::new()) };
        self.end(By::peer(side), why, cause, caller, callee, cx);
    }

    fn lost(&mut self, side: Side, why: String, cx: &mut Cx<'_>) {
        cx.report(Fact::LegLost { side, why: why.clone() });
        let reason = reason_line(41, "peer lost");
        self.end(By::peer(side), why, 41, vec![reason.clone()], vec![reason], cx);
    }

    /// Ends both legs as far as they are up, with these header lines on their BYEs. Synthflow's BYE waits for a final NOTIFY's answer.
    fn end(&mut self, by: By, why: String, cause: u16, caller: Vec<Carried>, callee: Vec<Carried>, cx: &mut Cx<'_>) {
        let status = if self.moments.answered.is_some() { 0 } else { 503 };
        self.drop_renegotiation(487, cx);
        self.caller.hang_up(Reply::new(503), caller, cx);
        let mut bye = Vec::new();
        if self.callee.is_notifying() {
            bye = callee;
        } else {
            self.callee.hang_up(Reply::new(503), callee, cx);
        }
        self.closing(Ending { by, why, cause, status }, bye, cx);
    }

    fn closing(&mut self, ending: Ending, bye: Vec<Carried>, cx: &mut Cx<'_>) {
        self.sessions.close(cx);
        self.ending.get_or_insert(ending);
        self.state = State::Clearing { until: cx.now + CLEARING_WAIT, bye };
        self.clear(cx);
    }

    /// Synthflow's BYE that waited for a NOTIFY's answer.
    fn hang_up_callee(&mut self, cx: &mut Cx<'_>) {
        if let State::Clearing { bye, .. } = &mut self.state {
            let headers = std::mem::take(bye);
            self.callee.hang_up(Reply::new(503), headers, cx);
        }
    }

    /// Neither the relay's counters nor the answer to a NOTIFY hold anything up for longer.
    fn waited_enough(&mut self, cx: &mut Cx<'_>) {
        self.hang_up_callee(cx);
        for side in [Side::Caller, Side::Callee] {
            self.sessions.closed(side, self.sessions.stats(side), cx);
        }
    }

    /// In Clearing: lets go of what nothing waits for any more.
    fn clear(&mut self, cx: &mut Cx<'_>) {
        if !matches!(self.state, State::Clearing { .. }) {
            return;
        }
        if self.callee.is_up() && !self.callee.is_notifying() {
            self.hang_up_callee(cx);
        }
        if self.sessions.is_closed()
            && let Some(ending) = self.ending.take()
        {
            self.report_end(ending, cx);
        }
        if self.ending.is_none() && self.caller.is_over() && self.callee.is_over() {
            self.state = State::Over;
            cx.out.push(Out::Over);
        }
    }

    fn report_end(&mut self, ending: Ending, cx: &mut Cx<'_>) {
        let Ending { by, why, cause, status } = ending;
        let (caller_call_id, callee_call_id): (SipCallId, SipCallId) = (self.caller.call_id().clone(), self.callee.call_id().clone());
        cx.report(match self.moments.answered {
            Some(at) => Fact::Ended {
                by,
                why,
                cause,
                duration: cx.now.since(at),
                caller_call_id,
                callee_call_id,
                caller_media: self.sessions.stats(Side::Caller),
                callee_media: self.sessions.stats(Side::Callee),
                signals: self.signals,
            },
            None => Fact::Failed {
                by,
                status,
                why,
                caller_call_id,
                callee_call_id: Some(callee_call_id),
                after: cx.now.since(self.moments.offered),
            },
        });
    }
}

/// A Reason line (RFC 3326).
fn reason_line(cause: u16, text: &str) -> Carried {
    line("Reason", format!("Q.850;cause={cause};text=\"{}\"", text.replace(['"', '\\'], "'")))
}

/// The Q.850 cause in the Reason lines of a BYE.
fn q850_cause(bye: &Message) -> Option<u16> {
    bye.values(Name::Reason).flat_map(Reason::all).find(|r| r.protocol.eq_ignore_ascii_case(b"Q.850")).and_then(|r| r.cause())
}

/// Encoding names of an offer, for the log.
fn codec_list(sdp: &Sdp) -> String {
    let codecs = sdp.codecs();
    if codecs.is_empty() {
        return format!("no audio over RTP/AVP ({})", sdp.media_lines().join(", "));
    }
    codecs.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(",")
}
