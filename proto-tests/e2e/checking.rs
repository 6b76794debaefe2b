//! `kmirror check`: what would go wrong is said before the first byte is copied.

use serde_json::Value;

use super::Mirror;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::{Produce, TopicSpec, driver, real_kafka_wanted, source, target};

fn create_and_fill(topic: &str) {
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 2));
    driver().produce(&source().bootstrap(), &Produce { partitions: 2, ..Produce::new(topic, 20) });
}

/// The findings of `check`, without those that all is well.
fn findings(mirror: &Mirror, code: i32) -> Vec<(String, String, String)> {
    let report = mirror.json(&["check"], code);
    let all = report["mirrors"][0]["findings"].as_array().expect("findings");
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("text").to_owned();
    let rows = all.iter().filter(|finding| finding["severity"] != "ok");
    rows.map(|finding| (text(finding, "severity"), text(finding, "check"), text(finding, "subject"))).collect()
}

fn finding(severity: &str, check: &str, subject: &str) -> (String, String, String) {
    (severity.to_owned(), check.to_owned(), subject.to_owned())
}

#[test]
fn a_pair_without_a_flaw_passes_before_and_after_it_ran() {
    if !real_kafka_wanted("a_pair_without_a_flaw_passes_before_and_after_it_ran") {
        return;
    }
    let topic = "checking-clean";
    create_and_fill(topic);
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    assert_eq!(findings(&mirror, 0), []);
    assert!(!driver().list_topics(&target().bootstrap()).iter().any(|name| name == topic), "a check changes nothing");
    mirror.start().await_caught_up(2);
    mirror.stop();
    assert_eq!(findings(&mirror, 0), []);
}

#[test]
fn problems_are_found_and_named() {
    if !real_kafka_wanted("problems_are_found_and_named") {
        return;
    }
    let (small, foreign, far) = ("checking-small", "checking-foreign", "checking-far");
    [small, foreign, far].into_iter().for_each(create_and_fill);
    let driver = driver();
    driver.create_topic(&target().bootstrap(), &TopicSpec::new(small, 2).set("max.message.bytes", 10_000));
    let mirror = Mirror::new(small, source(), target(), &[small], "");
    assert_eq!(findings(&mirror, 3), [finding("problem", "message_size", small)]);
    driver.create_topic(&target().bootstrap(), &TopicSpec::new(foreign, 2));
    driver.produce(&target().bootstrap(), &Produce { partition: Some(1), ..Produce::new(foreign, 5) });
    let mirror = Mirror::new(foreign, source(), target(), &[foreign], "");
    assert_eq!(findings(&mirror, 3), [finding("problem", "foreign_data", "checking-foreign:1")]);
    let mirror = Mirror::new(far, source(), target(), &[far], "    target_topics: { replication_factor: 3 }\n");
    assert_eq!(findings(&mirror, 3), [finding("problem", "replication_factor", "to")]);
}

/// Foreign data is not only foreseen: without the check the partition halts and nothing is written behind it.
#[test]
fn foreign_data_halts_the_partition_that_it_is_in() {
    if !real_kafka_wanted("foreign_data_halts_the_partition_that_it_is_in") {
        return;
    }
    let topic = "checking-halts";
    create_and_fill(topic);
    driver().create_topic(&target().bootstrap(), &TopicSpec::new(topic, 2));
    driver().produce(&target().bootstrap(), &Produce { partition: Some(1), ..Produce::new(topic, 5) });
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start();
    let row = mirror.await_state(topic, 1, "halted");
    assert!(row["reason"].as_str().is_some_and(|reason| reason.starts_with("foreign_records")), "{row}");
    assert!(row["way_out"].as_str().is_some_and(|way| way.contains("kmirror resume")), "{row}");
    let other = mirror.await_state(topic, 0, "mirroring");
    assert_eq!(other["topic"], topic);
    mirror.stop();
    let ends: Vec<i64> = driver().offsets(&target().bootstrap(), &[topic]).iter().map(|row| row.end).collect();
    assert_eq!(ends, [10, 5]);
}

#[test]
fn a_backlog_older_than_producer_state_is_a_warning() {
    if !real_kafka_wanted("a_backlog_older_than_producer_state_is_a_warning") {
        return;
    }
    let topic = "checking-old";
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 1));
    driver().produce(&source().bootstrap(), &Produce::odd(topic, 20));
    let mirror = Mirror::new(topic, source(), target(), &[topic], "");
    assert_eq!(findings(&mirror, 0), [finding("warning", "producer_expiration", "checking-old:0")]);
}

#[test]
fn a_cluster_that_is_not_there_is_told_apart() {
    if !real_kafka_wanted("a_cluster_that_is_not_there_is_told_apart") {
        return;
    }
    let nowhere = format!("127.0.0.1:{}", free_port());
    let (here, there) = (source().bootstrap(), target().bootstrap());
    for (from, to) in [(&nowhere, &there), (&here, &nowhere)] {
        let mirror = Mirror::between("checking-nowhere", from, to, &["none"], "");
        let output = mirror.output(&["check"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&nowhere), "{output:?}");
    }
}
