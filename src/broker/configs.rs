//! Topic and broker configs: the names that Kafka 4.x knows, their types and defaults (`TopicConfig`, `LogConfig`).
//!
//! Omitted: validation of most values (numbers and enumerations that the broker acts on are checked).

use std::collections::BTreeMap;

/// `ConfigDef.Type` as DescribeConfigs v3+ numbers it.
pub(super) const BOOLEAN: i8 = 1;
/// A string.
pub(super) const STRING: i8 = 2;
/// 32 bits.
pub(super) const INT: i8 = 3;
/// 64 bits.
pub(super) const LONG: i8 = 5;
/// A fraction.
pub(super) const DOUBLE: i8 = 6;
/// Comma-separated.
pub(super) const LIST: i8 = 7;

/// `DescribeConfigsResponse.ConfigSource`: set on the topic.
pub(super) const SOURCE_TOPIC: i8 = 1;
/// Set in the broker's properties.
pub(super) const SOURCE_STATIC_BROKER: i8 = 4;
/// Nobody set it.
pub(super) const SOURCE_DEFAULT: i8 = 5;

/// A config that Kafka knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Name.
    pub(super) name: &'static str,
    /// Type, as numbered above.
    pub(super) kind: i8,
    /// Kafka's default.
    pub(super) default: &'static str,
    /// For topic configs: the broker config that stands in for it.
    pub(super) synonym: &'static str,
}

const fn known(name: &'static str, kind: i8, default: &'static str, synonym: &'static str) -> Known {
    Known { name, kind, default, synonym }
}

const MAX_LONG: &str = "9223372036854775807";

/// Topic configs of Kafka 4.x.
pub(super) const TOPIC: &[Known] = &[
    known("cleanup.policy", LIST, "delete", "log.cleanup.policy"),
    known("compression.gzip.level", INT, "-1", "compression.gzip.level"),
    known("compression.lz4.level", INT, "9", "compression.lz4.level"),
    known("compression.type", STRING, "producer", "compression.type"),
    known("compression.zstd.level", INT, "3", "compression.zstd.level"),
    known("delete.retention.ms", LONG, "86400000", "log.cleaner.delete.retention.ms"),
    known("file.delete.delay.ms", LONG, "60000", "log.segment.delete.delay.ms"),
    known("flush.messages", LONG, MAX_LONG, "log.flush.interval.messages"),
    known("flush.ms", LONG, MAX_LONG, "log.flush.interval.ms"),
    known("follower.replication.throttled.replicas", LIST, "", ""),
    known("index.interval.bytes", INT, "4096", "log.index.interval.bytes"),
    known("leader.replication.throttled.replicas", LIST, "", ""),
    known("local.retention.bytes", LONG, "-2", "log.local.retention.bytes"),
    known("local.retention.ms", LONG, "-2", "log.local.retention.ms"),
    known("max.compaction.lag.ms", LONG, MAX_LONG, "log.cleaner.max.compaction.lag.ms"),
    known("max.message.bytes", INT, "1048588", "message.max.bytes"),
    known("message.timestamp.after.max.ms", LONG, "3600000", "log.message.timestamp.after.max.ms"),
    known("message.timestamp.before.max.ms", LONG, MAX_LONG, "log.message.timestamp.before.max.ms"),
    known("message.timestamp.type", STRING, "CreateTime", "log.message.timestamp.type"),
    known("min.cleanable.dirty.ratio", DOUBLE, "0.5", "log.cleaner.min.cleanable.ratio"),
    known("min.compaction.lag.ms", LONG, "0", "log.cleaner.min.compaction.lag.ms"),
    known("min.insync.replicas", INT, "1", "min.insync.replicas"),
    known("preallocate", BOOLEAN, "false", "log.preallocate"),
    known("remote.log.copy.disable", BOOLEAN, "false", ""),
    known("remote.log.delete.on.disable", BOOLEAN, "false", ""),
    known("remote.storage.enable", BOOLEAN, "false", ""),
    known("retention.bytes", LONG, "-1", "log.retention.bytes"),
    known("retention.ms", LONG, "604800000", "log.retention.ms"),
    known("segment.bytes", INT, "1073741824", "log.segment.bytes"),
    known("segment.index.bytes", INT, "10485760", "log.index.size.max.bytes"),
    known("segment.jitter.ms", LONG, "0", "log.roll.jitter.ms"),
    known("segment.ms", LONG, "604800000", "log.roll.ms"),
    known("unclean.leader.election.enable", BOOLEAN, "false", "unclean.leader.election.enable"),
];

/// Broker configs that clients of a replicator ask for.
pub(super) const BROKER: &[Known] = &[
    known("auto.create.topics.enable", BOOLEAN, "true", ""),
    known("compression.type", STRING, "producer", ""),
    known("default.replication.factor", INT, "1", ""),
    known("log.cleanup.policy", LIST, "delete", ""),
    known("log.message.timestamp.after.max.ms", LONG, "3600000", ""),
    known("log.message.timestamp.before.max.ms", LONG, MAX_LONG, ""),
    known("log.message.timestamp.type", STRING, "CreateTime", ""),
    known("log.retention.bytes", LONG, "-1", ""),
    known("log.retention.ms", LONG, "604800000", ""),
    known("message.max.bytes", INT, "1048588", ""),
    known("min.insync.replicas", INT, "1", ""),
    known("num.partitions", INT, "1", ""),
    known("group.min.session.timeout.ms", INT, "6000", ""),
    known("group.max.session.timeout.ms", INT, "1800000", ""),
    known("offset.metadata.max.bytes", INT, "4096", ""),
    known("offsets.retention.minutes", INT, "10080", ""),
    known("producer.id.expiration.ms", INT, "86400000", ""),
    known("transaction.max.timeout.ms", INT, "900000", ""),
    known("transactional.id.expiration.ms", INT, "604800000", ""),
    known("unclean.leader.election.enable", BOOLEAN, "false", ""),
];

/// The table entry of a topic config.
pub(super) fn topic_config(name: &str) -> Option<&'static Known> {
    TOPIC.iter().find(|known| known.name == name)
}

/// Value and source of a topic config, given what is set on the topic and on the broker.
pub(super) fn resolve<'a>(
    known: &Known,
    topic: &'a BTreeMap<String, String>,
    broker: &'a BTreeMap<String, String>,
) -> (std::borrow::Cow<'a, str>, i8) {
    if let Some(value) = topic.get(known.name) {
        return (value.as_str().into(), SOURCE_TOPIC);
    }
    match broker.get(known.synonym) {
        Some(value) if !known.synonym.is_empty() => (value.as_str().into(), SOURCE_STATIC_BROKER),
        _ => (known.default.into(), SOURCE_DEFAULT),
    }
}

/// Whether a topic config may have this value; the reason when not.
pub(super) fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some(known) = topic_config(name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    let ok = match (known.name, known.kind) {
        ("cleanup.policy", _) => value.split(',').all(|part| matches!(part.trim(), "" | "compact" | "delete")),
        ("message.timestamp.type", _) => matches!(value, "CreateTime" | "LogAppendTime"),
        ("compression.type", _) => {
            matches!(value, "producer" | "uncompressed" | "gzip" | "snappy" | "lz4" | "zstd")
        }
        (_, BOOLEAN) => matches!(value, "true" | "false"),
        (_, INT) => value.parse::<i32>().is_ok(),
        (_, LONG) => value.parse::<i64>().is_ok(),
        (_, DOUBLE) => value.parse::<f64>().is_ok(),
        _ => true,
    };
    if ok { Ok(()) } else { Err(format!("Invalid value {value} for configuration {name}")) }
}
