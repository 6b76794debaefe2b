//! Requests and answers against the bytes that Kafka's own code writes (`proto-tests/goldens/wire.txt`). A listener on
//! loopback answers what equals a golden request, byte for byte, with a golden answer; any other request fails the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::frame::{OutFrame, split_response};
use super::*;
use crate::batch::goldens::golden;
use crate::groups::{Committed, GroupType};
use crate::plan::fleet::{Answer, Ask, Joined};
use crate::plan::{Acl, AclNumbers, AclResource, Acls, Grant};

const WIRE: &str = include_str!("../../proto-tests/goldens/wire.txt");
const BATCHES: &str = include_str!("../../proto-tests/goldens/batches.txt");
const CLIENT_ID: &str = "kmirror-golden";
const CORRELATION_ID: i32 = 7;
/// Size, api and version stand in front of it in a request, the size alone in a response.
const CORRELATION_ID_AT: usize = 8;
const RESPONSE_CORRELATION_ID_AT: usize = 4;
const TXN_ID: &str = "kmirror.golden.3";

/// A golden frame, size included.
pub(super) fn wire(name: &str) -> Bytes {
    golden(WIRE, name).into()
}

/// The body of a golden response.
pub(super) fn body(name: &str, flexible: bool) -> Bytes {
    let (correlation_id, body) = split_response(wire(name).slice(4..), flexible).unwrap();
    assert_eq!(correlation_id, CORRELATION_ID);
    body
}

/// A golden batch.
pub(super) fn batch(name: &str) -> Vec<u8> {
    golden(BATCHES, name)
}

/// A request as the goldens have it.
pub(super) fn on_the_wire(frame: OutFrame) -> Bytes {
    let mut chunks = frame.into_wire(CORRELATION_ID, CLIENT_ID);
    chunks.copy_to_bytes(chunks.remaining())
}

/// The ids of the two topics in the goldens.
pub(super) fn topic_id(topic: &str) -> Uuid {
    Uuid::from_u128(match topic {
        "alpha" => 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        _ => 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20,
    })
}

fn alpha() -> TopicPartition {
    TopicPartition { topic: "alpha".to_owned(), topic_id: topic_id("alpha"), partition: 0 }
}

/// The frame with some bytes of it replaced, and its size set right.
fn replaced(frame: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = frame;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                out.extend_from_slice(to);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    let size = u32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&size.to_be_bytes());
    out
}

/// Request → answer.
type Answers = Vec<(Vec<u8>, Vec<u8>)>;

/// Those of these names (`<name>_request`, `<name>_response`), and of a connection's start.
fn answers(names: &[&str], port: u16) -> Answers {
    let pair = |name: &str| (format!("{name}_request"), format!("{name}_response"));
    let mut pairs: Vec<(String, String)> = names.iter().map(|name| pair(name)).collect();
    pairs.push(("metadata_none_request".to_owned(), "metadata_response".to_owned()));
    pairs.push(("metadata_named_request".to_owned(), "metadata_response".to_owned()));
    pairs.push(("metadata_all_request".to_owned(), "metadata_response".to_owned()));
    pairs.push(("fetch_log_request".to_owned(), "fetch_response_v12".to_owned()));
    let (golden_port, port) = (60_001u32.to_be_bytes(), u32::from(port).to_be_bytes());
    let mut answers: Answers = pairs
        .iter()
        .map(|(request, response)| (wire(request).to_vec(), replaced(&wire(response), &golden_port, &port)))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let compact = [&[u8::try_from(version.len() + 1).unwrap()], version.as_bytes()].concat();
    let first = replaced(&wire("api_versions_request"), b"\x08version", &compact);
    answers.push((first, wire("api_versions_response").to_vec()));
    answers
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, unknown: mpsc::UnboundedSender<Vec<u8>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&answers), unknown.clone()));
    }
}

async fn answer(mut stream: TcpStream, answers: Arc<Answers>, unknown: mpsc::UnboundedSender<Vec<u8>>) {
    let mut correlation_id = 0;
    while let Ok(size) = stream.read_u32().await {
        let mut frame = size.to_be_bytes().to_vec();
        frame.resize(4 + size as usize, 0);
        stream.read_exact(&mut frame[4..]).await.unwrap();
        // Correlation ids count up from 0; the goldens have one for all.
        let id = &mut frame[CORRELATION_ID_AT..CORRELATION_ID_AT + 4];
        assert_eq!(id, i32::to_be_bytes(correlation_id));
        id.copy_from_slice(&CORRELATION_ID.to_be_bytes());
        let Some((_, response)) = answers.iter().find(|(request, _)| *request == frame) else {
            // The test fails by what it finds here.
            let _ = unknown.send(frame);
            return;
        };
        let mut response = response.clone();
        response[RESPONSE_CORRELATION_ID_AT..RESPONSE_CORRELATION_ID_AT + 4]
            .copy_from_slice(&correlation_id.to_be_bytes());
        stream.write_all(&response).await.unwrap();
        correlation_id += 1;
    }
}

/// Does `act` with a cluster that knows the goldens of these names.
async fn play<T>(names: &[&str], act: impl AsyncFnOnce(Cluster) -> Result<T, ClientError>) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (unknown, mut strangers) = mpsc::unbounded_channel();
    let serving = tokio::spawn(serve(listener, Arc::new(answers(names, port)), unknown));
    let spec = ClusterSpec::new("golden", vec![format!("127.0.0.1:{port}")], CLIENT_ID.to_owned());
    let acting = async {
        let cluster = Cluster::connect(spec).await?;
        cluster.refresh(Topics::Named(&["alpha", "beta"])).await?;
        act(cluster).await
    };
    let outcome = tokio::select! {
        outcome = acting => outcome.unwrap(),
        Some(frame) = strangers.recv() => panic!("no golden request: {}", Bytes::from(frame).escape_ascii()),
    };
    serving.abort();
    outcome
}

#[tokio::test]
async fn metadata() {
    let cluster = play(&[], async |cluster| Ok(cluster)).await;
    assert_eq!(cluster.cluster_id(), "golden-cluster-id-0123");
    let metadata = cluster.metadata();
    assert_eq!((metadata.controller, metadata.brokers.len(), metadata.topics.len()), (Some(1), 1, 2));
    let partition = |leader, leader_epoch, (replicas, in_sync), error| PartitionMeta {
        leader,
        leader_epoch,
        replicas,
        in_sync,
        error,
    };
    let alpha = TopicMeta {
        id: topic_id("alpha"),
        name: "alpha".to_owned(),
        internal: false,
        error: 0,
        partitions: vec![partition(Some(1), 5, (3, 2), 0), partition(None, 6, (1, 0), 5)],
    };
    assert_eq!(metadata.topic("alpha"), Some(&alpha));
    let beta = metadata.topic("beta").unwrap();
    assert_eq!((beta.internal, beta.error, beta.id), (true, 29, topic_id("beta")));
    play(&[], async |cluster| cluster.refresh(Topics::All).await).await;
}

/// Where the count of brokers stands in the golden metadata: behind size, correlation id, tags and throttle time.
const BROKERS_AT: usize = 4 + 4 + 1 + 4;

#[tokio::test]
async fn a_count_that_no_response_holds_is_refused_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut answers = answers(&[], port);
    for (_, response) in answers.iter_mut().filter(|(request, _)| *request == wire("metadata_none_request")) {
        response.splice(BROKERS_AT..=BROKERS_AT, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        let size = u32::try_from(response.len() - 4).unwrap();
        response[..4].copy_from_slice(&size.to_be_bytes());
    }
    let (unknown, _strangers) = mpsc::unbounded_channel();
    let serving = tokio::spawn(serve(listener, Arc::new(answers), unknown));
    let spec = ClusterSpec::new("golden", vec![format!("127.0.0.1:{port}")], CLIENT_ID.to_owned());
    let error = Cluster::connect(spec).await.unwrap_err();
    let expected = ClientError::Protocol {
        cluster: "golden".to_owned(),
        address: format!("127.0.0.1:{port}"),
        api: "Metadata",
        detail: "brokers: length beyond the response at byte 9".to_owned(),
    };
    assert_eq!(error, expected);
    serving.abort();
}

#[tokio::test]
async fn offsets() {
    let names = ["list_offsets_start", "list_offsets_end", "list_offsets_time", "delete_records"];
    let act = async |cluster: Cluster| {
        let start = cluster.log_start(&alpha()).await?;
        let end = cluster.log_ends(&[alpha()], true).await?[&alpha()];
        let at = cluster.offsets_at(&[alpha()], 1_700_000_000_000, false).await?[&alpha()];
        cluster.delete_records_before(&alpha(), 1 << 40).await?;
        Ok((start, end, at))
    };
    assert_eq!(play(&names, act).await, (10, 190, 104));
}

#[tokio::test]
async fn a_log_is_read() {
    let act = async |cluster: Cluster| {
        let options = ReadOptions { committed: true, ..ReadOptions::default() };
        Ok(read_log(&cluster, &alpha(), 100, options).await.unwrap())
    };
    let slice = play(&[], act).await;
    assert_eq!((slice.high_watermark, slice.last_stable_offset, slice.log_start_offset), (200, 190, 10));
    assert_eq!(slice.aborted, [(123, 104), (1 << 33, 150)]);
    let batches: Vec<&[u8]> = slice.batches.iter().map(|batch| &batch.bytes[..]).collect();
    assert_eq!(batches, [batch("plain_none"), batch("abort")]);
}

#[tokio::test]
async fn transactions() {
    let names = ["find_coordinator", "init_producer_id", "init_producer_id_current", "add_partitions", "end_txn"];
    let act = async |cluster: Cluster| {
        let first = cluster.init_producer_id(TXN_ID, 60_000, None).await?;
        let current = Some((first.producer_id, first.producer_epoch));
        let second = cluster.init_producer_id(TXN_ID, 60_000, current).await?;
        let Producer { producer_id, producer_epoch } = second;
        let partitions = [("alpha".to_owned(), 0), ("alpha".to_owned(), 2), ("beta".to_owned(), 4)];
        cluster.add_partitions_to_txn(TXN_ID, producer_id, producer_epoch, &partitions).await?;
        cluster.end_txn(TXN_ID, producer_id, producer_epoch, false).await?;
        Ok((first, second))
    };
    let producer = |producer_epoch| Producer { producer_id: 4000, producer_epoch };
    assert_eq!(play(&names, act).await, (producer(7), producer(8)));
}

#[tokio::test]
async fn producers_and_markers() {
    let act = async |cluster: Cluster| {
        cluster.write_txn_markers(Producer { producer_id: 4000, producer_epoch: 8 }, 0, &[alpha()]).await?;
        cluster.describe_producers(&alpha()).await
    };
    let expected = ProducerView {
        producer_id: 4000,
        producer_epoch: 8,
        last_sequence: i32::MAX,
        last_timestamp: 1_700_000_000_000,
        coordinator_epoch: 3,
        transaction_start: -1,
    };
    assert_eq!(play(&["write_txn_markers", "describe_producers"], act).await, [expected]);
}

#[tokio::test]
async fn topics() {
    let names = ["create_topics", "create_partitions", "metadata_alpha"];
    let configs = [("cleanup.policy", "compact"), ("compression.type", "producer")];
    let topic = NewTopic {
        name: "alpha".to_owned(),
        partitions: 2,
        replication_factor: -1,
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    let act = async |cluster: Cluster| {
        cluster.create_topic_if_absent(&topic).await?;
        cluster.create_partitions("alpha", 12).await
    };
    play(&names, act).await;
}

#[tokio::test]
async fn configs() {
    let act =
        async |cluster: Cluster| Ok((cluster.topic_configs("alpha").await?, cluster.topic_overrides("alpha").await?));
    let (all, own) = play(&["describe_configs"], act).await;
    let entry = |name: &str, value: Option<&str>, own| ConfigEntry {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        own,
    };
    let expected = [
        entry("cleanup.policy", Some("compact"), true),
        entry("retention.ms", Some("604800000"), false),
        entry("secret", None, true),
        entry("unset", None, false),
    ];
    assert_eq!(all, expected);
    assert_eq!(own, BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]));
    let act = async |cluster: Cluster| cluster.own_configs_of_topics(&["alpha"]).await;
    let expected = [entry("cleanup.policy", Some("compact"), true), entry("secret", None, true)];
    assert_eq!(play(&["describe_configs"], act).await["alpha"].as_ref().unwrap()[..], expected);
}

#[tokio::test]
async fn changes() {
    let wanted = [("retention.ms", Some("5")), ("cleanup.policy", None)];
    let act = async |cluster: Cluster| {
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        cluster.alter_topic_configs("alpha", &wanted.into()).await?;
        cluster.deny_writes(&["alpha"]).await?;
        let numbers = AclNumbers { resource: 2, pattern: 3, operation: 4, permission: 2 };
        assert_eq!(cluster.create_acls(&[numbers.binding("alpha", "User:*", "*")]).await?, []);
        cluster.allow_writes(&["alpha"]).await
    };
    assert_eq!(play(&["alter_configs", "create_acls", "delete_acls"], act).await, 1);
    let act = async |cluster: Cluster| {
        let numbers = AclNumbers { resource: 2, pattern: 3, operation: 4, permission: 2 };
        cluster.delete_acls(&[numbers.binding("alpha", "User:*", "*")]).await
    };
    assert_eq!(play(&["delete_acls"], act).await, []);
    let act = async |cluster: Cluster| {
        cluster.delete_topic("alpha", Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)).await
    };
    assert_eq!(play(&["delete_topics"], act).await, ());
}

#[tokio::test]
async fn acls_are_listed() {
    let act = async |cluster: Cluster| cluster.acls().await;
    let acl = |resource| Acl {
        resource,
        name: "al".to_owned(),
        is_prefix: true,
        grant: Grant { principal: "User:alice".to_owned(), host: "*".to_owned(), operation: 3, is_denied: false },
    };
    let both = [AclResource::Topic, AclResource::Group].map(acl).to_vec();
    assert_eq!(play(&["describe_topic_acls", "describe_group_acls"], act).await, Acls::Listed(both));
}

#[tokio::test]
async fn acls_of_every_kind_are_listed() {
    let act = async |cluster: Cluster| cluster.acl_bindings().await;
    let numbers = |resource, pattern, operation, permission| AclNumbers { resource, pattern, operation, permission };
    let expected = vec![
        numbers(4, 3, 7, 2).binding("kafka-cluster", "User:bob", "10.0.0.1"),
        numbers(5, 4, 4, 3).binding("txn-", "User:alice", "*"),
    ];
    assert_eq!(play(&["describe_all_acls"], act).await, Some(expected));
}

#[tokio::test]
async fn quotas_and_users_are_listed() {
    let act = async |cluster: Cluster| Ok((cluster.client_quotas().await?, cluster.scram_users().await?));
    let (quotas, users) = play(&["describe_quotas", "describe_scram"], act).await;
    let entity = [("user", Some("alice")), ("client-id", None)];
    let entity = entity.map(|(kind, name)| (kind.to_owned(), name.map(str::to_owned))).to_vec();
    assert_eq!(quotas, [ClientQuota { entity, values: [("producer_byte_rate".to_owned(), 1024.5)].into() }]);
    assert_eq!(users, [ScramUser { user: "alice".to_owned(), mechanisms: [(1, 4096), (2, 8192)].into() }]);
}

#[tokio::test]
async fn quotas_are_set() {
    let quota = |user: Option<&str>, value| ClientQuota {
        entity: vec![("user".to_owned(), user.map(str::to_owned))],
        values: [("producer_byte_rate".to_owned(), value)].into(),
    };
    let wanted = [quota(Some("alice"), 1024.5), quota(None, 7.0)].map(QuotaChange::from);
    let act = async |cluster: Cluster| cluster.change_client_quotas(&wanted).await;
    let refused = play(&["alter_quotas"], act).await;
    assert_eq!((refused.len(), &refused[0].0, refused[0].1.code()), (1, &wanted[1], Some(42)));
    assert!(refused[0].1.to_string().contains("too low"), "{}", refused[0].1);
}

/// What a wait for the two groups' coordinator may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

fn both() -> [String; 2] {
    ["audit".to_owned(), "billing".to_owned()]
}

#[tokio::test]
async fn groups_are_listed_and_described() {
    let names = ["find_group_coordinators", "list_groups", "describe_groups", "consumer_group_describe"];
    let act = async |cluster: Cluster| {
        let listed = cluster.list_groups().await?;
        let described = cluster.describe_groups(&both(), PATIENCE).await;
        Ok((listed, described))
    };
    let (listed, described) = play(&names, act).await;
    let group = |id: &str, protocol_type: &str, state, kind| ListedGroup {
        id: id.to_owned(),
        protocol_type: protocol_type.to_owned(),
        state: Some(state),
        kind,
    };
    let expected = [
        group("audit", "", GroupState::Empty, GroupType::Classic),
        group("billing", "consumer", GroupState::Stable, GroupType::Consumer),
        group("tasks", "share", GroupState::Stable, GroupType::Share),
    ];
    assert_eq!(listed, expected);
    let view = |state, kind| Ok(GroupView { state, members: 1, kind: Some(kind) });
    assert_eq!(described["audit"], view(GroupState::Stable, GroupType::Classic));
    assert_eq!(described["billing"], view(GroupState::Reconciling, GroupType::Consumer));
}

#[tokio::test]
async fn groups_offsets() {
    let names = ["find_group_coordinators", "offset_fetch", "offset_commit", "offset_delete"];
    let at = |partition| ("alpha".to_owned(), partition);
    let noted = Committed { offset: 1 << 40, leader_epoch: 5, metadata: "note".to_owned() };
    let plain = Committed { offset: 7, leader_epoch: -1, metadata: String::new() };
    let to_commit =
        BTreeMap::from([("audit".to_owned(), GroupOffsets::from([(at(0), noted.clone()), (at(1), plain)]))]);
    let to_delete = BTreeMap::from([("audit".to_owned(), [at(0), at(1)].into())]);
    let act = async |cluster: Cluster| {
        let fetched = cluster.fetch_group_offsets(&both(), true, PATIENCE).await;
        let committed = cluster.commit_group_offsets(to_commit, PATIENCE).await;
        let deleted = cluster.delete_group_offsets(to_delete, PATIENCE).await;
        Ok((fetched, committed, deleted))
    };
    let (fetched, committed, deleted) = play(&names, act).await;
    let audit = fetched["audit"].as_ref().unwrap();
    assert_eq!((audit.offsets.len(), audit.offsets.get("alpha", 0)), (1, Some(&noted)));
    assert_eq!((audit.failed.len(), audit.failed[&at(1)].code()), (1, Some(88)));
    assert_eq!(fetched["billing"].as_ref().unwrap_err().code(), Some(30));
    for (answers, code) in [(&committed["audit"], 25), (&deleted["audit"], 86)] {
        let answers = answers.as_ref().unwrap();
        assert_eq!(answers[&at(0)], Ok(()));
        let error = answers[&at(1)].as_ref().unwrap_err();
        assert!(error.code() == Some(code) && error.is_of_live_group(), "{error}");
    }
}

#[tokio::test]
async fn members_of_a_group() {
    let names = ["find_fleet_coordinator", "join_group", "sync_group", "heartbeat", "leave_group"];
    let seat = GroupSeat {
        group: "fleet".to_owned(),
        instance_id: Some("1".to_owned()),
        protocol_type: "kmirror",
        protocol: "shards-1",
        session_timeout: std::time::Duration::from_secs(10),
        rebalance_timeout: std::time::Duration::from_secs(20),
    };
    let one = || "one".to_owned();
    let act = async |cluster: Cluster| {
        let mut answers = Vec::new();
        for ask in [
            Ask::Join { member: one() },
            Ask::Sync { member: one(), generation: 7, assigns: true },
            Ask::Heartbeat { member: one(), generation: 7 },
            Ask::Leave { member: one() },
        ] {
            let assignments = vec![(one(), vec![4]), ("two".to_owned(), Vec::new())];
            answers.push(cluster.ask_as_member(&seat, &ask, &[1, 2], assignments).await?);
        }
        Ok(answers)
    };
    let answers = play(&names, act).await;
    let joined = Joined {
        member: one(),
        generation: 7,
        leader: one(),
        members: vec![(one(), vec![1, 2]), ("two".to_owned(), vec![3])],
        skip_assignment: false,
    };
    let expected = [Answer::Joined(joined), Answer::Synced(vec![4]), Answer::Refused(27, String::new()), Answer::Done];
    assert_eq!(answers, expected);
}
