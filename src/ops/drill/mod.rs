//! `kmirror drill`: a rehearsal of a failover that disturbs nothing.
//!
//! It makes the plan that a failover would make, translates every group as a failover would, and then does not trust either: for a
//! sample of committed offsets it reads the record on the source and the record at the translated offset on the target, and
//! compares them byte by byte. With `isolated` it goes further: copies of the groups under another name are committed on the
//! target, read back, and read from.

mod isolated;
mod page;
mod positions;
mod reports;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Cluster;
use crate::config::{Config, MirrorConfig};
use crate::engine::{EngineError, connect_mirror, now_ms};
use crate::groups::{Decision, GroupPlan, Outcome, Skip};
use crate::plan::{
    Check, Expected, FailoverPlan, Verdict, Wish, acls_check, blockers_check, gaps_check, partitions_check, rpo_check,
    rto_check, settings_check,
};

use super::failover::{Failover, FailoverError, FailoverOptions, left_alone, overwrite};
use super::groups::{Commits, Gathering, GroupsWorld, gather, plan};
use super::time::rfc3339;
use positions::{Positions, positions};

pub use page::{seconds, word};
pub use reports::{ReportsError, keep, kept};

/// What is rehearsed.
#[derive(Debug, Clone)]
pub struct DrillOptions {
    /// What is expected of a failover.
    pub expected: Expected,
    /// Committed offsets of a group whose records are compared, at most; the first and the last among them.
    pub sample: usize,
    /// Consume with copies of the groups.
    pub isolated: bool,
    /// How long the source is waited for.
    pub source_timeout: Duration,
}

/// `drill --json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Deserialize)]
pub struct DrillReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// The source's name and cluster id.
    pub source: [String; 2],
    /// The target's.
    pub target: [String; 2],
    /// Version of kmirror.
    pub kmirror: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// How long it took, seconds.
    pub took_seconds: f64,
    /// Whether no check failed.
    pub passed: bool,
    /// What a failover would lose, records; −1 where unknown.
    pub rpo_records: i64,
    /// Age of the oldest of them, seconds; −1 where unknown.
    pub rpo_seconds: f64,
    /// How long a failover would take, seconds: what reading everything took here, with what fencing and committing take by their
    /// number.
    pub rto_seconds_estimate: f64,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The groups.
    pub groups: Vec<GroupDrill>,
}

/// A group in a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Deserialize)]
pub struct GroupDrill {
    /// The group.
    pub group: String,
    /// Partitions in which it has an offset.
    pub partitions: usize,
    /// Of these, compared with their record.
    pub compared: usize,
    /// Of these, those where both records are the same.
    pub same: usize,
    /// Why it is left out; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Rehearses.
///
/// # Errors
/// The clusters cannot be read. What is wrong with them otherwise is in the report.
pub async fn drill(
    config: &Arc<Config>,
    mirror: &MirrorConfig,
    options: &DrillOptions,
) -> Result<DrillReport, FailoverError> {
    let (began, started_ms) = (Instant::now(), now_ms());
    let (source, target) = connect_mirror(config, mirror).await?;
    let look = FailoverOptions {
        wish: Wish::Planned,
        fence_source: false,
        quiet: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        source_timeout: options.source_timeout,
        allow_halted: true,
        apply_settings: true,
        overwrite_groups: None,
        groups_snapshot: None,
        is_alone: false,
        pause_after: None,
    };
    let failover = Failover::prepare(config, mirror, look).await?.plan;
    let mut checks = of_plan(&failover, options.expected);
    let world = world(mirror, &source, &target).await?;
    let mut groups = Vec::new();
    let mut commits = 0;
    match &world {
        None => checks.push(Check::new(
            "groups",
            Verdict::Warn,
            "no consumer groups are selected (mirrors[].groups): consumers would have to find their way by themselves"
                .to_owned(),
            Vec::new(),
        )),
        Some(world) => {
            let views = world.views();
            let over = overwrite(mirror, None, false);
            let plans = plan(world, &views, over, |_| true);
            commits = Commits::of(&plans, &world.targets).len();
            checks.push(groups_check(world, &plans));
            let found = positions(mirror, &source, &target, &plans, options.sample).await?;
            checks.push(found.check());
            groups = group_rows(&plans, &found);
            if options.isolated {
                checks.push(isolated::check(mirror, &target, &plans, options.sample).await);
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    let rto = took + rto_of_writing(&failover, commits);
    checks.push(rto_check(rto, options.expected));
    Ok(DrillReport {
        schema_version: 1,
        mirror: mirror.name.clone(),
        source: [mirror.source.clone(), source.cluster_id()],
        target: [mirror.target.clone(), target.cluster_id()],
        kmirror: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: rfc3339(started_ms),
        took_seconds: took,
        passed: checks.iter().all(|check| check.verdict != Verdict::Fail),
        rpo_records: if failover.rpo.unknown_partitions > 0 { -1 } else { failover.rpo.records },
        rpo_seconds: failover.rpo.seconds,
        rto_seconds_estimate: rto,
        checks,
        groups,
    })
}

fn of_plan(failover: &FailoverPlan, expected: Expected) -> Vec<Check> {
    vec![
        rpo_check(failover, expected),
        partitions_check(failover),
        gaps_check(failover),
        blockers_check(failover),
        settings_check(failover),
        acls_check(&failover.acls),
    ]
}

/// Seconds that a failover takes for what a drill does not do: a round for each shard and for each partition's marker, and one
/// commit a group.
fn rto_of_writing(failover: &FailoverPlan, commits: usize) -> f64 {
    // Measured on a machine that both clusters share: sixteen shards over 18 partitions took 0.4 s, a commit about 1 ms.
    const SHARDS_S: f64 = 0.5;
    const PARTITION_S: f64 = 0.005;
    const GROUP_S: f64 = 0.002;
    SHARDS_S + failover.partitions.len() as f64 * PARTITION_S + commits as f64 * GROUP_S
}

async fn world(mirror: &MirrorConfig, source: &Cluster, target: &Cluster) -> Result<Option<GroupsWorld>, EngineError> {
    let Some(groups) = &mirror.groups else { return Ok(None) };
    Ok(Some(gather(mirror, Ok(source), target, &Gathering::new(&groups.filter)).await?))
}

/// Whether every selected group would go on, and from where.
fn groups_check(world: &GroupsWorld, plans: &[GroupPlan<'_>]) -> Check {
    let mut findings: Vec<String> =
        world.failed.iter().map(|(group, error)| format!("{group}: cannot be read: {error}")).collect();
    findings.extend(
        world.unreadable.iter().map(|((topic, partition), why)| format!("{topic}:{partition}: cannot be read: {why}")),
    );
    findings.extend(plans.iter().filter_map(|plan| left_alone(plan, |_, _| true)));
    let failed = !findings.is_empty();
    let mut lines = 0;
    for plan in plans {
        match &plan.decision {
            Decision::Skipped { why: Skip::NotSelected } => {}
            Decision::Skipped { why } => findings.push(format!("{}: {why}", plan.group)),
            Decision::Planned { .. } => {
                lines += plan.lines().len();
                findings.extend(plan.lines().iter().filter_map(|line| {
                    let what = match &line.outcome {
                        Outcome::Untranslatable { why } => why.to_string(),
                        Outcome::Commit { to, .. } | Outcome::Unchanged { to } if to.missing > 0 => {
                            format!("{} source offsets that it has not read are not on the target", to.missing)
                        }
                        _ => return None,
                    };
                    Some(format!("{} {}:{}: {what}", plan.group, line.topic, line.partition))
                }));
            }
        }
    }
    let groups = plans.iter().filter(|plan| matches!(plan.decision, Decision::Planned { .. })).count();
    let verdict = match (failed, findings.is_empty()) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::Warn,
    };
    Check::new("groups", verdict, format!("{groups} groups with {lines} offsets would be translated"), findings)
}

fn group_rows(plans: &[GroupPlan<'_>], found: &Positions) -> Vec<GroupDrill> {
    let row = |plan: &GroupPlan<'_>| {
        let (compared, same) = found.of_group(plan.group);
        let skipped = match &plan.decision {
            Decision::Skipped { why } => Some(why.to_string()),
            Decision::Planned { .. } => None,
        };
        GroupDrill { group: plan.group.to_owned(), partitions: plan.lines().len(), compared, same, skipped }
    };
    plans.iter().map(row).collect()
}

/// Offsets of a group on the target, as a failover would leave them: topic, partition, offset.
fn translated<'a>(plan: &'a GroupPlan<'a>) -> impl Iterator<Item = Position<'a>> {
    plan.lines().iter().filter_map(|line| match line.outcome {
        Outcome::Commit { to, .. } | Outcome::Unchanged { to } => Some(Position {
            topic: line.topic,
            target_topic: line.target_topic?,
            partition: line.partition,
            committed: line.committed.offset,
            offset: to.offset,
        }),
        Outcome::Untranslatable { .. } | Outcome::LeftAlone { .. } => None,
    })
}

/// A committed offset and what it becomes.
#[derive(Debug, Clone, Copy)]
struct Position<'a> {
    topic: &'a str,
    target_topic: &'a str,
    partition: i32,
    committed: i64,
    offset: i64,
}

/// By group: how many were compared, and how many of them are the same.
type Tally = BTreeMap<String, (usize, usize)>;
