//! When the groups were last brought in step, kept on the target where everybody can read it: as the committed offset of a
//! group of kmirror's own, `__kmirror.<mirror>`, on the control partition of the state topic. The offset is the time, the
//! metadata what was found. The topic itself would grow by every such record; a group's offset takes the place of the last.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::{ClientError, Cluster, GroupPartition};
use crate::groups::Committed;
use crate::mirror::state_topic;

/// A status waits no longer for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a look at all selected groups found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct SyncRecord {
    /// When all of them were last in step or knowingly left alone, ms since the epoch.
    #[serde(skip)]
    pub at_ms: i64,
    /// Selected groups of the source.
    pub groups: u64,
    /// Groups of which all that can be translated stands on the target.
    pub synced: u64,
    /// Groups that were left alone: they live on the target, or somebody else's offsets stand there.
    pub left_alone: u64,
    /// Groups that have no offsets which could be translated: share groups, and types that differ.
    pub not_translatable: u64,
    /// Groups that could not be read or written.
    pub failed: u64,
    /// Committed offsets without a counterpart on the target.
    pub untranslatable_offsets: u64,
}

impl SyncRecord {
    /// How long ago that was, ms.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.at_ms).max(0)
    }
}

/// The last record; `None` where there is none that can be read.
///
/// # Errors
/// The group's coordinator cannot be asked.
pub async fn last_sync(mirror: &str, target: &Cluster) -> Result<Option<SyncRecord>, ClientError> {
    let group = state_topic(mirror);
    let mut fetched = target.fetch_group_offsets(std::slice::from_ref(&group), false, PATIENCE).await;
    let Some(answers) = fetched.remove(&group).transpose()? else { return Ok(None) };
    let newest = answers.offsets.iter().map(|(_, _, committed)| committed).max_by_key(|committed| committed.offset);
    Ok(newest.and_then(|committed| read(&committed.metadata, committed.offset)))
}

/// What stands in the metadata of a committed offset; `None` where that is something else.
pub(in crate::ops) fn read(metadata: &str, offset: i64) -> Option<SyncRecord> {
    let found: SyncRecord = serde_json::from_str(metadata).ok()?;
    Some(SyncRecord { at_ms: offset, ..found })
}

/// Keeps a record; `at` is the control partition.
pub(super) async fn keep(
    mirror: &str,
    target: &Cluster,
    at: GroupPartition,
    found: &SyncRecord,
) -> Result<(), ClientError> {
    let group = state_topic(mirror);
    // Numbers only: writing them as JSON cannot fail.
    let metadata = serde_json::to_string(found).unwrap_or_default();
    let committed = Committed { offset: found.at_ms, leader_epoch: -1, metadata };
    let offsets = BTreeMap::from([(group.clone(), BTreeMap::from([(at, committed)]))]);
    let mut answers = target.commit_group_offsets(offsets, PATIENCE).await;
    let Some(answers) = answers.remove(&group).transpose()? else { return Ok(()) };
    answers.into_values().collect()
}
