//! Where a domain takes SIP (RFC 3263 §4): NAPTR, SRV, and the addresses of what they name.

use std::net::IpAddr;
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup as Found;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::RecordType;
use rand_core::OsRng;
use rand_core::TryRngCore;

use crate::b2bua::io::Reach;
use crate::call::rules::Lookup;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::edge::core_loop::reach;
use crate::edge::resolver::ADDRESSES_MAX;
use crate::edge::resolver::QUESTION_TIME_MAX;
use crate::edge::resolver::REFRESH_MAX;

/// SRV names asked for one target, and records used of each.
const SERVICES_MAX: usize = 4;
const RECORDS_MAX: usize = 32;

/// One SRV record (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Service {
    priority: u16,
    weight: u16,
    port: u16,
    host: String,
}

/// One NAPTR record that we can use: `s`, a transport of ours, and where its SRV records are.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pointer {
    order: u16,
    preference: u16,
    transport: Transport,
    name: String,
}

/// In order, each with its transport and port; empty: the domain has no services. An error: it can not be known now.
pub async fn locate(dns: &TokioResolver, spec: &TargetSpec) -> Result<(Vec<Reach>, Instant), String> {
    let mut until = Instant::now() + REFRESH_MAX;
    let mut reached = Vec::new();
    for (transport, name) in service_names(dns, spec, &mut until).await {
        let Some(found) = ask(dns, &name, RecordType::SRV).await? else { continue };
        until = until.min(found.valid_until());
        for Service { host, port, .. } in in_order(services(&found), dice) {
            let (ips, valid) = addresses(dns, &host).await;
            until = until.min(valid);
            let of_host = ips.into_iter().filter_map(reach).map(|r| Reach { at: Some((transport, port)), ..r });
            reached.extend(of_host.take(ADDRESSES_MAX.saturating_sub(reached.len())));
        }
    }
    Ok((reached, until))
}

/// The SRV names to ask for. RFC 3263 §4.1: what NAPTR says, else one for each transport; a transport in the URI is the only one.
async fn service_names(dns: &TokioResolver, spec: &TargetSpec, until: &mut Instant) -> Vec<(Transport, String)> {
    let domain = spec.name.0.trim_end_matches('.');
    if spec.lookup == Lookup::Naptr
        // A server that can not answer NAPTR is no reason not to call.
        && let Ok(Some(found)) = ask(dns, domain, RecordType::NAPTR).await
    {
        *until = (*until).min(found.valid_until());
        let mut all = pointers(&found);
        all.sort_by_key(|p| (p.order, p.preference));
        if !all.is_empty() {
            return all.into_iter().take(SERVICES_MAX).map(|p| (p.transport, p.name)).collect();
        }
    }
    let transports = if spec.lookup == Lookup::Naptr { vec![Transport::Udp, Transport::Tcp] } else { vec![spec.transport] };
    transports.into_iter().map(|t| (t, format!("_sip._{}.{domain}", t.as_str().to_ascii_lowercase()))).collect()
}

/// `None`: there are no such records.
async fn ask(dns: &TokioResolver, name: &str, kind: RecordType) -> Result<Option<Found>, String> {
    // With a dot at its end: the search list of this host is not for the names of others.
    let asked = dns.lookup(format!("{}.", name.trim_end_matches('.')), kind);
    match tokio::time::timeout(QUESTION_TIME_MAX, asked).await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(e)) if e.is_no_records_found() => Ok(None),
        Ok(Err(e)) => Err(format!("{kind} of {name}: {e}")),
        Err(_) => Err(format!("{kind} of {name}: no answer within {} s", QUESTION_TIME_MAX.as_secs())),
    }
}

fn pointers(found: &Found) -> Vec<Pointer> {
    let read = |data: &RData| {
        let RData::NAPTR(naptr) = data else { return None };
        // RFC 3263 §4.1: `s`, and services that we speak; SIPS+D2T is not in this version.
        let transport = match naptr.services.to_ascii_uppercase().as_slice() {
            b"SIP+D2U" => Transport::Udp,
            b"SIP+D2T" => Transport::Tcp,
            _ => return None,
        };
        let usable = naptr.flags.eq_ignore_ascii_case(b"s") && naptr.regexp.is_empty();
        let (order, preference, name) = (naptr.order, naptr.preference, naptr.replacement.to_ascii());
        usable.then_some(Pointer { order, preference, transport, name })
    };
    found.answers().iter().filter_map(|record| read(&record.data)).take(RECORDS_MAX).collect()
}

fn services(found: &Found) -> Vec<Service> {
    let read = |data: &RData| {
        let RData::SRV(srv) = data else { return None };
        // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
        let service = Service { priority: srv.priority, weight: srv.weight, port: srv.port, host: srv.target.to_ascii() };
        (!srv.target.is_root() && service.port != 0).then_some(service)
    };
    found.answers().iter().filter_map(|record| read(&record.data)).take(RECORDS_MAX).collect()
}

async fn addresses(dns: &TokioResolver, host: &str) -> (Vec<IpAddr>, Instant) {
    match tokio::time::timeout(QUESTION_TIME_MAX, dns.lookup_ip(host)).await {
        Ok(Ok(found)) => {
            let mut ips: Vec<IpAddr> = found.iter().collect();
            ips.sort_by_key(IpAddr::is_ipv6);
            (ips, found.valid_until())
        }
        _ => (Vec::new(), Instant::now()),
    }
}

/// RFC 2782: by priority, and in one priority at random, with a chance in proportion to the weight. `dice(n)`: one of `0..n`.
fn in_order(mut all: Vec<Service>, mut dice: impl FnMut(u64) -> u64) -> Vec<Service> {
    // "arrange all SRV RRs […] in any order, except that all those with weight 0 are placed at the beginning of the list."
    all.sort_by_key(|s| (s.priority, s.weight != 0));
    let mut ordered = Vec::with_capacity(all.len());
    while let Some(first) = all.first() {
        let priority = first.priority;
        let peers = all.iter().take_while(|s| s.priority == priority);
        let sum: u64 = peers.clone().map(|s| u64::from(s.weight)).sum();
        // "choose a uniform random number between 0 and the sum computed (inclusive), and select the RR whose running sum value is the
        // first in the selected order which is greater than or equal to the random number selected."
        let drawn = dice(sum + 1);
        let mut running = 0;
        let at = peers.take_while(|s| {
            running += u64::from(s.weight);
            running < drawn
        });
        let at = at.count();
        ordered.push(all.remove(at.min(all.len() - 1)));
    }
    ordered
}

fn dice(below: u64) -> u64 {
    // Without randomness the first is as good as any.
    OsRng.try_next_u64().map_or(0, |n| n % below.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, host: &str) -> Service {
        Service { priority, weight, port: 5060, host: host.into() }
    }

    fn hosts(all: &[Service], mut drawn: Vec<u64>) -> String {
        in_order(all.to_vec(), |below| if drawn.is_empty() { 0 } else { drawn.remove(0).min(below - 1) })
            .into_iter()
            .map(|s| s.host)
            .collect()
    }

    #[test]
    fn a_lower_priority_comes_first_whatever_the_dice_say() {
        let all = [service(20, 9, "c"), service(10, 1, "a"), service(30, 0, "d"), service(20, 1, "b")];
        for drawn in [vec![0; 4], vec![u64::MAX; 4]] {
            let order = hosts(&all, drawn);
            assert!(order.starts_with('a') && order.ends_with('d'), "{order}");
        }
    }

    #[test]
    fn in_one_priority_the_running_sum_of_weights_decides() {
        // The running sums are z 0, a 1, b 3, c 6.
        let all = [service(1, 1, "a"), service(1, 2, "b"), service(1, 0, "z"), service(1, 3, "c")];
        assert_eq!(hosts(&all, vec![0]), "zabc");
        assert_eq!(hosts(&all, vec![1]), "azbc");
        assert_eq!(hosts(&all, vec![3, 0]), "bzac");
        assert_eq!(hosts(&all, vec![4, 3, 1]), "cbaz");
        assert_eq!(hosts(&[], vec![]), "");
        assert_eq!(hosts(&[service(1, 0, "x"), service(1, 0, "y")], vec![0, 0]), "xy");
    }

    #[test]
    fn the_chance_is_in_proportion_to_the_weight() {
        let all = [service(1, 1, "a"), service(1, 3, "b")];
        let firsts: Vec<String> = (0..5).map(|n| hosts(&all, vec![n])[..1].to_owned()).collect();
        assert_eq!(firsts, ["a", "a", "b", "b", "b"]);
    }
}
