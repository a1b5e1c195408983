//! What a BYE or a REFER of Synthflow asks for (product.md §4, "What counts").

use std::borrow::Cow;

use crate::call::rules::Ask;
use crate::call::rules::AskedBy;
use crate::call::rules::ByeVerdict;
use crate::call::rules::Carried;
use crate::call::rules::ReferVerdict;
use crate::config::Escalation;
use crate::policy::numbers::user_of;
use crate::policy::numbers::user_text;
use crate::policy::queues::Lookup;
use crate::policy::queues::Named;
use crate::policy::queues::Said;
use crate::policy::queues::default_queue;
use crate::policy::queues::known;
use crate::policy::queues::look_up;
use crate::policy::queues::said;
use crate::wire::header::NameAddr;
use crate::wire::header::Params;
use crate::wire::header::unquote;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::uri::Uri;
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
    let texts = message.elements(Name::Reason).filter_map(|reason| {
        let params = reason.iter().position(|&b| b == b';').map(|at| &reason[at..])?;
        let text = Params(params).get("text")?;
        let text = String::from_utf8_lossy(&unquote(text)).trim().to_owned();
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
    let Some(target) = ReferTarget::parse(value) else {
        return refuse(400, "Refer-To is unreadable");
    };
    if !rules.accept_refer {
        return refuse(603, "escalation.accept has no \"refer\"");
    }
    if !contact {
        return refuse(603, "the call has no contact id: nothing can be signalled");
    }
    let named = match queue_header(rules, refer) {
        Named::Nowhere => target.queue(rules, refer),
        named => named,
    };
    let queue = match look_up(rules, &named) {
        Lookup::Queue(queue) => queue,
        Lookup::Unknown(name) => {
            return refuse(603, format!("{name:?} is no key of escalation.queues, and unknown_queue is \"refuse\""));
        }
    };
    let mut reason = reason_text(refer).unwrap_or_else(|| "refer".to_owned());
    if target.replaces {
        reason.push_str(" (Replaces ignored)");
    }
    let referred_to = target.user.unwrap_or_default();
    ReferVerdict::Escalate(Ask { by: AskedBy::Refer, queue, reason: bounded(reason), referred_to, headers })
}

fn refuse(status: u16, why: impl Into<String>) -> ReferVerdict {
    ReferVerdict::Refuse { status, why: why.into() }
}

/// What a Refer-To says.
struct ReferTarget {
    /// Escapes decoded.
    user: Option<String>,
    /// Headers after the `?`, names and values decoded.
    headers: Vec<(String, Vec<u8>)>,
    replaces: bool,
}

impl ReferTarget {
    /// `sip:`, `sips:`, `tel:` or anything else, with or without angle brackets. A bare URI with headers is against RFC 3261 §20 but
    /// means only one thing here.
    fn parse(value: &[u8]) -> Option<ReferTarget> {
        let (user, uri) = match NameAddr::parse(value) {
            Some(address) => (user_of(&address), address.parsed_uri()?),
            None => {
                let uri = Uri::parse(value.trim_ascii())?;
                (user_text(&uri), uri)
            }
        };
        let text = match uri {
            Uri::Sip(uri) => uri.headers.unwrap_or_default(),
            _ => &[],
        };
        let decoded = |text: &[u8]| unescape(text).into_owned();
        let headers: Vec<(String, Vec<u8>)> = text
            .split(|&b| b == b'&')
            .filter_map(|pair| {
                let at = pair.iter().position(|&b| b == b'=')?;
                Some((String::from_utf8(decoded(&pair[..at])).ok()?, decoded(&pair[at + 1..])))
            })
            .collect();
        let replaces = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Replaces"));
        Some(ReferTarget { user, headers, replaces })
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The user when it is a key; else what a header in the `?` part or the User-to-User says by name; else the user as it is.
    fn queue(&self, rules: &Escalation, refer: &Message) -> Named {
        if let Some(user) = self.user.as_deref().filter(|user| known(rules, user).is_some()) {
            return Named::Queue(user.to_owned());
        }
        let in_uri = rules.queue_headers.iter().flat_map(|name| self.header(name)).find_map(name_in);
        let user_to_user = || self.header("User-to-User").chain(refer.elements(Name::UserToUser)).find_map(|v| uui_queue(rules, v));
        let user = || self.user.as_deref().and_then(|user| name_in(user.as_bytes()));
        in_uri.or_else(user_to_user).or_else(user).map_or(Named::Nowhere, Named::Queue)
    }
}

/// The queue in a User-to-User value (RFC 7433 §4: `data;encoding=hex`, hex when nothing is said).
///
/// How Synthflow packs a transfer's headers into it is not documented (facts.md §4). Assumed: the data is text, either plain or
/// hexadecimal, of `Name=value` or `Name: value` pairs between `;`, `&`, `,`, `|` or line ends; or JSON with such names as strings;
/// or nothing but a key of `[escalation.queues]`. Anything else names no queue.
fn uui_queue(rules: &Escalation, value: &[u8]) -> Option<String> {
    let value = value.get(..UUI_BYTES_MAX).unwrap_or(value);
    let text = uui_text(value);
    for name in &rules.queue_headers {
        for pair in text.split([';', '&', ',', '|', '\r', '\n', '{', '}']) {
            let Some((key, queue)) = pair.split_once(['=', ':']) else { continue };
            let bare = |t: &str| t.trim().trim_matches('"').to_owned();
            if bare(key).eq_ignore_ascii_case(name)
                && let Some(queue) = name_in(&unescape(bare(queue).as_bytes()))
            {
                return Some(queue);
            }
        }
    }
    let bare = text.trim();
    known(rules, bare).is_some().then(|| bare.to_owned())
}

/// The data of a User-to-User value as text: hexadecimal decoded when it is that, with the protocol discriminator that some put in
/// front (`00`, `04`) left out.
fn uui_text(value: &[u8]) -> String {
    let params = value.windows(b";encoding".len()).position(|w| w.eq_ignore_ascii_case(b";encoding"));
    let data = unquote(value[..params.unwrap_or(value.len())].trim_ascii()).into_owned();
    let data = data.split(|&b| b == b';').next().filter(|d| decode_hex(d).is_some()).map(<[u8]>::to_vec).unwrap_or(data);
    let decoded: Cow<'_, [u8]> = match decode_hex(&data) {
        Some(bytes) => Cow::Owned(bytes),
        None => unescape(&data),
    };
    let text = String::from_utf8_lossy(&decoded);
    text.trim_start_matches(|c: char| c.is_control()).to_owned()
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.is_empty() || text.len() % 2 == 1 {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}

