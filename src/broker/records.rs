//! The few places where the broker looks inside a batch.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::batch::varint::{get_signed, put_signed};
use crate::batch::{
    ATTR_CODEC_MASK, BatchError, BatchHeader, Codec, HEADER_LEN, LOG_OVERHEAD, RawBatch, Record, compress, decompress,
};

/// What the records of one batch may decompress to.
const SECTION_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The records of a batch.
pub(super) fn decode(batch: &RawBatch) -> Result<Vec<Record>, BatchError> {
    crate::batch::decode(batch, SECTION_BYTES_MAX)
}

/// What the broker reads of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Its timestamp, ms, as a reader sees it.
    pub(super) timestamp: i64,
    /// Its offset, as the record itself has it.
    pub(super) offset: i64,
    /// It has a key.
    pub(super) has_key: bool,
}

/// Walks the records of a batch as Kafka's validator does: offsets may be anything (Kafka's
/// `DefaultRecordBatch.RecordIterator`). What is wrong with them otherwise, in words.
pub(super) fn scan(batch: &RawBatch) -> Result<Vec<Position>, String> {
    let header = &batch.header;
    let codec = header.codec().map_err(|error| error.to_string())?;
    let mut section = decompress(codec, &batch.payload(), SECTION_BYTES_MAX).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for _ in 0..header.records_count {
        let position = next(header, &mut section);
        found.push(position.ok_or("Incorrect declared batch size, premature EOF reached")?);
    }
    if section.is_empty() {
        Ok(found)
    } else {
        Err("Incorrect declared batch size, records still remaining".to_owned())
    }
}

fn next(header: &BatchHeader, section: &mut Bytes) -> Option<Position> {
    let length = usize::try_from(get_signed(section)?).ok().filter(|length| (1..=section.len()).contains(length))?;
    let mut body = section.split_to(length).slice(1..);
    let timestamp = header.base_timestamp.wrapping_add(get_signed(&mut body)?);
    let timestamp = if header.is_log_append_time() { header.max_timestamp } else { timestamp };
    let offset = header.base_offset.wrapping_add(get_signed(&mut body)?);
    let has_key = get_signed(&mut body)? >= 0;
    Some(Position { timestamp, offset, has_key })
}

/// Timestamp (ms) and offset of each record. A batch that cannot be opened counts as one record at its base offset.
pub(super) fn positions(batch: &RawBatch) -> Vec<(i64, i64)> {
    match scan(batch) {
        Ok(found) => found.iter().map(|position| (position.timestamp, position.offset)).collect(),
        Err(_) => vec![(batch.header.max_timestamp, batch.header.base_offset)],
    }
}

/// The records of a batch, counted from its base offset whatever offsets they have themselves.
pub(super) fn renumbered(batch: &RawBatch) -> Result<Vec<Record>, BatchError> {
    let header = &batch.header;
    let what = |what: String| BatchError::Malformed { offset: header.base_offset, what };
    let mut section =
        decompress(header.codec()?, &batch.payload(), SECTION_BYTES_MAX).map_err(|error| what(error.to_string()))?;
    let mut found = Vec::new();
    for offset in (header.base_offset..).take(usize::try_from(header.records_count).unwrap_or(0)) {
        let whole = section.clone();
        let position = next(header, &mut section).ok_or_else(|| what(format!("record {offset} is cut short")))?;
        let record = open(&whole.slice(..whole.len() - section.len()), offset, position.timestamp);
        found.push(record.ok_or_else(|| what(format!("record {offset} contradicts itself")))?);
    }
    Ok(found)
}

fn open(bytes: &Bytes, offset: i64, timestamp: i64) -> Option<Record> {
    let mut rest = bytes.clone();
    get_signed(&mut rest)?;
    let attributes = rest.try_get_i8().ok()?;
    get_signed(&mut rest)?;
    get_signed(&mut rest)?;
    let (key, value) = (get_field(&mut rest)?, get_field(&mut rest)?);
    let count = get_signed(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((get_field(&mut rest)??, get_field(&mut rest)?));
    }
    Some(Record { offset, timestamp, attributes, key, value, headers })
}

fn get_field(from: &mut Bytes) -> Option<Option<Bytes>> {
    let Ok(length) = usize::try_from(get_signed(from)?) else { return Some(None) };
    if length > from.len() { None } else { Some(Some(from.split_to(length))) }
}

/// The batch with these records instead, under the same offsets and producer, as the cleaner and a recompressing leader
/// write it: missing records leave holes. Without records only the header stays (`DefaultRecordBatch.writeEmptyHeader`).
pub(super) fn rebuild(header: &BatchHeader, records: &[Record], codec: Codec) -> Result<RawBatch, BatchError> {
    let codec = if records.is_empty() { Codec::None } else { codec };
    let base_timestamp = records.first().map_or(header.max_timestamp, |record| record.timestamp);
    let mut section = BytesMut::new();
    for record in records {
        let mut body = BytesMut::new();
        body.put_i8(record.attributes);
        put_signed(&mut body, record.timestamp - base_timestamp);
        put_signed(&mut body, record.offset - header.base_offset);
        put_field(&mut body, record.key.as_ref());
        put_field(&mut body, record.value.as_ref());
        put_signed(&mut body, record.headers.len() as i64);
        for (key, value) in &record.headers {
            put_field(&mut body, Some(key));
            put_field(&mut body, value.as_ref());
        }
        put_field(&mut section, Some(&body.freeze()));
    }
    let offset = header.base_offset;
    let failed = |what: String| BatchError::Codec { offset, codec, what };
    let payload = match compress(codec, &section.freeze()) {
        Ok(payload) => payload,
        Err(error) => return Err(failed(error.to_string())),
    };
    let length = HEADER_LEN - LOG_OVERHEAD + payload.len();
    let mut new = BatchHeader {
        batch_length: i32::try_from(length).map_err(|error| failed(error.to_string()))?,
        attributes: (header.attributes & !ATTR_CODEC_MASK) | codec.bits(),
        base_timestamp,
        max_timestamp: records.iter().map(|record| record.timestamp).max().unwrap_or(header.max_timestamp),
        records_count: i32::try_from(records.len()).map_err(|error| failed(error.to_string()))?,
        ..*header
    };
    let checked = crc32c::crc32c(&new.to_bytes()[21..]);
    new.crc = crc32c::crc32c_append(checked, &payload);
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.len());
    bytes.put_slice(&new.to_bytes());
    bytes.put_slice(&payload);
    Ok(RawBatch { header: new, bytes: bytes.freeze() })
}

fn put_field(out: &mut BytesMut, bytes: Option<&Bytes>) {
    put_signed(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.put_slice(bytes.map_or(&[], |bytes| bytes));
}
