//! SIPp stories (`sip-scenarios/`) against the real binary over real sockets: one test for each folder. They prove wiring; what
//! the protocol does in every corner is shown by the ladders in virtual time.
//!
//! Each story has loopback addresses of its own, so that all can run at once: CXone, Backchannel and Synthflow each at port 5060.
//! `BACKCHANNEL_BIN` names the binary; without it the one that cargo built for the tests is taken.

#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;
mod node;
mod sipp;
mod story;

use std::time::Duration;

use sipp::Transport::Tcp;
use sipp::Transport::Udp;
use story::Api;
use story::Story;

#[test]
fn a_call_is_answered_and_ended_by_cxone() {
    let played = Story::new("ended-by-cxone").calls(5).play();
    played.each_call_ended(5, "cxone");
    assert_eq!(played.signals.len(), 0);
}

#[test]
fn a_call_is_answered_and_ended_by_synthflow() {
    let played = Story::new("ended-by-synthflow").calls(5).play();
    played.each_call_ended(5, "synthflow");
    assert_eq!(played.signals.len(), 0);
}

#[test]
fn a_busy_bot_is_busy_for_cxone_too() {
    let played = Story::new("busy").calls(5).play();
    assert_eq!(played.log.of("call.failed").len(), 5);
    assert!(played.log.of("call.failed").iter().all(|l| l["status"] == 486 && l["by"] == "synthflow"));
}

#[test]
fn a_caller_who_hangs_up_while_it_rings_cancels_both_legs() {
    let played = Story::new("cancel-while-ringing").calls(5).play();
    assert!(played.log.of("call.failed").iter().all(|l| l["status"] == 487 && l["by"] == "cxone"));
}

#[test]
fn an_answer_that_crosses_our_cancel_is_acknowledged_and_ended() {
    let played = Story::new("cancel-crosses-200").calls(5).play();
    assert_eq!(played.log.of("call.failed").len(), 5);
}

#[test]
fn a_cancel_that_comes_after_the_answer_has_no_effect() {
    Story::new("cancel-after-200").calls(5).play().each_call_ended(5, "cxone");
}

#[test]
fn a_bot_that_does_not_answer_is_cancelled_after_ring_timeout() {
    let played = Story::new("no-answer").calls(2).sip("ring_timeout = \"2s\"").play();
    assert!(played.log.of("call.failed").iter().all(|l| l["status"] == 480 && l["by"] == "backchannel"));
}

#[test]
fn x_headers_arrive_byte_for_byte_and_make_x_ei() {
    // Three things in this INVITE are worth a warning: X-CI is dropped silently, a name that is no variable is not.
    Story::new("x-headers-to-x-ei").calls(5).expects(&["call.warning"]).play().each_call_ended(5, "cxone");
}

#[test]
fn a_refer_signals_cxone_once_and_says_so() {
    let played = Story::new("refer-escalates").calls(3).play();
    played.each_call_signalled(3, "billing");
    assert_eq!(played.log.of("escalation.signalled").len(), 3);
}

#[test]
fn a_refer_while_the_api_is_down_leaves_the_caller_with_the_bot() {
    let down = ["escalation.failed", "cxone.token_failed", "cxone.discovery_failed"];
    let played = Story::new("refer-api-down").calls(2).api(Api::Down).expects(&down).play();
    assert_eq!(played.log.of("escalation.failed").len(), 2);
    played.each_call_ended(2, "cxone");
}

#[test]
fn an_escalating_bye_signals_before_cxones_leg_is_touched() {
    let played = Story::new("bye-escalates").calls(3).play();
    played.each_call_signalled(3, "billing");
}

#[test]
fn a_bye_that_asks_for_nobody_ends_the_call_without_a_signal() {
    let played = Story::new("bye-plain").calls(5).play();
    played.each_call_ended(5, "synthflow");
    assert_eq!(played.signals.len(), 0);
}

#[test]
fn a_lost_200_is_repeated_until_the_ack_comes() {
    // RFC 3261 §13.3.1.4: "... passed to the transport with an interval that starts at T1 seconds and doubles for each
    // retransmission until it reaches T2 seconds".
    let played = Story::new("lost-200").without_repetitions().calls(2).expects(&["call.no_ack"]).play();
    for call in played.caller.call_ids() {
        let answers = played.caller.received(&call).filter(|m| m.start.starts_with("SIP/2.0 200") && m.cseq_method() == "INVITE");
        assert_eq!(answers.count(), 3);
    }
    played.each_call_ended(2, "cxone");
}

#[test]
fn a_lost_ack_is_sent_again_for_each_repeated_200() {
    // RFC 3261 §13.2.2.4: "The UAC core MUST generate an ACK request for each 2xx received from the transaction layer."
    let played = Story::new("lost-ack").without_repetitions().calls(2).play();
    for call in played.callee.call_ids() {
        let acks: Vec<_> = played.callee.received(&call).filter(|m| m.start.starts_with("ACK ")).collect();
        assert_eq!(acks.len(), 2);
        assert_eq!(acks[0].text, acks[1].text);
    }
    played.each_call_ended(2, "cxone");
}

#[test]
fn an_invite_that_comes_twice_is_one_call() {
    let played = Story::new("repeated-invite").without_repetitions().calls(5).play();
    assert_eq!(played.log.of("call.offered").len(), 5);
    assert_eq!(played.callee.call_ids().len(), 5);
}

#[test]
fn both_legs_may_use_tcp() {
    Story::new("tcp-both-legs").over(Tcp, Tcp).calls(5).play().each_call_ended(5, "cxone");
}

#[test]
fn a_call_may_come_over_udp_and_leave_over_tcp() {
    Story::new("udp-in-tcp-out").over(Udp, Tcp).calls(5).play().each_call_ended(5, "cxone");
}

#[test]
fn an_invite_of_5000_bytes_passes_over_tcp_whole() {
    let played = Story::new("large-invite-tcp").over(Tcp, Tcp).calls(5).play();
    let invites = played.callee.messages.iter().filter(|m| m.start.starts_with("INVITE "));
    assert!(invites.clone().count() == 5 && invites.clone().all(|m| m.text.len() > 5000));
}

#[test]
fn a_stranger_hears_nothing() {
    let played = Story::new("stranger-ignored").without_callee().stranger().calls(2).play();
    assert!(played.caller.messages.iter().all(|m| m.sent));
    assert!(played.log.of("call.offered").is_empty());
}

#[test]
fn a_draining_node_refuses_new_calls_and_lets_the_running_one_end() {
    let story = Story::new("drain-503");
    let mut stage = story.open();
    let callee = stage.callee(&story);
    let caller = stage.caller(&story, "caller", 2);
    stage.node.wait_for("call.answered", Duration::from_secs(5));
    stage.node.terminate();
    stage.node.wait_for("drain.begun", Duration::from_secs(5));
    let refused = stage.caller(&story, "refused", 4);
    refused.finish();
    caller.finish();
    callee.finish();
    // The process is told nothing more: it ends because its last call has.
    let played = stage.close(&story, false);
    played.each_call_ended(1, "cxone");
    assert_eq!(played.log.of("call.refused").len(), 1);
    assert_eq!(played.log.of("drain.ended").len(), 1);
}

#[test]
fn early_media_reaches_the_caller_before_the_answer() {
    Story::new("early-media").calls(5).play().each_call_ended(5, "cxone");
}

#[test]
fn a_caller_may_hold_and_resume() {
    Story::new("hold-and-resume").calls(3).play().each_call_ended(3, "cxone");
}

#[test]
fn options_and_requests_that_belong_nowhere_are_answered() {
    let played = Story::new("options-and-strays").without_callee().calls(3).play();
    assert!(played.log.of("call.offered").is_empty());
}

#[test]
fn a_caller_without_a_common_codec_is_refused_before_anything_rings() {
    let played = Story::new("no-common-codec").without_callee().calls(3).play();
    assert!(played.log.of("call.dialled").is_empty());
}

#[test]
fn every_folder_of_sip_scenarios_has_a_test() {
    let tests = include_str!("main.rs");
    for entry in std::fs::read_dir(story::scenarios()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!entry.path().is_dir() || tests.contains(&format!("Story::new(\"{name}\")")), "sip-scenarios/{name} is played by no test");
    }
}
