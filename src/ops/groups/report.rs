//! What a plan says, as `--json` prints it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::now_ms;
use crate::groups::{ByPartition, Committed, GroupPlan, GroupType, Totals};

use super::record::SyncRecord;
use super::{GroupsWorld, totals};

/// A plan, or what is known without one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GroupsReport<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: &'a str,
    /// Why the source cannot be asked: then there is no plan, and groups stay where they were last kept in step.
    pub source_unreachable: Option<String>,
    /// What a running mirror last found.
    pub last_sync: Option<LastSync>,
    /// How much there is to do.
    pub totals: Totals,
    /// Every selected group, and what is done about it.
    pub groups: &'a [GroupPlan<'a>],
    /// Groups that could not be read.
    pub failed: Vec<FailedGroup<'a>>,
    /// Partitions that could not be read.
    pub unreadable: Vec<UnreadablePartition<'a>>,
    /// Where groups stand on the target; told where there is no plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_target: Vec<StandingGroup<'a>>,
}

/// When the groups were last kept in step.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct LastSync {
    /// How long ago.
    pub age_seconds: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: SyncRecord,
}

impl LastSync {
    /// As seen now.
    pub fn new(found: SyncRecord) -> Self {
        Self { age_seconds: found.age_ms(now_ms()) as f64 / 1000.0, found }
    }
}

/// A group without a plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailedGroup<'a> {
    /// The group.
    pub group: &'a str,
    /// Why.
    pub error: String,
}

/// A partition without a view.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnreadablePartition<'a> {
    /// Source topic.
    pub topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// Why.
    pub reason: &'a str,
}

/// A group as it stands on the target.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StandingGroup<'a> {
    /// The group.
    pub group: &'a str,
    /// Its type.
    pub kind: GroupType,
    /// It has members.
    pub live: bool,
    /// Its offsets.
    pub offsets: &'a ByPartition<Committed>,
}

impl GroupsWorld {
    /// What these plans say.
    pub fn report<'a>(&'a self, mirror: &'a str, plans: &'a [GroupPlan<'a>]) -> GroupsReport<'a> {
        let standing = |(group, target): (&'a String, &'a crate::groups::TargetGroup)| StandingGroup {
            group,
            kind: target.kind,
            live: target.live,
            offsets: &target.offsets,
        };
        GroupsReport {
            schema_version: 1,
            mirror,
            source_unreachable: self.source_gone.clone(),
            last_sync: self.last_sync.map(LastSync::new),
            totals: totals(plans),
            groups: plans,
            failed: self.failed.iter().map(|(group, error)| FailedGroup { group, error: error.to_string() }).collect(),
            unreadable: self
                .unreadable
                .iter()
                .map(|((topic, partition), reason)| UnreadablePartition { topic, partition: *partition, reason })
                .collect(),
            on_target: match self.source_gone {
                Some(_) => self.targets.iter().map(standing).collect(),
                None => Vec::new(),
            },
        }
    }
}
