//! CANCEL, before and after and across (RFC 3261 §9).

use crate::dsl::Ladder;
use std::time::Duration;

#[test]
fn cancel_while_ringing_ends_both_legs() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.caller().cancels();
    l.caller().gets(200);
    l.callee().gets("CANCEL");
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn cancel_before_any_answer_waits_for_a_provisional_one() {
    // RFC 3261 §9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent".
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.caller().cancels();
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.nothing_happens(Duration::from_millis(400));
    l.callee().answers(180);
    l.callee().gets("CANCEL");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn cancel_that_crosses_the_200_is_acknowledged_and_then_ended() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.caller().cancels();
    l.caller().gets(200);
    l.callee().gets("CANCEL");
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.callee().answers_to("CANCEL", 481);
    l.all_is_over();
}

#[test]
fn cancel_after_the_200_changes_nothing() {
    let mut l = Ladder::answered();
    l.caller().cancels();
    l.caller().gets(200);
    l.nothing_happens(Duration::from_millis(100));
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn cancel_for_nothing_gets_481() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("", "");
    let text = text.replace("INVITE sip", "CANCEL sip").replace(" INVITE\r\n", " CANCEL\r\n");
    l.caller().sends_text(text);
    l.caller().gets(481);
    l.all_is_over();
}

#[test]
fn a_cancelled_invite_that_nobody_answers_is_given_up_after_64_t1() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.caller().cancels();
    l.caller().gets(200);
    l.callee().gets("CANCEL");
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.callee().answers_to("CANCEL", 200);
    l.all_is_over();
}
