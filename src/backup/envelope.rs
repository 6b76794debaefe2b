//! Small files that tell whether they are whole: one line about the other. The label of an archive and its manifests are such files.

use serde::{Deserialize, Serialize};

use super::digest::sha256_hex;
use super::manifest::Signature;

/// A kind of such files.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileKind {
    /// What it begins with.
    pub(super) magic: &'static str,
    /// The version that is written, and the newest that is read.
    pub(super) version: u32,
}

/// What the first line says in every version.
#[derive(Deserialize)]
struct Front {
    magic: String,
    version: u32,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    magic: String,
    version: u32,
    /// SHA-256 of the second line, as hex.
    sha256: String,
    signature: Option<Signature>,
}

/// What is wrong with such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not two lines of JSON as they should be.
    #[error("it is not what it should be: {0}")]
    Malformed(String),
    /// It says something that cannot be.
    #[error("{at}: {what}; no kmirror wrote this")]
    Impossible {
        /// Where, as a path into the JSON of its second line.
        at: String,
        /// What.
        what: String,
    },
    /// Of a newer kmirror.
    #[error("format version {found}, and this kmirror reads up to {reads}: use a newer one")]
    Version {
        /// Of the file.
        found: u32,
        /// The newest that is read.
        reads: u32,
    },
    /// The second line is not what the first says.
    #[error("its SHA-256 is {found} and should be {expected}: it was changed or damaged")]
    Changed {
        /// Of the second line.
        found: String,
        /// On the first.
        expected: String,
    },
    /// The signature is not of the second line, whoever made it.
    #[error("its signature does not fit it: it was changed or damaged")]
    Signature,
}

/// The file of these words.
pub(super) fn wrap(kind: FileKind, body: &[u8], signature: Option<Signature>) -> Vec<u8> {
    let (magic, version) = (kind.magic.to_owned(), kind.version);
    let envelope = Envelope { magic, version, sha256: sha256_hex(body), signature };
    let mut out = serde_json::to_vec(&envelope).unwrap_or_default();
    out.push(b'\n');
    out.extend(body);
    out.push(b'\n');
    out
}

/// Signature and second line of a file.
///
/// # Errors
/// Any byte of it is not as it was written, or it is of a newer version.
pub(super) fn open(kind: FileKind, file: &[u8]) -> Result<(Option<Signature>, &[u8]), EnvelopeError> {
    let malformed = |what: String| EnvelopeError::Malformed(what);
    let text = file.strip_suffix(b"\n").ok_or_else(|| malformed("it does not end with a line break".to_owned()))?;
    let cut = text.iter().position(|byte| *byte == b'\n');
    let (first, body) = text.split_at(cut.ok_or_else(|| malformed("it has one line only".to_owned()))?);
    let body = &body[1..];
    let damaged = |error: serde_json::Error| malformed(format!("its first line: {error}"));
    let front: Front = serde_json::from_slice(first).map_err(damaged)?;
    if front.magic != kind.magic {
        return Err(malformed(format!("it begins with {:?}", front.magic)));
    }
    if !(1..=kind.version).contains(&front.version) {
        return Err(EnvelopeError::Version { found: front.version, reads: kind.version });
    }
    let envelope: Envelope = serde_json::from_slice(first).map_err(damaged)?;
    // Nothing vouches for the first line but that it can be written in one way only.
    if serde_json::to_vec(&envelope).unwrap_or_default() != first {
        return Err(malformed("its first line is not as it was written".to_owned()));
    }
    let found = sha256_hex(body);
    if found != envelope.sha256 {
        return Err(EnvelopeError::Changed { found, expected: envelope.sha256 });
    }
    if envelope.signature.as_ref().is_some_and(|signature| !signature.fits(body)) {
        return Err(EnvelopeError::Signature);
    }
    Ok((envelope.signature, body))
}
