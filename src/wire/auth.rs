//! Digest: challenges, credentials and the number that proves a password (RFC 3261 §22, RFC 7616, RFC 8760).

use std::borrow::Cow;
use std::fmt::Write;

use md5::Digest;
use md5::Md5;
use sha2::Sha256;
use sha2::Sha512_256;

use crate::wire::header::elements;
use crate::wire::header::scan::find_bare;
use crate::wire::header::scan::quoted_len;
use crate::wire::header::scan::trim;
use crate::wire::header::scan::unquote;
use crate::wire::message::Message;
use crate::wire::message::Name;

/// Challenges of one message that are looked at.
pub const CHALLENGES_MAX: usize = 8;

/// The hash, in the order in which we choose: RFC 8760 §2.4 leaves it to the client. SHA-512/256 stands behind SHA-256, for it is often
/// built as a SHA-512 that is cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hash {
    Md5,
    Sha512T256,
    Sha256,
}

/// `algorithm` (RFC 7616 §3.3, RFC 8760 §2.2): a hash, and whether A1 is that of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Algorithm {
    pub hash: Hash,
    pub session: bool,
}

impl Algorithm {
    pub const MD5: Algorithm = Algorithm { hash: Hash::Md5, session: false };
    pub const SHA_256: Algorithm = Algorithm { hash: Hash::Sha256, session: false };

    const ALL: [(&'static str, Algorithm); 6] = [
        ("MD5", Algorithm::MD5),
        ("MD5-sess", Algorithm { hash: Hash::Md5, session: true }),
        ("SHA-256", Algorithm::SHA_256),
        ("SHA-256-sess", Algorithm { hash: Hash::Sha256, session: true }),
        ("SHA-512-256", Algorithm { hash: Hash::Sha512T256, session: false }),
        ("SHA-512-256-sess", Algorithm { hash: Hash::Sha512T256, session: true }),
    ];

    /// In any case; `None` for one that we do not compute (AKAv1-MD5 …).
    pub fn parse(text: &[u8]) -> Option<Algorithm> {
        Algorithm::ALL.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text)).map(|(_, a)| *a)
    }

    /// As the RFCs spell it.
    pub fn as_str(self) -> &'static str {
        Algorithm::ALL.iter().find(|(_, a)| *a == self).map_or("MD5", |(name, _)| name)
    }

    fn hex(self, parts: &[&[u8]]) -> String {
        match self.hash {
            Hash::Md5 => hex_of::<Md5>(parts),
            Hash::Sha256 => hex_of::<Sha256>(parts),
            Hash::Sha512T256 => hex_of::<Sha512_256>(parts),
        }
    }
}

/// Lower case hex digits of the hash over the parts with a colon between any two.
fn hex_of<D: Digest>(parts: &[&[u8]]) -> String {
    let mut hash = D::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// HMAC-SHA-256 (RFC 2104), in hex: for what we must know again without having kept it.
pub fn keyed(key: &[u8; 32], message: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    hex(&Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// Equal, in a time that does not tell how far.
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// What is protected (RFC 7616 §3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qop {
    /// No `qop` at all (RFC 2069).
    None,
    Auth,
    AuthInt,
}

/// Comma-separated `name=value` after the scheme: the parameters of a challenge or of credentials.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The first one of that name; a quoted string with its quotes.
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        elements(self.0).find_map(|field| {
            let at = find_bare(field, |b| b == b'=')?;
            trim(&field[..at]).eq_ignore_ascii_case(name.as_bytes()).then(|| trim(&field[at + 1..]))
        })
    }

    fn text(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let value = self.get(name)?;
        // A quote that never closes: what it would say cannot be known.
        (value.first() != Some(&b'"') || quoted_len(value) == Some(value.len())).then(|| unquote(value))
    }
}

/// One Digest challenge that we can answer (RFC 3261 §20.44, §20.27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    pub realm: Cow<'a, [u8]>,
    pub nonce: Cow<'a, [u8]>,
    /// As it came, with its quotes: it goes back unchanged.
    pub opaque: Option<&'a [u8]>,
    pub stale: bool,
    pub algorithm: Algorithm,
    pub qop: Qop,
}

impl<'a> Challenge<'a> {
    /// `fields`: what stands behind `Digest`. `None`: without realm or nonce, or with nothing that we can compute. `domain` has no
    /// meaning in SIP (RFC 3261 §22.4).
    fn read(fields: Fields<'a>) -> Option<Challenge<'a>> {
        let algorithm = match fields.text("algorithm") {
            // RFC 7616 §3.3: "If this is not present, it is assumed to be "MD5"."
            None => Algorithm::MD5,
            Some(name) => Algorithm::parse(&name)?,
        };
        let qop = match fields.text("qop") {
            None => Qop::None,
            Some(offered) => {
                let has = |word: &[u8]| elements(&offered).any(|q| q.eq_ignore_ascii_case(word));
                // RFC 7616 §3.3: unrecognized options are ignored; with none left there is nothing to answer.
                if has(b"auth") {
                    Qop::Auth
                } else if has(b"auth-int") {
                    Qop::AuthInt
                } else {
                    return None;
                }
            }
        };
        Some(Challenge {
            realm: fields.text("realm")?,
            nonce: fields.text("nonce")?,
            opaque: fields.get("opaque").filter(|o| o.first() != Some(&b'"') || quoted_len(o) == Some(o.len())),
            stale: fields.text("stale").is_some_and(|s| s.eq_ignore_ascii_case(b"true")),
            algorithm,
            qop,
        })
    }
}

/// The challenges of a 401 (`WwwAuthenticate`) or 407 (`ProxyAuthenticate`) that can be answered, in order. RFC 7235 §4.1 allows
/// several in one line, SIP has one a line; both are read.
pub fn challenges(message: &Message, name: Name) -> Vec<Challenge<'_>> {
    message.lines_of(name).flat_map(|line| schemes(line.value)).take(CHALLENGES_MAX).filter_map(Challenge::read).collect()
}

/// What follows each `Digest` of a list of challenges, up to the next scheme.
fn schemes(value: &[u8]) -> Vec<Fields<'_>> {
    let mut starts: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    while at < value.len() && starts.len() <= CHALLENGES_MAX {
        let end = find_bare(&value[at..], |b| b == b',').map_or(value.len(), |n| at + n);
        if let Some((word, rest)) = scheme(&value[at..end]) {
            starts.push((at, at + rest, word.eq_ignore_ascii_case(b"Digest")));
        }
        at = end + 1;
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|s| s.0).chain([value.len()]).collect();
    starts.iter().zip(ends).filter(|(s, _)| s.2).filter_map(|(s, end)| value.get(s.1..end).map(Fields)).collect()
}

/// `Digest realm=…` begins a challenge, `nonce = …` goes on with one: a word, a blank, and no `=` in between.
fn scheme(element: &[u8]) -> Option<(&[u8], usize)> {
    let lead = element.iter().position(|b| !b.is_ascii_whitespace())?;
    let length = element[lead..].iter().position(|b| matches!(b, b' ' | b'\t' | b'=' | b'"')).unwrap_or(element.len() - lead);
    let after = lead + length;
    let rest = trim(element.get(after..).unwrap_or_default());
    let is_field = rest.first() == Some(&b'=') || element.get(after) == Some(&b'"');
    (!is_field).then(|| (&element[lead..after], after))
}

/// `Digest` credentials of an Authorization or Proxy-Authorization line (RFC 3261 §20.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub username: Cow<'a, [u8]>,
    pub realm: Cow<'a, [u8]>,
    pub nonce: Cow<'a, [u8]>,
    pub uri: Cow<'a, [u8]>,
    pub response: Cow<'a, [u8]>,
    pub algorithm: Algorithm,
    pub qop: Qop,
    pub cnonce: Cow<'a, [u8]>,
    /// As it was written: eight hex digits, which are hashed as such.
    pub nc: Cow<'a, [u8]>,
}

impl<'a> Credentials<'a> {
    /// `None`: another scheme, or not whole.
    pub fn parse(value: &'a [u8]) -> Option<Credentials<'a>> {
        let fields = schemes(value).into_iter().next()?;
        let qop = match fields.text("qop") {
            None => Qop::None,
            // Quoted by many, a token by the RFC.
            Some(q) if q.eq_ignore_ascii_case(b"auth") => Qop::Auth,
            Some(q) if q.eq_ignore_ascii_case(b"auth-int") => Qop::AuthInt,
            Some(_) => return None,
        };
        let (cnonce, nc) = match qop {
            Qop::None => (fields.text("cnonce").unwrap_or_default(), Cow::Borrowed(&b""[..])),
            // RFC 7616 §3.4: both MUST be there with a qop.
            Qop::Auth | Qop::AuthInt => (fields.text("cnonce")?, fields.text("nc")?),
        };
        Some(Credentials {
            username: fields.text("username")?,
            realm: fields.text("realm")?,
            nonce: fields.text("nonce")?,
            uri: fields.text("uri")?,
            response: fields.text("response")?,
            algorithm: fields.text("algorithm").map_or(Some(Algorithm::MD5), |name| Algorithm::parse(&name))?,
            qop,
            cnonce,
            nc,
        })
    }

    /// `nc` as a number: RFC 7616 §3.4, eight hex digits.
    pub fn count(&self) -> Option<u32> {
        let text = std::str::from_utf8(&self.nc).ok().filter(|t| t.len() == 8 && t.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(text, 16).ok()
    }

    /// Whether these prove that password for this request.
    pub fn proves(&self, password: &[u8], method: &[u8], body: &[u8]) -> bool {
        let proof = Proof {
            algorithm: self.algorithm,
            username: &self.username,
            realm: &self.realm,
            password,
            nonce: &self.nonce,
            qop: self.qop,
            cnonce: &self.cnonce,
            nc: &self.nc,
            method,
            uri: &self.uri,
            body,
        };
        is_same(proof.response().as_bytes(), self.response.to_ascii_lowercase().as_slice())
    }
}

/// All that goes into a response (RFC 7616 §3.4.1).
struct Proof<'a> {
    algorithm: Algorithm,
    username: &'a [u8],
    realm: &'a [u8],
    password: &'a [u8],
    nonce: &'a [u8],
    qop: Qop,
    cnonce: &'a [u8],
    nc: &'a [u8],
    method: &'a [u8],
    uri: &'a [u8],
    body: &'a [u8],
}

impl Proof<'_> {
    fn response(&self) -> String {
        let a = self.algorithm;
        // §3.4.2: A1 = unq(username) ":" unq(realm) ":" passwd; of a session: H(that) ":" nonce ":" cnonce.
        let mut ha1 = a.hex(&[self.username, self.realm, self.password]);
        if a.session {
            ha1 = a.hex(&[ha1.as_bytes(), self.nonce, self.cnonce]);
        }
        // §3.4.3: A2 = Method ":" request-uri; with auth-int also ":" H(entity-body).
        let ha2 = match self.qop {
            Qop::None | Qop::Auth => a.hex(&[self.method, self.uri]),
            Qop::AuthInt => a.hex(&[self.method, self.uri, a.hex(&[self.body]).as_bytes()]),
        };
        let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
        match self.qop {
            Qop::None => a.hex(&[ha1, self.nonce, ha2]),
            Qop::Auth => a.hex(&[ha1, self.nonce, self.nc, self.cnonce, b"auth", ha2]),
            Qop::AuthInt => a.hex(&[ha1, self.nonce, self.nc, self.cnonce, b"auth-int", ha2]),
        }
    }
}

/// A challenge that is kept, to answer it for one request after the other: `nc` counts them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub realm: Box<[u8]>,
    pub nonce: Box<[u8]>,
    opaque: Option<Box<[u8]>>,
    algorithm: Algorithm,
    qop: Qop,
    nc: u32,
}

/// Who we are, and what is asked for.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub method: &'a [u8],
    /// The Request-URI, as it leaves.
    pub uri: &'a [u8],
    pub body: &'a [u8],
    pub cnonce: &'a str,
}

impl Session {
    pub fn new(challenge: &Challenge<'_>) -> Session {
        Session {
            realm: challenge.realm.as_ref().into(),
            nonce: challenge.nonce.as_ref().into(),
            opaque: challenge.opaque.map(Into::into),
            algorithm: challenge.algorithm,
            qop: challenge.qop,
            nc: 0,
        }
    }

    /// The value of the Authorization line for the next request. `None`: the nonce was used as often as it can be.
    pub fn authorize(&mut self, asking: &Asking<'_>) -> Option<Vec<u8>> {
        self.nc = self.nc.checked_add(1)?;
        let nc = format!("{:08x}", self.nc);
        let proof = Proof {
            algorithm: self.algorithm,
            username: asking.username.as_bytes(),
            realm: &self.realm,
            password: asking.password.as_bytes(),
            nonce: &self.nonce,
            qop: self.qop,
            cnonce: asking.cnonce.as_bytes(),
            nc: nc.as_bytes(),
            method: asking.method,
            uri: asking.uri,
            body: asking.body,
        };
        let mut line = b"Digest ".to_vec();
        put_quoted(&mut line, "username", asking.username.as_bytes());
        for (name, value) in [(", realm", &self.realm[..]), (", nonce", &self.nonce), (", uri", asking.uri)] {
            put_quoted(&mut line, name, value);
        }
        put_quoted(&mut line, ", response", proof.response().as_bytes());
        line.extend_from_slice(format!(", algorithm={}", self.algorithm.as_str()).as_bytes());
        // RFC 3261 §22.4 item 8, RFC 7616 §3.4: qop and nc are tokens here, and go only to who has offered a qop.
        let qop = match self.qop {
            Qop::None => None,
            Qop::Auth => Some("auth"),
            Qop::AuthInt => Some("auth-int"),
        };
        if qop.is_some() || self.algorithm.session {
            put_quoted(&mut line, ", cnonce", asking.cnonce.as_bytes());
        }
        if let Some(qop) = qop {
            line.extend_from_slice(format!(", qop={qop}, nc={nc}").as_bytes());
        }
        if let Some(opaque) = &self.opaque {
            line.extend_from_slice(b", opaque=");
            line.extend_from_slice(opaque);
        }
        Some(line)
    }
}

fn put_quoted(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"=\"");
    for b in value {
        if matches!(b, b'"' | b'\\') {
            line.push(b'\\');
        }
        line.push(*b);
    }
    line.push(b'"');
}

/// The value of a WWW-Authenticate line of ours.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}", algorithm.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(lines: &str) -> Message {
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    /// The sample of draft-smith-sipping-auth-examples: bob at biloxi.com, password zanzibar.
    fn smith(algorithm: &str, qop: &str, body: &[u8]) -> String {
        let qop = if qop.is_empty() { String::new() } else { format!(", qop=\"{qop}\"") };
        let algorithm = if algorithm.is_empty() { String::new() } else { format!(", algorithm={algorithm}") };
        let line = format!(
            "WWW-Authenticate: Digest realm=\"biloxi.com\"{qop}{algorithm}, nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"\r\n"
        );
        let message = answer(&line);
        let found = challenges(&message, Name::WwwAuthenticate);
        let asking =
            Asking { username: "bob", password: "zanzibar", method: b"INVITE", uri: b"sip:bob@biloxi.com", body, cnonce: "0a4f113b" };
        String::from_utf8(Session::new(&found[0]).authorize(&asking).unwrap()).unwrap()
    }

    fn response(line: &str) -> &str {
        line.split("response=\"").nth(1).unwrap().split('"').next().unwrap()
    }

    #[test]
    fn the_values_of_the_sip_authentication_examples() {
        // D1
        assert_eq!(response(&smith("", "", b"")), "bf57e4e0d0bffc0fbaedce64d59add5e");
        assert_eq!(response(&smith("MD5", "auth", b"")), "89eb0059246c02b2f6ee02c7961d5ea3");
        // D2
        assert_eq!(response(&smith("MD5-sess", "auth", b"")), "e4e4ea61d186d07a92c9e1f6919902e9");
        // D3: the hash is over the body that leaves.
        let sdp = b"v=0\r\n";
        assert_ne!(response(&smith("MD5", "auth-int", sdp)), response(&smith("MD5", "auth-int", b"")));
        let body = hex_of::<Md5>(&[sdp]);
        let ha2 = hex_of::<Md5>(&[b"INVITE", b"sip:bob@biloxi.com", body.as_bytes()]);
        let ha1 = hex_of::<Md5>(&[b"bob", b"biloxi.com", b"zanzibar"]);
        let nonce = b"dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let expected = hex_of::<Md5>(&[ha1.as_bytes(), nonce, b"00000001", b"0a4f113b", b"auth-int", ha2.as_bytes()]);
        assert_eq!(response(&smith("MD5", "auth-int", sdp)), expected);
    }

    #[test]
    fn the_values_of_rfc_7616() {
        let proof = |algorithm| Proof {
            algorithm,
            username: b"Mufasa",
            realm: b"http-auth@example.org",
            password: b"Circle of Life",
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            qop: Qop::Auth,
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nc: b"00000001",
            method: b"GET",
            uri: b"/dir/index.html",
            body: b"",
        };
        // §3.9.1
        assert_eq!(proof(Algorithm::MD5).response(), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(proof(Algorithm::SHA_256).response(), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
        // §3.9.2, which names the user by its hash: the algorithm's own value.
        let user = hex_of::<Sha512_256>(&["J\u{e4}s\u{f8}n Doe".as_bytes(), b"api@example.org"]);
        assert_eq!(user, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
    }

    #[test]
    fn rfc_2104_with_the_second_case_of_rfc_4231() {
        // RFC 4231 §4.3, key "Jefe": zeros behind a key are what RFC 2104 §2 pads it with.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(keyed(&key, b"what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn nc_is_eight_hex_digits_and_rises_with_each_use_of_a_nonce() {
        // D4. RFC 7616 §3.4: "The nc value is the hexadecimal count of the number of requests (including the current request) that the
        // client has sent with the nonce value in this request."
        let message = answer("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n");
        let mut session = Session::new(&challenges(&message, Name::WwwAuthenticate)[0]);
        let asking = Asking { username: "u", password: "p", method: b"BYE", uri: b"sip:x", body: b"", cnonce: "c" };
        let mut last = String::new();
        for _ in 0..300 {
            last = String::from_utf8(session.authorize(&asking).unwrap()).unwrap();
        }
        assert!(last.ends_with(", cnonce=\"c\", qop=auth, nc=0000012c"), "{last}");
        let read = Credentials::parse(last.as_bytes()).unwrap();
        assert_eq!(read.count(), Some(300));
        assert!(read.proves(b"p", b"BYE", b""));
        assert!(!read.proves(b"q", b"BYE", b"") && !read.proves(b"p", b"INVITE", b""));
        session.nc = u32::MAX;
        assert_eq!(session.authorize(&asking), None);
    }

    #[test]
    fn qop_nc_and_algorithm_are_printed_without_quotes_and_only_when_offered() {
        // D7. RFC 7616 §3.4: "For historical reasons […] the quoted string syntax […] MUST NOT be used for: algorithm, qop, and nc".
        assert_eq!(
            smith("MD5", "auth", b""),
            "Digest username=\"bob\", realm=\"biloxi.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"sip:bob@biloxi.com\", \
             response=\"89eb0059246c02b2f6ee02c7961d5ea3\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc=00000001, \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
        );
        let plain = smith("", "", b"");
        assert!(!plain.contains("qop") && !plain.contains("nc=") && !plain.contains("cnonce"), "{plain}");
    }

    #[test]
    fn challenges_are_read_from_lists_lines_and_odd_spacing() {
        // D5, D6
        let message = answer(
            "WWW-Authenticate: Digest realm=\"a, \\\"b\\\"\" , nonce = \"1,2\", algorithm=SHA-256, qop=\"auth-int, auth\", domain=\"sip:x\"\r\n\
             WWW-Authenticate: Basic realm=\"no\", DIGEST nonce=n2,realm=r2 ,stale=TRUE, Digest realm=\"r3\", nonce=\"n3\"\r\n\
             WWW-Authenticate: Digest realm=\"aka\", nonce=\"n\", algorithm=AKAv1-MD5\r\n\
             WWW-Authenticate: Digest realm=\"odd\", nonce=\"n\", qop=\"tls\"\r\n\
             WWW-Authenticate: Digest realm=\"open, nonce=\"n\"\r\n\
             WWW-Authenticate: Digest nonce=\"n\"\r\n\
             Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\", algorithm=sha-512-256\r\n",
        );
        let found = challenges(&message, Name::WwwAuthenticate);
        let realms: Vec<_> = found.iter().map(|c| String::from_utf8_lossy(&c.realm).into_owned()).collect();
        assert_eq!(realms, ["a, \"b\"", "r2", "r3"]);
        assert_eq!((found[0].nonce.as_ref(), found[0].algorithm, found[0].qop), (&b"1,2"[..], Algorithm::SHA_256, Qop::Auth));
        assert_eq!((found[1].stale, found[2].stale, found[2].qop, found[2].algorithm), (true, false, Qop::None, Algorithm::MD5));
        let proxy = challenges(&message, Name::ProxyAuthenticate);
        assert_eq!(proxy[0].algorithm.as_str(), "SHA-512-256");
    }

    #[test]
    fn challenges_one_past_the_bound_are_not_looked_at() {
        let line = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
        assert_eq!(challenges(&answer(&line.repeat(CHALLENGES_MAX + 1)), Name::WwwAuthenticate).len(), CHALLENGES_MAX);
    }

    #[test]
    fn credentials_that_are_not_whole_are_none() {
        let whole = smith("MD5", "auth", b"");
        assert!(Credentials::parse(whole.as_bytes()).unwrap().proves(b"zanzibar", b"INVITE", b""));
        let quoted = whole.replace("qop=auth", "qop=\"auth\"").replace("nc=00000001", "nc=\"00000001\"");
        assert!(Credentials::parse(quoted.as_bytes()).unwrap().proves(b"zanzibar", b"INVITE", b""));
        for gone in ["username=", "realm=", "nonce=", "uri=", "response=", "nc=", " cnonce="] {
            assert_eq!(Credentials::parse(whole.replacen(gone, "x=", 1).as_bytes()), None, "{gone}");
        }
        for bad in ["Basic dXNlcjpwYXNz", "", "Digest", &whole.replace("qop=auth", "qop=x"), &whole.replace("=MD5", "=MD4")] {
            assert_eq!(Credentials::parse(bad.as_bytes()), None, "{bad}");
        }
        for nc in ["1", "0000000g", "+0000001", "000000001"] {
            assert_eq!(Credentials::parse(whole.replace("00000001", nc).as_bytes()).unwrap().count(), None, "{nc}");
        }
    }

    #[test]
    fn a_name_with_quotes_is_hashed_plain_and_printed_escaped() {
        let message = answer("WWW-Authenticate: Digest realm=\"r\\\"x\", nonce=\"n\"\r\n");
        let mut session = Session::new(&challenges(&message, Name::WwwAuthenticate)[0]);
        let asking = Asking { username: "a\"b\\", password: "p", method: b"BYE", uri: b"sip:x", body: b"", cnonce: "c" };
        let line = session.authorize(&asking).unwrap();
        assert!(line.starts_with(b"Digest username=\"a\\\"b\\\\\", realm=\"r\\\"x\""));
        assert!(Credentials::parse(&line).unwrap().proves(b"p", b"BYE", b""));
    }

    #[test]
    fn our_challenge_is_one_that_we_can_read() {
        for (algorithm, stale) in [(Algorithm::MD5, false), (Algorithm::SHA_256, true)] {
            let message = answer(&format!("WWW-Authenticate: {}\r\n", challenge("bc", "abc", algorithm, stale)));
            let found = challenges(&message, Name::WwwAuthenticate);
            assert_eq!((found[0].algorithm, found[0].stale, found[0].qop), (algorithm, stale, Qop::Auth));
        }
    }
}
