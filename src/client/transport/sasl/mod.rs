//! SASL: SaslHandshake, then SaslAuthenticate until both sides are content (KIP-43, KIP-152), and how long that holds (KIP-368).

mod bearer;
pub(crate) mod fuzzing;
#[cfg(feature = "msk-iam")]
mod msk;
#[cfg(not(feature = "msk-iam"))]
#[path = "msk_absent.rs"]
mod msk;
mod scram;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::super::command;
use super::super::connection::Line;
use super::super::error::ClientError;
use crate::config::{SaslConfig, ScramHash};
use bearer::Tokens;

/// Kafka's own most for a token of SASL.
const ANSWER_BYTES_MAX: usize = 512 << 10;
const WORDS_MAX: usize = 300;

/// Who we are to one cluster.
#[derive(Debug)]
pub(crate) struct Sasl {
    config: SaslConfig,
    tokens: Tokens,
}

/// What shows who we are: read for each authentication, so that it can be replaced.
#[derive(Debug)]
pub(crate) struct Credentials(SecretString);

/// The version of SaslAuthenticate to ask in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SaslVersion(pub(crate) i16);

impl Sasl {
    pub(super) fn new(config: SaslConfig) -> Self {
        Self { config, tokens: Tokens::default() }
    }

    pub(super) fn config(&self) -> &SaslConfig {
        &self.config
    }

    /// Reads the password, or gets a token.
    pub(crate) async fn credentials(&self) -> Result<Credentials, String> {
        let login = match &self.config {
            SaslConfig::OauthBearer(source) => return self.tokens.get(source).await.map(Credentials),
            SaslConfig::Plain(login) | SaslConfig::Scram(_, login) => login,
        };
        let read = login.password.read(command::printed).await;
        read.map(Credentials).map_err(|detail| format!("sasl.password: {detail}"))
    }

    /// Authenticates; how long that holds, if not for ever. Nothing else may be sent meanwhile.
    pub(crate) async fn authenticate(
        &self,
        line: &Line,
        version: SaslVersion,
        credentials: &Credentials,
    ) -> Result<Option<Duration>, ClientError> {
        let outcome = self.exchange(&Exchange { line, version, sasl: self, secret: &credentials.0 }).await;
        if matches!(outcome, Err(ClientError::Authentication { .. })) {
            self.tokens.forget().await;
        }
        outcome
    }

    async fn exchange(&self, with: &Exchange<'_>) -> Result<Option<Duration>, ClientError> {
        with.handshake(self.config.mechanism()).await?;
        let last = match &self.config {
            SaslConfig::Plain(login) => {
                let message = format!("\0{}\0{}", login.username, with.secret.expose_secret());
                with.send(&Zeroizing::new(message.into_bytes())).await?
            }
            SaslConfig::Scram(hash, login) => with.scram(*hash, &login.username).await?,
            SaslConfig::OauthBearer(_) => with.bearer().await?,
        };
        let lifetime_ms = u64::try_from(last.session_lifetime_ms).unwrap_or(0);
        Ok((lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)))
    }

    /// Who we say we are, in words.
    fn who(&self) -> String {
        match &self.config {
            SaslConfig::Plain(login) | SaslConfig::Scram(_, login) => {
                format!("user {:?} by {}", login.username, self.config.mechanism())
            }
            SaslConfig::OauthBearer(_) => "the token by OAUTHBEARER".to_owned(),
        }
    }

    pub(crate) fn failed_at(&self, cluster: &str, address: &str, detail: String) -> ClientError {
        ClientError::Authentication {
            cluster: cluster.to_owned(),
            address: address.to_owned(),
            who: self.who(),
            detail,
        }
    }
}

/// One authentication.
struct Exchange<'a> {
    line: &'a Line,
    version: SaslVersion,
    sasl: &'a Sasl,
    secret: &'a SecretString,
}

impl Exchange<'_> {
    fn failed(&self, detail: &str) -> ClientError {
        self.sasl.failed_at(&self.line.shared.cluster, &self.line.shared.address, detail.to_owned())
    }

    async fn handshake(&self, mechanism: &'static str) -> Result<(), ClientError> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let answer = self.line.ask(&request, 1).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(()),
            Some(ResponseError::UnsupportedSaslMechanism) => {
                let offered: Vec<_> = answer.mechanisms.iter().take(20).map(|name| printable(name)).collect();
                let offered = offered.join(", ");
                Err(self.failed(&format!(
                    "UNSUPPORTED_SASL_MECHANISM: it offers {offered}; set sasl.mechanism to one of them, or enable {mechanism} \
                     on the listener (sasl.enabled.mechanisms)"
                )))
            }
            Some(ResponseError::IllegalSaslState) => Err(self.failed(
                "ILLEGAL_SASL_STATE: this listener does not ask for SASL; name another port, or take sasl out",
            )),
            Some(error) => Err(self.failed(&format!("{error:?} ({})", answer.error_code))),
        }
    }

    async fn send(&self, message: &[u8]) -> Result<SaslAuthenticateResponse, ClientError> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(message));
        let answer = self.line.ask(&request, self.version.0).await?;
        if answer.auth_bytes.len() > ANSWER_BYTES_MAX {
            let detail = format!("it answers with {} bytes, more than any mechanism needs", answer.auth_bytes.len());
            return Err(self.failed(&detail));
        }
        if answer.error_code == 0 {
            return Ok(answer);
        }
        let words = answer.error_message.as_ref().map(|words| printable(&redacted(words, self.secret)));
        let words = words.filter(|words| !words.is_empty()).map(|words| format!("; the broker says: {words}"));
        let name = super::super::error::code_name(answer.error_code);
        let advice = match self.sasl.config {
            SaslConfig::OauthBearer(_) => "is the token of an issuer and for an audience that the listener accepts?",
            _ => "are sasl.username and sasl.password those of this cluster, and is the user known to this mechanism?",
        };
        Err(self.failed(&format!("{name}{}; {advice}", words.unwrap_or_default())))
    }

    async fn scram(&self, hash: ScramHash, username: &str) -> Result<SaslAuthenticateResponse, ClientError> {
        let nonce = nonce().ok_or_else(|| self.failed("the system gives no random numbers"))?;
        let challenge = self.send(&scram::first(username, &nonce)).await?;
        let (user, password) = (username.to_owned(), self.secret.clone());
        let proving =
            tokio::task::spawn_blocking(move || scram::prove(hash, &user, &password, &nonce, &challenge.auth_bytes));
        let proof = proving.await.map_err(|error| self.failed(&error.to_string()))?;
        let proof = proof.map_err(|detail| self.failed(&detail))?;
        let last = self.send(&proof.message).await?;
        proof.verify(&last.auth_bytes).map_err(|detail| self.failed(&detail))?;
        Ok(last)
    }

    async fn bearer(&self) -> Result<SaslAuthenticateResponse, ClientError> {
        let answer = self.send(&bearer::message(self.secret)).await?;
        if answer.auth_bytes.is_empty() {
            return Ok(answer);
        }
        let words = bearer::refusal(&answer.auth_bytes, self.secret);
        // Whatever it answers now, the token was refused.
        match self.send(bearer::GO_ON).await {
            Err(error @ ClientError::Authentication { .. }) => Err(error),
            _ => Err(self.failed(&format!("the broker says: {words}"))),
        }
    }
}

/// 24 random bytes in base64, which has no comma.
fn nonce() -> Option<String> {
    let mut bytes = [0; 24];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(STANDARD_NO_PAD.encode(bytes))
}

/// Somebody else's words, for messages: not too many, on one line.
fn printable(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect::<String>().trim().to_owned()
}

/// Somebody else's words, who may have put the secret into them.
fn redacted(words: &str, secret: &SecretString) -> String {
    words.replace(secret.expose_secret(), "<secret>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_bounded_and_hold_no_secret() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a [31m b");
        assert_eq!(printable(&"x".repeat(10_000)).len(), WORDS_MAX);
        assert_eq!(redacted("bad password hunter2", &"hunter2".into()), "bad password <secret>");
    }
}
