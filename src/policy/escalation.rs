//! What a BYE or a REFER of Synthflow asks for (product.md §4, "What counts").

use crate::call::rules::Ask;
use crate::call::rules::AskedBy;
use crate::call::rules::ByeVerdict;
use crate::call::rules::Carried;
use crate::call::rules::OnBotLost;
use crate::call::rules::ReferVerdict;
use crate::config::Escalation;
use crate::policy::numbers::user_text;
use crate::policy::queues::Lookup;
use crate::policy::queues::Named;
use crate::policy::queues::Said;
use crate::policy::queues::default_queue;
use crate::policy::queues::known;
use crate::policy::queues::look_up;
use crate::policy::queues::said;
use crate::wire::header::Reason;
use crate::wire::header::ReferTo;
use crate::wire::header::UserToUser;
use crate::wire::header::elements;
use crate::wire::header::from_hex;
use crate::wire::header::unquote;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::uri::unescape;

/// What of a Reason text or a header goes into `{reason}`.
const REASON_BYTES_MAX: usize = 256;
/// User-to-User data that is looked at: RFC 7433 users keep it under 128 bytes, twice that in hexadecimal.
const UUI_BYTES_MAX: usize = 4096;

/// Reads a BYE. `contact`: the call has a contact id, without which nothing can be signalled.
pub fn read_bye(rules: &Escalation, contact: bool, bye: &Message, headers: Vec<Carried>) -> ByeVerdict {
    let text = reason_text(bye);
    let Some(why) = bye_mark(rules, bye, text.as_deref()) else {
        let signalled = contact && !rules.plain_bye_signal.is_empty();
        return if signalled { ByeVerdict::PlainSignal(plain(rules, text, headers)) } else { ByeVerdict::Plain };
    };
    if !rules.accept_bye {
        // The bot signals by itself: neither this one nor `plain_bye_signal` may interrupt CXone's script a second time.
        return ByeVerdict::Plain;
    }
    // A BYE cannot be refused: an unknown queue goes where one without a name goes.
    let queue = match look_up(rules, &queue_header(rules, bye)) {
        Lookup::Queue(queue) => queue,
        Lookup::Unknown(_) => default_queue(rules),
    };
    ByeVerdict::Escalate(Ask { by: AskedBy::Bye, queue, reason: bounded(why), referred_to: String::new(), headers })
}

fn plain(rules: &Escalation, text: Option<String>, headers: Vec<Carried>) -> Ask {
    Ask {
        by: AskedBy::PlainBye,
        queue: rules.plain_bye_signal.as_str().into(),
        reason: bounded(text.unwrap_or_default()),
        referred_to: String::new(),
        headers,
    }
}

/// A leg of Synthflow that died without a BYE, when `on_bot_lost` wants that signalled: as if an escalating BYE had come, since
/// the bot has gone in the same way.
pub fn bot_lost(rules: &Escalation, contact: bool) -> Option<Ask> {
    (contact && rules.on_bot_lost == OnBotLost::Signal).then(|| Ask {
        by: AskedBy::Bye,
        queue: default_queue(rules),
        reason: "bot lost".to_owned(),
        referred_to: String::new(),
        headers: Vec::new(),
    })
}

/// What makes this BYE an escalation: the Reason text, or the header that asked. `None`: nothing does, or a header says no.
fn bye_mark(rules: &Escalation, bye: &Message, text: Option<&str>) -> Option<String> {
    let mut mark = None;
    for name in &rules.bye_headers {
        for value in bye.named(name) {
            match said(value) {
                Said::Nothing => {}
                Said::No => return None,
                Said::Yes | Said::Text(_) => {
                    mark.get_or_insert_with(|| format!("{name}: {}", String::from_utf8_lossy(value).trim()));
                }
            }
        }
    }
    let matching = text.filter(|text| {
        let text = text.to_lowercase();
        rules.reason_texts.iter().any(|part| !part.is_empty() && text.contains(&part.to_lowercase()))
    });
    matching.map(str::to_owned).or(mark)
}

/// The texts of all Reason values (RFC 3326 §2): `SIP;cause=200;text="…"`.
fn reason_text(message: &Message) -> Option<String> {
    let texts = message.values(Name::Reason).flat_map(Reason::all).filter_map(|reason| {
        let text = String::from_utf8_lossy(&reason.text()?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    });
    let all = texts.collect::<Vec<_>>().join(" / ");
    (!all.is_empty()).then_some(all)
}

/// The first of `queue_headers` that names something.
fn queue_header(rules: &Escalation, message: &Message) -> Named {
    let mut values = rules.queue_headers.iter().flat_map(|name| message.named(name));
    values.find_map(name_in).map_or(Named::Nowhere, Named::Queue)
}

fn name_in(value: &[u8]) -> Option<String> {
    match said(value) {
        Said::Text(name) => Some(name),
        _ => None,
    }
}

/// Reads a REFER. It is never dialled; only its words count.
pub fn read_refer(rules: &Escalation, contact: bool, refer: &Message, headers: Vec<Carried>) -> ReferVerdict {
    // RFC 3515 §2.4.1: a REFER without a Refer-To, or with several, is answered 400.
    let mut values = refer.values(Name::ReferTo);
    let (Some(value), None) = (values.next(), values.next()) else {
        return refuse(400, "a REFER must have exactly one Refer-To");
    };
    let Some(target) = ReferTo::parse(value) else {
        return refuse(400, "Refer-To is unreadable");
    };
    if target.method() != b"INVITE" {
        return refuse(603, "Refer-To asks for another method than INVITE");
    }
    if !rules.accept_refer {
        return refuse(603, "escalation.accept has no \"refer\"");
    }
    if !contact {
        return refuse(603, "the call has no contact id: nothing can be signalled");
    }
    let named = match queue_header(rules, refer) {
        Named::Nowhere => refer_queue(rules, refer, &target),
        named => named,
    };
    let queue = match look_up(rules, &named) {
        Lookup::Queue(queue) => queue,
        Lookup::Unknown(name) => {
            return refuse(603, format!("{name:?} is no key of escalation.queues, and unknown_queue is \"refuse\""));
        }
    };
    let mut reason = reason_text(refer).unwrap_or_else(|| "refer".to_owned());
    if target.replaces().is_some() {
        reason.push_str(" (Replaces ignored)");
    }
    let referred_to = user_text(&target.uri).unwrap_or_default();
    ReferVerdict::Escalate(Ask { by: AskedBy::Refer, queue, reason: bounded(reason), referred_to, headers })
}

fn refuse(status: u16, why: impl Into<String>) -> ReferVerdict {
    ReferVerdict::Refuse { status, why: why.into() }
}

/// The user when it is a key; else what a header in the `?` part or the User-to-User says by name; else the user as it is.
fn refer_queue(rules: &Escalation, refer: &Message, target: &ReferTo<'_>) -> Named {
    let user = user_text(&target.uri);
    if let Some(user) = user.as_ref().filter(|user| known(rules, user).is_some()) {
        return Named::Queue(user.clone());
    }
    let in_uri = rules.queue_headers.iter().filter_map(|name| target.header(name)).find_map(|value| name_in(&value));
    let user_to_user = || {
        let of_uri = target.header("User-to-User").and_then(|value| uui_queue(rules, &value));
        of_uri.or_else(|| refer.values(Name::UserToUser).flat_map(elements).find_map(|value| uui_queue(rules, value)))
    };
    let user = || user.and_then(|user| name_in(user.as_bytes()));
    in_uri.or_else(user_to_user).or_else(user).map_or(Named::Nowhere, Named::Queue)
}

/// The queue in a User-to-User value (RFC 7433 §4: `data;encoding=hex`, hex when nothing is said).
///
/// How Synthflow packs a transfer's headers into it is not documented (facts.md §4). Assumed: the data is text, either plain or
/// hexadecimal, of `Name=value` or `Name: value` pairs between `;`, `&`, `,`, `|` or line ends; or JSON with such names as strings;
/// or nothing but a key of `[escalation.queues]`. Anything else names no queue.
fn uui_queue(rules: &Escalation, value: &[u8]) -> Option<String> {
    let value = value.get(..UUI_BYTES_MAX).unwrap_or(value);
    let data = UserToUser::parse(value).map_or(value, |uui| uui.data);
    let decoded = from_hex(&unquote(data)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let plain = String::from_utf8_lossy(&unescape(&unquote(value))).into_owned();
    decoded.iter().chain([&plain]).find_map(|text| queue_in_text(rules, text))
}

fn queue_in_text(rules: &Escalation, text: &str) -> Option<String> {
    let bare = |text: &str| text.trim().trim_matches('"').to_owned();
    for name in &rules.queue_headers {
        for pair in text.split([';', '&', ',', '|', '\r', '\n', '{', '}']) {
            let Some((key, queue)) = pair.split_once(['=', ':']) else { continue };
            if bare(key.trim_start_matches(char::is_control)).eq_ignore_ascii_case(name)
                && let Some(queue) = name_in(&unescape(bare(queue).as_bytes()))
            {
                return Some(queue);
            }
        }
    }
    // Some put a protocol discriminator (`00`, `04`) in front of hexadecimal data, and `;encoding=…` may stand behind plain text.
    let whole = text.split(';').next().unwrap_or_default().trim_start_matches(char::is_control).trim();
    known(rules, whole).is_some().then(|| whole.to_owned())
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UnknownQueue;
    use crate::policy::samples::message;
    use crate::policy::samples::test_config;

    fn bye(lines: &[&str]) -> Message {
        message("BYE sip:203.0.113.10:5060 SIP/2.0", "2 BYE", lines)
    }

    fn refer(lines: &[&str]) -> Message {
        message("REFER sip:203.0.113.10:5060 SIP/2.0", "2 REFER", lines)
    }

    /// "escalate QUEUE (REASON)", "plain", "signal QUEUE" or "STATUS".
    fn of_bye(rules: &Escalation, lines: &[&str]) -> String {
        match read_bye(rules, true, &bye(lines), Vec::new()) {
            ByeVerdict::Plain => "plain".into(),
            ByeVerdict::Escalate(ask) => format!("escalate {} ({})", ask.queue, ask.reason),
            ByeVerdict::PlainSignal(ask) => format!("signal {} ({})", ask.queue, ask.reason),
        }
    }

    fn of_refer(rules: &Escalation, lines: &[&str]) -> String {
        match read_refer(rules, true, &refer(lines), Vec::new()) {
            ReferVerdict::Escalate(ask) => format!("{} [{}] ({})", ask.queue, ask.referred_to, ask.reason),
            ReferVerdict::Refuse { status, .. } => status.to_string(),
        }
    }

    /// product.md §4, "What counts".
    #[test]
    fn what_counts_on_a_bye() {
        let mut rules = test_config().escalation;
        rules.default_queue = "general".into();
        for (lines, verdict) in [
            (&[][..], "plain"),
            (&["X-Escalate: billing"], "escalate Billing EN (X-Escalate: billing)"),
            (&["x-queue: BILLING"], "escalate Billing EN (X-Queue: BILLING)"),
            (&["X-Queue: +1-206-555-0100"], "escalate support (X-Queue: +1-206-555-0100)"),
            (&["X-Escalate: true", "X-Queue: billing"], "escalate Billing EN (X-Escalate: true)"),
            (&["X-Escalate: yes"], "escalate general (X-Escalate: yes)"),
            (&["X-Queue: on"], "escalate general (X-Queue: on)"),
            (&["X-RouteReason: angry caller"], "escalate general (X-RouteReason: angry caller)"),
            (&["X-Escalation: 1", "X-Escalation-Queue: billing"], "escalate Billing EN (X-Escalation: 1)"),
            (&["X-Escalation-Queue: billing"], "plain"),
            (&["X-Escalate:"], "plain"),
            (&["X-Escalate: none", "X-Queue: null", "X-RouteReason: N/A"], "plain"),
            (&["X-Queue: {X-Queue}"], "plain"),
            (&["X-Queue: {X-Queue}", "X-Escalate: billing"], "escalate Billing EN (X-Escalate: billing)"),
            (&["X-Escalate: false", "X-Queue: billing"], "plain"),
            (&["X-Queue: billing", "X-Escalate: 0"], "plain"),
            (&["X-Queue: billing", "X-Queue: off"], "plain"),
            (&["X-Escalate: no", "Reason: SIP;cause=200;text=\"transfer to agent\""], "plain"),
            (&["Reason: SIP;cause=200;text=\"Escalation: \\\"now\\\"\""], "escalate general (Escalation: \"now\")"),
            (&["Reason: Q.850;cause=16, X;text=\"warm Handoff\""], "escalate general (warm Handoff)"),
            (&["Reason: Q.850;cause=16;text=\"Normal call clearing\""], "plain"),
            (&["Reason: Q.850;cause=16;text=\"Normal\"", "X-Escalate: billing"], "escalate Billing EN (X-Escalate: billing)"),
            (&["Reason: transfer"], "plain"),
            (&["X-Queue: vip", "X-Escalate: billing"], "escalate general (X-Escalate: billing)"),
            (&["X-Other: billing"], "plain"),
        ] {
            assert_eq!(of_bye(&rules, lines), verdict, "{lines:?}");
        }
    }

    #[test]
    fn an_unknown_queue_on_a_bye_passes_or_goes_to_the_default_but_is_never_refused() {
        let mut rules = test_config().escalation;
        for (unknown, verdict) in [
            (UnknownQueue::Default, "escalate escalate"),
            (UnknownQueue::Pass, "escalate vip"),
            (UnknownQueue::Refuse, "escalate escalate"),
        ] {
            rules.unknown_queue = unknown;
            assert_eq!(of_bye(&rules, &["X-Queue: vip"]), format!("{verdict} (X-Queue: vip)"));
        }
    }

    #[test]
    fn a_plain_bye_is_signalled_only_when_that_is_configured_and_there_is_a_contact() {
        let mut rules = test_config().escalation;
        rules.plain_bye_signal = "End".into();
        assert_eq!(of_bye(&rules, &["Reason: Q.850;cause=16;text=\"done\""]), "signal End (done)");
        assert_eq!(of_bye(&rules, &["X-Escalate: false"]), "signal End ()");
        assert_eq!(read_bye(&rules, false, &bye(&[]), Vec::new()), ByeVerdict::Plain);
        assert!(matches!(read_bye(&rules, false, &bye(&["X-Escalate: 1"]), Vec::new()), ByeVerdict::Escalate(_)));
    }

    /// product.md §1, `accept`: "leave out what Synthflow's own custom action already does".
    #[test]
    fn without_bye_in_accept_an_escalating_bye_is_plain_and_signals_nothing() {
        let mut rules = test_config().escalation;
        rules.accept_bye = false;
        rules.plain_bye_signal = "End".into();
        assert_eq!(of_bye(&rules, &["X-Escalate: billing"]), "plain");
    }

    #[test]
    fn a_refer_names_its_queue_in_many_ways() {
        let mut rules = test_config().escalation;
        rules.default_queue = "general".into();
        for (lines, verdict) in [
            (&["Refer-To: <sip:billing@cxone.example>"][..], "Billing EN [billing] (refer)"),
            (&["Refer-To: sip:Billing@cxone.example"], "Billing EN [Billing] (refer)"),
            (&["r: \"Agent\" <sips:billing@cxone.example>;x=y"], "Billing EN [billing] (refer)"),
            (&["Refer-To: <tel:+1-206-555-0100>"], "support [+12065550100] (refer)"),
            (&["Refer-To: <sip:%2B12065550100;phone-context=x@cxone.example;user=phone>"], "support [+12065550100] (refer)"),
            (&["Refer-To: <sip:cxone.example>"], "general [] (refer)"),
            (&["Refer-To: <sip:vip@cxone.example>"], "general [vip] (refer)"),
            (&["Refer-To: <sip:vip@cxone.example>", "X-Queue: billing"], "Billing EN [vip] (refer)"),
            (&["Refer-To: <sip:billing@cxone.example>", "X-Queue: +12065550100"], "support [billing] (refer)"),
            (&["Refer-To: <sip:billing@cxone.example>", "X-Queue: true"], "Billing EN [billing] (refer)"),
            (&["Refer-To: <sip:vip@cxone.example?X-Queue=%62illing>"], "Billing EN [vip] (refer)"),
            (&["Refer-To: sip:vip@cxone.example?X-Queue=billing"], "Billing EN [vip] (refer)"),
            (&["Refer-To: <sip:billing@cxone.example?X-Queue=%2B12065550100>"], "Billing EN [billing] (refer)"),
            (&["Refer-To: <sip:billing@cxone.example>", "Reason: SIP;text=\"angry\""], "Billing EN [billing] (angry)"),
            (
                &["Refer-To: <sip:billing@cxone.example?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>"],
                "Billing EN [billing] (refer (Replaces ignored))",
            ),
            (&["Refer-To: <http://cxone.example/billing>"], "general [] (refer)"),
            (&[], "400"),
            (&["Refer-To: <sip:a@b>", "Refer-To: <sip:c@d>"], "400"),
            (&["Refer-To: <sip:"], "400"),
            (&["Refer-To: <sip:billing@cxone.example;method=BYE>"], "603"),
        ] {
            assert_eq!(of_refer(&rules, lines), verdict, "{lines:?}");
        }
    }

    /// facts.md §4: headers of a cold transfer are packed into User-to-User; the format is not known.
    #[test]
    fn a_user_to_user_names_a_queue_in_text_or_hex() {
        let rules = test_config().escalation;
        let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
        let pairs = hex("X-Plan=gold;X-Queue=billing");
        let bare = hex("billing");
        let json = hex("{\"X-Plan\":\"gold\",\"x-queue\":\"billing\"}");
        for value in [
            format!("{pairs};encoding=hex"),
            format!("{pairs};purpose=isdn-uui;encoding=HEX;content=isdn-uui"),
            format!("00{bare};encoding=hex"),
            format!("04{bare}"),
            format!("{json};encoding=hex"),
            "\"X-Queue=billing\"".to_owned(),
            "X-Plan=gold;X-Queue=billing".to_owned(),
            "X-Queue%3Dbilling".to_owned(),
            "billing;encoding=ascii".to_owned(),
        ] {
            let own = format!("User-to-User: {value}");
            assert_eq!(of_refer(&rules, &["Refer-To: <sip:vip@h>", &own]), "Billing EN [vip] (refer)", "{value}");
            let escaped: String =
                value.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
            let in_uri = format!("Refer-To: <sip:vip@h?User-to-User={escaped}>");
            assert_eq!(of_refer(&rules, &[&in_uri]), "Billing EN [vip] (refer)", "{in_uri}");
        }
        for value in ["56a390f3d2b7310023;encoding=hex", "gold", "", ";;;", "zz", "X-Queue="] {
            let own = format!("User-to-User: {value}");
            assert_eq!(of_refer(&rules, &["Refer-To: <sip:vip@h>", &own]), "escalate [vip] (refer)", "{value}");
        }
    }

    #[test]
    fn what_cannot_be_signalled_is_declined() {
        let mut rules = test_config().escalation;
        let good = refer(&["Refer-To: <sip:billing@h>"]);
        let refused = |rules: &Escalation, contact, refer: &Message| match read_refer(rules, contact, refer, Vec::new()) {
            ReferVerdict::Refuse { status, why } => format!("{status} {why}"),
            ReferVerdict::Escalate(_) => String::new(),
        };
        assert!(refused(&rules, false, &good).starts_with("603 the call has no contact id"));
        rules.unknown_queue = UnknownQueue::Refuse;
        assert!(refused(&rules, true, &refer(&["Refer-To: <sip:vip@h>"])).starts_with("603 \"vip\" is no key"));
        assert_eq!(refused(&rules, true, &good), "");
        rules.accept_refer = false;
        assert!(refused(&rules, true, &good).starts_with("603 escalation.accept"));
    }

    #[test]
    fn a_lost_bot_is_signalled_only_when_that_is_configured_and_there_is_a_contact() {
        let mut rules = test_config().escalation;
        rules.default_queue = "general".into();
        assert_eq!(bot_lost(&rules, true), None);
        rules.on_bot_lost = OnBotLost::Signal;
        assert_eq!(bot_lost(&rules, false), None);
        assert_eq!(bot_lost(&rules, true).map(|ask| (ask.by, ask.queue)), Some((AskedBy::Bye, "general".into())));
    }

    #[test]
    fn a_reason_one_byte_too_long_is_cut() {
        let rules = test_config().escalation;
        let exact = format!("transfer {}", "é".repeat((REASON_BYTES_MAX - 9) / 2));
        for (text, len) in [(exact.clone(), exact.len()), (format!("{exact}éé"), REASON_BYTES_MAX - 1)] {
            let line = format!("Reason: SIP;text=\"{text}\"");
            let ByeVerdict::Escalate(ask) = read_bye(&rules, true, &bye(&[&line]), Vec::new()) else { panic!("no escalation") };
            assert_eq!(ask.reason.len(), len);
        }
    }
}
