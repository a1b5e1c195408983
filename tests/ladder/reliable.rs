//! Reliable provisional answers (RFC 3262) of Synthflow.

use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::offer;

fn rack(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::RAck).unwrap_or_default()).into_owned()
}

#[test]
fn each_reliable_answer_gets_its_prack_in_order_and_the_dialog_goes_on_counting() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert!(invite.values(Name::Supported).any(|v| v == b"100rel"));
    let number = invite.cseq().unwrap().number;
    l.callee().answers_with(183, "calleetag", "Require: 100rel\r\nRSeq: 7\r\n", &offer("203.0.113.2", 30_000));
    let prack = l.callee().gets("PRACK");
    // RFC 3262 §7.2: "The first number is the value from the RSeq header […]. The next number, and the method, are copied from the CSeq".
    assert_eq!(rack(&prack), format!("7 {number} INVITE"));
    assert_eq!((prack.uri(), prack.to_tag()), (&b"sip:bot@203.0.113.2:5080"[..], Some("calleetag")));
    assert_eq!(prack.cseq().unwrap().number, number + 1);
    l.callee().answers_to("PRACK", 200);
    l.caller().gets(183);
    // RFC 3262 §4: a repetition, and one that came before its turn, "MUST NOT be acknowledged […] and MUST NOT be processed further".
    for number in [7, 9] {
        l.callee().answers_with(180, "calleetag", &format!("Require: 100rel\r\nRSeq: {number}\r\n"), "");
    }
    l.nothing_happens(std::time::Duration::from_millis(100));
    l.callee().answers_with(180, "calleetag", "Require: 100rel\r\nRSeq: 8\r\n", "");
    assert_eq!(rack(&l.callee().gets("PRACK")), format!("8 {number} INVITE"));
    l.callee().answers_to("PRACK", 200);
    l.caller().gets(180);
    // Another early dialog counts by itself.
    l.callee().answers_with(180, "forktag", "Require: 100rel\r\nRSeq: 1\r\n", "");
    let prack = l.callee().gets("PRACK");
    assert_eq!((rack(&prack), prack.to_tag()), (format!("1 {number} INVITE"), Some("forktag")));
    l.callee().answers_to("PRACK", 200);
    l.caller().gets(180);
    // RFC 3311 §5.2: no change of the session before there is one.
    l.callee().sends_body("UPDATE", "", "application/sdp", &offer("203.0.113.2", 30_000));
    assert!(l.callee().gets(500).value(Name::RetryAfter).is_some());
    l.callee().answers(200);
    assert_eq!(l.callee().gets("ACK").cseq().unwrap().number, number);
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    // RFC 3261 §12.2.1.1: above both PRACKs.
    assert_eq!(l.callee().gets("BYE").cseq().unwrap().number, number + 3);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn without_an_offer_nothing_reliable_is_asked_for() {
    let mut l = Ladder::new();
    let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "");
    l.caller().sends_text(text);
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert!(!invite.values(Name::Supported).any(|v| v == b"100rel"));
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}
