//! Backed logs: an embedded cluster whose batches lie elsewhere is read as the cluster that they came from would be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse,
    IncrementalAlterConfigsRequest, OffsetForLeaderEpochRequest,
};
use kmirror::batch::{ATTR_TRANSACTIONAL, BatchHeader, Codec, RawBatch, Record, Stamp, decode, encode};
use kmirror::broker::{BackedLog, BackedRead, Backing, Cluster, ClusterOptions, GroupOffset, Waker};
use kmirror::client::{Cluster as Client, ClusterSpec, LogSlice, ReadOptions, TopicPartition, Topics, read_log};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{Pair, append, numbered, value};
use crate::conformance::batch::BatchSpec;
use crate::conformance::subject::{Subject, Topic, text, topic_name};
use crate::conformance::wire::Conn;
use crate::e2e::Mirror;
use crate::e2e::mirror::gaps;

const TOPIC: &str = "orders";
const SECRET: &str = "c4f1d2a8-only-for-this-restore";
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
const POLICY_VIOLATION: i16 = 44;
const KAFKA_STORAGE_ERROR: i16 = 56;
const MAX_BYTES: usize = 1 << 20;

/// Batches that come when they are asked for, one by one, from a thread of their own.
#[derive(Debug)]
struct Shelf {
    batches: Vec<RawBatch>,
    waker: Waker,
    manner: Manner,
    here: Arc<Mutex<BTreeSet<usize>>>,
    asked: Mutex<BTreeSet<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Here,
    /// Every batch is brought when it is read.
    Brought,
    Never,
    Broken,
}

impl Shelf {
    fn log(cluster: &Cluster, origin: &Origin, partition: i32, manner: Manner) -> BackedLog {
        let batches = origin.cluster.read(TOPIC, partition, 0).unwrap();
        let view = origin.cluster.log(TOPIC, partition).unwrap();
        let mut leader_epochs: Vec<(i32, i64)> = Vec::new();
        for RawBatch { header, .. } in &batches {
            if leader_epochs.last().is_none_or(|&(epoch, _)| epoch < header.partition_leader_epoch) {
                leader_epochs.push((header.partition_leader_epoch, header.base_offset));
            }
        }
        let (here, asked) = (Arc::default(), Mutex::default());
        BackedLog {
            start_offset: view.start_offset,
            end_offset: view.end_offset,
            leader_epochs,
            aborted: origin.aborted[&partition].clone(),
            backing: Arc::new(Self { batches, waker: cluster.waker(), manner, here, asked }),
        }
    }

    fn is_here(&self, at: usize) -> bool {
        self.manner == Manner::Here || self.here.lock().unwrap().contains(&at)
    }

    fn bring(&self, at: usize) {
        if self.manner == Manner::Brought && self.asked.lock().unwrap().insert(at) {
            let (here, waker) = (Arc::clone(&self.here), self.waker.clone());
            std::thread::spawn(move || {
                here.lock().unwrap().insert(at);
                waker.wake();
            });
        }
    }
}

impl Backing for Shelf {
    fn read(&self, offset: i64, bound: i64, max_bytes: usize) -> BackedRead {
        let from = self.batches.partition_point(|batch| batch.header.last_offset() < offset);
        let mut out = BytesMut::new();
        for (at, batch) in self.batches.iter().enumerate().skip(from) {
            if batch.header.base_offset >= bound || (!out.is_empty() && out.len() >= max_bytes) {
                break;
            }
            if self.manner == Manner::Broken {
                return BackedRead::Failed;
            }
            if !self.is_here(at) {
                self.bring(at);
                return if out.is_empty() { BackedRead::Pending } else { BackedRead::Bytes(out.freeze()) };
            }
            out.extend_from_slice(&batch.bytes);
        }
        if out.is_empty() { BackedRead::Nothing } else { BackedRead::Bytes(out.freeze()) }
    }

    fn offset_for_time(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        let records = self.batches.iter().flat_map(|batch| decode(batch, MAX_BYTES).unwrap());
        let found = records.map(|record| (record.offset, record.timestamp));
        found.into_iter().find(|&(offset, timestamp)| timestamp >= timestamp_ms && offset >= START)
    }
}

/// First offset of partition 0: in the middle of its first batch.
const START: i64 = 1003;

/// An ordinary cluster, whose batches are put on shelves, and which is the witness of how they are to be read.
struct Origin {
    cluster: Cluster,
    aborted: BTreeMap<i32, Vec<(i64, i64, i64)>>,
}

impl Origin {
    /// Partition 0 has whatever a log can have, partition 1 many batches, partition 2 nothing.
    async fn new() -> Self {
        let options = ClusterOptions { nodes: 2, cluster_id: "origin".to_owned(), ..ClusterOptions::default() };
        let cluster = Cluster::start(options).await.unwrap();
        cluster.create_topic(TOPIC, 3, 2, &[("retention.ms", "-1"), ("segment.bytes", "1048576")]).unwrap();
        let next = |epoch: i32| {
            let leader = cluster.log(TOPIC, 0).unwrap();
            assert_eq!(leader.leader_epoch, epoch);
            cluster.move_leader(TOPIC, 0, 3 - leader.leader.unwrap()).unwrap();
        };
        place(&cluster, 1000, 0, numbered("a-", 0, 10));
        next(0);
        append(&cluster, TOPIC, 0, "b-", 0, 10);
        place(&cluster, 1040, 1, numbered("c-", 0, 10));
        next(1);
        let mut aborted = Vec::new();
        for (producer_id, commit) in [(70, true), (71, false), (72, false), (73, true)] {
            let first = cluster.append(TOPIC, 0, transactional(producer_id, commit)).unwrap();
            let last = cluster.write_markers(TOPIC, 0, (producer_id, 0), commit).unwrap();
            if !commit {
                aborted.push((producer_id, first, last));
            }
        }
        next(2);
        append(&cluster, TOPIC, 0, "d-", 0, 10);
        cluster.punch_holes(TOPIC, 0, |record| ![1012, 1013, 1019].contains(&record.offset)).unwrap();
        cluster.delete_before(TOPIC, 0, START).unwrap();
        for batch in 0..100 {
            append(&cluster, TOPIC, 1, "", batch * 10, batch * 10 + 10);
        }
        Self { cluster, aborted: BTreeMap::from([(0, aborted), (1, Vec::new()), (2, Vec::new())]) }
    }

    fn topic_id(&self) -> Uuid {
        self.cluster.topics()[0].id
    }

    /// A cluster that has the same topic, backed.
    async fn shelved(&self, manner: Manner, client_id_required: Option<&str>) -> Cluster {
        let options = ClusterOptions {
            nodes: 2,
            cluster_id: "origin".to_owned(),
            auto_create_topics: false,
            client_id_required: client_id_required.map(str::to_owned),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(options).await.unwrap();
        let mut configs = self.cluster.topics()[0].configs.clone();
        configs.insert("confluent.tier.enable".to_owned(), "true".to_owned());
        cluster.create_backed_topic(TOPIC, self.topic_id(), 3, configs).unwrap();
        for partition in 0..3 {
            cluster.back(TOPIC, partition, Shelf::log(&cluster, self, partition, manner)).unwrap();
        }
        cluster
    }
}

fn place(cluster: &Cluster, base_offset: i64, leader_epoch: i32, values: Vec<String>) {
    let batch = encode(&records(values), Codec::Lz4, Stamp::NONE).unwrap();
    let header = BatchHeader { base_offset, partition_leader_epoch: leader_epoch, ..batch.header };
    cluster.place(TOPIC, 0, [&header.to_bytes()[..], &batch.payload()].concat().into()).unwrap();
}

fn records(values: Vec<String>) -> Vec<Record> {
    let record = |(offset, value): (i64, String)| Record {
        offset,
        timestamp: 1_790_000_000_000 + offset,
        attributes: 0,
        key: Some(Bytes::from(format!("key of {value}"))),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    (0..).zip(values).map(record).collect()
}

fn transactional(producer_id: i64, commit: bool) -> Bytes {
    let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: 0 };
    let values =
        numbered(if commit { "kept-" } else { "aborted-" }, producer_id as u64 * 10, producer_id as u64 * 10 + 3);
    let batch = encode(&records(values), Codec::None, stamp).unwrap();
    let header = BatchHeader { attributes: batch.header.attributes | ATTR_TRANSACTIONAL, ..batch.header };
    let mut bytes = [&header.to_bytes()[..], &batch.payload()].concat();
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

async fn client(cluster: &Cluster, client_id: &str) -> Client {
    let client = Client::connect(ClusterSpec::new("it", cluster.bootstrap(), client_id.to_owned())).await.unwrap();
    client.refresh(Topics::All).await.unwrap();
    client
}

fn place_of(origin: &Origin, partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.to_owned(), topic_id: origin.topic_id(), partition }
}

/// All of a partition, read in steps.
async fn read_all(client: &Client, tp: &TopicPartition, from: i64, committed: bool) -> Vec<LogSlice> {
    let options = ReadOptions { committed, max_bytes: 600, max_wait_ms: 20_000, ..ReadOptions::default() };
    let (mut next, mut slices) = (from, Vec::new());
    loop {
        let slice = read_log(client, tp, next, options).await.unwrap();
        next = slice.batches.last().map_or(next, |batch| batch.header.next_offset());
        let end = slice.high_watermark;
        slices.push(slice);
        if next >= end {
            return slices;
        }
    }
}

fn batches(slices: &[LogSlice]) -> Vec<Bytes> {
    slices.iter().flat_map(|slice| slice.batches.iter().map(|batch| batch.bytes.clone())).collect()
}

fn aborted(slices: &[LogSlice]) -> BTreeSet<(i64, i64)> {
    slices.iter().flat_map(|slice| slice.aborted.clone()).collect()
}

#[tokio::test]
async fn a_backed_log_is_read_byte_for_byte_as_the_log_it_came_from() {
    let origin = Origin::new().await;
    let there = client(&origin.cluster, "test").await;
    for manner in [Manner::Here, Manner::Brought] {
        let shelved = origin.shelved(manner, None).await;
        let here = client(&shelved, "test").await;
        assert_eq!(here.cluster_id(), there.cluster_id());
        assert_eq!(here.metadata().topic(TOPIC).unwrap().id, origin.topic_id());
        for (partition, from) in [(0, START), (0, 1005), (0, 1025), (1, 0), (1, 995)] {
            let tp = place_of(&origin, partition);
            for committed in [false, true] {
                let (here, there) =
                    (read_all(&here, &tp, from, committed).await, read_all(&there, &tp, from, committed).await);
                assert!(!batches(&there).is_empty());
                assert_eq!(batches(&here), batches(&there), "{manner:?} {tp} from {from}");
                assert_eq!(aborted(&here), aborted(&there));
                assert_eq!(aborted(&here).len(), if committed && partition == 0 { 2 } else { 0 });
                let ends = |slices: &[LogSlice]| {
                    slices.iter().map(|s| (s.log_start_offset, s.last_stable_offset)).collect::<BTreeSet<_>>()
                };
                assert_eq!(ends(&here), ends(&there));
            }
        }
        let tps: Vec<_> = (0..3).map(|partition| place_of(&origin, partition)).collect();
        assert_eq!(here.log_bounds(&tps).await.unwrap(), there.log_bounds(&tps).await.unwrap());
        for at_ms in [0, 1_790_000_000_000, 1_790_000_000_004, 1_790_000_000_009, i64::MAX] {
            let (here, there) = (here.offsets_at(&tps[..1], at_ms, true), there.offsets_at(&tps[..1], at_ms, true));
            assert_eq!(here.await.unwrap(), there.await.unwrap(), "{at_ms}");
        }
        let mut configs = there.topic_overrides(TOPIC).await.unwrap();
        configs.insert("confluent.tier.enable".to_owned(), "true".to_owned());
        assert_eq!(here.topic_overrides(TOPIC).await.unwrap(), configs);
    }
}

#[tokio::test]
async fn a_fetch_that_waits_is_answered_when_what_it_waits_for_has_come() {
    let origin = Origin::new().await;
    let shelved = origin.shelved(Manner::Brought, None).await;
    let here = client(&shelved, "test").await;
    let patient = ReadOptions { max_wait_ms: 30_000, ..ReadOptions::default() };
    let began = Instant::now();
    let slice = read_log(&here, &place_of(&origin, 1), 500, patient).await.unwrap();
    assert_eq!(slice.batches[0].header.base_offset, 500);
    assert!(began.elapsed() < Duration::from_secs(15), "it waited for {:?}", began.elapsed());
}

/// Requests byte for byte, on runtime threads that go on meanwhile.
struct Bare {
    subject: Subject,
    origin: Origin,
    runtime: Runtime,
}

impl Bare {
    fn new(manner: Manner) -> Self {
        let runtime = Runtime::new().unwrap();
        let (origin, cluster) = runtime.block_on(async {
            let origin = Origin::new().await;
            let cluster = origin.shelved(manner, None).await;
            (origin, cluster)
        });
        // Partition 0 is led by the first node.
        let subject = Subject { address: cluster.bootstrap().remove(0), embedded: Some(Arc::new(cluster)) };
        Self { subject, origin, runtime }
    }

    fn topic(&self) -> Topic<'_> {
        Topic { subject: &self.subject, name: TOPIC.to_owned() }
    }

    fn cluster(&self) -> &Cluster {
        self.subject.embedded.as_ref().unwrap()
    }

    /// A fetch of partition 0 in any version.
    fn fetch(&self, offset: i64, max_wait_ms: i32) -> FetchRequest {
        let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let partition = partition.with_current_leader_epoch(-1).with_last_fetched_epoch(-1);
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![FetchTopic::default().with_partitions(vec![partition])])
    }

    fn asked(&self, conn: &mut Conn, version: i16, mut request: FetchRequest) -> FetchResponse {
        for topic in &mut request.topics {
            if version < 13 {
                topic.topic = topic_name(TOPIC);
            } else {
                topic.topic_id = self.origin.topic_id();
            }
        }
        conn.call(version, &request)
    }
}

#[test]
fn every_version_of_fetch_reads_the_same() {
    let bare = Bare::new(Manner::Here);
    let mut conn = bare.subject.connect();
    let stored = bare.origin.cluster.read(TOPIC, 0, 0).unwrap();
    let stored = stored.iter().map(|batch| &batch.bytes[..]).collect::<Vec<_>>().concat();
    for version in 4..=17 {
        let answer = bare.asked(&mut conn, version, bare.fetch(START, 0));
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.records.as_deref(), Some(&stored[..]), "v{version}");
        assert_eq!(data.aborted_transactions.as_ref().map(Vec::len), Some(2), "v{version}");
    }
}

#[test]
fn what_does_not_come_is_no_news_and_what_fails_is_told() {
    let bare = Bare::new(Manner::Never);
    let mut conn = bare.subject.connect();
    let first = bare.asked(&mut conn, 12, bare.fetch(START, 100).with_session_epoch(0));
    let data = &first.responses[0].partitions[0];
    assert_eq!((data.error_code, data.records.as_ref().map_or(0, Bytes::len)), (0, 0));
    assert_eq!(data.high_watermark, bare.cluster().log(TOPIC, 0).unwrap().end_offset);
    let again = bare.fetch(START, 100).with_topics(Vec::new());
    let again = again.with_session_id(first.session_id).with_session_epoch(1);
    assert!(conn.call(12, &again).responses.is_empty());
    // The session has not lost the partition over it.
    bare.cluster().back(TOPIC, 0, Shelf::log(bare.cluster(), &bare.origin, 0, Manner::Here)).unwrap();
    let answer = conn.call(12, &again.clone().with_session_epoch(2));
    assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));

    bare.cluster().back(TOPIC, 0, Shelf::log(bare.cluster(), &bare.origin, 0, Manner::Broken)).unwrap();
    let began = Instant::now();
    let answer = bare.asked(&mut conn, 12, bare.fetch(START, 30_000));
    assert_eq!(answer.responses[0].partitions[0].error_code, KAFKA_STORAGE_ERROR);
    assert!(began.elapsed() < Duration::from_secs(15), "errors do not wait");
    assert_eq!(bare.topic().fetch(START - 1).error_code, OFFSET_OUT_OF_RANGE);
}

#[test]
fn leader_epochs_are_those_of_the_log() {
    let bare = Bare::new(Manner::Here);
    let topic = bare.topic();
    let batches = bare.origin.cluster.read(TOPIC, 0, 0).unwrap();
    let end_of = |epoch: i32| {
        let later = batches.iter().find(|batch| batch.header.partition_leader_epoch > epoch);
        later.map_or(batches.last().unwrap().header.next_offset(), |batch| batch.header.base_offset)
    };
    for epoch in 0..=3 {
        let wanted = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(3);
        let asked = OffsetForLeaderTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![wanted]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]).with_replica_id((-1).into());
        let answer = bare.subject.connect().call(4, &request);
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, epoch, end_of(epoch)));
    }
    let fetch = |offset, epoch| {
        let partition = FetchPartition::default().with_fetch_offset(offset).with_last_fetched_epoch(epoch);
        topic.fetch_with(partition, 1)
    };
    let diverging = fetch(end_of(1) + 1, 1).diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (1, end_of(1)));
    assert_eq!(fetch(end_of(1), 1).diverging_epoch.epoch, -1);
    assert_eq!(topic.list_offset(0, -3).0, UNSUPPORTED_FOR_MESSAGE_FORMAT);
}

#[test]
fn whatever_would_change_a_backed_topic_is_refused() {
    let bare = Bare::new(Manner::Here);
    let (topic, mut conn) = (bare.topic(), bare.subject.connect());
    let before = (bare.cluster().log(TOPIC, 0).unwrap(), bare.cluster().topics());
    assert_eq!(topic.produce(&BatchSpec::plain("x", 1)).error, POLICY_VIOLATION);

    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(-1);
    let records = DeleteRecordsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let answer = conn.call(1, &DeleteRecordsRequest::default().with_topics(vec![records]));
    assert_eq!(answer.topics[0].partitions[0].error_code, POLICY_VIOLATION);

    let more = CreatePartitionsTopic::default().with_name(topic_name(TOPIC)).with_count(5).with_assignments(None);
    let answer = conn.call(1, &CreatePartitionsRequest::default().with_topics(vec![more]));
    assert_eq!(answer.results[0].error_code, POLICY_VIOLATION);

    let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
    let resource = resource.with_configs(vec![config]);
    let answer = conn.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, POLICY_VIOLATION);

    let by_name = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(TOPIC)]);
    assert_eq!(conn.call(5, &by_name).responses[0].error_code, POLICY_VIOLATION);
    let state = DeleteTopicState::default().with_name(None).with_topic_id(bare.origin.topic_id());
    let by_id = DeleteTopicsRequest::default().with_topics(vec![state]);
    assert_eq!(conn.call(6, &by_id).responses[0].error_code, POLICY_VIOLATION);

    assert!(bare.cluster().write_markers(TOPIC, 0, (70, 0), false).is_err());
    assert_eq!((bare.cluster().log(TOPIC, 0).unwrap(), bare.cluster().topics()), before);
}

#[test]
fn a_topic_is_backed_from_the_start_or_never() {
    let bare = Bare::new(Manner::Here);
    let log = |partition| Shelf::log(bare.cluster(), &bare.origin, partition, Manner::Here);
    bare.cluster().create_topic("plain", 1, 1, &[]).unwrap();
    assert!(bare.cluster().back("plain", 0, log(0)).is_err());
    assert!(bare.cluster().back("none", 0, log(0)).is_err());
    assert!(bare.cluster().back(TOPIC, 3, log(0)).is_err() && bare.cluster().back(TOPIC, -1, log(0)).is_err());
    let create = |name: &str, id| bare.cluster().create_backed_topic(name, id, 1, BTreeMap::new());
    assert!(create("twice", bare.origin.topic_id()).is_err());
    assert!(create("nobody", Uuid::nil()).is_err());
    assert!(create(TOPIC, Uuid::from_u128(7)).is_err());
    create("later", Uuid::from_u128(7)).unwrap();
    let leader = || bare.cluster().log("later", 0).unwrap().leader;
    assert_eq!(leader(), None, "nobody may take it for an empty log");
    // An election does not make it one either.
    bare.runtime.block_on(async {
        bare.cluster().stop_node(2).await.unwrap();
        bare.cluster().start_node(2, None).await.unwrap();
    });
    assert_eq!(leader(), None);
    bare.cluster().back("later", 0, log(1)).unwrap();
    assert_eq!(leader(), Some(1));
}

#[test]
fn who_does_not_bear_the_client_id_gets_nothing() {
    let runtime = Runtime::new().unwrap();
    let (origin, cluster) = runtime.block_on(async {
        let origin = Origin::new().await;
        let cluster = origin.shelved(Manner::Here, Some(SECRET)).await;
        (origin, cluster)
    });
    let address = cluster.bootstrap().remove(0);
    let frame = |key: i16, version: i16, client_id: Option<&str>| {
        let mut frame = [key, version, 0, 1].map(i16::to_be_bytes).concat();
        let length = client_id.map_or(-1, |id| id.len() as i16);
        frame.extend(length.to_be_bytes());
        frame.extend(client_id.unwrap_or_default().as_bytes());
        // Metadata v1: null stands for all topics. ApiVersions v0 has no body.
        frame.extend(if key == 3 { &[0xff; 4][..] } else { &[] });
        [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
    };
    let answer = |frame: &[u8]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(frame).unwrap();
        let mut length = [0; 4];
        stream.read(&mut length).unwrap()
    };
    for (key, version) in [(18, 0), (18, 99), (3, 1)] {
        for client_id in [None, Some(""), Some("kmirror.orders"), Some(&SECRET[1..])] {
            assert_eq!(answer(&frame(key, version, client_id)), 0, "api {key} v{version} as {client_id:?}");
        }
    }
    assert_eq!(answer(&frame(18, 0, Some(SECRET))), 4);
    assert_eq!(answer(&frame(3, 1, Some(SECRET))), 4);
    runtime.block_on(async {
        let here = client(&cluster, SECRET).await;
        assert_eq!(batches(&read_all(&here, &place_of(&origin, 1), 0, false).await).len(), 100);
        let stranger = ClusterSpec::new("it", cluster.bootstrap(), "kmirror".to_owned());
        let limit = Duration::from_secs(3);
        let refused = tokio::time::timeout(limit, Client::connect(stranger)).await;
        assert!(!matches!(refused, Ok(Ok(_))), "a stranger has connected");
    });
}

/// A pair whose source is backed; only the mirror knows the client id.
fn backed_pair(name: &str, more: &str) -> (Origin, Pair) {
    let runtime = Runtime::new().unwrap();
    let (origin, source, target) = runtime.block_on(async {
        let origin = Origin::new().await;
        let source = origin.shelved(Manner::Brought, Some(SECRET)).await;
        let options = ClusterOptions { nodes: 2, cluster_id: format!("{name}-target"), ..ClusterOptions::default() };
        let target = Cluster::start(ClusterOptions { auto_create_topics: false, ..options }).await.unwrap();
        (origin, Arc::new(source), Arc::new(target))
    });
    let mirror = Mirror::between(name, &source.bootstrap().join(","), &target.bootstrap().join(","), &[TOPIC], more);
    let config = std::fs::read_to_string(&mirror.config).unwrap();
    let config = config.replacen("  from: { ", &format!("  from: {{ client_id: \"{SECRET}\", "), 1);
    assert!(config.contains(SECRET));
    std::fs::write(&mirror.config, config).unwrap();
    let topic = TOPIC.to_owned();
    (origin, Pair { source, target, mirror, topic, _runtime: runtime })
}

#[test]
fn a_mirror_has_a_backed_cluster_for_its_source() {
    let (origin, mut pair) = backed_pair("backed-source", super::group_sync::GROUPS);
    let committed = |offset, metadata: &str| GroupOffset { offset, leader_epoch: 2, metadata: metadata.to_owned() };
    pair.source.plant_offset("billing", TOPIC, 0, committed(1045, "from the archive"));
    pair.source.plant_offset("billing", TOPIC, 1, committed(1000, ""));
    pair.mirror.start();
    let expected = [0, 1].map(|partition| origin.cluster.records(TOPIC, partition, 0).unwrap());
    for (partition, expected) in (0..).zip(&expected) {
        assert!(expected.len() > 30);
        pair.await_values(partition, &expected.iter().map(value).collect::<Vec<_>>());
    }
    pair.mirror.await_caught_up(3);
    for (partition, expected) in (0..).zip(&expected) {
        let there = pair.target.records(TOPIC, partition, 0).unwrap();
        for (source, target) in expected.iter().zip(&there).step_by(if partition == 0 { 1 } else { 97 }) {
            assert_eq!((&source.key, source.timestamp), (&target.key, target.timestamp));
            let found = pair.mirror.translate(TOPIC, partition, source.offset, &[]);
            assert_eq!(found, (target.offset, None));
            let back = pair.mirror.translate(TOPIC, partition, target.offset, &["--reverse"]);
            assert_eq!(back, (source.offset, None));
        }
    }
    let control = |at| ("control", at, at + 1);
    let known = [
        ("start", 0, START),
        ("compaction", 1012, 1014),
        // The end of a batch, and what is missing up to the next.
        ("compaction", 1019, 1040),
        control(1053),
        ("aborted", 1054, 1057),
        control(1057),
        ("aborted", 1058, 1061),
        control(1061),
        control(1065),
    ];
    let known = known.map(|(reason, from, to)| (reason.to_owned(), from, to));
    assert_eq!(gaps(&pair.mirror.row(TOPIC, 0).unwrap()), known);
    let (at, _) = pair.mirror.translate(TOPIC, 0, 1045, &[]);
    super::group_sync::await_offset(&pair, "billing", at);
    let there = pair.target.group_offsets("billing");
    assert_eq!(there[&(TOPIC.to_owned(), 0)].metadata, "from the archive");
    assert_eq!(there[&(TOPIC.to_owned(), 1)].offset, 1000);
    pair.mirror.stop();
}
