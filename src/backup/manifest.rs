//! The manifest of a unit: what it holds, bound to the manifest before it. The format is specified in `docs/archive-format.md`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bounds;
use super::capture::Captured;
use super::digest::ObjectDigest;
use super::envelope::{self, EnvelopeError, FileKind};
use crate::client::TopicPartition;
use crate::mirror::{GapReason, Isolation};

/// Version 1 has SHA-256 for its segments.
pub(super) const KIND: FileKind = FileKind { magic: "kmirror-manifest", version: 2 };

/// Who vouches for a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The public key, as base64: whoever reads can tell whether the signature fits, and has to know whether to trust the key.
    pub public_key: String,
    /// Ed25519 signature of the second line, as base64.
    pub ed25519: String,
}

/// The second line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the backup.
    pub backup: String,
    /// Cluster id of the source.
    pub cluster_id: String,
    /// Number of the chain, from 1.
    pub chain: u32,
    /// Number of the unit in its chain, from 1.
    pub unit: u32,
    /// SHA-256 of the whole manifest before it in the chain, as hex; `None` for the first.
    pub previous: Option<String>,
    /// Which records of transactions were read.
    pub isolation: Isolation,
    /// Whether every partition was read to the end that it had when the pass began. Long passes write manifests on the way.
    pub is_complete: bool,
    /// When the pass began, ms.
    pub begun_at_ms: i64,
    /// When this manifest was written, ms.
    pub ended_at_ms: i64,
    /// Partitions with something new, by topic and number.
    pub partitions: Vec<PartitionPart>,
    /// What was known of topics, groups and rights, in complete units.
    pub captured: Option<Captured>,
}

/// What a unit adds to a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPart {
    /// Topic.
    pub topic: String,
    /// Its id on the source.
    pub topic_id: Uuid,
    /// Partition.
    pub partition: i32,
    /// First offset that the unit accounts for.
    pub from: i64,
    /// Offset behind the last that it accounts for: here the next unit goes on.
    pub to: i64,
    /// Log start offset of the source at that time.
    pub log_start: i64,
    /// Stretches of `[from, to)` that were gone before they were read, and why. What compaction removed shows in the batches.
    pub gaps: Vec<Gap>,
    /// Aborted transactions whose marker lies in `[from, to)`.
    pub aborted: Vec<Aborted>,
    /// Segments, by offset.
    pub segments: Vec<SegmentPart>,
    /// Transactions that are open at `to`.
    #[serde(default)]
    pub open: Vec<OpenTransaction>,
    /// Why it was not read to its end, where it was not.
    pub problem: Option<String>,
}

impl PartitionPart {
    /// Of a partition that could not be read.
    pub(super) fn unread(tp: &TopicPartition, at: i64, problem: String) -> Self {
        Self {
            topic: tp.topic.clone(),
            topic_id: tp.topic_id,
            partition: tp.partition,
            from: at,
            to: at,
            log_start: at,
            gaps: Vec::new(),
            aborted: Vec::new(),
            segments: Vec::new(),
            open: Vec::new(),
            problem: Some(problem),
        }
    }

    /// Takes in what follows it.
    pub(super) fn append(&mut self, next: Self) {
        self.to = next.to;
        self.log_start = next.log_start;
        self.gaps.extend(next.gaps);
        self.aborted.extend(next.aborted);
        self.segments.extend(next.segments);
        if next.to > next.from {
            self.open = next.open;
        }
        self.problem = next.problem;
    }
}

impl SegmentPart {
    /// Leader epoch of its last batch.
    pub fn last_leader_epoch(&self) -> i32 {
        self.leader_epochs.last().map_or(self.first_leader_epoch, |(epoch, _)| *epoch)
    }
}

/// Offsets that were gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// First offset.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
}

/// A transaction that ended in an ABORT marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
}

/// A transaction whose end comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

/// A segment, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPart {
    /// Path of the object below the archive's folder.
    pub object: String,
    /// Id of the segment, as its header has it: another object in its place is not taken for it.
    pub segment_id: Uuid,
    /// First offset of its first batch.
    pub from: i64,
    /// Offset behind its last batch.
    pub to: i64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes of the batches in it.
    pub raw_bytes: u64,
    /// Digest of the object.
    #[serde(flatten)]
    pub digest: ObjectDigest,
    /// Batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Leader epoch of the first batch.
    pub first_leader_epoch: i32,
    /// Leader epochs that begin in it behind its first batch: epoch and first offset.
    pub leader_epochs: Vec<(i32, i64)>,
    /// Transactions that are open where it begins.
    pub open: Vec<OpenTransaction>,
    /// Least base timestamp of its batches, ms.
    pub min_timestamp_ms: i64,
    /// Greatest timestamp, ms.
    pub max_timestamp_ms: i64,
}

impl Manifest {
    /// The file. `sign` is given the second line.
    pub fn to_file(&self, sign: impl FnOnce(&[u8]) -> Option<Signature>) -> Vec<u8> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        envelope::wrap(KIND, &body, sign(&body))
    }

    /// Reads a file; gives the signature and the line that it is of as well.
    ///
    /// # Errors
    /// Damaged, changed, or of a newer version; or it says what cannot be.
    pub fn parse(file: &[u8]) -> Result<Signed<'_>, EnvelopeError> {
        let (signature, body) = envelope::open(KIND, file)?;
        Ok(Signed { manifest: Self::parse_body(body)?, signature, body })
    }

    /// Reads the second line of a file, whoever wrote it.
    ///
    /// # Errors
    /// No JSON of a manifest, or it says what cannot be.
    pub fn parse_body(body: &[u8]) -> Result<Self, EnvelopeError> {
        let malformed = |error| EnvelopeError::Malformed(format!("its second line: {error}"));
        let manifest: Self = serde_json::from_slice(body).map_err(malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it says nothing that cannot be ([`super::bounds`]).
    pub fn check(&self) -> Result<(), EnvelopeError> {
        bounds::check(self).map_err(|wrong| EnvelopeError::Impossible { at: wrong.at, what: wrong.what })
    }
}

/// A manifest that was read.
#[derive(Debug)]
pub struct Signed<'a> {
    /// What it says.
    pub manifest: Manifest,
    /// Who vouches for it.
    pub signature: Option<Signature>,
    /// The bytes that are signed.
    pub body: &'a [u8],
}
