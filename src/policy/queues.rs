//! From what the bot says to the name of CXone's queue (product.md §4, `[escalation.queues]`).

use compact_str::CompactString;

use crate::config::Escalation;
use crate::config::UnknownQueue;
use crate::policy::numbers::same_key;

/// p1 when nothing names a queue and no default is set.
const QUEUE_FALLBACK: &str = "escalate";

/// How a header value that may ask for an escalation is to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Empty, `none`, `null`, `n/a`, or a `{variable}` that nobody filled in: as if it were not there.
    Nothing,
    /// `false`, `no`, `0`, `off`.
    No,
    /// `true`, `yes`, `1`, `on`: it marks, but never names a queue.
    Yes,
    /// A name, or a reason.
    Text(String),
}

/// Reads such a value, in any case; quotes round the whole of it do not count.
pub fn said(value: &[u8]) -> Said {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).trim();
    match text.to_ascii_lowercase().as_str() {
        "" | "none" | "null" | "n/a" => Said::Nothing,
        "false" | "no" | "0" | "off" => Said::No,
        "true" | "yes" | "1" | "on" => Said::Yes,
        _ if is_unresolved(text) => Said::Nothing,
        _ => Said::Text(text.to_owned()),
    }
}

/// `{X-Queue}` as Synthflow sends it when its variable has no value (facts.md §2.2); a JSON object is no such thing.
fn is_unresolved(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    inner.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_. ".contains(c)))
}

/// Where a queue's name was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    Queue(String),
    Nowhere,
}

/// What the lookup came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    Queue(CompactString),
    /// `unknown_queue = "refuse"`, and this name is no key.
    Unknown(String),
}

/// The queue under this key, any ASCII case; `+` numbers with or without visual separators.
pub fn known<'a>(rules: &'a Escalation, name: &str) -> Option<&'a str> {
    let exact = rules.queues.get(name);
    exact.or_else(|| rules.queues.iter().find(|(key, _)| same_key(key, name)).map(|(_, queue)| queue)).map(String::as_str)
}

/// CXone's queue for what was named.
pub fn look_up(rules: &Escalation, named: &Named) -> Lookup {
    let Named::Queue(name) = named else { return Lookup::Queue(default_queue(rules)) };
    match (known(rules, name), rules.unknown_queue) {
        (Some(queue), _) => Lookup::Queue(queue.into()),
        (None, UnknownQueue::Pass) => Lookup::Queue(name.into()),
        (None, UnknownQueue::Default) => Lookup::Queue(default_queue(rules)),
        (None, UnknownQueue::Refuse) => Lookup::Unknown(name.clone()),
    }
}

/// `default_queue`, else "escalate".
pub fn default_queue(rules: &Escalation) -> CompactString {
    if rules.default_queue.is_empty() { QUEUE_FALLBACK.into() } else { rules.default_queue.as_str().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::test_config;

    #[test]
    fn values_that_mean_nothing_no_yes_and_something() {
        for value in ["", "  ", "none", "NULL", "n/a", "N/A", "\"\"", "{X-Queue}", "{queue_name}", "{}", "{ X-Queue }"] {
            assert_eq!(said(value.as_bytes()), Said::Nothing, "{value}");
        }
        for value in ["false", "No", "0", "OFF", "\"false\""] {
            assert_eq!(said(value.as_bytes()), Said::No, "{value}");
        }
        for value in ["true", "YES", "1", " on "] {
            assert_eq!(said(value.as_bytes()), Said::Yes, "{value}");
        }
        for (value, text) in [("billing", "billing"), (" \"a b\" ", "a b"), ("{\"a\":1}", "{\"a\":1}"), ("00", "00"), ("nobody", "nobody")]
        {
            assert_eq!(said(value.as_bytes()), Said::Text(text.into()), "{value}");
        }
    }

    #[test]
    fn keys_are_found_in_any_case_and_numbers_in_any_dress() {
        let rules = test_config().escalation;
        assert_eq!(known(&rules, "BILLING"), Some("Billing EN"));
        assert_eq!(known(&rules, "+1 (206) 555-0100"), Some("support"));
        assert_eq!(known(&rules, "12065550100"), None);
    }

    #[test]
    fn an_unknown_queue_is_the_default_or_passed_or_refused() {
        let mut rules = test_config().escalation;
        let vip = Named::Queue("vip".into());
        for (unknown, default, found) in [
            (UnknownQueue::Default, "", Lookup::Queue("escalate".into())),
            (UnknownQueue::Default, "general", Lookup::Queue("general".into())),
            (UnknownQueue::Pass, "general", Lookup::Queue("vip".into())),
            (UnknownQueue::Refuse, "general", Lookup::Unknown("vip".into())),
        ] {
            rules.unknown_queue = unknown;
            rules.default_queue = default.into();
            assert_eq!(look_up(&rules, &vip), found);
            assert_eq!(look_up(&rules, &Named::Queue("billing".into())), Lookup::Queue("Billing EN".into()));
            assert!(matches!(look_up(&rules, &Named::Nowhere), Lookup::Queue(_)));
        }
    }
}
