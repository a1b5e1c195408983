//! CSeq.

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
}
