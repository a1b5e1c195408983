//! Header names as small numbers: one table holds the long forms, the compact forms and the spelling that we print.

/// Number of letters that a header name can begin with in the table.
const LETTERS: usize = 26;
/// The longest name in the table, in bytes.
const NAME_BYTES_MAX: usize = 20;

macro_rules! names {
    ($($variant:ident $text:literal $($compact:literal)?;)*) => {
        /// Header names that the code asks for. Compact forms (RFC 3261 §7.3.3 and later) share the id of the long one.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Name {
            $($variant,)*
            Other,
        }

        /// Every spelling: all long ones, then the compact ones.
        const SPELLINGS: &[(Name, &[u8])] = &[
            $((Name::$variant, $text.as_bytes()),)*
            $($((Name::$variant, $compact.as_bytes()),)?)*
        ];

        impl Name {
            /// The long form as the RFCs write it; empty for `Other`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Name::$variant => $text,)*
                    Name::Other => "",
                }
            }
        }
    };
}

names! {
    Via "Via" "v";
    From "From" "f";
    To "To" "t";
    CallId "Call-ID" "i";
    CSeq "CSeq";
    Contact "Contact" "m";
    MaxForwards "Max-Forwards";
    ContentLength "Content-Length" "l";
    ContentType "Content-Type" "c";
    ContentEncoding "Content-Encoding" "e";
    ContentDisposition "Content-Disposition";
    Route "Route";
    RecordRoute "Record-Route";
    Require "Require";
    ProxyRequire "Proxy-Require";
    Supported "Supported" "k";
    Unsupported "Unsupported";
    Allow "Allow";
    Accept "Accept";
    AcceptEncoding "Accept-Encoding";
    AcceptLanguage "Accept-Language";
    UserAgent "User-Agent";
    Server "Server";
    Expires "Expires";
    Date "Date";
    Timestamp "Timestamp";
    MimeVersion "MIME-Version";
    Subject "Subject" "s";
    Organization "Organization";
    AlertInfo "Alert-Info";
    CallInfo "Call-Info";
    Warning "Warning";
    RetryAfter "Retry-After";
    Reason "Reason";
    ReferTo "Refer-To" "r";
    ReferredBy "Referred-By" "b";
    ReferSub "Refer-Sub";
    Replaces "Replaces";
    Event "Event" "o";
    AllowEvents "Allow-Events" "u";
    SubscriptionState "Subscription-State";
    SessionExpires "Session-Expires" "x";
    MinSe "Min-SE";
    RAck "RAck";
    RSeq "RSeq";
    PAssertedIdentity "P-Asserted-Identity";
    PPreferredIdentity "P-Preferred-Identity";
    RemotePartyId "Remote-Party-ID";
    Privacy "Privacy";
    Diversion "Diversion";
    HistoryInfo "History-Info";
    UserToUser "User-to-User";
    Identity "Identity" "y";
    SessionId "Session-ID";
    Authorization "Authorization";
    ProxyAuthorization "Proxy-Authorization";
    WwwAuthenticate "WWW-Authenticate";
    ProxyAuthenticate "Proxy-Authenticate";
    AuthenticationInfo "Authentication-Info";
}

/// Registered compact forms of names that have no id (RFC 3841, RFC 4474).
const OTHER_COMPACT: &[(&[u8], &[u8])] =
    &[(b"a", b"Accept-Contact"), (b"d", b"Request-Disposition"), (b"j", b"Reject-Contact"), (b"n", b"Identity-Info")];

/// By length and first letter: one more than the first spelling's place, 0 for none. `NEXT` chains the others.
static FIRST: [[u8; LETTERS]; NAME_BYTES_MAX + 1] = INDEX.0;
static NEXT: [u8; SPELLINGS.len()] = INDEX.1;

const INDEX: ([[u8; LETTERS]; NAME_BYTES_MAX + 1], [u8; SPELLINGS.len()]) = index();

const fn index() -> ([[u8; LETTERS]; NAME_BYTES_MAX + 1], [u8; SPELLINGS.len()]) {
    let mut first = [[0; LETTERS]; NAME_BYTES_MAX + 1];
    let mut next = [0; SPELLINGS.len()];
    let mut i = SPELLINGS.len();
    while i > 0 {
        i -= 1;
        let text = SPELLINGS[i].1;
        let slot = &mut first[text.len()][(text[0] | 0x20) as usize - b'a' as usize];
        next[i] = *slot;
        *slot = i as u8 + 1;
    }
    (first, next)
}

impl Name {
    /// The id of a name as it was spelled, in any case, long or compact.
    pub fn of(spelled: &[u8]) -> Name {
        let Some(row) = FIRST.get(spelled.len()) else { return Name::Other };
        let letter = spelled.first().map_or(0, |b| b | 0x20).wrapping_sub(b'a');
        let mut at = row.get(usize::from(letter)).copied().unwrap_or(0);
        while at != 0 {
            let place = usize::from(at) - 1;
            let (name, text) = SPELLINGS[place];
            // Most peers write the names as the RFCs do.
            if text == spelled || text.eq_ignore_ascii_case(spelled) {
                return name;
            }
            at = NEXT[place];
        }
        Name::Other
    }

    /// One bit for each id that the code asks for, none for `Other`.
    pub(super) fn bit(self) -> u64 {
        if self == Name::Other { 0 } else { 1 << self as u8 }
    }
}

/// Whether a line spelled `spelled` is a line of the extension header `name`: any case, compact or long.
pub(super) fn same_other(spelled: &[u8], name: &[u8]) -> bool {
    long_other(spelled).eq_ignore_ascii_case(long_other(name))
}

fn long_other(spelled: &[u8]) -> &[u8] {
    OTHER_COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(spelled)).map_or(spelled, |(_, long)| long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_finds_its_own_id_in_any_case() {
        assert!(SPELLINGS.len() < 255 && (Name::Other as u8) < 64);
        for &(name, text) in SPELLINGS {
            assert_eq!(Name::of(text), name);
            assert_eq!(Name::of(&text.to_ascii_uppercase()), name);
            assert_eq!(Name::of(&text.to_ascii_lowercase()), name);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_other() {
        for text in [&b""[..], b"h", b"z", b"\0", b"[all", b"Vie", b"X-EI", b"Content-Lengths", b"Call_ID", &[b'a'; 300]] {
            assert_eq!(Name::of(text), Name::Other, "{text:?}");
        }
    }

    #[test]
    fn compact_forms_without_an_id_are_the_long_ones() {
        assert!(same_other(b"J", b"reject-contact"));
        assert!(same_other(b"Accept-Contact", b"a"));
        assert!(!same_other(b"d", b"Reject-Contact"));
    }
}
