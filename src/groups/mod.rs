//! Consumer groups: what a group's committed offsets are on the target ([`View::translate`]), what of it has to be written
//! there ([`Planner`]), and the way back ([`Snapshot`]).
//!
//! Pure: sees no cluster. Who calls it has read, in this order, the groups of the source, the ends of the source's logs, the
//! settled ends of the target's, the offset maps and the groups of the target: then no offset is younger than the map it is
//! translated by, and a group that came to life on the target meanwhile is refused by its coordinator.
//!
//! Offsets are Kafka's: a committed offset N means "the next record to read is N" (`OffsetAndMetadata`).

mod ledger;
mod plan;
mod snapshot;
mod translate;
mod view;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ledger::{Ledger, Written};
pub use plan::{Commit, Decision, Gone, GroupPlan, Line, Options, Outcome, Overwrite, Planner, Skip, Totals, Why};
pub use snapshot::{
    Former, GroupRollback, RollbackDecision, RollbackLine, SNAPSHOT_VERSION, Snapshot, SnapshotError, Step, rollback,
};
pub use translate::{Basis, Translated, Untranslatable};
pub use view::{EpochStart, Facts, TopicView, View, Views};

/// A committed offset, as OffsetFetch answers it and OffsetCommit takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Deserialize)]
pub struct Committed {
    /// The next record to read; negative where nothing is committed.
    pub offset: i64,
    /// Leader epoch of the last record read (KIP-320); −1 where not told.
    pub leader_epoch: i32,
    /// What the consumer noted with it; empty where nothing (the brokers make no difference to null).
    pub metadata: String,
}

/// Something for each of many partitions, ordered by topic and number. As JSON: `{"topic": {"0": …}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Deserialize)]
#[serde(transparent)]
pub struct ByPartition<T> {
    topics: BTreeMap<String, BTreeMap<i32, T>>,
}

impl<T> Default for ByPartition<T> {
    fn default() -> Self {
        Self { topics: BTreeMap::new() }
    }
}

impl<T> ByPartition<T> {
    /// What is known of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&T> {
        self.topic(topic)?.get(&partition)
    }

    /// What is known of a topic, by partition number.
    pub fn topic(&self, topic: &str) -> Option<&BTreeMap<i32, T>> {
        self.topics.get(topic)
    }

    /// Topics with their partitions, in order.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, T>)> {
        self.topics.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    /// Partitions in order: topic, number, what is known.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, &T)> {
        self.topics().flat_map(|(topic, all)| all.iter().map(move |(partition, value)| (topic, *partition, value)))
    }

    /// Sets what is known of a partition; the answer is what was known before.
    pub fn insert(&mut self, topic: &str, partition: i32, value: T) -> Option<T> {
        if let Some(partitions) = self.topics.get_mut(topic) {
            return partitions.insert(partition, value);
        }
        self.topics.insert(topic.to_owned(), BTreeMap::from([(partition, value)]));
        None
    }

    /// Sets all that is known of a topic.
    pub fn insert_topic(&mut self, topic: String, partitions: BTreeMap<i32, T>) {
        if partitions.is_empty() {
            self.topics.remove(&topic);
        } else {
            self.topics.insert(topic, partitions);
        }
    }

    /// Forgets a partition.
    pub fn remove(&mut self, topic: &str, partition: i32) -> Option<T> {
        let partitions = self.topics.get_mut(topic)?;
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        removed
    }

    /// The entry of a partition, made where there is none.
    fn entry(&mut self, topic: &str, partition: i32, make: impl FnOnce() -> T) -> &mut T {
        self.topics.entry(topic.to_owned()).or_default().entry(partition).or_insert_with(make)
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What kind of group it is (Kafka's `GroupType`; ListGroups v5+ tells it, before that every group is classic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupType {
    /// The protocol of JoinGroup and SyncGroup, and groups that only commit.
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932: a share group acknowledges records one by one, and commits no offset.
    Share,
    /// KIP-1071: commits offsets as a consumer group does.
    Streams,
    /// One that this version does not know.
    Unknown,
}

impl GroupType {
    /// By the name that a broker gives it (`GroupType.parse`: in whatever case); none at all is an older broker's answer.
    pub fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "" | "classic" => Self::Classic,
            "consumer" => Self::Consumer,
            "share" => Self::Share,
            "streams" => Self::Streams,
            _ => Self::Unknown,
        }
    }

    /// Whether a group without members of type `target` may take the offsets of one of this type. Classic and consumer
    /// groups become one another when members of the other kind join (KIP-848); other kinds stay what they are.
    fn fits(self, target: Self) -> bool {
        let plain = |kind| matches!(kind, Self::Classic | Self::Consumer);
        // A group that so far only commits is classic to the broker, whoever will join it.
        self == target || (plain(self) && plain(target)) || (self == Self::Streams && target == Self::Classic)
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
            Self::Unknown => "unknown",
        })
    }
}

/// A group on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceGroup {
    /// Its type.
    pub kind: GroupType,
    /// What it committed, by source topic.
    pub offsets: ByPartition<Committed>,
}

/// A group on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// Its type.
    pub kind: GroupType,
    /// It has members, or is about to (any state but Empty and Dead).
    pub live: bool,
    /// It has a protocol type (DescribeGroups), or is no classic group: somebody once consumed with it there. A group of
    /// which only offsets were ever committed has none (`ClassicGroup.protocolType`).
    pub ever_joined: bool,
    /// What is committed there, by target topic.
    pub offsets: ByPartition<Committed>,
}

#[cfg(test)]
mod tests;
