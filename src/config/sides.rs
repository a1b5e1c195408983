//! The two sides of a call: `[cxone]`, `[cxone.api]`, `[synthflow]`.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use compact_str::CompactString;

use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::config::Allow;
use crate::config::Api;
use crate::config::Cxone;
use crate::config::MissingContactId;
use crate::config::Secret;
use crate::config::Sip;
use crate::config::Synthflow;
use crate::config::Template;
use crate::config::errors::Bad;
use crate::config::errors::nearest;
use crate::config::errors::one_of;
use crate::config::load::Outside;
use crate::config::load::advertise;
use crate::config::load::pem_file;
use crate::config::presets::REGIONS;
use crate::config::presets::Region;
use crate::config::secrets::read_secret;
use crate::config::template::plain_text;
use crate::config::template::written_header;
use crate::config::tls;
use crate::config::tree::Text;
use crate::config::tree::Tree;
use crate::config::values;
use crate::wire::method::is_token;

const CREDENTIAL_BYTES_MAX: usize = 1024;
const MILLIS_100: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);

/// Audio and telephone-event by their names at IANA, for the nearest name of a typo; others go on, with a warning.
const CODECS_KNOWN: [&str; 16] = [
    "PCMU",
    "PCMA",
    "G722",
    "G729",
    "opus",
    "telephone-event",
    "CN",
    "GSM",
    "iLBC",
    "AMR",
    "AMR-WB",
    "EVS",
    "speex",
    "G726-32",
    "G723",
    "L16",
];

pub(super) fn cxone(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Cxone {
    let path = "cxone.allow";
    let allow = allow_list(tree, path);
    if allow.is_empty() && !tree.has_error(path) {
        let at = tree.at(path);
        tree.bad(&at, path, Bad::new("is empty, so nobody could call", "the addresses that CXone sends from"));
    }
    let id_names = names(tree, "cxone.contact_id");
    let (username, password) = digest_user(tree, outside, "cxone");
    Cxone {
        allow,
        contact_id: id_names,
        missing_contact_id: tree.choice(
            "cxone.missing_contact_id",
            &[("continue", MissingContactId::Continue), ("reject", MissingContactId::Reject)],
            MissingContactId::Continue,
        ),
        answer_headers: header_templates(tree, "cxone.answer_headers"),
        after_signal: tree.duration("cxone.after_signal", MILLIS_100..=10 * MINUTE),
        relay_503: tree.choice("cxone.relay_503", &[("503", 503), ("500", 500)], 503),
        advertise: advertise(tree, "cxone.advertise"),
        username,
        password,
    }
}

fn allow_list(tree: &mut Tree<'_>, path: &str) -> Vec<Allow> {
    let texts = tree.texts(path);
    tree.each(path, &texts, values::allow)
}

/// A list of header names.
pub(super) fn names(tree: &mut Tree<'_>, path: &str) -> Vec<String> {
    let texts = tree.texts(path);
    tree.each(path, &texts, values::header_name)
}

/// A table of header names that we write and their templates.
pub(super) fn header_templates(tree: &mut Tree<'_>, path: &str) -> Vec<(String, Template)> {
    let mut found = Vec::new();
    for (name, value) in tree.map(path) {
        let key = format!("{path}.{}", name.value.escape_debug());
        let written = tree.understood(&key, &name, written_header);
        let template = tree.understood(&key, &value, Template::parse);
        if template.as_ref().is_some_and(Template::has_escalation_word) {
            tree.warnings.push(format!("{key}: {} is known only while an escalation runs; here it is empty", value.value));
        }
        found.extend(written.zip(template));
    }
    found
}

pub(super) fn api(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Api {
    let url = |tree: &mut Tree<'_>, path: &str| tree.optional(path, values::http_url).unwrap_or_default();
    let api = Api {
        issuer: tree.parsed("cxone.api.issuer", String::new(), values::http_url),
        base_url: url(tree, "cxone.api.base_url"),
        token_url: tree.optional("cxone.api.token_url", |t| values::http_url(t).map(|_| t.to_owned())).unwrap_or_default(),
        client_id: credential(tree, "cxone.api.client_id"),
        client_secret: secret(tree, outside, "cxone.api.client_secret"),
        access_key_id: credential(tree, "cxone.api.access_key_id"),
        access_key_secret: secret(tree, outside, "cxone.api.access_key_secret"),
        version: tree.parsed("cxone.api.version", String::new(), values::api_version),
        timeout: tree.duration("cxone.api.timeout", MILLIS_100..=MINUTE),
        settle: tree.duration("cxone.api.settle", Duration::ZERO..=MINUTE),
        repeat_unanswered: tree.flag("cxone.api.repeat_unanswered"),
        deadline: tree.duration("cxone.api.deadline", MILLIS_100..=10 * MINUTE),
        ca_file: ca_file(tree, outside),
    };
    check_deadline(tree, &api);
    api
}

/// Both tries and the pause between them must fit (product.md §4).
fn check_deadline(tree: &mut Tree<'_>, api: &Api) {
    let path = "cxone.api.deadline";
    let least = api.timeout.saturating_mul(2).saturating_add(api.settle);
    if ["cxone.api.timeout", "cxone.api.settle", path].iter().any(|p| tree.has_error(p)) || api.deadline >= least {
        return;
    }
    let problem = format!("{} is less than 2 × timeout + settle", values::print_duration(api.deadline));
    let at = tree.at(path);
    tree.bad(&at, path, Bad::new(problem, format!("at least \"{}\"", values::print_duration(least))));
}

fn credential(tree: &mut Tree<'_>, path: &str) -> String {
    tree.parsed(path, String::new(), |t| plain_text(t, CREDENTIAL_BYTES_MAX).map(|()| t.to_owned()))
}

fn secret(tree: &mut Tree<'_>, outside: &Outside<'_>, path: &str) -> Secret {
    tree.parsed(path, Secret::default(), |t| read_secret(t, &outside.base, outside.env, outside.read))
}

/// `username` and `password` of a side: both or none.
fn digest_user(tree: &mut Tree<'_>, outside: &Outside<'_>, side: &str) -> (String, Secret) {
    let paths = ["username", "password"].map(|name| format!("{side}.{name}"));
    let (username, password) = (credential(tree, &paths[0]), secret(tree, outside, &paths[1]));
    let given = [username.is_empty(), password.0.is_empty()].map(|empty| !empty);
    let missing = paths.iter().zip(given).find(|(_, given)| !given).map(|(path, _)| path);
    if let Some(path) = missing.filter(|_| given.contains(&true) && !paths.iter().any(|p| tree.has_error(p))) {
        let at = tree.at(path);
        tree.bad(&at, path, Bad::new("is missing: username and password belong together", "both or neither"));
    }
    (username, password)
}

fn ca_file(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Option<PathBuf> {
    tree.optional("cxone.api.ca_file", |text| {
        let path: PathBuf = outside.base.join(Path::new(text));
        let expected = "a PEM file with a certificate";
        let pem = (outside.read)(&path).map_err(|e| Bad::new(format!("cannot read {}: {e}", path.display()), expected))?;
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            return Ok(path);
        }
        Err(Bad::new(format!("{} holds no certificate", path.display()), expected))
    })
}

/// Without credentials an escalation could only fail; known now, not when the first caller asks for a human.
pub(super) fn need_credentials(tree: &mut Tree<'_>, api: &mut Api) {
    let given = [
        ("cxone.api.client_id", api.client_id.is_empty()),
        ("cxone.api.client_secret", api.client_secret.0.is_empty()),
        ("cxone.api.access_key_id", api.access_key_id.is_empty()),
        ("cxone.api.access_key_secret", api.access_key_secret.0.is_empty()),
    ];
    for (path, missing) in given {
        if missing && !tree.has_error(path) {
            let at = tree.at(path);
            let expected = "what NICE gave you; or escalation.accept = [] for a gateway that never signals";
            tree.bad(&at, path, Bad::new("is missing: signals to CXone need it", expected));
        }
    }
}

pub(super) fn synthflow(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Synthflow {
    let (targets, regions) = targets(tree);
    let mut allow = allow_list(tree, "synthflow.allow");
    if allow.is_empty() {
        let published = regions.iter().flat_map(|r| r.signalling.iter());
        allow = published.filter_map(|text| values::allow(text).ok()).collect();
    }
    let mut number_map = std::collections::BTreeMap::new();
    for (dialled, called) in tree.map("synthflow.number_map") {
        let key = format!("synthflow.number_map.{}", dialled.value.escape_debug());
        let pair = (tree.understood(&key, &dialled, values::number), tree.understood(&key, &called, values::number));
        number_map.extend(pair.0.zip(pair.1));
    }
    let (username, password) = digest_user(tree, outside, "synthflow");
    Synthflow {
        targets,
        tls_ca: tree.optional("synthflow.tls_ca_file", |t| pem_file(outside, t, |pem| tls::certificates(pem).map(drop))),
        // RFC 3261 §17.1.1.2: after 64·T1 = 32 s the transaction itself gives up.
        first_response: tree.duration("synthflow.first_response", MILLIS_100..=Duration::from_secs(32)),
        allow,
        number: tree.optional("synthflow.number", values::number).unwrap_or_default(),
        number_map,
        codecs: codecs(tree),
        advertise: advertise(tree, "synthflow.advertise"),
        username,
        password,
        realm: credential(tree, "synthflow.realm"),
        options_interval: tree.duration_or_off("synthflow.options_interval", Duration::from_secs(1)..=60 * MINUTE),
    }
}

/// `target` or `region`, then `fallback`; and the regions that their hosts belong to.
fn targets(tree: &mut Tree<'_>) -> (Vec<TargetSpec>, Vec<Region>) {
    let (target, region) = (tree.text("synthflow.target"), tree.text("synthflow.region"));
    let mut texts: Vec<Text> = Vec::new();
    let mut found: Vec<TargetSpec> = Vec::new();
    match (target.value.is_empty(), region.value.is_empty()) {
        (true, true) if !tree.has_error("synthflow.target") && !tree.has_error("synthflow.region") => {
            let at = tree.at("synthflow.target");
            let expected = "region = \"us\", \"eu\" or \"global\", or target = \"sip:HOST:PORT;transport=tcp\"";
            tree.bad(&at, "synthflow.target", Bad::new("is missing: where is Synthflow?", expected));
        }
        (false, false) => {
            tree.bad(&region.at, "synthflow.region", Bad::new("stands beside target", "one of the two"));
        }
        (false, true) => texts.push(target),
        (true, false) => found.extend(tree.understood("synthflow.region", &region, |t| region_named(t).map(|r| r.target()))),
        (true, true) => {}
    }
    found.extend(tree.each("synthflow.target", &texts, values::sip_target));
    for text in tree.texts("synthflow.fallback") {
        let Some(spec) = tree.understood("synthflow.fallback", &text, values::sip_target) else { continue };
        if found.contains(&spec) {
            tree.bad(&text.at, "synthflow.fallback", Bad::new(format!("{:?} is there twice", text.value), "each target once"));
        }
        found.push(spec);
    }
    let regions = REGIONS.into_iter().filter(|r| found.iter().any(|t| t.name.0 == r.host)).collect();
    (found, regions)
}

fn region_named(text: &str) -> Result<Region, Bad> {
    let names = || REGIONS.iter().map(|r| r.name);
    let near = nearest(text, names()).map(|n| format!("\"{n}\""));
    let found = REGIONS.into_iter().find(|r| r.name == text);
    found.ok_or_else(|| Bad::new(format!("{text:?} is not a region"), one_of(names())).near(near))
}

/// A UDP request leaves from a UDP listener: its address is where the answer comes to (RFC 3261 §18.1.1).
pub(super) fn need_listener(tree: &mut Tree<'_>, sip: &Sip, synthflow: &Synthflow) {
    if tree.has_error("sip.listen") || sip.listen.iter().any(|l| l.transport == Transport::Udp) {
        return;
    }
    if let Some(target) = synthflow.targets.iter().find(|t| t.transport == Transport::Udp) {
        let at = tree.at("sip.listen");
        let problem = format!("has no udp:// listener, from which {} is called", target.name.0);
        tree.bad(&at, "sip.listen", Bad::new(problem, "a udp:// listener, or ;transport=tcp in the target"));
    }
}

fn codecs(tree: &mut Tree<'_>) -> Vec<CompactString> {
    let path = "synthflow.codecs";
    let texts = tree.texts(path);
    let mut found: Vec<CompactString> = Vec::new();
    for text in &texts {
        let name = CompactString::from(text.value.to_ascii_lowercase());
        if !is_token(name.as_bytes()) {
            tree.bad(&text.at, path, Bad::new(format!("{:?} is not a codec's name", text.value), "a name as in \"PCMU\""));
        } else if found.contains(&name) {
            tree.bad(&text.at, path, Bad::new(format!("{:?} is there twice", text.value), "each codec once"));
        } else {
            if !CODECS_KNOWN.iter().any(|k| k.eq_ignore_ascii_case(&name)) {
                let near = nearest(&name, CODECS_KNOWN).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
                tree.warnings.push(format!("{path}: {:?} is not a codec that we know{near}", text.value));
            }
            found.push(name);
        }
    }
    if !tree.has_error(path) && !found.iter().any(|c| c != "telephone-event" && c != "cn") {
        let at = tree.at(path);
        tree.bad(&at, path, Bad::new("holds no codec for speech", "at least one, as in \"PCMU\""));
    }
    found
}
