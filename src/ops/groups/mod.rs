//! Consumer groups of a mirror: what their offsets are on the target, what has to be written there, and the way back.
//!
//! [`gather`] reads both clusters in the order that [`crate::groups`] asks for; [`GroupsWorld::views`] arranges it and
//! [`plan`] compares. [`apply`] writes, each group through its coordinator, so that one that fails holds up no other;
//! [`snapshot`] is to be kept before, and [`rollback`] brings back what it holds. [`keep_in_step`] does all of it again and
//! again beside a running mirror.

mod apply;
mod notes;
mod read;
mod record;
mod report;
mod said;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{ClientError, Cluster};
use crate::config::{GroupFilter, MirrorConfig};
use crate::engine::{EngineError, now_ms};
use crate::groups::{
    Decision, GroupPlan, Ledger, Options, Overwrite, Planner, Skip, Snapshot, SourceGroup, TargetGroup, Totals, Views,
};

use super::MirrorState;
use super::state::StateFollower;

pub use apply::{Applied, Commits, Refused, RolledBack, apply, rollback, rollback_plan};
pub use read::SettledEnd;
pub(super) use record::read as read_sync;
pub use record::{SyncRecord, last_sync};
pub use report::{FailedGroup, GroupsReport, LastSync, StandingGroup, UnreadablePartition};
pub use sync::{WRITES_END_WITHIN, keep_in_step};

/// How long a group without a coordinator is waited for by a command.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// `offsets.retention.minutes` where the target does not tell: less than Kafka's default of a week.
const RETENTION_UNKNOWN_MS: i64 = 24 * 3_600_000;
/// Offsets are refreshed at the latest when they have used up so much of their life: a quarter.
const REFRESH_SHARE: i64 = 4;

/// What to read, and what is known already.
pub struct Gathering<'a> {
    /// Which groups.
    pub filter: &'a GroupFilter,
    /// Settled ends that are known, such as those of a mirror that was just fenced, by source topic and partition. Others are
    /// read off the target's logs.
    pub settled: &'a (dyn Fn(&str, i32) -> Option<SettledEnd> + Send + Sync),
    /// How long a group without a coordinator is waited for.
    pub patience: Duration,
}

impl<'a> Gathering<'a> {
    /// Everything is read off the clusters.
    pub fn new(filter: &'a GroupFilter) -> Self {
        Self { filter, settled: &|_, _| None, patience: PATIENCE }
    }
}

impl std::fmt::Debug for Gathering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathering").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// What both clusters say of a mirror's groups.
#[derive(Debug)]
pub struct GroupsWorld {
    /// All groups of the source; offsets of the selected ones. Empty where the source is gone.
    pub sources: BTreeMap<String, SourceGroup>,
    /// The same groups on the target; where the source is gone: all selected groups there.
    pub targets: BTreeMap<String, TargetGroup>,
    /// Why the source's groups are not known: they stay where they were last brought in step.
    pub source_gone: Option<String>,
    /// Groups that could not be read, and why. Nothing is planned for them.
    pub failed: BTreeMap<String, ClientError>,
    /// Source topics and partitions that could not be read, and why.
    pub unreadable: BTreeMap<(String, i32), String>,
    /// What earlier runs and commands have noted of what they wrote, for groups that were consumed with on the target.
    pub ledger: Ledger,
    /// When a running mirror last brought the groups in step, and what it found.
    pub last_sync: Option<SyncRecord>,
    /// The target's cluster id.
    pub target_cluster_id: String,
    logs: read::Logs,
    state: Arc<MirrorState>,
}

impl GroupsWorld {
    /// All that is mirrored of what the groups read.
    pub fn views(&self) -> Views<'_> {
        self.logs.views(&self.state)
    }

    /// Whether the target was promoted: what groups commit there is what counts now.
    pub fn is_promoted(&self) -> bool {
        self.state.control.standing_promotion().is_some()
    }
}

fn refresh_ms(retention_ms: Option<i64>) -> i64 {
    (retention_ms.unwrap_or(RETENTION_UNKNOWN_MS) / REFRESH_SHARE).max(1)
}

/// Reads all that a plan needs, in the order that makes it exact. Where the source is gone (`Err`: why), or does not answer, what
/// the target holds is all there is.
///
/// # Errors
/// The target cannot be read.
pub async fn gather(
    config: &MirrorConfig,
    source: Result<&Cluster, String>,
    target: &Cluster,
    how: &Gathering<'_>,
) -> Result<GroupsWorld, EngineError> {
    let (mut sources, mut logs) = (read::Side::default(), read::Logs::default());
    let source_gone = match source {
        Err(why) => Some(why),
        Ok(source) => match read::sources(how.filter, source, how.patience).await {
            Ok(read) => {
                sources = read;
                logs = read::Logs::read(config, source, target, &sources.groups, how.settled).await?;
                None
            }
            Err(error) if error.is_unreachable() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        },
    };
    let mut follower = StateFollower::new(&config.name, target);
    let state = follower.look().await?;
    logs.settle(&config.name, &state, target).await?;
    let listed = read::listed_targets(target).await?;
    let of_source = sources.groups.keys().filter(|_| source_gone.is_none());
    let of_target = listed.keys().filter(|_| source_gone.is_some());
    let names = of_source.chain(of_target).filter(|name| how.filter.matches(name));
    let names: Vec<String> = names.cloned().collect();
    let targets = read::targets(target, &names, &listed, how.patience).await;
    let used = targets.groups.iter().filter(|(_, group)| group.ever_joined && !group.live);
    let used: Vec<String> = used.map(|(name, _)| name.clone()).collect();
    let mut ledger = Ledger::default();
    for note in notes::read(&config.name, target, &used, how.patience).await {
        ledger.recall(&note.group, &note.topic, note.partition, note.stood, note.sent);
    }
    let mut failed = sources.failed;
    failed.extend(targets.failed);
    Ok(GroupsWorld {
        sources: sources.groups,
        targets: targets.groups,
        source_gone,
        failed,
        ledger,
        unreadable: std::mem::take(&mut logs.unreadable),
        last_sync: last_sync(&config.name, target).await.unwrap_or_default(),
        target_cluster_id: target.cluster_id(),
        logs,
        state,
    })
}

/// These groups as they are on the target, and those that could not be read.
pub async fn on_target(
    target: &Cluster,
    names: &[String],
    patience: Duration,
) -> Result<(BTreeMap<String, TargetGroup>, BTreeMap<String, ClientError>), ClientError> {
    let listed = read::listed_targets(target).await?;
    let read::Side { groups, failed } = read::targets(target, names, &listed, patience).await;
    Ok((groups, failed))
}

/// The target's `offsets.retention.minutes`, ms; `None` where it does not tell.
async fn offsets_retention_ms(target: &Cluster) -> Option<i64> {
    let configs = target.broker_configs().await.ok()?;
    let minutes = configs.iter().find(|entry| entry.name == "offsets.retention.minutes")?.value.as_deref()?;
    minutes.parse::<i64>().ok().and_then(|minutes| minutes.checked_mul(60_000)).filter(|ms| *ms > 0)
}

/// What is to be written for every selected group that could be read. What is right already is left as it is.
pub fn plan<'a>(
    world: &'a GroupsWorld,
    views: &'a Views<'a>,
    overwrite: Overwrite,
    selected: impl Fn(&str) -> bool,
) -> Vec<GroupPlan<'a>> {
    let options = Options { refresh_ms: i64::MAX, overwrite };
    let planner = Planner::new(views, &world.ledger, options, now_ms());
    let plans = planner.all(&world.sources, &world.targets, selected);
    plans.filter(|plan| !world.failed.contains_key(plan.group) && !is_not_selected(plan)).collect()
}

fn is_not_selected(plan: &GroupPlan<'_>) -> bool {
    matches!(plan.decision, Decision::Skipped { why: Skip::NotSelected })
}

/// How much there is to do.
pub fn totals(plans: &[GroupPlan<'_>]) -> Totals {
    let mut totals = Totals::default();
    plans.iter().for_each(|plan| totals.add(plan));
    totals
}

/// Adds what these plans are going to overwrite. Must be kept before they are carried out.
pub fn snapshot(world: &GroupsWorld, plans: &[GroupPlan<'_>], into: &mut Snapshot) {
    plans.iter().for_each(|plan| into.add(plan, world.targets.get(plan.group)));
}
