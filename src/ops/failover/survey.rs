//! What a failover looks at: the mirror's state, both ends of every partition as far as they can be told, and the topics' settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Cluster, ReadError, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::ahead::AT_ONCE;
use crate::engine::settle::last_data_below;
use crate::engine::shard::target_of;
use crate::engine::topology::known_topic_configs;
use crate::mirror::{ControlState, PartitionState, PromotionPhase, Unfenced};
use crate::plan::{LostRange, NOT_MIRRORED, PartitionOutlook, SettingFacts, TopicSettings, promotion_settings};

use super::super::MirrorState;
use super::super::status::{GapView, PartitionStatus, status};
use super::super::time::rfc3339;
use super::{is_in_doubt, no_answer};

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) state: MirrorState,
    /// Why the source, that was there, did not tell.
    pub(super) source_trouble: Option<String>,
    pub(super) source_asked: bool,
    /// Shards whose state cannot be read, in words: which partitions they hold is not known.
    pub(super) damaged: Vec<String>,
    pub(super) partitions: Vec<PartitionOutlook>,
    pub(super) topics: Vec<TopicSettings>,
}

/// Looks at all of it. A source that does not answer in time is passed over.
pub(super) async fn survey(
    mirror: &MirrorConfig,
    source: Option<&Cluster>,
    target: &Cluster,
    source_timeout: Duration,
) -> Result<Survey, EngineError> {
    let mut source_trouble = None;
    let mut rows = None;
    if let Some(source) = source {
        match tokio::time::timeout(source_timeout, status(mirror, false, (source, target))).await {
            Ok(Ok(status)) => rows = Some(status.partitions),
            Ok(Err(error)) => source_trouble = Some(error.to_string()),
            Err(_) => source_trouble = Some(no_answer(source_timeout)),
        }
    }
    let source = source.filter(|_| source_trouble.is_none());
    // After the rows: what lies below an end has its breaks in the state by then.
    let state = MirrorState::read(&mirror.name, target).await?.unwrap_or_default();
    let newest = newest(target, &state).await?;
    let tails = tails(target, &state, &newest).await?;
    let mut partitions: Vec<PartitionOutlook> = newest
        .iter()
        .map(|((topic, partition), known)| {
            let row = rows.iter().flatten().find(|row| (&row.topic, row.partition) == (topic, *partition));
            outlook(&state, known, row, tails.get(&target_of(known)).copied().unwrap_or(Tail::UNKNOWN))
        })
        .collect();
    let is_known = |row: &PartitionStatus| newest.contains_key(&(row.topic.clone(), row.partition));
    partitions.extend(rows.iter().flatten().filter(|row| !is_known(row)).map(not_begun));
    // Heartbeats that did not make it are no loss to anybody.
    let beats = mirror.heartbeats.as_ref().map(|heartbeats| heartbeats.topic.as_str());
    partitions.iter_mut().filter(|p| beats == Some(&*p.topic)).for_each(|p| p.lost.clear());
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let topics = if mirror.sync.topic_configs {
        settings(mirror, source, target, &state.control, &newest, source_timeout).await?
    } else {
        Vec::new()
    };
    let damaged =
        state.damaged.iter().map(|(shard, halt)| format!("shard {shard} of the state cannot be read: {halt}"));
    let damaged = damaged.collect();
    Ok(Survey { source_asked: rows.is_some(), damaged, state, source_trouble, partitions, topics })
}

type Newest = BTreeMap<(String, i32), PartitionState>;

/// Of topics made again under one name, the newest: on the target topic that there is now, and furthest up in it.
async fn newest(target: &Cluster, state: &MirrorState) -> Result<Newest, EngineError> {
    let names: BTreeSet<&str> = state.partitions().map(|p| p.declared.target_topic.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return Ok(Newest::new());
    }
    let metadata = target.refresh(Topics::Named(&names)).await?;
    let age = |p: &PartitionState| {
        let is_there = metadata.topic(&p.declared.target_topic).is_some_and(|t| t.id == p.declared.target_topic_id);
        (is_there, p.map.segments().first().map_or(-1, |first| first.target))
    };
    let mut newest = Newest::new();
    for known in state.partitions() {
        let key = (known.declared.source_topic.clone(), known.declared.partition);
        if newest.get(&key).is_none_or(|before| age(before) <= age(known)) {
            newest.insert(key, known.clone());
        }
    }
    Ok(newest)
}

/// The end of our data in a target log.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// −1 where it cannot be told now.
    end: i64,
    /// Timestamp of the last record, ms; −1 where there is none.
    timestamp: i64,
    /// Bytes of the last batch, and its records.
    size: Option<(u64, u64)>,
}

impl Tail {
    const UNKNOWN: Self = Self { end: -1, timestamp: -1, size: None };
}

async fn tails(
    target: &Cluster,
    state: &MirrorState,
    newest: &Newest,
) -> Result<HashMap<TopicPartition, Tail>, EngineError> {
    let is_fenced = state.control.promotion_step(PromotionPhase::Fenced).is_some();
    let ids: BTreeSet<i64> = state.shards.iter().flat_map(|shard| shard.producer_ids.iter().copied()).collect();
    let targets: Vec<TopicPartition> = newest.values().map(target_of).collect();
    let bounds = target.log_bounds_each(&targets).await;
    let mut waiting: Vec<(TopicPartition, (i64, i64), i64)> = Vec::new();
    for known in newest.values() {
        let tp = target_of(known);
        let Some(Ok((start, end))) = bounds.get(&tp) else { continue };
        // Once it is fenced, what lies behind is the target's own.
        let end = known.end.filter(|_| is_fenced).map_or(*end, |settled| settled.min(*end));
        waiting.push((tp, (*start, end), known.end.unwrap_or(0)));
    }
    let (mut tasks, mut found) = (JoinSet::new(), HashMap::new());
    let mut waiting = waiting.into_iter();
    loop {
        while tasks.len() < AT_ONCE {
            let Some((tp, bounds, known)) = waiting.next() else { break };
            let (target, ids) = (target.clone(), ids.clone());
            tasks.spawn(async move {
                let tail = tail(&target, &tp, bounds, known, &ids).await;
                (tp, tail)
            });
        }
        let Some(done) = tasks.join_next().await else { return Ok(found) };
        let Ok((tp, Ok(tail))) = done else { continue };
        found.insert(tp, tail);
    }
}

/// The last batch of ours below `end`.
async fn tail(
    target: &Cluster,
    tp: &TopicPartition,
    (start, end): (i64, i64),
    known: i64,
    ids: &BTreeSet<i64>,
) -> Result<Tail, ReadError> {
    let last = last_data_below(target, tp, end, start, |header| ids.contains(&header.producer_id)).await?;
    Ok(match last {
        Some(batch) => Tail {
            end: batch.header.next_offset().max(known.min(end)),
            timestamp: batch.header.max_timestamp,
            size: u64::try_from(batch.header.records_count)
                .ok()
                .filter(|count| *count > 0)
                .map(|count| (batch.bytes.len() as u64, count)),
        },
        None => Tail { end: known.min(end), timestamp: -1, size: None },
    })
}

fn outlook(state: &MirrorState, known: &PartitionState, row: Option<&PartitionStatus>, tail: Tail) -> PartitionOutlook {
    let declared = &known.declared;
    let source = TopicPartition {
        topic: declared.source_topic.clone(),
        topic_id: declared.source_topic_id,
        partition: declared.partition,
    };
    let by_map = if tail.end >= 0 { known.map.position(tail.end).max(known.scanned.source) } else { -1 };
    let mirrored_to = row.map_or(-1, |row| row.mirrored_to).max(by_map);
    let row = row.filter(|row| row.source_end >= 0);
    let seen = Some(known.seen).filter(|seen| seen.at_ms > 0);
    let (source_end, seen_ms) = match (row, seen) {
        (Some(row), _) => (row.source_end, None),
        // What was mirrored since was there as well.
        (None, Some(seen)) => (seen.end.max(mirrored_to), Some(seen.at_ms)),
        (None, None) => (-1, None),
    };
    let lag_records = if source_end < 0 || mirrored_to < 0 { -1 } else { (source_end - mirrored_to).max(0) };
    let lag_seconds = match (row, seen_ms) {
        _ if lag_records == 0 => 0.0,
        (Some(row), _) if lag_records > 0 => row.lag_seconds,
        (None, Some(seen_ms)) if lag_records > 0 && tail.timestamp >= 0 => {
            (seen_ms - tail.timestamp).max(0) as f64 / 1000.0
        }
        _ => -1.0,
    };
    let (name, reason) = condition(state, known, &source);
    PartitionOutlook {
        topic: declared.source_topic.clone(),
        target_topic: declared.target_topic.clone(),
        partition: declared.partition,
        state: name.to_owned(),
        reason,
        source_end,
        source_seen_ms: seen_ms,
        source_seen_at: seen_ms.map(rfc3339),
        mirrored_to,
        target_end: data_end(known, tail.end),
        lag_records,
        lag_bytes_estimate: tail.size.filter(|_| lag_records > 0).map(|(bytes, records)| {
            u64::try_from(u128::from(lag_records.unsigned_abs()) * u128::from(bytes) / u128::from(records))
                .unwrap_or(u64::MAX)
        }),
        lag_seconds,
        lost: lost(known, mirrored_to, source_end),
    }
}

/// Target offset behind the last record mirrored; markers of ours behind it are none.
fn data_end(known: &PartitionState, end: i64) -> i64 {
    if end < 0 || known.map.is_empty() {
        return end.min(0);
    }
    let behind = known.map.end_of_records(known.map.position(end), end);
    let last = known.map.to_target(behind - 1, end);
    if last.exact { last.offset + 1 } else { end }
}

fn condition(state: &MirrorState, known: &PartitionState, source: &TopicPartition) -> (&'static str, Option<String>) {
    let (topic, partition) = (&known.declared.source_topic, known.declared.partition);
    if let Some(step) = state.control.promotion_step(PromotionPhase::Fenced) {
        let left = step.unfenced.iter().find(|u| (&u.topic, u.partition) == (topic, partition));
        return match left {
            Some(left) if is_in_doubt(left) => ("in_doubt", Some(left.detail.clone())),
            Some(Unfenced { reason, detail, .. }) => ("unfenced", Some(format!("{reason}: {detail}"))),
            None if known.map.is_empty() => ("empty", None),
            None => ("fenced", None),
        };
    }
    if let Some(damage) = state.damage(source) {
        return ("damaged", Some(damage.to_string()));
    }
    match state.halt(topic, partition) {
        Some(halt) => ("halted", Some(halt.to_string())),
        None if state.control.is_paused(topic, partition) => ("paused", None),
        None if known.map.is_empty() => ("starting", None),
        None => ("mirroring", None),
    }
}

fn lost(known: &PartitionState, mirrored_to: i64, source_end: i64) -> Vec<LostRange> {
    let gaps = known.map.gaps().map(GapView::from).filter(|gap| gap.is_loss && gap.from < mirrored_to);
    let gaps = gaps.map(|gap| LostRange { from: gap.from, to: gap.to.min(mirrored_to), reason: gap.reason });
    let rest = (mirrored_to >= 0 && source_end > mirrored_to).then(|| LostRange {
        from: mirrored_to,
        to: source_end,
        reason: NOT_MIRRORED.to_owned(),
    });
    gaps.chain(rest).collect()
}

/// A partition of the source that the mirror has not come to.
fn not_begun(row: &PartitionStatus) -> PartitionOutlook {
    let is_known = row.source_end >= 0;
    PartitionOutlook {
        topic: row.topic.clone(),
        target_topic: row.target_topic.clone(),
        partition: row.partition,
        state: if row.state == "promoted" { "starting" } else { row.state }.to_owned(),
        reason: row.reason.clone(),
        source_end: row.source_end,
        source_seen_ms: None,
        source_seen_at: None,
        mirrored_to: -1,
        target_end: -1,
        lag_records: row.lag_records,
        lag_bytes_estimate: None,
        lag_seconds: if row.lag_records > 0 { -1.0 } else { row.lag_seconds },
        lost: (is_known && row.lag_records > 0)
            .then(|| LostRange { from: 0, to: row.source_end, reason: NOT_MIRRORED.to_owned() })
            .into_iter()
            .collect(),
    }
}

/// In what each topic's settings differ from what the source has, or had.
async fn settings(
    mirror: &MirrorConfig,
    source: Option<&Cluster>,
    target: &Cluster,
    control: &ControlState,
    newest: &Newest,
    source_timeout: Duration,
) -> Result<Vec<TopicSettings>, EngineError> {
    let metadata = target.metadata();
    let is_there = |p: &&PartitionState| {
        metadata.topic(&p.declared.target_topic).is_some_and(|topic| topic.id == p.declared.target_topic_id)
    };
    let pairs: BTreeMap<&str, &str> = (newest.values().filter(is_there))
        .map(|p| (p.declared.source_topic.as_str(), p.declared.target_topic.as_str()))
        .collect();
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let known = known_topic_configs(mirror, target).await?;
    let names: Vec<&str> = pairs.values().copied().collect();
    let theirs = target.overrides_of_topics(&names).await?;
    let sources: Vec<&str> = pairs.keys().copied().collect();
    let now = match source {
        Some(source) => tokio::time::timeout(source_timeout, source.overrides_of_topics(&sources)).await,
        None => Ok(Ok(HashMap::new())),
    };
    // A source that does not tell has told before.
    let now = now.ok().and_then(Result::ok).unwrap_or_default();
    let replicas = |topic: &str| {
        let partitions = metadata.topic(topic).map(|t| t.partitions.as_slice()).unwrap_or_default();
        partitions.iter().map(|p| p.replicas).min().unwrap_or(0)
    };
    let of = |(source_topic, topic): (&str, &str)| {
        let facts = SettingFacts {
            source: now.get(source_topic).or_else(|| control.source_configs(source_topic)),
            target: theirs.get(topic)?,
            overrides: &mirror.target_topics.configs,
            known: &known,
            replicas: replicas(topic),
            // On the way home the standby's settings are the newer ones, whoever has set those of the old source.
            synced: Some(control.synced()).filter(|_| !mirror.is_way_home()),
        };
        Some(promotion_settings(source_topic, topic, facts))
    };
    Ok(pairs.iter().filter_map(|(source, target)| of((source, target))).collect())
}
