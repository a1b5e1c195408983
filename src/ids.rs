//! Identifiers known to all floors. Look-alikes have different types: a local tag can never stand where a remote tag is due.

use std::fmt;
use std::ops::Not;

use compact_str::CompactString;
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;
use rand_core::SeedableRng;

/// Which of the two parties (RFC 3261 §6): CXone calls, Synthflow is called. `!side` is the other one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    Caller,
    Callee,
}

impl Not for Side {
    type Output = Side;

    fn not(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

impl Side {
    /// The peer's name, as a log line says it.
    pub fn peer(self) -> &'static str {
        match self {
            Side::Caller => "cxone",
            Side::Callee => "synthflow",
        }
    }
}

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(CompactString);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Self {
                $name(CompactString::new(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0.as_str())
            }
        }
    )*};
}

text_id! {
    /// What a person calls the call: ten characters, unique over restarts and nodes for practical purposes; the first one is the shard.
    CallId;
    /// CXone's contact id, as it came in the INVITE: `[0-9A-Za-z-]{1,64}`.
    ContactId;
    /// The value of a Call-ID header (RFC 3261 §8.1.1.4).
    SipCallId;
    /// The tag that we put in From or To (RFC 3261 §19.3).
    LocalTag;
    /// The tag that the peer put in From or To.
    RemoteTag;
    /// The branch parameter of a Via of ours (RFC 3261 §8.1.1.7), magic cookie included.
    Branch;
    /// One escalation's id; the same on every repetition of its signal (product.md §4).
    SignalId;
}

macro_rules! number_id {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $inner);
    )*};
}

number_id! {
    /// A call's key inside the process; the shard is in the top eight bits.
    CallHandle(u64);
    /// One stream connection, minted by whoever opens it (the core when it dials, the edge when it accepts).
    ConnId(u64);
    /// One UDP listener, by its place in `sip.listen`.
    ListenerId(u16);
    /// A question to the resolver.
    QueryId(u64);
    /// One journal record; they rise.
    RecordId(u64);
    /// A command that waits for its reply.
    AskId(u64);
    /// A server transaction: requests that a peer sent.
    ServerTxId(u64);
    /// A client transaction: requests that we sent.
    ClientTxId(u64);
}

/// Connections that the core dials carry this bit, accepted ones do not: both sides mint without asking each other.
pub const CONN_DIALLED: u64 = 1 << 63;

/// Connections over TLS carry this bit: what a connection speaks never changes, and outlives it in what must be sent anew.
pub const CONN_TLS: u64 = 1 << 62;

impl ConnId {
    pub fn is_dialled(self) -> bool {
        self.0 & CONN_DIALLED != 0
    }

    pub fn is_tls(self) -> bool {
        self.0 & CONN_TLS != 0
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The longest text that is minted.
const TEXT_BYTES_MAX: usize = 24;
const TOKEN: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Mints every identifier of one core from one seeded generator (ChaCha: tags and branches face the trunk and must not be
/// guessable). The shard is in tag, branch, SIP Call-ID and call id, so that a message can be handed to the core that owns it.
pub struct Minter {
    rng: ChaCha12Rng,
    shard: u8,
    next: u64,
}

impl Minter {
    pub fn new(seed: [u8; 32], shard: u8) -> Self {
        Minter { rng: ChaCha12Rng::from_seed(seed), shard: shard % 32, next: 0 }
    }

    pub fn call_id(&mut self) -> CallId {
        CallId(self.text(CROCKFORD, 9))
    }

    pub fn sip_call_id(&mut self) -> SipCallId {
        SipCallId(self.text(TOKEN, 21))
    }

    /// 75 random bits; RFC 3261 §19.3 wants at least 32.
    pub fn local_tag(&mut self) -> LocalTag {
        LocalTag(self.text(TOKEN, 15))
    }

    /// 23 characters: it fits a `CompactString` without an allocation.
    pub fn branch(&mut self) -> Branch {
        let mut branch = CompactString::const_new("z9hG4bK");
        branch.push_str(&self.text(TOKEN, 15));
        Branch(branch)
    }

    pub fn signal_id(&mut self) -> SignalId {
        SignalId(self.text(CROCKFORD, 15))
    }

    /// A number that no other id of this core has; the shard is in the top eight bits, of which a connection uses the upper two.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        (u64::from(self.shard) << 56 | self.next) & !(CONN_DIALLED | CONN_TLS)
    }

    /// Uniform in `0..below`; 0 when `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.rng.next_u64() % below }
    }

    /// The shard's letter and `random` more, at most `TEXT_BYTES_MAX` in all.
    fn text(&mut self, alphabet: &[u8; 32], random: usize) -> CompactString {
        let mut text = [0u8; TEXT_BYTES_MAX];
        let text = &mut text[..TEXT_BYTES_MAX.min(random + 1)];
        text[0] = alphabet[usize::from(self.shard)];
        for some in text[1..].chunks_mut(12) {
            let mut bits = self.rng.next_u64();
            for letter in some {
                *letter = alphabet[(bits & 31) as usize];
                bits >>= 5;
            }
        }
        CompactString::from_utf8_lossy(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_mints_the_same_ids() {
        let (mut a, mut b) = (Minter::new([7; 32], 3), Minter::new([7; 32], 3));
        assert_eq!(a.call_id(), b.call_id());
        assert_eq!(a.branch(), b.branch());
        assert_ne!(a.branch(), b.local_tag().as_str().into_branch());
    }

    #[test]
    fn every_text_id_names_its_shard_first() {
        let mut m = Minter::new([1; 32], 2);
        assert!(m.call_id().as_str().starts_with('2'));
        assert!(m.local_tag().as_str().starts_with('c'));
        assert!(m.branch().as_str().starts_with("z9hG4bKc"));
        assert_eq!(m.branch().as_str().len(), 23);
    }

    #[test]
    fn ten_thousand_tags_differ() {
        let mut m = Minter::new([9; 32], 0);
        let all: std::collections::BTreeSet<_> = (0..10_000).map(|_| m.local_tag()).collect();
        assert_eq!(all.len(), 10_000);
    }

    trait IntoBranch {
        fn into_branch(self) -> Branch;
    }

    impl IntoBranch for &str {
        fn into_branch(self) -> Branch {
            Branch::new(self)
        }
    }
}
