//! Why a partition stands still, and the way out. A halt is typed, names its evidence, and stops that partition only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The way out where the target's copy cannot be trusted.
const ANEW: &str = "to have it mirrored anew, from the start of the source log, delete the target topic and resume once it is \
                    there again";

/// What brought a partition to a halt. The names are what `status --json` shows as `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltKind {
    /// Retention (or DeleteRecords) took source records before they were mirrored.
    RetentionLoss,
    /// The source topic was deleted and made again: another topic id under the same name.
    SourceRecreated,
    /// The source log lost records that were mirrored already (unclean leader election).
    Truncation,
    /// Somebody else wrote into the mirror topic, or it held data before the mirror began.
    ForeignRecords,
    /// A source batch fails its checksum or contradicts itself.
    CorruptBatch,
    /// The target refuses a batch for its size.
    MessageTooLarge,
    /// The target refuses a batch for its content (for example a null key in a compacted topic).
    InvalidRecord,
    /// The target topic is gone, or was made again under another id.
    TargetRecreated,
    /// The target log ends before what had been acknowledged (unclean leader election).
    TargetTruncated,
    /// A right is missing on one of the clusters.
    Unauthorised,
    /// The end of the target log could not be established, so nothing can be appended safely.
    EndUnreadable,
    /// The last record below the settled end is not the one the offset map names.
    MapMismatch,
    /// An earlier owner could not be fenced, because its producer id is unknown to the target by now.
    Unfenced,
    /// The mirror has written to the target before, and its state topic knows nothing of that any more.
    StateLost,
    /// The state topic's records about the partition's shard are damaged or cut off.
    StateDamaged,
    /// An answer that the protocol does not allow at this point.
    Unexpected,
}

impl HaltKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::RetentionLoss,
        Self::SourceRecreated,
        Self::Truncation,
        Self::ForeignRecords,
        Self::CorruptBatch,
        Self::MessageTooLarge,
        Self::InvalidRecord,
        Self::TargetRecreated,
        Self::TargetTruncated,
        Self::Unauthorised,
        Self::EndUnreadable,
        Self::MapMismatch,
        Self::Unfenced,
        Self::StateLost,
        Self::StateDamaged,
        Self::Unexpected,
    ];

    /// Whether a `resume` behind this halt may begin anew on a target topic that was made again since.
    pub fn ends_with_a_new_target(self) -> bool {
        matches!(
            self,
            Self::TargetRecreated
                | Self::TargetTruncated
                | Self::ForeignRecords
                | Self::MapMismatch
                | Self::EndUnreadable
                | Self::StateLost
        )
    }
}

impl fmt::Display for HaltKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        f.write_str(&name)
    }
}

/// A halt with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// What happened.
    pub kind: HaltKind,
    /// The source offsets concerned, half-open, where they are known.
    pub range: Option<(i64, i64)>,
    /// The evidence in words, with offsets.
    pub detail: String,
}

impl Halt {
    /// A halt without a source range.
    pub fn new(kind: HaltKind, detail: impl Into<String>) -> Self {
        Self { kind, range: None, detail: detail.into() }
    }

    /// A halt that concerns the source offsets `[from, to)`.
    pub fn over(kind: HaltKind, from: i64, to: i64, detail: impl Into<String>) -> Self {
        Self { kind, range: Some((from, to)), detail: detail.into() }
    }

    /// Whether giving up a source range lets the partition go on.
    pub fn can_accept_loss(&self) -> bool {
        self.range.is_some()
            && matches!(
                self.kind,
                HaltKind::RetentionLoss
                    | HaltKind::Truncation
                    | HaltKind::CorruptBatch
                    | HaltKind::MessageTooLarge
                    | HaltKind::InvalidRecord
                    | HaltKind::MapMismatch
            )
    }

    /// The source range that accepting the loss passes over. After a truncation nothing is passed over: the mirror goes
    /// back; and a record that differs is already behind it.
    pub fn passable(&self) -> Option<(i64, i64)> {
        let behind = matches!(self.kind, HaltKind::Truncation | HaltKind::MapMismatch);
        self.range.filter(|_| self.can_accept_loss() && !behind)
    }

    /// The command that ends the halt, for a message: exact where one command does it.
    pub fn way_out(&self, mirror: &str, topic: &str, partition: i32) -> String {
        let resume = format!("kmirror resume --mirror {mirror} --partition {topic}:{partition}");
        match (self.kind, self.range) {
            (HaltKind::Truncation, Some((from, to))) => format!(
                "to go on at source offset {from}, and keep on the target what the source lost: {resume} --accept-loss \
                 {from}..{to}"
            ),
            (HaltKind::MapMismatch, Some((from, to))) => format!(
                "{ANEW}; or, to go on behind that record and leave it as it is: {resume} --accept-loss {from}..{to}"
            ),
            (HaltKind::MapMismatch, None) => format!("{ANEW}: {resume}"),
            (HaltKind::EndUnreadable, _) => format!(
                "to go on behind what the target has let go of, copying it again where its end is not known: {resume}"
            ),
            (HaltKind::StateLost | HaltKind::StateDamaged, _) => format!(
                "to stop this process, see what the two logs themselves tell of the state, and start again once that is \
                 written (--yes): kmirror state rebuild --mirror {mirror}"
            ),
            (HaltKind::Unfenced, _) => {
                format!("make sure that no other process runs this mirror, then: {resume}")
            }
            (_, Some((from, to))) if self.can_accept_loss() => {
                format!("to go on without source offsets [{from}, {to}): {resume} --accept-loss {from}..{to}")
            }
            (HaltKind::Unauthorised, _) => format!(
                "grant the right named above; one on the source is noticed soon, for one on the target then: {resume}"
            ),
            (HaltKind::ForeignRecords, _) => {
                format!("end what else writes there; to go on behind those records, which stay: {resume}")
            }
            (HaltKind::SourceRecreated, _) => {
                format!("to mirror the new topic from its start, behind the records of the old one: {resume}")
            }
            (HaltKind::TargetRecreated, _) => {
                format!("to mirror the partition anew, from the start of the source log: {resume}")
            }
            (HaltKind::TargetTruncated, _) => {
                format!("to find the new end of the target log and copy again what it lost: {resume}")
            }
            (HaltKind::MessageTooLarge, None) => format!("raise max.message.bytes on the target topic, then: {resume}"),
            _ => format!("settle the cause named above, then: {resume}"),
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some((from, to)) => write!(f, "{} at source offsets [{from}, {to}): {}", self.kind, self.detail),
            None => write!(f, "{}: {}", self.kind, self.detail),
        }
    }
}
