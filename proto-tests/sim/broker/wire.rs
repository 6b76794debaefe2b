//! Record batches as bytes, written by hand after Kafka's `DefaultRecordBatch`: what the model brokers hand out must not
//! come from the encoder that the engine uses.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) const HEADER_LEN: usize = 61;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Everything a header says beyond lengths and checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) timestamp_ms: i64,
    pub(crate) producer: (i64, i16),
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
}

/// A data batch of these records: offset and value, the value being the record's identity in the whole run.
pub(crate) fn data(head: &Head, records: &[(i64, u64)]) -> Bytes {
    let mut section = BytesMut::new();
    for (offset, id) in records {
        record(&mut section, offset - head.base_offset, &[], &id.to_be_bytes());
    }
    seal(head, records.len(), &section)
}

/// A transaction marker.
pub(crate) fn marker(head: &Head, commit: bool) -> Bytes {
    let mut section = BytesMut::new();
    // Key: version, type; value: version, coordinator epoch.
    record(&mut section, 0, &[0, 0, 0, u8::from(commit)], &[0; 6]);
    seal(head, 1, &section)
}

fn record(out: &mut BytesMut, offset_delta: i64, key: &[u8], value: &[u8]) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    varint(&mut body, 0);
    varint(&mut body, offset_delta);
    varint(&mut body, key.len() as i64);
    body.put_slice(key);
    varint(&mut body, value.len() as i64);
    body.put_slice(value);
    varint(&mut body, 0);
    varint(out, body.len() as i64);
    out.put_slice(&body);
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn seal(head: &Head, count: usize, section: &[u8]) -> Bytes {
    let mut covered = BytesMut::new();
    let flags = [(head.transactional, TRANSACTIONAL), (head.control, CONTROL)];
    covered.put_i16(flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
    covered.put_i32((head.last_offset - head.base_offset) as i32);
    covered.put_i64(head.timestamp_ms);
    covered.put_i64(head.timestamp_ms);
    covered.put_i64(head.producer.0);
    covered.put_i16(head.producer.1);
    covered.put_i32(head.sequence);
    covered.put_i32(count as i32);
    covered.put_slice(section);
    let mut out = BytesMut::with_capacity(HEADER_LEN + section.len());
    out.put_i64(head.base_offset);
    out.put_i32((HEADER_LEN + section.len() - 12) as i32);
    out.put_i32(head.leader_epoch);
    out.put_u8(2);
    out.put_u32(crc32c::crc32c(&covered));
    out.put_slice(&covered);
    out.freeze()
}

/// A produced batch at its place in the log: base offset and leader epoch stand outside of the checksum.
pub(crate) fn placed(bytes: &Bytes, base_offset: i64, leader_epoch: i32) -> Bytes {
    let mut out = BytesMut::from(&bytes[..]);
    out[0..8].copy_from_slice(&base_offset.to_be_bytes());
    out[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    out.freeze()
}
