//! Mirror topics: which to create, which to grow, and with what configuration.

use std::collections::{BTreeMap, BTreeSet};

/// Held back while mirroring because the mirror decides them; a copied value would break it.
/// `message.timestamp.type`: LogAppendTime on the target would overwrite the source's timestamps.
/// `compression.type`: anything but `producer` makes the target unpack and pack every batch.
pub(super) const DECIDED: [(&str, &str); 2] =
    [("message.timestamp.type", "CreateTime"), ("compression.type", "producer")];

/// Opened wide where the target knows them: brokers from 4.0 refuse records more than an hour ahead of their clock,
/// and records of the past must pass as well (KIP-937).
pub(super) const OPENED: [&str; 3] =
    ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "message.timestamp.difference.max.ms"];

/// Never copied: they belong to the cluster that they were set on. The first two can be applied at promotion. A topic with an
/// older `message.format.version` (known before Kafka 4.0, heeded before 3.0) takes no idempotent producer.
const HELD_BACK: [&str; 5] = [
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "message.format.version",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];

/// The largest value of a Kafka `LONG` configuration.
const LONG_MAX: &str = "9223372036854775807";

/// What the mirror sets this config to for its own sake, whatever the source has; `None`: it does not.
pub fn set_for_mirroring(key: &str) -> Option<&'static str> {
    let decided = DECIDED.iter().find(|(decided, _)| *decided == key).map(|(_, value)| *value);
    decided.or_else(|| OPENED.contains(&key).then_some(LONG_MAX))
}

/// The configuration that a mirror topic is created with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetConfigs {
    /// Key and value to set explicitly.
    pub set: BTreeMap<String, String>,
    /// Source values that were not copied; for reports and for promotion.
    pub held_back: BTreeMap<String, String>,
    /// Source keys that the target does not know (an older or newer Kafka).
    pub unknown: BTreeSet<String>,
}

/// What the target's copy of a topic should be configured with. `source` holds the source topic's own (non-default)
/// values, `overrides` the mirror's `target_topics.configs`, `known` the topic configuration keys of the target.
pub fn target_configs(
    source: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
    known: &BTreeSet<String>,
) -> TargetConfigs {
    let mut out = TargetConfigs::default();
    for (key, value) in source {
        let kept_back = HELD_BACK.contains(&key.as_str())
            || OPENED.contains(&key.as_str())
            || DECIDED.iter().any(|(k, _)| k == key)
            || key.starts_with("remote.");
        if kept_back {
            out.held_back.insert(key.clone(), value.clone());
        } else if known.contains(key) {
            out.set.insert(key.clone(), value.clone());
        } else {
            out.unknown.insert(key.clone());
        }
    }
    for (key, value) in DECIDED {
        out.set.insert(key.to_owned(), value.to_owned());
    }
    for key in OPENED.into_iter().filter(|key| known.contains(*key)) {
        out.set.insert(key.to_owned(), LONG_MAX.to_owned());
    }
    for (key, value) in overrides {
        out.set.insert(key.clone(), value.clone());
    }
    out
}

/// The part of a topic that a plan looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicShape {
    /// Topic name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
}

/// One change on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicAction {
    /// Create the topic.
    Create {
        /// Target topic name.
        topic: String,
        /// Partition count of the source.
        partitions: i32,
    },
    /// Add partitions.
    Grow {
        /// Target topic name.
        topic: String,
        /// Partitions now.
        from: i32,
        /// Partitions wanted.
        to: i32,
    },
}

/// What has to happen so that target topic `name` can hold `source`; `None` when nothing has. A target with more
/// partitions than the source is left alone: the mirror fills those that the source has.
pub fn topic_action(source: &TopicShape, name: &str, target: Option<&TopicShape>) -> Option<TopicAction> {
    match target {
        None => Some(TopicAction::Create { topic: name.to_owned(), partitions: source.partitions }),
        Some(target) if target.partitions < source.partitions => {
            Some(TopicAction::Grow { topic: name.to_owned(), from: target.partitions, to: source.partitions })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn known(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|k| (*k).to_owned()).collect()
    }

    #[test]
    fn copies_what_belongs_to_the_data_and_holds_back_what_belongs_to_the_cluster() {
        let source = map(&[
            ("cleanup.policy", "compact"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
            ("remote.storage.enable", "true"),
            ("from.the.future", "1"),
        ]);
        let out = target_configs(
            &source,
            &map(&[("retention.ms", "5")]),
            &known(&["cleanup.policy", "retention.ms", "min.insync.replicas"]),
        );
        assert_eq!(
            out.set,
            map(&[
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("message.timestamp.type", "CreateTime"),
                ("retention.ms", "5"),
            ])
        );
        assert_eq!(out.unknown, known(&["from.the.future"]));
        assert!(out.held_back.contains_key("min.insync.replicas"));
        assert!(out.held_back.contains_key("remote.storage.enable"));
    }

    #[test]
    fn opens_only_the_timestamp_limits_that_the_target_knows() {
        let out =
            target_configs(&map(&[]), &map(&[]), &known(&["message.timestamp.after.max.ms", "message.timestamp.type"]));
        assert_eq!(out.set.get("message.timestamp.after.max.ms").map(String::as_str), Some(LONG_MAX));
        assert!(!out.set.contains_key("message.timestamp.difference.max.ms"));
    }

    #[test]
    fn grows_but_never_shrinks() {
        let source = TopicShape { name: "a".into(), partitions: 6 };
        let with = |partitions| TopicShape { name: "a".into(), partitions };
        assert_eq!(
            topic_action(&source, "a", Some(&with(4))),
            Some(TopicAction::Grow { topic: "a".into(), from: 4, to: 6 })
        );
        assert_eq!(topic_action(&source, "a", Some(&with(9))), None);
        assert_eq!(topic_action(&source, "a", None), Some(TopicAction::Create { topic: "a".into(), partitions: 6 }));
    }
}
