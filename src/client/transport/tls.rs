//! TLS to brokers, with files that are read for each new connection, and faults in words that say what to do.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::config::{FILE_BYTES_MAX, TlsConfig};

/// TLS to the brokers of one cluster.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    current: Mutex<Option<Current>>,
}

/// What connections are made with, until the files change. Kept, so that sessions can be resumed.
struct Current {
    files: Files,
    client: Arc<ClientConfig>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

/// The files as they are.
#[derive(PartialEq)]
struct Files {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

impl Tls {
    pub(super) fn new(config: TlsConfig) -> Self {
        Self { config, current: Mutex::default() }
    }

    pub(super) async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let name = self.config.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no host name that a certificate could be for: set tls.server_name"))?;
        let connector = TlsConnector::from(self.client()?);
        connector.connect(server_name, stream).await.map_err(|error| {
            explain(&error).unwrap_or_else(|| {
                format!(
                    "it ended the connection during the TLS handshake ({error}): is this a TLS listener? A plaintext one \
                     does that; then name another port, or take tls out"
                )
            })
        })
    }

    /// The files as they are now. Where they cannot be used, as in the middle of their being replaced, those that could last.
    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.files().and_then(|files| match &*current {
            Some(current) if current.files == files => Ok(None),
            _ => self.build(&files).map(|client| Some(Current { files, client })),
        });
        match (fresh, &mut *current) {
            (Ok(Some(fresh)), current) => {
                if current.is_some() {
                    tracing::info!("the files of tls have changed: new connections use the new ones");
                }
                Ok(Arc::clone(&current.insert(fresh).client))
            }
            (Ok(None), Some(current)) => Ok(Arc::clone(&current.client)),
            (Err(detail), Some(current)) => {
                tracing::warn!(%detail, "the files of tls cannot be used; going on with what they held before");
                Ok(Arc::clone(&current.client))
            }
            (Err(detail), None) => Err(detail),
            (Ok(None), None) => Err("nothing to make a connection with".to_owned()),
        }
    }

    fn files(&self) -> Result<Files, String> {
        let identity = self.config.identity.as_ref();
        Ok(Files {
            ca: self.config.ca.as_ref().map(|path| read("ca", path)).transpose()?,
            cert: identity.map(|(cert, _)| read("cert", cert)).transpose()?,
            key: identity.map(|(_, key)| read("key", key).map(Zeroizing::new)).transpose()?,
        })
    }

    fn build(&self, files: &Files) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots(files.ca.as_deref())?);
        let (Some(cert), Some(key), Some((cert_path, key_path))) = (&files.cert, &files.key, &self.config.identity)
        else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates("cert", cert_path, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            format!("tls.key: {} holds no private key in PEM that is not encrypted", key_path.display())
        })?;
        let client = builder.with_client_auth_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(_) => format!(
                "tls.key: the key in {} is not that of the certificate in {}",
                key_path.display(),
                cert_path.display()
            ),
            error => format!("tls.cert and tls.key cannot be used: {error}"),
        })?;
        Ok(Arc::new(client))
    }

    fn roots(&self, ca: Option<&[u8]>) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if let (Some(path), Some(ca)) = (&self.config.ca, ca) {
            for certificate in certificates("ca", path, ca)? {
                roots.add(certificate).map_err(|error| format!("tls.ca: {}: {error}", path.display()))?;
            }
            return Ok(roots);
        }
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let why = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "this system has no authorities to trust{why}: install ca-certificates, or set tls.ca"
            ));
        }
        Ok(roots)
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("tls.{key}: {} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut bytes).map_err(|error| cannot(&error))?;
    Ok(bytes)
}

fn certificates(key: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("tls.{key}: {} holds no certificate in PEM", path.display())),
        Err(error) => Err(format!("tls.{key}: {} is not PEM: {error:?}", path.display())),
    }
}

/// What TLS says of a failure, and what to do about it; `None`: it is not of TLS.
pub(in crate::client) fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(fault) => of_certificate(fault),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => {
            "it does not answer in TLS: is this a TLS listener? Name another port, or take tls out".to_owned()
        }
        Error::PeerIncompatible(why) => {
            format!("it has no version or cipher of TLS in common with kmirror, which speaks 1.2 and 1.3 ({why:?})")
        }
        other => format!("TLS failed: {other}"),
    })
}

fn of_certificate(fault: &CertificateError) -> String {
    use CertificateError as C;
    match fault {
        C::Expired | C::ExpiredContext { .. } => {
            format!(
                "the broker's certificate has expired ({fault}): have it renewed; else this machine's clock is wrong"
            )
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("the broker's certificate is not valid yet ({fault}); else this machine's clock is wrong")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => format!(
            "the broker's certificate is for another host ({fault}): have one issued for the host that the broker \
             advertises, or set tls.server_name to a name that is in it"
        ),
        C::UnknownIssuer => {
            "the broker's certificate is of an authority that is not trusted: set tls.ca to a PEM file with \
                             the authority's certificate"
                .to_owned()
        }
        C::Revoked => "the broker's certificate was revoked".to_owned(),
        other => format!("the broker's certificate cannot be trusted: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let what = match alert {
        A::CertificateRequired => "it wants a certificate of the client: set tls.cert and tls.key",
        A::BadCertificate | A::HandshakeFailure => {
            "it takes no connection like this one: it may want a certificate of the client (tls.cert and tls.key), or \
             another one than it got"
        }
        A::UnknownCA => "it does not trust the authority of the client's certificate (tls.cert)",
        A::CertificateExpired => "the client's certificate (tls.cert) has expired",
        A::CertificateUnknown | A::CertificateRevoked | A::UnsupportedCertificate | A::AccessDenied => {
            "it does not accept the client's certificate (tls.cert)"
        }
        A::UnrecognisedName => "it does not know the name that it was asked for (tls.server_name)",
        A::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3",
        _ => "it refuses the TLS connection",
    };
    format!("{what} (alert {alert:?})")
}
