//! CreatePartitions v0–v3. Omitted: manual assignments.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::state::State;

pub(super) fn handle(call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut state = call.shared.lock();
    let results = request.topics.into_iter().map(|topic| {
        let (error, message) = match grow(&mut state, &topic, request.validate_only) {
            Ok(()) => (0, None),
            Err((error, message)) => (error.code(), Some(StrBytes::from_string(message))),
        };
        CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(error).with_error_message(message)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn grow(state: &mut State, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), (ResponseError, String)> {
    let name = topic.name.as_str();
    let Some(found) = state.topics.get(name) else {
        return Err((ResponseError::UnknownTopicOrPartition, "This server does not host this topic.".to_owned()));
    };
    if state.is_backed(name) {
        return Err((ResponseError::PolicyViolation, format!("The topic {name} is there to be read.")));
    }
    let have = found.partitions.len();
    let replicas = found.partitions.first().map_or(1, |partition| partition.replicas.len());
    let wanted = usize::try_from(topic.count).unwrap_or(0);
    if wanted <= have || wanted > 100_000 {
        let message = format!("The topic {name} currently has {have} partition(s); {wanted} would not be an increase.");
        return Err((ResponseError::InvalidPartitions, message));
    }
    if !validate_only {
        state.add_partitions(name, wanted - have, replicas);
    }
    Ok(())
}
