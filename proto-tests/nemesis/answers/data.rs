//! Produce and Fetch: the error of a partition, or of all of a request.

use kafka_protocol::ResponseError::{self, *};
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, RequestContext, RequestKind};

use super::Then::{self, GoesOn, Halts, Waits};
use super::{Bench, Side};

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
    (TopicAuthorizationFailed, Waits("unauthorised")),
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
        bench.follow(Side::Target, ApiKey::Produce, error, *then, move |context| {
            if is_for_first(context, &topic, id) { action(error) } else { Action::Pass }
        });
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
        bench.follow(Side::Source, ApiKey::Fetch, error, *then, move |context| {
            if context.node == 1 { Action::Error(error) } else { Action::Pass }
        });
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
