//! Whether a framed message may be worked with: its essential headers, and nothing else. One bad header beside them harms nobody.

use std::borrow::Cow;

use crate::wire::header::NameAddr;
use crate::wire::header::Via;
use crate::wire::message::Defect;
use crate::wire::message::Message;
use crate::wire::message::list;
use crate::wire::name::Name;
use crate::wire::scan::Flaw;
use crate::wire::scan::Length;
use crate::wire::scan::is_token_byte;
use crate::wire::scan::number;
use crate::wire::uri::Uri;

/// A header name of the peer is quoted in a reason phrase only up to here.
const QUOTED_NAME_BYTES_MAX: usize = 64;

/// Headers of which a message has one at most (RFC 3261 §7.3.1); two equal Content-Lengths do no harm.
const SINGLE: [Name; 5] = [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards];

pub(super) fn defect(what: &'static str, name: Name) -> Defect {
    Defect { status: 400, reason: Cow::Owned(format!("{what} {}", name.as_str())) }
}

pub(super) fn missing(name: Name) -> Defect {
    defect("Missing", name)
}

pub(super) fn bad(name: Name) -> Defect {
    defect("Bad", name)
}

impl Message {
    /// The first thing that is wrong with the message, essentials only.
    pub fn check(&self) -> Result<(), Defect> {
        self.check_frame()?;
        if let Some(name) = SINGLE.into_iter().find(|&name| self.repeats(name)) {
            return Err(defect("Multiple", name));
        }
        self.check_via()?;
        self.from()?;
        self.to()?;
        self.call_id()?;
        let cseq = self.cseq()?;
        if !self.is_request() {
            return Ok(());
        }
        // RFC 3261 §8.1.1.5: "The method MUST match that of the request."
        if cseq.method != self.method().as_bytes() {
            return Err(bad(Name::CSeq));
        }
        self.check_request()
    }

    fn check_frame(&self) -> Result<(), Defect> {
        match self.flaw() {
            Some(Flaw::Version) => return Err(Defect { status: 505, reason: "Version Not Supported".into() }),
            Some(Flaw::RequestLine) => return Err(Defect { status: 400, reason: "Bad Request-Line".into() }),
            Some(Flaw::Control(line)) => return Err(self.control(line)),
            None => {}
        }
        match self.length() {
            // RFC 3261 §18.3: a datagram that ends before its body does is an error; a request of that kind is answered with 400.
            Length::Bytes(bytes) if bytes > self.bytes_after_head() => Err(bad(Name::ContentLength)),
            Length::Bytes(_) | Length::Absent => Ok(()),
            Length::Bad => Err(bad(Name::ContentLength)),
            Length::Torn => Err(defect("Multiple", Name::ContentLength)),
        }
    }

    fn control(&self, line: u16) -> Defect {
        let spelled = self.lines().nth(usize::from(line)).map(|line| line.spelled);
        let spelled = spelled.filter(|name| !name.is_empty() && name.len() <= QUOTED_NAME_BYTES_MAX);
        let name = spelled.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("header line");
        Defect { status: 400, reason: Cow::Owned(format!("Bad {name}")) }
    }

    /// The whole topmost line: responses are sent by its first value, and no next hop shall stumble over the others.
    fn check_via(&self) -> Result<(), Defect> {
        self.via()?;
        let line = self.value(Name::Via).unwrap_or_default();
        if list(line).any(|via| Via::parse(via).is_none()) { Err(bad(Name::Via)) } else { Ok(()) }
    }

    fn check_request(&self) -> Result<(), Defect> {
        match Uri::parse(self.uri()) {
            // RFC 3261 §19.1.1, table 1: no headers in a Request-URI.
            Some(Uri::Sip(uri)) if uri.headers.is_none() => {}
            Some(Uri::Tel { .. } | Uri::Other { .. }) => {}
            _ => return Err(Defect { status: 400, reason: "Bad Request-URI".into() }),
        }
        if self.value(Name::MaxForwards).is_some() && self.max_forwards().is_none() {
            return Err(bad(Name::MaxForwards));
        }
        if self.elements(Name::Contact).any(|contact| contact != b"*" && address(contact).is_none()) {
            return Err(bad(Name::Contact));
        }
        if self.elements(Name::Require).any(|tag| !tag.iter().all(|&b| is_token_byte(b))) {
            return Err(bad(Name::Require));
        }
        Ok(())
    }
}

/// RFC 3261 §20.22: 0 to 255.
pub(super) fn max_forwards(value: &[u8]) -> Option<u8> {
    u8::try_from(number(value)?).ok()
}

/// A name-addr or addr-spec that means one thing only.
pub(super) fn address(value: &[u8]) -> Option<NameAddr<'_>> {
    let address = NameAddr::parse(value)?;
    let uri = address.uri;
    let bare = address.display.is_none() && !value.starts_with(b"<");
    // RFC 3261 §20.10: the brackets MUST be there when the URI has a comma, a question mark or a semicolon.
    if bare && uri.contains(&b'?') {
        return None;
    }
    let scheme = uri.iter().position(|&b| b == b':').unwrap_or(0);
    let whole = scheme > 0 && !uri.iter().any(|&b| b <= b' ' || b == 0x7f || matches!(b, b'<' | b'>' | b'"'));
    (whole && address.display.is_none_or(display)).then_some(address)
}

/// Strictly, `*(token LWS)` or a quoted string. What people write without quotes is let through unless it could be read as something else.
fn display(text: &[u8]) -> bool {
    text.starts_with(b"\"") || !text.iter().any(|&b| matches!(b, b',' | b';' | b'"' | b'<' | b'>' | b'\\'))
}
