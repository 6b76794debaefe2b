//! Batches that no target takes as they are: with holes, cut by the log start, or stamped by the source's broker.

use std::ops::Range;

use super::Mirror;
use super::crash::{assert_map_is_exact, maps};
use super::kinds::CODECS;
use super::log::{batches, has_holes};
use super::mirror::{LIMIT, gaps};
use crate::kafka::harness::{
    Cluster, Dump, Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target, wait_until,
};

/// Large batches of few keys, so that compaction takes records out of their middle.
pub(crate) fn produce_repeated_keys(topic: &str) {
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let produce = Produce {
            seed: seed as u64,
            codec,
            partitions: 2,
            keys: 300,
            burst_min: 50,
            burst_max: 200,
            linger_ms: 1_000,
            batch_size: 500_000,
            null_keys: 0.0,
            ..Produce::odd(topic, 1_600)
        };
        driver().produce(&source().bootstrap(), &produce);
    }
}

/// Compaction that goes on would take records away between the mirroring and the comparison.
pub(crate) fn end_compaction(cluster: &Cluster, topic: &str) -> Dump {
    driver().alter_configs(&cluster.bootstrap(), topic, &[("cleanup.policy", "delete")]);
    let mut before = driver().dump(&cluster.bootstrap(), &[topic]);
    // A cleaning under way at that moment still ends; it comes and goes within a few dumps.
    let mut same = 0;
    wait_until("the cleaner to rest", LIMIT, || {
        let now = driver().dump(&cluster.bootstrap(), &[topic]);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        if same >= 5 { Ok(()) } else { Err(format!("{same} dumps alike")) }
    });
    before
}

fn gap_lengths(mirror: &Mirror, topic: &str, partition: i32, reason: &str) -> i64 {
    let row = mirror.row(topic, partition).unwrap();
    gaps(&row).iter().filter(|(why, ..)| why == reason).map(|(_, from, to)| to - from).sum()
}

#[test]
fn holes_of_compaction_are_closed_on_the_target_and_mapped() {
    if !real_kafka_wanted("holes_of_compaction_are_closed_on_the_target_and_mapped") {
        return;
    }
    let topic = "reencoded-compacted";
    let spec = TopicSpec::new(topic, 2).set("cleanup.policy", "compact").set("segment.ms", 100);
    driver().create_topic(&source().bootstrap(), &spec.set("min.cleanable.dirty.ratio", 0.01));
    produce_repeated_keys(topic);
    driver().compact(&source().bootstrap(), topic, 1_500);
    let here = end_compaction(source(), topic);
    let holes = batches(source(), topic).iter().filter(|b| has_holes(b)).count();
    assert!(holes > 10, "{holes} batches with holes inside");
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(2);
    for ((_, partition), records) in &here.partitions {
        let last = records.last().expect("records").offset;
        let missing = last + 1 - records.len() as i64;
        assert_eq!(gap_lengths(&mirror, topic, *partition, "compaction"), missing);
    }
    mirror.stop();
    let (now, there) = mirror.dumps(&[topic], &[topic]);
    assert_eq!(now, here, "the source was cleaned meanwhile");
    compare(&here, &there).assert_exactly(here.len());
    assert_eq!(batches(target(), topic).iter().filter(|b| has_holes(b)).count(), 0);
    assert_map_is_exact(topic, target(), &here, &there);
    assert_holes_are_told(topic, &here, &there);
}

/// An offset that was compacted away translates to that of the next record there is.
fn assert_holes_are_told(topic: &str, here: &Dump, there: &Dump) {
    let maps = maps(topic, target());
    for (partition, records) in &here.partitions {
        let (map, end) = &maps[partition];
        let pairs = records.iter().zip(&there.partitions[partition]);
        let mut next = 0;
        for (a, b) in pairs {
            for hole in next..a.offset {
                let answer = map.to_target(hole, *end);
                let reason = answer.reason.map(|reason| reason.to_string());
                assert_eq!((answer.offset, answer.exact, reason.as_deref()), (b.offset, false, Some("compaction")));
            }
            next = a.offset + 1;
        }
    }
}

#[test]
fn a_log_that_starts_in_the_middle_of_a_batch_is_mirrored_from_there() {
    if !real_kafka_wanted("a_log_that_starts_in_the_middle_of_a_batch_is_mirrored_from_there") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "reencoded-start");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 3));
    let produce = Produce {
        partitions: 3,
        codec: "zstd",
        burst_min: 100,
        burst_max: 100,
        linger_ms: 1_000,
        batch_size: 500_000,
        ..Produce::odd(topic, 1_500)
    };
    driver.produce(&bootstrap, &produce);
    driver.delete_records(&bootstrap, topic, 0, 150);
    driver.delete_records(&bootstrap, topic, 1, 500);
    let first: Range<i64> =
        batches(source(), topic).first().map(|b| b.header.base_offset..b.header.next_offset()).unwrap();
    assert!(first.contains(&150) && first.start < 150, "{first:?}: cut in the middle");
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(3);
    driver.produce(&bootstrap, &Produce { seed: 2, ..produce });
    mirror.await_caught_up(3);
    let starts = [0, 1, 2].map(|partition| gap_lengths(&mirror, topic, partition, "start"));
    assert_eq!(starts, [150, 500, 0]);
    assert_eq!(mirror.translate(topic, 0, 149, &[]), (0, Some("start".to_owned())));
    assert_eq!(mirror.translate(topic, 0, 150, &[]), (0, None));
    assert_eq!(mirror.translate(topic, 1, 500, &[]), (0, None), "the log was empty there");
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    compare(&here, &there).assert_exactly(3_000 - 650);
    assert_map_is_exact(topic, target(), &here, &there);
}

#[test]
fn append_times_of_the_source_become_the_targets_create_times() {
    if !real_kafka_wanted("append_times_of_the_source_become_the_targets_create_times") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "reencoded-append-time");
    let spec = TopicSpec::new(topic, 2).set("message.timestamp.type", "LogAppendTime");
    driver.create_topic(&bootstrap, &spec);
    for (seed, codec) in CODECS.into_iter().enumerate() {
        // Years before the append: the producers' own times must show nowhere.
        let produce = Produce { seed: seed as u64, codec, partitions: 2, ..Produce::odd(topic, 400) };
        driver.produce(&bootstrap, &produce);
    }
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(2);
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    let types = |dump: &Dump| {
        let mut types: Vec<i8> = dump.partitions.values().flatten().map(|record| record.timestamp_type).collect();
        types.dedup();
        types
    };
    assert_eq!((types(&here), types(&there)), (vec![1], vec![0]));
    let report = compare(&here, &there);
    report.assert_exactly(2_000);
    assert!(report.offsets_identical);
    let configs = driver.topic_configs(&target().bootstrap(), topic);
    assert_eq!(configs.get("message.timestamp.type").map(String::as_str), Some("CreateTime"));
}
