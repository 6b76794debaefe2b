//! A restore to identical offsets: every record at the offset that it had, in a topic that is made for it.
//!
//! The mirror that restores otherwise writes a marker into each partition whenever it takes it over, and a promotion does; so its offsets
//! shift, which its map knows. Here offsets may not shift, so there is one writer of its own, and no state but the topic itself:
//!
//! - What is on the target says how far it is. A call that goes on reads it, and compares it with the archive.
//! - While it is not done the topic bears a mark in its configuration that nobody else sets: which restore made it ([`Mark`]). A topic
//!   without one is somebody's, and is not written to.
//! - Nothing may delete or compact before everything is there, so the topic's own configs come last.

mod groups;
mod partition;
mod pieces;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::BackupError;
use super::chain::Log;
use super::digest::sha256_hex;
use super::restore::{OnProgress, RestorePlan, RestoreRow};
use super::serve::{Served, Stock};
use crate::client::{Cluster, ClusterSpec, ConfigEntry, NewTopic, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::mirror::Isolation;
use crate::plan::{SettingFacts, promotion_settings, target_configs};
use partition::{Ends, Found, Job};

/// Partitions that are written side by side.
const AT_ONCE: usize = 8;
/// And looked at.
const SETTLE_AT_ONCE: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const NO_NEWS: Duration = Duration::from_secs(30);
/// More than this is not written in front of a partition's first record: hours of it.
const FRONT_MAX: i64 = 20_000_000_000;
/// From so many on a plan tells how many markers a partition needs.
const MANY_MARKERS: i64 = 100_000;
/// Where the mark is: what it says there means "never", as does the default.
const MARKED: &str = "flush.messages";
const UNFINISHED: i64 = 1 << 62;
const FILLED: i64 = UNFINISHED | (1 << 61);
/// What else is set until everything is there.
const MEANWHILE: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("max.message.bytes", "104857600"),
];

/// What a restore to identical offsets did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Identical {
    /// Records that were read back, each at the offset that it had.
    pub records: u64,
    /// Offsets in front of the first records: written and deleted again.
    pub front_offsets: i64,
    /// Offsets that had no record, and have a control marker now.
    pub markers: i64,
    /// Committed offsets of groups that are as they were.
    pub group_offsets: usize,
    /// What is not as it was.
    pub problems: Vec<String>,
}

/// Who made a topic, and how far it is; a value that nobody else sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(i64);

impl Mark {
    fn of(cluster_id: &str, mirror: &MirrorConfig, rows: &[RestoreRow]) -> Self {
        let mut text = format!("{cluster_id}\n{}\n", mirror.name);
        for row in rows {
            text.push_str(&format!("{} {} {} {}\n", row.topic, row.target_topic, row.partition, row.from));
        }
        let digest = sha256_hex(text.as_bytes());
        Self(digest.get(..15).and_then(|hex| i64::from_str_radix(hex, 16).ok()).unwrap_or_default())
    }

    fn value(self, stage: i64) -> String {
        (stage | self.0).to_string()
    }

    /// How far the topic is, by its own configs.
    fn stage(self, own: &[ConfigEntry]) -> Stage {
        let value = own.iter().find(|entry| entry.name == MARKED).and_then(|entry| entry.value.as_deref());
        match value.and_then(|value| value.parse::<i64>().ok()) {
            Some(value) if value == UNFINISHED | self.0 => Stage::Unfinished,
            Some(value) if value == FILLED | self.0 => Stage::Filled,
            Some(value) if value & UNFINISHED != 0 => Stage::AnotherRestore,
            _ => Stage::Somebodys,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Made by this restore, and being written.
    Unfinished,
    /// Whole, and read back.
    Filled,
    /// Made by another one.
    AnotherRestore,
    /// Not made by a restore, or long done.
    Somebodys,
}

/// What stands against it: topics that are there already, unless they are unfinished ones of this very restore.
pub(super) async fn obstacles(
    target: &Cluster,
    mirror: &MirrorConfig,
    plan: &RestorePlan,
) -> Result<Vec<String>, BackupError> {
    let rows = &plan.partitions;
    if rows.is_empty() && plan.empty_topics.is_empty() {
        return Ok(vec!["nothing in the archive is what was asked for".to_owned()]);
    }
    let mut out: Vec<String> = rows.iter().filter(|row| row.from > FRONT_MAX).map(too_far).collect();
    let topics: BTreeSet<String> = rows
        .iter()
        .map(|row| row.target_topic.clone())
        .chain(plan.empty_topics.iter().map(|topic| mirror.target_topic(topic)))
        .collect();
    let stages = stages(target, Mark::of(&plan.cluster_id, mirror, rows), &topics).await?;
    // Once all are whole the marks go, one by one: a topic without one is done then, and somebody's else.
    let is_ending = stages.values().any(|stage| *stage == Stage::Filled);
    for (topic, stage) in stages {
        let why = match stage {
            Stage::Unfinished | Stage::Filled => continue,
            Stage::Somebodys if is_ending => continue,
            Stage::Somebodys => "is there already, and only a new topic can have the offsets that another had",
            Stage::AnotherRestore => "is an unfinished one of another restore: say what its first call said",
        };
        out.push(format!(
            "topic {topic} of cluster {} {why}: restore under other names (--rename), or delete it",
            target.name()
        ));
    }
    Ok(out)
}

fn too_far(row: &RestoreRow) -> String {
    format!(
        "{}:{} begins at offset {}: as many empty records would have to be written in front of it, and {FRONT_MAX} are the most; leave \
         --preserve-offsets out for this topic",
        row.topic, row.partition, row.from
    )
}

/// In words, where many offsets of a log have no record. Markers of transactions that the archive holds as records are not among them.
pub(super) fn many_markers(log: &Log, (from, to): (i64, i64)) -> Option<String> {
    let whole = log.segments.iter().filter(|part| part.from >= from && part.to <= to);
    let holes: i64 = whole.map(|part| (part.to - part.from) - part.records.cast_signed()).sum();
    (holes >= MANY_MARKERS).then(|| {
        format!(
            "{}: at least {holes} offsets have no record; as many control markers are written, of 78 bytes each",
            log.id
        )
    })
}

/// Those of the topics that are there.
async fn stages(
    target: &Cluster,
    mark: Mark,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<String, Stage>, BackupError> {
    let metadata = target.refresh(Topics::All).await?;
    let there: Vec<&str> = topics.iter().map(String::as_str).filter(|name| metadata.topic(name).is_some()).collect();
    let mut stages = BTreeMap::new();
    for (topic, own) in target.own_configs_of_topics(&there).await? {
        stages.insert(topic, mark.stage(&own?));
    }
    Ok(stages)
}

/// What it is about.
pub(super) struct Task<'a> {
    pub(super) backup: &'a str,
    pub(super) mirror: &'a MirrorConfig,
    pub(super) stock: &'a Stock,
    pub(super) rows: &'a [RestoreRow],
    pub(super) isolation: Isolation,
}

impl Task<'_> {
    /// Does it, or goes on where an earlier call was cut short.
    pub(super) async fn run(
        &self,
        served: &Served,
        target: Cluster,
        progress: OnProgress<'_>,
    ) -> Result<Identical, BackupError> {
        let archive = Cluster::connect(ClusterSpec::new("archive", served.bootstrap(), served.client_id().to_owned()));
        let ends = Ends { archive: archive.await?, target };
        let mark = Mark::of(&self.stock.cluster_id, self.mirror, self.rows);
        let topics = self.topics();
        let names: BTreeSet<String> = topics.values().map(|topic| topic.name.clone()).collect();
        let before = stages(&ends.target, mark, &names).await?;
        // Filled ones are done, and so are those whose mark is gone already.
        let is_open = |topic: &str| before.get(topic).is_none_or(|stage| *stage == Stage::Unfinished);
        let open: BTreeMap<&String, &NewTopic> = topics.iter().filter(|(_, topic)| is_open(&topic.name)).collect();
        self.create(&ends.target, mark, &open).await?;
        let jobs = self.jobs(&ends, self.rows.iter().filter(|row| is_open(&row.target_topic))).await?;
        let found = self.write(&jobs, &ends, served, progress).await?;
        let front_offsets = jobs.iter().map(|job| job.range.0).sum();
        let mut report =
            Identical { records: found.records, markers: found.markers, front_offsets, ..Identical::default() };
        for (source, topic) in open {
            report.problems.extend(self.configure(&ends.target, mark, source, topic).await?);
        }
        let (written, problems) = groups::restore(&ends.target, self.stock, self.rows).await?;
        report.group_offsets = written;
        if !problems.is_empty() {
            // The marks stay: another call finds everything written, and does what is left.
            let ways = |problem| format!("{problem}; call the restore again once that is mended, or with --no-groups");
            report.problems.extend(problems.into_iter().map(ways));
            return Ok(report);
        }
        for topic in topics.values() {
            let gone = BTreeMap::from([(MARKED.to_owned(), topic.configs.get(MARKED).cloned())]);
            ends.target.alter_topic_configs(&topic.name, &gone).await?;
        }
        Ok(report)
    }

    /// Topics to be made, by the name that they had; with the configs that they are to have in the end.
    fn topics(&self) -> BTreeMap<String, NewTopic> {
        let mut topics: BTreeMap<String, NewTopic> = BTreeMap::new();
        let captured = &self.stock.captured.topics.entries;
        let served = self.stock.logs.iter().map(|(log, _, _)| (&log.id.topic, log.id.partition + 1));
        let empty = self.stock.empty.iter().map(|topic| (&topic.name, 1));
        for (name, partitions) in served.chain(empty) {
            let known = captured.iter().find(|topic| topic.name == *name);
            let partitions = known.map_or(0, |topic| i32::try_from(topic.partitions).unwrap_or(0)).max(partitions);
            let topic = topics.entry(name.clone()).or_insert_with(|| NewTopic {
                name: self.mirror.target_topic(name),
                partitions,
                replication_factor: self.mirror.target_topics.replication_factor.unwrap_or(-1),
                configs: known
                    .into_iter()
                    .flat_map(|topic| &topic.configs)
                    .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
                    .collect(),
            });
            topic.partitions = topic.partitions.max(partitions);
        }
        topics
    }

    async fn create(
        &self,
        target: &Cluster,
        mark: Mark,
        topics: &BTreeMap<&String, &NewTopic>,
    ) -> Result<(), BackupError> {
        let meanwhile = MEANWHILE.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut configs = BTreeMap::from(meanwhile);
        configs.insert(MARKED.to_owned(), mark.value(UNFINISHED));
        let new: Vec<NewTopic> =
            topics.values().map(|topic| NewTopic { configs: configs.clone(), ..(*topic).clone() }).collect();
        if let Some((_, error)) = target.create_topics_if_absent(&new).await?.refused.pop() {
            return Err(error.into());
        }
        let names: Vec<&str> = new.iter().map(|topic| topic.name.as_str()).collect();
        target.await_usable(&names, NO_NEWS).await?;
        // Whoever else has made one in between has not marked it.
        for (name, stage) in stages(target, mark, &names.iter().map(|name| (*name).to_owned()).collect()).await? {
            if stage != Stage::Unfinished {
                return Err(BackupError::Refused(format!("somebody else has made topic {name} meanwhile")));
            }
            // What opens the bounds of timestamps has other names in older versions.
            let known = known(target, &name).await?;
            let open = target_configs(&BTreeMap::new(), &BTreeMap::new(), &known).set;
            let open = open.into_iter().map(|(key, value)| (key, Some(value))).collect();
            target.alter_topic_configs(&name, &open).await?;
        }
        Ok(())
    }

    async fn jobs(&self, ends: &Ends, rows: impl Iterator<Item = &RestoreRow>) -> Result<Vec<Job>, BackupError> {
        let metadata = ends.target.refresh(Topics::All).await?;
        ends.archive.refresh(Topics::All).await?;
        let mut jobs = Vec::new();
        for row in rows {
            let is_its = |(topic, partition): (&str, i32)| (topic, partition) == (&row.topic, row.partition);
            let log = self.stock.logs.iter().map(|(log, _, _)| log);
            let log = log.clone().find(|log| is_its((&log.id.topic, log.id.partition)));
            let Some(log) = log else { continue };
            let topic_id = metadata.topic(&row.target_topic).map(|topic| topic.id).unwrap_or_default();
            let oldest_ms = log.segments.iter().map(|segment| segment.min_timestamp_ms).min().unwrap_or(0);
            jobs.push(Job {
                backup: self.backup.to_owned(),
                source: TopicPartition {
                    topic: row.topic.clone(),
                    topic_id: log.id.topic_id,
                    partition: row.partition,
                },
                target: TopicPartition { topic: row.target_topic.clone(), topic_id, partition: row.partition },
                range: (row.from, row.to),
                isolation: self.isolation,
                oldest_ms: oldest_ms.max(0),
            });
        }
        Ok(jobs)
    }

    /// Writes all partitions, and reads them back.
    async fn write(
        &self,
        jobs: &[Job],
        ends: &Ends,
        served: &Served,
        progress: OnProgress<'_>,
    ) -> Result<Found, BackupError> {
        let all: i64 = jobs.iter().map(|job| job.range.1 - job.range.0).sum();
        let done = Arc::new(AtomicI64::new(0));
        // What a call that was killed had on its way has come by the time that a log stands still.
        let settle = |job: &'_ Job| {
            let (job, ends) = (job.clone(), ends.clone());
            async move { partition::settle(&job, &ends).await }
        };
        stream::iter(jobs).map(settle).buffer_unordered(SETTLE_AT_ONCE).try_collect::<()>().await?;
        let work = async {
            let fill = |job| partition::fill(job, ends, &done);
            stream::iter(jobs).map(fill).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            let verify = |job| partition::verify(job, ends);
            let found: Vec<Found> = stream::iter(jobs).map(verify).buffer_unordered(AT_ONCE).try_collect().await?;
            Ok(found.into_iter().fold(Found::default(), |sum, found| Found {
                records: sum.records + found.records,
                markers: sum.markers + found.markers,
            }))
        };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    progress(done.load(Ordering::Relaxed), all);
                    if let Some(failure) = served.failure() {
                        return Err(BackupError::NotThere { backup: self.backup.to_owned(), detail: failure });
                    }
                }
            }
        }
    }

    /// Gives a topic that is whole the configs that it had; gives those that it cannot have.
    async fn configure(
        &self,
        target: &Cluster,
        mark: Mark,
        source: &str,
        topic: &NewTopic,
    ) -> Result<Vec<String>, BackupError> {
        let known = known(target, &topic.name).await?;
        let own = target.topic_overrides(&topic.name).await?;
        let metadata = target.refresh(Topics::Named(&[&topic.name])).await?;
        let partitions = metadata.topic(&topic.name).into_iter().flat_map(|topic| &topic.partitions);
        let replicas = partitions.map(|partition| partition.replicas).min().unwrap_or(1);
        let (overrides, wanted) = (BTreeMap::new(), &topic.configs);
        let facts = SettingFacts {
            source: Some(wanted),
            target: &own,
            overrides: &overrides,
            known: &known,
            replicas,
            synced: None,
        };
        let settings = promotion_settings(source, &topic.name, facts);
        let mut changes: BTreeMap<String, Option<String>> =
            settings.changes.into_iter().map(|change| (change.key, change.to)).collect();
        for (key, _) in MEANWHILE.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            changes.insert((*key).to_owned(), None);
        }
        changes.insert(MARKED.to_owned(), Some(mark.value(FILLED)));
        target.alter_topic_configs(&topic.name, &changes).await?;
        Ok(settings.left.into_iter().map(|(key, why)| format!("topic {}: {key}: {why}", topic.name)).collect())
    }
}

async fn known(target: &Cluster, topic: &str) -> Result<BTreeSet<String>, BackupError> {
    Ok(target.topic_configs(topic).await?.into_iter().map(|entry| entry.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: i64) -> Vec<ConfigEntry> {
        vec![ConfigEntry { name: MARKED.to_owned(), value: Some(number.to_string()), own: true }]
    }

    #[test]
    fn a_mark_tells_whose_a_topic_is() {
        let mark_of = |mirror: &str| {
            let rename = crate::config::Rename::new("{topic}", "archive", "to").unwrap();
            Mark::of("cluster", &MirrorConfig::for_restore(mirror, "to", rename), &[])
        };
        let (ours, other) = (mark_of("restore.nightly.to"), mark_of("restore.nightly.to.again"));
        assert_ne!(ours, other);
        assert_eq!(ours.stage(&mark(ours.value(UNFINISHED).parse().unwrap())), Stage::Unfinished);
        assert_eq!(ours.stage(&mark(ours.value(FILLED).parse().unwrap())), Stage::Filled);
        assert_eq!(other.stage(&mark(ours.value(FILLED).parse().unwrap())), Stage::AnotherRestore);
        // What an operator may have set, and the default.
        for value in [1, 10_000, i64::MAX] {
            assert_ne!(ours.stage(&mark(value)), Stage::Unfinished);
        }
        assert_eq!(ours.stage(&mark(10_000)), Stage::Somebodys);
        assert_eq!(ours.stage(&[]), Stage::Somebodys);
    }
}
