//! Authenticating anew on a connection that goes on (KIP-368), as Kafka's own clients do: the broker ends a session by its first
//! request behind the end. Requests that come meanwhile wait and keep their order; those under way are answered before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Line;
use super::error::ClientError;
use super::transport::sasl::{Sasl, SaslVersion};

/// How much of a session passes before the next begins; Kafka's own clients let 85 to 95 percent pass.
const SHARE: f64 = 0.8;
/// Between tries to get a token or a password.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs as long as the connection.
pub(super) async fn renew(line: Line, sasl: Arc<Sasl>, version: SaslVersion, lifetime: Duration) {
    let mut lifetime = lifetime;
    loop {
        let began = Instant::now();
        tokio::time::sleep(lifetime.mul_f64(SHARE)).await;
        match again(&line, &sasl, version, began + lifetime).await {
            Ok(Some(next)) => lifetime = next,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "a session could not be renewed; its connection is given up");
                line.shared.fail(&error);
                return;
            }
        }
    }
}

async fn again(line: &Line, sasl: &Sasl, version: SaslVersion, end: Instant) -> Result<Option<Duration>, ClientError> {
    let credentials = loop {
        // While requests still go out: a token endpoint may take its time.
        match sasl.credentials().await {
            Ok(credentials) => break credentials,
            Err(detail) if Instant::now() + PAUSE >= end => {
                return Err(sasl.failed_at(&line.shared.cluster, &line.shared.address, detail));
            }
            Err(detail) => {
                tracing::warn!(
                    cluster = line.shared.cluster, address = line.shared.address, %detail,
                    "nothing to renew a session with, trying again"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    line.put_aside();
    let next = sasl.authenticate(line, version, &credentials).await?;
    line.go_on();
    tracing::debug!(cluster = line.shared.cluster, address = line.shared.address, "session renewed");
    Ok(next)
}
