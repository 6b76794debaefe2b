//! Members of classic groups, as their coordinator keeps them: who is in, which generation, who is to be waited for. Follows
//! Kafka's `GroupMetadataManager` (its `classicGroup…` methods) and `ClassicGroup`.
//!
//! Time passes when somebody asks: sessions and rebalances that have run out are ended by [`Roster::advance`], which every request
//! and every waiting one calls first.
//!
//! Omitted: `group.initial.rebalance.delay.ms` (it is 0), `group.max.size`, the vote between several protocols (the first that
//! all members share is taken), and everything that consumers alone need.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::time::{Duration, Instant};

/// What a member offers when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocol_type: String,
    /// Names and metadata, the preferred first.
    pub(super) protocols: Vec<(String, Bytes)>,
}

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) offer: Offer,
    pub(super) assignment: Bytes,
    /// It has joined the rebalance that is under way.
    rejoined: bool,
    /// Not heard of by then, it is out; it does not run while it waits for others to join.
    deadline: Instant,
}

/// `ClassicGroupState`; a group without members is not kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl Phase {
    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The members of a group.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) leader: String,
    pub(super) members: BTreeMap<String, Member>,
    /// Member ids that were given out and wait to be joined with (KIP-394).
    pending: BTreeMap<String, Instant>,
    /// When a rebalance goes on without those who have not joined; when a generation ends whose leader has not assigned.
    until: Option<Instant>,
}

/// What came of a JoinGroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// Under this id, once the generation after this one is there.
    Waits { member: String, generation: i32 },
    /// At once, into the present generation. `skip`: a static leader that came back, whose assignments stand.
    Back { member: String, skip: bool },
    /// Refused, with a member id where that is told.
    Refused(ResponseError, String),
}

impl Roster {
    /// Ends what has run out.
    pub(super) fn advance(&mut self, now: Instant) {
        self.pending.retain(|_, deadline| *deadline > now);
        let preparing = self.phase == Phase::PreparingRebalance;
        let gone = |member: &Member| member.deadline <= now && !(preparing && member.rejoined);
        let out: Vec<String> = self.members.iter().filter(|(_, m)| gone(m)).map(|(id, _)| id.clone()).collect();
        out.iter().for_each(|id| self.remove(id, now));
        let over = self.until.is_some_and(|until| until <= now);
        match self.phase {
            Phase::PreparingRebalance if over => {
                // A static member is waited for as long as its session lasts.
                self.members.retain(|_, member| member.rejoined || member.offer.instance_id.is_some());
                self.complete_join(now);
            }
            Phase::PreparingRebalance => self.maybe_complete_join(now),
            // `expirePendingSync`: the leader has not assigned in time.
            Phase::CompletingRebalance if over => self.prepare_rebalance(now),
            _ => {}
        }
    }

    /// When something may run out next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.members.values().map(|member| member.deadline).chain(self.until).min()
    }

    /// As DescribeGroups tells it: known while the group is stable.
    pub(super) fn protocol_data(&self) -> String {
        if self.phase == Phase::Stable { self.protocol.clone() } else { String::new() }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.members.is_empty()
    }

    fn remove(&mut self, id: &str, now: Instant) {
        if self.members.remove(id).is_none() {
            return;
        }
        if self.leader == id {
            self.leader.clear();
        }
        match self.phase {
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(now),
            Phase::PreparingRebalance => self.maybe_complete_join(now),
            Phase::Empty => {}
        }
    }

    fn prepare_rebalance(&mut self, now: Instant) {
        self.phase = Phase::PreparingRebalance;
        self.members.values_mut().for_each(|member| member.rejoined = false);
        let patience = self.members.values().map(|member| member.offer.rebalance_timeout).max().unwrap_or_default();
        self.until = Some(now + patience);
        self.maybe_complete_join(now);
    }

    fn maybe_complete_join(&mut self, now: Instant) {
        if self.pending.is_empty() && self.members.values().all(|member| member.rejoined) {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Instant) {
        self.generation += 1;
        self.until = None;
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        self.phase = Phase::CompletingRebalance;
        self.protocol = self.common_protocol().unwrap_or_default();
        let led = self.members.get(&self.leader).is_some_and(|leader| leader.rejoined);
        if !led {
            let first = self.members.iter().find(|(_, member)| member.rejoined).or_else(|| self.members.iter().next());
            self.leader = first.map(|(id, _)| id.clone()).unwrap_or_default();
        }
        let mut patience = Duration::ZERO;
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            member.deadline = now + member.offer.session_timeout;
            patience = patience.max(member.offer.rebalance_timeout);
        }
        self.until = Some(now + patience);
    }

    fn common_protocol(&self) -> Option<String> {
        let offered = |member: &Member, name: &str| member.offer.protocols.iter().any(|(one, _)| one == name);
        let first = self.members.values().next()?;
        let names = first.offer.protocols.iter().map(|(name, _)| name);
        names.into_iter().find(|name| self.members.values().all(|member| offered(member, name))).cloned()
    }

    /// Whether this offer goes together with those of the members.
    fn supports(&self, offer: &Offer) -> bool {
        if offer.protocol_type.is_empty() || offer.protocols.is_empty() {
            return false;
        }
        let shared = |(name, _): &(String, Bytes)| {
            self.members.values().all(|member| member.offer.protocols.iter().any(|(one, _)| one == name))
        };
        !self.is_live() || (self.protocol_type == offer.protocol_type && offer.protocols.iter().any(shared))
    }

    /// JoinGroup. `new_id` is a member id that nobody has.
    pub(super) fn join(&mut self, id: &str, offer: Offer, new_id: String, id_first: bool, now: Instant) -> Joining {
        let refused = |error| Joining::Refused(error, id.to_owned());
        if !self.supports(&offer) {
            return refused(ResponseError::InconsistentGroupProtocol);
        }
        let holder = offer.instance_id.as_deref().and_then(|instance| self.instance(instance));
        match (id.is_empty(), &offer.instance_id, holder) {
            (true, Some(_), Some(old)) => self.replace(&old, offer, new_id, now),
            (true, Some(_), None) => self.admit(&new_id, offer, now),
            (true, None, _) if id_first => {
                self.pending.insert(new_id.clone(), now + offer.session_timeout);
                Joining::Refused(ResponseError::MemberIdRequired, new_id)
            }
            (true, None, _) => self.admit(&new_id, offer, now),
            (false, Some(_), None) => refused(ResponseError::UnknownMemberId),
            (false, Some(_), Some(holder)) if holder != id => refused(ResponseError::FencedInstanceId),
            _ if self.pending.remove(id).is_some() => self.admit(id, offer, now),
            _ if self.members.contains_key(id) => self.rejoin(id, offer, now),
            _ => refused(ResponseError::UnknownMemberId),
        }
    }

    fn instance(&self, instance: &str) -> Option<String> {
        let mut members = self.members.iter();
        members.find(|(_, member)| member.offer.instance_id.as_deref() == Some(instance)).map(|(id, _)| id.clone())
    }

    fn admit(&mut self, id: &str, offer: Offer, now: Instant) -> Joining {
        if !self.is_live() {
            self.protocol_type.clone_from(&offer.protocol_type);
        }
        let deadline = now + offer.session_timeout;
        let fresh = Member { offer, assignment: Bytes::new(), rejoined: true, deadline };
        self.members.insert(id.to_owned(), fresh);
        self.joined(id, now)
    }

    /// It has joined: a rebalance begins or goes on.
    fn joined(&mut self, id: &str, now: Instant) -> Joining {
        let generation = self.generation;
        if self.phase != Phase::PreparingRebalance {
            self.phase = Phase::PreparingRebalance;
            self.members.values_mut().for_each(|member| member.rejoined = false);
            let patience = self.members.values().map(|member| member.offer.rebalance_timeout).max();
            self.until = Some(now + patience.unwrap_or_default());
        }
        if let Some(member) = self.members.get_mut(id) {
            member.rejoined = true;
        }
        self.maybe_complete_join(now);
        Joining::Waits { member: id.to_owned(), generation }
    }

    /// A static member comes back under a new member id; the old one is fenced.
    fn replace(&mut self, old: &str, offer: Offer, new_id: String, now: Instant) -> Joining {
        let Some(mut member) = self.members.remove(old) else {
            return Joining::Refused(ResponseError::UnknownMemberId, String::new());
        };
        let led = self.leader == old;
        if led {
            self.leader.clone_from(&new_id);
        }
        member.deadline = now + offer.session_timeout;
        member.offer = offer;
        self.members.insert(new_id.clone(), member);
        if self.phase == Phase::Stable && self.common_protocol().as_ref() == Some(&self.protocol) {
            return Joining::Back { member: new_id, skip: led };
        }
        self.joined(&new_id, now)
    }

    fn rejoin(&mut self, id: &str, offer: Offer, now: Instant) -> Joining {
        let Some(member) = self.members.get_mut(id) else {
            return Joining::Refused(ResponseError::UnknownMemberId, String::new());
        };
        let same = member.offer.protocols == offer.protocols;
        member.deadline = now + offer.session_timeout;
        member.offer = offer;
        let stays = match self.phase {
            Phase::CompletingRebalance => same,
            Phase::Stable => same && self.leader != id,
            Phase::PreparingRebalance | Phase::Empty => false,
        };
        if stays { Joining::Back { member: id.to_owned(), skip: false } } else { self.joined(id, now) }
    }

    /// Whether this is a member of this generation.
    fn check(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<(), ResponseError> {
        match instance.map(|instance| self.instance(instance)) {
            Some(None) => return Err(ResponseError::UnknownMemberId),
            Some(Some(holder)) if holder != id => return Err(ResponseError::FencedInstanceId),
            _ if !self.members.contains_key(id) => return Err(ResponseError::UnknownMemberId),
            _ => {}
        }
        if generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// SyncGroup, but for its answer.
    pub(super) fn sync(&mut self, sync: &Sync<'_>, now: Instant) -> Result<(), ResponseError> {
        self.check(sync.member, sync.instance, sync.generation)?;
        let other = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
        if other(sync.protocol_type, &self.protocol_type) || other(sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty => return Err(ResponseError::UnknownMemberId),
            Phase::PreparingRebalance => return Err(ResponseError::RebalanceInProgress),
            Phase::CompletingRebalance if self.leader == sync.member => {
                for (id, member) in &mut self.members {
                    member.assignment = sync.assignments.get(id).cloned().unwrap_or_default();
                    member.deadline = now + member.offer.session_timeout;
                }
                self.until = None;
                self.phase = Phase::Stable;
            }
            Phase::CompletingRebalance | Phase::Stable => {}
        }
        Ok(())
    }

    /// The assignment, once it is there.
    pub(super) fn assigned(&self, id: &str, generation: i32) -> Option<Result<Bytes, ResponseError>> {
        match self.members.get(id) {
            None => Some(Err(ResponseError::UnknownMemberId)),
            Some(_) if self.generation != generation => Some(Err(ResponseError::RebalanceInProgress)),
            Some(member) => match self.phase {
                Phase::Stable => Some(Ok(member.assignment.clone())),
                Phase::CompletingRebalance => None,
                Phase::PreparingRebalance | Phase::Empty => Some(Err(ResponseError::RebalanceInProgress)),
            },
        }
    }

    /// A member's session lasts from now on.
    fn heard_of(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = now + member.offer.session_timeout;
        }
    }

    /// Heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check(id, instance, generation)?;
        self.heard_of(id, now);
        match self.phase {
            Phase::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// OffsetCommit in a member's name (`ClassicGroup.validateOffsetCommit`): it keeps the session alive as a heartbeat does.
    pub(super) fn may_commit(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check(id, instance, generation)?;
        if self.phase == Phase::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.heard_of(id, now);
        Ok(())
    }

    /// LeaveGroup of one member. A static one may be named by its instance alone.
    pub(super) fn leave(&mut self, id: &str, instance: Option<&str>, now: Instant) -> Result<(), ResponseError> {
        let id = match instance {
            None => id.to_owned(),
            Some(instance) => match self.instance(instance) {
                Some(holder) if id.is_empty() || holder == id => holder,
                Some(_) => return Err(ResponseError::FencedInstanceId),
                None => return Err(ResponseError::UnknownMemberId),
            },
        };
        if self.pending.remove(&id).is_some() {
            return Ok(());
        }
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&id, now);
        Ok(())
    }
}

/// A SyncGroup.
#[derive(Debug)]
pub(super) struct Sync<'a> {
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<&'a str>,
    pub(super) protocol: Option<&'a str>,
    pub(super) assignments: BTreeMap<String, Bytes>,
}
