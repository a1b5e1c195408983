//! `backchannel mock cxone` and `backchannel mock synthflow`: their arguments.

use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use crate::call::rules::Transport;
use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::cli::EXIT_USAGE;
use crate::config::Listen;
use crate::config::Secret;
use crate::config::errors::Bad;
use crate::config::template::plain_text;
use crate::config::tls;
use crate::config::values;
use crate::mock::cxone::MockCxone;
use crate::mock::cxone::MockCxoneEvent;
use crate::mock::cxone::MockCxoneOptions;
use crate::mock::rtp;
use crate::mock::synthflow::MockSynthflow;
use crate::mock::synthflow::SynthflowEvent;
use crate::mock::synthflow::SynthflowOptions;
use crate::mock::ua::UaTls;
use crate::ops::selfsigned::self_signed;

const HEADER_BYTES_MAX: usize = 4096;

/// facts.md §3: Synthflow's port for TLS.
const SYNTHFLOW_TLS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 32682);
const THROW_AWAY_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Subcommand, Debug)]
pub enum MockCommand {
    /// CXone's API: discovery, tokens and Signal a Contact, with the faults of a bad day
    #[command(after_help = "Example: backchannel mock cxone --unauthorized 1 --rate-limit 1 --delay 200ms")]
    Cxone(MockCxoneArgs),
    /// Synthflow's SIP side: answers calls, plays audio, asks for a human
    #[command(after_help = "Example: backchannel mock synthflow --bye --bye-header 'X-Queue: billing' --after 10s")]
    Synthflow(MockSynthflowArgs),
}

#[derive(Args, Clone, Debug)]
pub struct MockCxoneArgs {
    /// Where the API is
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Status of the answer to a signal
    #[arg(long, value_name = "CODE", default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Status of the answer to a token request
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub token_status: u16,
    /// Wait this long before each answer to a signal
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub delay: Duration,
    /// Read a signal and never answer it
    #[arg(long, conflicts_with = "reset")]
    pub hang: bool,
    /// Read a signal and reset the connection
    #[arg(long)]
    pub reset: bool,
    /// The first N signals get 401
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub unauthorized: u32,
    /// Then N signals get 429 with Retry-After: 1
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate_limit: u32,
    /// Then N signals get 500
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub fail: u32,
    /// How long a token lasts
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub expires_in: Duration,
}

/// What the bot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Play {
    /// A tone of 440 Hz
    Tone,
    /// What it hears
    Echo,
    /// Nothing, in packets
    Silence,
}

#[derive(Args, Clone, Debug)]
pub struct MockSynthflowArgs {
    /// Where it listens; repeat it for several
    #[arg(long, value_name = "udp://ADDR:PORT", default_values = ["udp://127.0.0.1:32681", "tcp://127.0.0.1:32681"], value_parser = listen)]
    pub listen: Vec<Listen>,
    /// Listen on tls://127.0.0.1:32682 too, with a self-signed certificate that is thrown away at the end
    #[arg(long)]
    pub tls: bool,
    /// Write that certificate here, for synthflow.tls_ca_file
    #[arg(long, value_name = "FILE")]
    pub tls_ca_out: Option<PathBuf>,
    /// What the bot says
    #[arg(long, value_enum, default_value_t = Play::Echo)]
    pub play: Play,
    /// Answer after this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub answer_after: Duration,
    /// Send 180 first
    #[arg(long)]
    pub ring: bool,
    /// Send 183 with SDP first, and play
    #[arg(long)]
    pub early_media: bool,
    /// Refuse every call
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(300..=699))]
    pub refuse: Option<u16>,
    /// Ask for a human with a REFER to this user or URI
    #[arg(long, value_name = "USER|URI", value_parser = refer_target, conflicts_with_all = ["bye", "refuse"])]
    pub refer: Option<String>,
    /// End the call with a BYE
    #[arg(long, conflicts_with = "refuse")]
    pub bye: bool,
    /// A header of that BYE; repeat it for several
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, requires = "bye")]
    pub bye_header: Vec<(String, String)>,
    /// REFER or BYE so long after the answer (seconds, or "500ms")
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub after: Duration,
    /// A header of the 200 to the INVITE; repeat it for several
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
}

fn listen(text: &str) -> Result<Listen, Bad> {
    values::listen(text)
}

/// A duration; a bare number is seconds.
fn time(text: &str) -> Result<Duration, Bad> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => values::duration(text),
    }
}

fn header(text: &str) -> Result<(String, String), Bad> {
    let (name, value) = text.split_once(':').ok_or_else(|| Bad::new("no colon", "a header as in 'X-Queue: billing'"))?;
    plain_text(value, HEADER_BYTES_MAX)?;
    Ok((values::header_name(name.trim())?, value.trim().to_owned()))
}

fn refer_target(text: &str) -> Result<String, Bad> {
    plain_text(text, HEADER_BYTES_MAX)?;
    if text.is_empty() || text.contains([' ', '<', '>', '"']) {
        return Err(Bad::new(format!("{text:?} is neither a user nor a URI"), "as in billing or sip:billing@cxone.example"));
    }
    Ok(text.to_owned())
}

/// CXone's API until it is told to stop.
pub fn run_mock_cxone(args: &MockCxoneArgs) -> u8 {
    let options = MockCxoneOptions {
        listen: args.listen,
        status: args.status,
        token_status: args.token_status,
        delay: args.delay,
        hang: args.hang,
        reset: args.reset,
        unauthorized: args.unauthorized,
        rate_limit: args.rate_limit,
        fail: args.fail,
        expires_in: args.expires_in.as_secs(),
        ..MockCxoneOptions::default()
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|rt| rt.block_on(serve_cxone(options))) {
        Ok(()) => EXIT_OK,
        Err(e) => {
            eprintln!("backchannel mock cxone: {}: {e}", args.listen);
            EXIT_FAILED
        }
    }
}

async fn serve_cxone(options: MockCxoneOptions) -> std::io::Result<()> {
    let mock = MockCxone::bind(options).await?;
    say(&format!("mock cxone: API at {} (what it received: GET /mock/signals)", mock.url()));
    tokio::select! {
        ran = mock.run(|event| say(&cxone_line(&event))) => ran,
        stopped = tokio::signal::ctrl_c() => stopped,
    }
}

/// A reader that has left is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn cxone_line(event: &MockCxoneEvent) -> String {
    match event {
        MockCxoneEvent::Discovered => "discovery".to_owned(),
        MockCxoneEvent::Token { status } => format!("token -> {status}"),
        MockCxoneEvent::Tenant { tenant } => format!("tenant discovery for {tenant}"),
        MockCxoneEvent::Signal(s) => {
            let params: Vec<String> = s.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let status = s.status.map_or_else(|| "no answer".to_owned(), |code| code.to_string());
            format!("signal {} for contact {}: {} -> {status}", s.number, s.contact, params.join(" "))
        }
        MockCxoneEvent::Reset => "forgotten all".to_owned(),
    }
}

/// Synthflow until it is told to stop.
pub fn run_mock_synthflow(args: &MockSynthflowArgs) -> u8 {
    let options = match synthflow_options(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("backchannel mock synthflow: {why}");
            return EXIT_USAGE;
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|rt| rt.block_on(serve_synthflow(options))) {
        Ok(()) => EXIT_OK,
        Err(e) => {
            eprintln!("backchannel mock synthflow: {e}");
            EXIT_FAILED
        }
    }
}

fn synthflow_options(args: &MockSynthflowArgs) -> Result<SynthflowOptions, String> {
    let mut options = SynthflowOptions {
        play: match args.play {
            Play::Tone => rtp::Play::Tone,
            Play::Echo => rtp::Play::Echo,
            Play::Silence => rtp::Play::Silence,
        },
        ring: args.ring,
        early_media: args.early_media,
        answer_after: args.answer_after,
        refuse: args.refuse,
        refer: args.refer.clone(),
        bye: args.bye,
        bye_headers: args.bye_header.clone(),
        after: args.after,
        ok_headers: args.header.clone(),
        ..SynthflowOptions::default()
    };
    let mut tls = None;
    for listen in &args.listen {
        let place = match listen.transport {
            Transport::Udp => &mut options.udp,
            Transport::Tcp => &mut options.tcp,
            Transport::Tls => &mut tls,
        };
        if let Some(before) = place.replace(listen.addr) {
            return Err(format!("--listen: one address a transport, not {before} and {}", listen.addr));
        }
    }
    let tls = tls.or_else(|| args.tls.then_some(SYNTHFLOW_TLS));
    options.tls = tls.map(|listen| throw_away(listen, args.tls_ca_out.as_deref())).transpose()?;
    if options.tls.is_none() && args.tls_ca_out.is_some() {
        return Err("--tls-ca-out: there is no TLS without --tls".to_owned());
    }
    Ok(options)
}

/// A certificate for this one run.
fn throw_away(listen: SocketAddr, ca_out: Option<&Path>) -> Result<UaTls, String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !listen.ip().is_unspecified() && !names.contains(&listen.ip().to_string()) {
        names.push(listen.ip().to_string());
    }
    let made = self_signed(&names, SystemTime::now(), THROW_AWAY_LIFE)?;
    if let Some(path) = ca_out {
        std::fs::write(path, &made.certificate).map_err(|e| format!("--tls-ca-out {}: {e}", path.display()))?;
        say(&format!("mock synthflow: its certificate is in {}", path.display()));
    }
    let server = tls::server(&tls::Identity { certificates: made.certificate, key: Secret(made.key) })?;
    Ok(UaTls { listen, server: Arc::new(server) })
}

async fn serve_synthflow(options: SynthflowOptions) -> std::io::Result<()> {
    let (addresses, mock) = MockSynthflow::bind(options).await?;
    for (transport, addr) in [("udp", addresses.udp), ("tcp", addresses.tcp), ("tls", addresses.tls)] {
        if let Some(addr) = addr {
            say(&format!("mock synthflow: listening on {transport}://{addr}"));
        }
    }
    tokio::select! {
        () = mock.run(|call, event| say(&synthflow_line(call, &event))) => Ok(()),
        stopped = tokio::signal::ctrl_c() => stopped,
    }
}

/// What a peer wrote is shown with escapes: it may hold anything.
fn synthflow_line(call: &str, event: &SynthflowEvent) -> String {
    let spelled = |lines: &[(String, String)]| lines.iter().map(|(name, value)| format!(" {name}={value:?}")).collect::<String>();
    let told = match event {
        SynthflowEvent::InviteReceived { request_uri, source, x_ei, x_headers } => {
            let x_ei = if x_ei.is_none() { " without X-EI" } else { "" };
            format!("invite {request_uri:?} from {source}{x_ei}{}", spelled(x_headers))
        }
        SynthflowEvent::Refused(status) => format!("refused with {status}"),
        SynthflowEvent::Answered => "answered".to_owned(),
        SynthflowEvent::Unacknowledged => "no ACK to our 200".to_owned(),
        SynthflowEvent::Cancelled => "they cancelled".to_owned(),
        SynthflowEvent::ReferSent(uri) => format!("we refer to {uri}"),
        SynthflowEvent::ReferAnswered(status) => format!("the REFER got {status}"),
        SynthflowEvent::Notify { state, sipfrag } => format!("notify {sipfrag:?} ({state:?})"),
        SynthflowEvent::ByeReceived { reason, x_headers } => {
            let reason = reason.as_ref().map(|r| format!(" reason={r:?}")).unwrap_or_default();
            format!("they hung up{reason}{}", spelled(x_headers))
        }
        SynthflowEvent::ByeSent => "we hang up".to_owned(),
        SynthflowEvent::ByeAnswered(status) => format!("the BYE got {status}"),
        SynthflowEvent::Rtp(c) => format!("audio: {} packets sent, {} received, {} of them with sound", c.sent, c.received, c.voiced),
    };
    format!("{call:?} {told}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;

    fn synthflow(args: &[&str]) -> Result<MockSynthflowArgs, String> {
        let all = [&["backchannel", "mock", "synthflow"], args].concat();
        match Cli::try_parse_from(all).map_err(|e| e.to_string())?.command {
            Command::Mock(MockCommand::Synthflow(args)) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn synthflow_listens_on_both_transports_of_its_own_port() {
        let args = synthflow(&[]).unwrap();
        assert_eq!(args.listen.iter().map(|l| l.addr.to_string()).collect::<Vec<_>>(), ["127.0.0.1:32681"; 2]);
        assert_eq!((args.play, args.after), (Play::Echo, Duration::from_secs(5)));
    }

    #[test]
    fn a_bye_takes_headers_and_a_time() {
        let args = synthflow(&["--bye", "--bye-header", "X-Queue: billing", "--bye-header", "X-Escalate:true", "--after", "2"]).unwrap();
        assert_eq!(args.bye_header, [("X-Queue".into(), "billing".into()), ("X-Escalate".into(), "true".into())]);
        assert_eq!(args.after, Duration::from_secs(2));
        for bad in [
            &["--bye-header", "X-Queue: billing"][..],
            &["--bye", "--refer", "billing"],
            &["--bye", "--bye-header", "X-Queue"],
            &["--bye", "--bye-header", "X Queue: b"],
            &["--bye", "--bye-header", "X-Queue: a\r\nVia: b"],
            &["--refuse", "200"],
            &["--listen", "udp://localhost:5060"],
            &["--refer", "a b"],
            &["--after", "soon"],
        ] {
            assert!(synthflow(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cxone_serves_where_the_shipped_configuration_looks_for_it() {
        let cli = Cli::try_parse_from(["backchannel", "mock", "cxone", "--unauthorized", "1", "--delay", "200ms"]).unwrap();
        let Command::Mock(MockCommand::Cxone(args)) = cli.command else { panic!() };
        assert_eq!(args.listen.to_string(), "127.0.0.1:8090");
        assert_eq!((args.status, args.token_status, args.unauthorized, args.delay), (204, 200, 1, Duration::from_millis(200)));
        assert!(Cli::try_parse_from(["backchannel", "mock", "cxone", "--status", "99"]).is_err());
        assert!(Cli::try_parse_from(["backchannel", "mock", "cxone", "--hang", "--reset"]).is_err());
    }
}
