//! Standard headers that cross from one leg to the other (product.md §2): which ones, and what must change in them so that no address
//! of one side ever shows on the other.

use bytes::Bytes;

use crate::call::rules::Carried;
use crate::wire::header::hosts::alert_info;
use crate::wire::header::hosts::with_agent;
use crate::wire::header::hosts::with_hosts;
use crate::wire::message::Line;
use crate::wire::message::Name;

/// What happens to one standard header line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// It goes on; `changed` when a host in it was replaced.
    Passed { line: Carried, changed: bool },
    /// It cannot be read well enough to be sure that no address is in it.
    Unreadable,
    /// Rebuilt by us on the other leg, or not ours to pass on.
    NotPassed,
}

/// How a header is treated, and the long form of its name (RFC 3261 §7.3.3: the compact one means the same).
enum Treatment {
    AsIs(&'static str),
    Addresses(&'static str),
    AlertInfo,
    /// Of responses only.
    RetryAfter,
    /// Of responses only.
    Warning,
}

/// One line of a message (`response`: of a response) on its way to the other side. `our_host` stands in for the hosts in its
/// addresses, `node` for the warn-agent.
pub fn cross(line: Line<'_>, response: bool, our_host: &str, node: &str) -> Crossing {
    let (name, value) = match treatment(line.name) {
        Some(Treatment::AsIs(name)) => (name, Some(line.value.to_vec())),
        Some(Treatment::Addresses(name)) => (name, with_hosts(line.value, our_host)),
        Some(Treatment::AlertInfo) => ("Alert-Info", alert_info(line.value, our_host)),
        Some(Treatment::RetryAfter) if response => ("Retry-After", Some(line.value.to_vec())),
        Some(Treatment::Warning) if response => ("Warning", with_agent(line.value, node)),
        _ => return Crossing::NotPassed,
    };
    match value {
        Some(value) if is_printable(&value) => {
            let changed = value != line.value;
            Crossing::Passed { line: Carried { name: Bytes::from_static(name.as_bytes()), value: Bytes::from(value) }, changed }
        }
        _ => Crossing::Unreadable,
    }
}

/// No control character but the tab: nothing that could end the line or confuse the next hop (RFC 3261 §25.1, TEXT-UTF8char).
pub fn is_printable(value: &[u8]) -> bool {
    !value.iter().any(|&b| b.is_ascii_control() && b != b'\t')
}

fn treatment(name: Name) -> Option<Treatment> {
    Some(match name {
        Name::PAssertedIdentity => Treatment::Addresses("P-Asserted-Identity"),
        Name::RemotePartyId => Treatment::Addresses("Remote-Party-ID"),
        Name::Diversion => Treatment::Addresses("Diversion"),
        Name::HistoryInfo => Treatment::Addresses("History-Info"),
        Name::AlertInfo => Treatment::AlertInfo,
        Name::Privacy => Treatment::AsIs("Privacy"),
        Name::Reason => Treatment::AsIs("Reason"),
        Name::UserToUser => Treatment::AsIs("User-to-User"),
        Name::Subject => Treatment::AsIs("Subject"),
        Name::SessionId => Treatment::AsIs("Session-ID"),
        // RFC 8224: a signature over what we do not change; touching it would break it.
        Name::Identity => Treatment::AsIs("Identity"),
        Name::RetryAfter => Treatment::RetryAfter,
        Name::Warning => Treatment::Warning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Name, value: &str, response: bool) -> Option<String> {
        let line = Line { name, spelled: b"whatever", value: value.as_bytes(), raw: b"" };
        match cross(line, response, "203.0.113.10:5060", "bc 1") {
            Crossing::Passed { line, .. } => {
                Some(format!("{}: {}", String::from_utf8_lossy(&line.name), String::from_utf8_lossy(&line.value)))
            }
            _ => None,
        }
    }

    #[test]
    fn no_address_of_one_side_shows_on_the_other() {
        for (name, value, gone) in [
            (
                Name::PAssertedIdentity,
                r#""Doe, Jane <x>" <sip:+1206@10.0.0.1:5060;user=phone>, <tel:+1206>"#,
                Some(r#"P-Asserted-Identity: "Doe, Jane <x>" <sip:+1206@203.0.113.10:5060;user=phone>, <tel:+1206>"#),
            ),
            (
                Name::RemotePartyId,
                "sip:+1206@core.cxone.example;party=calling;screen=yes",
                Some("Remote-Party-ID: sip:+1206@203.0.113.10:5060;party=calling;screen=yes"),
            ),
            (
                Name::Diversion,
                "<sip:+1555@[2001:db8::1]:5070;maddr=10.9.9.9;transport=tcp>;reason=unconditional",
                Some("Diversion: <sip:+1555@203.0.113.10:5060;transport=tcp>;reason=unconditional"),
            ),
            (
                Name::HistoryInfo,
                "<sip:a@10.0.0.1?Reason=SIP%3Bcause%3D302>;index=1,<sips:b@10.0.0.2>;index=1.1",
                Some("History-Info: <sip:a@203.0.113.10:5060?Reason=SIP%3Bcause%3D302>;index=1,<sips:b@203.0.113.10:5060>;index=1.1"),
            ),
            (
                Name::HistoryInfo,
                "<sip:a@10.0.0.1?Replaces=x%4010.0.0.1&Reason=SIP&privacy=history&To=%3Csip:b@10.0.0.1%3E>;index=1",
                Some("History-Info: <sip:a@203.0.113.10:5060?Reason=SIP&privacy=history>;index=1"),
            ),
            (Name::Diversion, "sip:a@10.0.0.1?x=<sip:b@10.0.0.2>", None),
            (Name::Diversion, "\"x\" sip:a@10.0.0.1 <sip:b@10.0.0.2>", None),
            (Name::Diversion, "\"sip:x@y\" <sip:b@10.0.0.2>", Some("Diversion: \"sip:x@y\" <sip:b@203.0.113.10:5060>")),
            (Name::Diversion, "<sip:10.0.0.1>", Some("Diversion: <sip:203.0.113.10:5060>")),
            (Name::Diversion, "<sip:a@x@10.0.0.1>", Some("Diversion: <sip:a@203.0.113.10:5060>")),
            (Name::Diversion, "<h323:a@10.0.0.1>", None),
            (Name::Diversion, "<sip:a@10.0.0.1", None),
            (Name::Diversion, "nonsense", None),
            (Name::Diversion, "", None),
            (Name::AlertInfo, "<urn:alert:source:internal>", Some("Alert-Info: <urn:alert:source:internal>")),
            (Name::AlertInfo, "<http://www.example.com/ring.wav>", Some("Alert-Info: <http://www.example.com/ring.wav>")),
            (Name::AlertInfo, "<http://10.0.0.1:80/ring.wav>", None),
            (Name::AlertInfo, "<http://[2001:db8::1]/ring.wav>", None),
            (Name::AlertInfo, "<sip:ring@10.0.0.1>", Some("Alert-Info: <sip:ring@203.0.113.10:5060>")),
        ] {
            assert_eq!(text(name, value, false).as_deref(), gone, "{value}");
        }
    }

    #[test]
    fn what_names_nobody_goes_on_byte_for_byte() {
        for (name, long) in [
            (Name::Privacy, "Privacy"),
            (Name::Reason, "Reason"),
            (Name::UserToUser, "User-to-User"),
            (Name::Subject, "Subject"),
            (Name::SessionId, "Session-ID"),
            (Name::Identity, "Identity"),
        ] {
            assert_eq!(text(name, r#"x;y="a,b"  z"#, false), Some(format!(r#"{long}: x;y="a,b"  z"#)));
        }
    }

    #[test]
    fn what_is_rebuilt_or_unknown_stays_behind() {
        for name in [Name::Via, Name::From, Name::Contact, Name::Route, Name::UserAgent, Name::CallInfo, Name::Authorization, Name::Other] {
            assert_eq!(text(name, "<sip:a@b>", false), None, "{name:?}");
        }
    }

    #[test]
    fn a_warning_crosses_in_responses_under_the_nodes_name() {
        let value = r#"399 10.0.0.1:5060 "busy, really", 370 core.example "no bandwidth""#;
        assert_eq!(text(Name::Warning, value, true).as_deref(), Some(r#"Warning: 399 bc-1 "busy, really", 370 bc-1 "no bandwidth""#));
        assert_eq!(text(Name::Warning, value, false), None);
        assert_eq!(text(Name::Warning, "399 10.0.0.1", true), None);
        assert_eq!(text(Name::Warning, "39", true), None);
        assert_eq!(text(Name::RetryAfter, "18;duration=3600", true).as_deref(), Some("Retry-After: 18;duration=3600"));
        assert_eq!(text(Name::RetryAfter, "18", false), None);
    }

    #[test]
    fn a_control_character_never_crosses() {
        assert_eq!(text(Name::Subject, "a\x01b", false), None);
        assert_eq!(text(Name::Subject, "a\tb", false).as_deref(), Some("Subject: a\tb"));
    }
}
