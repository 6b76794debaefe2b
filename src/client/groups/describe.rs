//! Which groups there are, and whether they live: ListGroups, DescribeGroups, ConsumerGroupDescribe (KIP-848).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumer;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::{EachGroup, GroupCall};
use crate::client::connection::Connection;
use crate::client::retry::Tries;
use crate::client::{Allowed, ClientError, Cluster, Topics};
use crate::groups::GroupType;

/// GROUP_ID_NOT_FOUND: there is no such group, or it is one of another kind.
const GROUP_ID_NOT_FOUND: i16 = 69;
/// UNSUPPORTED_VERSION: the KIP-848 coordinator is switched off.
const UNSUPPORTED_VERSION: i16 = 35;

/// A group's state (`org.apache.kafka.common.GroupState`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupState {
    /// No members; it may have offsets.
    Empty,
    /// There is no such group, or it is being removed.
    Dead,
    /// Members are joining.
    PreparingRebalance,
    /// Members wait for their assignment.
    CompletingRebalance,
    /// Members have their assignment.
    Stable,
    /// The assignment is being computed (KIP-848).
    Assigning,
    /// Members take over their assignment one by one (KIP-848).
    Reconciling,
    /// Another one, by Kafka's name.
    Other(String),
}

impl GroupState {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "Empty" => Self::Empty,
            "Dead" => Self::Dead,
            "PreparingRebalance" => Self::PreparingRebalance,
            "CompletingRebalance" => Self::CompletingRebalance,
            "Stable" => Self::Stable,
            "Assigning" => Self::Assigning,
            "Reconciling" => Self::Reconciling,
            _ => Self::Other(name.to_owned()),
        }
    }

    /// Whether a group in this state has members, who alone may commit. What is not known counts as alive.
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::Empty | Self::Dead)
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Dead => "Dead",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Other(name) => name,
        })
    }
}

/// A group as ListGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Group id.
    pub id: String,
    /// `consumer` for consumers, `connect` for Kafka Connect; empty where nobody ever joined.
    pub protocol_type: String,
    /// Its state; `None` before Kafka 2.6 (KIP-518).
    pub state: Option<GroupState>,
    /// Its type; before Kafka 3.8 (KIP-848) all are classic.
    pub kind: GroupType,
}

/// Whether a group lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Its state.
    pub state: GroupState,
    /// Its members.
    pub members: usize,
    /// Its type; `None` where there is no such group.
    pub kind: Option<GroupType>,
}

impl GroupView {
    const UNKNOWN: Self = Self { state: GroupState::Dead, members: 0, kind: None };

    /// Whether it has members, who alone may commit.
    pub fn is_live(&self) -> bool {
        self.members > 0 || self.state.is_live()
    }
}

/// A group id for a request.
pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

impl Cluster {
    /// All groups that the principal may see, by id. Every broker is asked, for each lists the groups that it coordinates;
    /// one that changes its coordinator just then may be missing, so one list does not prove that a group is gone.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.list_groups_once().await {
                Ok(groups) => return Ok(groups.into_values().collect()),
                Err(error) => tries.again(self, error, &[]).await?,
            }
        }
    }

    /// One broker that does not answer spoils the list: its groups move to others, which may have answered before.
    async fn list_groups_once(&self) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
        let mut brokers: Vec<i32> = self.metadata().brokers.keys().copied().collect();
        if brokers.is_empty() {
            brokers = self.refresh(Topics::Named(&[])).await?.brokers.keys().copied().collect();
        }
        let mut asking = JoinSet::new();
        for node in brokers {
            let cluster = self.clone();
            asking.spawn(async move { cluster.list_groups_of(node).await });
        }
        let mut all = BTreeMap::new();
        for listed in asking.join_all().await {
            all.extend(listed?.into_iter().map(|group| (group.id.clone(), group)));
        }
        Ok(all)
    }

    async fn list_groups_of(&self, node: i32) -> Result<Vec<ListedGroup>, ClientError> {
        let connection = self.group_connection(node).await?;
        let response = connection.call(ListGroupsRequest::default(), 0).await?;
        if response.error_code != 0 {
            return Err(self.api_error("ListGroups", response.error_code, &format!("broker {node}")));
        }
        let listed = response.groups.into_iter().map(|group| ListedGroup {
            id: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: Some(&*group.group_state).filter(|state| !state.is_empty()).map(GroupState::of),
            kind: GroupType::from_name(&group.group_type),
        });
        Ok(listed.collect())
    }

    /// State, number of members and kind of each group, classic or KIP-848. A group that does not exist is
    /// [`GroupState::Dead`], and so are groups of other kinds, which [`Self::list_groups`] tells. What has no coordinator
    /// that answers within `patience` is an error of that group alone.
    pub async fn describe_groups(&self, groups: &[String], patience: Duration) -> EachGroup<GroupView> {
        self.ask_coordinators(Describe, groups.to_vec(), patience).await
    }

    /// What may be done with groups of these names, whether there are such groups or not.
    pub async fn allowed_on_groups(&self, groups: &[String], patience: Duration) -> EachGroup<Allowed> {
        self.ask_coordinators(Authorised, groups.to_vec(), patience).await
    }
}

/// DescribeGroups, for the operations alone.
#[derive(Debug, Clone, Copy)]
struct Authorised;

/// The last version that tells the operations on a group that is not there (KIP-1043 made it an error).
const TELLS_OF_WHAT_IS_NOT_THERE: i16 = 5;

impl GroupCall for Authorised {
    type Answer = Allowed;
    const API: &'static str = "DescribeGroups";
    const AT_ONCE: usize = 50;

    async fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> Result<EachGroup<Allowed>, ClientError> {
        let ids = groups.iter().map(|group| group_id(group)).collect();
        let request = DescribeGroupsRequest::default().with_groups(ids).with_include_authorized_operations(true);
        let response = at.call_in(request, TELLS_OF_WHAT_IS_NOT_THERE).await?;
        let allowed = |group: DescribedGroup| {
            let id = group.group_id.to_string();
            let allowed = match group.error_code {
                0 => Ok(Allowed::of(group.authorized_operations)),
                code => Err(cluster.api_error("DescribeGroups", code, &id)),
            };
            (id, allowed)
        };
        Ok(response.groups.into_iter().map(allowed).collect())
    }
}

/// DescribeGroups, and ConsumerGroupDescribe for what is no classic group.
#[derive(Debug, Clone, Copy)]
struct Describe;

impl GroupCall for Describe {
    type Answer = GroupView;
    const API: &'static str = "DescribeGroups";
    /// Each comes with the subscription and assignment of all its members.
    const AT_ONCE: usize = 50;

    async fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> Result<EachGroup<GroupView>, ClientError> {
        let ids = groups.iter().map(|group| group_id(group)).collect();
        let response = at.call(DescribeGroupsRequest::default().with_groups(ids), 0).await?;
        let mut each: EachGroup<GroupView> = response.groups.iter().map(|group| classic(cluster, group)).collect();
        let others: Vec<GroupId> = each
            .iter()
            .filter(|(_, view)| view.as_ref().is_ok_and(|view| view.state == GroupState::Dead))
            .map(|(group, _)| group_id(group))
            .collect();
        if others.is_empty() || !at.versions().contains_key(&(ApiKey::ConsumerGroupDescribe as i16)) {
            return Ok(each);
        }
        let response = at.call(ConsumerGroupDescribeRequest::default().with_group_ids(others), 0).await?;
        each.extend(response.groups.iter().filter_map(|group| consumer(cluster, group)));
        Ok(each)
    }
}

fn classic(cluster: &Cluster, group: &DescribedGroup) -> (String, Result<GroupView, ClientError>) {
    let id = group.group_id.to_string();
    let view = match (group.error_code, GroupState::of(&group.group_state)) {
        // Before v6 a group that does not exist is told by its state.
        (GROUP_ID_NOT_FOUND, _) | (0, GroupState::Dead) => Ok(GroupView::UNKNOWN),
        (0, state) => Ok(GroupView { state, members: group.members.len(), kind: Some(GroupType::Classic) }),
        (code, _) => Err(cluster.api_error_with("DescribeGroups", code, &id, group.error_message.as_deref())),
    };
    (id, view)
}

/// `None` where it is no KIP-848 group either.
fn consumer(cluster: &Cluster, group: &DescribedConsumer) -> Option<(String, Result<GroupView, ClientError>)> {
    let id = group.group_id.to_string();
    let view = match group.error_code {
        GROUP_ID_NOT_FOUND | UNSUPPORTED_VERSION => return None,
        0 => Ok(GroupView {
            state: GroupState::of(&group.group_state),
            members: group.members.len(),
            kind: Some(GroupType::Consumer),
        }),
        code => Err(cluster.api_error_with("ConsumerGroupDescribe", code, &id, group.error_message.as_deref())),
    };
    Some((id, view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kafkas_and_what_is_new_counts_as_alive() {
        for name in ["Stable", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "NotReady"] {
            assert!(GroupState::of(name).is_live() && GroupState::of(name).to_string() == name);
        }
        assert!(!GroupState::of("Empty").is_live() && !GroupState::of("Dead").is_live());
    }

    #[test]
    fn members_are_life_whatever_the_state() {
        assert!(!GroupView::UNKNOWN.is_live());
        assert!(GroupView { members: 1, state: GroupState::Empty, kind: None }.is_live());
    }
}
