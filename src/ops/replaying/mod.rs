//! Records appended once more to a topic that others write to as well, each once: what the replay of a divergent tail and that of an
//! archive share.
//!
//! Each record goes as it is, with one more header, [`ORIGIN`], which says where it stood; where several replays may write to one topic,
//! [`REPLAY`] behind it says which of them it was. By these a replay that was cut short finds out how far it came: it is fenced first, as
//! a mirror's writers are (Init, a marker), so that nothing of it can land any more, and what stands behind where it began is read.
//! Within a partition the order is kept; partition P goes to partition P modulo the number that the topic has.

mod appender;
mod mark;

use std::collections::BTreeMap;

use crate::client::{Cluster, TopicPartition, Topics};
use crate::engine::EngineError;
use crate::mirror::Isolation;

use super::records::Stretch;

pub(crate) use appender::{Appender, Replayer};
pub(super) use mark::origin;
pub(crate) use mark::{BATCH_BYTES, BATCH_RECORDS, Due, in_parts, size_of};
pub use mark::{ORIGIN, REPLAY};

const CLEANUP_POLICY: &str = "cleanup.policy";

/// Why nothing, or not everything, was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// One of the clusters.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The topic to replay into.
    #[error("topic {topic} on cluster {cluster} {what}")]
    Topic {
        /// Cluster name.
        cluster: String,
        /// The topic.
        topic: String,
        /// What about it.
        what: String,
    },
    /// A batch of it.
    #[error(
        "records of {from} from offset {offset} on could not be appended to {into}; what was appended stays, and the same \
             command goes on from there"
    )]
    Append {
        /// Topic and partition that they come from.
        from: String,
        /// Offset of the first record of the batch.
        offset: i64,
        /// Partition of the topic.
        into: TopicPartition,
        /// What was wrong.
        #[source]
        source: Box<EngineError>,
    },
}

impl ReplayError {
    /// What a cluster said, where one did.
    pub(crate) fn engine(&self) -> Option<&EngineError> {
        match self {
            Self::Engine(error) => Some(error),
            Self::Append { source, .. } => Some(source),
            Self::Topic { .. } => None,
        }
    }
}

/// By partition that is replayed: the last of its offsets that is there, and how many are.
pub(crate) type There = BTreeMap<(String, i32), (i64, u64)>;

/// A topic to replay into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Into {
    /// Its partitions.
    pub(crate) partitions: Vec<TopicPartition>,
    /// Those of its configs that were asked for; without the right to read them none.
    pub(crate) configs: BTreeMap<String, String>,
}

impl Into {
    /// Index of the partition that a partition goes to.
    pub(crate) fn of(&self, partition: i32) -> usize {
        partition.unsigned_abs() as usize % self.partitions.len().max(1)
    }
}

fn topic_error(cluster: &Cluster, topic: &str, what: &str) -> ReplayError {
    ReplayError::Topic { cluster: cluster.name().to_owned(), topic: topic.to_owned(), what: what.to_owned() }
}

/// The topic, if it can be replayed into; with it the configs `more`.
pub(crate) async fn find_into(cluster: &Cluster, topic: &str, more: &[&str]) -> Result<Into, ReplayError> {
    if topic.starts_with("__") {
        return Err(topic_error(cluster, topic, "belongs to Kafka or kmirror"));
    }
    let metadata = cluster.refresh(Topics::Named(&[topic])).await.map_err(EngineError::from)?;
    let Some(meta) = metadata.topic(topic).filter(|meta| !meta.partitions.is_empty()) else {
        return Err(topic_error(cluster, topic, "is not there; create it first"));
    };
    // Without the right to read it nobody knows, and the runbook warns.
    let keys = [&[CLEANUP_POLICY], more].concat();
    let mut configs = cluster.configs_of_topics(&[topic], &keys).await.unwrap_or_default();
    let configs = configs.remove(topic).unwrap_or_default();
    if configs.get(CLEANUP_POLICY).is_some_and(|policy| policy.contains("compact")) {
        let what = "is compacted: what was replayed could not be told from what its cleaner took since; replay into another one";
        return Err(topic_error(cluster, topic, what));
    }
    let count = i32::try_from(meta.partitions.len()).unwrap_or(i32::MAX);
    let tp = |partition| TopicPartition { topic: topic.to_owned(), topic_id: meta.id, partition };
    Ok(Into { partitions: (0..count).map(tp).collect(), configs })
}

/// Finds what a replay has put into a range of a partition; `mark` says which replay.
pub(crate) async fn read_back(
    cluster: &Cluster,
    tp: &TopicPartition,
    range: (i64, i64),
    mark: Option<&str>,
    there: &mut There,
) -> Result<(), ReplayError> {
    if range.0 >= range.1 {
        return Ok(());
    }
    if cluster.log_start(tp).await.map_err(EngineError::from)? > range.0 {
        let what = format!(
            "has lost its records in front of offset {} of partition {}, where an earlier replay began: what was replayed cannot be \
             told any more; replay into another topic",
            range.0, tp.partition
        );
        return Err(topic_error(cluster, &tp.topic, &what));
    }
    let mut stretch = Stretch::new(cluster, tp, Isolation::ReadUncommitted, range);
    while let Some(records) = stretch.next().await? {
        for (topic, partition, offset) in records.iter().filter_map(|record| origin(record, mark)) {
            let (last, count) = there.entry((topic, partition)).or_insert((-1, 0));
            (*last, *count) = (offset.max(*last), *count + 1);
        }
    }
    Ok(())
}
