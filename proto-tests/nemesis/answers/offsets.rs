//! ListOffsets: the error of a partition, when it is attached, taken over, looked up again, and asked about by commands.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError::{self, *};
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, Intercept, RequestContext, RequestKind, ResponseKind};

use super::Then::{self, GoesOn, Halts, Waits};
use super::{Bench, ROUND, SOON, Side, Topics, name_of};
use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, append, numbered};
use crate::kafka::harness::wait_until;

/// What a broker may answer for a partition (`ListOffsetsResponse` and what its handler lets through), and what becomes of the
/// partition while the answer stays the same.
const OFFSETS: &[(ResponseError, Then)] = &[
    (UnknownTopicOrPartition, Waits("UNKNOWN_TOPIC_OR_PARTITION")),
    (LeaderNotAvailable, Waits("LEADER_NOT_AVAILABLE")),
    (NotLeaderOrFollower, Waits("NOT_LEADER_OR_FOLLOWER")),
    (RequestTimedOut, Waits("REQUEST_TIMED_OUT")),
    (ReplicaNotAvailable, Waits("REPLICA_NOT_AVAILABLE")),
    (KafkaStorageError, Waits("KAFKA_STORAGE_ERROR")),
    (FencedLeaderEpoch, Waits("FENCED_LEADER_EPOCH")),
    (UnknownLeaderEpoch, Waits("UNKNOWN_LEADER_EPOCH")),
    (OffsetNotAvailable, Waits("OFFSET_NOT_AVAILABLE")),
    (ThrottlingQuotaExceeded, Waits("THROTTLING_QUOTA_EXCEEDED")),
    (UnknownServerError, Halts("unexpected")),
    (InvalidRequest, Halts("unexpected")),
    (UnsupportedVersion, Halts("unexpected")),
    (UnsupportedForMessageFormat, Halts("unexpected")),
    (InvalidTopicException, Halts("unexpected")),
    (TopicAuthorizationFailed, Halts("unauthorised")),
];

/// The same on the source, where a right that comes back is seen.
const OFFSETS_OF_SOURCE: &[(ResponseError, Then)] = &{
    let mut table = *OFFSETS.first_chunk::<16>().unwrap();
    table[15] = (TopicAuthorizationFailed, Waits("unauthorised"));
    table
};

impl Side {
    fn offsets(self) -> &'static [(ResponseError, Then)] {
        if self == Self::Source { OFFSETS_OF_SOURCE } else { OFFSETS }
    }
}

/// Every partition of a topic has the error that `error_of` gives it.
fn refuse(
    cluster: &Arc<Cluster>,
    times: Option<usize>,
    error_of: impl Fn(&str) -> Option<ResponseError> + Clone + Send + Sync + 'static,
) -> Intercept {
    cluster.intercept(ApiKey::ListOffsets, times, move |context: &RequestContext<'_>| {
        let RequestKind::ListOffsets(request) = context.request else { return Action::Pass };
        if !request.topics.iter().any(|topic| error_of(&topic.name).is_some()) {
            return Action::Pass;
        }
        let error_of = error_of.clone();
        Action::Edit(Box::new(move |response| {
            let ResponseKind::ListOffsets(response) = response else { return };
            for topic in &mut response.topics {
                let Some(error) = error_of(&topic.name) else { continue };
                for partition in &mut topic.partitions {
                    partition.error_code = error.code();
                    (partition.offset, partition.timestamp) = (-1, -1);
                }
            }
        }))
    })
}

/// Starts the mirror while each topic gets its answer.
fn start_under(topics: &mut Topics, side: Side, rounds: u64) {
    let (name, cluster) = (topics.name, Arc::clone(side.of(&topics.pair)));
    let hook = refuse(&cluster, None, move |topic| Topics::answer_of(name, side.offsets(), topic));
    let began = Instant::now();
    topics.pair.mirror.start();
    topics.await_all(&topics.other(), rounds);
    assert!(began.elapsed() < SOON, "the other waited for {:?}", began.elapsed());
    topics.write(rounds);
    topics.await_all(&topics.other(), rounds + 1);
    topics.await_reasons(0);
    cluster.remove_intercept(&hook);
    topics.await_whole(rounds + 1);
}

#[test]
fn every_answer_of_the_source_to_who_begins_is_followed_as_declared() {
    let mut topics = Topics::new("answers-offsets", OFFSETS_OF_SOURCE);
    start_under(&mut topics, Side::Source, 1);
    topics.finish();
}

/// At the first start, and where a partition is taken over.
#[test]
fn every_answer_of_the_target_to_who_begins_is_followed_as_declared() {
    let mut topics = Topics::new("answers-offsets-target", OFFSETS);
    start_under(&mut topics, Side::Target, 1);
    topics.pair.mirror.kill();
    topics.write(2);
    start_under(&mut topics, Side::Target, 3);
    topics.finish();
}

/// A fetch out of range makes the mirror ask where the log begins and ends.
#[test]
fn every_answer_to_who_looks_for_the_bounds_is_followed_as_declared() {
    let mut bench = Bench::new("answers-bounds");
    for (error, then) in OFFSETS_OF_SOURCE {
        let error = *error;
        // `status` is not asked: what can be retried is.
        let then = match then {
            Waits(reason) if error != TopicAuthorizationFailed => {
                assert_eq!(*reason, name_of(error));
                GoesOn
            }
            other => *other,
        };
        let out_of_range = bench.pair.source.intercept(ApiKey::Fetch, Some(1), |context| {
            if context.node == 1 { Action::Error(OffsetOutOfRange) } else { Action::Pass }
        });
        bench.follow(Side::Source, ApiKey::ListOffsets, error, then, move |context| {
            if context.node == 1 { Action::Error(error) } else { Action::Pass }
        });
        bench.pair.source.remove_intercept(&out_of_range);
    }
    bench.finish();
}

/// Where the source topic is made again, nobody may write what the old one held any more: the shard that it had asks for the
/// end of the mirror topic before it sees to that.
#[test]
fn every_answer_to_who_fences_is_followed_as_declared() {
    let name = "answers-fences";
    let mut pair = Pair::matching(name, &format!("{name}-.*"), 2, "    on: { source_recreated: continue }\n");
    let (topic, other) = (format!("{name}-topic"), format!("{name}-other"));
    pair.topic.clone_from(&topic);
    for topic in [&topic, &other] {
        pair.source.create_topic(topic, 1, 1, &[]).unwrap();
        append(&pair.source, topic, 0, "", 0, ROUND);
    }
    pair.mirror.start();
    let mut expected = numbered("", 0, ROUND);
    pair.await_values(0, &expected);
    for (error, then) in [
        (InvalidRequest, Halts("unexpected")),
        (TopicAuthorizationFailed, Halts("unauthorised")),
        (NotLeaderOrFollower, GoesOn),
    ] {
        let refused = topic.clone();
        let hook = refuse(&pair.target, None, move |topic| (topic == refused).then_some(error));
        assert!(pair.source.delete_topic(&topic));
        pair.source.create_topic(&topic, 1, 1, &[]).unwrap();
        append(&pair.source, &topic, 0, "anew", 0, ROUND);
        wait_until(
            "the end to be asked for",
            LIMIT,
            || if hook.hits() > 0 { Ok(()) } else { Err("not yet".to_owned()) },
        );
        let halted = if let Halts(reason) = then { Some((reason, pair.await_halt())) } else { None };
        pair.target.remove_intercept(&hook);
        if let Some((reason, (found, command))) = halted {
            assert!(found.starts_with(reason), "{error:?}: {found}");
            pair.obey(&command);
        }
        expected.extend(numbered("anew", 0, ROUND));
        pair.await_values(0, &expected);
    }
    append(&pair.source, &other, 0, "", ROUND, 2 * ROUND);
    pair.mirror.await_caught_up(2);
    assert!(pair.mirror.is_running());
    pair.mirror.stop();
}

/// `translate` gets over what can be retried, and names what cannot.
#[test]
fn every_answer_to_translate_is_followed_as_declared() {
    const NAME: &str = "answers-translate";
    let mut bench = Bench::new(NAME);
    for (error, then) in OFFSETS {
        let error = *error;
        let hook = refuse(&bench.pair.target, Some(2), move |topic| (topic == NAME).then_some(error));
        match then {
            Waits(_) | GoesOn => assert_eq!(bench.pair.mirror.translate(NAME, 0, 1, &[]), (1, None), "{error:?}"),
            Halts(_) => {
                let args = ["translate", "--topic", NAME, "--partition", "0", "--offset", "1"];
                let output = bench.pair.mirror.output(&args);
                let says = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(if error == TopicAuthorizationFailed { 4 } else { 1 }), "{says}");
                assert!(says.contains(&name_of(error)) && says.contains(NAME), "{says}");
            }
        }
        assert!(hook.hits() > 0, "{error:?}");
        bench.pair.target.remove_intercept(&hook);
    }
    assert_eq!(bench.rounds * ROUND, 3);
    bench.write();
    (0..2).for_each(|partition| bench.await_all(partition));
    bench.finish();
}
