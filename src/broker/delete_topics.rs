//! DeleteTopics v1–v6 (by id v6).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::dispatch::Call;
use super::state::State;

pub(super) fn handle(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut state = call.shared.lock();
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let states = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let responses = by_name.chain(states).map(|(name, id)| delete(&mut state, name, id)).collect();
    drop(state);
    call.shared.wake();
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete(state: &mut State, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
    let result = DeletableTopicResult::default();
    let Some(name) = name else {
        let Some(name) = state.names.get(&id).cloned() else {
            return result.with_topic_id(id).with_name(None).with_error_code(ResponseError::UnknownTopicId.code());
        };
        let error = delete_named(state, &name);
        return result.with_topic_id(id).with_name(Some(TopicName(StrBytes::from_string(name)))).with_error_code(error);
    };
    let id = state.topics.get(name.as_str()).map_or(Uuid::nil(), |topic| topic.id);
    let error = delete_named(state, &name);
    result.with_topic_id(id).with_name(Some(name)).with_error_code(error)
}

fn delete_named(state: &mut State, name: &str) -> i16 {
    if state.is_backed(name) {
        return ResponseError::PolicyViolation.code();
    }
    if state.delete_topic(name) { 0 } else { ResponseError::UnknownTopicOrPartition.code() }
}
