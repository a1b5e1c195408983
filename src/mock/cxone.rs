//! CXone's API as far as a signal needs it: discovery, token, *Signal a Contact* (facts.md §7). For tests, the demo and
//! `backchannel mock cxone`. It can refuse, hang, reset and delay on request, and tells what it received.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::connect_info::Connected;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::serve::Listener;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Signals that are kept for `GET /mock/signals`; the oldest go first.
pub const MOCK_SIGNALS_MAX: usize = 100_000;
/// Tokens that are honoured at a time.
pub const MOCK_TOKENS_MAX: usize = 64;
/// Body bytes of any request.
pub const MOCK_BODY_BYTES_MAX: usize = 64 * 1024;

/// The tenant that every token names.
pub const MOCK_TENANT: &str = "11eb0000-mock-tenant";

/// The only credentials that the mock takes, when it is told any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MockCredentials {
    pub client_id: String,
    pub client_secret: String,
    pub access_key_id: String,
    pub access_key_secret: String,
}

/// How the mock behaves.
#[derive(Clone, Debug)]
pub struct MockCxoneOptions {
    pub listen: SocketAddr,
    /// What a signal gets when nothing below says otherwise.
    pub status: u16,
    /// What a token request gets; any 2xx issues a token.
    pub token_status: u16,
    /// Before each answer to a signal.
    pub delay: Duration,
    /// Read signals, never answer them.
    pub hang: bool,
    /// Read signals, then reset the connection (RST).
    pub reset: bool,
    /// The first so many signals are not answered, the next get what the other switches say.
    pub hang_first: u32,
    /// The first so many signals get 401.
    pub unauthorized: u32,
    /// After those, so many get 429 with `retry_after`.
    pub rate_limit: u32,
    /// After those, so many get 500.
    pub fail: u32,
    /// Seconds in the Retry-After of a 429.
    pub retry_after: u64,
    /// Lifetime of a token, in seconds; an expired one gets 401.
    pub expires_in: u64,
    pub credentials: Option<MockCredentials>,
    /// The `api_endpoint` that tenant discovery names; by default the mock itself.
    pub api_endpoint: Option<String>,
    /// The `iss` of the tokens; by default the mock itself.
    pub iss: Option<String>,
}

impl Default for MockCxoneOptions {
    fn default() -> Self {
        MockCxoneOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            status: 204,
            token_status: 200,
            delay: Duration::ZERO,
            hang: false,
            reset: false,
            hang_first: 0,
            unauthorized: 0,
            rate_limit: 0,
            fail: 0,
            retry_after: 1,
            expires_in: 3600,
            credentials: None,
            api_endpoint: None,
            iss: None,
        }
    }
}

/// One *Signal a Contact* as it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MockSignal {
    /// Counts from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Percent-decoded.
    pub contact: String,
    pub params: Vec<(String, String)>,
    /// The value of `p3`, where the default configuration puts the signal id.
    pub id: Option<String>,
    /// Path and query as they came.
    pub target: String,
    pub authorization: String,
    pub content_length: Option<String>,
    pub body_bytes: usize,
    /// What it got; `None`: no answer (hang, reset).
    pub status: Option<u16>,
}

/// What the mock tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MockCxoneEvent {
    /// `GET …/.well-known/openid-configuration`
    Discovered,
    /// A token request and what it got.
    Token {
        status: u16,
    },
    /// `GET …/.well-known/cxone-configuration?tenantId=…`
    Tenant {
        tenant: String,
    },
    Signal(MockSignal),
    /// `POST /mock/reset`
    Reset,
}

type Events = Box<dyn Fn(MockCxoneEvent) + Send + Sync>;

/// What the mock has received; outlives its server.
#[derive(Clone, Debug, Default)]
pub struct MockCxoneRecord(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
struct Received {
    signals: VecDeque<MockSignal>,
    signal_count: u64,
    token_count: u64,
    tokens: VecDeque<(String, Instant)>,
}

impl MockCxoneRecord {
    pub fn signals(&self) -> Vec<MockSignal> {
        self.lock().signals.iter().cloned().collect()
    }

    /// Tokens issued so far.
    pub fn tokens(&self) -> u64 {
        self.lock().token_count
    }

    /// All tokens are refused from now on.
    pub fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mock that is bound and does not serve yet.
#[derive(Debug)]
pub struct MockCxone {
    options: MockCxoneOptions,
    listener: TcpListener,
    addr: SocketAddr,
    record: MockCxoneRecord,
}

impl MockCxone {
    pub async fn bind(options: MockCxoneOptions) -> io::Result<MockCxone> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        Ok(MockCxone { options, listener, addr, record: MockCxoneRecord::default() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to configure as `cxone.api.issuer`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn record(&self) -> MockCxoneRecord {
        self.record.clone()
    }

    /// Serves until it is dropped.
    pub async fn run(self, events: impl Fn(MockCxoneEvent) + Send + Sync + 'static) -> io::Result<()> {
        let url = self.url();
        let shared = Arc::new(Shared { options: self.options, url, record: self.record, events: Box::new(events) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(openid_configuration))
            .route("/.well-known/cxone-configuration", get(cxone_configuration))
            .route("/auth/token", post(token))
            .route("/incontactapi/services/{version}/interactions/{contact}/signal", post(signal))
            .route("/mock/signals", get(signals))
            .route("/mock/reset", post(reset))
            .layer(DefaultBodyLimit::max(MOCK_BODY_BYTES_MAX))
            .with_state(shared);
        let service = router.into_make_service_with_connect_info::<Fuse>();
        axum::serve(FusedListener(self.listener), service).await
    }
}

/// Binds and serves until it is dropped.
pub async fn serve(options: MockCxoneOptions, events: impl Fn(MockCxoneEvent) + Send + Sync + 'static) -> io::Result<()> {
    MockCxone::bind(options).await?.run(events).await
}

struct Shared {
    options: MockCxoneOptions,
    url: String,
    record: MockCxoneRecord,
    events: Events,
}

impl Shared {
    /// A JWT with a signature that nobody checks.
    fn mint(&self) -> String {
        let mut received = self.record.lock();
        received.token_count += 1;
        let iss = self.options.iss.as_deref().unwrap_or(&self.url);
        let claims = json!({ "tenantId": MOCK_TENANT, "iss": iss, "jti": received.token_count });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let token = format!("{head}.{}.mock", URL_SAFE_NO_PAD.encode(claims.to_string()));
        received.tokens.push_back((token.clone(), Instant::now() + Duration::from_secs(self.options.expires_in)));
        while received.tokens.len() > MOCK_TOKENS_MAX {
            received.tokens.pop_front();
        }
        token
    }

    fn honours(&self, authorization: &str) -> bool {
        let now = Instant::now();
        let received = self.record.lock();
        authorization.strip_prefix("Bearer ").is_some_and(|t| received.tokens.iter().any(|(known, until)| known == t && *until > now))
    }

    /// What the `number`th signal gets; `None`: nothing, or a reset.
    fn verdict(&self, number: u64, honoured: bool) -> Option<u16> {
        let o = &self.options;
        if o.reset || o.hang || number <= u64::from(o.hang_first) {
            return None;
        }
        let mut past = u64::from(o.hang_first);
        for (count, status) in [(o.unauthorized, 401), (o.rate_limit, 429), (o.fail, 500)] {
            past += u64::from(count);
            if number <= past {
                return Some(status);
            }
        }
        Some(if honoured { o.status } else { 401 })
    }
}

async fn openid_configuration(State(shared): State<Arc<Shared>>) -> Response {
    (shared.events)(MockCxoneEvent::Discovered);
    let url = &shared.url;
    Json(json!({ "issuer": url, "token_endpoint": format!("{url}/auth/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"] }))
    .into_response()
}

async fn cxone_configuration(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let tenant = form_pairs(uri.query().unwrap_or_default()).into_iter().find(|(name, _)| name == "tenantId");
    let Some((_, tenant)) = tenant.filter(|(_, value)| !value.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "tenantId is missing");
    };
    (shared.events)(MockCxoneEvent::Tenant { tenant: tenant.clone() });
    let api = shared.options.api_endpoint.as_ref().unwrap_or(&shared.url);
    Json(json!({ "area": "mock", "domain": "localhost", "api_endpoint": api, "tenantId": tenant })).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let status = match token_problem(&shared.options, &headers, &body) {
        Some(status) => status,
        None => StatusCode::from_u16(shared.options.token_status).unwrap_or(StatusCode::OK),
    };
    (shared.events)(MockCxoneEvent::Token { status: status.as_u16() });
    if !status.is_success() {
        let error = if status == StatusCode::UNAUTHORIZED { "invalid_client" } else { "invalid_grant" };
        return (status, Json(json!({ "error": error }))).into_response();
    }
    let token = shared.mint();
    Json(json!({ "access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": shared.options.expires_in }))
        .into_response()
}

/// facts.md §7.2: Basic `client_id:client_secret`, form `grant_type=password&username=…&password=…`.
fn token_problem(options: &MockCxoneOptions, headers: &HeaderMap, body: &[u8]) -> Option<StatusCode> {
    let basic = text(headers, header::AUTHORIZATION);
    let client = basic.strip_prefix("Basic ").and_then(|b| STANDARD.decode(b).ok()).and_then(|b| String::from_utf8(b).ok());
    let Some((client_id, client_secret)) = client.as_deref().and_then(|c| c.split_once(':')) else {
        return Some(StatusCode::UNAUTHORIZED);
    };
    let form = form_pairs(&String::from_utf8_lossy(body));
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default();
    let typed = text(headers, header::CONTENT_TYPE).starts_with("application/x-www-form-urlencoded");
    if !typed || field("grant_type") != "password" || field("username").is_empty() || field("password").is_empty() {
        return Some(StatusCode::BAD_REQUEST);
    }
    let wanted = options.credentials.as_ref()?;
    if (client_id, client_secret) != (wanted.client_id.as_str(), wanted.client_secret.as_str()) {
        return Some(StatusCode::UNAUTHORIZED);
    }
    let key = (wanted.access_key_id.as_str(), wanted.access_key_secret.as_str());
    ((field("username"), field("password")) != key).then_some(StatusCode::BAD_REQUEST)
}

async fn signal(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(fuse): ConnectInfo<Fuse>,
    Path((_version, contact)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization = text(&headers, header::AUTHORIZATION).to_owned();
    let honoured = shared.honours(&authorization);
    let params = form_pairs(uri.query().unwrap_or_default());
    let signal = {
        let mut received = shared.record.lock();
        received.signal_count += 1;
        let number = received.signal_count;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let signal = MockSignal {
            number,
            at_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            contact,
            id: params.iter().find(|(name, _)| name == "p3").map(|(_, value)| value.clone()),
            params,
            target: uri.to_string(),
            authorization,
            content_length: headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).map(str::to_owned),
            body_bytes: body.len(),
            status: shared.verdict(number, honoured),
        };
        received.signals.push_back(signal.clone());
        while received.signals.len() > MOCK_SIGNALS_MAX {
            received.signals.pop_front();
        }
        signal
    };
    let status = signal.status;
    (shared.events)(MockCxoneEvent::Signal(signal));
    if !shared.options.delay.is_zero() {
        tokio::time::sleep(shared.options.delay).await;
    }
    answer(&shared.options, status, &fuse).await
}

async fn answer(options: &MockCxoneOptions, status: Option<u16>, fuse: &Fuse) -> Response {
    let Some(status) = status else {
        if options.reset {
            fuse.blow();
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        return std::future::pending().await;
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if status.is_success() { status.into_response() } else { refuse(status, "the mock was told to") };
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, options.retry_after.into());
    }
    response
}

async fn signals(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.record.signals()).into_response()
}

async fn reset(State(shared): State<Arc<Shared>>) -> Response {
    {
        let mut received = shared.record.lock();
        received.signals.clear();
        received.signal_count = 0;
    }
    (shared.events)(MockCxoneEvent::Reset);
    StatusCode::NO_CONTENT.into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Body::from(format!("{{\"error\":\"{why}\"}}"))).into_response()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Decodes `a=1&b=%20`.
fn form_pairs(query: &str) -> Vec<(String, String)> {
    match reqwest::Url::parse(&format!("http://localhost/?{query}")) {
        Ok(url) => url.query_pairs().into_owned().collect(),
        Err(_) => Vec::new(),
    }
}

/// Lets a handler reset its own connection: once blown, the next read or write fails and the socket closes with RST.
#[derive(Clone, Debug, Default)]
struct Fuse(Arc<AtomicBool>);

impl Fuse {
    fn blow(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

struct FusedListener(TcpListener);

impl Listener for FusedListener {
    type Io = FusedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (FusedStream, SocketAddr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        (FusedStream { stream, fuse: Fuse::default() }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, FusedListener>> for Fuse {
    fn connect_info(stream: IncomingStream<'_, FusedListener>) -> Self {
        stream.io().fuse.clone()
    }
}

struct FusedStream {
    stream: TcpStream,
    fuse: Fuse,
}

impl FusedStream {
    fn check(&self) -> io::Result<()> {
        self.fuse.check().inspect_err(|_| {
            // Zero linger makes the close a reset (RFC 9293 §3.6.1 ABORT); a plain close would be a FIN.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        })
    }
}

impl AsyncRead for FusedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FusedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
