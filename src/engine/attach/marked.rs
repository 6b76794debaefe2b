//! Partitions whose last owner did not release them: marked, settled, and given an origin.

use std::collections::HashMap;

use crate::client::TopicPartition;
use crate::config::Policy;
use crate::mirror::{Bounds, GoBack, Halt, StateRecord, go_back, origin_record};

use super::super::EngineError;
use super::super::markers::{await_marker, write_markers};
use super::super::shard::ShardLog;
use super::settled::{described_end, settle_and_check};
use super::{AttachContext, Attached, Pair, There, Wanted, not_attached, one_partition, undeclared};

/// Partitions under one transaction; bounds the request and how long it stays open.
pub(super) const MARKED_AT_ONCE: usize = 500;

/// A partition to be taken over.
pub(super) struct Marked {
    pub(super) wanted: Wanted,
    pub(super) index: u32,
    /// The target's log before the marker.
    pub(super) at: Bounds,
}

/// Takes the partitions over, one transaction of markers for many. What cannot be reached comes back to be tried again.
pub(super) async fn attach_marked(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    marked: Vec<Marked>,
    done: &mut Vec<(Pair, u32)>,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let mut out = Vec::new();
    let mut records = Vec::new();
    let mut settled = Vec::new();
    for part in marked.chunks(MARKED_AT_ONCE) {
        let described = described_ends(ctx.there(), shard, part).await;
        let targets: Vec<TopicPartition> = part.iter().map(|m| m.wanted.pair.target.clone()).collect();
        let refused = match write_markers(&shard.mirror, ctx.target, &shard.transactor, &targets).await {
            Ok(refused) => refused,
            // Another transaction of this shard is not through, perhaps for want of a leader: nobody else waits for that.
            Err(error) if error.is_passing() => {
                out.extend(part.iter().map(|m| (m.wanted.pair.clone(), Attached::Later(error.to_string()))));
                continue;
            }
            Err(error) => return Err(error),
        };
        for marked in part {
            let pair = &marked.wanted.pair;
            if let Some(error) = refused.get(&(pair.target.topic.clone(), pair.target.partition)) {
                out.push((pair.clone(), not_attached(error)));
                continue;
            }
            match settle_marked(ctx, shard, marked, described.get(&marked.index).copied()).await? {
                Ok(origin) => {
                    records.push(origin);
                    settled.push((marked.wanted.clone(), marked.index));
                }
                Err(attached) => out.push((pair.clone(), attached)),
            }
        }
    }
    if !records.is_empty() {
        shard.append(records).await?;
    }
    for (wanted, index) in settled {
        match diverge(ctx, shard, &wanted, index).await? {
            None => done.push((wanted.pair, index)),
            Some(halt) => out.push((wanted.pair, Attached::Halted(halt))),
        }
    }
    Ok(out)
}

/// What the leaders know of ends that the logs may not show any more. To be asked before the marker is written: with the
/// epoch that it brings, sequences count anew.
pub(super) async fn described_ends(ctx: There<'_>, shard: &ShardLog, marked: &[Marked]) -> HashMap<u32, i64> {
    let mut ends = HashMap::new();
    for Marked { wanted, index, at } in marked {
        let Some(state) = shard.state.partitions.get(index).filter(|state| state.map.floor() < at.start) else {
            continue;
        };
        if let Some(end) = described_end(ctx, shard, state, &wanted.pair, *at).await {
            ends.insert(*index, end);
        }
    }
    ends
}

/// Waits for the marker and settles the end; the origin to be written, or what became of the partition instead.
async fn settle_marked(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    marked: &Marked,
    described: Option<i64>,
) -> Result<Result<StateRecord, Attached>, EngineError> {
    let Marked { wanted, index, at } = marked;
    let target = &wanted.pair.target;
    let marker = await_marker(&shard.mirror, ctx.target, target, at.end, &shard.transactor, |_| Ok(())).await;
    let marker = match marker {
        Ok(marker) => marker,
        Err(error) => return one_partition(error).map(Err),
    };
    let end = match settle_and_check(ctx, shard, marked, described, &marker).await {
        Ok(Ok(end)) => end,
        Ok(Err(halt)) => return Ok(Err(Attached::Halted(halt))),
        Err(error) => return one_partition(error).map(Err),
    };
    let Some(state) = shard.state.partitions.get(index) else { return Ok(Err(Attached::Halted(undeclared(*index)))) };
    Ok(origin_record(state, *index, shard.transactor.producer_epoch, end, marker.offset).map_err(Attached::Halted))
}

/// Goes back on the source to where its log was truncated, if that may be.
async fn diverge(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: &Wanted,
    index: u32,
) -> Result<Option<Halt>, EngineError> {
    let (Some(divergence), Some(state)) = (&wanted.divergence, shard.state.partitions.get(&index)) else {
        return Ok(None);
    };
    let (follow, end) = (ctx.config.on.truncation == Policy::Continue, state.end.unwrap_or(0));
    match go_back(state, index, *divergence, |from, to| follow || wanted.may_lose(from, to)) {
        GoBack::Stay => Ok(None),
        GoBack::Halt(halt) => Ok(Some(halt)),
        GoBack::Unread(record) => shard.append(vec![record]).await.map(|()| None),
        GoBack::To(record) => {
            tracing::warn!(
                topic = %wanted.pair.source.topic, partition = wanted.pair.source.partition,
                position = state.map.position(end), ?record, parting_is_hidden = divergence.is_hidden(),
                "the source log was truncated; going back there, the target keeps what the source lost"
            );
            shard.append(vec![record]).await?;
            Ok(None)
        }
    }
}
