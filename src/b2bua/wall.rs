//! The panic wall, played through the whole core: a bug in one call's machine ends that call, says BYE, and touches nothing else.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../../tests/ladder/dsl.rs"]
mod dsl;

use std::time::Duration;

use dsl::Ladder;
use dsl::Notify;
use dsl::offer;

use crate::wire::message::Name;

/// The next step of the oldest call panics.
fn breaks(l: &mut Ladder) {
    l.expect_errors = true;
    l.with_core(|core, now| {
        let oldest = *core.calls.keys().next().unwrap();
        core.with_call(oldest, now, |_, _| panic!("a bug, on purpose"));
    });
    assert_eq!(l.reported("call.broken").len(), 1);
}

#[test]
fn a_panic_in_an_answered_call_ends_both_legs_with_a_bye_and_no_other_call() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    let notify = l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    let other = l.caller().invite_text("X-InContact-MasterId: 2\r\n", &offer("198.51.100.1", 20_002));
    let other = other.replace("Call-ID: caller-1", "Call-ID: caller-2").replace("tag=callertag", "tag=second");
    l.caller().sends_text(other);
    l.caller().gets(100);
    l.callee().gets("INVITE");

    breaks(&mut l);
    let bye = l.callee().gets("BYE");
    assert_eq!(bye.to_tag(), Some("calleetag"));
    // RFC 3261 §12.2.1.1: CSeq numbers rise within a dialog.
    assert!(bye.cseq().unwrap().number > notify.cseq().unwrap().number);
    assert!(bye.value(Name::Reason).unwrap().ends_with(b"text=\"internal error\""));
    l.callee().answers_to("BYE", 200);
    assert_eq!(l.caller().gets("BYE").call_id(), Ok("caller-1@198.51.100.1:5060"));
    l.caller().answers_to("BYE", 200);
    assert_eq!(l.counts().calls, 1, "the other call goes on");
    l.cxone().accepts();

    l.callee().answers(486);
    l.callee().gets("ACK");
    assert_eq!(l.caller().gets(486).call_id(), Ok("caller-2@198.51.100.1:5060"));
    let invite = l.caller().sent_invite();
    l.caller().acks_refusal_with(&invite, "caller-2@198.51.100.1:5060");
    l.all_is_over();
}

#[test]
fn a_panic_while_it_rings_refuses_the_caller_and_cancels_the_callee() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    breaks(&mut l);
    l.caller().gets(500);
    l.caller().acks_refusal();
    l.callee().gets("CANCEL");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn a_2xx_that_a_broken_call_took_but_never_acknowledged_is_ended_when_it_is_repeated() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.caller().gets(200);
    breaks(&mut l);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 481);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn what_a_broken_call_left_unanswered_is_answered_500() {
    let mut l = Ladder::answered();
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.callee().gets("INFO");
    breaks(&mut l);
    l.caller().gets(500);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().gets("BYE");
    l.callee().answers_to("INFO", 200);
    l.callee().answers_to("BYE", 200);
    l.nothing_happens(Duration::from_secs(1));
    l.all_is_over();
}

#[test]
fn a_leg_that_has_ended_gets_no_second_bye_from_a_broken_call() {
    let mut l = Ladder::answered();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    breaks(&mut l);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
