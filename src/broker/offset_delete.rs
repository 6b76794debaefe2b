//! OffsetDelete v0 (KIP-496): takes committed offsets back. Omitted: groups of clients that are no consumers.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::dispatch::Call;
use super::groups::{Group, GroupKind};

pub(super) fn handle(call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut state = call.shared.lock();
    let state = &mut *state;
    let answer = OffsetDeleteResponse::default();
    if let Err(error) = state.coordinates(call.node, &request.group_id) {
        return answer.with_error_code(error.code());
    }
    let group = state.groups.get_mut(request.group_id.as_str()).filter(|group| group.kind != GroupKind::Share);
    let Some(group) = group else {
        return answer.with_error_code(ResponseError::GroupIdNotFound.code());
    };
    let topics = request.topics.into_iter().map(|topic| {
        let known = state.topics.contains_key(topic.name.as_str());
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let unknown = Err(ResponseError::UnknownTopicOrPartition);
            let taken = if known { take_back(group, &topic.name, index) } else { unknown };
            let code = taken.map_or_else(|error| error.code(), |()| 0);
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    answer.with_topics(topics.collect())
}

fn take_back(group: &mut Group, topic: &str, partition: i32) -> Result<(), ResponseError> {
    group.may_delete(topic)?;
    group.offsets.remove(&(topic.to_owned(), partition));
    Ok(())
}
