//! A change of the session on its way across the call: one side's re-INVITE or UPDATE is asked of the other, and what that one says
//! goes back. Nothing of the session changes before it is agreed.

use std::time::Duration;

use bytes::Bytes;

use crate::call::Call;
use crate::call::State;
use crate::call::leg::LegEvent;
use crate::call::out::Cx;
use crate::call::out::Reply;
use crate::call::rules::Carried;
use crate::call::sessions::Proposal;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::report::Fact;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::sdp::Sdp;

/// RFC 3261 §14.2: "a Retry-After header field with a randomly chosen value of between 0 and 10 seconds."
const RETRY_AFTER_SECONDS_MAX: u64 = 10;
/// An UPDATE that became a re-INVITE must be answered before its sender's timer F (RFC 3311 §5.2: at once).
const UPDATE_WAIT: Duration = Duration::from_secs(20);

/// What the side that asked still wants.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Standing,
    /// It sent a CANCEL.
    Cancelled,
    /// The other side kept us waiting for too long: we sent a CANCEL.
    Overdue,
}

/// ```text
///  Asked ──2xx──► (agreed)
///    │ └── 2xx with the offer, to a re-INVITE without one ──► Offered ──ACK with the answer──► (agreed)
///    └── refused ──► (as it was)
/// ```
#[derive(Debug)]
enum Stage {
    /// `proposal`: what the other side was offered.
    Asked { proposal: Option<Proposal>, wish: Wish, until: Time },
    /// Our 2xx has the other side's offer; the ACK to the other side's waits for the answer.
    Offered { proposal: Proposal },
}

/// A re-INVITE or UPDATE that came, as it came.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tx: ServerTxId,
    pub(super) message: Box<Message>,
    pub(super) offer: Option<Sdp>,
    /// CSeq number of a re-INVITE.
    pub(super) invite: Option<u32>,
}

/// A request of `from` that the other side was asked.
#[derive(Debug)]
pub(super) struct Crossing {
    from: Side,
    request: Request,
    stage: Stage,
}

impl Crossing {
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.stage {
            Stage::Asked { wish: Wish::Standing, until, .. } => Some(*until),
            _ => None,
        }
    }
}

impl Call {
    /// re-INVITE and UPDATE: asked of the other side while the call is bridged, else answered here, at the same port and with the codec
    /// in use.
    pub(super) fn renegotiate(&mut self, side: Side, request: Request, carried: &[Carried], cx: &mut Cx<'_>) {
        if let Some(min_se) = self.leg(side).too_short(&request.message) {
            return cx.respond(request.tx, Reply::new(422).header("Min-SE", min_se.to_string()));
        }
        let plain = request.invite.is_none() && request.offer.is_none();
        // A refresh of this leg's timer is no news for the other one.
        let is_refresh = plain && request.message.value(Name::SessionExpires).is_some();
        match self.refusal(side, cx) {
            // An UPDATE without an offer can not collide with one.
            Some(_) if plain => self.answer_here(side, request, cx),
            Some(reply) => cx.respond(request.tx, reply),
            None if is_refresh || (plain && !self.leg(!side).takes_update()) => self.answer_here(side, request, cx),
            None if matches!(self.state, State::Bridged) => self.ask_other(side, request, carried, cx),
            None => self.answer_here(side, request, cx),
        }
    }

    /// RFC 3261 §14.2, RFC 3311 §5.2: 491 while a request of ours is under way on that leg, 500 while an earlier one of theirs is.
    fn refusal(&self, side: Side, cx: &mut Cx<'_>) -> Option<Reply> {
        // RFC 3264 §4: no new offer while the one in our 2xx has no answer.
        if self.callee.awaits_answer() {
            return Some(Reply::new(491));
        }
        match self.crossing.as_deref() {
            Some(Crossing { from, stage: Stage::Asked { .. }, .. }) if *from == side => {
                let seconds = cx.mint.below(RETRY_AFTER_SECONDS_MAX + 1);
                Some(Reply::new(500).header("Retry-After", seconds.to_string()))
            }
            Some(_) => Some(Reply::new(491)),
            // Our own refresh.
            None if self.look(side).is_asking() => Some(Reply::new(491)),
            None => None,
        }
    }

    fn answer_here(&mut self, side: Side, request: Request, cx: &mut Cx<'_>) {
        let Request { tx, message, offer, invite } = request;
        let sdp = match (&offer, invite) {
            (Some(offer), _) => match self.sessions.answer(side, offer, cx) {
                Some(sdp) => Some(sdp),
                None => return cx.respond(tx, Reply::new(488)),
            },
            (None, Some(_)) => self.sessions.sent(side),
            (None, None) => None,
        };
        self.leg(side).answer_renegotiation(tx, &message, invite, Reply::new(200).sdp(sdp), cx);
    }

    fn ask_other(&mut self, side: Side, request: Request, carried: &[Carried], cx: &mut Cx<'_>) {
        let codecs = self.rules.codecs.clone();
        let proposal = match &request.offer {
            Some(offer) => match self.sessions.propose(side, offer, &codecs) {
                Some(proposal) => Some(proposal),
                None => return cx.respond(request.tx, Reply::new(488)),
            },
            None => None,
        };
        let (wait, other) = (self.rules.times.ring_timeout, self.leg(!side));
        let (method, wait) = match request.invite {
            Some(_) => (Method::INVITE, wait),
            None if other.takes_update() => (Method::UPDATE, wait),
            None => (Method::INVITE, UPDATE_WAIT),
        };
        let text = proposal.as_ref().map(Proposal::text);
        if !other.renegotiate(method, carried, text, cx) {
            // RFC 3261 §14.1: not while another INVITE is under way there.
            return cx.respond(request.tx, Reply::new(491));
        }
        let stage = Stage::Asked { proposal, wish: Wish::Standing, until: cx.now + wait };
        self.crossing = Some(Box::new(Crossing { from: side, request, stage }));
    }

    /// CANCEL for a re-INVITE: the other side hears it, and its final answer is ours.
    pub(super) fn renegotiation_cancelled(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(crossing) = self.crossing.as_mut().filter(|c| c.from == side)
            && let Stage::Asked { wish, .. } = &mut crossing.stage
        {
            *wish = Wish::Cancelled;
            self.leg(!side).cancel_renegotiation(cx);
        }
    }

    pub(super) fn renegotiation_timed_out(&mut self, cx: &mut Cx<'_>) {
        let Some(crossing) = self.crossing.as_mut().filter(|c| c.deadline().is_some_and(|at| at <= cx.now)) else { return };
        if let Stage::Asked { wish, .. } = &mut crossing.stage {
            *wish = Wish::Overdue;
        }
        let from = crossing.from;
        self.leg(!from).cancel_renegotiation(cx);
    }

    /// The final answer of `side` to what it was asked.
    pub(super) fn renegotiation_answered(&mut self, side: Side, event: LegEvent, cx: &mut Cx<'_>) {
        let Some(crossing) = self.crossing.take_if(|c| c.from == !side && matches!(c.stage, Stage::Asked { .. })) else {
            return self.refreshed(side, event, cx);
        };
        let Crossing { from, request, stage } = *crossing;
        let Stage::Asked { proposal, wish, .. } = stage else { return };
        match event {
            LegEvent::Renegotiated { status, reason, session, carried } => {
                let reply = Reply::new(status).reason(reason).headers(carried);
                self.agreed(from, request, proposal, session, reply, cx);
            }
            LegEvent::RenegotiationRefused { status, reason, carried } => {
                let reply = match status {
                    // We gave up, not the one that hears this.
                    487 if wish == Wish::Overdue => Reply::new(500).reason("No Answer From The Other Leg"),
                    // What it says of its own server, method or place is not for the other one; a 503 would speak of all of us.
                    503 | 405 | 501 | 408 | 481 | 422 => Reply::new(500).headers(carried),
                    300..=399 => Reply::new(488),
                    401 | 407 => Reply::new(403),
                    _ => Reply::new(status).reason(reason).headers(carried),
                };
                cx.respond(request.tx, reply);
            }
            _ => {}
        }
    }

    /// The session timer of this leg wants to see a sign of life (RFC 4028 §10).
    pub(super) fn refresh(&mut self, side: Side, cx: &mut Cx<'_>) {
        // product.md §4: CXone's held leg gets no re-INVITE of ours.
        let is_held = side == Side::Caller && !self.callee.is_up();
        let sdp = if is_held { None } else { self.sessions.sent(side) };
        self.leg(side).refresh(sdp, cx);
    }

    fn refreshed(&mut self, side: Side, event: LegEvent, cx: &mut Cx<'_>) {
        if let LegEvent::Renegotiated { session: Some(answer), .. } = event {
            self.sessions.hear(side, &answer, cx);
        }
        self.leg(side).acknowledge_renegotiation(None, cx);
    }

    fn agreed(&mut self, from: Side, request: Request, proposal: Option<Proposal>, session: Option<Sdp>, reply: Reply, cx: &mut Cx<'_>) {
        let Request { tx, message, invite, .. } = &request;
        let codecs = self.rules.codecs.clone();
        let sdp = match (proposal, invite) {
            (Some(proposal), _) => {
                let Some(answer) = session.filter(|s| self.sessions.can_cross(!from, s)) else {
                    return self.useless(from, *tx, None, cx);
                };
                self.sessions.agree(proposal, cx);
                self.leg(!from).acknowledge_renegotiation(None, cx);
                self.sessions.cross(!from, &answer, &[], cx)
            }
            // RFC 3261 §14.2: the 2xx to a re-INVITE without an offer has one.
            (None, Some(cseq)) => {
                let offer = session.as_ref();
                let Some(proposal) = offer.and_then(|s| self.sessions.propose(!from, s, &codecs)) else {
                    let answer = offer.and_then(|_| self.sessions.sent(!from));
                    return self.useless(from, *tx, answer, cx);
                };
                let reply = reply.sdp(Some(proposal.text()));
                self.leg(from).answer_renegotiation(*tx, message, Some(*cseq), reply, cx);
                self.crossing = Some(Box::new(Crossing { from, request, stage: Stage::Offered { proposal } }));
                return;
            }
            (None, None) => None,
        };
        self.leg(from).answer_renegotiation(*tx, message, *invite, reply.sdp(sdp), cx);
    }

    /// A 2xx without the session description that it must have: the session stays as it was.
    fn useless(&mut self, from: Side, tx: ServerTxId, answer: Option<Bytes>, cx: &mut Cx<'_>) {
        let text = format!("{}: 2xx to a change of the session without a usable description", (!from).peer());
        cx.report(Fact::Warning { text });
        self.leg(!from).acknowledge_renegotiation(answer, cx);
        cx.respond(tx, Reply::new(500));
    }

    /// The ACK to our 2xx with the other side's offer. `false`: it is another ACK.
    pub(super) fn answered_offer(&mut self, side: Side, session: Option<&Sdp>, cx: &mut Cx<'_>) -> bool {
        let Some(crossing) = self.crossing.take_if(|c| c.from == side && matches!(c.stage, Stage::Offered { .. })) else { return false };
        let Stage::Offered { proposal } = crossing.stage else { return false };
        let answer: Option<Bytes> = match session.filter(|s| self.sessions.can_cross(side, s)) {
            Some(answer) => {
                self.sessions.agree(proposal, cx);
                self.sessions.cross(side, answer, &[], cx)
            }
            None => {
                cx.report(Fact::Warning { text: format!("{}: ACK without the answer to an offer; the session stays", side.peer()) });
                self.sessions.sent(!side)
            }
        };
        self.leg(!side).acknowledge_renegotiation(answer, cx);
        true
    }

    /// A leg ends: what was under way is given up, and whoever asked hears this status (RFC 3261 §15.1.2: 487).
    pub(super) fn drop_renegotiation(&mut self, status: u16, cx: &mut Cx<'_>) {
        for side in [Side::Caller, Side::Callee] {
            // Only a 2xx with an offer still waits for its ACK.
            let answer = self.sessions.sent(side);
            self.leg(side).let_go(answer, cx);
        }
        if let Some(crossing) = self.crossing.take()
            && matches!(crossing.stage, Stage::Asked { .. })
        {
            cx.respond(crossing.request.tx, Reply::new(status));
        }
    }
}
