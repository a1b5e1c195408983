//! Letting nothing new in, and ending what runs.

use std::time::Duration;

use backchannel::b2bua::io::Command;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;

fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::Reason).unwrap_or_default()).into_owned()
}

#[test]
fn a_drain_refuses_new_calls_and_waits_for_those_that_run() {
    let mut l = Ladder::answered();
    l.asks(Command::Drain { within: Duration::from_secs(3_600) });
    assert!(!l.drained);
    let text = l.caller().invite_text("", "").replace("Call-ID: c", "Call-ID: other-c").replace("callertag", "othertag");
    l.caller().sends_text(text);
    l.caller().gets(100);
    let refusal = l.caller().gets(503);
    assert!(refusal.value(Name::RetryAfter).is_some());
    assert!(String::from_utf8_lossy(refusal.reason()).contains("draining"));
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").is_some() {}
    l.callee().sends("BYE");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    assert_eq!(bye.call_id(), Ok("caller-1@198.51.100.1:5060"));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.drained_times, 1);
}

#[test]
fn the_deadline_ends_what_still_runs_with_a_reason() {
    let mut l = Ladder::answered();
    l.asks(Command::Drain { within: Duration::from_secs(60) });
    l.nothing_happens(Duration::from_secs(59));
    assert!(reason(&l.caller().gets("BYE")).contains("shutting down"));
    assert!(reason(&l.callee().gets("BYE")).contains("shutting down"));
    assert_eq!(l.now().as_secs(), 60);
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.drained_times, 1);
}

#[test]
fn a_second_drain_ends_everything_now_ringing_calls_too() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.asks(Command::Drain { within: Duration::from_secs(3_600) });
    l.nothing_happens(Duration::from_secs(1));
    l.asks(Command::Drain { within: Duration::from_secs(3_600) });
    l.callee().gets("CANCEL");
    l.caller().gets(503);
    l.caller().acks_refusal();
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
    assert_eq!(l.drained_times, 1);
}

#[test]
fn peers_that_do_not_answer_our_byes_hold_a_forced_drain_for_two_seconds() {
    let mut l = Ladder::answered();
    l.asks(Command::Drain { within: Duration::ZERO });
    l.after(Duration::from_millis(1_999));
    assert!(!l.drained);
    l.after_ms(1);
    assert_eq!(l.drained_times, 1);
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").or_else(|| l.take_for("203.0.113.2:5080")).is_some() {}
    l.all_is_over();
    assert_eq!(l.drained_times, 1);
}
