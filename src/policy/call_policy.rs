//! The decisions of a running call, fixed at admission.

use std::sync::Arc;

use compact_str::CompactString;

use crate::call::rules::Ask;
use crate::call::rules::AskedBy;
use crate::call::rules::ByeVerdict;
use crate::call::rules::CallPolicy;
use crate::call::rules::Carried;
use crate::call::rules::ReferVerdict;
use crate::config::Config;
use crate::config::Template;
use crate::ids::Side;
use crate::policy::escalation::bot_lost;
use crate::policy::escalation::read_bye;
use crate::policy::escalation::read_refer;
use crate::policy::headers::carried;
use crate::policy::headers::header_value;
use crate::policy::headers::map_message;
use crate::policy::template::CallWords;
use crate::policy::template::Words;
use crate::policy::template::header_names;
use crate::policy::template::one_line;
use crate::policy::template::render;
use crate::policy::template::render_line;
use crate::policy::x_headers::may_set;
use crate::wire::message::Message;
use crate::wire::method::Method;

/// One parameter of a signal.
pub const SIGNAL_PARAM_BYTES_MAX: usize = 256;
/// All parameters, names and percent escapes counted: the whole URL should stay under about 2,000 bytes (facts.md §7.1).
pub const SIGNAL_PARAMS_BYTES_MAX: usize = 1600;

/// Policy of one call: the configuration of its first moment, and what its INVITE said.
pub struct FixedPolicy {
    config: Arc<Config>,
    words: CallWords,
    /// Headers of the INVITE that `[escalation.params]` names.
    headers: Vec<Carried>,
    answer: Vec<Carried>,
    our_host_caller: CompactString,
    our_host_callee: CompactString,
}

impl FixedPolicy {
    /// `our_host_caller`, `our_host_callee`: our `host[:port]` as CXone and as Synthflow see it.
    pub fn new(config: &Arc<Config>, invite: &Message, words: CallWords, our_host_caller: &str, our_host_callee: &str) -> FixedPolicy {
        let header = |name: &str| header_value(invite, name);
        let filled = Words { call: &words, ask: None, header: &header };
        let answer = config
            .cxone
            .answer_headers
            .iter()
            .filter(|(name, _)| may_set(name))
            .map(|(name, template)| carried(name.as_bytes(), &render_line(template, &filled)))
            .filter(|line| !line.value.is_empty())
            .collect();
        FixedPolicy {
            headers: asked_headers(config, invite),
            config: Arc::clone(config),
            words,
            answer,
            our_host_caller: our_host_caller.into(),
            our_host_callee: our_host_callee.into(),
        }
    }

    fn has_contact(&self) -> bool {
        !self.words.contact_id.is_empty()
    }

    fn param(&self, template: &Template, ask: &Ask, signal_id: &str) -> String {
        // What the bot says when it asks is newer than what the INVITE said.
        let header = |name: &str| {
            let found = ask.headers.iter().chain(&self.headers).find(|line| line.name.eq_ignore_ascii_case(name.as_bytes()));
            found.map(|line| line.value.to_vec())
        };
        let words = Words { call: &self.words, ask: Some((ask, signal_id)), header: &header };
        param_text(&render(template, &words))
    }
}

impl CallPolicy for FixedPolicy {
    fn carry(&self, from: Side, message: &Message) -> Vec<Carried> {
        let our_host = match !from {
            Side::Caller => &self.our_host_caller,
            Side::Callee => &self.our_host_callee,
        };
        let mut lines = map_message(&self.config, message, !from, our_host);
        if from == Side::Callee && matches!(message.status(), 200..=299) && *message.method() == Method::INVITE {
            // Studio reads one of two headers with the same name, whichever (facts.md §5.1): ours must be the only one.
            lines.retain(|line| !self.answer.iter().any(|ours| ours.name.eq_ignore_ascii_case(&line.name)));
        }
        lines
    }

    fn answer_headers(&self) -> Vec<Carried> {
        self.answer.clone()
    }

    fn read_bye(&self, bye: &Message) -> ByeVerdict {
        read_bye(&self.config.escalation, self.has_contact(), bye, asked_headers(&self.config, bye))
    }

    fn read_refer(&self, refer: &Message) -> ReferVerdict {
        read_refer(&self.config.escalation, self.has_contact(), refer, asked_headers(&self.config, refer))
    }

    fn read_bot_lost(&self) -> Option<Ask> {
        bot_lost(&self.config.escalation, self.has_contact())
    }

    fn signal_params(&self, ask: &Ask, signal_id: &str) -> Vec<(CompactString, String)> {
        let mut left = SIGNAL_PARAMS_BYTES_MAX;
        let mut params = Vec::new();
        for (name, template) in &self.config.escalation.params {
            let mut value = match ask.by {
                AskedBy::PlainBye if name == "p1" => param_text(ask.queue.as_bytes()),
                _ => self.param(template, ask, signal_id),
            };
            // `&pN=`; p1 comes first and is never the one that is cut.
            left = left.saturating_sub(name.len() + 2);
            fit(&mut value, left);
            left -= encoded_bytes(&value);
            if !value.is_empty() {
                params.push((name.clone(), value));
            }
        }
        params
    }
}

/// The lines of a message that `[escalation.params]` names with `{header.NAME}`.
fn asked_headers(config: &Config, message: &Message) -> Vec<Carried> {
    let names = config.escalation.params.iter().flat_map(|(_, template)| header_names(template));
    names.filter_map(|name| header_value(message, name).map(|value| carried(name.as_bytes(), &value))).collect()
}

fn param_text(value: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&one_line(value)).into_owned();
    text.truncate(text.floor_char_boundary(SIGNAL_PARAM_BYTES_MAX));
    text
}

/// Cuts the text until it takes no more than `left` bytes in a URL.
fn fit(text: &mut String, left: usize) {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += encoded_bytes(&text[at..at + c.len_utf8()]);
        if taken > left {
            text.truncate(at);
            return;
        }
    }
}

/// Bytes in a URL's query: what is not unreserved takes three (RFC 3986 §2).
fn encoded_bytes(text: &str) -> usize {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { 1 } else { 3 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Piece;
    use crate::policy::headers::Facts;
    use crate::policy::headers::call_words;
    use crate::policy::samples::header;
    use crate::policy::samples::invite;
    use crate::policy::samples::message;
    use crate::policy::samples::test_config;
    use crate::policy::samples::word;

    const BYE: &str = "BYE sip:203.0.113.10:5060 SIP/2.0";

    fn policy(config: Config, lines: &[&str]) -> FixedPolicy {
        let (config, invite) = (Arc::new(config), invite(lines));
        let contact = crate::ids::ContactId::new("42");
        let facts = Facts { contact: Some(&contact), contact_header: None, call_id: "0CALL", our_host: "203.0.113.10:5060", trace: false };
        let words = call_words(&config, &invite, facts);
        FixedPolicy::new(&config, &invite, words, "203.0.113.1:5060", "203.0.113.2:5061")
    }

    fn text(lines: &[Carried]) -> Vec<String> {
        lines.iter().map(|l| format!("{}: {}", String::from_utf8_lossy(&l.name), String::from_utf8_lossy(&l.value))).collect()
    }

    fn ask(by: AskedBy, queue: &str) -> Ask {
        Ask { by, queue: queue.into(), reason: "angry".into(), referred_to: "+1206".into(), headers: Vec::new() }
    }

    /// product.md §2 item 3: "X- headers of Synthflow's 18x, 2xx and BYE go on to CXone as `[headers]` says".
    #[test]
    fn synthflows_answers_and_byes_bring_their_x_headers_to_cxone() {
        let mut config = test_config();
        config.headers.rename = vec![("X-Old".into(), "X-New".into())];
        let policy = policy(config, &[]);
        let lines = ["X-B: 2", "X-EI: S.1;", "X-CI: secret", "x-a.b: 1, \"2\"", "X-Old: o", "Reason: SIP;cause=200", "Server: Synthflow/1"];
        for (start, cseq) in [("SIP/2.0 183 Session Progress", "1 INVITE"), ("SIP/2.0 200 OK", "1 INVITE"), (BYE, "1 BYE")] {
            let carried = policy.carry(Side::Callee, &message(start, cseq, &lines));
            assert_eq!(text(&carried), ["X-B: 2", "x-a.b: 1, \"2\"", "X-New: o", "Reason: SIP;cause=200"], "{start}");
        }
        let busy = ["X-B: 2", "Reason: Q.850;cause=17", "Warning: 399 10.0.0.9 \"busy\"", "Retry-After: 5", "Contact: <sip:a@10.0.0.9>"];
        let carried = policy.carry(Side::Callee, &message("SIP/2.0 486 Busy Here", "1 INVITE", &busy));
        assert_eq!(text(&carried), ["Reason: Q.850;cause=17", "Warning: 399 bc-1 \"busy\"", "Retry-After: 5"]);
    }

    #[test]
    fn each_direction_shows_our_host_of_that_side() {
        let policy = policy(test_config(), &[]);
        let pai = ["P-Asserted-Identity: <sip:+1206@10.0.0.9>", "X-Bad.Name: 1"];
        let info = message("UPDATE sip:203.0.113.10 SIP/2.0", "3 UPDATE", &pai);
        assert_eq!(text(&policy.carry(Side::Callee, &info)), ["P-Asserted-Identity: <sip:+1206@203.0.113.1:5060>", "X-Bad.Name: 1"]);
        assert_eq!(text(&policy.carry(Side::Caller, &info)), ["P-Asserted-Identity: <sip:+1206@203.0.113.2:5061>"]);
    }

    /// facts.md §5.1: "if a header is received several times only one value can be read, whichever".
    #[test]
    fn our_answer_headers_stand_alone_in_the_200() {
        let policy = policy(test_config(), &[]);
        assert_eq!(text(&policy.answer_headers()), ["X-Backchannel-Call-Id: 0CALL"]);
        let answer = message("SIP/2.0 200 OK", "1 INVITE", &["x-backchannel-call-id: theirs", "X-S: 1"]);
        assert_eq!(text(&policy.carry(Side::Callee, &answer)), ["X-S: 1"]);
        let bye = message(BYE, "1 BYE", &["x-backchannel-call-id: theirs"]);
        assert_eq!(text(&policy.carry(Side::Callee, &bye)), ["x-backchannel-call-id: theirs"]);
    }

    #[test]
    fn answer_headers_are_templates_and_never_form_dialogs() {
        let mut config = test_config();
        config.cxone.answer_headers = vec![
            ("X-Plan".into(), header("X-Plan")),
            ("X-None".into(), header("X-None")),
            ("Contact".into(), word(Piece::CallId)),
            ("X-EI".into(), word(Piece::CallId)),
        ];
        assert_eq!(text(&policy(config, &["X-Plan: gold"]).answer_headers()), ["X-Plan: gold"]);
    }

    #[test]
    fn the_parameters_of_a_signal_come_from_call_ask_and_headers() {
        let mut config = test_config();
        config.escalation.params = vec![
            ("p1".into(), word(Piece::Queue)),
            ("p2".into(), word(Piece::Reason)),
            ("p3".into(), word(Piece::SignalId)),
            ("p4".into(), header("X-Summary")),
            ("p5".into(), header("X-Plan")),
            ("p6".into(), Template(vec![Piece::Text("ref=".into()), Piece::ReferredTo])),
            ("p7".into(), header("X-None")),
            ("p8".into(), word(Piece::From)),
        ];
        let policy = policy(config, &["X-Plan: gold", "X-Summary: from the INVITE", "X-Else: 1"]);
        let bye = message(BYE, "1 BYE", &["X-Escalate: billing", "X-Summary: wants a refund\tnow"]);
        let ByeVerdict::Escalate(ask) = policy.read_bye(&bye) else { panic!("no escalation") };
        let params = policy.signal_params(&Ask { referred_to: "+1".into(), ..ask }, "SIG1");
        let text: Vec<String> = params.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            text,
            ["p1=Billing EN", "p2=X-Escalate: billing", "p3=SIG1", "p4=wants a refund now", "p5=gold", "p6=ref=+1", "p8=+12065551234"]
        );
    }

    #[test]
    fn a_plain_byes_p1_is_its_own_text_whatever_the_template() {
        let mut config = test_config();
        config.escalation.params = vec![("p1".into(), Template(vec![Piece::Text("to ".into()), Piece::Queue]))];
        let policy = policy(config, &[]);
        assert_eq!(policy.signal_params(&ask(AskedBy::PlainBye, "End"), "S"), [("p1".into(), "End".to_owned())]);
        assert_eq!(policy.signal_params(&ask(AskedBy::Refer, "a"), "S"), [("p1".into(), "to a".to_owned())]);
    }

    /// facts.md §7.1: "keep the whole URL under about 2,000 bytes".
    #[test]
    fn long_parameters_are_cut_one_by_one_and_together() {
        let mut config = test_config();
        config.escalation.params = (1..=9).map(|n| (format!("p{n}").into(), word(Piece::Reason))).collect();
        let policy = policy(config, &[]);
        let with = |reason: String| policy.signal_params(&Ask { reason, ..ask(AskedBy::Refer, "q") }, "S");
        let one = with("a".repeat(SIGNAL_PARAM_BYTES_MAX + 1));
        assert_eq!(one[0].1.len(), SIGNAL_PARAM_BYTES_MAX);
        let wide = with("é".repeat(200));
        assert_eq!(wide[0].1.chars().count(), SIGNAL_PARAM_BYTES_MAX / 2);
        let bytes: usize = wide.iter().map(|(name, value)| name.len() + 2 + encoded_bytes(value)).sum();
        assert!(bytes <= SIGNAL_PARAMS_BYTES_MAX && bytes > SIGNAL_PARAMS_BYTES_MAX - 20, "{bytes}");
        assert!(wide.iter().all(|(_, value)| value.chars().all(|c| c == 'é')), "no character is cut in two");
    }
}
