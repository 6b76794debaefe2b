//! `kmirror state rebuild`: what the state topic said and does not say any more, found again in the two logs.
//!
//! What the records of the source and of the target say themselves tells which is which: that is the offset map, and with
//! it the position. Pauses, halts and accepted losses stand nowhere else; they are gone with the state. A partition whose
//! last record on the target is not found on the source is left alone: nobody knows where it would have to go on.
//!
//! To write, a shard is taken over first (Init, state marker, data markers), so that nothing moves any more while both logs
//! are compared. Then a snapshot takes the place of what its log held.

mod find;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{Cluster, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::{Control, SHARDS};
use crate::engine::markers::{await_marker, write_markers};
use crate::engine::shard::{ShardLog, ShardSpec, take_unread};
use crate::engine::topology::matching_topics;
use crate::engine::unfenced::fence_without_coordinator;
use crate::mirror::{Declared, Halt, ShardState, shard_of, state_topic};

use super::MirrorState;
use find::{Found, Question, find_map};

pub use find::Walked;

/// Partitions compared side by side.
const AT_ONCE: usize = 4;

/// `state rebuild --json`.
#[derive(Debug, Clone, Serialize)]
pub struct RebuildReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// Whether it was written; else it is what would be.
    pub applied: bool,
    /// What is wrong with the state topic as a whole.
    pub state_topic: Option<String>,
    /// What is wrong with single shards, by number.
    pub shards: BTreeMap<u32, String>,
    /// Partitions whose state is in order, and stays as it is.
    pub kept: usize,
    /// The others.
    pub partitions: Vec<RebuiltPartition>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

impl RebuildReport {
    /// Whether there is anything to rebuild.
    pub fn is_needed(&self) -> bool {
        self.state_topic.is_some() || !self.shards.is_empty() || !self.partitions.is_empty()
    }
}

/// What becomes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The map was found; it goes on where it was.
    Rebuilt,
    /// Its target holds nothing: it begins at the start of the source log.
    Empty,
    /// The map cannot be found; `detail` says why. It halts at the next start.
    NotFound,
}

/// A partition without state.
#[derive(Debug, Clone, Serialize)]
pub struct RebuiltPartition {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number.
    pub partition: i32,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why the map is not found.
    pub detail: Option<String>,
    /// First target offset that is mapped, −1 where none is; what lies before it is on the source no more.
    pub mapped_from: i64,
    /// Target offset behind the last record.
    pub target_end: i64,
    /// Source offset at which mirroring goes on; −1 where unknown.
    pub mirrored_to: i64,
    /// Records that stand on both sides.
    pub matched_records: u64,
    /// Target records behind it that are on the source no more, next to a break: their offsets cannot be translated either.
    pub unmapped_records: u64,
    /// Source records in front of `mirrored_to` that are not on the target, for reasons that are lost; they stay out.
    pub missing_records: u64,
    /// Segments of the map.
    pub segments: usize,
}

/// Compares the logs of every partition that the state does not know, and writes what they tell where `apply` is set.
pub async fn rebuild(
    config: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    apply: bool,
    walked: &Arc<Walked>,
) -> Result<RebuildReport, EngineError> {
    let mut work = Work::survey(config, source, target).await?;
    let from_scratch = work.report.state_topic.is_some();
    if apply && from_scratch {
        work.control = Some(Control::restore(config, source, target).await?);
    }
    let by_shard = std::mem::take(&mut work.lost);
    if apply {
        // Also those that hold nothing: `start:` was applied to them once, and is not applied again.
        let all = (0..work.count).filter(|_| from_scratch);
        let shards: BTreeSet<u32> = by_shard.keys().chain(work.report.shards.keys()).copied().chain(all).collect();
        for shard in shards {
            let pairs = by_shard.get(&shard).cloned().unwrap_or_default();
            work.write(shard, pairs, walked).await?;
        }
        work.report.applied = true;
    } else {
        let pairs: Vec<Lost> = by_shard.into_values().flatten().collect();
        let ends = work.ends(&pairs).await?;
        work.look(pairs, &ends, walked).await?;
    }
    work.report.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(work.report)
}

/// A partition that the state does not know.
#[derive(Debug, Clone)]
struct Lost {
    source: TopicPartition,
    target: TopicPartition,
    log_start: i64,
}

struct Work<'a> {
    config: &'a MirrorConfig,
    source: &'a Cluster,
    target: &'a Cluster,
    control: Option<Control>,
    state: MirrorState,
    /// Shards there are.
    count: u32,
    /// By shard.
    lost: BTreeMap<u32, Vec<Lost>>,
    report: RebuildReport,
}

impl<'a> Work<'a> {
    /// What is lost.
    async fn survey(config: &'a MirrorConfig, source: &'a Cluster, target: &'a Cluster) -> Result<Self, EngineError> {
        let topic = state_topic(&config.name);
        let tp = Control::partition(&config.name, target).await?;
        if tp.as_ref().is_some_and(|tp| tp.partition == 0) {
            let detail =
                format!("state topic {topic} has one partition: it is not of kmirror's making; delete it first");
            return Err(EngineError::Unexpected { mirror: config.name.clone(), detail });
        }
        let (control, trouble) = match Control::open(&config.name, target).await {
            Ok(None) => (None, Some(format!("{topic} is not there"))),
            Ok(Some(control)) if control.state.generation().is_some() => (Some(control), None),
            Ok(Some(_)) => (None, Some(format!("the control partition of {topic} is empty"))),
            Err(error) => (None, Some(error.damage().ok_or(error)?.detail)),
        };
        if let Some(promotion) = control.as_ref().and_then(|control| control.state.standing_promotion()) {
            return Err(EngineError::Promoted { mirror: config.name.clone(), generation: promotion.generation });
        }
        let (shards, damaged) = match &tp {
            Some(tp) => MirrorState::read_shards(&config.name, target, tp, tp.partition.unsigned_abs()).await?,
            None => Default::default(),
        };
        let count = tp.map_or(SHARDS, |tp| tp.partition.unsigned_abs());
        let state =
            MirrorState { control: control.as_ref().map(|c| c.state.clone()).unwrap_or_default(), shards, damaged };
        let mut report = RebuildReport {
            schema_version: 1,
            mirror: config.name.clone(),
            applied: false,
            state_topic: trouble,
            shards: state.damaged.iter().map(|(shard, halt)| (*shard, halt.detail.clone())).collect(),
            kept: 0,
            partitions: Vec::new(),
            warnings: Vec::new(),
        };
        if report.state_topic.is_none() {
            report.shards.extend(cut_short(&state));
        }
        let mut work = Self { config, source, target, control, state, count, lost: BTreeMap::new(), report };
        work.find_lost().await?;
        Ok(work)
    }

    async fn find_lost(&mut self) -> Result<(), EngineError> {
        let found = matching_topics(self.config, self.source, &[]).await?;
        for failed in &found.failed {
            let error = self.source.api_error("Metadata", failed.error, &failed.name);
            self.report.warnings.push(format!("topic {} is left out: {error}", failed.name));
        }
        let topics = found.topics;
        let names: Vec<String> = topics.iter().map(|topic| self.config.target_topic(&topic.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let there = self.target.refresh(Topics::Named(&names)).await?;
        // Also under another id: a topic that was made again goes its own way.
        let declared = self.state.partitions().filter(|known| !known.map.is_empty()).map(|known| &known.declared);
        let known: BTreeSet<(&str, i32)> = declared.map(|d| (d.source_topic.as_str(), d.partition)).collect();
        let mut candidates = Vec::new();
        for topic in &topics {
            let Some(mirror) = there.topic(&self.config.target_topic(&topic.name)) else { continue };
            for partition in (0..).take(topic.partitions.len().min(mirror.partitions.len())) {
                let source = TopicPartition { topic: topic.name.clone(), topic_id: topic.id, partition };
                let target = TopicPartition { topic: mirror.name.clone(), topic_id: mirror.id, partition };
                match known.contains(&(topic.name.as_str(), partition)) {
                    true => self.report.kept += 1,
                    false => candidates.push((shard_of(topic.id, partition, self.count), source, target)),
                }
            }
        }
        let targets: Vec<TopicPartition> = candidates.iter().map(|(.., target)| target.clone()).collect();
        let bounds = if targets.is_empty() { Default::default() } else { self.target.log_bounds(&targets).await? };
        for (shard, source, target) in candidates {
            let (log_start, end) = bounds.get(&target).copied().unwrap_or((0, 0));
            let gone = self.report.state_topic.is_some() || self.state.damaged.contains_key(&shard);
            if end == 0 && gone {
                self.report.partitions.push(row(&source, &target, Outcome::Empty));
            } else if end > 0 {
                self.lost.entry(shard).or_default().push(Lost { source, target, log_start });
            }
        }
        Ok(())
    }

    /// Ends of the target logs as they are.
    async fn ends(&self, lost: &[Lost]) -> Result<BTreeMap<TopicPartition, i64>, EngineError> {
        let targets: Vec<TopicPartition> = lost.iter().map(|lost| lost.target.clone()).collect();
        if targets.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(self.target.log_ends(&targets, false).await?.into_iter().collect())
    }

    /// Compares; the maps that were found, with those who wrote what they map.
    async fn look(
        &mut self,
        lost: Vec<Lost>,
        ends: &BTreeMap<TopicPartition, i64>,
        walked: &Arc<Walked>,
    ) -> Result<Vec<(Question, Found)>, EngineError> {
        let mut found = Vec::new();
        let mut tasks = JoinSet::new();
        let questions = lost.into_iter().map(|lost| Question {
            range: (lost.log_start, ends.get(&lost.target).copied().unwrap_or(lost.log_start)),
            source: lost.source,
            target: lost.target,
        });
        let mut questions = questions.collect::<Vec<_>>().into_iter();
        let total = questions.as_slice().iter().map(|q| q.range.1.abs_diff(q.range.0)).sum();
        walked.total.fetch_add(total, Ordering::Relaxed);
        loop {
            while tasks.len() < AT_ONCE {
                let Some(question) = questions.next() else { break };
                let (source, target, isolation) = (self.source.clone(), self.target.clone(), self.config.isolation);
                let walked = Arc::clone(walked);
                tasks.spawn(async move {
                    let found = find_map(&source, &target, isolation, &question, &walked).await;
                    (question, found)
                });
            }
            let Some(done) = tasks.join_next().await else { return Ok(found) };
            let (question, outcome) = done.map_err(|error| EngineError::Unexpected {
                mirror: self.config.name.clone(),
                detail: format!("comparing the logs: {error}"),
            })?;
            let mut row = row(&question.source, &question.target, Outcome::NotFound);
            match outcome {
                Ok(Ok(one)) => {
                    row.tell(&one);
                    found.push((question, one));
                }
                Ok(Err(misaligned)) => row.detail = Some(misaligned.to_string()),
                // A log that cannot be read concerns its partition only.
                Err(error) if error.client().is_none() => row.detail = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            self.report.partitions.push(row);
        }
    }

    /// Takes a shard over, and puts what its partitions' logs tell in the place of its records.
    async fn write(&mut self, shard: u32, lost: Vec<Lost>, walked: &Arc<Walked>) -> Result<(), EngineError> {
        let control = self.control.as_ref().ok_or_else(|| EngineError::Unexpected {
            mirror: self.config.name.clone(),
            detail: "the control partition was not made anew".to_owned(),
        })?;
        let spec = ShardSpec {
            mirror: self.config.name.clone(),
            generation: control.generation()?.generation,
            shard,
            tp: TopicPartition { partition: shard.cast_signed(), ..control.tp.clone() },
            control: control.state.clone(),
        };
        let mut log = take_unread(self.target, &spec).await?;
        let ends = self.fence(&log, &lost).await?;
        let found = self.look(lost, &ends, walked).await?;
        self.fence_others(&log, &found).await;
        let mut state = match self.state.damaged.contains_key(&shard) {
            true => ShardState::default(),
            false => self.state.shards.get(shard as usize).cloned().unwrap_or_default(),
        };
        // What is not there yet is of later times: it is mirrored from its beginning.
        state.baseline = true;
        for (question, one) in found {
            state.producer_ids.extend(one.writers.keys());
            let declared = Declared {
                source_topic: question.source.topic,
                source_topic_id: question.source.topic_id,
                partition: question.source.partition,
                target_topic: question.target.topic,
                target_topic_id: question.target.topic_id,
            };
            let Found { alignment, .. } = one;
            state.restore(&declared, alignment.map, alignment.end).map_err(|source| EngineError::State {
                mirror: self.config.name.clone(),
                topic: spec.tp.topic.clone(),
                partition: spec.tp.partition,
                offset: -1,
                source,
            })?;
        }
        // The commands that had ended some of the halts are gone with the control partition.
        for ((topic, partition), (_, resumes)) in &mut state.halts {
            *resumes = spec.control.resumes(topic, *partition).min(*resumes);
        }
        log.replace(state).await
    }

    /// From here on nobody writes to these targets; where their data ends at the latest.
    async fn fence(&self, log: &ShardLog, lost: &[Lost]) -> Result<BTreeMap<TopicPartition, i64>, EngineError> {
        let targets: Vec<TopicPartition> = lost.iter().map(|lost| lost.target.clone()).collect();
        if targets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut ends = self.ends(lost).await?;
        self.target.await_served(&targets).await?;
        let refused = write_markers(&log.mirror, self.target, &log.transactor, &targets).await?;
        if let Some(error) = refused.into_values().next() {
            return Err(error.into());
        }
        for (target, end) in &mut ends {
            let marker = await_marker(&log.mirror, self.target, target, *end, &log.transactor, |_| Ok(())).await?;
            *end = marker.offset;
        }
        Ok(ends)
    }

    /// Producer ids that the coordinator has forgotten may still be those of a process that runs.
    async fn fence_others(&mut self, log: &ShardLog, found: &[(Question, Found)]) {
        let mut others: BTreeMap<i64, (i16, Vec<TopicPartition>)> = BTreeMap::new();
        for (question, one) in found {
            for (id, epoch) in one.writers.iter().filter(|(id, _)| **id != log.transactor.producer_id && **id >= 0) {
                let other = others.entry(*id).or_insert((*epoch, Vec::new()));
                other.0 = other.0.max(*epoch);
                other.1.push(question.target.clone());
            }
        }
        for (id, (epoch, targets)) in others {
            if let Err(error) = fence_without_coordinator(self.target, (id, epoch), &targets).await {
                self.report.warnings.push(format!(
                    "producer id {id} wrote to {} and cannot be fenced ({error}): make sure that no other process runs this \
                     mirror",
                    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }
}

/// Shards that a rebuild which was cut short has left: without an owner, or with halts that followed more commands than there
/// are.
fn cut_short(state: &MirrorState) -> BTreeMap<u32, String> {
    let ahead = |((topic, partition), (_, resumes)): (&(String, i32), &(Halt, u64))| {
        *resumes > state.control.resumes(topic, *partition)
    };
    let is_left = |shard: &ShardState| shard.id.is_none() || shard.halts.iter().any(ahead);
    let left = (0..).zip(&state.shards).filter(|(number, shard)| !state.damaged.contains_key(number) && is_left(shard));
    left.map(|(number, _)| (number, "it has no owner, or belongs to another control partition".to_owned())).collect()
}

fn row(source: &TopicPartition, target: &TopicPartition, outcome: Outcome) -> RebuiltPartition {
    RebuiltPartition {
        topic: source.topic.clone(),
        target_topic: target.topic.clone(),
        partition: source.partition,
        outcome,
        detail: None,
        mapped_from: -1,
        target_end: if outcome == Outcome::Empty { 0 } else { -1 },
        mirrored_to: -1,
        matched_records: 0,
        unmapped_records: 0,
        missing_records: 0,
        segments: 0,
    }
}

impl RebuiltPartition {
    fn tell(&mut self, found: &Found) {
        let one = &found.alignment;
        self.outcome = Outcome::Rebuilt;
        self.mapped_from = one.map.segments().first().map_or(-1, |first| first.target);
        self.target_end = one.end;
        self.mirrored_to = one.map.position(one.end);
        self.matched_records = one.matched;
        self.unmapped_records = one.unmapped;
        self.missing_records = one.missing;
        self.segments = one.map.segments().len();
    }
}
