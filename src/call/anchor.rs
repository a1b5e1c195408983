//! Our media addresses, and the pure packet relay behind them.

pub mod relay;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

/// An RTP port and the RTCP port above it, bound by the edge, lent out by the core's ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortPair {
    /// The bound address (may be a wildcard); what SDP shows is the advertised one.
    pub ip: IpAddr,
    /// Even.
    pub rtp: u16,
    /// `rtp + 1`.
    pub rtcp: u16,
}

/// `media.latch` of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Latch {
    #[default]
    Strict,
    Sdp,
    Learn,
}

/// Where the peer wants its media, as its SDP says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaPeer {
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
}

/// What the control plane tells the relay about one side of one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaOrder {
    /// Take this bound pair into service. `forward_to` the other side of the same call.
    Open { pair: PortPair, latch: Latch },
    /// A new SDP of this side's peer: the next packet to it goes there; the latch is open again.
    Aim { peer: Option<MediaPeer> },
    /// The call is answered: the idle clock starts (`idle` zero: off). Packets queued before are flushed, not replayed.
    Watch { idle: Duration },
    /// No idle clock, no relay into this side: we send silence of this payload type ourselves (CXone's leg, held).
    Silence { payload_type: u8, silence_byte: u8, samples: u16 },
    /// Out of service; the pair stays bound. Answered by `Closed`.
    Close,
}

/// What the relay tells the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaEvent {
    /// The source this side's packets are taken from. `said` is the SDP's address.
    Latched {
        said: Option<SocketAddr>,
        wire: SocketAddr,
    },
    /// No packet from either side for the time of `Watch`.
    Idle,
    Failed {
        why: String,
    },
    Closed(MediaStats),
}

/// One side's counters, from the relay's point of view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MediaStats {
    /// RTP packets received from this side's peer and relayed.
    pub rx: u64,
    pub rx_bytes: u64,
    /// RTP packets sent to this side's peer.
    pub tx: u64,
    pub rtcp_rx: u64,
    /// Dropped: not RTP, from a stranger, or nowhere to go.
    pub dropped: u64,
}
