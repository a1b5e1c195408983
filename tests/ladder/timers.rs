//! Session timers (RFC 4028): each leg has its own.

use std::time::Duration;

use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::offer;

const SDP: &str = "application/sdp";

fn header(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned()
}

fn end(l: &mut Ladder) {
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

/// CXone's INVITE with these lines, Synthflow's 200 with those; and the 200 that CXone got.
fn answered(caller: &str, callee: &str) -> (Ladder, Message) {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("X-InContact-MasterId: 48812\r\n{caller}"));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(200, "calleetag", callee, &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    let ok = l.caller().gets(200);
    l.caller().acks();
    (l, ok)
}

#[test]
fn synthflow_is_asked_for_a_timer_and_cxone_is_answered() {
    let mut l = Ladder::having(&[("[sip]", "session_expires = \"10m\"\nmin_se = \"2m\"")]);
    l.caller().invites();
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert_eq!((header(&invite, Name::SessionExpires), header(&invite, Name::MinSe)), ("600".into(), "120".into()));
    assert!(invite.lists(Name::Supported, "timer"));
    l.callee().answers(200);
    l.callee().gets("ACK");
    assert!(l.caller().gets(200).value(Name::SessionExpires).is_none(), "CXone did not ask");
    l.caller().acks();
    l.nothing_happens(Duration::from_secs(600));
    end(&mut l);

    let mut l = Ladder::having(&[("[sip]", "session_expires = \"off\"")]);
    l.caller().invites_with("X-InContact-MasterId: 1\r\nSupported: timer\r\nSession-Expires: 1800\r\n");
    l.caller().gets(100);
    let invite = l.callee().gets("INVITE");
    assert!(invite.value(Name::SessionExpires).is_none() && !invite.lists(Name::Supported, "timer"));
    l.callee().answers(200);
    l.callee().gets("ACK");
    assert!(l.caller().gets(200).value(Name::SessionExpires).is_none());
    l.caller().acks();
    end(&mut l);
}

#[test]
fn who_refreshes_is_as_table_2_says() {
    // RFC 4028 §9, table 2: UAC supports? refresher in the request → in the response.
    for (asked, answered_with, require) in [
        ("Session-Expires: 1800\r\n", "1800;refresher=uas", false),
        ("Supported: timer\r\nSession-Expires: 1800\r\n", "1800;refresher=uac", true),
        ("Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n", "1800;refresher=uac", true),
        ("Require: timer\r\nx: 1800;refresher=uas\r\n", "1800;refresher=uas", true),
    ] {
        let (mut l, ok) = answered(asked, "");
        assert_eq!(header(&ok, Name::SessionExpires), answered_with, "{asked}");
        // RFC 4028 §9: with refresher=uac the 2xx has Require: timer.
        assert_eq!(ok.lists(Name::Require, "timer"), require, "{asked}");
        end(&mut l);
    }
}

#[test]
fn too_small_an_interval_gets_422_with_what_would_do() {
    let mut l = Ladder::new();
    l.caller().invites_with("Supported: timer\r\nSession-Expires: 60\r\n");
    l.caller().gets(100);
    // RFC 4028 §9: "When sending the 422 response, the UAS MUST include a Min-SE header field with the value of its minimum interval."
    assert_eq!(header(&l.caller().gets(422), Name::MinSe), "90");
    l.caller().acks_refusal();
    l.all_is_over();

    let (mut l, _) = answered("", "");
    l.caller().sends_with("UPDATE", "Supported: timer\r\nSession-Expires: 30\r\n");
    assert_eq!(header(&l.caller().gets(422), Name::MinSe), "90");
    end(&mut l);
}

#[test]
fn a_422_of_synthflow_is_obeyed_with_the_next_cseq() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    let first = l.callee().gets("INVITE");
    l.callee().answers_with(422, "calleetag", "Min-SE: 3600\r\n", "");
    l.callee().gets("ACK");
    let second = l.callee().gets("INVITE");
    // RFC 4028 §7.3, RFC 3261 §8.1.3.5: the same Call-ID, To and From, the CSeq one higher.
    assert_eq!((first.call_id(), first.value(Name::From)), (second.call_id(), second.value(Name::From)));
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    assert_eq!((header(&second, Name::SessionExpires), header(&second, Name::MinSe)), ("3600".into(), "3600".into()));
    // One that asks for no more than it got is a plain refusal; CXone's own timer is another one.
    l.callee().answers_with(422, "calleetag", "Min-SE: 3600\r\n", "");
    l.callee().gets("ACK");
    l.caller().gets(500);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn synthflows_session_is_refreshed_at_half_time_by_reinvite_or_update() {
    for (allow, method) in [("", "INVITE"), ("Allow: INVITE, UPDATE\r\n", "UPDATE")] {
        let (mut l, _) = answered("", &format!("{allow}Require: timer\r\nSession-Expires: 200;refresher=uac\r\n"));
        let last = l.callee().request("INVITE").body();
        for round in 1..4 {
            // RFC 4028 §10: a refresh is recommended at half of the session interval.
            l.nothing_happens(Duration::from_secs(99));
            let request = l.callee().gets(method);
            assert_eq!(l.now(), Duration::from_secs(100 * round));
            assert_eq!(header(&request, Name::SessionExpires), "200;refresher=uac");
            // RFC 4028 §7.4: with re-INVITE the description is the last one, its version too.
            assert_eq!(request.body(), if method == "INVITE" { last.clone() } else { "".into() });
            let answer = if method == "INVITE" { offer("203.0.113.2", 30_000) } else { String::new() };
            l.callee().answers_request(method, 200, "Session-Expires: 200;refresher=uac\r\n", &answer);
            if method == "INVITE" {
                l.callee().gets("ACK");
            }
        }
        end(&mut l);
    }
}

#[test]
fn a_refresh_that_is_refused_is_tried_again_and_one_that_finds_nobody_ends_the_call() {
    let (mut l, _) = answered("", "Allow: UPDATE\r\nSession-Expires: 200;refresher=uac\r\n");
    l.nothing_happens(Duration::from_secs(99));
    l.callee().gets("UPDATE");
    l.callee().answers_to("UPDATE", 491);
    // RFC 3261 §14.1: "If the UAC is the owner of the Call-ID of the dialog ID, T has a randomly chosen value between 2.1 and 4 seconds".
    l.nothing_happens(Duration::from_millis(2_050));
    l.callee().gets("UPDATE");
    assert!(l.now() <= Duration::from_millis(104_100));
    l.callee().answers_to("UPDATE", 500);
    l.callee().gets("UPDATE");
    l.callee().answers_with_headers("UPDATE", 422, "Min-SE: 400\r\n");
    let request = l.callee().gets("UPDATE");
    assert_eq!(header(&request, Name::SessionExpires), "400;refresher=uac");
    l.callee().answers_to("UPDATE", 481);
    // RFC 4028 §10: a 481 or 408 to a refresh ends the session.
    l.caller().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_session_that_the_peer_does_not_refresh_is_ended_in_time() {
    // RFC 4028 §10: "it SHOULD send a BYE to terminate the session, slightly before the session expiration. The minimum of 32 seconds and
    // one third of the session interval is RECOMMENDED."
    for (interval, ends) in [(90, 60), (1_800, 1_768)] {
        let (mut l, _) = answered(&format!("Supported: timer\r\nSession-Expires: {interval};refresher=uac\r\n"), "");
        l.nothing_happens(Duration::from_millis(ends * 1_000 - 1));
        let bye = l.caller().gets("BYE");
        assert_eq!(l.now(), Duration::from_secs(ends));
        assert_eq!(header(&bye, Name::Reason), "SIP;cause=408;text=\"Session expired\"");
        l.callee().gets("BYE");
        l.caller().answers_to("BYE", 200);
        l.callee().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn a_refresh_of_the_peers_is_answered_here_and_starts_the_time_anew() {
    let (mut l, _) = answered("Supported: timer\r\nSession-Expires: 90\r\n", "Allow: UPDATE\r\n");
    for _ in 0..5 {
        l.nothing_happens(Duration::from_secs(45));
        l.caller().sends_with("UPDATE", "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n");
        assert_eq!(header(&l.caller().gets(200), Name::SessionExpires), "90;refresher=uac");
    }
    // RFC 4028 §9: a 2xx without Session-Expires ends the timer.
    l.caller().sends("UPDATE");
    l.callee().gets("UPDATE");
    l.callee().answers_to("UPDATE", 200);
    assert!(l.caller().gets(200).value(Name::SessionExpires).is_none());
    l.nothing_happens(Duration::from_secs(200));
    end(&mut l);
}

#[test]
fn a_change_meets_our_refresh_with_491() {
    let (mut l, _) = answered("", "Session-Expires: 200;refresher=uac\r\n");
    l.nothing_happens(Duration::from_secs(99));
    l.callee().gets("INVITE");
    for side_is_callee in [true, false] {
        let mut end = if side_is_callee { l.callee() } else { l.caller() };
        let ip = if side_is_callee { "203.0.113.2" } else { "198.51.100.1" };
        end.sends_body("INVITE", "", SDP, &offer(ip, 30_000));
        end.gets(100);
        // RFC 3261 §14.2.
        end.gets(491);
        end.acks_refusal();
    }
    l.callee().answers_request("INVITE", 200, "Session-Expires: 200;refresher=uac\r\n", &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    end(&mut l);
}

#[test]
fn the_callers_held_leg_gets_no_reinvite_and_its_timer_runs_on() {
    let mut l = Ladder::having(&[("[cxone]", "after_signal = \"5m\"")]);
    l.caller().invites_with("X-InContact-MasterId: 48812\r\nSupported: timer\r\nSession-Expires: 90;refresher=uas\r\n");
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    l.cxone().accepts();
    // product.md §4: "session timers run on; we never re-INVITE".
    l.nothing_happens(Duration::from_secs(59));
    assert!(header(&l.caller().gets("BYE"), Name::Reason).contains("Session expired"));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
