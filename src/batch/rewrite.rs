//! The header that lets a batch pass unopened into a produce request, and which batches may pass that way.

use super::crc;
use super::header::{
    ATTR_DELETE_HORIZON, ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL, BatchError, BatchHeader, CRC_AT, HEADER_LEN,
    RawBatch, array, put,
};

/// Sequence numbers count modulo this: they are `i32` and never negative (`DefaultRecordBatch.incrementSequence`).
const SEQUENCE_MODULUS: i64 = 1 << 31;

/// Under which producer identity a batch is sent (KIP-98). −1 in all three: not idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Producer id from InitProducerId.
    pub producer_id: i64,
    /// Producer epoch from InitProducerId.
    pub producer_epoch: i16,
    /// Sequence of the batch's first record.
    pub base_sequence: i32,
}

impl Stamp {
    /// The stamp of a producer that is not idempotent.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
}

/// What a batch needs before it may be produced into a CreateTime topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Nothing but a new header: see [`rewrite`].
    Raw,
    /// The records must be put into a new batch: see `reencode`.
    Reencode(ReencodeReason),
    /// A transaction marker. Not data, and brokers refuse it from a producer.
    Control,
    /// Compaction left the header only: offsets without records.
    Empty,
}

/// Why a batch cannot pass raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReencodeReason {
    /// Compaction took records out: brokers ask for `records_count = last_offset_delta + 1` (INVALID_RECORD).
    Holes,
    /// Every record's timestamp is the batch's `max_timestamp`; the ones written with the records are the producer's,
    /// and would silently come back in a CreateTime topic.
    LogAppendTime,
}

/// Which way a batch must go; the header alone tells.
///
/// A delete horizon (KIP-534) needs no re-encoding. The cleaner rewrites every record's timestamp delta against the
/// horizon that it puts into `base_timestamp` (`MemoryRecordsBuilder` starts from the horizon as base), and readers add
/// base and delta alike with the flag or without it (`DefaultRecordBatch.RecordIterator`). Clearing the flag and
/// keeping `base_timestamp` therefore keeps every timestamp.
///
/// A codec that Kafka does not define is [`BatchError::UnknownCodec`]: such a batch can neither be opened nor would a
/// broker take it.
pub fn passage(header: &BatchHeader) -> Result<Passage, BatchError> {
    if header.is_control() {
        return Ok(Passage::Control);
    }
    if header.records_count == 0 {
        return Ok(Passage::Empty);
    }
    header.codec()?;
    if header.has_holes() {
        return Ok(Passage::Reencode(ReencodeReason::Holes));
    }
    if header.is_log_append_time() {
        return Ok(Passage::Reencode(ReencodeReason::LogAppendTime));
    }
    Ok(Passage::Raw)
}

/// The header under which a batch goes into a produce request; its records section follows it unchanged.
///
/// - `base_offset` 0 and `partition_leader_epoch` −1, as Kafka's own producer sends them; the broker sets both.
/// - Producer id, epoch and sequence from the stamp.
/// - Transactional, delete-horizon and log-append-time flags cleared: the mirror's batches belong to no transaction of
///   the target, the target's cleaner must count its own horizon, and CreateTime is what producers send.
/// - The checksum carried over by arithmetic: no byte of the records is read, and a batch damaged on its way is
///   refused by the broker (CORRUPT_MESSAGE).
///
/// Only for batches that are [`Passage::Raw`]; of others it keeps records, count and offsets as they are.
pub fn rewrite(header: &BatchHeader, stamp: Stamp) -> [u8; HEADER_LEN] {
    let new = BatchHeader {
        base_offset: 0,
        partition_leader_epoch: -1,
        attributes: header.attributes & !(ATTR_TRANSACTIONAL | ATTR_DELETE_HORIZON | ATTR_LOG_APPEND_TIME),
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        base_sequence: stamp.base_sequence,
        ..*header
    };
    let mut bytes = new.to_bytes();
    let crc = crc::carry(header, &bytes);
    put(&mut bytes, CRC_AT, crc.to_be_bytes());
    bytes
}

/// The checksum that a header states.
pub fn stated_crc(header: &[u8; HEADER_LEN]) -> u32 {
    u32::from_be_bytes(array(header, CRC_AT))
}

/// [`rewrite`], with the records section behind it: one copy of the batch. For tests and slow paths; the data path sends
/// header and payload side by side.
pub fn rewritten(batch: &RawBatch, stamp: Stamp) -> Result<RawBatch, BatchError> {
    joined(&rewrite(&batch.header, stamp), batch)
}

/// The records of a batch under another header, whose checksum follows.
pub fn under(header: &BatchHeader, batch: &RawBatch) -> Result<RawBatch, BatchError> {
    let crc = crc::carry(&batch.header, &header.to_bytes());
    joined(&BatchHeader { crc, ..*header }.to_bytes(), batch)
}

fn joined(header: &[u8; HEADER_LEN], batch: &RawBatch) -> Result<RawBatch, BatchError> {
    let payload = batch.payload();
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&payload);
    RawBatch::parse(bytes.into())
}

/// The sequence `n` records after `base` (before, for negative `n`); wraps from 2^31 − 1 to 0 as
/// `DefaultRecordBatch.incrementSequence` does.
pub fn sequence_add(base: i32, n: i64) -> i32 {
    // The remainder is below 2^31, so both steps stay in range.
    (i64::from(base) + n.rem_euclid(SEQUENCE_MODULUS)).rem_euclid(SEQUENCE_MODULUS) as i32
}

/// How many records lie from sequence `from` to sequence `to`, in `0..2^31`: the inverse of [`sequence_add`],
/// `sequence_add(from, sequence_difference(from, to)) == to`.
pub fn sequence_difference(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(SEQUENCE_MODULUS)
}
