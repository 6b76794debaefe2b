//! Bearer tokens, from where the configuration says, and how they are presented (RFC 7628).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::{msk, printable, redacted};
use crate::client::command;
use crate::config::{ClientCredentials, TokenSource};

const ENDPOINT_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long what was fetched serves the next connections: a mirror opens a dozen at once.
const KEPT: Duration = Duration::from_secs(5);
/// How a client goes on after an error (RFC 7628, 3.2.3), for the server to end with an error of SASL.
pub(super) const GO_ON: &[u8] = b"\x01";

/// Gets tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    kept: tokio::sync::Mutex<Option<(Instant, SecretString)>>,
    signer: msk::Signer,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    /// A token that is valid now. One waits for another's.
    pub(super) async fn get(&self, source: &TokenSource) -> Result<SecretString, String> {
        let mut kept = self.kept.lock().await;
        if let Some((until, token)) = &*kept
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let (token, serves) = match source {
            TokenSource::Token(secret) => {
                (secret.read(command::printed).await.map_err(|detail| format!("sasl.token: {detail}"))?, KEPT)
            }
            TokenSource::Endpoint(endpoint) => ask(endpoint).await?,
            // Signing costs nothing, and each connection is to have the whole life of a token.
            TokenSource::MskIam { region } => {
                (self.signer.token(region).await.map_err(|detail| format!("sasl.msk_iam: {detail}"))?, KEPT)
            }
        };
        let token = checked(&token)?;
        *kept = Some((Instant::now() + serves, token.clone()));
        Ok(token)
    }

    /// The next one is fetched anew.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

/// The token without what is around it.
pub(super) fn checked(token: &SecretString) -> Result<SecretString, String> {
    let text = token.expose_secret().trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "the token holds characters that no token has: give it alone, without quotes or a header".to_owned()
        );
    }
    Ok(SecretString::from(text))
}

/// The client's first message.
pub(super) fn message(token: &SecretString) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("n,,\x01auth=Bearer {}\x01\x01", token.expose_secret()).into_bytes())
}

/// What a server says of a token that it refuses (RFC 7628, 3.2.2).
///
/// Redacted before it is cut: a token that the cut goes through would not be found any more.
pub(super) fn refusal(answer: &[u8], token: &SecretString) -> String {
    printable(&redacted(&String::from_utf8_lossy(answer), token))
}

/// Asks the endpoint; how long the token may be kept goes with it.
async fn ask(endpoint: &ClientCredentials) -> Result<(SecretString, Duration), String> {
    let failed = |detail: &str| format!("the token endpoint {} gives no token: {detail}", endpoint.token_endpoint);
    let secret = endpoint.client_secret.read(command::printed).await;
    let secret = secret.map_err(|detail| format!("sasl.oauth.client_secret: {detail}"))?;
    let (status, body) = match tokio::time::timeout(ENDPOINT_LIMIT, post(endpoint, &secret)).await {
        Err(_) => return Err(failed(&format!("no answer within {} s", ENDPOINT_LIMIT.as_secs()))),
        Ok(Err(error)) => return Err(failed(&error)),
        Ok(Ok(answer)) => answer,
    };
    read_answer(status, &body, &secret).map_err(|detail| failed(&detail))
}

/// The token, and how long it may be kept.
pub(super) fn read_answer(status: u16, body: &[u8], secret: &SecretString) -> Result<(SecretString, Duration), String> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let Some(answer) = answer else { return Err(format!("it answers {status} with what is not JSON")) };
    let Some(token) = answer.access_token.map(SecretString::from).filter(|_| (200..300).contains(&status)) else {
        let words = [answer.error, answer.error_description].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let words = printable(&redacted(&words, secret));
        return Err(format!("it answers {status}; {words}"));
    };
    let seconds = match answer.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        // Some give it as text.
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    // A fifth of it is left for whoever gets it last.
    let serves = seconds.map_or(KEPT, |seconds| Duration::from_secs(seconds.min(24 * 3600)).mul_f64(0.8));
    Ok((token, serves))
}

fn form(endpoint: &ClientCredentials) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &endpoint.scope {
        form.append_pair("scope", scope);
    }
    form.finish()
}

async fn post(endpoint: &ClientCredentials, secret: &SecretString) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
    // Already there where an object store was opened before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| chain(&error.without_url()))?;
    // RFC 6749, 2.3.1: both are encoded before they are joined.
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(&endpoint.client_id), encoded(secret.expose_secret())));
    let mut basic = reqwest::header::HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        .map_err(|_| "the secret cannot be put into a header".to_owned())?;
    basic.set_sensitive(true);
    let mut response = client
        .post(&endpoint.token_endpoint)
        .header(reqwest::header::AUTHORIZATION, basic)
        .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(reqwest::header::ACCEPT, "application/json")
        .body(form(endpoint))
        .send()
        .await
        .map_err(|error| chain(&error.without_url()))?;
    let status = response.status().as_u16();
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error.without_url()))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("it answers with more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// An error with its causes: the first line alone says "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::WORDS_MAX;
    use super::*;

    #[test]
    fn a_token_that_the_cut_goes_through_does_not_show() {
        let answer = format!("{}the-token", "x".repeat(WORDS_MAX - 4));
        let shown = refusal(answer.as_bytes(), &"the-token".into());
        assert!(!shown.contains("the"), "{shown}");
    }
}
