//! Parquet files, read back by the library's own reader and compared with what a broker holds.

#![allow(clippy::unwrap_used, reason = "helpers of tests that cannot go on without what they read")]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{ListAccessor as _, RowAccessor as _};

use super::{Exported, ParquetFolder, Row, Sink, Wanted, export_live, live_logs};
use crate::backup::pass::Meter;
use crate::batch::{ATTR_TRANSACTIONAL, Codec, Record, Stamp, encode};
use crate::broker::{Cluster as Broker, ClusterOptions};
use crate::client::{Cluster, ClusterSpec};

const START_MS: i64 = 1_790_000_000_000;

/// A record as a file has it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    timestamp_type: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    leader_epoch: Option<i32>,
}

fn reader(file: &Path) -> SerializedFileReader<File> {
    SerializedFileReader::new(File::open(file).unwrap()).unwrap()
}

fn seen(file: &Path) -> Vec<Seen> {
    let header = |row: &parquet::record::Row| {
        (row.get_string(0).unwrap().clone(), row.get_bytes(1).ok().map(|bytes| bytes.data().to_vec()))
    };
    let of = |row: parquet::record::Row| Seen {
        topic: row.get_string(0).unwrap().clone(),
        partition: row.get_int(1).unwrap(),
        offset: row.get_long(2).unwrap(),
        timestamp: row.get_timestamp_millis(3).ok(),
        timestamp_type: row.get_string(4).unwrap().clone(),
        key: row.get_bytes(5).ok().map(|bytes| bytes.data().to_vec()),
        value: row.get_bytes(6).ok().map(|bytes| bytes.data().to_vec()),
        headers: {
            let list = row.get_list(7).unwrap();
            (0..list.len()).map(|at| header(list.get_group(at).unwrap())).collect()
        },
        leader_epoch: row.get_int(8).ok(),
    };
    reader(file).get_row_iter(None).unwrap().map(|row| of(row.unwrap())).collect()
}

/// Files of a folder, those with a name yet to come included, and of those below it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}

fn record(offset: i64, value: Option<Bytes>) -> Record {
    Record { offset, timestamp: START_MS + offset, attributes: 0, key: None, value, headers: Vec::new() }
}

fn stamp(producer_id: i64) -> Stamp {
    Stamp { producer_id, producer_epoch: 0, base_sequence: 0 }
}

fn batch(records: &[Record], codec: Codec, attributes: i16, producer_id: i64) -> Bytes {
    let mut bytes = encode(records, codec, stamp(producer_id)).unwrap().bytes.to_vec();
    bytes[22] |= attributes as u8;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

async fn broker(topic: &str, partitions: i32) -> (Broker, Cluster) {
    let options = ClusterOptions { nodes: 1, auto_create_topics: false, ..ClusterOptions::default() };
    let broker = Broker::start(options).await.unwrap();
    broker.create_topic(topic, partitions, 1, &[]).unwrap();
    let cluster = Cluster::connect(ClusterSpec::new("from", broker.bootstrap(), "test".to_owned())).await.unwrap();
    (broker, cluster)
}

async fn export_all(cluster: &Cluster, wanted: &Wanted, sink: &mut dyn Sink) -> Vec<Exported> {
    let mut all = Vec::new();
    for log in live_logs(cluster, &|_, _| true, wanted).await.unwrap() {
        all.push(export_live(cluster, &log, wanted, &Meter::default(), sink).await.unwrap());
    }
    all
}

/// Nulls and empty byte strings, headers that repeat, bytes that are no text, log append time, a record without a time, codecs, and what
/// was aborted or is undecided: the files hold what a consumer sees, column by column.
#[tokio::test]
async fn a_file_holds_what_a_consumer_sees() {
    let (broker, cluster) = broker("orders", 2).await;
    let odd = [
        Record { key: Some(Bytes::from_static(b"")), ..record(0, None) },
        Record {
            key: Some(Bytes::from_static(&[0xff, 0x00])),
            headers: vec![
                (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"h"), None),
                (Bytes::from_static(b"empty"), Some(Bytes::new())),
            ],
            ..record(1, Some(Bytes::from_static(b"")))
        },
        Record { timestamp: -1, ..record(2, Some(Bytes::from_static(b"no time"))) },
    ];
    broker.append("orders", 0, batch(&odd, Codec::Zstd, 0, -1)).unwrap();
    let many: Vec<Record> = (0..3_000).map(|n| record(n, Some(Bytes::from(format!("value {n}"))))).collect();
    broker.append("orders", 0, batch(&many, Codec::Lz4, 0, -1)).unwrap();
    let aborted = [record(0, Some(Bytes::from_static(b"aborted")))];
    broker.append("orders", 0, batch(&aborted, Codec::None, ATTR_TRANSACTIONAL, 7)).unwrap();
    broker.write_markers("orders", 0, (7, 0), false).unwrap();
    let last = [Record { headers: vec![(Bytes::from_static(b"x"), None)], ..record(0, None) }];
    broker.append("orders", 0, batch(&last, Codec::None, 0, -1)).unwrap();
    broker.append("orders", 0, batch(&aborted, Codec::None, ATTR_TRANSACTIONAL, 8)).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut sink = ParquetFolder::create(&folder.path().join("out")).unwrap();
    let exported = export_all(&cluster, &Wanted::default(), &mut sink).await;
    assert_eq!((exported[0].records, exported[0].undecided_offsets), (3_004, 1), "{exported:?}");
    assert_eq!(exported[1].records, 0);
    let written = Box::new(sink).finish().unwrap();
    let expected = folder.path().join("out/orders/00000-00000000000000000000.parquet");
    assert_eq!(written, std::slice::from_ref(&expected), "a partition without records has no file");
    assert_eq!(files(folder.path()), BTreeSet::from([expected.clone(), folder.path().join("out/_SUCCESS")]));

    let there: Vec<Seen> = broker.records("orders", 0, 0).unwrap().iter().map(as_seen).collect();
    let there: Vec<Seen> = there.into_iter().filter(|r| r.value.as_deref() != Some(b"aborted")).collect();
    let found = seen(&expected);
    assert_eq!(found.len(), 3_004);
    assert!(found == there, "first that differs: {:?}", found.iter().zip(&there).find(|(a, b)| a != b));
    assert_eq!(
        (found[2].timestamp, found[1].headers.len(), found[0].key.as_deref()),
        (None, 3, Some(&b""[..])),
        "the oddities are there: {:?}",
        &found[..3]
    );
}

fn as_seen(record: &Record) -> Seen {
    let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    Seen {
        topic: "orders".to_owned(),
        partition: 0,
        offset: record.offset,
        timestamp: (record.timestamp != -1).then_some(record.timestamp),
        timestamp_type: "CreateTime".to_owned(),
        key: bytes(&record.key),
        value: bytes(&record.value),
        headers: record.headers.iter().map(|(k, v)| (String::from_utf8_lossy(k).into_owned(), bytes(v))).collect(),
        leader_epoch: Some(0),
    }
}

/// What is put straight in: `count` records of one topic, of so many bytes each.
fn put_all(sink: &mut dyn Sink, topic: &str, offsets: std::ops::Range<i64>, value_bytes: usize, attributes: i16) {
    for offset in offsets {
        // Nothing that zstd could make smaller, so that sizes are what they seem.
        let mut seed = offset as u64 + 1;
        let random = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        });
        let record = record(offset, Some(random.take(value_bytes).collect()));
        let header = crate::batch::BatchHeader {
            attributes,
            partition_leader_epoch: -1,
            ..encode(std::slice::from_ref(&record), Codec::None, stamp(-1)).unwrap().header
        };
        sink.put(&Row { topic, partition: 3, header: &header, record: &record }).unwrap();
    }
}

/// However much there is, no more than a row group of bounded size is held, and files end at their size.
#[test]
fn row_groups_and_files_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (group_bytes, part_bytes, value_bytes) = (64 << 10, 512 << 10, 1_000);
    let mut sink = ParquetFolder::bounded(folder.path(), group_bytes, part_bytes).unwrap();
    put_all(&mut sink, "big", 0..5_000, value_bytes, 0);
    sink.end_log().unwrap();
    let written = Box::new(sink).finish().unwrap();
    assert!((8..=11).contains(&written.len()), "5 MB in files of half a MiB: {written:?}");
    let mut offsets = Vec::new();
    for file in &written {
        let bytes = std::fs::metadata(file).unwrap().len();
        assert!(bytes <= (part_bytes + 2 * group_bytes) as u64, "{bytes} bytes in {file:?}");
        let metadata = reader(file).metadata().clone();
        for group in metadata.row_groups() {
            let held = group.total_byte_size();
            assert!(held <= (group_bytes + 2 * value_bytes) as i64, "{held} bytes in a row group of {file:?}");
        }
        assert!(metadata.num_row_groups() > 5 || file == written.last().unwrap(), "{}", metadata.num_row_groups());
        offsets.extend(seen(file).iter().map(|seen| seen.offset));
    }
    assert_eq!(offsets, (0..5_000).collect::<Vec<i64>>(), "none is missing, and none twice");
}

/// Two logs of one name, one behind the other; log append time, and an epoch that is not known.
#[test]
fn a_topic_that_was_made_again_has_files_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = ParquetFolder::create(folder.path()).unwrap();
    put_all(&mut sink, "again", 0..2, 5, 0);
    sink.end_log().unwrap();
    put_all(&mut sink, "again", 0..3, 5, crate::batch::ATTR_LOG_APPEND_TIME);
    let written = Box::new(sink).finish().unwrap();
    let counts: Vec<usize> = written.iter().map(|file| seen(file).len()).collect();
    assert_eq!(counts, [2, 3], "{written:?}");
    let second = &seen(&written[1])[0];
    assert_eq!((second.timestamp_type.as_str(), second.leader_epoch), ("LogAppendTime", None));
    let refused = ParquetFolder::create(folder.path()).expect_err("the folder holds files");
    assert!(refused.to_string().contains("holds something already"), "{refused}");
}

/// Until it is whole a file has no name that anybody would read; one that is given up goes away.
#[test]
fn what_is_not_finished_does_not_look_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = ParquetFolder::bounded(folder.path(), 1_000, 1 << 20).unwrap();
    put_all(&mut sink, "half", 0..50, 100, 0);
    let names = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let under_way: Vec<String> = files(folder.path()).into_iter().map(names).collect();
    assert!(
        under_way.len() == 1 && under_way[0].starts_with('.') && under_way[0].ends_with(".part"),
        "row groups are written, and the file has no name yet: {under_way:?}"
    );
    drop(sink);
    assert_eq!(files(folder.path()), BTreeSet::new());
}
