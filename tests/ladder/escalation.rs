//! The bot asks for a human (product.md §4).

use std::time::Duration;

use crate::dsl::Ladder;
use crate::dsl::Notify;
use backchannel::report::Fact;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

const REFER: &str = "Refer-To: <sip:billing@cxone.example>\r\n";

fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::Reason).unwrap_or_default()).into_owned()
}

fn p(signal: &backchannel::call::escalation::Signal, name: &str) -> String {
    signal.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
}

#[test]
fn synthflow_refers_and_cxone_is_signalled_once() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    let signal = l.cxone().gets_signal();
    assert_eq!((signal.contact.as_str(), p(&signal, "p1").as_str()), ("48812", "billing"));
    assert_eq!(p(&signal, "p3"), signal.id.as_str());
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn the_final_notify_waits_for_the_answer_to_the_first() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.nothing_happens(Duration::from_millis(300));
    l.callee().answers_to("NOTIFY", 200);
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn without_cxones_bye_both_legs_end_after_after_signal() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    let bye = l.caller().gets("BYE");
    assert_eq!(l.now().as_secs(), 10);
    assert_eq!(reason(&bye), "Q.850;cause=41;text=\"escalation failed\"");
    l.caller().answers_to("BYE", 200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert!(l.reported("call.warning").iter().any(|e| format!("{:?}", e.fact).contains("ONSIGNAL")));
}

#[test]
fn a_failed_signal_is_told_and_the_bot_keeps_the_caller_and_may_ask_again() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    let first = l.cxone().gets_signal();
    l.cxone().refuses(404);
    l.callee().gets(Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    l.nothing_happens(Duration::from_secs(1));

    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    let notify = l.callee().gets(Notify("100 Trying"));
    // RFC 3515 §2.4.6: further REFERs' NOTIFYs carry the id.
    assert!(String::from_utf8_lossy(notify.value(Name::Event).unwrap()).starts_with("refer;id="));
    l.callee().answers_to("NOTIFY", 200);
    let second = l.cxone().gets_signal();
    assert_ne!(first.id, second.id, "a failed one may be asked again, with a new id");
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn an_escalating_bye_is_signalled_before_cxones_leg_is_touched() {
    let mut l = Ladder::answered();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    let signal = l.cxone().gets_signal();
    assert_eq!(p(&signal, "p1"), "billing");
    l.nothing_happens(Duration::from_secs(1));
    l.cxone().accepts();
    l.nothing_happens(Duration::from_secs(1));
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.all_is_over();
}

#[test]
fn a_plain_bye_ends_the_call_without_a_signal() {
    for header in [
        "",
        "X-Queue: none\r\n",
        "X-Queue: billing\r\nX-Escalate: false\r\n",
        "X-Queue: {queue}\r\n",
        "Reason: SIP;cause=200;text=\"done\"\r\n",
    ] {
        let mut l = Ladder::answered();
        l.callee().sends_with("BYE", header);
        l.callee().gets(200);
        l.caller().gets("BYE");
        l.caller().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn a_failed_signal_after_a_bye_ends_cxones_leg_with_the_failure_reason() {
    let mut l = Ladder::answered();
    l.callee().sends_with("BYE", "Reason: SIP;cause=200;text=\"Transfer to human\"\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    l.cxone().refuses(400);
    let bye = l.caller().gets("BYE");
    assert_eq!(reason(&bye), "Q.850;cause=41;text=\"escalation failed\"");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn refer_and_then_bye_is_one_signal_and_the_caller_survives() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.after_ms(10);
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.nothing_happens(Duration::from_secs(1));
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.all_is_over();
    assert_eq!(l.reported("escalation.signalled").len(), 1);
    let why = l.events.iter().find_map(|e| if let Fact::EscalationSettled { why, .. } = &e.fact { Some(why.as_str()) } else { None });
    assert_eq!(why, Some(""), "`escalation.answer` has said it");
}

#[test]
fn an_unanswered_signal_is_settled_by_cxones_own_bye() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.cxone().is_silent();
    l.after_ms(500);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
    assert_eq!(l.reported("escalation.presumed").len(), 1);
}

#[test]
fn an_unanswered_signal_is_repeated_once_with_the_same_id_and_then_unknown() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    let first = l.cxone().gets_signal();
    l.cxone().is_silent();
    let second = l.cxone().gets_signal();
    assert_eq!(first.id, second.id);
    assert_eq!(l.now().as_secs(), 2, "settle");
    l.cxone().is_silent();
    l.callee().gets(Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    assert_eq!(l.reported("escalation.unknown").len(), 1);

    // `unknown`: a new request re-uses the id.
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    assert_eq!(l.cxone().gets_signal().id, first.id);
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn without_a_contact_id_a_refer_gets_603_and_the_call_goes_on() {
    let mut l = Ladder::new();
    l.caller().invites_with("X-Other: 1\r\n");
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.callee().sends_with("REFER", REFER);
    l.callee().gets(603);
    l.callee().sends_with("BYE", "X-Escalate: yes\r\n");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    assert_eq!(reason(&bye), "Q.850;cause=41;text=\"escalation failed\"");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
