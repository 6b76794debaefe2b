//! Records of an archive as lines of JSON.

use std::io::Write;

use bytes::Bytes;

use super::BackupError;
use super::chain::Log;
use super::fetch::Segments;
use super::manifest::SegmentPart;
use crate::batch::{RawBatch, Record, decode};
use crate::ops::failback::record_line;

/// Caps what one compressed batch may unfold to.
const DECODE_LIMIT_BYTES: usize = 256 << 20;

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Not older than this, ms.
    pub since_ms: Option<i64>,
    /// Older than this, ms.
    pub until_ms: Option<i64>,
    /// From this offset on.
    pub from: Option<i64>,
    /// In front of this offset.
    pub to: Option<i64>,
    /// With this key.
    pub key: Option<Bytes>,
    /// Those of aborted transactions as well.
    pub with_aborted: bool,
}

impl Wanted {
    pub(super) fn takes(&self, record: &Record) -> bool {
        self.since_ms.is_none_or(|since| record.timestamp >= since)
            && self.until_ms.is_none_or(|until| record.timestamp < until)
            && self.from.is_none_or(|from| record.offset >= from)
            && self.to.is_none_or(|to| record.offset < to)
            && self.key.as_ref().is_none_or(|key| record.key.as_ref() == Some(key))
    }

    /// Whether offsets and newest timestamp of a stretch rule all of it out.
    pub(super) fn rules_out(&self, first: i64, next: i64, max_timestamp_ms: i64) -> bool {
        self.since_ms.is_some_and(|since| max_timestamp_ms < since)
            || self.from.is_some_and(|from| next <= from)
            || self.to.is_some_and(|to| first >= to)
    }
}

/// Writes a line for each record of a log that is wanted; gives how many. The format is that of `kmirror failback --export`.
pub async fn export(
    segments: &Segments,
    log: &Log,
    wanted: &Wanted,
    out: &mut (dyn Write + Send),
) -> Result<u64, BackupError> {
    let mut count = 0;
    for part in log.segments.iter().filter(|part| !wanted.rules_out(part.from, part.to, part.max_timestamp_ms)) {
        let opened = segments.open(part).await?;
        for (number, place) in opened.index.blocks.iter().enumerate() {
            if wanted.rules_out(place.first_offset, place.next_offset, place.max_timestamp_ms) {
                continue;
            }
            for batch in segments.batches(&opened, number).await? {
                count += write(log, part, &batch, wanted, out)?;
            }
        }
    }
    Ok(count)
}

fn write(
    log: &Log,
    part: &SegmentPart,
    batch: &RawBatch,
    wanted: &Wanted,
    out: &mut (dyn Write + Send),
) -> Result<u64, BackupError> {
    if batch.header.is_control() || (!wanted.with_aborted && is_aborted(log, batch)) {
        return Ok(0);
    }
    let records = decode(batch, DECODE_LIMIT_BYTES).map_err(|error| BackupError::DamagedSegment {
        object: part.object.clone(),
        from: batch.header.base_offset,
        to: batch.header.next_offset(),
        detail: error.to_string(),
    })?;
    let mut count = 0;
    for record in records.iter().filter(|record| wanted.takes(record)) {
        let line = record_line(&log.id.topic, log.id.partition, record).to_string();
        out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(BackupError::Output)?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn is_aborted(log: &Log, batch: &RawBatch) -> bool {
    let header = batch.header;
    header.is_transactional()
        && log.aborted.iter().any(|txn| {
            txn.producer_id == header.producer_id && (txn.first_offset..txn.last_offset).contains(&header.base_offset)
        })
}
