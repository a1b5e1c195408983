//! Names over real sockets: a name server of our own answers, the resolver finds out where a domain takes SIP (RFC 3263).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::net::UdpSocket;

use backchannel::b2bua::io::Input;
use backchannel::b2bua::io::Reach;
use backchannel::call::rules::TargetSpec;
use backchannel::config::Config;
use backchannel::edge::resolver::ResolverHandle;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::rdata::NAPTR;
use hickory_resolver::proto::rr::rdata::SRV;
use tokio::sync::mpsc;

type Zone = Vec<(&'static str, RData)>;

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

fn a(host: &'static str, ip: [u8; 4]) -> (&'static str, RData) {
    (host, RData::A(A::from(std::net::Ipv4Addr::from(ip))))
}

fn srv(owner: &'static str, priority: u16, port: u16, host: &str) -> (&'static str, RData) {
    let target = if host == "." { Name::root() } else { name(host) };
    (owner, RData::SRV(SRV::new(priority, 1, port, target)))
}

fn naptr(owner: &'static str, order: u16, service: &str, to: &str) -> (&'static str, RData) {
    let naptr = NAPTR::new(order, 1, (*b"s").into(), service.as_bytes().into(), (*b"").into(), name(to));
    (owner, RData::NAPTR(naptr))
}

/// Serves this zone over UDP for as long as the process lives; what is not in it does not exist.
fn serves(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.metadata.recursion_available = true;
            answer.metadata.recursion_desired = true;
            let asked = query.queries[0].clone();
            let known = zone.iter().any(|(owner, _)| name(owner) == *asked.name());
            for (owner, data) in
                zone.iter().filter(|(owner, data)| name(owner) == *asked.name() && data.record_type() == asked.query_type())
            {
                answer.add_answer(Record::from_rdata(name(owner), 60, data.clone()));
            }
            if !known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(asked);
            let _ = socket.send_to(&answer.to_vec().unwrap(), from);
        }
    });
    at
}

/// The target of a configuration.
fn target(text: &str) -> TargetSpec {
    let config = format!("[synthflow]\ntarget = \"{text}\"\n[escalation]\naccept = []\n");
    let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let loaded = Config::parse(&config, std::path::Path::new("c.toml"), &|_| None, &read).unwrap_or_else(|e| panic!("{e}"));
    loaded.config.synthflow.targets[0].clone()
}

/// Where these targets are, each as `address transport`.
fn found(zone: Zone, targets: &[&str]) -> Vec<Vec<String>> {
    let specs: Vec<TargetSpec> = targets.iter().map(|t| target(t)).collect();
    let reached = reached(zone, specs.clone()).unwrap();
    let places =
        |spec: &TargetSpec| reached.iter().filter_map(|r| r.target(spec)).map(|t| format!("{} {}", t.addr, t.transport.as_str())).collect();
    specs.iter().map(places).collect()
}

fn reached(zone: Zone, specs: Vec<TargetSpec>) -> Result<Vec<Reach>, String> {
    let (inputs, mut heard) = mpsc::channel(4);
    let _handle = ResolverHandle::start(specs, vec![serves(zone)], inputs).unwrap();
    match heard.blocking_recv().unwrap() {
        Input::Targets { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

fn one(zone: Zone, target: &str) -> Vec<String> {
    found(zone, &[target]).remove(0)
}

const A1: [u8; 4] = [127, 0, 0, 1];
const A2: [u8; 4] = [127, 0, 0, 2];

#[test]
fn naptr_leads_to_srv_and_that_to_addresses() {
    // RFC 3263 §4.1: the client "discards any records whose services fields are not […] SIP+D2X" and takes the lowest order first.
    let zone = vec![
        naptr("bot.example", 20, "SIP+D2U", "_u.bot.example"),
        naptr("bot.example", 10, "SIP+D2T", "_t.bot.example"),
        naptr("bot.example", 5, "SIPS+D2T", "_s.bot.example"),
        naptr("bot.example", 1, "E2U+sip", "_e.bot.example"),
        srv("_t.bot.example", 2, 5062, "b.bot.example"),
        srv("_t.bot.example", 1, 5061, "a.bot.example"),
        srv("_u.bot.example", 1, 5070, "a.bot.example"),
        a("a.bot.example", A1),
        a("b.bot.example", A2),
        a("bot.example", [127, 0, 0, 9]),
    ];
    assert_eq!(one(zone, "sip:bot.example"), ["127.0.0.1:5061 TCP", "127.0.0.2:5062 TCP", "127.0.0.1:5070 UDP"]);
}

#[test]
fn without_naptr_each_transport_is_asked_for_and_a_given_one_is_the_only_one() {
    let zone = || {
        vec![
            srv("_sip._udp.bot.example", 1, 5071, "a.bot.example"),
            srv("_sip._tcp.bot.example", 1, 5072, "a.bot.example"),
            a("a.bot.example", A1),
        ]
    };
    assert_eq!(one(zone(), "sip:bot.example"), ["127.0.0.1:5071 UDP", "127.0.0.1:5072 TCP"]);
    assert_eq!(one(zone(), "sip:bot.example;transport=tcp"), ["127.0.0.1:5072 TCP"]);
    // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
    let closed = zone().into_iter().map(|(owner, data)| if owner.contains("_udp") { srv(owner, 1, 5071, ".") } else { (owner, data) });
    assert_eq!(one(closed.collect(), "sip:bot.example"), ["127.0.0.1:5072 TCP"]);
}

#[test]
fn without_services_the_addresses_and_the_default_port_are_used() {
    let zone = || vec![a("bot.example", A1)];
    // RFC 3263 §4.2: "If no SRV records were found, the client performs an A or AAAA record lookup of the domain name."
    assert_eq!(one(zone(), "sip:bot.example"), ["127.0.0.1:5060 UDP"]);
    assert_eq!(one(zone(), "sip:bot.example;transport=tcp"), ["127.0.0.1:5060 TCP"]);
}

#[test]
fn a_port_of_its_own_asks_for_addresses_only_even_beside_one_without() {
    let zone = vec![srv("_sip._udp.bot.example", 1, 5071, "a.bot.example"), a("a.bot.example", A1), a("bot.example", A2)];
    let all = found(zone, &["sip:bot.example:5090", "sip:bot.example"]);
    assert_eq!(all, [vec!["127.0.0.2:5090 UDP"], vec!["127.0.0.1:5071 UDP", "127.0.0.2:5060 UDP"]]);
}

#[test]
fn a_domain_that_does_not_exist_is_an_error() {
    assert!(reached(vec![], vec![target("sip:nowhere.example")]).is_err());
}
