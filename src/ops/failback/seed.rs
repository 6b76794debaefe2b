//! Gives a mirror its maps before it runs for the first time, or for the first time in a new generation: where each partition
//! goes on, and what stands on both sides already.
//!
//! The shards are taken over as by any start (Init, state marker, data markers), so that the end of each target log is
//! known and nobody else's. A snapshot then takes the place of what the shard held, and the generation is written last: a
//! run that is cut short is begun anew, and no mirror starts before it is through.

use std::collections::{BTreeMap, HashMap};

use crate::client::{Cluster, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::{Control, SHARDS};
use crate::engine::markers::{await_marker, write_markers};
use crate::engine::settle::last_data_below;
use crate::engine::shard::{ShardLog, ShardSpec, declared, take_unread};
use crate::mirror::{ControlRecord, GapReason, OffsetMap, ShardState, shard_of};

/// A partition to begin with.
#[derive(Debug, Clone)]
pub(super) struct Seed {
    pub(super) source: TopicPartition,
    pub(super) target: TopicPartition,
    /// What stands on both sides already.
    pub(super) map: OffsetMap,
    /// Source offset behind that.
    pub(super) read: i64,
    /// Target offset behind that: data at or beyond it is there alone.
    pub(super) written: i64,
    /// Target offset from which on what the target has is known to be there alone.
    pub(super) divergent_from: Option<i64>,
    /// Source offset to go on at.
    pub(super) from: i64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seeded {
    /// The mirror goes on at this target offset; below it the target has data of its own up to `alone_to`, if any.
    At { target: i64, alone_to: Option<i64> },
    /// Not, and why.
    Refused(String),
}

/// Seeds; by source partition, what became of each.
pub(super) async fn seed(
    config: &MirrorConfig,
    (source, target): (&Cluster, &Cluster),
    seeds: Vec<Seed>,
    home_of: Option<u32>,
) -> Result<BTreeMap<TopicPartition, Seeded>, EngineError> {
    let tp = Control::prepare(config, target).await?;
    let control = Control::open(&config.name, target).await?;
    let control = control.map(|control| control.state).unwrap_or_default();
    let (generation, shards) = control.generation().map_or((1, shards_of(&tp)), |g| (g.generation + 1, g.shards));
    let mut by_shard: BTreeMap<u32, Vec<Seed>> = (0..shards).map(|shard| (shard, Vec::new())).collect();
    for seed in seeds {
        let shard = shard_of(seed.source.topic_id, seed.source.partition, shards);
        by_shard.entry(shard).or_default().push(seed);
    }
    let mut out = BTreeMap::new();
    let mut divergent = Vec::new();
    for (shard, seeds) in by_shard {
        let spec = ShardSpec {
            mirror: config.name.clone(),
            generation,
            shard,
            tp: TopicPartition { partition: shard.cast_signed(), ..tp.clone() },
            control: control.clone(),
        };
        // Whatever an earlier generation has left there does not count any more.
        let mut log = take_unread(target, &spec).await?;
        let mut state = ShardState::default();
        state.baseline = true;
        let starts: BTreeMap<TopicPartition, (TopicPartition, i64)> = seeds
            .iter()
            .filter_map(|seed| Some((seed.source.clone(), (seed.target.clone(), seed.divergent_from?))))
            .collect();
        let begun = begin(&mut state, &log, target, seeds).await?;
        divergent.extend(begun.iter().filter_map(|(source, seeded)| {
            let (Seeded::At { target: to, .. }, Some((target, from))) = (seeded, starts.get(source)) else {
                return None;
            };
            let (topic, partition) = (target.topic.clone(), target.partition);
            Some(ControlRecord::Divergent { topic, partition, from: *from, to: *to })
        }));
        out.extend(begun);
        log.replace(state).await?;
    }
    Control::begin_generation(config, (source, target), generation, (home_of, divergent)).await?;
    Ok(out)
}

fn shards_of(control: &TopicPartition) -> u32 {
    u32::try_from(control.partition).unwrap_or(SHARDS)
}

/// Puts what is known of a shard's partitions into its state.
async fn begin(
    state: &mut ShardState,
    log: &ShardLog,
    target: &Cluster,
    seeds: Vec<Seed>,
) -> Result<Vec<(TopicPartition, Seeded)>, EngineError> {
    let targets: Vec<TopicPartition> = seeds.iter().map(|seed| seed.target.clone()).collect();
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let ends = target.log_ends(&targets, false).await?;
    target.await_served(&targets).await?;
    let refused = write_markers(&log.mirror, target, &log.transactor, &targets).await?;
    let mut out = Vec::new();
    for seed in seeds {
        let key = seed.source.clone();
        let name = (seed.target.topic.clone(), seed.target.partition);
        let outcome = match refused.get(&name) {
            Some(error) => Seeded::Refused(format!("{} cannot be taken over: {error}", seed.target)),
            None => one(state, log, target, seed, &ends).await?,
        };
        out.push((key, outcome));
    }
    Ok(out)
}

async fn one(
    state: &mut ShardState,
    log: &ShardLog,
    target: &Cluster,
    seed: Seed,
    ends: &HashMap<TopicPartition, i64>,
) -> Result<Seeded, EngineError> {
    let before = ends.get(&seed.target).copied().unwrap_or(0);
    let marker = await_marker(&log.mirror, target, &seed.target, before, &log.transactor, |_| Ok(())).await?;
    let start = target.log_start(&seed.target).await?;
    let last = last_data_below(target, &seed.target, marker.offset, start.max(seed.written), |_| true).await?;
    let alone_to = last.map(|batch| batch.header.next_offset()).filter(|end| *end > seed.written);
    let mut map = seed.map;
    let end = marker.offset + 1;
    if let Err(error) = map.go_on_at(seed.from, end, (seed.read, GapReason::Promotion)) {
        return Ok(Seeded::Refused(format!("the offset map of {} cannot go on there: {error}", seed.target)));
    }
    let restored = state.restore(&declared(&seed.source, &seed.target), map, end);
    Ok(match restored {
        Ok(()) => Seeded::At { target: end, alone_to },
        Err(error) => Seeded::Refused(error.to_string()),
    })
}

/// The partitions of these topics as metadata have them now, by name.
pub(super) async fn partitions_of(
    cluster: &Cluster,
    names: &[&str],
) -> Result<BTreeMap<(String, i32), TopicPartition>, EngineError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let metadata = cluster.refresh(Topics::Named(names)).await?;
    let mut out = BTreeMap::new();
    for topic in names.iter().filter_map(|name| metadata.topic(name)) {
        for partition in (0..).take(topic.partitions.len()) {
            let tp = TopicPartition { topic: topic.name.clone(), topic_id: topic.id, partition };
            out.insert((topic.name.clone(), partition), tp);
        }
    }
    Ok(out)
}
