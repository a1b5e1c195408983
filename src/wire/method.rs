//! SIP methods. They are case-sensitive (RFC 3261 §7.1), and an unknown one is still a method.

use std::fmt;

use compact_str::CompactString;

/// A method: one of rsip's fourteen, or any other token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    Known(rsip::Method),
    Ext(CompactString),
}

macro_rules! consts {
    ($($name:ident = $variant:ident, $text:literal;)*) => {
        impl Method {
            $(pub const $name: Method = Method::Known(rsip::Method::$variant);)*

            /// `None` when the text is not a token (RFC 3261 §25.1).
            pub fn parse(text: &[u8]) -> Option<Method> {
                match text {
                    $($text => Some(Method::$name),)*
                    _ if is_token(text) => Some(Method::Ext(CompactString::from_utf8(text).ok()?)),
                    _ => None,
                }
            }

            pub fn as_bytes(&self) -> &[u8] {
                match self {
                    $(Method::Known(rsip::Method::$variant) => $text,)*
                    Method::Ext(text) => text.as_bytes(),
                }
            }
        }
    };
}

consts! {
    ACK = Ack, b"ACK";
    BYE = Bye, b"BYE";
    CANCEL = Cancel, b"CANCEL";
    INFO = Info, b"INFO";
    INVITE = Invite, b"INVITE";
    MESSAGE = Message, b"MESSAGE";
    NOTIFY = Notify, b"NOTIFY";
    OPTIONS = Options, b"OPTIONS";
    PRACK = PRack, b"PRACK";
    PUBLISH = Publish, b"PUBLISH";
    REFER = Refer, b"REFER";
    REGISTER = Register, b"REGISTER";
    SUBSCRIBE = Subscribe, b"SUBSCRIBE";
    UPDATE = Update, b"UPDATE";
}

impl Method {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `token` of RFC 3261 §25.1: at least one character.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_byte(b))
}

/// A character of a token.
pub fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = token_table();

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_tokens() {
        assert_eq!(Method::parse(b"INVITE"), Some(Method::INVITE));
        assert_eq!(Method::parse(b"invite"), Some(Method::Ext("invite".into())));
        assert_eq!(
            Method::parse(b"!interesting-Method0123456789_*+`.%indeed'~").map(|m| m.to_string()).as_deref(),
            Some("!interesting-Method0123456789_*+`.%indeed'~")
        );
        assert_eq!(Method::parse(b"IN VITE"), None);
        assert_eq!(Method::parse(b""), None);
        assert_eq!((0..=255).filter(|&b| is_token_byte(b)).count(), 62 + 10);
    }
}
