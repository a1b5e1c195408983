//! May this call start, and how?

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use compact_str::format_compact;

use crate::call::leg::timer::too_short;
use crate::call::out::line;
use crate::call::rules::CallTimes;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::PlannedTarget;
use crate::call::rules::Refusal;
use crate::call::rules::Rules;
use crate::call::rules::SessionTimes;
use crate::call::rules::SignalTimes;
use crate::call::rules::Situation;
use crate::call::rules::Transport;
use crate::call::rules::Verdict;
use crate::config::Config;
use crate::config::MissingContactId;
use crate::ids::ContactId;
use crate::policy::budget::apply_budget;
use crate::policy::call_policy::FixedPolicy;
use crate::policy::headers::Facts;
use crate::policy::headers::Mapping;
use crate::policy::headers::carried;
use crate::policy::headers::has_x_header;
use crate::policy::headers::map_invite;
use crate::policy::headers::shown;
use crate::policy::numbers::same_key;
use crate::policy::numbers::user_text;
use crate::policy::routing::targets;
use crate::policy::template::CallWords;
use crate::wire::header::MediaType;
use crate::wire::header::hosts::agent_token;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::uri::Uri;
use crate::wire::uri::escape_user;

/// Retry-After of a refusal: jittered, so that a trunk's calls do not all come back in one second.
const RETRY_AFTER_SECS_MIN: u32 = 5;
const RETRY_AFTER_SECS_MAX: u32 = 15;
/// Longer ids are no contact ids (product.md §1, `contact_id`).
const CONTACT_ID_BYTES_MAX: usize = 64;
/// A number or name left of the `@`, longer than any that a switch dials.
const NUMBER_BYTES_MAX: usize = 256;
const DISPLAY_BYTES_MAX: usize = 512;

/// CXone's INVITE: a plan for the call, or the refusal that CXone hears. `invite` has passed `Message::check`.
pub fn admit(config: &Arc<Config>, invite: &Message, situation: &Situation<'_>) -> Verdict {
    match plan(config, invite, situation) {
        Ok(plan) => Verdict::Plan(Box::new(plan)),
        Err(refusal) => Verdict::Refusal(refusal),
    }
}

fn plan(config: &Arc<Config>, invite: &Message, situation: &Situation<'_>) -> Result<Plan, Refusal> {
    check_limits(config, situation)?;
    check_session_timer(config, invite)?;
    let callee_number = callee_number(config, invite)?;
    let mut warnings = Vec::new();
    let found = find_contact(config, invite, &mut warnings);
    if found.is_none() && config.cxone.missing_contact_id == MissingContactId::Reject {
        return Err(refusal(config, 403, "no contact id", warnings.join("; "), Vec::new()));
    }
    let targets = planned_targets(config, situation)?;
    check_body(config, invite)?;

    let facts = Facts {
        contact: found.as_ref().map(|f| &f.id),
        contact_header: found.as_ref().map(|f| f.header.as_str()),
        call_id: situation.call_id,
        our_host: situation.our_host,
        trace: false,
    };
    let mut mapping = map_invite(config, invite, facts);
    warnings.append(&mut mapping.warnings);
    let udp_headers = for_udp(config, &mapping, &targets, &mut warnings);
    let (caller_display, caller_user) = caller(invite);
    Ok(Plan {
        contact: found.map(|f| f.id),
        callee_number,
        caller_display,
        caller_user,
        targets,
        headers: mapping.lines,
        udp_headers,
        rules: Arc::new(rules(config, invite, mapping.words, situation)),
        warnings,
    })
}

fn check_limits(config: &Config, situation: &Situation<'_>) -> Result<(), Refusal> {
    let limit = if situation.draining {
        "draining".to_owned()
    } else if situation.calls >= config.node.max_calls {
        format!("max_calls {} reached", config.node.max_calls)
    } else if !situation.rate_ok {
        format!("max_cps {} reached", config.node.max_cps)
    } else if !situation.ports_free {
        "no media port is free".to_owned()
    } else {
        return Ok(());
    };
    let why = format!("{limit}; {} calls are up", situation.calls);
    Err(refusal(config, 503, &limit, why, vec![retry_after(situation)]))
}

fn retry_after(situation: &Situation<'_>) -> Carried {
    let span = RETRY_AFTER_SECS_MAX - RETRY_AFTER_SECS_MIN + 1;
    let secs = RETRY_AFTER_SECS_MIN + u32::from(situation.dice.min(999)) * span / 1000;
    carried(b"Retry-After", secs.to_string().as_bytes())
}

/// A refusal whose reason phrase and Warning (RFC 3261 §20.43, 399 = miscellaneous) say what is in the way.
fn refusal(config: &Config, status: u16, text: &str, why: String, mut headers: Vec<Carried>) -> Refusal {
    let standard = match status {
        403 => "Forbidden",
        404 => "Not Found",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let quoted = text.replace(['"', '\\'], "'");
    let warning = format!("399 {} \"{quoted}\"", agent_token(&config.node.name));
    headers.push(carried(b"Warning", warning.as_bytes()));
    Refusal { status, reason: format_compact!("{standard}: {text}"), headers, why }
}

/// The user part of our Request-URI: `synthflow.number`, else what `number_map` has for the dialled number, else the dialled number.
fn callee_number(config: &Config, invite: &Message) -> Result<CompactString, Refusal> {
    let refuse = |status, text: &str| refusal(config, status, text, format!("Request-URI {:?}", shown(invite.uri())), Vec::new());
    let uri = Uri::parse(invite.uri()).ok_or_else(|| refuse(400, "Bad Request-URI"))?;
    if matches!(uri, Uri::Other { .. }) {
        // RFC 3261 §8.2.2.1.
        return Err(refuse(416, "only sip, sips and tel"));
    }
    if !config.synthflow.number.is_empty() {
        return Ok(escape_user(config.synthflow.number.as_bytes()));
    }
    // Synthflow cannot tell which agent is meant without a user part (facts.md §3.2).
    let dialled = user_text(&uri).filter(|user| user.len() <= NUMBER_BYTES_MAX).ok_or_else(|| refuse(404, "no dialled number"))?;
    let map = &config.synthflow.number_map;
    let mapped = map.get(&dialled).or_else(|| map.iter().find(|(key, _)| same_key(key, &dialled)).map(|(_, number)| number));
    Ok(escape_user(mapped.unwrap_or(&dialled).as_bytes()))
}

/// A contact id and the header it came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundContact {
    pub id: ContactId,
    pub header: String,
}

/// The contact id: the first sound one of `cxone.contact_id`. What is wrong with others, or why there is none, goes to `warnings`.
pub fn find_contact(config: &Config, invite: &Message, warnings: &mut Vec<String>) -> Option<FoundContact> {
    let mut unsound = false;
    for name in &config.cxone.contact_id {
        let mut values = invite.named(name).map(<[u8]>::trim_ascii);
        let Some(value) = values.next() else { continue };
        if let Some(id) = contact_id(value) {
            if values.any(|other| other != value) {
                warnings.push(format!("{name} came more than once with different values: the first one, {id}, counts"));
            }
            return Some(FoundContact { id: ContactId::new(id), header: name.clone() });
        }
        unsound = true;
        warnings.push(format!("{name}: {:?} is no contact id (1 to 64 letters, digits and '-')", shown(value)));
    }
    warnings.push(if has_x_header(invite) {
        let found = if unsound { "no sound contact id" } else { "no contact id" };
        format!("{found} in {}: this call cannot be escalated", config.cxone.contact_id.join(", "))
    } else {
        "no contact id: no X- header arrived: is the custom-header setting of CXone's trunk group on?".to_owned()
    });
    None
}

/// `[0-9A-Za-z-]{1,64}`
fn contact_id(value: &[u8]) -> Option<&str> {
    let sound = (1..=CONTACT_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-');
    std::str::from_utf8(value).ok().filter(|_| sound)
}

fn planned_targets(config: &Config, situation: &Situation<'_>) -> Result<Vec<PlannedTarget>, Refusal> {
    let targets = targets(&config.synthflow.targets, situation.resolve);
    if targets.is_empty() {
        let names: Vec<&str> = config.synthflow.targets.iter().map(|spec| spec.name.0.as_str()).collect();
        let text = format!("no address for {}", names.join(", "));
        // CXone must not learn Synthflow's names: they go to the log only.
        return Err(refusal(config, config.cxone.relay_503, "no address for the target", text, vec![retry_after(situation)]));
    }
    Ok(targets)
}

/// A body, when there is one, must be an SDP offer (RFC 3261 §8.2.3: 415 says what we take).
fn check_body(config: &Config, invite: &Message) -> Result<(), Refusal> {
    let encoding = invite.value(Name::ContentEncoding).filter(|e| !e.eq_ignore_ascii_case(b"identity"));
    let kind = invite.value(Name::ContentType).unwrap_or_default();
    if invite.body().is_empty() {
        return Ok(());
    }
    let accept = |name: &[u8], value: &[u8]| vec![carried(name, value)];
    if let Some(encoding) = encoding {
        let why = format!("Content-Encoding {:?}", shown(encoding));
        return Err(refusal(config, 415, "Content-Encoding", why, accept(b"Accept-Encoding", b"identity")));
    }
    if !MediaType::parse(kind).is_some_and(|media| media.is("application/sdp")) {
        let why = format!("Content-Type {:?}", shown(kind));
        return Err(refusal(config, 415, "only application/sdp", why, accept(b"Accept", b"application/sdp")));
    }
    Ok(())
}

/// The header lines for UDP, when the budget takes something away from them and a target is reached over UDP.
fn for_udp(config: &Config, mapping: &Mapping, targets: &[PlannedTarget], warnings: &mut Vec<String>) -> Option<Vec<Carried>> {
    if targets.iter().all(|planned| planned.target.transport != Transport::Udp) {
        return None;
    }
    let headers = &config.headers;
    let trimmed = apply_budget(&mapping.lines, headers.budget, &headers.drop_order, &mapping.protected);
    if headers.budget > 0 && trimmed.after > headers.budget {
        warnings.push(format!(
            "X-EI and what feeds it are {} bytes alone, headers.budget is {}: they leave all the same",
            trimmed.after, headers.budget
        ));
    }
    if trimmed.dropped.is_empty() {
        return None;
    }
    let names: Vec<_> = trimmed.dropped.iter().map(|name| String::from_utf8_lossy(name)).collect();
    warnings.push(format!(
        "X- headers are {} bytes, headers.budget is {}: over UDP the INVITE leaves without {}",
        trimmed.before,
        headers.budget,
        names.join(", ")
    ));
    Some(trimmed.lines)
}

/// Display name (with a blank after it) and user part of our From.
fn caller(invite: &Message) -> (Bytes, Bytes) {
    let Ok(from) = invite.from() else { return Default::default() };
    let mut display = from.display.map(safe_display).unwrap_or_default();
    if !display.is_empty() {
        display.push(b' ');
    }
    let user = from.parsed_uri().and_then(|uri| user_text(&uri)).filter(|user| user.len() <= NUMBER_BYTES_MAX).unwrap_or_default();
    (Bytes::from(display), Bytes::copy_from_slice(escape_user(user.as_bytes()).as_bytes()))
}

/// A display name as it came when it is a sound quoted string or plain words, else quoted by us (RFC 3261 §25.1, display-name).
fn safe_display(display: &[u8]) -> Vec<u8> {
    let display = display.trim_ascii();
    let words = display.iter().all(|&b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~ \t".contains(&b));
    if display.len() > DISPLAY_BYTES_MAX {
        return Vec::new();
    }
    if words || is_quoted_string(display) {
        return display.to_vec();
    }
    let mut out = vec![b'"'];
    for &byte in display {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            byte if byte.is_ascii_control() => out.push(b' '),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
    out
}

fn is_quoted_string(text: &[u8]) -> bool {
    let Some(inner) = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")) else { return false };
    let mut escaped = false;
    for &byte in inner {
        match byte {
            byte if byte.is_ascii_control() && byte != b'\t' => return false,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            _ => {}
        }
    }
    !escaped
}

fn session_times(config: &Config) -> SessionTimes {
    SessionTimes { expires: config.sip.session_expires, min_se: config.sip.min_se }
}

/// RFC 4028 §9: "the UAS MAY reject the INVITE request with a 422 (Session Interval Too Small) response"; it "MUST include a Min-SE".
fn check_session_timer(config: &Config, invite: &Message) -> Result<(), Refusal> {
    let Some(min_se) = too_short(session_times(config), invite) else { return Ok(()) };
    let why = format!("Session-Expires below min_se {min_se} s");
    Err(refusal(config, 422, "", why, vec![line("Min-SE", min_se.to_string())]))
}

fn rules(config: &Arc<Config>, invite: &Message, words: CallWords, situation: &Situation<'_>) -> Rules {
    let policy = FixedPolicy::new(config, invite, words, situation.our_host_caller, situation.our_host);
    Rules {
        times: CallTimes {
            session: session_times(config),
            ring_timeout: config.sip.ring_timeout,
            first_response: config.synthflow.first_response,
            max_call_duration: config.sip.max_call_duration,
            media_timeout: config.media.timeout,
        },
        signal: SignalTimes {
            timeout: config.api.timeout,
            settle: config.api.settle,
            repeat_unanswered: config.api.repeat_unanswered,
            deadline: config.api.deadline,
            after_signal: config.cxone.after_signal,
        },
        on_failure: config.escalation.on_failure,
        failure_reason: config.escalation.failure_reason.clone(),
        latch: config.media.latch,
        codecs: config.synthflow.codecs.clone(),
        relay_503: config.cxone.relay_503,
        policy: Box::new(policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamePattern;
    use crate::policy::samples::Names;
    use crate::policy::samples::invite;
    use crate::policy::samples::message;
    use crate::policy::samples::spec;
    use crate::policy::samples::test_config;

    fn names() -> Names {
        Names::of(&[("sip.us.synthflow.ai", &["192.0.2.1", "192.0.2.2"])])
    }

    fn situation(names: &Names) -> Situation<'_> {
        Situation {
            calls: 0,
            draining: false,
            rate_ok: true,
            ports_free: true,
            resolve: names,
            call_id: "0CALL",
            our_host: "203.0.113.10:5060",
            our_host_caller: "203.0.113.10:5060",
            dice: 0,
        }
    }

    fn planned(config: Config, invite: &Message) -> Plan {
        match admit(&Arc::new(config), invite, &situation(&names())) {
            Verdict::Plan(plan) => *plan,
            Verdict::Refusal(refusal) => panic!("{refusal:?}"),
        }
    }

    fn refused(config: Config, invite: &Message, change: impl FnOnce(&mut Situation<'_>)) -> Refusal {
        let names = names();
        let mut situation = situation(&names);
        change(&mut situation);
        match admit(&Arc::new(config), invite, &situation) {
            Verdict::Plan(plan) => panic!("{plan:?}"),
            Verdict::Refusal(refusal) => refusal,
        }
    }

    fn header(refusal: &Refusal, name: &str) -> String {
        let found = refusal.headers.iter().find(|l| l.name == name.as_bytes());
        found.map(|l| String::from_utf8_lossy(&l.value).into_owned()).unwrap_or_default()
    }

    /// product.md §5: "503 + Retry-After and a reason that says which limit".
    #[test]
    fn each_limit_is_named_in_its_503_and_the_first_one_counts() {
        let all = |s: &mut Situation<'_>| {
            (s.draining, s.calls, s.rate_ok, s.ports_free) = (true, 2000, false, false);
        };
        type Change = Box<dyn Fn(&mut Situation<'_>)>;
        let cases: [(Change, &str); 5] = [
            (Box::new(all), "draining"),
            (Box::new(move |s| (s.draining, s.calls, s.rate_ok, s.ports_free) = (false, 2000, false, false)), "max_calls 2000 reached"),
            (Box::new(|s| s.calls = 2001), "max_calls 2000 reached"),
            (Box::new(|s| s.rate_ok = false), "max_cps 1000 reached"),
            (Box::new(|s| s.ports_free = false), "no media port is free"),
        ];
        for (change, text) in cases {
            let refusal = refused(test_config(), &invite(&[]), |s| change(s));
            assert_eq!((refusal.status, refusal.reason.as_str()), (503, format!("Service Unavailable: {text}").as_str()));
            assert_eq!(header(&refusal, "Warning"), format!("399 bc-1 \"{text}\""));
            assert_eq!(header(&refusal, "Retry-After"), "5");
            assert!(refusal.why.starts_with(text));
        }
        assert!(planned_at(1999));
    }

    fn planned_at(calls: usize) -> bool {
        let names = names();
        let situation = Situation { calls, ..situation(&names) };
        matches!(admit(&Arc::new(test_config()), &invite(&[]), &situation), Verdict::Plan(_))
    }

    #[test]
    fn retry_after_spreads_over_its_whole_span() {
        for (dice, secs) in [(0, "5"), (499, "10"), (999, "15"), (u16::MAX, "15")] {
            let refusal = refused(test_config(), &invite(&[]), |s| (s.draining, s.dice) = (true, dice));
            assert_eq!(header(&refusal, "Retry-After"), secs);
        }
    }

    #[test]
    fn the_contact_id_is_the_first_sound_one_in_the_order_of_the_configuration() {
        let long = "a".repeat(64);
        for (lines, contact, warnings) in [
            (vec!["X-InContact-MasterId: 123 ".to_owned()], Some("123"), 0),
            (vec!["X-Contact-ID: 2".into(), "x-incontact-masterid: 1".into()], Some("1"), 0),
            (vec!["X-InContact-MasterId:".into(), "X-Contact-ID: 2".into()], Some("2"), 1),
            (vec!["X-InContact-MasterId: {ContactId}".into()], None, 2),
            (vec!["X-InContact-MasterId: 1;2".into()], None, 2),
            (vec!["X-InContact-MasterId: 1".into(), "X-InContact-MasterId: 2".into()], Some("1"), 2),
            (vec![format!("X-ContactID: {long}")], Some(long.as_str()), 0),
            (vec![format!("X-ContactID: {long}a")], None, 2),
            (vec!["X-Else: 1".into()], None, 1),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let plan = planned(test_config(), &invite(&lines));
            assert_eq!(plan.contact.as_ref().map(ContactId::as_str), contact, "{lines:?}");
            assert_eq!(plan.warnings.len(), warnings, "{:?}", plan.warnings);
        }
    }

    /// features.md C9: the hint when CXone's trunk group keeps custom headers back.
    #[test]
    fn without_any_x_header_the_warning_asks_for_the_trunk_groups_setting() {
        let plan = planned(test_config(), &invite(&[]));
        assert_eq!(plan.warnings, ["no contact id: no X- header arrived: is the custom-header setting of CXone's trunk group on?"]);
        let mut config = test_config();
        config.cxone.missing_contact_id = MissingContactId::Reject;
        let refusal = refused(config.clone(), &invite(&[]), |_| {});
        assert_eq!((refusal.status, refusal.reason.as_str()), (403, "Forbidden: no contact id"));
        assert!(refusal.why.contains("custom-header setting"));
        assert_eq!(header(&refusal, "Retry-After"), "");
        assert!(planned(config, &invite(&["X-ContactID: 7"])).contact.is_some());
    }

    #[test]
    fn the_callee_number_is_the_configured_one_else_the_mapped_one_else_the_dialled_one() {
        let dial = |uri: &str, number: &str, map: &[(&str, &str)]| {
            let mut config = test_config();
            config.synthflow.number = number.into();
            config.synthflow.number_map = map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            planned(config, &message(&format!("INVITE {uri} SIP/2.0"), "1 INVITE", &["X-ContactID: 1"])).callee_number.to_string()
        };
        for (uri, number, map, found) in [
            ("sip:9991234567@203.0.113.10", "", &[][..], "9991234567"),
            ("sip:9991234567@203.0.113.10", "", &[("9991234567", "+12065551234")], "+12065551234"),
            ("sip:9991234567@203.0.113.10", "+1777", &[("9991234567", "+12065551234")], "+1777"),
            ("sip:c00000042@203.0.113.10:5060;transport=tcp", "", &[], "c00000042"),
            ("sip:+12065551234@203.0.113.10;user=phone", "", &[], "+12065551234"),
            ("tel:+1-206-555-1234;ext=9", "", &[], "+12065551234"),
            ("tel:+1-206-555-1234", "", &[("+12065551234", "+1888")], "+1888"),
            ("sip:%2B1206;tgrp=t@203.0.113.10", "", &[("+1206", "+1888")], "+1888"),
            ("sip:a%40b%20c@203.0.113.10", "", &[], "a%40b%20c"),
            ("sip:203.0.113.10", "+1777", &[], "+1777"),
        ] {
            assert_eq!(dial(uri, number, map), found, "{uri}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_dialled_is_refused_by_name() {
        let long = format!("sip:{}@h", "1".repeat(NUMBER_BYTES_MAX + 1));
        for (uri, status) in [("sip:203.0.113.10", 404), ("mailto:a@b", 416), ("sip:@@", 400), (long.as_str(), 404)] {
            let invite = message(&format!("INVITE {uri} SIP/2.0"), "1 INVITE", &[]);
            assert_eq!(refused(test_config(), &invite, |_| {}).status, status, "{uri}");
        }
    }

    #[test]
    fn without_an_address_of_any_target_cxone_hears_relay_503_and_no_name() {
        let nobody = Names::default();
        for status in [503, 500] {
            let mut config = test_config();
            config.cxone.relay_503 = status;
            let verdict = admit(&Arc::new(config), &invite(&["X-ContactID: 1"]), &situation(&nobody));
            let Verdict::Refusal(refusal) = verdict else { panic!("planned") };
            assert_eq!(refusal.status, status);
            assert!(refusal.why.contains("sip.us.synthflow.ai"));
            assert!(!refusal.reason.contains("synthflow") && !header(&refusal, "Warning").contains("synthflow"));
        }
    }

    /// RFC 3261 §8.2.3.
    #[test]
    fn a_body_that_is_no_sdp_is_refused_with_what_we_take() {
        let with_body = |lines: &[&str], body: &str| {
            let mut text = String::from_utf8(invite(lines).raw().to_vec()).unwrap();
            text = text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
            text.push_str(body);
            Message::parse(Bytes::from(text)).unwrap()
        };
        for (lines, header_name, value) in [
            (&["Content-Type: multipart/mixed;boundary=x"][..], "Accept", "application/sdp"),
            (&["Content-Type: text/plain"], "Accept", "application/sdp"),
            (&[], "Accept", "application/sdp"),
            (&["Content-Type: application/sdp", "Content-Encoding: gzip"], "Accept-Encoding", "identity"),
        ] {
            let refusal = refused(test_config(), &with_body(lines, "v=0\r\n"), |_| {});
            assert_eq!((refusal.status, header(&refusal, header_name).as_str()), (415, value), "{lines:?}");
        }
        planned(test_config(), &with_body(&["c: Application/SDP;charset=utf-8"], "v=0\r\n"));
        planned(test_config(), &invite(&["Content-Type: text/plain"]));
    }

    #[test]
    fn the_callers_name_and_number_go_on_without_its_host() {
        let caller_of = |from: &str| {
            let text = String::from_utf8(invite(&[]).raw().to_vec()).unwrap();
            let old = text.lines().find(|l| l.starts_with("From:")).unwrap().to_owned();
            let plan = planned(test_config(), &Message::parse(Bytes::from(text.replace(&old, &format!("From: {from}")))).unwrap());
            format!("{}<{}>", String::from_utf8_lossy(&plan.caller_display), String::from_utf8_lossy(&plan.caller_user))
        };
        for (from, caller) in [
            ("\"Jane \\\"J\\\" Doe\" <sip:+1206@10.0.0.9>;tag=1", "\"Jane \\\"J\\\" Doe\" <+1206>"),
            ("Jane Doe <sip:+1206@10.0.0.9>;tag=1", "Jane Doe <+1206>"),
            ("J\u{f6}rg <sip:+1206@10.0.0.9>;tag=1", "\"J\u{f6}rg\" <+1206>"),
            ("<sip:+1206@10.0.0.9>;tag=1", "<+1206>"),
            ("sip:+1206@10.0.0.9;tag=1", "<+1206>"),
            ("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1", "\"Anonymous\" <anonymous>"),
            ("<tel:+1-206-555>;tag=1", "<+1206555>"),
            ("<sip:10.0.0.9>;tag=1", "<>"),
        ] {
            assert_eq!(caller_of(from), caller);
        }
    }

    #[test]
    fn over_udp_the_budget_drops_headers_and_says_which() {
        let lines = ["X-ContactID: 1", "X-Big: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "X-Small: b"];
        let mut config = test_config();
        config.headers.budget = 80;
        config.headers.drop_order = vec![NamePattern("X-Big".into())];
        assert_eq!(planned(config.clone(), &invite(&lines)).udp_headers, None, "no target is reached over UDP");
        config.synthflow.targets.push(spec("sip.us.synthflow.ai", 32681, Transport::Udp));
        let plan = planned(config.clone(), &invite(&lines));
        let udp: Vec<_> = plan.udp_headers.unwrap().iter().map(|l| String::from_utf8_lossy(&l.name).into_owned()).collect();
        assert_eq!(udp, ["X-EI", "X-Backchannel-Call-Id", "X-ContactID", "X-Small"]);
        assert_eq!(plan.headers.len(), 5);
        assert_eq!(plan.warnings, ["X- headers are 135 bytes, headers.budget is 80: over UDP the INVITE leaves without X-Big"]);
        config.headers.budget = 0;
        assert_eq!(planned(config, &invite(&lines)).udp_headers, None);
    }

    #[test]
    fn the_rules_of_the_call_are_those_of_the_configuration() {
        let plan = planned(test_config(), &invite(&["X-ContactID: 1"]));
        assert_eq!(plan.targets.len(), 2);
        assert_eq!(plan.rules.codecs.len(), 4);
        assert_eq!(plan.rules.signal.deadline.as_secs(), 12);
        assert_eq!(plan.rules.times.first_response.as_secs(), 4);
        assert_eq!(plan.rules.policy.answer_headers()[0].value, "0CALL");
    }
}
