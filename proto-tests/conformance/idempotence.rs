//! What a broker makes of producer ids, epochs and sequences (`ProducerAppendInfo`, `ProducerStateEntry`): the ground that
//! compare-and-append stands on.

use std::sync::atomic::{AtomicI64, Ordering};

use super::batch::BatchSpec;
use super::code;
use super::subject::{PRODUCE, Subject, Topic, on_every_broker, produced};

on_every_broker!(
    sequences_that_follow_are_appended,
    a_repeated_range_is_answered_with_its_offset_and_not_appended,
    a_duplicate_is_told_by_its_append_time,
    a_range_that_only_begins_alike_is_out_of_order,
    a_gap_is_out_of_order,
    a_foreign_record_moves_the_offset_not_the_sequence,
    any_sequence_may_be_the_first_of_a_producer_without_state,
    sequences_wrap_at_two_to_the_31,
    an_older_epoch_is_refused,
    a_newer_epoch_begins_at_zero,
    duplicates_are_known_for_five_batches,
    a_duplicate_of_a_log_append_time_topic_is_not_told_by_its_time,
    the_second_of_two_in_flight_lands_without_state_when_the_first_fails,
    with_state_the_second_of_two_in_flight_fails_with_the_first,
    the_last_sequence_is_described,
);

/// A producer id that no broker of these tests hands out and no other test uses.
pub(crate) fn own_producer_id() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(5_000_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn send(topic: &Topic<'_>, producer: (i64, i16), sequence: i32, count: i32) -> super::subject::Produced {
    topic.produce(&BatchSpec::idempotent("mine", producer, sequence, count))
}

fn sequences_that_follow_are_appended(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    assert_eq!(send(&topic, producer, 0, 3).offset(), 0);
    assert_eq!(send(&topic, producer, 3, 2).offset(), 3);
    assert_eq!(topic.end(), 5);
}

fn a_repeated_range_is_answered_with_its_offset_and_not_appended(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    send(&topic, producer, 0, 3).offset();
    send(&topic, producer, 3, 2).offset();
    let other_content = BatchSpec::idempotent("other", producer, 3, 2);
    assert_eq!(topic.produce(&other_content).offset(), 3);
    assert_eq!(topic.end(), 5);
}

fn a_duplicate_is_told_by_its_append_time(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    let batch = BatchSpec::idempotent("mine", producer, 0, 3);
    assert_eq!(topic.produce(&batch).log_append_time_ms, -1);
    let duplicate = topic.produce(&batch);
    assert_eq!(duplicate.offset(), 0);
    assert_ne!(duplicate.log_append_time_ms, -1);
    assert_eq!(duplicate.log_append_time_ms, batch.max_timestamp, "the timestamp kept in the producer's state");
}

fn a_range_that_only_begins_alike_is_out_of_order(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    send(&topic, producer, 0, 3).offset();
    send(&topic, producer, 3, 2).offset();
    assert_eq!(send(&topic, producer, 3, 4).error, code::OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(&topic, producer, 4, 1).error, code::OUT_OF_ORDER_SEQUENCE);
    assert_eq!(topic.end(), 5);
}

fn a_gap_is_out_of_order(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    send(&topic, producer, 0, 5).offset();
    assert_eq!(send(&topic, producer, 9, 1).error, code::OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(&topic, producer, 5, 1).offset(), 5, "the refused one left no trace");
}

fn a_foreign_record_moves_the_offset_not_the_sequence(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    send(&topic, producer, 0, 5).offset();
    assert_eq!(topic.produce(&BatchSpec::plain("foreign", 1)).offset(), 5);
    assert_eq!(send(&topic, producer, 5, 2).offset(), 6);
}

fn any_sequence_may_be_the_first_of_a_producer_without_state(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 3));
    assert_eq!(send(&topic, producer, 1_000, 3).offset(), 0);
    assert_eq!(send(&topic, producer, 1_003, 1).offset(), 3);
}

fn sequences_wrap_at_two_to_the_31(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    assert_eq!(send(&topic, producer, 2_147_483_646, 4).offset(), 0);
    assert_eq!(send(&topic, producer, 2, 1).offset(), 4);
    assert_eq!(send(&topic, producer, 2_147_483_646, 4).offset(), 0, "a duplicate over the wrap");
    assert_eq!(topic.end(), 5);
}

fn an_older_epoch_is_refused(subject: &Subject) {
    let (topic, id) = (subject.topic(), own_producer_id());
    send(&topic, (id, 5), 0, 1).offset();
    assert_eq!(send(&topic, (id, 4), 0, 1).error, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(send(&topic, (id, 4), 1, 1).error, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(topic.end(), 1);
}

fn a_newer_epoch_begins_at_zero(subject: &Subject) {
    let (topic, id) = (subject.topic(), own_producer_id());
    send(&topic, (id, 5), 0, 3).offset();
    assert_eq!(send(&topic, (id, 6), 3, 1).error, code::OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(&topic, (id, 6), 0, 1).offset(), 3);
    assert_eq!(send(&topic, (id, 5), 3, 1).error, code::INVALID_PRODUCER_EPOCH);
}

fn duplicates_are_known_for_five_batches(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    for sequence in 0..6 {
        assert_eq!(send(&topic, producer, sequence, 1).offset(), i64::from(sequence));
    }
    for sequence in 1..6 {
        assert_eq!(send(&topic, producer, sequence, 1).offset(), i64::from(sequence));
    }
    let forgotten = send(&topic, producer, 0, 1).error;
    assert!([code::OUT_OF_ORDER_SEQUENCE, code::DUPLICATE_SEQUENCE].contains(&forgotten), "error {forgotten}");
    assert_eq!(topic.end(), 6);
}

fn a_duplicate_of_a_log_append_time_topic_is_not_told_by_its_time(subject: &Subject) {
    let topic = subject.topic_with(1, &[("message.timestamp.type", "LogAppendTime")]);
    let batch = BatchSpec::idempotent("mine", (own_producer_id(), 0), 0, 3);
    let appended = topic.produce(&batch);
    let duplicate = topic.produce(&batch);
    assert_eq!(appended, duplicate);
    assert_ne!(appended.log_append_time_ms, -1);
}

/// Two requests on one connection, the first with a checksum that the broker refuses.
fn in_flight(topic: &Topic<'_>, producer: (i64, i16), sequence: i32) -> [super::subject::Produced; 2] {
    let first = BatchSpec { corrupt: true, ..BatchSpec::idempotent("first", producer, sequence, 2) };
    let second = BatchSpec::idempotent("second", producer, sequence + 2, 2);
    let mut conn = topic.subject.connect();
    for batch in [first, second] {
        conn.send(PRODUCE, &topic.produce_request(batch.encode()));
    }
    [(); 2].map(|()| {
        let answer = conn.receive::<kafka_protocol::messages::ProduceRequest>(PRODUCE);
        produced(&answer.responses[0].partition_responses[0])
    })
}

fn the_second_of_two_in_flight_lands_without_state_when_the_first_fails(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    let [first, second] = in_flight(&topic, producer, 0);
    assert_eq!(first.error, code::CORRUPT_MESSAGE);
    assert_eq!(second.offset(), 0, "so only one may be in flight until state is known to exist");
}

fn with_state_the_second_of_two_in_flight_fails_with_the_first(subject: &Subject) {
    let (topic, producer) = (subject.topic(), (own_producer_id(), 0));
    send(&topic, producer, 0, 1).offset();
    let [first, second] = in_flight(&topic, producer, 1);
    assert_eq!((first.error, second.error), (code::CORRUPT_MESSAGE, code::OUT_OF_ORDER_SEQUENCE));
    assert_eq!(topic.end(), 1);
}

fn the_last_sequence_is_described(subject: &Subject) {
    let (topic, id) = (subject.topic(), own_producer_id());
    assert_eq!(topic.producer_state(id), None);
    let batch = BatchSpec::idempotent("mine", (id, 7), 40, 3);
    topic.produce(&batch).offset();
    let state = topic.producer_state(id).unwrap();
    assert_eq!((state.producer_epoch, state.last_sequence), (7, 42));
    assert_eq!(state.last_timestamp, batch.max_timestamp);
    assert_eq!(state.current_txn_start_offset, -1);
}
