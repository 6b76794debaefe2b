//! The HTTP listener: what it may be left without depends on who can reach it.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

use super::raw;
use super::units;
use super::validate::Validator;

/// A token that can be guessed guards nothing.
const TOKEN_MIN: usize = 16;
/// A header has to hold it.
const TOKEN_MAX: usize = 1024;

/// The HTTP listener.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where it listens. Where this is no loopback address there are a token and TLS.
    pub listen: SocketAddr,
    /// TLS; `None`: plain HTTP.
    pub tls: Option<HttpTls>,
    /// What requests that change something carry, and on other addresses than loopback all others too.
    pub token: Option<SecretString>,
    /// A listener for probes and metrics alone, which asks for no token.
    pub probes: Option<SocketAddr>,
    /// Series of one metric at most: figures of partitions are put together where there are more.
    pub max_series: usize,
}

/// Files of the listener's TLS, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Validator<'_> {
    pub(super) fn http(&mut self, http: raw::Http) -> Option<HttpConfig> {
        let listen = self.take("http.listen", units::parse_listen(&http.listen));
        let probes = match &http.probes {
            Some(probes) => self.take("http.probes.listen", units::parse_listen(&probes.listen)),
            None => None,
        };
        let token = match http.token {
            Some(token) => self.take("http.token", checked(token)),
            None => None,
        };
        let tls = http.tls.map(|tls| HttpTls { cert: tls.cert.into(), key: tls.key.into() });
        let listen = listen?;
        let missing: Vec<&str> = [("http.token", token.is_none()), ("http.tls", tls.is_none())]
            .into_iter()
            .filter_map(|(key, is_missing)| is_missing.then_some(key))
            .collect();
        if !listen.ip().is_loopback() && !missing.is_empty() {
            let message = format!(
                "is not a loopback address: others can reach it, so it takes a token and TLS ({} is missing); or write \
                 127.0.0.1:PORT, and for probes and metrics alone http.probes.listen",
                missing.join(" and ")
            );
            self.error("http.listen", message);
        }
        // Port 0 is any that is free, for each of them another.
        if probes == Some(listen) && listen.port() != 0 {
            self.error("http.probes.listen", "is where http.listen listens already");
        }
        Some(HttpConfig { listen, tls, token, probes, max_series: http.metrics.max_series })
    }
}

/// The message says nothing of what the token is.
fn checked(token: String) -> Result<SecretString, String> {
    if (TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token.into())
    } else {
        Err(format!(
            "a token is {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters, such as openssl rand -hex 24 prints"
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, SystemEnv};

    const TOKEN: &str = "0123456789abcdef";

    /// The messages about an `http` section.
    fn faults(http: &str) -> Vec<String> {
        let clusters = "clusters:\n  a: { bootstrap: [a:1] }\n  b: { bootstrap: [b:1] }\n";
        let mirror = "mirrors:\n  - { name: m, source: a, target: b, topics: { include: [x] } }\n";
        let text = format!("{clusters}{mirror}http: {{ {http} }}\n");
        match Config::parse(&text, "k.yaml", &SystemEnv { folder: ".".into() }) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.errors.iter().map(|error| format!("{} {}", error.key, error.message)).collect(),
        }
    }

    #[test]
    fn who_can_be_reached_by_others_needs_token_and_tls() {
        let tls = "tls: { cert: a.pem, key: b.pem }";
        for fine in [
            "listen: '127.0.0.1:9644'".to_owned(),
            "listen: 'localhost:9644', probes: { listen: '0.0.0.0:9645' }".to_owned(),
            format!("listen: '0.0.0.0:9644', token: {TOKEN}, {tls}"),
            format!("listen: '[::]:9644', token: {TOKEN}, {tls}, probes: {{ listen: '[::]:9645' }}"),
        ] {
            assert_eq!(faults(&fine), Vec::<String>::new(), "{fine}");
        }
        for (listen, missing) in [
            ("listen: '0.0.0.0:9644'".to_owned(), "(http.token and http.tls is missing)"),
            (format!("listen: '10.0.0.1:9644', token: {TOKEN}"), "(http.tls is missing)"),
            (format!("listen: '[::]:9644', {tls}"), "(http.token is missing)"),
        ] {
            let found = faults(&listen);
            assert!(
                found.len() == 1 && found[0].starts_with("http.listen ") && found[0].contains(missing),
                "{found:?}"
            );
        }
        let found = faults("listen: '127.0.0.1:9644', probes: { listen: '127.0.0.1:9644' }");
        assert!(found[0].starts_with("http.probes.listen is where"), "{found:?}");
        assert!(!faults("listen: '127.0.0.1:9644', tls: { cert: a.pem }").is_empty(), "half of a TLS");
    }

    #[test]
    fn a_token_is_long_enough_for_nobody_to_guess_it_and_in_no_message() {
        for wrong in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdéf"] {
            let found = faults(&format!("listen: '127.0.0.1:9644', token: '{wrong}'"));
            assert!(found.len() == 1 && found[0].starts_with("http.token "), "{found:?}");
            assert!(!found[0].contains(&wrong[..9]), "{found:?}");
        }
    }
}
