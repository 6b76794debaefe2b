//! Where a restored log ends: at an offset, which may lie within a batch.

use super::fetch::DECODE_LIMIT_BYTES;
use crate::batch::{ATTR_CONTROL, ATTR_TRANSACTIONAL, BatchError, BatchHeader, RawBatch, Stamp, decode, encode, under};

/// Nothing at or behind this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The offset.
    pub(super) end: i64,
}

impl Cut {
    /// What is left of these batches. The one that the cut goes through is made anew of the records in front of it.
    ///
    /// # Errors
    /// That batch cannot be read.
    pub(super) fn apply(&self, batches: Vec<RawBatch>) -> Result<Vec<RawBatch>, BatchError> {
        let mut out = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.header.next_offset() <= self.end {
                out.push(batch);
            } else if batch.header.base_offset < self.end {
                out.extend(front(&batch, self.end)?);
            }
        }
        Ok(out)
    }
}

/// The records of a batch in front of an offset, as a batch that says everything else that it said.
fn front(batch: &RawBatch, end: i64) -> Result<Option<RawBatch>, BatchError> {
    let header = batch.header;
    if header.is_control() {
        return Ok(None);
    }
    let mut records = decode(batch, DECODE_LIMIT_BYTES)?;
    records.retain(|record| record.offset < end);
    if records.is_empty() {
        return Ok(None);
    }
    let stamp = Stamp {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    };
    let first = records.first().map_or(header.base_offset, |record| record.offset);
    let made = encode(&records, header.codec()?, stamp)?;
    let kept = header.attributes & (ATTR_TRANSACTIONAL | ATTR_CONTROL);
    let placed = BatchHeader {
        base_offset: first,
        partition_leader_epoch: header.partition_leader_epoch,
        attributes: made.header.attributes | kept,
        ..made.header
    };
    under(&placed, &made).map(Some)
}
