//! `backchannel headers FILE.sip`: what would this INVITE become, and why is each header there? Nothing is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::call::leg::Invitation;
use crate::call::leg::timer::first_asks;
use crate::call::out::Face;
use crate::call::out::Hop;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::PlannedTarget;
use crate::call::rules::Refusal;
use crate::call::rules::Resolve;
use crate::call::rules::Situation;
use crate::call::rules::TargetName;
use crate::call::rules::Transport;
use crate::call::rules::Verdict;
use crate::config::Config;
use crate::ids::LocalTag;
use crate::ids::SipCallId;
use crate::policy::admission::admit;
use crate::policy::admission::find_contact;
use crate::policy::budget::x_bytes;
use crate::policy::headers::Action;
use crate::policy::headers::Facts;
use crate::policy::headers::TraceRow;
use crate::policy::headers::map_invite;
use crate::policy::headers::shown;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::sdp::Origin;
use crate::wire::sdp::OurMedia;
use crate::wire::sdp::Sdp;
use crate::wire::uri::host_port;
use crate::wire::uri::print_host;

/// What stands for identifiers that a real call mints; as long as the real ones, so that the byte counts are true.
const CALL_ID: &str = "CALL-ID-10";
const SIP_CALL_ID: &str = "sip-call-id-22-letters";
const TAG: &str = "tag-of-16-letter";
const BRANCH: &str = "z9hG4bK-branch-of-23-le";
const RTP_PORT: u16 = 10000;
const SESSION_ID: u64 = 1_000_000_000;
/// What stands for an address that only a running process knows: TEST-NET-1 (RFC 5737) for the target, TEST-NET-2 for us.
const TARGET_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUR_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// One header and its reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub value: String,
    pub action: &'static str,
    pub why: String,
}

/// What CXone would hear instead of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<String>,
    pub why: String,
}

/// The INVITE that would leave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outgoing {
    pub transport: &'static str,
    pub start_line: String,
    /// The whole message, with placeholders for what a real call mints.
    pub message: String,
    pub bytes: usize,
    /// Bytes of its X- header lines.
    pub x_bytes: usize,
}

/// The whole decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DryRun {
    pub contact_id: Option<String>,
    pub refused: Option<Refused>,
    /// One for each transport among the targets.
    pub outgoing: Vec<Outgoing>,
    pub headers: Vec<Row>,
    pub warnings: Vec<String>,
    pub udp_mtu: usize,
    pub budget: usize,
}

/// Maps the INVITE in `raw` as a running process would. `Err`: it is no INVITE.
pub fn dry_run(config: &Arc<Config>, raw: Bytes) -> Result<DryRun, String> {
    let invite = Message::parse(with_crlf(raw)).map_err(|e| format!("not a SIP message: {}", e.why))?;
    if !invite.is_request() || *invite.method() != Method::INVITE {
        return Err("not an INVITE".to_owned());
    }
    invite.check().map_err(|defect| format!("CXone would hear {} {}", defect.status, defect.reason))?;
    let names = Names::of(config);
    let our_host = host_port(our_address(config, &config.synthflow.advertise));
    let our_host_caller = host_port(our_address(config, &config.cxone.advertise));
    let situation = Situation {
        calls: 0,
        draining: false,
        rate_ok: true,
        ports_free: true,
        resolve: &names,
        call_id: CALL_ID,
        our_host: &our_host,
        our_host_caller: &our_host_caller,
        dice: 0,
    };
    let contact = find_contact(config, &invite, &mut Vec::new());
    let facts = Facts {
        contact: contact.as_ref().map(|found| &found.id),
        contact_header: contact.as_ref().map(|found| found.header.as_str()),
        call_id: CALL_ID,
        our_host: &our_host,
        trace: true,
    };
    let mapping = map_invite(config, &invite, facts);
    let mut run = DryRun {
        contact_id: contact.as_ref().map(|found| found.id.as_str().to_owned()),
        refused: None,
        outgoing: Vec::new(),
        headers: mapping.trace.into_iter().map(row).collect(),
        warnings: mapping.warnings,
        udp_mtu: config.sip.udp_mtu,
        budget: config.headers.budget,
    };
    match admit(config, &invite, &situation) {
        Verdict::Refusal(refusal) => run.refused = Some(refused(refusal)),
        Verdict::Plan(plan) => {
            run.headers.extend(dropped_rows(&plan));
            run.warnings.clone_from(&plan.warnings);
            run.outgoing = outgoing(config, &invite, &plan, &mut run.warnings);
        }
    }
    Ok(run)
}

/// Line ends as the wire has them: an editor saves LF, and often nothing after the last header or one line end too many after the
/// body. Content-Length is counted anew, since it was counted with CRLF. A file with CRLF stays as it is.
fn with_crlf(raw: Bytes) -> Bytes {
    let head_ends = raw.windows(4).any(|w| w == b"\r\n\r\n");
    let bare = raw.iter().enumerate().any(|(i, &b)| b == b'\n' && (i == 0 || raw[i - 1] != b'\r'));
    if head_ends && !bare {
        return raw;
    }
    let mut lines = raw.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 16);
    for line in lines.by_ref().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()) {
        let name = line.split(|&b| b == b':').next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    let mut body = lines.collect::<Vec<_>>().join(&b"\r\n"[..]);
    while body.ends_with(b"\r\n\r\n") {
        body.truncate(body.len() - 2);
    }
    if body == b"\r\n" {
        body.clear();
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    Bytes::from(out)
}

/// Names are not resolved here: every target has one address.
#[derive(Debug)]
struct Names(BTreeMap<String, [IpAddr; 1]>);

impl Names {
    fn of(config: &Config) -> Names {
        let ip = |name: &str| name.trim_start_matches('[').trim_end_matches(']').parse().unwrap_or(TARGET_IP);
        Names(config.synthflow.targets.iter().map(|spec| (spec.name.0.to_string(), [ip(&spec.name.0)])).collect())
    }
}

impl Resolve for Names {
    fn addresses(&self, name: &TargetName) -> Vec<IpAddr> {
        self.0.get(name.0.as_str()).map_or_else(Vec::new, |one| one.to_vec())
    }
}

/// Our address towards a side, as far as the configuration says it.
fn our_address(config: &Config, side: &[IpAddr]) -> SocketAddr {
    let listen = config.sip.listen.first().map(|listen| listen.addr);
    let said = side.first().or(config.sip.advertise.first()).copied();
    let ip = said.or(listen.map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())).unwrap_or(OUR_IP);
    SocketAddr::new(ip, listen.map_or(5060, |addr| addr.port()))
}

fn row(row: TraceRow) -> Row {
    Row { name: row.name, value: row.value, action: row.action.as_str(), why: row.why }
}

fn dropped_rows(plan: &Plan) -> Vec<Row> {
    let Some(left) = &plan.udp_headers else { return Vec::new() };
    let mut left = left.iter().peekable();
    let mut rows = Vec::new();
    for line in &plan.headers {
        if left.peek() == Some(&line) {
            left.next();
            continue;
        }
        rows.push(Row {
            name: text(&line.name),
            value: text(&line.value),
            action: Action::DroppedForSize.as_str(),
            why: "over UDP only: headers.budget, headers.drop_order".to_owned(),
        });
    }
    rows
}

fn refused(refusal: Refusal) -> Refused {
    let headers = refusal.headers.iter().map(|line| format!("{}: {}", text(&line.name), text(&line.value))).collect();
    Refused { status: refusal.status, reason: refusal.reason.to_string(), headers, why: refusal.why }
}

fn outgoing(config: &Config, invite: &Message, plan: &Plan, warnings: &mut Vec<String>) -> Vec<Outgoing> {
    let sdp = our_sdp(config, invite, warnings);
    let mut all: Vec<Outgoing> = Vec::new();
    for planned in &plan.targets {
        let transport = planned.target.transport;
        if all.iter().any(|one| one.transport == transport.as_str()) {
            continue;
        }
        let headers = plan.udp_headers.as_ref().filter(|_| transport == Transport::Udp).unwrap_or(&plan.headers);
        let bytes = print(config, invite, plan, planned, headers, &sdp);
        let message = text(&bytes);
        let start_line = message.lines().next().unwrap_or_default().to_owned();
        all.push(Outgoing { transport: transport.as_str(), start_line, message, bytes: bytes.len(), x_bytes: x_bytes(headers) });
    }
    all
}

/// The offer as it would leave, its media address a placeholder where the configuration names none.
fn our_sdp(config: &Config, invite: &Message, warnings: &mut Vec<String>) -> Bytes {
    let body = invite.body();
    if body.is_empty() {
        return body;
    }
    let media = config.media.advertise.first().copied().unwrap_or_else(|| our_address(config, &config.synthflow.advertise).ip());
    let ours = OurMedia { ip: media, rtp_port: RTP_PORT, rtcp_port: RTP_PORT + 1 };
    let sdp = match Sdp::parse(body) {
        Ok(sdp) => sdp,
        Err(e) => {
            warnings.push(format!("the SDP cannot be carried: {}", e.0));
            return Bytes::new();
        }
    };
    sdp.rewrite(ours, Origin { session_id: SESSION_ID, version: 1 }, &config.synthflow.codecs).unwrap_or_else(|| {
        let offered: Vec<_> = sdp.codecs().iter().map(|codec| codec.name.to_string()).collect();
        let taken = config.synthflow.codecs.join(", ");
        warnings.push(format!("488: no common codec: CXone offers {}, synthflow.codecs has {taken}", offered.join(", ")));
        Bytes::new()
    })
}

fn print(config: &Config, invite: &Message, plan: &Plan, planned: &PlannedTarget, headers: &[Carried], sdp: &Bytes) -> Bytes {
    let (transport, us) = (planned.target.transport, our_address(config, &config.synthflow.advertise));
    let face = Face { host: print_host(us.ip()), port: us.port(), transport };
    let via = format!("SIP/2.0/{} {};branch={BRANCH};rport", transport.as_str(), face.host_port());
    let hop = Hop { target: planned.target, shown: planned.shown.clone(), face };
    let invitation = Invitation::of(plan, invite, (!sdp.is_empty()).then(|| sdp.clone()));
    let headers = [&first_asks(plan.rules.times.session)[..], headers].concat();
    invitation.draft(&hop, &headers, &SipCallId::new(SIP_CALL_ID), &LocalTag::new(TAG), 1).print(Some(&via))
}

impl DryRun {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Some(refused) = &self.refused {
            out.push_str(&format!("CXone would hear: {} {}\n", refused.status, refused.reason));
            for header in &refused.headers {
                out.push_str(&format!("  {header}\n"));
            }
            out.push_str(&format!("  because: {}\n\n", refused.why));
        }
        for outgoing in &self.outgoing {
            out.push_str(&format!("Over {}: {}\n\n", outgoing.transport, self.size(outgoing)));
            for line in outgoing.message.trim_end().lines() {
                out.push_str(format!("  {line}").trim_end_matches(' '));
                out.push('\n');
            }
            out.push('\n');
        }
        for warning in &self.warnings {
            out.push_str(&format!("warning: {warning}\n"));
        }
        if !self.warnings.is_empty() {
            out.push('\n');
        }
        self.table(&mut out);
        out
    }

    fn size(&self, outgoing: &Outgoing) -> String {
        let Outgoing { bytes, x_bytes, .. } = outgoing;
        if outgoing.transport != Transport::Udp.as_str() {
            return format!("{bytes} bytes, {x_bytes} of them X- headers");
        }
        let budget = if self.budget == 0 { "no budget".to_owned() } else { format!("headers.budget {}", self.budget) };
        // RFC 3261 §18.1.1.
        let fits = if *bytes > self.udp_mtu { "longer than" } else { "within" };
        let then = if *bytes > self.udp_mtu { ": tried over TCP first" } else { "" };
        format!("{bytes} bytes, {fits} sip.udp_mtu {}{then}; {x_bytes} of them X- headers, {budget}", self.udp_mtu)
    }

    fn table(&self, out: &mut String) {
        let width = |column: fn(&Row) -> usize| self.headers.iter().map(column).max().unwrap_or_default().min(40);
        let (names, actions) = (width(|row| row.name.len()), width(|row| row.action.len()));
        for row in &self.headers {
            let line = format!("{:names$}  {:actions$}  {} | {}", row.name, row.action, row.why, shown(row.value.as_bytes()));
            out.push_str(line.trim_end_matches([' ', '|']));
            out.push('\n');
        }
    }

    /// For programs.
    pub fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|e| e.to_string())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
