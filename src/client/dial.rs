//! Making a connection: the name, the address, TLS, what the broker speaks, and who we are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::net::{TcpStream, lookup_host};

use super::connection::{Connection, Line, encode};
use super::error::ClientError;
use super::transport::sasl::{Credentials, SaslVersion};
use super::transport::{self, Security};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What each of a name's addresses but the last may take.
const TURN: Duration = Duration::from_secs(5);
const UNSUPPORTED_VERSION: i16 = 35;
/// SaslHandshake that is followed by SaslAuthenticate (Kafka 1.0), and the versions of the latter.
const HANDSHAKE_VERSION: i16 = 1;
const AUTHENTICATE_VERSION_MAX: i16 = 2;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) cluster: String,
    pub(crate) address: String,
    pub(crate) client_id: String,
    pub(crate) security: Security,
}

impl Dial {
    fn unreachable(&self, detail: String) -> ClientError {
        ClientError::Unreachable { cluster: self.cluster.clone(), address: self.address.clone(), detail }
    }

    /// Connects and learns which api versions the broker speaks. The name is looked up anew each time, for what it names may
    /// move; of several addresses the first at which a broker answers is taken.
    pub(crate) async fn connect(self) -> Result<Connection, ClientError> {
        // Before anything else: a command that prints a token takes its time, and the broker's for that is short.
        let credentials = self.credentials().await?;
        let found = match tokio::time::timeout(CONNECT_TIMEOUT, lookup_host(&self.address)).await {
            Err(_) => return Err(self.unreachable("its name could not be looked up in time".to_owned())),
            Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
        };
        let mut failed: Option<ClientError> = None;
        let mut rest = found.iter();
        while let Some(at) = rest.next() {
            let attempt = self.connect_at(*at, credentials.as_ref());
            // One that only hangs must leave the others their turn.
            let outcome = if rest.len() == 0 {
                attempt.await
            } else {
                let late = |_| self.unreachable(format!("{at}: no answer within {} s", TURN.as_secs()));
                tokio::time::timeout(TURN, attempt).await.map_err(late).flatten()
            };
            match outcome {
                Ok(connection) => return Ok(connection),
                Err(error @ ClientError::Authentication { .. }) => return Err(error),
                // What a broker has said tells more than that another does not answer.
                Err(error) if failed.as_ref().is_none_or(ClientError::is_unreachable) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| self.unreachable("its name has no address".to_owned())))
    }

    async fn credentials(&self) -> Result<Option<Credentials>, ClientError> {
        let Some(sasl) = &self.security.sasl else { return Ok(None) };
        let read = sasl.credentials().await;
        let failed = |detail| sasl.failed_at(&self.cluster, &self.address, detail);
        read.map(Some).map_err(failed)
    }

    async fn connect_at(&self, at: SocketAddr, credentials: Option<&Credentials>) -> Result<Connection, ClientError> {
        let literal = at.to_string() == self.address;
        let unreachable = |detail: String| self.unreachable(if literal { detail } else { format!("{at}: {detail}") });
        let no_answer = |_| unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(at)).await.map_err(no_answer)?;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let opening = transport::open(stream, self.security.tls.as_deref(), host(&self.address));
        let halves = tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(no_answer)?.map_err(unreachable)?;
        let mut opening = Connection::start(halves, self);
        opening.versions = api_versions(&opening.line).await?;
        if let (Some(sasl), Some(credentials)) = (&self.security.sasl, credentials) {
            opening.version(ApiKey::SaslHandshake, HANDSHAKE_VERSION, HANDSHAKE_VERSION)?;
            let version = SaslVersion(opening.version(ApiKey::SaslAuthenticate, 0, AUTHENTICATE_VERSION_MAX)?);
            let lifetime = sasl.authenticate(&opening.line, version, credentials).await?;
            if let Some(lifetime) = lifetime {
                opening.renew(sasl, version, lifetime);
            }
        }
        Ok(opening.ready())
    }
}

/// Without the port, and an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn api_versions(line: &Line) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
    let mut response = ask_versions(line, 3).await?;
    if response.error_code == UNSUPPORTED_VERSION {
        response = ask_versions(line, 0).await?;
    }
    if response.error_code != 0 {
        let subject = line.shared.address.clone();
        return Err(ClientError::api(&line.shared.cluster, "ApiVersions", response.error_code, &subject, None));
    }
    Ok(response.api_keys.into_iter().map(|a| (a.api_key, (a.min_version, a.max_version))).collect())
}

async fn ask_versions(line: &Line, version: i16) -> Result<ApiVersionsResponse, ClientError> {
    let mut request = ApiVersionsRequest::default();
    if version >= 3 {
        request.client_software_name = StrBytes::from_static_str("kmirror");
        request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
    }
    let mut frame = encode(&line.shared.cluster, &request, version, 0)?;
    frame.flexible_response = false;
    let body = line.submit_now(frame).await?;
    if body.get(..2) == Some(&UNSUPPORTED_VERSION.to_be_bytes()) {
        // What follows is laid out as in v0 (KIP-511), or as was asked (librdkafka's mock), and is not needed: v0 is asked for next.
        return Ok(ApiVersionsResponse::default().with_error_code(UNSUPPORTED_VERSION));
    }
    line.shared.decode::<ApiVersionsRequest>(version, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_certificates_are_for() {
        assert_eq!(
            ["b1.example.org:9093", "[::1]:9093", "10.0.0.1:1"].map(host),
            ["b1.example.org", "::1", "10.0.0.1"]
        );
    }
}
