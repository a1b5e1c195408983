//! rsip's types filled from our views. Configuration, policy and tests speak them; rsip's own readers never see a network's text,
//! because they lose tags, branches and ports of what is valid SIP.

use crate::wire::header::CSeq;
use crate::wire::header::NameAddr;
use crate::wire::header::Params;
use crate::wire::header::Via;
use crate::wire::method::Method;
use crate::wire::uri::Host;
use crate::wire::uri::Uri;

/// What rsip's types cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRsip {
    /// `tel:`, `urn:`, …
    Scheme,
    /// Not UTF-8.
    Text,
    /// A Via transport that rsip does not know.
    Transport,
    /// An extension method.
    Method,
    /// URI headers.
    Headers,
}

impl TryFrom<&Uri<'_>> for rsip::Uri {
    type Error = NoRsip;

    fn try_from(uri: &Uri<'_>) -> Result<rsip::Uri, NoRsip> {
        let Uri::Sip(sip) = uri else { return Err(NoRsip::Scheme) };
        if sip.headers.is_some() {
            return Err(NoRsip::Headers);
        }
        let auth = match sip.user {
            Some(user) => Some(rsip::Auth { user: text(user)?, password: sip.password.map(text).transpose()? }),
            None => None,
        };
        Ok(rsip::Uri {
            scheme: Some(if sip.secure { rsip::Scheme::Sips } else { rsip::Scheme::Sip }),
            auth,
            host_with_port: host_with_port(&sip.host, sip.port),
            params: params(&sip.params)?,
            headers: Vec::new(),
        })
    }
}

impl TryFrom<&Via<'_>> for rsip::typed::Via {
    type Error = NoRsip;

    fn try_from(via: &Via<'_>) -> Result<rsip::typed::Via, NoRsip> {
        Ok(rsip::typed::Via {
            version: rsip::Version::V2,
            transport: transport(via.transport).ok_or(NoRsip::Transport)?,
            uri: rsip::Uri { scheme: None, host_with_port: host_with_port(&via.host, via.port), ..rsip::Uri::default() },
            params: params(&via.params)?,
        })
    }
}

macro_rules! address_headers {
    ($($name:ident)*) => {$(
        impl TryFrom<&NameAddr<'_>> for rsip::typed::$name {
            type Error = NoRsip;

            fn try_from(addr: &NameAddr<'_>) -> Result<rsip::typed::$name, NoRsip> {
                let uri = addr.parsed_uri().ok_or(NoRsip::Scheme)?;
                let display_name = addr.name().map(|name| text(&name)).transpose()?;
                Ok(rsip::typed::$name { display_name, uri: rsip::Uri::try_from(&uri)?, params: params(&addr.params)? })
            }
        }
    )*};
}

address_headers! { From To Contact }

impl TryFrom<&CSeq<'_>> for rsip::typed::CSeq {
    type Error = NoRsip;

    fn try_from(cseq: &CSeq<'_>) -> Result<rsip::typed::CSeq, NoRsip> {
        match Method::parse(cseq.method) {
            Some(Method::Known(method)) => Ok(rsip::typed::CSeq { seq: cseq.number, method }),
            Some(Method::Ext(_)) | None => Err(NoRsip::Method),
        }
    }
}

/// A Via transport or `transport` parameter, any case; `None` for one that rsip does not know.
pub fn transport(name: &[u8]) -> Option<rsip::Transport> {
    rsip::Transport::all().into_iter().find(|t| match t {
        rsip::Transport::Udp => name.eq_ignore_ascii_case(b"UDP"),
        rsip::Transport::Tcp => name.eq_ignore_ascii_case(b"TCP"),
        rsip::Transport::Tls => name.eq_ignore_ascii_case(b"TLS"),
        rsip::Transport::Sctp => name.eq_ignore_ascii_case(b"SCTP"),
        rsip::Transport::TlsSctp => name.eq_ignore_ascii_case(b"TLS-SCTP"),
        rsip::Transport::Ws => name.eq_ignore_ascii_case(b"WS"),
        rsip::Transport::Wss => name.eq_ignore_ascii_case(b"WSS"),
    })
}

fn text(bytes: &[u8]) -> Result<String, NoRsip> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NoRsip::Text)
}

fn host_with_port(host: &Host<'_>, port: Option<u16>) -> rsip::HostWithPort {
    let host = match *host {
        Host::Name(name) => rsip::Host::Domain(name.into()),
        Host::Ip(ip) => rsip::Host::IpAddr(ip),
    };
    rsip::HostWithPort { host, port: port.map(rsip::Port::from) }
}

fn params(from: &Params<'_>) -> Result<Vec<rsip::Param>, NoRsip> {
    from.iter().map(|(name, value)| param(name, value)).collect()
}

/// A value that the variant cannot hold goes into `Other`, as spelled.
fn param(name: &[u8], value: Option<&[u8]>) -> Result<rsip::Param, NoRsip> {
    use rsip::param;
    let (name_text, value_text) = (text(name)?, value.map(text).transpose()?);
    let other = |value: Option<String>| rsip::Param::Other(param::OtherParam::new(&name_text), value.map(param::OtherParamValue::new));
    let Some(value) = value_text else {
        return Ok(if name.eq_ignore_ascii_case(b"lr") { rsip::Param::Lr } else { other(None) });
    };
    Ok(match name_text.to_ascii_lowercase().as_str() {
        "transport" => match transport(value.as_bytes()) {
            Some(transport) => rsip::Param::Transport(transport),
            None => other(Some(value)),
        },
        "method" => match Method::parse(value.as_bytes()) {
            Some(Method::Known(method)) => rsip::Param::Method(method),
            Some(Method::Ext(_)) | None => other(Some(value)),
        },
        "user" => rsip::Param::User(param::User::new(value)),
        "ttl" => rsip::Param::Ttl(param::Ttl::new(value)),
        "maddr" => rsip::Param::Maddr(param::Maddr::new(value)),
        "branch" => rsip::Param::Branch(param::Branch::new(value)),
        "received" => rsip::Param::Received(param::Received::new(value)),
        "tag" => rsip::Param::Tag(param::Tag::new(value)),
        "expires" => rsip::Param::Expires(param::Expires::new(value)),
        "q" => rsip::Param::Q(param::Q::new(value)),
        _ => other(Some(value)),
    })
}
