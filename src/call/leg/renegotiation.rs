//! Changes to a session that is there: re-INVITE (RFC 3261 §14) and UPDATE (RFC 3311), in either direction.

use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::leg::ALLOW;
use crate::call::leg::Leg;
use crate::call::leg::LegEvent;
use crate::call::leg::Unacked;
use crate::call::leg::Usage;
use crate::call::leg::session;
use crate::call::out::Cx;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::out::line;
use crate::call::rules::Carried;
use crate::ids::ClientTxId;
use crate::ids::ServerTxId;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

/// A refresh that cannot leave now is tried again after that.
const REFRESH_LATER: Duration = Duration::from_secs(2);

/// A re-INVITE or UPDATE of ours.
///
/// ```text
///  Asked ──2xx to INVITE──► Answering ──ACK──► (none)
///    └── any other final answer ──► (none)
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Asking {
    Asked {
        tx: ClientTxId,
        /// Of our INVITE, and so of its ACK; none for UPDATE.
        invite: Option<u32>,
    },
    /// A 2xx to our re-INVITE; the call has not said what its ACK carries.
    Answering { tx: ClientTxId, cseq: u32 },
}

impl Leg {
    /// A re-INVITE or UPDATE may leave now: RFC 3261 §14.1 allows one INVITE transaction at a time, in either direction.
    pub fn may_renegotiate(&self) -> bool {
        matches!(self.usage, Usage::Established) && self.reinvite.is_none() && self.asking.is_none()
    }

    /// The peer's last Allow names UPDATE (RFC 3311 §4). Without an Allow only a re-INVITE is sure to be understood.
    pub fn takes_update(&self) -> bool {
        self.takes_update
    }

    /// What the peer says that it can do.
    pub(super) fn learn(&mut self, message: &Message) {
        if message.value(Name::Allow).is_some() {
            self.takes_update = message.lists(Name::Allow, "UPDATE");
        }
    }

    /// Asks the peer to change the session. `false`: not now.
    pub fn renegotiate(&mut self, method: Method, carried: &[Carried], sdp: Option<Bytes>, cx: &mut Cx<'_>) -> bool {
        if !self.may_renegotiate() {
            return false;
        }
        let Some(dialog) = self.dialog.as_mut() else { return false };
        let is_invite = method == Method::INVITE;
        let mut draft = dialog.request(method);
        draft.put("Contact", self.face.contact()).put("Allow", ALLOW);
        for h in self.session.asks().iter().chain(carried) {
            draft.put(std::str::from_utf8(&h.name).unwrap_or("X-Unreadable"), &h.value);
        }
        if let Some(sdp) = sdp {
            draft.body("application/sdp", sdp);
        }
        let to = Whither::Uri(dialog.next_hop().into());
        let invite = is_invite.then(|| dialog.local_seq());
        let tx = cx.client_tx();
        self.asking = Some(Asking::Asked { tx, invite });
        self.session.sent(cx.now);
        let used = if is_invite { Use::Reinvite } else { Use::Update };
        cx.out.push(Out::Request { tx, draft: Box::new(draft), slim: None, to, used, side: self.side });
        true
    }

    /// CANCEL to our re-INVITE (RFC 3261 §9.1); its final answer is still awaited.
    pub fn cancel_renegotiation(&mut self, cx: &mut Cx<'_>) {
        if let Some(Asking::Asked { tx, invite: Some(_) }) = self.asking {
            cx.out.push(Out::Abandon { invite: tx });
        }
    }

    /// The ACK to the 2xx of our re-INVITE; `answer` when that 2xx had the offer. Nothing to do for UPDATE.
    pub fn acknowledge_renegotiation(&mut self, answer: Option<Bytes>, cx: &mut Cx<'_>) {
        if let Some(Asking::Answering { tx, cseq }) = self.asking {
            self.asking = None;
            self.send_ack(tx, cseq, answer, cx);
        }
    }

    /// This leg or the other one ends: what is under way here is given up. `answer` stands for the one that an ACK still waits for.
    pub fn let_go(&mut self, answer: Option<Bytes>, cx: &mut Cx<'_>) {
        self.cancel_renegotiation(cx);
        self.acknowledge_renegotiation(answer, cx);
        self.asking = None;
    }

    fn send_ack(&self, tx: ClientTxId, cseq: u32, answer: Option<Bytes>, cx: &mut Cx<'_>) {
        let Some(dialog) = &self.dialog else { return };
        let mut draft = dialog.ack(cseq);
        if let Some(sdp) = answer {
            draft.body("application/sdp", sdp);
        }
        cx.out.push(Out::Ack { invite: tx, draft: Box::new(draft), to: Whither::Uri(dialog.next_hop().into()), side: self.side });
    }

    pub(super) fn on_renegotiation_response(
        &mut self,
        tx: ClientTxId,
        used: Use,
        response: &Message,
        carried: Vec<Carried>,
        cx: &mut Cx<'_>,
    ) -> Option<LegEvent> {
        let status = response.status();
        let ours = matches!(self.asking, Some(Asking::Asked { tx: asked, .. }) if asked == tx);
        if status < 200 {
            return None;
        }
        if !ours || !self.is_up() {
            // Given up, and yet accepted: a 2xx to INVITE has its ACK all the same (RFC 3261 §13.2.2.4).
            if used == Use::Reinvite && status < 300 {
                self.send_ack(tx, response.cseq().ok()?.number, None, cx);
            }
            return None;
        }
        let asked = self.asking.take();
        self.learn(response);
        let reason = CompactString::from_utf8_lossy(response.reason());
        match (status, asked) {
            (200..=299, asked) => {
                if let Some(Asking::Asked { tx, invite: Some(cseq) }) = asked {
                    self.asking = Some(Asking::Answering { tx, cseq });
                }
                // RFC 3261 §12.2.1.2: the Contact of a 2xx to a target refresh request is the new remote target.
                if let Some(dialog) = self.dialog.as_mut() {
                    dialog.refresh_target(response);
                }
                self.session.on_answer(response, cx.now);
                self.confirmed(cx);
                Some(LegEvent::Renegotiated { status, reason, session: session(response), carried })
            }
            // RFC 5057 §5.1: a 481 ends the whole dialog.
            (481, _) => {
                self.ended();
                Some(LegEvent::Lost { why: format!("481 to {}", response.method()) })
            }
            (408, _) => Some(self.unanswered("408 to a change of the session".into(), cx)),
            (status, _) => {
                if status == 422 && self.session.on_too_small(response) {
                    self.session.postpone(cx.now);
                } else {
                    self.session.refused(status, cx);
                }
                Some(LegEvent::RenegotiationRefused { status, reason, carried })
            }
        }
    }

    /// RFC 3261 §12.2.1.2: "If the response for a request within a dialog is a 481 […] or a 408 […], the UAC SHOULD terminate the
    /// dialog. A UAC SHOULD also terminate a dialog if no response at all is received": with a BYE.
    fn unanswered(&mut self, why: String, cx: &mut Cx<'_>) -> LegEvent {
        self.bye(Vec::new(), cx);
        LegEvent::Lost { why }
    }

    pub(super) fn on_renegotiation_unanswered(&mut self, tx: ClientTxId, status: u16, why: String, cx: &mut Cx<'_>) -> Option<LegEvent> {
        if !self.is_up() || !matches!(self.asking, Some(Asking::Asked { tx: asked, .. }) if asked == tx) {
            return None;
        }
        self.asking = None;
        // It never left: the peer knows nothing of it, and may be reached again.
        if status == 503 {
            self.session.refused(status, cx);
            return Some(LegEvent::RenegotiationRefused { status, reason: CompactString::default(), carried: Vec::new() });
        }
        Some(self.unanswered(format!("a change of the session: {why}"), cx))
    }

    /// The 200 to a re-INVITE (`invite`: its CSeq number) or UPDATE: only what is accepted refreshes the target (RFC 6141 §4.2).
    pub fn answer_renegotiation(&mut self, tx: ServerTxId, message: &Message, invite: Option<u32>, reply: Reply, cx: &mut Cx<'_>) {
        if let Some(dialog) = self.dialog.as_mut() {
            dialog.refresh_target(message);
        }
        self.learn(message);
        self.confirmed(cx);
        if let Some(cseq) = invite {
            self.reinvite = Some(Unacked::new(tx, cseq, self.timers, cx.now));
        }
        let timer = self.session.answers(message, cx.now);
        cx.respond(tx, reply.contact(&self.face).header("Allow", ALLOW).headers(timer));
    }

    // ---- the session timer

    /// The Min-SE of the 422 that this re-INVITE or UPDATE deserves (RFC 4028 §9).
    pub fn too_short(&self, request: &Message) -> Option<u64> {
        self.session.too_short(request)
    }

    /// Our refresh of the session is due.
    pub fn is_refresh_due(&self, now: Time) -> bool {
        self.is_up() && self.session.is_refresh_due(now)
    }

    /// Our re-INVITE or UPDATE is under way, or waits for its ACK.
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Refreshes the session (RFC 4028 §10): by UPDATE, else by a re-INVITE with the description that we sent last.
    pub fn refresh(&mut self, sdp: Option<Bytes>, cx: &mut Cx<'_>) {
        let (method, sdp) = if self.takes_update { (Method::UPDATE, None) } else { (Method::INVITE, sdp) };
        // A re-INVITE without an offer would ask for a new one.
        if (method == Method::INVITE && sdp.is_none()) || !self.renegotiate(method, &[], sdp, cx) {
            self.session.postpone(cx.now + REFRESH_LATER);
        }
    }

    /// RFC 4028 §10: "it SHOULD send a BYE to terminate the session, slightly before the session expiration".
    pub(super) fn session_expired(&mut self, cx: &mut Cx<'_>) -> LegEvent {
        self.bye(vec![line("Reason", "SIP;cause=408;text=\"Session expired\"")], cx);
        LegEvent::Lost { why: "session expired".into() }
    }
}
