//! What is below the frames: TCP, TLS on top where the cluster wants it, and who we are (SASL).

pub(super) mod low_water;
pub(super) mod reader;
pub(crate) mod sasl;
mod tls;

use std::sync::Arc;

use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::client::TlsStream;

use crate::config::{SaslConfig, TlsConfig};
use sasl::Sasl;
use tls::Tls;

pub(super) use tls::explain;

/// How a cluster is spoken to; cheap to clone, all clones share what was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) sasl: Option<Arc<Sasl>>,
}

impl Security {
    pub(crate) fn new(tls: Option<&TlsConfig>, sasl: Option<&SaslConfig>) -> Self {
        Self {
            tls: tls.map(|tls| Arc::new(Tls::new(tls.clone()))),
            sasl: sasl.map(|sasl| Arc::new(Sasl::new(sasl.clone()))),
        }
    }

    /// What goes over the wire for everybody to read, if anything.
    pub(crate) fn exposed(&self) -> Option<&'static str> {
        let sasl = self.sasl.as_ref().filter(|_| self.tls.is_none())?;
        match sasl.config() {
            SaslConfig::Plain(_) => Some("password"),
            SaslConfig::OauthBearer(_) => Some("token"),
            SaslConfig::Scram(..) => None,
        }
    }
}

/// Both directions of a connection.
pub(super) enum Halves {
    /// Each of its own, without a lock: the data path of a cluster in plain text.
    Plain(OwnedReadHalf, OwnedWriteHalf),
    /// They share the state of the session.
    Tls(ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>),
}

/// Puts TLS on top, where it is wanted.
pub(super) async fn open(stream: TcpStream, tls: Option<&Tls>, host: &str) -> Result<Halves, String> {
    let Some(tls) = tls else {
        let (reader, writer) = stream.into_split();
        return Ok(Halves::Plain(reader, writer));
    };
    let (reader, writer) = tokio::io::split(tls.connect(stream, host).await?);
    Ok(Halves::Tls(reader, writer))
}
