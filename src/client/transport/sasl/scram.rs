//! SCRAM (RFC 5802, RFC 7677) without channel binding, as a dialogue of four messages. Pure.
//!
//! Like Kafka's own, it takes passwords as they are, without SASLprep.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::config::ScramHash;

/// RFC 7677, 4; Kafka's least as well.
const ITERATIONS_MIN: u32 = 4096;
/// A server that asks for more wants to keep us busy: Kafka's own most is 16,384.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES_MAX: usize = 1024;

/// What the server has to prove at last.
pub(super) struct Proof {
    /// What the client sends.
    pub(super) message: Vec<u8>,
    server_signature: Vec<u8>,
}

/// `client-first-message`.
pub(super) fn first(username: &str, nonce: &str) -> Vec<u8> {
    format!("n,,{}", first_bare(username, nonce)).into_bytes()
}

fn first_bare(username: &str, nonce: &str) -> String {
    format!("n={},r={nonce}", username.replace('=', "=3D").replace(',', "=2C"))
}

/// `client-final-message`, the answer to `server-first-message`. Takes as long as the server's iterations take.
pub(super) fn prove(
    hash: ScramHash,
    username: &str,
    password: &SecretString,
    nonce: &str,
    server_first: &[u8],
) -> Result<Proof, String> {
    let server_first = std::str::from_utf8(server_first).map_err(|_| "its challenge is not UTF-8")?;
    let challenge = Challenge::parse(server_first)?;
    if !challenge.nonce.starts_with(nonce) || challenge.nonce.len() == nonce.len() {
        return Err(
            "its challenge has another nonce than the one that it was sent: who answers is not the broker that \
                    was asked"
                .to_owned(),
        );
    }
    let (kdf, mac, sha) = match hash {
        ScramHash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        ScramHash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
    };
    let mut salted = Zeroizing::new(vec![0; sha.output_len()]);
    pbkdf2::derive(kdf, challenge.iterations, &challenge.salt, password.expose_secret().as_bytes(), &mut salted);
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(mac, key), text);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(sha, client_key.as_ref());
    let without_proof = format!("c=biws,r={}", challenge.nonce);
    let auth = format!("{},{server_first},{without_proof}", first_bare(username, nonce));
    let signature = sign(stored_key.as_ref(), auth.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
    let server_key = sign(&salted, b"Server Key");
    Ok(Proof {
        message: format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes(),
        server_signature: sign(server_key.as_ref(), auth.as_bytes()).as_ref().to_vec(),
    })
}

/// Whether a challenge is one that is answered at once.
pub(super) fn is_cheap(server_first: &[u8]) -> bool {
    let text = std::str::from_utf8(server_first).unwrap_or_default();
    Challenge::parse(text).is_ok_and(|challenge| challenge.iterations.get() == ITERATIONS_MIN)
}

impl Proof {
    /// Whether `server-final-message` shows that the server knows the password as well.
    pub(super) fn verify(&self, server_final: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(server_final).map_err(|_| "its last message is not UTF-8")?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(format!("it says: {}", super::printable(error)));
        }
        let signature = text.strip_prefix("v=").and_then(|rest| rest.split(',').next());
        let signature =
            signature.and_then(|text| STANDARD.decode(text).ok()).ok_or("its last message has no signature")?;
        // Not a secret any more: both sides have sent theirs.
        if signature == self.server_signature {
            return Ok(());
        }
        Err("its signature is wrong: who answers does not know the password, and so is not the broker that was meant"
            .to_owned())
    }
}

/// `server-first-message`.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> Challenge<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if let Some(error) = text.strip_prefix("e=") {
            return Err(format!("it says: {}", super::printable(error)));
        }
        // In this order, and behind them only extensions that need not be understood (m= must be).
        let mut parts = text.split(',');
        let mut next = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let malformed = "its challenge is malformed";
        let nonce = next("r=").ok_or(malformed)?;
        let salt = next("s=").and_then(|text| STANDARD.decode(text).ok()).ok_or(malformed)?;
        let count = next("i=").and_then(|text| text.parse::<u32>().ok()).ok_or(malformed)?;
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(malformed.to_owned());
        }
        let iterations = NonZeroU32::new(count).filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&n.get()));
        let iterations = iterations.ok_or_else(|| {
            format!("it asks for {count} iterations; kmirror takes {ITERATIONS_MIN} to {ITERATIONS_MAX}")
        })?;
        Ok(Self { nonce, salt, iterations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn proved(server_first: &str) -> Result<Proof, String> {
        prove(ScramHash::Sha256, "user", &"pencil".into(), NONCE, server_first.as_bytes())
    }

    /// RFC 7677, 3.
    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(first("user", NONCE), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = proved(SERVER_FIRST).unwrap();
        assert_eq!(
            std::str::from_utf8(&proof.message).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proof.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    /// RFC 5802, 5.1.
    #[test]
    fn names_are_escaped() {
        assert_eq!(first("a=b,c", "n"), b"n,,n=a=3Db=2Cc,r=n");
    }

    #[test]
    fn a_server_that_lies_is_found_out() {
        let says = |server_first: &str| proved(server_first).err().unwrap();
        let with = |from: &str, to: &str| SERVER_FIRST.replace(from, to);
        assert!(says(&with("i=4096", "i=2147483647")).contains("2147483647 iterations; kmirror takes 4096 to 1000000"));
        assert!(says(&with("i=4096", "i=4095")).contains("4095 iterations"));
        assert!(says(&with("i=4096", "i=99999999999")).contains("malformed"));
        assert!(says(&with("r=rOpr", "r=xOpr")).contains("another nonce"));
        assert!(says(&with("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "")).contains("another nonce"), "it must add its own");
        assert!(says(&with("s=", "m=x,s=")).contains("malformed"), "mandatory extensions are not known");
        assert!(says("e=unknown-user").contains("it says: unknown-user"));
        let proof = proved(SERVER_FIRST).unwrap();
        let wrong = proof.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap_err();
        assert!(wrong.contains("its signature is wrong"), "{wrong}");
        assert!(proof.verify(b"").unwrap_err().contains("no signature"));
        assert!(proof.verify(b"e=other-error").unwrap_err().contains("it says: other-error"));
    }
}
