use proptest::prelude::*;

use super::*;

const OURS: OurMedia = OurMedia { ip: IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10)), rtp_port: 10_000, rtcp_port: 10_001 };
const ORIGIN: Origin = Origin { session_id: 77, version: 3 };

fn sdp(text: &str) -> Sdp {
    Sdp::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
}

fn error(text: &str) -> &'static str {
    Sdp::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_err().0
}

fn names(list: &[&str]) -> Vec<CompactString> {
    list.iter().map(CompactString::new).collect()
}

fn text(bytes: Option<Bytes>) -> String {
    let bytes = bytes.unwrap();
    let typed = sdp_types::Session::parse(&bytes).unwrap();
    assert_eq!(typed.medias.len(), Sdp::parse(bytes.clone()).unwrap().streams());
    String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n")
}

const OFFER: &str = "v=0
o=cxone 2890844526 2890842807 IN IP4 10.1.2.3
s=SIP Call
c=IN IP4 10.1.2.3
b=AS:80
t=0 0
a=X-Foo:  two  blanks kept
m=audio 4000 RTP/AVP 18 8 0 101 111
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=rtpmap:111 opus/48000/2
a=rtcp:4005 IN IP4 10.1.2.4
a=ptime:20
a=sendrecv
";

#[test]
fn only_what_must_change_changes() {
    let out = text(sdp(OFFER).rewrite(OURS, ORIGIN, &[]));
    let want = OFFER
        .replace("o=cxone 2890844526 2890842807 IN IP4 10.1.2.3", "o=backchannel 77 3 IN IP4 203.0.113.10")
        .replace("c=IN IP4 10.1.2.3", "c=IN IP4 203.0.113.10")
        .replace("m=audio 4000", "m=audio 10000")
        .replace("a=rtcp:4005 IN IP4 10.1.2.4", "a=rtcp:10001 IN IP4 203.0.113.10");
    assert_eq!(out, want);
}

#[test]
fn a_typed_reader_sees_only_our_addresses_change() {
    let read = |bytes: &[u8]| sdp_types::Session::parse(bytes).unwrap();
    let mut want = read(sdp(OFFER).raw());
    let got = read(&sdp(OFFER).rewrite(OURS, ORIGIN, &[]).unwrap());
    want.origin.username = Some("backchannel".into());
    want.origin.sess_id = "77".to_owned();
    want.origin.sess_version = 3;
    want.origin.unicast_address = "203.0.113.10".to_owned();
    want.connection.as_mut().unwrap().connection_address = "203.0.113.10".to_owned();
    want.medias[0].port = 10_000;
    let rtcp = want.medias[0].attributes.iter_mut().find(|a| a.attribute == "rtcp").unwrap();
    rtcp.value = Some("10001 IN IP4 203.0.113.10".to_owned());
    assert_eq!(got, want);
}

#[test]
fn a_description_is_read() {
    let s = sdp(OFFER);
    assert_eq!(s.rtp(), Some("10.1.2.3:4000".parse().unwrap()));
    assert_eq!(s.rtcp(), Some("10.1.2.4:4005".parse().unwrap()));
    assert_eq!(s.direction(), Direction::SendRecv);
    assert_eq!(s.streams(), 1);
    assert_eq!(s.payload_types(), 1 << 18 | 1 << 8 | 1 | 1 << 101 | 1 << 111);
    let codecs: Vec<_> = s.codecs().into_iter().map(|c| (c.payload_type, c.name.to_string(), c.clock_rate)).collect();
    let want = [(18, "G729", 8000), (8, "PCMA", 8000), (0, "PCMU", 8000), (101, "telephone-event", 8000), (111, "opus", 48000)];
    assert_eq!(codecs, want.map(|(pt, name, rate)| (pt, name.to_owned(), rate)));
}

#[test]
fn codecs_are_filtered_and_ordered_with_their_attributes() {
    let out = text(sdp(OFFER).rewrite(OURS, ORIGIN, &names(&["pcmu", "pcma", "opus", "telephone-event"])));
    assert!(out.contains("m=audio 10000 RTP/AVP 0 8 111 101\n"), "{out}");
    assert!(!out.contains(":18 "), "{out}");
    assert!(out.contains("a=fmtp:101 0-16\n"));
    let reordered = text(sdp(OFFER).rewrite(OURS, ORIGIN, &names(&["telephone-event", "opus"])));
    assert!(reordered.contains("RTP/AVP 101 111\n"));
}

#[test]
fn the_order_among_equal_names_stays() {
    let s = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 4000 RTP/AVP 97 0 96 96\n\
                 a=rtpmap:97 OPUS/48000/2\na=rtpmap:96 opus/16000\na=rtcp-fb:96 nack\na=rtcp-fb:* nack\n");
    let out = text(s.rewrite(OURS, ORIGIN, &names(&["opus", "pcmu"])));
    assert!(out.contains("RTP/AVP 97 96 0\n"), "{out}");
    let out = text(s.rewrite(OURS, ORIGIN, &names(&["pcmu"])));
    assert!(!out.contains("96") && out.contains("a=rtcp-fb:* nack\n"), "{out}");
}

#[test]
fn without_a_voice_in_common_there_is_nothing_to_offer() {
    assert_eq!(sdp(OFFER).rewrite(OURS, ORIGIN, &names(&["g722"])), None);
    assert_eq!(sdp(OFFER).rewrite(OURS, ORIGIN, &names(&["telephone-event"])), None, "digits alone are no voice");
    let noise = sdp(&OFFER.replace("18 8 0 101 111", "13 101"));
    assert_eq!(noise.rewrite(OURS, ORIGIN, &[]), None, "nor is comfort noise");
}

/// RFC 3264 §6: "For each "m=" line in the offer, there MUST be a corresponding "m=" line in the answer"; a rejected one has port 0.
#[test]
fn other_streams_stay_in_place_with_port_zero() {
    let s = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nt=0 0\na=group:BUNDLE 0 1 2 3\na=group:LS 0 1\n\
                 m=video 5000 RTP/AVP 96 97\nc=IN IP4 10.1.2.3\na=rtpmap:96 VP8/90000\na=rtcp:5001\n\
                 m=audio 4000/2 RTP/AVP 0\nc=IN IP4 10.1.2.5\nc=IN IP4 10.1.2.6\na=mid:1\na=rtcp-mux\na=ice-ufrag:x\n\
                 a=candidate:1 1 udp 2130706431 10.1.2.3 4000 typ host\na=end-of-candidates\n\
                 m=audio 4002 RTP/AVP 0\nc=IN IP4 10.1.2.3\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\nc=IN IP4 10.1.2.3\n");
    assert_eq!(s.rtp(), Some("10.1.2.5:4000".parse().unwrap()));
    assert_eq!(s.rtcp(), Some("10.1.2.5:4001".parse().unwrap()));
    let ours = "c=IN IP4 203.0.113.10\n";
    let want = format!(
        "v=0\no=backchannel 77 3 IN IP4 203.0.113.10\ns=-\nt=0 0\na=group:LS 0 1\nm=video 0 RTP/AVP 96 97\n{ours}a=rtpmap:96 VP8/90000\n\
         m=audio 10000 RTP/AVP 0\n{ours}a=mid:1\nm=audio 0 RTP/AVP 0\n{ours}m=application 0 UDP/DTLS/SCTP webrtc-datachannel\n{ours}"
    );
    assert_eq!(text(s.rewrite(OURS, ORIGIN, &[])), want);
}

#[test]
fn keyed_media_is_refused_and_a_plain_stream_beside_it_is_taken() {
    let keyed = "v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 4000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:k\n";
    assert_eq!(sdp(keyed).rtp(), None);
    assert_eq!(sdp(keyed).rewrite(OURS, ORIGIN, &[]), None);
    let both = sdp(&format!("{keyed}m=audio 4002 RTP/AVP 0\n"));
    assert_eq!(both.rtp().unwrap().port(), 4002);
    let out = text(both.rewrite(OURS, ORIGIN, &names(&["pcmu"])));
    assert!(out.ends_with("m=audio 0 RTP/SAVP 0\nm=audio 10000 RTP/AVP 0\n"), "{out}");
}

#[test]
fn an_answer_that_refuses_the_audio_stays_a_refusal() {
    let s = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 0 RTP/AVP 0\n");
    assert_eq!(s.rtp(), None);
    assert!(text(s.rewrite(OURS, ORIGIN, &[])).ends_with("m=audio 0 RTP/AVP 0\n"));
    assert_eq!(s.rewrite(OURS, ORIGIN, &names(&["pcmu"])), None);
    let none = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nt=0 0\n");
    assert_eq!(none.rewrite(OURS, ORIGIN, &[]), None);
}

/// RFC 3264 §8.4: "c=0.0.0.0" asks for no media, whatever the attribute says.
#[test]
fn the_old_hold_keeps_its_meaning_under_our_address() {
    let held = |attribute: &str| {
        sdp(&format!("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 4000 RTP/AVP 0\n{attribute}"))
    };
    let rows = [
        ("", "a=inactive\n"),
        ("a=sendrecv\n", "a=sendonly\n"),
        ("a=sendonly\n", "a=sendonly\n"),
        ("a=recvonly\n", "a=inactive\n"),
        ("a=inactive\n", "a=inactive\n"),
    ];
    for (written, printed) in rows {
        let s = held(written);
        assert_eq!((s.rtp(), s.direction()), (None, Direction::Inactive), "{written}");
        let out = text(s.rewrite(OURS, ORIGIN, &[]));
        assert!(out.ends_with(&format!("m=audio 10000 RTP/AVP 0\n{printed}")), "{written}: {out}");
        assert!(!out.contains("0.0.0.0"));
    }
    assert_eq!(held("a=sendonly\n").rewrite(OURS, ORIGIN, &[]).unwrap().windows(10).filter(|w| w == b"a=sendonly").count(), 1);
}

#[test]
fn direction_is_the_streams_else_the_sessions() {
    let s = |session: &str, stream: &str| {
        sdp(&format!("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\n{session}m=audio 4000 RTP/AVP 0\n{stream}"))
            .direction()
    };
    assert_eq!(s("", ""), Direction::SendRecv);
    assert_eq!(s("a=sendonly\n", ""), Direction::SendOnly);
    assert_eq!(s("a=sendonly\n", "a=inactive\n"), Direction::Inactive);
    assert_eq!(s("", "a=recvonly\nm=video 0 RTP/AVP 96\na=inactive\n"), Direction::RecvOnly);
}

#[test]
fn ipv6_names_and_groups_in_c_lines() {
    let s = |c: &str| sdp(&format!("v=0\no=backchannel 1 1 IN IP4 x.example\ns=-\nc={c}\nt=0 0\nm=audio 4000 RTP/AVP 0\n"));
    assert_eq!(s("IN IP6 2001:db8::5").rtp(), Some("[2001:db8::5]:4000".parse().unwrap()));
    assert_eq!(s("IN IP4 media.example.com").rtp(), None);
    assert_eq!(s("IN IP4 224.2.1.1/127").rtp(), None, "a packet to a group would go to everybody");
    assert_eq!(s("IN IP4 255.255.255.255").rtp(), None);
    assert_eq!(s("IN IP6 ::").direction(), Direction::Inactive);
    let ours = OurMedia { ip: "2001:db8::10".parse().unwrap(), ..OURS };
    let out = text(s("IN IP4 media.example.com").rewrite(ours, ORIGIN, &[]));
    assert!(out.contains("o=backchannel 77 3 IN IP6 2001:db8::10\n") && out.contains("c=IN IP6 2001:db8::10\n"), "{out}");
    assert!(!out.contains("example"));
}

#[test]
fn rtcp_is_found() {
    let s = |line: &str| {
        sdp(&format!("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 4000 RTP/AVP 0\n{line}"))
            .rtcp()
            .unwrap()
            .to_string()
    };
    assert_eq!(s(""), "10.1.2.3:4001");
    assert_eq!(s("a=rtcp:5001\n"), "10.1.2.3:5001");
    assert_eq!(s("a=rtcp:5001 IN IP4 10.9.9.9\n"), "10.9.9.9:5001");
    assert_eq!(s("a=rtcp:0\n"), "10.1.2.3:4001");
    // RFC 5761 §5.1.1: without rtcp-mux in the answer the offerer uses a port of its own for RTCP.
    assert_eq!(s("a=rtcp-mux\n"), "10.1.2.3:4001");
    let last = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 65535 RTP/AVP 0\n");
    assert_eq!(last.rtcp(), None);
}

#[test]
fn bare_line_feeds_and_trailing_blank_lines_are_read_and_crlf_is_printed() {
    let bare = Sdp::parse(Bytes::from(format!("{OFFER}\n\n"))).unwrap();
    let out = bare.rewrite(OURS, ORIGIN, &[]).unwrap();
    assert_eq!(Some(out.clone()), sdp(OFFER).rewrite(OURS, ORIGIN, &[]));
    assert!(out.ends_with(b"a=sendrecv\r\n"));
    assert_eq!(bare.raw().len(), OFFER.len() + 2);
    let unended = OFFER.trim_end();
    assert!(Sdp::parse(Bytes::copy_from_slice(unended.as_bytes())).unwrap().rewrite(OURS, ORIGIN, &[]).unwrap().ends_with(b"\r\n"));
}

#[test]
fn what_is_no_description_is_refused_by_name() {
    let head = "v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\n";
    assert_eq!(error(""), "no o= line");
    assert_eq!(error("o=backchannel 1 1 IN IP4 1.2.3.4\n"), "v= must be the first line, and only that");
    assert_eq!(error(&format!("{head}v=0\n")), "v= must be the first line, and only that");
    assert_eq!(error("v=1\no=backchannel 1 1 IN IP4 1.2.3.4\n"), "a version that is not 0");
    assert_eq!(error("v=0\ns=-\n"), "no o= line");
    assert_eq!(error("v=0\no=backchannel 1 IN IP4 1.2.3.4\n"), "an o= line without its six fields");
    assert_eq!(error(&format!("{head}o=backchannel 1 1 IN IP4 1.2.3.4\n")), "a second o= line, or one in a stream");
    assert_eq!(error(&format!("{head}m=audio 4000 RTP/AVP 0\n")), "no c= line for the audio stream");
    assert_eq!(error(&format!("{head}m=audio 65536 RTP/AVP 0\n")), "an m= line with a bad port");
    assert_eq!(error(&format!("{head}m=audio +4 RTP/AVP 0\n")), "an m= line with a bad port");
    assert_eq!(error(&format!("{head}m=audio 4000\n")), "an m= line without media, port and protocol");
    assert_eq!(error(&format!("{head}c=IN IP4\n")), "a c= line without its three fields");
    assert_eq!(error(&format!("{head}hello\n")), "a line that is not <type>=<value>");
    assert_eq!(error(&format!("{head}a=x\0y\n")), "a line that is not <type>=<value>");
    assert_eq!(error(&format!("{head}a=x\ry\n")), "a line that is not <type>=<value>");
    assert_eq!(error(&format!("{head}\na=x\n")), "a blank line in the middle");
}

#[test]
fn one_past_each_bound_is_refused() {
    let head = "v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-";
    let lines = |n: usize| format!("{head}{}", "\na=x".repeat(n - 3));
    assert!(Sdp::parse(Bytes::from(lines(SDP_LINES_MAX))).is_ok());
    assert_eq!(error(&lines(SDP_LINES_MAX + 1)), "more than 512 lines");
    let bytes = |n: usize| format!("{head}\na={}", "x".repeat(n - head.len() - 3));
    assert!(Sdp::parse(Bytes::from(bytes(SDP_BYTES_MAX))).is_ok());
    assert_eq!(error(&bytes(SDP_BYTES_MAX + 1)), "more than 16384 bytes");
}

#[test]
fn our_own_answer_takes_one_voice_and_its_digits() {
    let answer = |preferred: &[u8]| text(answer_for(&sdp(OFFER), OURS, ORIGIN, preferred));
    let want = "v=0\no=backchannel 77 3 IN IP4 203.0.113.10\ns=-\nc=IN IP4 203.0.113.10\nt=0 0\nm=audio 10000 RTP/AVP 0 101\n\
                a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=rtpmap:0 PCMU/8000\na=ptime:20\na=sendrecv\n";
    let mut lines: Vec<_> = want.lines().collect();
    let given = answer(&[9, 101, 0]);
    let mut got: Vec<_> = given.lines().collect();
    lines.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, lines, "G722 is not offered, and digits are no voice");
    assert!(answer(&[]).contains("m=audio 10000 RTP/AVP 18 101\na=rtpmap:18 G729/8000\na=fmtp:18 annexb=no\n"));
    assert!(answer(&[111]).contains("m=audio 10000 RTP/AVP 111\n"), "no digits at 48 kHz are offered");
    assert!(!answer(&[0]).contains("10.1.2"));
}

#[test]
fn our_own_answer_mirrors_direction_and_refuses_the_rest() {
    let offer = |extra: &str| {
        sdp(&format!(
            "v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=5 9\nm=video 5000 RTP/AVP 96\nm=audio 4000 RTP/AVP 8\n{extra}"
        ))
    };
    for (offered, answered) in [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")] {
        let out = text(answer_for(&offer(&format!("a={offered}\n")), OURS, ORIGIN, &[]));
        assert!(out.ends_with(&format!("a={answered}\n")), "{out}");
    }
    let out = text(answer_for(&offer(""), OURS, ORIGIN, &[]));
    assert!(out.contains("t=5 9\nm=video 0 RTP/AVP 96\nm=audio 10000 RTP/AVP 8\na=rtpmap:8 PCMA/8000\n"), "{out}");
    let held = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 4000 RTP/AVP 8\n");
    assert!(text(answer_for(&held, OURS, ORIGIN, &[])).ends_with("a=inactive\n"));
    let digits = sdp("v=0\no=backchannel 1 1 IN IP4 10.1.2.3\ns=-\nc=IN IP4 10.1.2.3\nt=0 0\nm=audio 4000 RTP/AVP 13\n");
    assert_eq!(answer_for(&digits, OURS, ORIGIN, &[]), None);
}

#[test]
fn a_session_name_with_an_address_becomes_a_dash_and_contact_lines_go() {
    let s = sdp(
        "v=0\no=backchannel 1 1 IN IP4 pbx.acme.example\ns=call from PBX.acme.example\ni=10.1.2.3\nu=http://x\ne=a@b.c\np=+1 2\nc=IN IP4 10.1.2.3\n\
                 t=0 0\nk=clear:x\na=tool:x\na=x:pbx.acme.example\nm=audio 4000 RTP/AVP 0\n",
    );
    let want = "v=0\no=backchannel 77 3 IN IP4 203.0.113.10\ns=-\nc=IN IP4 203.0.113.10\nt=0 0\na=tool:x\nm=audio 10000 RTP/AVP 0\n";
    assert_eq!(text(s.rewrite(OURS, ORIGIN, &[])), want);
}

const ADDRESSES: [&str; 6] = ["10.1.2.3", "192.168.77.200", "172.16.0.9", "2001:db8:5::77", "fd00:0:0:0:1:2:3:4", "100.64.9.9"];

/// Lines as peers write them, with an address wherever one may stand.
fn any_line() -> impl Strategy<Value = String> {
    let address = proptest::sample::select(&ADDRESSES[..]);
    let shape = proptest::sample::select(vec![
        "a=candidate:1 1 UDP 2130706431 {} 4000 typ host",
        "a=rtcp:4001 IN IP4 {}",
        "a=rtcp:{}",
        "a=x-nat:{}",
        "a=x-nat:{}:4000",
        "a=alt:1 1 : 9 {} 4000",
        "a=ssrc:77 cname:bob@{}",
        "a=source-filter: incl IN IP4 * {}",
        "a=fmtp:101 0-15;{}",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:96 {}/8000",
        "a=group:BUNDLE {}",
        "a=ptime:20",
        "a=sendonly",
        "a={}",
        "c=IN IP4 {}",
        "c=IN IP6 {}",
        "b=AS:64",
        "b=X:{}",
        "i=at {}",
        "u=http://[{}]/",
        "k=uri:{}",
        "e=bob@{}",
        "z=0 {}",
        "r=7d {}",
        "y={}",
        "m=audio 4000 RTP/AVP 0 101 96",
        "m=audio 4000 RTP/SAVP 0",
        "m=audio 4002 RTP/AVP 8 {}",
        "m=video 5000 RTP/AVP 96 {}",
        "m=application 9 {} {}",
        "m={} 0 RTP/AVP 0",
    ]);
    (shape, address).prop_map(|(shape, address)| shape.replace("{}", address))
}

fn any_sdp() -> impl Strategy<Value = String> {
    let address = || proptest::sample::select(&ADDRESSES[..]);
    (address(), address(), address(), proptest::collection::vec(any_line(), 0..14)).prop_map(|(o, s, c, lines)| {
        let first = if lines.len() % 2 == 0 { "" } else { " 10.1.2.3" };
        let lines: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        format!("v=0\r\no=x{o} 1 1 IN IP4 {o}\r\ns=call {s}\r\nc=IN IP4 {c}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0{first}\r\n{lines}")
    })
}

fn check_clean(out: &Bytes) -> Result<(), TestCaseError> {
    let shown = String::from_utf8_lossy(out).into_owned();
    for address in ADDRESSES {
        prop_assert!(!shown.contains(address), "{address} in {shown}");
    }
    prop_assert!(shown.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_address_of_the_peer_ever_shows(text in any_sdp()) {
        if let Ok(s) = Sdp::parse(Bytes::from(text)) {
            for list in [names(&[]), names(&["pcma", "pcmu"])] {
                if let Some(out) = s.rewrite(OURS, ORIGIN, &list) {
                    check_clean(&out)?;
                    let again = Sdp::parse(out.clone()).unwrap();
                    prop_assert_eq!(again.streams(), s.streams());
                    prop_assert!(again.payload_types() & !s.payload_types() == 0, "nothing that was not there");
                    prop_assert_eq!(again.rtp(), Some(SocketAddr::new(OURS.ip, OURS.rtp_port)));
                    prop_assert_eq!(again.rewrite(OURS, ORIGIN, &list), Some(out), "a second time changes nothing");
                }
            }
            if let Some(out) = answer_for(&s, OURS, ORIGIN, &[8]) {
                check_clean(&out)?;
                prop_assert_eq!(Sdp::parse(out).unwrap().streams(), s.streams());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[a-z=:0-9./ \r\n]{0,80}") {
        let _ = Sdp::parse(Bytes::from(bytes));
        if let Ok(s) = Sdp::parse(Bytes::from(format!("v=0\no=backchannel 1 1 IN IP4 1.2.3.4\nc=IN IP4 1.2.3.4\nm=audio 4 RTP/AVP 0 {tail}\n{tail}"))) {
            let _ = (s.rewrite(OURS, ORIGIN, &[]), answer_for(&s, OURS, ORIGIN, &[0]), s.codecs(), s.rtcp());
        }
    }
}
