//! Synthflow's SIP side (facts.md §3): answers calls, plays or echoes audio, asks for a human by REFER or BYE.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::mock::rtp::Play;
use crate::mock::rtp::RtpCounts;
use crate::mock::rtp::RtpPort;
use crate::mock::rtp::RtpStream;
use crate::mock::sdp::LocalAudio;
use crate::mock::sdp::audio_addr;
use crate::mock::ua::Lines;
use crate::mock::ua::Ua;
use crate::mock::ua::UaCall;
use crate::mock::ua::UaEvent;
use crate::mock::ua::UaIncoming;
use crate::mock::ua::UaOptions;
use crate::mock::ua::UaTls;
use crate::mock::ua::header;
use crate::mock::ua::reason;
use crate::mock::ua::text;
use crate::mock::ua::x_headers;
use crate::transaction::Timers;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::uri::escape_user;
use crate::wire::uri::print_host;

/// How the bot behaves; the same in every call.
#[derive(Clone, Debug)]
pub struct SynthflowOptions {
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
    pub tls: Option<UaTls>,
    pub play: Play,
    /// Send 180 first.
    pub ring: bool,
    /// Send 183 with a description first, and play.
    pub early_media: bool,
    pub answer_after: Duration,
    /// The only answer that any call gets.
    pub refuse: Option<u16>,
    /// A user or a URI to refer the caller to.
    pub refer: Option<String>,
    /// End the call with a BYE.
    pub bye: bool,
    pub bye_headers: Lines,
    /// REFER or BYE so long after the ACK.
    pub after: Duration,
    /// On the 200.
    pub ok_headers: Lines,
    pub timers: Timers,
}

impl Default for SynthflowOptions {
    fn default() -> SynthflowOptions {
        SynthflowOptions {
            udp: None,
            tcp: None,
            tls: None,
            play: Play::Echo,
            ring: false,
            early_media: false,
            answer_after: Duration::ZERO,
            refuse: None,
            refer: None,
            bye: false,
            bye_headers: Lines::new(),
            after: Duration::from_secs(5),
            ok_headers: Lines::new(),
            timers: Timers::default(),
        }
    }
}

/// What happens in one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SynthflowEvent {
    InviteReceived {
        request_uri: String,
        source: SocketAddr,
        x_ei: Option<String>,
        x_headers: Lines,
    },
    Refused(u16),
    /// Our 200 was acknowledged.
    Answered,
    /// Our 200 was never acknowledged.
    Unacknowledged,
    /// The caller gave up before the answer.
    Cancelled,
    ReferSent(String),
    ReferAnswered(u16),
    /// Subscription-State and the sipfrag (RFC 3515 §2.4.4), byte for byte.
    Notify {
        state: String,
        sipfrag: String,
    },
    /// The other end hung up.
    ByeReceived {
        reason: Option<String>,
        x_headers: Lines,
    },
    ByeSent,
    ByeAnswered(u16),
    /// The audio of a call that is over.
    Rtp(RtpCounts),
}

/// Where the mock listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynthflowAddresses {
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
    pub tls: Option<SocketAddr>,
}

/// A mock that is bound and does not answer yet.
#[derive(Debug)]
pub struct MockSynthflow {
    options: Arc<SynthflowOptions>,
    ua: Ua,
    incoming: mpsc::Receiver<UaIncoming>,
}

/// Told with the SIP Call-ID of its call.
type Events = Arc<dyn Fn(&str, SynthflowEvent) + Send + Sync>;

impl MockSynthflow {
    pub async fn bind(options: SynthflowOptions) -> io::Result<(SynthflowAddresses, MockSynthflow)> {
        let ua = UaOptions {
            udp: options.udp,
            tcp: options.tcp,
            tls: options.tls.clone(),
            user: "synthflow".to_owned(),
            agent: "mock-synthflow".to_owned(),
            timers: options.timers,
            ..UaOptions::default()
        };
        let (ua, incoming) = Ua::bind(ua).await?;
        let addresses = SynthflowAddresses { udp: ua.udp_addr(), tcp: ua.tcp_addr(), tls: ua.tls_addr() };
        Ok((addresses, MockSynthflow { options: Arc::new(options), ua, incoming }))
    }

    /// Answers until it is dropped.
    pub async fn run(mut self, events: impl Fn(&str, SynthflowEvent) + Send + Sync + 'static) {
        let events: Events = Arc::new(events);
        // Dropped with this future, which ends the calls.
        let mut tasks = JoinSet::new();
        tasks.spawn(self.ua.run());
        while let Some(incoming) = self.incoming.recv().await {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(serve(incoming, self.options.clone(), events.clone()));
        }
    }
}

async fn serve(incoming: UaIncoming, options: Arc<SynthflowOptions>, events: Events) {
    let name = incoming.invite.call_id().unwrap_or_default().to_owned();
    let tell: Tell = Box::new(move |event| events(&name, event));
    tell(SynthflowEvent::InviteReceived {
        request_uri: text(incoming.invite.uri()),
        source: incoming.source,
        x_ei: header(&incoming.invite, "X-EI"),
        x_headers: x_headers(&incoming.invite),
    });
    if let Some(status) = options.refuse {
        incoming.call.respond(status, None, Lines::new()).await;
        return tell(SynthflowEvent::Refused(status));
    }
    let Ok(port) = RtpPort::bind(incoming.call.local()).await else {
        incoming.call.respond(500, None, Lines::new()).await;
        return tell(SynthflowEvent::Refused(500));
    };
    let audio = LocalAudio { addr: SocketAddr::new(incoming.call.local(), port.addr().port()), session: incoming.call.session() };
    let rtp = port.start(options.play, None, None);
    let mut bot = Bot { call: incoming.call, invite: incoming.invite, options, tell, audio, rtp };
    if bot.answer().await {
        bot.talk().await;
    }
    (bot.tell)(SynthflowEvent::Rtp(bot.rtp.counts()));
}

type Tell = Box<dyn Fn(SynthflowEvent) + Send>;

/// One call.
struct Bot {
    call: UaCall,
    invite: Message,
    options: Arc<SynthflowOptions>,
    tell: Tell,
    audio: LocalAudio,
    rtp: RtpStream,
}

impl Bot {
    /// Up to the ACK; false when there is no call.
    async fn answer(&mut self) -> bool {
        if self.options.ring {
            self.call.respond(180, None, Lines::new()).await;
        }
        if self.options.early_media {
            self.call.respond(183, Some(self.audio), Lines::new()).await;
            self.rtp.aim(audio_addr(&self.invite.body()));
        }
        let answer_at = Instant::now() + self.options.answer_after;
        loop {
            tokio::select! {
                // A CANCEL that is here already comes first.
                biased;
                event = self.call.next(), if !self.options.answer_after.is_zero() => match event {
                    Some(UaEvent::Cancelled(_)) => {
                        (self.tell)(SynthflowEvent::Cancelled);
                        return false;
                    }
                    Some(UaEvent::Unsuitable) => {
                        (self.tell)(SynthflowEvent::Refused(488));
                        return false;
                    }
                    Some(UaEvent::Request(request)) if self.on_request(&request) => {
                        // RFC 3261 §15.1.2: a BYE before the answer; the INVITE still gets its own.
                        self.call.respond(487, None, Lines::new()).await;
                        return false;
                    }
                    Some(_) => {}
                    None => return false,
                },
                () = tokio::time::sleep_until(answer_at) => break,
            }
        }
        self.call.respond(200, Some(self.audio), self.options.ok_headers.clone()).await;
        self.acknowledged().await
    }

    async fn acknowledged(&mut self) -> bool {
        while let Some(event) = self.call.next().await {
            match event {
                UaEvent::Acknowledged(ack) => {
                    // An INVITE without an offer has the answer to ours in its ACK (RFC 3264 §4, RFC 3261 §13.2.1).
                    let remote = audio_addr(&self.invite.body()).or_else(|| audio_addr(&ack.body()));
                    self.rtp.aim(remote);
                    (self.tell)(SynthflowEvent::Answered);
                    return true;
                }
                UaEvent::Cancelled(_) => {
                    (self.tell)(SynthflowEvent::Cancelled);
                    return false;
                }
                UaEvent::Unacknowledged => {
                    (self.tell)(SynthflowEvent::Unacknowledged);
                    // RFC 3261 §13.3.1.4: "the dialog is confirmed, but the session SHOULD be terminated", by a BYE.
                    self.hang_up(Lines::new()).await;
                    return false;
                }
                UaEvent::Unsuitable => {
                    (self.tell)(SynthflowEvent::Refused(488));
                    return false;
                }
                UaEvent::Request(request) if self.on_request(&request) => return false,
                UaEvent::Request(_) | UaEvent::Response { .. } => {}
            }
        }
        false
    }

    async fn talk(&mut self) {
        let act_at = Instant::now() + self.options.after;
        let mut acts = self.options.refer.is_some() || self.options.bye;
        loop {
            tokio::select! {
                event = self.call.next() => match event {
                    Some(UaEvent::Request(request)) => {
                        if self.on_request(&request) {
                            return;
                        }
                    }
                    Some(UaEvent::Response { method, status, .. }) if method == Method::REFER => {
                        (self.tell)(SynthflowEvent::ReferAnswered(status));
                    }
                    Some(_) => {}
                    None => return,
                },
                () = tokio::time::sleep_until(act_at), if acts => {
                    acts = false;
                    let Some(target) = self.options.refer.clone() else {
                        let lines = self.options.bye_headers.clone();
                        return self.hang_up(lines).await;
                    };
                    self.refer(&target).await;
                }
            }
        }
    }

    async fn refer(&mut self, target: &str) {
        let uri = refer_uri(target, self.call.local());
        let lines = vec![("Refer-To".to_owned(), format!("<{uri}>")), ("Referred-By".to_owned(), referred_by(self.call.local()))];
        self.call.request(Method::REFER, lines).await;
        (self.tell)(SynthflowEvent::ReferSent(uri));
    }

    /// Sends a BYE and waits for its answer.
    async fn hang_up(&mut self, lines: Lines) {
        self.call.request(Method::BYE, lines).await;
        (self.tell)(SynthflowEvent::ByeSent);
        while let Some(event) = self.call.next().await {
            match event {
                UaEvent::Response { method, status, .. } if method == Method::BYE => {
                    return (self.tell)(SynthflowEvent::ByeAnswered(status));
                }
                UaEvent::Request(request) => {
                    self.on_request(&request);
                }
                _ => {}
            }
        }
    }

    /// Whether it ends the call.
    fn on_request(&mut self, request: &Message) -> bool {
        match request.method() {
            method if *method == Method::BYE => {
                (self.tell)(SynthflowEvent::ByeReceived { reason: reason(request), x_headers: x_headers(request) });
                return true;
            }
            method if *method == Method::NOTIFY => {
                let state = request.value(Name::SubscriptionState).map(text).unwrap_or_default();
                (self.tell)(SynthflowEvent::Notify { state, sipfrag: text(&request.body()) });
            }
            // A new offer: where they want audio now.
            method if *method == Method::INVITE || *method == Method::UPDATE => {
                let body = request.body();
                if !body.is_empty() {
                    self.rtp.aim(audio_addr(&body));
                }
            }
            _ => {}
        }
        false
    }
}

/// A user becomes a URI at our own address, as a bot platform would write it.
fn refer_uri(target: &str, local: IpAddr) -> String {
    if target.contains(':') {
        return target.to_owned();
    }
    let user = escape_user(target.as_bytes());
    format!("sip:{user}@{}", print_host(local))
}

fn referred_by(local: IpAddr) -> String {
    format!("<sip:synthflow@{}>", print_host(local))
}
