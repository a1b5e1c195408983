//! CXone's end of the trunk: places a call with SIPPUTHEADER context, talks, and hangs up when it is told to, as *End Call* in
//! ONSIGNAL does.

use std::io;
use std::net::SocketAddr;

use tokio::sync::mpsc;

use crate::call::rules::Target;
use crate::mock::rtp::PACKET_TIME;
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
use crate::mock::ua::UaHandle;
use crate::mock::ua::UaInvite;
use crate::mock::ua::UaOptions;
use crate::mock::ua::reason;
use crate::mock::ua::x_headers;
use crate::transaction::Timers;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::uri::host_port;

/// One call to place.
#[derive(Clone, Debug)]
pub struct CarrierCall {
    pub target: Target,
    /// The user of Request-URI and To: the pseudo number that Studio dials.
    pub number: String,
    /// The user of From.
    pub from: String,
    /// What SIPPUTHEADER put, in order, and whatever else the trunk adds.
    pub headers: Lines,
    pub play: Play,
    /// Audio packets to send; 50 are a second.
    pub packets: u64,
}

/// What happens in the call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CarrierEvent {
    Progress(u16),
    /// The 200 was acknowledged. Its X- headers are what SIPGETHEADER would read.
    Answered {
        x_headers: Lines,
    },
    Refused(u16),
    /// All audio packets are sent.
    Talked,
    ByeSent,
    ByeAnswered(u16),
    /// The other end hung up.
    ByeReceived {
        reason: Option<String>,
    },
    /// The audio of the call, which is over.
    Rtp(RtpCounts),
}

/// The trunk's end, bound.
#[derive(Debug)]
pub struct Carrier {
    ua: Ua,
}

/// Places calls while the carrier runs.
#[derive(Clone, Debug)]
pub struct CarrierHandle {
    ua: UaHandle,
    local: SocketAddr,
}

/// Tells a running call to hang up, or to cancel when it is not answered yet.
#[derive(Clone, Debug)]
pub struct HangUp(mpsc::Sender<()>);

impl HangUp {
    pub fn now(&self) {
        // A second word changes nothing.
        let _ = self.0.try_send(());
    }
}

/// What `HangUp` speaks to.
#[derive(Debug)]
pub struct HangUpEar(mpsc::Receiver<()>);

/// Both ends.
pub fn hang_up() -> (HangUp, HangUpEar) {
    let (say, hear) = mpsc::channel(1);
    (HangUp(say), HangUpEar(hear))
}

impl Carrier {
    /// A call over TCP needs `tcp`, for the requests of the other end.
    pub async fn bind(udp: SocketAddr, tcp: Option<SocketAddr>, timers: Timers) -> io::Result<Carrier> {
        let (user, agent) = ("cxone".to_owned(), "mock-cxone".to_owned());
        // Nobody takes calls: an INVITE to us gets 503.
        let (ua, _) = Ua::bind(UaOptions { udp: Some(udp), tcp, user, agent, timers, ..UaOptions::default() }).await?;
        Ok(Carrier { ua })
    }

    pub fn handle(&self) -> io::Result<CarrierHandle> {
        let local = self.ua.udp_addr().ok_or_else(|| io::Error::other("the carrier has no address"))?;
        Ok(CarrierHandle { ua: self.ua.handle(), local })
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        self.ua.run().await;
    }
}

impl CarrierHandle {
    /// Places one call and sees it through: audio from the 200 on, a BYE when `ear` hears, `CarrierEvent::Rtp` at its end.
    pub async fn call(&self, call: CarrierCall, mut ear: HangUpEar, tell: impl Fn(CarrierEvent)) -> io::Result<()> {
        let port = RtpPort::bind(self.local.ip()).await?;
        let audio = LocalAudio { addr: port.addr(), session: u64::from(port.addr().port()) };
        let parameter = call.target.transport.uri_parameter();
        let place = host_port(call.target.addr);
        let invite = UaInvite {
            target: call.target,
            uri: format!("sip:{}@{place}{parameter}", call.number),
            from: format!("<sip:{}@{}>", call.from, host_port(self.local)),
            to: format!("<sip:{}@{place}>", call.number),
            lines: call.headers.clone(),
        };
        let placed = self.ua.invite(invite, audio).await;
        let mut placed = placed.ok_or_else(|| io::Error::other("the call could not be placed"))?;
        if let Some(answer) = answered(&mut placed, &mut ear, &tell).await {
            let rtp = port.start(call.play, audio_addr(&answer.body()), Some(call.packets));
            tell(CarrierEvent::Answered { x_headers: x_headers(&answer) });
            talk(&mut placed, &mut ear, &rtp, call.packets, &tell).await;
            tell(CarrierEvent::Rtp(rtp.counts()));
        }
        Ok(())
    }
}

/// The 2xx.
async fn answered(call: &mut UaCall, ear: &mut HangUpEar, tell: &impl Fn(CarrierEvent)) -> Option<Message> {
    let mut listening = true;
    loop {
        tokio::select! {
            event = call.next() => match event? {
                UaEvent::Response { status: status @ 100..=199, .. } => tell(CarrierEvent::Progress(status)),
                UaEvent::Response { status: 200..=299, message, .. } => return message,
                UaEvent::Response { status, .. } => {
                    tell(CarrierEvent::Refused(status));
                    return None;
                }
                _ => {}
            },
            word = ear.0.recv(), if listening => {
                listening = false;
                if word.is_some() {
                    call.cancel().await;
                }
            }
        }
    }
}

async fn talk(call: &mut UaCall, ear: &mut HangUpEar, rtp: &RtpStream, packets: u64, tell: &impl Fn(CarrierEvent)) {
    let mut listening = true;
    let mut talking = true;
    // Looks at the counter as often as a packet goes.
    let mut look = tokio::time::interval(PACKET_TIME);
    loop {
        tokio::select! {
            event = call.next() => match event {
                Some(UaEvent::Response { method, status, .. }) if method == Method::BYE => {
                    return tell(CarrierEvent::ByeAnswered(status));
                }
                Some(UaEvent::Request(request)) if *request.method() == Method::BYE => {
                    return tell(CarrierEvent::ByeReceived { reason: reason(&request) });
                }
                Some(UaEvent::Request(request)) if !request.body().is_empty() => rtp.aim(audio_addr(&request.body())),
                Some(_) => {}
                None => return,
            },
            word = ear.0.recv(), if listening => {
                listening = false;
                if word.is_some() {
                    call.request(Method::BYE, Lines::new()).await;
                    tell(CarrierEvent::ByeSent);
                }
            }
            _ = look.tick(), if talking => {
                if rtp.counts().sent >= packets {
                    talking = false;
                    tell(CarrierEvent::Talked);
                }
            }
        }
    }
}
