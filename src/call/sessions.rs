//! Offer and answer as they cross a call: each side sees our addresses only, and one `o=` line that rises with each change.

use std::net::IpAddr;
use std::net::SocketAddr;

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::Latch;
use crate::call::anchor::MediaOrder;
use crate::call::anchor::MediaPeer;
use crate::call::anchor::MediaStats;
use crate::call::anchor::PortPair;
use crate::call::out::Cx;
use crate::call::out::Out;
use crate::ids::Side;
use crate::wire::sdp::Codec;
use crate::wire::sdp::Origin;
use crate::wire::sdp::OurMedia;
use crate::wire::sdp::Sdp;
use crate::wire::sdp::answer_for;

/// A silence packet's worth of samples at 8 kHz: 20 ms.
const SILENCE_SAMPLES: u16 = 160;

/// One side's media: our address towards that peer, and the descriptions last exchanged with it.
#[derive(Debug)]
struct End {
    pair: Option<PortPair>,
    /// What SDP shows for it.
    ip: IpAddr,
    origin: Origin,
    sent: Option<Bytes>,
    received: Option<Sdp>,
    stats: Option<MediaStats>,
}

impl End {
    fn ours(&self) -> Option<OurMedia> {
        self.pair.map(|p| OurMedia { ip: self.ip, rtp_port: p.rtp, rtcp_port: p.rtcp })
    }

    /// With the `o=` version that is due: one more than before when anything changed (RFC 3264 §8).
    fn draft(&self, make: impl Fn(OurMedia, Origin) -> Option<Bytes>) -> Option<(Bytes, u64)> {
        let ours = self.ours()?;
        let Origin { session_id, version } = self.origin;
        let same = make(ours, self.origin)?;
        match &self.sent {
            Some(sent) if *sent != same => Some((make(ours, Origin { session_id, version: version + 1 })?, version + 1)),
            _ => Some((same, version)),
        }
    }

    fn print(&mut self, make: impl Fn(OurMedia, Origin) -> Option<Bytes>) -> Option<Bytes> {
        let (text, version) = self.draft(make)?;
        self.origin.version = version;
        self.sent = Some(text.clone());
        Some(text)
    }
}

/// What one side offers, as the other would see it; nothing has changed yet.
#[derive(Debug)]
pub struct Proposal {
    from: Side,
    sdp: Sdp,
    text: Bytes,
    version: u64,
}

impl Proposal {
    pub fn text(&self) -> Bytes {
        self.text.clone()
    }
}

/// The anchored media of a call.
#[derive(Debug)]
pub struct Sessions {
    caller: End,
    callee: End,
}

impl Sessions {
    /// Both pairs are taken, and stay until the call is over: a leg's port never changes (product.md §2).
    pub fn open(caller: (PortPair, IpAddr), callee: (PortPair, IpAddr), latch: Latch, cx: &mut Cx<'_>) -> Sessions {
        let mut end = |side, (pair, ip)| {
            cx.media(side, MediaOrder::Open { pair, latch });
            // RFC 8866 §5.2: unique for this user on this address; version starts low so that it can only rise.
            let origin = Origin { session_id: 1_000_000_000 + cx.mint.below(9_000_000_000), version: 1 };
            End { pair: Some(pair), ip, origin, sent: None, received: None, stats: None }
        };
        Sessions { caller: end(Side::Caller, caller), callee: end(Side::Callee, callee) }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    fn look(&self, side: Side) -> &End {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    /// A description of `from` on its way to the other side, with our addresses; the relay is told where `from` listens.
    /// `None`: no codec in common.
    pub fn cross(&mut self, from: Side, sdp: &Sdp, codecs: &[CompactString], cx: &mut Cx<'_>) -> Option<Bytes> {
        let text = self.end(!from).print(|ours, origin| sdp.rewrite(ours, origin, codecs))?;
        self.hear(from, sdp, cx);
        Some(text)
    }

    /// The same without any effect, until both sides agree. `None`: no codec in common.
    pub fn propose(&self, from: Side, sdp: &Sdp, codecs: &[CompactString]) -> Option<Proposal> {
        let (text, version) = self.look(!from).draft(|ours, origin| sdp.rewrite(ours, origin, codecs))?;
        Some(Proposal { from, sdp: sdp.clone(), text, version })
    }

    /// The other side took it.
    pub fn agree(&mut self, proposal: Proposal, cx: &mut Cx<'_>) {
        let Proposal { from, sdp, text, version } = proposal;
        let end = self.end(!from);
        end.origin.version = version;
        end.sent = Some(text);
        self.hear(from, &sdp, cx);
    }

    /// Whether this answer of `from` means anything to the other side.
    pub fn can_cross(&self, from: Side, sdp: &Sdp) -> bool {
        self.look(!from).draft(|ours, origin| sdp.rewrite(ours, origin, &[])).is_some()
    }

    /// Where `from` listens now.
    pub fn hear(&mut self, from: Side, sdp: &Sdp, cx: &mut Cx<'_>) {
        let peer =
            sdp.rtp().map(|rtp| MediaPeer { rtp, rtcp: sdp.rtcp().unwrap_or(SocketAddr::new(rtp.ip(), rtp.port().wrapping_add(1))) });
        let changed = self.end(from).received.as_ref() != Some(sdp);
        self.end(from).received = Some(sdp.clone());
        if changed {
            cx.media(from, MediaOrder::Aim { peer });
        }
    }

    /// Our own answer to an offer of `side`, at the same port and with the codec in use. `None`: it has none that we can keep.
    pub fn answer(&mut self, side: Side, offer: &Sdp, cx: &mut Cx<'_>) -> Option<Bytes> {
        let used = self.codec(side);
        // Packets cross unchanged: another codec, or the same one under another number, the other leg would not understand.
        let is_kept = |c: &Codec| offer.codecs().iter().any(|o| o.payload_type == c.payload_type && o.name.eq_ignore_ascii_case(&c.name));
        if used.as_ref().is_some_and(|c| !is_kept(c)) {
            return None;
        }
        let prefer: Vec<u8> = used.map(|c| c.payload_type).into_iter().collect();
        let text = self.end(side).print(|ours, origin| answer_for(offer, ours, origin, &prefer))?;
        self.hear(side, offer, cx);
        Some(text)
    }

    /// The description last sent to `side`: what an offerless re-INVITE gets.
    pub fn sent(&self, side: Side) -> Option<Bytes> {
        self.look(side).sent.clone()
    }

    /// First codec of what was last agreed with `side`: of our words to it, which are a subset of the offer's.
    pub fn codec(&self, side: Side) -> Option<Codec> {
        let sent = Sdp::parse(self.look(side).sent.clone()?).ok()?;
        sent.codecs().into_iter().find(|c| !c.name.eq_ignore_ascii_case("telephone-event"))
    }

    /// Whether this side has described its session at all, be it on hold.
    pub fn has_heard(&self, side: Side) -> bool {
        self.look(side).received.is_some()
    }

    pub fn heard(&self, side: Side) -> Option<SocketAddr> {
        self.look(side).received.as_ref().and_then(Sdp::rtp)
    }

    pub fn watch(&mut self, idle: std::time::Duration, cx: &mut Cx<'_>) {
        cx.media(Side::Caller, MediaOrder::Watch { idle });
        cx.media(Side::Callee, MediaOrder::Watch { idle });
    }

    /// CXone's leg is held: silence in the negotiated codec. A codec without a plain silence pattern gets no packets.
    pub fn silence(&mut self, side: Side, cx: &mut Cx<'_>) {
        let Some(codec) = self.codec(side) else { return };
        let silence_byte = match codec.name.to_ascii_uppercase().as_str() {
            "PCMU" => 0xFF,
            "PCMA" => 0xD5,
            _ => return,
        };
        cx.media(side, MediaOrder::Silence { payload_type: codec.payload_type, silence_byte, samples: SILENCE_SAMPLES });
    }

    pub fn close(&mut self, cx: &mut Cx<'_>) {
        cx.media(Side::Caller, MediaOrder::Close);
        cx.media(Side::Callee, MediaOrder::Close);
    }

    /// The relay has let go of this side: the pair goes back to the ledger.
    pub fn closed(&mut self, side: Side, stats: MediaStats, cx: &mut Cx<'_>) {
        let end = self.end(side);
        end.stats = Some(stats);
        if let Some(pair) = end.pair.take() {
            cx.out.push(Out::GiveBack { pair });
        }
    }

    pub fn is_closed(&self) -> bool {
        self.caller.pair.is_none() && self.callee.pair.is_none()
    }

    pub fn stats(&self, side: Side) -> MediaStats {
        self.look(side).stats.unwrap_or_default()
    }
}
