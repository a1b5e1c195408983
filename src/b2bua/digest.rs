//! Digest towards Synthflow (RFC 3261 §22.2, §22.3): a request of ours that is challenged goes out once more with credentials.

use std::net::SocketAddr;

use crate::b2bua::B2bua;
use crate::b2bua::io::Flow;
use crate::b2bua::outbound::ClientEntry;
use crate::b2bua::outbound::ClientOwner;
use crate::b2bua::outbound::Fate;
use crate::b2bua::outbound::Outgoing;
use crate::b2bua::outbound::Way;
use crate::b2bua::timers::Owner;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::ids::ClientTxId;
use crate::ids::Side;
use crate::time::Time;
use crate::wire::auth::Asking;
use crate::wire::auth::Session;
use crate::wire::auth::challenges;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::message::Name;

/// How often one request is sent again because of a challenge: a proxy and the far end, and a nonce of each that had gone stale.
const CHALLENGES_ANSWERED_MAX: usize = 4;
/// Nonces that are kept: one a challenger. Beyond them all are forgotten and asked for anew.
const NONCES_MAX: usize = 256;

/// A challenge that one request has answered.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    realm: Box<[u8]>,
    nonce: Box<[u8]>,
}

/// The challenges that one request has answered.
#[derive(Clone, Debug, Default)]
pub struct Answered(Vec<Answer>);

/// What it takes to send a request once more.
#[derive(Debug)]
pub struct Again {
    draft: Box<Draft>,
    pub(super) answered: Answered,
}

/// Where a challenge came from: the address, and whether it was a 401 or a 407.
pub(super) type Challenger = (SocketAddr, u16);

/// The two kinds of challenges: status, its header, ours.
const KINDS: [(u16, Name, Name); 2] =
    [(401, Name::WwwAuthenticate, Name::Authorization), (407, Name::ProxyAuthenticate, Name::ProxyAuthorization)];

impl B2bua {
    /// What is kept of a request that may be challenged; nothing when we could not answer.
    pub(super) fn again(&self, out: &Outgoing) -> Option<Box<Again>> {
        let ours = self.has_credentials(out.owner);
        ours.then(|| Box::new(Again { draft: out.draft.clone(), answered: out.answered.clone() }))
    }

    fn has_credentials(&self, owner: Option<ClientOwner>) -> bool {
        !self.config.synthflow.username.is_empty() && owner.is_none_or(|o| o.side == Side::Callee)
    }

    /// Puts credentials on a request to somebody whose nonce is known (RFC 3261 §22.3: on all that follows with the same Call-ID).
    pub(super) fn authorize_ahead(&mut self, out: &mut Outgoing, remote: SocketAddr) {
        if self.has_credentials(out.owner) && out.answered.0.is_empty() {
            self.authorize(&mut out.draft, remote);
            if let Some(slim) = &mut out.slim {
                self.authorize(slim, remote);
            }
        }
    }

    fn authorize(&mut self, draft: &mut Draft, remote: SocketAddr) {
        for (status, _, header) in KINDS {
            let Some(session) = self.nonces.get_mut(&(remote, status)) else { continue };
            let cnonce = self.mint.local_tag();
            let asking = Asking {
                username: &self.config.synthflow.username,
                password: &self.config.synthflow.password.0,
                method: draft.method().as_bytes(),
                uri: draft.uri(),
                body: draft.content(),
                cnonce: cnonce.as_str(),
            };
            match session.authorize(&asking) {
                Some(line) => draft.replace(header.as_str(), line),
                None => drop(self.nonces.remove(&(remote, status))),
            }
        }
    }

    /// A 401 or 407 that we can answer: the request leaves again, in a transaction with the same id, and the old one goes on under the
    /// id that is returned (it still has to acknowledge repetitions). `None`: the answer is for whoever waits for it.
    pub(super) fn answer_challenge(&mut self, tx: ClientTxId, response: &Message, now: Time) -> Option<ClientTxId> {
        let (status, theirs, _) = KINDS.into_iter().find(|(status, ..)| *status == response.status())?;
        let entry = self.clients.get_mut(&tx).filter(|e| e.fate == Fate::Wanted)?;
        let (remote, owner, flow, long) = (entry.remote, entry.owner, entry.flow, matches!(entry.way, Way::Long));
        let Again { mut draft, mut answered } = *entry.again.take()?;
        match self.session_for(&answered, response, theirs, remote) {
            Ok(session) => {
                let aside = self.set_aside(tx)?;
                answered.0.push(Answer { status, realm: session.realm.clone(), nonce: session.nonce.clone() });
                self.keep_nonce((remote, status), session);
                // RFC 3261 §8.1.3.5: the same Call-ID, To and From, and the CSeq one higher.
                let number = self.next_cseq(owner, &draft, now);
                let cseq = format!("{number} {}", draft.method());
                draft.replace("CSeq", cseq);
                self.authorize(&mut draft, remote);
                self.send_again(Outgoing { tx, draft, slim: None, owner, answered }, flow, remote, long, now);
                Some(aside)
            }
            Err(why) => {
                self.nonces.remove(&(remote, status));
                if let Some(owner) = owner {
                    self.warn(owner.call, format!("digest failed: {why} ({status} from {remote})"), now);
                }
                None
            }
        }
    }

    /// The strongest challenge that is for us, or why none is answered.
    fn session_for(&self, answered: &Answered, response: &Message, theirs: Name, remote: SocketAddr) -> Result<Session, String> {
        let realm = self.config.synthflow.realm.as_bytes();
        let found = challenges(response, theirs).into_iter().filter(|c| realm.is_empty() || *c.realm == *realm);
        // RFC 8760 §2.4: "the UAC SHOULD use the topmost header field that it supports"; the same strength keeps that order.
        let found = found.reduce(|best, next| if next.algorithm > best.algorithm { next } else { best });
        let Some(challenge) = found else { return Err("no challenge that we can answer".into()) };
        if !self.may_know(remote) {
            return Err("the challenge is not from a target of ours".into());
        }
        let realm = String::from_utf8_lossy(&challenge.realm);
        let earlier = answered.0.iter().rfind(|a| a.status == response.status() && *a.realm == *challenge.realm);
        // RFC 7616 §3.3: stale=true says that the password was right and only the nonce was old.
        if earlier.is_some_and(|a| !challenge.stale || *a.nonce == *challenge.nonce) {
            return Err(format!("realm {realm:?} refuses synthflow.username and its password"));
        }
        if answered.0.len() >= CHALLENGES_ANSWERED_MAX {
            return Err(format!("realm {realm:?} calls every nonce stale"));
        }
        Ok(Session::new(&challenge))
    }

    /// The password's proof is for those that we were told to call: an address of a target, or with a realm of the configuration
    /// anybody who may be Synthflow.
    fn may_know(&self, remote: SocketAddr) -> bool {
        let ip = remote.ip().to_canonical();
        let dialled = self.config.synthflow.targets.iter().filter_map(|t| self.targets.get(&t.name)).flatten().any(|r| r.ip == ip);
        dialled || (!self.config.synthflow.realm.is_empty() && self.standing(remote, true).may_be(Side::Callee))
    }

    /// Makes room for another transaction with this id.
    fn set_aside(&mut self, tx: ClientTxId) -> Option<ClientTxId> {
        let old = self.clients.remove(&tx)?;
        let aside = ClientTxId(self.mint.number());
        self.wheel.set(Owner::Client(tx), None);
        self.open_client(aside, ClientEntry { owner: None, ..old });
        Some(aside)
    }

    fn keep_nonce(&mut self, challenger: Challenger, session: Session) {
        if self.nonces.len() >= NONCES_MAX && !self.nonces.contains_key(&challenger) {
            self.nonces.clear();
        }
        self.nonces.insert(challenger, session);
    }

    /// The next number of the dialog, whose leg hears of it; that of the request and one for what belongs to no call (any more).
    fn next_cseq(&mut self, owner: Option<ClientOwner>, draft: &Draft, now: Time) -> u32 {
        let mut number = draft.cseq().saturating_add(1);
        if let Some(ClientOwner { call, side, used }) = owner {
            self.with_call(call, now, |c, _| number = c.next_cseq(side, used));
        }
        number
    }

    /// To where the challenge came from (RFC 3261 §22.2), and over the same transport; with credentials it may be too long for UDP.
    fn send_again(&mut self, out: Outgoing, flow: Flow, remote: SocketAddr, long: bool, now: Time) {
        match flow {
            Flow::Udp { .. } => self.request_at(out, Target { transport: Transport::Udp, addr: remote }, now),
            Flow::Stream(_) => {
                let flow = self.revived(flow, remote);
                self.start_client(out, flow, if long { Way::Long } else { Way::Direct }, now);
            }
        }
    }

    /// RFC 3261 §13.2.2.4: "The ACK MUST contain the same credentials as the INVITE."
    pub(super) fn credentials_of(&self, invite: ClientTxId, ack: &mut Draft) {
        let sent = self.clients.get(&invite).filter(|e| e.again.is_some()).map(|e| e.machine.request().clone());
        if let Some(sent) = sent.and_then(|bytes| Message::parse(bytes).ok()) {
            ack.keep_all(&sent, Name::Authorization).keep_all(&sent, Name::ProxyAuthorization);
        }
    }
}
