//! Digests, as hex: SHA-256 of manifests, and BLAKE3 of segments (SHA-256 where the manifest is of version 1).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A digest that takes its bytes piece by piece.
#[derive(Clone)]
pub struct Sha256(ring::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

impl Sha256 {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish_hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// The digest of these bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut digest = Sha256::default();
    digest.update(bytes);
    digest.finish_hex()
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digest of a segment as a manifest has it: a field of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectDigest {
    /// SHA-256, as hex: written by manifests of version 1.
    Sha256(String),
    /// BLAKE3 with 32 bytes of output, as hex.
    Blake3(String),
}

impl ObjectDigest {
    /// Name of the field and what it says.
    pub fn named(&self) -> (&'static str, &str) {
        match self {
            Self::Sha256(hex) => ("sha256", hex),
            Self::Blake3(hex) => ("blake3", hex),
        }
    }

    /// One of the same kind, of nothing as yet.
    pub fn hasher(&self) -> ObjectHasher {
        match self {
            Self::Sha256(_) => ObjectHasher::Sha256(Box::default()),
            Self::Blake3(_) => ObjectHasher::blake3(),
        }
    }

    /// Whether it is that of these bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

/// Digests an object that comes piece by piece.
#[derive(Debug, Clone)]
pub enum ObjectHasher {
    /// SHA-256.
    Sha256(Box<Sha256>),
    /// BLAKE3.
    Blake3(Box<blake3::Hasher>),
}

impl ObjectHasher {
    /// What new segments have.
    pub fn blake3() -> Self {
        Self::Blake3(Box::default())
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(digest) => digest.update(bytes),
            Self::Blake3(digest) => drop(digest.update(bytes)),
        }
    }

    /// The digest of all of them.
    pub fn finish(self) -> ObjectDigest {
        match self {
            Self::Sha256(digest) => ObjectDigest::Sha256(digest.finish_hex()),
            Self::Blake3(digest) => ObjectDigest::Blake3(digest.finalize().to_hex().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of BLAKE3's own test vectors for no input, and both kinds by their names.
    #[test]
    fn a_manifest_names_the_kind() {
        let none = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let digest: ObjectDigest = serde_json::from_str(&format!("{{\"blake3\":\"{none}\"}}")).unwrap();
        assert!(digest.is_of(b"") && !digest.is_of(b"x"));
        assert!(ObjectDigest::Sha256(sha256_hex(b"x")).is_of(b"x"));
    }

    /// FIPS 180-4's example.
    #[test]
    fn it_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), expected);
    }
}
