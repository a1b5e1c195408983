//! Refusals that need no call to be decided (RFC 3261 §8.2, in its order).

use crate::call::leg::ALLOW;
use crate::call::out::Reply;
use crate::wire::header::MediaType;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::uri::Uri;

/// Option tags that we support (RFC 3261 §19.2). 100rel is not among them: a Require of it is refused.
const SUPPORTED: &[&str] = &["timer"];

/// The refusal that a request deserves whatever it asks for; `None`: let it in.
pub fn screen(request: &Message) -> Option<Reply> {
    method(request).or_else(|| uri(request)).or_else(|| extensions(request)).or_else(|| content(request)).or_else(|| hops(request))
}

/// RFC 3261 §8.2.1, §21.5.2: 501 for what nobody knows, 405 for what we do not do here.
fn method(request: &Message) -> Option<Reply> {
    match request.method() {
        Method::Ext(_) => Some(Reply::new(501).header("Allow", ALLOW)),
        Method::Known(rsip::Method::Register | rsip::Method::Publish | rsip::Method::Subscribe) => {
            Some(Reply::new(405).header("Allow", ALLOW))
        }
        _ => None,
    }
}

/// RFC 3261 §8.2.2.1.
fn uri(request: &Message) -> Option<Reply> {
    match Uri::parse(request.uri()) {
        Some(Uri::Sip(_) | Uri::Tel { .. }) => None,
        Some(Uri::Other { .. }) => Some(Reply::new(416)),
        None => Some(Reply::new(400).reason("Bad Request-URI")),
    }
}

/// RFC 3261 §8.2.2.3; not for CANCEL and ACK.
fn extensions(request: &Message) -> Option<Reply> {
    let unknown: Vec<String> = request
        .elements(Name::Require)
        .map(|tag| String::from_utf8_lossy(tag).into_owned())
        .filter(|tag| !tag.is_empty() && !SUPPORTED.iter().any(|s| s.eq_ignore_ascii_case(tag)))
        .collect();
    (!unknown.is_empty() && *request.method() != Method::CANCEL).then(|| Reply::new(420).header("Unsupported", unknown.join(", ")))
}

/// RFC 3261 §8.2.3, and §21.4.7 for an Accept that leaves out the only thing we have to say.
fn content(request: &Message) -> Option<Reply> {
    if !matches!(request.method(), Method::Known(rsip::Method::Invite | rsip::Method::Update)) {
        return None;
    }
    let encoded = request.elements(Name::ContentEncoding).any(|e| !e.is_empty() && !e.eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Some(Reply::new(415).header("Accept-Encoding", "identity"));
    }
    let is_sdp = |value: &[u8]| MediaType::parse(value).is_some_and(|m| m.is("application/sdp"));
    if !request.body().is_empty() && !request.value(Name::ContentType).is_some_and(is_sdp) {
        return Some(Reply::new(415).header("Accept", "application/sdp"));
    }
    let mut accepts = request.elements(Name::Accept).peekable();
    // `*` is a token too, so a range reads like a type (RFC 3261 §25.1).
    let acceptable = |value: &[u8]| {
        MediaType::parse(value).is_some_and(|range| ["application/sdp", "application/*", "*/*"].iter().any(|ok| range.is(ok)))
    };
    (accepts.peek().is_some() && !accepts.any(acceptable)).then(|| Reply::new(406).header("Accept", "application/sdp"))
}

/// RFC 3261 §16.3 item 3, for what would be sent onward.
fn hops(request: &Message) -> Option<Reply> {
    let onward = *request.method() == Method::INVITE && request.to_tag().is_none();
    (onward && request.max_forwards() == Some(0)).then(|| Reply::new(483))
}
