//! FindCoordinator v0–v6 (batched keys v4). Groups (type 0) and transactional ids (type 1) get a node that depends on the
//! key alone; share groups' state (type 2) is omitted.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::state::State;

pub(super) fn handle(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let state = call.shared.lock();
    if call.version >= 4 {
        let keys = request.coordinator_keys.into_iter();
        let found = keys.map(|key| coordinator(&state, key, request.key_type)).collect();
        return FindCoordinatorResponse::default().with_coordinators(found);
    }
    let found = coordinator(&state, request.key, request.key_type);
    let message = if call.version >= 1 { found.error_message } else { None };
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn coordinator(state: &State, key: StrBytes, key_type: i8) -> Coordinator {
    let answer = Coordinator::default().with_node_id(BrokerId(-1)).with_port(-1);
    if !matches!(key_type, 0 | 1) || (key_type == 1 && key.is_empty()) {
        return answer.with_key(key).with_error_code(ResponseError::InvalidRequest.code());
    }
    let found = state.coordinator(&key).and_then(|id| Some((id, state.nodes.get(&id)?.addr)));
    let answer = answer.with_key(key);
    match found {
        Some((id, addr)) => answer
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_string(addr.ip().to_string()))
            .with_port(i32::from(addr.port())),
        None => answer.with_error_code(ResponseError::CoordinatorNotAvailable.code()),
    }
}
