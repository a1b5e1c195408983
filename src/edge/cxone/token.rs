//! The access token and the API's address: OIDC discovery, password grant, tenant discovery (facts.md §7.2). Fetched ahead of need,
//! by one flight at a time whose result everybody who waits shares, an error too.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::Url;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use crate::config::Api;
use crate::config::Secret;
use crate::edge::cxone::http;

/// Lifetime of a token that does not name one; facts.md §7.2 says one hour.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// Shorter ones count as this, so that a server that says 0 is not asked without a pause.
const LIFETIME_MIN: Duration = Duration::from_secs(1);
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// First wait after a fetch ahead of need that failed; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What a request needs. Copied for each: a refresh never changes one under way.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub token: Secret,
    pub base: Url,
    pub generation: u64,
}

/// Why there is no token. `final_`: asking again without a person's doing is no use.
#[derive(Clone, Debug)]
pub(super) struct TokenError {
    pub why: String,
    pub retry_after: Option<Duration>,
    pub final_: bool,
}

impl TokenError {
    fn passing(why: impl Into<String>) -> TokenError {
        TokenError { why: why.into(), retry_after: None, final_: false }
    }

    fn lasting(why: impl Into<String>) -> TokenError {
        TokenError { why: why.into(), retry_after: None, final_: true }
    }
}

type Fetched = Result<Access, TokenError>;
type Flight = watch::Receiver<Option<Fetched>>;

struct Cached {
    access: Access,
    /// A little before it does, for the way that a request takes.
    expires: Instant,
    /// 80 % of its life.
    refresh: Instant,
}

#[derive(Default)]
struct State {
    cached: Option<Cached>,
    flight: Option<Flight>,
    generation: u64,
    /// The newest token that CXone refused.
    refused: u64,
    /// Last good answers of discovery: a token endpoint, and for which tenant configuration which API.
    token_url: Option<Url>,
    base: Option<(Url, Url)>,
    trouble: Option<String>,
}

/// All tokens of one client. Every method belongs on its runtime, but `trouble`.
pub(super) struct Tokens {
    api: Api,
    http: Client,
    state: Mutex<State>,
}

impl Tokens {
    pub fn new(api: Api, http: Client) -> Tokens {
        Tokens { api, http, state: Mutex::new(State::default()) }
    }

    /// A token that is not expired and was not refused; joins the fetch under way or starts one. `fresh`: the caller's last one was
    /// refused.
    pub async fn access(self: &Arc<Self>, fresh: bool) -> Fetched {
        let flight = {
            let mut state = self.lock();
            // A refusal that went through `refused` has dropped the token already, and a newer one then serves all that it hit.
            if fresh && state.refused == 0 {
                state.cached = None;
            }
            match &state.cached {
                Some(cached) if cached.expires > Instant::now() => return Ok(cached.access.clone()),
                _ => self.flight(&mut state),
            }
        };
        self.land(flight).await
    }

    /// CXone answered 401 or 403 to this one.
    pub fn refused(&self, generation: u64) {
        let mut state = self.lock();
        state.refused = state.refused.max(generation);
        if state.cached.as_ref().is_some_and(|c| c.access.generation <= generation) {
            state.cached = None;
        }
    }

    /// Why the last fetch failed, while there is no newer success.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Fetches the first token, and each next one when 80 % of its life are over, so that no caller waits for it.
    pub async fn keep(self: Arc<Self>) {
        let mut wait = RETRY_FIRST;
        loop {
            let refresh = self.lock().cached.as_ref().map(|c| c.refresh);
            if let Some(at) = refresh.filter(|at| *at > Instant::now()) {
                sleep_until(at).await;
                continue;
            }
            let flight = self.flight(&mut self.lock());
            match self.land(flight).await {
                Ok(_) => wait = RETRY_FIRST,
                Err(error) => {
                    tracing::warn!(why = error.why, retry_in_s = wait.as_secs(), "cxone.token_failed");
                    sleep(wait.max(error.retry_after.unwrap_or_default().min(RETRY_MAX))).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch under way, or a new one. It is a task of its own: a caller that gives up does not take it away from the others.
    fn flight(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let (done, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let fetched = own.fetch().await;
            done.send_replace(Some(own.landed(fetched)));
        });
        flight
    }

    async fn land(&self, mut flight: Flight) -> Fetched {
        if let Ok(fetched) = flight.wait_for(Option::is_some).await
            && let Some(fetched) = fetched.as_ref()
        {
            return fetched.clone();
        }
        // Its task is gone without a word; the next caller starts another one.
        self.lock().flight = None;
        Err(TokenError::passing("the token request was cut off"))
    }

    fn landed(&self, fetched: Result<(Secret, Url, Duration), TokenError>) -> Fetched {
        let mut state = self.lock();
        state.flight = None;
        let (token, base, lifetime) = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                state.trouble = Some(error.why.clone());
                return Err(error);
            }
        };
        tracing::info!(api = base.as_str(), lifetime_s = lifetime.as_secs(), "cxone.token");
        state.trouble = None;
        state.generation += 1;
        let access = Access { token, base, generation: state.generation };
        let now = Instant::now();
        state.cached = Some(Cached { access: access.clone(), expires: now + lifetime * 19 / 20, refresh: now + lifetime * 4 / 5 });
        Ok(access)
    }

    async fn fetch(&self) -> Result<(Secret, Url, Duration), TokenError> {
        let token_url = self.token_url().await?;
        let form = [
            ("grant_type", "password"),
            ("username", self.api.access_key_id.as_str()),
            ("password", self.api.access_key_secret.0.as_str()),
        ];
        let request = self.http.post(token_url).basic_auth(&self.api.client_id, Some(&self.api.client_secret.0)).form(&form);
        let answer = self.json(request, "token request").await?;
        let Some(token) = answer.get("access_token").and_then(Value::as_str).filter(|t| !t.is_empty()) else {
            return Err(TokenError::passing("token request: the answer has no access_token"));
        };
        // Some servers write the number as a string.
        let lifetime = answer.get("expires_in").and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
        let lifetime = lifetime.map_or(LIFETIME_DEFAULT, Duration::from_secs).clamp(LIFETIME_MIN, LIFETIME_MAX);
        let id_token = answer.get("id_token").and_then(Value::as_str).unwrap_or_default();
        let base = self.base(id_token, token).await?;
        Ok((Secret(token.to_owned()), base, lifetime))
    }

    /// `cxone.api.token_url`, else what the issuer says, else what it said last.
    async fn token_url(&self) -> Result<Url, TokenError> {
        if !self.api.token_url.is_empty() {
            return parsed(&self.api.token_url, "cxone.api.token_url");
        }
        let issuer = parsed(&self.api.issuer, "cxone.api.issuer")?;
        match self.discover_token_url(&issuer).await {
            Ok(url) => {
                self.lock().token_url = Some(url.clone());
                Ok(url)
            }
            Err(error) => self.lock().token_url.clone().ok_or(error),
        }
    }

    async fn discover_token_url(&self, issuer: &Url) -> Result<Url, TokenError> {
        let answer = self.json(self.http.get(well_known(issuer, "openid-configuration")), "OIDC discovery").await?;
        let endpoint = answer.get("token_endpoint").and_then(Value::as_str).unwrap_or_default();
        as_safe_as(issuer, endpoint, "the token_endpoint of OIDC discovery")
    }

    /// `cxone.api.base_url`, else what tenant discovery says, else what it said last.
    async fn base(&self, id_token: &str, access_token: &str) -> Result<Url, TokenError> {
        if !self.api.base_url.is_empty() {
            return parsed(&self.api.base_url, "cxone.api.base_url").map(without_api_path);
        }
        let issuer = parsed(&self.api.issuer, "cxone.api.issuer")?;
        let claims = [id_token, access_token].into_iter().filter_map(claims).find(|c| c.get("tenantId").is_some_and(Value::is_string));
        let Some(claims) = claims else {
            return Err(TokenError::lasting("the token names no tenantId; set cxone.api.base_url"));
        };
        let mut tenant_url = well_known(&tenant_issuer(&issuer, &claims), "cxone-configuration");
        let mut query = String::from("tenantId=");
        http::encode(claims.get("tenantId").and_then(Value::as_str).unwrap_or_default(), &mut query);
        tenant_url.set_query(Some(&query));
        match self.discover_base(&issuer, &tenant_url).await {
            Ok(base) => {
                self.lock().base = Some((tenant_url, base.clone()));
                Ok(base)
            }
            Err(error) => {
                let last = self.lock().base.clone().filter(|(asked, _)| *asked == tenant_url);
                let (_, base) = last.ok_or(error.clone())?;
                tracing::warn!(why = error.why, using = base.as_str(), "cxone.discovery_failed");
                Ok(base)
            }
        }
    }

    async fn discover_base(&self, issuer: &Url, tenant_url: &Url) -> Result<Url, TokenError> {
        let answer = self.json(self.http.get(tenant_url.clone()), "tenant discovery").await?;
        let endpoint = answer.get("api_endpoint").and_then(Value::as_str).unwrap_or_default();
        as_safe_as(issuer, endpoint, "the api_endpoint of tenant discovery").map(without_api_path)
    }

    /// Sends it and reads an object. Texts of the answer stay out of the error, but for OAuth's `error` word: bodies can hold secrets.
    async fn json(&self, request: RequestBuilder, what: &str) -> Result<Value, TokenError> {
        let limit = Instant::now() + self.api.timeout;
        let response = match timeout_at(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_builder() => return Err(TokenError::lasting(format!("{what}: {}", http::chain(error)))),
            Ok(Err(error)) => return Err(TokenError::passing(format!("{what}: {}", http::chain(error)))),
            Err(_) => return Err(TokenError::passing(format!("{what}: no answer within {} ms", self.api.timeout.as_millis()))),
        };
        let status = response.status();
        let retry_after = http::retry_after(response.headers(), SystemTime::now());
        let body = http::body(response, http::JSON_BODY_BYTES_MAX, limit).await;
        let value = serde_json::from_slice::<Value>(&body);
        if status.is_success() {
            return value.map_err(|_| TokenError::passing(format!("{what}: the answer is not JSON")));
        }
        let error = value.as_ref().ok().and_then(|v| v.get("error")).and_then(Value::as_str).filter(|e| is_word(e));
        let why = format!("{what}: HTTP {}{}{}", status.as_u16(), if error.is_some() { " " } else { "" }, error.unwrap_or_default());
        let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        Err(TokenError { why, retry_after, final_: !passing })
    }
}

/// RFC 6749 §5.2: `invalid_client` and its like.
fn is_word(error: &str) -> bool {
    !error.is_empty() && error.len() <= 64 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn parsed(text: &str, key: &str) -> Result<Url, TokenError> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(TokenError::lasting(format!("{key} is not an http(s) URL"))),
    }
}

/// What a discovered address must be: https, or http where the issuer itself is http. No user info.
fn as_safe_as(issuer: &Url, text: &str, what: &str) -> Result<Url, TokenError> {
    let url = parsed(text, what)?;
    if url.scheme() != "https" && issuer.scheme() == "https" {
        return Err(TokenError::lasting(format!("{what} is not https")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TokenError::lasting(format!("{what} has a user name in it")));
    }
    Ok(url)
}

fn well_known(issuer: &Url, name: &str) -> Url {
    let mut url = issuer.clone();
    url.set_path(&format!("{}/.well-known/{name}", issuer.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// Clustered hosts are named with the path that we append (facts.md §7.2).
fn without_api_path(mut base: Url) -> Url {
    let path = base.path().trim_end_matches('/');
    let kept = path.len().saturating_sub("/incontactapi".len());
    if path.get(kept..).is_some_and(|tail| tail.eq_ignore_ascii_case("/incontactapi")) {
        let shorter = path[..kept].to_owned();
        base.set_path(&shorter);
    }
    base
}

/// The claims of a JWT (RFC 7519 §3). Not verified: it came from the issuer over its own connection, and only names where to ask next.
fn claims(jwt: &str) -> Option<Value> {
    let payload = jwt.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The token's `iss`, if it is at home where the issuer is; a token must not send us to somebody else's tenant configuration.
fn tenant_issuer(issuer: &Url, claims: &Value) -> Url {
    let Some(iss) = claims.get("iss").and_then(Value::as_str) else { return issuer.clone() };
    match as_safe_as(issuer, iss, "iss") {
        Ok(url) if same_home(issuer, &url) => url,
        _ => {
            tracing::warn!(iss, asked = issuer.as_str(), "cxone.iss_foreign");
            issuer.clone()
        }
    }
}

/// The same host, or names with the same last two labels.
fn same_home(a: &Url, b: &Url) -> bool {
    let (Some(a_host), Some(b_host)) = (a.host_str(), b.host_str()) else { return false };
    if a_host == b_host {
        return true;
    }
    match (a.domain(), b.domain()) {
        (Some(a), Some(b)) => last_two(a).is_some() && last_two(a) == last_two(b),
        _ => false,
    }
}

fn last_two(domain: &str) -> Option<&str> {
    let domain = domain.trim_end_matches('.');
    let (rest, _) = domain.rsplit_once('.')?;
    Some(rest.rsplit_once('.').map_or(domain, |(before, _)| &domain[before.len() + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claims_are_read_without_a_key_and_garbage_is_none() {
        let read = claims(&jwt(r#"{"tenantId":"t","iss":"https://cxone.niceincontact.com"}"#)).unwrap();
        assert_eq!(read["tenantId"], "t");
        for bad in ["", "a", "a.b", "a.!!.c", "e30.eyJ.x", &jwt("[") as &str] {
            assert!(claims(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn only_an_iss_at_the_issuers_home_is_asked() {
        let issuer = url("https://cxone.niceincontact.com");
        let asked = |iss: &str| tenant_issuer(&issuer, &serde_json::json!({ "iss": iss })).to_string();
        assert_eq!(asked("https://cxone-gov.niceincontact.com"), "https://cxone-gov.niceincontact.com/");
        for foreign in [
            "https://evil.example",
            "https://niceincontact.com.evil.example",
            "http://cxone.niceincontact.com",
            "https://10.0.0.1",
            "https://u:p@cxone.niceincontact.com",
            "file:///etc/passwd",
            "https://evilniceincontact.com",
            "",
        ] {
            assert_eq!(asked(foreign), "https://cxone.niceincontact.com/", "{foreign:?}");
        }
        assert!(!same_home(&url("http://127.0.0.1:1"), &url("http://10.0.0.1:1")));
        assert!(same_home(&url("http://127.0.0.1:1"), &url("http://127.0.0.1:2")));
        assert!(!same_home(&url("http://com"), &url("http://org")));
        assert!(same_home(&url("https://nicecxone-sov1.eu"), &url("https://eu.nicecxone-sov1.eu")));
    }

    #[test]
    fn a_discovered_address_is_never_less_safe_than_the_issuer() {
        let (tls, plain) = (url("https://i.example"), url("http://i.example"));
        assert!(as_safe_as(&tls, "https://api.example", "x").is_ok());
        assert!(as_safe_as(&plain, "http://api.example", "x").is_ok());
        for bad in ["http://api.example", "ftp://api.example", "https://u@api.example", "api.example", ""] {
            assert!(as_safe_as(&tls, bad, "x").is_err_and(|e| e.final_), "{bad:?}");
        }
    }

    #[test]
    fn well_known_paths_and_the_api_path_are_joined_once() {
        assert_eq!(well_known(&url("https://i.example/a/?q#f"), "x").as_str(), "https://i.example/a/.well-known/x");
        assert_eq!(
            without_api_path(url("https://api-c52.nice-incontact.com/inContactAPI/")).as_str(),
            "https://api-c52.nice-incontact.com/"
        );
        assert_eq!(without_api_path(url("https://h/x")).as_str(), "https://h/x");
    }

    #[test]
    fn an_oauth_error_word_is_shown_and_nothing_else() {
        assert!(is_word("invalid_grant"));
        assert!(!is_word("Bearer abc"));
        assert!(!is_word(&"a".repeat(65)));
        assert!(!is_word(""));
    }
}
