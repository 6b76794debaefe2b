//! Every error that an answer can carry: what can be retried goes on by itself, what cannot halts that one partition with
//! its reason; the other partition goes on, and afterwards nothing is lost or there twice.
//!
//! On embedded brokers, which answer with any code when told to.

use kafka_protocol::ResponseError::{self, *};
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, RequestContext, RequestKind};

use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, numbered};
use crate::kafka::harness::wait_until;

/// What becomes of partition 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Halts(&'static str),
}
use Then::{GoesOn, Halts};

/// What a broker may answer for a partition of a Produce request (`ProduceResponse` and what its handler lets through).
const PRODUCE: &[(ResponseError, Then)] = &[
    (UnknownServerError, Halts("unexpected")),
    (CorruptMessage, GoesOn),
    (UnknownTopicOrPartition, GoesOn),
    (LeaderNotAvailable, GoesOn),
    (NotLeaderOrFollower, GoesOn),
    (RequestTimedOut, GoesOn),
    (ReplicaNotAvailable, GoesOn),
    (MessageTooLarge, Halts("message_too_large")),
    (NetworkException, GoesOn),
    (CoordinatorLoadInProgress, GoesOn),
    (CoordinatorNotAvailable, GoesOn),
    (NotCoordinator, GoesOn),
    (InvalidTopicException, Halts("unexpected")),
    (RecordListTooLarge, Halts("message_too_large")),
    (NotEnoughReplicas, GoesOn),
    (NotEnoughReplicasAfterAppend, GoesOn),
    (InvalidRequiredAcks, Halts("unexpected")),
    (TopicAuthorizationFailed, Halts("unauthorised")),
    (ClusterAuthorizationFailed, Halts("unauthorised")),
    (InvalidTimestamp, Halts("invalid_record")),
    (InvalidRequest, Halts("unexpected")),
    (UnsupportedForMessageFormat, Halts("unexpected")),
    (PolicyViolation, Halts("invalid_record")),
    (OutOfOrderSequenceNumber, GoesOn),
    (DuplicateSequenceNumber, GoesOn),
    (InvalidTxnState, Halts("unexpected")),
    (InvalidProducerIdMapping, Halts("unexpected")),
    (ConcurrentTransactions, GoesOn),
    (TransactionalIdAuthorizationFailed, Halts("unauthorised")),
    (KafkaStorageError, GoesOn),
    (UnknownProducerId, GoesOn),
    (FencedLeaderEpoch, GoesOn),
    (UnknownLeaderEpoch, GoesOn),
    (UnsupportedCompressionType, Halts("unexpected")),
    (InvalidRecord, Halts("invalid_record")),
    (ThrottlingQuotaExceeded, GoesOn),
    (UnknownTopicId, GoesOn),
    (InconsistentTopicId, GoesOn),
];

/// What a broker may answer for a partition of a Fetch request, or for all of it.
const FETCH: &[(ResponseError, Then)] = &[
    (UnknownServerError, Halts("unexpected")),
    (OffsetOutOfRange, GoesOn),
    (CorruptMessage, Halts("unexpected")),
    (UnknownTopicOrPartition, GoesOn),
    (LeaderNotAvailable, GoesOn),
    (NotLeaderOrFollower, GoesOn),
    (RequestTimedOut, GoesOn),
    (BrokerNotAvailable, GoesOn),
    (ReplicaNotAvailable, GoesOn),
    (TopicAuthorizationFailed, Halts("unauthorised")),
    (UnsupportedVersion, Halts("unexpected")),
    (InvalidRequest, Halts("unexpected")),
    (UnsupportedForMessageFormat, Halts("unexpected")),
    (KafkaStorageError, GoesOn),
    (FetchSessionIdNotFound, GoesOn),
    (InvalidFetchSessionEpoch, GoesOn),
    (ListenerNotFound, GoesOn),
    (FencedLeaderEpoch, GoesOn),
    (UnknownLeaderEpoch, GoesOn),
    (OffsetNotAvailable, GoesOn),
    (ThrottlingQuotaExceeded, GoesOn),
    (UnknownTopicId, GoesOn),
    (InconsistentTopicId, GoesOn),
    (FetchSessionTopicIdError, GoesOn),
];

/// Batches of one round and partition.
const ROUND: u64 = 3;
/// How often one answer comes.
const TIMES: usize = 2;

/// A pair that has mirrored `rounds` so far; partitions 0 and 1 are led by different nodes on either side, and so never in
/// one request.
struct Bench {
    pair: Pair,
    rounds: u64,
}

impl Bench {
    fn new(topic: &str) -> Self {
        let mut pair = Pair::new(topic, 2, 2, "");
        pair.target.create_topic(topic, 2, 1, &[]).unwrap();
        for cluster in [&pair.source, &pair.target] {
            for partition in 0..2 {
                cluster.move_leader(topic, partition, partition + 1).unwrap();
            }
        }
        pair.mirror.start();
        let mut bench = Self { pair, rounds: 0 };
        bench.write();
        (0..2).for_each(|partition| bench.await_all(partition));
        bench
    }

    fn write(&mut self) {
        let from = self.rounds * ROUND;
        (0..2).for_each(|partition| self.pair.write(partition, from, from + ROUND));
        self.rounds += 1;
    }

    fn await_all(&self, partition: i32) {
        self.pair.await_values(partition, &numbered("", 0, self.rounds * ROUND));
    }

    /// What follows on answers that `count` says were given.
    fn follow(&mut self, error: ResponseError, then: Then, given: impl Fn() -> u64) {
        self.write();
        self.await_all(1);
        wait_until(&format!("{error:?} to be answered"), LIMIT, || {
            if given() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
        });
        if let Halts(reason) = then {
            let (found, command) = self.pair.await_halt();
            assert!(found.starts_with(reason), "{error:?}: {found}");
            let plain: Vec<String> = command.into_iter().take_while(|word| word != "--accept-loss").collect();
            self.pair.obey(&plain);
        }
        self.await_all(0);
        assert_eq!(self.pair.mirror.row(&self.pair.topic, 0).unwrap()["state"], "mirroring", "after {error:?}");
    }

    fn finish(mut self) {
        self.pair.mirror.await_caught_up(2);
        (0..2).for_each(|partition| self.pair.assert_mapped(partition));
        self.pair.mirror.stop();
    }
}

/// Whether a produce request has data for partition 0 of the mirrored topic; the state topic has one, too.
fn is_for_first(context: &RequestContext<'_>, topic: &str, id: uuid::Uuid) -> bool {
    let RequestKind::Produce(request) = context.request else { return false };
    let ours = request.topic_data.iter().filter(|data| data.name.as_str() == topic || data.topic_id == id);
    ours.flat_map(|data| &data.partition_data).any(|partition| partition.index == 0)
}

fn produce_answers(name: &str, action: fn(ResponseError) -> Action) {
    let mut bench = Bench::new(name);
    let id = bench.pair.target.topics().iter().find(|topic| topic.name == name).map(|topic| topic.id).unwrap();
    for (error, then) in PRODUCE {
        let (topic, error) = (name.to_owned(), *error);
        // A halt comes with the first.
        let times = if *then == GoesOn { TIMES } else { 1 };
        let hook = bench.pair.target.intercept(ApiKey::Produce, Some(times), move |context| {
            if is_for_first(context, &topic, id) { action(error) } else { Action::Pass }
        });
        bench.follow(error, *then, || hook.hits());
        bench.pair.target.remove_intercept(&hook);
    }
    bench.finish();
}

#[test]
fn every_answer_to_produce_is_followed_as_declared() {
    produce_answers("answers-produce", Action::Error);
}

/// The same where the batch was appended all the same: the answer lies, and nothing is there twice.
#[test]
fn every_answer_to_produce_is_followed_where_it_was_appended() {
    produce_answers("answers-produce-after", Action::ErrorAfter);
}

#[test]
fn every_answer_to_fetch_is_followed_as_declared() {
    let mut bench = Bench::new("answers-fetch");
    for (error, then) in FETCH {
        let error = *error;
        let times = if *then == GoesOn { TIMES } else { 1 };
        let hook = bench.pair.source.intercept(ApiKey::Fetch, Some(times), move |context| {
            if context.node == 1 { Action::Error(error) } else { Action::Pass }
        });
        bench.follow(error, *then, || hook.hits());
        bench.pair.source.remove_intercept(&hook);
    }
    bench.finish();
}

#[test]
fn an_answer_that_says_fenced_ends_the_process() {
    for (name, error) in [("answers-fenced", ProducerFenced), ("answers-epoch", InvalidProducerEpoch)] {
        let mut bench = Bench::new(name);
        let id = bench.pair.target.topics().iter().find(|topic| topic.name == name).map(|topic| topic.id).unwrap();
        bench.pair.target.intercept(ApiKey::Produce, Some(1), move |context| {
            if is_for_first(context, name, id) { Action::Error(error) } else { Action::Pass }
        });
        bench.write();
        assert_eq!(bench.pair.mirror.await_end(), 1);
        assert!(bench.pair.mirror.log().contains("fenced"), "{}", bench.pair.mirror.log());
        bench.pair.mirror.start();
        (0..2).for_each(|partition| bench.await_all(partition));
        bench.finish();
    }
}
