//! What bad input gets (product.md §5).

use std::time::Duration;

use backchannel::b2bua::Limits;
use backchannel::b2bua::io::Command;
use backchannel::report::Fact;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::CALLEE;
use crate::dsl::Ladder;
use crate::dsl::offer;

fn header(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned()
}

fn named(message: &Message, name: &str) -> String {
    String::from_utf8_lossy(message.named(name).next().unwrap_or_default()).into_owned()
}

/// An INVITE that is changed, its refusal, and nothing else.
fn refused(change: impl Fn(String) -> String, status: u16) -> Message {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", &offer("198.51.100.1", 20_000));
    let text = change(text);
    let invite = text.starts_with("INVITE") && !text.contains(";tag=nobody");
    l.caller().sends_text(text);
    let answer = loop {
        let answer = l.take_for("198.51.100.1:5060").unwrap_or_else(|| panic!("no answer, {status} expected"));
        if answer.status() > 100 {
            break answer;
        }
    };
    assert_eq!(answer.status(), status, "{}", String::from_utf8_lossy(answer.raw()));
    assert!(status == 400 || answer.to_tag().is_some(), "RFC 3261 §8.2.6.2: every answer but 100 has a To tag");
    while l.take_for("198.51.100.1:5060").is_some() {}
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").is_some() {}
    // README: "Calls that never were: `call.refused` with status and why".
    let lines = l.reported("call.refused");
    assert_eq!(lines.len(), usize::from(invite), "one line for each INVITE that was refused");
    l.all_is_over();
    answer
}

#[test]
fn extensions_that_are_required_get_420_and_all_their_names() {
    // RFC 3261 §8.2.2.3: "the UAS MUST respond by generating a response with status code 420 (Bad Extension). The UAS MUST add an
    // Unsupported header field, and list in it those options it does not understand".
    let answer = refused(|t| t.replace("Max-Forwards", "Require: 100rel, foo\r\nMax-Forwards"), 420);
    assert_eq!(header(&answer, Name::Unsupported), "100rel, foo");
}

#[test]
fn the_line_about_a_refused_invite_says_what_it_asked_for() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", &offer("198.51.100.1", 20_000));
    l.caller().sends_text(text.replace("Max-Forwards", "Require: 100rel\r\nMax-Forwards"));
    l.caller().gets(420);
    let lines = l.reported("call.refused");
    let Fact::Refused { status, why, caller_call_id, .. } = &lines[0].fact else { panic!("{lines:?}") };
    assert_eq!((*status, why.as_str()), (420, "Bad Extension; Unsupported: 100rel"));
    assert_eq!(caller_call_id.as_str(), "caller-1@198.51.100.1:5060");
}

/// The status, the reason phrase and the line about an INVITE whose text is changed.
fn refusal_of(change: impl Fn(String) -> String) -> (u16, String, String) {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", &offer("198.51.100.1", 20_000));
    l.raw("198.51.100.1:5060", change(text));
    let answer = std::iter::from_fn(|| l.take_for("198.51.100.1:5060")).find(|a| a.status() > 100).expect("an answer");
    let lines = l.reported("call.refused");
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let Fact::Refused { status, why, .. } = &line.fact else { panic!("{line:?}") };
    assert_eq!(*status, answer.status());
    (answer.status(), String::from_utf8_lossy(answer.reason()).into_owned(), why.clone())
}

#[test]
fn an_offer_in_a_family_that_we_have_no_media_address_of_is_no_lack_of_ports() {
    // RFC 3261 §21.4.26: 488 is about "specific aspects of the session description"; a 503 would make CXone shun the trunk.
    let (status, reason, why) = refusal_of(|t| t.replace("IN IP4 198.51.100.1", "IN IP6 2001:db8::99"));
    assert_eq!((status, reason.as_str()), (488, "Not Acceptable Here: no IPv6 address for media"));
    assert_eq!(why, reason);
}

#[test]
fn an_offer_of_secure_audio_alone_is_not_called_one_without_codecs() {
    let (status, _, why) = refusal_of(|t| t.replace("RTP/AVP", "RTP/SAVP"));
    assert_eq!(status, 488);
    assert!(why.contains("offered no audio over RTP/AVP (m=audio 20000 RTP/SAVP 0 8 101)"), "{why}");
}

#[test]
fn a_known_peer_hears_that_its_message_is_more_than_we_take() {
    for (more, reason) in [
        ("X-A: b\r\n".repeat(300), "Bad Request: more than 256 header lines"),
        (format!("X-A: {}\r\n", "b".repeat(9_000)), "Bad Request: a line over 8 KiB"),
    ] {
        let (status, heard, why) = refusal_of(|t| t.replace("Max-Forwards", &format!("{more}Max-Forwards")));
        assert_eq!((status, heard.as_str(), why.as_str()), (400, reason, reason));
    }
}

#[test]
fn what_cxone_supports_is_not_passed_on() {
    let mut l = Ladder::new();
    l.caller().invites_with("X-InContact-MasterId: 1\r\nSupported: 100rel, timer, replaces\r\nAllow: PRACK\r\n");
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert!(!invite.lists(Name::Supported, "replaces"));
    assert!(!header(&invite, Name::Allow).contains("PRACK"));
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn methods_that_nobody_knows_get_501_and_those_we_do_not_do_405() {
    for (method, status) in [("FROB", 501), ("REGISTER", 405), ("SUBSCRIBE", 405), ("PUBLISH", 405), ("MESSAGE", 405), ("REFER", 405)] {
        let answer = refused(|t| t.replace("INVITE", method), status);
        // RFC 3261 §8.2.1: "The UAS MUST also add an Allow header field to the 405".
        assert!(header(&answer, Name::Allow).contains("INVITE"), "{method}");
    }
}

#[test]
fn requests_for_a_dialog_that_was_never_there_get_481() {
    for method in ["BYE", "INFO", "UPDATE", "NOTIFY", "PRACK"] {
        refused(|t| t.replace("INVITE", method), 481);
    }
    refused(|t| t.replace("To: <sip:+12065551234@192.0.2.9>", "To: <sip:+12065551234@192.0.2.9>;tag=nobody"), 481);
}

#[test]
fn an_unknown_method_in_a_dialog_does_it_no_harm() {
    let mut l = Ladder::answered();
    l.caller().sends("FROB");
    assert!(header(&l.caller().gets(501), Name::Allow).contains("BYE"));
    l.callee().sends("SUBSCRIBE");
    l.callee().gets(405);
    l.callee().sends("NOTIFY");
    l.callee().gets(481);
    l.callee().sends("PRACK");
    l.callee().gets(481);
    l.nothing_happens(Duration::from_secs(40));
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn media_types_and_encodings_that_we_do_not_take_get_415() {
    // RFC 3261 §8.2.3: "the UAS MUST reject the request with a 415 (Unsupported Media Type) response. The response MUST contain an
    // Accept header field listing the types of all bodies it understands".
    let answer = refused(|t| t.replace("application/sdp", "application/isup"), 415);
    assert_eq!(header(&answer, Name::Accept), "application/sdp");
    let answer = refused(|t| t.replace("Content-Type", "Content-Encoding: gzip\r\nContent-Type"), 415);
    assert_eq!(named(&answer, "Accept-Encoding"), "identity");
}

#[test]
fn an_accept_that_leaves_out_sdp_gets_406() {
    refused(|t| t.replace("Max-Forwards", "Accept: application/foo\r\nMax-Forwards"), 406);
}

#[test]
fn the_rest_of_the_refusals() {
    refused(|t| t.replace("INVITE sip:", "INVITE http:"), 416);
    refused(|t| t.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483);
    refused(|t| t.replacen("SIP/2.0\r\n", "SIP/3.0\r\n", 1), 505);
    refused(|t| t.replace("v=0", "v0"), 400);
    refused(|t| t.replace("RTP/AVP 0 8 101", "RTP/AVP 18 4 96"), 488);
}

#[test]
fn a_malformed_request_hears_which_header_it_was() {
    for (from, to, reason) in [
        ("CSeq: 100 INVITE", "CSeq: 100 BYE", "CSeq"),
        ("CSeq: 100 INVITE\r\n", "", "CSeq"),
        ("Max-Forwards: 70", "Max-Forwards: many", "Max-Forwards"),
        ("Contact: <sip:trunk@198.51.100.1:5060>", "Contact: <sip:", "Contact"),
        ("Contact: <sip:trunk@198.51.100.1:5060>\r\n", "", "Contact"),
        ("To: <sip:+12065551234@192.0.2.9>\r\n", "", "To"),
    ] {
        let answer = refused(|t| t.replace(from, to), 400);
        assert!(String::from_utf8_lossy(answer.reason()).contains(reason), "{}", String::from_utf8_lossy(answer.reason()));
    }
}

#[test]
fn the_same_invite_over_another_path_gets_482() {
    // RFC 3261 §8.2.2.2: From tag, Call-ID and CSeq match an ongoing transaction, the branch does not.
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    let text = l.caller().invite_text("", "");
    l.caller().sends_text(text);
    l.caller().gets(482);
    l.caller().acks_refusal();
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").is_some() {}
    l.all_is_over();
}

#[test]
fn an_invite_of_synthflow_gets_403() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("", "").replace("198.51.100.1:5060", CALLEE);
    l.callee().sends_text(text);
    l.callee().gets(403);
    l.callee().acks_refusal();
    l.all_is_over();
}

#[test]
fn options_are_answered_in_and_out_of_a_dialog_full_and_draining() {
    let mut l = Ladder::having(&[("[node]", "max_calls = 1")]);
    let text = l.caller().invite_text("", "").replace("INVITE", "OPTIONS");
    l.caller().sends_text(text.clone());
    let answer = l.caller().gets(200);
    // RFC 3261 §11.2: Allow, Accept, Accept-Encoding …
    assert!(header(&answer, Name::Allow).contains("INVITE"));
    assert_eq!(header(&answer, Name::Accept), "application/sdp");
    l.answer();
    l.caller().sends("OPTIONS");
    l.caller().gets(200);
    l.callee().sends("OPTIONS");
    l.callee().gets(200);
    l.caller().sends_text(text.replace("branch=z9hG4bK", "branch=z9hG4bKfull").replace("CSeq: 100", "CSeq: 7"));
    let full = l.caller().gets(503);
    assert!(full.value(Name::RetryAfter).is_some());
    l.asks(Command::Drain { within: Duration::from_secs(600) });
    l.caller().sends_text(text.replace("branch=z9hG4bK", "branch=z9hG4bKdrain").replace("CSeq: 100", "CSeq: 8"));
    assert_eq!(l.caller().gets(503).reason(), b"Draining");
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
    assert!(l.drained);
}

#[test]
fn one_transaction_past_the_limit_gets_503_without_state() {
    let mut l = Ladder::new();
    l.limit(Limits { server_transactions: 2, ..Limits::default() });
    let text = l.caller().invite_text("", "").replace("INVITE", "OPTIONS");
    for (n, status) in [(1, 200), (2, 200), (3, 503)] {
        l.caller().sends_text(text.replace("branch=z9hG4bK", &format!("branch=z9hG4bK{n}x")).replace("CSeq: 100", &format!("CSeq: {n}")));
        l.caller().gets(status);
    }
    assert_eq!(l.counts().server_transactions, 2);
    l.all_is_over();
}

#[test]
fn one_client_transaction_past_the_limit_fails_like_a_dead_target() {
    let mut l = Ladder::new();
    l.limit(Limits { client_transactions: 0, ..Limits::default() });
    l.caller().invites();
    l.caller().gets(100);
    l.caller().gets(503);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_port_in_the_allow_list_lets_in_that_port_only() {
    let mut l = Ladder::replacing(&[("allow = [\"198.51.100.1\"]", "allow = [\"198.51.100.1:5060\"]")]);
    let text = l.caller().invite_text("Require: foo\r\n", "");
    l.raw("198.51.100.1:5999", text.clone());
    l.raw("198.51.100.1:5999", text.replace("INVITE", "BYE"));
    l.raw("198.51.100.1:5999", text.replace("CSeq: 100", "CSeq: x"));
    l.nothing_happens(Duration::from_secs(1));
    assert_eq!(l.dropped, ["stranger", "stranger", "stranger"]);
    l.answer();
    // In a dialog the port does not matter (product.md §2).
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn max_cps_refuses_what_is_one_too_many() {
    let mut l = Ladder::having(&[("[node]", "max_cps = 1")]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.caller().cseq(101);
    l.caller().invites();
    l.caller().gets(100);
    let refusal = l.caller().gets(503);
    assert!(String::from_utf8_lossy(refusal.reason()).contains("max_cps"));
    assert!(refusal.value(Name::RetryAfter).is_some());
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn max_calls_refuses_one_too_many_and_names_the_limit() {
    let mut l = Ladder::answered_having(&[("[node]", "max_calls = 1")]);
    let text = l.caller().invite_text("", "").replace("Call-ID: c", "Call-ID: other-c").replace("callertag", "othertag");
    l.caller().sends_text(text);
    l.caller().gets(100);
    let refusal = l.caller().gets(503);
    assert!(String::from_utf8_lossy(refusal.reason()).contains("max_calls"));
    let wait = header(&refusal, Name::RetryAfter).parse::<u32>().unwrap();
    assert!((5..=15).contains(&wait), "jittered");
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").is_some() {}
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
