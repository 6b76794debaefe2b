//! `kmirror failback`: the way home after a promotion, without copying again what both sides have.
//!
//! 1. *Survey*: where the log of the old source and that of the standby part, for each partition ([`parting`]), and what the
//!    old source has alone behind that: its *divergent tail* ([`tail`]).
//! 2. *Begin*: the mirror of the way home ([`MirrorConfig::reversed`]) is given the maps of the mirror that was promoted, turned
//!    round, and goes on from where the logs part ([`seed`]). It is an ordinary mirror from there on.
//! 3. *Switch*: that mirror is promoted as any other, planned, so that nothing is left behind.
//! 4. *Take up*: the first mirror begins a new generation, with the maps of the way home turned round again.
//!
//! Each step finds out from the two state topics whether it was done.

mod parting;
mod replay;
mod seed;
mod survey;
mod tail;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client::{Cluster, TopicPartition};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::shard::target_of;
use crate::mirror::{ControlState, GapReason, PartitionState};

use super::MirrorState;
use super::failover::{lift_source_fence, prepare_for_mirroring};
use seed::{Seed, Seeded, seed};
use survey::ways;

pub use super::records::Shortfall;
pub use super::replaying::{ORIGIN, ReplayError};
pub use replay::{Replay, Replayed, ReplayedPartition};
pub(crate) use tail::line as record_line;
pub use tail::{ExportError, Exported, Tail, TailRange, export, tails, tails_of};

/// How far the way home has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The mirror was not promoted: there is nothing to go back from.
    NotPromoted,
    /// It was, and nothing has been done about the way home yet.
    Promoted,
    /// The mirror of the way home has begun.
    Returning,
    /// It was promoted: the old source is in charge again, and the mirror has yet to take up.
    Switched,
}

/// What an old source partition has come back as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CameBack {
    /// With all that was mirrored, and nothing more.
    Intact,
    /// With all that was mirrored, and records that never reached the standby.
    Ahead,
    /// Without its end.
    Behind,
    /// Without the end that was mirrored, and with other records in its place.
    Diverged,
    /// Without records, or not at all: it is copied from its beginning.
    Empty,
    /// As another log: it is not written to.
    Different,
}

/// A partition on the way home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailbackPartition {
    /// Topic on the old source.
    pub topic: String,
    /// Topic on the standby.
    pub standby_topic: String,
    /// Partition number.
    pub partition: i32,
    /// What it has come back as.
    pub came_back: CameBack,
    /// Offset on the old source at which the logs part; −1 where nothing is in common.
    pub parted_at: i64,
    /// Offset on the standby from which on is copied.
    pub copied_from: i64,
    /// Records (offsets, rather) on the standby to copy, as of now.
    pub to_copy: i64,
    /// The divergent tail: what the old source has alone.
    pub tail: TailRange,
    /// Whether records in front of the parting were compared; retention may have taken them all.
    pub compared: bool,
    /// Why it is left out, or what somebody should know.
    pub detail: Option<String>,
}

/// `failback --json`: the plan, or what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailbackReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// The mirror that was promoted.
    pub mirror: String,
    /// The mirror of the way home.
    pub reverse_mirror: String,
    /// How far it has come.
    pub stage: Stage,
    /// Topics of the old source to which an ACL of the failover denied to write: it is taken back by the first step.
    pub let_in: Vec<String>,
    /// Partitions, by topic and number.
    pub partitions: Vec<FailbackPartition>,
}

impl FailbackReport {
    /// Records that the old source has alone.
    pub fn divergent_records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.tail.records).sum()
    }

    /// Partitions that are left out.
    pub fn refused(&self) -> impl Iterator<Item = &FailbackPartition> {
        self.partitions.iter().filter(|partition| partition.came_back == CameBack::Different)
    }
}

/// Both clusters, by what they were before the promotion.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// The old source: the target of the way home.
    pub old: &'a Cluster,
    /// The standby, which was promoted.
    pub standby: &'a Cluster,
}

/// How far the way home of a mirror has come.
pub async fn stage(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<Stage, EngineError> {
    let forth = control_of(mirror, ends.standby).await?;
    let Some(promotion) = forth.promotion_done() else { return Ok(Stage::NotPromoted) };
    let home = control_of(&mirror.reversed(), ends.old).await?;
    let begun = home.generation().is_some_and(|generation| generation.home_of == Some(promotion.generation));
    Ok(match home.promotion_done() {
        _ if !begun => Stage::Promoted,
        None => Stage::Returning,
        Some(_) => Stage::Switched,
    })
}

async fn control_of(mirror: &MirrorConfig, cluster: &Cluster) -> Result<ControlState, EngineError> {
    let control = Control::open(&mirror.name, cluster).await?;
    Ok(control.map(|control| control.state).unwrap_or_default())
}

/// Where every partition's logs part, and what that means.
pub async fn survey(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<FailbackReport, EngineError> {
    let ways = ways(mirror, ends).await?;
    let stage = stage(mirror, ends).await?;
    let let_in = control_of(mirror, ends.standby).await?.source_fenced().iter().cloned().collect();
    let partitions = ways.into_iter().map(|way| way.report).collect();
    Ok(FailbackReport { let_in, ..report(mirror, stage, partitions) })
}

fn report(mirror: &MirrorConfig, stage: Stage, mut partitions: Vec<FailbackPartition>) -> FailbackReport {
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let (mirror, reverse_mirror) = (mirror.name.clone(), mirror.reversed().name);
    FailbackReport { schema_version: 1, mirror, reverse_mirror, stage, let_in: Vec::new(), partitions }
}

/// Gives the mirror of the way home its maps: from here on it can run. What was found is found again, now that nobody writes.
pub async fn begin(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<FailbackReport, EngineError> {
    let generation = control_of(mirror, ends.standby).await?.generation().map(|generation| generation.generation);
    let ways = ways(mirror, ends).await?;
    let (mut seeds, mut partitions) = (Vec::new(), Vec::new());
    for way in ways {
        seeds.extend(way.seed);
        partitions.push(way.report);
    }
    let home = mirror.reversed();
    // The way home writes there as well.
    let let_in = lift_source_fence(mirror, ends.old, ends.standby).await?;
    let topics: BTreeSet<String> = seeds.iter().map(|seed| seed.target.topic.clone()).collect();
    let outcome = seed(&home, (ends.standby, ends.old), seeds, generation).await?;
    prepare_for_mirroring(&home, ends.old, &topics.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let by_name: BTreeMap<(&str, i32), &Seeded> =
        outcome.iter().map(|(tp, seeded)| ((tp.topic.as_str(), tp.partition), seeded)).collect();
    for partition in &mut partitions {
        if let Some(Seeded::Refused(why)) = by_name.get(&(partition.standby_topic.as_str(), partition.partition)) {
            (partition.came_back, partition.detail) = (CameBack::Different, Some(why.clone()));
        }
    }
    Ok(FailbackReport { let_in, ..report(mirror, Stage::Returning, partitions) })
}

/// The first mirror begins a new generation: the maps of the way home, turned round, with what both sides wrote since.
/// Comes back with the partitions that have something on the standby which never came home, or cannot go on.
pub async fn take_up(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<Vec<TakenUp>, EngineError> {
    let home = mirror.reversed();
    let state = MirrorState::read(&home.name, ends.old).await?.unwrap_or_default();
    let tails = tails_before(mirror, ends).await?;
    let mut seeds = Vec::new();
    for partition in newest(&state) {
        let (source, target) = (target_of(partition), source_of(partition));
        let end = partition.end.unwrap_or(0);
        let tail = tails.get(&(source.topic.clone(), source.partition)).copied();
        // What the old source had alone when it came back; the other gaps are markers.
        let reason = |from, to| match tail {
            Some(parted) if (from..to).contains(&parted) => GapReason::Divergence,
            _ => GapReason::Control,
        };
        let map = partition.map.inverted(end, reason).map_err(|error| unexpected(mirror, &error))?;
        let read = partition.map.runs(end).last().map_or(0, |(_, old, records)| old + records);
        let written = partition.map.position(end);
        seeds.push(Seed { source, target, map, read, written, divergent_from: None, from: end });
    }
    let topics: BTreeSet<String> = seeds.iter().map(|seed| seed.target.topic.clone()).collect();
    prepare_for_mirroring(mirror, ends.standby, &topics.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let outcome = seed(mirror, (ends.old, ends.standby), seeds, None).await?;
    Ok(outcome.into_iter().map(|(tp, seeded)| taken_up(tp, seeded)).collect())
}

/// A partition that the first mirror takes up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenUp {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Target offset at which it goes on; −1 where it does not.
    pub goes_on_at: i64,
    /// The standby holds records below this offset that were written there after the switch and never came home.
    pub alone_to: Option<i64>,
    /// Why it does not go on.
    pub detail: Option<String>,
}

impl TakenUp {
    /// Whether somebody should look at it.
    pub fn is_problem(&self) -> bool {
        self.alone_to.is_some() || self.detail.is_some()
    }

    /// What about it, in words.
    pub fn problem(&self) -> String {
        match (&self.detail, self.alone_to) {
            (Some(detail), _) => detail.clone(),
            (None, Some(end)) => format!(
                "the standby has records in front of offset {end} that were written there after the switch: they are on the \
                 standby alone"
            ),
            (None, None) => String::new(),
        }
    }
}

fn taken_up(tp: TopicPartition, seeded: Seeded) -> TakenUp {
    let (goes_on_at, alone_to, detail) = match seeded {
        Seeded::At { target, alone_to } => (target, alone_to, None),
        Seeded::Refused(why) => (-1, None, Some(why)),
    };
    TakenUp { topic: tp.topic, partition: tp.partition, goes_on_at, alone_to, detail }
}

/// Where each partition's divergent tail began, by the maps of the generation that the promotion ended.
async fn tails_before(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<BTreeMap<(String, i32), i64>, EngineError> {
    let state = MirrorState::read(&mirror.name, ends.standby).await?.unwrap_or_default();
    let parted = newest(&state).map(|partition| {
        let declared = &partition.declared;
        ((declared.source_topic.clone(), declared.partition), partition.map.position(partition.end.unwrap_or(0)))
    });
    Ok(parted.collect())
}

fn unexpected(mirror: &MirrorConfig, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unexpected { mirror: mirror.name.clone(), detail: error.to_string() }
}

/// Partitions that have a map; of a topic that was made again under its name, the one that goes furthest.
fn newest(state: &MirrorState) -> impl Iterator<Item = &PartitionState> {
    let mut by_target: BTreeMap<(&str, i32), &PartitionState> = BTreeMap::new();
    for partition in state.partitions().filter(|partition| !partition.map.is_empty()) {
        let key = (partition.declared.target_topic.as_str(), partition.declared.partition);
        let first = |p: &PartitionState| p.map.segments().first().map_or(-1, |first| first.target);
        let entry = by_target.entry(key).or_insert(partition);
        if first(partition) > first(entry) {
            *entry = partition;
        }
    }
    by_target.into_values()
}

/// The source side of a mirrored partition.
fn source_of(state: &PartitionState) -> TopicPartition {
    let declared = &state.declared;
    TopicPartition {
        topic: declared.source_topic.clone(),
        topic_id: declared.source_topic_id,
        partition: declared.partition,
    }
}
