//! What groups have committed: OffsetFetch, OffsetCommit and OffsetDelete (KIP-496).
//!
//! Requests end at v9 of OffsetFetch and OffsetCommit. v10 (Kafka 4.1) differs in naming topics by their ids alone: a
//! group's offsets are kept by topic name all the same, so ids would only have to be looked up and back, and
//! `kafka-protocol` writes no request in v10.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::describe::group_id;
use super::{EachGroup, GroupCall, UNKNOWN_SERVER_ERROR};
use crate::client::connection::Connection;
use crate::client::coordinators::is_of_coordinator;
use crate::client::{ClientError, Cluster};
use crate::groups::{ByPartition, Committed};

const GROUP_ID_NOT_FOUND: i16 = 69;
/// The first version of OffsetFetch that takes several groups (KIP-709).
const MANY_GROUPS: i16 = 8;
/// The first version that can wait for open transactions (KIP-447).
const STABLE: i16 = 7;
/// Weight of one request, in bytes of the records that a commit becomes. A coordinator writes them as one batch, which its
/// offsets topic refuses above `message.max.bytes` (1 MB by default): INVALID_COMMIT_OFFSET_SIZE.
const COMMIT_BYTES: usize = 512 << 10;
/// What a record of an offset takes besides its strings: key, value, and the batch's share.
const RECORD_BYTES: usize = 100;

/// A partition as groups know it: topic name and number. Committed offsets go by name, whatever id the topic had.
pub type GroupPartition = (String, i32);

/// What a group has committed, or is to commit.
pub type GroupOffsets = BTreeMap<GroupPartition, Committed>;

/// What a coordinator refuses of a group, by partition.
pub type OffsetErrors = BTreeMap<GroupPartition, ClientError>;

/// What a coordinator says of each partition of a group.
pub type OffsetAnswers<T> = BTreeMap<GroupPartition, Result<T, ClientError>>;

/// What a group has committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchedOffsets {
    /// By partition.
    pub offsets: ByPartition<Committed>,
    /// Partitions of which the coordinator does not tell, and why.
    pub failed: OffsetErrors,
}

impl FetchedOffsets {
    /// All of them; the first error where the coordinator does not tell of some.
    ///
    /// # Errors
    /// The first partition's that has one.
    pub fn all(mut self) -> Result<ByPartition<Committed>, ClientError> {
        self.failed.pop_first().map_or(Ok(self.offsets), |(_, error)| Err(error))
    }
}

impl Cluster {
    /// All that each group has committed; a group that does not exist has committed nothing. With `stable` a partition with
    /// an offset in an open transaction is an error (UNSTABLE_OFFSET_COMMIT), not the offset before it; brokers before
    /// Kafka 2.5 answer that one. What has no coordinator that answers within `patience` is an error of that group alone.
    pub async fn fetch_group_offsets(
        &self,
        groups: &[String],
        stable: bool,
        patience: Duration,
    ) -> EachGroup<FetchedOffsets> {
        self.ask_coordinators(FetchOffsets { stable }, groups.to_vec(), patience).await
    }

    /// Commits offsets for groups without members. A group with members refuses them all ([`ClientError::is_of_live_group`]);
    /// a group that does not exist comes into being. An answer that was lost is asked for by committing once more. Terms as
    /// for [`Self::fetch_group_offsets`].
    pub async fn commit_group_offsets(
        &self,
        offsets: BTreeMap<String, GroupOffsets>,
        patience: Duration,
    ) -> EachGroup<OffsetAnswers<()>> {
        let groups = offsets.keys().cloned().collect();
        let changes: BTreeMap<String, Vec<Commit>> =
            offsets.into_iter().map(|(group, offsets)| (group, offsets.into_iter().collect())).collect();
        self.ask_coordinators(Changes(Arc::new(changes)), groups, patience).await
    }

    /// Takes committed offsets back, as if there had never been one. Where there is none, or no such group, it is done
    /// already. A group with members refuses ([`ClientError::is_of_live_group`]). Terms as for [`Self::fetch_group_offsets`].
    pub async fn delete_group_offsets(
        &self,
        partitions: BTreeMap<String, BTreeSet<GroupPartition>>,
        patience: Duration,
    ) -> EachGroup<OffsetAnswers<()>> {
        let groups = partitions.keys().cloned().collect();
        let changes: BTreeMap<String, Vec<GroupPartition>> =
            partitions.into_iter().map(|(group, partitions)| (group, partitions.into_iter().collect())).collect();
        self.ask_coordinators(Changes(Arc::new(changes)), groups, patience).await
    }
}

pub(super) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The answers about a group's partitions, or the error that they all share with their group.
fn answers<T>(
    cluster: &Cluster,
    api: &'static str,
    group: &str,
    told: impl Iterator<Item = (String, i32, i16, T)>,
) -> Result<OffsetAnswers<T>, ClientError> {
    let mut answers = OffsetAnswers::new();
    for (topic, partition, code, value) in told {
        if is_of_coordinator(code) {
            return Err(cluster.api_error(api, code, group));
        }
        let answer = match code {
            0 => Ok(value),
            code => Err(cluster.api_error(api, code, &format!("{group} on {topic}:{partition}"))),
        };
        answers.insert((topic, partition), answer);
    }
    Ok(answers)
}

/// What the answers have passed over has no answer.
fn complete<'a>(
    cluster: &Cluster,
    api: &'static str,
    group: &str,
    asked: impl Iterator<Item = &'a GroupPartition>,
    answers: &mut OffsetAnswers<()>,
) {
    for partition in asked {
        let (topic, number) = partition;
        let subject = || format!("{group} on {topic}:{number}");
        let silent = || Err(cluster.api_error(api, UNKNOWN_SERVER_ERROR, &subject()));
        answers.entry(partition.clone()).or_insert_with(silent);
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct FetchOffsets {
    pub(super) stable: bool,
}

impl GroupCall for FetchOffsets {
    type Answer = FetchedOffsets;
    const API: &'static str = "OffsetFetch";
    const AT_ONCE: usize = 50;

    async fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> Result<EachGroup<Self::Answer>, ClientError> {
        let version = at.version_of::<OffsetFetchRequest>()?;
        let request = OffsetFetchRequest::default().with_require_stable(self.stable && version >= STABLE);
        if version >= MANY_GROUPS {
            // Of nobody who is a member: null and −1 are the defaults of v9.
            let all =
                |group: &String| OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
            let response = at.call(request.with_groups(groups.iter().map(all).collect()), 0).await?;
            return Ok(fetched(cluster, response));
        }
        let mut asking = JoinSet::new();
        for group in groups.iter().cloned() {
            let (at, request) = (at.clone(), request.clone().with_group_id(group_id(&group)).with_topics(None));
            asking.spawn(async move { (group, at.call(request, 0).await) });
        }
        let answered = asking.join_all().await.into_iter();
        Ok(answered
            .map(|(group, response)| {
                let offsets = response.and_then(|response| fetched_singly(cluster, &group, response));
                (group, offsets)
            })
            .collect())
    }
}

type Fetched = Result<FetchedOffsets, ClientError>;

fn fetched(cluster: &Cluster, response: OffsetFetchResponse) -> EachGroup<FetchedOffsets> {
    let one = |group: OffsetFetchResponseGroup| {
        let id = group.group_id.to_string();
        let topics = group.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter();
            let told = partitions
                .map(|p| (p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata));
            (topic.name, told)
        });
        let offsets = collected(cluster, &id, group.error_code, topics);
        (id, offsets)
    };
    response.groups.into_iter().map(one).collect()
}

fn fetched_singly(cluster: &Cluster, group: &str, response: OffsetFetchResponse) -> Fetched {
    let topics = response.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter();
        let told = partitions
            .map(|p| (p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata));
        (topic.name, told)
    });
    collected(cluster, group, response.error_code, topics)
}

/// Partition, error, offset, leader epoch, metadata.
type Told = (i32, i16, i64, i32, Option<StrBytes>);

/// What is told of a group; −1 is no offset. An error of the coordinator itself is one of the whole group.
fn collected<P: Iterator<Item = Told>>(
    cluster: &Cluster,
    group: &str,
    code: i16,
    topics: impl Iterator<Item = (TopicName, P)>,
) -> Fetched {
    if code != 0 {
        return Err(cluster.api_error("OffsetFetch", code, group));
    }
    let mut fetched = FetchedOffsets::default();
    for (topic, partitions) in topics {
        let topic = topic.to_string();
        let mut offsets = BTreeMap::new();
        for (partition, code, offset, leader_epoch, metadata) in partitions {
            if code != 0 && is_of_coordinator(code) {
                return Err(cluster.api_error("OffsetFetch", code, group));
            }
            if code != 0 {
                let error = cluster.api_error("OffsetFetch", code, &format!("{group} on {topic}:{partition}"));
                fetched.failed.insert((topic.clone(), partition), error);
            } else if offset >= 0 {
                let metadata = metadata.map(|text| text.to_string()).unwrap_or_default();
                offsets.insert(partition, Committed { offset, leader_epoch, metadata });
            }
        }
        fetched.offsets.insert_topic(topic, offsets);
    }
    Ok(fetched)
}

/// Something done to one partition's offset of a group.
trait Change: Clone + std::fmt::Debug + Send + Sync + 'static {
    const API: &'static str;

    fn partition(&self) -> &GroupPartition;

    /// What is noted with it, bytes.
    fn metadata_bytes(&self) -> usize;

    /// Topic, partition and error of each.
    fn ask(
        cluster: &Cluster,
        at: &Connection,
        group: &str,
        portion: &[Self],
    ) -> impl Future<Output = Result<Vec<(String, i32, i16)>, ClientError>> + Send;
}

/// By group, in order of partitions.
#[derive(Debug, Clone)]
struct Changes<C>(Arc<BTreeMap<String, Vec<C>>>);

impl<C: Change> GroupCall for Changes<C> {
    type Answer = OffsetAnswers<()>;
    const API: &'static str = C::API;
    /// The protocol takes no more.
    const AT_ONCE: usize = 1;

    async fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> Result<EachGroup<Self::Answer>, ClientError> {
        let mut each = EachGroup::new();
        for (group, changes) in groups.iter().filter_map(|group| self.0.get_key_value(group)) {
            each.insert(group.clone(), change(cluster, at, group, changes).await);
        }
        Ok(each)
    }
}

async fn change<C: Change>(
    cluster: &Cluster,
    at: &Connection,
    group: &str,
    changes: &[C],
) -> Result<OffsetAnswers<()>, ClientError> {
    let mut each = OffsetAnswers::new();
    for portion in portions(group, changes) {
        let told = C::ask(cluster, at, group, portion).await?.into_iter();
        each.extend(answers(
            cluster,
            C::API,
            group,
            told.map(|(topic, partition, code)| (topic, partition, code, ())),
        )?);
    }
    complete(cluster, C::API, group, changes.iter().map(C::partition), &mut each);
    Ok(each)
}

/// What goes into one request each.
fn portions<'a, C: Change>(group: &str, changes: &'a [C]) -> Vec<&'a [C]> {
    let mut portions = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, change) in changes.iter().enumerate() {
        let more = RECORD_BYTES + group.len() + change.partition().0.len() + change.metadata_bytes();
        bytes += more;
        if bytes > COMMIT_BYTES && at > from {
            portions.push(&changes[from..at]);
            (from, bytes) = (at, more);
        }
    }
    portions.extend(changes.get(from..).filter(|rest| !rest.is_empty()));
    portions
}

/// What a request names, by topic.
fn by_topic<C: Change>(portion: &[C]) -> BTreeMap<&str, Vec<&C>> {
    let mut topics: BTreeMap<&str, Vec<&C>> = BTreeMap::new();
    for change in portion {
        topics.entry(&change.partition().0).or_default().push(change);
    }
    topics
}

type Commit = (GroupPartition, Committed);

impl Change for Commit {
    const API: &'static str = "OffsetCommit";

    fn partition(&self) -> &GroupPartition {
        &self.0
    }

    fn metadata_bytes(&self) -> usize {
        self.1.metadata.len()
    }

    async fn ask(
        _: &Cluster,
        at: &Connection,
        group: &str,
        portion: &[Self],
    ) -> Result<Vec<(String, i32, i16)>, ClientError> {
        let partition = |((_, number), committed): &Self| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*number)
                .with_committed_offset(committed.offset)
                // A field of v6, which lower versions leave out.
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_committed_metadata(Some(StrBytes::from_string(committed.metadata.clone())))
        };
        let topics = by_topic(portion).into_iter().map(|(topic, commits)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(commits.into_iter().map(partition).collect())
        });
        // Of nobody who is a member: no member id, and the generation −1 is the default.
        let request = OffsetCommitRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
        let response = at.call(request, 0).await?;
        let told = response.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |p| (name.clone(), p.partition_index, p.error_code))
        });
        Ok(told.collect())
    }
}

impl Change for GroupPartition {
    const API: &'static str = "OffsetDelete";

    fn partition(&self) -> &GroupPartition {
        self
    }

    fn metadata_bytes(&self) -> usize {
        0
    }

    async fn ask(
        cluster: &Cluster,
        at: &Connection,
        group: &str,
        portion: &[Self],
    ) -> Result<Vec<(String, i32, i16)>, ClientError> {
        let partition = |(_, number): &Self| OffsetDeleteRequestPartition::default().with_partition_index(*number);
        let topics = by_topic(portion).into_iter().map(|(topic, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions.into_iter().map(partition).collect())
        });
        let request = OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
        let response = at.call(request, 0).await?;
        match response.error_code {
            0 => {
                let told = response.topics.into_iter().flat_map(|topic| {
                    let name = topic.name.to_string();
                    topic.partitions.into_iter().map(move |p| (name.clone(), p.partition_index, p.error_code))
                });
                Ok(told.collect())
            }
            GROUP_ID_NOT_FOUND => Ok(portion.iter().map(|(topic, number)| (topic.clone(), *number, 0)).collect()),
            code => Err(cluster.api_error(Self::API, code, group)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(partitions: i32, metadata: usize) -> Vec<Commit> {
        let committed = Committed { offset: 1, leader_epoch: -1, metadata: "m".repeat(metadata) };
        (0..partitions).map(|partition| (("orders".to_owned(), partition), committed.clone())).collect()
    }

    #[test]
    fn no_portion_is_too_heavy_and_no_partition_is_left_out() {
        let sizes = |offsets: &[Commit]| portions("group", offsets).iter().map(|p| p.len()).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&offsets(100, 0)), [100]);
        let each = sizes(&offsets(10_000, 100));
        assert!(each.len() > 2 && each.iter().sum::<usize>() == 10_000, "{each:?}");
        assert!(each.iter().all(|partitions| partitions * (RECORD_BYTES + 100) <= COMMIT_BYTES), "{each:?}");
        assert_eq!(sizes(&offsets(3, COMMIT_BYTES)), [1, 1, 1]);
    }

    #[test]
    fn partitions_go_out_by_topic() {
        let all = [("a".to_owned(), 1), ("b".to_owned(), 0), ("a".to_owned(), 0)];
        let topics = by_topic(&all);
        let named: Vec<(&str, usize)> = topics.iter().map(|(topic, all)| (*topic, all.len())).collect();
        assert_eq!(named, [("a", 2), ("b", 1)]);
    }
}
