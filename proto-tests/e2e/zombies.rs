//! Processes that slept through a promotion which could not fence everything at once: the coordinator has forgotten them, a
//! topic is gone, a partition has no leader. What is promoted refuses them, whenever they wake up.

use std::collections::BTreeMap;
use std::thread;

use kmirror::batch::{self, Stamp};
use kmirror::client::{TopicPartition, Topics, append_batch};
use serde_json::Value;

use super::Mirror;
use super::failover::{contents, of};
use super::log::connected;
use super::mirror::{LIMIT, await_end_offsets};
use crate::embedded::failover::fail_over;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Dump, Produce, TopicSpec, Version, driver, real_kafka_wanted, source, wait_until,
};

const PARTITIONS: i32 = 3;
/// Loses a topic of its own besides a leader.
const APART: &str = "zombies-apart";
const DELETED: &str = "zombies-apart-deleted";
/// Loses a leader only.
const LEADERLESS: &str = "zombies-leaderless";

/// Three nodes that forget transactional ids within seconds; producers they remember.
fn forgetful() -> Cluster {
    let spec = ClusterSpec::new(Version::V4_3_1).nodes(3).set("transactional.id.expiration.ms", "3000");
    Cluster::start(spec.set("transaction.remove.expired.transaction.cleanup.interval.ms", "300"))
}

/// A mirror under load, stopped in the middle of it.
fn asleep(name: &str, target: &Cluster, topics: &[&str]) -> Mirror {
    let bootstrap = source().bootstrap();
    for topic in topics {
        driver().create_topic(&bootstrap, &TopicSpec::new(topic, PARTITIONS));
    }
    let more = "    target_topics: { replication_factor: 1 }\n";
    let mut mirror = Mirror::new(name, source(), target, topics, more);
    mirror.start();
    thread::scope(|scope| {
        let write = |topic: &&str| {
            let count = if *topic == DELETED { 5_000 } else { 200_000 };
            let spec = Produce { partitions: PARTITIONS, batch_size: 2_000, ..Produce::new(topic, count) };
            scope.spawn(move || driver().produce(&source().bootstrap(), &spec))
        };
        let writers: Vec<_> = topics.iter().map(write).collect();
        for topic in topics {
            await_end_offsets(target, topic, 3_000, LIMIT);
        }
        mirror.process().signal("STOP");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    // However fast it was: this is left for it to write.
    for topic in topics {
        driver().produce(&bootstrap, &Produce { partitions: PARTITIONS, ..Produce::new(topic, 3_000) });
    }
    mirror
}

/// What the sleeper would send next to each partition of a topic.
type Stamps = BTreeMap<i32, Stamp>;

fn stamps(target: &Cluster, topic: &str) -> Stamps {
    let of = |partition| {
        let writer = wait_until(&format!("a writer of {topic}:{partition}"), LIMIT, || {
            let producers = driver().producers(&target.bootstrap(), topic, partition);
            // A machine that is slow enough lets the coordinator forget a mirror that runs: it goes on under another id.
            let writers = producers.iter().filter(|writer| writer.last_sequence >= 0);
            writers.max_by_key(|writer| writer.last_timestamp).cloned().ok_or_else(|| format!("{producers:?}"))
        });
        let epoch = i16::try_from(writer.producer_epoch).unwrap();
        Stamp { producer_id: writer.producer_id, producer_epoch: epoch, base_sequence: writer.last_sequence + 1 }
    };
    (0..PARTITIONS).map(|partition| (partition, of(partition))).collect()
}

/// The broker itself refuses what the sleeper would send, INVALID_PRODUCER_EPOCH.
fn assert_refused(target: &Cluster, topic: &str, stamps: &Stamps, partitions: &[i32]) {
    let (runtime, client) = connected(target);
    for &partition in partitions {
        let refused = runtime.block_on(async {
            let metadata = client.refresh(Topics::Named(&[topic])).await.unwrap();
            let topic_id = metadata.topic(topic).expect("it is there").id;
            let tp = TopicPartition { topic: topic.to_owned(), topic_id, partition };
            let value = bytes::Bytes::from_static(b"late");
            let batch = batch::encode_values(vec![value], 1_790_000_000_000, stamps[&partition]).unwrap();
            append_batch(&client, &tp, batch).await.unwrap_err()
        });
        assert_eq!(refused.code(), Some(47), "{topic}:{partition}: {refused}");
    }
}

fn await_forgotten(target: &Cluster) {
    wait_until("the transactional ids to be forgotten", LIMIT, || {
        let ids = driver().transactional_ids(&target.bootstrap());
        let ours = ids.iter().filter(|id| id.starts_with("kmirror.zombies")).count();
        if ours == 0 { Ok(()) } else { Err(format!("{ours} ids")) }
    });
}

/// The partition of a topic that one node leads.
fn led_by(target: &Cluster, topic: &str, node: i32) -> i32 {
    let partitions = driver().describe_topic(&target.bootstrap(), topic);
    let [led] = partitions.iter().filter(|p| p.leader == node).map(|p| p.partition).collect::<Vec<_>>()[..] else {
        panic!("{topic} on node {node}: {partitions:?}")
    };
    led
}

fn await_leaderless(target: &Cluster, topic: &str, partition: i32) {
    wait_until("the leader to be gone", LIMIT, || {
        let partitions = driver().describe_topic(&target.bootstrap(), topic);
        let is_led = partitions.iter().any(|p| p.partition == partition && p.leader >= 0);
        if is_led { Err(format!("{partitions:?}")) } else { Ok(()) }
    });
}

/// Topic, partition and reason of all that a report calls unfenced.
fn unfenced(report: &Value) -> Vec<(&str, i64, &str)> {
    let rows = report["unfenced"].as_array().expect("a list").iter();
    rows.map(|u| (u["topic"].as_str().unwrap(), u["partition"].as_i64().unwrap(), u["reason"].as_str().unwrap()))
        .collect()
}

fn row<'a>(report: &'a Value, topic: &str, partition: i32) -> &'a Value {
    let mut rows = report["partitions"].as_array().expect("partitions").iter();
    rows.find(|p| p["topic"] == topic && p["partition"] == partition).unwrap_or_else(|| panic!("{topic}: {report}"))
}

/// All but those named are fenced and settled.
fn assert_fenced(report: &Value, topic: &str, partitions: &[i32]) {
    assert!(report["done_at"].is_string(), "{report}");
    for &partition in partitions {
        assert_eq!(row(report, topic, partition)["state"].as_str(), Some("fenced"), "{report}");
    }
}

/// The target holds exactly what the report says is mirrored.
fn assert_holds(report: &Value, topic: &str, here: &Dump, there: &Dump) {
    for partition in 0..PARTITIONS {
        let to = row(report, topic, partition)["mirrored_to"].as_i64().expect("an offset");
        let source = of(here, topic, partition);
        let front = source.partition_point(|record| record.offset < to);
        assert!(front < source.len(), "{topic}:{partition}: the sleeper has records left to write");
        assert_eq!(contents(&source[..front]), contents(of(there, topic, partition)), "{topic}:{partition} up to {to}");
    }
}

/// Its own word, not the test's: it was told, and wrote no more.
fn wake(mirror: &mut Mirror) {
    mirror.process().signal("CONT");
    assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
}

/// The coordinator has forgotten the owners, one topic is deleted, one partition has no leader: told apart in one failover,
/// which promotes the others. With its leader back the same call fences what was left.
#[test]
fn what_cannot_be_fenced_is_told_apart_and_no_sleeper_writes() {
    if !real_kafka_wanted("what_cannot_be_fenced_is_told_apart_and_no_sleeper_writes") {
        return;
    }
    let mut target = forgetful();
    let (mut apart, mut leaderless) = thread::scope(|scope| {
        let target = &target;
        let apart = scope.spawn(|| asleep(APART, target, &[APART, DELETED]));
        let leaderless = scope.spawn(|| asleep(LEADERLESS, target, &[LEADERLESS]));
        (apart.join().unwrap(), leaderless.join().unwrap())
    });
    let (first, second) = (stamps(&target, APART), stamps(&target, LEADERLESS));
    await_forgotten(&target);
    driver().delete_topic(&target.bootstrap(), DELETED);
    let down = led_by(&target, APART, 3);
    let also_down = led_by(&target, LEADERLESS, 3);
    target.shut_down_node(3);
    await_leaderless(&target, APART, down);
    await_leaderless(&target, LEADERLESS, also_down);
    let others = |one: i32| (0..PARTITIONS).filter(|p| *p != one).collect::<Vec<_>>();

    let (told_apart, told) = thread::scope(|scope| {
        let one = scope.spawn(|| fail_over(&apart, &["--unplanned"], 3));
        let other = fail_over(&leaderless, &["--unplanned"], 3);
        (one.join().unwrap(), other)
    });
    let gone = (0..PARTITIONS).map(|partition| (DELETED, i64::from(partition), "missing"));
    let all: Vec<_> = std::iter::once((APART, i64::from(down), "leaderless")).chain(gone).collect();
    assert_eq!(unfenced(&told_apart), all, "{told_apart}");
    assert_eq!(unfenced(&told), [(LEADERLESS, i64::from(also_down), "leaderless")], "{told}");
    assert_fenced(&told_apart, APART, &others(down));
    assert_fenced(&told, LEADERLESS, &others(also_down));
    assert_refused(&target, APART, &first, &others(down));
    assert_refused(&target, LEADERLESS, &second, &others(also_down));
    // One wakes up before everything is fenced.
    wake(&mut apart);

    target.restart_node(3);
    let told_apart = fail_over(&apart, &[], 3);
    assert_eq!(unfenced(&told_apart), all[1..], "{told_apart}");
    let told = fail_over(&leaderless, &[], 0);
    assert_eq!(unfenced(&told), [], "{told}");
    for (report, topic, stamps) in [(&told_apart, APART, &first), (&told, LEADERLESS, &second)] {
        assert_fenced(report, topic, &[0, 1, 2]);
        assert_refused(&target, topic, stamps, &[0, 1, 2]);
    }
    // And one when all is done.
    wake(&mut leaderless);
    for (mirror, report, topic) in [(&apart, &told_apart, APART), (&leaderless, &told, LEADERLESS)] {
        let (here, there) = mirror.dumps(&[topic], &[topic]);
        assert_holds(report, topic, &here, &there);
    }
    assert!(!driver().list_topics(&target.bootstrap()).iter().any(|topic| topic == DELETED), "it came back");
}
