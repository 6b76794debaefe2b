//! Groups: what is committed in nobody's name, as a mirror commits, and when that is refused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ConsumerGroupDescribeRequest, DeleteTopicsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use kmirror::broker::GroupKind;

use super::code;
use super::subject::{LIMIT, Subject, on_every_broker, text, topic_name};
use crate::kafka::harness::{driver, wait_until};

on_every_broker!(; since_3:
    a_live_kip_848_group_refuses,
    a_share_group_has_no_offsets_to_commit,
    what_is_committed_is_fetched,
    a_commit_makes_a_group,
    a_group_that_is_not_there_is_dead_and_has_committed_nothing,
    an_unknown_topic_is_refused_alone,
    a_partition_that_is_not_there_is_refused_alone,
    metadata_that_is_too_long_is_refused_alone,
    no_metadata_is_the_empty_one,
    deleted_offsets_are_as_if_never_committed,
    a_deleted_topic_takes_its_offsets_along,
    nobody_commits_in_a_members_name,
    a_live_classic_group_refuses,
);

/// The last versions that name topics.
const COMMIT: i16 = 9;
const FETCH: i16 = 9;
/// OffsetFetch of one group.
const FETCH_ONE: i16 = 7;
const LIST: i16 = 5;

/// Topic, partition, offset, leader epoch, metadata.
type Committed<'a> = (&'a str, i32, i64, i32, &'a str);
/// What was committed, by topic and partition.
type Offsets = BTreeMap<(String, i32), (i64, i32, String)>;

/// A group that no other test knows.
#[derive(Debug)]
struct Group<'a> {
    subject: &'a Subject,
    id: String,
}

impl<'a> Group<'a> {
    /// Once its coordinator answers.
    fn new(subject: &'a Subject) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let group = Self { subject, id: format!("conformance-{}", NEXT.fetch_add(1, Ordering::Relaxed)) };
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group.id)]);
        wait_until("the group coordinator", LIMIT, || {
            let found = subject.connect().call(4, &find).coordinators.remove(0);
            let fetched = if found.error_code == 0 { group.try_fetch(None).0 } else { found.error_code };
            if fetched == 0 { Ok(()) } else { Err(format!("error {fetched}")) }
        });
        group
    }

    fn id(&self) -> GroupId {
        GroupId(text(&self.id))
    }

    /// OffsetCommit in nobody's name; the error of each partition, in their order.
    fn commit(&self, offsets: &[Committed<'_>]) -> Vec<i16> {
        self.commit_as(COMMIT, -1, "", offsets)
    }

    fn commit_as(&self, version: i16, generation: i32, member: &str, offsets: &[Committed<'_>]) -> Vec<i16> {
        let topic = |(topic, partition, offset, epoch, metadata): &Committed<'_>| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(*epoch)
                .with_committed_metadata(Some(text(metadata)));
            OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])
        };
        let request = OffsetCommitRequest::default()
            .with_group_id(self.id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(member))
            .with_topics(offsets.iter().map(topic).collect());
        let answer = self.subject.connect().call(version, &request);
        let mut told = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                told.insert((topic.name.to_string(), partition.partition_index), partition.error_code);
            }
        }
        offsets.iter().map(|(topic, partition, ..)| told[&((*topic).to_owned(), *partition)]).collect()
    }

    /// OffsetFetch of all partitions, or of some of one topic: the group's error, and what it has committed.
    fn try_fetch(&self, some: Option<(&str, &[i32])>) -> (i16, Offsets) {
        let topics = some.map(|(topic, partitions)| {
            let topic = OffsetFetchRequestTopics::default().with_name(topic_name(topic));
            vec![topic.with_partition_indexes(partitions.to_vec())]
        });
        let group = OffsetFetchRequestGroup::default().with_group_id(self.id()).with_topics(topics);
        let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
        let mut answer = self.subject.connect().call(FETCH, &request);
        assert_eq!(answer.groups.len(), 1);
        let group = answer.groups.remove(0);
        let mut offsets = Offsets::new();
        for topic in &group.topics {
            for partition in &topic.partitions {
                assert_eq!(partition.error_code, 0);
                let metadata = partition.metadata.as_ref().map(ToString::to_string).unwrap_or_default();
                let committed = (partition.committed_offset, partition.committed_leader_epoch, metadata);
                offsets.insert((topic.name.to_string(), partition.partition_index), committed);
            }
        }
        (group.error_code, offsets)
    }

    fn fetch(&self) -> Offsets {
        let (error, offsets) = self.try_fetch(None);
        assert_eq!(error, 0);
        offsets
    }

    /// OffsetDelete: the error of the whole, and of each partition.
    fn delete(&self, topic: &str, partitions: &[i32]) -> (i16, Vec<i16>) {
        let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.iter().map(partition).collect());
        let request = OffsetDeleteRequest::default().with_group_id(self.id()).with_topics(vec![topic]);
        let answer = self.subject.connect().call(0, &request);
        let each = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        (answer.error_code, each.collect())
    }

    fn listed(&self) -> Option<ListedGroup> {
        let answer = self.subject.connect().call(LIST, &ListGroupsRequest::default());
        assert_eq!(answer.error_code, 0);
        answer.groups.into_iter().find(|group| group.group_id.as_str() == self.id)
    }

    /// DescribeGroups: error, state, members.
    fn described(&self, version: i16) -> (i16, String, usize) {
        let request = DescribeGroupsRequest::default().with_groups(vec![self.id()]);
        let group = self.subject.connect().call(version, &request).groups.remove(0);
        (group.error_code, group.group_state.to_string(), group.members.len())
    }

    /// ConsumerGroupDescribe: error, state, members.
    fn described_as_kip_848(&self) -> (i16, String, usize) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.id()]);
        let group = self.subject.connect().call(0, &request).groups.remove(0);
        (group.error_code, group.group_state.to_string(), group.members.len())
    }

    /// A consumer joins, on real Kafka a Java one; ends with [`Self::leave`].
    fn join(&self, kind: GroupKind, topic: &str) {
        let protocol = match kind {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
            GroupKind::Share => "share",
        };
        match &self.subject.embedded {
            Some(cluster) => cluster.set_members(&self.id, kind, 1, &[topic]),
            None => driver().join_group(&self.subject.address, &self.id, topic, protocol),
        }
    }

    fn leave(&self, kind: GroupKind) {
        match &self.subject.embedded {
            Some(cluster) => cluster.set_members(&self.id, kind, 0, &[]),
            None => driver().leave_group(&self.subject.address, &self.id),
        }
    }

    fn await_state(&self, wanted: &str) {
        wait_until("the group's state", LIMIT, || match self.listed() {
            Some(group) if group.group_state.as_str() == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

/// The last version in which a broker offers an api.
fn newest(subject: &Subject, api: ApiKey) -> Option<i16> {
    let answer = subject.connect().call(0, &ApiVersionsRequest::default());
    let offered = answer.api_keys.iter().find(|offered| offered.api_key == api as i16);
    offered.map(|offered| offered.max_version)
}

/// Kafka 4: the coordinator that KIP-848 brought.
fn is_4(subject: &Subject) -> bool {
    newest(subject, ApiKey::DescribeGroups) >= Some(6)
}

fn at(topic: &str, partition: i32) -> (String, i32) {
    (topic.to_owned(), partition)
}

fn what_is_committed_is_fetched(subject: &Subject) {
    let (topic, other) = (subject.topic_with(3, &[]), subject.topic());
    let group = Group::new(subject);
    let offsets: [Committed<'_>; 3] =
        [(&topic.name, 0, 5, 7, "note"), (&topic.name, 2, 1 << 40, -1, ""), (&other.name, 0, 0, 0, "")];
    assert_eq!(group.commit(&offsets), [0, 0, 0]);
    let expected: Offsets = offsets
        .iter()
        .map(|(topic, partition, offset, epoch, metadata)| {
            (at(topic, *partition), (*offset, *epoch, (*metadata).to_owned()))
        })
        .collect();
    assert_eq!(group.fetch(), expected);
    // Nor does one behind the log's end matter, or going back.
    assert_eq!(group.commit(&[(&topic.name, 0, 3, -1, "")]), [0]);
    let none = || (-1, -1, String::new());
    let some = group.try_fetch(Some((&topic.name, &[0, 1])));
    assert_eq!(some, (0, [(at(&topic.name, 0), (3, -1, String::new())), (at(&topic.name, 1), none())].into()));
    let one = OffsetFetchRequest::default().with_group_id(group.id()).with_topics(None);
    let answer = subject.connect().call(FETCH_ONE, &one);
    let partitions = answer.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    assert_eq!((answer.error_code, partitions), (0, 3));
}

fn a_commit_makes_a_group(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    assert_eq!(group.listed(), None);
    // The last version with a retention time, and the first with leader epochs.
    assert_eq!(group.commit_as(4, -1, "", &[(&topic.name, 0, 1, -1, "")]), [0]);
    assert_eq!(group.commit_as(6, -1, "", &[(&topic.name, 0, 2, 9, "")]), [0]);
    assert_eq!(group.fetch(), [(at(&topic.name, 0), (2, 9, String::new()))].into());
    let listed = group.listed().unwrap();
    assert_eq!((listed.group_state.as_str(), listed.protocol_type.as_str()), ("Empty", ""));
    assert!(listed.group_type.eq_ignore_ascii_case("classic"), "{listed:?}");
    for version in 0..=newest(subject, ApiKey::DescribeGroups).unwrap() {
        assert_eq!(group.described(version), (0, "Empty".to_owned(), 0));
    }
    for version in 0..LIST {
        let answer = subject.connect().call(version, &ListGroupsRequest::default());
        let listed = answer.groups.into_iter().find(|listed| listed.group_id.as_str() == group.id).unwrap();
        assert_eq!(listed.group_state.as_str(), if version < 4 { "" } else { "Empty" });
    }
}

fn a_group_that_is_not_there_is_dead_and_has_committed_nothing(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    assert_eq!(group.described(5), (0, "Dead".to_owned(), 0));
    if is_4(subject) {
        assert_eq!(group.described(6), (code::GROUP_ID_NOT_FOUND, "Dead".to_owned(), 0));
    }
    // Kafka 3.9 offers it, and then does not answer while that coordinator is switched off.
    let unknown = if is_4(subject) { code::GROUP_ID_NOT_FOUND } else { code::UNSUPPORTED_VERSION };
    assert_eq!(group.described_as_kip_848().0, unknown);
    assert!(group.fetch().is_empty());
    assert_eq!(group.delete(&topic.name, &[0]), (code::GROUP_ID_NOT_FOUND, vec![]));
    assert_eq!(group.listed(), None);
}

fn an_unknown_topic_is_refused_alone(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    let offsets: [Committed<'_>; 2] = [("conformance-nowhere", 0, 1, -1, ""), (&topic.name, 0, 1, -1, "")];
    assert_eq!(group.commit(&offsets), [code::UNKNOWN_TOPIC_OR_PARTITION, 0]);
    assert_eq!(group.fetch().len(), 1);
    assert_eq!(group.delete("conformance-nowhere", &[0]), (0, vec![code::UNKNOWN_TOPIC_OR_PARTITION]));
}

fn a_partition_that_is_not_there_is_refused_alone(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    let offsets: [Committed<'_>; 2] = [(&topic.name, 7, 1, -1, ""), (&topic.name, 0, 1, -1, "")];
    assert_eq!(group.commit(&offsets), [code::UNKNOWN_TOPIC_OR_PARTITION, 0]);
    assert_eq!(group.fetch().len(), 1);
}

fn metadata_that_is_too_long_is_refused_alone(subject: &Subject) {
    let topic = subject.topic_with(2, &[]);
    let group = Group::new(subject);
    let (most, long) = ("m".repeat(4_096), "m".repeat(4_097));
    let offsets: [Committed<'_>; 2] = [(&topic.name, 0, 1, -1, &most), (&topic.name, 1, 1, -1, &long)];
    assert_eq!(group.commit(&offsets), [0, code::OFFSET_METADATA_TOO_LARGE]);
    assert_eq!(group.fetch().len(), 1);
}

fn no_metadata_is_the_empty_one(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(3).with_committed_metadata(None);
    let named = OffsetCommitRequestTopic::default().with_name(topic_name(&topic.name)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(group.id()).with_topics(vec![named]);
    assert_eq!(subject.connect().call(COMMIT, &request).topics[0].partitions[0].error_code, 0);
    assert_eq!(group.fetch(), [(at(&topic.name, 0), (3, -1, String::new()))].into());
}

fn deleted_offsets_are_as_if_never_committed(subject: &Subject) {
    let topic = subject.topic_with(3, &[]);
    let group = Group::new(subject);
    let offsets = [0, 1, 2].map(|partition| (topic.name.as_str(), partition, 4, -1, ""));
    assert_eq!(group.commit(&offsets), [0, 0, 0]);
    assert_eq!(group.delete(&topic.name, &[0, 2]), (0, vec![0, 0]));
    assert_eq!(group.fetch().into_keys().collect::<Vec<_>>(), [at(&topic.name, 1)]);
    // Where there is none it is done already.
    assert_eq!(group.delete(&topic.name, &[0, 1]), (0, vec![0, 0]));
    assert!(group.fetch().is_empty());
}

fn a_deleted_topic_takes_its_offsets_along(subject: &Subject) {
    let (topic, other) = (subject.topic(), subject.topic());
    let group = Group::new(subject);
    assert_eq!(group.commit(&[(&topic.name, 0, 1, -1, ""), (&other.name, 0, 1, -1, "")]), [0, 0]);
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![topic_name(&topic.name)]).with_timeout_ms(30_000);
    assert_eq!(subject.connect().call(5, &request).responses[0].error_code, 0);
    wait_until("the offsets to go", LIMIT, || {
        let left: Vec<_> = group.fetch().into_keys().collect();
        if left == [at(&other.name, 0)] { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn nobody_commits_in_a_members_name(subject: &Subject) {
    let topic = subject.topic();
    let group = Group::new(subject);
    let offsets = [(topic.name.as_str(), 0, 1, -1, "")];
    assert_eq!(group.commit_as(8, 3, "somebody", &offsets), [code::ILLEGAL_GENERATION]);
    // The coordinator of before Kafka 4 knows one answer only.
    let unknown = if is_4(subject) { code::GROUP_ID_NOT_FOUND } else { code::ILLEGAL_GENERATION };
    assert_eq!(group.commit_as(9, 3, "somebody", &offsets), [unknown]);
    assert_eq!(group.listed(), None);
    assert_eq!(group.commit(&offsets), [0]);
    assert_eq!(group.commit_as(COMMIT, 3, "somebody", &offsets), [code::UNKNOWN_MEMBER_ID]);
}

fn a_live_classic_group_refuses(subject: &Subject) {
    let (topic, other) = (subject.topic(), subject.topic());
    let group = Group::new(subject);
    let offsets: [Committed<'_>; 2] = [(&topic.name, 0, 1, -1, ""), (&other.name, 0, 1, -1, "")];
    assert_eq!(group.commit(&offsets), [0, 0]);
    group.join(GroupKind::Classic, &topic.name);
    group.await_state("Stable");
    let further: [Committed<'_>; 2] = [(&topic.name, 0, 2, -1, ""), ("conformance-nowhere", 0, 2, -1, "")];
    assert_eq!(group.commit(&further), [code::UNKNOWN_MEMBER_ID, code::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(group.delete(&topic.name, &[0]), (0, vec![code::GROUP_SUBSCRIBED_TO_TOPIC]));
    assert_eq!(group.delete(&other.name, &[0]), (0, vec![0]));
    assert_eq!(group.described(5), (0, "Stable".to_owned(), 1));
    assert_eq!(group.listed().unwrap().protocol_type.as_str(), "consumer");
    assert_eq!(group.fetch(), [(at(&topic.name, 0), (1, -1, String::new()))].into());
    group.leave(GroupKind::Classic);
    group.await_state("Empty");
    assert_eq!(group.commit(&offsets), [0, 0]);
    assert_eq!(group.described(5), (0, "Empty".to_owned(), 0));
    assert_eq!(group.listed().unwrap().protocol_type.as_str(), "consumer");
}

fn a_live_kip_848_group_refuses(subject: &Subject) {
    if !is_4(subject) {
        return;
    }
    let topic = subject.topic();
    let group = Group::new(subject);
    group.join(GroupKind::Consumer, &topic.name);
    group.await_state("Stable");
    let offsets = [(topic.name.as_str(), 0, 2, -1, "")];
    assert_eq!(group.commit(&offsets), [code::UNKNOWN_MEMBER_ID]);
    assert_eq!(group.described(5), (0, "Dead".to_owned(), 0));
    assert_eq!(group.described_as_kip_848(), (0, "Stable".to_owned(), 1));
    let listed = group.listed().unwrap();
    assert!(listed.group_type.eq_ignore_ascii_case("consumer"), "{listed:?}");
    assert_eq!(listed.protocol_type.as_str(), "consumer");
    group.leave(GroupKind::Consumer);
    group.await_state("Empty");
    assert_eq!(group.commit(&offsets), [0]);
    assert_eq!(group.described_as_kip_848(), (0, "Empty".to_owned(), 0));
    assert_eq!(group.fetch().len(), 1);
    assert_eq!(group.delete(&topic.name, &[0]), (0, vec![0]));
}

fn a_share_group_has_no_offsets_to_commit(subject: &Subject) {
    let shares = newest(subject, ApiKey::ShareGroupDescribe).is_some();
    if !shares && subject.embedded.is_none() {
        return;
    }
    let topic = subject.topic();
    let group = Group::new(subject);
    group.join(GroupKind::Share, &topic.name);
    group.await_state("Stable");
    let listed = group.listed().unwrap();
    assert!(listed.group_type.eq_ignore_ascii_case("share"), "{listed:?}");
    assert_eq!(listed.protocol_type.as_str(), "share");
    for state in ["Stable", "Empty"] {
        group.await_state(state);
        assert_eq!(group.commit(&[(&topic.name, 0, 2, -1, "")]), [code::GROUP_ID_NOT_FOUND]);
        assert_eq!(group.described(5), (0, "Dead".to_owned(), 0));
        assert_eq!(group.described_as_kip_848().0, code::GROUP_ID_NOT_FOUND);
        assert!(group.fetch().is_empty());
        assert_eq!(group.delete(&topic.name, &[0]), (code::GROUP_ID_NOT_FOUND, vec![]));
        if state == "Stable" {
            group.leave(GroupKind::Share);
        }
    }
}
