//! Consumer groups at a promotion: translated once more, at the settled ends, when nothing can follow there any more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::client::Cluster;
use crate::config::{GroupSync, MirrorConfig};
use crate::engine::{EngineError, now_ms};
use crate::groups::{Decision, GroupPlan, Outcome, Overwrite, Skip, Snapshot, Totals};
use crate::plan::{GroupsFacts, PartitionOutlook};

use super::super::groups::{
    Applied, Commits, Gathering, GroupsWorld, PATIENCE, SettledEnd, WRITES_END_WITHIN, apply, gather, plan, snapshot,
    totals,
};
use super::{FailoverError, no_answer};

/// Both clusters tell of thousands of groups within that.
const SOURCE_LIMIT: Duration = Duration::from_secs(60);

/// What became of the groups.
#[derive(Debug, Clone, Serialize)]
pub struct PromotedGroups {
    /// Every group, as `kmirror groups plan --json` shows it; what was to be written then was.
    pub plan: Value,
    /// How much there was to do.
    pub totals: Totals,
    /// What was written.
    pub applied: Applied,
    /// Where the target's former offsets are kept, for `kmirror groups rollback`.
    pub snapshot: Option<PathBuf>,
    /// Why the source's groups could not be read: they stay where they were last kept in step.
    pub source_unreachable: Option<String>,
    /// Groups and offsets that were not written, and why.
    pub unmoved: Vec<String>,
    /// Some of them may be, by another call.
    #[serde(skip)]
    pub(super) is_open: bool,
}

impl PromotedGroups {
    /// Whether another call would do no more.
    pub(super) fn is_through(&self) -> bool {
        !self.is_open && self.applied.refused.iter().all(|refused| refused.live)
    }
}

/// The groups of a mirror, and how they are written.
pub(super) struct Groups<'a> {
    pub(super) mirror: &'a MirrorConfig,
    pub(super) source: Option<&'a Cluster>,
    /// Why there is none.
    pub(super) source_trouble: Option<&'a str>,
    pub(super) target: &'a Cluster,
    pub(super) overwrite: Overwrite,
    /// The target was promoted by an earlier call: its groups have a life of their own.
    pub(super) is_done: bool,
}

impl Groups<'_> {
    /// What would be done now.
    pub(super) async fn facts(&self) -> (GroupsFacts, Option<Value>) {
        let Some(groups) = &self.mirror.groups else { return (GroupsFacts::NotSelected, None) };
        if self.source.is_none() {
            return (GroupsFacts::SourceGone, None);
        }
        let world = match self.world(groups, &BTreeMap::new()).await {
            Ok(world) if world.source_gone.is_some() => return (GroupsFacts::SourceGone, None),
            Ok(world) => world,
            Err(error) => return (GroupsFacts::Unknown(error.to_string()), None),
        };
        let views = world.views();
        let plans = plan(&world, &views, self.overwrite, |group| groups.filter.matches(group));
        let report = serde_json::to_value(world.report(&self.mirror.name, &plans)).ok();
        (GroupsFacts::Planned(totals(&plans)), report)
    }

    async fn world(
        &self,
        groups: &GroupSync,
        settled: &BTreeMap<(String, i32), SettledEnd>,
    ) -> Result<GroupsWorld, EngineError> {
        let told = |topic: &str, partition: i32| settled.get(&(topic.to_owned(), partition)).copied();
        let how = Gathering { filter: &groups.filter, settled: &told, patience: PATIENCE };
        if let Some(source) = self.source {
            // A source that has begun to hang is as good as gone.
            let asked = gather(self.mirror, Ok(source), self.target, &how);
            if let Ok(world) = tokio::time::timeout(SOURCE_LIMIT, asked).await {
                return world;
            }
        }
        let trouble = self.source_trouble.map_or_else(|| no_answer(SOURCE_LIMIT), str::to_owned);
        gather(self.mirror, Err(trouble), self.target, &how).await
    }

    /// Translates and writes; the target's former offsets are kept in the file before.
    pub(super) async fn promote(
        &self,
        partitions: &[PartitionOutlook],
        file: &Path,
    ) -> Result<Option<PromotedGroups>, FailoverError> {
        let Some(groups) = &self.mirror.groups else { return Ok(None) };
        self.once(groups, &ends(partitions), file, self.overwrite).await.map(Some)
    }

    /// A mirror that was told to stop at `told_ms` may have written once more what it had translated before: once that is over, it is
    /// looked at again. Groups that somebody uses by now are left alone.
    pub(super) async fn look_again(
        &self,
        partitions: &[PartitionOutlook],
        file: &Path,
        told_ms: i64,
    ) -> Result<Applied, FailoverError> {
        let Some(groups) = self.mirror.groups.as_ref().filter(|_| self.source.is_some()) else {
            return Ok(Applied::default());
        };
        let over_ms = told_ms.saturating_add(i64::try_from(WRITES_END_WITHIN.as_millis()).unwrap_or(i64::MAX));
        let left_ms = u64::try_from(over_ms - now_ms()).unwrap_or(0);
        if left_ms > 0 {
            tracing::info!(
                mirror = %self.mirror.name, left_ms,
                "the target is promoted; the groups are looked at once more when no mirror can write any of them"
            );
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
        let again = self.once(groups, &ends(partitions), file, Overwrite::Unused).await?;
        Ok(again.applied)
    }

    async fn once(
        &self,
        groups: &GroupSync,
        settled: &BTreeMap<(String, i32), SettledEnd>,
        file: &Path,
        overwrite: Overwrite,
    ) -> Result<PromotedGroups, FailoverError> {
        let world = self.world(groups, settled).await?;
        let views = world.views();
        let is_open = !(world.failed.is_empty() && world.unreadable.is_empty());
        let (commits, totals, report, kept, unmoved) = {
            let plans = plan(&world, &views, overwrite, |group| groups.filter.matches(group));
            let commits = Commits::of(&plans, &world.targets);
            let report = serde_json::to_value(world.report(&self.mirror.name, &plans)).unwrap_or_default();
            let mut kept = None;
            if !commits.is_empty() {
                let cannot = |source| FailoverError::Snapshot { file: file.to_owned(), source };
                let mut former = former(file, &self.mirror.name, &world.target_cluster_id).map_err(cannot)?;
                snapshot(&world, &plans, &mut former);
                keep(file, &former).map_err(cannot)?;
                kept = Some(file.to_owned());
            }
            (commits, totals(&plans), report, kept, unmoved(&world, &plans, self.is_done))
        };
        let mut ledger = world.ledger.clone();
        let applied = match commits.is_empty() {
            true => Applied::default(),
            false => apply(&self.mirror.name, self.target, commits, &mut ledger, PATIENCE).await,
        };
        Ok(PromotedGroups {
            plan: report,
            totals,
            applied,
            snapshot: kept,
            source_unreachable: world.source_gone.clone(),
            unmoved,
            is_open,
        })
    }
}

/// What a failover leaves where it was, though it is selected.
fn unmoved(world: &GroupsWorld, plans: &[GroupPlan<'_>], is_done: bool) -> Vec<String> {
    let failed = world.failed.iter().map(|(group, error)| format!("group {group} could not be read: {error}"));
    let unreadable = world.unreadable.iter().map(|((topic, partition), why)| {
        format!("no offset in {topic}:{partition} could be translated, for it could not be read: {why}")
    });
    let of_plans = plans.iter().filter_map(|plan| match &plan.decision {
        Decision::Skipped { why: Skip::LiveOnTarget } if is_done => None,
        Decision::Skipped { why: why @ (Skip::LiveOnTarget | Skip::TypeDiffers { .. } | Skip::UnknownType) } => {
            Some(format!("group {} was left as it was: {why}", plan.group))
        }
        Decision::Skipped { .. } => None,
        // Who has gone on since stands in front of where it would be put.
        Decision::Planned { .. } => left_alone(plan, |to, found| !is_done || found < to),
    });
    failed.chain(unreadable).chain(of_plans).collect()
}

/// Offsets of a group that somebody has committed on the target, and that stay; those that count, by where they would be put and where they
/// are.
pub(in crate::ops) fn left_alone(plan: &GroupPlan<'_>, counts: impl Fn(i64, i64) -> bool) -> Option<String> {
    let mut left = plan.lines().iter().filter_map(|line| match line.outcome {
        Outcome::LeftAlone { to, found, .. } if counts(to.offset, found) => Some((line, to.offset, found)),
        _ => None,
    });
    let (line, to, found) = left.next()?;
    Some(format!(
        "group {} has offsets on the target that this mirror has not written, and {} of them stay, such as {} of {}:{}, which would be \
         {to}; where they need not be kept: kmirror groups apply --group {} --overwrite all",
        plan.group,
        1 + left.count(),
        found,
        line.topic,
        line.partition,
        plan.group
    ))
}

/// Where the data of each fenced partition ends.
fn ends(partitions: &[PartitionOutlook]) -> BTreeMap<(String, i32), SettledEnd> {
    let fenced = partitions.iter().filter(|p| p.state == "fenced" && p.target_end >= 0);
    fenced
        .map(|p| {
            let scanned = (p.mirrored_to >= 0).then_some(p.mirrored_to);
            ((p.topic.clone(), p.partition), SettledEnd { end: p.target_end, scanned })
        })
        .collect()
}

/// What an earlier call has kept, or nothing yet.
fn former(file: &Path, mirror: &str, cluster_id: &str) -> io::Result<Snapshot> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Snapshot::new(mirror, cluster_id, now_ms()));
        }
        Err(error) => return Err(error),
    };
    let kept = Snapshot::from_json(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if (kept.mirror.as_str(), kept.cluster_id.as_str()) == (mirror, cluster_id) {
        return Ok(kept);
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is of another mirror, or of another cluster"))
}

/// In whole or not at all: what an earlier call has kept must not be lost half-way.
fn keep(file: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let mut out = fs::File::create(&draft)?;
    out.write_all(snapshot.to_json()?.as_bytes())?;
    out.sync_all()?;
    fs::rename(&draft, file)
}
