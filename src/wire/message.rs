//! One framing authority for datagrams and streams; a lazy header store over `Bytes`.

use std::borrow::Cow;

use bytes::Bytes;

use crate::wire::header::CSeq;
use crate::wire::header::NameAddr;
use crate::wire::header::Via;
use crate::wire::method::Method;

/// Header names that the code asks for. Compact forms (RFC 3261 §7.3.3 and later) share the id of the long one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    MaxForwards,
    ContentLength,
    ContentType,
    ContentEncoding,
    ContentDisposition,
    Route,
    RecordRoute,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Allow,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    UserAgent,
    Server,
    Expires,
    Date,
    Timestamp,
    MimeVersion,
    Subject,
    Organization,
    AlertInfo,
    CallInfo,
    Warning,
    RetryAfter,
    Reason,
    ReferTo,
    ReferredBy,
    ReferSub,
    Replaces,
    Event,
    AllowEvents,
    SubscriptionState,
    SessionExpires,
    MinSe,
    RAck,
    RSeq,
    PAssertedIdentity,
    PPreferredIdentity,
    RemotePartyId,
    Privacy,
    Diversion,
    HistoryInfo,
    UserToUser,
    Identity,
    SessionId,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    AuthenticationInfo,
    Other,
}

/// Text that cannot be framed as a SIP message; nothing can be answered to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameError {
    pub why: &'static str,
}

/// A message that was framed but is not well-formed: what to answer, and the header to name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defect {
    /// 400, or 505 for a version.
    pub status: u16,
    /// Goes into the reason phrase: `Bad Content-Length`, `Missing Call-ID`.
    pub reason: Cow<'static, str>,
}

/// One header line: its id, the name as it was spelled, the value trimmed and unfolded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    pub name: Name,
    pub spelled: &'a [u8],
    pub value: &'a [u8],
}

/// A framed SIP message.
#[derive(Clone, Debug)]
pub struct Message {
    raw: Bytes,
}

#[allow(unused_variables, clippy::todo)]
impl Message {
    pub fn parse(raw: Bytes) -> Result<Message, FrameError> {
        todo!()
    }
    pub fn is_request(&self) -> bool {
        todo!()
    }
    /// Of the request line; of CSeq in a response (an `Ext("")` when that is unreadable).
    pub fn method(&self) -> &Method {
        todo!()
    }
    /// The Request-URI as it came; empty in a response.
    pub fn uri(&self) -> &[u8] {
        todo!()
    }
    /// 0 in a request.
    pub fn status(&self) -> u16 {
        todo!()
    }
    pub fn reason(&self) -> &[u8] {
        todo!()
    }
    pub fn raw(&self) -> &Bytes {
        todo!()
    }
    pub fn body(&self) -> Bytes {
        todo!()
    }
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        std::iter::empty()
    }
    /// The value of the first line of that name.
    pub fn value(&self, name: Name) -> Option<&[u8]> {
        todo!()
    }
    /// One value a line, in order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
    /// List elements over all lines of that name: split at commas outside quotes and angle brackets.
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
    /// Values of an extension header by its name, any case; also finds known ones.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }
    /// Whether the comma list of that name has this token, any case: Require, Supported, Allow …
    pub fn lists(&self, name: Name, token: &str) -> bool {
        todo!()
    }
    /// The first thing that is wrong with the message, essentials only.
    pub fn check(&self) -> Result<(), Defect> {
        todo!()
    }
    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'_>, Defect> {
        todo!()
    }
    pub fn from(&self) -> Result<NameAddr<'_>, Defect> {
        todo!()
    }
    pub fn to(&self) -> Result<NameAddr<'_>, Defect> {
        todo!()
    }
    pub fn from_tag(&self) -> Option<&str> {
        todo!()
    }
    pub fn to_tag(&self) -> Option<&str> {
        todo!()
    }
    pub fn call_id(&self) -> Result<&str, Defect> {
        todo!()
    }
    pub fn cseq(&self) -> Result<CSeq<'_>, Defect> {
        todo!()
    }
    /// The first Contact; `None` when there is none, `*`, or an unreadable one.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        todo!()
    }
    /// `None` when absent; an unreadable one is found by `check`.
    pub fn max_forwards(&self) -> Option<u8> {
        todo!()
    }
}
