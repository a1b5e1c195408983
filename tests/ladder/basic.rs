//! A call from its INVITE to its end.

use std::time::Duration;

use crate::dsl::Ladder;
use crate::dsl::US;
use backchannel::wire::message::Name;

#[test]
fn an_answered_call_is_ended_by_the_caller() {
    let mut l = Ladder::answered();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.reported("call.ended").len(), 1);
}

#[test]
fn an_answered_call_is_ended_by_the_callee() {
    let mut l = Ladder::answered();
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn the_new_invite_is_ours_alone() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    let text = String::from_utf8_lossy(invite.raw()).into_owned();
    assert!(text.starts_with("INVITE sip:+12065551234@synthflow.example:5080 SIP/2.0\r\n"), "{text}");
    assert_eq!(invite.max_forwards(), Some(69), "RFC 7332: decremented");
    assert_eq!(invite.named("X-EI").collect::<Vec<_>>(), [b"E.48812;"]);
    assert!(text.contains("\r\nX-Customer-Tier: gold\r\n"));
    assert!(text.contains(&format!("c=IN IP4 {US}\r\n")), "{text}");
    assert!(text.contains("o=backchannel "), "{text}");
    assert_ne!(invite.call_id().unwrap(), "caller-1@198.51.100.1:5060");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_repeated_invite_gets_its_last_answer_again_and_nothing_else_happens() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.caller().repeats();
    l.caller().gets(100);
    l.callee().answers(180);
    l.caller().gets(180);
    l.caller().repeats();
    l.caller().gets(180);
    l.callee().answers(404);
    l.callee().gets("ACK");
    l.caller().gets(404);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_2xx_without_ack_is_repeated_for_64_t1_and_then_both_legs_end() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    // RFC 3261 §13.3.1.4: T1, doubling up to T2, until the ACK; "if the server retransmits the 2xx for 64*T1 seconds without
    // receiving an ACK, the dialog is confirmed, but the session SHOULD be terminated".
    for _ in 0..11 {
        l.caller().gets(200);
    }
    assert_eq!(l.reported("call.no_ack").len(), 1);
    l.caller().gets("BYE");
    assert_eq!(l.now().as_secs(), 32);
    l.caller().answers_to("BYE", 200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_repeated_2xx_of_the_callee_gets_the_same_ack_again() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    let first = l.callee().gets("ACK");
    l.callee().repeats();
    let second = l.callee().gets("ACK");
    assert_eq!(first.raw(), second.raw());
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    // Even after the call has gone, its 2xx may still come.
    l.callee().repeats();
    l.callee().gets("ACK");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_second_fork_that_answers_is_acknowledged_and_ended() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    let body = crate::dsl::offer("203.0.113.2", 30_002);
    l.callee().answers_with(200, "otherfork", "", &body);
    let ack = l.callee().gets("ACK");
    assert_eq!(ack.to_tag(), Some("otherfork"));
    let bye = l.callee().gets("BYE");
    assert_eq!(bye.to_tag(), Some("otherfork"));
    l.callee().answers_to("BYE", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    let bye = l.callee().gets("BYE");
    assert_eq!(bye.to_tag(), Some("calleetag"));
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn one_answering_fork_past_the_bound_is_left_to_its_own_timers() {
    let max = backchannel::b2bua::FORKS_ENDED_MAX;
    let mut l = Ladder::new();
    l.answer();
    for fork in 0..max {
        l.callee().answers_with(200, &format!("f{fork}"), "", &crate::dsl::offer("203.0.113.2", 30_002));
        l.callee().gets("ACK");
        l.callee().gets("BYE");
        l.callee().answers_to("BYE", 200);
    }
    l.callee().answers_with(200, "onemore", "", &crate::dsl::offer("203.0.113.2", 30_002));
    l.nothing_happens(Duration::from_millis(100));
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn early_media_on_183_crosses_with_our_address() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(183);
    let progress = l.caller().gets(183);
    assert!(String::from_utf8_lossy(&progress.body()).contains(&format!("c=IN IP4 {US}")));
    let early = progress.body();
    l.callee().answers(200);
    l.callee().gets("ACK");
    let ok = l.caller().gets(200);
    assert_eq!(ok.body(), early, "the same answer keeps its o= version and its port");
    l.caller().acks();
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn ringing_without_an_answer_ends_at_the_ring_timeout() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.after(Duration::from_secs(60));
    l.callee().gets("CANCEL");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.caller().gets(480);
    l.caller().acks_refusal();
    l.all_is_over();
    assert_eq!(l.reported("call.failed").len(), 1);
}

#[test]
fn a_redirection_becomes_480_and_a_challenge_403() {
    for (from, to) in [(302, 480), (401, 403), (407, 403), (486, 486), (603, 603)] {
        let mut l = Ladder::new();
        l.caller().invites();
        l.caller().gets(100);
        l.callee().gets("INVITE");
        l.callee().answers(from);
        l.callee().gets("ACK");
        l.caller().gets(to);
        l.caller().acks_refusal();
        l.all_is_over();
    }
}

#[test]
fn a_dead_target_is_left_for_the_next_address() {
    let mut l = Ladder::new();
    l.resolve(&["203.0.113.7", "203.0.113.2"]);
    l.caller().invites();
    l.caller().gets(100);
    // first_response 4 s: INVITE at 0, 500, 1500, 3500 ms to the dead one.
    for _ in 0..4 {
        l.after_ms(0);
        while l.take_for("203.0.113.7:5080").is_none() {
            l.after_ms(100);
        }
    }
    l.callee().gets("INVITE");
    assert_eq!(l.now().as_secs(), 4);
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    while l.take_for("203.0.113.7:5080").is_some() {}
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.7:5080").is_some() {}
    l.all_is_over();
}

#[test]
fn a_stranger_hears_nothing() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("", "");
    l.raw("192.0.2.66:5060", text.replace("198.51.100.1", "192.0.2.66"));
    l.nothing_happens(Duration::from_secs(40));
    assert_eq!(l.dropped, ["stranger"]);
    assert_eq!(l.counts().server_transactions, 0);
}

#[test]
fn bye_of_both_sides_at_once_is_a_good_end() {
    let mut l = Ladder::answered();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().sends("BYE");
    l.callee().gets("BYE");
    l.callee().gets(200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_request_for_no_dialog_gets_481() {
    let mut l = Ladder::answered();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.after(Duration::from_secs(35));
    l.caller().sends("BYE");
    l.caller().gets(481);
    l.all_is_over();
}

#[test]
fn a_late_offer_ends_with_the_answer_in_the_ack() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert!(invite.body().is_empty());
    l.callee().answers(200);
    let ok = l.caller().gets(200);
    assert!(String::from_utf8_lossy(&ok.body()).contains(&format!("c=IN IP4 {US}")));
    // The ACK of our own leg waits for CXone's answer.
    l.callee().repeats();
    let cseq = 100;
    let body = crate::dsl::offer("198.51.100.1", 20_000);
    let _ = cseq;
    l.caller().acks_with(&body);
    let ack = l.callee().gets("ACK");
    assert!(String::from_utf8_lossy(&ack.body()).contains(&format!("c=IN IP4 {US}")));
    assert_eq!(ack.value(Name::ContentType), Some(&b"application/sdp"[..]));
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
