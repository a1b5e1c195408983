//! Where a call goes: the configured targets, in order, as addresses.

use std::net::Ipv6Addr;
use std::net::SocketAddr;

use compact_str::CompactString;
use compact_str::format_compact;

use crate::call::rules::PlannedTarget;
use crate::call::rules::Resolve;
use crate::call::rules::Target;
use crate::call::rules::TargetSpec;

/// Addresses of one call at the very most: a name with a hundred records must not make a call try them all.
pub const TARGETS_MAX: usize = 16;

/// Every known address of every target, in the order of the configuration; an address that two targets share is tried once.
pub fn targets(specs: &[TargetSpec], resolve: &dyn Resolve) -> Vec<PlannedTarget> {
    let mut planned: Vec<PlannedTarget> = Vec::new();
    for spec in specs {
        for ip in resolve.addresses(&spec.name) {
            let target = Target { transport: spec.transport, addr: SocketAddr::new(ip, spec.port) };
            if planned.len() < TARGETS_MAX && planned.iter().all(|p| p.target != target) {
                planned.push(PlannedTarget { target, shown: shown(spec) });
            }
        }
    }
    planned
}

/// `host:port` as the Request-URI shows it: the configured name, so that the far end's own routing and certificates work; an IPv6
/// literal in brackets.
fn shown(spec: &TargetSpec) -> CompactString {
    let name = spec.name.0.as_str();
    match name.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
        Ok(ip) => format_compact!("[{ip}]:{}", spec.port),
        Err(_) => format_compact!("{name}:{}", spec.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::rules::Transport;
    use crate::policy::samples::Names;
    use crate::policy::samples::spec;

    #[test]
    fn every_address_of_every_target_comes_in_order_and_once() {
        let specs = [
            spec("sip.example", 32681, Transport::Tcp),
            spec("sip.example", 32681, Transport::Udp),
            spec("2001:db8::5", 5060, Transport::Udp),
            spec("sip.example", 32681, Transport::Tcp),
            spec("dead.example", 5060, Transport::Udp),
        ];
        let names = Names::of(&[("sip.example", &["192.0.2.1", "192.0.2.2"]), ("2001:db8::5", &["2001:db8::5"])]);
        let said: Vec<String> =
            targets(&specs, &names).iter().map(|p| format!("{} {} {}", p.target.transport.as_str(), p.target.addr, p.shown)).collect();
        assert_eq!(
            said,
            [
                "TCP 192.0.2.1:32681 sip.example:32681",
                "TCP 192.0.2.2:32681 sip.example:32681",
                "UDP 192.0.2.1:32681 sip.example:32681",
                "UDP 192.0.2.2:32681 sip.example:32681",
                "UDP [2001:db8::5]:5060 [2001:db8::5]:5060",
            ]
        );
    }

    #[test]
    fn one_address_past_the_limit_is_not_tried() {
        let many: Vec<String> = (0..=TARGETS_MAX).map(|i| format!("192.0.2.{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let names = Names::of(&[("many.example", &many)]);
        assert_eq!(targets(&[spec("many.example", 5060, Transport::Udp)], &names).len(), TARGETS_MAX);
    }
}
