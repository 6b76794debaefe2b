//! Older processes, and partitions that cannot be fenced: told apart, and either fenced by another way or reported.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::{self, Stamp};
use kmirror::broker::{Action, Cluster, Intercept, RequestKind};
use kmirror::client::{self, AppendOutcome, ClientError, ClusterSpec, TopicPartition, Topics};
use kmirror::mirror::ControlState;
use kmirror::ops::MirrorState;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::super::{Pair, numbered};
use super::steps::cut_short;
use super::{ends, partition};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// A produce request that the target's broker holds.
pub(super) struct Held {
    pub(super) hook: Intercept,
    pub(super) release: Arc<Notify>,
}

impl Pair {
    /// The next produce request to the data topic waits at the broker until it is released.
    pub(super) fn hold_produce(&self) -> Held {
        let release = Arc::new(Notify::new());
        let id = self.target.topics().into_iter().find(|t| t.name == self.topic).expect("it is mirrored").id;
        let until = release.clone();
        let hook = self.target.intercept(ApiKey::Produce, None, move |context| match context.request {
            RequestKind::Produce(request) if request.topic_data.iter().any(|topic| topic.topic_id == id) => {
                Action::HoldUntil(until.clone())
            }
            _ => Action::Pass,
        });
        Held { hook, release }
    }

    /// Waits until the mirror has noted this end of the source.
    pub(super) fn await_seen(&self, end: i64) {
        wait_until("the source's end on record", LIMIT, || {
            let seen: Vec<i64> = self.state().partitions().map(|p| p.seen.end).collect();
            if seen.contains(&end) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    pub(super) fn client(&self, cluster: &Cluster) -> (Runtime, client::Cluster) {
        let runtime = Runtime::new().unwrap();
        let spec = ClusterSpec::new("test", cluster.bootstrap(), "test".to_owned());
        let client = runtime.block_on(client::Cluster::connect(spec)).unwrap();
        (runtime, client)
    }

    fn state(&self) -> MirrorState {
        let (runtime, client) = self.client(&self.target);
        runtime.block_on(MirrorState::read(&self.mirror.name, &client)).unwrap().expect("it has run")
    }

    pub(super) fn control(&self) -> ControlState {
        self.state().control
    }

    /// Translates all records of both sides up to a source offset.
    pub(super) fn assert_mapped_until(&self, to: i64) {
        for offset in 0..to {
            assert_eq!(self.mirror.translate(&self.topic, 0, offset, &[]), (offset, None));
        }
        assert_eq!(self.mirror.translate(&self.topic, 0, to + 1, &[]).1.as_deref(), Some("not_mirrored_yet"));
    }

    /// Appends one record as any producer would.
    pub(super) async fn produce(&self, client: &client::Cluster, partition: i32) -> Result<AppendOutcome, ClientError> {
        self.produce_as(client, partition, Stamp::NONE).await
    }

    async fn produce_as(
        &self,
        client: &client::Cluster,
        partition: i32,
        stamp: Stamp,
    ) -> Result<AppendOutcome, ClientError> {
        let metadata = client.refresh(Topics::Named(&[self.topic.as_str()])).await?;
        let topic_id = metadata.topic(&self.topic).map(|topic| topic.id).unwrap_or_default();
        let tp = TopicPartition { topic: self.topic.clone(), topic_id, partition };
        let value = bytes::Bytes::from_static(b"late");
        let batch = batch::encode_values(vec![value], 1_790_000_000_000, stamp).unwrap();
        client::append_batch(client, &tp, batch).await
    }
}

/// A process that sleeps through the promotion, with a batch under way: the broker itself refuses it.
#[test]
fn a_sleeper_with_a_batch_under_way_is_refused() {
    let mut pair = Pair::mirrored("zombie", "");
    let held = pair.hold_produce();
    pair.write(0, 10, 20);
    wait_until("the batch to be under way", LIMIT, || if held.hook.hits() > 0 { Ok(()) } else { Err(String::new()) });
    pair.mirror.process().signal("STOP");
    let writer = pair.target.producers(&pair.topic, 0).unwrap().into_iter().find(|p| p.last_sequence >= 0).unwrap();
    let report = pair.fail_over(&["--unplanned"], 0);
    assert_eq!(ends(partition(&report, 0)), (10, 10, 10), "{report}");
    // Its own batch, held until now, and one just like it.
    pair.target.remove_intercept(&held.hook);
    held.release.notify_waiters();
    held.release.notify_one();
    let stamp = Stamp { producer_id: writer.producer_id, producer_epoch: writer.epoch, base_sequence: 10 };
    let (runtime, client) = pair.client(&pair.target);
    let refused = runtime.block_on(pair.produce_as(&client, 0, stamp)).unwrap_err();
    assert_eq!(refused.code(), Some(47), "{refused}");
    pair.write(0, 20, 30);
    pair.mirror.process().signal("CONT");
    assert_eq!(pair.mirror.await_end(), 0, "{}", pair.mirror.log());
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
}

/// A start that has read control before the announcement, and takes its shards after the fence: they are its own by then, and
/// its watch of the control partition hangs. It must ask once more before it writes.
#[test]
fn a_start_that_a_promotion_has_overtaken_writes_nothing() {
    let mut pair = Pair::mirrored("overtaken", "");
    pair.mirror.kill();
    pair.write(0, 10, 20);
    let release = Arc::new(Notify::new());
    let watch = pair.target.intercept(ApiKey::Fetch, None, move |context| match context.request {
        // The watch alone waits so long; control is read by the topic's name.
        RequestKind::Fetch(request)
            if request.max_wait_ms >= 500
                && request.topics.iter().any(|t| {
                    t.topic.as_str() == "__kmirror.overtaken" && t.partitions.iter().any(|p| p.partition == 16)
                }) =>
        {
            Action::HoldUntil(Arc::new(Notify::new()))
        }
        _ => Action::Pass,
    });
    // On one connection requests wait for each other: the first to each node holds them all.
    let held = Arc::new(Mutex::new((true, BTreeSet::<(i32, u64)>::new())));
    let (until, holding) = (release.clone(), held.clone());
    let taking = pair.target.intercept(ApiKey::InitProducerId, None, move |context| {
        let (collecting, connections) = &mut *holding.lock().unwrap();
        let connection = (context.node, context.connection);
        if *collecting {
            connections.insert(connection);
        }
        if connections.contains(&connection) { Action::HoldUntil(until.clone()) } else { Action::Pass }
    });
    pair.mirror.start();
    wait_until("the watch to hang", LIMIT, || if watch.hits() > 0 { Ok(()) } else { Err(String::new()) });
    wait_until("both nodes to be asked for shards", LIMIT, || {
        let nodes: BTreeSet<i32> = held.lock().unwrap().1.iter().map(|(node, _)| *node).collect();
        if nodes.len() == 2 { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    held.lock().unwrap().0 = false;
    let report = pair.fail_over(&["--unplanned"], 0);
    assert_eq!(ends(partition(&report, 0)).0, 10, "{report}");
    pair.target.remove_intercept(&taking);
    release.notify_waiters();
    assert_eq!(pair.mirror.await_end(), 0, "{}", pair.mirror.log());
    assert!(pair.mirror.log().contains("being promoted"), "{}", pair.mirror.log());
    pair.target.remove_intercept(&watch);
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
}

/// The coordinator has forgotten the transactional ids: Init gives other producer ids, and fences nobody.
fn forgotten(topic: &str) -> (Pair, Stamp) {
    let mut pair = Pair::mirrored(topic, "");
    pair.mirror.process().signal("STOP");
    for shard in 0..16 {
        wait_until("the id to be idle", LIMIT, || {
            let gone = pair.target.expire_transactional_id(&format!("kmirror.{topic}.1.{shard}"));
            if gone { Ok(()) } else { Err(shard.to_string()) }
        });
    }
    let writer = pair.target.producers(topic, 0).unwrap().into_iter().find(|p| p.last_sequence >= 0).unwrap();
    (pair, Stamp { producer_id: writer.producer_id, producer_epoch: writer.epoch, base_sequence: 10 })
}

#[test]
fn a_forgotten_owner_is_fenced_without_a_coordinator() {
    let (mut pair, stamp) = forgotten("forgotten-promoted");
    let report = pair.fail_over(&["--unplanned"], 0);
    assert_eq!(partition(&report, 0)["state"].as_str(), Some("fenced"), "{report}");
    let (runtime, client) = pair.client(&pair.target);
    let refused = runtime.block_on(pair.produce_as(&client, 0, stamp)).unwrap_err();
    assert_eq!(refused.code(), Some(47), "{refused}");
    pair.write(0, 10, 20);
    pair.mirror.process().signal("CONT");
    pair.mirror.await_end();
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
}

/// Where that is not allowed it says so; and once it is, the next call fences what was left.
fn left_unfenced(topic: &str, writes_late: bool) -> Value {
    let (mut pair, stamp) = forgotten(topic);
    pair.mirror.process().kill();
    let hook = pair
        .target
        .intercept(ApiKey::WriteTxnMarkers, None, |_| Action::Error(ResponseError::ClusterAuthorizationFailed));
    let report = pair.fail_over(&["--unplanned"], 3);
    assert_eq!((report["unfenced"][0]["reason"].as_str(), report["done_at"].is_string()), (Some("forgotten"), true));
    assert_eq!(partition(&report, 0)["state"].as_str(), Some("unfenced"), "{report}");
    let (runtime, client) = pair.client(&pair.target);
    let mut late = stamp;
    if writes_late {
        // The old owner is not refused, and so the report has said.
        runtime.block_on(pair.produce_as(&client, 0, late)).unwrap();
        late.base_sequence += 1;
    }
    pair.target.remove_intercept(&hook);
    let report = pair.fail_over(&["--unplanned"], if writes_late { 3 } else { 0 });
    let refused = runtime.block_on(pair.produce_as(&client, 0, late)).unwrap_err();
    assert_eq!(refused.code(), Some(47), "{refused}");
    report
}

#[test]
fn a_forgotten_owner_that_cannot_be_fenced_is_reported_until_it_is() {
    let report = left_unfenced("forgotten-left", false);
    assert_eq!(report["unfenced"], Value::Array(vec![]), "{report}");
    assert_eq!((partition(&report, 0)["state"].as_str(), ends(partition(&report, 0)).0), (Some("fenced"), 10));
}

/// A call that has taken the shards over, under ids that fence nobody, is cut short before it has said whom it could not fence. The next
/// call finds ids that are its own, and must not take that for a fence.
#[test]
fn a_forgotten_owner_is_reported_though_the_first_call_was_cut_short() {
    let (mut pair, stamp) = forgotten("forgotten-cut");
    pair.mirror.process().kill();
    let hook = pair
        .target
        .intercept(ApiKey::WriteTxnMarkers, None, |_| Action::Error(ResponseError::ClusterAuthorizationFailed));
    cut_short(&pair, "half");
    let report = pair.fail_over(&["--unplanned"], 3);
    assert_eq!(report["unfenced"][0]["reason"].as_str(), Some("forgotten"), "{report}");
    pair.target.remove_intercept(&hook);
    let report = pair.fail_over(&["--unplanned"], 0);
    assert_eq!(partition(&report, 0)["state"].as_str(), Some("fenced"), "{report}");
    let (runtime, client) = pair.client(&pair.target);
    let refused = runtime.block_on(pair.produce_as(&client, 0, stamp)).unwrap_err();
    assert_eq!(refused.code(), Some(47), "{refused}");
}

/// What it has written meanwhile is in no map: nobody guesses what it is.
#[test]
fn what_an_unfenced_owner_writes_leaves_the_end_in_doubt() {
    let report = left_unfenced("forgotten-late", true);
    assert_eq!(report["unfenced"][0]["reason"].as_str(), Some("in_doubt"), "{report}");
    assert_eq!(partition(&report, 0)["state"].as_str(), Some("in_doubt"), "{report}");
}

/// One topic deleted, one made again, one partition without a leader, and the others: told apart, and nobody waits.
#[test]
fn what_cannot_be_fenced_is_told_apart_and_the_others_are_fenced() {
    let mut pair = Pair::matching("apart", "apart.*", 2, "");
    for topic in ["apart", "apart-deleted", "apart-again"] {
        pair.source.create_topic(topic, 2, 1, &[]).unwrap();
        for partition in 0..2 {
            super::super::append(&pair.source, topic, partition, "", 0, 10);
        }
    }
    pair.mirror.start();
    pair.mirror.await_caught_up(6);
    pair.mirror.kill();
    assert!(pair.target.delete_topic("apart-deleted") && pair.target.delete_topic("apart-again"));
    pair.target.create_topic("apart-again", 2, 1, &[]).unwrap();
    pair.target.set_leaderless("apart", 1).unwrap();
    let report = pair.fail_over(&["--unplanned"], 3);
    let row = |report: &Value, topic: &str, partition: i32| {
        let rows = report["partitions"].as_array().unwrap().clone();
        rows.into_iter().find(|p| p["topic"] == topic && p["partition"] == partition).unwrap()
    };
    let reasons: Vec<(String, i64, String)> = report["unfenced"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| {
            let text = |field: &str| u[field].as_str().unwrap().to_owned();
            (text("topic"), u["partition"].as_i64().unwrap(), text("reason"))
        })
        .collect();
    let expected = [
        ("apart", 1, "leaderless"),
        ("apart-again", 0, "recreated"),
        ("apart-again", 1, "recreated"),
        ("apart-deleted", 0, "missing"),
        ("apart-deleted", 1, "missing"),
    ];
    assert_eq!(reasons, expected.map(|(t, p, r)| (t.to_owned(), p, r.to_owned())), "{report}");
    assert_eq!(
        (row(&report, "apart", 0)["state"].as_str(), ends(&row(&report, "apart", 0))),
        (Some("fenced"), (10, 10, 0))
    );
    assert_eq!(row(&report, "apart", 1)["state"].as_str(), Some("unfenced"));
    // It has a leader again: the next call fences it, and leaves the others as they are.
    pair.target.move_leader("apart", 1, 1).unwrap();
    let before = pair.target.log("apart", 0).unwrap().end_offset;
    let report = pair.fail_over(&[], 3);
    assert_eq!(report["unfenced"].as_array().map(Vec::len), Some(4), "{report}");
    assert_eq!(
        (row(&report, "apart", 1)["state"].as_str(), ends(&row(&report, "apart", 1))),
        (Some("fenced"), (10, 10, 0))
    );
    assert_eq!(pair.target.log("apart", 0).unwrap().end_offset, before);
}

/// While one partition of a shard waits for its leader the others are fenced: the coordinator may forget an owner that waits, and a
/// short outage is no reason to leave one behind.
#[test]
fn a_leader_that_is_waited_for_holds_up_no_other_of_its_shard() {
    const PARTITIONS: i32 = 64;
    let mut pair = Pair::new("late-leader", 2, PARTITIONS, "");
    for partition in 0..PARTITIONS {
        pair.write(partition, 0, 10);
    }
    pair.mirror.start();
    pair.mirror.await_caught_up(PARTITIONS as usize);
    pair.mirror.kill();
    pair.target.set_leaderless("late-leader", 0).unwrap();
    let marked = |partition| pair.target.log("late-leader", partition).unwrap().end_offset;
    let before: Vec<i64> = (0..PARTITIONS).map(marked).collect();
    let args = ["failover", "--yes", "--unplanned", "--quiet", "200ms"];
    let mut call = pair.mirror.spawn(&args, "failover.log");
    wait_until("a marker in every partition that has a leader", LIMIT, || {
        let without: Vec<i32> = (1..PARTITIONS).filter(|p| marked(*p) == before[*p as usize]).collect();
        if without.is_empty() { Ok(()) } else { Err(format!("{without:?}")) }
    });
    for shard in 0..16 {
        pair.target.expire_transactional_id(&format!("kmirror.late-leader.1.{shard}"));
    }
    pair.target.move_leader("late-leader", 0, 1).unwrap();
    let code = call.wait_exit(LIMIT);
    let log = std::fs::read_to_string(pair.mirror.folder().join("failover.log")).unwrap();
    assert_eq!(code, 0, "{log}");
    assert!(marked(0) > before[0], "{log}");
}
