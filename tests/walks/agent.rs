//! The ends of a walk: user agents with real transactions, and a mind of their own about what to do next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use backchannel::b2bua::io::Flow;
use backchannel::ids::LocalTag;
use backchannel::time::Time;
use backchannel::transaction::ServerKey;
use backchannel::transaction::Timers;
use backchannel::transaction::cancel_for;
use backchannel::transaction::client;
use backchannel::transaction::client::Client;
use backchannel::transaction::server;
use backchannel::transaction::server::Server;
use backchannel::wire::draft::Draft;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;

use crate::world::Event;
use crate::world::US;
use crate::world::World;

pub type TxId = u64;
/// Agent, and place among its lines.
pub type LineId = (usize, usize);

/// What an end may do of its own accord.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Answer(u16),
    /// A further branch of a forking proxy behind Synthflow: 180 or 200 with a tag of its own.
    Fork(u16),
    Cancel,
    Bye,
    EscalatingBye,
    Refer,
    Options,
    Info,
    Reinvite,
    Update,
    Garbage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// An INVITE without a final answer.
    Inviting,
    Up,
    Over,
}

struct ClientTx {
    machine: Client,
    branch: String,
    line: Option<usize>,
    flow: Option<Flow>,
}

struct ServerTx {
    machine: Server,
    key: ServerKey,
    request: Message,
    flow: Flow,
}

/// A 2xx of ours that waits for its ACK.
#[derive(Debug)]
struct Unacked {
    interval: Duration,
    until: Time,
}

/// One dialog, or what may become one.
pub struct Line {
    pub call_id: String,
    tag: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    pub stage: Stage,
    invite: Message,
    /// Of the INVITE: the server transaction's, or the client's.
    tx: TxId,
    rings: bool,
    cancels: bool,
    acknowledges: bool,
    ack: Option<(u32, Bytes)>,
    unacked: Option<Unacked>,
    flow: Option<Flow>,
    pub contact: String,
}

pub struct Agent {
    pub addr: SocketAddr,
    pub stream: bool,
    calls: bool,
    clients: BTreeMap<TxId, ClientTx>,
    servers: BTreeMap<TxId, ServerTx>,
    lines: Vec<Line>,
}

impl Agent {
    pub fn callee(addr: &str) -> Agent {
        let addr = addr.parse().unwrap();
        Agent { addr, stream: false, calls: false, clients: BTreeMap::new(), servers: BTreeMap::new(), lines: Vec::new() }
    }

    pub fn caller(addr: &str, stream: bool) -> Agent {
        Agent { stream, calls: true, ..Agent::callee(addr) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value(message: &Message, name: Name) -> String {
    text(message.value(name).unwrap_or_default())
}

fn sdp(host: &str, version: u64) -> String {
    format!(
        "v=0\r\no=peer 1 {version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
}

impl World {
    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    // ---- a caller's call

    pub fn new_call(&mut self, agent: usize) {
        let n = self.serial();
        let addr = self.agents[agent].addr;
        let transport = if self.agents[agent].stream { "TCP" } else { "UDP" };
        let contact_id = if self.dice.chance(90) { format!("{n}") } else { String::new() };
        let (local, remote) = (format!("\"Ann\" <sip:+12065550111@{addr}>;tag=caller{n}"), format!("<sip:+12065551234@{US}>"));
        let mut headers = if contact_id.is_empty() { String::new() } else { format!("X-InContact-MasterId: {contact_id}\r\n") };
        if self.dice.chance(15) {
            headers.push_str(&format!("X-Long: {}\r\n", "x".repeat(1_500)));
        }
        headers.push_str(&format!("P-Asserted-Identity: <sip:+12065550111@{addr}>\r\nDiversion: <sip:+12065550199@{addr}>\r\n"));
        let late_offer = !self.habits.race && self.dice.chance(10);
        let body = if late_offer { String::new() } else { sdp(&addr.ip().to_string(), 1) };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let call_id = format!("caller-{n}");
        let bytes = Bytes::from(format!(
            "INVITE sip:+12065551234@{US} SIP/2.0\r\nVia: SIP/2.0/{transport} {addr};branch=z9hG4bKi{n};rport\r\nMax-Forwards: 70\r\n\
             From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:trunk@{addr}>\r\n{headers}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let acknowledges = self.habits.race || self.dice.chance(92);
        let line = Line {
            call_id,
            tag: format!("caller{n}"),
            local,
            remote,
            target: format!("sip:+12065551234@{US}"),
            cseq: 1,
            stage: Stage::Inviting,
            invite: Message::parse(bytes.clone()).unwrap(),
            tx: 0,
            rings: false,
            cancels: false,
            acknowledges,
            ack: None,
            unacked: None,
            flow: None,
            contact: contact_id,
        };
        self.agents[agent].lines.push(line);
        let at = self.agents[agent].lines.len() - 1;
        let tx = self.client(agent, Some(at), bytes, true);
        self.agents[agent].lines[at].tx = tx;
        let cancels = if self.habits.race { 85 } else { 25 };
        if self.dice.chance(cancels) {
            let when = if self.habits.race { self.dice.ms(0, 150) } else { self.dice.ms(0, 15_000) };
            self.after(when, Event::Do { line: (agent, at), act: Act::Cancel });
        }
    }

    // ---- what an end does

    pub fn does(&mut self, id: LineId, act: Act) {
        let (agent, at) = id;
        let stage = self.agents[agent].lines[at].stage;
        match act {
            Act::Answer(status) | Act::Fork(status) if stage != Stage::Over => self.answers(id, status, matches!(act, Act::Fork(_))),
            Act::Cancel if stage == Stage::Inviting => self.cancels(id),
            Act::Bye | Act::EscalatingBye if stage == Stage::Up => self.says_bye(id, act == Act::EscalatingBye),
            Act::Refer if stage == Stage::Up => {
                let to = self.dice.pick(&["billing@cxone.example", "unheard-of@cxone.example"]);
                self.in_dialog(id, "REFER", &format!("Refer-To: <sip:{to}>\r\n"), "", "");
            }
            Act::Options if stage == Stage::Up => self.in_dialog(id, "OPTIONS", "", "", ""),
            Act::Info if stage == Stage::Up => self.in_dialog(id, "INFO", "", "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
            Act::Reinvite | Act::Update if stage == Stage::Up => {
                let version = self.serial();
                let offer = sdp(&self.agents[agent].addr.ip().to_string(), version);
                let method = if act == Act::Reinvite { "INVITE" } else { "UPDATE" };
                let late = act == Act::Reinvite && self.dice.chance(20);
                self.in_dialog(id, method, "", "application/sdp", if late { "" } else { &offer });
            }
            Act::Garbage => self.garbage(id),
            _ => {}
        }
    }

    fn cancels(&mut self, (agent, at): LineId) {
        let line = &mut self.agents[agent].lines[at];
        line.cancels = true;
        if line.rings {
            let cancel = cancel_for(&line.invite.raw().clone());
            self.client(agent, None, cancel, false);
        }
    }

    fn says_bye(&mut self, id: LineId, escalating: bool) {
        let (agent, at) = id;
        // RFC 3261 §15: a UAS waits for the ACK, or the end of its wait.
        if self.agents[agent].lines[at].unacked.is_some() {
            let act = if escalating { Act::EscalatingBye } else { Act::Bye };
            return self.after(Duration::from_millis(700), Event::Do { line: id, act });
        }
        let header = if escalating { "X-Queue: billing\r\n" } else { "" };
        self.in_dialog(id, "BYE", header, "", "");
        self.agents[agent].lines[at].stage = Stage::Over;
    }

    fn in_dialog(&mut self, (agent, at): LineId, method: &str, headers: &str, kind: &str, body: &str) {
        let n = self.serial();
        let line = &mut self.agents[agent].lines[at];
        line.cseq += 1;
        let bytes = self.dialog_text((agent, at), method, n, headers, kind, body);
        self.client(agent, Some(at), bytes, method == "INVITE");
    }

    fn dialog_text(&mut self, (agent, at): LineId, method: &str, n: u64, headers: &str, kind: &str, body: &str) -> Bytes {
        let a = &self.agents[agent];
        let (line, addr) = (&a.lines[at], a.addr);
        let transport = if a.stream || matches!(line.flow, Some(Flow::Stream(_))) { "TCP" } else { "UDP" };
        let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        Bytes::from(format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{transport} {addr};branch=z9hG4bKd{n};rport\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} {method}\r\nContact: <sip:end@{addr}>\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
            line.target,
            line.local,
            line.remote,
            line.call_id,
            line.cseq,
            body.len()
        ))
    }

    fn garbage(&mut self, (agent, at): LineId) {
        let n = self.serial();
        let flow = self.agents[agent].lines[at].flow;
        let addr = self.agents[agent].addr;
        if self.agents[agent].stream || matches!(flow, Some(Flow::Stream(_))) {
            return;
        }
        let bytes = match self.dice.below(4) {
            0 => vec![0xFF; 40],
            1 => format!("OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bKg{n}\r\nCSeq: x\r\n\r\n").into_bytes(),
            2 => format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {US};branch=z9hG4bKg{n}\r\nCSeq: 1 INVITE\r\nCall-ID: g\r\n\r\n").into_bytes(),
            _ => format!("BYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bKg{n}\r\nMax-Forwards: 7").into_bytes(),
        };
        self.agent_sends(agent, flow, Bytes::from(bytes), false);
    }

    pub fn caller_of_signal_hangs_up(&mut self, contact: &str, after: Duration) {
        let found = self.agents.iter().enumerate().find_map(|(a, agent)| {
            let at = agent.lines.iter().position(|l| agent.calls && l.contact == contact)?;
            Some((a, at))
        });
        if let Some(line) = found {
            let more = self.dice.ms(0, 3_000);
            self.after(after + more, Event::Do { line, act: Act::Bye });
        }
    }

    // ---- client transactions of an end

    fn client(&mut self, agent: usize, line: Option<usize>, bytes: Bytes, invite: bool) -> TxId {
        let tx = self.serial();
        let message = Message::parse(bytes.clone()).unwrap();
        let branch = message.via().ok().and_then(|v| v.branch().map(text)).unwrap_or_default();
        let flow = line.and_then(|l| self.agents[agent].lines[l].flow);
        let reliable = self.agents[agent].stream || matches!(flow, Some(Flow::Stream(_)));
        let mut out = Vec::new();
        let machine = if invite {
            Client::invite(bytes, reliable, Timers::default(), self.now, &mut out)
        } else {
            Client::non_invite(bytes, reliable, Timers::default(), self.now, &mut out)
        };
        self.agents[agent].clients.insert(tx, ClientTx { machine, branch, line, flow });
        self.client_out(agent, tx, out, None);
        tx
    }

    pub fn client_timer(&mut self, agent: usize, tx: TxId) {
        let Some(client) = self.agents[agent].clients.get_mut(&tx) else { return };
        let mut out = Vec::new();
        client.machine.on_timeout(self.now, &mut out);
        if !out.is_empty() {
            self.client_out(agent, tx, out, None);
        }
    }

    fn client_out(&mut self, agent: usize, tx: TxId, out: Vec<client::Out>, response: Option<&Message>) {
        for want in out {
            match want {
                client::Out::Send(bytes) => {
                    let flow = self.agents[agent].clients.get(&tx).and_then(|c| c.flow);
                    self.agent_sends(agent, flow, bytes, true);
                }
                client::Out::Response => {
                    if let (Some(response), Some(line)) = (response, self.agents[agent].clients.get(&tx).and_then(|c| c.line)) {
                        self.hears_answer((agent, line), tx, response);
                    }
                }
                client::Out::Terminated => {
                    self.agents[agent].clients.remove(&tx);
                }
                client::Out::Absorbed | client::Out::Expired(_) => {}
            }
        }
        if let Some((at, _)) = self.agents[agent].clients.get(&tx).and_then(|c| c.machine.deadline()) {
            self.at(at, Event::ClientTimer { agent, tx });
        }
    }

    fn hears_answer(&mut self, id: LineId, tx: TxId, response: &Message) {
        let (agent, at) = id;
        let status = response.status();
        if response.method().as_str() != "INVITE" {
            return;
        }
        let line = &mut self.agents[agent].lines[at];
        let first = line.tx == tx;
        match status {
            100..=199 if first => {
                line.rings = true;
                if line.cancels && line.stage == Stage::Inviting {
                    line.cancels = false;
                    self.cancels(id);
                }
            }
            200..=299 => self.hears_2xx(id, first, response),
            300.. if first => line.stage = Stage::Over,
            _ => {}
        }
    }

    fn hears_2xx(&mut self, id: LineId, first: bool, response: &Message) {
        let (agent, at) = id;
        let number = response.cseq().map(|c| c.number).unwrap_or_default();
        let line = &mut self.agents[agent].lines[at];
        if let Some((of, ack)) = line.ack.clone().filter(|(of, _)| *of == number) {
            debug_assert_eq!(of, number);
            let flow = line.flow;
            return self.agent_sends(agent, flow, ack, true);
        }
        if first {
            line.remote = value(response, Name::To);
            line.target = response.contact().map_or_else(String::new, |c| text(c.uri));
        }
        if !line.acknowledges {
            line.stage = if first && line.stage == Stage::Inviting { Stage::Up } else { line.stage };
            return;
        }
        let is_new = line.stage == Stage::Inviting;
        let late_offer = if first { line.invite.body().is_empty() } else { line.ack.is_some() && self.dice.chance(30) };
        let n = self.serial();
        let answer = if late_offer && self.dice.chance(90) { sdp(&self.agents[agent].addr.ip().to_string(), 1) } else { String::new() };
        let latest = std::mem::replace(&mut self.agents[agent].lines[at].cseq, number);
        let ack = self.dialog_text(id, "ACK", n, "", "application/sdp", &answer);
        let line = &mut self.agents[agent].lines[at];
        line.cseq = latest;
        line.ack = Some((number, ack.clone()));
        let flow = line.flow;
        let cancelled = line.cancels;
        if is_new {
            line.stage = Stage::Up;
        }
        self.agent_sends(agent, flow, ack, true);
        if is_new {
            self.plans_callers_call(id, cancelled);
        }
    }

    fn plans_callers_call(&mut self, id: LineId, cancelled: bool) {
        // RFC 3261 §9.1: a 2xx that crossed the CANCEL is acknowledged and ended.
        if cancelled || self.habits.race {
            let at = self.dice.ms(0, if cancelled { 5 } else { 80 });
            return self.after(at, Event::Do { line: id, act: Act::Bye });
        }
        for _ in 0..self.dice.below(4) {
            let act = self.dice.pick(&[Act::Reinvite, Act::Update, Act::Info, Act::Options, Act::Garbage, Act::Refer]);
            let at = self.dice.ms(0, 30_000);
            self.after(at, Event::Do { line: id, act });
        }
        if self.dice.chance(75) {
            let at = self.dice.ms(0, 60_000);
            self.after(at, Event::Do { line: id, act: Act::Bye });
        }
    }

    // ---- what comes to an end

    pub fn agent_hears(&mut self, agent: usize, flow: Flow, bytes: Bytes) {
        let message = Message::parse(bytes).unwrap();
        if !message.is_request() {
            return self.hears_response(agent, &message);
        }
        let key = ServerKey::of(&message);
        let known = self.agents[agent].servers.iter().find(|(_, s)| s.key == key).map(|(tx, _)| *tx);
        if let Some(tx) = known {
            let mut out = Vec::new();
            if let Some(server) = self.agents[agent].servers.get_mut(&tx) {
                server.machine.on_request(&message, self.now, &mut out);
            }
            return self.server_out(agent, tx, out);
        }
        if message.method().as_str() == "ACK" {
            return self.hears_ack(agent, &message);
        }
        let tx = self.serial();
        let reliable = matches!(flow, Flow::Stream(_));
        let machine = match message.method().as_str() {
            "INVITE" => Server::invite(reliable, Timers::default(), self.now),
            _ => Server::non_invite(reliable, Timers::default(), self.now),
        };
        self.agents[agent].servers.insert(tx, ServerTx { machine, key, request: message.clone(), flow });
        self.hears_request(agent, tx, &message, flow);
    }

    fn hears_response(&mut self, agent: usize, response: &Message) {
        let branch = response.via().ok().and_then(|v| v.branch().map(text)).unwrap_or_default();
        let is_cancel = response.method().as_str() == "CANCEL";
        let fits = |c: &ClientTx| {
            c.branch == branch && Message::parse(c.machine.request().clone()).is_ok_and(|r| (r.method().as_str() == "CANCEL") == is_cancel)
        };
        let Some(tx) = self.agents[agent].clients.iter().find(|(_, c)| fits(c)).map(|(tx, _)| *tx) else { return };
        let mut out = Vec::new();
        if let Some(client) = self.agents[agent].clients.get_mut(&tx) {
            client.machine.on_response(response, self.now, &mut out);
        }
        self.client_out(agent, tx, out, Some(response));
    }

    fn hears_ack(&mut self, agent: usize, ack: &Message) {
        let tag = ack.to_tag().unwrap_or_default();
        let line = self.agents[agent].lines.iter_mut().find(|l| Ok(l.call_id.as_str()) == ack.call_id() && l.tag == tag);
        if let Some(line) = line {
            line.unacked = None;
        }
    }

    fn hears_request(&mut self, agent: usize, tx: TxId, request: &Message, flow: Flow) {
        let method = request.method().as_str().to_owned();
        if method == "CANCEL" {
            return self.hears_cancel(agent, tx, request);
        }
        let Some(tag) = request.to_tag() else {
            return if method == "INVITE" { self.hears_invite(agent, tx, request, flow) } else { self.responds(agent, tx, 481, "x", None) };
        };
        let found = self.agents[agent].lines.iter().position(|l| Ok(l.call_id.as_str()) == request.call_id() && l.tag == tag);
        let Some(at) = found else { return self.responds(agent, tx, 481, "x", None) };
        let line = &mut self.agents[agent].lines[at];
        if line.stage == Stage::Over && (method != "BYE" || self.dice.chance(50)) {
            return self.responds(agent, tx, 481, "x", None);
        }
        match method.as_str() {
            "BYE" => {
                line.stage = Stage::Over;
                line.unacked = None;
                self.responds(agent, tx, 200, "x", None);
            }
            "NOTIFY" => match self.dice.below(20) {
                0 => {}
                1 => self.responds(agent, tx, 481, "x", None),
                _ => self.responds(agent, tx, 200, "x", None),
            },
            _ if self.dice.chance(5) => {}
            "INVITE" | "UPDATE" => self.is_asked(agent, tx, request),
            _ => self.responds(agent, tx, 200, "x", None),
        }
    }

    /// A change of the session: mostly taken, with an answer or an offer.
    fn is_asked(&mut self, agent: usize, tx: TxId, request: &Message) {
        let version = self.serial();
        let due = request.method().as_str() == "INVITE" || !request.body().is_empty();
        let host = self.agents[agent].addr.ip().to_string();
        if request.method().as_str() == "INVITE" && self.dice.chance(30) {
            self.responds(agent, tx, 100, "", None);
        }
        match self.dice.below(20) {
            0 => self.responds(agent, tx, 491, "x", None),
            1 => self.responds(agent, tx, 488, "x", None),
            2 => self.responds(agent, tx, 481, "x", None),
            3 => self.responds(agent, tx, 200, "x", None),
            _ => self.responds(agent, tx, 200, "x", due.then(|| sdp(&host, version))),
        }
    }

    fn hears_cancel(&mut self, agent: usize, tx: TxId, cancel: &Message) {
        self.responds(agent, tx, 200, "x", None);
        let key = ServerKey::cancelled(cancel);
        let invite = self.agents[agent].servers.iter().find(|(_, s)| s.key == key && s.machine.is_pending()).map(|(tx, _)| *tx);
        if let Some(invite) = invite
            && !self.dice.chance(5)
        {
            let tag = self.agents[agent].lines.iter().find(|l| l.tx == invite).map(|l| l.tag.clone()).unwrap_or_default();
            self.responds(agent, invite, 487, &tag, None);
            for line in self.agents[agent].lines.iter_mut().filter(|l| l.tx == invite) {
                line.stage = Stage::Over;
            }
        }
    }

    /// A call for the callee: it makes up its mind once, and acts on it over time.
    fn hears_invite(&mut self, agent: usize, tx: TxId, invite: &Message, flow: Flow) {
        let n = self.serial();
        let id = self.callee_line(agent, tx, invite, flow, n);
        if self.habits.race {
            let ring = self.dice.ms(0, 60);
            self.after(ring, Event::Do { line: id, act: Act::Answer(180) });
            let pick = self.dice.ms(0, 150);
            return self.after(pick, Event::Do { line: id, act: Act::Answer(200) });
        }
        if self.dice.chance(70) {
            self.responds(agent, tx, 100, "", None);
        }
        let mut at = self.dice.ms(0, 1_500);
        for status in [180, 183, 180] {
            if self.dice.chance(40) {
                let act = if self.dice.chance(20) { Act::Fork(status) } else { Act::Answer(status) };
                self.after(at, Event::Do { line: id, act });
                at += self.dice.ms(0, 1_500);
            }
        }
        let last = match self.dice.below(20) {
            0..=12 => 200,
            13 => 302,
            14 => self.dice.pick(&[404, 486, 480]),
            15 => self.dice.pick(&[503, 500, 408]),
            16 => self.dice.pick(&[401, 407]),
            17 => 603,
            _ => return,
        };
        at += self.dice.ms(0, if self.dice.0.is_multiple_of(5) { 18_000 } else { 2_000 });
        self.after(at, Event::Do { line: id, act: Act::Answer(last) });
        if last == 200 && self.dice.chance(10) {
            at += self.dice.ms(0, 200);
            self.after(at, Event::Do { line: id, act: Act::Fork(200) });
        }
    }

    fn callee_line(&mut self, agent: usize, tx: TxId, invite: &Message, flow: Flow, n: u64) -> LineId {
        let tag = format!("callee{n}");
        let line = Line {
            call_id: invite.call_id().unwrap_or_default().to_owned(),
            local: format!("{};tag={tag}", value(invite, Name::To)),
            tag,
            remote: value(invite, Name::From),
            target: invite.contact().map_or_else(String::new, |c| text(c.uri)),
            cseq: 1_000,
            stage: Stage::Inviting,
            invite: invite.clone(),
            tx,
            rings: false,
            cancels: false,
            acknowledges: true,
            ack: None,
            unacked: None,
            flow: Some(flow),
            contact: String::new(),
        };
        self.agents[agent].lines.push(line);
        (agent, self.agents[agent].lines.len() - 1)
    }

    fn answers(&mut self, id: LineId, status: u16, fork: bool) {
        let (agent, at) = id;
        let (tx, invite) = (self.agents[agent].lines[at].tx, self.agents[agent].lines[at].invite.clone());
        let Some(server) = self.agents[agent].servers.get(&tx) else { return };
        let pending = server.machine.is_pending();
        if !(pending || (fork && status >= 200)) {
            return;
        }
        let id = if fork {
            let n = self.serial();
            let flow = self.agents[agent].lines[at].flow.unwrap_or(server_flow(&self.agents[agent], tx));
            self.callee_line(agent, tx, &invite, flow, n)
        } else {
            id
        };
        let tag = self.agents[agent].lines[id.1].tag.clone();
        match status {
            200..=299 => self.picks_up(id, tx, &tag, fork),
            300.. => {
                self.responds(agent, tx, status, &tag, None);
                self.agents[agent].lines[id.1].stage = Stage::Over;
            }
            _ => {
                let body = (status == 183).then(|| sdp(&self.agents[agent].addr.ip().to_string(), 1));
                self.responds(agent, tx, status, &tag, body);
            }
        }
    }

    fn picks_up(&mut self, id: LineId, tx: TxId, tag: &str, fork: bool) {
        let (agent, at) = id;
        let body = (self.habits.race || self.dice.chance(96)).then(|| sdp(&self.agents[agent].addr.ip().to_string(), 1));
        self.responds(agent, tx, 200, tag, body);
        let until = self.now + Duration::from_secs(32);
        let line = &mut self.agents[agent].lines[at];
        line.stage = Stage::Up;
        line.unacked = Some(Unacked { interval: Duration::from_millis(500), until });
        self.after(Duration::from_millis(500), Event::Repeat { line: id });
        if fork {
            return;
        }
        if self.habits.race {
            if self.dice.chance(40) {
                let at = self.dice.ms(0, 120);
                self.after(at, Event::Do { line: id, act: Act::Bye });
            }
            return;
        }
        for _ in 0..self.dice.below(4) {
            let act =
                self.dice.pick(&[Act::Reinvite, Act::Update, Act::Info, Act::Options, Act::Garbage, Act::Refer, Act::Refer, Act::Refer]);
            let at = self.dice.ms(0, 30_000);
            self.after(at, Event::Do { line: id, act });
            if act == Act::Refer && self.dice.chance(40) {
                let more = self.dice.ms(0, 1_500);
                self.after(at + more, Event::Do { line: id, act: Act::Refer });
            }
        }
        if self.dice.chance(70) {
            let act = self.dice.pick(&[Act::Bye, Act::EscalatingBye]);
            let at = self.dice.ms(0, 45_000);
            self.after(at, Event::Do { line: id, act });
        }
    }

    /// RFC 3261 §13.3.1.4: the UAS repeats its 2xx until the ACK comes, over a stream too.
    pub fn repeat(&mut self, id: LineId) {
        let (agent, at) = id;
        let line = &mut self.agents[agent].lines[at];
        let tx = line.tx;
        let Some(unacked) = line.unacked.as_mut() else { return };
        if unacked.until <= self.now {
            line.unacked = None;
            return self.says_bye(id, false);
        }
        unacked.interval = (unacked.interval * 2).min(Duration::from_secs(4));
        let next = unacked.interval;
        let tag = line.tag.clone();
        let repeats = self.agents[agent].servers.contains_key(&tx);
        if repeats {
            let body = Some(sdp(&self.agents[agent].addr.ip().to_string(), 1));
            self.responds(agent, tx, 200, &tag, body);
        }
        self.after(next, Event::Repeat { line: id });
    }

    fn responds(&mut self, agent: usize, tx: TxId, status: u16, tag: &str, body: Option<String>) {
        let Some(server) = self.agents[agent].servers.get(&tx) else { return };
        let source = format!("{US}:5060").parse().unwrap();
        let tag = LocalTag::new(tag);
        let mut draft = Draft::response(&server.request, source, status, "", (status > 100).then_some(&tag));
        let transport = if matches!(server.flow, Flow::Stream(_)) { ";transport=tcp" } else { "" };
        // One call in twenty names a host that must be asked for, one in forty one that nobody knows; the same each time.
        let quirk = if self.agents[agent].calls { 2 } else { tx % 40 };
        let host = match (server.request.method().as_str(), quirk) {
            ("INVITE", 0 | 20) if !self.habits.race => "media7.synthflow.example:5080".to_owned(),
            ("INVITE", 1) if !self.habits.race => "never.synthflow.example:5080".to_owned(),
            _ => self.agents[agent].addr.to_string(),
        };
        // One call in five comes through a proxy that wants to stay in the way: itself.
        if tx.is_multiple_of(5) && server.request.to_tag().is_none() && status > 100 && status < 300 {
            draft.put("Record-Route", format!("<sip:{}{transport};lr>", self.agents[agent].addr));
        }
        if status > 100 && status < 300 {
            draft.keep_all(&server.request, Name::RecordRoute).put("Contact", format!("<sip:bot@{host}{transport}>"));
        }
        if status == 302 {
            draft.put("Contact", format!("<sip:elsewhere@{}>", self.agents[agent].addr));
        }
        if let Some(body) = body {
            draft.body("application/sdp", Bytes::from(body));
        }
        let bytes = draft.print(None);
        let mut out = Vec::new();
        if let Some(server) = self.agents[agent].servers.get_mut(&tx) {
            server.machine.respond(status, bytes, self.now, &mut out);
        }
        self.server_out(agent, tx, out);
    }

    pub fn server_timer(&mut self, agent: usize, tx: TxId) {
        let Some(server) = self.agents[agent].servers.get_mut(&tx) else { return };
        let mut out = Vec::new();
        server.machine.on_timeout(self.now, &mut out);
        if !out.is_empty() {
            self.server_out(agent, tx, out);
        }
    }

    fn server_out(&mut self, agent: usize, tx: TxId, out: Vec<server::Out>) {
        for want in out {
            match want {
                server::Out::Send(bytes) => {
                    let flow = self.agents[agent].servers.get(&tx).map(|s| s.flow);
                    self.agent_sends(agent, flow, bytes, true);
                }
                server::Out::Terminated => {
                    self.agents[agent].servers.remove(&tx);
                }
                _ => {}
            }
        }
        if let Some((at, _)) = self.agents[agent].servers.get(&tx).and_then(|s| s.machine.deadline()) {
            self.at(at, Event::ServerTimer { agent, tx });
        }
    }
}

fn server_flow(agent: &Agent, tx: TxId) -> Flow {
    agent.servers[&tx].flow
}
