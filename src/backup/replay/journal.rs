//! How far each replay has come: a compacted topic on the cluster that is replayed into, keyed by the name of the replay.
//!
//! A record says of each source partition behind which offset everything is on the target, and of each target partition in front of
//! which offset; what a replay appended since is found by the headers behind those. Any record that was ever true serves, an older one
//! only has more to read: so it does no harm where a call that was overtaken writes one late.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::BackupError;
use super::super::envelope::{self, FileKind};
use crate::batch::{self, Codec, Record, Stamp};
use crate::client::{Cluster, NewTopic, ReadOptions, TopicPartition, Topics, nothing_below_end, read_log};
use crate::engine::EngineError;

/// Its topic. (A mirror's state topic has a dot where this has a dash.)
pub(crate) const TOPIC: &str = "__kmirror-replays";
const KIND: FileKind = FileKind { magic: "kmirror-replay", version: 1 };
const DECODE_LIMIT_BYTES: usize = 16 << 20;

/// How far a replay has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Name of the replay.
    pub(super) id: String,
    /// Backup that it reads.
    pub(super) backup: String,
    /// Topic of the source.
    pub(super) topic: String,
    /// Topic that it writes to.
    pub(super) into: String,
    /// By partition of the source: behind the last offset that is on the target.
    pub(super) positions: BTreeMap<i32, i64>,
    /// By partition of the target: what is beyond `positions` stands at or behind this offset.
    pub(super) ends: Vec<i64>,
    /// Records so far.
    pub(super) records: u64,
    /// When this was written, ms.
    pub(super) at_ms: i64,
}

impl Progress {
    /// Out of a record's value.
    pub(super) fn parse(value: &[u8]) -> Result<Self, String> {
        let (_, body) = envelope::open(KIND, value).map_err(|error| error.to_string())?;
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// The value of its record.
    pub(super) fn to_value(&self) -> Vec<u8> {
        wrapped(&serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn reach(&self) -> i64 {
        self.positions.values().fold(0, |sum, position| sum.saturating_add(*position))
    }
}

/// The journal of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    cluster: Cluster,
    pub(super) tp: TopicPartition,
}

impl Journal {
    /// The journal, where there is one.
    pub(super) async fn find(cluster: &Cluster) -> Result<Option<Self>, BackupError> {
        let metadata = cluster.refresh(Topics::Named(&[TOPIC])).await?;
        let Some(meta) = metadata.topic(TOPIC).filter(|meta| !meta.partitions.is_empty()) else { return Ok(None) };
        let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id: meta.id, partition: 0 };
        Ok(Some(Self { cluster: cluster.clone(), tp }))
    }

    /// The journal; made where there is none.
    pub(super) async fn open(cluster: &Cluster) -> Result<Self, BackupError> {
        if let Some(found) = Self::find(cluster).await? {
            return Ok(found);
        }
        let brokers = cluster.metadata().brokers.len();
        let configs = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", if brokers >= 3 { "2" } else { "1" }),
        ];
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: 1,
            replication_factor: i16::try_from(brokers.clamp(1, 3)).unwrap_or(1),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        };
        cluster.create_topic_if_absent(&topic).await?;
        let found = Self::find(cluster).await?;
        found.ok_or_else(|| damaged(cluster, 0, "the topic is not there after its creation"))
    }

    /// Every replay on record, by name.
    pub(super) async fn read(&self) -> Result<BTreeMap<String, Progress>, BackupError> {
        let mut all: BTreeMap<String, Progress> = BTreeMap::new();
        let mut at = self.cluster.log_start(&self.tp).await?;
        let end = self.cluster.log_end(&self.tp).await?;
        while at < end {
            let options = ReadOptions { max_wait_ms: 0, ..ReadOptions::default() };
            let slice = read_log(&self.cluster, &self.tp, at, options).await.map_err(EngineError::from)?;
            let Some(last) = slice.batches.last() else {
                return Err(nothing_below_end(&self.cluster, &self.tp).into());
            };
            at = last.header.next_offset();
            for batch in slice.batches.iter().filter(|batch| !batch.header.is_control()) {
                let records = batch::decode(batch, DECODE_LIMIT_BYTES)
                    .map_err(|error| damaged(&self.cluster, batch.header.base_offset, &error.to_string()))?;
                for record in records {
                    self.take(&record, &mut all)?;
                }
            }
        }
        Ok(all)
    }

    fn take(&self, record: &Record, all: &mut BTreeMap<String, Progress>) -> Result<(), BackupError> {
        let progress = Progress::parse(record.value.as_deref().unwrap_or_default())
            .map_err(|error| damaged(&self.cluster, record.offset, &error))?;
        let is_better = all.get(&progress.id).is_none_or(|known| known.reach() <= progress.reach());
        if is_better {
            all.insert(progress.id.clone(), progress);
        }
        Ok(())
    }

    /// Notes how far a replay has come. It may land twice: it means the same.
    pub(super) async fn write(&self, progress: &Progress) -> Result<(), BackupError> {
        let record = Record {
            offset: 0,
            timestamp: progress.at_ms,
            attributes: 0,
            key: Some(Bytes::from(progress.id.clone())),
            value: Some(progress.to_value().into()),
            headers: Vec::new(),
        };
        let batch = batch::encode(&[record], Codec::None, Stamp::NONE)
            .map_err(|error| damaged(&self.cluster, -1, &error.to_string()))?;
        self.cluster.append_plain(&self.tp, batch.bytes).await?;
        Ok(())
    }
}

/// A record's value with this body.
pub(super) fn wrapped(body: &[u8]) -> Vec<u8> {
    envelope::wrap(KIND, body, None)
}

fn damaged(cluster: &Cluster, offset: i64, detail: &str) -> BackupError {
    BackupError::Refused(format!(
        "cluster {}: {TOPIC}:0 at offset {offset}: {detail}; without this topic nobody knows how far a replay came: use the kmirror that \
         wrote it, or replay into a topic that holds nothing of the replay yet, under another --suffix, once {TOPIC} is deleted",
        cluster.name()
    ))
}
