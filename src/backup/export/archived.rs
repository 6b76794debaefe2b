//! From an archive.

use super::{Exported, Row, Sink, Wanted};
use crate::backup::BackupError;
use crate::backup::chain::Log;
use crate::backup::fetch::{Segments, records_of};
use crate::backup::manifest::{OpenTransaction, SegmentPart};
use crate::backup::pass::Meter;
use crate::batch::RawBatch;

fn due<'a>(log: &'a Log, wanted: &'a Wanted) -> impl Iterator<Item = &'a SegmentPart> {
    log.segments.iter().filter(|part| !wanted.rules_out(part.from, part.to, part.max_timestamp_ms))
}

/// Offsets that an export of this log reads.
pub fn offsets_due(log: &Log, wanted: &Wanted) -> u64 {
    due(log, wanted).map(|part| part.to.abs_diff(part.from)).sum()
}

/// Puts each record of a log that is wanted.
///
/// # Errors
/// A segment is damaged in every copy, or the sink takes no more.
pub async fn export(
    segments: &Segments,
    log: &Log,
    wanted: &Wanted,
    meter: &Meter,
    sink: &mut dyn Sink,
) -> Result<Exported, BackupError> {
    let mut records = 0;
    for part in due(log, wanted) {
        let opened = segments.open(part).await?;
        for (number, place) in opened.index.blocks.iter().enumerate() {
            if !wanted.rules_out(place.first_offset, place.next_offset, place.max_timestamp_ms) {
                for batch in segments.batches(&opened, number).await? {
                    records += put(log, part, &batch, wanted, sink)?;
                }
            }
            meter.read(place.next_offset.abs_diff(place.first_offset));
        }
    }
    sink.end_log()?;
    Ok(Exported {
        topic: log.id.topic.clone(),
        partition: log.id.partition,
        from: wanted.from.map_or(log.from, |from| from.max(log.from)),
        to: wanted.to.map_or(log.to, |to| to.min(log.to)),
        records,
        lost_offsets: 0,
        undecided_offsets: 0,
    })
}

fn put(
    log: &Log,
    part: &SegmentPart,
    batch: &RawBatch,
    wanted: &Wanted,
    sink: &mut dyn Sink,
) -> Result<u64, BackupError> {
    let header = &batch.header;
    if header.is_control() || (!wanted.with_aborted && (is_aborted(log, batch) || is_undecided(log, batch))) {
        return Ok(0);
    }
    let records = records_of(&part.object, batch)?;
    let mut count = 0;
    for record in records.iter().filter(|record| wanted.takes(record)) {
        sink.put(&Row { topic: &log.id.topic, partition: log.id.partition, header, record })?;
        count += 1;
    }
    Ok(count)
}

pub(in crate::backup) fn is_aborted(log: &Log, batch: &RawBatch) -> bool {
    let header = batch.header;
    header.is_transactional()
        && log.aborted.iter().any(|txn| {
            txn.producer_id == header.producer_id && (txn.first_offset..txn.last_offset).contains(&header.base_offset)
        })
}

/// Whether it is of a transaction that is open where the archive ends.
fn is_undecided(log: &Log, batch: &RawBatch) -> bool {
    let header = batch.header;
    let is_its =
        |txn: &OpenTransaction| txn.producer_id == header.producer_id && txn.first_offset <= header.base_offset;
    header.is_transactional() && log.open.iter().any(is_its)
}
