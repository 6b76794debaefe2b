//! There and back: promoted, the way home, promoted again, taken up.

use kmirror::broker::Cluster;
use serde_json::Value;

use super::super::{Pair, append, numbered, value};
use super::{ends, fail_over, partition};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

#[test]
fn there_and_back_by_its_own_commands_alone() {
    let topic = "there-and-back";
    let mut pair = Pair::matching(topic, topic, 2, "    groups: { include: [\".*\"], interval: 1h }\n");
    pair.source.create_topic(topic, 1, 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    pair.write(0, 0, 10);
    pair.source.commit_offset("billing", topic, 0, 4);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    let report = pair.fail_over(&["--fence-source", "acl"], 0);
    assert_eq!((report["mode"].as_str(), ends(partition(&report, 0))), (Some("planned"), (10, 10, 0)));
    assert_eq!(pair.mirror.await_end(), 0);
    assert_eq!(timestamp_type(&pair, true), Some("LogAppendTime"));
    assert_eq!(next_record(&pair.target, "billing", topic), "4");
    append(&pair.target, topic, 0, "standby-", 0, 5);
    // Its consumer has moved, and reads on there.
    let third = pair.target.records(topic, 0, 0).unwrap().iter().find(|r| value(r) == "standby-3").unwrap().offset;
    pair.target.commit_offset("billing", topic, 0, third);
    // The way home, onto topics that nobody was allowed to write to.
    pair.mirror.json(&["failback", "--yes"], 0);
    assert!(pair.control().source_fenced().is_empty());
    assert_eq!(timestamp_type(&pair, false), Some("CreateTime"));
    let home = format!("{topic}.failback");
    let whole = [numbered("", 0, 10), numbered("standby-", 0, 5)].concat();
    pair.mirror.start_as(|mut command| {
        command.args(["--mirror", &home]);
        command
    });
    wait_until("the records on the old source", LIMIT, || {
        let there = pair.values(&pair.source, 0);
        if there == whole { Ok(()) } else { Err(format!("{there:?}")) }
    });
    let report = fail_over(&pair.mirror, &["--mirror", &home], 0);
    assert_eq!((report["mode"].as_str(), report["rpo"]["records"].as_i64()), (Some("planned"), Some(0)), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
    assert_eq!(timestamp_type(&pair, false), Some("LogAppendTime"));
    assert_eq!(next_record(&pair.source, "billing", topic), "standby-3", "what it had left there is replaced");
    // And on as before, in a new generation.
    pair.mirror.json(&["failback", "--yes"], 0);
    assert_eq!(timestamp_type(&pair, true), Some("CreateTime"));
    append(&pair.source, topic, 0, "again-", 0, 7);
    pair.mirror.start_as(|mut command| {
        command.args(["--mirror", topic]);
        command
    });
    pair.await_values(0, &[whole, numbered("again-", 0, 7)].concat());
    let report: Value = pair.fail_over(&["--mirror", topic], 0);
    assert_eq!((report["generation"].as_i64(), report["rpo"]["records"].as_i64()), (Some(2), Some(0)), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
}

/// What a group would read next.
fn next_record(cluster: &Cluster, group: &str, topic: &str) -> String {
    let offset = cluster.group_offsets(group).get(&(topic.to_owned(), 0)).expect("it has an offset").offset;
    cluster.records(topic, 0, offset).unwrap().first().map(value).expect("a record")
}

fn timestamp_type(pair: &Pair, on_target: bool) -> Option<&'static str> {
    let cluster = if on_target { &pair.target } else { &pair.source };
    let topics = cluster.topics();
    let topic = topics.iter().find(|t| t.name == pair.topic).expect("the topic");
    match topic.configs.get("message.timestamp.type").map(String::as_str) {
        Some("LogAppendTime") => Some("LogAppendTime"),
        Some("CreateTime") => Some("CreateTime"),
        _ => None,
    }
}
