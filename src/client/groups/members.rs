//! Membership of a group by the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. One request, one try: what is
//! to follow from an answer is [`Membership`](crate::plan::fleet::Membership)'s to say.

use std::time::Duration;

use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::describe::group_id;
use super::{EachGroup, GroupCall, GroupState};
use crate::client::connection::Connection;
use crate::client::coordinators::{KeyType, is_of_coordinator};
use crate::client::{ClientError, Cluster};
use crate::plan::fleet::{Answer, Ask, Joined};

const GROUP_ID_NOT_FOUND: i16 = 69;
/// The first version of LeaveGroup that names several members, in fields of their own.
pub(super) const MANY_LEAVE: i16 = 3;

/// Whose membership of which group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSeat {
    /// Group id.
    pub group: String,
    /// Of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// Protocol type of the group.
    pub protocol_type: &'static str,
    /// Protocol that the members speak.
    pub protocol: &'static str,
    /// Who is not heard of for so long is put out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for those that are members.
    pub rebalance_timeout: Duration,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl GroupSeat {
    pub(super) fn instance(&self) -> Option<StrBytes> {
        self.instance_id.as_deref().map(text)
    }
}

impl Cluster {
    /// Asks the coordinator what a member asks. `subscription` goes with JoinGroup, `assignments` (member id, bytes) with SyncGroup.
    ///
    /// # Errors
    /// Nobody answered, or with what cannot be read. A code of the coordinator is an [`Answer::Refused`].
    pub async fn ask_as_member(
        &self,
        seat: &GroupSeat,
        ask: &Ask,
        subscription: &[u8],
        assignments: Vec<(String, Vec<u8>)>,
    ) -> Result<Answer, ClientError> {
        let outcome = self.try_as_member(seat, ask, subscription, assignments).await;
        let code = match &outcome {
            Ok(Answer::Refused(code, _)) => Some(*code),
            Ok(_) => return outcome,
            Err(error) => error.code(),
        };
        if code.is_none_or(is_of_coordinator) {
            self.doubt_member_coordinator(&seat.group);
        }
        match (outcome, code) {
            // FindCoordinator said it.
            (Err(_), Some(code)) => Ok(Answer::Refused(code, String::new())),
            (outcome, _) => outcome,
        }
    }

    /// Looks for the group's coordinator anew with the next request.
    pub fn doubt_member_coordinator(&self, group: &str) {
        self.note_coordinator(KeyType::Group, group, None);
    }

    async fn try_as_member(
        &self,
        seat: &GroupSeat,
        ask: &Ask,
        subscription: &[u8],
        assignments: Vec<(String, Vec<u8>)>,
    ) -> Result<Answer, ClientError> {
        let node = self.coordinator(KeyType::Group, &seat.group).await?;
        match ask {
            Ask::Join { member } => join(&self.member_connection(node).await?, seat, member, subscription).await,
            Ask::Sync { member, generation, .. } => {
                sync(&self.member_connection(node).await?, seat, member, *generation, assignments).await
            }
            Ask::Heartbeat { member, generation } => {
                let request = HeartbeatRequest::default()
                    .with_group_id(group_id(&seat.group))
                    .with_generation_id(*generation)
                    .with_member_id(text(member))
                    .with_group_instance_id(seat.instance());
                let answer = self.member_connection(node).await?.call(request, 0).await?;
                Ok(done(answer.error_code))
            }
            // Not behind a join that waits.
            Ask::Leave { member } => leave(&self.group_connection(node).await?, seat, member).await,
        }
    }

    /// The members of a fleet and what they say; `None` where there is no such group. It may have its coordinator elsewhere than
    /// on record: that is asked for until `patience` is at its end.
    pub async fn describe_fleet(&self, group: &str, patience: Duration) -> Result<Option<DescribedFleet>, ClientError> {
        let mut each = self.ask_coordinators(DescribeFleet, vec![group.to_owned()], patience).await;
        each.remove(group).unwrap_or(Ok(None))
    }
}

fn done(code: i16) -> Answer {
    if code == 0 { Answer::Done } else { Answer::Refused(code, String::new()) }
}

async fn join(at: &Connection, seat: &GroupSeat, member: &str, subscription: &[u8]) -> Result<Answer, ClientError> {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text(seat.protocol)).with_metadata(subscription.to_vec().into());
    let request = JoinGroupRequest::default()
        .with_group_id(group_id(&seat.group))
        .with_session_timeout_ms(ms(seat.session_timeout))
        .with_rebalance_timeout_ms(ms(seat.rebalance_timeout))
        .with_member_id(text(member))
        .with_group_instance_id(seat.instance())
        .with_protocol_type(text(seat.protocol_type))
        .with_protocols(vec![protocol]);
    let wait_ms = u64::try_from(seat.rebalance_timeout.as_millis()).unwrap_or(u64::MAX);
    let answer = at.call(request, wait_ms).await?;
    if answer.error_code != 0 {
        return Ok(Answer::Refused(answer.error_code, answer.member_id.to_string()));
    }
    let members = answer.members.iter().map(|member| (member.member_id.to_string(), member.metadata.to_vec()));
    Ok(Answer::Joined(Joined {
        member: answer.member_id.to_string(),
        generation: answer.generation_id,
        leader: answer.leader.to_string(),
        members: members.collect(),
        skip_assignment: answer.skip_assignment,
    }))
}

async fn sync(
    at: &Connection,
    seat: &GroupSeat,
    member: &str,
    generation: i32,
    assignments: Vec<(String, Vec<u8>)>,
) -> Result<Answer, ClientError> {
    let assignments = assignments.into_iter().map(|(member, bytes)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(StrBytes::from_string(member))
            .with_assignment(bytes.into())
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group_id(&seat.group))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_group_instance_id(seat.instance())
        .with_protocol_type(Some(text(seat.protocol_type)))
        .with_protocol_name(Some(text(seat.protocol)))
        .with_assignments(assignments.collect());
    let wait_ms = u64::try_from(seat.rebalance_timeout.as_millis()).unwrap_or(u64::MAX);
    let answer = at.call(request, wait_ms).await?;
    if answer.error_code != 0 {
        return Ok(Answer::Refused(answer.error_code, String::new()));
    }
    Ok(Answer::Synced(answer.assignment.to_vec()))
}

async fn leave(at: &Connection, seat: &GroupSeat, member: &str) -> Result<Answer, ClientError> {
    let request = LeaveGroupRequest::default().with_group_id(group_id(&seat.group));
    let request = if at.version_of::<LeaveGroupRequest>()? >= MANY_LEAVE {
        let identity = MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(seat.instance());
        request.with_members(vec![identity])
    } else {
        request.with_member_id(text(member))
    };
    let answer = at.call(request, 0).await?;
    let first = answer.members.first().map_or(0, |member| member.error_code);
    Ok(done(if answer.error_code == 0 { first } else { answer.error_code }))
}

/// A fleet's group as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedFleet {
    /// State of the group.
    pub state: GroupState,
    /// Its protocol type.
    pub protocol_type: String,
    /// Its members.
    pub members: Vec<FleetMember>,
}

/// A member as the coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetMember {
    /// Member id.
    pub id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Client id that it joined with.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// What it said when it joined; empty while the group is not stable.
    pub subscription: Vec<u8>,
    /// What it was told; empty while the group is not stable.
    pub assignment: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct DescribeFleet;

impl GroupCall for DescribeFleet {
    type Answer = Option<DescribedFleet>;
    const API: &'static str = "DescribeGroups";
    const AT_ONCE: usize = 1;

    async fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> Result<EachGroup<Self::Answer>, ClientError> {
        let ids = groups.iter().map(|group| group_id(group)).collect();
        let response = at.call(DescribeGroupsRequest::default().with_groups(ids), 0).await?;
        let each = response.groups.into_iter().map(|group| {
            let id = group.group_id.to_string();
            let fleet = match (group.error_code, GroupState::of(&group.group_state)) {
                (GROUP_ID_NOT_FOUND, _) | (0, GroupState::Dead) => Ok(None),
                (0, state) => Ok(Some(DescribedFleet {
                    state,
                    protocol_type: group.protocol_type.to_string(),
                    members: group.members.into_iter().map(described).collect(),
                })),
                (code, _) => Err(cluster.api_error_with(Self::API, code, &id, group.error_message.as_deref())),
            };
            (id, fleet)
        });
        Ok(each.collect())
    }
}

fn described(member: DescribedGroupMember) -> FleetMember {
    FleetMember {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        subscription: member.member_metadata.to_vec(),
        assignment: member.member_assignment.to_vec(),
    }
}
