//! Which batches a broker takes, and what it does to them (`LogValidator`, `UnifiedLog.append`).

use kafka_protocol::messages::fetch_request::FetchPartition;
use kmirror::batch::{ATTR_CONTROL, ATTR_DELETE_HORIZON, ATTR_LOG_APPEND_TIME, Codec, HEADER_LEN};

use super::batch::BatchSpec;
use super::code;
use super::subject::{Subject, on_every_broker, produced};

on_every_broker!(
    a_batch_is_taken_and_given_its_offset_and_leader_epoch,
    base_offset_other_than_zero_is_refused,
    two_batches_for_one_partition_in_one_request_are_refused,
    a_count_that_does_not_match_the_last_delta_is_refused,
    a_control_batch_is_refused,
    a_wrong_checksum_is_refused,
    leader_epoch_is_outside_the_checksum,
    inner_offsets_of_an_uncompressed_batch_are_not_checked,
    a_null_key_is_refused_by_a_compacted_topic,
    a_partition_named_twice_keeps_the_later_entry,
    zstd_needs_produce_v7,
    a_log_append_time_topic_sets_the_flag_and_the_time,
    a_topic_with_its_own_codec_recompresses,
    compressed_bytes_pass_unchanged,
    the_delete_horizon_bit_is_kept,
    a_fetch_inside_a_batch_starts_at_the_batch,
    the_first_batch_exceeds_every_byte_limit,
    offsets_outside_the_log_are_out_of_range,
    the_fetch_says_where_the_log_starts_and_ends;
    since_3:
    a_log_append_time_batch_loses_its_flag_on_a_create_time_topic,
);

fn a_batch_is_taken_and_given_its_offset_and_leader_epoch(subject: &Subject) {
    let topic = subject.topic();
    let batch = BatchSpec::plain("a", 3);
    assert_eq!(topic.produce(&batch).offset(), 0);
    assert_eq!(topic.produce(&batch).offset(), 3);
    let found = topic.batches(0);
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].header.base_offset, found[1].header.partition_leader_epoch), (3, 0));
    let sent = batch.encode();
    assert_eq!(found[0].bytes[16..], sent[16..], "all after the leader epoch is as it was sent");
    assert_eq!(topic.end(), 6);
}

fn base_offset_other_than_zero_is_refused(subject: &Subject) {
    let topic = subject.topic();
    let answer = topic.produce(&BatchSpec { base_offset: 5, ..BatchSpec::plain("a", 1) });
    assert_eq!((answer.error, answer.base_offset), (code::INVALID_RECORD, -1));
    assert_eq!(topic.end(), 0);
}

fn two_batches_for_one_partition_in_one_request_are_refused(subject: &Subject) {
    let topic = subject.topic();
    let two = [BatchSpec::plain("a", 1).encode(), BatchSpec::plain("b", 1).encode()].concat();
    assert_eq!(topic.produce_bytes(two.into()).error, code::INVALID_RECORD);
    assert_eq!(topic.end(), 0);
}

fn a_count_that_does_not_match_the_last_delta_is_refused(subject: &Subject) {
    let topic = subject.topic();
    // Compaction leaves such batches behind: two records over three offsets.
    let holes = BatchSpec { last_offset_delta: 2, ..BatchSpec::plain("a", 2) };
    assert_eq!(topic.produce(&holes).error, code::INVALID_RECORD);
    let short = BatchSpec { last_offset_delta: 0, ..BatchSpec::plain("a", 2) };
    assert_eq!(topic.produce(&short).error, code::INVALID_RECORD);
    assert_eq!(topic.end(), 0);
}

fn a_control_batch_is_refused(subject: &Subject) {
    let topic = subject.topic();
    let control = BatchSpec { attributes: ATTR_CONTROL, ..BatchSpec::plain("a", 1) };
    assert_eq!(topic.produce(&control).error, code::INVALID_RECORD);
    assert_eq!(topic.end(), 0);
}

fn a_wrong_checksum_is_refused(subject: &Subject) {
    let topic = subject.topic();
    let answer = topic.produce(&BatchSpec { corrupt: true, ..BatchSpec::plain("a", 1) });
    assert_eq!(answer.error, code::CORRUPT_MESSAGE);
    assert_eq!(topic.end(), 0);
}

fn leader_epoch_is_outside_the_checksum(subject: &Subject) {
    let topic = subject.topic();
    let batch = BatchSpec { leader_epoch: 77, ..BatchSpec::plain("a", 1) };
    assert_eq!(topic.produce(&batch).offset(), 0);
    assert_eq!(topic.batches(0)[0].header.partition_leader_epoch, 0, "the broker writes its own");
}

fn inner_offsets_of_an_uncompressed_batch_are_not_checked(subject: &Subject) {
    let topic = subject.topic();
    let batch = BatchSpec { inner_offset_shift: 10, ..BatchSpec::plain("a", 2) };
    assert_eq!(topic.produce(&batch).offset(), 0);
    assert_eq!(topic.end(), 2);
    assert_eq!(topic.batches(0)[0].bytes[HEADER_LEN..], batch.encode()[HEADER_LEN..]);
}

fn a_null_key_is_refused_by_a_compacted_topic(subject: &Subject) {
    let topic = subject.topic_with(1, &[("cleanup.policy", "compact")]);
    let mut batch = BatchSpec::plain("a", 3);
    batch.records[1].key = None;
    assert_eq!(topic.produce(&batch).error, code::INVALID_RECORD);
    assert_eq!(topic.end(), 0, "none of the three");
    assert_eq!(topic.produce(&BatchSpec::plain("a", 3)).offset(), 0);
}

fn a_partition_named_twice_keeps_the_later_entry(subject: &Subject) {
    let topic = subject.topic();
    let (first, later) = (BatchSpec::plain("first", 2), BatchSpec::plain("later", 3));
    let request = topic.produce_request_for(vec![(0, first.encode()), (0, later.encode())]);
    let answer = subject.connect().call(super::subject::PRODUCE, &request);
    let answers = &answer.responses[0].partition_responses;
    assert_eq!(answers.len(), 1);
    assert_eq!(produced(&answers[0]).offset(), 0);
    assert_eq!(topic.end(), 3);
    assert_eq!(topic.batches(0)[0].bytes[HEADER_LEN..], later.encode()[HEADER_LEN..]);
}

fn zstd_needs_produce_v7(subject: &Subject) {
    let topic = subject.topic();
    let mut batch = BatchSpec::plain("a", 3);
    batch.attributes = Codec::Zstd.bits();
    batch.payload = Some(zstd::encode_all(&batch.records_section()[..], 3).unwrap());
    let request = topic.produce_request(batch.encode());
    let answer = subject.connect().call(6, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, code::UNSUPPORTED_COMPRESSION_TYPE);
    let answer = subject.connect().call(7, &request);
    assert_eq!(produced(&answer.responses[0].partition_responses[0]).offset(), 0);
}

// Kafka 2.8.2 refuses it, INVALID_TIMESTAMP.
fn a_log_append_time_batch_loses_its_flag_on_a_create_time_topic(subject: &Subject) {
    let topic = subject.topic();
    let mut batch = BatchSpec { attributes: ATTR_LOG_APPEND_TIME, ..BatchSpec::plain("a", 3) };
    // As fetched from a LogAppendTime topic: the header says when it was appended, the records when they were made.
    batch.max_timestamp += 1_000_000;
    topic.produce(&batch).offset();
    let found = &topic.batches(0)[0].header;
    assert!(!found.is_log_append_time());
    assert_eq!(found.max_timestamp, batch.max_timestamp, "the header's time stays, above that of every record");
    assert_eq!(topic.batches(0)[0].bytes[HEADER_LEN..], batch.encode()[HEADER_LEN..]);
}

fn a_log_append_time_topic_sets_the_flag_and_the_time(subject: &Subject) {
    let topic = subject.topic_with(1, &[("message.timestamp.type", "LogAppendTime")]);
    let answer = topic.produce(&BatchSpec::plain("a", 3).at(1_700_000_000_000));
    assert_eq!(answer.offset(), 0);
    assert!(answer.log_append_time_ms > 1_700_000_000_000);
    let found = &topic.batches(0)[0].header;
    assert!(found.is_log_append_time());
    assert_eq!((found.max_timestamp, found.base_timestamp), (answer.log_append_time_ms, 1_700_000_000_000));
}

fn a_topic_with_its_own_codec_recompresses(subject: &Subject) {
    let topic = subject.topic_with(1, &[("compression.type", "zstd")]);
    topic.produce(&BatchSpec::plain("a", 20)).offset();
    assert_eq!(topic.batches(0)[0].header.codec(), Ok(Codec::Zstd));
}

fn compressed_bytes_pass_unchanged(subject: &Subject) {
    let topic = subject.topic();
    let mut batch = BatchSpec::plain("a", 20);
    batch.attributes = Codec::Zstd.bits();
    batch.payload = Some(zstd::encode_all(&batch.records_section()[..], 19).unwrap());
    topic.produce(&batch).offset();
    assert_eq!(topic.batches(0)[0].bytes[16..], batch.encode()[16..]);
}

fn the_delete_horizon_bit_is_kept(subject: &Subject) {
    let topic = subject.topic();
    let batch = BatchSpec { attributes: ATTR_DELETE_HORIZON, ..BatchSpec::plain("a", 1) };
    topic.produce(&batch).offset();
    assert_eq!(topic.batches(0)[0].header.attributes, ATTR_DELETE_HORIZON, "so a mirror has to clear it");
}

fn a_fetch_inside_a_batch_starts_at_the_batch(subject: &Subject) {
    let topic = subject.topic();
    topic.produce(&BatchSpec::plain("a", 5)).offset();
    topic.produce(&BatchSpec::plain("b", 5)).offset();
    let found = topic.batches(7);
    assert_eq!((found.len(), found[0].header.base_offset), (1, 5));
}

fn the_first_batch_exceeds_every_byte_limit(subject: &Subject) {
    let topic = subject.topic();
    let batch = BatchSpec::plain("a", 50);
    topic.produce(&batch).offset();
    topic.produce(&batch).offset();
    let data = topic.fetch_with(FetchPartition::default().with_partition_max_bytes(1), 0);
    assert_eq!(data.records.map(|records| records.len()), Some(batch.encode().len()));
}

fn offsets_outside_the_log_are_out_of_range(subject: &Subject) {
    let topic = subject.topic();
    topic.produce(&BatchSpec::plain("a", 5)).offset();
    assert_eq!(topic.fetch(5).error_code, 0, "the end itself is where one waits for more");
    assert_eq!(topic.fetch(6).error_code, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(topic.delete_records(3), 3);
    assert_eq!(topic.fetch(2).error_code, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(topic.list_offset(0, -2), (0, 3));
    let found = topic.batches(3);
    assert_eq!(found[0].header.base_offset, 0, "the log start may lie inside a batch");
}

fn the_fetch_says_where_the_log_starts_and_ends(subject: &Subject) {
    let topic = subject.topic();
    topic.produce(&BatchSpec::plain("a", 5)).offset();
    topic.delete_records(2);
    let data = topic.fetch(5);
    assert_eq!((data.log_start_offset, data.high_watermark, data.last_stable_offset), (2, 5, 5));
}
