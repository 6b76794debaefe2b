use proptest::prelude::*;

use super::super::header::HEADER_LEN;
use super::super::record::tests::{OURS, codecs, in_log, records};
use super::super::{Codec, Passage, Record, decode, encode, passage, rewrite};
use super::*;

const LIMIT_BYTES: usize = 1 << 20;

/// Batches without holes, one behind the other from offset 40 on.
fn in_a_row(lists: Vec<Vec<Record>>, codec: Codec) -> Vec<RawBatch> {
    let mut at = 40;
    let mut lay = |list: Vec<Record>| {
        let dense: Vec<Record> = (0..).zip(list).map(|(offset, r)| Record { offset, ..r }).collect();
        let batch = in_log(&encode(&dense, codec, OURS).unwrap(), at, 0, 5);
        at = batch.header.next_offset();
        batch
    };
    lists.into_iter().map(&mut lay).collect()
}

fn join(batches: &[RawBatch], limit_bytes: usize) -> Result<Coalesced, BatchError> {
    let payloads: Vec<Bytes> = batches.iter().map(RawBatch::payload).collect();
    coalesce(batches.iter().map(|b| &b.header).zip(&payloads), limit_bytes)
}

fn sent(made: &Coalesced) -> RawBatch {
    RawBatch::parse([&rewrite(&made.header, OURS)[..], &made.payload].concat().into()).unwrap()
}

proptest! {
    #[test]
    fn what_is_coalesced_is_the_same_records_in_one_batch(
        lists in proptest::collection::vec(records(), 1..6),
        codec in codecs(),
    ) {
        let batches = in_a_row(lists, codec);
        let made = join(&batches, LIMIT_BYTES).unwrap();
        prop_assert_eq!(made.used, batches.len());
        let batch = sent(&made);
        prop_assert_eq!(passage(&batch.header).unwrap(), Passage::Raw);
        prop_assert_eq!(batch.header.codec().unwrap(), codec);
        let all: Vec<Record> = batches.iter().flat_map(|b| decode(b, LIMIT_BYTES).unwrap()).collect();
        let expected: Vec<Record> = (0..).zip(all).map(|(offset, r)| Record { offset, ..r }).collect();
        prop_assert_eq!(batch.header.max_timestamp, expected.iter().map(|r| r.timestamp).max().unwrap());
        prop_assert_eq!(decode(&batch, LIMIT_BYTES).unwrap(), expected);
        prop_assert_eq!(join(&batches, LIMIT_BYTES).unwrap().payload, made.payload, "the same bytes again");
    }

    #[test]
    fn a_damaged_batch_stays_outside(
        lists in proptest::collection::vec(records(), 2..6),
        codec in codecs(),
        which: prop::sample::Index,
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut batches = in_a_row(lists, codec);
        let which = which.index(batches.len());
        let mut damaged = batches[which].bytes.to_vec();
        let section = HEADER_LEN + at.index(damaged.len() - HEADER_LEN);
        damaged[section] ^= 1 << bit;
        batches[which] = RawBatch::parse(damaged.into()).unwrap();
        match join(&batches, LIMIT_BYTES) {
            Ok(made) => prop_assert_eq!(made.used, which),
            Err(error) => {
                let told = matches!(error, BatchError::BadChecksum { .. });
                prop_assert!(which == 0 && told, "{}", error);
            }
        }
    }
}

#[test]
fn what_unfolds_to_too_much_stays_outside() {
    let zeros = |offset| Record {
        offset,
        timestamp: 1,
        attributes: 0,
        key: None,
        value: Some(vec![0; 40_000].into()),
        headers: Vec::new(),
    };
    let batches = in_a_row(vec![vec![zeros(0)], vec![zeros(0)], vec![zeros(0)]], Codec::Zstd);
    assert!(batches.iter().all(|b| b.bytes.len() < 200));
    assert_eq!(join(&batches, 100_000).unwrap().used, 2);
    assert!(matches!(join(&batches, 30_000), Err(BatchError::TooLarge { .. })));
    assert!(join(&[], 100).is_err());
}
