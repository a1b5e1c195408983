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
