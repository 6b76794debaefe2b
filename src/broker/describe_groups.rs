//! DescribeGroups v0–v6 for classic groups, ConsumerGroupDescribe v0–v1 for those of KIP-848. Omitted: what members of the latter
//! are subscribed to and were assigned, group epochs, and addresses: everybody is on this machine. Authorised operations, of
//! classic groups alone, are all that there are.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{DescribedGroup as DescribedConsumers, Member};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::groups::GroupKind;
use super::members::{Phase, Roster};
use super::state::State;

/// The first version in which a group that does not exist is an error (KIP-1043).
const NOT_FOUND_IS_TOLD: i16 = 6;
/// The first version that tells static members' instance ids.
const INSTANCES: i16 = 4;

pub(super) fn handle(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let state = call.shared.lock();
    let described = request.groups.into_iter().map(|id| {
        let group = classic(call, &state, id);
        // Kafka tells them only of what is no error.
        let tells = request.include_authorized_operations && group.error_code == 0;
        if tells { group.with_authorized_operations(GROUP_OPERATIONS) } else { group }
    });
    DescribeGroupsResponse::default().with_groups(described.collect())
}

/// READ, DELETE, DESCRIBE.
const GROUP_OPERATIONS: i32 = 0b1_0100_1000;

fn classic(call: &Call, state: &State, id: GroupId) -> DescribedGroup {
    let group = state.group(call.node, &id, GroupKind::Classic);
    let answer = DescribedGroup::default().with_group_id(id);
    match group {
        Ok(group) => {
            let member = |number| {
                DescribedGroupMember::default()
                    .with_member_id(StrBytes::from_string(format!("member-{number}")))
                    .with_client_id(StrBytes::from_static_str("embedded"))
                    .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
            };
            answer
                .with_group_state(StrBytes::from_static_str(group.state()))
                .with_protocol_type(StrBytes::from_string(group.speaks()))
                .with_protocol_data(StrBytes::from_string(group.roster.protocol_data()))
                .with_members((0..group.members).map(member).chain(joined(call, &group.roster)).collect())
        }
        Err(ResponseError::GroupIdNotFound) => {
            let dead = answer.with_group_state(StrBytes::from_static_str("Dead"));
            if call.version < NOT_FOUND_IS_TOLD {
                return dead;
            }
            dead.with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(StrBytes::from_static_str("no such classic group")))
        }
        Err(error) => answer.with_error_code(error.code()),
    }
}

/// What members said and were told shows while the group is stable.
fn joined(call: &Call, roster: &Roster) -> impl Iterator<Item = DescribedGroupMember> {
    let stable = roster.phase == Phase::Stable;
    roster.members.iter().map(move |(id, member)| {
        let said = member.offer.protocols.iter().find(|(name, _)| stable && *name == roster.protocol);
        let instance = member.offer.instance_id.clone().filter(|_| call.version >= INSTANCES);
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(id.clone()))
            .with_group_instance_id(instance.map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(member.offer.client_id.clone()))
            .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
            .with_member_metadata(said.map(|(_, metadata)| metadata.clone()).unwrap_or_default())
            .with_member_assignment(if stable { member.assignment.clone() } else { Bytes::new() })
    })
}

pub(super) fn consumers(call: &Call, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let state = call.shared.lock();
    let described = request.group_ids.into_iter().map(|id| {
        let group = state.group(call.node, &id, GroupKind::Consumer);
        let answer = DescribedConsumers::default().with_group_id(id);
        match group {
            Ok(group) => {
                let member = |number| {
                    Member::default()
                        .with_member_id(StrBytes::from_string(format!("member-{number}")))
                        .with_client_id(StrBytes::from_static_str("embedded"))
                        .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
                        .with_member_epoch(1)
                };
                answer
                    .with_group_state(StrBytes::from_static_str(group.state()))
                    .with_members((0..group.members).map(member).collect())
            }
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    ConsumerGroupDescribeResponse::default().with_groups(described.collect())
}
