//! User-to-User.

use std::borrow::Cow;

use crate::wire::header::Params;
use crate::wire::header::scan::unquote;
use crate::wire::header::value_and_params;

/// One value of a User-to-User header (RFC 7433 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserToUser<'a> {
    /// As it came, quotes included.
    pub data: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> UserToUser<'a> {
    pub fn parse(value: &'a [u8]) -> Option<UserToUser<'a>> {
        value_and_params(value).map(|(data, params)| UserToUser { data, params })
    }

    /// The bytes that were meant: hex when `encoding=hex` or, without an encoding, when the purpose is `isdn-uui` (RFC 7434 §4), else
    /// the text itself. `None` when it should be hex and is not.
    pub fn decoded(&self) -> Option<Cow<'a, [u8]>> {
        let is = |name: &str, value: &str| self.params.text(name).map(|v| v.eq_ignore_ascii_case(value.as_bytes()));
        let hex = is("encoding", "hex").unwrap_or_else(|| is("purpose", "isdn-uui").unwrap_or(false));
        let text = unquote(self.data);
        if hex { from_hex(&text).map(Cow::Owned) } else { Some(text) }
    }
}

/// Pairs of hexadecimal digits; `None` when a digit is missing or none.
pub fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [hi, lo] => u8::try_from(digit(hi)? << 4 | digit(lo)?).ok(),
        _ => None,
    };
    text.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &str) -> Option<Vec<u8>> {
        UserToUser::parse(value.as_bytes())?.decoded().map(Cow::into_owned)
    }

    #[test]
    fn hex_and_text() {
        assert_eq!(decoded("62696C6c696E67;encoding=hex"), Some(b"billing".to_vec()));
        assert_eq!(decoded("00ff ; purpose=isdn-uui"), Some(vec![0, 255]));
        assert_eq!(decoded("\"a;b\" ;encoding=\"text\""), Some(b"a;b".to_vec()));
        assert_eq!(decoded("queue=billing"), Some(b"queue=billing".to_vec()));
        assert_eq!(decoded("abc;encoding=hex"), None);
        assert_eq!(decoded("zz;encoding=HEX"), None);
        assert_eq!(decoded(""), None);
        assert_eq!(decoded("\"open;encoding=hex"), Some(b"\"open;encoding=hex".to_vec()));
    }
}
