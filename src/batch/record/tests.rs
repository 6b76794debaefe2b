use proptest::prelude::*;

use super::super::header::{ATTR_CONTROL, ATTR_DELETE_HORIZON, ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL};
use super::super::reencode;
use super::super::rewrite::{Passage, passage, rewrite, rewritten};
use super::*;

const LIMIT_BYTES: usize = 1 << 20;
pub(in crate::batch) const OURS: Stamp =
    Stamp { producer_id: 9_000_000_001, producer_epoch: 7, base_sequence: 2_147_483_646 };

pub(in crate::batch) fn codecs() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::None), Just(Codec::Gzip), Just(Codec::Snappy), Just(Codec::Lz4), Just(Codec::Zstd)]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn record()(
        timestamp in 0i64..2_000_000_000_000,
        key in proptest::option::of(bytes()),
        value in proptest::option::of(bytes()),
        headers in proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4),
    ) -> Record {
        Record { offset: 0, timestamp, attributes: 0, key, value, headers }
    }
}

/// Records with offsets that rise, holes between.
pub(in crate::batch) fn records() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec((record(), 0i64..3), 1..30).prop_map(|list| {
        let mut offset = 0;
        let place = |(record, hole)| {
            offset += hole;
            let placed = Record { offset, ..record };
            offset += 1;
            placed
        };
        list.into_iter().map(place).collect()
    })
}

/// The batch as a broker's log holds it: at `base`, with these attributes and this leader epoch.
pub(in crate::batch) fn in_log(batch: &RawBatch, base: i64, attributes: i16, epoch: i32) -> RawBatch {
    let mut header = BatchHeader {
        base_offset: base,
        partition_leader_epoch: epoch,
        attributes: batch.header.attributes | attributes,
        ..batch.header
    };
    header.crc = crc::over(&header, &batch.payload());
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&batch.payload());
    RawBatch::parse(bytes.into()).unwrap()
}

fn moved(records: &[Record], by: i64) -> Vec<Record> {
    records.iter().map(|r| Record { offset: r.offset + by - records[0].offset, ..r.clone() }).collect()
}

proptest! {
    #[test]
    fn decode_undoes_encode(records in records(), codec in codecs(), base in 0i64..1 << 40) {
        let batch = in_log(&encode(&records, codec, OURS).unwrap(), base, 0, 3);
        prop_assert_eq!(decode(&batch, LIMIT_BYTES).unwrap(), moved(&records, base));
    }

    #[test]
    fn a_rewritten_batch_is_valid_and_holds_the_same(records in records(), codec in codecs(), flags in 0u8..4) {
        let mut attributes = 0;
        if flags & 1 != 0 { attributes |= ATTR_TRANSACTIONAL; }
        if flags & 2 != 0 { attributes |= ATTR_DELETE_HORIZON; }
        let source = in_log(&encode(&records, codec, Stamp::NONE).unwrap(), 77, attributes, 5);
        let sent = rewritten(&source, OURS).unwrap();
        // The checksum by arithmetic is the one over the bytes.
        crc::check(&sent).unwrap();
        prop_assert_eq!(sent.header.attributes, codec.bits());
        prop_assert_eq!((sent.header.base_offset, sent.header.partition_leader_epoch), (0, -1));
        let stamp = (sent.header.producer_id, sent.header.producer_epoch, sent.header.base_sequence);
        prop_assert_eq!(stamp, (OURS.producer_id, OURS.producer_epoch, OURS.base_sequence));
        prop_assert_eq!(decode(&sent, LIMIT_BYTES).unwrap(), moved(&records, 0));
    }

    #[test]
    fn damage_survives_the_rewrite(records in records(), codec in codecs(), at: prop::sample::Index, bit in 0u8..8) {
        let source = in_log(&encode(&records, codec, Stamp::NONE).unwrap(), 77, 0, 5);
        let mut damaged = source.bytes.to_vec();
        let section = HEADER_LEN + at.index(damaged.len() - HEADER_LEN);
        damaged[section] ^= 1 << bit;
        let damaged = RawBatch::parse(damaged.into()).unwrap();
        let sent = rewritten(&damaged, OURS).unwrap();
        let damage_shows = matches!(crc::check(&sent), Err(BatchError::BadChecksum { .. }));
        prop_assert!(damage_shows);
    }

    #[test]
    fn reencoding_closes_holes_and_keeps_the_rest(records in records(), codec in codecs(), skip in 0i64..10) {
        let source = in_log(&encode(&records, codec, Stamp::NONE).unwrap(), 500, ATTR_TRANSACTIONAL, 5);
        let from = 500 + skip;
        let expected: Vec<Record> = moved(&records, 500).into_iter().filter(|r| r.offset >= from).collect();
        let made = reencode(&source, from, LIMIT_BYTES).unwrap();
        let named: Vec<i64> = made.runs.iter().flat_map(|(at, count)| *at..at + i64::from(*count)).collect();
        let offsets: Vec<i64> = expected.iter().map(|r| r.offset).collect();
        prop_assert_eq!(named, offsets);
        // Neighbouring runs never touch: each break costs state.
        prop_assert!(made.runs.windows(2).all(|w| w[0].0 + i64::from(w[0].1) < w[1].0));
        prop_assert!(!made.header.has_holes() || expected.is_empty());
        let mut whole = rewrite(&made.header, OURS).to_vec();
        whole.extend_from_slice(&made.payload);
        let sent = RawBatch::parse(whole.into()).unwrap();
        if expected.is_empty() {
            prop_assert_eq!(sent.header.records_count, 0);
        } else {
            prop_assert_eq!(passage(&sent.header).unwrap(), Passage::Raw);
            let got = decode(&sent, LIMIT_BYTES).unwrap();
            let renumbered = (0..).zip(expected).map(|(offset, r)| Record { offset, ..r });
            prop_assert_eq!(got, renumbered.collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_bytes_panic(mut noise in proptest::collection::vec(any::<u8>(), 61..300), codec in 0u8..8, count in 0i32..50) {
        // A header that holds together, and a checksum that fits: only then are the records looked at.
        let len = (noise.len() - LOG_OVERHEAD) as i32;
        noise[0..8].fill(0);
        noise[8..12].copy_from_slice(&len.to_be_bytes());
        noise[16] = 2;
        noise[21..23].copy_from_slice(&[0, codec]);
        noise[23..27].copy_from_slice(&100i32.to_be_bytes());
        noise[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&noise[21..]);
        noise[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RawBatch::parse(noise.into()).unwrap();
        let _ = decode(&batch, 1 << 16);
        let _ = reencode(&batch, 5, 1 << 16);
        let _ = control_type(&batch);
    }
}

fn plain(offset: i64, timestamp: i64) -> Record {
    Record { offset, timestamp, attributes: 0, key: None, value: Some(Bytes::from_static(b"v")), headers: Vec::new() }
}

#[test]
fn log_append_time_becomes_the_records_own() {
    let made = encode(&[plain(0, 10), plain(1, 20)], Codec::Lz4, Stamp::NONE).unwrap();
    let mut source = in_log(&made, 0, ATTR_LOG_APPEND_TIME, 0);
    source.header.max_timestamp = 999;
    let source = in_log(&source, 0, 0, 0);
    assert_eq!(passage(&source.header).unwrap(), Passage::Reencode(super::super::ReencodeReason::LogAppendTime));
    let made = reencode(&source, 0, LIMIT_BYTES).unwrap();
    let mut whole = made.header.to_bytes().to_vec();
    whole.extend_from_slice(&made.payload);
    let records = decode(&RawBatch::parse(whole.into()).unwrap(), LIMIT_BYTES).unwrap();
    assert_eq!(records.iter().map(|r| r.timestamp).collect::<Vec<_>>(), [999, 999]);
    assert_eq!((made.header.base_timestamp, made.header.max_timestamp), (999, 999));
    assert!(!made.header.is_log_append_time());
}

#[test]
fn a_decompression_bomb_meets_the_limit() {
    let bomb = Record { value: Some(vec![0; 4 << 20].into()), ..plain(0, 1) };
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = encode(std::slice::from_ref(&bomb), codec, Stamp::NONE).unwrap();
        let error = decode(&batch, LIMIT_BYTES).unwrap_err();
        assert_eq!(error, BatchError::TooLarge { offset: 0, limit_bytes: LIMIT_BYTES }, "{codec:?}");
    }
}

#[test]
fn a_claim_of_many_records_is_refused_before_memory_is_taken() {
    let batch = encode(&[plain(0, 1)], Codec::None, Stamp::NONE).unwrap();
    let mut bytes = batch.bytes.to_vec();
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&RawBatch::parse(bytes.into()).unwrap(), LIMIT_BYTES).unwrap_err();
    assert!(error.to_string().contains("2147483647 records in"), "{error}");
}

#[test]
fn markers_are_told_apart() {
    for (kind, expected) in [(0u8, ControlType::Abort), (1, ControlType::Commit), (5, ControlType::Other(5))] {
        let marker = Record { key: Some(vec![0, 0, 0, kind].into()), ..plain(0, 1) };
        let batch = encode(&[marker], Codec::None, Stamp::NONE).unwrap();
        let batch = in_log(&batch, 3, ATTR_CONTROL | ATTR_TRANSACTIONAL, 0);
        assert_eq!(control_type(&batch).unwrap(), expected);
        assert_eq!(passage(&batch.header).unwrap(), Passage::Control);
    }
}

#[test]
fn timestamps_that_wrap_come_back() {
    let at =
        |offset, timestamp| Record { offset, timestamp, attributes: 0, key: None, value: None, headers: Vec::new() };
    let records = vec![at(0, i64::MIN), at(1, i64::MAX)];
    let batch = encode(&records, Codec::None, OURS).unwrap();
    assert_eq!(decode(&batch, LIMIT_BYTES).unwrap(), records);
}
