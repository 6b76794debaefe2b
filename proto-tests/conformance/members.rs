//! Members of a classic group: how they come, stay and go, as a fleet of kmirror does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};

use super::code;
use super::subject::{LIMIT, Subject, on_every_broker, text};
use super::wire::Conn;
use crate::kafka::harness::wait_until;

on_every_broker!(
    an_id_is_given_before_anybody_is_let_in,
    a_leader_assigns_and_everybody_hears,
    a_second_member_makes_the_first_join_again,
    another_metadata_of_a_member_is_a_rebalance,
    the_same_again_is_none_but_from_the_leader,
    who_leaves_is_rebalanced_away,
    who_is_silent_is_put_out,
    a_static_member_comes_back_without_a_rebalance,
    who_was_replaced_is_fenced,
    strangers_and_old_generations_are_refused,
    members_that_share_no_protocol_do_not_go_together;
    since_3:
    one_member_puts_out_others,
    who_waits_to_be_let_in_again_hears_that_it_was_put_out,
    a_rebalance_that_waits_for_somebody_ends_when_that_one_is_put_out,
    a_static_member_is_put_out_by_its_member_id,
    members_commit_in_their_own_names,
    nobody_commits_before_the_leader_has_assigned,
);

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const BEAT: i16 = 4;
const LEAVE: i16 = 5;
const COMMIT: i16 = 9;
const FETCH: i16 = 9;
/// The least that Kafka lets a session last.
const SESSION: Duration = Duration::from_secs(6);

/// A member, or who would be one, on a connection of its own.
#[derive(Debug)]
struct Member {
    conn: Conn,
    group: String,
    id: String,
    instance: Option<&'static str>,
    protocol: &'static str,
    says: &'static [u8],
}

fn group(subject: &Subject) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("members-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&id)]);
    wait_until("the group coordinator", LIMIT, || {
        let found = subject.connect().call(4, &find).coordinators.remove(0).error_code;
        let stranger = Member::new(subject, &id).beat(1);
        let ready = found == 0 && stranger == code::UNKNOWN_MEMBER_ID;
        if ready { Ok(()) } else { Err(format!("errors {found}, {stranger}")) }
    });
    id
}

impl Member {
    fn new(subject: &Subject, group: &str) -> Self {
        let (id, group) = (String::new(), group.to_owned());
        Self { conn: subject.connect(), group, id, instance: None, protocol: "shards", says: b"hello" }
    }

    fn fixed(subject: &Subject, group: &str, instance: &'static str) -> Self {
        Self { instance: Some(instance), ..Self::new(subject, group) }
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    fn try_join(&mut self) -> JoinGroupResponse {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(self.protocol))
            .with_metadata(Bytes::from_static(self.says));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(SESSION.as_millis() as i32)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.map(text))
            .with_protocol_type(text("kmirror"))
            .with_protocols(vec![protocol]);
        self.conn.call(JOIN, &request)
    }

    /// Until it is let in; the id that it gets is its own from then on.
    fn join(&mut self) -> JoinGroupResponse {
        let mut answer = self.try_join();
        if answer.error_code == code::MEMBER_ID_REQUIRED {
            self.id = answer.member_id.to_string();
            answer = self.try_join();
        }
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.id = answer.member_id.to_string();
        answer
    }

    /// SyncGroup: error and assignment.
    fn sync(&mut self, generation: i32, assignments: &[(&str, &'static [u8])]) -> (i16, Bytes) {
        let assignment = |(member, bytes): &(&str, &'static [u8])| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(bytes))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.map(text))
            .with_protocol_type(Some(text("kmirror")))
            .with_protocol_name(Some(text(self.protocol)))
            .with_assignments(assignments.iter().map(assignment).collect());
        let answer = self.conn.call(SYNC, &request);
        (answer.error_code, answer.assignment)
    }

    /// Joins an empty group and assigns to itself; its generation.
    fn alone(&mut self) -> i32 {
        let joined = self.join();
        let id = self.id.clone();
        assert_eq!(self.sync(joined.generation_id, &[(&id, b"all")]), (0, Bytes::from_static(b"all")));
        joined.generation_id
    }

    fn beat(&mut self, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.map(text));
        self.conn.call(BEAT, &request).error_code
    }

    /// LeaveGroup: the error of the whole, and the member's.
    fn leave(&mut self) -> (i16, i16) {
        let identity =
            MemberIdentity::default().with_member_id(text(&self.id)).with_group_instance_id(self.instance.map(text));
        let request = LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![identity]);
        let answer = self.conn.call(LEAVE, &request);
        (answer.error_code, answer.members.first().map_or(0, |member| member.error_code))
    }

    /// LeaveGroup of others, by their member ids alone: each one's error.
    fn put_out(&mut self, others: &[&str]) -> Vec<i16> {
        let identities = others.iter().map(|other| MemberIdentity::default().with_member_id(text(other)));
        let request = LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(identities.collect());
        let answer = self.conn.call(LEAVE, &request);
        assert_eq!(answer.error_code, 0);
        answer.members.iter().map(|member| member.error_code).collect()
    }

    /// OffsetCommit of one partition in its own name.
    fn commit(&mut self, generation: i32, topic: &str, (partition, offset, says): (i32, i64, &str)) -> i16 {
        let at = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(says)));
        let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![at]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.map(text))
            .with_topics(vec![topic]);
        self.conn.call(COMMIT, &request).topics[0].partitions[0].error_code
    }

    /// All that was committed: partition, offset, metadata.
    fn committed(&mut self) -> Vec<(i32, i64, String)> {
        let all = OffsetFetchRequestGroup::default().with_group_id(self.group_id()).with_topics(None);
        let mut answer = self.conn.call(FETCH, &OffsetFetchRequest::default().with_groups(vec![all]));
        let group = answer.groups.remove(0);
        assert_eq!(group.error_code, 0);
        let partitions = group.topics.into_iter().flat_map(|topic| topic.partitions);
        let told = partitions.map(|p| {
            (p.partition_index, p.committed_offset, p.metadata.map(|text| text.to_string()).unwrap_or_default())
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    }

    /// Until the coordinator says so.
    fn beat_until(&mut self, generation: i32, wanted: i16) {
        wait_until("a heartbeat's answer", LIMIT, || match self.beat(generation) {
            said if said == wanted => Ok(()),
            said => Err(format!("error {said}")),
        });
    }
}

/// Two members of one generation: the first leads.
fn pair(subject: &Subject, group: &str) -> (Member, Member, i32) {
    let (mut first, mut second) = (Member::new(subject, group), Member::new(subject, group));
    let generation = first.alone();
    let joined = together(&mut first, &mut second, generation);
    assert_eq!((joined.generation_id, joined.leader.to_string()), (generation + 1, first.id.clone()));
    let (one, two) = (first.id.clone(), second.id.clone());
    let assignments: [(&str, &[u8]); 2] = [(&one, b"one"), (&two, b"two")];
    assert_eq!(first.sync(generation + 1, &assignments), (0, Bytes::from_static(b"one")));
    assert_eq!(second.sync(generation + 1, &[]), (0, Bytes::from_static(b"two")));
    (first, second, generation + 1)
}

/// The second joins, which the first hears of and joins as well; the first's answer.
fn together(first: &mut Member, second: &mut Member, generation: i32) -> JoinGroupResponse {
    thread::scope(|scope| {
        let joining = scope.spawn(|| second.join());
        first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
        let answer = first.join();
        assert_eq!(joining.join().unwrap().generation_id, answer.generation_id);
        answer
    })
}

fn described(subject: &Subject, group: &str) -> (String, Vec<(Bytes, Bytes)>) {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let described = subject.connect().call(5, &request).groups.remove(0);
    let members = described.members.into_iter().map(|member| (member.member_metadata, member.member_assignment));
    (described.group_state.to_string(), members.collect())
}

fn an_id_is_given_before_anybody_is_let_in(subject: &Subject) {
    let mut member = Member::new(subject, &group(subject));
    let refused = member.try_join();
    assert_eq!(refused.error_code, code::MEMBER_ID_REQUIRED);
    assert!(!refused.member_id.is_empty());
    member.id = refused.member_id.to_string();
    let joined = member.try_join();
    assert_eq!((joined.error_code, joined.member_id, joined.generation_id), (0, refused.member_id, 1));
    assert!(!joined.skip_assignment);
    let mut stranger = Member { id: "nobody".to_owned(), ..Member::new(subject, &member.group) };
    assert_eq!(stranger.try_join().error_code, code::UNKNOWN_MEMBER_ID);
}

fn a_leader_assigns_and_everybody_hears(subject: &Subject) {
    let group = group(subject);
    let (mut first, mut second, generation) = pair(subject, &group);
    let (state, mut members) = described(subject, &group);
    members.sort();
    let said = |assigned: &'static [u8]| (Bytes::from_static(b"hello"), Bytes::from_static(assigned));
    assert_eq!((state.as_str(), members), ("Stable", vec![said(b"one"), said(b"two")]));
    assert_eq!((first.beat(generation), second.beat(generation)), (0, 0));
    // Asked again it is told again.
    assert_eq!(second.sync(generation, &[]), (0, Bytes::from_static(b"two")));
}

fn a_second_member_makes_the_first_join_again(subject: &Subject) {
    let group = group(subject);
    let (mut first, mut second) = (Member::new(subject, &group), Member::new(subject, &group));
    let generation = first.alone();
    let joined = together(&mut first, &mut second, generation);
    assert_eq!(joined.members.len(), 2);
    assert_eq!(first.beat(generation), code::ILLEGAL_GENERATION);
    assert_eq!(first.beat(generation + 1), 0, "while the leader has not assigned");
    assert_eq!(described(subject, &group).0, "CompletingRebalance");
}

fn another_metadata_of_a_member_is_a_rebalance(subject: &Subject) {
    let (mut first, mut second, generation) = pair(subject, &group(subject));
    second.says = b"i am about to stop";
    let joined = together(&mut first, &mut second, generation);
    let mut said: Vec<Bytes> = joined.members.into_iter().map(|member| member.metadata).collect();
    said.sort();
    assert_eq!(said, [Bytes::from_static(b"hello"), Bytes::from_static(b"i am about to stop")]);
}

fn the_same_again_is_none_but_from_the_leader(subject: &Subject) {
    let (mut first, mut second, generation) = pair(subject, &group(subject));
    let again = second.join();
    assert_eq!((again.generation_id, again.members.len()), (generation, 0));
    assert_eq!(first.beat(generation), 0);
    // The leader surveys.
    let joined = together(&mut second, &mut first, generation);
    assert_eq!(joined.generation_id, generation + 1);
}

fn who_leaves_is_rebalanced_away(subject: &Subject) {
    let (mut first, mut second, generation) = pair(subject, &group(subject));
    assert_eq!(second.leave(), (0, 0));
    assert_eq!(second.leave(), (0, code::UNKNOWN_MEMBER_ID));
    assert_eq!(second.beat(generation), code::UNKNOWN_MEMBER_ID);
    first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
    assert_eq!(first.sync(generation, &[]).0, code::REBALANCE_IN_PROGRESS);
    let joined = first.join();
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
}

/// Not by the protocol's own manners, but allowed to whoever may read the group: KIP-345.
fn one_member_puts_out_others(subject: &Subject) {
    let group = group(subject);
    let (mut first, mut second, generation) = pair(subject, &group);
    let mut third = Member::new(subject, &group);
    thread::scope(|scope| {
        let joining = scope.spawn(|| third.join());
        first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
        let rejoining = scope.spawn(|| second.join());
        first.join();
        joining.join().unwrap();
        rejoining.join().unwrap();
    });
    let id = first.id.clone();
    assert_eq!(first.sync(generation + 1, &[(&id, b"one")]).0, 0);
    let others = [second.id.clone(), "nobody".to_owned(), third.id.clone()];
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    assert_eq!(first.put_out(&others), [0, code::UNKNOWN_MEMBER_ID, 0]);
    assert_eq!(first.beat(generation + 1), code::REBALANCE_IN_PROGRESS);
    assert_eq!(second.beat(generation + 1), code::UNKNOWN_MEMBER_ID);
    assert_eq!(third.try_join().error_code, code::UNKNOWN_MEMBER_ID);
    // Nobody else is waited for.
    let joined = first.join();
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 2, 1));
}

fn who_waits_to_be_let_in_again_hears_that_it_was_put_out(subject: &Subject) {
    let (mut first, mut second, generation) = pair(subject, &group(subject));
    second.says = b"i am about to stop";
    let other = second.id.clone();
    thread::scope(|scope| {
        let joining = scope.spawn(|| second.try_join());
        first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
        assert_eq!(first.put_out(&[&other]), [0]);
        assert_eq!(joining.join().unwrap().error_code, code::UNKNOWN_MEMBER_ID);
    });
    assert_eq!(first.join().members.len(), 1);
}

fn a_rebalance_that_waits_for_somebody_ends_when_that_one_is_put_out(subject: &Subject) {
    let group = group(subject);
    let (mut first, second, generation) = pair(subject, &group);
    first.says = b"once more";
    let (began, other) = (Instant::now(), second.id.clone());
    let mut third = Member { id: first.id.clone(), ..Member::new(subject, &group) };
    thread::scope(|scope| {
        let joining = scope.spawn(|| first.join());
        third.beat_until(generation, code::REBALANCE_IN_PROGRESS);
        // It is silent; but the session goes on for a while.
        assert_eq!(third.put_out(&[&other]), [0]);
        let joined = joining.join().unwrap();
        assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
    });
    assert!(began.elapsed() < SESSION / 2, "after {:?}", began.elapsed());
}

fn a_static_member_is_put_out_by_its_member_id(subject: &Subject) {
    let group = group(subject);
    let mut first = Member::fixed(subject, &group, "one");
    let generation = first.alone();
    let mut other = Member::new(subject, &group);
    assert_eq!(other.put_out(&["nobody", &first.id]), [code::UNKNOWN_MEMBER_ID, 0]);
    assert_eq!(first.beat(generation), code::UNKNOWN_MEMBER_ID);
    let mut back = Member::fixed(subject, &group, "one");
    assert_eq!(back.join().members.len(), 1);
    // Its former id is of nobody: a suspicion that comes late does not reach who has come back.
    assert_eq!(other.put_out(&[&first.id]), [code::UNKNOWN_MEMBER_ID]);
}

fn members_commit_in_their_own_names(subject: &Subject) {
    let group = group(subject);
    let topic = subject.topic_with(2, &[]).name;
    let (mut first, mut second, generation) = pair(subject, &group);
    assert_eq!(first.commit(generation, &topic, (0, 1, "a")), 0);
    assert_eq!(second.commit(generation, &topic, (1, 7, "b")), 0);
    assert_eq!(first.commit(generation, &topic, (0, 2, "c")), 0);
    assert_eq!(second.committed(), [(0, 2, "c".to_owned()), (1, 7, "b".to_owned())]);
    assert_eq!(first.commit(generation, &topic, (2, 1, "")), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(first.commit(generation - 1, &topic, (0, 9, "")), code::ILLEGAL_GENERATION);
    let mut stranger = Member { id: "nobody".to_owned(), ..Member::new(subject, &group) };
    assert_eq!(stranger.commit(generation, &topic, (0, 9, "")), code::UNKNOWN_MEMBER_ID);
    assert_eq!(Member::new(subject, &group).commit(-1, &topic, (0, 9, "")), code::UNKNOWN_MEMBER_ID);
    // While others are waited for as well.
    assert_eq!(second.leave(), (0, 0));
    first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
    assert_eq!(first.commit(generation, &topic, (0, 3, "d")), 0);
    assert_eq!(second.commit(generation, &topic, (1, 9, "")), code::UNKNOWN_MEMBER_ID);
    assert_eq!(first.committed(), [(0, 3, "d".to_owned()), (1, 7, "b".to_owned())]);
}

fn nobody_commits_before_the_leader_has_assigned(subject: &Subject) {
    let group = group(subject);
    let topic = subject.topic().name;
    let mut first = Member::new(subject, &group);
    let generation = first.join().generation_id;
    assert_eq!(first.commit(generation, &topic, (0, 1, "")), code::REBALANCE_IN_PROGRESS);
    let id = first.id.clone();
    first.sync(generation, &[(&id, b"all")]);
    assert_eq!(first.commit(generation, &topic, (0, 1, "")), 0);
}

fn who_is_silent_is_put_out(subject: &Subject) {
    let (mut first, mut second, generation) = pair(subject, &group(subject));
    let began = Instant::now();
    first.beat_until(generation, code::REBALANCE_IN_PROGRESS);
    assert!(began.elapsed() + Duration::from_secs(1) > SESSION, "after {:?}", began.elapsed());
    assert_eq!(first.join().members.len(), 1);
    assert_eq!(second.beat(generation), code::UNKNOWN_MEMBER_ID);
}

fn a_static_member_comes_back_without_a_rebalance(subject: &Subject) {
    let group = group(subject);
    let mut first = Member::fixed(subject, &group, "one");
    let generation = first.alone();
    let mut back = Member::fixed(subject, &group, "one");
    let joined = back.join();
    assert_eq!((joined.generation_id, joined.skip_assignment), (generation, true));
    assert_eq!((joined.leader.to_string(), joined.members.len()), (back.id.clone(), 1));
    assert_ne!(back.id, first.id);
    assert_eq!(back.sync(generation, &[]), (0, Bytes::from_static(b"all")));
    assert_eq!(back.beat(generation), 0);
}

fn who_was_replaced_is_fenced(subject: &Subject) {
    let group = group(subject);
    let mut first = Member::fixed(subject, &group, "one");
    let generation = first.alone();
    let mut other = Member::fixed(subject, &group, "one");
    other.join();
    assert_eq!(first.beat(generation), code::FENCED_INSTANCE_ID);
    assert_eq!(first.sync(generation, &[]).0, code::FENCED_INSTANCE_ID);
    assert_eq!(first.try_join().error_code, code::FENCED_INSTANCE_ID);
    assert_eq!(first.leave(), (0, code::FENCED_INSTANCE_ID));
    assert_eq!(other.leave(), (0, 0));
}

fn strangers_and_old_generations_are_refused(subject: &Subject) {
    let group = group(subject);
    let mut first = Member::new(subject, &group);
    let generation = first.alone();
    assert_eq!(first.beat(generation + 1), code::ILLEGAL_GENERATION);
    assert_eq!(first.sync(generation + 1, &[]).0, code::ILLEGAL_GENERATION);
    let mut stranger = Member { id: "nobody".to_owned(), ..Member::new(subject, &group) };
    assert_eq!(stranger.beat(generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(stranger.sync(generation, &[]).0, code::UNKNOWN_MEMBER_ID);
    assert_eq!(stranger.leave(), (0, code::UNKNOWN_MEMBER_ID));
    let mut nowhere = Member { id: "nobody".to_owned(), ..Member::new(subject, "no-such-group") };
    assert_eq!(nowhere.beat(1), code::UNKNOWN_MEMBER_ID);
    assert_eq!(nowhere.sync(1, &[]).0, code::UNKNOWN_MEMBER_ID);
    assert_eq!(nowhere.leave(), (0, code::UNKNOWN_MEMBER_ID));
    assert_eq!(nowhere.try_join().error_code, code::UNKNOWN_MEMBER_ID);
}

fn members_that_share_no_protocol_do_not_go_together(subject: &Subject) {
    let group = group(subject);
    let mut first = Member::new(subject, &group);
    first.alone();
    let mut newer = Member { protocol: "other", ..Member::new(subject, &group) };
    assert_eq!(newer.try_join().error_code, code::INCONSISTENT_GROUP_PROTOCOL);
    let mut instance = Member { protocol: "other", ..Member::fixed(subject, &group, "one") };
    assert_eq!(instance.try_join().error_code, code::INCONSISTENT_GROUP_PROTOCOL);
}
