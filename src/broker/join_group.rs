//! JoinGroup v0–v9 (member ids first since v4, KIP-394; static members since v5, KIP-345; `skip_assignment` v9, KIP-814).
//! Omitted: see `members`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::dispatch::Call;
use super::groups::GroupKind;
use super::members::{Joining, Offer, Roster};
use super::state::State;

/// The first version that gives a member id before it lets anybody in.
const ID_FIRST: i16 = 4;
/// The first version in which a leader hears that it has nothing to assign; before, another one is named.
const SKIP_IS_TOLD: i16 = 9;
/// The first version in which there may be no protocol.
const NO_PROTOCOL: i16 = 7;
/// Before v1 the session timeout stood for both.
const OWN_REBALANCE_TIMEOUT: i16 = 1;

pub(super) async fn handle(call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let id = request.group_id.to_string();
    let joining = {
        let mut state = call.shared.lock();
        match admit(call, &state, &request) {
            Err(error) => Joining::Refused(error, request.member_id.to_string()),
            Ok(()) => join(call, &mut state, &request),
        }
    };
    call.shared.wake();
    match joining {
        Joining::Refused(error, member) => refused(call, error, &member),
        Joining::Back { member, skip } => {
            let state = call.shared.lock();
            state.groups.get(&id).map_or_else(
                || refused(call, ResponseError::UnknownMemberId, &member),
                |group| told(call, &group.roster, &member, skip),
            )
        }
        Joining::Waits { member, generation } => wait(call, &id, &member, generation).await,
    }
}

fn admit(call: &Call, state: &State, request: &JoinGroupRequest) -> Result<(), ResponseError> {
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    state.coordinates(call.node, &request.group_id)?;
    let timeout = i64::from(request.session_timeout_ms);
    let least = state.broker_config_number("group.min.session.timeout.ms");
    let most = state.broker_config_number("group.max.session.timeout.ms");
    if timeout < least || timeout > most {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    match state.groups.get(request.group_id.as_str()) {
        Some(group) if group.kind != GroupKind::Classic => Err(ResponseError::InconsistentGroupProtocol),
        None if !request.member_id.is_empty() => Err(ResponseError::UnknownMemberId),
        _ => Ok(()),
    }
}

fn join(call: &Call, state: &mut State, request: &JoinGroupRequest) -> Joining {
    let now = Instant::now();
    let known = state.groups.contains_key(request.group_id.as_str());
    let group = state.groups.entry(request.group_id.to_string()).or_default();
    group.roster.advance(now);
    let ms = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let rebalance_ms =
        if call.version >= OWN_REBALANCE_TIMEOUT { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    let offer = Offer {
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: call.client_id.to_string(),
        session_timeout: ms(request.session_timeout_ms),
        rebalance_timeout: ms(rebalance_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(|one| (one.name.to_string(), one.metadata.clone())).collect(),
    };
    let prefix = request.group_instance_id.as_ref().map_or(&*call.client_id, |instance| instance.as_str());
    let new_id = format!("{prefix}-{}", Uuid::new_v4());
    let joining = group.roster.join(&request.member_id, offer, new_id, call.version >= ID_FIRST, now);
    if !known && matches!(joining, Joining::Refused(ResponseError::InconsistentGroupProtocol, _)) {
        state.groups.remove(request.group_id.as_str());
    }
    joining
}

async fn wait(call: &Call, id: &str, member: &str, generation: i32) -> JoinGroupResponse {
    loop {
        let changed = call.shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let until = {
            let mut state = call.shared.lock();
            let Some(group) = state.groups.get_mut(id) else {
                return refused(call, ResponseError::UnknownMemberId, member);
            };
            group.roster.advance(Instant::now());
            if !group.roster.members.contains_key(member) {
                return refused(call, ResponseError::UnknownMemberId, member);
            }
            if group.roster.generation > generation {
                let told = told(call, &group.roster, member, false);
                drop(state);
                // Others wait for the same.
                call.shared.wake();
                return told;
            }
            group.roster.next_deadline()
        };
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        let _ = tokio::time::timeout_at(until, changed).await;
    }
}

fn told(call: &Call, roster: &Roster, member: &str, skip: bool) -> JoinGroupResponse {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let leads = roster.leader == member;
    let hushed = leads && skip && call.version < SKIP_IS_TOLD;
    let described = roster.members.iter().map(|(id, member)| {
        let said = member.offer.protocols.iter().find(|(name, _)| *name == roster.protocol);
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(if call.version >= 5 {
                member.offer.instance_id.as_deref().map(text)
            } else {
                None
            })
            .with_metadata(said.map(|(_, metadata)| metadata.clone()).unwrap_or_default())
    });
    let members = if leads && !hushed { described.collect() } else { Vec::new() };
    let answer = JoinGroupResponse::default()
        .with_generation_id(roster.generation)
        .with_protocol_name(Some(text(&roster.protocol)))
        .with_leader(text(if hushed { "" } else { &roster.leader }))
        .with_member_id(text(member))
        .with_members(members);
    let answer =
        if call.version >= NO_PROTOCOL { answer.with_protocol_type(Some(text(&roster.protocol_type))) } else { answer };
    if call.version >= SKIP_IS_TOLD { answer.with_skip_assignment(skip && leads) } else { answer }
}

fn refused(call: &Call, error: ResponseError, member: &str) -> JoinGroupResponse {
    let name = if call.version >= NO_PROTOCOL { None } else { Some(StrBytes::from_static_str("")) };
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(name)
        .with_member_id(StrBytes::from_string(member.to_owned()))
}

/// The answer of a hook.
pub(super) fn refuse(call: &Call, request: &JoinGroupRequest, error: ResponseError) -> JoinGroupResponse {
    refused(call, error, &request.member_id)
}
