//! What the target's topics are called, and how they are configured.

use std::collections::HashMap;

use super::Mirror;
use super::crash::assert_map_is_exact;
use crate::kafka::harness::{Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target};

#[test]
fn topics_are_renamed_by_the_template() {
    if !real_kafka_wanted("topics_are_renamed_by_the_template") {
        return;
    }
    let (driver, topic, renamed) = (driver(), "topics-renamed", "from.topics-renamed");
    driver.create_topic(&source().bootstrap(), &TopicSpec::new(topic, 2));
    driver.produce(&source().bootstrap(), &Produce { partitions: 2, ..Produce::odd(topic, 500) });
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "    rename: \"{source}.{topic}\"\n");
    mirror.start().await_caught_up(2);
    let row = mirror.row(topic, 1).unwrap();
    assert_eq!(row["target_topic"], renamed);
    assert_eq!(mirror.translate(topic, 1, 17, &[]), (17, None));
    assert_eq!(mirror.translate(renamed, 1, 17, &["--reverse"]), (17, None));
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[renamed]);
    let here = here.renamed(|topic| format!("from.{topic}"));
    compare(&here, &there).assert_exactly(500);
    assert_map_is_exact(topic, target(), &here, &there);
    assert!(!driver.list_topics(&target().bootstrap()).iter().any(|name| name == topic));
}

/// What the source's topic is set to, each key with what the target shall have: the same, another value, or nothing.
const CONFIGS: [(&str, &str, Option<&str>); 12] = [
    ("retention.ms", "604800001", Some("604800001")),
    ("cleanup.policy", "compact,delete", Some("compact,delete")),
    ("max.message.bytes", "2000000", Some("2000000")),
    ("segment.bytes", "33554432", Some("33554432")),
    ("max.compaction.lag.ms", "7777777", Some("7777777")),
    ("message.timestamp.type", "LogAppendTime", Some("CreateTime")),
    ("compression.type", "gzip", Some("producer")),
    ("message.timestamp.after.max.ms", "3600001", Some("9223372036854775807")),
    ("message.timestamp.before.max.ms", "86400001", Some("9223372036854775807")),
    ("min.insync.replicas", "1", None),
    ("unclean.leader.election.enable", "true", None),
    ("leader.replication.throttled.replicas", "*", None),
];

#[test]
fn configs_are_copied_but_for_those_that_belong_to_a_cluster() {
    if !real_kafka_wanted("configs_are_copied_but_for_those_that_belong_to_a_cluster") {
        return;
    }
    let (driver, topic) = (driver(), "topics-configured");
    let spec = CONFIGS.iter().fold(TopicSpec::new(topic, 1), |spec, (key, value, _)| spec.set(key, value));
    driver.create_topic(&source().bootstrap(), &spec);
    let set = driver.topic_configs(&source().bootstrap(), topic);
    assert!(CONFIGS.iter().all(|(key, value, _)| set.get(*key).is_some_and(|v| v == value)), "{set:?}");
    let more = "    target_topics: { configs: { segment.bytes: \"22000000\" } }\n";
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], more);
    mirror.start().await_caught_up(1);
    mirror.stop();
    let there = driver.topic_configs(&target().bootstrap(), topic);
    let mut wanted: HashMap<&str, Option<&str>> = CONFIGS.iter().map(|(key, _, wanted)| (*key, *wanted)).collect();
    // The mirror's own wins over the source's.
    wanted.insert("segment.bytes", Some("22000000"));
    for (key, value) in wanted {
        assert_eq!(there.get(key).map(String::as_str), value, "{key} of {there:?}");
    }
}
