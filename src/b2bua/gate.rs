//! Digest towards CXone (RFC 3261 §22.1, RFC 8760): an INVITE outside a dialog proves a password before it is let in.
//!
//! A challenge costs nothing: its nonce carries when it was made and how many wrong answers came before, sealed with a key of ours.
//! Only a nonce that was used well is remembered, with its count, until it is too old to be used.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::RandomState;

use crate::b2bua::Map;
use crate::call::out::Reply;
use crate::config::Cxone;
use crate::ids::LocalTag;
use crate::ids::Minter;
use crate::time::Time;
use crate::wire::auth::Algorithm;
use crate::wire::auth::Credentials;
use crate::wire::auth::Qop;
use crate::wire::auth::challenge;
use crate::wire::auth::is_same;
use crate::wire::auth::keyed;
use crate::wire::message::Message;
use crate::wire::message::Name;

/// How long a nonce may be used.
pub const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Wrong answers in a row that hear another challenge; the next one hears 403.
pub const WRONG_ANSWERS_MAX: u8 = 3;
/// Used nonces that are remembered; beyond them the oldest, and all that are older, are stale.
pub const USED_NONCES_MAX: usize = 65_536;
/// Hex digits of the time, of the random part and of the seal.
const TIME_DIGITS: usize = 16;
const DICE_DIGITS: usize = 16;
const SEAL_DIGITS: usize = 32;
const REALM: &str = "backchannel";

/// What becomes of an INVITE.
#[derive(Debug, PartialEq, Eq)]
pub enum Entrance {
    Open,
    Closed(Reply),
}

/// What a nonce says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    made: Time,
    /// Wrong answers before it.
    wrong: u8,
    /// One of its kind.
    dice: u64,
}

/// Asks CXone who it is.
#[derive(Debug)]
pub struct Gate {
    key: [u8; 32],
    /// The highest `nc` of each used nonce.
    used: Map<(Time, u64), u32>,
    oldest: VecDeque<(Time, u64)>,
    /// Nonces up to this one are forgotten, so they are stale.
    floor: Time,
}

impl Gate {
    pub fn new(mint: &mut Minter, hasher: RandomState) -> Gate {
        let mut key = [0; 32];
        for some in key.chunks_mut(8) {
            let bits = mint.below(u64::MAX).to_le_bytes();
            some.iter_mut().zip(bits).for_each(|(k, b)| *k = b);
        }
        Gate { key, used: Map::with_hasher(hasher), oldest: VecDeque::new(), floor: Time::default() }
    }

    /// Whether this INVITE is let in, and what it hears when not.
    pub fn check(&mut self, invite: &Message, cxone: &Cxone, mint: &mut Minter, now: Time) -> Entrance {
        let mut wrong = 0;
        let mut stale = false;
        for value in invite.values(Name::Authorization) {
            // RFC 3261 §22.3: credentials of other realms are not ours to judge.
            let Some(shown) = Credentials::parse(value).filter(|c| *c.realm == *REALM.as_bytes()) else { continue };
            let stamp = self.stamp_of(&shown.nonce);
            let proves = is_same(&shown.username, cxone.username.as_bytes())
                && shown.qop != Qop::None
                && shown.proves(cxone.password.0.as_bytes(), invite.method().as_bytes(), &invite.body());
            match stamp {
                Some(stamp) if proves && self.takes(stamp, shown.count(), now) => return Entrance::Open,
                // RFC 7616 §3.3: stale only when nothing but the nonce is wrong.
                _ if proves => stale = true,
                Some(stamp) => wrong = stamp.wrong.saturating_add(1).max(wrong),
                None => wrong = wrong.max(1),
            }
        }
        if wrong > WRONG_ANSWERS_MAX {
            return Entrance::Closed(Reply::new(403).reason("Wrong Credentials"));
        }
        let nonce = self.nonce(Stamp { made: now, wrong, dice: mint.below(u64::MAX) });
        let line = |algorithm| challenge(REALM, &nonce, algorithm, stale);
        // RFC 8760 §2.3: "the UAS […] MUST list the header fields in order of preference."
        let reply = Reply::new(401).header("WWW-Authenticate", line(Algorithm::SHA_256));
        Entrance::Closed(reply.header("WWW-Authenticate", line(Algorithm::MD5)))
    }

    /// Takes a use of that nonce; `false`: it is stale, or was used with this count before.
    fn takes(&mut self, stamp: Stamp, count: Option<u32>, now: Time) -> bool {
        let Stamp { made, dice, .. } = stamp;
        let Some(count) = count.filter(|_| made + NONCE_LIFE > now && made <= now && made > self.floor) else { return false };
        if let Some(last) = self.used.get_mut(&(made, dice)) {
            let rises = count > *last;
            *last = count.max(*last);
            return rises;
        }
        self.forget(now);
        self.used.insert((made, dice), count);
        self.oldest.push_back((made, dice));
        true
    }

    fn forget(&mut self, now: Time) {
        while let Some(&(made, dice)) = self.oldest.front() {
            let full = self.used.len() >= USED_NONCES_MAX;
            if made + NONCE_LIFE > now && !full {
                return;
            }
            self.oldest.pop_front();
            self.used.remove(&(made, dice));
            if full {
                self.floor = self.floor.max(made);
            }
        }
    }

    fn nonce(&self, stamp: Stamp) -> String {
        let Stamp { made, wrong, dice } = stamp;
        let said = format!("{:016x}{dice:016x}{wrong:x}", made.as_micros());
        let seal = keyed(&self.key, said.as_bytes());
        format!("{said}{}", seal.get(..SEAL_DIGITS).unwrap_or_default())
    }

    /// `None`: not a nonce that we have made since we started.
    fn stamp_of(&self, nonce: &[u8]) -> Option<Stamp> {
        let text = std::str::from_utf8(nonce).ok()?;
        let (said, seal) = text.split_at_checked(TIME_DIGITS + DICE_DIGITS + 1)?;
        if !is_same(keyed(&self.key, said.as_bytes()).get(..SEAL_DIGITS)?.as_bytes(), seal.as_bytes()) {
            return None;
        }
        let number = |from: usize, to: usize| u64::from_str_radix(said.get(from..to)?, 16).ok();
        Some(Stamp {
            made: Time::from_micros(number(0, TIME_DIGITS)?),
            dice: number(TIME_DIGITS, TIME_DIGITS + DICE_DIGITS)?,
            wrong: u8::try_from(number(TIME_DIGITS + DICE_DIGITS, said.len())?).ok()?,
        })
    }

    /// The To tag of a stateless answer: the same for every repetition of a request, and for its ACK (RFC 3261 §8.2.7).
    pub fn tag(&self, request: &Message) -> LocalTag {
        let number = request.cseq().map(|c| c.number).unwrap_or_default();
        let said = format!("{}\0{}\0{number}", request.call_id().unwrap_or_default(), request.from_tag().unwrap_or_default());
        LocalTag::new(keyed(&self.key, said.as_bytes()).get(..16).unwrap_or_default())
    }

    /// Whether this ACK is for an answer of ours that left no trace.
    pub fn has_answered(&self, ack: &Message) -> bool {
        ack.to_tag().is_some_and(|tag| tag == self.tag(ack).as_str())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Secret;
    use crate::wire::auth::Asking;
    use crate::wire::auth::Session;
    use crate::wire::auth::challenges;

    const START: Time = Time::from_micros(1_800_000_000_000_000);

    struct Trunk {
        gate: Gate,
        mint: Minter,
        cxone: Cxone,
        now: Time,
    }

    impl Trunk {
        fn new() -> Trunk {
            let mut mint = Minter::new([3; 32], 0);
            let gate = Gate::new(&mut mint, RandomState::with_seeds(1, 2, 3, 4));
            let mut cxone = crate::policy::samples::test_config().cxone;
            (cxone.username, cxone.password) = ("trunk".into(), Secret("s3cret".into()));
            Trunk { gate, mint, cxone, now: START }
        }

        fn invite(&mut self, authorization: &[u8]) -> Entrance {
            let mut text = b"INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
                Call-ID: c\r\nCSeq: 1 INVITE\r\n"
                .to_vec();
            if !authorization.is_empty() {
                text.extend_from_slice(&[b"Authorization: ", authorization, b"\r\n"].concat());
            }
            text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            let invite = Message::parse(Bytes::from(text)).unwrap();
            self.gate.check(&invite, &self.cxone, &mut self.mint, self.now)
        }

        /// The first or second challenge of a 401, and whether it says stale.
        fn challenged(entrance: Entrance, at: usize) -> (Session, bool) {
            let Entrance::Closed(reply) = entrance else { panic!("open") };
            assert_eq!((reply.status, reply.headers.len()), (401, 2));
            let value = String::from_utf8_lossy(&reply.headers[at].value).into_owned();
            let text = format!("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: {value}\r\nContent-Length: 0\r\n\r\n");
            let message = Message::parse(Bytes::from(text)).unwrap();
            let found = challenges(&message, Name::WwwAuthenticate);
            (Session::new(&found[0]), found[0].stale)
        }
    }

    fn shows(session: &mut Session, password: &str) -> Vec<u8> {
        let asking = Asking { username: "trunk", password, method: b"INVITE", uri: b"sip:b@h", body: b"", cnonce: "c" };
        session.authorize(&asking).unwrap()
    }

    #[test]
    fn both_algorithms_open_the_gate_and_sha_256_is_offered_first() {
        for (at, name) in [(0, "algorithm=SHA-256"), (1, "algorithm=MD5")] {
            let mut trunk = Trunk::new();
            let (mut session, stale) = Trunk::challenged(trunk.invite(b""), at);
            let line = shows(&mut session, "s3cret");
            assert!(!stale && String::from_utf8_lossy(&line).contains(name));
            assert_eq!(trunk.invite(&line), Entrance::Open);
            let next = shows(&mut session, "s3cret");
            assert_eq!(trunk.invite(&next), Entrance::Open, "RFC 7616 §3.4: the nonce is good for more than one request");
        }
    }

    #[test]
    fn a_replay_and_an_old_nonce_are_stale() {
        let mut trunk = Trunk::new();
        let (mut session, _) = Trunk::challenged(trunk.invite(b""), 0);
        let line = shows(&mut session, "s3cret");
        assert_eq!(trunk.invite(&line), Entrance::Open);
        // RFC 7616 §3.4: "If the same nc value is seen twice, then the request is a replay."
        assert!(Trunk::challenged(trunk.invite(&line), 0).1);
        let last = shows(&mut session, "s3cret");
        trunk.now = START + NONCE_LIFE - Duration::from_micros(1);
        assert_eq!(trunk.invite(&last), Entrance::Open);
        trunk.now = START + NONCE_LIFE;
        let late = shows(&mut session, "s3cret");
        let (mut fresh, stale) = Trunk::challenged(trunk.invite(&late), 0);
        assert!(stale);
        let line = shows(&mut fresh, "s3cret");
        assert_eq!(trunk.invite(&line), Entrance::Open);
        assert_eq!(trunk.gate.used.len(), 1, "the old one is forgotten");
    }

    #[test]
    fn a_nonce_of_somebody_else_is_stale_for_who_knows_the_password_and_wrong_for_others() {
        let (mut trunk, mut before) = (Trunk::new(), Trunk::new());
        before.gate.key = [9; 32];
        let (mut session, _) = Trunk::challenged(before.invite(b""), 0);
        let line = shows(&mut session, "s3cret");
        assert!(Trunk::challenged(trunk.invite(&line), 0).1, "as after a restart");
        let line = shows(&mut session, "guess");
        assert!(!Trunk::challenged(trunk.invite(&line), 0).1);
    }

    #[test]
    fn the_fourth_wrong_answer_in_a_row_hears_403() {
        let mut trunk = Trunk::new();
        let (mut session, _) = Trunk::challenged(trunk.invite(b""), 0);
        for _ in 0..WRONG_ANSWERS_MAX {
            let line = shows(&mut session, "guess");
            session = Trunk::challenged(trunk.invite(&line), 0).0;
        }
        let line = shows(&mut session, "guess");
        let Entrance::Closed(reply) = trunk.invite(&line) else { panic!("open") };
        assert_eq!(reply.status, 403);
        let line = shows(&mut session, "s3cret");
        assert_eq!(trunk.invite(&line), Entrance::Open);
    }

    #[test]
    fn credentials_without_qop_for_another_user_or_realm_do_not_open_it() {
        let mut trunk = Trunk::new();
        let (mut session, _) = Trunk::challenged(trunk.invite(b""), 0);
        let line = String::from_utf8(shows(&mut session, "s3cret")).unwrap();
        for bad in [
            line.replace("username=\"trunk\"", "username=\"x\""),
            line.replace("realm=\"backchannel\"", "realm=\"x\""),
            line.replace(", qop=auth, nc=00000001", ""),
            line.replace("nc=00000001", "nc=1"),
            "Basic dHJ1bms6czNjcmV0".into(),
        ] {
            assert_ne!(trunk.invite(bad.as_bytes()), Entrance::Open, "{bad}");
        }
        assert_eq!(trunk.gate.used.len(), 0, "nothing is kept of what was not let in");
        assert_eq!(trunk.invite(line.as_bytes()), Entrance::Open);
    }

    #[test]
    fn used_nonces_one_past_the_bound_make_the_oldest_stale() {
        let mut trunk = Trunk::new();
        let stamp = |n: u64| Stamp { made: START + Duration::from_micros(n), wrong: 0, dice: n };
        let later = START + Duration::from_secs(1);
        for n in 0..=USED_NONCES_MAX as u64 {
            assert!(trunk.gate.takes(stamp(n), Some(1), later));
        }
        assert_eq!(trunk.gate.used.len(), USED_NONCES_MAX);
        assert!(!trunk.gate.takes(stamp(0), Some(2), later), "it was forgotten, so its count is not known");
        assert!(!trunk.gate.takes(stamp(1), Some(1), later) && trunk.gate.takes(stamp(1), Some(2), later));
    }
}
