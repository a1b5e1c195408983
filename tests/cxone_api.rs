//! The CXone client against the mock of CXone's API, over real connections on loopback (product.md §4, facts.md §7).

// The exemption in clippy.toml covers test functions, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

use backchannel::call::escalation::Signal;
use backchannel::call::escalation::SignalAnswer;
use backchannel::config::Api;
use backchannel::config::Secret;
use backchannel::edge::cxone::CxoneClient;
use backchannel::edge::cxone::CxoneHandle;
use backchannel::ids::CallHandle;
use backchannel::ids::ContactId;
use backchannel::ids::SignalId;
use backchannel::mock::cxone::MOCK_TENANT;
use backchannel::mock::cxone::MockCredentials;
use backchannel::mock::cxone::MockCxone;
use backchannel::mock::cxone::MockCxoneEvent;
use backchannel::mock::cxone::MockCxoneOptions;
use backchannel::mock::cxone::MockCxoneRecord;
use backchannel::time::Time;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// How long a test waits for what must come; never how long it takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Mock {
    url: String,
    record: MockCxoneRecord,
    events: Receiver<MockCxoneEvent>,
}

/// The mock on a thread of its own; it ends with the test's process.
fn mock(options: MockCxoneOptions) -> Mock {
    let (ready, is_ready) = mpsc::channel();
    let (heard, events) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mock = MockCxone::bind(options).await.unwrap();
            ready.send((mock.url(), mock.record())).unwrap();
            let _ = mock
                .run(move |event| {
                    let _ = heard.send(event);
                })
                .await;
        });
    });
    let (url, record) = is_ready.recv_timeout(PATIENCE).unwrap();
    Mock { url, record, events }
}

impl Mock {
    fn next(&self) -> MockCxoneEvent {
        self.events.recv_timeout(PATIENCE).expect("the mock heard nothing")
    }

    /// Waits for the `n`th token from here.
    fn token(&self, status: u16) {
        loop {
            if let MockCxoneEvent::Token { status: got } = self.next() {
                assert_eq!(got, status);
                return;
            }
        }
    }
}

fn api(issuer: &str) -> Api {
    Api {
        issuer: issuer.to_owned(),
        base_url: String::new(),
        token_url: String::new(),
        client_id: "client".to_owned(),
        client_secret: Secret("client-s3cret:with/colon".to_owned()),
        access_key_id: "key-id====".to_owned(),
        access_key_secret: Secret("key-s3cret&=+%====".to_owned()),
        version: "v30.0".to_owned(),
        timeout: Duration::from_secs(10),
        settle: Duration::from_secs(2),
        repeat_unanswered: true,
        deadline: Duration::from_secs(30),
        ca_file: None,
    }
}

struct Client {
    handle: CxoneHandle,
    answers: Receiver<(CallHandle, u8, SignalAnswer)>,
}

fn client(api: Api) -> Client {
    let (heard, answers) = mpsc::channel();
    let handle = CxoneClient::start(api, move |call, try_no, answer| {
        let _ = heard.send((call, try_no, answer));
    });
    Client { handle: handle.unwrap(), answers }
}

const CALL: CallHandle = CallHandle(7);

fn a_signal() -> Signal {
    Signal {
        id: SignalId::new("0SIG"),
        contact: ContactId::new("48812"),
        params: vec![
            ("p1".into(), "billing".to_owned()),
            ("p2".into(), "wants a human & more".to_owned()),
            ("p3".into(), "0SIG".to_owned()),
        ],
        fresh_token: false,
    }
}

impl Client {
    fn send(&self, call: CallHandle, try_no: u8, signal: Signal, timeout: Duration, within: Duration) {
        let now = Time::from_micros(1);
        self.handle.signal(call, try_no, signal, timeout, now + within, now);
    }

    fn hears(&self) -> SignalAnswer {
        self.answers.recv_timeout(PATIENCE).expect("no answer").2
    }

    fn tries(&self, try_no: u8, fresh_token: bool) -> SignalAnswer {
        let signal = Signal { fresh_token, ..a_signal() };
        self.send(CALL, try_no, signal, PATIENCE, PATIENCE);
        let (call, got, answer) = self.answers.recv_timeout(PATIENCE).expect("no answer");
        assert_eq!((call, got), (CALL, try_no));
        answer
    }
}

fn is_unanswered(answer: &SignalAnswer) -> bool {
    matches!(answer, SignalAnswer::Unanswered { status: None, .. })
}

/// Nobody listens here: the port was ours a moment ago.
fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn any_2xx_is_delivered_and_the_request_is_as_nice_describes_it() {
    for status in [200, 202, 204] {
        let mock = mock(MockCxoneOptions { status, ..MockCxoneOptions::default() });
        let client = client(api(&mock.url));
        assert_eq!(client.tries(1, false), SignalAnswer::Delivered { status });
        let signal = mock.record.signals().remove(0);
        assert_eq!(
            signal.target,
            "/incontactapi/services/v30.0/interactions/48812/signal?p1=billing&p2=wants%20a%20human%20%26%20more&p3=0SIG"
        );
        assert_eq!((signal.contact.as_str(), signal.id.as_deref()), ("48812", Some("0SIG")));
        assert_eq!(signal.params[1].1, "wants a human & more");
        assert!(signal.authorization.starts_with("Bearer "));
        assert_eq!((signal.content_length.as_deref(), signal.body_bytes), (Some("0"), 0));
    }
}

#[test]
fn discovery_and_token_come_first_in_the_order_of_nice_and_ahead_of_need() {
    let credentials = MockCredentials {
        client_id: "client".to_owned(),
        client_secret: "client-s3cret:with/colon".to_owned(),
        access_key_id: "key-id====".to_owned(),
        access_key_secret: "key-s3cret&=+%====".to_owned(),
    };
    let mock = mock(MockCxoneOptions { credentials: Some(credentials), ..MockCxoneOptions::default() });
    // No signal is sent: the start alone does it.
    let _client = client(api(&mock.url));
    assert_eq!(mock.next(), MockCxoneEvent::Discovered);
    assert_eq!(mock.next(), MockCxoneEvent::Token { status: 200 });
    assert_eq!(mock.next(), MockCxoneEvent::Tenant { tenant: MOCK_TENANT.to_owned() });
}

#[test]
fn configured_addresses_skip_discovery() {
    let mock = mock(MockCxoneOptions::default());
    let skipping =
        Api { base_url: format!("{}/", mock.url), token_url: format!("{}/auth/token", mock.url), ..api("https://nowhere.invalid") };
    let client = client(skipping);
    assert_eq!(client.tries(1, false), SignalAnswer::Delivered { status: 204 });
    assert_eq!(mock.next(), MockCxoneEvent::Token { status: 200 });
    assert!(matches!(mock.next(), MockCxoneEvent::Signal(_)));
}

#[test]
fn one_token_serves_many_signals() {
    let mock = mock(MockCxoneOptions::default());
    let client = client(api(&mock.url));
    for n in 1..=5 {
        assert_eq!(client.tries(n, false), SignalAnswer::Delivered { status: 204 });
    }
    assert_eq!(mock.record.tokens(), 1);
}

#[test]
fn fifty_signals_at_once_share_one_token_request() {
    let mock = mock(MockCxoneOptions::default());
    let client = client(api(&mock.url));
    for n in 0..50 {
        client.send(CallHandle(n), 1, a_signal(), PATIENCE, PATIENCE);
    }
    for _ in 0..50 {
        assert_eq!(client.hears(), SignalAnswer::Delivered { status: 204 });
    }
    assert_eq!(mock.record.tokens(), 1);
}

#[test]
fn a_401_drops_the_token_and_the_next_try_brings_a_new_one() {
    let mock = mock(MockCxoneOptions { unauthorized: 1, ..MockCxoneOptions::default() });
    let client = client(api(&mock.url));
    assert!(matches!(client.tries(1, false), SignalAnswer::Refused { status: 401, .. }));
    assert_eq!(client.tries(2, true), SignalAnswer::Delivered { status: 204 });
    let signals = mock.record.signals();
    assert_ne!(signals[0].authorization, signals[1].authorization);
    assert_eq!(mock.record.tokens(), 2);
}

#[test]
fn fifty_calls_whose_token_is_revoked_share_one_new_one() {
    let mock = mock(MockCxoneOptions::default());
    let client = client(api(&mock.url));
    assert_eq!(client.tries(1, false), SignalAnswer::Delivered { status: 204 });
    mock.record.revoke_tokens();
    for n in 0..50 {
        client.send(CallHandle(n), 1, a_signal(), PATIENCE, PATIENCE);
    }
    let mut delivered = 0;
    while delivered < 50 {
        let (call, _, answer) = client.answers.recv_timeout(PATIENCE).expect("no answer");
        match answer {
            // As the escalation does: once more, at once, with a new token.
            SignalAnswer::Refused { status: 401, .. } => {
                client.send(call, 2, Signal { fresh_token: true, ..a_signal() }, PATIENCE, PATIENCE);
            }
            answer => {
                assert_eq!(answer, SignalAnswer::Delivered { status: 204 });
                delivered += 1;
            }
        }
    }
    assert_eq!(mock.record.tokens(), 2);
}

#[test]
fn a_fresh_token_is_fetched_when_it_is_asked_for() {
    let mock = mock(MockCxoneOptions::default());
    let client = client(api(&mock.url));
    client.tries(1, false);
    client.tries(2, true);
    assert_eq!(mock.record.tokens(), 2);
}

#[test]
fn a_token_is_renewed_at_80_percent_of_its_life_without_a_signal() {
    let mock = mock(MockCxoneOptions { expires_in: 1, ..MockCxoneOptions::default() });
    let _client = client(api(&mock.url));
    mock.token(200);
    let first = Instant::now();
    mock.token(200);
    let after = first.elapsed();
    assert!(after >= Duration::from_millis(600), "renewed after {after:?}");
    mock.token(200);
}

#[test]
fn refusals_carry_status_text_and_retry_after() {
    for status in [400, 403, 404, 409, 500, 503] {
        let mock = mock(MockCxoneOptions { status, ..MockCxoneOptions::default() });
        let text = "{\"error\":\"the mock was told to\"}".to_owned();
        assert_eq!(client(api(&mock.url)).tries(1, false), SignalAnswer::Refused { status, retry_after: None, text });
    }
    let mock = mock(MockCxoneOptions { rate_limit: 1, retry_after: 17, ..MockCxoneOptions::default() });
    let client = client(api(&mock.url));
    let SignalAnswer::Refused { status: 429, retry_after, .. } = client.tries(1, false) else { panic!("not 429") };
    assert_eq!(retry_after, Some(Duration::from_secs(17)));
    assert_eq!(client.tries(2, false), SignalAnswer::Delivered { status: 204 });
}

#[test]
fn gateway_statuses_are_no_answer() {
    // product.md §4: "No answer after the request was written (timeout, reset, 408, 502, 504) means it may have arrived"
    for status in [408, 502, 504] {
        let mock = mock(MockCxoneOptions { status, ..MockCxoneOptions::default() });
        let answer = client(api(&mock.url)).tries(1, false);
        assert!(matches!(answer, SignalAnswer::Unanswered { status: Some(s), .. } if s == status), "{answer:?}");
        assert_eq!(mock.record.signals().len(), 1);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let mock = mock(MockCxoneOptions { status: 307, ..MockCxoneOptions::default() });
    assert!(matches!(client(api(&mock.url)).tries(1, false), SignalAnswer::Refused { status: 307, .. }));
    assert_eq!(mock.record.signals().len(), 1);
}

#[test]
fn a_reset_after_the_request_is_no_answer_and_not_repeated_by_the_http_library() {
    let mock = mock(MockCxoneOptions { reset: true, ..MockCxoneOptions::default() });
    let answer = client(api(&mock.url)).tries(1, false);
    assert!(is_unanswered(&answer), "{answer:?}");
    assert_eq!(mock.record.signals().len(), 1);
}

#[test]
fn silence_ends_with_the_timeout_or_with_the_deadline() {
    let mock = mock(MockCxoneOptions { hang: true, ..MockCxoneOptions::default() });
    let client = client(api(&mock.url));
    mock.token(200);
    for (timeout, within) in [(Duration::from_millis(300), PATIENCE), (PATIENCE, Duration::from_millis(300))] {
        let start = Instant::now();
        client.send(CALL, 1, a_signal(), timeout, within);
        let answer = client.hears();
        assert!(is_unanswered(&answer), "{answer:?}");
        assert!(start.elapsed() < PATIENCE / 2);
    }
}

#[test]
fn a_refused_connection_was_never_written() {
    let mock = mock(MockCxoneOptions::default());
    let dead = Api { base_url: format!("http://{}", dead_address()), ..api(&mock.url) };
    let answer = client(dead).tries(1, false);
    assert!(matches!(&answer, SignalAnswer::NotSent { final_: false, .. }), "{answer:?}");
}

#[test]
fn no_token_means_not_sent_and_only_a_refusal_of_the_key_is_final() {
    for (token_status, is_final) in [(400, true), (401, true), (429, false), (500, false), (503, false)] {
        let mock = mock(MockCxoneOptions { token_status, ..MockCxoneOptions::default() });
        let client = client(api(&mock.url));
        let answer = client.tries(1, false);
        let SignalAnswer::NotSent { why, final_, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(final_, is_final, "{token_status}");
        assert!(why.starts_with(&format!("token request: HTTP {token_status} invalid_")), "{why}");
        assert_eq!(client.handle.trouble(), Some(why));
        assert!(mock.record.signals().is_empty());
    }
    let answer = client(api(&format!("http://{}", dead_address()))).tries(1, false);
    assert!(matches!(&answer, SignalAnswer::NotSent { why, final_: false, .. } if why.starts_with("OIDC discovery")), "{answer:?}");
}

#[test]
fn a_token_that_does_not_come_before_the_deadline_is_not_sent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(api(&format!("http://{}", silent.local_addr().unwrap())));
    client.send(CALL, 1, a_signal(), PATIENCE, Duration::from_millis(100));
    let answer = client.hears();
    assert!(matches!(&answer, SignalAnswer::NotSent { why, .. } if why.contains("deadline")), "{answer:?}");
}

#[test]
fn a_signal_that_waits_for_its_token_can_be_called_back_and_a_written_one_cannot() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let waiting = client(api(&format!("http://{}", silent.local_addr().unwrap())));
    waiting.send(CALL, 1, a_signal(), PATIENCE, PATIENCE);
    waiting.handle.cancel(CALL);
    let answer = waiting.hears();
    assert!(matches!(&answer, SignalAnswer::NotSent { why, final_: true, .. } if why.contains("called back")), "{answer:?}");

    let mock = mock(MockCxoneOptions { delay: Duration::from_millis(200), ..MockCxoneOptions::default() });
    let written = client(api(&mock.url));
    written.send(CALL, 1, a_signal(), PATIENCE, PATIENCE);
    while !matches!(mock.next(), MockCxoneEvent::Signal(_)) {}
    written.handle.cancel(CALL);
    assert_eq!(written.hears(), SignalAnswer::Delivered { status: 204 });
    // A call that has no try.
    written.handle.cancel(CallHandle(99));
}

#[test]
fn no_contact_id_leaves_its_place_in_the_path() {
    let mock = mock(MockCxoneOptions::default());
    let client = client(api(&mock.url));
    for contact in ["../admin", "a b", "x?y#z", "%2e%2e"] {
        let signal = Signal { contact: ContactId::new(contact), params: vec![], ..a_signal() };
        client.send(CALL, 1, signal, PATIENCE, PATIENCE);
        assert_eq!(client.hears(), SignalAnswer::Delivered { status: 204 });
        assert_eq!(mock.record.signals().last().unwrap().contact, contact);
    }
    let signal = Signal { contact: ContactId::new(".."), ..a_signal() };
    client.send(CALL, 1, signal, PATIENCE, PATIENCE);
    assert!(matches!(client.hears(), SignalAnswer::NotSent { final_: true, .. }));
    assert_eq!(mock.record.signals().len(), 4);
}

#[test]
fn a_token_with_a_foreign_iss_sends_us_nowhere() {
    let lure = TcpListener::bind("127.0.0.2:0").unwrap();
    let iss = format!("http://{}", lure.local_addr().unwrap());
    let mock = mock(MockCxoneOptions { iss: Some(iss), ..MockCxoneOptions::default() });
    assert_eq!(client(api(&mock.url)).tries(1, false), SignalAnswer::Delivered { status: 204 });
    lure.set_nonblocking(true).unwrap();
    assert!(lure.accept().is_err());
}

#[test]
fn an_api_endpoint_that_is_no_web_address_is_a_final_error() {
    for endpoint in ["file:///etc/passwd", "nonsense", "http://user:pw@127.0.0.1:1"] {
        let mock = mock(MockCxoneOptions { api_endpoint: Some(endpoint.to_owned()), ..MockCxoneOptions::default() });
        let answer = client(api(&mock.url)).tries(1, false);
        assert!(matches!(&answer, SignalAnswer::NotSent { why, final_: true, .. } if why.contains("api_endpoint")), "{answer:?}");
    }
}

/// Answers one connection's request with these bytes and holds it open.
fn scripted(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                    _ => break,
                }
            }
            let authorization =
                String::from_utf8_lossy(&request).lines().find_map(|l| l.strip_prefix("authorization: ").map(str::to_owned));
            let text = String::from_utf8_lossy(&answer).replace("{authorization}", &authorization.unwrap_or_default());
            let _ = stream.write_all(text.as_bytes());
            held.push(stream);
        }
    });
    url
}

#[test]
fn a_huge_or_endless_or_echoing_body_does_no_harm() {
    let mock = mock(MockCxoneOptions::default());
    let huge = format!("HTTP/1.1 500 No\r\nContent-Length: 10000000\r\n\r\n{}", "x".repeat(100_000));
    let client_of = |answer: String| client(Api { base_url: scripted(answer.into_bytes()), ..api(&mock.url) });
    let SignalAnswer::Refused { status: 500, text, .. } = client_of(huge).tries(1, false) else { panic!("not 500") };
    assert_eq!(text.len(), 200);

    // It says more than it sends: the status counts, when the time-out ends the wait.
    let stuck = client_of("HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\ngone\r\n\u{1b}[31m".to_owned());
    stuck.send(CALL, 1, a_signal(), Duration::from_millis(500), PATIENCE);
    assert_eq!(stuck.hears(), SignalAnswer::Refused { status: 404, retry_after: None, text: "gone   [31m".to_owned() });
    let stuck = client_of("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_owned());
    assert_eq!(stuck.tries(1, false), SignalAnswer::Delivered { status: 200 });

    let echo = client_of("HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: 300\r\n\r\n{authorization}".to_owned());
    echo.send(CALL, 1, a_signal(), Duration::from_millis(500), PATIENCE);
    let SignalAnswer::Refused { status: 400, text, .. } = echo.hears() else { panic!("not 400") };
    assert_eq!(text, "Bearer …");

    // Not HTTP at all: written, and no answer.
    let answer = client_of("SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned()).tries(1, false);
    assert!(is_unanswered(&answer), "{answer:?}");
}

/// A CXone behind TLS whose every answer fits every question. The certificate is for 127.0.0.1, by the CA of `ca.pem`; the key that
/// lies beside it protects nothing.
fn tls_mock() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("cxone_api_tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("cxone_api_tls/server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let jwt = "e30.eyJ0ZW5hbnRJZCI6InQifQ.x";
    let body = format!(r#"{{"token_endpoint":"{url}/t","access_token":"{jwt}","expires_in":"3600","api_endpoint":"{url}/inContactAPI"}}"#);
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut chunk = [0; 16_384];
            // One read is one request here; a handshake that fails is the client's to report.
            if stream.read(&mut chunk).is_ok_and(|n| n > 0) {
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    url
}

#[test]
fn a_ca_file_makes_a_certificate_trusted_and_nothing_else_does() {
    let url = tls_mock();
    let ca_file = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cxone_api_tls/ca.pem").into());
    let trusting = client(Api { ca_file, ..api(&url) });
    assert_eq!(trusting.tries(1, false), SignalAnswer::Delivered { status: 200 });
    let answer = client(api(&url)).tries(1, false);
    assert!(matches!(&answer, SignalAnswer::NotSent { why, final_: false, .. } if why.contains("certificate")), "{answer:?}");
    // The same at the signal itself: a handshake that fails has written no request.
    let mock = mock(MockCxoneOptions::default());
    let answer = client(Api { base_url: url, ..api(&mock.url) }).tries(1, false);
    assert!(matches!(&answer, SignalAnswer::NotSent { why, final_: false, .. } if why.contains("certificate")), "{answer:?}");
}

#[test]
fn a_ca_file_without_a_certificate_is_an_error_at_start() {
    let no_pem = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into());
    let (unused, _) = mpsc::channel();
    let started = CxoneClient::start(Api { ca_file: no_pem, ..api("https://127.0.0.1:1") }, move |_, _, answer| {
        let _ = unused.send(answer);
    });
    assert!(started.unwrap_err().contains("ca_file"));
}

#[test]
fn secrets_are_in_no_debug_output() {
    let mock = mock(MockCxoneOptions::default());
    let api = api(&mock.url);
    let client = client(api.clone());
    client.tries(1, false);
    let shown = format!("{:?} {api:?}", client.handle);
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(!shown.contains("eyJ"), "{shown}");
}

#[test]
fn the_probe_says_where_signals_would_go_or_why_not() {
    let mock = mock(MockCxoneOptions::default());
    assert_eq!(CxoneClient::probe(&api(&mock.url)), Ok(format!("{}/", mock.url)));
    let why = CxoneClient::probe(&api(&format!("http://{}", dead_address()))).unwrap_err();
    assert!(why.starts_with("OIDC discovery"), "{why}");
    assert!(CxoneClient::probe(&Api { ca_file: Some("/nonexistent.pem".into()), ..api(&mock.url) }).unwrap_err().contains("ca_file"));
}

#[test]
fn what_the_mock_received_can_be_read_over_http_and_cleared() {
    let mock = mock(MockCxoneOptions { hang_first: 1, ..MockCxoneOptions::default() });
    let client = client(api(&mock.url));
    client.send(CALL, 1, a_signal(), Duration::from_millis(300), PATIENCE);
    assert!(is_unanswered(&client.hears()));
    assert_eq!(client.tries(2, false), SignalAnswer::Delivered { status: 204 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetched = |method: reqwest::Method, path: &str| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.request(method, format!("{}{path}", mock.url));
        runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    };
    let seen: serde_json::Value = serde_json::from_str(&fetched(reqwest::Method::GET, "/mock/signals")).unwrap();
    assert_eq!((seen[0]["status"].is_null(), seen[1]["status"].as_u64()), (true, Some(204)));
    assert_eq!((seen[0]["contact"].as_str(), seen[0]["id"].as_str()), (Some("48812"), seen[1]["id"].as_str()));
    fetched(reqwest::Method::POST, "/mock/reset");
    assert_eq!(fetched(reqwest::Method::GET, "/mock/signals"), "[]");
}
