//! Groups as their coordinator keeps them: what was committed, and whether anybody is a member. Checks follow Kafka's
//! `OffsetMetadataManager`, `ClassicGroup`, `ConsumerGroup` and `ShareGroup`.
//!
//! Members of classic groups come and go in `members`. Omitted: those of other groups, of whom tests say who lives
//! ([`Cluster::set_members`]), and commits in their names, which are refused. Also offsets in
//! transactions (a test can make one, [`Cluster::hold_offset`]), and expiry but by [`Cluster::forget_group`].

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

use super::cluster::Cluster;
use super::members::Roster;
use super::state::State;

/// A group's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupKind {
    /// Of the old protocol; also what a commit without members makes.
    #[default]
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932.
    Share,
}

impl GroupKind {
    /// Kafka's name, as `Group.GroupType` writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }

    /// What the members speak.
    fn protocol_type(self) -> &'static str {
        match self {
            Self::Classic | Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the record before; −1 where not told.
    pub leader_epoch: i32,
    /// The consumer's own words.
    pub metadata: String,
}

/// Topic and partition.
pub(super) type Place = (String, i32);

/// A group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) kind: GroupKind,
    /// Of members that a test has set.
    protocol_type: &'static str,
    /// How many members it has, by the word of a test.
    pub(super) members: usize,
    /// Those that have joined.
    pub(super) roster: Roster,
    /// What they subscribe to.
    subscribed: BTreeSet<String>,
    pub(super) offsets: BTreeMap<Place, GroupOffset>,
    /// Those with another offset in an open transaction.
    pub(super) unstable: BTreeSet<Place>,
}

impl Group {
    /// Kafka's name of its state; members that a test has set are never between two assignments.
    pub(super) fn state(&self) -> &'static str {
        if self.members > 0 { "Stable" } else { self.roster.phase.name() }
    }

    /// What its members speak; empty where nobody ever joined.
    pub(super) fn speaks(&self) -> String {
        if self.protocol_type.is_empty() { self.roster.protocol_type.clone() } else { self.protocol_type.to_owned() }
    }

    fn is_live(&self) -> bool {
        self.members > 0 || self.roster.is_live()
    }

    /// `Group.validateOffsetCommit`, for whoever is no member.
    pub(super) fn may_commit(&self) -> Result<(), ResponseError> {
        match self.kind {
            GroupKind::Share => Err(ResponseError::GroupIdNotFound),
            _ if self.is_live() => Err(ResponseError::UnknownMemberId),
            _ => Ok(()),
        }
    }

    /// `Group.validateOffsetDelete` and `isSubscribedToTopic`.
    pub(super) fn may_delete(&self, topic: &str) -> Result<(), ResponseError> {
        let subscribed = self.members > 0 && self.subscribed.contains(topic);
        if subscribed { Err(ResponseError::GroupSubscribedToTopic) } else { Ok(()) }
    }
}

impl State {
    /// A group of this kind, at the node that coordinates it.
    pub(super) fn group(&self, node: i32, id: &str, kind: GroupKind) -> Result<&Group, ResponseError> {
        self.coordinates(node, id)?;
        self.groups.get(id).filter(|group| group.kind == kind).ok_or(ResponseError::GroupIdNotFound)
    }

    /// Whether this node coordinates the group.
    pub(super) fn coordinates(&self, node: i32, id: &str) -> Result<(), ResponseError> {
        if self.coordinator(id) == Some(node) { Ok(()) } else { Err(ResponseError::NotCoordinator) }
    }

    /// A topic's committed offsets go with it.
    pub(super) fn forget_offsets_of(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|(of, _), _| of != topic);
            group.unstable.retain(|(of, _)| of != topic);
        }
    }
}

impl Cluster {
    /// Gives a group so many members of this kind, who subscribe to these topics; none leave it empty. One that does not
    /// exist comes into being.
    pub fn set_members(&self, group: &str, kind: GroupKind, members: usize, topics: &[&str]) {
        let mut state = self.shared.lock();
        let group = state.groups.entry(group.to_owned()).or_default();
        group.kind = kind;
        group.protocol_type = kind.protocol_type();
        group.members = members;
        group.subscribed = topics.iter().map(|topic| (*topic).to_owned()).collect();
    }

    /// Commits an offset for a group, members or not; its leader epoch is unknown and it has no metadata.
    pub fn commit_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.plant_offset(group, topic, partition, GroupOffset { offset, leader_epoch: -1, metadata: String::new() });
    }

    /// The same with leader epoch and metadata. A group that does not exist comes into being, empty.
    pub fn plant_offset(&self, group: &str, topic: &str, partition: i32, committed: GroupOffset) {
        let mut state = self.shared.lock();
        let group = state.groups.entry(group.to_owned()).or_default();
        group.offsets.insert((topic.to_owned(), partition), committed);
    }

    /// From now on the group has another offset of this partition in a transaction that is open; or no more.
    pub fn hold_offset(&self, group: &str, topic: &str, partition: i32, held: bool) {
        let mut state = self.shared.lock();
        let Some(group) = state.groups.get_mut(group) else { return };
        let place = (topic.to_owned(), partition);
        if held {
            group.unstable.insert(place)
        } else {
            group.unstable.remove(&place)
        };
    }

    /// What a group has committed, by topic and partition; nothing where it does not exist.
    pub fn group_offsets(&self, group: &str) -> BTreeMap<(String, i32), GroupOffset> {
        self.shared.lock().groups.get(group).map(|group| group.offsets.clone()).unwrap_or_default()
    }

    /// Generation of a classic group; 0 where nobody ever joined.
    pub fn group_generation(&self, group: &str) -> i32 {
        self.shared.lock().groups.get(group).map_or(0, |group| group.roster.generation)
    }

    /// Removes a group with its offsets, as `offsets.retention.minutes` does; false when there is none.
    pub fn forget_group(&self, group: &str) -> bool {
        self.shared.lock().groups.remove(group).is_some()
    }
}
