//! Every key of the contract, with its default as TOML. The only place where a default is written.

/// What this version does with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Built {
    Yes,
    /// Not built yet: only the default, or one of these, is accepted.
    Later(&'static [&'static str]),
}

/// One key: its whole path, its default as TOML text.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub path: &'static str,
    pub default: &'static str,
    pub built: Built,
    /// A table whose names the user chooses.
    pub free: bool,
}

const fn key(path: &'static str, default: &'static str) -> Key {
    Key { path, default, built: Built::Yes, free: false }
}

const fn free(path: &'static str, default: &'static str) -> Key {
    Key { path, default, built: Built::Yes, free: true }
}

const fn later(path: &'static str, default: &'static str) -> Key {
    Key { path, default, built: Built::Later(&[]), free: false }
}

/// The sections of the contract; a section without keys here is none.
pub const KEYS: &[Key] = &[
    key("node.name", r#""""#),
    key("node.state_dir", r#""state""#),
    later("node.state", r#""embedded""#),
    key("node.max_calls", "2000"),
    key("node.max_cps", "1000"),
    key("node.drain_deadline", r#""1h""#),
    key("sip.listen", r#"["udp://0.0.0.0:5060", "tcp://0.0.0.0:5060"]"#),
    key("sip.advertise", "[]"),
    key("sip.tls_cert", r#""""#),
    key("sip.tls_key", r#""""#),
    key("sip.udp_mtu", "1300"),
    key("sip.t1", r#""500ms""#),
    key("sip.ring_timeout", r#""60s""#),
    key("sip.max_call_duration", r#""4h""#),
    key("sip.session_expires", r#""30m""#),
    key("sip.min_se", r#""90s""#),
    key("media.bind", "[]"),
    key("media.advertise", "[]"),
    key("media.ports", r#""10000-29999""#),
    key("media.timeout", r#""60s""#),
    key("media.latch", r#""strict""#),
    key("media.dscp", "46"),
    Key { path: "media.relay", default: r#""auto""#, built: Built::Later(&[r#""userspace""#]), free: false },
    key("cxone.allow", r#"["216.20.235.167", "216.20.237.167"]"#),
    key("cxone.advertise", "[]"),
    key(
        "cxone.contact_id",
        r#"["X-InContact-MasterId", "X-Master-Id", "X-Contact-ID", "X-ContactID", "X-InContact-ContactId", "X-InContactID", "X-ExternalCallId"]"#,
    ),
    key("cxone.missing_contact_id", r#""continue""#),
    key("cxone.username", r#""""#),
    key("cxone.password", r#""""#),
    free("cxone.answer_headers", r#"{ "X-Backchannel-Call-Id" = "{call_id}" }"#),
    key("cxone.after_signal", r#""10s""#),
    later("cxone.srtp", r#""off""#),
    key("cxone.relay_503", r#""503""#),
    key("cxone.api.issuer", r#""https://cxone.niceincontact.com""#),
    key("cxone.api.base_url", r#""""#),
    key("cxone.api.token_url", r#""""#),
    later("cxone.api.auth", r#""password""#),
    key("cxone.api.client_id", r#""""#),
    key("cxone.api.client_secret", r#""""#),
    key("cxone.api.access_key_id", r#""""#),
    key("cxone.api.access_key_secret", r#""""#),
    key("cxone.api.version", r#""v30.0""#),
    key("cxone.api.timeout", r#""3s""#),
    key("cxone.api.settle", r#""2s""#),
    key("cxone.api.repeat_unanswered", "true"),
    key("cxone.api.deadline", r#""12s""#),
    key("cxone.api.ca_file", r#""""#),
    key("synthflow.target", r#""""#),
    key("synthflow.region", r#""""#),
    key("synthflow.fallback", "[]"),
    key("synthflow.tls_ca_file", r#""""#),
    key("synthflow.first_response", r#""4s""#),
    key("synthflow.allow", "[]"),
    key("synthflow.advertise", "[]"),
    key("synthflow.username", r#""""#),
    key("synthflow.password", r#""""#),
    key("synthflow.realm", r#""""#),
    later("synthflow.register", "false"),
    later("synthflow.accept_register", "false"),
    key("synthflow.options_interval", r#""30s""#),
    key("synthflow.number", r#""""#),
    free("synthflow.number_map", "{}"),
    key("synthflow.codecs", r#"["PCMU", "PCMA", "opus", "telephone-event"]"#),
    later("synthflow.srtp", r#""off""#),
    key("x_ei.E", r#""{contact_id}""#),
    key("x_ei.O", r#""{diversion}""#),
    key("x_ei.S", r#""{header.X-Synthflow-Call-Id}""#),
    key("headers.pass", r#"["X-*"]"#),
    key("headers.drop", r#"["X-CI"]"#),
    free("headers.rename", "{}"),
    free("headers.set", r#"{ "X-Backchannel-Call-Id" = "{call_id}" }"#),
    key("headers.repeated", r#""first""#),
    key("headers.budget", "4096"),
    key("headers.drop_order", "[]"),
    key("escalation.accept", r#"["refer", "bye", "invite", "http"]"#),
    key("escalation.bye_headers", r#"["X-Escalate", "X-Escalation", "X-Queue", "X-RouteReason"]"#),
    key("escalation.reason_texts", r#"["escalat", "transfer", "handoff"]"#),
    key("escalation.queue_headers", r#"["X-Queue", "X-Escalation-Queue", "X-Escalate"]"#),
    key("escalation.default_queue", r#""""#),
    key("escalation.unknown_queue", r#""default""#),
    key("escalation.plain_bye_signal", r#""""#),
    later("escalation.numbers", "[]"),
    key("escalation.on_failure", r#""keep""#),
    key("escalation.on_bot_lost", r#""end""#),
    key("escalation.failure_reason", r#"'Q.850;cause=41;text="escalation failed"'"#),
    free("escalation.queues", "{}"),
    key("escalation.params.p1", r#""{queue}""#),
    key("escalation.params.p2", r#""{reason}""#),
    key("escalation.params.p3", r#""{signal_id}""#),
    key("escalation.params.p4", r#""""#),
    key("escalation.params.p5", r#""""#),
    key("escalation.params.p6", r#""""#),
    key("escalation.params.p7", r#""""#),
    key("escalation.params.p8", r#""""#),
    key("escalation.params.p9", r#""""#),
    key("dns.servers", "[]"),
    later("tenant", "[]"),
    later("admin.socket", r#""""#),
    later("admin.http", r#""""#),
    later("admin.tls_cert", r#""""#),
    later("admin.tls_key", r#""""#),
    later("admin.token", r#""""#),
    later("admin.escalate_token", r#""""#),
    key("log.format", r#""pretty""#),
    key("log.level", r#""info""#),
    key("log.file", r#""""#),
    key("log.redact", "true"),
    later("trace.memory", r#""64MiB""#),
    later("trace.hep", r#""""#),
    later("trace.pcap", r#""off""#),
    later("redis.url", r#""redis://127.0.0.1:6379""#),
];

/// The key of a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.path == path)
}

/// Whether keys live below this path.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|k| below(k.path, path).is_some())
}

/// The names directly in a section (`""`: the file itself), keys and subsections, each once.
pub fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if section.is_empty() { Some(key.path) } else { below(key.path, section) };
        let name = rest.and_then(|r| r.split('.').next());
        if let Some(name) = name.filter(|n| !names.contains(n)) {
            names.push(name);
        }
    }
    names
}

/// A key of this name in another section: what was written below the wrong header.
pub fn elsewhere(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|k| k.path).find(|p| p.rsplit_once('.').is_some_and(|(_, last)| last == name))
}

fn below<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    path.strip_prefix(section)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_there_once_and_every_default_is_toml() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS.iter().skip(i + 1).all(|k| k.path != key.path), "{} twice", key.path);
            assert!(toml::de::DeValue::parse(key.default).is_ok(), "{}", key.path);
            assert!(!is_section(key.path), "{} is a key and a section", key.path);
            assert_eq!(find(key.path).map(|k| k.default), Some(key.default));
        }
    }

    #[test]
    fn a_section_knows_its_names() {
        assert_eq!(names_in("node"), ["name", "state_dir", "state", "max_calls", "max_cps", "drain_deadline"]);
        assert!(names_in("").contains(&"x_ei"));
        assert!(names_in("cxone").contains(&"api"));
        assert!(is_section("cxone.api"));
        assert!(!is_section("cxone.ap"));
        assert_eq!(elsewhere("codecs"), Some("synthflow.codecs"));
    }
}
