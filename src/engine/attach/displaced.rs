//! Batches that landed above the offsets they were bound to, and target partitions that another shard follows on.

use crate::batch::{BatchHeader, RawBatch};
use crate::client::{Cluster, ReadOptions, TopicPartition, read_log};
use crate::mirror::{Displacement, Halt, Realignment, StateRecord, displaced_record, displacements_fit, in_turn};

use super::super::EngineError;
use super::super::markers::{await_marker, write_marker};
use super::super::settle::PATIENT;
use super::super::shard::ShardLog;
use super::{AttachContext, Attached, Pair, There, Wanted, footing_of, one_partition, undeclared};

/// Makes sure that nobody writes to these target partitions under this shard's producer id any more, without writing
/// there: the shard was theirs, another one follows.
pub(crate) async fn fence(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    target: &TopicPartition,
) -> Result<(), EngineError> {
    let end = ctx.target.log_end(target).await?;
    shard.bump().await?;
    write_marker(&shard.mirror, ctx.target, &shard.transactor, target).await?;
    await_marker(&shard.mirror, ctx.target, target, end, &shard.transactor, |_| Ok(())).await?;
    Ok(())
}

/// Batches landed above the offsets they were bound to, and everything is answered. The map is corrected whatever lies
/// between, for that is a fact of the log; where it is not only our own markers, the partition goes on if it may.
pub(crate) async fn displaced(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: &Wanted,
    displacements: &[Displacement],
) -> Result<Attached, EngineError> {
    let pair = &wanted.pair;
    let Some((index, _)) = shard.state.find(pair.source.topic_id, pair.source.partition) else {
        return Ok(Attached::Halted(undeclared(u32::MAX)));
    };
    let (records, halt) = match displacement_records(ctx.there(), shard, pair, index, displacements).await {
        Ok(Ok(records)) => records,
        Ok(Err(halt)) => return Ok(Attached::Halted(halt)),
        // Not written down now, it is found again in the log when the partition is taken over.
        Err(error) => return one_partition(error),
    };
    shard.append(records).await?;
    Ok(match halt.filter(|_| !ctx.foreign_allowed(wanted)) {
        Some(halt) => Attached::Halted(halt),
        None => Attached::Flowing(footing_of(shard, index)?),
    })
}

/// What is to be written of displacements; and the halt over records of somebody else that lie between. Refused where the
/// map cannot hold them: in the log that would stop the shard.
pub(super) async fn displacement_records(
    ctx: There<'_>,
    shard: &ShardLog,
    pair: &Pair,
    index: u32,
    displacements: &[Displacement],
) -> Result<Result<(Vec<StateRecord>, Option<Halt>), Halt>, EngineError> {
    let Some(state) = shard.state.partitions.get(&index) else { return Ok(Err(undeclared(index))) };
    let (mut records, mut halt) = (Vec::new(), None);
    for displacement in in_turn(displacements) {
        let between = read_between(ctx.target, &pair.target, displacement.at, displacement.to).await?;
        let headers = between.iter().map(|batch| &batch.header);
        let (record, foreign) = displaced_record(state, index, displacement, headers, &shard.state.producer_ids);
        records.push(record);
        halt = halt.or(foreign);
    }
    Ok(displacements_fit(state, &records).map(|()| (records, halt)))
}

/// Writes down displacements that a crash kept from the record: each batch carries in its sequence the offset that it was
/// bound to.
pub(super) async fn realign(
    ctx: There<'_>,
    shard: &mut ShardLog,
    wanted: &Wanted,
    index: u32,
    last: &BatchHeader,
) -> Result<Result<(), Halt>, EngineError> {
    let target = &wanted.pair.target;
    let Some(state) = shard.state.partitions.get(&index) else { return Ok(Err(undeclared(index))) };
    let Some(mut search) = Realignment::new(state, last) else { return Ok(Ok(())) };
    while let Some(at) = search.probe() {
        match first_behind(ctx.target, target, at, &search).await? {
            Some(header) => search.answer(&header),
            None => return Ok(Ok(())),
        }
    }
    if search.found().is_empty() {
        return Ok(Ok(()));
    }
    let (records, halt) = match displacement_records(ctx, shard, &wanted.pair, index, search.found()).await? {
        Ok(records) => records,
        Err(halt) => return Ok(Err(halt)),
    };
    tracing::warn!(
        target = %target, displacements = records.len(), "batches stand above the offsets that they were bound to"
    );
    shard.append(records).await?;
    Ok(halt.filter(|_| !ctx.foreign_allowed(wanted)).map_or(Ok(()), Err))
}

/// The first batch that ends behind `at` and counts.
async fn first_behind(
    cluster: &Cluster,
    tp: &TopicPartition,
    at: i64,
    search: &Realignment,
) -> Result<Option<BatchHeader>, EngineError> {
    let mut at = at;
    loop {
        let options = ReadOptions { max_wait_ms: 0, max_bytes: 64 << 10, ..PATIENT };
        let slice = read_log(cluster, tp, at, options).await?;
        let Some(last) = slice.batches.last() else { return Ok(None) };
        let next = last.header.next_offset();
        let mut behind = slice.batches.iter().map(|b| b.header).filter(|h| h.next_offset() > at);
        if let Some(header) = behind.find(|h| search.counts(h)) {
            return Ok(Some(header));
        }
        if next <= at {
            return Ok(None);
        }
        at = next;
    }
}

/// The batches that overlap `[from, to)`.
async fn read_between(
    cluster: &Cluster,
    tp: &TopicPartition,
    from: i64,
    to: i64,
) -> Result<Vec<RawBatch>, EngineError> {
    let mut out = Vec::new();
    let mut at = from;
    while at < to {
        let slice = read_log(cluster, tp, at, PATIENT).await?;
        let Some(last) = slice.batches.last() else { break };
        at = last.header.next_offset();
        out.extend(slice.batches.into_iter().filter(|b| b.header.base_offset < to && b.header.next_offset() > from));
    }
    Ok(out)
}
