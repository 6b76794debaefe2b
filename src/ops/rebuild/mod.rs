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
use crate::engine::settle::last_data_below;
use crate::engine::shard::{ShardLog, ShardSpec, declared, take_shard, take_unread};
use crate::engine::topology::matching_topics;
use crate::engine::unfenced::fence_without_coordinator;
use crate::mirror::{Alignment, Halt, HaltKind, ShardState, shard_of, state_topic};

use super::MirrorState;
use find::{Question, find_map};

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
    /// Its shard: the partition of the state topic.
    pub shard: u32,
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
    let by_shard = std::mem::take(&mut work.lost);
    if apply {
        // Also shards that hold nothing: `start:` was applied to them once, and is not applied again.
        let all = (0..work.count).filter(|_| from_scratch);
        let shards: BTreeSet<u32> = by_shard.keys().chain(work.report.shards.keys()).copied().chain(all).collect();
        if !shards.is_empty() {
            let tp = Control::prepare(config, target).await?;
            for shard in shards {
                let pairs = by_shard.get(&shard).cloned().unwrap_or_default();
                work.write(&tp, shard, pairs, walked).await?;
            }
        }
        // Last: a run that is cut short is found as such, and no mirror starts before.
        if from_scratch {
            Control::restore(config, source, target).await?;
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
    generation: u32,
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
        let generation = control.as_ref().and_then(|c| Some(c.state.generation()?.generation)).unwrap_or(1);
        let mut work = Self { config, source, target, generation, state, count, lost: BTreeMap::new(), report };
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
            if !self.is_lost(shard, &source) {
                continue;
            }
            // A take-over leaves markers also where nothing was ever mirrored.
            let is_empty = log_start == 0 && last_data_below(self.target, &target, end, 0, |_| true).await?.is_none();
            if is_empty {
                self.report.partitions.push(row(&source, &target, Outcome::Empty));
            } else {
                self.lost.entry(shard).or_default().push(Lost { source, target, log_start });
            }
        }
        Ok(())
    }

    /// Whether a partition without a record had one: its shard says nothing, or a start has found so. (In a sound shard it may
    /// be new, or hold somebody's data.)
    fn is_lost(&self, shard: u32, source: &TopicPartition) -> bool {
        let key = (source.topic.clone(), source.partition);
        let halts = self.state.shards.iter().filter_map(|state| state.halts.get(&key));
        self.report.state_topic.is_some()
            || self.state.damaged.contains_key(&shard)
            || halts.into_iter().any(|(halt, _)| halt.kind == HaltKind::StateLost)
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
    ) -> Result<Vec<(Question, Alignment)>, EngineError> {
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
            row.shard = shard_of(question.source.topic_id, question.source.partition, self.count);
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

    /// Takes a shard over, and puts what its partitions' logs tell in the place of its records, or beside them.
    async fn write(
        &mut self,
        tp: &TopicPartition,
        shard: u32,
        lost: Vec<Lost>,
        walked: &Arc<Walked>,
    ) -> Result<(), EngineError> {
        let spec = ShardSpec {
            mirror: self.config.name.clone(),
            generation: self.generation,
            shard,
            tp: TopicPartition { partition: shard.cast_signed(), ..tp.clone() },
            control: self.state.control.clone(),
        };
        // What it says now, and not when it was looked at: a mirror may have run meanwhile.
        let mut log = match take_shard(self.target, &spec).await {
            Err(error) if error.damage().is_some() => take_unread(self.target, &spec).await?,
            outcome => outcome?,
        };
        let mut state = log.state.clone();
        let is_known = |lost: &Lost| {
            state.find(lost.source.topic_id, lost.source.partition).is_some_and(|(_, known)| !known.map.is_empty())
        };
        let (known, mut lost): (Vec<Lost>, Vec<Lost>) = lost.into_iter().partition(is_known);
        self.report.kept += known.len();
        let ends = self.fence(&log, &mut lost).await?;
        let mut found = self.look(lost, &ends, walked).await?;
        self.fence_others(&log, &mut found, &ends).await?;
        // What is not there yet is of later times: it is mirrored from its beginning.
        state.baseline = true;
        for (question, alignment) in found {
            state.producer_ids.extend(alignment.writers.keys());
            state.restore(&declared(&question.source, &question.target), alignment.map, alignment.end).map_err(
                |source| EngineError::State {
                    mirror: self.config.name.clone(),
                    topic: spec.tp.topic.clone(),
                    partition: spec.tp.partition,
                    offset: -1,
                    source,
                },
            )?;
        }
        self.note_halts(shard, &spec, &mut state);
        log.replace(state).await
    }

    /// What is not found stands still, whatever the next start makes of its target; and the commands that had ended some of
    /// the halts may be gone with the control partition.
    fn note_halts(&self, shard: u32, spec: &ShardSpec, state: &mut ShardState) {
        for row in self.report.partitions.iter().filter(|row| row.outcome == Outcome::NotFound && row.shard == shard) {
            let what = row.detail.clone().unwrap_or_default();
            let halt =
                Halt::new(HaltKind::StateLost, format!("the offset map was lost and cannot be found again: {what}"));
            let resumes = spec.control.resumes(&row.topic, row.partition);
            state.halts.insert((row.topic.clone(), row.partition), (halt, resumes));
        }
        for ((topic, partition), (_, resumes)) in &mut state.halts {
            *resumes = spec.control.resumes(topic, *partition).min(*resumes);
        }
    }

    /// From here on nobody writes to these targets; where their data ends at the latest. What cannot be marked is left out.
    async fn fence(
        &mut self,
        log: &ShardLog,
        lost: &mut Vec<Lost>,
    ) -> Result<BTreeMap<TopicPartition, i64>, EngineError> {
        let targets: Vec<TopicPartition> = lost.iter().map(|lost| lost.target.clone()).collect();
        if targets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut ends = self.ends(lost).await?;
        self.target.await_served(&targets).await?;
        let refused = write_markers(&log.mirror, self.target, &log.transactor, &targets).await?;
        for (name, error) in refused {
            let is_it = |lost: &Lost| (&lost.target.topic, lost.target.partition) == (&name.0, name.1);
            if let Some(left_out) = lost.iter().find(|lost| is_it(lost)) {
                let detail = Some(format!("its target cannot be taken over: {error}"));
                let row = row(&left_out.source, &left_out.target, Outcome::NotFound);
                self.report.partitions.push(RebuiltPartition { detail, shard: log.shard, ..row });
            }
            lost.retain(|lost| !is_it(lost));
            ends.retain(|target, _| (&target.topic, target.partition) != (&name.0, name.1));
        }
        for (target, end) in &mut ends {
            let marker = await_marker(&log.mirror, self.target, target, *end, &log.transactor, |_| Ok(())).await?;
            *end = marker.offset;
        }
        Ok(ends)
    }

    /// Producer ids that the coordinator has forgotten may still be those of a process that runs. What they have written
    /// behind our marker was not compared.
    async fn fence_others(
        &mut self,
        log: &ShardLog,
        found: &mut Vec<(Question, Alignment)>,
        ends: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), EngineError> {
        let mut kept = Vec::new();
        for (question, alignment) in std::mem::take(found) {
            let target = &question.target;
            let mut trouble = None;
            for (id, epoch) in alignment.writers.iter().filter(|(id, _)| **id != log.transactor.producer_id) {
                let fenced = fence_without_coordinator(self.target, (*id, *epoch), std::slice::from_ref(target)).await;
                trouble = trouble.or(fenced
                    .err()
                    .map(|error| format!("producer id {id} wrote to {target} and cannot be fenced: {error}")));
            }
            let (from, end) = (ends.get(target).copied().unwrap_or(0), self.target.log_end(target).await?);
            if last_data_below(self.target, target, end, from, |_| true).await?.is_some() {
                trouble = Some(format!("somebody writes to {target}: there are records behind offset {from} by now"));
            }
            match trouble {
                None => kept.push((question, alignment)),
                Some(trouble) => self.give_up(&question, trouble),
            }
        }
        *found = kept;
        Ok(())
    }

    fn give_up(&mut self, question: &Question, why: String) {
        let (topic, partition) = (&question.source.topic, question.source.partition);
        if let Some(row) = self.report.partitions.iter_mut().find(|r| r.topic == *topic && r.partition == partition) {
            (row.outcome, row.detail) = (Outcome::NotFound, Some(why));
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
        shard: 0,
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
    fn tell(&mut self, one: &Alignment) {
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
