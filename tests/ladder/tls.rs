//! Legs over TLS: what they look like, whose certificate is asked for, and which connections they share.

use backchannel::b2bua::io::LossReason;
use backchannel::call::rules::Transport;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::transport_of;

const TARGET: &str = "sip:synthflow.example:5080";

fn text(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned()
}

fn start_line(message: &Message) -> String {
    String::from_utf8_lossy(message.raw()).lines().next().unwrap_or_default().to_owned()
}

fn end(l: &mut Ladder) {
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_target_over_tls_is_dialled_by_its_name_and_named_in_what_it_sees() {
    for target in ["sip:synthflow.example:5080;transport=tls", "sips:synthflow.example:5080"] {
        let mut l = Ladder::replacing(&[(TARGET, target)]);
        l.caller().invites();
        l.caller().gets(100);
        assert_eq!((l.dials(), l.dialled_as.as_slice()), (1, &["synthflow.example".to_owned()][..]));
        l.flow_up(0);
        let invite = l.callee().gets("INVITE");
        assert!(text(&invite, Name::Via).starts_with("SIP/2.0/TLS 192.0.2.9:"), "{}", text(&invite, Name::Via));
        assert!(text(&invite, Name::Contact).contains(";transport=tls"), "{}", text(&invite, Name::Contact));
        assert!(start_line(&invite).ends_with("@synthflow.example:5080;transport=tls SIP/2.0"), "{}", start_line(&invite));
        l.callee().answers(200);
        l.callee().gets("ACK");
        assert_eq!(l.last_flow.map(transport_of), Some(Transport::Tls));
        l.caller().gets(200);
        l.caller().acks();
        end(&mut l);
        assert_eq!(l.last_flow.map(transport_of), Some(Transport::Tls));
        assert_eq!(l.dials(), 1);
    }
}

#[test]
fn a_connection_of_one_transport_is_never_taken_for_the_other() {
    let target = format!("{TARGET};transport=tls\"\nfallback = [\"{TARGET};transport=tcp\"]\n# \"");
    let mut l = Ladder::replacing(&[(&format!("{TARGET}\""), &target)]);
    l.caller().invites();
    l.caller().gets(100);
    l.flow_up(0);
    l.callee().gets("INVITE");
    l.callee().answers(503);
    l.callee().gets("ACK");
    // The connection over TLS to that very address is up.
    assert_eq!((l.dials(), l.dialled(0)), (2, l.dialled(1)));
    l.flow_up(1);
    let invite = l.callee().gets("INVITE");
    assert!(text(&invite, Name::Via).starts_with("SIP/2.0/TCP "), "{}", text(&invite, Name::Via));
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_certificate_that_does_not_fit_is_the_next_target() {
    let target = format!("{TARGET};transport=tls\"\nfallback = [\"{TARGET}\"]\n# \"");
    let mut l = Ladder::replacing(&[(&format!("{TARGET}\""), &target)]);
    l.caller().invites();
    l.caller().gets(100);
    // What is sent before the connection is up waits in the edge, and is lost with it.
    l.callee().gets("INVITE");
    l.flow_lost(0, LossReason::NotConnected("TLS: invalid peer certificate".into()));
    let invite = l.callee().gets("INVITE");
    assert!(text(&invite, Name::Via).starts_with("SIP/2.0/UDP "), "{}", text(&invite, Name::Via));
    l.callee().answers(200);
    l.callee().gets("ACK");
    l.caller().gets(200);
    l.caller().acks();
    end(&mut l);
}

#[test]
fn a_caller_over_tls_hears_everything_on_its_connection() {
    let mut l = Ladder::new();
    let flow = l.caller().connects_with_tls(49_001);
    l.answer();
    assert_eq!(l.last_flow, Some(flow));
    l.callee().sends("BYE");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    assert_eq!(l.last_flow, Some(flow));
    assert!(text(&bye, Name::Via).starts_with("SIP/2.0/TLS 192.0.2.9:"), "{}", text(&bye, Name::Via));
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_bye_after_the_connection_broke_dials_the_contact_over_tls_and_asks_for_its_certificate() {
    for (contact, name) in [
        ("<sip:end@198.51.100.1:5060;transport=tls>", "198.51.100.1"),
        ("<sips:end@198.51.100.1:5060>", "198.51.100.1"),
        ("<sips:end@edge.example:5060>", "edge.example"),
    ] {
        let mut l = Ladder::new();
        l.name("edge.example", "198.51.100.1");
        let first = l.caller().connects_with_tls(49_001);
        l.caller().contact(contact);
        l.answer();
        l.caller().loses(first);
        l.callee().sends("BYE");
        l.callee().gets(200);
        assert_eq!((l.dials(), l.dialled_as[0].as_str()), (1, name), "{contact}");
        l.flow_up(0);
        l.caller().gets("BYE");
        l.caller().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn who_connects_over_tls_from_a_targets_address_and_port_gets_no_calls_for_it() {
    let mut l = Ladder::replacing(&[(TARGET, "sip:synthflow.example:5080;transport=tls")]);
    // RFC 5922 §7.5: the one who opened the connection has shown no certificate.
    l.callee().connects_with_tls(5080);
    l.caller().invites();
    l.caller().gets(100);
    assert_eq!(l.dials(), 1);
    l.callee().gets("INVITE");
    l.flow_lost(0, LossReason::NotConnected("refused".into()));
    l.caller().gets(503);
    l.caller().acks_refusal();
    l.all_is_over();
}
