//! Metadata: the error of a topic, of a partition, or of all of a request.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use kafka_protocol::ResponseError::{self, *};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse};
use kmirror::broker::{Action, RequestContext, ResponseKind};

use super::Then::{self, GoesOn, Waits};
use super::{Bench, SOON, Side, Topics};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// What is said of a topic that is not mirrored yet: Kafka names the first four (`MetadataResponse`), and a request that
/// failed as a whole gives its error to every topic in it.
const TOPIC: &[(ResponseError, Then)] = &[
    (LeaderNotAvailable, Waits("LEADER_NOT_AVAILABLE")),
    (UnknownTopicOrPartition, GoesOn),
    (InvalidTopicException, Waits("INVALID_TOPIC_EXCEPTION")),
    (TopicAuthorizationFailed, Waits("TOPIC_AUTHORIZATION_FAILED")),
    (UnknownTopicId, Waits("UNKNOWN_TOPIC_ID")),
    (UnknownServerError, Waits("UNKNOWN_SERVER_ERROR")),
    (RequestTimedOut, Waits("REQUEST_TIMED_OUT")),
    (ClusterAuthorizationFailed, Waits("CLUSTER_AUTHORIZATION_FAILED")),
    (InvalidPartitions, Waits("INVALID_PARTITIONS")),
    (InvalidReplicationFactor, Waits("INVALID_REPLICATION_FACTOR")),
    (InvalidRequest, Waits("INVALID_REQUEST")),
    (PolicyViolation, Waits("POLICY_VIOLATION")),
];

/// What is said of a partition, and whether it has a leader then.
const PARTITION: &[(ResponseError, bool, Then)] = &[
    (LeaderNotAvailable, false, Waits("LEADER_NOT_AVAILABLE")),
    (ListenerNotFound, false, Waits("LISTENER_NOT_FOUND")),
    (ReplicaNotAvailable, true, GoesOn),
];

/// What is said in place of all metadata (v13).
const WHOLE: &[Option<ResponseError>] =
    &[None, Some(UnknownServerError), Some(RequestTimedOut), Some(InvalidRequest), Some(ClusterAuthorizationFailed)];

fn edit(change: impl FnOnce(&mut MetadataResponse) + Send + 'static) -> Action {
    Action::Edit(Box::new(|response| {
        if let ResponseKind::Metadata(response) = response {
            change(response);
        }
    }))
}

fn is_named(topic: &MetadataResponseTopic, name: &str) -> bool {
    topic.name.as_ref().is_some_and(|found| found.as_str() == name)
}

/// As Kafka says it: no id, no partitions.
fn refuse(topic: &mut MetadataResponseTopic, error: ResponseError) {
    topic.error_code = error.code();
    topic.topic_id = uuid::Uuid::nil();
    topic.partitions.clear();
}

fn leaderless(partition: &mut MetadataResponsePartition, error: ResponseError, has_leader: bool) {
    partition.error_code = error.code();
    if !has_leader {
        partition.leader_id = BrokerId(-1);
    }
}

/// Before anything of a topic is mirrored: it waits and says why, and the other one does not wait for it.
fn at_the_first_start(name: &'static str, side: Side) {
    let mut topics = Topics::new(name, TOPIC);
    let hook = side.of(&topics.pair).intercept(ApiKey::Metadata, None, move |_| {
        edit(move |response| {
            for topic in &mut response.topics {
                let answer = topic.name.as_ref().and_then(|topic| Topics::answer_of(name, TOPIC, topic));
                if let Some(error) = answer {
                    refuse(topic, error);
                }
            }
        })
    });
    let began = Instant::now();
    topics.pair.mirror.start();
    topics.await_all(&topics.other(), 1);
    assert!(began.elapsed() < SOON, "the other waited for {:?}", began.elapsed());
    topics.write(1);
    topics.await_all(&topics.other(), 2);
    topics.await_reasons(if side == Side::Source { -1 } else { 0 });
    side.of(&topics.pair).remove_intercept(&hook);
    topics.await_whole(2);
    topics.finish();
}

#[test]
fn topics_that_the_source_does_not_describe_wait() {
    at_the_first_start("answers-undescribed", Side::Source);
}

#[test]
fn topics_that_the_target_does_not_describe_wait() {
    at_the_first_start("answers-undescribed-target", Side::Target);
}

/// A question for metadata by name follows a fetch that says that the leader is another one.
fn ask_anew(bench: &Bench) {
    bench.pair.source.intercept(ApiKey::Fetch, Some(3), |_| Action::Error(NotLeaderOrFollower));
}

/// While it is mirrored the leaders are known, and what an answer says of the topic says nothing of them. Only one that it
/// says is not there has none, until the next answer.
fn while_mirrored(name: &'static str, side: Side) {
    let mut bench = Bench::new(name);
    for (error, _) in TOPIC {
        let error = *error;
        let hook = move |_: &RequestContext<'_>| {
            edit(move |response| {
                let ours = response.topics.iter_mut().filter(|topic| is_named(topic, name));
                ours.for_each(|topic| refuse(topic, error));
            })
        };
        ask_anew(&bench);
        if error == UnknownTopicOrPartition {
            bench.follow(side, ApiKey::Metadata, error, GoesOn, hook);
            // Until the leaders are known again.
            bench.write();
            (0..2).for_each(|partition| bench.await_all(partition));
        } else {
            bench.flows_under(side, ApiKey::Metadata, |_, answers| answers > 1, hook);
        }
    }
    bench.finish();
}

#[test]
fn every_error_of_a_mirrored_topic_on_the_source_is_passed_over() {
    while_mirrored("answers-topic", Side::Source);
}

#[test]
fn every_error_of_a_mirrored_topic_on_the_target_is_passed_over() {
    while_mirrored("answers-topic-target", Side::Target);
}

fn partition_answers(name: &'static str, side: Side) {
    let mut bench = Bench::new(name);
    for (error, has_leader, then) in PARTITION {
        let (error, has_leader) = (*error, *has_leader);
        ask_anew(&bench);
        bench.follow(side, ApiKey::Metadata, error, *then, move |_| {
            edit(move |response| {
                let ours = response.topics.iter_mut().filter(|topic| is_named(topic, name));
                let partitions = ours.flat_map(|topic| &mut topic.partitions);
                partitions.filter(|p| p.partition_index == 0).for_each(|p| leaderless(p, error, has_leader));
            })
        });
    }
    bench.finish();
}

#[test]
fn every_error_of_a_partition_on_the_source_is_followed_as_declared() {
    partition_answers("answers-partition", Side::Source);
}

#[test]
fn every_error_of_a_partition_on_the_target_is_followed_as_declared() {
    partition_answers("answers-partition-target", Side::Target);
}

fn whole(error: Option<ResponseError>) -> Action {
    edit(move |response| {
        *response = MetadataResponse::default().with_error_code(error.map_or(0, |error| error.code()));
    })
}

/// What stands in place of all metadata changes nothing of what is known, except where it tells to begin anew. Below v13 it has
/// no error: it only names no broker, and no topic where all were asked for.
#[test]
fn every_error_in_place_of_metadata_is_passed_over() {
    let mut bench = Bench::new("answers-whole");
    for side in [Side::Source, Side::Target] {
        for error in WHOLE {
            let error = *error;
            let failed = |bench: &Bench| bench.pair.mirror.log().matches("topic discovery failed").count();
            let before = failed(&bench);
            ask_anew(&bench);
            bench.flows_under(side, ApiKey::Metadata, |bench, _| failed(bench) > before, move |_| whole(error));
        }
        ask_anew(&bench);
        bench.follow(side, ApiKey::Metadata, RebootstrapRequired, GoesOn, |_| whole(Some(RebootstrapRequired)));
    }
    assert!(!bench.pair.mirror.log().contains("no such topic any more"), "{}", bench.pair.mirror.log());
    bench.finish();
}

/// Whoever is told to begin anew forgets where the brokers are, and dials again (KIP-1102).
#[test]
fn told_to_begin_anew_it_dials_again() {
    let mut bench = Bench::new("answers-anew");
    let first = Arc::new(AtomicU64::new(0));
    let dialled = Arc::new(AtomicBool::new(false));
    let (on, again) = (Arc::clone(&first), Arc::clone(&dialled));
    let hook = bench.pair.source.intercept(ApiKey::Metadata, None, move |context| {
        let first = on.compare_exchange(0, context.connection, SeqCst, SeqCst).unwrap_or_else(|first| first);
        if [0, context.connection].contains(&first) {
            return whole(Some(RebootstrapRequired));
        }
        again.store(true, SeqCst);
        Action::Pass
    });
    ask_anew(&bench);
    wait_until("another connection", LIMIT, || if dialled.load(SeqCst) { Ok(()) } else { Err("none".to_owned()) });
    bench.pair.source.remove_intercept(&hook);
    bench.write();
    (0..2).for_each(|partition| bench.await_all(partition));
    bench.finish();
}
