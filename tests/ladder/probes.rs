//! Targets that do not answer are left out (RFC 3261 §11, RFC 3263 §4.3).

use std::time::Duration;

use backchannel::wire::message::Name;

use crate::dsl::CONFIG;
use crate::dsl::Ladder;

const DEAD: &str = "203.0.113.7:5080";

fn probing(more: &str) -> Ladder {
    let every = "options_interval = \"30s\"";
    assert!(CONFIG.contains("options_interval = \"0\""));
    Ladder::with(&CONFIG.replace("options_interval = \"0\"", &format!("{every}\n{more}")))
}

fn said(l: &Ladder) -> Vec<String> {
    l.changes.iter().map(|c| format!("{} {}", if c.up { "up" } else { "down" }, c.target.addr)).collect()
}

#[test]
fn each_target_is_asked_with_options_that_belong_to_no_dialog() {
    let mut l = probing("");
    let options = l.callee().gets("OPTIONS");
    assert_eq!(l.now(), Duration::from_secs(30));
    // RFC 3261 §11.1: "An OPTIONS request is constructed using the standard rules for a SIP request as discussed in Section 8.1.1."
    assert_eq!(options.uri(), b"sip:synthflow.example:5080");
    assert_eq!((options.to_tag(), options.check()), (None, Ok(())));
    // "A Contact header field MAY be present in an OPTIONS." "An Accept header field SHOULD be included".
    assert!(options.contact().is_some() && options.value(Name::Accept).is_some());
    l.callee().answers_to("OPTIONS", 405);
    l.callee().gets("OPTIONS");
    assert_eq!(l.now(), Duration::from_secs(60));
    l.callee().answers_to("OPTIONS", 200);
    assert_eq!(said(&l), Vec::<String>::new());
}

#[test]
fn a_challenged_options_is_answered_too() {
    let mut l = probing("username = \"bc\"\npassword = \"s3cret\"");
    l.callee().gets("OPTIONS");
    l.callee().answers_with_headers("OPTIONS", 401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n");
    let again = l.callee().gets("OPTIONS");
    assert_eq!(again.cseq().unwrap().number, 2);
    assert!(again.value(Name::Authorization).is_some());
    l.callee().answers_to("OPTIONS", 200);
    assert_eq!(said(&l), Vec::<String>::new());
}

#[test]
fn a_target_that_never_answers_is_left_out_and_comes_back_when_it_does() {
    let mut l = probing("");
    l.resolve(&["203.0.113.7", "203.0.113.2"]);
    for round in 1..=4 {
        l.after(Duration::from_secs(30) * round - l.now());
        while l.take_for(DEAD).is_some() {}
        l.callee().gets("OPTIONS");
        l.callee().answers_to("OPTIONS", 200);
    }
    assert_eq!(said(&l), ["down 203.0.113.7:5080"]);
    l.caller().invites();
    l.caller().gets(100);
    // Not to the dead one, although it is the first.
    l.callee().gets("INVITE");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();

    l.after(Duration::from_secs(31));
    let mut options = None;
    while let Some(message) = l.take_for(DEAD) {
        options = Some(message);
    }
    while l.take_for(crate::dsl::CALLEE).is_some() {}
    l.callee().moves(DEAD);
    l.callee().answers_message(&options.unwrap(), 200, "x", "");
    assert_eq!(said(&l), ["down 203.0.113.7:5080", "up 203.0.113.7:5080"]);
}

#[test]
fn a_503_of_a_call_takes_the_target_out_at_once_and_the_last_one_is_always_tried() {
    let mut l = probing("");
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(503, "a", "Retry-After: 120\r\n", "");
    l.callee().gets("ACK");
    l.caller().gets(503);
    l.caller().acks_refusal();
    assert_eq!(said(&l), ["down 203.0.113.2:5080"]);
    // Nobody else is there.
    let next = l.caller().invite_text("", &crate::dsl::offer("198.51.100.1", 20_000)).replace("Call-ID: caller-1", "Call-ID: caller-2");
    l.caller().sends_text(next);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    let invite = l.caller().sent_invite();
    l.caller().acks_refusal_with(&invite, "caller-2@198.51.100.1:5060");
    // Retry-After is held for probes too.
    l.after(Duration::from_secs(119) - l.now());
    assert!(l.take_for(crate::dsl::CALLEE).is_none());
    l.callee().gets("OPTIONS");
    assert_eq!(l.now(), Duration::from_secs(120));
    l.callee().answers_to("OPTIONS", 200);
    assert_eq!(said(&l), ["down 203.0.113.2:5080", "up 203.0.113.2:5080"]);
}
