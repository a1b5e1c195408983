//! Legs over connections, and requests that are too long for UDP.

use std::time::Duration;

use backchannel::b2bua::io::LossReason;
use backchannel::call::rules::Transport;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::transport_of;

const TCP: (&str, &str) = ("sip:synthflow.example:5080", "sip:synthflow.example:5080;transport=tcp");

fn via(message: &Message) -> String {
    String::from_utf8_lossy(message.value(Name::Via).unwrap()).into_owned()
}

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

#[test]
fn a_caller_over_tcp_hears_everything_on_its_connection() {
    let mut l = Ladder::new();
    let flow = l.caller().connects(1);
    l.answer();
    assert_eq!(l.last_flow, Some(flow));
    l.callee().sends("BYE");
    l.callee().gets(200);
    // RFC 3261 §18.1.1: an existing connection to that peer is used again.
    let bye = l.caller().gets("BYE");
    assert_eq!(l.last_flow, Some(flow));
    assert!(via(&bye).starts_with("SIP/2.0/TCP 192.0.2.9:5060;"), "{}", via(&bye));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_caller_whose_connection_broke_in_mid_call_comes_back_on_another() {
    let mut l = Ladder::new();
    let first = l.caller().connects(1);
    l.answer();
    l.caller().loses(first);
    l.nothing_happens(Duration::from_secs(5));
    let second = l.caller().connects(2);
    l.caller().sends("OPTIONS");
    l.caller().gets(200);
    assert_eq!(l.last_flow, Some(second));
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    assert_eq!(l.last_flow, Some(second));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_bye_of_ours_after_the_connection_broke_dials_the_contact() {
    let mut l = Ladder::new();
    let first = l.caller().connects(1);
    l.answer();
    l.caller().loses(first);
    l.callee().sends("BYE");
    l.callee().gets(200);
    assert_eq!(l.dials(), 1);
    l.flow_up(0);
    l.caller().gets("BYE");
    assert_ne!(l.last_flow, Some(first));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn an_answer_after_the_connection_broke_goes_on_a_new_one_to_the_via() {
    let mut l = Ladder::new();
    let first = l.caller().connects(1);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.caller().loses(first);
    l.callee().answers(180);
    // RFC 3261 §18.2.2: "the server SHOULD open a connection to the IP address in the "received" parameter, if present, using the port
    // in the "sent-by" value, or the default port for that transport, if no port is specified."
    assert_eq!(l.dialled(0).to_string(), "198.51.100.1:5060");
    l.flow_up(0);
    l.caller().gets(180);
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
    assert_eq!(l.dials(), 1, "one new connection for both answers");
}

#[test]
fn a_callee_over_tcp_is_dialled_once_for_two_calls() {
    let mut l = Ladder::replacing(&[TCP]);
    l.caller().invites();
    l.caller().gets(100);
    assert_eq!(l.dials(), 1);
    l.flow_up(0);
    let invite = l.callee().gets("INVITE");
    assert!(via(&invite).starts_with("SIP/2.0/TCP 192.0.2.9:5060;"), "{}", via(&invite));
    assert!(header(&invite, Name::Contact).contains(";transport=tcp"));
    l.callee().answers(200);
    l.callee().gets("ACK");
    assert_eq!(l.last_flow.map(transport_of), Some(Transport::Tcp));
    l.caller().gets(200);
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    assert_eq!(l.last_flow.map(transport_of), Some(Transport::Tcp));
    l.callee().answers_to("BYE", 200);
    l.all_is_over();

    l.caller().cseq(200);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    assert_eq!(l.dials(), 1, "the connection is still there");
    l.callee().answers(404);
    l.callee().gets("ACK");
    l.caller().gets(404);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_reset_before_an_answer_goes_on_to_the_next_target_or_is_a_503() {
    for others in [false, true] {
        let mut l = Ladder::replacing(&[TCP]);
        if others {
            l.resolve(&["203.0.113.7", "203.0.113.2"]);
        }
        l.caller().invites();
        l.caller().gets(100);
        if others {
            assert!(l.take_for("203.0.113.7:5080").is_some());
            l.flow_lost(0, LossReason::NotConnected("refused".into()));
            l.flow_up(1);
            l.callee().gets("INVITE");
            l.callee().answers(603);
            l.callee().gets("ACK");
            l.caller().gets(603);
        } else {
            l.flow_up(0);
            l.callee().gets("INVITE");
            l.flow_lost(0, LossReason::Closed("reset".into()));
            // RFC 3261 §8.1.3.1: "a fatal transport error […] MUST be treated as a 503".
            l.caller().gets(503);
        }
        l.caller().acks_refusal();
        l.all_is_over();
    }
}

#[test]
fn a_cancel_after_the_connection_broke_follows_on_a_new_one() {
    let mut l = Ladder::replacing(&[TCP]);
    l.caller().invites();
    l.caller().gets(100);
    l.flow_up(0);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.caller().gets(180);
    l.flow_lost(0, LossReason::Closed("reset".into()));
    l.caller().cancels();
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal();
    // RFC 3261 §9.1: "The destination address, port, and transport for the CANCEL MUST be identical to those used to send the original
    // request."
    assert_eq!(l.dialled(1).to_string(), "203.0.113.2:5080");
    l.flow_up(1);
    l.callee().gets("CANCEL");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

fn long(bytes: usize) -> String {
    format!("X-InContact-MasterId: 48812\r\nX-Long: {}\r\n", "x".repeat(bytes))
}

#[test]
fn a_request_just_under_udp_mtu_leaves_over_udp_and_one_over_it_tries_tcp() {
    // RFC 3261 §18.1.1: "If a request is within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the path MTU is
    // unknown, the request MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP."
    let mut l = Ladder::new();
    l.caller().invites_with(&long(1));
    l.caller().gets(100);
    let short = l.callee().gets("INVITE").raw().len() - 1;
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
    for (size, tcp) in [(1_250, false), (1_290, false), (1_350, true), (4_000, true)] {
        let mut l = Ladder::new();
        l.caller().invites_with(&long(size - short));
        l.caller().gets(100);
        assert_eq!(l.dials(), usize::from(tcp), "{size} bytes");
        if tcp {
            l.flow_up(0);
        }
        let invite = l.callee().gets("INVITE");
        assert_eq!(l.last_flow.map(transport_of), Some(if tcp { Transport::Tcp } else { Transport::Udp }));
        assert_eq!(invite.raw().len(), size, "as long as it was meant to be");
        l.callee().answers(486);
        l.callee().gets("ACK");
        assert_eq!(l.last_flow.map(transport_of), Some(if tcp { Transport::Tcp } else { Transport::Udp }), "the ACK follows");
        l.caller().gets(486);
        l.caller().acks_refusal();
        l.all_is_over();
    }
}

#[test]
fn a_long_invite_stays_on_tcp_and_what_follows_goes_back_to_udp() {
    let mut l = Ladder::new();
    l.caller().invites_with(&long(4_900));
    l.caller().gets(100);
    l.flow_up(0);
    let invite = l.callee().gets("INVITE");
    assert!(via(&invite).starts_with("SIP/2.0/TCP "), "{}", via(&invite));
    assert_eq!(invite.named("X-Long").next().unwrap().len(), 4_900, "headers.budget is for UDP only");
    l.after_ms(600);
    l.callee().answers(200);
    l.callee().gets("ACK");
    assert_eq!(l.last_flow.map(transport_of), Some(Transport::Udp), "the Contact is a UDP one");
    l.caller().gets(200);
    l.caller().acks();
    end(&mut l);
    assert_eq!(l.last_flow.map(transport_of), Some(Transport::Udp));
    assert_eq!(l.dials(), 1);
}

#[test]
fn a_long_invite_without_a_connection_leaves_over_udp_with_a_via_that_says_so() {
    for refused in [true, false] {
        let mut l = Ladder::new();
        l.caller().invites_with(&long(3_000));
        l.caller().gets(100);
        if refused {
            l.flow_lost(0, LossReason::NotConnected("refused".into()));
        } else {
            l.nothing_happens(Duration::from_millis(499));
            l.after_ms(1);
        }
        let over_udp = l.callee().gets("INVITE");
        assert!(via(&over_udp).starts_with("SIP/2.0/UDP "), "{}", via(&over_udp));
        // Nothing was handed to the connection that did not come up: what was given up can not arrive late.
        l.callee().answers(200);
        l.callee().gets("ACK");
        l.caller().gets(200);
        l.caller().acks();
        end(&mut l);
    }
}

#[test]
fn over_udp_the_x_headers_keep_to_the_budget_and_a_warning_says_so() {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("{}X-Last: 1\r\n", long(4_900)));
    l.caller().gets(100);
    l.flow_lost(0, LossReason::NotConnected("refused".into()));
    let over_udp = l.callee().gets("INVITE");
    assert!(over_udp.named("X-Long").next().is_none(), "4,900 bytes can not stay within 4,096");
    assert!(over_udp.named("X-EI").next().is_some());
    assert!(l.reported("call.warning").iter().any(|e| format!("{:?}", e.fact).contains("X-L")), "{:?}", l.reported("call.warning"));
    // What was too long is the INVITE with all its headers, not the one that left in the end.
    let said = format!("{:?}", l.reported("call.warning"));
    let sizes = said.split(" bytes are over udp_mtu").next().and_then(|s| s.rsplit('"').next()).and_then(|s| s.parse::<usize>().ok());
    assert!(sizes.is_some_and(|bytes| bytes > 4_900), "{said}");
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn answers_go_to_the_source_port_with_rport_and_to_the_sent_by_port_without() {
    // RFC 3581 §4: "the response MUST be sent to the IP address […] and the source port"; RFC 3261 §18.2.2 without it: "the port
    // indicated in the "sent-by" value".
    for (rport, port) in [(true, 61_000), (false, 5_060)] {
        let mut l = Ladder::new();
        if !rport {
            l.caller().without_rport();
        }
        let text = l.caller().invite_text("X-InContact-MasterId: 1\r\n", "").replace("INVITE", "OPTIONS");
        let text = text.replace("SIP/2.0/UDP 198.51.100.1:5060", "SIP/2.0/UDP natted.example:5060");
        l.raw("198.51.100.1:61000", text);
        let answer = l.take_for(&format!("198.51.100.1:{port}")).unwrap();
        assert!(via(&answer).contains(";received=198.51.100.1"), "{}", via(&answer));
        assert_eq!(via(&answer).contains(";rport=61000"), rport);
        l.all_is_over();
    }
}

#[test]
fn a_bye_whose_connection_breaks_under_it_is_sent_once_more_to_the_contact() {
    for lost_again in [false, true] {
        let mut l = Ladder::new();
        let flow = l.caller().connects(1);
        l.answer();
        l.callee().sends_with("BYE", "Reason: Q.850;cause=16;text=\"done\"\r\n");
        l.callee().gets(200);
        let first = l.caller().gets("BYE");
        l.caller().loses(flow);
        let second = l.caller().gets("BYE");
        assert_eq!(l.dialled(0).to_string(), "198.51.100.1:5060");
        assert!(second.cseq().unwrap().number > first.cseq().unwrap().number);
        assert_eq!(header(&second, Name::Reason), header(&first, Name::Reason));
        if lost_again {
            l.flow_lost(0, LossReason::NotConnected("refused".into()));
        } else {
            l.flow_up(0);
            l.caller().answers_to("BYE", 200);
        }
        l.all_is_over();
    }
}

#[test]
fn a_lost_connection_is_no_bye_while_a_signal_is_under_way() {
    // product.md §4: "A lost flow is no BYE."
    let mut l = Ladder::new();
    let flow = l.caller().connects(1);
    l.answer();
    l.callee().sends_with("BYE", "X-Queue: billing\r\n");
    l.callee().gets(200);
    l.cxone().gets_signal();
    l.caller().loses(flow);
    l.cxone().is_silent();
    l.cxone().gets_signal();
    l.cxone().accepts();
    l.caller().connects(2);
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.all_is_over();
    assert_eq!(l.cancelled, 0);
}

#[test]
fn a_stream_that_lost_its_framing_is_answered_and_closed_and_an_ack_never_is() {
    use backchannel::b2bua::io::Input;
    use backchannel::wire::message::FrameError;
    for (method, answered) in [("OPTIONS", true), ("ACK", false)] {
        let mut l = Ladder::new();
        let flow = l.caller().connects(1);
        let head = l.caller().invite_text("", "").replace("INVITE", method).replace("Content-Length: 0", "Content-Length: x");
        l.input(Input::Broken {
            flow,
            remote: "198.51.100.1:49001".parse().unwrap(),
            local: "192.0.2.9:5060".parse().unwrap(),
            why: FrameError { why: "bad length" },
            head: head.into_bytes().into(),
        });
        if answered {
            l.caller().gets(400);
        }
        assert_eq!(l.closed, [flow]);
        l.all_is_over();
    }
}

#[test]
fn a_cancel_while_the_connection_is_still_being_dialled() {
    let mut l = Ladder::replacing(&[TCP]);
    l.caller().invites();
    l.caller().gets(100);
    l.caller().cancels();
    l.caller().gets(200);
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.flow_up(0);
    l.callee().gets("INVITE");
    l.callee().answers(180);
    l.callee().gets("CANCEL");
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers(487);
    l.callee().gets("ACK");
    l.all_is_over();
}

#[test]
fn an_abandoned_attempt_over_tcp_that_answers_late_is_ended_on_its_connection() {
    let mut l = Ladder::replacing(&[TCP]);
    l.resolve(&["203.0.113.7", "203.0.113.2"]);
    l.caller().invites();
    l.caller().gets(100);
    l.flow_up(0);
    let first = l.take_for("203.0.113.7:5080").unwrap();
    l.after(Duration::from_secs(4));
    l.flow_up(1);
    l.callee().gets("INVITE");
    l.callee().moves("203.0.113.7:5080");
    l.callee().answers_message(&first, 200, "late", &crate::dsl::offer("203.0.113.7", 4_000));
    for method in ["ACK", "BYE"] {
        let message = l.take_for("203.0.113.7:5080").unwrap();
        assert_eq!((message.method().as_str(), message.to_tag()), (method, Some("late")));
        assert!(via(&message).starts_with("SIP/2.0/TCP "));
        if method == "BYE" {
            l.callee().answers_message(&message, 200, "late", "");
        }
    }
    l.callee().moves("203.0.113.2:5080");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_2xx_is_repeated_on_a_new_connection_when_the_first_is_lost() {
    let mut l = Ladder::new();
    let first = l.caller().connects(1);
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().loses(first);
    // RFC 3261 §13.3.1.4: "regardless of the transport protocol".
    l.caller().gets(200);
    assert_eq!(l.dialled(0).to_string(), "198.51.100.1:5060");
    let second = l.caller().connects(2);
    l.caller().acks();
    l.callee().sends("BYE");
    l.callee().gets(200);
    l.caller().gets("BYE");
    assert_eq!(l.last_flow, Some(second), "the ACK came there");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}
