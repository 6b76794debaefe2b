//! What others say before a connection is ours, for the fuzz target alone.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{bearer, scram};
use crate::config::ScramHash;

/// Messages of a SCRAM server to a client with this nonce. Who is asked for more iterations than the least refuses here,
/// so that no input takes long. Ok: the server has proven that it knows the password.
pub fn scram_dialogue(password: &str, nonce: &str, server_first: &[u8], server_final: &[u8]) -> Result<(), String> {
    if !scram::is_cheap(server_first) {
        return Err("not cheap".to_owned());
    }
    for hash in [ScramHash::Sha256, ScramHash::Sha512] {
        scram::prove(hash, "user", &password.into(), nonce, server_first)?.verify(server_final)?;
    }
    Ok(())
}

/// What a server says of a token that it refuses, as it is shown.
pub fn bearer_refusal(answer: &[u8], secret: &str) -> String {
    bearer::refusal(answer, &secret.into())
}

/// A token endpoint's answer: the token, and how long it may be kept.
pub fn token_answer(status: u16, body: &[u8], secret: &str) -> Result<(String, Duration), String> {
    let secret = SecretString::from(secret);
    let (token, serves) = bearer::read_answer(status, body, &secret)?;
    Ok((bearer::checked(&token)?.expose_secret().to_owned(), serves))
}
