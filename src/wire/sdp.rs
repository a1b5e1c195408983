//! SDP (RFC 8866), edited line by line: only what must change changes.

use std::net::IpAddr;
use std::net::SocketAddr;

use bytes::Bytes;
use compact_str::CompactString;

/// A session description that was looked through once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sdp {
    raw: Bytes,
}

/// Why a body is no session description that we can carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SdpError(pub &'static str);

/// Direction attribute of a stream (RFC 8866 §6.7); `c=0.0.0.0` counts as inactive (RFC 3264 §8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// A codec of the audio stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    pub payload_type: u8,
    /// Encoding name as spelled; static types get theirs from RFC 3551.
    pub name: CompactString,
    pub clock_rate: u32,
}

/// What we put in place of the peer's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OurMedia {
    /// Advertised media address: `o=`, `c=`.
    pub ip: IpAddr,
    pub rtp_port: u16,
    pub rtcp_port: u16,
}

/// Our `o=` line: one session id a leg, a version that rises with each change (RFC 3264 §8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub session_id: u64,
    pub version: u64,
}

#[allow(unused_variables, clippy::todo)]
impl Sdp {
    pub fn parse(body: Bytes) -> Result<Sdp, SdpError> {
        todo!()
    }
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
    /// RTP address of the first accepted audio stream: `None` when it has port 0, no address, or there is none.
    pub fn rtp(&self) -> Option<SocketAddr> {
        todo!()
    }
    /// `a=rtcp` (RFC 3605), the RTP port with rtcp-mux (RFC 5761), else RTP port + 1.
    pub fn rtcp(&self) -> Option<SocketAddr> {
        todo!()
    }
    pub fn direction(&self) -> Direction {
        todo!()
    }
    /// Codecs of the first audio stream, in order.
    pub fn codecs(&self) -> Vec<Codec> {
        todo!()
    }
    /// The same description with our addresses: `o= c= m= a=rtcp` of the audio stream rewritten, every other stream refused with port 0
    /// (RFC 3264 §6), ICE candidates and other address-bearing lines removed, codecs filtered and ordered to `codecs` (encoding
    /// names in lower case; empty: all, as they are). `None` when no codec is left (488).
    pub fn rewrite(&self, ours: OurMedia, origin: Origin, codecs: &[CompactString]) -> Option<Bytes> {
        todo!()
    }
}
