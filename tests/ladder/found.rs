//! What random walks found, each as the ladder that it comes down to.

use std::time::Duration;

use crate::dsl::CALLEE;
use crate::dsl::Ladder;
use crate::dsl::Notify;
use crate::dsl::offer;
use backchannel::b2bua::io::Command;
use backchannel::b2bua::io::LossReason;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

const LONG: &str = "X-InContact-MasterId: 48812\r\nX-Long: ";

/// A 200 of Synthflow to this INVITE of ours, as it would come from anywhere.
fn ok_to(invite: &Message) -> String {
    let value = |name| String::from_utf8_lossy(invite.value(name).unwrap()).into_owned();
    let body = offer("203.0.113.2", 30_000);
    format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=late\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <sip:bot@{CALLEE}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        value(Name::Via),
        value(Name::From),
        value(Name::To),
        value(Name::CallId),
        value(Name::CSeq),
        body.len()
    )
}

#[test]
fn a_long_invite_that_was_cancelled_does_not_leave_when_tcp_comes_up_late() {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("{LONG}{}\r\n", "x".repeat(1_500)));
    l.caller().gets(100);
    assert_eq!(l.dials(), 1);
    l.caller().cancels();
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.flow_up(0);
    l.nothing_happens(Duration::from_secs(5));
    l.all_is_over();
}

#[test]
fn a_long_invite_that_went_over_udp_does_not_leave_again_when_tcp_comes_up_late() {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("{LONG}{}\r\n", "x".repeat(1_500)));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    assert_eq!(l.now(), Duration::from_millis(500));
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.flow_up(0);
    l.all_is_over();
}

#[test]
fn the_sender_of_an_info_hears_487_when_the_call_ends_before_its_answer() {
    let mut l = Ladder::answered();
    l.callee().sends_body("INFO", "", "application/dtmf-relay", "Signal=1\r\n");
    l.caller().gets("INFO");
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    // RFC 3261 §15.1.2: "any pending requests … It is RECOMMENDED that a 487 (Request Terminated) response be generated".
    l.callee().gets(487);
    l.caller().answers_to("INFO", 481);
    l.all_is_over();
}

#[test]
fn an_answer_to_an_invite_whose_connection_was_lost_is_acknowledged_and_ended() {
    let mut l = Ladder::with(&crate::dsl::CONFIG.replace("example:5080", "example:5080;transport=tcp"));
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    l.flow_up(0);
    l.flow_lost(0, LossReason::Closed("reset".into()));
    l.caller().gets(503);
    l.caller().acks_refusal();
    l.raw(CALLEE, ok_to(&invite));
    let ack = l.callee().gets("ACK");
    // RFC 3261 §13.2.2.4: "The UAC core MUST generate an ACK request for each 2xx received".
    assert_eq!(ack.to_tag(), Some("late"));
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn with_a_late_offer_and_no_ack_the_callee_is_acknowledged_before_its_bye() {
    let mut l = Ladder::new();
    let invite = l.caller().invite_text("X-InContact-MasterId: 48812\r\n", "");
    l.caller().sends_text(invite);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    for _ in 0..11 {
        l.caller().gets(200);
    }
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_forced_drain_settles_the_escalation_that_is_under_way() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.asks(Command::Drain { within: Duration::ZERO });
    // It was written and nothing was heard: nobody knows.
    assert_eq!(l.reported("escalation.unknown").len(), 1);
    l.callee().gets(Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn with_a_late_offer_the_callee_is_acknowledged_also_when_it_asks_for_a_human_first() {
    let mut l = Ladder::new();
    let invite = l.caller().invite_text("X-InContact-MasterId: 48812\r\n", "");
    l.caller().sends_text(invite);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.caller().gets(200);
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.caller().acks_with(&offer("198.51.100.1", 20_000));
    l.callee().gets("ACK");
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}
