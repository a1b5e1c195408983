//! CSeq and RAck.

use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::number;
use crate::wire::header::scan::trim;
use crate::wire::method::is_token;

/// RFC 3261 §8.1.1.5: "less than 2**31".
const CSEQ_NUMBER_MAX: u64 = (1 << 31) - 1;

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    pub fn parse(value: &'a [u8]) -> Option<CSeq<'a>> {
        let value = trim(value);
        let (digits, method) = value.split_at(value.iter().position(|&b| is_blank(b))?);
        let number = u32::try_from(number(digits, CSEQ_NUMBER_MAX)?).ok()?;
        let method = trim(method);
        is_token(method).then_some(CSeq { number, method })
    }
}

/// RAck (RFC 3262 §7.2): which provisional response of which request a PRACK answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RAck<'a> {
    pub rseq: u32,
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    pub fn parse(value: &'a [u8]) -> Option<RAck<'a>> {
        let value = trim(value);
        let (digits, rest) = value.split_at(value.iter().position(|&b| is_blank(b))?);
        let rseq = u32::try_from(number(digits, u64::from(u32::MAX))?).ok()?;
        Some(RAck { rseq, cseq: CSeq::parse(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_below_two_to_the_31_and_a_method() {
        assert_eq!(CSeq::parse(b" 0009 \t INVITE "), Some(CSeq { number: 9, method: b"INVITE" }));
        assert_eq!(CSeq::parse(b"2147483647 FOO.bar"), Some(CSeq { number: 2_147_483_647, method: b"FOO.bar" }));
        for bad in ["", "1", "INVITE", "2147483648 INVITE", "36893488147419103232 ACK", "-1 ACK", "1INVITE", "1 IN VITE", "1 a@b", "1 "] {
            assert_eq!(CSeq::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rack_names_response_and_request() {
        let rack = RAck { rseq: 776_656, cseq: CSeq { number: 1, method: b"INVITE" } };
        assert_eq!(RAck::parse(b" 776656\t1  INVITE"), Some(rack));
        for bad in ["", "1", "1 INVITE", "4294967296 1 INVITE", "x 1 INVITE"] {
            assert_eq!(RAck::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
