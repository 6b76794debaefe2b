//! The settled end of a partition that was taken over: where the data of its earlier owners ends, checked against what the
//! map and the source say of it.

use crate::batch::{BatchHeader, RawBatch};
use crate::mirror::{Displacement, Halt, HaltKind, Origin, PartitionState, Writer};

use super::super::EngineError;
use super::super::markers::Marker;
use super::super::settle::{LastRecord, PATIENT, compare_last, last_data_below};
use super::super::shard::ShardLog;
use super::displaced::displacement_records;
use super::marked::Marked;
use super::{AttachContext, Bounds, Pair, Wanted};
use crate::client::{ReadOptions, read_log};

/// The settled end, checked against the source; or why it cannot be had.
pub(super) async fn settle(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    marked: &Marked,
    described: Option<i64>,
    marker: &Marker,
) -> Result<Result<i64, Halt>, EngineError> {
    let Marked { wanted, index, at } = marked;
    let pair = &wanted.pair;
    let Some(state) = shard.state.partitions.get(index) else {
        return Ok(Err(Halt::new(HaltKind::Unexpected, format!("index {index} is not declared"))));
    };
    // What lies below is on record already, and may be of another branch of the source or of another topic.
    let floor = state.map.floor();
    let Some(last) = last_batch(ctx, shard, wanted, *at, marker, floor).await? else {
        return Ok(empty_log_end(state, wanted, *at, floor, described));
    };
    if !shard.state.producer_ids.contains(&last.header.producer_id) {
        return Ok(Err(Halt::new(
            HaltKind::ForeignRecords,
            format!(
                "the last batch of target {} (offset {}) was written by producer id {}, which is not this mirror's",
                pair.target, last.header.base_offset, last.header.producer_id
            ),
        )));
    }
    if let Some(origin) = out_of_step(state, &last.header) {
        let found = match displacements_in_log(ctx, pair, origin, &last.header, *at, marker).await? {
            Ok(found) => found,
            Err(halt) => return Ok(Err(halt)),
        };
        let (records, halt) = match displacement_records(ctx, shard, pair, *index, &found).await? {
            Ok(records) => records,
            Err(halt) => return Ok(Err(halt)),
        };
        shard.append(records).await?;
        if let Some(halt) = halt.filter(|_| !ctx.foreign_allowed(wanted)) {
            return Ok(Err(halt));
        }
    }
    let end = last.header.next_offset();
    let Some(state) = shard.state.partitions.get(index) else { return Ok(Ok(end)) };
    Ok(check_last(ctx, state, wanted, &last, end).await?.map_or(Ok(end), Err))
}

/// The last batch that may be ours, at or above the floor.
async fn last_batch(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    wanted: &Wanted,
    at: Bounds,
    marker: &Marker,
    floor: i64,
) -> Result<Option<RawBatch>, EngineError> {
    let target = &wanted.pair.target;
    let from = floor.max(at.start);
    let ours = |header: &BatchHeader| shard.state.producer_ids.contains(&header.producer_id);
    let mut last = match &marker.last_data {
        Some(batch) => Some(batch.clone()),
        None => last_data_below(ctx.target, target, at.end, from, |_| true).await?,
    };
    if last.as_ref().is_some_and(|batch| !ours(&batch.header)) && ctx.foreign_allowed(wanted) {
        last = last_data_below(ctx.target, target, marker.offset, from, ours).await?;
    }
    Ok(last.filter(|batch| batch.header.base_offset >= floor))
}

/// A batch's sequence says which offset it was bound to. One that landed elsewhere, without a record of it (a crash came
/// first), is a shift that the map does not know yet. The origin that it counts from.
fn out_of_step(state: &PartitionState, last: &BatchHeader) -> Option<Origin> {
    let origin = state.origin.filter(|origin| origin.epoch == last.producer_epoch)?;
    (shift(origin, last) != 0).then_some(origin)
}

/// How far above the offset that it was bound to a batch landed.
fn shift(origin: Origin, header: &BatchHeader) -> i64 {
    let writer =
        Writer { producer_id: header.producer_id, producer_epoch: header.producer_epoch, origin: origin.start };
    let sequences = i64::from(i32::MAX) + 1;
    (i64::from(writer.sequence_at(header.base_offset)) - i64::from(header.base_sequence)).rem_euclid(sequences)
}

/// Finds the displacements of an epoch that were not written down, batch by batch: every one carries the offset it was
/// bound to.
async fn displacements_in_log(
    ctx: AttachContext<'_>,
    pair: &Pair,
    origin: Origin,
    last: &BatchHeader,
    at: Bounds,
    marker: &Marker,
) -> Result<Result<Vec<Displacement>, Halt>, EngineError> {
    let mut found: Vec<Displacement> = Vec::new();
    let mut known = 0;
    let mut end = None;
    let mut next = origin.start.max(at.start);
    while next < marker.offset {
        let slice = read_log(ctx.target, &pair.target, next, ReadOptions { max_wait_ms: 0, ..PATIENT }).await?;
        let Some(read_to) = slice.batches.last().map(|b| b.header.next_offset()) else { break };
        let mine = |h: &BatchHeader| {
            (h.producer_id, h.producer_epoch) == (last.producer_id, last.producer_epoch) && !h.is_control()
        };
        let from = next;
        for header in slice.batches.iter().map(|b| b.header).filter(|h| mine(h) && h.base_offset >= from) {
            let by = shift(origin, &header);
            let bound = header.base_offset - (by - known);
            // Where compaction removed the batches around a step, or the step goes back, it cannot be told where it was.
            if by < known || (by > known && end.is_some_and(|end| end != bound)) {
                return Ok(Err(Halt::new(HaltKind::MapMismatch, untold(pair, origin, &header))));
            }
            match found.last_mut() {
                _ if by > known => {
                    found.push(Displacement { at: bound, to: header.base_offset, end: header.next_offset() });
                }
                Some(before) => before.end = header.next_offset(),
                None => {}
            }
            (known, end) = (by, Some(header.next_offset()));
        }
        next = read_to;
    }
    Ok(Ok(found))
}

fn untold(pair: &Pair, origin: Origin, header: &BatchHeader) -> String {
    format!(
        "the batch at offset {} of target {} carries sequence {}, counted from {}: somebody else wrote in front of it, and \
         the log does not tell where",
        header.base_offset, pair.target, header.base_sequence, origin.start
    )
}

/// No data between the floor and the marker: nothing was written since. Unless it may have been, and all of it has gone;
/// then the leader may still know our last sequence. Where it does not, only somebody who has looked can say that what the
/// target let go of may be copied again.
fn empty_log_end(
    state: &PartitionState,
    wanted: &Wanted,
    at: Bounds,
    floor: i64,
    described: Option<i64>,
) -> Result<i64, Halt> {
    let known = state.release.map(|release| release.end).or(described).or((at.start <= floor).then_some(floor));
    if let Some(end) = known {
        return Ok(end);
    }
    let position = state.map.position(floor);
    if wanted.freed == Some(HaltKind::EndUnreadable) {
        return Ok(floor);
    }
    Err(Halt::new(
        HaltKind::EndUnreadable,
        format!(
            "target {} holds none of our data below its start {}, and what was written there last is not known: its log was \
             emptied after source offset {position} had been mirrored",
            wanted.pair.target, at.start
        ),
    ))
}

/// The end of our data as the leader remembers it by our last sequence, where the log does not show it any more
/// (DescribeProducers, KIP-664; the state outlives the records).
pub(super) async fn described_end(
    ctx: AttachContext<'_>,
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
    let sequences = i64::from(i32::MAX) + 1;
    // Behind our last record there can only be markers: the end is the last offset at or below the log's that has it.
    let behind = i64::from(writer.sequence_at(at.end)) - (i64::from(mine.last_sequence) + 1);
    Some(at.end - behind.rem_euclid(sequences)).filter(|end| *end >= origin.start)
}

async fn check_last(
    ctx: AttachContext<'_>,
    state: &PartitionState,
    wanted: &Wanted,
    last: &RawBatch,
    end: i64,
) -> Result<Option<Halt>, EngineError> {
    let pair = &wanted.pair;
    let named = state.map.to_source(end - 1, end);
    if !named.exact {
        return Ok(Some(Halt::new(
            HaltKind::MapMismatch,
            format!("the offset map names no source record for target {} offset {}", pair.target, end - 1),
        )));
    }
    if wanted.may_lose(named.offset, named.offset + 1) {
        return Ok(None);
    }
    let leader_epoch = state.map.leader_epoch_at(end);
    Ok(match compare_last(ctx.source, &pair.source, named.offset, leader_epoch, last, end - 1).await? {
        LastRecord::Same => None,
        LastRecord::NotThere => {
            tracing::info!(topic = %pair.source.topic, partition = pair.source.partition, offset = named.offset,
                "the last mirrored record is not on the source any more; it cannot be compared");
            None
        }
        LastRecord::Differs(what) => Some(Halt::over(
            HaltKind::MapMismatch,
            named.offset,
            named.offset + 1,
            format!("target {} offset {} is not source offset {}: {what}", pair.target, end - 1, named.offset),
        )),
    })
}
