//! What is done with headers and escalations: `[x_ei]`, `[headers]`, `[escalation]`.

use std::collections::BTreeMap;

use compact_str::CompactString;

use crate::call::rules::OnBotLost;
use crate::call::rules::OnFailure;
use crate::config::Escalation;
use crate::config::Headers;
use crate::config::NamePattern;
use crate::config::Piece;
use crate::config::Repeated;
use crate::config::Template;
use crate::config::UnknownQueue;
use crate::config::XEi;
use crate::config::errors::Bad;
use crate::config::errors::nearest;
use crate::config::errors::one_of;
use crate::config::sides::header_templates;
use crate::config::sides::names;
use crate::config::template::name_pattern;
use crate::config::template::passed_pattern;
use crate::config::template::plain_text;
use crate::config::template::renamed_header;
use crate::config::template::written_header;
use crate::config::tree::Tree;
use crate::wire::method::is_token;

/// A queue's name ends up in a URL that should stay below 2,000 bytes (facts.md §7.1).
const QUEUE_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 512;
const PARAMS: [&str; 9] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"];
const WAYS_IN: [&str; 4] = ["refer", "bye", "invite", "http"];

pub(super) fn x_ei(tree: &mut Tree<'_>) -> XEi {
    let mut token = |path: &str| {
        let template = tree.parsed(path, Template::default(), x_ei_template);
        if template.has_escalation_word() {
            tree.warnings.push(format!("{path}: {template} is known only while an escalation runs; here it is empty"));
        }
        template
    };
    XEi { s: token("x_ei.S"), e: token("x_ei.E"), o: token("x_ei.O") }
}

/// facts.md §2.1: a value has no `;` and no blank, there is no way to escape one.
fn x_ei_template(text: &str) -> Result<Template, Bad> {
    let template = Template::parse(text)?;
    let bad_text = |p: &Piece| matches!(p, Piece::Text(t) if t.contains([';', ' ', '\t']));
    if template.0.iter().any(bad_text) {
        return Err(Bad::new("an X-EI value cannot hold a semicolon or a blank", "text without them"));
    }
    Ok(template)
}

pub(super) fn headers(tree: &mut Tree<'_>) -> Headers {
    let patterns = |tree: &mut Tree<'_>, path: &str, parse: fn(&str) -> Result<NamePattern, Bad>| {
        let texts = tree.texts(path);
        tree.each(path, &texts, parse)
    };
    let mut rename = Vec::new();
    for (from, to) in tree.map("headers.rename") {
        let key = format!("headers.rename.{}", from.value.escape_debug());
        let pair = (tree.understood(&key, &from, renamed_header), tree.understood(&key, &to, written_header));
        rename.extend(pair.0.zip(pair.1));
    }
    Headers {
        pass: patterns(tree, "headers.pass", passed_pattern),
        drop: patterns(tree, "headers.drop", name_pattern),
        rename,
        set: header_templates(tree, "headers.set"),
        repeated: tree.choice(
            "headers.repeated",
            &[("first", Repeated::First), ("last", Repeated::Last), ("join", Repeated::Join)],
            Repeated::First,
        ),
        budget: usize::try_from(tree.number("headers.budget", 0..=65_507)).unwrap_or(usize::MAX),
        drop_order: patterns(tree, "headers.drop_order", name_pattern),
    }
}

pub(super) fn escalation(tree: &mut Tree<'_>) -> Escalation {
    let (accept_refer, accept_bye) = accept(tree);
    let queue = |tree: &mut Tree<'_>, path: &str| tree.parsed(path, String::new(), queue_name);
    let unknown_queues = [("default", UnknownQueue::Default), ("pass", UnknownQueue::Pass), ("refuse", UnknownQueue::Refuse)];
    Escalation {
        accept_refer,
        accept_bye,
        bye_headers: names(tree, "escalation.bye_headers"),
        reason_texts: reason_texts(tree),
        queue_headers: names(tree, "escalation.queue_headers"),
        default_queue: queue(tree, "escalation.default_queue"),
        unknown_queue: tree.choice("escalation.unknown_queue", &unknown_queues, UnknownQueue::Default),
        plain_bye_signal: queue(tree, "escalation.plain_bye_signal"),
        on_failure: tree.choice("escalation.on_failure", &[("keep", OnFailure::Keep), ("bye", OnFailure::Bye)], OnFailure::Keep),
        on_bot_lost: tree.choice("escalation.on_bot_lost", &[("end", OnBotLost::End), ("signal", OnBotLost::Signal)], OnBotLost::End),
        failure_reason: tree.parsed("escalation.failure_reason", String::new(), reason_value),
        queues: queues(tree),
        params: params(tree),
    }
}

/// The whole default, or a list of what is built: `invite` and `http` are accepted as part of the default only.
fn accept(tree: &mut Tree<'_>) -> (bool, bool) {
    let path = "escalation.accept";
    let texts = tree.texts(path);
    let is_default = texts.len() == WAYS_IN.len() && WAYS_IN.iter().all(|way| texts.iter().any(|t| t.value == *way));
    let ways = tree.each(path, &texts, |text| match text {
        "invite" | "http" if !is_default => {
            Err(Bad::not_yet(&format!("{text:?} in a list of your own"), "\"refer\" and \"bye\", or the default list"))
        }
        _ if WAYS_IN.contains(&text) => Ok(text.to_owned()),
        _ => {
            let near = nearest(text, WAYS_IN).map(|n| format!("\"{n}\""));
            Err(Bad::new(format!("{text:?} is not a way in"), one_of(WAYS_IN)).near(near))
        }
    });
    (ways.iter().any(|w| w == "refer"), ways.iter().any(|w| w == "bye"))
}

fn queue_name(text: &str) -> Result<String, Bad> {
    plain_text(text, QUEUE_BYTES_MAX)?;
    Ok(text.to_owned())
}

/// An empty text is part of every Reason: each BYE would escalate.
fn reason_texts(tree: &mut Tree<'_>) -> Vec<String> {
    let path = "escalation.reason_texts";
    let texts = tree.texts(path);
    tree.each(path, &texts, |text| {
        plain_text(text, REASON_BYTES_MAX)?;
        if text.trim().is_empty() {
            return Err(Bad::new("an empty text is part of every Reason", "a text as in \"transfer\""));
        }
        Ok(text.to_lowercase())
    })
}

/// RFC 3326 §2: a protocol, then parameters.
fn reason_value(text: &str) -> Result<String, Bad> {
    plain_text(text, REASON_BYTES_MAX)?;
    let (protocol, params) = text.split_once(';').unwrap_or((text, "x"));
    let quotes = text.bytes().filter(|b| *b == b'"').count();
    if is_token(protocol.trim().as_bytes()) && !params.trim().is_empty() && quotes.is_multiple_of(2) {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("{text:?} is not a Reason value"), "a value as in 'Q.850;cause=41;text=\"escalation failed\"'"))
}

fn queues(tree: &mut Tree<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (asked, queue) in tree.map("escalation.queues") {
        let key = format!("escalation.queues.{}", asked.value.escape_debug());
        let filled = |text: &str| {
            if text.is_empty() { Err(Bad::new("is empty", "what Synthflow asks for = CXone's queue")) } else { queue_name(text) }
        };
        let pair = (tree.understood(&key, &asked, filled), tree.understood(&key, &queue, filled));
        found.extend(pair.0.zip(pair.1));
    }
    found
}

/// Those that are not empty, in order of their names.
fn params(tree: &mut Tree<'_>) -> Vec<(CompactString, Template)> {
    let mut found = Vec::new();
    for name in PARAMS {
        let template = tree.parsed(&format!("escalation.params.{name}"), Template::default(), Template::parse);
        if !template.0.is_empty() {
            found.push((name.into(), template));
        }
    }
    found
}
