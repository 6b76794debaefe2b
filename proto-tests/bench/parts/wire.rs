//! Requests and responses of the data path.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::protocol::Encodable as _;
use kmirror::batch::{HEADER_LEN, Stamp, rewrite};
use kmirror::client::fuzzing::fetch_response;
use kmirror::client::{FetchChange, FetchSession, FetchWant, ProduceEntry, TopicPartition, encode_produce};
use uuid::Uuid;

use super::Work;
use super::batches::batch;

const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 17;
const PARTITIONS_PER_TOPIC: i32 = 10;
const PAYLOAD_BYTES: usize = 16 << 10;

fn topic(partition: i32) -> (String, Uuid) {
    let number = partition / PARTITIONS_PER_TOPIC;
    (format!("topic-{number}"), Uuid::from_u128(number.unsigned_abs().into()))
}

fn entries(count: i32) -> Vec<ProduceEntry> {
    let batch = batch(1, PAYLOAD_BYTES, 1, kmirror::batch::Codec::None);
    let header: [u8; HEADER_LEN] = rewrite(&batch.header, Stamp::NONE);
    let entry = |partition| {
        let (topic, topic_id) = topic(partition);
        ProduceEntry { topic, topic_id, partition, header, payload: batch.payload() }
    };
    (0..count).map(entry).collect()
}

/// The answer with news of the first so many partitions.
fn response(partitions: i32) -> Bytes {
    let records = batch(1, 1000, 1, kmirror::batch::Codec::None).bytes;
    let topics = (0..partitions.div_euclid(PARTITIONS_PER_TOPIC).max(1)).map(|number| {
        let first = number * PARTITIONS_PER_TOPIC;
        let data = (first..partitions.min(first + PARTITIONS_PER_TOPIC)).map(|partition| {
            PartitionData::default()
                .with_partition_index(partition)
                .with_aborted_transactions(Some(Vec::new()))
                .with_records(Some(records.clone()))
        });
        FetchableTopicResponse::default().with_topic_id(topic(first).1).with_partitions(data.collect())
    });
    let mut bytes = Vec::new();
    let response = FetchResponse::default().with_session_id(1).with_responses(topics.collect());
    response.encode(&mut bytes, FETCH_VERSION).expect("it fits the version");
    bytes.into()
}

fn session(partitions: i32) -> FetchSession {
    let mut session = FetchSession::new();
    for partition in 0..partitions {
        let (topic, topic_id) = topic(partition);
        let want = FetchWant { offset: 0, current_leader_epoch: 0, last_fetched_epoch: 0, max_bytes: 1 << 20 };
        session.apply(FetchChange::Want(TopicPartition { topic, topic_id, partition }, want));
    }
    session
}

pub(super) fn all() -> Vec<Work> {
    let encoding = [1i32, 100].map(|count| {
        Work::new(format!("encode produce of {count}"), (count.unsigned_abs(), "entry"), move || {
            let entries = entries(count);
            move || {
                let entries = entries.clone();
                move || drop(black_box(encode_produce(PRODUCE_VERSION, 30_000, entries)))
            }
        })
    });
    // The last one: few partitions with news in a session of many.
    let parsing = [(1i32, 1), (100, 100), (1000, 1000), (1, 1000)].map(|(news, of)| {
        Work::new(format!("parse fetch of {news} in {of}"), (news.unsigned_abs(), "partition"), move || {
            let (session, body) = (Rc::new(RefCell::new(session(of))), response(news));
            move || {
                let (session, body) = (session.clone(), body.clone());
                move || drop(black_box(parse(&mut session.borrow_mut(), body)))
            }
        })
    });
    encoding.into_iter().chain(parsing).collect()
}

fn parse(session: &mut FetchSession, body: Bytes) -> Vec<kmirror::client::Fetched> {
    fetch_response(session, FETCH_VERSION, body).expect("it is well-formed")
}
