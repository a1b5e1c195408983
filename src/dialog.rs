//! Second floor: who talks to whom, in what order (RFC 3261 §12).

use bytes::Bytes;

use crate::ids::LocalTag;
use crate::ids::RemoteTag;
use crate::ids::SipCallId;
use crate::wire::draft::Draft;
use crate::wire::header::NameAddr;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::uri::Uri;

/// How far ahead of a copy of its dialog a BYE jumps: further than the requests that one call can have sent since.
const PARTING_CSEQ_STEP: u32 = 1_000_000;
/// Record-Route entries kept of one message; more than any real path has.
pub const ROUTES_MAX: usize = 16;

/// A peer-to-peer relationship between two user agents (RFC 3261 §12). Early or confirmed: the leg that holds it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    call_id: SipCallId,
    local_tag: LocalTag,
    remote_tag: RemoteTag,
    /// Our From value in requests, tag included.
    local: Box<[u8]>,
    /// Our To value in requests, as the peer wrote it, tag included.
    remote: Box<[u8]>,
    remote_target: Box<[u8]>,
    /// Top first, as Route values.
    route_set: Vec<Box<[u8]>>,
    local_seq: u32,
    /// Empty until the peer has sent a request in this dialog (RFC 3261 §12.1.2).
    remote_seq: Option<u32>,
}

/// A request whose CSeq is not higher than the last one (RFC 3261 §12.2.2): answered 500.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfOrder;

impl Dialog {
    /// As the UAS of `request`, answered with `local_tag` (RFC 3261 §12.1.1). `None` without a Contact: no dialog can be made.
    pub fn uas(request: &Message, local_tag: LocalTag) -> Option<Dialog> {
        let local = tagged(request.value(Name::To)?, local_tag.as_str());
        Some(Dialog {
            call_id: SipCallId::new(request.call_id().ok()?),
            // RFC 3261 §12.1.1: a missing tag (RFC 2543) is a null value.
            remote_tag: RemoteTag::new(request.from_tag().unwrap_or_default()),
            local,
            local_tag,
            remote: request.value(Name::From)?.into(),
            remote_target: without_headers(request.contact()?.uri).into(),
            route_set: routes(request),
            local_seq: 0,
            remote_seq: request.cseq().ok().map(|c| c.number),
        })
    }

    /// As the UAC of `request` (as it was sent), from a response with a To tag (RFC 3261 §12.1.2). A 2xx without Contact keeps the
    /// Request-URI as its target, so that it can still be acknowledged and ended.
    pub fn uac(request: &Message, response: &Message) -> Option<Dialog> {
        let mut route_set = routes(response);
        route_set.reverse();
        Some(Dialog {
            call_id: SipCallId::new(request.call_id().ok()?),
            local_tag: LocalTag::new(request.from_tag()?),
            remote_tag: RemoteTag::new(response.to_tag().unwrap_or_default()),
            local: request.value(Name::From)?.into(),
            remote: response.value(Name::To)?.into(),
            remote_target: without_headers(response.contact().map_or(request.uri(), |c| c.uri)).into(),
            route_set,
            local_seq: request.cseq().ok()?.number,
            remote_seq: None,
        })
    }

    pub fn call_id(&self) -> &SipCallId {
        &self.call_id
    }

    pub fn local_tag(&self) -> &LocalTag {
        &self.local_tag
    }

    pub fn remote_tag(&self) -> &RemoteTag {
        &self.remote_tag
    }

    /// Whether an in-dialog request belongs here (RFC 3261 §12): Call-ID and both tags.
    pub fn owns(&self, request: &Message) -> bool {
        request.call_id().is_ok_and(|c| c == self.call_id.as_str())
            && request.to_tag() == Some(self.local_tag.as_str())
            && request.from_tag().unwrap_or_default() == self.remote_tag.as_str()
    }

    /// RFC 3261 §12.2.2: takes the CSeq of a request of the peer. ACK and CANCEL do not count.
    pub fn on_request(&mut self, number: u32) -> Result<(), OutOfOrder> {
        if self.remote_seq.is_some_and(|last| number <= last) {
            return Err(OutOfOrder);
        }
        self.remote_seq = Some(number);
        Ok(())
    }

    /// A target refresh (RFC 3261 §12.2.1.2, §12.2.2): the Contact of a re-INVITE, UPDATE, or of a 2xx to one.
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(contact) = message.contact() {
            self.remote_target = without_headers(contact.uri).into();
        }
    }

    /// The next request in this dialog, its CSeq one higher (RFC 3261 §12.2.1.1). Not for ACK.
    pub fn request(&mut self, method: Method) -> Draft {
        self.local_seq += 1;
        self.draft(method, self.local_seq)
    }

    /// The BYE of a dialog whose owner broke: its CSeq is above all that the owner can have sent after this copy was taken.
    pub fn parting_bye(mut self) -> Draft {
        self.local_seq = self.local_seq.saturating_add(PARTING_CSEQ_STEP);
        self.request(Method::BYE)
    }

    /// The ACK to a 2xx of the request with this CSeq number (RFC 3261 §13.2.2.4).
    pub fn ack(&self, number: u32) -> Draft {
        self.draft(Method::ACK, number)
    }

    /// CSeq number of our last request.
    pub fn local_seq(&self) -> u32 {
        self.local_seq
    }

    /// The URI that says where a request goes (RFC 3261 §8.1.2, §12.2.1.1): the first route, else the remote target. With a strict
    /// router the first route is the Request-URI too.
    pub fn next_hop(&self) -> &[u8] {
        match self.route_set.first() {
            Some(route) => NameAddr::parse(route).map_or(&self.remote_target, |n| n.uri),
            None => &self.remote_target,
        }
    }

    fn draft(&self, method: Method, number: u32) -> Draft {
        let strict = self.route_set.first().filter(|r| !is_loose(r)).and_then(|r| NameAddr::parse(r));
        let mut draft = Draft::request(method.clone(), strict.map_or(&self.remote_target, |s| without_headers(s.uri)));
        draft.put("Max-Forwards", "70");
        draft.put("From", &self.local).put("To", &self.remote).put("Call-ID", self.call_id.as_str());
        draft.put("CSeq", format!("{number} {method}"));
        // RFC 3261 §12.2.1.1: for a strict router the rest of the route set follows, and the remote target is its last entry.
        for route in self.route_set.iter().skip(usize::from(strict.is_some())) {
            draft.put("Route", route);
        }
        if strict.is_some() {
            draft.put("Route", [b"<", &self.remote_target[..], b">"].concat());
        }
        draft
    }
}

/// Record-Route values in order, at most `ROUTES_MAX`.
fn routes(message: &Message) -> Vec<Box<[u8]>> {
    message.elements(Name::RecordRoute).take(ROUTES_MAX).map(Into::into).collect()
}

/// RFC 3261 §19.1.1, table 1: a Contact or Route may have headers after `?`, a Request-URI may not.
fn without_headers(uri: &[u8]) -> &[u8] {
    match Uri::parse(uri) {
        Some(Uri::Sip(parsed)) => parsed.headers.map_or(uri, |h| uri.get(..uri.len().saturating_sub(h.len() + 1)).unwrap_or(uri)),
        _ => uri,
    }
}

fn is_loose(route: &[u8]) -> bool {
    match NameAddr::parse(route).and_then(|n| n.parsed_uri()) {
        Some(Uri::Sip(uri)) => uri.params.get("lr").is_some(),
        _ => false,
    }
}

/// `value` with `;tag=` added (RFC 3261 §20.20: parameters after a bare addr-spec are the header's, so no brackets are needed).
pub fn tagged(value: &[u8], tag: &str) -> Box<[u8]> {
    let mut text = Vec::with_capacity(value.len() + tag.len() + 7);
    text.extend_from_slice(value);
    text.extend_from_slice(b";tag=");
    text.extend_from_slice(tag.as_bytes());
    text.into()
}

/// The ACK and the BYE for a 2xx that nobody wants (a fork, or one that crossed our CANCEL): along its own route set.
pub fn ack_and_bye(invite: &Bytes, response: &Message) -> Option<(Dialog, Draft, Draft)> {
    let request = Message::parse(invite.clone()).ok()?;
    let mut dialog = Dialog::uac(&request, response)?;
    let ack = dialog.ack(dialog.local_seq());
    let bye = dialog.request(Method::BYE);
    Some((dialog, ack, bye))
}
