//! What lies in a bucket, and may come from a stranger: manifests, and segments with checksums that are right.

use std::ops::Range;

use bytes::Bytes;
use kmirror::backup::bounds::OFFSET_MAX;
use kmirror::backup::chain::{Head, logs};
use kmirror::backup::manifest::Manifest;
use kmirror::backup::segment::{
    BLOCK_HEADER_BYTES, SegmentHeader, SegmentOf, batches_of, header_of, index_of, open_block, walk,
};
use uuid::Uuid;

use super::Input;

const RANGE: Range<i64> = 0..1000;

/// The second line of a manifest, a segment as it is, or blocks of one, each with its length in front, whose checksums are set.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 3 {
        0 => manifest(input.0),
        1 => segment(&Bytes::copy_from_slice(input.0)),
        _ => segment(&blocks(&mut input)),
    }
}

fn manifest(body: &[u8]) {
    let Ok(manifest) = Manifest::parse_body(body) else { return };
    let again = manifest.to_file(|_| None);
    assert_eq!(Manifest::parse(&again).unwrap().manifest, manifest);
    let mut head = Head::new(manifest.chain);
    head.advance(&manifest, String::new());
    let _ = head.gainsaid_by(&manifest);
    for log in logs([&manifest]).into_values() {
        assert!(0 <= log.from && log.from <= log.to && log.to < OFFSET_MAX);
        let _ = (log.records(), log.leader_epochs());
        for part in &log.segments {
            assert!(
                !part.object.starts_with('/') && part.object.split('/').all(|word| !matches!(word, "" | "." | ".."))
            );
        }
    }
}

fn segment(bytes: &Bytes) {
    let Ok(header) = header_of(bytes) else { return };
    let range = (RANGE.start, RANGE.end);
    let walked = walk(&header, bytes, range);
    let index = index_of(&header, None, bytes, range);
    for place in walked.blocks.iter().chain(index.iter().flat_map(|index| &index.blocks)) {
        assert!(place.first_offset < place.next_offset);
        if place.bytes == 0 {
            continue;
        }
        let from = usize::try_from(place.position).unwrap();
        let block = bytes.slice(from..from + place.bytes as usize);
        if let Ok((block, payload)) = open_block(&header, None, &block, place.position) {
            assert_eq!(payload.len(), block.raw_bytes as usize);
            for batch in batches_of(&block, payload, place.position).unwrap_or_default() {
                assert!(
                    batch.header.base_offset >= block.first_offset && batch.header.next_offset() <= block.next_offset
                );
            }
        }
    }
}

fn blocks(input: &mut Input<'_>) -> Bytes {
    let of = SegmentOf { segment_id: Uuid::nil(), topic_id: Uuid::nil(), partition: 0, base_offset: 0 };
    let mut out = SegmentHeader { of, wrapped_key: None }.to_bytes();
    while !input.is_empty() {
        let mut block = input.piece().to_vec();
        if block.len() >= BLOCK_HEADER_BYTES {
            let stored = u32::try_from(block.len() - BLOCK_HEADER_BYTES).unwrap();
            block[..4].copy_from_slice(&stored.to_be_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..40]), &block[BLOCK_HEADER_BYTES..]);
            block[40..44].copy_from_slice(&crc.to_be_bytes());
        }
        out.extend(block);
    }
    out.into()
}
