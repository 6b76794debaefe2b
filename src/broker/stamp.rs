//! What the leader writes into a batch at append: offset, leader epoch and, where the topic asks for it, the time.

use crate::batch::{ATTR_LOG_APPEND_TIME, BatchHeader, RawBatch};

/// What to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Offset of the first record.
    pub(super) base_offset: i64,
    /// The leader's epoch.
    pub(super) leader_epoch: i32,
    /// `message.timestamp.type=LogAppendTime`: now, ms.
    pub(super) log_append_time_ms: Option<i64>,
}

/// Copies the batch (so that the request's frame can go) and writes the stamp into it. The CRC changes only with the
/// time: offset and epoch lie outside it.
pub(super) fn stamp(header: &BatchHeader, bytes: &[u8], stamp: &Stamp) -> RawBatch {
    let mut header = *header;
    let mut out = bytes.to_vec();
    header.base_offset = stamp.base_offset;
    header.partition_leader_epoch = stamp.leader_epoch;
    out[0..8].copy_from_slice(&stamp.base_offset.to_be_bytes());
    out[12..16].copy_from_slice(&stamp.leader_epoch.to_be_bytes());
    if let Some(now_ms) = stamp.log_append_time_ms {
        header.attributes |= ATTR_LOG_APPEND_TIME;
        header.max_timestamp = now_ms;
        out[21..23].copy_from_slice(&header.attributes.to_be_bytes());
        out[35..43].copy_from_slice(&now_ms.to_be_bytes());
        header.crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&header.crc.to_be_bytes());
    }
    RawBatch { header, bytes: out.into() }
}
