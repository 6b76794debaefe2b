//! The way back: what stood on the target before offsets were written there, as a document to keep, and what brings it back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ByPartition, Committed, GroupPlan, TargetGroup};

/// Version of the document that this kmirror writes, and the newest that it reads.
pub const SNAPSHOT_VERSION: u32 = 1;

/// The former offsets of everything that a plan, or several in a row, wrote. As JSON:
/// `{"schema_version": 1, "mirror", "cluster_id", "taken_at_ms", "groups": {GROUP: {TOPIC: {PARTITION: {"before", "wrote"}}}}}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    schema_version: u32,
    /// The mirror that wrote.
    pub mirror: String,
    /// The target's cluster id: the offsets mean nothing elsewhere.
    pub cluster_id: String,
    /// When, ms since the epoch.
    pub taken_at_ms: i64,
    groups: BTreeMap<String, ByPartition<Former>>,
}

/// What stood there, and what was put in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The offset before; `None` where there was none.
    pub before: Option<Committed>,
    /// Every offset that was to be written since, in order. Which of them was is for the target to say.
    pub wrote: Vec<i64>,
}

/// Why a document is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not such a document, or damaged.
    #[error("this is no snapshot of group offsets, or it is damaged: {detail}")]
    Damaged {
        /// In which way.
        detail: String,
    },
    /// Written by a newer kmirror.
    #[error("the snapshot has version {version}, this kmirror knows {SNAPSHOT_VERSION}; use the newer kmirror")]
    Version {
        /// Version of the document.
        version: u64,
    },
}

impl Snapshot {
    /// An empty one.
    pub fn new(mirror: &str, cluster_id: &str, taken_at_ms: i64) -> Self {
        Self {
            schema_version: SNAPSHOT_VERSION,
            mirror: mirror.to_owned(),
            cluster_id: cluster_id.to_owned(),
            taken_at_ms,
            groups: BTreeMap::new(),
        }
    }

    /// Adds what a plan is going to overwrite in a group; `target` is the group that the plan was made for. Must be kept
    /// before the plan is carried out. Of a plan that is made anew, after an interruption, only what it writes is added:
    /// what stood there before all of them stays on record.
    pub fn add(&mut self, plan: &GroupPlan<'_>, target: Option<&TargetGroup>) {
        for commit in plan.commits() {
            let group = self.groups.entry(plan.group.to_owned()).or_default();
            let entry = group.entry(commit.topic, commit.partition, || Former {
                before: target.and_then(|target| target.offsets.get(commit.topic, commit.partition)).cloned(),
                wrote: Vec::new(),
            });
            if !entry.wrote.contains(&commit.offset) {
                entry.wrote.push(commit.offset);
            }
        }
    }

    /// The groups in it, by target topic.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &ByPartition<Former>)> {
        self.groups.iter().map(|(group, offsets)| (group.as_str(), offsets))
    }

    /// As a document.
    ///
    /// # Errors
    /// JSON that cannot be made; none is known.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// From a document.
    ///
    /// # Errors
    /// [`SnapshotError`]: another kind of document, or a newer version.
    pub fn from_json(text: &str) -> Result<Self, SnapshotError> {
        let damaged = |error: serde_json::Error| SnapshotError::Damaged { detail: error.to_string() };
        // The version first: what a newer one looks like is unknown.
        let version: Version = serde_json::from_str(text).map_err(damaged)?;
        if version.schema_version != u64::from(SNAPSHOT_VERSION) {
            return Err(SnapshotError::Version { version: version.schema_version });
        }
        serde_json::from_str(text).map_err(damaged)
    }
}

#[derive(Deserialize)]
struct Version {
    schema_version: u64,
}

/// What is done about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Step<'a> {
    /// The former offset is committed.
    Commit {
        /// It.
        to: &'a Committed,
    },
    /// There was none: it is deleted (OffsetDelete).
    Delete,
    /// It is as it was.
    Unchanged,
    /// What stands there is neither the former offset nor one that was written: somebody has used the group since.
    LeftAlone,
}

/// One partition of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RollbackLine<'a> {
    /// Target topic.
    pub topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// The offset there now.
    pub found: Option<i64>,
    /// What is done.
    #[serde(flatten)]
    pub step: Step<'a>,
}

/// What is done about a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum RollbackDecision<'a> {
    /// Nothing: it has members on the target, or the name belongs to a share group by now.
    LeftAlone,
    /// Partition by partition, in order.
    Planned {
        /// All that is in the snapshot.
        lines: Vec<RollbackLine<'a>>,
    },
}

/// A group and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRollback<'a> {
    /// The group.
    pub group: &'a str,
    /// What is done.
    #[serde(flatten)]
    pub decision: RollbackDecision<'a>,
}

/// What brings the former offsets back, given the target's groups as they are now. With `force` also where somebody has
/// used a group since, unless it is live. Carried out, it leaves nothing to do.
pub fn rollback<'a>(
    snapshot: &'a Snapshot,
    targets: &BTreeMap<String, TargetGroup>,
    force: bool,
) -> impl Iterator<Item = GroupRollback<'a>> {
    snapshot.groups().map(move |(group, offsets)| {
        let target = targets.get(group);
        let decision = match target {
            Some(target) if target.live || target.kind == super::GroupType::Share => RollbackDecision::LeftAlone,
            _ => RollbackDecision::Planned { lines: lines(offsets, target, force) },
        };
        GroupRollback { group, decision }
    })
}

fn lines<'a>(offsets: &'a ByPartition<Former>, target: Option<&TargetGroup>, force: bool) -> Vec<RollbackLine<'a>> {
    let lines = offsets.iter().map(|(topic, partition, former)| {
        let found = target.and_then(|target| target.offsets.get(topic, partition));
        let step = step(former, found, force);
        RollbackLine { topic, partition, found: found.map(|found| found.offset), step }
    });
    lines.collect()
}

fn step<'a>(former: &'a Former, found: Option<&Committed>, force: bool) -> Step<'a> {
    let is_same =
        |before: &Committed, found: &Committed| (before.offset, &before.metadata) == (found.offset, &found.metadata);
    let is_known = |found: &Committed| {
        force
            || former.wrote.contains(&found.offset)
            || former.before.as_ref().is_some_and(|b| b.offset == found.offset)
    };
    match (&former.before, found) {
        (None, None) => Step::Unchanged,
        (Some(before), Some(found)) if is_same(before, found) => Step::Unchanged,
        (_, Some(found)) if !is_known(found) => Step::LeftAlone,
        (Some(before), _) => Step::Commit { to: before },
        (None, Some(_)) => Step::Delete,
    }
}
