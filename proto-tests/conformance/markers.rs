//! What real brokers do with the markers of several transactions in one WriteTxnMarkers request, as coordinators send them.
//! The embedded broker always answers: this is a fault of Kafka's that kmirror stays clear of, not a rule to lean on.

use std::time::Duration;

use kafka_protocol::messages::WriteTxnMarkersRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};

use super::subject::{LIMIT, Subject, Topic, on_every_broker, topic_name};
use crate::kafka::harness::wait_until;

on_every_broker!(@ kafka_4_3_1 a_last_marker_for_a_partition_not_held_costs_the_answer_to_all);
on_every_broker!(@ kafka_3_9_1 a_last_marker_for_a_partition_not_held_costs_the_answer_to_all);

/// Much longer than an answer takes, much shorter than `request.timeout.ms`.
const SILENCE: Duration = Duration::from_secs(3);
const NOT_HELD: i32 = 7;

fn abort(topic: &Topic<'_>, partition: i32) -> WritableTxnMarker {
    let at =
        WritableTxnMarkerTopic::default().with_name(topic_name(&topic.name)).with_partition_indexes(vec![partition]);
    WritableTxnMarker::default()
        .with_producer_id(super::idempotence::own_producer_id().into())
        .with_producer_epoch(0)
        .with_transaction_result(false)
        .with_topics(vec![at])
}

/// Whether an answer comes. The markers of partitions that the broker holds are in their logs either way.
fn answered(topic: &Topic<'_>, partitions: &[i32]) -> bool {
    let before = topic.end();
    let markers = partitions.iter().map(|partition| abort(topic, *partition)).collect();
    let mut conn = topic.subject.connect();
    conn.send(1, &WriteTxnMarkersRequest::default().with_markers(markers));
    let answered = conn.is_answered_within(SILENCE);
    let held = partitions.iter().filter(|partition| **partition != NOT_HELD).count() as i64;
    wait_until("the markers", LIMIT, || match topic.end() - before {
        count if count == held => Ok(()),
        count => Err(format!("{count} of {held}")),
    });
    answered
}

fn a_last_marker_for_a_partition_not_held_costs_the_answer_to_all(subject: &Subject) {
    let topic = subject.topic();
    assert!(answered(&topic, &[0, 0]));
    assert!(answered(&topic, &[NOT_HELD]));
    assert!(answered(&topic, &[NOT_HELD, 0]));
    assert!(!answered(&topic, &[0, NOT_HELD]), "Kafka has mended this: `lib.rs`, \"Non-obvious\", can say so");
}
