//! The leg as the UAC of the first INVITE: dialling one target after the other, and what comes back to requests of ours.

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::leg::ALLOW;
use crate::call::leg::Leg;
use crate::call::leg::LegEvent;
use crate::call::leg::Usage;
use crate::call::leg::session;
use crate::call::out::Cx;
use crate::call::out::Hop;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::Refusal;
use crate::dialog::Dialog;
use crate::ids::ClientTxId;
use crate::ids::LocalTag;
use crate::ids::RemoteTag;
use crate::ids::ServerTxId;
use crate::ids::SipCallId;
use crate::report::Fact;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::method::Method;

/// What the INVITE to the callee says besides its addresses.
#[derive(Debug, Clone)]
pub struct Invitation {
    pub number: CompactString,
    pub display: Bytes,
    pub user: Bytes,
    pub max_forwards: u8,
    pub headers: Vec<Carried>,
    /// For UDP, when the budget dropped some.
    pub udp_headers: Option<Vec<Carried>>,
    pub user_agent: CompactString,
    pub body: Option<Bytes>,
}

impl Invitation {
    /// What `plan` makes of CXone's INVITE; `body`: the session description as it goes on.
    pub fn of(plan: &Plan, invite: &Message, body: Option<Bytes>) -> Invitation {
        Invitation {
            number: plan.callee_number.clone(),
            display: plan.caller_display.clone(),
            user: plan.caller_user.clone(),
            // RFC 7332: a B2BUA that starts at 70 anew would keep a loop alive.
            max_forwards: invite.max_forwards().map_or(70, |m| m.saturating_sub(1)),
            headers: plan.headers.clone(),
            udp_headers: plan.udp_headers.clone(),
            user_agent: CompactString::const_new(concat!("backchannel/", env!("CARGO_PKG_VERSION"))),
            body,
        }
    }

    /// The INVITE to one hop. `headers`: all of them, or what is left for UDP.
    pub fn draft(&self, hop: &Hop, headers: &[Carried], call_id: &SipCallId, tag: &LocalTag, cseq: u32) -> Draft {
        let address = format!("sip:{}@{}", self.number, hop.shown);
        let mut draft = Draft::request(Method::INVITE, [&address, hop.target.transport.uri_parameter()].concat().as_bytes());
        draft.put("Max-Forwards", self.max_forwards.to_string());
        let mut from = self.display.to_vec();
        from.extend_from_slice(b"<sip:");
        if !self.user.is_empty() {
            from.extend_from_slice(&self.user);
            from.push(b'@');
        }
        from.extend_from_slice(hop.face.host_port().as_bytes());
        from.extend_from_slice(b">;tag=");
        from.extend_from_slice(tag.as_bytes());
        draft.put("From", from).put("To", format!("<{address}>")).put("Call-ID", call_id.as_str());
        draft.put("CSeq", format!("{cseq} INVITE")).put("Contact", hop.face.contact());
        draft.put("Allow", ALLOW).put("User-Agent", &self.user_agent);
        for h in headers {
            draft.put(std::str::from_utf8(&h.name).unwrap_or("X-Unreadable"), &h.value);
        }
        if let Some(body) = &self.body {
            // RFC 3262 §5: without an offer of ours a reliable answer would have one, and its PRACK would wait for CXone's.
            draft.put("Supported", "100rel");
            draft.body("application/sdp", body.clone());
        }
        draft
    }
}

impl Leg {
    /// Dials the first hop.
    pub fn dial(&mut self, cx: &mut Cx<'_>) {
        if matches!(self.usage, Usage::Idle) && !self.hops.is_empty() {
            self.dial_hop(0, cx);
        }
    }

    fn dial_hop(&mut self, at: usize, cx: &mut Cx<'_>) {
        let (Some(hop), Some(invitation)) = (self.hops.get(at).cloned(), self.invitation.as_ref()) else { return };
        self.face = hop.face.clone();
        // RFC 3261 §8.1.3.5: a request that is tried again keeps Call-ID, From and To, its CSeq is one higher.
        self.local_seq += 1;
        self.early.clear();
        let tx = cx.client_tx();
        let asks = self.session.asks();
        let print = |headers: &[Carried]| {
            let headers = [&asks[..], headers].concat();
            invitation.draft(&hop, &headers, &self.call_id, &self.local_tag, self.local_seq)
        };
        let draft = print(&invitation.headers);
        let slim = invitation.udp_headers.as_ref().map(|headers| Box::new(print(headers)));
        let bytes = draft.size();
        // The last target is waited for until the ring time-out or timer B.
        let silent_until = (at + 1 < self.hops.len() && !self.first_response.is_zero()).then(|| cx.now + self.first_response);
        self.usage = Usage::Calling { tx, hop: at, silent_until };
        cx.out.push(Out::Request { tx, draft: Box::new(draft), slim, to: Whither::Target(hop.target), used: Use::Invite, side: self.side });
        cx.report(Fact::Dialled {
            callee_call_id: self.call_id.clone(),
            target: hop.target.addr,
            transport: hop.target.transport.as_str(),
            attempt: u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1),
            bytes,
        });
    }

    /// A response to a request of ours. `invite`: the INVITE as it was sent.
    pub fn on_response(
        &mut self,
        tx: ClientTxId,
        used: Use,
        response: &Message,
        request: &Bytes,
        carried: Vec<Carried>,
        cx: &mut Cx<'_>,
    ) -> Option<LegEvent> {
        match used {
            Use::Invite => self.on_invite_response(tx, response, request, carried, cx),
            Use::Notify => {
                self.on_notify_answer(tx, (200..300).contains(&response.status()), cx);
                Some(LegEvent::Notified)
            }
            Use::Passed(back) if response.status() >= 200 => Some(self.on_passed_back(back, response, cx)),
            Use::Bye if response.status() >= 200 => {
                self.on_bye_done(tx);
                None
            }
            Use::Reinvite | Use::Update => self.on_renegotiation_response(tx, used, response, carried, cx),
            Use::Bye | Use::Passed(_) | Use::Prack => None,
        }
    }

    /// An answer of the peer to what the other leg sent. What it says of this dialog or its credentials is not for the other one.
    fn on_passed_back(&mut self, back: ServerTxId, response: &Message, cx: &mut Cx<'_>) -> LegEvent {
        let reason = CompactString::from_utf8_lossy(response.reason());
        match response.status() {
            // RFC 5057 §5.1: a 481 ends the whole dialog.
            481 if matches!(self.usage, Usage::Established | Usage::Answered { .. }) => {
                cx.respond(back, Reply::new(500).reason("Other Leg Gone"));
                self.ended();
                LegEvent::Lost { why: "481 to a request in the dialog".into() }
            }
            401 | 407 => LegEvent::PassedBack { tx: back, status: 403, reason: CompactString::default() },
            // To the other peer a 408 or 481 would say that its own dialog is gone (RFC 3261 §12.2.1.2).
            408 | 481 => LegEvent::PassedBack { tx: back, status: 500, reason: "No Answer From The Other Leg".into() },
            status => LegEvent::PassedBack { tx: back, status, reason },
        }
    }

    /// The BYE was answered, or never will be: the leg is over either way (RFC 3261 §15.1.1).
    fn on_bye_done(&mut self, bye: ClientTxId) {
        if matches!(self.usage, Usage::Ending { tx, .. } if tx == bye) {
            self.usage = Usage::Ended;
        }
    }

    /// A BYE whose connection broke under it is sent once more, by way of the Contact: a carrier that never hears one keeps its channel.
    fn on_bye_lost(&mut self, bye: ClientTxId, status: u16, cx: &mut Cx<'_>) {
        match &mut self.usage {
            Usage::Ending { tx, again } if *tx == bye && status == 503 => match again.take() {
                Some(headers) => self.send_bye(headers, None, cx),
                None => self.usage = Usage::Ended,
            },
            _ => self.on_bye_done(bye),
        }
    }

    fn on_invite_response(
        &mut self,
        tx: ClientTxId,
        response: &Message,
        request: &Bytes,
        carried: Vec<Carried>,
        cx: &mut Cx<'_>,
    ) -> Option<LegEvent> {
        let Usage::Calling { tx: ours, silent_until, .. } = &mut self.usage else { return None };
        if *ours != tx {
            return None;
        }
        *silent_until = None;
        let status = response.status();
        let reason = CompactString::from_utf8_lossy(response.reason());
        match status {
            100 => None,
            101..=199 if !self.acknowledge_early(response, request, cx) => None,
            101..=199 => {
                let tag = response.to_tag().map(RemoteTag::new);
                Some(LegEvent::Progress { status, reason, tag, session: session(response), carried })
            }
            200..=299 => {
                let invite = Message::parse(request.clone()).ok()?;
                let mut dialog = Dialog::uac(&invite, response)?;
                let tag = dialog.remote_tag().clone();
                if let Some(early) = self.early.iter().find(|e| *e.dialog.remote_tag() == tag) {
                    dialog.follows(&early.dialog);
                }
                self.early.clear();
                self.learn(response);
                self.session.on_answer(response, cx.now);
                self.dialog = Some(dialog);
                self.confirmed(cx);
                self.usage = Usage::Answering { tx };
                Some(LegEvent::Answered { status, reason, tag, session: session(response), carried })
            }
            // RFC 4028 §7.3: the same request with a larger interval, its CSeq one higher.
            422 if self.session.on_too_small(response) => {
                if let Usage::Calling { hop, .. } = self.usage {
                    self.dial_hop(hop, cx);
                }
                None
            }
            _ => {
                let why = format!("{status} {reason}");
                self.next_or_refused(Refusal { status, reason, headers: carried, why }, cx)
            }
        }
    }

    /// No final answer: timer B or F, or the transport failed. `status` stands for it (RFC 3261 §8.1.3.1): 408 or 503.
    pub fn on_no_response(&mut self, tx: ClientTxId, used: Use, status: u16, why: String, cx: &mut Cx<'_>) -> Option<LegEvent> {
        match (used, &self.usage) {
            (Use::Invite, Usage::Calling { tx: ours, .. }) if *ours == tx => self.next_or_refused(Refusal::without_words(status, why), cx),
            (Use::Notify, _) => {
                self.on_notify_answer(tx, false, cx);
                Some(LegEvent::Notified)
            }
            (Use::Bye, _) => {
                self.on_bye_lost(tx, status, cx);
                None
            }
            (Use::Reinvite | Use::Update, _) => self.on_renegotiation_unanswered(tx, status, why, cx),
            // Nothing that the peer said: and a 408 would end the other dialog (RFC 3261 §12.2.1.2).
            (Use::Passed(back), _) => Some(LegEvent::PassedBack { tx: back, status: 500, reason: "No Answer From The Other Leg".into() }),
            _ => None,
        }
    }

    /// RFC 3263 §4.3: 503, a time-out and a transport failure go on to the next target; so does 408 (product.md `fallback`).
    fn next_or_refused(&mut self, refusal: Refusal, cx: &mut Cx<'_>) -> Option<LegEvent> {
        if matches!(refusal.status, 408 | 503) {
            return self.dial_next(refusal, cx);
        }
        self.usage = Usage::Ended;
        Some(LegEvent::Refused(refusal))
    }

    /// The next target; `refusal`: what is left to say when there is none.
    pub(super) fn dial_next(&mut self, refusal: Refusal, cx: &mut Cx<'_>) -> Option<LegEvent> {
        let Usage::Calling { hop, .. } = self.usage else { return None };
        if hop + 1 >= self.hops.len() {
            self.usage = Usage::Ended;
            return Some(LegEvent::Refused(refusal));
        }
        let (addr, why) = (self.hops[hop].target.addr, refusal.why);
        cx.report(Fact::Warning { text: format!("target {addr} failed ({why}), trying the next") });
        self.dial_hop(hop + 1, cx);
        None
    }

    /// The ACK to the 2xx leaves when the call says so; `answer` with late offer.
    pub fn acknowledge(&mut self, answer: Option<Bytes>, cx: &mut Cx<'_>) {
        let (Usage::Answering { tx }, Some(dialog)) = (&self.usage, &self.dialog) else { return };
        // Of the INVITE, whatever has been sent in the dialog since.
        let mut draft = dialog.ack(self.local_seq);
        if let Some(sdp) = answer {
            draft.body("application/sdp", sdp);
        }
        cx.out.push(Out::Ack { invite: *tx, draft: Box::new(draft), to: Whither::Uri(dialog.next_hop().into()), side: self.side });
        self.usage = Usage::Established;
    }
}
