//! One test for each way in which rsip 0.4 reads URIs, Via and single headers wrongly, by the row of the study that found it, and the
//! points of RFC 5118.

use proptest::prelude::*;

use crate::wire::header::CSeq;
use crate::wire::header::Event;
use crate::wire::header::MediaType;
use crate::wire::header::NameAddr;
use crate::wire::header::RAck;
use crate::wire::header::Reason;
use crate::wire::header::ReferTo;
use crate::wire::header::Replaces;
use crate::wire::header::RetryAfter;
use crate::wire::header::SessionExpires;
use crate::wire::header::SubscriptionState;
use crate::wire::header::UserToUser;
use crate::wire::header::Via;
use crate::wire::header::bridge::NoRsip;
use crate::wire::header::elements;
use crate::wire::header::is_star;
use crate::wire::header::vias;
use crate::wire::method::Method;
use crate::wire::uri::Host;
use crate::wire::uri::SipUri;
use crate::wire::uri::Uri;
use crate::wire::uri::same;

fn sip(text: &str) -> SipUri<'_> {
    match Uri::parse(text.as_bytes()) {
        Some(Uri::Sip(sip)) => sip,
        other => panic!("{text}: {other:?}"),
    }
}

fn addr(text: &str) -> NameAddr<'_> {
    NameAddr::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
}

fn via(text: &str) -> Via<'_> {
    Via::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
}

fn ip(text: &str) -> Host<'_> {
    Host::Ip(text.parse().unwrap())
}

#[test]
fn u1_a_user_may_have_dots() {
    let u = sip("sip:john.doe@example.com");
    assert_eq!((u.user, u.host), (Some(&b"john.doe"[..]), Host::Name("example.com")));
}

/// RFC 4904 §5.
#[test]
fn u2_trunk_groups_stand_in_the_user_part() {
    let u = sip("sip:+14155550123;tgrp=t-1;trunk-context=example.com@gw.example.net;user=phone");
    assert_eq!(u.user, Some(&b"+14155550123;tgrp=t-1;trunk-context=example.com"[..]));
    assert_eq!((u.host, u.params.get("user")), (Host::Name("gw.example.net"), Some(&b"phone"[..])));
}

#[test]
fn u3_ipv6_hosts_have_brackets() {
    let u = sip("sip:u@[2001:db8::1]:5060");
    assert_eq!((u.host, u.port), (ip("2001:db8::1"), Some(5060)));
    assert_eq!(crate::wire::uri::host_port("[2001:db8::1]:5060".parse().unwrap()), "[2001:db8::1]:5060");
}

#[test]
fn u4_telephone_uris_are_no_ports() {
    for (text, want) in [("tel:+14155550123", &b"+14155550123"[..]), ("tel:+911", b"+911"), ("tel:911", b"911")] {
        assert!(matches!(Uri::parse(text.as_bytes()), Some(Uri::Tel { number, .. }) if number == want));
    }
}

#[test]
fn u5_other_schemes_are_read() {
    assert_eq!(Uri::parse(b"urn:service:sos"), Some(Uri::Other { scheme: b"urn", rest: b"service:sos" }));
}

#[test]
fn u6_parameters_are_never_cut() {
    let u = sip("sip:a@b;gr=urn:uuid:f81d;maddr=[::1];x=\"q\";y=a/b&c$d");
    let get = |name: &str| u.params.get(name).map(|v| std::str::from_utf8(v).unwrap());
    assert_eq!((get("gr"), get("maddr"), get("x"), get("y")), (Some("urn:uuid:f81d"), Some("[::1]"), Some("\"q\""), Some("a/b&c$d")));
    assert_eq!(addr("<sip:a@b;ftag=a:b>;z=a:b").params.get("z"), Some(&b"a:b"[..]));
    assert_eq!(via("SIP/2.0/UDP h;received=2001:db8::1").received(), Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn u7_uri_headers_are_read() {
    let u = sip("sip:a@b:5070;x?Subject=hi&Replaces=c%40d");
    assert_eq!((u.host, u.port, u.header("subject").as_deref()), (Host::Name("b"), Some(5070), Some(&b"hi"[..])));
    assert_eq!(sip("sip:a@b?Subject=hi").host, Host::Name("b"));
    let r = ReferTo::parse(b"<sip:a@b?Replaces=c%40d%3Bto-tag%3D1>").unwrap();
    assert_eq!(r.replaces().as_deref(), Some(&b"c@d;to-tag=1"[..]));
}

#[test]
fn u8_unknown_transports_and_methods_are_parameters() {
    let u = Uri::parse(b"sip:a@b;transport=foo;method=FOO").unwrap();
    let filled = rsip::Uri::try_from(&u).unwrap();
    assert_eq!(
        filled.params,
        [rsip::Param::Other("transport".into(), Some("foo".into())), rsip::Param::Other("method".into(), Some("FOO".into()))]
    );
}

#[test]
fn u9_blanks_lose_no_tag() {
    for text in ["<sip:a@b>; tag=1", "<sip:a@b> ;tag=1", "<sip:a@b>;tag = 1", "sip:a@b; tag=1", "sip:a@b ;\ttag= 1"] {
        assert_eq!(addr(text).tag(), Some("1"), "{text}");
    }
}

#[test]
fn u10_a_quoted_name_may_have_brackets() {
    assert_eq!(addr("\"<a>\" <sip:b@c>").uri, b"sip:b@c");
}

#[test]
fn u11_contacts_are_lists_or_a_star() {
    let list: Vec<_> = elements(b"<sip:a@b>;+sip.instance=\"<urn:uuid:1>\" , <sip:c@d>").map(|c| NameAddr::parse(c).unwrap()).collect();
    assert_eq!((list[0].uri, list[1].uri), (&b"sip:a@b"[..], &b"sip:c@d"[..]));
    assert_eq!(list[0].params.text("+sip.instance").as_deref(), Some(&b"<urn:uuid:1>"[..]));
    assert!(is_star(b"*"));
}

#[test]
fn u12_nothing_may_follow_a_uri() {
    assert_eq!(Uri::parse(b"sip:a@b garbage"), None);
    assert_eq!(Uri::parse(b"sip:a@b,garbage"), None);
}

#[test]
fn u13_hosts_are_equal_in_any_case() {
    let [a, b] = ["sip:a@Example.COM", "sip:a@example.com;x"].map(|u| Uri::parse(u.as_bytes()).unwrap());
    assert!(same(&a, &b));
}

#[test]
fn v1_blanks_lose_no_branch() {
    for text in ["SIP/2.0/UDP h ;branch=z9hG4bKx", "SIP/2.0/UDP h; branch=z9hG4bKx"] {
        assert_eq!(via(text).branch(), Some(&b"z9hG4bKx"[..]));
    }
}

#[test]
fn v2_blanks_may_stand_round_the_slashes() {
    assert_eq!(via("SIP / 2.0 / UDP h").transport, b"UDP");
}

#[test]
fn v3_a_branch_is_read_to_its_end() {
    assert_eq!(via("SIP/2.0/UDP h;branch=z9hG4bK=1/2").branch(), Some(&b"z9hG4bK=1/2"[..]));
}

#[test]
fn v4_joined_values_are_all_found() {
    assert_eq!(vias(b"SIP/2.0/UDP a;branch=1,SIP/2.0/TCP b;branch=2").flatten().count(), 2);
}

#[test]
fn v5_unknown_transports_and_ipv6_are_read() {
    let v = via("SIP/2.0/QUIC [2001:db8::9]:9;branch=x");
    assert_eq!((v.transport, v.host, v.port), (&b"QUIC"[..], ip("2001:db8::9"), Some(9)));
    assert_eq!(rsip::typed::Via::try_from(&v), Err(NoRsip::Transport));
}

#[test]
fn h8_unknown_methods_tabs_and_flags_are_read() {
    assert_eq!(elements(b"INVITE,\tFOO").filter_map(Method::parse).count(), 2);
    assert_eq!(CSeq::parse(b"1\tFOO"), Some(CSeq { number: 1, method: b"FOO" }));
    assert!(MediaType::parse(b"a/b;flag").unwrap().params.has("flag"));
}

#[test]
fn rfc5118_4_1_and_4_2_only_a_bracketed_address_is_a_host() {
    assert_eq!(sip("sip:[2001:db8::10]").host, ip("2001:db8::10"));
    assert_eq!(Uri::parse(b"sip:2001:db8::10"), None);
}

#[test]
fn rfc5118_4_3_and_4_4_the_port_stands_behind_the_bracket() {
    let (inside, behind) = (sip("sip:[2001:db8::10:5070]"), sip("sip:[2001:db8::10]:5070"));
    assert_eq!((inside.host, inside.port), (ip("2001:db8::10:5070"), None));
    assert_eq!((behind.host, behind.port), (ip("2001:db8::10"), Some(5070)));
}

#[test]
fn rfc5118_4_5_received_comes_with_and_without_brackets() {
    for text in
        ["SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=x", "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=x"]
    {
        assert_eq!(via(text).received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via(text).branch(), Some(&b"x"[..]));
    }
}

#[test]
fn rfc5118_4_7_both_families_in_one_list() {
    let hosts: Vec<_> =
        vias(b"SIP/2.0/UDP [2001:db8::9:1]:6050;branch=a, SIP/2.0/UDP 192.0.2.1;branch=b").map(|v| v.unwrap().host).collect();
    assert_eq!(hosts, [ip("2001:db8::9:1"), ip("192.0.2.1")]);
}

#[test]
fn rfc5118_4_9_mapped_addresses() {
    assert_eq!(sip("sip:a@[::ffff:192.0.2.10]:19823").host, ip("::ffff:192.0.2.10"));
}

#[test]
fn rfc5118_4_10_three_colons_before_an_ipv4_address_mean_two() {
    assert_eq!(sip("sip:a@[2001:db8:::192.0.2.1]").host, ip("2001:db8::192.0.2.1"));
    assert_eq!(sip("sip:a@[2001:db8::192.0.2.1]").host, ip("2001:db8::192.0.2.1"));
    assert_eq!(Uri::parse(b"sip:a@[2001:db8:::1]"), None);
    assert_eq!(Uri::parse(b"sip:a@[:::192.0.2.1:::192.0.2.1]"), None);
}

#[test]
fn the_bridge_fills_what_rsip_can_hold() {
    let from =
        rsip::typed::From::try_from(&addr("\"A \\\"B\\\"\" <sips:a.b:pw@h.example:7;lr;transport=TCP;method=BYE;x>;tag=1;q=0.5")).unwrap();
    assert_eq!(from.display_name.as_deref(), Some("A \"B\""));
    assert_eq!(from.uri.auth, Some(rsip::Auth { user: "a.b".into(), password: Some("pw".into()) }));
    assert_eq!((from.uri.scheme, from.uri.host_with_port.port), (Some(rsip::Scheme::Sips), Some(7.into())));
    assert_eq!(from.uri.params.len(), 4);
    assert_eq!(from.uri.params[..2], [rsip::Param::Lr, rsip::Param::Transport(rsip::Transport::Tcp)]);
    assert_eq!(from.params, [rsip::Param::Tag("1".into()), rsip::Param::Q("0.5".into())]);
    let v = rsip::typed::Via::try_from(&via("SIP/2.0/tls 192.0.2.1;branch=z9;rport")).unwrap();
    assert_eq!((v.transport, v.branch().map(ToString::to_string)), (rsip::Transport::Tls, Some("z9".into())));
    assert_eq!(rsip::typed::CSeq::try_from(&CSeq { number: 1, method: b"BYE" }), Ok((1, rsip::Method::Bye).into()));
    assert_eq!(rsip::typed::CSeq::try_from(&CSeq { number: 1, method: b"bye" }), Err(NoRsip::Method));
    for (text, why) in [("tel:+1", NoRsip::Scheme), ("sip:a@b?c=d", NoRsip::Headers)] {
        assert_eq!(rsip::Uri::try_from(&Uri::parse(text.as_bytes()).unwrap()), Err(why));
    }
}

/// Text that is nearly SIP: words of the grammar in any order, and any bytes.
fn nearly_sip() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "\"",
        "\\",
        "<",
        ">",
        ";",
        "=",
        ",",
        ":",
        "@",
        "[",
        "]",
        "(",
        ")",
        "%",
        "%41",
        "?",
        "&",
        "/",
        " ",
        "\t",
        "*",
        "sip:",
        "tel:",
        "+",
        "SIP/2.0/UDP",
        "a",
        "1",
        "::",
        "192.0.2.1",
        "tag",
        "branch",
        "encoding=hex",
        "\u{e9}",
        "\u{0}",
    ];
    let word = prop_oneof![9 => proptest::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()), 1 => proptest::collection::vec(any::<u8>(), 0..4)];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_view_panics_and_every_part_is_of_the_text(text in nearly_sip()) {
        let inside = |part: &[u8]| part.is_empty() || text.as_ptr_range().contains(&part.as_ptr());
        if let Some(n) = NameAddr::parse(&text) {
            prop_assert!(inside(n.uri) && inside(n.params.0) && n.params.iter().all(|(name, _)| !name.is_empty()));
            let _ = (n.name(), n.tag(), n.user(), rsip::typed::Contact::try_from(&n));
        }
        if let Some(v) = Via::parse(&text) {
            prop_assert!(inside(v.sent_by) && !v.sent_by.is_empty());
            let _ = (v.branch(), v.received(), v.rport(), rsip::typed::Via::try_from(&v));
        }
        if let Some(u) = Uri::parse(&text) {
            prop_assert_eq!(same(&u, &u), true);
            let _ = (u.user(), u.number(), rsip::Uri::try_from(&u));
        }
        if let Some(r) = ReferTo::parse(&text) {
            let _ = (r.replaces().and_then(|text| Replaces::parse(&text).map(|r| r.early_only)), r.headers().count(), r.method());
        }
        let _ = UserToUser::parse(&text).map(|u| u.decoded());
        Reason::all(&text).for_each(|r| drop((r.cause(), r.text())));
        let _ = (Replaces::parse(&text), Event::parse(&text), SubscriptionState::parse(&text).map(|s| s.expires()), MediaType::parse(&text));
        let _ = (RetryAfter::parse(&text), SessionExpires::parse(&text), CSeq::parse(&text), RAck::parse(&text), vias(&text).count());
    }

    /// RFC 3261 §7.3.1: a list says the same in one line and in several.
    #[test]
    fn elements_of_sound_values_come_back_whole(values in proptest::collection::vec("(\"([a-z,<> ;]|\\\\.){0,8}\" )?<sip:[a-z,;]{1,6}>(;x=\"[a,<]{0,4}\")?", 1..5)) {
        let line = values.join(" ,\t");
        prop_assert_eq!(elements(line.as_bytes()).collect::<Vec<_>>(), values.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
}
