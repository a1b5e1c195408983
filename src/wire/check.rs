//! Whether a framed message may be worked with: its essential headers, and nothing else. One bad header beside them harms nobody.

use std::borrow::Cow;

use crate::wire::head::Flaw;
use crate::wire::head::Length;
use crate::wire::header::NameAddr;
use crate::wire::header::is_star;
use crate::wire::header::scan::number;
use crate::wire::header::vias;
use crate::wire::message::Defect;
use crate::wire::message::Message;
use crate::wire::method::is_token_byte;
use crate::wire::name::Name;
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
        self.check_tag(Name::From)?;
        self.check_tag(Name::To)?;
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
        let line = self.value(Name::Via).ok_or_else(|| missing(Name::Via))?;
        let mut vias = vias(line).peekable();
        if vias.peek().is_some() && vias.all(|via| via.is_some()) { Ok(()) } else { Err(bad(Name::Via)) }
    }

    /// A tag that is there but is no token would be none to us, and one to the peer.
    fn check_tag(&self, name: Name) -> Result<(), Defect> {
        let party = if name == Name::From { self.from()? } else { self.to()? };
        if party.tag().is_none() && party.params.has("tag") { Err(bad(name)) } else { Ok(()) }
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
        if self.elements(Name::Contact).any(|contact| !is_star(contact) && address(contact).is_none()) {
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
    u8::try_from(number(value, 255)?).ok()
}

/// A name-addr or addr-spec with a scheme: what `addr-spec` of RFC 3261 §25.1 is at least.
pub(super) fn address(value: &[u8]) -> Option<NameAddr<'_>> {
    NameAddr::parse(value).filter(|address| address.uri.iter().position(|&b| b == b':').is_some_and(|at| at > 0))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;

    use super::*;

    fn torture_folder() -> PathBuf {
        let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/torture");
        std::env::var_os("BACKCHANNEL_TORTURE").map_or(default, PathBuf::from)
    }

    /// 0 for what cannot be framed, 200 for what passes.
    fn verdict(bytes: Vec<u8>) -> u16 {
        match Message::parse(Bytes::from(bytes)) {
            Ok(message) => message.check().map_or_else(|defect| defect.status, |()| 200),
            Err(_) => 0,
        }
    }

    #[test]
    fn the_torture_messages_get_the_answers_that_the_rfcs_want() {
        let folder = torture_folder();
        let Ok(index) = std::fs::read_to_string(folder.join("index.tsv")) else {
            println!("no torture messages in {}: nothing is checked", folder.display());
            return;
        };
        let mut wrong = Vec::new();
        for row in index.lines().skip(1) {
            let mut columns = row.split('\t');
            let (name, class) = (columns.next().unwrap(), columns.next().unwrap());
            let preferred: Vec<_> = columns.nth(1).unwrap().split(',').collect();
            let verdict = verdict(std::fs::read(folder.join(format!("{name}.dat"))).unwrap());
            let right = match (class, preferred[0]) {
                // What may also be relayed has its fault in a header that is not essential.
                (_, "400") if preferred.contains(&"relay") => matches!(verdict, 200 | 400),
                (_, "400") => verdict == 400,
                (_, "505") => verdict == 505,
                ("invalid", "drop") => verdict != 200,
                _ => verdict == 200,
            };
            if !right {
                wrong.push(format!("{name}: {verdict}, not {preferred:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
