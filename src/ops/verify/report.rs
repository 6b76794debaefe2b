//! What `verify` says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::VerifyOptions;
use crate::mirror::verify::Tally;

use super::MirrorState;

/// What came of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Whatever could be compared is the same.
    Equal,
    /// Records differ, are missing, or should not be there.
    Problems,
    /// Not one record could be compared: there are none, or one side has let go of them.
    NothingToCompare,
    /// It could not be read to its end.
    Failed,
}

/// Half-open, source offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// First offset.
    pub from: i64,
    /// Offset after the last.
    pub to: i64,
}

/// A partition.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedPartition {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number.
    pub partition: i32,
    /// The verdict.
    pub result: Found,
    /// Source offset at which the offset map begins.
    pub from: i64,
    /// Source offset up to which was mirrored when the comparison began; what came later was not looked at.
    pub to: i64,
    /// Target offsets that lie before the offset map and were not looked at: what the topic held before, or copies of a source
    /// topic that was deleted since.
    pub before_map: i64,
    /// Source offsets that were looked at: one range, or those of the sample.
    pub stretches: Vec<Stretch>,
    /// What was found.
    #[serde(flatten)]
    pub tally: Tally,
    /// Why it could not be compared, or what somebody should know.
    pub detail: Option<String>,
    #[serde(skip)]
    pub(super) unreachable: bool,
}

/// `verify --json`.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// Stretches of each partition, where not the whole was compared.
    pub sample: Option<usize>,
    /// What chose them.
    pub seed: u64,
    /// Whether payloads were compared byte for byte as well.
    pub bytes: bool,
    /// Partitions, by topic and number.
    pub partitions: Vec<VerifiedPartition>,
    /// Partitions of the source that are not on record: nothing of them was mirrored yet.
    pub not_mirrored: Vec<String>,
    /// Shards of the state that cannot be read, and why: their partitions were not compared.
    pub damaged_shards: BTreeMap<u32, String>,
    #[serde(skip)]
    named: bool,
}

impl VerifyReport {
    pub(super) fn new(mirror: &str, options: &VerifyOptions, state: &MirrorState) -> Self {
        Self {
            schema_version: 1,
            mirror: mirror.to_owned(),
            sample: options.sample,
            seed: options.seed,
            bytes: options.bytes,
            partitions: Vec::new(),
            not_mirrored: Vec::new(),
            damaged_shards: state.damaged.iter().map(|(shard, halt)| (*shard, halt.to_string())).collect(),
            named: !options.only.is_empty(),
        }
    }

    /// Whether something is wrong, or what was asked for could not be found out. What is not mirrored yet is lag, and no
    /// problem, unless it was asked for by name.
    pub fn has_problems(&self) -> bool {
        let failed = |p: &VerifiedPartition| p.result == Found::Failed && !p.unreachable;
        let wrong = |p: &VerifiedPartition| p.result == Found::Problems || failed(p);
        let unknown = self.named && !self.not_mirrored.is_empty();
        self.partitions.iter().any(wrong) || unknown || !self.damaged_shards.is_empty()
    }

    /// Whether some partition could not be reached, or may not be read.
    pub fn is_unreachable(&self) -> bool {
        self.partitions.iter().any(|partition| partition.unreachable)
    }

    /// Records that were found to be the same.
    pub fn equal(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.tally.equal).sum()
    }
}
