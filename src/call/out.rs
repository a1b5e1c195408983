//! What a call and its legs ask of the stairwell, and the context in which they are asked.

use bytes::Bytes;
use compact_str::CompactString;

use crate::call::anchor::MediaOrder;
use crate::call::anchor::PortPair;
use crate::call::escalation::Signal;
use crate::call::rules::Carried;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::dialog::Dialog;
use crate::ids::ClientTxId;
use crate::ids::LocalTag;
use crate::ids::Minter;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::report::Fact;
use crate::time::Time;
use crate::wire::draft::Draft;

/// Our address as one peer sees it: what Via, Contact and From show towards it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Face {
    /// Advertised address as text, IPv6 in brackets.
    pub host: CompactString,
    pub port: u16,
    pub transport: Transport,
}

impl Face {
    /// A Contact value (RFC 3261 §8.1.1.8).
    pub fn contact(&self) -> String {
        format!("<{}>", self.contact_uri())
    }

    /// The URI in it.
    pub fn contact_uri(&self) -> String {
        format!("sip:backchannel@{}:{}{}", self.host, self.port, self.transport.uri_parameter())
    }

    /// `host:port`, for URIs of ours.
    pub fn host_port(&self) -> CompactString {
        compact_str::format_compact!("{}:{}", self.host, self.port)
    }
}

/// One address to try, and how we look from there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    pub target: Target,
    /// `host:port` for the Request-URI and To.
    pub shown: CompactString,
    pub face: Face,
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whither {
    Target(Target),
    /// The URI of a route or remote target (RFC 3263 §4, without NAPTR and SRV).
    Uri(Box<[u8]>),
}

/// What a client transaction of a leg is for; it comes back with the response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    Invite,
    Bye,
    Notify,
    /// An INVITE in a confirmed dialog (RFC 3261 §14).
    Reinvite,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// A request of the other leg that was passed on: its response goes back there.
    Passed(ServerTxId),
}

/// A response before it is printed; the stairwell has the request that it answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: u16,
    /// Empty: the standard phrase.
    pub reason: CompactString,
    /// Our To tag, for a request that had none.
    pub tag: Option<LocalTag>,
    /// Contact value; with it the Record-Routes are copied (RFC 3261 §12.1.1).
    pub contact: Option<String>,
    pub headers: Vec<Carried>,
    /// Content type and body.
    pub body: Option<(CompactString, Bytes)>,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        Reply { status, reason: CompactString::default(), tag: None, contact: None, headers: Vec::new(), body: None }
    }

    pub fn reason(mut self, reason: impl AsRef<str>) -> Reply {
        self.reason = CompactString::new(reason);
        self
    }

    pub fn tag(mut self, tag: &LocalTag) -> Reply {
        self.tag = Some(tag.clone());
        self
    }

    pub fn contact(mut self, face: &Face) -> Reply {
        self.contact = Some(face.contact());
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push(line(name, value));
        self
    }

    pub fn headers(mut self, headers: Vec<Carried>) -> Reply {
        self.headers.extend(headers);
        self
    }

    pub fn sdp(mut self, sdp: Option<Bytes>) -> Reply {
        self.body = sdp.map(|s| (CompactString::const_new("application/sdp"), s));
        self
    }
}

/// A header line of ours.
pub fn line(name: &'static str, value: impl Into<String>) -> Carried {
    Carried { name: Bytes::from_static(name.as_bytes()), value: Bytes::from(value.into().into_bytes()) }
}

/// What a call wants; only the stairwell makes `Action`s of it.
#[derive(Debug)]
pub enum Out {
    Respond {
        tx: ServerTxId,
        reply: Box<Reply>,
    },
    /// The 2xx of this INVITE once more (RFC 3261 §13.3.1.4).
    Repeat {
        tx: ServerTxId,
    },
    /// `slim`: the same request for a UDP flow, when it differs.
    Request {
        tx: ClientTxId,
        draft: Box<Draft>,
        slim: Option<Box<Draft>>,
        to: Whither,
        used: Use,
        side: Side,
    },
    /// The ACK to the 2xx of this INVITE; kept for repetitions of that 2xx with the same To tag.
    Ack {
        invite: ClientTxId,
        draft: Box<Draft>,
        to: Whither,
        side: Side,
    },
    /// Give this INVITE up: CANCEL when a provisional answer has come (RFC 3261 §9.1), ACK and BYE when a 2xx crosses. The final
    /// answer to a re-INVITE still comes to its leg.
    Abandon {
        invite: ClientTxId,
    },
    /// This leg's dialog as it is now: what it takes to end it when the call itself can not be trusted any more.
    Confirmed {
        side: Side,
        dialog: Box<Dialog>,
    },
    /// In-dialog requests with this tag are for this leg.
    Own {
        tag: LocalTag,
        side: Side,
    },
    Media {
        side: Side,
        order: MediaOrder,
    },
    GiveBack {
        pair: PortPair,
    },
    RecordIntent {
        signal: Signal,
    },
    RecordRequesting {
        try_no: u8,
    },
    RecordSettled {
        outcome: &'static str,
    },
    Signal {
        try_no: u8,
        signal: Signal,
        until: Time,
    },
    CancelSignal,
    Report(Fact),
    /// Nothing of the call is left to do.
    Over,
}

/// What every method of a call or leg is given.
pub struct Cx<'a> {
    pub mint: &'a mut Minter,
    pub out: &'a mut Vec<Out>,
    pub now: Time,
}

impl Cx<'_> {
    pub fn respond(&mut self, tx: ServerTxId, reply: Reply) {
        self.out.push(Out::Respond { tx, reply: Box::new(reply) });
    }

    pub fn report(&mut self, fact: Fact) {
        self.out.push(Out::Report(fact));
    }

    pub fn media(&mut self, side: Side, order: MediaOrder) {
        self.out.push(Out::Media { side, order });
    }

    pub fn client_tx(&mut self) -> ClientTxId {
        ClientTxId(self.mint.number())
    }
}
