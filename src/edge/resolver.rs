//! Names to addresses, on a thread of its own: configured names ahead of need and again at each TTL, others when asked.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use compact_str::CompactString;
use hickory_resolver::Resolver as Hickory;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::b2bua::io::Input;
use crate::b2bua::io::Reach;
use crate::call::rules::Lookup;
use crate::call::rules::TargetName;
use crate::call::rules::TargetSpec;
use crate::edge::core_loop::reach;
use crate::edge::services;
use crate::ids::QueryId;

/// Questions that wait for the resolver's thread.
const QUESTIONS_MAX: usize = 256;

/// Questions asked at a time.
const QUESTIONS_AT_A_TIME_MAX: usize = 64;

/// Addresses of one name that are used.
pub(super) const ADDRESSES_MAX: usize = 16;

/// One question, all servers and tries together.
pub(super) const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// A shorter TTL is not believed.
const REFRESH_MIN: Duration = Duration::from_secs(5);

/// A longer TTL is not waited for.
pub(super) const REFRESH_MAX: Duration = Duration::from_secs(300);

/// After a failure: the first pause; it doubles up to `RETRY_MAX`.
const RETRY_MIN: Duration = Duration::from_secs(1);

const RETRY_MAX: Duration = Duration::from_secs(30);

/// Asks the resolver.
#[derive(Clone, Debug)]
pub struct ResolverHandle {
    questions: mpsc::Sender<(QueryId, CompactString)>,
}

impl ResolverHandle {
    /// Starts the thread. It ends when the handle and all its clones are dropped.
    pub fn start(targets: Vec<TargetSpec>, servers: Vec<SocketAddr>, inputs: mpsc::Sender<Input>) -> io::Result<ResolverHandle> {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("resolver".into()).spawn(move || runtime.block_on(run(targets, servers, asked, inputs)))?;
        Ok(ResolverHandle { questions })
    }

    /// Answered by `Input::Resolved`; false when too many questions wait.
    pub fn ask(&self, query: QueryId, name: &CompactString) -> bool {
        self.questions.try_send((query, name.clone())).is_ok()
    }
}

async fn run(
    targets: Vec<TargetSpec>,
    servers: Vec<SocketAddr>,
    mut asked: mpsc::Receiver<(QueryId, CompactString)>,
    inputs: mpsc::Sender<Input>,
) {
    let names_to_addresses = Arc::new(Names::new(servers));
    for (i, spec) in targets.iter().enumerate() {
        if targets.iter().take(i).all(|earlier| earlier.name != spec.name) {
            let specs = targets.iter().filter(|t| t.name == spec.name).cloned().collect();
            tokio::spawn(keep(names_to_addresses.clone(), spec.name.clone(), specs, inputs.clone()));
        }
    }
    let at_a_time = Arc::new(Semaphore::new(QUESTIONS_AT_A_TIME_MAX));
    while let Some((query, name)) = asked.recv().await {
        let Ok(permit) = at_a_time.clone().acquire_owned().await else { return };
        let (names_to_addresses, inputs) = (names_to_addresses.clone(), inputs.clone());
        tokio::spawn(async move {
            let result = names_to_addresses.resolve(&name).await.map(|(reached, _)| reached);
            let _ = inputs.send(Input::Resolved { query, result }).await;
            drop(permit);
        });
    }
}

/// Keeps one configured name resolved for as long as somebody listens.
async fn keep(names: Arc<Names>, name: TargetName, specs: Vec<TargetSpec>, inputs: mpsc::Sender<Input>) {
    let mut retry = RETRY_MIN;
    let mut said: Option<Result<Vec<Reach>, String>> = None;
    loop {
        let resolved = names.locate(&name.0, &specs).await;
        let pause = match &resolved {
            Ok((_, until)) => {
                retry = RETRY_MIN;
                until.saturating_duration_since(Instant::now()).clamp(REFRESH_MIN, REFRESH_MAX)
            }
            Err(_) => {
                names.renew();
                let pause = retry;
                retry = (retry * 2).min(RETRY_MAX);
                pause
            }
        };
        let result = resolved.map(|(reached, _)| reached);
        if said.as_ref() != Some(&result) {
            say(&name, &result);
            said = Some(result.clone());
        }
        if inputs.send(Input::Targets { name: name.clone(), result }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Once per change, not per refresh.
fn say(name: &TargetName, result: &Result<Vec<Reach>, String>) {
    match result {
        Ok(reached) => {
            let text = |r: &Reach| match r.at {
                Some((transport, port)) => format!("{}/{}", SocketAddr::new(r.ip, port), transport.as_str()),
                None => r.ip.to_string(),
            };
            let ips: Vec<String> = reached.iter().map(text).collect();
            tracing::info!(host = %name.0, addresses = ips.join(","), "target.resolved");
        }
        Err(why) => tracing::warn!(host = %name.0, why, "target.unresolved"),
    }
}

/// The resolver, or why there is none.
struct Names {
    servers: Vec<SocketAddr>,
    dns: Mutex<Result<TokioResolver, String>>,
}

impl Names {
    fn new(servers: Vec<SocketAddr>) -> Names {
        let dns = Mutex::new(builder(&servers));
        Names { servers, dns }
    }

    /// Reads the system's settings again: at start there may have been no network yet, and DHCP changes them.
    fn renew(&self) {
        if self.servers.is_empty() {
            *self.dns.lock().unwrap_or_else(PoisonError::into_inner) = builder(&self.servers);
        }
    }

    fn dns(&self) -> Result<TokioResolver, String> {
        self.dns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A configured name: by its services where a target asks for them, by its addresses where one has a port or there are no services.
    async fn locate(&self, name: &str, specs: &[TargetSpec]) -> Result<(Vec<Reach>, Instant), String> {
        let (mut found, mut until) = (Vec::new(), Instant::now() + REFRESH_MAX);
        for spec in specs.iter().filter(|s| s.lookup != Lookup::Address) {
            let (reached, valid) = services::locate(&self.dns()?, spec).await?;
            found.extend(reached);
            until = until.min(valid);
        }
        if found.is_empty() || specs.iter().any(|s| s.lookup == Lookup::Address) {
            let (reached, valid) = self.resolve(name).await?;
            found.extend(reached);
            until = until.min(valid);
        }
        let mut each_once: Vec<Reach> = Vec::new();
        for reach in found {
            if !each_once.contains(&reach) {
                each_once.push(reach);
            }
        }
        Ok((each_once, until))
    }

    /// Addresses that this host has a route to, IPv4 first, and until when they hold.
    async fn resolve(&self, name: &str) -> Result<(Vec<Reach>, Instant), String> {
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let (found, until) = match literal {
            Ok(ip) => (vec![ip], Instant::now() + REFRESH_MAX),
            Err(_) => {
                let dns = self.dns()?;
                let asked = tokio::time::timeout(QUESTION_TIME_MAX, dns.lookup_ip(name)).await;
                let found = asked.map_err(|_| format!("no answer within {} s", QUESTION_TIME_MAX.as_secs()))?.map_err(|e| e.to_string())?;
                let mut ips: Vec<IpAddr> = found.iter().collect();
                ips.sort_by_key(IpAddr::is_ipv6);
                (ips, found.valid_until())
            }
        };
        let count = found.len();
        let reached: Vec<Reach> = found.into_iter().filter_map(reach).take(ADDRESSES_MAX).collect();
        match (reached.is_empty(), count) {
            (false, _) => Ok((reached, until)),
            (true, 0) => Err(format!("{name} has no address")),
            (true, _) => Err(format!("no route to any address of {name}")),
        }
    }
}

fn builder(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let mut builder = if servers.is_empty() {
        Hickory::builder_tokio().map_err(no_server)?
    } else {
        let all = servers.iter().map(|server| {
            let mut one = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut one.connections {
                connection.port = server.port();
            }
            one
        });
        Hickory::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), all.collect()), TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    builder.build().map_err(no_server)
}

fn no_server(error: impl std::fmt::Display) -> String {
    format!("no name server: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::rules::Transport;
    use crate::policy::samples::spec;

    fn first_target(name: &str, servers: Vec<SocketAddr>) -> Result<Vec<Reach>, String> {
        let (inputs, mut heard) = mpsc::channel(4);
        let _handle = ResolverHandle::start(vec![spec(name, 5060, Transport::Udp)], servers, inputs).unwrap();
        match heard.blocking_recv().unwrap() {
            Input::Targets { name: heard, result } => {
                assert_eq!(heard.0, name);
                result
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_literal_needs_no_name_server() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(first_target("127.0.0.1", Vec::new()), Ok(vec![Reach { ip: loopback, local: loopback, at: None }]));
    }

    #[test]
    fn localhost_comes_from_the_hosts_file_even_with_servers_configured() {
        // Nobody listens there: an answer can only come from the file.
        let nobody = "127.0.0.1:9".parse().unwrap();
        let reached = first_target("localhost", vec![nobody]).unwrap();
        assert_eq!(reached[0].ip, "127.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_question_gets_its_answer_and_a_dead_server_an_error() {
        let (inputs, mut heard) = mpsc::channel(4);
        let handle = ResolverHandle::start(Vec::new(), vec!["127.0.0.1:9".parse().unwrap()], inputs).unwrap();
        assert!(handle.ask(QueryId(7), &"no-such-name.invalid".into()));
        match heard.blocking_recv().unwrap() {
            Input::Resolved { query: QueryId(7), result: Err(why) } => assert!(!why.is_empty()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_question_more_than_may_wait_is_refused_at_once() {
        let (questions, _asked) = mpsc::channel(QUESTIONS_MAX);
        let handle = ResolverHandle { questions };
        assert!((0..QUESTIONS_MAX as u64).all(|n| handle.ask(QueryId(n), &"x.example".into())));
        assert!(!handle.ask(QueryId(0), &"x.example".into()));
    }
}
