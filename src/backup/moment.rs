//! Where a log ended at a moment, and what of it counts up to an offset.

use super::BackupError;
use super::chain::Log;
use super::fetch::{Segments, records_of};
use crate::batch::{ControlType, RawBatch, control_type};
use crate::mirror::Isolation;

/// Offset of the first record that is younger than the moment; the end of the log where none is. Kafka's clients choose timestamps, so
/// records behind it may be older: a log can only be cut, not sieved.
pub(super) async fn end_at(segments: &Segments, log: &Log, at_ms: i64) -> Result<i64, BackupError> {
    for part in log.segments.iter().filter(|part| part.max_timestamp_ms > at_ms) {
        let opened = segments.open(part).await?;
        for (number, place) in opened.index.blocks.iter().enumerate() {
            if place.max_timestamp_ms <= at_ms {
                continue;
            }
            for batch in segments.batches(&opened, number).await? {
                if let Some(offset) = first_younger(&part.object, &batch, at_ms)? {
                    return Ok(offset);
                }
            }
        }
    }
    Ok(log.to)
}

fn first_younger(object: &str, batch: &RawBatch, at_ms: i64) -> Result<Option<i64>, BackupError> {
    let header = batch.header;
    if header.max_timestamp <= at_ms {
        return Ok(None);
    }
    if header.is_control() || header.is_log_append_time() {
        return Ok(Some(header.base_offset));
    }
    let records = records_of(object, batch)?;
    Ok(records.iter().find(|record| record.timestamp > at_ms).map(|record| record.offset))
}

/// The end that a reader reaches who is to see nothing at or behind `bound`: transactions that were open there did not count, and
/// where compaction has left nothing the log ends before.
pub(super) async fn settled_end(
    segments: &Segments,
    log: &Log,
    isolation: Isolation,
    bound: i64,
) -> Result<i64, BackupError> {
    let bound = match isolation {
        Isolation::ReadCommitted => first_open(segments, log, bound).await?.unwrap_or(bound),
        Isolation::ReadUncommitted => bound,
    };
    last_before(segments, log, bound).await
}

/// First offset of a transaction that was open at an offset.
async fn first_open(segments: &Segments, log: &Log, bound: i64) -> Result<Option<i64>, BackupError> {
    let Some(part) = log.segments.iter().find(|part| part.to > bound) else {
        return Ok(log.open.iter().map(|txn| txn.first_offset).min());
    };
    let aborted = log.aborted.iter().filter(|txn| txn.first_offset < bound && txn.last_offset >= bound);
    let aborted = aborted.map(|txn| txn.first_offset).min();
    let mut open: Vec<(i64, i64)> = part.open.iter().map(|txn| (txn.producer_id, txn.first_offset)).collect();
    if bound <= part.from {
        return Ok(open.into_iter().map(|(_, first)| first).min());
    }
    let opened = segments.open(part).await?;
    for (number, place) in opened.index.blocks.iter().enumerate() {
        if place.first_offset >= bound {
            break;
        }
        for batch in segments.batches(&opened, number).await? {
            let header = batch.header;
            if header.base_offset >= bound {
                break;
            }
            if header.is_control() {
                if matches!(control_type(&batch), Ok(ControlType::Abort | ControlType::Commit)) {
                    open.retain(|(producer_id, _)| *producer_id != header.producer_id);
                }
            } else if header.is_transactional() && !open.iter().any(|(id, _)| *id == header.producer_id) {
                open.push((header.producer_id, header.base_offset));
            }
        }
    }
    Ok(open.into_iter().map(|(_, first)| first).chain(aborted).min())
}

/// Behind the last record in front of an offset.
async fn last_before(segments: &Segments, log: &Log, bound: i64) -> Result<i64, BackupError> {
    let Some(part) = log.segments.iter().rev().find(|part| part.from < bound) else { return Ok(log.from.min(bound)) };
    if part.to <= bound {
        return Ok(part.to);
    }
    let opened = segments.open(part).await?;
    let Some(number) = opened.index.blocks.iter().rposition(|place| place.first_offset < bound) else {
        return Ok(part.from.min(bound));
    };
    let batches = segments.batches(&opened, number).await?;
    let Some(at) = batches.iter().rposition(|batch| batch.header.base_offset < bound) else { return Ok(bound) };
    let last = &batches[at];
    if last.header.next_offset() <= bound || last.header.is_control() {
        return Ok(last.header.next_offset().min(bound));
    }
    let records = records_of(&part.object, last)?;
    let kept = records.iter().rfind(|record| record.offset < bound).map(|record| record.offset + 1);
    // Where compaction has left none of them the log ends with the batch before.
    let before = match (at.checked_sub(1), number.checked_sub(1)) {
        (Some(at), _) => batches[at].header.next_offset(),
        (None, Some(number)) => opened.index.blocks[number].next_offset,
        (None, None) => {
            log.segments.iter().rev().find(|other| other.to <= part.from).map_or(log.from, |other| other.to)
        }
    };
    Ok(kept.unwrap_or(before))
}
