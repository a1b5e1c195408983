//! Media, offers and answers, and what happens in a dialog.

use std::time::Duration;

use backchannel::call::anchor::MediaEvent;
use backchannel::ids::Side;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::US;
use crate::dsl::offer;

const SDP: &str = "application/sdp";

fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::Reason).unwrap_or_default()).into_owned()
}

fn body(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

fn end(l: &mut Ladder) {
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn no_packets_for_a_while_ends_both_legs_with_a_reason() {
    let mut l = Ladder::answered();
    l.media(Side::Caller, MediaEvent::Latched { said: None, wire: "198.51.100.1:20000".parse().unwrap() });
    assert_eq!(l.reported("media.latched").len(), 1);
    l.media(Side::Callee, MediaEvent::Idle);
    assert!(reason(&l.caller().gets("BYE")).contains("no media for 60 s"));
    assert!(reason(&l.callee().gets("BYE")).contains("no media for 60 s"));
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.reported("media.idle").len(), 1);
}

#[test]
fn max_call_duration_ends_both_legs_with_a_reason() {
    let mut l = Ladder::answered_having(&[("[sip]", "max_call_duration = \"2m\"")]);
    l.nothing_happens(Duration::from_secs(119));
    l.after(Duration::from_secs(1));
    assert!(reason(&l.caller().gets("BYE")).contains("max_call_duration"));
    l.callee().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn without_a_common_codec_nothing_rings_and_both_lists_are_logged() {
    let mut l = Ladder::new();
    let sdp = offer("198.51.100.1", 20_000).replace("RTP/AVP 0 8 101", "RTP/AVP 18");
    let text = l.caller().invite_text("", &sdp);
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.caller().gets(488);
    l.caller().acks_refusal();
    l.all_is_over();
    let said = format!("{:?}", l.reported("call.refused"));
    assert!(said.contains("G729") && said.contains("pcmu"), "{said}");
}

#[test]
fn a_2xx_without_any_session_is_acknowledged_and_ended() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(200, "calleetag", "", "");
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.caller().gets(502);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_2xx_without_sdp_after_a_183_with_it_is_a_good_answer() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(183);
    let early = l.caller().gets(183);
    l.callee().answers_with(200, "calleetag", "", "");
    l.callee().gets("ACK");
    assert_eq!(l.caller().gets(200).body(), early.body());
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_first_offer_on_hold_is_no_late_offer() {
    // RFC 3264 §8.4: "the use of 0.0.0.0" for hold, as third-party call control sends it.
    let mut l = Ladder::new();
    let sdp = offer("198.51.100.1", 20_000).replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0");
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", &sdp);
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_late_offer_whose_ack_has_no_answer_ends_cleanly() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    // RFC 3261 §13.2.1: an unreliable provisional response carries no offer.
    l.callee().answers(183);
    assert!(l.caller().gets(183).body().is_empty());
    l.callee().answers(200);
    l.caller().gets(200);
    l.caller().acks();
    l.caller().gets("BYE");
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_late_offer_that_is_never_acknowledged_ends_both_legs() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    for _ in 0..11 {
        l.caller().gets(200);
    }
    l.caller().gets("BYE");
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_bye_before_the_answer_ends_the_early_dialog() {
    // RFC 3261 §15: "The caller's UA MAY send a BYE for either confirmed or early dialogs".
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    let invite = l.caller().sent_invite();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("CANCEL");
    l.caller().gets(487);
    l.caller().acks_refusal_of(&invite);
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn our_bye_to_the_caller_waits_for_its_ack() {
    // RFC 3261 §15: "The callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx response or
    // until the server transaction times out."
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.nothing_happens(Duration::from_millis(400));
    l.caller().acks();
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn info_and_message_cross_both_ways_and_so_do_their_answers() {
    let mut l = Ladder::answered();
    l.caller().sends_body("INFO", "", "application/dtmf-relay", "Signal=5\r\n");
    let info = l.callee().gets("INFO");
    assert_eq!((body(&info).as_str(), info.value(Name::ContentType)), ("Signal=5\r\n", Some(&b"application/dtmf-relay"[..])));
    l.callee().answers_to("INFO", 415);
    l.caller().gets(415);
    l.callee().sends_body("MESSAGE", "", "text/plain", "hello");
    assert_eq!(body(&l.caller().gets("MESSAGE")), "hello");
    l.caller().answers_to("MESSAGE", 202);
    l.callee().gets(202);
    end(&mut l);
}

#[test]
fn an_info_that_nobody_answers_gets_an_answer_all_the_same() {
    // Still open when the call ends: RFC 3261 §15.1.2, "It is RECOMMENDED that a 487 (Request Terminated) response be generated".
    let mut l = Ladder::answered();
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.callee().gets("INFO");
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.caller().gets(487);
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.all_is_over();

    // Timer F of the other leg: 408 would end CXone's dialog (RFC 3261 §12.2.1.2).
    let mut l = Ladder::answered();
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.callee().gets("INFO");
    l.after(Duration::from_secs(33));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.caller().gets(500);
    end(&mut l);
}

#[test]
fn a_481_to_an_info_ends_the_call() {
    // RFC 3261 §12.2.1.2: "If the response for a request within a dialog is a 481 […] the UAC SHOULD terminate the dialog."
    let mut l = Ladder::answered();
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.callee().gets("INFO");
    l.callee().answers_to("INFO", 481);
    l.caller().gets(500);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn cseq_must_rise_and_an_ack_with_another_number_is_ignored() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().cseq(99);
    l.caller().acks();
    l.caller().gets(200);
    l.caller().cseq(100);
    l.caller().acks();
    // RFC 3261 §12.2.2: "If the remote sequence number was not empty, but the sequence number of the request is lower than the remote
    // sequence number, the request is out of order and MUST be rejected with a 500".
    l.caller().cseq(50);
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.caller().gets(500);
    l.caller().cseq(101);
    end(&mut l);
}

#[test]
fn a_repeated_bye_gets_its_200_again_and_nothing_more() {
    let mut l = Ladder::answered();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.caller().repeats();
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_repeated_cancel_gets_its_200_again_with_the_tag_of_the_487() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.caller().cancels();
    let ok = l.caller().gets(200);
    // RFC 3261 §9.2: "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD be the
    // same."
    assert_eq!(l.caller().gets(487).to_tag(), ok.to_tag());
    l.caller().repeats();
    l.caller().gets(200);
    l.caller().acks_refusal();
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.all_is_over();
}

#[test]
fn codes_phrases_and_headers_cross() {
    let mut l = Ladder::having(&[("[cxone]", "answer_headers = { \"X-Backchannel-Call-Id\" = \"{call_id}\" }")]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(180, "calleetag", "X-Mood: calm\r\n", "");
    assert_eq!(l.caller().gets(180).named("X-Mood").next(), Some(&b"calm"[..]));
    l.callee().answers_with(200, "calleetag", "X-Agent: Bot 7\r\nX-Backchannel-Call-Id: forged\r\n", &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    let ok = l.caller().gets(200);
    assert_eq!(ok.named("X-Agent").next(), Some(&b"Bot 7"[..]));
    let ids: Vec<_> = ok.named("X-Backchannel-Call-Id").collect();
    assert!(ids.len() == 1 && ids[0] != b"forged", "{ids:?}");
    l.caller().acks();
    l.callee().sends_with("BYE", "X-Summary: done\r\nReason: Q.850;cause=16;text=\"bye now\"\r\n");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    assert_eq!(bye.named("X-Summary").next(), Some(&b"done"[..]));
    assert!(reason(&bye).contains("bye now"));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();

    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    let headers = "Retry-After: 9\r\nWarning: 399 bot.example \"too busy\"\r\nReason: Q.850;cause=17\r\n";
    let text = format!(
        "SIP/2.0 486 Quite Busy\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=x\r\nCall-ID: {}\r\nCSeq: 1 INVITE\r\n{headers}Content-Length: 0\r\n\r\n",
        String::from_utf8_lossy(invite.value(Name::Via).unwrap()),
        String::from_utf8_lossy(invite.value(Name::From).unwrap()),
        String::from_utf8_lossy(invite.value(Name::To).unwrap()),
        invite.call_id().unwrap()
    );
    l.callee().sends_text(text);
    l.callee().gets("ACK");
    let busy = l.caller().gets(486);
    assert_eq!(busy.reason(), b"Quite Busy");
    assert_eq!(busy.value(Name::RetryAfter), Some(&b"9"[..]));
    assert!(reason(&busy).contains("cause=17"));
    let warning = String::from_utf8_lossy(busy.value(Name::Warning).unwrap()).into_owned();
    assert!(warning.contains("too busy") && !warning.contains("bot.example"), "{warning}");
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_leg_over_ipv6_shows_ipv6_and_the_other_ipv4() {
    let mut l = Ladder::replacing(&[
        ("\"tcp://192.0.2.9:5060\"", "\"tcp://192.0.2.9:5060\", \"udp://[2001:db8::9]:5060\""),
        ("[cxone]\n", "[media]\nbind = [\"192.0.2.9\", \"2001:db8::9\"]\n[cxone]\n"),
    ]);
    l.resolve_at("2001:db8::2", "2001:db8::9");
    l.callee().moves("[2001:db8::2]:5080");
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    let text = String::from_utf8_lossy(invite.raw()).into_owned();
    assert!(text.contains("Via: SIP/2.0/UDP [2001:db8::9]:5060;"), "{text}");
    assert!(text.contains("c=IN IP6 2001:db8::9") && !text.contains("192.0.2.9"), "{text}");
    let sdp = offer("x", 30_000).replace("IN IP4 x", "IN IP6 2001:db8::2");
    l.callee().answers_with(200, "calleetag", "", &sdp);
    l.callee().gets("ACK");
    let ok = l.caller().gets(200);
    assert!(body(&ok).contains("c=IN IP4 192.0.2.9") && !body(&ok).contains("IP6"), "{}", body(&ok));
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_forced_end_before_the_callers_ack_waits_for_it() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.asks(backchannel::b2bua::io::Command::Drain { within: Duration::ZERO });
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.caller().acks();
    assert!(reason(&l.caller().gets("BYE")).contains("shutting down"));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_second_invite_in_the_early_dialog_gets_500() {
    // RFC 3261 §14.2: "A UAS that receives a second INVITE before it sends the final response to a first INVITE with a lower CSeq sequence
    // number on the same dialog MUST return a 500 (Server Internal Error) response to the second INVITE and MUST include a Retry-After".
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    let first = l.caller().sent_invite();
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    l.caller().gets(100);
    assert!(l.caller().gets(500).value(Name::RetryAfter).is_some());
    l.caller().acks_refusal();
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal_of(&first);
    l.all_is_over();
}

#[test]
fn a_reinvite_before_the_answer_to_our_late_offer_gets_491() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.caller().gets(200);
    l.caller().sends_body("UPDATE", "", SDP, &offer("198.51.100.1", 20_000));
    l.caller().gets(491);
    l.caller().cseq(100);
    l.caller().acks_with(&offer("198.51.100.1", 20_000));
    l.callee().gets("ACK");
    l.caller().cseq(101);
    end(&mut l);
}

#[test]
fn the_answer_to_a_late_offer_reaches_a_bot_that_already_escalates() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.caller().gets(200);
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    l.callee().gets(crate::dsl::Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.caller().acks_with(&offer("198.51.100.1", 20_000));
    let ack = l.callee().gets("ACK");
    assert!(body(&ack).contains(US));
    // RFC 3261 §13.2.2.4: "The sequence number of the CSeq header field MUST be the same as the INVITE being acknowledged".
    let invite = l.callee().request("INVITE");
    assert_eq!(ack.cseq().unwrap().number, invite.cseq().unwrap().number);
    l.cxone().accepts();
    l.callee().gets(crate::dsl::Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    end(&mut l);
}

#[test]
fn a_late_offer_without_its_answer_settles_the_escalation_too() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.caller().gets(200);
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    l.callee().gets(crate::dsl::Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.caller().acks();
    l.callee().gets(crate::dsl::Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.reported("escalation.unknown").len(), 1);
}
