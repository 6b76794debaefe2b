//! An archive as a cluster: the embedded broker serves its logs, topics and committed offsets as the source had them.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::BackupError;
use super::backing::{ServedLog, Shelf};
use super::bounds::PARTITIONS_SERVED_MAX;
use super::capture::{Captured, CapturedTopic};
use super::chain::Log;
use super::cut::Cut;
use super::fetch::Segments;
use crate::broker::{BackedLog, Backing, Cluster, ClusterOptions, GroupOffset};

/// Logs to be served.
#[derive(Debug, Clone)]
pub(super) struct Stock {
    /// Cluster id of the source.
    pub(super) cluster_id: String,
    /// What was known of topics and groups.
    pub(super) captured: Captured,
    /// The logs, and the offsets that are served of each: from the first up to the second.
    pub(super) logs: Vec<(Log, i64, i64)>,
    /// Topics without a record.
    pub(super) empty: Vec<CapturedTopic>,
}

/// A cluster that serves an archive, for as long as it is held.
pub(super) struct Served {
    cluster: Cluster,
    shelf: Arc<Shelf>,
    client_id: String,
}

impl Served {
    /// Begins to serve. Only who knows the client id is answered: the port is open to everybody on this machine.
    pub(super) async fn start(segments: &Segments, stock: &Stock, memory_bytes: usize) -> Result<Self, BackupError> {
        let client_id = format!("kmirror.restore.{}", Uuid::new_v4().simple());
        let options = ClusterOptions {
            cluster_id: stock.cluster_id.clone(),
            auto_create_topics: false,
            client_id_required: Some(client_id.clone()),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(options).await?;
        let served = |(log, from, to): &(Log, i64, i64)| ServedLog {
            segments: log.segments.clone(),
            lost: log.lost.clone(),
            from: *from,
            cut: Cut { end: *to },
        };
        let logs = stock.logs.iter().map(served).collect();
        let (shelf, backings) = Shelf::open(segments.clone(), logs, memory_bytes, cluster.waker());
        create_topics(&cluster, stock)?;
        for ((log, from, to), backing) in stock.logs.iter().zip(backings) {
            cluster.back(&log.id.topic, log.id.partition, backed(log, (*from, *to), backing))?;
        }
        plant_groups(&cluster, stock);
        Ok(Self { cluster, shelf, client_id })
    }

    /// Where it listens.
    pub(super) fn bootstrap(&self) -> Vec<String> {
        self.cluster.bootstrap()
    }

    /// What requests must carry.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What could not be read of the archive, if anything.
    pub(super) fn failure(&self) -> Option<String> {
        self.shelf.failure()
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        self.cluster.stop().await;
    }
}

/// Every topic with all its partitions: those without a log are empty.
fn create_topics(cluster: &Cluster, stock: &Stock) -> Result<(), BackupError> {
    let mut topics: BTreeMap<(&str, Uuid), i32> = BTreeMap::new();
    for (log, _, _) in &stock.logs {
        let count = topics.entry((&log.id.topic, log.id.topic_id)).or_default();
        *count = (*count).max(log.id.partition + 1);
    }
    for topic in &stock.empty {
        topics.entry((&topic.name, topic.topic_id)).or_default();
    }
    let mut all = 0usize;
    for ((name, id), found) in topics {
        let known = stock.captured.topics.entries.iter().find(|topic| topic.name == name);
        let partitions = known.map_or(found, |topic| i32::try_from(topic.partitions).unwrap_or(found).max(found));
        all = all.saturating_add(usize::try_from(partitions).unwrap_or(usize::MAX));
        if all > PARTITIONS_SERVED_MAX {
            return Err(BackupError::Refused(format!(
                "the archive has more than {PARTITIONS_SERVED_MAX} partitions, more than one restore serves: restore its topics in turn (--topic)"
            )));
        }
        let told = known.into_iter().flat_map(|topic| &topic.configs);
        let configs = told.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        cluster.create_backed_topic(name, id, partitions, configs)?;
        for partition in 0..partitions {
            cluster.back(name, partition, empty())?;
        }
    }
    Ok(())
}

fn empty() -> BackedLog {
    #[derive(Debug)]
    struct Nothing;
    impl Backing for Nothing {
        fn read(&self, _offset: i64, _bound: i64, _max_bytes: usize) -> crate::broker::BackedRead {
            crate::broker::BackedRead::Nothing
        }

        fn offset_for_time(&self, _timestamp_ms: i64) -> Option<(i64, i64)> {
            None
        }
    }
    BackedLog {
        start_offset: 0,
        end_offset: 0,
        leader_epochs: Vec::new(),
        aborted: Vec::new(),
        backing: Arc::new(Nothing),
    }
}

fn backed(log: &Log, (from, to): (i64, i64), backing: Arc<dyn Backing>) -> BackedLog {
    let aborted = log.aborted.iter().filter(|txn| txn.last_offset >= from && txn.last_offset < to);
    let mut leader_epochs = log.leader_epochs();
    leader_epochs.retain(|(_, begins)| *begins < to);
    BackedLog {
        start_offset: from,
        end_offset: to,
        leader_epochs,
        aborted: aborted.map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset)).collect(),
        backing,
    }
}

fn plant_groups(cluster: &Cluster, stock: &Stock) {
    let is_log =
        |log: &Log, topic: &str, partition: i32| (log.id.topic.as_str(), log.id.partition) == (topic, partition);
    let end = |topic: &str, partition: i32| {
        let found = stock.logs.iter().find(|(log, _, _)| is_log(log, topic, partition));
        found.map_or(0, |(_, _, to)| *to)
    };
    let served = |topic: &str| stock.logs.iter().any(|(log, _, _)| log.id.topic == topic);
    for group in &stock.captured.groups.entries {
        for committed in group.offsets.iter().filter(|committed| served(&committed.topic)) {
            let end = end(&committed.topic, committed.partition);
            // Who was further than what comes back goes on behind it.
            let is_beyond = committed.offset > end;
            let offset = GroupOffset {
                offset: committed.offset.min(end),
                leader_epoch: if is_beyond { -1 } else { committed.leader_epoch },
                metadata: committed.metadata.clone(),
            };
            cluster.plant_offset(&group.group, &committed.topic, committed.partition, offset);
        }
    }
}
