//! Targets that fail, time-outs, and answers that come too late.

use std::time::Duration;

use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::offer;

const DEAD: &str = "203.0.113.7:5080";

/// An INVITE is out to the first of two addresses.
fn two_targets() -> (Ladder, backchannel::wire::message::Message) {
    let mut l = Ladder::new();
    l.resolve(&["203.0.113.7", "203.0.113.2"]);
    l.caller().invites();
    l.caller().gets(100);
    let first = l.take_for(DEAD).unwrap();
    (l, first)
}

fn answered_by_the_second(l: &mut Ladder) {
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
}

fn at_dead(l: &mut Ladder, step: impl FnOnce(&mut Ladder)) {
    l.callee().moves(DEAD);
    step(l);
    l.callee().moves("203.0.113.2:5080");
}

#[test]
fn a_503_and_a_408_go_to_the_next_address_after_their_ack() {
    for status in [503, 408] {
        let (mut l, first) = two_targets();
        at_dead(&mut l, |l| l.callee().answers_message(&first, status, "dead", ""));
        // RFC 3261 §17.1.1.2: the ACK of a non-2xx is the transaction's.
        assert_eq!(l.take_for(DEAD).unwrap().method().as_str(), "ACK");
        let second = l.callee().gets("INVITE");
        // RFC 3261 §8.1.3.5: "the new request constitutes a new transaction with the same Call-ID, To, and From, but the CSeq should
        // contain a new sequence number that is one higher than the previous."
        assert_eq!(second.call_id(), first.call_id());
        assert_eq!(second.from_tag(), first.from_tag());
        assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
        answered_by_the_second(&mut l);
        l.all_is_over();
    }
}

#[test]
fn a_busy_bot_is_not_tried_elsewhere() {
    let (mut l, first) = two_targets();
    at_dead(&mut l, |l| l.callee().answers_message(&first, 486, "dead", ""));
    assert_eq!(l.take_for(DEAD).unwrap().method().as_str(), "ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_late_180_of_an_abandoned_attempt_is_cancelled() {
    let (mut l, first) = two_targets();
    l.after(Duration::from_secs(4));
    l.callee().gets("INVITE");
    while l.take_for(DEAD).is_some() {}
    at_dead(&mut l, |l| l.callee().answers_message(&first, 180, "dead", ""));
    assert_eq!(l.take_for(DEAD).unwrap().method().as_str(), "CANCEL");
    at_dead(&mut l, |l| l.callee().answers_message(&first, 487, "dead", ""));
    assert_eq!(l.take_for(DEAD).unwrap().method().as_str(), "ACK");
    answered_by_the_second(&mut l);
    l.after(Duration::from_secs(40));
    while l.take_for(DEAD).is_some() {}
    l.all_is_over();
}

#[test]
fn a_late_200_of_an_abandoned_attempt_is_acknowledged_and_ended() {
    let (mut l, first) = two_targets();
    l.after(Duration::from_secs(4));
    l.callee().gets("INVITE");
    while l.take_for(DEAD).is_some() {}
    at_dead(&mut l, |l| l.callee().answers_message(&first, 200, "dead", &offer("203.0.113.7", 4_000)));
    assert_eq!(l.take_for(DEAD).unwrap().method().as_str(), "ACK");
    let bye = l.take_for(DEAD).unwrap();
    assert_eq!((bye.method().as_str(), bye.to_tag()), ("BYE", Some("dead")));
    at_dead(&mut l, |l| l.callee().answers_message(&bye, 200, "dead", ""));
    answered_by_the_second(&mut l);
    l.all_is_over();
}

#[test]
fn when_all_fail_the_caller_hears_relay_503() {
    for (relay, status) in [("503", 503), ("500", 500)] {
        let mut l = Ladder::having(&[("[cxone]", &format!("relay_503 = \"{relay}\""))]);
        l.caller().invites();
        l.caller().gets(100);
        l.callee().gets("INVITE");
        l.callee().answers_with(503, "busy", "Retry-After: 30\r\n", "");
        l.callee().gets("ACK");
        let refusal = l.caller().gets(status);
        assert_eq!(refusal.value(Name::RetryAfter), Some(&b"30"[..]));
        l.caller().acks_refusal();
        l.all_is_over();
    }
}

#[test]
fn nothing_resolved_is_503() {
    let mut l = Ladder::replacing(&[("synthflow.example:5080", "elsewhere.example:5080")]);
    l.caller().invites();
    l.caller().gets(100);
    l.caller().gets(503);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_fallback_target_is_tried_when_the_first_is_silent() {
    let mut l = Ladder::having(&[("[synthflow]", "fallback = [\"sip:203.0.113.2:5080\"]")]);
    l.resolve(&["203.0.113.7"]);
    l.input(backchannel::b2bua::io::Input::Targets {
        name: backchannel::call::rules::TargetName("203.0.113.2".into()),
        result: Ok(vec![backchannel::b2bua::io::Reach {
            ip: "203.0.113.2".parse().unwrap(),
            local: crate::dsl::US.parse().unwrap(),
            at: None,
        }]),
    });
    l.caller().invites();
    l.caller().gets(100);
    l.after(Duration::from_secs(4));
    while l.take_for(DEAD).is_some() {}
    l.callee().gets("INVITE");
    answered_by_the_second(&mut l);
    l.after(Duration::from_secs(40));
    while l.take_for(DEAD).is_some() {}
    l.all_is_over();
}

#[test]
fn when_nothing_is_heard_at_all_the_ring_timeout_is_a_408() {
    let mut l = Ladder::having(&[("[sip]", "ring_timeout = \"10s\"")]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.after(Duration::from_secs(10));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.caller().gets(408);
    assert_eq!(l.now().as_secs(), 10);
    l.caller().acks_refusal();
    // RFC 3261 §9.1: no CANCEL before a provisional response; the INVITE's own timer B ends it.
    l.after(Duration::from_secs(40));
    while let Some(message) = l.take_for("203.0.113.2:5080") {
        assert_eq!(message.method().as_str(), "INVITE");
    }
    l.all_is_over();
}

#[test]
fn timer_b_without_any_answer_is_a_408() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    for _ in 0..7 {
        l.callee().gets("INVITE");
    }
    l.caller().gets(408);
    assert_eq!(l.now().as_secs(), 32);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn services_of_a_name_are_tried_in_their_order_with_their_ports_and_the_uri_keeps_the_name() {
    let mut l = Ladder::replacing(&[("synthflow.example:5080", "synthflow.example")]);
    let at = |ip: &str, port| backchannel::b2bua::io::Reach {
        ip: ip.parse().unwrap(),
        local: crate::dsl::US.parse().unwrap(),
        at: Some((backchannel::call::rules::Transport::Udp, port)),
    };
    l.input(backchannel::b2bua::io::Input::Targets {
        name: backchannel::call::rules::TargetName("synthflow.example".into()),
        result: Ok(vec![at("203.0.113.7", 5070), at("203.0.113.2", 5080)]),
    });
    l.caller().invites();
    l.caller().gets(100);
    let first = l.take_for("203.0.113.7:5070").unwrap();
    assert_eq!(first.uri(), b"sip:+12065551234@synthflow.example");
    l.after(Duration::from_secs(4));
    while l.take_for("203.0.113.7:5070").is_some() {}
    l.callee().gets("INVITE");
    answered_by_the_second(&mut l);
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.7:5070").is_some() {}
    l.all_is_over();
}
