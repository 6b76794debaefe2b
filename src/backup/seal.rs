//! Seals and signatures. Blocks are sealed with a data key of their segment (ChaCha20-Poly1305, RFC 8439), which is stored sealed
//! itself under a key of the operator's; manifests are signed with Ed25519 (RFC 8032).
//!
//! A key that is replaced stays in the ring as an old one: nothing is written anew, only new segments are under the new key.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::digest::{hex, sha256_hex};
use super::manifest::Signature;
use crate::config::KeySource;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const WRAPPED_KEY_BYTES: usize = KEY_BYTES + 16;

/// Why something could not be sealed, opened, signed or checked. Holds no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A key cannot be had.
    #[error("the key from {from}: {detail}")]
    Source {
        /// File, variable or command.
        from: String,
        /// What is wrong.
        detail: String,
    },
    /// It was sealed under another key.
    #[error(
        "it is sealed with key {wanted}, and at hand are: {at_hand}; name the key that it was written with under encryption.old_keys"
    )]
    OtherKey {
        /// Id of the key that it was sealed with.
        wanted: String,
        /// Ids of the keys of the ring.
        at_hand: String,
    },
    /// Sealed bytes were changed.
    #[error("the seal is broken: the bytes are not what was sealed")]
    Broken,
    /// A signature of somebody else.
    #[error("it is signed with key {found}, and {expected} is trusted")]
    OtherSigner {
        /// Id on the signature.
        found: String,
        /// Id of the key that is trusted.
        expected: String,
    },
    /// A signature that does not fit.
    #[error("the signature is wrong: the manifest was changed")]
    Forged,
    /// The system gives no random bytes, or refuses a key.
    #[error("cryptography: {0}")]
    Failed(&'static str),
}

/// A key of the operator's, and its public id.
#[derive(Clone)]
struct WrappingKey {
    id: [u8; 8],
    key: Arc<LessSafeKey>,
}

/// The keys that data keys are sealed under.
#[derive(Clone)]
pub struct Keyring {
    current: WrappingKey,
    old: Vec<WrappingKey>,
    /// Whether segments are read that are not sealed.
    takes_unsealed: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}

/// The key of one segment.
pub struct SegmentKey(LessSafeKey);

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentKey")
    }
}

/// A data key, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    key_id: [u8; 8],
    nonce: [u8; NONCE_BYTES],
    sealed: [u8; WRAPPED_KEY_BYTES],
}

impl WrappedKey {
    /// Its bytes, as they stand in a segment's header: key id, nonce, the sealed key.
    pub fn to_bytes(&self) -> [u8; 8 + NONCE_BYTES + WRAPPED_KEY_BYTES] {
        let mut out = [0; 8 + NONCE_BYTES + WRAPPED_KEY_BYTES];
        out[..8].copy_from_slice(&self.key_id);
        out[8..20].copy_from_slice(&self.nonce);
        out[20..].copy_from_slice(&self.sealed);
        out
    }

    /// From these bytes.
    pub fn from_bytes(bytes: &[u8; 8 + NONCE_BYTES + WRAPPED_KEY_BYTES]) -> Self {
        let mut out = Self { key_id: [0; 8], nonce: [0; NONCE_BYTES], sealed: [0; WRAPPED_KEY_BYTES] };
        out.key_id.copy_from_slice(&bytes[..8]);
        out.nonce.copy_from_slice(&bytes[8..20]);
        out.sealed.copy_from_slice(&bytes[20..]);
        out
    }

    /// Which key it was sealed under.
    pub fn key_id_hex(&self) -> String {
        hex(&self.key_id)
    }
}

fn aead(key: &[u8]) -> Result<LessSafeKey, SealError> {
    let unbound =
        UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| SealError::Failed("the key has a wrong size"))?;
    Ok(LessSafeKey::new(unbound))
}

fn bound_to(segment: Uuid) -> Aad<Vec<u8>> {
    Aad::from([&b"kmirror-key"[..], segment.as_bytes()].concat())
}

impl WrappingKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        let mut id = [0; 8];
        id.copy_from_slice(&ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()[..8]);
        Ok(Self { id, key: Arc::new(aead(bytes)?) })
    }
}

impl Keyring {
    /// The ring of these keys.
    pub fn new(current: &[u8; KEY_BYTES], old: &[[u8; KEY_BYTES]]) -> Result<Self, SealError> {
        let old = old.iter().map(WrappingKey::new).collect::<Result<_, _>>()?;
        Ok(Self { current: WrappingKey::new(current)?, old, takes_unsealed: false })
    }

    /// The same from where they are kept.
    pub async fn load(current: &KeySource, old: &[KeySource]) -> Result<Self, SealError> {
        let key = super::keys::read(current).await?;
        let mut ring = Self { current: WrappingKey::new(&key)?, old: Vec::new(), takes_unsealed: false };
        for source in old {
            ring.old.push(WrappingKey::new(&*super::keys::read(source).await?)?);
        }
        Ok(ring)
    }

    /// With segments that are not sealed, if `takes_unsealed`: those of a chain that is older than its encryption.
    #[must_use]
    pub fn with_unsealed(self, takes_unsealed: bool) -> Self {
        Self { takes_unsealed, ..self }
    }

    /// Whether segments are read that are not sealed.
    pub fn takes_unsealed(&self) -> bool {
        self.takes_unsealed
    }

    fn ids(&self) -> Vec<String> {
        std::iter::once(&self.current).chain(&self.old).map(|key| hex(&key.id)).collect()
    }

    /// A new data key for a segment, and how it is stored.
    pub fn new_segment(&self, segment: Uuid) -> Result<(SegmentKey, WrappedKey), SealError> {
        let random = SystemRandom::new();
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let mut nonce = [0; NONCE_BYTES];
        let failed = |_| SealError::Failed("the system gives no random bytes");
        random.fill(&mut *key).map_err(failed)?;
        random.fill(&mut nonce).map_err(failed)?;
        let mut sealed = key.to_vec();
        let place = Nonce::assume_unique_for_key(nonce);
        let sealing = self.current.key.seal_in_place_append_tag(place, bound_to(segment), &mut sealed);
        sealing.map_err(|_| SealError::Failed("sealing failed"))?;
        let sealed = sealed.try_into().map_err(|_| SealError::Failed("sealing failed"))?;
        Ok((SegmentKey(aead(&*key)?), WrappedKey { key_id: self.current.id, nonce, sealed }))
    }

    /// The data key of a segment.
    pub fn open_segment(&self, segment: Uuid, wrapped: &WrappedKey) -> Result<SegmentKey, SealError> {
        let mut all = std::iter::once(&self.current).chain(&self.old);
        let Some(found) = all.find(|key| key.id == wrapped.key_id) else {
            return Err(SealError::OtherKey { wanted: wrapped.key_id_hex(), at_hand: self.ids().join(", ") });
        };
        let mut bytes = Zeroizing::new(wrapped.sealed.to_vec());
        let place = Nonce::assume_unique_for_key(wrapped.nonce);
        let opened = found.key.open_in_place(place, bound_to(segment), &mut bytes).map_err(|_| SealError::Broken)?;
        Ok(SegmentKey(aead(opened)?))
    }
}

impl SegmentKey {
    /// Bytes that a seal adds.
    pub const TAG_BYTES: usize = 16;

    /// Block numbers are the nonces: a key is of one segment, and a segment writes each of its blocks once.
    fn place(number: u32) -> Nonce {
        let mut nonce = [0; NONCE_BYTES];
        nonce[NONCE_BYTES - 4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a block; it opens only with the same `bound` beside it.
    pub fn seal(&self, number: u32, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut out = Vec::with_capacity(plain.len() + Self::TAG_BYTES);
        out.extend_from_slice(plain);
        let sealing = self.0.seal_in_place_append_tag(Self::place(number), Aad::from(bound), &mut out);
        sealing.map_err(|_| SealError::Failed("sealing failed"))?;
        Ok(out)
    }

    /// Opens a block.
    pub fn open(&self, number: u32, bound: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut out = sealed.to_vec();
        let opened = self.0.open_in_place(Self::place(number), Aad::from(bound), &mut out);
        let len = opened.map_err(|_| SealError::Broken)?.len();
        out.truncate(len);
        Ok(out)
    }
}

/// Signs manifests.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public_key().id()).finish()
    }
}

/// Who is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The beginning of its SHA-256, as hex.
    pub fn id(&self) -> String {
        sha256_hex(&self.0)[..16].to_owned()
    }

    /// The key as base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl Signer {
    /// Of this seed.
    pub fn new(seed: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| SealError::Failed("no Ed25519 seed"))
    }

    /// Of the seed from where it is kept.
    pub async fn load(source: &KeySource) -> Result<Self, SealError> {
        Self::new(&*super::keys::read(source).await?)
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }
}

impl Signature {
    /// Of these bytes.
    pub fn by(signer: &Signer, bytes: &[u8]) -> Self {
        Self { public_key: signer.public_key().to_base64(), ed25519: STANDARD.encode(signer.0.sign(bytes)) }
    }

    /// Whether it is of these bytes, by whoever has the key that it names.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (STANDARD.decode(&self.public_key), STANDARD.decode(&self.ed25519)) else {
            return false;
        };
        UnparsedPublicKey::new(&ED25519, &key).verify(bytes, &signature).is_ok()
    }

    /// Whether it is of these bytes, by who is trusted.
    pub fn check(&self, trusted: &PublicKey, bytes: &[u8]) -> Result<(), SealError> {
        if self.public_key != trusted.to_base64() {
            let found = STANDARD.decode(&self.public_key).map(|key| PublicKey(key).id());
            let found = found.unwrap_or_else(|_| self.public_key.clone());
            return Err(SealError::OtherSigner { found, expected: trusted.id() });
        }
        if self.fits(bytes) { Ok(()) } else { Err(SealError::Forged) }
    }
}

#[cfg(test)]
mod tests;
