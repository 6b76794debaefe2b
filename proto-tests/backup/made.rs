//! A small archive, made piece by piece: two partitions, two units, plain and compressed batches, what compaction and retention left,
//! and an aborted transaction.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kmirror::backup::Copies;
use kmirror::backup::archive::Archive;
use kmirror::backup::digest::sha256_hex;
use kmirror::backup::manifest::{Aborted, Gap, Manifest, PartitionPart, SegmentPart, Signature};
use kmirror::backup::seal::{Keyring, Signer};
use kmirror::backup::segment::{SegmentBuilder, SegmentOf};
use kmirror::backup::store::Store;
use kmirror::batch::{ATTR_CONTROL, ATTR_TRANSACTIONAL, Codec, RawBatch, Record, Stamp, encode};
use kmirror::config::{Compression, DestinationConfig};
use kmirror::mirror::{GapReason, Isolation};
use uuid::Uuid;

pub(crate) const BACKUP: &str = "golden";
pub(crate) const CLUSTER_ID: &str = "cluster-of-the-golden";
pub(crate) const TOPIC: &str = "orders";
pub(crate) const KEY: [u8; 32] = *b"a key that guards goldens alone!";
pub(crate) const SEED: [u8; 32] = *b"a seed that signs goldens alone!";
const TOPIC_ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
const TIME: i64 = 1_700_000_000_000;

/// What a reader sees who skips aborted transactions: partition, offset, value.
pub(crate) fn committed() -> Vec<(i32, i64, String)> {
    let of = |partition: i32, offsets: &[i64]| -> Vec<(i32, i64, String)> {
        offsets.iter().map(|offset| (partition, *offset, value(partition, *offset))).collect()
    };
    [of(0, &[0, 1, 2, 3, 4, 5, 11, 12, 13, 14]), of(1, &[100, 101, 102, 103, 105, 110, 111, 112, 113])].concat()
}

fn value(partition: i32, offset: i64) -> String {
    format!("order {partition}-{offset} of many, many, many orders")
}

fn record(partition: i32, offset: i64) -> Record {
    Record {
        offset,
        timestamp: TIME + offset,
        attributes: 0,
        key: (offset % 2 == 0).then(|| Bytes::from(format!("key-{offset}"))),
        value: Some(Bytes::from(value(partition, offset))),
        headers: vec![("trace".into(), (offset % 3 == 0).then(|| Bytes::from_static(b"\x00\x01")))],
    }
}

fn batch(partition: i32, offsets: &[i64], codec: Codec, epoch: i32) -> RawBatch {
    let records: Vec<Record> = offsets.iter().map(|offset| record(partition, *offset)).collect();
    placed(&encode(&records, codec, Stamp::NONE).unwrap(), offsets[0], epoch, 0)
}

fn placed(batch: &RawBatch, offset: i64, epoch: i32, attributes: i16) -> RawBatch {
    let mut bytes = batch.bytes.to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes[21..23].copy_from_slice(&(batch.header.attributes | attributes).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RawBatch::parse(bytes.into()).unwrap()
}

/// A transaction of one batch, and its ABORT marker.
fn aborted(partition: i32, offsets: &[i64], marker: i64, epoch: i32) -> Vec<RawBatch> {
    let stamp = Stamp { producer_id: 9, producer_epoch: 0, base_sequence: 0 };
    let records: Vec<Record> = offsets.iter().map(|offset| record(partition, *offset)).collect();
    let data = placed(&encode(&records, Codec::None, stamp).unwrap(), offsets[0], epoch, ATTR_TRANSACTIONAL);
    let (key, value) = (Bytes::from_static(&[0, 0, 0, 0]), Bytes::from_static(&[0, 0, 0, 0, 0, 0]));
    let control = Record { key: Some(key), value: Some(value), headers: Vec::new(), ..record(partition, marker) };
    let stamp = Stamp { base_sequence: -1, ..stamp };
    let control = encode(&[control], Codec::None, stamp).unwrap();
    vec![data, placed(&control, marker, epoch, ATTR_TRANSACTIONAL | ATTR_CONTROL)]
}

/// What guards an archive.
#[derive(Default)]
pub(crate) struct Guards {
    pub(crate) keyring: Option<Keyring>,
    pub(crate) signer: Option<Signer>,
}

impl Guards {
    pub(crate) fn all() -> Self {
        Self { keyring: Some(Keyring::new(&KEY, &[]).unwrap()), signer: Some(Signer::new(&SEED).unwrap()) }
    }
}

/// The archive in a folder.
pub(crate) fn in_folder(folder: &Path) -> Store {
    let to = DestinationConfig { url: format!("file://{}", folder.display()), options: BTreeMap::new() };
    Store::open(&to, BACKUP).unwrap()
}

/// Writes the archive to these places.
pub(crate) async fn write(stores: Vec<Store>, guards: &Guards) -> Archive {
    let archive = Archive::new(BACKUP, Copies::new(stores));
    archive.begin(CLUSTER_ID, false).await.unwrap();
    let mut maker = Maker { archive: &archive, guards, previous: None, unit: 1 };
    let first = [batch(0, &[0, 1, 2], Codec::None, 3), batch(0, &[3, 4, 5], Codec::Lz4, 3)];
    // Offsets 6 and 7 went by compaction; 8 to 10 are the transaction and its marker.
    let first = maker.segment(0, [first.to_vec(), aborted(0, &[8, 9], 10, 4)].concat(), Compression::None).await;
    let other = vec![batch(1, &[100, 101, 102, 103, 105], Codec::None, 0)];
    let other = maker.segment(1, other, Compression::Zstd).await;
    let mut zero = part(0, (0, 11), vec![SegmentPart { leader_epochs: vec![(4, 8)], ..first }]);
    zero.aborted.push(Aborted { producer_id: 9, first_offset: 8, last_offset: 10 });
    maker.commit(vec![zero, part(1, (100, 106), vec![other])]).await;
    let zero = maker.segment(0, vec![batch(0, &[11, 12, 13, 14], Codec::Gzip, 4)], Compression::Zstd).await;
    let other = vec![batch(1, &[110, 111], Codec::None, 1), batch(1, &[112, 113], Codec::Snappy, 1)];
    let other = maker.segment(1, other, Compression::None).await;
    let mut one = part(1, (106, 114), vec![other]);
    one.gaps.push(Gap { reason: GapReason::Retention, from: 106, to: 110 });
    maker.commit(vec![part(0, (11, 15), vec![zero]), one]).await;
    archive
}

struct Maker<'a> {
    archive: &'a Archive,
    guards: &'a Guards,
    previous: Option<String>,
    unit: u32,
}

impl Maker<'_> {
    async fn segment(&self, partition: i32, batches: Vec<RawBatch>, compression: Compression) -> SegmentPart {
        let base_offset = batches[0].header.base_offset;
        let first_leader_epoch = batches[0].header.partition_leader_epoch;
        let segment_id = Uuid::from_u128(u128::from(self.unit) << 64 | u128::from(partition.unsigned_abs()) << 96);
        let object = format!(
            "chains/00000001/data/{TOPIC}/{partition:05}/{base_offset:020}-{:08}-{:08x}.seg",
            self.unit,
            segment_id.as_fields().0
        );
        let of = SegmentOf { segment_id, topic_id: TOPIC_ID, partition, base_offset };
        let key = self.guards.keyring.as_ref().map(|ring| ring.new_segment(segment_id).unwrap());
        let (builder, front) = SegmentBuilder::new(of, key, compression);
        let mut builder = builder.with_block_bytes(1);
        let mut bytes = front.to_vec();
        for batch in batches {
            bytes.extend(builder.push(batch).unwrap().concat());
        }
        let (rest, built) = builder.finish().unwrap();
        bytes.extend(rest.concat());
        self.archive.copies().put(&object, bytes.into()).await.unwrap();
        SegmentPart {
            object,
            segment_id,
            from: built.first_offset,
            to: built.next_offset,
            bytes: built.bytes,
            raw_bytes: built.raw_bytes,
            digest: built.digest,
            batches: built.batches,
            records: built.records,
            first_leader_epoch,
            leader_epochs: Vec::new(),
            open: Vec::new(),
            min_timestamp_ms: built.min_timestamp_ms,
            max_timestamp_ms: built.max_timestamp_ms,
        }
    }

    async fn commit(&mut self, partitions: Vec<PartitionPart>) {
        let begun_at_ms = TIME + i64::from(self.unit) * 1000;
        let manifest = Manifest {
            backup: BACKUP.to_owned(),
            cluster_id: CLUSTER_ID.to_owned(),
            chain: 1,
            unit: self.unit,
            previous: self.previous.clone(),
            isolation: Isolation::ReadCommitted,
            is_complete: true,
            begun_at_ms,
            ended_at_ms: begun_at_ms + 500,
            partitions,
            captured: None,
        };
        let sign = |body: &[u8]| self.guards.signer.as_ref().map(|signer| Signature::by(signer, body));
        let file = manifest.to_file(sign);
        self.previous = Some(sha256_hex(&file));
        self.archive.copies().put_new(&manifest_of(self.unit), file.into()).await.unwrap();
        self.unit += 1;
    }
}

/// Path of a unit's manifest.
pub(crate) fn manifest_of(unit: u32) -> String {
    format!("chains/00000001/units/{unit:08}.json")
}

fn part(partition: i32, (from, to): (i64, i64), segments: Vec<SegmentPart>) -> PartitionPart {
    PartitionPart {
        topic: TOPIC.to_owned(),
        topic_id: TOPIC_ID,
        partition,
        from,
        to,
        log_start: if partition == 0 { 0 } else { from },
        gaps: Vec::new(),
        aborted: Vec::new(),
        segments,
        open: Vec::new(),
        problem: None,
    }
}
