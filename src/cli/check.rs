//! `backchannel check`: what serve would do, and what would keep it from starting.

use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use crate::call::rules::Lookup;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::cli::CheckArgs;
use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::cli::EXIT_USAGE;
use crate::cli::probe;
use crate::config::Allow;
use crate::config::Config;
use crate::config::Loaded;
use crate::config::NamePattern;
use crate::config::UnknownQueue;
use crate::config::errors::ConfigErrors;
use crate::config::ports;
use crate::config::values::is_private;
use crate::config::values::print_duration;
use crate::config::warnings::calls_possible;
use crate::edge::limits::descriptors_for;
use crate::edge::limits::raise_nofile;
use crate::edge::limits::shortage;
use crate::edge::sip::certificate;
use crate::edge::sip::local::route_to;

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// Topic and lines, in the order in which they are shown.
    topics: Vec<(&'static str, Vec<String>)>,
    warnings: Vec<String>,
    /// What keeps serve from starting.
    stops: Vec<String>,
}

impl Findings {
    fn say(&mut self, topic: &'static str, line: String) {
        match self.topics.iter_mut().find(|(t, _)| *t == topic) {
            Some((_, lines)) => lines.push(line),
            None => self.topics.push((topic, vec![line])),
        }
    }
}

/// Errors of the configuration: 2; something keeps serve from starting: 1.
pub fn run_check(args: &CheckArgs) -> u8 {
    let path = &args.config.config;
    let loaded = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            if args.json {
                print_out(&format!("{:#}", errors_json(path, &errors)));
            } else {
                eprintln!("{errors}");
            }
            return EXIT_USAGE;
        }
    };
    let findings = examine(loaded);
    let text = if args.json { format!("{:#}", findings_json(path, &findings)) } else { findings_text(path, &findings) };
    print_out(&text);
    if findings.stops.is_empty() { EXIT_OK } else { EXIT_FAILED }
}

fn errors_json(path: &Path, errors: &ConfigErrors) -> Value {
    let list: Vec<Value> = errors
        .0
        .iter()
        .map(|e| {
            json!({ "file": e.file.display().to_string(), "line": e.line, "column": e.column, "key": e.key,
                    "problem": e.problem, "expected": e.expected, "nearest": e.nearest })
        })
        .collect();
    json!({ "config": path.display().to_string(), "ok": false, "errors": list })
}

fn findings_json(path: &Path, findings: &Findings) -> Value {
    let topics: serde_json::Map<String, Value> = findings.topics.iter().map(|(t, lines)| ((*t).to_owned(), json!(lines))).collect();
    json!({ "config": path.display().to_string(), "ok": findings.stops.is_empty(), "errors": [],
            "would": topics, "warnings": findings.warnings, "stops": findings.stops })
}

fn findings_text(path: &Path, findings: &Findings) -> String {
    let mut lines = vec![format!("{}: the configuration is right", path.display())];
    for (topic, about) in &findings.topics {
        lines.extend([String::new(), (*topic).to_owned()]);
        lines.extend(about.iter().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    lines.extend(findings.warnings.iter().map(|w| format!("warning: {w}")));
    lines.extend(findings.stops.iter().map(|s| format!("cannot start: {s}")));
    lines.push(if findings.stops.is_empty() { "serve would start" } else { "serve would not start" }.to_owned());
    lines.join("\n")
}

/// A reader that went away (`| head`) is no failure of the check.
fn print_out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn examine(loaded: Loaded) -> Findings {
    let config = &loaded.config;
    let mut findings = Findings { warnings: loaded.warnings, ..Findings::default() };
    findings.warnings.extend(certificate::warnings(config, SystemTime::now()));
    node(config, &mut findings);
    listeners(config, &mut findings);
    cxone(config, &mut findings);
    synthflow(config, &mut findings);
    media(config, &mut findings);
    limits(config, &mut findings);
    api(config, &mut findings);
    headers(config, &mut findings);
    escalation(config, &mut findings);
    findings
}

fn node(config: &Config, findings: &mut Findings) {
    let node = &config.node;
    findings.say("node", format!("name {}", node.name));
    match probe::writable_folder(&node.state_dir) {
        Ok(true) => findings.say("node", format!("state_dir {}", node.state_dir.display())),
        Ok(false) => findings.say("node", format!("state_dir {} (will be made)", node.state_dir.display())),
        Err(why) => findings.stops.push(format!("node.state_dir: {why}")),
    }
    let redacted = if config.log.redact { "redacted" } else { "NOT redacted" };
    let place = config.log.file.as_ref().map_or("standard output".to_owned(), |f| f.display().to_string());
    findings.say("node", format!("log {:?} at level {}, {redacted}, to {place}", config.log.format, config.log.level).to_lowercase());
    if let Some(Err(why)) = config.log.file.as_ref().map(|f| probe::appendable_file(f)) {
        findings.stops.push(format!("log.file: {why}"));
    }
}

fn listeners(config: &Config, findings: &mut Findings) {
    for listen in &config.sip.listen {
        let name = format!("{}://{}", listen.transport.as_str().to_ascii_lowercase(), listen.addr);
        match probe::bind(listen) {
            Ok(()) => findings.say("listeners", format!("{name} free")),
            Err(e) => {
                findings.say("listeners", format!("{name} {}", e.kind()));
                let hint = match e.kind() {
                    io::ErrorKind::AddrInUse => " (is serve running already?)",
                    io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
                    io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
                    _ => "",
                };
                findings.stops.push(format!("sip.listen: {name}: {e}{hint}"));
            }
        }
    }
}

fn cxone(config: &Config, findings: &mut Findings) {
    findings.say("cxone", format!("may call from {}", allow_text(&config.cxone.allow)));
    let peers: Vec<IpAddr> = config.cxone.allow.iter().map(|a| a.network).collect();
    advertised(config, "cxone", &config.cxone.advertise, &peers, findings);
    findings.say("cxone", format!("contact id from {}", config.cxone.contact_id.join(", ")));
    for (name, template) in &config.cxone.answer_headers {
        findings.say("cxone", format!("our 200 OK carries {name}: {template}"));
    }
}

fn synthflow(config: &Config, findings: &mut Findings) {
    let mut peers = Vec::new();
    for target in &config.synthflow.targets {
        let name = target_text(target);
        if target.lookup != Lookup::Address {
            findings.say("synthflow", format!("{name} has no port: serve looks for NAPTR and SRV records first"));
        }
        match probe::resolve(&target.name.0, target.port) {
            Ok(ips) if !ips.is_empty() => {
                let list: Vec<String> = ips.iter().map(ToString::to_string).collect();
                findings.say("synthflow", format!("calls {name} at {}", list.join(", ")));
                unreachable_families(config, target, &ips, findings);
                peers.extend(ips);
            }
            Ok(_) => findings.warnings.push(format!("synthflow: {name} has no address: calls fail until it has one")),
            Err(e) => findings.warnings.push(format!("synthflow: {name} does not resolve ({e}): calls fail until it does")),
        }
    }
    if !config.dns_servers.is_empty() {
        findings.say("synthflow", "resolved by the system here; serve asks dns.servers".to_owned());
    }
    findings.say("synthflow", format!("may send requests from there and from {}", allow_text(&config.synthflow.allow)));
    advertised(config, "synthflow", &config.synthflow.advertise, &peers, findings);
    let codecs: Vec<&str> = config.synthflow.codecs.iter().map(|c| c.as_str()).collect();
    findings.say("synthflow", format!("offers {}", codecs.join(", ")));
}

/// UDP needs a listener of a family that the target has.
fn unreachable_families(config: &Config, target: &TargetSpec, ips: &[IpAddr], findings: &mut Findings) {
    let listens = |ip: &IpAddr| config.sip.listen.iter().any(|l| l.transport == Transport::Udp && l.addr.is_ipv4() == ip.is_ipv4());
    if target.transport == Transport::Udp && !ips.iter().any(listens) {
        findings.warnings.push(format!("synthflow: {}: no udp:// listener has the family of its addresses", target_text(target)));
    }
}

/// What this side sees in Via, Contact and SDP.
fn advertised(config: &Config, side: &'static str, own: &[IpAddr], peers: &[IpAddr], findings: &mut Findings) {
    let configured = if own.is_empty() { &config.sip.advertise } else { own };
    for ip in configured {
        findings.say(side, format!("is told to send to {ip}"));
    }
    if !configured.is_empty() {
        return;
    }
    let fixed = config.sip.listen.iter().map(|l| l.addr.ip()).find(|ip| !ip.is_unspecified());
    if let Some(ip) = fixed {
        findings.say(side, format!("is told to send to {ip}, the listener's address"));
        return;
    }
    let Some(peer) = peers.first() else { return };
    match route_to(*peer) {
        Some(ip) => {
            findings.say(side, format!("is told to send to {ip}, our address towards {peer}"));
            if is_private(ip) && !is_private(*peer) {
                findings
                    .warnings
                    .push(format!("{side} at {peer} is told to send to {ip}, a private address; behind NAT set sip.advertise"));
            }
        }
        None => findings.warnings.push(format!("{side}: no way to {peer} from here")),
    }
}

fn media(config: &Config, findings: &mut Findings) {
    let media = &config.media;
    let (low, high) = (media.ports.start(), media.ports.end());
    let pairs = media.ports.clone().step_by(2).count();
    findings.say("media", format!("ports {low}-{high}: {pairs} pairs, {} calls", calls_possible(config)));
    for ip in &media.bind {
        match probe::media_pairs(*ip, media) {
            Ok(found) if found.busy == 0 => findings.say("media", format!("{ip}: all free")),
            Ok(found) => {
                let first = found.first_busy.unwrap_or_default();
                findings.say("media", format!("{ip}: {} pairs free, {} in use, the first at {first}", found.free, found.busy));
                if found.free < 2 {
                    findings.stops.push(format!("media.ports: {low}-{high} has no free ports for one call on {ip}"));
                } else {
                    findings.warnings.push(format!("media.ports: {} pairs are in use by others on {ip}, the first at {first}", found.busy));
                }
            }
            Err(e) => findings.stops.push(format!("media.bind: {ip}: {e}")),
        }
    }
    match ports::ephemeral(&|path| std::fs::read_to_string(path)) {
        Some(kernel) => findings.say("media", format!("the kernel's own ports {}-{} do not get in the way", kernel.start(), kernel.end())),
        None => findings.say("media", "the kernel does not say which ports are its own".to_owned()),
    }
    let timeout = if media.timeout.is_zero() { "never".to_owned() } else { format!("after {}", print_duration(media.timeout)) };
    findings.say("media", format!("latch {:?}, dscp {}, a silent call ends {timeout}", media.latch, media.dscp).to_lowercase());
}

fn limits(config: &Config, findings: &mut Findings) {
    findings.say("limits", format!("{} calls, {} new ones a second", config.node.max_calls, config.node.max_cps));
    // As serve does before it looks.
    let (soft, hard) = raise_nofile();
    let text = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let calls = config.node.max_calls;
    findings.say("limits", format!("open files: {} (hard {}), {calls} calls need {}", text(soft), text(hard), descriptors_for(calls)));
    findings.stops.extend(shortage((soft, hard), calls));
}

fn api(config: &Config, findings: &mut Findings) {
    let api = &config.api;
    match (api.token_url.is_empty(), api.base_url.is_empty()) {
        (false, _) => findings.say("cxone api", format!("token from {}", api.token_url)),
        (true, _) => findings.say("cxone api", format!("token endpoint from {}/.well-known/openid-configuration", api.issuer)),
    }
    let base = if api.base_url.is_empty() { "the tenant's api_endpoint" } else { &api.base_url };
    findings.say("cxone api", format!("signals to {base}/incontactapi/services/{}/interactions/{{contactId}}/signal", api.version));
    let (timeout, settle, deadline) = (print_duration(api.timeout), print_duration(api.settle), print_duration(api.deadline));
    let repeated = if api.repeat_unanswered { format!("repeated once after {settle}") } else { "not repeated".to_owned() };
    findings.say("cxone api", format!("one request {timeout}; without an answer {repeated}; all tries {deadline}"));
}

fn headers(config: &Config, findings: &mut Findings) {
    for (name, template) in [("S", &config.x_ei.s), ("E", &config.x_ei.e), ("O", &config.x_ei.o)] {
        findings.say("x-ei", if template.0.is_empty() { format!("{name} left out") } else { format!("{name} = {template}") });
    }
    let headers = &config.headers;
    findings.say("headers", format!("pass {}; drop {}", patterns(&headers.pass), patterns(&headers.drop)));
    for (from, to) in &headers.rename {
        findings.say("headers", format!("{from} becomes {to}"));
    }
    for (name, template) in &headers.set {
        findings.say("headers", format!("{name}: {template} is set"));
    }
    let budget = if headers.budget == 0 { "any number of".to_owned() } else { format!("at most {}", headers.budget) };
    findings.say("headers", format!("repeated: {:?}; {budget} bytes over udp", headers.repeated).to_lowercase());
}

fn escalation(config: &Config, findings: &mut Findings) {
    let escalation = &config.escalation;
    let ways: Vec<&str> =
        [("refer", escalation.accept_refer), ("bye", escalation.accept_bye)].iter().filter(|(_, on)| *on).map(|(w, _)| *w).collect();
    findings.say("escalation", if ways.is_empty() { "never".to_owned() } else { format!("by {}", ways.join(", ")) });
    for (asked, queue) in &escalation.queues {
        findings.say("escalation", format!("{asked} goes to queue {queue}"));
    }
    let default = if escalation.default_queue.is_empty() { "escalate" } else { &escalation.default_queue };
    let unknown = match escalation.unknown_queue {
        UnknownQueue::Default => "the same",
        UnknownQueue::Pass => "passed as it is",
        UnknownQueue::Refuse => "refused when a REFER names it, else the same",
    };
    findings.say("escalation", format!("no queue named: p1 is {default}; an unknown queue: {unknown}"));
    for (name, template) in &escalation.params {
        findings.say("escalation", format!("{name} = {template}"));
    }
}

fn target_text(target: &TargetSpec) -> String {
    let host = if target.name.0.contains(':') { format!("[{}]", target.name.0) } else { target.name.0.to_string() };
    format!("sip:{host}:{};transport={}", target.port, target.transport.as_str().to_ascii_lowercase())
}

fn allow_text(allow: &[Allow]) -> String {
    let entries: Vec<String> = allow
        .iter()
        .map(|a| {
            let whole = a.prefix == if a.network.is_ipv4() { 32 } else { 128 };
            let ip = if whole { a.network.to_string() } else { format!("{}/{}", a.network, a.prefix) };
            a.port.map_or(ip.clone(), |port| format!("{ip} port {port}"))
        })
        .collect();
    if entries.is_empty() { "nowhere else".to_owned() } else { entries.join(", ") }
}

fn patterns(patterns: &[NamePattern]) -> String {
    let names: Vec<&str> = patterns.iter().map(|p| p.0.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
