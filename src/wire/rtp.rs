//! What the relay must know of an RTP or RTCP packet.
