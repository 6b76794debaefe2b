//! `kmirror check`: what would go wrong, said before the first byte is copied.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client::{ApiKey, Cluster, TopicMeta, TopicPartition, Topics};
use crate::config::{MirrorConfig, Start};
use crate::engine::shard::now_ms;
use crate::engine::topology::matching_topics;
use crate::engine::{EngineError, producer_expiration_ms};
use crate::plan::rights::Side;

use super::MirrorState;
use super::rights::probe::MissingRight;

mod rights;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but worth knowing.
    Warning,
    /// Will not work.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What was looked at (`reachability`, `versions`, `message_size` …).
    pub check: &'static str,
    /// Cluster, topic or partition.
    pub subject: String,
    /// What was found and what to do about it.
    pub detail: String,
    /// The right that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<MissingRight>,
}

/// The report of one mirror, `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Mirror name.
    pub mirror: String,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether anything will not work.
    pub fn has_problems(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Problem)
    }

    fn add(&mut self, severity: Severity, check: &'static str, subject: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding { severity, check, subject: subject.into(), detail: detail.into(), right: None });
    }
}

/// What each side must be able to do, with the Kafka version that brought it.
const SOURCE_APIS: [(ApiKey, i16, &str); 4] = [
    (ApiKey::Fetch, 12, "2.7"),
    (ApiKey::Metadata, 10, "2.8"),
    (ApiKey::ListOffsets, 4, "2.1"),
    (ApiKey::DescribeConfigs, 1, "1.1"),
];
const TARGET_APIS: [(ApiKey, i16, &str); 9] = [
    (ApiKey::Produce, 7, "2.1"),
    (ApiKey::Fetch, 12, "2.7"),
    (ApiKey::Metadata, 10, "2.8"),
    (ApiKey::InitProducerId, 3, "2.5"),
    (ApiKey::AddPartitionsToTxn, 0, "0.11"),
    (ApiKey::EndTxn, 0, "0.11"),
    (ApiKey::CreateTopics, 4, "2.4"),
    (ApiKey::CreatePartitions, 0, "1.0"),
    (ApiKey::DeleteRecords, 0, "0.11"),
];

/// What a check looks at.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    /// The mirror.
    pub mirror: &'a MirrorConfig,
    /// Whether a fleet shares it.
    pub is_shared: bool,
    /// Who kmirror is, where that is said on the command line.
    pub principals: &'a BTreeMap<Side, String>,
}

/// Looks at both clusters. Only an unreachable cluster is an error; everything else is a finding.
pub async fn check(looked: Looked<'_>, source: &Cluster, target: &Cluster) -> Result<CheckReport, EngineError> {
    let config = looked.mirror;
    let mut report = CheckReport { mirror: config.name.clone(), findings: Vec::new() };
    check_reach(&mut report, source, target);
    check_versions(&mut report, source, &SOURCE_APIS).await;
    check_versions(&mut report, target, &TARGET_APIS).await;
    let found = matching_topics(config, source, &[]).await?;
    rights::check_rights(&mut report, looked, &found, source, target).await?;
    for topic in &found.failed {
        let error = source.api_error("Metadata", topic.error, &topic.name);
        report.add(Severity::Problem, "topic", topic.name.clone(), error.to_string());
    }
    match check_data(&mut report, config, source, target, &found.topics).await {
        // It is among the rights that are missing, or it is another one.
        Err(error) if error.is_unauthorised() => {
            let detail = format!("{error}; what could not be looked at for that is not in this report");
            report.add(Severity::Problem, "rights", config.name.clone(), detail);
        }
        outcome => outcome?,
    }
    Ok(report)
}

async fn check_data(
    report: &mut CheckReport,
    config: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    topics: &[TopicMeta],
) -> Result<(), EngineError> {
    check_selection(report, config, topics);
    check_replication_factor(report, config, target).await?;
    let names: Vec<String> = topics.iter().map(|t| config.target_topic(&t.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let there = if names.is_empty() { target.metadata() } else { target.refresh(Topics::Named(&names)).await? };
    let state = MirrorState::read(&config.name, target).await?;
    if let Some(promotion) = state.as_ref().and_then(|s| s.control.standing_promotion()) {
        report.add(
            Severity::Problem,
            "promotion",
            config.name.clone(),
            format!("the mirror was promoted (generation {}); it will not write to the target", promotion.generation),
        );
    }
    let expiration_ms = producer_expiration_ms(target).await?;
    for topic in topics {
        let name = config.target_topic(&topic.name);
        if let Err(error) = check_topic(report, source, target, topic, &name).await {
            report.add(Severity::Problem, "topic", topic.name.clone(), error.to_string());
        }
        if let Some(mirror) = there.topic(&name).filter(|m| !m.partitions.is_empty()) {
            check_foreign(report, target, topic, mirror, state.as_ref()).await?;
        }
    }
    if config.start == Start::Earliest {
        check_age(report, source, topics, expiration_ms).await?;
    }
    Ok(())
}

fn check_reach(report: &mut CheckReport, source: &Cluster, target: &Cluster) {
    for (side, cluster) in [("source", source), ("target", target)] {
        let brokers = cluster.metadata().brokers.len();
        report.add(
            Severity::Ok,
            "reachability",
            cluster.name(),
            format!("{side} cluster {} with {brokers} broker(s)", cluster.cluster_id()),
        );
    }
    if source.cluster_id() == target.cluster_id() {
        report.add(
            Severity::Warning,
            "reachability",
            target.name(),
            "source and target are one cluster: a copy there does not survive its loss".to_owned(),
        );
    }
}

async fn check_versions(report: &mut CheckReport, cluster: &Cluster, needed: &[(ApiKey, i16, &str)]) {
    let metadata = cluster.metadata();
    for broker in metadata.brokers.keys() {
        let has = match cluster.api_versions(*broker).await {
            Ok(has) => has,
            Err(error) => {
                report.add(
                    Severity::Problem,
                    "reachability",
                    format!("{} broker {broker}", cluster.name()),
                    error.to_string(),
                );
                continue;
            }
        };
        for (api, version, since) in needed {
            let max = has.get(&(*api as i16)).map(|range| range.1);
            if max.is_none_or(|max| max < *version) {
                let offered = max.map_or_else(|| "not at all".to_owned(), |max| format!("up to v{max}"));
                report.add(
                    Severity::Problem,
                    "versions",
                    format!("{} broker {broker}", cluster.name()),
                    format!("needs {api:?} v{version} (Kafka {since}), offered {offered}"),
                );
            }
        }
    }
}

fn check_selection(report: &mut CheckReport, config: &MirrorConfig, topics: &[TopicMeta]) {
    let partitions: usize = topics.iter().map(|t| t.partitions.len()).sum();
    if topics.is_empty() {
        report.add(
            Severity::Warning,
            "selection",
            config.name.clone(),
            "no source topic matches `topics.include` less `topics.exclude`; new ones are picked up while running",
        );
    } else {
        let what = format!("{} topics, {partitions} partitions", topics.len());
        report.add(Severity::Ok, "selection", config.name.clone(), what);
    }
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for topic in topics {
        let name = config.target_topic(&topic.name);
        if let Some(other) = taken.insert(name.clone(), &topic.name) {
            report.add(
                Severity::Problem,
                "selection",
                name,
                format!("source topics {other} and {} would both be mirrored to it", topic.name),
            );
        }
    }
}

async fn check_replication_factor(
    report: &mut CheckReport,
    config: &MirrorConfig,
    target: &Cluster,
) -> Result<(), EngineError> {
    let brokers = target.metadata().brokers.len();
    let (name, factor) = match config.target_topics.replication_factor {
        Some(factor) => ("target_topics.replication_factor", usize::try_from(factor).unwrap_or(0)),
        None => {
            let configs = values(target.broker_configs().await?);
            let name = "default.replication.factor";
            ("the target's default.replication.factor", configs.get(name).and_then(|v| v.parse().ok()).unwrap_or(1))
        }
    };
    if factor > brokers {
        report.add(
            Severity::Problem,
            "replication_factor",
            target.name(),
            format!(
                "{name} is {factor}, but the cluster has {brokers} broker(s); set target_topics.replication_factor"
            ),
        );
    }
    Ok(())
}

async fn check_topic(
    report: &mut CheckReport,
    source: &Cluster,
    target: &Cluster,
    topic: &TopicMeta,
    target_name: &str,
) -> Result<(), EngineError> {
    let exists = target.metadata().topic(target_name).is_some_and(|t| !t.partitions.is_empty());
    if !exists {
        return Ok(());
    }
    let theirs = values(source.topic_configs(&topic.name).await?);
    let ours = values(target.topic_configs(target_name).await?);
    let size = |configs: &BTreeMap<String, String>| {
        configs.get("max.message.bytes").and_then(|v| v.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    if size(&ours) < size(&theirs) {
        report.add(
            Severity::Problem,
            "message_size",
            target_name,
            format!(
                "max.message.bytes is {} here and {} on the source: larger batches will halt their partition. Raise it",
                size(&ours),
                size(&theirs)
            ),
        );
    }
    let is = |configs: &BTreeMap<String, String>, key: &str, value: &str| configs.get(key).is_some_and(|v| v == value);
    if is(&ours, "message.timestamp.type", "LogAppendTime") {
        report.add(
            Severity::Problem,
            "timestamps",
            target_name,
            "message.timestamp.type is LogAppendTime: the target would overwrite the records' timestamps. Set CreateTime",
        );
    }
    if !is(&ours, "compression.type", "producer") {
        report.add(
            Severity::Warning,
            "compression",
            target_name,
            "compression.type is not `producer`: the target unpacks and packs every batch again",
        );
    }
    let compacted =
        |configs: &BTreeMap<String, String>| configs.get("cleanup.policy").is_some_and(|v| v.contains("compact"));
    if compacted(&ours) && !compacted(&theirs) {
        report.add(
            Severity::Warning,
            "cleanup_policy",
            target_name,
            "compacted here but not on the source: a record without a key will halt its partition",
        );
    }
    Ok(())
}

fn values(entries: Vec<crate::client::ConfigEntry>) -> BTreeMap<String, String> {
    entries.into_iter().filter_map(|e| e.value.map(|v| (e.name, v))).collect()
}

async fn check_foreign(
    report: &mut CheckReport,
    target: &Cluster,
    topic: &TopicMeta,
    mirror: &TopicMeta,
    state: Option<&MirrorState>,
) -> Result<(), EngineError> {
    let known: BTreeSet<i32> = state
        .iter()
        .flat_map(|s| s.partitions())
        .filter(|p| {
            p.declared.target_topic_id == mirror.id && p.declared.source_topic_id == topic.id && !p.map.is_empty()
        })
        .map(|p| p.declared.partition)
        .collect();
    let unknown: Vec<TopicPartition> = (0..)
        .take(mirror.partitions.len())
        .filter(|partition| !known.contains(partition))
        .map(|partition| TopicPartition { topic: mirror.name.clone(), topic_id: mirror.id, partition })
        .collect();
    let bounds = target.log_bounds(&unknown).await?;
    for (tp, (start, end)) in bounds {
        if start != end {
            report.add(
                Severity::Problem,
                "foreign_data",
                tp.to_string(),
                format!(
                    "holds data at offsets [{start}, {end}) that this mirror did not write; the partition will halt. \
                     Mirror to an empty topic, use `rename`, or set `on: {{ foreign_records: continue }}`"
                ),
            );
        }
    }
    if mirror.partitions.len() > topic.partitions.len() {
        report.add(
            Severity::Warning,
            "partitions",
            mirror.name.clone(),
            format!(
                "has {} partitions, the source {}: keyed producers that move here will choose other partitions",
                mirror.partitions.len(),
                topic.partitions.len()
            ),
        );
    }
    Ok(())
}

async fn check_age(
    report: &mut CheckReport,
    source: &Cluster,
    topics: &[TopicMeta],
    expiration_ms: u64,
) -> Result<(), EngineError> {
    let mut oldest: Option<(i64, String)> = None;
    for topic in topics {
        let tps: Vec<TopicPartition> = (0..)
            .take(topic.partitions.len())
            .map(|partition| TopicPartition { topic: topic.name.clone(), topic_id: topic.id, partition })
            .collect();
        for (tp, at_ms) in source.first_timestamps(&tps).await? {
            if at_ms >= 0 && oldest.as_ref().is_none_or(|(o, _)| at_ms < *o) {
                oldest = Some((at_ms, tp.to_string()));
            }
        }
    }
    let Some((at_ms, subject)) = oldest else { return Ok(()) };
    let age_ms = u64::try_from(now_ms() - at_ms).unwrap_or(0);
    if age_ms > expiration_ms {
        let words = |ms: u64| humantime::format_duration(std::time::Duration::from_secs(ms / 1000)).to_string();
        report.add(
            Severity::Warning,
            "producer_expiration",
            subject,
            format!(
                "the backlog reaches back {}, further than the target's producer.id.expiration.ms ({}): such records are \
                 copied one batch at a time per partition, and settled after a lost answer; exact, but slower. A larger \
                 producer.id.expiration.ms during the backfill avoids it",
                words(age_ms),
                words(expiration_ms)
            ),
        );
    }
    Ok(())
}
