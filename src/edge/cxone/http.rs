//! HTTP as the CXone client needs it: the connection pool, the signal's URL, bounded bodies, and what an answer means.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;
use std::time::SystemTime;

use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect;
use reqwest::tls::Certificate;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::call::escalation::Signal;
use crate::call::escalation::SignalAnswer;
use crate::config::Api;
use crate::config::Secret;

/// What is read of the answer to a signal.
pub const SIGNAL_BODY_BYTES_MAX: usize = 4 * 1024;
/// What of it goes to the log.
pub const SIGNAL_TEXT_BYTES_MAX: usize = 200;
/// What is read of the answer to discovery and token requests.
pub const JSON_BODY_BYTES_MAX: usize = 64 * 1024;
/// A longer Retry-After counts as this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Below the idle time-outs of common front ends: a request written into a connection that the far end is closing is one without an
/// answer, and costs `settle`.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// The pool. No redirects (a signal must not be sent twice, nor a token elsewhere), no proxy from the environment, no repetition
/// of its own.
pub(super) fn client(api: &Api) -> Result<Client, String> {
    // One provider for the process; somebody else may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let extra = match &api.ca_file {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|e| format!("cxone.api.ca_file {}: {e}", path.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| format!("cxone.api.ca_file {}: {e}", path.display()))?;
            if certificates.is_empty() {
                return Err(format!("cxone.api.ca_file {}: no certificate in it", path.display()));
            }
            certificates
        }
        None => Vec::new(),
    };
    let built = builder(api).tls_certs_merge(extra.clone()).build();
    // A bare container has no trust anchors at all; plain http (a mock on loopback) must still work there, and https then fails with
    // its own words.
    built.or_else(|_| builder(api).tls_certs_only(extra).build()).map_err(|e| format!("cxone.api: {}", chain(e)))
}

fn builder(api: &Api) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("backchannel/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        // Shorter than a request's, so that what was never connected is told apart from what was never answered.
        .connect_timeout(api.timeout / 2)
}

/// `{base}/incontactapi/services/{version}/interactions/{contactId}/signal?p1=…` (facts.md §7.1).
pub(super) fn signal_url(base: &Url, version: &str, signal: &Signal) -> Result<Url, String> {
    let contact = signal.contact.as_str();
    // The one thing that encoding does not help: a URL parser takes these, and `%2e` for their dots, as steps in the path.
    if matches!(contact, "" | "." | "..") || matches!(version, "" | "." | "..") {
        return Err(format!("{contact:?} cannot stand in a URL"));
    }
    let mut path = base.path().trim_end_matches('/').to_owned();
    path.push_str("/incontactapi/services/");
    encode(version, &mut path);
    path.push_str("/interactions/");
    encode(contact, &mut path);
    path.push_str("/signal");
    let mut query = String::new();
    for (name, value) in &signal.params {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name, &mut query);
        query.push('=');
        encode(value, &mut query);
    }
    let mut url = base.clone();
    url.set_path(&path);
    url.set_query((!query.is_empty()).then_some(query.as_str()));
    url.set_fragment(None);
    Ok(url)
}

/// As `encodeURIComponent`, and stricter: only what RFC 3986 §2.3 calls unreserved stays.
pub(super) fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => into.push(char::from(byte)),
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

/// A request that has no response. Only a connection that never came up proves that nothing was written.
pub(super) fn answer_to_error(error: reqwest::Error) -> SignalAnswer {
    let (builder, connect) = (error.is_builder(), error.is_connect());
    let why = chain(error);
    if builder || connect {
        return SignalAnswer::NotSent { why, retry_after: None, final_: builder };
    }
    SignalAnswer::Unanswered { status: None, why }
}

/// A response that is not a 2xx. 408, 502 and 504 say that somebody on the way has not heard from CXone.
pub(super) async fn answer_to_refusal(response: Response, limit: Instant, token: &Secret) -> SignalAnswer {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    // An echo of our own header must not reach the log.
    let body = body(response, SIGNAL_BODY_BYTES_MAX, limit).await;
    let text = printable(&String::from_utf8_lossy(&body).replace(token.0.as_str(), "…"));
    match status {
        408 | 502 | 504 => SignalAnswer::Unanswered { status: Some(status), why: text },
        _ => SignalAnswer::Refused { status, retry_after, text },
    }
}

/// Reads and forgets what is left, so that the connection can be used again.
pub(super) async fn drain(response: Response, limit: Instant) {
    body(response, SIGNAL_BODY_BYTES_MAX, limit).await;
}

/// The first `bytes_max` of a body, or what came of it until `limit`.
pub(super) async fn body(mut response: Response, bytes_max: usize, limit: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        let Ok(Ok(Some(chunk))) = timeout_at(limit, response.chunk()).await else { break };
        let room = bytes_max - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    body
}

/// RFC 9110 §10.2.3: seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number can hold are a long time, not a mistake.
        return Some(value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs).min(RETRY_AFTER_MAX));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// One line for the log: no control characters, at most `SIGNAL_TEXT_BYTES_MAX`.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if line.len() + c.len_utf8() > SIGNAL_TEXT_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line
}

/// An error and its causes, without the URL: that has the parameters of the signal in it.
pub(super) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        source = cause.source();
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ContactId;
    use crate::ids::SignalId;

    fn url_of(base: &str, contact: &str, params: &[(&str, &str)]) -> Result<String, String> {
        let signal = Signal {
            id: SignalId::new("0S"),
            contact: ContactId::new(contact),
            params: params.iter().map(|(n, v)| ((*n).into(), (*v).to_owned())).collect(),
            fresh_token: false,
        };
        signal_url(&Url::parse(base).unwrap(), "v30.0", &signal).map(|u| u.to_string())
    }

    #[test]
    fn the_url_is_that_of_signal_a_contact() {
        // facts.md §7.1, the example.
        assert_eq!(
            url_of("https://api-na1.niceincontact.com", "123456789", &[("p1", "billing"), ("p2", "a b&c=d+é%/?#")]).unwrap(),
            "https://api-na1.niceincontact.com/incontactapi/services/v30.0/interactions/123456789/signal\
             ?p1=billing&p2=a%20b%26c%3Dd%2B%C3%A9%25%2F%3F%23"
        );
        assert_eq!(url_of("http://h:1/x/", "1", &[]).unwrap(), "http://h:1/x/incontactapi/services/v30.0/interactions/1/signal");
    }

    #[test]
    fn no_contact_id_leaves_its_place_in_the_path() {
        for (contact, segment) in
            [("../x", "..%2Fx"), ("a b", "a%20b"), ("%2e%2e", "%252e%252e"), ("a?b#c", "a%3Fb%23c"), ("\\..\\", "%5C..%5C")]
        {
            let url = url_of("http://h", contact, &[]).unwrap();
            assert_eq!(url, format!("http://h/incontactapi/services/v30.0/interactions/{segment}/signal"));
        }
        for contact in ["", ".", ".."] {
            assert!(url_of("http://h", contact, &[]).is_err(), "{contact:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sat, 22 Aug 2026 14:00:00 GMT").unwrap();
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(of(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(of("Sat, 22 Aug 2026 14:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(of("Sat, 22 Aug 2026 13:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("86401"), Some(RETRY_AFTER_MAX));
        assert_eq!(of("99999999999999999999999999"), Some(RETRY_AFTER_MAX));
        for bad in ["", "soon", "-1", "1.5", "0x10"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_log_text_is_one_short_line() {
        assert_eq!(printable("  no\r\nsuch\u{1b}[31m contact\u{2028}x "), "no  such [31m contact x");
        assert_eq!(printable(&"x".repeat(SIGNAL_TEXT_BYTES_MAX + 1)).len(), SIGNAL_TEXT_BYTES_MAX);
        // Never cut inside a character.
        assert_eq!(printable(&"€".repeat(SIGNAL_TEXT_BYTES_MAX)).len(), SIGNAL_TEXT_BYTES_MAX / 3 * 3);
    }
}
