//! May this call start, and how?

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use compact_str::format_compact;

use crate::call::rules::CallTimes;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::PlannedTarget;
use crate::call::rules::Refusal;
use crate::call::rules::Rules;
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
use crate::policy::headers::call_words;
use crate::policy::headers::carried;
use crate::policy::headers::has_x_header;
use crate::policy::headers::map_invite;
use crate::policy::headers::shown;
use crate::policy::numbers::same_key;
use crate::policy::numbers::user_text;
use crate::policy::routing::targets;
use crate::policy::standard::agent_token;
use crate::policy::template::CallWords;
use crate::wire::header::MediaType;
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
    let words = call_words(config, invite, facts);
    let (caller_display, caller_user) = caller(invite);
    Ok(Plan {
        contact: found.map(|f| f.id),
        callee_number,
        caller_display,
        caller_user,
        targets,
        headers: mapping.lines,
        udp_headers,
        rules: Arc::new(rules(config, invite, words, situation)),
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

fn rules(config: &Arc<Config>, invite: &Message, words: CallWords, situation: &Situation<'_>) -> Rules {
    let policy = FixedPolicy::new(config, invite, words, situation.our_host_caller, situation.our_host);
    Rules {
        times: CallTimes {
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
        on_bot_lost: config.escalation.on_bot_lost,
        failure_reason: config.escalation.failure_reason.clone(),
        latch: config.media.latch,
        codecs: config.synthflow.codecs.clone(),
        relay_503: config.cxone.relay_503,
        node: config.node.name.clone(),
        policy: Box::new(policy),
    }
}
