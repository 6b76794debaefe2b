//! Batches as Kafka's own code writes them (`proto-tests/goldens/batches.txt`), and the reader of such fixtures.

use bytes::Bytes;

use super::header::{ATTR_DELETE_HORIZON, ATTRIBUTES_AT};
use super::*;

const BATCHES: &str = include_str!("../../proto-tests/goldens/batches.txt");
const CODECS: [(&str, Codec); 5] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];
const LIMIT_BYTES: usize = 1 << 20;
const TIME: i64 = 1_700_000_000_000;
const APPEND_TIME: i64 = TIME + 9_999;
/// What the batches named `stamped` were built with.
const STAMP: Stamp = Stamp { producer_id: 4000, producer_epoch: 7, base_sequence: i32::MAX - 1 };
const STAMP_FROM_0: Stamp = Stamp { base_sequence: 0, ..STAMP };
const BARE: BatchHeader = BatchHeader {
    base_offset: 100,
    batch_length: 0,
    partition_leader_epoch: 5,
    magic: 2,
    crc: 0,
    attributes: 0,
    last_offset_delta: 3,
    base_timestamp: TIME,
    max_timestamp: TIME + 300,
    producer_id: -1,
    producer_epoch: -1,
    base_sequence: -1,
    records_count: 4,
};

/// The bytes of a line `name hex` in a fixture.
pub(crate) fn golden(fixture: &str, name: &str) -> Vec<u8> {
    let line = fixture
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    unhex(line.unwrap_or_else(|| panic!("no golden {name}")))
}

/// Bytes of hexadecimal digits; blanks between them do not count.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn batch(name: &str) -> RawBatch {
    RawBatch::parse(golden(BATCHES, name).into()).unwrap()
}

fn text(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn record(offset: i64, timestamp: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
    Record { offset, timestamp, attributes: 0, key, value, headers: Vec::new() }
}

/// The records of every batch that holds data.
fn records(base: i64) -> Vec<Record> {
    let header = |key: &'static str, value| (Bytes::from_static(key.as_bytes()), value);
    let mut all = vec![
        record(base, TIME, text("key"), text(&"kmirror ".repeat(40))),
        record(base + 1, TIME + 300, None, text("no key")),
        record(base + 2, TIME - 5, text("tombstone"), None),
        record(base + 3, TIME + 1, text(""), text("")),
    ];
    all[2].headers =
        vec![header("h", text("1")), header("h", text("2")), header("null", None), header("empty", text(""))];
    all
}

/// Without what differs from codec to codec.
fn bare(header: BatchHeader) -> BatchHeader {
    BatchHeader { batch_length: 0, crc: 0, ..header }
}

fn reencoded(name: &str, stamp: Stamp) -> (Vec<u8>, Vec<(i64, u32)>) {
    let made = reencode(&batch(name), 0, LIMIT_BYTES).unwrap();
    let mut bytes = rewrite(&made.header, stamp).to_vec();
    bytes.extend_from_slice(&made.payload);
    (bytes, made.runs)
}

#[test]
fn headers_say_what_kafka_was_told() {
    for (name, codec) in CODECS {
        let plain = batch(&format!("plain_{name}")).header;
        assert_eq!(bare(plain), BatchHeader { attributes: codec.bits(), ..BARE }, "{name}");
        let transactional = BatchHeader {
            attributes: codec.bits() | ATTR_TRANSACTIONAL,
            producer_id: 123,
            producer_epoch: 1,
            base_sequence: 10,
            ..BARE
        };
        assert_eq!(bare(batch(&format!("transactional_{name}")).header), transactional, "{name}");
        let stamped = BatchHeader {
            attributes: codec.bits(),
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: STAMP.producer_id,
            producer_epoch: STAMP.producer_epoch,
            base_sequence: STAMP.base_sequence,
            ..BARE
        };
        assert_eq!(bare(batch(&format!("stamped_{name}")).header), stamped, "{name}");
    }
}

#[test]
fn records_of_every_codec_are_read() {
    for (name, _) in CODECS {
        for (kind, base) in [("plain", 100), ("transactional", 100), ("stamped", 0)] {
            let batch = batch(&format!("{kind}_{name}"));
            check_crc(&batch).unwrap();
            assert_eq!(decode(&batch, LIMIT_BYTES).unwrap(), records(base), "{kind}_{name}");
            assert_eq!(passage(&batch.header).unwrap(), Passage::Raw, "{kind}_{name}");
        }
    }
}

#[test]
fn a_rewritten_batch_is_the_one_that_kafka_builds() {
    for (name, _) in CODECS {
        for kind in ["plain", "transactional"] {
            let sent = rewritten(&batch(&format!("{kind}_{name}")), STAMP).unwrap();
            assert_eq!(sent.bytes, golden(BATCHES, &format!("stamped_{name}")), "{kind}_{name}");
        }
    }
}

#[test]
fn an_encoded_batch_is_the_one_that_kafka_builds() {
    let made = encode(&records(0), Codec::None, STAMP).unwrap();
    assert_eq!(made.bytes, golden(BATCHES, "stamped_none"));
}

#[test]
fn a_reencoded_batch_is_the_one_that_kafka_builds() {
    assert_eq!(passage(&batch("append_time").header).unwrap(), Passage::Reencode(ReencodeReason::LogAppendTime));
    let times: Vec<i64> = decode(&batch("append_time"), LIMIT_BYTES).unwrap().iter().map(|r| r.timestamp).collect();
    assert_eq!(times, [APPEND_TIME; 4]);
    let (bytes, runs) = reencoded("append_time", STAMP_FROM_0);
    assert_eq!((bytes, runs), (golden(BATCHES, "append_time_stamped"), vec![(100, 4)]));

    let holes = batch("holes").header;
    assert_eq!((holes.last_offset(), holes.records_count), (105, 2));
    assert_eq!(passage(&holes).unwrap(), Passage::Reencode(ReencodeReason::Holes));
    let (bytes, runs) = reencoded("holes", STAMP_FROM_0);
    assert_eq!((bytes, runs), (golden(BATCHES, "holes_stamped"), vec![(101, 1), (103, 1)]));
}

#[test]
fn a_delete_horizon_goes_and_timestamps_stay() {
    let source = batch("delete_horizon");
    assert_eq!((source.header.attributes, source.header.base_timestamp), (ATTR_DELETE_HORIZON, APPEND_TIME));
    assert_eq!(decode(&source, LIMIT_BYTES).unwrap(), records(100));
    let sent = rewritten(&source, STAMP).unwrap();
    assert_eq!(sent.header.attributes, 0);
    assert_eq!(decode(&sent, LIMIT_BYTES).unwrap(), records(0));
}

#[test]
fn control_and_empty_batches_are_told_apart() {
    for (name, kind) in
        [("commit", ControlType::Commit), ("abort", ControlType::Abort), ("leader_change", ControlType::Other(2))]
    {
        let batch = batch(name);
        assert_eq!(passage(&batch.header).unwrap(), Passage::Control, "{name}");
        assert_eq!(control_type(&batch).unwrap(), kind, "{name}");
    }
    let empty = batch("empty");
    check_crc(&empty).unwrap();
    assert_eq!(passage(&empty.header).unwrap(), Passage::Empty);
    assert_eq!((empty.header.base_offset, empty.header.last_offset()), (100, 105));
    assert_eq!(decode(&empty, LIMIT_BYTES).unwrap(), []);
}

fn all() -> impl Iterator<Item = Vec<u8>> {
    BATCHES.lines().filter(|line| !line.starts_with('#')).map(|line| unhex(line.split_once(' ').unwrap().1))
}

#[test]
fn every_cut_is_seen() {
    for whole in all() {
        for end in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..end]);
            assert!(matches!(RawBatch::parse(cut.clone()), Err(BatchError::Truncated { .. })), "cut at {end}");
            let mut walk = Batches::new(cut);
            assert!(walk.next().is_none());
            assert_eq!(walk.truncated(), end > 0);
        }
    }
}

/// The bytes with one bit turned over, for every bit from byte `from` on.
fn flipped(whole: &[u8], from: usize) -> impl Iterator<Item = Vec<u8>> {
    (from * 8..whole.len() * 8).map(|bit| {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

#[test]
fn every_flipped_bit_that_the_checksum_covers_is_seen() {
    for whole in all() {
        for bytes in flipped(&whole, ATTRIBUTES_AT) {
            let read = RawBatch::parse(bytes.into()).and_then(|batch| decode(&batch, LIMIT_BYTES));
            assert!(read.is_err());
        }
    }
}

#[test]
fn a_flipped_bit_with_a_checksum_that_fits_does_not_panic() {
    for whole in all() {
        for mut bytes in flipped(&whole, 0) {
            let crc = crc::compute(&bytes);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            if let Ok(batch) = RawBatch::parse(bytes.into()) {
                // What comes of it may be records or an error.
                let _ = decode(&batch, LIMIT_BYTES);
                let _ = reencode(&batch, 0, LIMIT_BYTES);
                let _ = control_type(&batch);
            }
        }
    }
}
