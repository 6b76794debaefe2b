//! What a batch must be for the broker to accept it (`ProduceRequest.validateRecords`, `LogValidator`).

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::records::{self, Position};
use super::state::{State, now_ms};
use crate::batch::{BatchError, BatchHeader, Codec, LOG_OVERHEAD, RawBatch, check_crc};

/// Where the magic byte stands, in every message format.
const MAGIC_AT: usize = 16;
/// Kafka's `LegacyRecord.RECORD_OVERHEAD_V0`: no batch says it is shorter.
const LEGACY_RECORD_LEN_MIN: usize = 14;

/// What the topic's configs demand.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// `max.message.bytes`.
    pub(super) batch_bytes_max: i64,
    /// `message.timestamp.type=LogAppendTime`.
    pub(super) log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    after_max_ms: i64,
    /// `cleanup.policy` has `compact`: records need keys.
    compacted: bool,
    /// `compression.type`; `None`: the producer's.
    codec: Option<Codec>,
    /// `retention.bytes`; −1: no limit.
    retention_bytes: i64,
}

impl Limits {
    /// The limits of a topic as configured now.
    pub(super) fn of_topic(state: &State, topic: &str) -> Self {
        Self {
            batch_bytes_max: state.topic_config_number(topic, "max.message.bytes"),
            log_append_time: state.topic_config(topic, "message.timestamp.type") == "LogAppendTime",
            before_max_ms: state.topic_config_number(topic, "message.timestamp.before.max.ms"),
            after_max_ms: state.topic_config_number(topic, "message.timestamp.after.max.ms"),
            compacted: state.is_compacted(topic),
            codec: codec(&state.topic_config(topic, "compression.type")),
            retention_bytes: state.topic_config_number(topic, "retention.bytes"),
        }
    }

    /// Bytes that a partition may hold, given the cluster's own bound.
    pub(super) fn partition_bytes_max(&self, cluster: Option<u64>) -> Option<u64> {
        u64::try_from(self.retention_bytes).ok().into_iter().chain(cluster).min()
    }
}

fn codec(name: &str) -> Option<Codec> {
    match name {
        "uncompressed" => Some(Codec::None),
        "gzip" => Some(Codec::Gzip),
        "snappy" => Some(Codec::Snappy),
        "lz4" => Some(Codec::Lz4),
        "zstd" => Some(Codec::Zstd),
        _ => None,
    }
}

/// Error code, and the message that Produce v8+ carries with it.
pub(super) type Refusal = (ResponseError, Option<String>);

fn refused(error: ResponseError, message: impl Into<String>) -> Refusal {
    (error, Some(message.into()))
}

fn invalid(message: impl Into<String>) -> Refusal {
    refused(ResponseError::InvalidRecord, message)
}

/// What may be appended: one batch, its timestamps and codec as the topic wants them.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The batch; only offset, leader epoch and time are still to be written into it.
    pub(super) batch: RawBatch,
    /// Largest timestamp of its records, ms: what the header must say on a CreateTime topic.
    pub(super) max_timestamp: i64,
}

/// Checks that these bytes are exactly one acceptable batch.
pub(super) fn batch(records: &Bytes, produce_version: i16, limits: &Limits) -> Result<Accepted, Refusal> {
    let batch = only_batch(records, produce_version)?;
    let header = batch.header;
    if header.base_offset != 0 {
        return Err(invalid("The base offset of a produced batch must be 0"));
    }
    if batch.bytes.len() as i64 > limits.batch_bytes_max {
        return Err((ResponseError::MessageTooLarge, None));
    }
    check_crc(&batch).map_err(|error| refused(ResponseError::CorruptMessage, error.to_string()))?;
    consistent(&header)?;
    let positions = records::scan(&batch).map_err(invalid)?;
    timestamps(&header, &positions, limits)?;
    if limits.compacted && positions.iter().any(|position| !position.has_key) {
        return Err(invalid("Compacted topic cannot accept message without key"));
    }
    let max_timestamp = positions.iter().map(|position| position.timestamp).max().unwrap_or(header.max_timestamp);
    let batch = rewritten(batch, &positions, limits)?;
    Ok(Accepted { batch, max_timestamp })
}

/// `ProduceRequest.validateRecords` over `ByteBufferLogInputStream`: what is cut short is not there at all.
fn only_batch(records: &Bytes, produce_version: i16) -> Result<RawBatch, Refusal> {
    let exactly_one = || invalid("Produce requests must contain exactly one record batch per partition");
    let length = batch_length(records)?.ok_or_else(exactly_one)?;
    if records[MAGIC_AT] != 2 {
        return Err(invalid("Produce requests are only allowed to contain record batches with magic version 2"));
    }
    let bytes = records.slice(..length);
    let header = match BatchHeader::parse(&bytes) {
        Err(BatchError::Malformed { what, .. }) if crc_matches(&bytes) => return Err(invalid(what)),
        parsed => parsed.map_err(|error| refused(ResponseError::CorruptMessage, error.to_string()))?,
    };
    let codec = header.codec().map_err(|error| refused(ResponseError::CorruptMessage, error.to_string()))?;
    if codec == Codec::Zstd && produce_version < 7 {
        return Err((ResponseError::UnsupportedCompressionType, None));
    }
    // Bytes behind the batch that make no whole batch are cut off in silence.
    if batch_length(&records[length..])?.is_some() {
        return Err(exactly_one());
    }
    Ok(RawBatch { header, bytes })
}

/// Length of the batch that stands here, if all of it does.
fn batch_length(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some(length) = bytes.get(8..LOG_OVERHEAD) else { return Ok(None) };
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    let Ok(length @ LEGACY_RECORD_LEN_MIN..) = usize::try_from(length) else {
        return Err(refused(ResponseError::CorruptMessage, format!("Found record size {length} smaller than minimum")));
    };
    let Some(magic) = bytes.get(MAGIC_AT) else { return Ok(None) };
    if *magic > 2 {
        return Err(refused(ResponseError::CorruptMessage, format!("Invalid magic found in record: {magic}")));
    }
    Ok(Some(LOG_OVERHEAD + length).filter(|length| *length <= bytes.len()))
}

fn crc_matches(bytes: &[u8]) -> bool {
    bytes.get(17..21).is_some_and(|crc| crc == crc32c::crc32c(&bytes[21..]).to_be_bytes())
}

fn consistent(header: &BatchHeader) -> Result<(), Refusal> {
    if header.has_holes() || header.records_count == 0 {
        return Err(invalid("Records count and last offset delta do not match"));
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(invalid("Invalid sequence number in record batch with a producer id"));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    Ok(())
}

/// `LogValidator.validateTimestamp`.
fn timestamps(header: &BatchHeader, positions: &[Position], limits: &Limits) -> Result<(), Refusal> {
    let now = now_ms();
    for position in positions {
        let timestamp = position.timestamp;
        if limits.log_append_time || timestamp == -1 {
            if header.is_log_append_time() {
                let message = "Producer should not set timestamp type to LogAppendTime.";
                return Err(refused(ResponseError::InvalidTimestamp, message));
            }
        } else if now - timestamp > limits.before_max_ms || timestamp - now > limits.after_max_ms {
            let message = format!("Timestamp {timestamp} of message with offset {} is out of range", position.offset);
            return Err(refused(ResponseError::InvalidTimestamp, message));
        }
    }
    Ok(())
}

/// A topic with a codec of its own recompresses; a compressed batch with wrong inner offsets is written anew, while of
/// an uncompressed one Kafka does not look at them.
fn rewritten(batch: RawBatch, positions: &[Position], limits: &Limits) -> Result<RawBatch, Refusal> {
    let own = batch.header.codec().unwrap_or(Codec::None);
    let wanted = limits.codec.unwrap_or(own);
    let numbered = (0..).zip(positions).all(|(offset, position)| position.offset == offset);
    if own == wanted && (own == Codec::None || numbered) {
        return Ok(batch);
    }
    let failed = |error: BatchError| refused(ResponseError::CorruptMessage, error.to_string());
    let mut kept = records::renumbered(&batch).map_err(failed)?;
    if limits.log_append_time {
        kept.iter_mut().for_each(|record| record.timestamp = batch.header.max_timestamp);
    }
    records::rebuild(&batch.header, &kept, wanted).map_err(failed)
}
