//! Manifests, chains of them, what is let go, and cuts: as far as they need no store.

use uuid::Uuid;

use super::archive::{Chain, Unit};
use super::chain::{Head, LogId, logs};
use super::cut::Cut;
use super::digest::ObjectDigest;
use super::envelope::EnvelopeError;
use super::keeper::to_prune;
use super::manifest::{Manifest, PartitionPart, SegmentPart, Signature};
use super::seal::{SealError, Signer};
use crate::batch::{ATTR_TRANSACTIONAL, Codec, RawBatch, Record, Stamp, check_crc, decode, encode};
use crate::mirror::Isolation;

const ID: Uuid = Uuid::from_u128(5);

fn segment(from: i64, to: i64, epochs: &[(i32, i64)]) -> SegmentPart {
    SegmentPart {
        object: format!("chains/00000002/data/t/00000/{from:020}-00000001-00000000.seg"),
        segment_id: Uuid::from_u128(1),
        from,
        to,
        bytes: 100,
        raw_bytes: 80,
        digest: ObjectDigest::Blake3("ab".repeat(32)),
        batches: 1,
        records: to.abs_diff(from),
        first_leader_epoch: epochs[0].0,
        leader_epochs: epochs[1..].to_vec(),
        open: Vec::new(),
        min_timestamp_ms: 0,
        max_timestamp_ms: 0,
    }
}

fn part(from: i64, to: i64, segments: Vec<SegmentPart>, problem: Option<&str>) -> PartitionPart {
    PartitionPart {
        topic: "t".to_owned(),
        topic_id: ID,
        partition: 0,
        from,
        to,
        log_start: from,
        gaps: Vec::new(),
        aborted: Vec::new(),
        segments,
        open: Vec::new(),
        problem: problem.map(str::to_owned),
    }
}

fn manifest(chain: u32, unit: u32, is_complete: bool, partitions: Vec<PartitionPart>) -> Manifest {
    Manifest {
        backup: "b".to_owned(),
        cluster_id: "c".to_owned(),
        chain,
        unit,
        previous: None,
        isolation: Isolation::ReadCommitted,
        is_complete,
        begun_at_ms: 100 * i64::from(unit),
        ended_at_ms: 100 * i64::from(unit) + 1,
        partitions,
        captured: None,
    }
}

fn chain(number: u32, is_complete: bool, problem: Option<&str>, broken: bool) -> Chain {
    let manifest = manifest(number, 1, is_complete, vec![part(0, 5, vec![segment(0, 5, &[(0, 0)])], problem)]);
    let unit = Unit { object: String::new(), sha256: String::new(), manifest, signature: None };
    Chain { number, units: vec![unit], broken: broken.then(|| "broken".to_owned()) }
}

#[test]
fn a_manifest_comes_back_and_tells_every_change() {
    let signer = Signer::new(&[3; 32]).unwrap();
    let written = manifest(2, 7, true, vec![part(0, 5, vec![segment(0, 5, &[(1, 0), (2, 3)])], None)]);
    for signed in [false, true] {
        let file = written.to_file(|body| signed.then(|| Signature::by(&signer, body)));
        let read = Manifest::parse(&file).unwrap();
        assert_eq!(read.manifest, written);
        assert_eq!(read.signature.is_some(), signed);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(Manifest::parse(&changed).is_err(), "byte {at}, bit {bit}, signed: {signed}");
            }
            assert!(Manifest::parse(&file[..at]).is_err(), "cut to {at}");
        }
        assert!(Manifest::parse(&[&file[..], b"\n"].concat()).is_err());
    }
}

#[test]
fn a_manifest_of_a_newer_version_is_not_called_damaged() {
    let file = b"{\"magic\":\"kmirror-manifest\",\"version\":3,\"digest\":\"?\"}\n{}\n";
    assert_eq!(Manifest::parse(file).unwrap_err(), EnvelopeError::Version { found: 3, reads: 2 });
}

/// Fields that a later kmirror adds are passed over.
#[test]
fn unknown_fields_of_a_manifest_do_no_harm() {
    let written = manifest(1, 1, true, Vec::new());
    let body = serde_json::to_string(&written).unwrap().replacen('{', "{\"later\":[1],", 1);
    let file = super::envelope::wrap(super::manifest::KIND, body.as_bytes(), None);
    assert_eq!(Manifest::parse(&file).unwrap().manifest, written);
}

#[test]
fn who_signed_matters_only_to_who_trusts_somebody() {
    let (one, other) = (Signer::new(&[3; 32]).unwrap(), Signer::new(&[4; 32]).unwrap());
    let signature = Signature::by(&one, b"words");
    assert!(signature.fits(b"words") && !signature.fits(b"other words"));
    assert_eq!(signature.check(&one.public_key(), b"words"), Ok(()));
    assert_eq!(signature.check(&one.public_key(), b"other words"), Err(SealError::Forged));
    let expected = SealError::OtherSigner { found: one.public_key().id(), expected: other.public_key().id() };
    assert_eq!(signature.check(&other.public_key(), b"words"), Err(expected));
}

#[test]
fn a_chain_goes_on_where_its_units_end() {
    let mut head = Head::new(4);
    head.advance(&manifest(4, 1, false, vec![part(3, 9, vec![segment(3, 9, &[(1, 3), (2, 6)])], None)]), "a".into());
    assert!(!head.is_good);
    head.advance(&manifest(4, 2, true, vec![part(9, 9, Vec::new(), Some("away"))]), "b".into());
    let id = LogId { topic: "t".to_owned(), topic_id: ID, partition: 0 };
    assert_eq!((head.positions[&id].to, head.positions[&id].epoch), (9, 2));
    assert!(!head.is_good, "a partition could not be read");
    head.advance(&manifest(4, 3, true, vec![part(9, 12, Vec::new(), None)]), "c".into());
    assert_eq!((head.positions[&id].to, head.positions[&id].epoch), (12, 2), "a gap has no epoch");
    assert_eq!((head.units, head.last_sha256.as_deref(), head.begun_at_ms, head.is_good), (3, Some("c"), 100, true));
}

#[test]
fn a_log_begins_where_it_was_first_read() {
    let tried = manifest(1, 1, true, vec![part(0, 0, Vec::new(), Some("away"))]);
    let read = manifest(1, 2, true, vec![part(100, 110, vec![segment(100, 110, &[(4, 100), (6, 105)])], None)]);
    let more = manifest(1, 3, true, vec![part(110, 115, vec![segment(110, 115, &[(6, 110), (7, 112)])], None)]);
    let logs = logs([&tried, &read, &more]);
    let log = logs.values().next().unwrap();
    assert_eq!((log.from, log.to, log.records(), log.problem.as_deref()), (100, 115, 15, None));
    assert_eq!(log.leader_epochs(), [(4, 100), (6, 105), (7, 112)]);
}

/// A pass that says nothing of a partition has found nothing new of it: what stood in its way before does not any more.
#[test]
fn a_problem_is_over_with_the_next_pass_that_has_none() {
    let captured = |unit: Manifest| Manifest { captured: Some(Default::default()), ..unit };
    let read = manifest(1, 1, false, vec![part(0, 9, vec![segment(0, 9, &[(1, 0)])], None)]);
    let failed = captured(manifest(1, 2, false, vec![part(9, 9, Vec::new(), Some("away"))]));
    let on_the_way = manifest(1, 3, false, Vec::new());
    let fine = captured(manifest(1, 4, true, Vec::new()));
    let problem = |units: &[&Manifest]| logs(units.iter().copied()).into_values().next().unwrap().problem;
    assert_eq!(problem(&[&read, &failed]).as_deref(), Some("away"));
    assert_eq!(problem(&[&read, &failed, &on_the_way]).as_deref(), Some("away"));
    assert_eq!(problem(&[&read, &failed, &on_the_way, &fine]), None);
}

/// An index says where blocks are; what contradicts its segment is no index of it.
#[test]
fn an_index_that_contradicts_its_segment_is_none() {
    use super::segment::{BlockPlace, Index};
    let place = |position, bytes, first_offset, next_offset| BlockPlace {
        position,
        bytes,
        first_offset,
        next_offset,
        max_timestamp_ms: 0,
    };
    let parse = |blocks: Vec<BlockPlace>| {
        Index::parse(&serde_json::to_vec(&Index { blocks }).unwrap(), (10, 40), 64..264).map(drop)
    };
    let (one, two) = (place(64, 100, 10, 20), place(164, 100, 25, 40));
    assert_eq!(parse(vec![one, two]), Ok(()));
    let wrong = [
        vec![],
        vec![one],
        vec![two],
        vec![two, one],
        vec![one, one, two],
        vec![BlockPlace { next_offset: i64::MAX, ..one }, two],
        vec![BlockPlace { first_offset: i64::MIN, ..one }, two],
        vec![BlockPlace { first_offset: 11, ..one }, two],
        vec![one, BlockPlace { first_offset: 19, ..two }],
        vec![one, BlockPlace { first_offset: 40, ..two }],
        vec![one, BlockPlace { next_offset: 39, ..two }],
        vec![one, BlockPlace { next_offset: 41, ..two }],
        vec![one, BlockPlace { bytes: u32::MAX, ..two }],
        vec![one, BlockPlace { bytes: 0, ..two }],
        vec![one, BlockPlace { position: u64::MAX, ..two }],
    ];
    for blocks in wrong {
        assert!(parse(blocks.clone()).is_err(), "{blocks:?}");
    }
}

/// Where the archive was before and is not any more, a disk is missing: nothing is begun.
#[tokio::test]
async fn an_archive_is_begun_once() {
    let archive = super::archive::Archive::new("b", super::Copies::new(vec![super::store::Store::in_memory("m")]));
    let refused = archive.begin("c", true).await.unwrap_err().to_string();
    assert!(refused.contains("it was there before: is it mounted?"), "{refused}");
    assert!(archive.begin("c", false).await.unwrap());
    assert!(!archive.begin("c", true).await.unwrap());
    assert!(archive.begin("d", true).await.unwrap_err().to_string().contains("the archive is of cluster c"));
}

#[test]
fn never_the_last_good_chain_is_let_go() {
    let good = |number| chain(number, true, None, false);
    let bad = [chain(3, false, None, false), chain(3, true, Some("away"), false), chain(3, true, None, true)];
    for newest in bad {
        let chains = [good(1), good(2), newest];
        assert_eq!(to_prune(&chains, 1), [1]);
        assert_eq!(to_prune(&chains, 0), [1]);
        assert!(to_prune(&chains, 2).is_empty());
        assert!(to_prune(&chains[2..], 1).is_empty());
    }
    assert_eq!(to_prune(&[good(1), chain(2, false, None, false), good(3), good(4)], 2), [1, 2]);
    assert!(to_prune(&[], 3).is_empty());
}

fn batch(offset: i64, records: i64, codec: Codec) -> RawBatch {
    let record = |offset: i64| Record {
        offset,
        timestamp: 10 * offset,
        attributes: 0,
        key: None,
        value: Some(format!("value {offset}").into()),
        headers: Vec::new(),
    };
    let records: Vec<Record> = (offset..offset + records).map(record).collect();
    let stamp = Stamp { producer_id: 12, producer_epoch: 3, base_sequence: 70 };
    let mut made = encode(&records, codec, stamp).unwrap().bytes.to_vec();
    made[..8].copy_from_slice(&offset.to_be_bytes());
    made[12..16].copy_from_slice(&8i32.to_be_bytes());
    made[22] |= ATTR_TRANSACTIONAL as u8;
    let crc = crc32c::crc32c(&made[21..]);
    made[17..21].copy_from_slice(&crc.to_be_bytes());
    RawBatch::parse(made.into()).unwrap()
}

#[test]
fn a_cut_leaves_what_is_in_front_of_it_as_it_was() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let batches = vec![batch(10, 4, codec), batch(14, 4, codec), batch(20, 4, codec)];
        for end in 9..26 {
            let left = Cut { end }.apply(batches.clone()).unwrap();
            let mut offsets = Vec::new();
            for batch in &left {
                check_crc(batch).unwrap();
                let header = batch.header;
                assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (12, 3, 70));
                assert_eq!((header.partition_leader_epoch, header.is_transactional()), (8, true));
                assert_eq!(header.codec(), Ok(codec));
                offsets.extend(decode(batch, 1 << 20).unwrap().iter().map(|record| record.offset));
            }
            let expected: Vec<i64> = (10..18).chain(20..24).filter(|offset| *offset < end).collect();
            assert_eq!(offsets, expected, "cut at {end}");
            let whole = batches.iter().filter(|batch| batch.header.next_offset() <= end).count();
            assert!(left[..whole].iter().zip(&batches).all(|(left, was)| left.bytes == was.bytes), "cut at {end}");
        }
    }
}
