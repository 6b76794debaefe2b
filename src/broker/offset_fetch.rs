//! OffsetFetch v2–v9 (all partitions of a group v2, open transactions v7, several groups v8). Omitted: v1, which knows no
//! "all partitions"; topic ids (v10); the member id and epoch of v9.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::groups::{Group, GroupKind, GroupOffset, Place};
use super::state::State;

const MANY_GROUPS: i16 = 8;
const WITH_LEADER_EPOCH: i16 = 5;
/// What stands where nothing was committed, and beside an error.
const NONE: GroupOffset = GroupOffset { offset: -1, leader_epoch: -1, metadata: String::new() };

/// Partitions of each topic asked for; `None` for all that were committed.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;

/// What is told of each partition, by topic.
type Found = BTreeMap<String, Vec<(i32, Result<GroupOffset, ResponseError>)>>;

pub(super) fn handle(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let state = call.shared.lock();
    let stable = request.require_stable;
    if call.version < MANY_GROUPS {
        let topics = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        return match find(call, &state, &request.group_id, topics, stable) {
            Ok(found) => OffsetFetchResponse::default().with_topics(singly(found, call.version)),
            Err(error) => OffsetFetchResponse::default().with_error_code(error.code()),
        };
    }
    let groups = request.groups.into_iter().map(|group| {
        let topics = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let found = find(call, &state, &group.group_id, topics, stable);
        let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
        match found {
            Ok(found) => answer.with_topics(together(found)),
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn find(call: &Call, state: &State, id: &str, wanted: Wanted, stable: bool) -> Result<Found, ResponseError> {
    state.coordinates(call.node, id)?;
    // A group that does not exist has committed nothing, and a share group keeps no offsets of this sort.
    let nobody = Group::default();
    let group = state.groups.get(id).filter(|group| group.kind != GroupKind::Share).unwrap_or(&nobody);
    let places: Vec<Place> = match wanted {
        None => group.offsets.keys().cloned().collect(),
        Some(topics) => {
            let of = |(topic, partitions): (TopicName, Vec<i32>)| {
                partitions.into_iter().map(move |partition| (topic.to_string(), partition))
            };
            topics.into_iter().flat_map(of).collect()
        }
    };
    let mut found = Found::new();
    for place in places {
        let offset = match group.offsets.get(&place) {
            _ if stable && group.unstable.contains(&place) => Err(ResponseError::UnstableOffsetCommit),
            Some(offset) => Ok(offset.clone()),
            None => Ok(NONE),
        };
        found.entry(place.0).or_default().push((place.1, offset));
    }
    Ok(found)
}

fn told(offset: Result<GroupOffset, ResponseError>) -> (GroupOffset, i16) {
    match offset {
        Ok(offset) => (offset, 0),
        Err(error) => (NONE, error.code()),
    }
}

fn singly(found: Found, version: i16) -> Vec<OffsetFetchResponseTopic> {
    let topic = |(topic, partitions): (String, Vec<_>)| {
        let partition = |(index, offset)| {
            let (offset, code) = told(offset);
            let epoch = if version >= WITH_LEADER_EPOCH { offset.leader_epoch } else { -1 };
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(StrBytes::from_string(offset.metadata)))
                .with_error_code(code)
        };
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    found.into_iter().map(topic).collect()
}

fn together(found: Found) -> Vec<OffsetFetchResponseTopics> {
    let topic = |(topic, partitions): (String, Vec<_>)| {
        let partition = |(index, offset)| {
            let (offset, code) = told(offset);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(StrBytes::from_string(offset.metadata)))
                .with_error_code(code)
        };
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(StrBytes::from_string(topic)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    found.into_iter().map(topic).collect()
}
