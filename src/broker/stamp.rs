//! What the leader writes into a batch at append: offset, leader epoch and, where the topic asks for it, the time.

use crate::batch::{ATTR_LOG_APPEND_TIME, HEADER_LEN, RawBatch};

/// What to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Offset of the first record.
    pub(super) base_offset: i64,
    /// The leader's epoch.
    pub(super) leader_epoch: i32,
    /// `message.timestamp.type=LogAppendTime`: the header takes the time, and says so.
    pub(super) log_append_time: bool,
    /// Largest timestamp of the records, or the time of the append, ms.
    pub(super) max_timestamp: i64,
}

/// Copies the batch (so that the request's frame can go) and writes the stamp into it. The checksum changes only where
/// the time does (`DefaultRecordBatch.setMaxTimestamp`): offset and epoch lie outside it.
pub(super) fn stamp(batch: &RawBatch, stamp: &Stamp) -> RawBatch {
    let mut header = batch.header;
    let mut out = batch.bytes.to_vec();
    header.base_offset = stamp.base_offset;
    header.partition_leader_epoch = stamp.leader_epoch;
    header.max_timestamp = stamp.max_timestamp;
    header.attributes &= !ATTR_LOG_APPEND_TIME;
    if stamp.log_append_time {
        header.attributes |= ATTR_LOG_APPEND_TIME;
    }
    out[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    if (header.max_timestamp, header.attributes) != (batch.header.max_timestamp, batch.header.attributes) {
        header.crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&header.crc.to_be_bytes());
    }
    RawBatch { header, bytes: out.into() }
}
