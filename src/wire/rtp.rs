//! What the relay must know of an RTP or RTCP packet. Every packet is looked at, so this is a handful of comparisons and no more;
//! silence of our own is written with `rtp-rs`, which is also what the checks are compared with in the tests.

use rtp_rs::RtpPacketBuilder;
use rtp_rs::Seq;

/// A longer datagram is no voice packet: 60 ms of L16 stereo at 8 kHz are 1,932 bytes.
pub const RTP_BYTES_MAX: usize = 2048;

/// Fixed header (RFC 3550 §5.1).
pub const RTP_HEADER_BYTES: usize = 12;

/// The longest silence packet that we write: 60 ms at 8 kHz, one byte a sample.
pub const SILENCE_SAMPLES_MAX: u16 = 480;

/// A silence packet with its header.
pub const SILENCE_BYTES_MAX: usize = RTP_HEADER_BYTES + SILENCE_SAMPLES_MAX as usize;

/// Shortest RTCP packet: common header and one SSRC (RFC 3550 §6.4); an empty BYE has the header alone.
const RTCP_HEADER_BYTES: usize = 4;

/// Fields of the fixed RTP header (RFC 3550 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpHead {
    pub marker: bool,
    /// 0 … 127; without 64 … 95, which are RTCP's (RFC 5761 §4).
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet {
    Rtp(RtpHead),
    /// The packet type of the first packet of the compound.
    Rtcp {
        packet_type: u8,
    },
}

/// Why a datagram is neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotMedia {
    /// Shorter than a header.
    Short,
    /// Over `RTP_BYTES_MAX`.
    Long,
    /// Not version 2: STUN, DTLS, ZRTP (RFC 7983 §7), or noise.
    Version,
    /// CSRC list or header extension (RFC 3550 §5.3.1) longer than the packet.
    Header,
    /// Padding of zero, or longer than the payload (RFC 3550 §5.1).
    Padding,
    /// An RTCP length field that points past the packet (RFC 3550 §6.4.1).
    RtcpLength,
}

impl Packet {
    /// Tells RTP from RTCP by the second byte (RFC 5761 §4: 192 … 223 is RTCP) and checks that the packet holds what its header
    /// says. The version is tested first, because STUN and DTLS arrive on the same port.
    pub fn parse(packet: &[u8]) -> Result<Packet, NotMedia> {
        if packet.len() > RTP_BYTES_MAX {
            return Err(NotMedia::Long);
        }
        let [first, second, ..] = *packet else {
            return Err(NotMedia::Short);
        };
        if first >> 6 != 2 {
            return Err(NotMedia::Version);
        }
        if matches!(second, 192..=223) { rtcp(packet, second) } else { rtp(packet, first, second) }
    }
}

fn rtp(packet: &[u8], first: u8, second: u8) -> Result<Packet, NotMedia> {
    let Some(([_, _, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3], rest)) = packet.split_first_chunk::<RTP_HEADER_BYTES>() else {
        return Err(NotMedia::Short);
    };
    let mut rest = rest.get(4 * usize::from(first & 0x0f)..).ok_or(NotMedia::Header)?;
    if first & 0x10 != 0 {
        let Some(([_, _, high, low], after)) = rest.split_first_chunk::<4>() else {
            return Err(NotMedia::Header);
        };
        rest = after.get(4 * usize::from(u16::from_be_bytes([*high, *low]))..).ok_or(NotMedia::Header)?;
    }
    if first & 0x20 != 0 {
        match rest.last() {
            Some(padding) if *padding > 0 && usize::from(*padding) <= rest.len() => {}
            _ => return Err(NotMedia::Padding),
        }
    }
    Ok(Packet::Rtp(RtpHead {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7f,
        sequence: u16::from_be_bytes([*s0, *s1]),
        timestamp: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
        ssrc: u32::from_be_bytes([*r0, *r1, *r2, *r3]),
    }))
}

/// Only the first packet's length is checked: extensions behind it are between the peers.
fn rtcp(packet: &[u8], packet_type: u8) -> Result<Packet, NotMedia> {
    let Some([_, _, high, low]) = packet.first_chunk::<RTCP_HEADER_BYTES>() else {
        return Err(NotMedia::Short);
    };
    let words = usize::from(u16::from_be_bytes([*high, *low]));
    if 4 * (words + 1) > packet.len() {
        return Err(NotMedia::RtcpLength);
    }
    Ok(Packet::Rtcp { packet_type })
}

/// Writes a packet of `samples` times the same byte (at most `SILENCE_SAMPLES_MAX`) and returns its length.
pub fn print_silence(head: RtpHead, silence_byte: u8, samples: u16, out: &mut [u8; SILENCE_BYTES_MAX]) -> usize {
    let payload = [silence_byte; SILENCE_SAMPLES_MAX as usize];
    let samples = usize::from(samples.min(SILENCE_SAMPLES_MAX));
    RtpPacketBuilder::new()
        .marked(head.marker)
        .payload_type(head.payload_type & 0x7f)
        .sequence(Seq::from(head.sequence))
        .timestamp(head.timestamp)
        .ssrc(head.ssrc)
        .payload(&payload[..samples])
        .build_into(out)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtp_rs::RtpReader;

    use super::*;

    fn plain() -> Vec<u8> {
        let mut packet = vec![0x80, 0x80, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef];
        packet.extend([0xff; 160]);
        packet
    }

    #[test]
    fn a_g711_packet_is_read() {
        assert_eq!(
            Packet::parse(&plain()),
            Ok(Packet::Rtp(RtpHead { marker: true, payload_type: 0, sequence: 0x1234, timestamp: 160, ssrc: 0xdead_beef }))
        );
    }

    /// RFC 5761 §4: "RTP payload types in the range 64-95 MUST NOT be used" because they collide with RTCP's 192 to 223.
    #[test]
    fn rtp_and_rtcp_are_told_apart_by_the_second_byte() {
        for (second, is_rtcp) in [(191, false), (192, true), (200, true), (201, true), (207, true), (223, true), (224, false), (72, false)]
        {
            let packet = [0x80, second, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
            assert_eq!(matches!(Packet::parse(&packet), Ok(Packet::Rtcp { .. })), is_rtcp, "{second}");
        }
    }

    /// RFC 7983 §7: first byte 0..3 STUN, 16..19 ZRTP, 20..63 DTLS, 64..79 TURN channel, 128..191 RTP.
    #[test]
    fn what_shares_the_port_is_not_media() {
        for first in [0u8, 1, 16, 20, 63, 64, 79, 192, 255] {
            let mut packet = plain();
            packet[0] = first;
            assert_eq!(Packet::parse(&packet), Err(NotMedia::Version), "{first}");
        }
        assert_eq!(Packet::parse(b""), Err(NotMedia::Short));
        assert_eq!(Packet::parse(b"\x80"), Err(NotMedia::Short));
        assert_eq!(Packet::parse(&plain()[..11]), Err(NotMedia::Short));
        assert!(Packet::parse(&plain()[..12]).is_ok(), "a packet without payload is valid");
    }

    #[test]
    fn one_byte_past_the_longest_packet_is_refused() {
        let mut packet = plain();
        packet.resize(RTP_BYTES_MAX, 0);
        assert!(Packet::parse(&packet).is_ok());
        packet.push(0);
        assert_eq!(Packet::parse(&packet), Err(NotMedia::Long));
    }

    #[test]
    fn csrc_extension_and_padding_must_fit() {
        let mut packet = plain()[..16].to_vec();
        packet[0] = 0x81;
        assert!(Packet::parse(&packet).is_ok());
        packet[0] = 0x82;
        assert_eq!(Packet::parse(&packet), Err(NotMedia::Header));
        packet[0] = 0x90;
        packet[14..16].copy_from_slice(&[0, 0]);
        assert!(Packet::parse(&packet).is_ok(), "an empty extension");
        packet[15] = 1;
        assert_eq!(Packet::parse(&packet), Err(NotMedia::Header));
        packet[0] = 0xa0;
        packet[15] = 4;
        assert!(Packet::parse(&packet).is_ok());
        packet[15] = 5;
        assert_eq!(Packet::parse(&packet), Err(NotMedia::Padding));
        packet[15] = 0;
        assert_eq!(Packet::parse(&packet), Err(NotMedia::Padding));
    }

    /// RFC 3550 §6.4.1: "The length of this RTCP packet in 32-bit words minus one".
    #[test]
    fn rtcp_must_hold_what_its_length_says() {
        let mut packet = vec![0x81, 201, 0, 7];
        packet.resize(32, 0);
        assert_eq!(Packet::parse(&packet), Ok(Packet::Rtcp { packet_type: 201 }));
        assert_eq!(Packet::parse(&packet[..31]), Err(NotMedia::RtcpLength));
        assert_eq!(Packet::parse(&[0x80, 203, 0, 0]), Ok(Packet::Rtcp { packet_type: 203 }));
        assert_eq!(Packet::parse(&[0x80, 203, 0]), Err(NotMedia::Short));
    }

    #[test]
    fn silence_reads_back_and_never_overruns() {
        let head = RtpHead { marker: true, payload_type: 8, sequence: 65_535, timestamp: u32::MAX, ssrc: 7 };
        let mut out = [0; SILENCE_BYTES_MAX];
        let n = print_silence(head, 0xd5, 160, &mut out);
        assert_eq!(n, 172);
        assert_eq!(Packet::parse(&out[..n]), Ok(Packet::Rtp(head)));
        assert!(out[12..n].iter().all(|b| *b == 0xd5));
        assert_eq!(print_silence(head, 0xd5, SILENCE_SAMPLES_MAX + 1, &mut out), SILENCE_BYTES_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn agrees_with_rtp_rs(mut packet in proptest::collection::vec(any::<u8>(), 0..90), first in 0x80u8..0xc0, ext in 0u8..4, pad in 0u8..40) {
            if let Some(b) = packet.first_mut() {
                *b = first;
            }
            let at = 15 + 4 * usize::from(first & 0x0f);
            if first & 0x10 != 0 && packet.len() > at {
                packet[at - 1] = 0;
                packet[at] = ext;
            }
            if let Some(b) = packet.last_mut().filter(|_| first & 0x20 != 0) {
                *b = pad;
            }
            prop_assume!(packet.len() < 2 || !(192..=223).contains(&packet[1]));
            match (Packet::parse(&packet), RtpReader::new(&packet)) {
                (Ok(Packet::Rtp(head)), Ok(reader)) => {
                    prop_assert_eq!(head.marker, reader.mark());
                    prop_assert_eq!(head.payload_type, reader.payload_type());
                    prop_assert_eq!(head.sequence, u16::from(reader.sequence_number()));
                    prop_assert_eq!(head.timestamp, reader.timestamp());
                    prop_assert_eq!(head.ssrc, reader.ssrc());
                }
                (Err(_), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "{ours:?} against {:?}", theirs.map(|_| ())),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Packet::parse(&packet);
        }
    }
}
