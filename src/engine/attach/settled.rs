//! The settled end of a partition that was taken over: where the data of its earlier owners ends, checked against what the
//! map and the source say of it.

use crate::batch::{self, BatchHeader, RawBatch};
use crate::mirror::{Bounds, DataEnd, Halt, HaltKind, PartitionState, Writer, data_end, is_ours};

use super::super::EngineError;
use super::super::markers::Marker;
use super::super::settle::{LastRecord, compare_last, last_data_below};
use super::super::shard::ShardLog;
use super::displaced::realign;
use super::marked::Marked;
use super::{AttachContext, Pair, There, undeclared};

/// Where our data ends.
pub(super) struct Settled {
    pub(super) end: i64,
    /// Its last batch, which the source can be asked about: the source offset of its last record, and the leader epoch that
    /// one was written in.
    pub(super) last: Option<(RawBatch, i64, i32)>,
}

impl Settled {
    fn at(end: i64) -> Self {
        Self { end, last: None }
    }
}

/// The settled end, checked against the source; or why it cannot be had.
pub(super) async fn settle_and_check(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    marked: &Marked,
    described: Option<i64>,
    marker: &Marker,
) -> Result<Result<i64, Halt>, EngineError> {
    let Settled { end, last } = match settle(ctx.there(), shard, marked, described, marker).await? {
        Ok(settled) => settled,
        Err(halt) => return Ok(Err(halt)),
    };
    let may_differ = |source: i64| marked.wanted.may_lose(source, source + 1);
    let Some((last, source, leader_epoch)) = last.filter(|(_, source, _)| !may_differ(*source)) else {
        return Ok(Ok(end));
    };
    let differs = check_last(ctx, &marked.wanted.pair, (source, leader_epoch), &last, end).await?;
    Ok(differs.map_or(Ok(end), Err))
}

/// The settled end, by all that the target tells; or why it cannot be had.
pub(super) async fn settle(
    ctx: There<'_>,
    shard: &mut ShardLog,
    marked: &Marked,
    described: Option<i64>,
    marker: &Marker,
) -> Result<Result<Settled, Halt>, EngineError> {
    let Marked { wanted, index, at } = marked;
    let Some(state) = shard.state.partitions.get(index) else { return Ok(Err(undeclared(*index))) };
    // What lies below is on record already, and may be of another branch of the source or of another topic.
    let floor = state.map.floor();
    let last = last_batch(ctx, shard, marked, marker, floor).await?;
    let header = last.as_ref().map(|batch| &batch.header);
    if let Some(header) = header
        && let Err(halt) = realign(ctx, shard, wanted, *index, header).await?
    {
        return Ok(Err(halt));
    }
    let Some(state) = shard.state.partitions.get(index) else { return Ok(Err(undeclared(*index))) };
    let (end, source, leader_epoch) = match data_end(state, header, &shard.state.producer_ids, *at) {
        Ok(DataEnd::Behind { end, source, leader_epoch }) => (end, source, leader_epoch),
        Ok(DataEnd::Recorded(end)) => return Ok(Ok(Settled::at(end))),
        // Only somebody who has looked can say that what the target let go of may be copied again.
        Err(halt) if halt.kind == HaltKind::EndUnreadable => {
            let may_repeat = wanted.freed == Some(HaltKind::EndUnreadable);
            return Ok(described.or(may_repeat.then_some(floor)).map(Settled::at).ok_or(halt));
        }
        Err(halt) => return Ok(Err(halt)),
    };
    Ok(Ok(Settled { end, last: last.map(|last| (last, source, leader_epoch)) }))
}

/// The last batch that may be ours, at or above the floor.
async fn last_batch(
    ctx: There<'_>,
    shard: &ShardLog,
    Marked { wanted, index, at }: &Marked,
    marker: &Marker,
    floor: i64,
) -> Result<Option<RawBatch>, EngineError> {
    let target = &wanted.pair.target;
    let from = floor.max(at.start);
    let Some(state) = shard.state.partitions.get(index) else { return Ok(None) };
    let ours = |header: &BatchHeader| is_ours(state, header, &shard.state.producer_ids);
    let mut last = match &marker.last_data {
        Some(batch) => Some(batch.clone()),
        None => last_data_below(ctx.target, target, at.end, from, |_| true).await?,
    };
    if last.as_ref().is_some_and(|batch| !ours(&batch.header)) && ctx.foreign_allowed(wanted) {
        last = last_data_below(ctx.target, target, marker.offset, from, ours).await?;
    }
    Ok(last)
}

/// The end of our data as the leader remembers it by our last sequence, where the log does not show it any more
/// (DescribeProducers, KIP-664; the state outlives the records).
pub(super) async fn described_end(
    ctx: There<'_>,
    shard: &ShardLog,
    state: &PartitionState,
    pair: &Pair,
    at: Bounds,
) -> Option<i64> {
    let origin = state.origin?;
    let producers = match ctx.target.describe_producers(&pair.target).await {
        Ok(producers) => producers,
        Err(error) => {
            tracing::debug!(target = %pair.target, %error, "the leader's producers are not known");
            return None;
        }
    };
    let mine = producers.iter().find(|p| {
        p.producer_epoch == i32::from(origin.epoch)
            && p.last_sequence >= 0
            && shard.state.producer_ids.contains(&p.producer_id)
    })?;
    let writer = Writer { producer_id: mine.producer_id, producer_epoch: origin.epoch, origin: origin.start };
    // Behind our last record there can only be markers: the end is the last offset at or below the log's that has it.
    let behind = batch::sequence_difference(batch::sequence_add(mine.last_sequence, 1), writer.sequence_at(at.end));
    Some(at.end - behind).filter(|end| *end >= origin.start)
}

/// To be tried again: the partition waits.
const UNKNOWN_TOPIC_ID: i16 = 100;

async fn check_last(
    ctx: AttachContext<'_>,
    pair: &Pair,
    (source, leader_epoch): (i64, i32),
    last: &RawBatch,
    end: i64,
) -> Result<Option<Halt>, EngineError> {
    Ok(match compare_last(ctx.source, &pair.source, source, leader_epoch, last, end - 1).await? {
        LastRecord::Same => None,
        LastRecord::NotThere => {
            tracing::info!(topic = %pair.source.topic, partition = pair.source.partition, offset = source,
                "the last mirrored record is not on the source any more; it cannot be compared");
            None
        }
        // Records are asked for by name here: what differs may be another topic's, which the next discovery tells.
        LastRecord::Differs(_) if !ctx.source.is_same_topic(&pair.source).await? => {
            return Err(ctx.source.api_error("Metadata", UNKNOWN_TOPIC_ID, &pair.source.topic).into());
        }
        LastRecord::Differs(what) => Some(Halt::over(
            HaltKind::MapMismatch,
            source,
            source + 1,
            format!("target {} offset {} is not source offset {source}: {what}", pair.target, end - 1),
        )),
    })
}
