//! LeaveGroup v0–v5 (several members since v3, KIP-345). Omitted: reasons (v5); see `members`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use tokio::time::Instant;

use super::dispatch::Call;
use super::state::State;

/// The first version that names several members.
const MANY: i16 = 3;

pub(super) fn handle(call: &Call, request: &LeaveGroupRequest) -> LeaveGroupResponse {
    let answer = {
        let mut state = call.shared.lock();
        match state.coordinates(call.node, &request.group_id) {
            Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
            Ok(()) if call.version < MANY => {
                let outcome = leave(&mut state, &request.group_id, &request.member_id, None);
                LeaveGroupResponse::default().with_error_code(outcome.err().map_or(0, |error| error.code()))
            }
            Ok(()) => {
                let members = request.members.iter().map(|member| {
                    let instance = member.group_instance_id.as_deref();
                    let outcome = leave(&mut state, &request.group_id, &member.member_id, instance);
                    MemberResponse::default()
                        .with_member_id(member.member_id.clone())
                        .with_group_instance_id(member.group_instance_id.clone())
                        .with_error_code(outcome.err().map_or(0, |error| error.code()))
                });
                LeaveGroupResponse::default().with_members(members.collect())
            }
        }
    };
    call.shared.wake();
    answer
}

fn leave(state: &mut State, group: &str, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
    let group = state.groups.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
    let now = Instant::now();
    group.roster.advance(now);
    group.roster.leave(member, instance, now)
}
