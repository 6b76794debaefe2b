//! The target takes over, between real clusters: planned without loss, and after the source was killed under load with the loss
//! that the report says.

use std::collections::BTreeMap;
use std::thread;

use kmirror::client::GroupOffsets;
use kmirror::groups::Committed;
use kmirror::ops::MirrorState;
use serde_json::Value;

use super::Mirror;
use super::log::connected;
use super::mirror::{LIMIT, await_end_offsets};
use crate::embedded::failover::fail_over;
use crate::kafka::harness::dump::Digest;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Dump, Produce, TopicSpec, Version, driver, real_kafka_wanted, source, target, wait_until,
};

const PARTITIONS: i32 = 6;

/// The partitions of a report: mirrored to, by number.
pub(super) fn mirrored_to(report: &Value) -> BTreeMap<i32, i64> {
    let rows = report["partitions"].as_array().expect("partitions");
    rows.iter().map(|p| (p["partition"].as_i64().unwrap() as i32, p["mirrored_to"].as_i64().unwrap())).collect()
}

pub(crate) fn contents(records: &[Digest]) -> Vec<(i64, u64, u64, u64)> {
    records.iter().map(|r| (r.timestamp, r.key, r.value, r.headers)).collect()
}

pub(crate) fn of<'a>(dump: &'a Dump, topic: &str, partition: i32) -> &'a [Digest] {
    dump.partitions.get(&(topic.to_owned(), partition)).map_or(&[], Vec::as_slice)
}

/// Ranges of a manifest's list, by partition.
fn ranges<'a>(report: &'a Value, list: &str) -> impl Iterator<Item = (i32, i64, Option<i64>)> + use<'a> {
    let rows = report["loss_manifest"][list].as_array().cloned().unwrap_or_default();
    rows.into_iter().map(|r| (r["partition"].as_i64().unwrap() as i32, r["from"].as_i64().unwrap(), r["to"].as_i64()))
}

/// Waits until the mirror has noted what it saw last of a source that is gone by now.
pub(super) fn await_note(mirror: &str) {
    let gone_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let (runtime, client) = connected(target());
    wait_until("the note", LIMIT, || {
        let state = runtime.block_on(MirrorState::read(mirror, &client)).map_err(|error| error.to_string())?;
        let alive_ms = state.and_then(|state| state.shards.first().map(|shard| shard.alive_ms)).unwrap_or(0);
        // Its connections break at once.
        if alive_ms > gone_ms + 500 { Ok(()) } else { Err(format!("{alive_ms} of {gone_ms}")) }
    });
}

/// Waits until the source's records sum up to this.
fn await_written(cluster: &Cluster, topic: &str, sum: i64) {
    await_end_offsets(cluster, topic, sum, LIMIT);
}

/// kill -9 of the source while it is written to. When it is back, what it has and the target does not is what was said.
#[test]
fn a_source_killed_under_load_loses_what_the_report_says() {
    if !real_kafka_wanted("a_source_killed_under_load_loses_what_the_report_says") {
        return;
    }
    let (topic, count) = ("failover-killed", 400_000);
    let mut from = Cluster::start(ClusterSpec::new(Version::V4_3_1));
    driver().create_topic(&from.bootstrap(), &TopicSpec::new(topic, PARTITIONS).set("min.insync.replicas", 1));
    let mut mirror = Mirror::new(topic, &from, target(), &[topic], "");
    let bootstrap = from.bootstrap();
    let report = thread::scope(|scope| {
        let spec = Produce { partitions: PARTITIONS, batch_size: 2_000, ..Produce::new(topic, count) };
        let writer = scope.spawn(move || driver().produce(&bootstrap, &spec));
        mirror.start();
        await_end_offsets(target(), topic, 40_000, LIMIT);
        from.kill_node(1);
        await_note(topic);
        let report = fail_over(&mirror, &[], 0);
        assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
        from.restart_node(1);
        // The producer had been waiting all the time: its rest is on the old source alone.
        writer.join().unwrap();
        report
    });
    assert_eq!(report["mode"].as_str(), Some("unplanned"), "{report}");
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    let mirrored = mirrored_to(&report);
    let (mut lost, mut kept) = (0, 0);
    for partition in 0..PARTITIONS {
        let to = mirrored[&partition];
        let (source, target) = (of(&here, topic, partition), of(&there, topic, partition));
        let front = source.partition_point(|record| record.offset < to);
        assert_eq!(contents(&source[..front]), contents(target), "partition {partition} up to {to}");
        kept += target.len();
        lost += source.len() - front;
    }
    assert_eq!(kept + lost, count as usize);
    // Nothing is missing that is in neither list, and all that was listed as lost is there and missing.
    let seen: BTreeMap<i32, i64> = ranges(&report, "unseen").map(|(partition, from, _)| (partition, from)).collect();
    assert_eq!(seen.len(), PARTITIONS as usize, "{report}");
    for (partition, from, to) in ranges(&report, "lost") {
        assert_eq!((from, to), (mirrored[&partition], Some(seen[&partition])), "{report}");
        let there = of(&here, topic, partition).iter().filter(|r| (from..to.unwrap()).contains(&r.offset)).count();
        assert_eq!(there as i64, to.unwrap() - from, "{report}");
    }
    assert!(seen.iter().all(|(partition, end)| *end >= mirrored[partition]), "{report}");
    eprintln!(
        "killed under load: {kept} kept, {lost} on the old source alone by its return; RPO {}, RTO {} s, outage {} s",
        report["rpo"], report["rto_seconds"], report["outage_seconds"]
    );
}

/// A source whose writers are shut out by ACL in the middle of their work: all that was acknowledged is on the target, with
/// its groups and settings.
#[test]
fn a_planned_failover_loses_nothing_and_groups_read_on_at_the_same_record() {
    if !real_kafka_wanted("a_planned_failover_loses_nothing_and_groups_read_on_at_the_same_record") {
        return;
    }
    let topic = "failover-planned";
    let spec = ClusterSpec::new(Version::V4_3_1)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("allow.everyone.if.no.acl.found", "true");
    let from = Cluster::start(spec);
    let topic_spec = TopicSpec::new(topic, PARTITIONS).set("retention.ms", 777_000_000).set("min.insync.replicas", 1);
    driver().create_topic(&from.bootstrap(), &topic_spec);
    let mut mirror = Mirror::new(topic, &from, target(), &[topic], "    groups: { include: [\".*\"], interval: 1h }\n");
    mirror.start();
    mirror.await_caught_up(PARTITIONS as usize);
    // On a cluster where topics without ACLs are open to everybody the ACL would close it to kmirror as well.
    let output = mirror.output(&["failover", "--yes", "--fence-source", "acl"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && words.contains("allow.everyone.if.no.acl.found"), "{words}");
    // Denied from elsewhere, allowed from here.
    driver().deny(&from.bootstrap(), topic, "10.9.9.9", &["READ"]);
    mirror.await_caught_up(PARTITIONS as usize);
    let bootstrap = from.bootstrap();
    let report = thread::scope(|scope| {
        let spec = Produce { partitions: PARTITIONS, batch_size: 4_000, ..Produce::new(topic, 3_000_000) };
        let args = serde_json::to_value(&spec).unwrap();
        let writer = scope.spawn(move || driver().try_call("produce", &bootstrap, args));
        await_end_offsets(target(), topic, 20_000, LIMIT);
        mirror.kill();
        mirror.start();
        await_end_offsets(target(), topic, 60_000, LIMIT);
        commit(&from, topic);
        let file = mirror.folder().join("former.json");
        let report = fail_over(
            &mirror,
            &["--fence-source", "acl", "--groups-snapshot", file.to_str().unwrap(), "--overwrite-groups", "unused"],
            0,
        );
        assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
        let refused = writer.join().unwrap().unwrap_err();
        assert!(refused.contains("TopicAuthorization"), "{refused}");
        report
    });
    assert_eq!((report["mode"].as_str(), report["rpo"]["records"].as_i64()), (Some("planned"), Some(0)), "{report}");
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    assert!(here.len() > 60_000);
    for partition in 0..PARTITIONS {
        assert_eq!(
            contents(of(&here, topic, partition)),
            contents(of(&there, topic, partition)),
            "partition {partition}"
        );
    }
    assert_groups(topic, &here, &there);
    let configs = driver().topic_configs(&target().bootstrap(), topic);
    assert_eq!(configs.get("retention.ms").map(String::as_str), Some("777000000"), "{configs:?}");
    assert_eq!(configs.get("min.insync.replicas").map(String::as_str), Some("1"), "{configs:?}");
    assert!(!configs.contains_key("message.timestamp.after.max.ms"), "{configs:?}");
    eprintln!("planned under load: {} records, RTO {} s, steps {}", here.len(), report["rto_seconds"], report["steps"]);
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Three groups somewhere in every partition.
fn commit(cluster: &Cluster, topic: &str) {
    let (runtime, client) = connected(cluster);
    let group = |share: i64| -> GroupOffsets {
        let offset = |partition: i32| Committed {
            offset: share * 100 + i64::from(partition),
            leader_epoch: -1,
            metadata: String::new(),
        };
        (0..PARTITIONS).map(|partition| ((topic.to_owned(), partition), offset(partition))).collect()
    };
    let offsets = (0..3).map(|share| (format!("{topic}-{share}"), group(share * 20))).collect();
    let answers = runtime.block_on(client.commit_group_offsets(offsets, PATIENCE));
    assert!(
        answers.values().all(|answer| answer.as_ref().is_ok_and(|all| all.values().all(Result::is_ok))),
        "{answers:?}"
    );
}

/// The record at a group's offset on the target is the one at its offset on the source.
fn assert_groups(topic: &str, here: &Dump, there: &Dump) {
    let (runtime, client) = connected(target());
    let names: Vec<String> = (0..3).map(|share| format!("{topic}-{share}")).collect();
    let fetched = runtime.block_on(client.fetch_group_offsets(&names, true, PATIENCE));
    for (share, name) in (0..3_i64).zip(&names) {
        let offsets = fetched[name].as_ref().unwrap();
        for partition in 0..PARTITIONS {
            let source = share * 20 * 100 + i64::from(partition);
            let target = offsets.offsets.get(topic, partition).unwrap().offset;
            let at = |dump: &Dump, offset: i64| {
                let records = of(dump, topic, partition);
                records.iter().find(|record| record.offset >= offset).map(|r| contents(std::slice::from_ref(r)))
            };
            assert_eq!(at(here, source), at(there, target), "{name} in partition {partition}: {source} is {target}");
        }
    }
}

/// A process that sleeps through the promotion under load writes nothing any more when it wakes up.
#[test]
fn a_sleeper_writes_nothing_behind_the_promotion() {
    if !real_kafka_wanted("a_sleeper_writes_nothing_behind_the_promotion") {
        return;
    }
    let topic = "failover-sleeper";
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, PARTITIONS));
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    let bootstrap = source().bootstrap();
    thread::scope(|scope| {
        let spec = Produce { partitions: PARTITIONS, batch_size: 2_000, ..Produce::new(topic, 300_000) };
        let writer = scope.spawn(move || driver().produce(&bootstrap, &spec));
        mirror.start();
        await_end_offsets(target(), topic, 20_000, LIMIT);
        mirror.process().signal("STOP");
        await_written(source(), topic, 60_000);
        let report = fail_over(&mirror, &["--unplanned"], 0);
        let before = driver().dump(&target().bootstrap(), &[topic]);
        mirror.process().signal("CONT");
        assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
        writer.join().unwrap();
        let after = driver().dump(&target().bootstrap(), &[topic]);
        assert_eq!(before, after);
        let (here, _) = mirror.dumps(&[topic], &[topic]);
        for (partition, to) in mirrored_to(&report) {
            let source = of(&here, topic, partition);
            let front = source.partition_point(|record| record.offset < to);
            assert_eq!(contents(&source[..front]), contents(of(&after, topic, partition)), "partition {partition}");
        }
    });
    // Nor does another one begin.
    mirror.start();
    assert_eq!(mirror.await_end(), 1);
    wait_until("its words", LIMIT, || {
        if mirror.log().contains("promoted in generation 1") { Ok(()) } else { Err(mirror.log()) }
    });
}
