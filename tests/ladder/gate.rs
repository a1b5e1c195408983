//! Digest towards CXone: who calls must prove it (RFC 3261 §22.1).

use backchannel::wire::auth::Asking;
use backchannel::wire::auth::Session;
use backchannel::wire::auth::challenges;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::offer;

const TRUNK: (&str, &str) = ("[cxone]", "username = \"trunk\"\npassword = \"s3cret\"");

fn authorization(refusal: &Message, password: &str, uri: &str) -> String {
    let found = challenges(refusal, Name::WwwAuthenticate);
    assert_eq!(found.iter().map(|c| c.algorithm.as_str()).collect::<Vec<_>>(), ["SHA-256", "MD5"]);
    let asking = Asking { username: "trunk", password, method: b"INVITE", uri: uri.as_bytes(), body: b"", cnonce: "c" };
    format!("Authorization: {}\r\n", String::from_utf8(Session::new(&found[0]).authorize(&asking).unwrap()).unwrap())
}

/// CXone's INVITE with these headers, one CSeq higher than the last.
fn invites(l: &mut Ladder, cseq: u32, headers: &str) {
    l.caller().cseq(cseq);
    let text = l.caller().invite_text(&format!("X-InContact-MasterId: 1\r\n{headers}"), &offer("198.51.100.1", 20_000));
    l.caller().sends_text(text);
}

#[test]
fn an_invite_that_proves_the_password_is_let_in_and_what_follows_is_not_asked_again() {
    let mut l = Ladder::having(&[TRUNK]);
    invites(&mut l, 100, "");
    let refusal = l.caller().gets(401);
    assert_eq!(l.counts().server_transactions, 0, "a challenge keeps nothing");
    l.caller().acks_refusal();
    assert_eq!(l.dropped, Vec::<&str>::new(), "the ACK to it is no stray");
    let proof = authorization(&refusal, "s3cret", "sip:+12065551234@192.0.2.9");
    invites(&mut l, 101, &proof);
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    // §22.3: credentials are for this hop.
    assert_eq!(invite.value(Name::Authorization), None);
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    // §22.1: "a server MUST NOT challenge" an ACK; in a dialog our tag is proof enough.
    let ip = offer("198.51.100.1", 20_000);
    l.caller().sends_body("INVITE", "", "application/sdp", &ip);
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_repeated_invite_hears_the_same_tag_and_options_are_not_asked() {
    let mut l = Ladder::having(&[TRUNK]);
    invites(&mut l, 100, "");
    let first = l.caller().gets(401).to_tag().unwrap().to_owned();
    l.caller().repeats();
    // RFC 3261 §8.2.7: To tags "in a stateless manner - in a manner that will generate the same tag for the same request consistently".
    assert_eq!(l.caller().gets(401).to_tag(), Some(first.as_str()));
    let options = l.caller().invite_text("", "").replace("INVITE", "OPTIONS");
    l.caller().sends_text(options);
    l.caller().gets(200);
    l.all_is_over();
}

#[test]
fn guesses_end_with_403() {
    let mut l = Ladder::having(&[TRUNK]);
    invites(&mut l, 100, "");
    let mut refusal = l.caller().gets(401);
    for n in 0..3 {
        let proof = authorization(&refusal, "guess", "sip:x");
        invites(&mut l, 101 + n, &proof);
        refusal = l.caller().gets(401);
    }
    let proof = authorization(&refusal, "guess", "sip:x");
    invites(&mut l, 110, &proof);
    l.caller().gets(403);
    assert_eq!(l.counts().calls, 0);
    l.all_is_over();
}
