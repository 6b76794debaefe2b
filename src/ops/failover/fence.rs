//! The fence of a failover: every shard is taken over, and every partition marked and settled, by an owner that writes no data. What
//! the source holds by then is noted beside it, where it can be asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Cluster, LogPoint, ReadOptions, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::ahead::{First, look_ahead};
use crate::engine::attach::{Fenced, FencedPartition, There, fence_shard};
use crate::engine::control::Control;
use crate::engine::shard::{ShardLog, ShardSpec, take_to_promote, take_unread};
use crate::engine::{EngineError, now_ms};
use crate::mirror::{Isolation, PartitionState, Scan, Seen, StateRecord, Unfenced, UnfencedReason, seen_records};

/// How long a shard is tried whose partition or coordinator does not answer, or that somebody else takes as well.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);

/// Who is fenced.
pub(super) struct Fence<'a> {
    pub(super) mirror: &'a MirrorConfig,
    pub(super) source: Option<&'a Cluster>,
    pub(super) source_timeout: Duration,
    pub(super) target: &'a Cluster,
    pub(super) control: &'a Control,
    pub(super) generation: u32,
    /// Whether an earlier call has begun already: it may have put producer ids aside that it could not fence, or not any more.
    pub(super) is_resumed: bool,
}

impl Fence<'_> {
    /// Fences all partitions, or only these; gives those that could not be fenced, or whose end is in doubt.
    pub(super) async fn run(&self, only: Option<&BTreeSet<(String, i32)>>) -> Result<Vec<Unfenced>, EngineError> {
        let shards = self.control.state.generation().map_or(0, |generation| generation.shards);
        let mut tasks = JoinSet::new();
        for shard in 0..shards {
            let spec = ShardSpec {
                mirror: self.mirror.name.clone(),
                generation: self.generation,
                shard,
                tp: TopicPartition { partition: shard.cast_signed(), ..self.control.tp.clone() },
                control: self.control.state.clone(),
            };
            let (mirror, target, only) = (self.mirror.clone(), self.target.clone(), only.cloned());
            let is_resumed = self.is_resumed;
            tasks.spawn(async move { fence_patiently(&mirror, &target, &spec, only.as_ref(), is_resumed).await });
        }
        let (mut logs, mut out) = (Vec::new(), Vec::new());
        while let Some(done) = tasks.join_next().await {
            let done = done.map_err(|e| self.unexpected(format!("fencing a shard: {e}")))?;
            let (log, partitions) = done?;
            logs.push(log);
            out.extend(partitions.iter().filter_map(FencedPartition::unfenced));
        }
        self.note_source(&mut logs).await?;
        Ok(out)
    }

    fn unexpected(&self, detail: String) -> EngineError {
        EngineError::Unexpected { mirror: self.mirror.name.clone(), detail }
    }

    /// Notes what the source holds now, and how much of what is not mirrored is nothing to mirror. A source that is slow to answer
    /// is not waited for: what was noted before counts then.
    async fn note_source(&self, logs: &mut [ShardLog]) -> Result<(), EngineError> {
        let Some(source) = self.source else { return Ok(()) };
        let states: Vec<PartitionState> = logs.iter().flat_map(|l| l.state.partitions.values().cloned()).collect();
        let asked = tokio::time::timeout(self.source_timeout, look(source, self.mirror.isolation, states)).await;
        let Ok(found) = asked else {
            tracing::warn!(mirror = %self.mirror.name, "the source does not answer any more; what was noted of it before counts");
            return Ok(());
        };
        let at_ms = now_ms();
        for log in logs {
            let of = |state: &PartitionState| found.get(&source_of(state)).copied();
            let here: Vec<(u32, (i64, i64))> =
                log.state.partitions.iter().filter_map(|(index, state)| Some((*index, of(state)?))).collect();
            let seen: Vec<(u32, Seen)> =
                here.iter().map(|(index, (end, _))| (*index, Seen { end: *end, at_ms })).collect();
            let scan = |(index, (_, next)): &(u32, (i64, i64))| {
                let state = log.state.partitions.get(index)?;
                let end = state.end?;
                (*next > state.map.position(end).max(state.scanned.source))
                    .then_some((*index, Scan { source: *next, end }))
            };
            let scanned: Vec<(u32, Scan)> = here.iter().filter_map(scan).collect();
            let mut records = if seen.is_empty() { Vec::new() } else { seen_records(at_ms, &seen) };
            if !scanned.is_empty() {
                records.push(StateRecord::Scanned { entries: scanned });
            }
            if !records.is_empty() {
                log.append(records).await?;
            }
        }
        Ok(())
    }
}

fn source_of(state: &PartitionState) -> TopicPartition {
    TopicPartition {
        topic: state.declared.source_topic.clone(),
        topic_id: state.declared.source_topic_id,
        partition: state.declared.partition,
    }
}

/// The ends of these partitions on the source, and how far behind the position there is nothing to mirror.
async fn look(
    source: &Cluster,
    isolation: Isolation,
    states: Vec<PartitionState>,
) -> HashMap<TopicPartition, (i64, i64)> {
    let names: BTreeSet<&str> = states.iter().map(|s| s.declared.source_topic.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let Ok(metadata) = source.refresh(Topics::Named(&names)).await else { return HashMap::new() };
    let stands = |s: &&PartitionState| {
        metadata.topic(&s.declared.source_topic).is_some_and(|topic| topic.id == s.declared.source_topic_id)
    };
    let states: BTreeMap<TopicPartition, &PartitionState> =
        states.iter().filter(stands).map(|s| (source_of(s), s)).collect();
    let tps: Vec<TopicPartition> = states.keys().cloned().collect();
    let ends = source.offsets_each(&tps, LogPoint::End { committed: isolation == Isolation::ReadCommitted }).await;
    let mut found = HashMap::new();
    for (tp, end) in ends {
        let (Ok(end), Some(state)) = (end, states.get(&tp)) else { continue };
        let position = state.end.map_or(0, |end| state.map.position(end)).max(state.scanned.source);
        let next = if state.map.is_empty() || position >= end {
            position
        } else {
            let options = ReadOptions { deadline: Duration::from_secs(5), ..ReadOptions::default() };
            match look_ahead(source, isolation, &tp, (position, end), options).await {
                Ok((next, First::Nothing | First::At(_))) => next.min(end),
                _ => position,
            }
        };
        found.insert(tp, (end, next));
    }
    found
}

/// One shard, for as long as it may take.
async fn fence_patiently(
    mirror: &MirrorConfig,
    target: &Cluster,
    spec: &ShardSpec,
    only: Option<&BTreeSet<(String, i32)>>,
    mut is_resumed: bool,
) -> Result<(ShardLog, Vec<FencedPartition>), EngineError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match fence(mirror, target, spec, only, is_resumed).await {
            Ok(done) => return Ok(done),
            Err(error) if error.is_retriable() && Instant::now() < until => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(mirror = %mirror.name, shard = spec.shard, %error, "the shard is not fenced yet, trying again");
        is_resumed = true;
        tokio::time::sleep(PAUSE).await;
        let _ = target.refresh(Topics::Named(&[spec.tp.topic.as_str()])).await;
    }
}

async fn fence(
    mirror: &MirrorConfig,
    target: &Cluster,
    spec: &ShardSpec,
    only: Option<&BTreeSet<(String, i32)>>,
    is_resumed: bool,
) -> Result<(ShardLog, Vec<FencedPartition>), EngineError> {
    let (mut log, mut replaced) = match take_to_promote(target, spec).await {
        // Its owner is fenced at the coordinator and in the state; of its partitions nothing is known.
        Err(error) if error.damage().is_some() => return Ok((take_unread(target, spec).await?, Vec::new())),
        outcome => {
            let (log, replaced) = outcome?;
            (log, Vec::from_iter(replaced))
        }
    };
    if is_resumed {
        // The id on record may be one that an earlier attempt has put there, and it may have fenced nobody: what it could not fence,
        // or had no time to, may be of any of these.
        let own = log.transactor.producer_id;
        replaced = log.state.producer_ids.iter().filter(|id| **id != own).map(|id| (*id, i16::MAX - 1)).collect();
    }
    let there = There { config: mirror, target };
    let partitions = fence_shard(there, &mut log, only, &replaced).await?;
    for partition in &partitions {
        tell(mirror, partition);
    }
    Ok((log, partitions))
}

fn tell(mirror: &MirrorConfig, partition: &FencedPartition) {
    let (topic, number) = (&partition.declared.target_topic, partition.declared.partition);
    match &partition.fenced {
        Fenced::Settled { end } => tracing::debug!(mirror = %mirror.name, topic, partition = number, end, "fenced"),
        Fenced::Empty => {}
        Fenced::InDoubt(halt) => {
            tracing::error!(mirror = %mirror.name, topic, partition = number, %halt, "fenced, but its end is in doubt");
        }
        Fenced::Unfenced(reason @ (UnfencedReason::Missing | UnfencedReason::Recreated), detail) => {
            tracing::warn!(mirror = %mirror.name, topic, partition = number, %reason, detail, "nothing to fence");
        }
        Fenced::Unfenced(reason, detail) => {
            tracing::error!(mirror = %mirror.name, topic, partition = number, %reason, detail, "not fenced");
        }
    }
}
