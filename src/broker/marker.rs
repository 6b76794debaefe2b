//! Transaction markers: the control batches that end a transaction in a partition (KIP-98, `EndTransactionMarker`).

use bytes::{BufMut, BytesMut};

use crate::batch::{ATTR_CONTROL, ATTR_TRANSACTIONAL, BatchHeader, HEADER_LEN, LOG_OVERHEAD, RawBatch};

/// One marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// Whose transaction.
    pub(super) producer_id: i64,
    /// Epoch that the marker carries; a fence carries the old one plus one.
    pub(super) producer_epoch: i16,
    /// COMMIT, else ABORT.
    pub(super) commit: bool,
    /// Epoch of the coordinator.
    pub(super) coordinator_epoch: i32,
}

/// One record: length 16, attributes, timestamp delta, offset delta, key (version, type), value (version, coordinator
/// epoch), no headers; lengths are zigzag varints.
const RECORD_LEN: usize = 17;
const KEY_AT: usize = HEADER_LEN + 5;
const VALUE_AT: usize = KEY_AT + 5;

/// The marker as a batch at this offset.
pub(super) fn encode(marker: &Marker, offset: i64, leader_epoch: i32, now_ms: i64) -> RawBatch {
    let mut header = BatchHeader {
        base_offset: offset,
        batch_length: (HEADER_LEN - LOG_OVERHEAD + RECORD_LEN) as i32,
        partition_leader_epoch: leader_epoch,
        magic: 2,
        crc: 0,
        attributes: ATTR_CONTROL | ATTR_TRANSACTIONAL,
        last_offset_delta: 0,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        base_sequence: -1,
        records_count: 1,
    };
    let mut out = BytesMut::with_capacity(HEADER_LEN + RECORD_LEN);
    put_header(&mut out, &header);
    out.put_slice(&[32, 0, 0, 0, 8]);
    out.put_i16(0);
    out.put_i16(i16::from(marker.commit));
    out.put_u8(12);
    out.put_i16(0);
    out.put_i32(marker.coordinator_epoch);
    out.put_u8(0);
    header.crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&header.crc.to_be_bytes());
    RawBatch { header, bytes: out.freeze() }
}

fn put_header(out: &mut BytesMut, header: &BatchHeader) {
    out.put_i64(header.base_offset);
    out.put_i32(header.batch_length);
    out.put_i32(header.partition_leader_epoch);
    out.put_i8(header.magic);
    out.put_u32(header.crc);
    out.put_i16(header.attributes);
    out.put_i32(header.last_offset_delta);
    out.put_i64(header.base_timestamp);
    out.put_i64(header.max_timestamp);
    out.put_i64(header.producer_id);
    out.put_i16(header.producer_epoch);
    out.put_i32(header.base_sequence);
    out.put_i32(header.records_count);
}

/// Reads a marker that [`encode`] wrote: whether it commits, and its coordinator epoch.
pub(super) fn decode(batch: &RawBatch) -> Option<(bool, i32)> {
    let kind = batch.bytes.get(KEY_AT + 2..KEY_AT + 4)?;
    let epoch = batch.bytes.get(VALUE_AT + 2..VALUE_AT + 6)?;
    Some((kind == [0, 1], i32::from_be_bytes(epoch.try_into().ok()?)))
}
