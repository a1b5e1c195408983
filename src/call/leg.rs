//! Our end towards one party: its dialogs and its INVITE usage. It hears messages and speaks `LegEvent`s; the other leg's side of a
//! call never sees a message, only these words.

mod refers;
mod reliable;
mod renegotiation;
pub mod timer;
mod uac;

use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

pub use crate::call::leg::refers::REFERRALS_MAX;
use crate::call::leg::reliable::Early;
use crate::call::leg::renegotiation::Asking;
use crate::call::leg::timer::SessionTimer;
pub use crate::call::leg::uac::Invitation;
use crate::call::out::Cx;
use crate::call::out::Face;
use crate::call::out::Hop;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::referral::Referral;
use crate::call::rules::CallTimes;
use crate::call::rules::Carried;
use crate::call::rules::Refusal;
use crate::call::rules::SessionTimes;
use crate::dialog::Dialog;
use crate::ids::ClientTxId;
use crate::ids::LocalTag;
use crate::ids::RemoteTag;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::ids::SipCallId;
use crate::report::Fact;
use crate::time::Time;
use crate::transaction::Timers;
use crate::wire::header::MediaType;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::sdp::Sdp;

/// Early dialogs kept of one INVITE: a fork fan-out that no carrier reaches.
pub const EARLY_DIALOGS_MAX: usize = 8;
/// Retransmissions of a 2xx after which the log says which Contact was advertised (features.md pain 14).
pub const UNACKED_REPORT_AT: u32 = 3;

/// The INVITE usage of a dialog (RFC 5057 §3.1).
///
/// ```text
///  UAS: Invited ──2xx──► Answered ──ACK──► Established ──BYE──► Ended
///          └── 3xx-6xx, CANCEL ──► Ended       │
///  UAC: Idle ──INVITE──► Calling ──2xx──► Answering ──ACK──► Established
///                           └── 3xx-6xx, abandoned ──► Ended
/// ```
#[derive(Debug)]
enum Usage {
    Invited {
        tx: ServerTxId,
        early: Vec<(RemoteTag, LocalTag)>,
    },
    /// Our 2xx is out, its ACK awaited; repeated as RFC 3261 §13.3.1.4 says.
    Answered {
        unacked: Unacked,
        then_bye: Option<Vec<Carried>>,
    },
    Idle,
    /// `silent_until`: the next target is tried when nothing came by then.
    Calling {
        tx: ClientTxId,
        hop: usize,
        silent_until: Option<Time>,
    },
    /// A 2xx came; the call has not said what the ACK carries.
    Answering {
        tx: ClientTxId,
    },
    Established,
    /// Our BYE is out. `again`: what it said, while it may be sent a second time.
    Ending {
        tx: ClientTxId,
        again: Option<Vec<Carried>>,
    },
    Ended,
}

/// A 2xx to INVITE that waits for its ACK.
#[derive(Clone, Copy, Debug)]
struct Unacked {
    tx: ServerTxId,
    /// Of the INVITE, and so of its ACK.
    cseq: u32,
    repeat_at: Time,
    interval: Duration,
    give_up: Time,
    sent: u32,
}

impl Unacked {
    fn new(tx: ServerTxId, cseq: u32, timers: Timers, now: Time) -> Unacked {
        Unacked { tx, cseq, repeat_at: now + timers.t1, interval: timers.t1, give_up: now + timers.t1 * 64, sent: 1 }
    }

    fn deadline(&self) -> Time {
        self.repeat_at.min(self.give_up)
    }

    /// RFC 3261 §13.3.1.4: after T1, doubling up to T2, on reliable transports too. How often it has been sent by now.
    fn repeat(&mut self, timers: Timers, cx: &mut Cx<'_>) -> u32 {
        self.interval = (self.interval * 2).min(timers.t2);
        self.repeat_at = cx.now + self.interval;
        self.sent += 1;
        cx.out.push(Out::Repeat { tx: self.tx });
        self.sent
    }
}

/// What a leg tells the call: the only words that cross from one leg to the other (house.md §3).
#[derive(Debug)]
pub enum LegEvent {
    Progress {
        status: u16,
        reason: CompactString,
        tag: Option<RemoteTag>,
        session: Option<Sdp>,
        carried: Vec<Carried>,
    },
    Answered {
        status: u16,
        reason: CompactString,
        tag: RemoteTag,
        session: Option<Sdp>,
        carried: Vec<Carried>,
    },
    /// The ACK to our 2xx; with late offer it has the answer.
    Acknowledged {
        session: Option<Sdp>,
        first: bool,
    },
    /// No target is left: the last final answer, or what stands for it.
    Refused(Refusal),
    /// CANCEL of an INVITE, the first or a later one.
    Cancelled {
        why: String,
    },
    /// re-INVITE (with its CSeq number), or UPDATE.
    Renegotiate {
        tx: ServerTxId,
        message: Box<Message>,
        offer: Option<Sdp>,
        invite: Option<u32>,
        carried: Vec<Carried>,
    },
    /// The 2xx to a re-INVITE or UPDATE of ours.
    Renegotiated {
        status: u16,
        reason: CompactString,
        session: Option<Sdp>,
        carried: Vec<Carried>,
    },
    /// Its refusal: the session stays as it was.
    RenegotiationRefused {
        status: u16,
        reason: CompactString,
        carried: Vec<Carried>,
    },
    Referred {
        tx: ServerTxId,
        message: Box<Message>,
    },
    /// INFO, MESSAGE and the like.
    Passed {
        tx: ServerTxId,
        method: Method,
        carried: Vec<Carried>,
        content_type: CompactString,
        body: Bytes,
    },
    /// The answer to a request that was passed on.
    PassedBack {
        tx: ServerTxId,
        status: u16,
        reason: CompactString,
    },
    /// BYE; not answered yet.
    HungUp {
        tx: ServerTxId,
        message: Box<Message>,
    },
    /// The peer does not answer any more, or never acknowledged.
    Lost {
        why: String,
    },
    /// A NOTIFY of ours was answered, or timed out.
    Notified,
}

/// Our end towards one party.
#[derive(Debug)]
pub struct Leg {
    side: Side,
    face: Face,
    timers: Timers,
    usage: Usage,
    call_id: SipCallId,
    local_tag: LocalTag,
    dialog: Option<Dialog>,
    hops: Vec<Hop>,
    invitation: Option<Invitation>,
    local_seq: u32,
    first_response: Duration,
    /// The 2xx to a re-INVITE of the peer that waits for its ACK.
    reinvite: Option<Unacked>,
    asking: Option<Asking>,
    takes_update: bool,
    session: SessionTimer,
    /// Of our first INVITE, those with reliable answers.
    early: Vec<Early>,
    referrals: Vec<Referral>,
    referred_before: bool,
}

/// Methods that we take in a dialog.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, MESSAGE, UPDATE, REFER, NOTIFY";

impl Leg {
    /// The leg of an INVITE that came in; `tx` is its server transaction.
    pub fn invited(
        side: Side,
        invite: &Message,
        tx: ServerTxId,
        face: Face,
        timers: Timers,
        session: SessionTimes,
        cx: &mut Cx<'_>,
    ) -> Leg {
        let local_tag = cx.mint.local_tag();
        cx.out.push(Out::Own { tag: local_tag.clone(), side });
        let mut leg = Leg {
            side,
            face,
            timers,
            usage: Usage::Invited { tx, early: Vec::new() },
            call_id: SipCallId::new(invite.call_id().unwrap_or_default()),
            local_tag,
            dialog: None,
            hops: Vec::new(),
            invitation: None,
            local_seq: 0,
            first_response: Duration::ZERO,
            reinvite: None,
            asking: None,
            takes_update: false,
            session: SessionTimer::new(side, session),
            early: Vec::new(),
            referrals: Vec::new(),
            referred_before: false,
        };
        leg.learn(invite);
        leg
    }

    /// A leg that will dial one of `hops`, in order; the first is where its face is taken from.
    pub fn outgoing(side: Side, hops: Vec<Hop>, invitation: Invitation, times: &CallTimes, timers: Timers, cx: &mut Cx<'_>) -> Option<Leg> {
        let face = hops.first()?.face.clone();
        let local_tag = cx.mint.local_tag();
        cx.out.push(Out::Own { tag: local_tag.clone(), side });
        Some(Leg {
            side,
            face,
            timers,
            usage: Usage::Idle,
            call_id: cx.mint.sip_call_id(),
            local_tag,
            dialog: None,
            hops,
            invitation: Some(invitation),
            local_seq: 0,
            first_response: times.first_response,
            reinvite: None,
            asking: None,
            takes_update: false,
            session: SessionTimer::new(side, times.session),
            early: Vec::new(),
            referrals: Vec::new(),
            referred_before: false,
        })
    }

    pub fn call_id(&self) -> &SipCallId {
        &self.call_id
    }

    /// Up: a 2xx went out or came in, and no BYE yet.
    pub fn is_up(&self) -> bool {
        matches!(self.usage, Usage::Answered { .. } | Usage::Answering { .. } | Usage::Established)
    }

    /// Nothing more will leave this leg by itself: not even a BYE that waits for its ACK, or a final NOTIFY for its answer.
    pub fn is_over(&self) -> bool {
        matches!(self.usage, Usage::Ended | Usage::Idle)
    }

    /// The 2xx has come, and its ACK waits for the answer to a late offer.
    pub fn awaits_answer(&self) -> bool {
        matches!(self.usage, Usage::Answering { .. })
    }

    /// A final NOTIFY waits for its answer.
    pub fn is_notifying(&self) -> bool {
        self.referrals.iter().any(|r| !r.is_over())
    }

    pub fn deadline(&self) -> Option<Time> {
        let usage = match &self.usage {
            Usage::Answered { unacked, .. } => Some(unacked.deadline()),
            Usage::Calling { silent_until, .. } => *silent_until,
            _ => None,
        };
        let reinvite = self.reinvite.map(|u| u.deadline());
        let session = self.session.deadline().filter(|_| self.is_up());
        usage.into_iter().chain(session).chain(reinvite).chain(self.referrals.iter().filter_map(Referral::deadline)).min()
    }

    pub fn on_timeout(&mut self, cx: &mut Cx<'_>) -> Option<LegEvent> {
        for referral in &mut self.referrals {
            referral.on_timeout(cx.now);
        }
        if self.is_up() && self.session.is_expired(cx.now) {
            return Some(self.session_expired(cx));
        }
        if let Some(unacked) = self.reinvite.as_mut().filter(|u| u.deadline() <= cx.now) {
            if unacked.give_up <= cx.now {
                return Some(self.never_acknowledged(cx));
            }
            unacked.repeat(self.timers, cx);
        }
        match &mut self.usage {
            Usage::Answered { unacked, .. } if unacked.give_up <= cx.now => Some(self.never_acknowledged(cx)),
            Usage::Answered { unacked, .. } if unacked.repeat_at <= cx.now => {
                let sent = unacked.repeat(self.timers, cx);
                if sent == UNACKED_REPORT_AT {
                    cx.report(Fact::NoAck { side: self.side, contact_uri: self.face.contact_uri(), sent });
                }
                None
            }
            Usage::Calling { silent_until: Some(at), tx, .. } if *at <= cx.now => {
                cx.out.push(Out::Abandon { invite: *tx });
                self.dial_next(Refusal::without_words(408, "silent for first_response"), cx)
            }
            _ => None,
        }
    }

    /// RFC 3261 §13.3.1.4, §14.2: no ACK for 64·T1: the dialog is confirmed, but the session is ended with BYE.
    fn never_acknowledged(&mut self, cx: &mut Cx<'_>) -> LegEvent {
        let headers = match std::mem::replace(&mut self.usage, Usage::Established) {
            Usage::Answered { then_bye: Some(headers), .. } => headers,
            _ => Vec::new(),
        };
        self.bye(headers, cx);
        LegEvent::Lost { why: format!("no ACK for our 2xx, which advertised {}", self.face.contact_uri()) }
    }

    // ---- as the UAS of the first INVITE

    /// A provisional answer. Each early dialog of the other leg has a To-tag of its own here (RFC 3261 §12.1).
    pub fn progress(&mut self, reply: Reply, early: Option<&RemoteTag>, cx: &mut Cx<'_>) {
        let Usage::Invited { tx, early: known } = &mut self.usage else { return };
        let tx = *tx;
        if reply.status == 100 {
            return cx.respond(tx, reply);
        }
        let tag = match early {
            Some(remote) => early_tag(known, remote, &self.local_tag, self.side, cx),
            None => self.local_tag.clone(),
        };
        cx.respond(tx, reply.tag(&tag).contact(&self.face).header("Allow", ALLOW));
    }

    /// The 2xx. `early`: the dialog of the other leg that answered. `None`: this INVITE cannot make a dialog.
    pub fn answer(&mut self, reply: Reply, early: Option<&RemoteTag>, invite: &Message, cx: &mut Cx<'_>) -> Option<()> {
        let Usage::Invited { tx, early: known } = &mut self.usage else { return None };
        let tx = *tx;
        if let Some(remote) = early {
            self.local_tag = early_tag(known, remote, &self.local_tag, self.side, cx);
        }
        self.dialog = Some(Dialog::uas(invite, self.local_tag.clone())?);
        self.confirmed(cx);
        let cseq = invite.cseq().map(|c| c.number).unwrap_or_default();
        self.usage = Usage::Answered { unacked: Unacked::new(tx, cseq, self.timers, cx.now), then_bye: None };
        let timer = self.session.answers(invite, cx.now);
        cx.respond(tx, reply.tag(&self.local_tag).contact(&self.face).header("Allow", ALLOW).headers(timer));
        Some(())
    }

    /// The stairwell keeps a copy of each dialog, with which it can end a leg whose call broke.
    fn confirmed(&self, cx: &mut Cx<'_>) {
        if let Some(dialog) = &self.dialog {
            cx.out.push(Out::Confirmed { side: self.side, dialog: Box::new(dialog.clone()) });
        }
    }

    /// A final answer that is not 2xx.
    pub fn refuse(&mut self, reply: Reply, cx: &mut Cx<'_>) {
        if let Usage::Invited { tx, .. } = self.usage {
            self.usage = Usage::Ended;
            cx.respond(tx, reply.tag(&self.local_tag));
        }
    }

    /// CANCEL for an INVITE that has no final answer (its own 200 is the stairwell's).
    pub fn on_cancel(&mut self, cancel: &Message) -> Option<LegEvent> {
        match self.usage {
            Usage::Invited { .. } | Usage::Answered { .. } | Usage::Established => {
                let reason = cancel.value(Name::Reason).map(|r| String::from_utf8_lossy(r).into_owned());
                Some(LegEvent::Cancelled { why: reason.unwrap_or_else(|| "CANCEL".into()) })
            }
            _ => None,
        }
    }

    pub fn on_ack(&mut self, ack: &Message, cx: &mut Cx<'_>) -> Option<LegEvent> {
        let number = ack.cseq().ok()?.number;
        if !self.dialog.as_ref()?.owns(ack) {
            return None;
        }
        if self.reinvite.is_some_and(|u| u.cseq == number) {
            self.reinvite = None;
            return Some(LegEvent::Acknowledged { session: session(ack), first: false });
        }
        let Usage::Answered { unacked, then_bye } = &mut self.usage else { return None };
        if unacked.cseq != number {
            return None;
        }
        let then_bye = then_bye.take();
        self.usage = Usage::Established;
        if let Some(headers) = then_bye {
            self.bye(headers, cx);
        }
        Some(LegEvent::Acknowledged { session: session(ack), first: true })
    }

    // ---- in the dialog

    /// A request of the peer in this leg's dialog; ACK and CANCEL have ways of their own. `carried`: its lines that may cross.
    pub fn on_request(&mut self, request: &Message, tx: ServerTxId, carried: Vec<Carried>, cx: &mut Cx<'_>) -> Option<LegEvent> {
        let Some(dialog) = self.dialog.as_mut().filter(|d| d.owns(request)) else {
            return self.on_early_request(request, tx, cx);
        };
        match self.usage {
            // A BYE that crosses ours is a good BYE; nothing else is.
            Usage::Ending { .. } if *request.method() == Method::BYE => {}
            Usage::Ended if *request.method() == Method::BYE => {
                cx.respond(tx, Reply::new(200));
                return None;
            }
            Usage::Ended | Usage::Ending { .. } | Usage::Idle => {
                cx.respond(tx, Reply::new(481));
                return None;
            }
            _ => {}
        }
        let number = request.cseq().map(|c| c.number).unwrap_or_default();
        if dialog.on_request(number).is_err() {
            cx.respond(tx, Reply::new(500).reason("CSeq Out Of Order"));
            return None;
        }
        match request.method() {
            Method::Known(rsip::Method::Bye) => Some(LegEvent::HungUp { tx, message: Box::new(request.clone()) }),
            Method::Known(rsip::Method::Invite | rsip::Method::Update) => {
                let invite = (*request.method() == Method::INVITE).then_some(number);
                Some(LegEvent::Renegotiate { tx, message: Box::new(request.clone()), offer: session(request), invite, carried })
            }
            Method::Known(rsip::Method::Refer) => Some(LegEvent::Referred { tx, message: Box::new(request.clone()) }),
            Method::Known(rsip::Method::Info | rsip::Method::Message) => Some(LegEvent::Passed {
                tx,
                method: request.method().clone(),
                carried,
                content_type: CompactString::from_utf8_lossy(request.value(Name::ContentType).unwrap_or_default()),
                body: request.body(),
            }),
            Method::Known(rsip::Method::Options) => {
                cx.respond(tx, Reply::new(200).header("Allow", ALLOW).header("Accept", "application/sdp"));
                None
            }
            // Nothing of ours is reliable, and nothing is subscribed to (RFC 3262 §3, RFC 6665 §4.1.3).
            Method::Known(rsip::Method::PRack | rsip::Method::Notify) => {
                cx.respond(tx, Reply::new(481));
                None
            }
            _ => {
                cx.respond(tx, Reply::new(405).header("Allow", ALLOW));
                None
            }
        }
    }

    /// A request that names our tag before there is a dialog that can do more than end.
    fn on_early_request(&mut self, request: &Message, tx: ServerTxId, cx: &mut Cx<'_>) -> Option<LegEvent> {
        let early = matches!(self.usage, Usage::Invited { .. }) && request.call_id().is_ok_and(|c| c == self.call_id.as_str());
        match request.method() {
            // RFC 3261 §15: "The caller's UA MAY send a BYE for either confirmed or early dialogs".
            Method::Known(rsip::Method::Bye) if early => Some(LegEvent::HungUp { tx, message: Box::new(request.clone()) }),
            // RFC 3261 §14.2: a second INVITE before the final response to the first.
            Method::Known(rsip::Method::Invite) if early => {
                cx.respond(tx, Reply::new(500).header("Retry-After", "5"));
                None
            }
            // RFC 3311 §5.2: not now. The early dialog is there.
            Method::Known(rsip::Method::Update) if matches!(self.usage, Usage::Calling { .. }) => {
                cx.respond(tx, Reply::new(500).header("Retry-After", "5"));
                None
            }
            _ => {
                cx.respond(tx, Reply::new(481));
                None
            }
        }
    }

    /// A request of the other leg that is passed on in this dialog.
    pub fn pass(
        &mut self,
        back: ServerTxId,
        method: Method,
        carried: &[Carried],
        content_type: &str,
        body: Bytes,
        cx: &mut Cx<'_>,
    ) -> bool {
        // RFC 3261 §12.2.1: a dialog is confirmed with its 2xx; only a BYE waits for the ACK.
        let (Usage::Established | Usage::Answered { .. }, Some(dialog)) = (&self.usage, self.dialog.as_mut()) else { return false };
        let mut draft = dialog.request(method);
        draft.put("Contact", self.face.contact());
        for h in carried {
            draft.put(std::str::from_utf8(&h.name).unwrap_or("X-Unreadable"), &h.value);
        }
        draft.body(content_type, body);
        let to = Whither::Uri(dialog.next_hop().into());
        let tx = cx.client_tx();
        cx.out.push(Out::Request { tx, draft: Box::new(draft), slim: None, to, used: Use::Passed(back), side: self.side });
        true
    }

    /// The peer has said BYE and it was answered.
    pub fn ended(&mut self) {
        self.usage = Usage::Ended;
        self.reinvite = None;
        for referral in &mut self.referrals {
            referral.refuse();
        }
    }

    /// Ends this leg from our side, whatever its state: BYE, CANCEL, or a final answer.
    pub fn hang_up(&mut self, refusal: Reply, headers: Vec<Carried>, cx: &mut Cx<'_>) {
        match &mut self.usage {
            Usage::Invited { .. } => self.refuse(refusal, cx),
            // RFC 3261 §15: the UAS sends no BYE before the ACK or the end of its 2xx's repetitions.
            Usage::Answered { then_bye, .. } => *then_bye = Some(headers),
            Usage::Calling { tx, .. } => {
                cx.out.push(Out::Abandon { invite: *tx });
                self.usage = Usage::Ended;
            }
            Usage::Answering { .. } => {
                self.acknowledge(None, cx);
                self.bye(headers, cx);
            }
            Usage::Established => self.bye(headers, cx),
            Usage::Ending { .. } => {}
            Usage::Idle | Usage::Ended => self.usage = Usage::Ended,
        }
    }

    fn bye(&mut self, headers: Vec<Carried>, cx: &mut Cx<'_>) {
        let again = Some(headers.clone());
        self.send_bye(headers, again, cx);
    }

    fn send_bye(&mut self, headers: Vec<Carried>, again: Option<Vec<Carried>>, cx: &mut Cx<'_>) {
        if let Some(dialog) = self.dialog.as_mut() {
            let mut draft = dialog.request(Method::BYE);
            for h in &headers {
                draft.put(std::str::from_utf8(&h.name).unwrap_or("X-Unreadable"), &h.value);
            }
            let to = Whither::Uri(dialog.next_hop().into());
            let tx = cx.client_tx();
            cx.out.push(Out::Request { tx, draft: Box::new(draft), slim: None, to, used: Use::Bye, side: self.side });
            self.ended();
            self.usage = Usage::Ending { tx, again };
        }
    }
}

/// Our To-tag for an early dialog of the other leg: the leg's own for the first one, a new one for each further fork.
fn early_tag(known: &mut Vec<(RemoteTag, LocalTag)>, remote: &RemoteTag, first: &LocalTag, side: Side, cx: &mut Cx<'_>) -> LocalTag {
    if let Some((_, tag)) = known.iter().find(|(r, _)| r == remote) {
        return tag.clone();
    }
    if known.len() >= EARLY_DIALOGS_MAX {
        return first.clone();
    }
    let tag = if known.is_empty() { first.clone() } else { cx.mint.local_tag() };
    if !known.is_empty() {
        cx.out.push(Out::Own { tag: tag.clone(), side });
    }
    known.push((remote.clone(), tag.clone()));
    tag
}

/// The session description of a message, when it has one that can be read.
fn session(message: &Message) -> Option<Sdp> {
    let media_type = message.value(Name::ContentType).and_then(MediaType::parse)?;
    media_type.is("application/sdp").then(|| Sdp::parse(message.body()).ok())?
}
