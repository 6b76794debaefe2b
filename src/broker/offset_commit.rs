//! OffsetCommit v2–v9 (leader epochs v6), in nobody's name, as admin clients and simple consumers commit, and in that of a classic group's
//! member. Omitted: topic ids (v10), commits of members of other groups, retention times (v2–v4).

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use tokio::time::Instant;

use super::dispatch::Call;
use super::groups::{GroupKind, GroupOffset};
use super::state::State;

/// The first version that tells a group that does not exist from one in another generation.
const NOT_FOUND_IS_TOLD: i16 = 9;

pub(super) fn handle(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut state = call.shared.lock();
    let refused = admit(call, &mut state, &request).err();
    let metadata_max = usize::try_from(state.broker_config_number("offset.metadata.max.bytes")).unwrap_or(usize::MAX);
    let mut accepted = BTreeMap::new();
    let topics: Vec<OffsetCommitResponseTopic> = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let unknown = state.partition(&topic.name, index).is_err();
                let long = partition.committed_metadata.as_ref().is_some_and(|text| text.len() > metadata_max);
                let error = match refused {
                    _ if unknown => Some(ResponseError::UnknownTopicOrPartition),
                    None if long => Some(ResponseError::OffsetMetadataTooLarge),
                    refused => refused,
                };
                if error.is_none() {
                    accepted.insert((topic.name.to_string(), index), committed(partition));
                }
                let code = error.map_or(0, |error| error.code());
                OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        })
        .collect();
    if !accepted.is_empty() {
        let group = state.groups.entry(request.group_id.to_string()).or_default();
        group.offsets.extend(accepted);
    }
    OffsetCommitResponse::default().with_topics(topics)
}

fn committed(partition: OffsetCommitRequestPartition) -> GroupOffset {
    GroupOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
    }
}

fn admit(call: &Call, state: &mut State, request: &OffsetCommitRequest) -> Result<(), ResponseError> {
    state.coordinates(call.node, &request.group_id)?;
    let in_a_members_name = request.generation_id_or_member_epoch >= 0
        || !request.member_id.is_empty()
        || request.group_instance_id.is_some();
    match state.groups.get_mut(request.group_id.as_str()) {
        Some(group) if in_a_members_name && group.kind == GroupKind::Classic && group.members == 0 => {
            let (now, instance) = (Instant::now(), request.group_instance_id.as_deref());
            group.roster.advance(now);
            group.roster.may_commit(&request.member_id, instance, request.generation_id_or_member_epoch, now)
        }
        Some(group) if in_a_members_name => group.may_commit().and(Err(ResponseError::UnknownMemberId)),
        Some(group) => group.may_commit(),
        None if request.generation_id_or_member_epoch < 0 => Ok(()),
        None if call.version >= NOT_FOUND_IS_TOLD => Err(ResponseError::GroupIdNotFound),
        None => Err(ResponseError::IllegalGeneration),
    }
}
