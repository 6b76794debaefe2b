//! Records inside a batch: decoding and encoding (Kafka's `DefaultRecord`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec::{self, CodecError};
use super::crc;
use super::header::{BatchError, BatchHeader, Codec, HEADER_LEN, LOG_OVERHEAD, RawBatch};
use super::rewrite::Stamp;
use super::varint::{get_signed, put_signed};

/// Bytes of the shortest record there can be: length, attributes, two deltas, two null lengths, no headers.
const RECORD_MIN_LEN: usize = 7;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in the log.
    pub offset: i64,
    /// Timestamp, ms: the producer's, or the broker's in a batch with log append time.
    pub timestamp: i64,
    /// Record attributes; no bit of them is defined so far, all are kept.
    pub attributes: i8,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
    /// Headers in order; keys may repeat, values may be null.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// Something else (KRaft's own control records): ends no transaction.
    Other(i16),
}

/// A record as it lies in the records section, the tail (key, value, headers) unopened.
pub(super) struct Slice {
    pub(super) attributes: i8,
    pub(super) timestamp: i64,
    pub(super) offset: i64,
    pub(super) tail: Bytes,
}

/// The records of a batch, after its checksum has been verified. `limit_bytes` caps what the records section may
/// decompress to.
pub fn decode(batch: &RawBatch, limit_bytes: usize) -> Result<Vec<Record>, BatchError> {
    let slices = slices(&batch.header, &batch.payload(), limit_bytes)?;
    slices.into_iter().map(|slice| open(&batch.header, slice)).collect()
}

/// The type of the control record in a control batch (`ControlRecordType`), after its checksum has been verified.
pub fn control_type(batch: &RawBatch) -> Result<ControlType, BatchError> {
    let records = decode(batch, CONTROL_LIMIT_BYTES)?;
    let key = records.first().and_then(|record| record.key.as_deref()).unwrap_or_default();
    // Key: version and type, both i16.
    match key.get(2..4) {
        Some([0, 0]) => Ok(ControlType::Abort),
        Some([0, 1]) => Ok(ControlType::Commit),
        Some([a, b]) => Ok(ControlType::Other(i16::from_be_bytes([*a, *b]))),
        // Compaction may leave a marker's batch without its record: it ends a transaction whose records are all gone.
        _ if records.is_empty() => Ok(ControlType::Other(-1)),
        _ => Err(malformed(&batch.header, "a control record without a type".to_owned())),
    }
}

const CONTROL_LIMIT_BYTES: usize = 1 << 20;

/// Encodes records as one batch, base offset and leader epoch as a producer sends them. Offsets of the records count
/// from the first; timestamps are CreateTime. No records, or offsets that do not rise, are [`BatchError::Malformed`].
pub fn encode(records: &[Record], codec: Codec, stamp: Stamp) -> Result<RawBatch, BatchError> {
    let none = BatchError::Malformed { offset: 0, what: "no records to encode".to_owned() };
    let (first, last) = records.first().zip(records.last()).ok_or(none)?;
    let mut header = BatchHeader {
        base_offset: 0,
        batch_length: 0,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: codec.bits(),
        last_offset_delta: i32::try_from(last.offset - first.offset).unwrap_or(-1),
        base_timestamp: first.timestamp,
        max_timestamp: records.iter().map(|record| record.timestamp).max().unwrap_or(-1),
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        base_sequence: stamp.base_sequence,
        records_count: i32::try_from(records.len()).unwrap_or(-1),
    };
    let mut section = BytesMut::new();
    let mut before = -1;
    for record in records {
        let delta = record.offset - first.offset;
        if delta <= before || delta > i64::from(i32::MAX) {
            return Err(malformed(&header, format!("offset {} out of order", record.offset)));
        }
        before = delta;
        let tail = tail_of(record);
        put_record(&mut section, record.attributes, record.timestamp.wrapping_sub(first.timestamp), delta, &tail);
    }
    let payload = codec::compress(codec, &section.freeze()).map_err(|error| codec_error(&header, codec, error))?;
    header.batch_length = length_of(&header, payload.len())?;
    header.crc = crc::over(&header, &payload);
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.len());
    bytes.put_slice(&header.to_bytes());
    bytes.put_slice(&payload);
    RawBatch::parse(bytes.freeze())
}

/// Values without keys as one uncompressed batch, all with one timestamp (ms).
pub fn encode_values(values: Vec<Bytes>, timestamp_ms: i64, stamp: Stamp) -> Result<Bytes, BatchError> {
    let records: Vec<Record> = (0..)
        .zip(values)
        .map(|(offset, value)| Record {
            offset,
            timestamp: timestamp_ms,
            attributes: 0,
            key: None,
            value: Some(value),
            headers: Vec::new(),
        })
        .collect();
    encode(&records, Codec::None, stamp).map(|batch| batch.bytes)
}

pub(super) fn put_record(out: &mut BytesMut, attributes: i8, timestamp_delta: i64, offset_delta: i64, tail: &[u8]) {
    let mut head = [0u8; 24];
    let mut rest = &mut head[..];
    rest.put_i8(attributes);
    put_signed(&mut rest, timestamp_delta);
    put_signed(&mut rest, offset_delta);
    let head_len = 24 - rest.len();
    put_signed(out, (head_len + tail.len()) as i64);
    out.put_slice(head.get(..head_len).unwrap_or_default());
    out.put_slice(tail);
}

fn tail_of(record: &Record) -> BytesMut {
    let mut out = BytesMut::new();
    put_nullable(&mut out, record.key.as_deref());
    put_nullable(&mut out, record.value.as_deref());
    put_signed(&mut out, record.headers.len() as i64);
    for (key, value) in &record.headers {
        put_nullable(&mut out, Some(key));
        put_nullable(&mut out, value.as_deref());
    }
    out
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_signed(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}

/// The records of a batch, after its checksum has been verified.
pub(super) fn slices(header: &BatchHeader, payload: &Bytes, limit_bytes: usize) -> Result<Vec<Slice>, BatchError> {
    crc::check_parts(header, payload)?;
    let codec = header.codec()?;
    let mut section =
        codec::decompress(codec, payload, limit_bytes).map_err(|error| codec_error(header, codec, error))?;
    let count = usize::try_from(header.records_count).unwrap_or(0);
    if count > section.len() / RECORD_MIN_LEN {
        return Err(malformed(header, format!("{count} records in {} bytes", section.len())));
    }
    let mut out: Vec<Slice> = Vec::with_capacity(count);
    for at in 0..count {
        let slice = next_slice(header, &mut section)
            .ok_or_else(|| malformed(header, format!("record {at} of {count} is cut short or contradicts itself")))?;
        let behind = out.last().map_or(header.base_offset, |last| last.offset + 1);
        if slice.offset < behind || slice.offset > header.last_offset() {
            return Err(malformed(header, format!("record {at} has offset {}, out of order", slice.offset)));
        }
        out.push(slice);
    }
    if section.has_remaining() {
        return Err(malformed(header, format!("{} bytes behind the last record", section.len())));
    }
    Ok(out)
}

fn next_slice(header: &BatchHeader, section: &mut Bytes) -> Option<Slice> {
    let len = usize::try_from(get_signed(section)?).ok()?;
    if len == 0 || len > section.len() {
        return None;
    }
    let mut record = section.split_to(len);
    let attributes = record.get_i8();
    let timestamp_delta = get_signed(&mut record)?;
    let offset_delta = get_signed(&mut record)?;
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        // Wraps as Java's does: what a reader of the source sees.
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    let offset = header.base_offset.checked_add(offset_delta)?;
    Some(Slice { attributes, timestamp, offset, tail: record })
}

fn open(header: &BatchHeader, slice: Slice) -> Result<Record, BatchError> {
    let offset = slice.offset;
    parse_tail(slice).ok_or_else(|| malformed(header, format!("record at offset {offset} is cut short")))
}

fn parse_tail(slice: Slice) -> Option<Record> {
    let mut tail = slice.tail;
    let key = nullable(&mut tail)?;
    let value = nullable(&mut tail)?;
    let count = usize::try_from(get_signed(&mut tail)?).ok()?;
    // Two lengths a header at least.
    if count > tail.len() / 2 {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key = nullable(&mut tail)??;
        headers.push((key, nullable(&mut tail)?));
    }
    let whole =
        Record { offset: slice.offset, timestamp: slice.timestamp, attributes: slice.attributes, key, value, headers };
    tail.is_empty().then_some(whole)
}

/// A length and as many bytes; `Some(None)` for the length −1.
fn nullable(from: &mut Bytes) -> Option<Option<Bytes>> {
    match get_signed(from)? {
        -1 => Some(None),
        len => {
            let len = usize::try_from(len).ok().filter(|len| *len <= from.len())?;
            Some(Some(from.split_to(len)))
        }
    }
}

fn malformed(header: &BatchHeader, what: String) -> BatchError {
    BatchError::Malformed { offset: header.base_offset, what }
}

pub(super) fn codec_error(header: &BatchHeader, codec: Codec, error: CodecError) -> BatchError {
    let offset = header.base_offset;
    match error {
        CodecError::TooLarge { limit_bytes } => BatchError::TooLarge { offset, limit_bytes },
        CodecError::Bad(what) => BatchError::Codec { offset, codec, what },
    }
}

pub(super) fn count_of(header: &BatchHeader, count: usize) -> Result<i32, BatchError> {
    i32::try_from(count).map_err(|_| malformed(header, format!("{count} records")))
}

pub(super) fn length_of(header: &BatchHeader, payload_len: usize) -> Result<i32, BatchError> {
    i32::try_from(HEADER_LEN - LOG_OVERHEAD + payload_len)
        .map_err(|_| malformed(header, format!("a records section of {payload_len} bytes")))
}

#[cfg(test)]
pub(super) mod tests;
