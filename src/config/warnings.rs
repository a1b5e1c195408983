//! What is allowed and yet probably not meant.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use crate::call::rules::Transport;
use crate::config::Allow;
use crate::config::Config;
use crate::config::presets::DOUBTFUL;
use crate::config::values::PORTS_PER_CALL;
use crate::config::values::is_clear_and_remote;
use crate::config::values::is_private;

/// The calls that `media.ports` has room for.
pub fn calls_possible(config: &Config) -> usize {
    let ports = &config.media.ports;
    (usize::from(*ports.end()).saturating_sub(usize::from(*ports.start())) + 1) / PORTS_PER_CALL
}

pub(super) fn collect(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    clear_text(config, &mut found);
    let calls = calls_possible(config);
    if config.node.max_calls > calls {
        let (max, ports) = (config.node.max_calls, &config.media.ports);
        found.push(format!("node.max_calls = {max}, but media.ports {}-{} has room for {calls} calls", ports.start(), ports.end()));
    }
    let targets = config.synthflow.targets.iter();
    let target_ips: Vec<IpAddr> = targets.filter_map(|t| t.name.0.parse().ok()).collect();
    private_advertise(config, "cxone", &config.cxone.advertise, &networks(&config.cxone.allow), &mut found);
    let synthflow: Vec<IpAddr> = networks(&config.synthflow.allow).into_iter().chain(target_ips.iter().copied()).collect();
    private_advertise(config, "synthflow", &config.synthflow.advertise, &synthflow, &mut found);
    let doubtful = IpAddr::V4(Ipv4Addr::from(DOUBTFUL));
    if target_ips.contains(&doubtful) || config.synthflow.allow.iter().any(|a| a.network == doubtful) {
        found.push(format!("synthflow: {doubtful} is published, but outside the range of all others; perhaps 34.138.180.50 is meant"));
    }
    open_to_all("cxone.allow", &config.cxone.allow, &mut found);
    open_to_all("synthflow.allow", &config.synthflow.allow, &mut found);
    families(config, &mut found);
    found
}

fn networks(allow: &[Allow]) -> Vec<IpAddr> {
    allow.iter().map(|a| a.network).collect()
}

fn clear_text(config: &Config, found: &mut Vec<String>) {
    let api = &config.api;
    for (key, url) in [("issuer", &api.issuer), ("base_url", &api.base_url), ("token_url", &api.token_url)] {
        if is_clear_and_remote(url) {
            found.push(format!("cxone.api.{key}: {url} sends the credentials in clear text; https:// is meant for anything but a test"));
        }
    }
}

/// The addresses that one side sees, where the configuration alone tells: its own, else `sip.advertise`, else a listener that is
/// no wildcard.
fn private_advertise(config: &Config, side: &str, own: &[IpAddr], peers: &[IpAddr], found: &mut Vec<String>) {
    let (key, shown) = if !own.is_empty() {
        (format!("{side}.advertise"), own.to_vec())
    } else if !config.sip.advertise.is_empty() {
        ("sip.advertise".to_owned(), config.sip.advertise.clone())
    } else {
        let fixed = config.sip.listen.iter().map(|l| l.addr.ip()).filter(|ip| !ip.is_unspecified());
        ("sip.listen".to_owned(), fixed.collect())
    };
    for ip in shown.iter().filter(|ip| is_private(**ip)) {
        if let Some(peer) = peers.iter().find(|p| !is_private(**p) && p.is_ipv4() == ip.is_ipv4()) {
            let line = format!("{key}: {side} at {peer} is told to send to {ip}, a private address; behind NAT set {side}.advertise");
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
}

fn open_to_all(key: &str, allow: &[Allow], found: &mut Vec<String>) {
    if let Some(entry) = allow.iter().find(|a| a.prefix == 0) {
        found.push(format!("{key}: {}/0 lets everybody in", entry.network));
    }
}

/// An advertised address needs a listener of its family, and UDP needs one for the answer to a UDP request.
fn families(config: &Config, found: &mut Vec<String>) {
    let listens = |ip: &IpAddr| config.sip.listen.iter().any(|l| l.addr.is_ipv4() == ip.is_ipv4());
    let lists = [
        ("sip", &config.sip.advertise),
        ("media", &config.media.advertise),
        ("cxone", &config.cxone.advertise),
        ("synthflow", &config.synthflow.advertise),
    ];
    for (section, ips) in lists {
        let copied = section == "media" && config.media.advertise == config.sip.advertise;
        for ip in ips.iter().filter(|ip| !copied && !listens(ip)) {
            found.push(format!("{section}.advertise: {ip} is shown to nobody: sip.listen has no listener of its family"));
        }
    }
    let no_tls_listener = config.sip.listen.iter().all(|l| l.transport != Transport::Tls);
    if let Some(target) = config.synthflow.targets.iter().find(|t| no_tls_listener && t.transport == Transport::Tls) {
        found.push(format!(
            "synthflow: {} is called over TLS, but sip.listen has no tls:// listener: its requests reach us over our connection alone",
            target.name.0
        ));
    }
    for target in config.synthflow.targets.iter().filter(|t| t.transport == Transport::Udp) {
        if let Ok(ip) = target.name.0.parse::<IpAddr>() {
            let reachable = config.sip.listen.iter().any(|l| l.transport == Transport::Udp && l.addr.is_ipv4() == ip.is_ipv4());
            if !reachable {
                found.push(format!("synthflow: {ip} cannot be called: sip.listen has no udp:// listener of its family"));
            }
        }
    }
}
