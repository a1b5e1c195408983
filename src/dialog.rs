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

    /// The confirmed form of an early dialog: its requests go on counting (RFC 3261 §12.2.1.1).
    pub fn follows(&mut self, early: &Dialog) {
        self.local_seq = self.local_seq.max(early.local_seq);
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

/// The ACK to a 2xx of a re-INVITE whose dialog nobody holds any more: along the route that the re-INVITE took (RFC 3261 §12.2.1.1: a
/// re-INVITE changes no route set), to the target that its 2xx names.
pub fn ack_again(reinvite: &Bytes, response: &Message) -> Option<Draft> {
    let request = Message::parse(reinvite.clone()).ok()?;
    let target = response.contact().map_or(request.uri(), |c| without_headers(c.uri));
    let loose = request.value(Name::Route).is_none_or(is_loose);
    let mut draft = Draft::request(Method::ACK, if loose { target } else { request.uri() });
    draft.put("Max-Forwards", "70");
    draft.put("From", request.value(Name::From)?).put("To", request.value(Name::To)?).put("Call-ID", request.call_id().ok()?);
    draft.put("CSeq", format!("{} ACK", request.cseq().ok()?.number)).keep_all(&request, Name::Route);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "INVITE sip:callee@u2.domain.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n\
        From: Caller <sip:caller@u1.example.com>;tag=f1\r\n\
        To: Callee <sip:callee@domain.com>\r\n\
        Call-ID: c1\r\n\
        CSeq: 7 INVITE\r\n\
        Contact: <sip:caller@u1.example.com>\r\n";

    const RESPONSE: &str = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n\
        From: Caller <sip:caller@u1.example.com>;tag=f1\r\n\
        To: Callee <sip:callee@domain.com>;tag=t1\r\n\
        Call-ID: c1\r\n\
        CSeq: 7 INVITE\r\n\
        Contact: <sip:callee@u2.domain.com>\r\n";

    fn message(head: &str, more: &str) -> Message {
        Message::parse(Bytes::from(format!("{head}{more}Content-Length: 0\r\n\r\n"))).unwrap()
    }

    fn text(draft: &Draft) -> String {
        String::from_utf8_lossy(&draft.print(Some("SIP/2.0/UDP us;branch=z9hG4bKus"))).into_owned()
    }

    fn routes_of(text: &str) -> Vec<&str> {
        text.lines().filter_map(|l| l.strip_prefix("Route: ")).collect()
    }

    /// §12.1.1: "The route set MUST be set to the list of URIs in the Record-Route header field from the request, taken in order and
    /// preserving all URI parameters."
    #[test]
    fn the_uas_keeps_the_order_of_record_route_and_the_uac_turns_it_round() {
        let record = "Record-Route: <sip:p2.domain.com;lr>\r\nRecord-Route: <sip:p1.example.com;lr;x=1>, <sip:p0.example.com;lr>\r\n";
        let mut uas = Dialog::uas(&message(REQUEST, record), LocalTag::new("t1")).unwrap();
        let bye = text(&uas.request(Method::BYE));
        assert_eq!(routes_of(&bye), ["<sip:p2.domain.com;lr>", "<sip:p1.example.com;lr;x=1>", "<sip:p0.example.com;lr>"]);
        assert!(bye.starts_with("BYE sip:caller@u1.example.com SIP/2.0\r\n"), "{bye}");
        assert_eq!(uas.next_hop(), b"sip:p2.domain.com;lr");
        // §12.1.1: "The local sequence number MUST be empty": any start below 2**31 will do, ours is 1.
        assert!(bye.contains("\r\nCSeq: 1 BYE\r\n"));

        // §12.1.2: "taken in reverse order".
        let mut uac = Dialog::uac(&message(REQUEST, ""), &message(RESPONSE, record)).unwrap();
        let bye = text(&uac.request(Method::BYE));
        assert_eq!(routes_of(&bye), ["<sip:p0.example.com;lr>", "<sip:p1.example.com;lr;x=1>", "<sip:p2.domain.com;lr>"]);
        assert!(bye.contains("\r\nCSeq: 8 BYE\r\n"));
        assert!(bye.contains("To: Callee <sip:callee@domain.com>;tag=t1\r\n"));
    }

    /// §12.2.1.1, with its own example: "METHOD sip:proxy1 / Route: <sip:proxy2>,<sip:proxy3;lr>,<sip:proxy4>,<sip:user@remoteua>".
    #[test]
    fn the_example_of_a_strict_router_in_the_rfc() {
        let record = "Record-Route: <sip:proxy1>,<sip:proxy2>,<sip:proxy3;lr>,<sip:proxy4>\r\n";
        let request = message(&REQUEST.replace("<sip:caller@u1.example.com>\r\n", "<sip:user@remoteua>\r\n"), record);
        let mut dialog = Dialog::uas(&request, LocalTag::new("t1")).unwrap();
        let bye = text(&dialog.request(Method::BYE));
        assert!(bye.starts_with("BYE sip:proxy1 SIP/2.0\r\n"), "{bye}");
        assert_eq!(routes_of(&bye), ["<sip:proxy2>", "<sip:proxy3;lr>", "<sip:proxy4>", "<sip:user@remoteua>"]);
        assert_eq!(dialog.next_hop(), b"sip:proxy1", "§8.1.2: to the Request-URI when the first route is strict");
    }

    /// §16.12.1.1's callee: two loose proxies; the ACK has the CSeq number of the INVITE (§13.2.2.4).
    #[test]
    fn the_ack_keeps_the_number_of_the_invite_whatever_came_between() {
        let mut dialog = Dialog::uac(&message(REQUEST, ""), &message(RESPONSE, "Record-Route: <sip:p2.domain.com;lr>\r\n")).unwrap();
        let invite = dialog.local_seq();
        let info = text(&dialog.request(Method::parse(b"INFO").unwrap()));
        assert!(info.contains("\r\nCSeq: 8 INFO\r\n"));
        let ack = text(&dialog.ack(invite));
        assert!(ack.contains("\r\nCSeq: 7 ACK\r\n") && ack.starts_with("ACK sip:callee@u2.domain.com SIP/2.0\r\n"), "{ack}");
        assert_eq!(routes_of(&ack), ["<sip:p2.domain.com;lr>"]);
    }

    #[test]
    fn routes_are_cut_one_past_the_bound() {
        for count in [ROUTES_MAX, ROUTES_MAX + 1] {
            let record: String = (0..count).map(|n| format!("Record-Route: <sip:p{n}.example.com;lr>\r\n")).collect();
            let dialog = Dialog::uas(&message(REQUEST, &record), LocalTag::new("t1")).unwrap();
            assert_eq!(dialog.route_set.len(), ROUTES_MAX);
        }
    }

    /// §12.2.2: lower is out of order; §12.2.2 also allows gaps: "possible for the CSeq sequence number to be higher than […] by more than
    /// one".
    #[test]
    fn the_peers_cseq_rises_with_gaps() {
        let mut dialog = Dialog::uas(&message(REQUEST, ""), LocalTag::new("t1")).unwrap();
        assert_eq!(dialog.on_request(7), Err(OutOfOrder));
        assert_eq!(dialog.on_request(9), Ok(()));
        assert_eq!(dialog.on_request(8), Err(OutOfOrder));
        // §12.1.2: empty on the UAC's side until the first request.
        let mut uac = Dialog::uac(&message(REQUEST, ""), &message(RESPONSE, "")).unwrap();
        assert_eq!(uac.on_request(0), Ok(()));
    }

    /// §12: "The dialog ID […] consists of a Call-ID value, a local tag and a remote tag."
    #[test]
    fn a_dialog_owns_what_has_its_call_id_and_both_tags() {
        let dialog = Dialog::uas(&message(REQUEST, ""), LocalTag::new("t1")).unwrap();
        let inside = REQUEST.replace("<sip:callee@domain.com>", "<sip:callee@domain.com>;tag=t1");
        assert!(dialog.owns(&message(&inside, "")));
        for (from, to) in [("tag=f1", "tag=f2"), ("tag=t1", "tag=t2"), ("Call-ID: c1", "Call-ID: c2"), (";tag=f1", "")] {
            assert!(!dialog.owns(&message(&inside.replace(from, to), "")), "{from} → {to}");
        }
    }

    /// §19.1.1, table 1: no headers in a Request-URI; a `?` in the user part is none (§25.1, user-unreserved).
    #[test]
    fn a_contact_with_headers_becomes_a_request_uri_without() {
        for (contact, target) in [
            ("sip:a@u1.example.com;x=1?Subject=s&X-Y=z", "sip:a@u1.example.com;x=1"),
            ("sip:what?now@u1.example.com", "sip:what?now@u1.example.com"),
            ("sip:u1.example.com", "sip:u1.example.com"),
        ] {
            let request = message(&REQUEST.replace("<sip:caller@u1.example.com>\r\n", &format!("<{contact}>\r\n")), "");
            let mut dialog = Dialog::uas(&request, LocalTag::new("t1")).unwrap();
            assert!(text(&dialog.request(Method::BYE)).starts_with(&format!("BYE {target} SIP/2.0\r\n")), "{contact}");
        }
    }

    #[test]
    fn a_parting_bye_is_above_all_that_can_have_been_sent_since() {
        let mut dialog = Dialog::uas(&message(REQUEST, ""), LocalTag::new("t1")).unwrap();
        let copy = dialog.clone();
        for _ in 0..1_000 {
            dialog.request(Method::NOTIFY);
        }
        assert!(text(&copy.parting_bye()).contains(&format!("\r\nCSeq: {} BYE\r\n", PARTING_CSEQ_STEP + 1)));
        assert!(dialog.local_seq() < PARTING_CSEQ_STEP);
    }

    #[test]
    fn without_a_contact_no_dialog_is_made() {
        let request = message(&REQUEST.replace("Contact: <sip:caller@u1.example.com>\r\n", ""), "");
        assert_eq!(Dialog::uas(&request, LocalTag::new("t1")), None);
    }
}
