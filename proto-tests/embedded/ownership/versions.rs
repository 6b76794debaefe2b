//! A fleet in which somebody is of another version: what is not understood ends an instance by its name, and is never guessed at.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::protocol::StrBytes;
use kmirror::broker::{Action, RequestContext, ResponseKind};
use kmirror::mirror::{StateRecord, encode_state, shard_of};

use super::fleet::{FLEET, another, await_shared};
use super::{PARTITIONS, Pair, SHARDS, ends_well};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::embedded::state::{control_record, newer, place, say};
use crate::kafka::harness::wait_until;

fn await_log(mirror: &Mirror, words: &str) {
    wait_until(&format!("the log to say: {words}"), LIMIT, || match mirror.log() {
        log if log.contains(words) => Ok(()),
        log => Err(log),
    });
}

/// It has ended with an error that says what to do, and has let the group go.
fn ends_for(mirror: &mut Mirror, words: &[&str]) {
    assert_eq!(mirror.await_end(), 1);
    let log = mirror.log();
    for words in words {
        assert!(log.contains(words), "{words}: {log}");
    }
}

fn write(pair: &Pair, from: u64, to: u64) {
    (0..PARTITIONS).for_each(|partition| pair.write(partition, from, to));
}

/// Commands of a newer kmirror may mean that nothing is to be written: nobody goes on who does not know them.
#[test]
fn a_newer_word_to_the_mirror_ends_every_instance_that_does_not_know_it() {
    let mut pair = Pair::new("versions-control", 2, PARTITIONS, FLEET);
    let mut other = another(&pair, FLEET);
    pair.mirror.start();
    other.start();
    await_shared(&pair, 2);
    write(&pair, 0, 10);
    (0..PARTITIONS).for_each(|p| pair.await_values(p, &super::super::numbered("", 0, 10)));
    say(&pair, control_record(r#"{"type":"quorum","at_ms":1}"#));
    for mirror in [&mut pair.mirror, &mut other] {
        ends_for(mirror, &["unknown variant `quorum`", "use the newer kmirror"]);
        assert!(!mirror.log().contains("state rebuild"), "that would forget what was said: {}", mirror.log());
    }
    write(&pair, 10, 20);
    other.start();
    ends_for(&mut other, &["use the newer kmirror"]);
    (0..PARTITIONS).for_each(|p| assert_eq!(pair.values(&pair.target, p).len(), 10, "partition {p}"));
}

/// Nobody reads the state of a shard but who takes it: there it shows.
#[test]
fn a_shard_that_a_newer_one_has_written_to_ends_whoever_is_given_it() {
    let mut pair = Pair::new("versions-shard", 2, PARTITIONS, FLEET);
    let mut other = another(&pair, FLEET);
    pair.mirror.start();
    await_shared(&pair, 1);
    write(&pair, 0, 10);
    (0..PARTITIONS).for_each(|p| pair.await_values(p, &super::super::numbered("", 0, 10)));
    let id = pair.source.topics().into_iter().find(|topic| topic.name == pair.topic).unwrap().id;
    for partition in 0..PARTITIONS {
        let shard = shard_of(id, partition, SHARDS).cast_signed();
        place(&pair, shard, newer(&encode_state(&StateRecord::Baseline)));
    }
    // Who owns it all goes on, and another one that comes is given some of it.
    other.start();
    ends_for(&mut other, &["format version 2, this kmirror knows up to 1", "use the newer kmirror"]);
    pair.mirror.kill();
    write(&pair, 10, 20);
    pair.mirror.start();
    ends_for(&mut pair.mirror, &["use the newer kmirror"]);
    (0..PARTITIONS).for_each(|p| assert_eq!(pair.values(&pair.target, p).len(), 10, "partition {p}"));
}

#[test]
fn an_assignment_that_is_not_understood_ends_the_instance() {
    let mut pair = Pair::new("versions-assignment", 2, PARTITIONS, FLEET);
    let hook = pair.target.intercept(ApiKey::SyncGroup, None, |_: &RequestContext<'_>| {
        Action::Edit(Box::new(|response| {
            let ResponseKind::SyncGroup(response) = response else { return };
            response.assignment = Bytes::from_static(br#"{"shards":{"0":"borrowed"}}"#);
        }))
    });
    let left = pair.target.intercept(ApiKey::LeaveGroup, None, |_: &RequestContext<'_>| Action::Edit(Box::new(|_| {})));
    pair.mirror.start();
    ends_for(
        &mut pair.mirror,
        &["unknown variant `borrowed`", "the leader of the fleet", "run one version everywhere"],
    );
    assert_eq!(left.hits(), 1, "nobody has to wait until it is missed");
    pair.target.remove_intercept(&hook);
    write(&pair, 0, 10);
    pair.mirror.start();
    await_shared(&pair, 1);
    ends_well(&pair, &[10; PARTITIONS as usize]);
    pair.mirror.stop();
}

#[test]
fn a_member_that_is_not_understood_gets_nothing_and_the_others_go_on() {
    let mut pair = Pair::new("versions-member", 2, PARTITIONS, FLEET);
    pair.target.intercept(ApiKey::JoinGroup, None, |_: &RequestContext<'_>| {
        Action::Edit(Box::new(|response| {
            let ResponseKind::JoinGroup(response) = response else { return };
            if response.error_code == 0 && response.leader == response.member_id {
                let stranger = JoinGroupResponseMember::default().with_member_id(StrBytes::from_static_str("stranger"));
                response.members.push(stranger.with_metadata(Bytes::from_static(br#"{"host":7}"#)));
            }
        }))
    });
    write(&pair, 0, 10);
    pair.mirror.start();
    await_shared(&pair, 1);
    await_log(&pair.mirror, "a member of the fleet gets no shards");
    await_log(&pair.mirror, "it runs another version of kmirror; run one version everywhere");
    ends_well(&pair, &[10; PARTITIONS as usize]);
    pair.mirror.stop();
}

#[test]
fn who_does_not_speak_the_groups_protocol_waits_and_says_so() {
    let mut pair = Pair::new("versions-protocol", 2, PARTITIONS, FLEET);
    let hook = pair.target.intercept(ApiKey::JoinGroup, None, |_: &RequestContext<'_>| {
        Action::Error(ResponseError::InconsistentGroupProtocol)
    });
    write(&pair, 0, 10);
    pair.mirror.start();
    await_log(&pair.mirror, "does not speak this one's protocol");
    assert_eq!(pair.target.records(&pair.topic, 0, 0).map_or(0, |records| records.len()), 0, "nothing was given to it");
    pair.target.remove_intercept(&hook);
    await_shared(&pair, 1);
    ends_well(&pair, &[10; PARTITIONS as usize]);
    pair.mirror.stop();
}
