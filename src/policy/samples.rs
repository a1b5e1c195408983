//! Configurations, names and messages that tests of this floor share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::Latch;
use crate::call::rules::Lookup;
use crate::call::rules::OnBotLost;
use crate::call::rules::OnFailure;
use crate::call::rules::Resolve;
use crate::call::rules::TargetName;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::config::Api;
use crate::config::Config;
use crate::config::Cxone;
use crate::config::Escalation;
use crate::config::Headers;
use crate::config::Log;
use crate::config::LogFormat;
use crate::config::Media;
use crate::config::MissingContactId;
use crate::config::NamePattern;
use crate::config::Node;
use crate::config::Piece;
use crate::config::Repeated;
use crate::config::Secret;
use crate::config::Sip;
use crate::config::Synthflow;
use crate::config::Template;
use crate::config::UnknownQueue;
use crate::config::XEi;
use crate::wire::message::Message;

const PORTS: RangeInclusive<u16> = 10000..=29999;

/// The defaults of product.md §1, with Synthflow's US host as the target and two queues.
pub fn test_config() -> Config {
    Config {
        node: Node {
            name: "bc-1".into(),
            state_dir: PathBuf::from("state"),
            max_calls: 2000,
            max_cps: 1000,
            drain_deadline: Duration::from_secs(3600),
        },
        sip: Sip {
            listen: Vec::new(),
            tls: None,
            advertise: vec![IpAddr::from([203, 0, 113, 10])],
            udp_mtu: 1300,
            t1: Duration::from_millis(500),
            ring_timeout: Duration::from_secs(60),
            max_call_duration: Duration::from_secs(4 * 3600),
            session_expires: Duration::from_secs(1800),
            min_se: Duration::from_secs(90),
        },
        media: Media {
            bind: Vec::new(),
            advertise: Vec::new(),
            ports: PORTS,
            timeout: Duration::from_secs(60),
            latch: Latch::Strict,
            dscp: 46,
        },
        cxone: cxone(),
        api: api(),
        synthflow: Synthflow {
            tls_ca: None,
            targets: vec![spec("sip.us.synthflow.ai", 32681, Transport::Tcp)],
            first_response: Duration::from_secs(4),
            allow: Vec::new(),
            number: String::new(),
            number_map: BTreeMap::new(),
            codecs: ["pcmu", "pcma", "opus", "telephone-event"].map(CompactString::from).to_vec(),
            advertise: Vec::new(),
            username: String::new(),
            password: Secret::default(),
            realm: String::new(),
            options_interval: Duration::from_secs(30),
        },
        x_ei: XEi { s: header("X-Synthflow-Call-Id"), e: word(Piece::ContactId), o: word(Piece::Diversion) },
        headers: Headers {
            pass: patterns(&["X-*"]),
            drop: patterns(&["X-CI"]),
            rename: Vec::new(),
            set: vec![("X-Backchannel-Call-Id".into(), word(Piece::CallId))],
            repeated: Repeated::First,
            budget: 4096,
            drop_order: Vec::new(),
        },
        escalation: escalation(),
        dns_servers: Vec::new(),
        log: Log { format: LogFormat::Pretty, level: "info".into(), file: None, redact: true },
    }
}

fn cxone() -> Cxone {
    Cxone {
        allow: Vec::new(),
        contact_id: [
            "X-InContact-MasterId",
            "X-Master-Id",
            "X-Contact-ID",
            "X-ContactID",
            "X-InContact-ContactId",
            "X-InContactID",
            "X-ExternalCallId",
        ]
        .map(String::from)
        .to_vec(),
        missing_contact_id: MissingContactId::Continue,
        answer_headers: vec![("X-Backchannel-Call-Id".into(), word(Piece::CallId))],
        after_signal: Duration::from_secs(10),
        relay_503: 503,
        advertise: Vec::new(),
        username: String::new(),
        password: Secret::default(),
    }
}

fn api() -> Api {
    Api {
        issuer: "https://cxone.niceincontact.com".into(),
        base_url: String::new(),
        token_url: String::new(),
        client_id: String::new(),
        client_secret: Secret::default(),
        access_key_id: String::new(),
        access_key_secret: Secret::default(),
        version: "v30.0".into(),
        timeout: Duration::from_secs(3),
        settle: Duration::from_secs(2),
        repeat_unanswered: true,
        deadline: Duration::from_secs(12),
        ca_file: None,
    }
}

fn escalation() -> Escalation {
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
    Escalation {
        accept_refer: true,
        accept_bye: true,
        bye_headers: texts(&["X-Escalate", "X-Escalation", "X-Queue", "X-RouteReason"]),
        reason_texts: texts(&["escalat", "transfer", "handoff"]),
        queue_headers: texts(&["X-Queue", "X-Escalation-Queue", "X-Escalate"]),
        default_queue: String::new(),
        unknown_queue: UnknownQueue::Default,
        plain_bye_signal: String::new(),
        on_failure: OnFailure::Keep,
        on_bot_lost: OnBotLost::End,
        failure_reason: "Q.850;cause=41;text=\"escalation failed\"".into(),
        queues: BTreeMap::from([("billing".into(), "Billing EN".into()), ("+12065550100".into(), "support".into())]),
        params: vec![("p1".into(), word(Piece::Queue)), ("p2".into(), word(Piece::Reason)), ("p3".into(), word(Piece::SignalId))],
    }
}

pub fn word(piece: Piece) -> Template {
    Template(vec![piece])
}

pub fn header(name: &str) -> Template {
    word(Piece::Header(name.to_owned()))
}

pub fn patterns(list: &[&str]) -> Vec<NamePattern> {
    list.iter().map(|p| NamePattern((*p).to_owned())).collect()
}

pub fn spec(name: &str, port: u16, transport: Transport) -> TargetSpec {
    TargetSpec { name: TargetName(name.into()), port, transport, lookup: Lookup::Address }
}

/// Resolved names.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Names {
    pub fn of(list: &[(&str, &[&str])]) -> Names {
        let ips = |ips: &[&str]| ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        Names(list.iter().map(|(name, all)| ((*name).to_owned(), ips(all))).collect())
    }
}

impl Resolve for Names {
    fn addresses(&self, name: &TargetName) -> Vec<IpAddr> {
        self.0.get(name.0.as_str()).cloned().unwrap_or_default()
    }
}

/// A message with these lines besides the ones that every message has; `start` is its start line.
pub fn message(start: &str, cseq: &str, lines: &[&str]) -> Message {
    let mut text = format!(
        "{start}\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: \"Jane \\\"J\\\" Doe\" <sip:+12065551234@198.51.100.7>;tag=f1\r\nTo: <sip:9991234567@203.0.113.10>\r\n\
         Call-ID: cx-1@198.51.100.7\r\nCSeq: {cseq}\r\nContact: <sip:198.51.100.7:5060>\r\n"
    );
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    Message::parse(Bytes::from(text)).expect("a sample parses")
}

/// CXone's INVITE to the pseudo number.
pub fn invite(lines: &[&str]) -> Message {
    message("INVITE sip:9991234567@203.0.113.10:5060 SIP/2.0", "1 INVITE", lines)
}
