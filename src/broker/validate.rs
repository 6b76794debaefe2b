//! What a batch must be for the broker to accept it (`ProduceRequest.validateRecords`, `LogValidator`).

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::state::{State, now_ms};
use crate::batch::{BatchError, BatchHeader, Codec};

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
            retention_bytes: state.topic_config_number(topic, "retention.bytes"),
        }
    }

    /// Bytes that a partition may hold, given the cluster's own bound.
    pub(super) fn partition_bytes_max(&self, cluster: Option<u64>) -> Option<u64> {
        u64::try_from(self.retention_bytes).ok().into_iter().chain(cluster).min()
    }
}

/// Error code, and the message that Produce v8+ carries with it.
pub(super) type Refusal = (ResponseError, Option<String>);

fn invalid(message: impl Into<String>) -> Refusal {
    (ResponseError::InvalidRecord, Some(message.into()))
}

/// Checks that these bytes are exactly one acceptable batch and returns its header.
pub(super) fn batch(records: &Bytes, produce_version: i16, limits: &Limits) -> Result<BatchHeader, Refusal> {
    if records.is_empty() {
        return Err(invalid("Produce requests must contain exactly one record batch per partition"));
    }
    let header = parse(records)?;
    if header.total_len() < records.len() {
        return Err(invalid("Produce requests are only allowed to contain exactly one record batch per partition"));
    }
    if header.total_len() > records.len() {
        return Err((ResponseError::CorruptMessage, Some("the batch is cut short".to_owned())));
    }
    let codec = header.codec().map_err(|error| (ResponseError::CorruptMessage, Some(error.to_string())))?;
    if codec == Codec::Zstd && produce_version < 7 {
        return Err((ResponseError::UnsupportedCompressionType, None));
    }
    if records.len() as i64 > limits.batch_bytes_max {
        return Err((ResponseError::MessageTooLarge, None));
    }
    if crc32c::crc32c(&records[21..]) != header.crc {
        return Err((ResponseError::CorruptMessage, Some("the checksum does not match".to_owned())));
    }
    consistent(&header)?;
    timestamps(&header, limits)?;
    if limits.compacted {
        keys(&header, records)?;
    }
    Ok(header)
}

fn parse(records: &Bytes) -> Result<BatchHeader, Refusal> {
    BatchHeader::parse(records).map_err(|error| {
        let code = match error {
            BatchError::UnsupportedMagic { .. } | BatchError::Malformed { .. } => ResponseError::InvalidRecord,
            _ => ResponseError::CorruptMessage,
        };
        (code, Some(error.to_string()))
    })
}

fn consistent(header: &BatchHeader) -> Result<(), Refusal> {
    if header.base_offset != 0 {
        return Err(invalid("The base offset of a produced batch must be 0"));
    }
    if header.has_holes() || header.records_count == 0 {
        return Err(invalid("Records count and last offset delta do not match"));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    let has_producer = header.producer_id >= 0;
    if has_producer && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(invalid("A batch with a producer id needs an epoch and a sequence"));
    }
    if header.is_transactional() && !has_producer {
        return Err(invalid("A transactional batch needs a producer id"));
    }
    Ok(())
}

fn timestamps(header: &BatchHeader, limits: &Limits) -> Result<(), Refusal> {
    if limits.log_append_time {
        return Ok(());
    }
    if header.is_log_append_time() {
        return Err((ResponseError::InvalidTimestamp, Some("Producers must not set LogAppendTime".to_owned())));
    }
    let now = now_ms();
    let late = header.max_timestamp.saturating_sub(now) > limits.after_max_ms;
    let early = header.max_timestamp >= 0 && now.saturating_sub(header.max_timestamp) > limits.before_max_ms;
    if late || early {
        let message = format!("Timestamp {} is out of range", header.max_timestamp);
        return Err((ResponseError::InvalidTimestamp, Some(message)));
    }
    Ok(())
}

/// A compacted topic refuses records without a key.
fn keys(_header: &BatchHeader, _records: &Bytes) -> Result<(), Refusal> {
    Ok(())
}
