//! A shard taken over for a promotion: fenced and settled by an owner that produces nothing. The source may be gone; and what
//! cannot be fenced is told apart and left, for the others do not wait for it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::client::{ClientError, Cluster, TopicPartition, Topics};
use crate::mirror::{
    Bounds, Declared, Halt, HaltKind, PartitionState, StateRecord, TOPIC_AUTHORIZATION_FAILED, Unfenced,
    UnfencedReason, origin_record,
};

use super::super::EngineError;
use super::super::markers::{await_marker, write_markers};
use super::super::settle::PATIENT;
use super::super::shard::{ShardLog, target_of};
use super::super::unfenced::fence_without_coordinator;
use super::marked::{MARKED_AT_ONCE, Marked, described_ends};
use super::settled::{Settled, settle};
use super::{Pair, There, Wanted};

/// How long a leader is waited for: elections take less.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
const LEADER_PAUSE: Duration = Duration::from_millis(300);

/// What became of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fenced {
    /// Older writers are refused, and our data ends here.
    Settled {
        /// Target offset behind the last record mirrored.
        end: i64,
    },
    /// Nothing was ever written to it.
    Empty,
    /// Older writers are refused, but where our data ends is in doubt.
    InDoubt(Halt),
    /// It could not be fenced.
    Unfenced(UnfencedReason, String),
}

/// A partition of the shard, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct FencedPartition {
    pub(crate) declared: Declared,
    pub(crate) fenced: Fenced,
}

impl FencedPartition {
    /// For the record, where it could not be fenced.
    pub(crate) fn unfenced(&self) -> Option<Unfenced> {
        let (reason, detail) = match &self.fenced {
            Fenced::Unfenced(reason, detail) => (*reason, detail.clone()),
            Fenced::InDoubt(halt) => (UnfencedReason::InDoubt, halt.to_string()),
            Fenced::Settled { .. } | Fenced::Empty => return None,
        };
        Some(Unfenced {
            topic: self.declared.source_topic.clone(),
            target_topic: self.declared.target_topic.clone(),
            partition: self.declared.partition,
            reason,
            detail,
        })
    }
}

/// Fences and settles the partitions of a shard that has just been taken; `only` some of them, where that is given.
/// `replaced` are producer ids that the coordinator knows no more: an epoch of ours says nothing to them.
pub(crate) async fn fence_shard(
    ctx: There<'_>,
    shard: &mut ShardLog,
    only: Option<&BTreeSet<(String, i32)>>,
    replaced: &[(i64, i16)],
) -> Result<Vec<FencedPartition>, EngineError> {
    let is_meant = |state: &&PartitionState| {
        only.is_none_or(|only| only.contains(&(state.declared.source_topic.clone(), state.declared.partition)))
    };
    let states: Vec<(u32, PartitionState)> =
        shard.state.partitions.iter().filter(|(_, s)| is_meant(s)).map(|(i, s)| (*i, s.clone())).collect();
    let (mut out, mut open) = (Vec::new(), Vec::new());
    let standing = standing(ctx.target, &states).await?;
    for (index, state) in states {
        let fenced = match standing.get(&target_of(&state)) {
            _ if state.map.is_empty() => Some(Fenced::Empty),
            Some(reason) => Some(reason.clone()),
            None => None,
        };
        match fenced {
            Some(fenced) => out.push(FencedPartition { declared: state.declared, fenced }),
            None => open.push((index, state)),
        }
    }
    let until = Instant::now() + LEADER_PATIENCE;
    let mut forgotten = HashMap::new();
    loop {
        let Reached { marked, away, may_come } = reach(ctx.target, open).await;
        // First: what they write must not come behind the end that is found.
        forgotten.extend(fence_replaced(ctx.target, &marked, replaced).await);
        for part in marked.chunks(MARKED_AT_ONCE) {
            out.extend(fence_some(ctx, shard, part).await?);
        }
        if !may_come || Instant::now() > until {
            out.extend(away.into_iter().map(|(_, state, fenced)| FencedPartition { declared: state.declared, fenced }));
            break;
        }
        open = away.into_iter().map(|(index, state, _)| (index, state)).collect();
        tokio::time::sleep(LEADER_PAUSE).await;
    }
    for partition in &mut out {
        let key = (partition.declared.target_topic.clone(), partition.declared.partition);
        if let Some(detail) = forgotten.get(&key)
            && !matches!(partition.fenced, Fenced::Unfenced(..))
        {
            partition.fenced = Fenced::Unfenced(UnfencedReason::Forgotten, detail.clone());
        }
    }
    Ok(out)
}

/// Fences producer ids that have no coordinator, partition by partition; where that is refused, the partition and the words.
async fn fence_replaced(
    target: &Cluster,
    marked: &[Marked],
    replaced: &[(i64, i16)],
) -> HashMap<(String, i32), String> {
    let mut refused = HashMap::new();
    for tp in marked.iter().map(|marked| &marked.wanted.pair.target) {
        for old in replaced {
            if let Err(error) = fence_without_coordinator(target, *old, std::slice::from_ref(tp)).await {
                let words =
                    format!("producer id {}, under which it was written, is forgotten and not fenced: {error}", old.0);
                refused.insert((tp.topic.clone(), tp.partition), words);
            }
        }
    }
    refused
}

/// Targets that are not there any more.
async fn standing(
    target: &Cluster,
    states: &[(u32, PartitionState)],
) -> Result<HashMap<TopicPartition, Fenced>, EngineError> {
    let targets: BTreeSet<TopicPartition> = states.iter().map(|(_, state)| target_of(state)).collect();
    let names: BTreeSet<&str> = targets.iter().map(|tp| tp.topic.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let metadata = target.refresh(Topics::Named(&names)).await?;
    let gone = |tp: &TopicPartition| match metadata.topic(&tp.topic) {
        None => Some((UnfencedReason::Missing, format!("target topic {} is not there", tp.topic))),
        Some(topic) if topic.error == TOPIC_AUTHORIZATION_FAILED => {
            let error = target.api_error("Metadata", topic.error, &tp.topic);
            Some((UnfencedReason::Unauthorised, error.to_string()))
        }
        Some(topic) if topic.id != tp.topic_id => {
            let words =
                format!("target topic {} was deleted and made again: id {} is now {}", tp.topic, tp.topic_id, topic.id);
            Some((UnfencedReason::Recreated, words))
        }
        Some(_) => None,
    };
    Ok(targets
        .iter()
        .filter_map(|tp| gone(tp).map(|(why, words)| (tp.clone(), Fenced::Unfenced(why, words))))
        .collect())
}

/// Which partitions can be marked now. The others do not hold them up: an owner that waits is one whose id the coordinator may forget.
struct Reached {
    /// With the bounds of their logs.
    marked: Vec<Marked>,
    /// No leader serves these, and why.
    away: Vec<(u32, PartitionState, Fenced)>,
    /// Whether one of them may have a leader soon.
    may_come: bool,
}

/// A transaction must not name a partition without a leader: it would stay open.
async fn reach(target: &Cluster, open: Vec<(u32, PartitionState)>) -> Reached {
    let targets: Vec<TopicPartition> = open.iter().map(|(_, state)| target_of(state)).collect();
    let mut bounds = target.log_bounds_each(&targets).await;
    let mut reached = Reached { marked: Vec::new(), away: Vec::new(), may_come: false };
    for (index, state) in open {
        let tp = target_of(&state);
        match bounds.remove(&tp).unwrap_or_else(|| Err(target.api_error("ListOffsets", -1, &tp.to_string()))) {
            Ok((start, end)) => {
                reached.marked.push(Marked { wanted: wanted(&state), index, at: Bounds { start, end } });
            }
            Err(error) => {
                reached.may_come |= error.is_retriable();
                reached.away.push((index, state, unreachable(&error)));
            }
        }
    }
    reached
}

fn unreachable(error: &ClientError) -> Fenced {
    let reason = match error {
        ClientError::Api { code: TOPIC_AUTHORIZATION_FAILED, .. } => UnfencedReason::Unauthorised,
        error if error.is_retriable() => UnfencedReason::Leaderless,
        _ => UnfencedReason::Refused,
    };
    Fenced::Unfenced(reason, error.to_string())
}

/// Records of others behind ours are the target's own, by the time that it is promoted.
fn wanted(state: &PartitionState) -> Wanted {
    let Declared { source_topic, source_topic_id, partition, .. } = state.declared.clone();
    let source = TopicPartition { topic: source_topic, topic_id: source_topic_id, partition };
    Wanted {
        pair: Pair { source, target: target_of(state) },
        freed: Some(HaltKind::ForeignRecords),
        successor: false,
        divergence: None,
        accepted: Vec::new(),
    }
}

async fn fence_some(
    ctx: There<'_>,
    shard: &mut ShardLog,
    part: &[Marked],
) -> Result<Vec<FencedPartition>, EngineError> {
    let described = described_ends(ctx, shard, part).await;
    let targets: Vec<TopicPartition> = part.iter().map(|marked| marked.wanted.pair.target.clone()).collect();
    let refused = write_markers(&shard.mirror, ctx.target, &shard.transactor, &targets).await?;
    let (mut out, mut records) = (Vec::new(), Vec::new());
    for marked in part {
        let Some(state) = shard.state.partitions.get(&marked.index).cloned() else { continue };
        let target = &marked.wanted.pair.target;
        let fenced = match refused.get(&(target.topic.clone(), target.partition)) {
            Some(error) => unreachable(error),
            None => {
                let described = described.get(&marked.index).copied();
                let (fenced, origin) = fence_one(ctx, shard, marked, described).await?;
                records.extend(origin);
                fenced
            }
        };
        out.push(FencedPartition { declared: state.declared, fenced });
    }
    if !records.is_empty() {
        shard.append(records).await?;
    }
    Ok(out)
}

/// Waits for the marker and settles the end; the record of it.
async fn fence_one(
    ctx: There<'_>,
    shard: &mut ShardLog,
    marked: &Marked,
    described: Option<i64>,
) -> Result<(Fenced, Option<StateRecord>), EngineError> {
    let Marked { wanted, index, at } = marked;
    let target = &wanted.pair.target;
    let marker = await_marker(&shard.mirror, ctx.target, target, at.end, &shard.transactor, |_| Ok(())).await;
    let marker = match marker {
        Ok(marker) => marker,
        Err(error) => return not_marked(error).map(|fenced| (fenced, None)),
    };
    let end = match settle(ctx, shard, marked, described, &marker).await {
        Ok(Ok(Settled { end, .. })) => end,
        Ok(Err(halt)) => return Ok((Fenced::InDoubt(halt), None)),
        Err(error @ (EngineError::Client(_) | EngineError::Read(_))) => {
            let halt = Halt::new(HaltKind::EndUnreadable, error.to_string());
            return Ok((Fenced::InDoubt(halt), None));
        }
        Err(error) => return Err(error),
    };
    let Some(state) = shard.state.partitions.get(index) else { return Ok((Fenced::Empty, None)) };
    match origin_record(state, *index, shard.transactor.producer_epoch, end, marker.offset) {
        Ok(record) => Ok((Fenced::Settled { end }, Some(record))),
        Err(halt) => Ok((Fenced::InDoubt(halt), None)),
    }
}

fn not_marked(error: EngineError) -> Result<Fenced, EngineError> {
    match error {
        EngineError::NoMarker { .. } => Ok(Fenced::Unfenced(UnfencedReason::Leaderless, error.to_string())),
        EngineError::Client(error) => Ok(unreachable(&error)),
        EngineError::Read(error) => Ok(Fenced::Unfenced(UnfencedReason::Refused, error.to_string())),
        error => Err(error),
    }
}

/// Whether a batch of one of these producers stands at or behind `from`: somebody who was fenced has written all the same.
pub(crate) async fn written_behind(
    cluster: &Cluster,
    tp: &TopicPartition,
    from: i64,
    producer_ids: &BTreeSet<i64>,
) -> Result<Option<i64>, EngineError> {
    let options = crate::client::ReadOptions { max_wait_ms: 0, ..PATIENT };
    let slice = crate::client::read_log(cluster, tp, from, options).await?;
    let mut batches = slice.batches.iter().map(|batch| batch.header).filter(|header| header.next_offset() > from);
    let ours = batches.find(|header| !header.is_control() && producer_ids.contains(&header.producer_id));
    Ok(ours.map(|header| header.base_offset))
}
