//! Digest towards Synthflow: what is challenged goes out once more (RFC 3261 §22).

use backchannel::call::escalation::SignalAnswer;
use backchannel::wire::auth::Algorithm;
use backchannel::wire::auth::Credentials;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::Notify;
use crate::dsl::offer;

const USER: (&str, &str) = ("[synthflow]", "username = \"bc\"\npassword = \"s3cret\"");

fn challenge(nonce: &str, more: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"synthflow\", nonce=\"{nonce}\", qop=\"auth\"{more}\r\n")
}

/// The credentials of a request, which prove the password for exactly this request.
fn proof(request: &Message, header: Name) -> (String, u32) {
    let value = request.value(header).unwrap_or_else(|| panic!("no credentials in {}", String::from_utf8_lossy(request.raw())));
    let read = Credentials::parse(value).unwrap();
    assert!(read.proves(b"s3cret", request.method().as_bytes(), &request.body()), "{}", String::from_utf8_lossy(value));
    assert_eq!(*read.uri, *request.uri());
    assert_eq!(*read.username, *b"bc");
    (String::from_utf8_lossy(&read.nonce).into_owned(), read.count().unwrap())
}

fn cseq(message: &Message) -> u32 {
    message.cseq().unwrap().number
}

fn warnings(l: &Ladder) -> Vec<String> {
    l.reported("call.warning").iter().map(|e| format!("{:?}", e.fact)).collect()
}

/// A call that was challenged on its INVITE, and answered.
fn challenged() -> (Ladder, Message) {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(401, "no", &challenge("n1", ""), "");
    l.callee().gets("ACK");
    let again = l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    (l, again)
}

#[test]
fn a_challenged_invite_goes_out_again_with_the_strongest_algorithm_and_the_call_goes_on() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    let first = l.callee().gets("INVITE");
    assert_eq!(first.value(Name::Authorization), None);
    let both = format!("{}{}", challenge("md5", ", algorithm=MD5"), challenge("sha", ", algorithm=SHA-256, opaque=\"o\\\"x\""));
    l.callee().answers_with(401, "no", &both, "");
    // The ACK to the 401 goes first.
    assert_eq!(cseq(&l.callee().gets("ACK")), cseq(&first));
    let again = l.callee().gets("INVITE");
    // RFC 3261 §8.1.3.5: "this new request […] SHOULD have the same value of the Call-ID, To, and From of the previous request, but the
    // CSeq should contain a new sequence number that is one higher than the previous."
    for name in [Name::CallId, Name::To, Name::From, Name::Contact] {
        assert_eq!(again.value(name), first.value(name));
    }
    assert_eq!(cseq(&again), cseq(&first) + 1);
    assert_ne!(again.via().unwrap().branch(), first.via().unwrap().branch());
    assert_eq!(again.body(), first.body());
    assert_eq!(proof(&again, Name::Authorization), ("sha".into(), 1));
    let line = again.value(Name::Authorization).unwrap();
    assert_eq!(Credentials::parse(line).unwrap().algorithm, Algorithm::SHA_256);
    assert!(line.ends_with(b"opaque=\"o\\\"x\""), "§22.4: the opaque goes back as it came");

    l.callee().answers(180);
    l.caller().gets(180);
    l.callee().answers(200);
    let ack = l.callee().gets("ACK");
    // §13.2.2.4: "The sequence number of the CSeq header field MUST be the same as the INVITE being acknowledged, but the CSeq method MUST
    // be ACK. The ACK MUST contain the same credentials as the INVITE."
    assert_eq!(cseq(&ack), cseq(&again));
    assert_eq!(ack.value(Name::Authorization), Some(line));
    assert!(l.caller().gets(200).value(Name::WwwAuthenticate).is_none());
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    let bye = l.callee().gets("BYE");
    // §22.3 and RFC 7616 §3.4: the nonce is used again, and nc counts.
    assert_eq!((cseq(&bye), proof(&bye, Name::Authorization)), (cseq(&again) + 1, ("sha".into(), 2)));
    l.callee().answers_to("BYE", 200);
    assert_eq!(warnings(&l), Vec::<String>::new());
    l.all_is_over();
}

#[test]
fn a_wrong_password_is_tried_once_and_the_caller_hears_403() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    for (nonce, tag) in [("n1", "a"), ("n2", "b")] {
        l.callee().answers_with(401, tag, &challenge(nonce, ""), "");
        l.callee().gets("ACK");
        if tag == "a" {
            l.callee().gets("INVITE");
        }
    }
    l.caller().gets(403);
    l.caller().acks_refusal();
    let said = warnings(&l).concat();
    assert!(said.contains("digest failed: realm \\\"synthflow\\\" refuses synthflow.username"), "{said}");
    assert!(!said.contains("s3cret"));
    l.all_is_over();
}

#[test]
fn a_stale_nonce_is_no_failure_but_not_for_ever() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    let first = cseq(&l.callee().gets("INVITE"));
    for n in 0..5 {
        // RFC 7616 §3.3: "If stale is true, the client may wish to simply retry the request with a new encrypted response, without
        // re-prompting the user for a new username and password."
        let stale = if n > 0 { ", stale=true" } else { "" };
        l.callee().answers_with(401, &format!("t{n}"), &challenge(&format!("n{n}"), stale), "");
        l.callee().gets("ACK");
        if n < 4 {
            let again = l.callee().gets("INVITE");
            assert_eq!((cseq(&again), proof(&again, Name::Authorization)), (first + n + 1, (format!("n{n}"), 1)));
        }
    }
    l.caller().gets(403);
    l.caller().acks_refusal();
    assert!(warnings(&l).concat().contains("calls every nonce stale"));
    l.all_is_over();
}

#[test]
fn stale_with_the_same_nonce_is_a_failure() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(401, "a", &challenge("n", ""), "");
    l.callee().gets("ACK");
    l.callee().gets("INVITE");
    l.callee().answers_with(401, "b", &challenge("n", ", stale=true"), "");
    l.callee().gets("ACK");
    l.caller().gets(403);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_proxy_and_the_far_end_may_both_ask() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    let proxy = "Proxy-Authenticate: Digest realm=\"edge\", nonce=\"p\", qop=\"auth\"\r\n";
    l.callee().answers_with(407, "a", proxy, "");
    l.callee().gets("ACK");
    let second = l.callee().gets("INVITE");
    assert_eq!(proof(&second, Name::ProxyAuthorization), ("p".into(), 1));
    l.callee().answers_with(401, "b", &challenge("n", ""), "");
    l.callee().gets("ACK");
    let third = l.callee().gets("INVITE");
    assert_eq!(proof(&third, Name::ProxyAuthorization), ("p".into(), 2));
    assert_eq!(proof(&third, Name::Authorization), ("n".into(), 1));
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn requests_in_the_dialog_are_sent_again_and_their_numbers_follow() {
    let (mut l, invite) = challenged();
    // The nonce of the INVITE has gone stale by now.
    l.caller().sends_body("INFO", "", "application/dtmf-relay", "Signal=1");
    let info = l.callee().gets("INFO");
    assert_eq!((cseq(&info), proof(&info, Name::Authorization)), (cseq(&invite) + 1, ("n1".into(), 2)));
    let to = String::from_utf8_lossy(info.value(Name::To).unwrap()).into_owned();
    assert!(to.contains("tag=calleetag"));
    l.callee().answers_with_headers("INFO", 401, &challenge("n2", ", stale=true"));
    let info = l.callee().gets("INFO");
    assert_eq!((cseq(&info), proof(&info, Name::Authorization)), (cseq(&invite) + 2, ("n2".into(), 1)));
    l.callee().answers_to("INFO", 200);
    l.caller().gets(200);

    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    let notify = l.callee().gets(Notify("100 Trying"));
    assert_eq!((cseq(&notify), proof(&notify, Name::Authorization)), (cseq(&invite) + 3, ("n2".into(), 2)));
    l.callee().answers_with_headers("NOTIFY", 401, &challenge("n3", ", stale=true"));
    let notify = l.callee().gets(Notify("100 Trying"));
    assert_eq!((cseq(&notify), proof(&notify, Name::Authorization)), (cseq(&invite) + 4, ("n3".into(), 1)));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.cxone().says(SignalAnswer::Refused { status: 400, retry_after: None, text: "no".into() });
    let last = l.callee().gets("NOTIFY");
    assert_eq!(cseq(&last), cseq(&invite) + 5);
    l.callee().answers_to("NOTIFY", 200);

    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_with_headers("BYE", 401, &challenge("n4", ", stale=true"));
    let bye = l.callee().gets("BYE");
    assert_eq!((cseq(&bye), proof(&bye, Name::Authorization)), (cseq(&invite) + 7, ("n4".into(), 1)));
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_refused_bye_ends_the_leg_all_the_same() {
    let (mut l, _) = challenged();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_with_headers("BYE", 401, &challenge("n2", ""));
    l.callee().gets("BYE");
    l.callee().answers_with_headers("BYE", 401, &challenge("n3", ""));
    l.all_is_over();
}

#[test]
fn without_a_user_or_for_another_realm_nothing_is_proved() {
    for additions in [&[][..], &[("[synthflow]", "username = \"bc\"\npassword = \"s3cret\"\nrealm = \"other\"")]] {
        let mut l = Ladder::having(additions);
        l.caller().invites();
        l.caller().gets(100);
        l.callee().gets("INVITE");
        l.callee().answers_with(401, "no", &challenge("n1", ""), "");
        l.callee().gets("ACK");
        l.caller().gets(403);
        l.caller().acks_refusal();
        l.all_is_over();
    }
}

#[test]
fn a_contact_that_is_no_target_of_ours_gets_no_proof() {
    let mut l = Ladder::having(&[USER, ("[synthflow]", "allow = [\"203.0.113.99\"]")]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().contact("<sip:bot@203.0.113.99:5080>");
    l.callee().answers(200);
    l.callee().moves("203.0.113.99:5080");
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_with_headers("BYE", 401, &challenge("n", ""));
    assert!(warnings(&l).concat().contains("not from a target of ours"));
    l.all_is_over();
}

#[test]
fn a_caller_who_gives_up_between_two_tries_cancels_the_second() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(401, "no", &challenge("n1", ""), "");
    l.callee().gets("ACK");
    let again = l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.caller().cancels();
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal();
    let cancel = l.callee().gets("CANCEL");
    assert_eq!(cseq(&cancel), cseq(&again));
    // RFC 3261 §22.1: a CANCEL is not challenged, and has no credentials.
    assert_eq!(cancel.value(Name::Authorization), None);
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn a_repeated_401_is_acknowledged_again_and_asks_for_nothing_more() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(401, "no", &challenge("n1", ""), "");
    l.callee().gets("ACK");
    l.callee().gets("INVITE");
    l.callee().repeats();
    l.callee().gets("ACK");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

/// RFC 3261 §13.2.2.4: the ACK has the number of the re-INVITE that was accepted, not of the one that was challenged.
#[test]
fn a_challenged_reinvite_goes_out_again_and_its_ack_has_the_new_number() {
    let (mut l, _) = challenged();
    let sdp = offer("198.51.100.1", 20_000);
    l.caller().sends_body("INVITE", "", "application/sdp", &sdp);
    l.caller().gets(100);
    let first = l.callee().gets("INVITE");
    l.callee().answers_with_headers("INVITE", 401, &challenge("n2", ", stale=true"));
    l.callee().gets("ACK");
    let again = l.callee().gets("INVITE");
    assert_eq!((cseq(&again), proof(&again, Name::Authorization)), (cseq(&first) + 1, ("n2".into(), 1)));
    l.callee().answers(200);
    let ack = l.callee().gets("ACK");
    assert_eq!(cseq(&ack), cseq(&again));
    l.caller().gets(200);
    l.caller().acks();
}

/// RFC 3262 §7.2: RAck names the number of the INVITE, whatever number the PRACK that was challenged went on to.
#[test]
fn a_challenged_prack_goes_out_again_and_the_next_one_still_names_the_invite() {
    let mut l = Ladder::having(&[USER]);
    l.caller().invites();
    l.caller().gets(100);
    let number = cseq(&l.callee().gets("INVITE"));
    let mut last = number;
    for rseq in [7, 8] {
        l.callee().answers_with(180, "calleetag", &format!("Require: 100rel\r\nRSeq: {rseq}\r\n"), "");
        let first = l.callee().gets("PRACK");
        assert_eq!(cseq(&first), last + 1);
        l.callee().answers_with_headers("PRACK", 401, &challenge(&format!("n{rseq}"), ", stale=true"));
        let again = l.callee().gets("PRACK");
        assert_eq!(cseq(&again), last + 2);
        assert_eq!(again.value(Name::RAck), Some(format!("{rseq} {number} INVITE").as_bytes()));
        l.callee().answers_to("PRACK", 200);
        l.caller().gets(180);
        last += 2;
    }
    l.callee().answers(200);
    assert_eq!(cseq(&l.callee().gets("ACK")), number);
    l.caller().gets(200);
    l.caller().acks();
}
