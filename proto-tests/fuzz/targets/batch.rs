//! Batches as they lie in a fetch response: walked, decoded, rewritten, re-encoded.

use bytes::Bytes;
use kmirror::batch::{
    ATTR_CONTROL, BatchHeader, Batches, HEADER_LEN, Passage, RawBatch, Record, Stamp, check_crc, control_type, decode,
    encode, passage, reencode, rewritten,
};

use super::DECODE_LIMIT_BYTES;

const STAMP: Stamp = Stamp { producer_id: 7, producer_epoch: 3, base_sequence: i32::MAX - 1 };

pub fn run(data: &[u8]) {
    walk(&Bytes::copy_from_slice(data));
    // No mutation finds a checksum, and nothing behind it is reached without.
    walk(&mended(data));
}

/// The bytes with the checksum of every whole batch set right.
pub fn mended(data: &[u8]) -> Bytes {
    let mut out = data.to_vec();
    let mut at = 0;
    while let Ok(header) = BatchHeader::parse(&out[at..]) {
        let end = at + header.total_len();
        if end > out.len() {
            break;
        }
        let crc = crc32c::crc32c(&out[at + 21..end]);
        out[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
    out.into()
}

fn walk(bytes: &Bytes) {
    let mut walked = 0;
    for batch in Batches::new(bytes.clone()).flatten() {
        assert_eq!(batch.bytes, bytes[walked..walked + batch.bytes.len()]);
        walked += batch.bytes.len();
        one(&batch);
    }
}

fn one(batch: &RawBatch) {
    assert_eq!(batch.header.to_bytes(), batch.bytes[..HEADER_LEN]);
    let sound = check_crc(batch).is_ok();
    let sent = rewritten(batch, STAMP).unwrap();
    assert_eq!(check_crc(&sent).is_ok(), sound, "carried by arithmetic, a checksum is as right as it was");
    assert_eq!(sent.payload(), batch.payload());
    let _ = (passage(&batch.header), control_type(batch));
    let records = decode(batch, DECODE_LIMIT_BYTES);
    assert!(sound || records.is_err());
    if let Ok(records) = records {
        opened(batch, &records);
    }
}

fn opened(batch: &RawBatch, records: &[Record]) {
    let codec = batch.header.codec().unwrap();
    assert_eq!(records.len(), batch.header.records_count as usize);
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    let again = encode(records, codec, STAMP);
    assert_eq!(again.is_ok(), !records.is_empty());
    if let Ok(again) = again {
        same(records, &decode(&again, DECODE_LIMIT_BYTES).unwrap());
    }
    let from = records.get(records.len() / 2).map_or(batch.header.base_offset, |record| record.offset);
    for from in [i64::MIN, from] {
        let kept: Vec<Record> = records.iter().filter(|record| record.offset >= from).cloned().collect();
        reencoded(batch, from, &kept);
    }
}

fn reencoded(batch: &RawBatch, from: i64, kept: &[Record]) {
    let made = reencode(batch, from, DECODE_LIMIT_BYTES).unwrap();
    assert_eq!(made.runs.iter().map(|(_, count)| *count as usize).sum::<usize>(), kept.len());
    if kept.is_empty() {
        return;
    }
    let mut bytes = made.header.to_bytes().to_vec();
    bytes.extend_from_slice(&made.payload);
    let made = RawBatch::parse(bytes.into()).unwrap();
    check_crc(&made).unwrap();
    if batch.header.attributes & ATTR_CONTROL == 0 {
        assert_eq!(passage(&made.header), Ok(Passage::Raw));
    }
    same(kept, &decode(&made, DECODE_LIMIT_BYTES).unwrap());
}

/// Everything but the offsets, which count anew.
fn same(before: &[Record], after: &[Record]) {
    let body = |record: &Record| Record { offset: 0, ..record.clone() };
    assert!(before.iter().map(body).eq(after.iter().map(body)), "{before:?}\n{after:?}");
}
