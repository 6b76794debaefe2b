//! Batches that landed above the offsets they were bound to, and target partitions that another shard follows on.

use crate::batch::{BatchHeader, RawBatch};
use crate::client::{Cluster, TopicPartition, read_log};
use crate::mirror::{Displacement, GapReason, Halt, HaltKind, StateRecord};

use super::super::EngineError;
use super::super::markers::{await_marker, write_marker};
use super::super::settle::PATIENT;
use super::super::shard::ShardLog;
use super::{AttachContext, Attached, Pair, Wanted, footing, one_partition};

/// Makes sure that nobody writes to these target partitions under this shard's producer id any more, without writing
/// there: the shard was theirs, another one follows.
pub(crate) async fn fence(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    target: &TopicPartition,
) -> Result<(), EngineError> {
    let end = ctx.target.log_end(target).await?;
    shard.bump().await?;
    write_marker(ctx.target, &shard.transactor, target).await?;
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
        return Ok(Attached::Halted(Halt::new(HaltKind::Unexpected, "a partition that is not declared")));
    };
    let (records, halt) = match displacement_records(ctx, shard, pair, index, displacements).await {
        Ok(Ok(records)) => records,
        Ok(Err(halt)) => return Ok(Attached::Halted(halt)),
        // Not written down now, it is found again in the log when the partition is taken over.
        Err(error) => return one_partition(error),
    };
    shard.append(records).await?;
    Ok(match halt.filter(|_| !ctx.foreign_allowed(wanted)) {
        Some(halt) => Attached::Halted(halt),
        None => Attached::Flowing(footing(shard, index)?),
    })
}

/// What is to be written of displacements; and the halt over records of somebody else that lie between. Refused where the
/// map cannot hold them: in the log that would stop the shard.
pub(super) async fn displacement_records(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    pair: &Pair,
    index: u32,
    displacements: &[Displacement],
) -> Result<Result<(Vec<StateRecord>, Option<Halt>), Halt>, EngineError> {
    let mut records = Vec::new();
    let mut halt = None;
    let mut map = shard.state.partitions.get(&index).map(|state| state.map.clone()).unwrap_or_default();
    for Displacement { at, to, end } in displacements.iter().copied() {
        if let Err(refused) = map.displace(at, to - at, end) {
            let what = format!("batches bound for offset {at} of target {} landed on {to}: {refused}", pair.target);
            return Ok(Err(Halt::new(HaltKind::MapMismatch, what)));
        }
        let between = read_between(ctx.target, &pair.target, at, to).await?;
        let ours = |h: &BatchHeader| h.is_control() && shard.state.producer_ids.contains(&h.producer_id);
        let foreign = between.iter().find(|batch| !ours(&batch.header));
        let reason = if foreign.is_some() { GapReason::Foreign } else { GapReason::TakeOver };
        records.push(StateRecord::Displaced { index, at, by: to - at, end, reason });
        halt = halt.or(foreign.map(|batch| {
            let what = format!(
                "offsets [{at}, {to}) of target {} were written by somebody else (offset {}, producer id {})",
                pair.target, batch.header.base_offset, batch.header.producer_id
            );
            Halt::new(HaltKind::ForeignRecords, what)
        }));
    }
    Ok(Ok((records, halt)))
}

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
