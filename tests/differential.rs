//! rsip's reader as an oracle where it is sound: no folds, no compact names, no odd blanks, host names and IPv4 only, users without dots,
//! parameters of tokens, the methods that it knows. There both must say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use backchannel::wire::header::bridge;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rsip::headers::ToTypedHeader;
use rsip::headers::UntypedHeader;
use rsip::prelude::HasHeaders;
use rsip::prelude::HeadersExt;

const METHODS: [&str; 14] = [
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
];

fn host() -> impl Strategy<Value = String> {
    let octets = (1u8..255, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c, d)| format!("{a}.{b}.{c}.{d}"));
    prop_oneof!["[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?(\\.[a-z]{2,6}){1,2}", octets]
}

fn host_port() -> impl Strategy<Value = String> {
    (host(), option::of(1u16..)).prop_map(|(host, port)| port.map_or(host.clone(), |port| format!("{host}:{port}")))
}

/// Names that begin with `z` are none that rsip treats specially.
fn other_params() -> impl Strategy<Value = String> {
    vec((("z[a-z0-9]{1,6}"), option::of("[a-zA-Z0-9_-]{1,8}")), 0..3)
        .prop_map(|all| all.into_iter().map(|(name, value)| value.map_or(format!(";{name}"), |value| format!(";{name}={value}"))).collect())
}

fn uri_params() -> impl Strategy<Value = String> {
    let known = select(vec!["", ";lr", ";transport=tcp", ";transport=UDP", ";user=phone", ";method=INVITE", ";ttl=3", ";maddr=192.0.2.7"]);
    (known, other_params()).prop_map(|(known, other)| format!("{known}{other}"))
}

fn uri() -> impl Strategy<Value = String> {
    (select(vec!["sip", "sips"]), option::of("[a-zA-Z0-9_+-]{1,12}(:[a-z0-9]{1,6})?"), host_port(), uri_params()).prop_map(
        |(scheme, user, host, params)| format!("{scheme}:{}{host}{params}", user.map_or_else(String::new, |user| format!("{user}@"))),
    )
}

fn address() -> impl Strategy<Value = String> {
    let display = prop_oneof![Just(String::new()), "[A-Z][a-z]{1,8} ", "\"[A-Z][a-z, .]{1,12}\" "];
    (display, uri(), option::of("[a-zA-Z0-9-]{1,16}"), other_params()).prop_map(|(display, uri, tag, params)| {
        format!("{display}<{uri}>{}{params}", tag.map_or_else(String::new, |tag| format!(";tag={tag}")))
    })
}

fn via() -> impl Strategy<Value = String> {
    (
        select(vec!["UDP", "TCP", "TLS", "WS"]),
        host_port(),
        "[a-zA-Z0-9_-]{1,20}",
        select(vec!["", ";received=192.0.2.9", ";ttl=1"]),
        other_params(),
    )
        .prop_map(|(transport, sent_by, branch, known, other)| {
            format!("SIP/2.0/{transport} {sent_by};branch=z9hG4bK{branch}{known}{other}")
        })
}

fn extra_header() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        ("X-[A-Z][a-zA-Z0-9-]{0,10}", "[a-zA-Z0-9;=<>@\"(),.:/%+-]{1,20}( [a-zA-Z0-9;=]{1,10})?"),
        (Just("Subject".to_owned()), "[a-zA-Z0-9]{1,10}( [a-z]{1,5})?"),
        (Just("User-Agent".to_owned()), "[a-zA-Z]{1,10}/[0-9.]{1,5}"),
        (Just("Supported".to_owned()), "[a-z0-9]{1,8}(, [a-z0-9]{1,8})?"),
    ]
}

#[derive(Debug, Clone)]
struct Sent {
    start: String,
    vias: Vec<String>,
    from: String,
    to: String,
    contact: String,
    call_id: String,
    cseq: (u32, &'static str),
    max_forwards: u8,
    extra: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn headers(&self) -> Vec<(String, String)> {
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut all: Vec<_> = self.vias.iter().map(|via| named("Via", via)).collect();
        all.extend([named("Max-Forwards", &self.max_forwards.to_string()), named("From", &self.from), named("To", &self.to)]);
        all.extend([
            named("Call-ID", &self.call_id),
            named("CSeq", &format!("{} {}", self.cseq.0, self.cseq.1)),
            named("Contact", &self.contact),
        ]);
        all.extend(self.extra.iter().cloned());
        all.push(named("Content-Length", &self.body.len().to_string()));
        all
    }

    fn bytes(&self) -> Vec<u8> {
        let head: String = self.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        [format!("{}\r\n{head}\r\n", self.start).as_bytes(), &self.body].concat()
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let request = (select(METHODS.to_vec()), uri()).prop_map(|(method, uri)| (format!("{method} {uri} SIP/2.0"), method));
    let response =
        (select(vec!["100 Trying", "180 Ringing", "200 OK", "404 Not Found", "503 Service Unavailable"]), select(METHODS.to_vec()))
            .prop_map(|(status, method)| (format!("SIP/2.0 {status}"), method));
    let addresses = (vec(via(), 1..4), address(), address(), address());
    let rest = ("[a-zA-Z0-9-]{1,20}(@[a-z0-9.]{1,10})?", 0u32..1 << 31, any::<u8>(), vec(extra_header(), 0..6), vec(any::<u8>(), 0..80));
    (prop_oneof![request, response], addresses, rest).prop_map(
        |((start, method), (vias, from, to, contact), (call_id, number, max_forwards, extra, body))| Sent {
            start,
            vias,
            from,
            to,
            contact,
            call_id,
            cseq: (number, method),
            max_forwards,
            extra,
            body,
        },
    )
}

/// rsip keeps a display name's quotes; we undo them.
fn unquoted(name: Option<String>) -> Option<String> {
    name.map(|name| name.trim_matches('"').to_owned())
}

fn lines(message: &Message) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    message.lines().map(|line| (text(line.spelled), text(line.value))).collect()
}

fn rsip_lines(message: &rsip::SipMessage) -> Vec<(String, String)> {
    let split =
        |header: &rsip::Header| header.to_string().split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    message.headers().iter().map(split).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn both_readers_say_the_same_where_rsip_is_sound(sent in sent()) {
        let bytes = sent.bytes();
        let theirs = rsip::SipMessage::try_from(bytes.as_slice()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let ours = Message::parse(Bytes::from(bytes)).unwrap();
        prop_assert_eq!(ours.check(), Ok(()));

        match &theirs {
            rsip::SipMessage::Request(request) => {
                prop_assert!(ours.is_request());
                prop_assert_eq!(ours.method().as_str(), request.method.to_string());
                let uri = backchannel::wire::uri::Uri::parse(ours.uri()).unwrap();
                prop_assert_eq!(rsip::Uri::try_from(&uri), Ok(request.uri.clone()));
            }
            rsip::SipMessage::Response(response) => {
                prop_assert!(!ours.is_request());
                prop_assert_eq!(ours.status(), response.status_code.code());
            }
        }
        prop_assert_eq!(lines(&ours), sent.headers());
        prop_assert_eq!(lines(&ours), rsip_lines(&theirs));
        prop_assert_eq!(&ours.body(), theirs.body());
        prop_assert_eq!(ours.call_id().unwrap(), theirs.call_id_header().unwrap().value());

        let via = theirs.via_header().unwrap().typed().unwrap();
        prop_assert_eq!(rsip::typed::Via::try_from(&ours.via().unwrap()), Ok(via.clone()));
        prop_assert_eq!(bridge::transport(ours.via().unwrap().transport), Some(via.transport));
        prop_assert_eq!(ours.via().unwrap().branch().unwrap(), via.branch().unwrap().value().as_bytes());

        let mut from = theirs.from_header().unwrap().typed().unwrap();
        from.display_name = unquoted(from.display_name);
        prop_assert_eq!(ours.from_tag(), from.tag().map(|tag| tag.value()));
        prop_assert_eq!(rsip::typed::From::try_from(&ours.from().unwrap()), Ok(from));
        let mut to = theirs.to_header().unwrap().typed().unwrap();
        to.display_name = unquoted(to.display_name);
        prop_assert_eq!(ours.to_tag(), to.tag().map(|tag| tag.value()));
        prop_assert_eq!(rsip::typed::To::try_from(&ours.to().unwrap()), Ok(to));
        let mut contact = theirs.contact_header().unwrap().typed().unwrap();
        contact.display_name = unquoted(contact.display_name);
        prop_assert_eq!(rsip::typed::Contact::try_from(&ours.contact().unwrap()), Ok(contact));

        let cseq = theirs.cseq_header().unwrap().typed().unwrap();
        prop_assert_eq!(rsip::typed::CSeq::try_from(&ours.cseq().unwrap()), Ok(cseq));
        prop_assert_eq!(ours.max_forwards(), Some(sent.max_forwards));
        prop_assert_eq!(ours.values(Name::Via).count(), sent.vias.len());
    }
}
