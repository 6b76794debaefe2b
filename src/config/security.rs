//! How clusters are spoken to: TLS, and who authenticates how.

use std::path::{Path, PathBuf};

use super::raw;
use super::secret::Secret;
use super::validate::Validator;

/// TLS to the brokers of a cluster. Files are read for each new connection, so that they can be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with the client's certificate chain and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name to verify, in place of the broker's host name.
    pub server_name: Option<String>,
}

/// Who authenticates, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslConfig {
    /// The password as it is.
    Plain(Login),
    /// A proof of the password.
    Scram(ScramHash, Login),
    /// A bearer token.
    OauthBearer(TokenSource),
}

/// Who, with which password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// The hash of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// Where bearer tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, a variable or a command.
    Token(Secret),
    /// An OIDC token endpoint.
    Endpoint(ClientCredentials),
    /// Signed by kmirror itself, for Amazon MSK.
    MskIam {
        /// AWS region of the cluster.
        region: String,
    },
}

/// The client credentials grant (RFC 6749, 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// URL of the endpoint.
    pub token_endpoint: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What is asked for.
    pub scope: Option<String>,
}

impl SaslConfig {
    /// As Kafka names it.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(ScramHash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(ScramHash::Sha512, _) => "SCRAM-SHA-512",
            Self::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    /// The user, where it is known before the broker says so.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Plain(login) | Self::Scram(_, login) => Some(&login.username),
            Self::OauthBearer(_) => None,
        }
    }
}

/// Mechanisms that are spoken.
pub(super) const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER";

/// Why a mechanism is not spoken.
pub(super) fn check_mechanism(name: &str) -> Result<(), String> {
    match name {
        "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" | "OAUTHBEARER" => Ok(()),
        "GSSAPI" => Err(format!(
            "(Kerberos) is not supported: give kmirror a listener with one of {MECHANISMS}, or with mutual TLS"
        )),
        "AWS_MSK_IAM" => Err(
            "is not supported by itself: MSK takes IAM tokens by OAUTHBEARER as well; write mechanism: OAUTHBEARER, \
             and msk_iam: { region: … }"
                .to_owned(),
        ),
        _ => Err(format!("is none of {MECHANISMS}")),
    }
}

/// Where client credentials may be sent to.
pub(super) fn check_endpoint(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let is_near = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password: write client_id and client_secret".to_owned());
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_near => Ok(()),
        _ => Err("must begin with https://, for a secret is sent there".to_owned()),
    }
}

impl Validator<'_> {
    pub(super) fn tls(&mut self, at: &str, tls: raw::ClusterTls) -> TlsConfig {
        if tls.cert.is_some() != tls.key.is_some() {
            let (there, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let message =
                format!("needs {missing} as well: a client shows its certificate and proves that it has the key");
            self.error(&format!("{at}.{there}"), message);
        }
        let path = |path: String| self.folder.join(Path::new(&path));
        TlsConfig {
            ca: tls.ca.map(path),
            identity: tls.cert.map(path).zip(tls.key.map(path)),
            server_name: tls.server_name,
        }
    }

    pub(super) fn sasl(&mut self, at: &str, sasl: raw::Sasl) -> Option<SaslConfig> {
        let Some(hash) = (match sasl.mechanism.as_str() {
            "PLAIN" => Some(None),
            "SCRAM-SHA-256" => Some(Some(ScramHash::Sha256)),
            "SCRAM-SHA-512" => Some(Some(ScramHash::Sha512)),
            _ => None,
        }) else {
            for (key, there) in [("username", sasl.username.is_some()), ("password", sasl.password.is_some())] {
                if there {
                    let message = "is of no use to OAUTHBEARER, whose token says who it is";
                    self.error(&format!("{at}.{key}"), message);
                }
            }
            return self.tokens(at, sasl).map(SaslConfig::OauthBearer);
        };
        let of_tokens =
            [("token", sasl.token.is_some()), ("oauth", sasl.oauth.is_some()), ("msk_iam", sasl.msk_iam.is_some())];
        for (key, there) in of_tokens {
            if there {
                self.error(&format!("{at}.{key}"), format!("is for OAUTHBEARER alone, not for {}", sasl.mechanism));
            }
        }
        let (Some(username), Some(password)) = (sasl.username, sasl.password) else {
            self.error(at, format!("needs username and password for {}", sasl.mechanism));
            return None;
        };
        let login = Login { username, password: self.secret(&format!("{at}.password"), &password)? };
        Some(hash.map_or_else(|| SaslConfig::Plain(login.clone()), |hash| SaslConfig::Scram(hash, login.clone())))
    }

    fn tokens(&mut self, at: &str, sasl: raw::Sasl) -> Option<TokenSource> {
        match (sasl.token, sasl.oauth, sasl.msk_iam) {
            (Some(token), None, None) => Some(TokenSource::Token(self.secret(&format!("{at}.token"), &token)?)),
            (None, None, Some(msk)) => Some(TokenSource::MskIam { region: msk.region }),
            (None, Some(oauth), None) => Some(TokenSource::Endpoint(ClientCredentials {
                client_secret: self.secret(&format!("{at}.oauth.client_secret"), &oauth.client_secret)?,
                token_endpoint: oauth.token_endpoint,
                client_id: oauth.client_id,
                scope: oauth.scope,
            })),
            (token, oauth, msk) => {
                let given = [("token", token.is_some()), ("oauth", oauth.is_some()), ("msk_iam", msk.is_some())];
                let given: Vec<&str> = given.into_iter().filter(|(_, is)| *is).map(|(key, _)| key).collect();
                let given = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
                self.error(at, format!("takes exactly one of token, oauth and msk_iam for OAUTHBEARER, not {given}"));
                None
            }
        }
    }

    fn secret(&mut self, at: &str, text: &str) -> Option<Secret> {
        let folder = self.folder.clone();
        self.take(at, Secret::new(text, folder))
    }
}
