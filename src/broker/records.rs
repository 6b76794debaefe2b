//! The few places where the broker looks inside a batch.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::varint::put_signed;
use crate::batch::{
    ATTR_CODEC_MASK, BatchError, BatchHeader, Codec, HEADER_LEN, LOG_OVERHEAD, RawBatch, Record, compress,
};

/// What the records of one batch may decompress to.
const SECTION_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The records of a batch.
pub(super) fn decode(batch: &RawBatch) -> Result<Vec<Record>, BatchError> {
    crate::batch::decode(batch, SECTION_BYTES_MAX)
}

/// Timestamp (ms) and offset of each record. A batch that cannot be opened counts as one record at its base offset.
pub(super) fn positions(batch: &RawBatch) -> Vec<(i64, i64)> {
    match decode(batch) {
        Ok(records) => records.iter().map(|record| (record.timestamp, record.offset)).collect(),
        Err(_) => vec![(batch.header.max_timestamp, batch.header.base_offset)],
    }
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
    let payload = match compress(codec, &section) {
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
