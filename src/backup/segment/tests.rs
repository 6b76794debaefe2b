//! Segments there and back, in memory.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::backup::digest::ObjectDigest;
use crate::backup::seal::Keyring;
use crate::batch::{Codec, RawBatch, Record, Stamp, encode};
use crate::config::Compression;

const OF: SegmentOf =
    SegmentOf { segment_id: Uuid::from_u128(7), topic_id: Uuid::from_u128(8), partition: 3, base_offset: 0 };

/// A batch of `records` records at an offset, with a value of so many bytes that hardly compress.
fn batch(offset: i64, records: i64, bytes: usize, codec: Codec) -> RawBatch {
    let noise = |seed: i64| {
        let mut state = seed.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8 & 0x3f
        };
        (0..bytes).map(|_| next()).collect::<Vec<u8>>()
    };
    let record = |at: i64| Record {
        offset: at,
        timestamp: 1000 + at,
        attributes: 0,
        key: None,
        value: Some(noise(at).into()),
        headers: Vec::new(),
    };
    let records: Vec<Record> = (offset..offset + records).map(record).collect();
    let mut made = encode(&records, codec, Stamp::NONE).unwrap().bytes.to_vec();
    made[..8].copy_from_slice(&offset.to_be_bytes());
    RawBatch::parse(made.into()).unwrap()
}

fn build(batches: &[RawBatch], compression: Compression, block_bytes: usize, ring: Option<&Keyring>) -> (Bytes, Built) {
    let key = ring.map(|ring| ring.new_segment(OF.segment_id).unwrap());
    let (builder, front) = SegmentBuilder::new(OF, key, compression);
    let mut builder = builder.with_block_bytes(block_bytes);
    let mut bytes = front.to_vec();
    for batch in batches {
        bytes.extend(builder.push(batch.clone()).unwrap().concat());
    }
    let (rest, built) = builder.finish().unwrap();
    bytes.extend(rest.concat());
    (bytes.into(), built)
}

/// The batches of a segment, by its index and by a walk: they must be the same.
fn read(bytes: &Bytes, range: (i64, i64), ring: Option<&Keyring>) -> Vec<RawBatch> {
    let header = header_of(bytes).unwrap();
    let wrapped = header.wrapped_key.map(|wrapped| crate::backup::seal::WrappedKey::from_bytes(&wrapped));
    let key = wrapped.map(|wrapped| ring.unwrap().open_segment(OF.segment_id, &wrapped).unwrap());
    let index = index_of(&header, key.as_ref(), bytes, range).unwrap();
    assert_eq!(index, walk(&header, bytes, range));
    let mut out = Vec::new();
    for place in &index.blocks {
        let from = usize::try_from(place.position).unwrap();
        let block = bytes.slice(from..from + place.bytes as usize);
        let (block, payload) = open_block(&header, key.as_ref(), &block, place.position).unwrap();
        out.extend(batches_of(&block, payload, place.position).unwrap());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        shape in proptest::collection::vec((0i64..5, 1i64..6, 0usize..3000, 0u8..3), 1..20),
        zstd: bool,
        sealed: bool,
        block_bytes in 1usize..8000,
    ) {
        let mut at = 0;
        let mut batches = Vec::new();
        for (hole, records, bytes, codec) in shape {
            let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(codec)];
            batches.push(batch(at + hole, records, bytes, codec));
            at += hole + records;
        }
        let ring = sealed.then(|| Keyring::new(&[1; 32], &[]).unwrap());
        let compression = if zstd { Compression::Zstd } else { Compression::None };
        let (bytes, built) = build(&batches, compression, block_bytes, ring.as_ref());
        prop_assert_eq!(built.bytes, bytes.len() as u64);
        prop_assert_eq!(&built.digest, &ObjectDigest::Blake3(blake3::hash(&bytes).to_hex().to_string()));
        prop_assert_eq!((built.first_offset, built.next_offset), (batches[0].header.base_offset, at));
        prop_assert_eq!(built.batches, batches.len() as u64);
        let back = read(&bytes, (built.first_offset, built.next_offset), ring.as_ref());
        let raw = |batches: &[RawBatch]| batches.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>();
        prop_assert_eq!(raw(&back), raw(&batches));
    }
}

#[test]
fn blocks_end_with_the_batch_that_fills_them() {
    let room = BLOCK_BYTES - batch(0, 1, BLOCK_BYTES / 2, Codec::None).bytes.len();
    for (more, blocks) in [(room - 200, 1), (room, 1), (room + 200, 1), (2 * BLOCK_BYTES, 1)] {
        let batches = [batch(0, 1, BLOCK_BYTES / 2, Codec::None), batch(1, 1, more, Codec::None)];
        let (bytes, built) = build(&batches, Compression::None, BLOCK_BYTES, None);
        let header = header_of(&bytes).unwrap();
        assert_eq!(index_of(&header, None, &bytes, (0, built.next_offset)).unwrap().blocks.len(), blocks, "{more}");
        assert_eq!(read(&bytes, (0, built.next_offset), None).len(), 2);
    }
    let batches: Vec<RawBatch> = (0..5).map(|at| batch(at, 1, BLOCK_BYTES / 2, Codec::None)).collect();
    let (bytes, built) = build(&batches, Compression::None, BLOCK_BYTES, None);
    let index = index_of(&header_of(&bytes).unwrap(), None, &bytes, (0, built.next_offset));
    assert_eq!(index.unwrap().blocks.len(), 3);
}

/// Both fail at once: what is left is found by walking, and what is lost is known.
#[test]
fn a_walk_tells_what_is_lost_from_what_was_never_there() {
    let batches = [batch(0, 2, 50, Codec::None), batch(10, 2, 50, Codec::None), batch(20, 2, 50, Codec::None)];
    let (bytes, built) = build(&batches, Compression::None, 1, None);
    let header = header_of(&bytes).unwrap();
    let places = walk(&header, &bytes, (0, built.next_offset)).blocks;
    let ranges = |index: &Index| -> Vec<(i64, i64, bool)> {
        index.blocks.iter().map(|place| (place.first_offset, place.next_offset, place.bytes > 0)).collect()
    };
    // In its payload, in its length, in its kind.
    for at in [BLOCK_HEADER_BYTES + 3, 0, 3, 4] {
        let mut damaged = bytes.to_vec();
        damaged[usize::try_from(places[1].position).unwrap() + at] ^= 1;
        let found = walk(&header, &damaged.into(), (0, 22));
        assert_eq!(ranges(&found), [(0, 2, true), (2, 20, false), (20, 22, true)], "byte {at}");
    }
    let cut = bytes.slice(..usize::try_from(places[2].position).unwrap() + 5);
    assert_eq!(ranges(&walk(&header, &cut, (0, 22))), [(0, 2, true), (10, 12, true), (12, 22, false)]);
}

#[test]
fn a_header_is_read_from_the_end_where_the_front_is_damaged() {
    for ring in [None, Some(Keyring::new(&[1; 32], &[]).unwrap())] {
        let (bytes, _) = build(&[batch(0, 2, 50, Codec::None)], Compression::None, BLOCK_BYTES, ring.as_ref());
        let header = header_of(&bytes).unwrap();
        let mut damaged = bytes.to_vec();
        damaged[20] ^= 1;
        assert_eq!(header_of(&damaged).unwrap(), header);
        let tail = &damaged[damaged.len() - 200..];
        assert_eq!(header_at_end(tail, damaged.len() as u64).unwrap(), header);
        let end = damaged.len() - TRAILER_BYTES;
        damaged[end - 1] ^= 1;
        assert!(header_of(&damaged).is_err());
    }
}

#[test]
fn a_block_of_another_segment_does_not_open() {
    let ring = Keyring::new(&[1; 32], &[]).unwrap();
    let (bytes, _) = build(&[batch(0, 2, 50, Codec::None)], Compression::None, BLOCK_BYTES, Some(&ring));
    let header = header_of(&bytes).unwrap();
    let wrapped = crate::backup::seal::WrappedKey::from_bytes(&header.wrapped_key.unwrap());
    let key = ring.open_segment(OF.segment_id, &wrapped).unwrap();
    assert!(ring.open_segment(Uuid::from_u128(9), &wrapped).is_err());
    let block = bytes.slice(header.to_bytes().len()..);
    assert!(open_block(&header, Some(&key), &block, 0).is_ok());
    let other = SegmentHeader { of: SegmentOf { segment_id: Uuid::from_u128(9), ..OF }, ..header };
    assert!(open_block(&other, Some(&key), &block, 0).unwrap_err().what.contains("the seal is broken"));
}

/// Without the key nobody can put a block into a sealed segment, not even one that is not sealed.
#[test]
fn a_block_that_is_not_sealed_is_refused_in_a_segment_that_is() {
    let ring = Keyring::new(&[1; 32], &[]).unwrap();
    let batches = [batch(0, 2, 50, Codec::None)];
    let (sealed, _) = build(&batches, Compression::None, BLOCK_BYTES, Some(&ring));
    let (plain, _) = build(&batches, Compression::None, BLOCK_BYTES, None);
    let (sealed, header) = (header_of(&sealed).unwrap(), header_of(&plain).unwrap());
    let wrapped = crate::backup::seal::WrappedKey::from_bytes(&sealed.wrapped_key.unwrap());
    let key = ring.open_segment(OF.segment_id, &wrapped).unwrap();
    let block = plain.slice(header.to_bytes().len()..);
    assert!(open_block(&header, None, &block, 0).is_ok());
    let error = open_block(&sealed, Some(&key), &block, 0).unwrap_err();
    assert!(error.what.contains("not sealed in a segment that is"), "{error}");
}

/// Blocks whose numbers are absurd, with checksums that are right: they are passed over, and nothing overflows.
#[test]
fn blocks_with_absurd_numbers_are_none_of_the_segment() {
    let header = SegmentHeader { of: OF, wrapped_key: None };
    let absurd = [(i64::MAX - 1, i64::MAX, u32::MAX), (i64::MIN, i64::MAX, 0), (9, 3, 1), (-5, -4, 2)];
    for (first_offset, next_offset, number) in absurd {
        let block = BlockHeader {
            stored_bytes: 0,
            kind: BlockKind::Batches,
            is_zstd: false,
            is_sealed: false,
            raw_bytes: 0,
            number,
            first_offset,
            next_offset,
            max_timestamp: 0,
        };
        let mut bytes = header.to_bytes();
        bytes.extend(block.front());
        bytes.extend(crc32c::crc32c(&block.front()).to_be_bytes());
        let bytes = [&bytes[..], &bytes[header.to_bytes().len()..]].concat().into();
        let found = walk(&header, &bytes, (0, 5)).blocks;
        assert!(found.iter().all(|place| place.bytes == 0), "{first_offset}: {found:?}");
    }
}
