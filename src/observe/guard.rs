//! Who is answered. On loopback everybody of this machine may look, under no other name than loopback's; what changes something takes
//! the token, and on any other address everything does.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::config::HttpConfig;

use super::problem::{Kind, Problem};

/// What is asked of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Of digests, which are of one length whatever is sent: not even that of the token can be measured.
    token: Arc<RwLock<Option<Arc<[u8]>>>>,
    is_loopback: bool,
}

impl Guard {
    pub(super) fn new(http: &HttpConfig, address: SocketAddr) -> Self {
        let guard = Self { token: Arc::default(), is_loopback: address.ip().is_loopback() };
        guard.take(http.token.as_ref());
        guard
    }

    /// From now on this is the token.
    pub(super) fn take(&self, token: Option<&SecretString>) {
        let token = token.map(|token| hashed(token.expose_secret()));
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Whether it asks for the token whatever is wanted.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_loopback
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(token) = token else {
            return Err(Kind::ActionsOff
                .because("there is no http.token in the configuration: the commands of kmirror do the same"));
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' ')).filter(|(how, _)| how.eq_ignore_ascii_case("bearer"));
        match given {
            Some((_, given)) if bool::from(hashed(given.trim()).ct_eq(&token)) => Ok(()),
            Some(_) => Err(Kind::TokenMissing.because("the token that was sent is not the one of http.token")),
            None => Err(Kind::TokenMissing.because("send the token of http.token: Authorization: Bearer TOKEN")),
        }
    }
}

fn hashed(token: &str) -> Arc<[u8]> {
    digest(&SHA256, token.as_bytes()).as_ref().into()
}

/// Lets through what carries the token. It stands in a header, which no page of elsewhere can send.
pub(super) async fn with_token(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            if request.headers().contains_key(header::AUTHORIZATION) {
                tracing::warn!(path = request.uri().path(), "HTTP: a wrong token was sent");
            }
            problem.into_response()
        }
    }
}

/// Refuses what names a loopback address by another name than its own. It may be looked at without a token; a page of elsewhere
/// whose name was made to lead here (DNS rebinding) must not read it in somebody's browser.
pub(super) async fn by_its_own_name(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.is_closed() {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback || name.eq_ignore_ascii_case("localhost") {
        return next.run(request).await;
    }
    Kind::WrongHost
        .because("ask for it as localhost: it listens on loopback, and answers to no other name")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(token: Option<&str>, sent: Option<&str>) -> Result<(), u16> {
        let listen = SocketAddr::from(([127, 0, 0, 1], 1));
        let http = HttpConfig { listen, tls: None, token: token.map(Into::into), probes: None, max_series: 0 };
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(header::AUTHORIZATION, sent.parse().unwrap());
        }
        Guard::new(&http, listen).check(&headers).map_err(|problem| problem.status)
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = "0123456789abcdef";
        assert_eq!(answer(Some(token), Some(&format!("Bearer {token}"))), Ok(()));
        assert_eq!(answer(Some(token), Some(&format!("bearer  {token} "))), Ok(()));
        for wrong in ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer ", token, "Basic 0123456789abcdef"]
        {
            assert_eq!(answer(Some(token), Some(wrong)), Err(401), "{wrong}");
        }
        assert_eq!(answer(Some(token), None), Err(401));
        assert_eq!(answer(None, Some("Bearer ")), Err(403), "no token is no empty token");
    }
}
