//! Heartbeat v0–v4 (static members since v3). Omitted: see `members`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use tokio::time::Instant;

use super::dispatch::Call;

pub(super) fn handle(call: &Call, request: &HeartbeatRequest) -> HeartbeatResponse {
    let outcome = {
        let mut state = call.shared.lock();
        state.coordinates(call.node, &request.group_id).and_then(|()| {
            let group = state.groups.get_mut(request.group_id.as_str()).ok_or(ResponseError::UnknownMemberId)?;
            let now = Instant::now();
            group.roster.advance(now);
            let instance = request.group_instance_id.as_deref();
            group.roster.heartbeat(&request.member_id, instance, request.generation_id, now)
        })
    };
    HeartbeatResponse::default().with_error_code(outcome.err().map_or(0, |error| error.code()))
}
