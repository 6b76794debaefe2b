//! SyncGroup v0–v5 (static members since v3, protocols checked since v5). Omitted: see `members`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use tokio::time::{Duration, Instant};

use super::dispatch::Call;
use super::members::Sync;

const PROTOCOL_IS_TOLD: i16 = 5;

pub(super) async fn handle(call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let accepted = {
        let mut state = call.shared.lock();
        state.coordinates(call.node, &request.group_id).and_then(|()| {
            let group = state.groups.get_mut(request.group_id.as_str()).ok_or(ResponseError::UnknownMemberId)?;
            group.roster.advance(Instant::now());
            let assignments = request.assignments.iter().map(|one| (one.member_id.to_string(), one.assignment.clone()));
            let sync = Sync {
                member: &request.member_id,
                instance: request.group_instance_id.as_deref(),
                generation: request.generation_id,
                protocol_type: request.protocol_type.as_deref(),
                protocol: request.protocol_name.as_deref(),
                assignments: assignments.collect(),
            };
            group.roster.sync(&sync, Instant::now())
        })
    };
    call.shared.wake();
    match accepted {
        Err(error) => refuse(error),
        Ok(()) => wait(call, &request).await,
    }
}

async fn wait(call: &Call, request: &SyncGroupRequest) -> SyncGroupResponse {
    loop {
        let changed = call.shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let until = {
            let mut state = call.shared.lock();
            let Some(group) = state.groups.get_mut(request.group_id.as_str()) else {
                return refuse(ResponseError::UnknownMemberId);
            };
            group.roster.advance(Instant::now());
            match group.roster.assigned(&request.member_id, request.generation_id) {
                Some(Err(error)) => return refuse(error),
                Some(Ok(assignment)) => {
                    let answer = SyncGroupResponse::default().with_assignment(assignment);
                    if call.version < PROTOCOL_IS_TOLD {
                        return answer;
                    }
                    return answer
                        .with_protocol_type(Some(group.roster.protocol_type.clone().into()))
                        .with_protocol_name(Some(group.roster.protocol.clone().into()));
                }
                None => group.roster.next_deadline(),
            }
        };
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        let _ = tokio::time::timeout_at(until, changed).await;
    }
}

pub(super) fn refuse(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}
