//! A file becomes a `Config`: all of it is right, or all that is wrong is told at once.

use std::io;
use std::io::Read;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use compact_str::CompactString;
use toml::de::DeTable;

use crate::call::anchor::Latch;
use crate::call::rules::Transport;
use crate::config::Config;
use crate::config::Listen;
use crate::config::Loaded;
use crate::config::Log;
use crate::config::LogFormat;
use crate::config::Media;
use crate::config::Node;
use crate::config::Secret;
use crate::config::Sip;
use crate::config::behaviour;
use crate::config::errors::Bad;
use crate::config::errors::ConfigError;
use crate::config::errors::ConfigErrors;
use crate::config::errors::position;
use crate::config::ports;
use crate::config::sides;
use crate::config::tls;
use crate::config::tree::Tree;
use crate::config::values;
use crate::config::warnings;

/// A configuration with 10,000 numbers in `number_map` has half of this.
const CONFIG_BYTES_MAX: usize = 1024 * 1024;
/// What is said about a certificate or key that does not do.
const TLS_FILES: &str = "PEM files of one certificate and its key; for a lab `backchannel tls-selfsigned` makes both";
/// RFC 3261 §25.1 sets no bound; a name is shown in every log line.
const NODE_NAME_BYTES_MAX: usize = 64;
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is outside the file: its folder, the environment, other files.
pub(super) struct Outside<'a> {
    pub base: PathBuf,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Config {
    /// Reads a file, with the environment and the secret files that it names.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        let whole_file = |problem: String, expected: &str| {
            let (file, expected) = (path.to_owned(), expected.to_owned());
            ConfigErrors(vec![ConfigError { file, line: 0, column: 0, key: String::new(), problem, expected, nearest: None }])
        };
        let bytes = read_bounded(path).map_err(|e| whole_file(format!("cannot read it: {e}"), "a file that this user can read"))?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(e) => {
                let valid = String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default());
                let (line, column) = position(&valid, &(valid.len()..valid.len()));
                let mut errors = whole_file("is not UTF-8".to_owned(), "UTF-8 (TOML §2)");
                errors.0.iter_mut().for_each(|error| (error.line, error.column) = (line, column));
                return Err(errors);
            }
        };
        Config::parse(text, path, &|name| std::env::var(name).ok(), &read_text)
    }

    /// As `load`, with the world given: `env` a variable of the environment, `read` the text of a file.
    pub fn parse(
        text: &str,
        file: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Loaded, ConfigErrors> {
        let (root, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            // No word about keys: after a syntax error the tree is a guess. The source line is not shown: it may hold a secret.
            let mut errors: Vec<ConfigError> = syntax.iter().map(|e| syntax_error(e, text, file)).collect();
            // What follows on the same line follows from the first.
            errors.dedup_by_key(|e| e.line);
            return Err(ConfigErrors(errors));
        }
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let outside = Outside { base, env, read };
        let mut tree = Tree::new(text, file, root.get_ref());
        let config = read_config(&mut tree, &outside);
        let mut errors = std::mem::take(&mut tree.errors);
        if errors.is_empty() {
            let mut found = std::mem::take(&mut tree.warnings);
            found.extend(warnings::collect(&config));
            return Ok(Loaded { config, warnings: found });
        }
        errors.sort_by_key(|e| (e.line, e.column));
        errors.dedup();
        Err(ConfigErrors(errors))
    }
}

fn syntax_error(e: &toml::de::Error, text: &str, file: &Path) -> ConfigError {
    let (line, column) = position(text, &e.span().unwrap_or(0..0));
    let problem = e.message().lines().next().unwrap_or("syntax error").to_owned();
    let (problem, expected) = problem.split_once(", expected ").unwrap_or((&problem, ""));
    let (problem, expected) = (problem.to_owned(), if expected == "nothing" { String::new() } else { expected.to_owned() });
    ConfigError { file: file.to_owned(), line, column, key: String::new(), problem, expected, nearest: None }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bytes_max = u64::try_from(CONFIG_BYTES_MAX).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {CONFIG_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bounded(path)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn read_config(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Config {
    let sip = sip(tree, outside);
    let media = media(tree, &sip, outside);
    let (cxone, mut api, synthflow) = (sides::cxone(tree, outside), sides::api(tree, outside), sides::synthflow(tree, outside));
    let (x_ei, headers, escalation) = (behaviour::x_ei(tree), behaviour::headers(tree), behaviour::escalation(tree));
    if escalation.accept_refer || escalation.accept_bye || !escalation.plain_bye_signal.is_empty() {
        sides::need_credentials(tree, &mut api);
    }
    sides::need_listener(tree, &sip, &synthflow);
    let servers = tree.texts("dns.servers");
    let dns_servers = tree.each("dns.servers", &servers, values::dns_server);
    let (node, log) = (node(tree, outside), log(tree, outside));
    Config { node, sip, media, cxone, api, synthflow, x_ei, headers, escalation, dns_servers, log }
}

fn node(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Node {
    let name = tree.optional("node.name", node_name).unwrap_or_else(|| host_name(outside));
    let state_dir = tree.text("node.state_dir");
    if state_dir.value.is_empty() {
        tree.bad(&state_dir.at, "node.state_dir", Bad::new("is empty", "a folder, as in \"state\""));
    }
    Node {
        name,
        state_dir: outside.base.join(state_dir.value),
        max_calls: usize::try_from(tree.number("node.max_calls", 1..=100_000)).unwrap_or(usize::MAX),
        max_cps: u32::try_from(tree.number("node.max_cps", 1..=100_000)).unwrap_or(u32::MAX),
        drain_deadline: tree.duration("node.drain_deadline", SECOND..=WEEK),
    }
}

/// It goes into User-Agent and Warning as a token (RFC 3261 §20.43).
fn node_name(text: &str) -> Result<CompactString, Bad> {
    if text.len() <= NODE_NAME_BYTES_MAX && text.bytes().all(is_name_byte) {
        return Ok(text.into());
    }
    Err(Bad::new(
        format!("{text:?} is not a node's name"),
        format!("letters, digits, \".\", \"_\" and \"-\", at most {NODE_NAME_BYTES_MAX}, as in \"bc-1\""),
    ))
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

fn host_name(outside: &Outside<'_>) -> CompactString {
    let found = (outside.read)(Path::new(HOST_NAME_FILE)).ok().or_else(|| (outside.env)("HOSTNAME")).unwrap_or_default();
    let name: CompactString = found.trim().bytes().filter(|b| is_name_byte(*b)).take(NODE_NAME_BYTES_MAX).map(char::from).collect();
    if name.is_empty() { "backchannel".into() } else { name }
}

fn sip(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Sip {
    let texts = tree.texts("sip.listen");
    let listen = tree.each("sip.listen", &texts, configured_listen);
    if texts.is_empty() && !tree.has_error("sip.listen") {
        let at = tree.at("sip.listen");
        tree.bad(&at, "sip.listen", Bad::new("is empty", "at least one listener"));
    }
    for (i, text) in texts.iter().enumerate() {
        if texts.iter().take(i).any(|t| t.value == text.value) {
            tree.bad(&text.at, "sip.listen", Bad::new(format!("{:?} is there twice", text.value), "each listener once"));
        }
    }
    let secure = listen.iter().any(|l| l.transport == Transport::Tls);
    let (session_expires, min_se) = session_times(tree);
    Sip {
        listen,
        advertise: advertise(tree, "sip.advertise"),
        tls: identity(tree, outside, secure),
        // Below 500 nothing fits, above 65,507 no UDP datagram over IPv4 goes.
        udp_mtu: usize::try_from(tree.number("sip.udp_mtu", 500..=65_507)).unwrap_or(usize::MAX),
        t1: tree.duration("sip.t1", Duration::from_millis(50)..=Duration::from_secs(5)),
        ring_timeout: tree.duration("sip.ring_timeout", SECOND..=HOUR),
        max_call_duration: tree.duration_or_off("sip.max_call_duration", SECOND..=WEEK),
        session_expires,
        min_se,
    }
}

/// `tls_cert` and `tls_key`, read and tried: what a listener could not show is known now.
fn identity(tree: &mut Tree<'_>, outside: &Outside<'_>, needed: bool) -> Option<tls::Identity> {
    let keys = ["sip.tls_cert", "sip.tls_key"];
    let (cert, key) = (tree.text("sip.tls_cert"), tree.text("sip.tls_key"));
    if !needed && cert.value.is_empty() && key.value.is_empty() {
        return None;
    }
    for (path, text) in keys.into_iter().zip([&cert, &key]) {
        if text.value.is_empty() && !tree.has_error(path) {
            let at = tree.at(path);
            let problem = if needed { "is missing: a tls:// listener needs it" } else { "is missing beside the other" };
            tree.bad(&at, path, Bad::new(problem, TLS_FILES));
        }
    }
    if keys.iter().any(|path| tree.has_error(path)) {
        return None;
    }
    let certificates = tree.understood("sip.tls_cert", &cert, |t| pem_file(outside, t, |pem| tls::certificates(pem).map(drop)));
    let key_pem = tree.understood("sip.tls_key", &key, |t| pem_file(outside, t, |pem| tls::private_key(pem).map(drop)));
    let identity = tls::Identity { certificates: certificates?, key: Secret(key_pem?) };
    match tls::server(&identity) {
        Ok(_) => Some(identity),
        Err(why) => {
            tree.bad(&key.at, "sip.tls_key", Bad::new(format!("{} {why}", key.value), TLS_FILES));
            None
        }
    }
}

/// The text of a file beside the configuration, when it holds what it should.
pub(super) fn pem_file(outside: &Outside<'_>, text: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String, Bad> {
    let path = outside.base.join(text);
    let pem = (outside.read)(&path)
        .map_err(|e| Bad::new(format!("cannot read {}: {e}", path.display()), "a PEM file that this user can read"))?;
    check(&pem).map_err(|why| Bad::new(format!("{} {why}", path.display()), TLS_FILES))?;
    Ok(pem)
}

/// RFC 4028 §4, §5: whole seconds, never below 90.
fn session_times(tree: &mut Tree<'_>) -> (Duration, Duration) {
    let least = Duration::from_secs(90);
    let min_se = tree.duration("sip.min_se", least..=HOUR);
    let expires = tree.parsed("sip.session_expires", Duration::ZERO, |text| {
        if text == "off" {
            return Ok(Duration::ZERO);
        }
        let found = values::duration(text)?;
        if (min_se..=WEEK).contains(&found) {
            return Ok(found);
        }
        let low = values::print_duration(min_se);
        Err(Bad::new(format!("{text:?} is out of range"), format!("\"{low}\" (min_se) to \"168h\", or \"off\"")))
    });
    (expires, min_se)
}

fn configured_listen(text: &str) -> Result<Listen, Bad> {
    let listen = values::listen(text)?;
    if listen.addr.port() == 0 {
        return Err(Bad::new(format!("{text:?} has no fixed port"), "a port of 1 to 65535"));
    }
    Ok(listen)
}

/// One address or a list, at most one a family.
pub(super) fn advertise(tree: &mut Tree<'_>, path: &str) -> Vec<IpAddr> {
    one_a_family(tree, path, values::advertised)
}

fn one_a_family(tree: &mut Tree<'_>, path: &str, parse: fn(&str) -> Result<IpAddr, Bad>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for text in tree.text_or_texts(path) {
        let Some(ip) = tree.understood(path, &text, parse) else { continue };
        if found.iter().any(|f| f.is_ipv4() == ip.is_ipv4()) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            tree.bad(&text.at, path, Bad::new(format!("{ip} is a second {family} address"), "at most one address a family"));
        }
        found.push(ip);
    }
    found
}

fn media(tree: &mut Tree<'_>, sip: &Sip, outside: &Outside<'_>) -> Media {
    let mut bind = one_a_family(tree, "media.bind", values::bind);
    if bind.is_empty() {
        bind = listen_addresses(&sip.listen);
    }
    let mut media_advertise = advertise(tree, "media.advertise");
    if media_advertise.is_empty() {
        media_advertise.clone_from(&sip.advertise);
    }
    let latches = [("strict", Latch::Strict), ("sdp", Latch::Sdp), ("learn", Latch::Learn)];
    Media {
        bind,
        advertise: media_advertise,
        ports: media_ports(tree, sip, outside),
        timeout: tree.duration_or_off("media.timeout", SECOND..=24 * HOUR),
        latch: tree.choice("media.latch", &latches, Latch::Strict),
        dscp: u8::try_from(tree.number("media.dscp", 0..=63)).unwrap_or_default(),
    }
}

/// One address a family; several of one family become its wildcard.
fn listen_addresses(listen: &[Listen]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for ip in listen.iter().map(|l| l.addr.ip()) {
        match found.iter_mut().find(|f| f.is_ipv4() == ip.is_ipv4()) {
            None => found.push(ip),
            Some(other) if *other == ip => {}
            Some(IpAddr::V4(other)) => *other = std::net::Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V6(other)) => *other = std::net::Ipv6Addr::UNSPECIFIED,
        }
    }
    found
}

fn media_ports(tree: &mut Tree<'_>, sip: &Sip, outside: &Outside<'_>) -> RangeInclusive<u16> {
    let path = "media.ports";
    let range = tree.parsed(path, 10000..=29999, values::ports);
    if tree.has_error(path) {
        return range;
    }
    let at = tree.at(path);
    if let Some(kernel) = ports::taken_by_kernel(&range, outside.read) {
        let (low, high) = (kernel.start(), kernel.end());
        let problem =
            format!("{}-{} overlaps {low}-{high}, from which the kernel gives ports to other sockets", range.start(), range.end());
        let expected = "ports outside of it, or reserved with net.ipv4.ip_local_reserved_ports";
        tree.bad(&at, path, Bad::new(problem, expected));
    }
    let clash = sip.listen.iter().find(|l| l.transport == Transport::Udp && range.contains(&l.addr.port()));
    if let Some(listener) = clash {
        let problem = format!("{}-{} holds the port of the listener udp://{}", range.start(), range.end(), listener.addr);
        tree.bad(&at, path, Bad::new(problem, "ports without it"));
    }
    range
}

fn log(tree: &mut Tree<'_>, outside: &Outside<'_>) -> Log {
    let formats = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json), ("logfmt", LogFormat::Logfmt)];
    let levels = ["off", "error", "warn", "info", "debug", "trace"].map(|l| (l, l));
    let file = tree.text("log.file").value;
    Log {
        format: tree.choice("log.format", &formats, LogFormat::Pretty),
        level: tree.choice("log.level", &levels, "info").to_owned(),
        file: (!file.is_empty()).then(|| outside.base.join(file)),
        redact: tree.flag("log.redact"),
    }
}
