//! re-INVITE and UPDATE from either side: asked of the other one, or answered here.

use std::time::Duration;

use backchannel::call::anchor::MediaOrder;
use backchannel::ids::Side;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use backchannel::wire::sdp::Sdp;

use crate::dsl::End;
use crate::dsl::Ladder;
use crate::dsl::Notify;
use crate::dsl::US;
use crate::dsl::offer;

const SDP: &str = "application/sdp";
const ALLOW: &str = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE\r\n";

fn body(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

fn port(message: &Message) -> u16 {
    Sdp::parse(message.body()).unwrap().rtp().unwrap().port()
}

/// The version in `o=`.
fn version(message: &Message) -> u64 {
    body(message).lines().find_map(|l| l.strip_prefix("o=")?.split(' ').nth(2)?.parse().ok()).unwrap()
}

fn ip(side: Side) -> &'static str {
    if side == Side::Caller { "198.51.100.1" } else { "203.0.113.2" }
}

fn at(l: &mut Ladder, side: Side) -> End<'_> {
    if side == Side::Caller { l.caller() } else { l.callee() }
}

fn aims(l: &Ladder, side: Side) -> Vec<Option<u16>> {
    let of = |o: &MediaOrder| match o {
        MediaOrder::Aim { peer } => Some(peer.map(|p| p.rtp.port())),
        _ => None,
    };
    l.orders.iter().filter(|(s, _)| *s == side).filter_map(|(_, o)| of(o)).collect()
}

fn end(l: &mut Ladder) {
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

/// Both sides say that they take UPDATE.
fn updating() -> Ladder {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("X-InContact-MasterId: 48812\r\n{ALLOW}"));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(200, "calleetag", ALLOW, &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    l
}

#[test]
fn hold_and_resume_cross_from_either_side_and_no_port_moves() {
    for (method, mut l) in [("INVITE", Ladder::answered()), ("UPDATE", updating())] {
        for side in [Side::Caller, Side::Callee] {
            let (ours, theirs) = (port(&l.described(side)), port(&l.described(!side)));
            let mut last = 0;
            for (asked, answer) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv"), ("inactive", "inactive"), ("sendrecv", "sendrecv")]
            {
                at(&mut l, side).sends_body(method, "X-Mood: calm\r\n", SDP, &format!("{}a={asked}\r\n", offer(ip(side), 21_000)));
                if method == "INVITE" {
                    at(&mut l, side).gets(100);
                }
                let request = at(&mut l, !side).gets(method);
                assert!(body(&request).contains(&format!("a={asked}")), "{}", body(&request));
                assert_eq!(port(&request), theirs, "product.md §2: a leg's port never changes in a call");
                assert!(version(&request) > last, "RFC 3264 §8: \"the version in the origin field MUST increment by one\"");
                last = version(&request);
                if side == Side::Callee {
                    assert_eq!(request.named("X-Mood").next(), Some(&b"calm"[..]));
                }
                // RFC 3261 §14.1, RFC 3311 §5.1: a target refresh request has a Contact, and so has its 2xx.
                assert!(request.contact().is_some());
                let sdp = format!("{}a={answer}\r\n", offer(ip(!side), 31_000));
                at(&mut l, !side).answers_request(method, 200, "", &sdp);
                if method == "INVITE" {
                    assert!(at(&mut l, !side).gets("ACK").body().is_empty());
                }
                let ok = at(&mut l, side).gets(200);
                assert!(body(&ok).contains(&format!("a={answer}")) && ok.contact().is_some(), "{}", body(&ok));
                assert_eq!(port(&ok), ours);
                if method == "INVITE" {
                    at(&mut l, side).acks();
                }
            }
            assert_eq!(aims(&l, side).last(), Some(&Some(21_000)));
            assert_eq!(aims(&l, !side).last(), Some(&Some(31_000)));
        }
        l.nothing_happens(Duration::from_secs(40));
        end(&mut l);
    }
}

#[test]
fn the_old_hold_stops_our_packets_and_resume_brings_them_back() {
    // RFC 3264 §8.4: hold as RFC 2543 had it, with the connection address 0.0.0.0.
    let mut l = Ladder::answered();
    for (sdp, answer, aim) in [
        (offer(ip(Side::Caller), 20_000).replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0"), "a=inactive", None),
        (offer(ip(Side::Caller), 20_000), "a=sendrecv", Some(20_000)),
    ] {
        l.caller().sends_body("INVITE", "", SDP, &sdp);
        l.caller().gets(100);
        let request = l.callee().gets("INVITE");
        assert!(body(&request).contains(US) && !body(&request).contains("0.0.0.0"), "{}", body(&request));
        l.callee().answers_request("INVITE", 200, "", &format!("{}{answer}\r\n", offer(ip(Side::Callee), 30_000)));
        l.callee().gets("ACK");
        assert!(body(&l.caller().gets(200)).contains(answer));
        l.caller().acks();
        assert_eq!(aims(&l, Side::Caller).last(), Some(&aim));
    }
    end(&mut l);
}

#[test]
fn a_refused_change_leaves_media_session_and_target_as_they_were() {
    for status in [488, 491, 503, 606] {
        let mut l = Ladder::answered();
        let before = (aims(&l, Side::Caller), aims(&l, Side::Callee));
        l.caller().contact("<sip:moved@198.51.100.1:5070>");
        l.caller().sends_body("INVITE", "", SDP, &format!("{}a=sendonly\r\n", offer(ip(Side::Caller), 22_000)));
        l.caller().gets(100);
        let refused = version(&l.callee().gets("INVITE"));
        l.callee().answers_to("INVITE", status);
        l.callee().gets("ACK");
        // RFC 3261 §14.1: "If a UA receives a non-2xx final response to a re-INVITE, the session parameters MUST remain unchanged, as
        // if no re-INVITE had been issued." A 503 would speak of this whole box.
        l.caller().gets(if status == 503 { 500 } else { status });
        l.caller().acks_refusal();
        assert_eq!((aims(&l, Side::Caller), aims(&l, Side::Callee)), before);
        // RFC 3264 §8: one above what was last agreed.
        l.callee().sends("INVITE");
        l.callee().gets(100);
        let request = l.caller().gets("INVITE");
        assert_eq!(request.uri(), b"sip:trunk@198.51.100.1:5060", "a refused re-INVITE refreshes no target");
        l.caller().answers_request("INVITE", 488, "", "");
        l.caller().gets("ACK");
        l.callee().gets(488);
        l.callee().acks_refusal();
        l.caller().sends_body("INVITE", "", SDP, &format!("{}a=inactive\r\n", offer(ip(Side::Caller), 22_000)));
        l.caller().gets(100);
        assert_eq!(version(&l.callee().gets("INVITE")), refused);
        l.callee().answers_to("INVITE", 488);
        l.callee().gets("ACK");
        l.caller().gets(488);
        l.caller().acks_refusal();
        end(&mut l);
    }
}

#[test]
fn a_change_without_a_codec_of_ours_gets_488_and_the_other_side_hears_nothing() {
    let mut l = Ladder::answered();
    let strange = offer("198.51.100.1", 20_000).replace("RTP/AVP 0 8 101", "RTP/AVP 18");
    l.caller().sends_body("INVITE", "", SDP, &strange);
    l.caller().gets(100);
    // RFC 3261 §14.2: a new description that is not acceptable is rejected with 488.
    l.caller().gets(488);
    l.caller().acks_refusal();
    end(&mut l);
}

#[test]
fn an_offer_that_is_late_crosses_and_the_other_ack_waits_for_its_answer() {
    for side in [Side::Caller, Side::Callee] {
        let mut l = Ladder::answered();
        at(&mut l, side).sends("INVITE");
        at(&mut l, side).gets(100);
        assert!(at(&mut l, !side).gets("INVITE").body().is_empty());
        let before = aims(&l, !side);
        at(&mut l, !side).answers_request("INVITE", 200, "", &offer(ip(!side), 31_000));
        // RFC 3261 §14.2: "the UAS […] SHOULD include an offer".
        assert!(body(&at(&mut l, side).gets(200)).contains(US));
        assert_eq!(aims(&l, !side), before, "nothing is agreed yet");
        // A repetition of the 2xx waits, too.
        at(&mut l, !side).repeats();
        at(&mut l, side).acks_with(&offer(ip(side), 21_000));
        let ack = at(&mut l, !side).gets("ACK");
        assert!(body(&ack).contains(US));
        assert_eq!((aims(&l, side).last(), aims(&l, !side).last()), (Some(&Some(21_000)), Some(&Some(31_000))));
        // RFC 3261 §13.2.2.4: each repetition of the 2xx has its ACK again.
        at(&mut l, !side).repeats_sent(200);
        assert_eq!(at(&mut l, !side).gets("ACK").raw(), ack.raw());
        end(&mut l);
    }
}

#[test]
fn an_ack_without_the_answer_keeps_the_session_as_it_was() {
    let mut l = Ladder::answered();
    let before = aims(&l, Side::Callee);
    l.caller().sends("INVITE");
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_request("INVITE", 200, "", &offer(ip(Side::Callee), 31_000));
    l.caller().gets(200);
    l.caller().acks();
    assert!(body(&l.callee().gets("ACK")).contains(US), "RFC 3261 §13.2.2.4: an offer in the 2xx is answered in the ACK");
    assert_eq!(aims(&l, Side::Callee), before);
    assert_eq!(l.reported("call.warning").len(), 1);
    end(&mut l);
}

#[test]
fn both_targets_are_refreshed_by_a_change_that_is_taken() {
    let mut l = Ladder::answered();
    l.caller().contact("<sip:moved@198.51.100.1:5070?X-Other=1>");
    l.callee().contact("<sip:newbot@203.0.113.2:5090>");
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_request("INVITE", 200, "", &offer("203.0.113.2", 30_000));
    l.callee().moves("203.0.113.2:5090");
    // RFC 3261 §12.2.1.2: the Contact of the 2xx is the remote target of its ACK already.
    assert_eq!(l.callee().gets("ACK").uri(), b"sip:newbot@203.0.113.2:5090");
    l.caller().gets(200);
    l.caller().acks();
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().moves("198.51.100.1:5070");
    // RFC 3261 §19.1.1, table 1: no headers in a Request-URI.
    assert_eq!(l.caller().gets("BYE").uri(), b"sip:moved@198.51.100.1:5070");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn an_update_becomes_a_reinvite_where_update_is_not_allowed() {
    // RFC 3311 §4: Allow says who can receive an UPDATE.
    let mut l = Ladder::answered();
    l.caller().sends_body("UPDATE", "", SDP, &format!("{}a=sendonly\r\n", offer("198.51.100.1", 20_000)));
    l.callee().gets("INVITE");
    l.callee().answers_request("INVITE", 200, "", &format!("{}a=recvonly\r\n", offer("203.0.113.2", 30_000)));
    l.callee().gets("ACK");
    assert!(body(&l.caller().gets(200)).contains("a=recvonly"));
    // Without a description there is nothing to ask.
    l.caller().sends("UPDATE");
    assert!(l.caller().gets(200).body().is_empty());
    l.callee().sends("UPDATE");
    assert!(l.callee().gets(200).body().is_empty());
    // Its sender can not wait for long.
    l.caller().sends_body("UPDATE", "", SDP, &offer("198.51.100.1", 20_000));
    l.callee().gets("INVITE");
    l.callee().answers_to("INVITE", 100);
    l.callee().gets("CANCEL");
    assert!(l.now() < Duration::from_secs(32), "RFC 3261 §17.1.2: timer F");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers_to("INVITE", 487);
    l.callee().gets("ACK");
    l.caller().gets(500);
    end(&mut l);
}

#[test]
fn an_update_without_a_description_crosses_where_update_is_allowed() {
    let mut l = updating();
    for side in [Side::Caller, Side::Callee] {
        at(&mut l, side).sends_with("UPDATE", "P-Asserted-Identity: <sip:+12065550100@example.com>\r\n");
        let update = at(&mut l, !side).gets("UPDATE");
        assert!(update.body().is_empty());
        at(&mut l, !side).answers_to("UPDATE", 200);
        let ok = at(&mut l, side).gets(200);
        assert!(ok.body().is_empty() && ok.contact().is_some());
    }
    end(&mut l);
}

#[test]
fn a_change_that_meets_ours_gets_491_and_a_second_one_500() {
    let mut l = Ladder::answered();
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    let first = l.caller().sent_request("INVITE");
    l.caller().gets(100);
    l.callee().gets("INVITE");
    // RFC 3261 §14.2: "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in progress MUST return a
    // 491 (Request Pending) response".
    l.callee().sends_body("INVITE", "", SDP, &offer("203.0.113.2", 30_000));
    l.callee().gets(100);
    l.callee().gets(491);
    l.callee().acks_refusal();
    l.callee().sends_body("UPDATE", "", SDP, &offer("203.0.113.2", 30_000));
    l.callee().gets(491);
    // RFC 3311 §5.2: no offer, no collision.
    l.callee().sends("UPDATE");
    l.callee().gets(200);
    // RFC 3261 §14.2: "a UAS that receives a second INVITE before it sends the final response to a first INVITE […] MUST return a 500
    // […] and MUST include a Retry-After header field with a randomly chosen value of between 0 and 10 seconds".
    for method in ["INVITE", "UPDATE"] {
        l.caller().sends_body(method, "", SDP, &offer("198.51.100.1", 20_000));
        if method == "INVITE" {
            l.caller().gets(100);
        }
        let busy = l.caller().gets(500);
        let seconds: u32 = String::from_utf8_lossy(busy.value(Name::RetryAfter).unwrap()).parse().unwrap();
        assert!(seconds <= 10);
        if method == "INVITE" {
            l.caller().acks_refusal();
        }
    }
    l.callee().answers_to("INVITE", 491);
    l.callee().gets("ACK");
    l.caller().gets(491);
    l.caller().acks_refusal_of(&first);
    end(&mut l);
}

#[test]
fn a_change_before_the_other_sides_ack_gets_491() {
    // RFC 3261 §14.1: "If there is an ongoing INVITE server transaction, the TU MUST wait until the transaction reaches the confirmed or
    // terminated state before initiating the new INVITE."
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.callee().sends_body("INVITE", "", SDP, &offer("203.0.113.2", 30_000));
    l.callee().gets(100);
    l.callee().gets(491);
    l.callee().acks_refusal();
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_bye_during_a_change_ends_both_legs_cleanly() {
    for hangs_up in [Side::Caller, Side::Callee] {
        for rings in [false, true] {
            let mut l = Ladder::answered();
            l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
            let invite = l.caller().sent_request("INVITE");
            l.caller().gets(100);
            l.callee().gets("INVITE");
            if rings {
                l.callee().answers_to("INVITE", 100);
            }
            at(&mut l, hangs_up).sends("BYE");
            if hangs_up == Side::Callee {
                l.callee().gets(200);
            }
            if rings {
                l.callee().gets("CANCEL");
                l.callee().answers_to("CANCEL", 200);
            }
            // RFC 3261 §15.1.2: "The UAS MUST still respond to any pending requests received for that dialog. It is RECOMMENDED that a
            // 487 (Request Terminated) response be generated".
            if hangs_up == Side::Caller {
                l.caller().gets(200);
            }
            l.caller().gets(487);
            l.caller().acks_refusal_of(&invite);
            match hangs_up {
                Side::Caller => {
                    l.callee().gets("BYE");
                    l.callee().answers_to("BYE", 200);
                }
                Side::Callee => {
                    l.caller().gets("BYE");
                    l.caller().answers_to("BYE", 200);
                }
            }
            l.callee().answers_to("INVITE", 487);
            l.callee().gets("ACK");
            l.all_is_over();
        }
    }
}

#[test]
fn a_2xx_that_crosses_the_end_of_the_call_is_acknowledged_and_gets_no_second_bye() {
    let mut l = Ladder::answered();
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    let invite = l.caller().sent_request("INVITE");
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal_of(&invite);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    assert_eq!(l.counts().calls, 0);
    l.callee().answers_request("INVITE", 200, "", &offer("203.0.113.2", 30_000));
    // RFC 3261 §13.2.2.4: "The UAC core MUST generate an ACK request for each 2xx received".
    let ack = l.callee().gets("ACK");
    assert_eq!(ack.cseq().unwrap().number, l.callee().request("INVITE").cseq().unwrap().number);
    l.all_is_over();
}

#[test]
fn a_cancel_of_a_change_crosses_and_a_2xx_that_was_faster_stands() {
    for late in [false, true] {
        let mut l = Ladder::answered();
        l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
        l.caller().gets(100);
        l.callee().gets("INVITE");
        l.callee().answers_to("INVITE", 100);
        l.caller().cancels_last();
        l.caller().gets(200);
        // RFC 3261 §9.1: a provisional response has come, so the CANCEL may leave.
        l.callee().gets("CANCEL");
        l.callee().answers_to("CANCEL", 200);
        if late {
            l.callee().answers_request("INVITE", 200, "", &offer("203.0.113.2", 30_000));
            l.callee().gets("ACK");
            l.caller().gets(200);
            l.caller().acks();
        } else {
            l.callee().answers_to("INVITE", 487);
            l.callee().gets("ACK");
            l.caller().gets(487);
            l.caller().acks_refusal();
        }
        l.nothing_happens(Duration::from_secs(40));
        end(&mut l);
    }
}

#[test]
fn a_side_that_does_not_answer_a_change_is_gone() {
    // RFC 3261 §12.2.1.2: "If the response for a request within a dialog is a 481 […] or a 408 […], the UAC SHOULD terminate the dialog.
    // A UAC SHOULD also terminate a dialog if no response at all is received for the request".
    for status in [Some(481), Some(408), None] {
        let mut l = Ladder::answered();
        l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
        let invite = l.caller().sent_request("INVITE");
        l.caller().gets(100);
        l.callee().gets("INVITE");
        match status {
            Some(status) => {
                l.callee().answers_to("INVITE", status);
                l.callee().gets("ACK");
            }
            None => {
                l.after(Duration::from_millis(32_100));
                while l.take_if("203.0.113.2:5080", "INVITE") {}
            }
        }
        l.caller().gets(487);
        l.caller().acks_refusal_of(&invite);
        // RFC 5057 §5.1: a 481 has ended the dialog already.
        if status != Some(481) {
            l.callee().gets("BYE");
            l.callee().answers_to("BYE", 200);
        }
        l.caller().gets("BYE");
        l.caller().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn the_200_to_a_reinvite_is_repeated_until_its_ack_and_then_the_leg_is_ended() {
    let mut l = Ladder::answered();
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_request("INVITE", 200, "", &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    for _ in 0..11 {
        l.caller().gets(200);
    }
    // RFC 3261 §14.2, §13.3.1.4: no ACK for 64*T1.
    l.caller().gets("BYE");
    l.callee().gets("BYE");
    l.caller().answers_to("BYE", 200);
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_change_that_is_pending_when_the_callers_leg_is_held_gets_488() {
    // product.md §4: "we answer its re-INVITE and UPDATE ourselves […]; a re-INVITE that was pending gets 488".
    let mut l = Ladder::answered();
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 20_000));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.caller().gets(488);
    l.caller().acks_refusal();
    l.callee().answers_to("INVITE", 487);
    l.callee().gets("ACK");
    l.cxone().gets_signal();
    for (asked, answered) in [("a=sendonly", "a=recvonly"), ("a=sendrecv", "a=sendrecv")] {
        l.caller().sends_body("INVITE", "", SDP, &format!("{}{asked}\r\n", offer("198.51.100.1", 20_000)));
        l.caller().gets(100);
        assert!(body(&l.caller().gets(200)).contains(answered));
        l.caller().acks();
    }
    l.cxone().accepts();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.all_is_over();
}

#[test]
fn a_change_of_the_bots_that_is_pending_when_it_leaves_is_taken_back_and_the_caller_stays() {
    let mut l = Ladder::answered();
    l.callee().sends_body("INVITE", "", SDP, &offer("203.0.113.2", 30_000));
    let invite = l.callee().sent_request("INVITE");
    l.callee().gets(100);
    l.caller().gets("INVITE");
    l.caller().answers_to("INVITE", 100);
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.callee().gets(488);
    l.callee().acks_refusal_of(&invite);
    l.caller().gets("CANCEL");
    l.caller().answers_to("CANCEL", 200);
    // It was faster: acknowledged, and no BYE follows.
    l.caller().answers_request("INVITE", 200, "", &offer("198.51.100.1", 20_000));
    l.caller().gets("ACK");
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.all_is_over();
}

#[test]
fn while_an_escalation_is_under_way_changes_are_answered_here() {
    let mut l = Ladder::answered();
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    l.callee().gets(Notify("100 Trying"));
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.caller().sends_body("INVITE", "", SDP, &format!("{}a=sendonly\r\n", offer("198.51.100.1", 20_000)));
    l.caller().gets(100);
    assert!(body(&l.caller().gets(200)).contains("a=recvonly"));
    l.caller().acks();
    // Packets cross unchanged: another codec than the one in use can not be promised without the bot.
    let only_pcma = offer("198.51.100.1", 20_000).replace("RTP/AVP 0 8 101", "RTP/AVP 8 101");
    l.caller().sends_body("INVITE", "", SDP, &only_pcma);
    l.caller().gets(100);
    l.caller().gets(488);
    l.caller().acks_refusal();
    l.callee().sends("INVITE");
    l.callee().gets(100);
    assert!(body(&l.callee().gets(200)).contains(US));
    l.callee().acks_with(&offer("203.0.113.2", 31_000));
    assert_eq!(aims(&l, Side::Callee).last(), Some(&Some(31_000)));
    l.cxone().accepts();
    l.callee().gets(Notify("200 OK"));
    l.callee().answers_to("NOTIFY", 200);
    end(&mut l);
}

#[test]
fn a_2xx_without_a_description_is_acknowledged_and_the_session_stays() {
    let mut l = Ladder::answered();
    let before = aims(&l, Side::Caller);
    l.caller().sends_body("INVITE", "", SDP, &offer("198.51.100.1", 22_000));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_request("INVITE", 200, "", "");
    assert!(l.callee().gets("ACK").body().is_empty());
    l.caller().gets(500);
    l.caller().acks_refusal();
    assert_eq!(aims(&l, Side::Caller), before);
    end(&mut l);
}
