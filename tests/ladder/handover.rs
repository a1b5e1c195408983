//! The whole of product.md §4 beyond its first day: joins, races, a disk that fails, a contact that goes.

use std::time::Duration;

use backchannel::b2bua::io::Command;
use backchannel::b2bua::io::Entry;
use backchannel::call::anchor::MediaOrder;
use backchannel::call::escalation::SignalAnswer;
use backchannel::ids::Side;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Journal;
use crate::dsl::Ladder;
use crate::dsl::Notify;
use crate::dsl::offer;

const REFER: &str = "Refer-To: <sip:billing@cxone.example>\r\n";
const FAILED: &str = "Q.850;cause=41;text=\"escalation failed\"";

fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::Reason).unwrap_or_default()).into_owned()
}

fn p(signal: &backchannel::call::escalation::Signal, name: &str) -> String {
    signal.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
}

/// REFER, 202, NOTIFY 100 answered; the signal is claimed but not answered.
fn signalling(additions: &[(&str, &str)]) -> Ladder {
    let mut l = Ladder::answered_having(additions);
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l
}

fn told(l: &mut Ladder, what: &'static str) {
    l.callee().gets(Notify(what));
    l.callee().answers_to("NOTIFY", 200);
}

fn caller_ends(l: &mut Ladder) {
    l.caller().sends("BYE");
    l.caller().gets(200);
}

fn callee_is_ended(l: &mut Ladder) {
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
}

fn settled(l: &Ladder) -> Vec<&'static str> {
    l.entries.iter().filter_map(|e| if let Entry::SignalSettled { outcome, .. } = e { Some(*outcome) } else { None }).collect()
}

#[test]
fn a_second_refer_in_flight_joins_the_first() {
    let mut l = signalling(&[]);
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    let second = l.callee().gets(Notify("100 Trying"));
    assert!(second.value(Name::Event).unwrap().starts_with(b"refer;id="));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().accepts();
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(l.callee().gets(Notify("200 OK")).value(Name::Event).unwrap().to_vec());
        l.callee().answers_to("NOTIFY", 200);
    }
    assert_ne!(ids[0], ids[1], "one final NOTIFY a subscription");
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
}

#[test]
fn an_escalating_bye_joins_the_refer() {
    let mut l = signalling(&[]);
    l.callee().sends_with("BYE", "X-Queue: support\r\n");
    l.callee().gets(200);
    l.cxone().accepts();
    l.nothing_happens(Duration::from_secs(1));
    caller_ends(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
}

#[test]
fn one_refer_past_the_limit_is_refused() {
    let mut l = signalling(&[]);
    for _ in 1..backchannel::call::leg::REFERRALS_MAX {
        l.callee().sends_with("REFER", REFER);
        l.callee().gets(202);
        l.callee().gets(Notify("100 Trying"));
        l.callee().answers_to("NOTIFY", 481);
        l.callee().sends_with("REFER", REFER);
        l.callee().gets(202);
        l.callee().gets(Notify("100 Trying"));
        l.callee().answers_to("NOTIFY", 200);
    }
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(503);
    l.cxone().accepts();
    for _ in 0..backchannel::call::leg::REFERRALS_MAX {
        l.callee().gets(Notify("200 OK"));
    }
    caller_ends(&mut l);
    l.after(Duration::from_millis(2_100));
    while l.take_for("203.0.113.2:5080").is_some_and(|m| m.method().as_str() != "BYE") {}
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.all_is_over();
}

#[test]
fn refer_then_bye_and_a_failed_signal_end_cxones_leg_with_the_failure_reason() {
    let mut l = signalling(&[]);
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.cxone().refuses(404);
    assert_eq!(reason(&l.caller().gets("BYE")), FAILED);
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_plain_bye_signal_is_sent_and_its_failure_is_no_reason() {
    for delivered in [true, false] {
        let mut l = Ladder::answered_having(&[("[escalation]", "plain_bye_signal = \"End\"")]);
        l.callee().sends("BYE");
        l.callee().gets(200);
        assert_eq!(p(&l.cxone().gets_signal(), "p1"), "End");
        if delivered {
            l.cxone().accepts();
        } else {
            l.cxone().refuses(400);
        }
        assert_eq!(reason(&l.caller().gets("BYE")), "");
        l.caller().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn on_failure_bye_ends_both_legs_with_the_reason_after_the_notify() {
    let mut l = signalling(&[("[escalation]", "on_failure = \"bye\"")]);
    l.cxone().refuses(404);
    l.callee().gets(Notify("503 Service Unavailable"));
    assert_eq!(reason(&l.caller().gets("BYE")), FAILED);
    l.caller().answers_to("BYE", 200);
    l.nothing_happens(Duration::from_millis(100));
    l.callee().answers_to("NOTIFY", 200);
    assert_eq!(reason(&l.callee().gets("BYE")), FAILED, "it waited, and still says why");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn our_bye_waits_two_seconds_for_the_answer_to_the_final_notify() {
    let mut l = signalling(&[]);
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    let at = l.now();
    caller_ends(&mut l);
    loop {
        let next = l.callee().gets_any(&["NOTIFY", "BYE"]);
        if next.method().as_str() == "BYE" {
            break;
        }
    }
    assert_eq!((l.now() - at).as_secs(), 2);
    l.callee().answers_to("BYE", 200);
    l.after(Duration::from_secs(40));
    while l.take_for("203.0.113.2:5080").is_some() {}
    l.all_is_over();
}

#[test]
fn a_refused_notify_ends_the_subscription_and_never_the_call() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    // RFC 5057 §5.1 would let a 481 end the dialog; product.md §4: "never the call".
    l.callee().answers_to("NOTIFY", 481);
    l.cxone().gets_signal();
    l.cxone().refuses(400);
    l.nothing_happens(Duration::from_secs(40));
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
}

#[test]
fn cxones_bye_while_the_request_is_under_way() {
    let written = SignalAnswer::Unanswered { status: None, why: "timed out".into() };
    let unsent = SignalAnswer::NotSent { why: "connection refused".into(), retry_after: None, final_: false };
    let refused = SignalAnswer::Refused { status: 500, retry_after: None, text: String::new() };
    let ok = SignalAnswer::Delivered { status: 204 };
    for (answer, outcome, status) in
        [(ok, "delivered", "200 OK"), (written, "presumed", "200 OK"), (refused, "expired", "487"), (unsent, "expired", "487")]
    {
        let mut l = signalling(&[]);
        caller_ends(&mut l);
        assert_eq!(l.cancelled, 1, "what is not written yet must not be");
        l.cxone().says(answer);
        let notify = l.callee().gets("NOTIFY");
        assert!(notify.body().starts_with(format!("SIP/2.0 {status}").as_bytes()), "{outcome}");
        l.callee().answers_to("NOTIFY", 200);
        callee_is_ended(&mut l);
        l.all_is_over();
        assert_eq!(settled(&l), [outcome]);
    }
}

#[test]
fn a_stuck_journal_holds_the_202_for_300_ms_and_no_longer() {
    let mut l = Ladder::answered();
    l.journal(Journal::Stuck);
    l.callee().sends_with("REFER", REFER);
    l.nothing_happens(Duration::from_millis(299));
    l.callee().gets(202);
    assert_eq!(l.now().as_millis(), 300);
    told(&mut l, "100 Trying");
    l.cxone().gets_signal();
    assert!(l.reported("call.warning").iter().any(|e| format!("{:?}", e.fact).contains("durable=no")));
    l.cxone().accepts();
    told(&mut l, "200 OK");
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
}

#[test]
fn a_broken_journal_holds_nothing_up() {
    let mut l = Ladder::answered();
    l.journal(Journal::Broken);
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    assert_eq!(l.now().as_millis(), 0);
    l.cxone().accepts();
    caller_ends(&mut l);
    l.all_is_over();
}

#[test]
fn a_bye_behind_a_refer_that_is_not_on_disk_yet_waits_for_it_too() {
    // product.md §4: "The intent is on disk (fsync) before the 202 or 200 leaves".
    let mut l = Ladder::answered();
    l.journal(Journal::Stuck);
    l.callee().sends_with("REFER", REFER);
    l.callee().sends("BYE");
    l.nothing_happens(Duration::from_millis(100));
    l.journal(Journal::AtOnce);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().gets(200);
    l.callee().answers_to("NOTIFY", 481);
    l.cxone().gets_signal();
    l.cxone().accepts();
    caller_ends(&mut l);
    l.all_is_over();
}

#[test]
fn cxones_bye_before_the_intent_is_on_disk_expires_it() {
    let mut l = Ladder::answered();
    l.journal(Journal::Stuck);
    l.callee().sends_with("REFER", REFER);
    caller_ends(&mut l);
    l.callee().gets(202);
    told(&mut l, "100 Trying");
    told(&mut l, "487 Request Terminated");
    callee_is_ended(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["expired"]);
}

#[test]
fn cxones_leg_is_answered_by_us_while_it_is_held() {
    let mut l = Ladder::answered();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    let silent = |o: &(Side, MediaOrder)| matches!(o, (Side::Caller, MediaOrder::Silence { payload_type: 0, silence_byte: 0xFF, .. }));
    assert!(l.orders.iter().any(silent), "silence in the negotiated codec");
    let ours = l.described(Side::Caller);
    l.caller().sends_body("INVITE", "", "application/sdp", &format!("{}a=sendonly\r\n", offer("198.51.100.1", 20_000)));
    l.caller().gets(100);
    let ok = l.caller().gets(200);
    let port = |m: &Message| backchannel::wire::sdp::Sdp::parse(m.body()).unwrap().rtp().unwrap();
    assert_eq!(port(&ok), port(&ours), "same port");
    l.caller().acks();
    for (method, body) in
        [("UPDATE", offer("198.51.100.1", 20_000)), ("INFO", "x".into()), ("MESSAGE", "x".into()), ("OPTIONS", String::new())]
    {
        let kind = if method == "UPDATE" { "application/sdp" } else { "text/plain" };
        l.caller().sends_body(method, "", if body.is_empty() { "" } else { kind }, &body);
        l.caller().gets(200);
    }
    l.cxone().accepts();
    caller_ends(&mut l);
    l.all_is_over();
}

#[test]
fn after_a_delivered_signal_a_refer_hears_200_and_nothing_is_sent() {
    let mut l = signalling(&[]);
    l.cxone().accepts();
    told(&mut l, "200 OK");
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    told(&mut l, "100 Trying");
    told(&mut l, "200 OK");
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.nothing_happens(Duration::from_secs(1));
    caller_ends(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
    assert_eq!(l.reported("leg.ended").len(), 1);
}

#[test]
fn a_401_fetches_a_new_token_once_and_a_second_is_final() {
    let mut l = signalling(&[]);
    l.cxone().refuses(401);
    let second = l.cxone().gets_signal();
    assert!(second.fresh_token);
    l.cxone().refuses(401);
    told(&mut l, "503 Service Unavailable");
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["failed"]);
}

#[test]
fn a_429_is_repeated_after_its_retry_after_within_the_deadline() {
    let mut l = signalling(&[]);
    l.cxone().says(SignalAnswer::Refused { status: 429, retry_after: Some(Duration::from_secs(3)), text: String::new() });
    l.nothing_happens(Duration::from_millis(2_999));
    l.cxone().gets_signal();
    // A Retry-After beyond the deadline (12 s) is final.
    l.cxone().says(SignalAnswer::Refused { status: 429, retry_after: Some(Duration::from_secs(30)), text: String::new() });
    told(&mut l, "503 Service Unavailable");
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
}

#[test]
fn an_api_that_refuses_connections_is_tried_until_the_deadline() {
    let mut l = signalling(&[]);
    let down = || SignalAnswer::NotSent { why: "connection refused".into(), retry_after: None, final_: false };
    let mut tries = 1;
    l.cxone().says(down());
    while l.now() < Duration::from_secs(12) && l.cxone().gets_signal_before(Duration::from_secs(12)) {
        tries += 1;
        l.cxone().says(down());
    }
    told(&mut l, "503 Service Unavailable");
    assert!(tries > 5, "{tries} tries");
    assert!(l.now() <= Duration::from_millis(12_000), "{:?}", l.now());
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
}

#[test]
fn an_http_client_that_says_nothing_is_given_up() {
    let mut l = signalling(&[]);
    l.callee().gets(Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    assert!(l.now() < Duration::from_secs(16), "{:?}", l.now());
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["unknown"]);
}

#[test]
fn refers_that_are_refused() {
    let mut l = Ladder::answered_having(&[("[escalation]", "unknown_queue = \"refuse\"")]);
    l.callee().sends_with("REFER", "Refer-To: <sip:nowhere@cxone.example>\r\n");
    l.callee().gets(603);
    for headers in ["", "Refer-To: <sip:\r\n"] {
        l.callee().sends_with("REFER", headers);
        // product.md §5: "400 with a reason phrase that names the header".
        assert_eq!(l.callee().gets(400).reason(), b"Bad Refer-To");
    }
    l.caller().sends_with("REFER", REFER);
    l.caller().gets(603);
    l.nothing_happens(Duration::from_secs(40));
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert!(settled(&l).is_empty());
}

#[test]
fn a_drain_lets_an_escalation_finish() {
    let mut l = signalling(&[]);
    l.asks(Command::Drain { within: Duration::from_secs(60) });
    l.cxone().accepts();
    told(&mut l, "200 OK");
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert!(l.drained);
    assert_eq!(settled(&l), ["delivered"]);
}

#[test]
fn an_escalation_that_we_cut_off_is_settled_and_said_so() {
    // Recording, requesting, and waiting for CXone's BYE: nothing may stay open in the journal or unanswered on the wire.
    for (stage, outcome) in [("recording", "expired"), ("requesting", "unknown"), ("settling", "unknown")] {
        let mut l = Ladder::answered();
        if stage == "recording" {
            l.journal(Journal::Stuck);
        }
        l.callee().sends_with("REFER", REFER);
        if stage != "recording" {
            l.callee().gets(202);
            l.callee().gets(Notify("100 Trying"));
            l.callee().answers_to("NOTIFY", 200);
            l.cxone().gets_signal();
        }
        if stage == "settling" {
            l.cxone().is_silent();
        }
        l.asks(Command::Drain { within: Duration::ZERO });
        if stage == "recording" {
            l.callee().gets(202);
            told(&mut l, "100 Trying");
        }
        told(&mut l, "503 Service Unavailable");
        assert!(reason(&l.caller().gets("BYE")).contains("shutting down"));
        l.caller().answers_to("BYE", 200);
        callee_is_ended(&mut l);
        l.all_is_over();
        assert_eq!(settled(&l), [outcome], "{stage}");
        assert_eq!(l.cancelled, u32::from(stage == "requesting"));
        assert!(l.drained);
    }
}

#[test]
fn both_sides_hang_up_before_the_intent_is_on_disk() {
    for ended_by_us in [false, true] {
        let mut l = Ladder::answered();
        l.journal(Journal::Stuck);
        l.callee().sends_with("BYE", "X-Queue: billing\r\n");
        if ended_by_us {
            l.asks(Command::Drain { within: Duration::ZERO });
            l.callee().gets(200);
            l.caller().gets("BYE");
            l.caller().answers_to("BYE", 200);
        } else {
            caller_ends(&mut l);
            l.callee().gets(200);
        }
        l.all_is_over();
        assert_eq!(settled(&l), ["expired"]);
    }
}

#[test]
fn a_second_bye_while_the_first_waits_for_the_disk_is_answered_too() {
    let mut l = Ladder::answered();
    l.journal(Journal::Stuck);
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.journal(Journal::AtOnce);
    l.callee().gets(200);
    l.cxone().gets_signal();
    l.cxone().accepts();
    caller_ends(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
}

#[test]
fn max_call_duration_in_an_escalation_settles_it() {
    let mut l = Ladder::answered_having(&[("[sip]", "max_call_duration = \"1m\"")]);
    l.nothing_happens(Duration::from_secs(59));
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    assert!(reason(&l.caller().gets("BYE")).contains("max_call_duration"));
    l.caller().answers_to("BYE", 200);
    l.cxone().accepts();
    l.all_is_over();
    assert_eq!(settled(&l), ["unknown"]);
}

#[test]
fn cxones_leg_that_never_acknowledges_a_reinvite_while_held_is_lost_and_no_bye() {
    let mut l = Ladder::answered();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.caller().sends_body("INVITE", "", "application/sdp", &offer("198.51.100.1", 20_000));
    l.caller().gets(100);
    l.caller().gets(200);
    while let Some(message) = {
        l.after_ms(500);
        l.take_for("198.51.100.1:5060")
    }
    .or_else(|| {
        l.after(Duration::from_secs(4));
        l.take_for("198.51.100.1:5060")
    }) {
        if message.is_request() {
            assert_eq!(reason(&message), FAILED);
            break;
        }
    }
    assert!(l.now() < Duration::from_secs(15), "after_signal, {:?}", l.now());
    l.after(Duration::from_secs(40));
    while l.take_for("198.51.100.1:5060").is_some() {}
    l.all_is_over();
}

#[test]
fn a_notify_that_nobody_answers_ends_the_subscription_and_never_the_call() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.cxone().gets_signal();
    l.cxone().refuses(400);
    l.after(Duration::from_secs(33));
    while let Some(message) = l.take_for("203.0.113.2:5080") {
        assert_eq!(message.method().as_str(), "NOTIFY");
    }
    l.nothing_happens(Duration::from_secs(10));
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
}

#[test]
fn a_bot_that_has_lost_its_dialog_is_signalled_when_on_bot_lost_says_so() {
    let mut l = Ladder::answered_having(&[("[escalation]", "on_bot_lost = \"signal\"")]);
    l.caller().sends_body("INFO", "", "text/plain", "x");
    l.callee().gets("INFO");
    l.callee().answers_to("INFO", 481);
    l.caller().gets(500);
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.nothing_happens(Duration::from_secs(1));
    caller_ends(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
}

#[test]
fn the_closing_line_of_an_escalated_call_says_what_cxones_bye_said() {
    let mut l = signalling(&[]);
    l.caller().sends_with("BYE", "Reason: Q.850;cause=31;text=\"queued\"\r\n");
    l.caller().gets(200);
    l.cxone().accepts();
    told(&mut l, "200 OK");
    callee_is_ended(&mut l);
    l.all_is_over();
    let said = format!("{:?}", l.reported("call.ended"));
    assert!(said.contains("cause: 31") && said.contains("queued"), "{said}");
}

#[test]
fn two_refers_before_the_disk_is_done_get_two_202s_and_one_signal() {
    let mut l = Ladder::answered();
    l.journal(Journal::Stuck);
    l.callee().sends_with("REFER", REFER);
    l.callee().sends_with("REFER", REFER);
    l.callee().repeats();
    l.nothing_happens(Duration::from_millis(50));
    l.journal(Journal::AtOnce);
    for _ in 0..2 {
        l.callee().gets(202);
        told(&mut l, "100 Trying");
    }
    l.cxone().gets_signal();
    l.cxone().accepts();
    for _ in 0..2 {
        told(&mut l, "200 OK");
    }
    caller_ends(&mut l);
    callee_is_ended(&mut l);
    l.all_is_over();
    assert_eq!(settled(&l), ["delivered"]);
}
