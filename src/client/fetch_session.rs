//! An incremental fetch session (KIP-227): a request names only what changed since the last one, an answer only what
//! has news. Answers are read by hand: records stay slices of the response, and no length on the wire allocates.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::TopicPartition;
use super::connection::{Connection, encode};
use super::error::ClientError;
use super::frame::{Cursor, Malformed, OutFrame};

/// Sessions came with v7.
const MIN_VERSION: i16 = 7;
/// From here on topics go by id.
const BY_ID: i16 = 13;
/// The last version whose fields are used here (v16: node endpoints, v17: directory ids, both for brokers).
const MAX_VERSION: i16 = 17;
const FLEXIBLE: i16 = 12;

/// What is wanted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchWant {
    /// Offset of the next record.
    pub offset: i64,
    /// Leader epoch by our metadata; −1 where unknown. A broker with another one refuses (KIP-320).
    pub current_leader_epoch: i32,
    /// Leader epoch of the record before `offset`; −1 where unknown. Shows truncation (KIP-595), from v12 on.
    pub last_fetched_epoch: i32,
    /// Bytes at most; the first batch of a response comes whole whatever its size (KIP-74).
    pub max_bytes: i32,
}

/// A change to the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchChange {
    /// The partition joins, or is wanted otherwise than before.
    Want(TopicPartition, FetchWant),
    /// The partition leaves.
    Forget(TopicPartition),
}

impl FetchChange {
    /// See [`FetchChange::Want`].
    pub fn want(tp: &TopicPartition, want: FetchWant) -> Self {
        Self::Want(tp.clone(), want)
    }

    /// See [`FetchChange::Forget`].
    pub fn forget(tp: &TopicPartition) -> Self {
        Self::Forget(tp.clone())
    }
}

/// Bounds of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// How long the broker may wait for `min_bytes`, ms.
    pub max_wait_ms: i32,
    /// Answer once this much is there.
    pub min_bytes: i32,
    /// Bytes at most, all partitions together.
    pub max_bytes: i32,
    /// read_committed: aborted transactions are listed, nothing undecided is sent (KIP-98).
    pub committed: bool,
}

/// News of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Error code, 0 where all is well.
    pub error: i16,
    /// End of what is replicated.
    pub high_watermark: i64,
    /// End of what is decided.
    pub last_stable_offset: i64,
    /// First offset there is.
    pub log_start_offset: i64,
    /// The source log was truncated: the largest epoch it shares with what was read, and where that epoch ends.
    pub diverging_epoch: Option<(i32, i64)>,
    /// Aborted transactions (producer id, first offset).
    pub aborted: Vec<(i64, i64)>,
    /// Raw batches; the last one may be cut short.
    pub records: Bytes,
}

/// What a request was, to read its answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub(super) version: i16,
}

/// A session with one broker. Dropped by the broker with its connection, or when it has too many (then it starts anew).
#[derive(Debug, Default)]
pub struct FetchSession {
    id: i32,
    epoch: i32,
    wants: HashMap<TopicPartition, FetchWant>,
    /// Names of the topics that are wanted, by id, with the number of their partitions: an answer must not cost what all
    /// that is wanted costs.
    names: HashMap<Uuid, (String, usize)>,
    changed: BTreeSet<TopicPartition>,
    forgotten: BTreeSet<TopicPartition>,
}

impl FetchSession {
    /// An empty session, to be opened by the first request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a change in, to go with the next request.
    pub fn apply(&mut self, change: FetchChange) {
        match change {
            FetchChange::Want(tp, want) => {
                self.forgotten.remove(&tp);
                if self.wants.insert(tp.clone(), want).is_none() {
                    self.names.entry(tp.topic_id).or_insert_with(|| (tp.topic.clone(), 0)).1 += 1;
                }
                self.changed.insert(tp);
            }
            FetchChange::Forget(tp) => {
                self.changed.remove(&tp);
                if self.wants.remove(&tp).is_some() {
                    self.forget_name(tp.topic_id);
                    self.forgotten.insert(tp);
                }
            }
        }
    }

    fn forget_name(&mut self, id: Uuid) {
        if let Entry::Occupied(mut name) = self.names.entry(id) {
            name.get_mut().1 -= 1;
            if name.get().1 == 0 {
                name.remove();
            }
        }
    }

    /// Forgets everything: the next request opens a new session with what is applied until then.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The next request of the session.
    pub fn request(&mut self, connection: &Connection, limits: FetchLimits) -> Result<(OutFrame, Asked), ClientError> {
        let by_id = !self.names.contains_key(&Uuid::nil()) && self.forgotten.iter().all(|tp| !tp.topic_id.is_nil());
        let cap = if by_id { MAX_VERSION } else { BY_ID - 1 };
        let version = connection.version(ApiKey::Fetch, MIN_VERSION, cap)?;
        let request = self.build(version, limits);
        let max_wait_ms = u64::try_from(limits.max_wait_ms).unwrap_or(0);
        let frame = encode(connection.address(), &request, version, max_wait_ms)?;
        Ok((frame, Asked { version }))
    }

    fn build(&mut self, version: i16, limits: FetchLimits) -> FetchRequest {
        let changed = std::mem::take(&mut self.changed);
        let forgotten = std::mem::take(&mut self.forgotten);
        let full = self.epoch == 0;
        let mut topics: BTreeMap<(&str, Uuid), Vec<FetchPartition>> = BTreeMap::new();
        let named: Vec<(&TopicPartition, &FetchWant)> = if full {
            self.wants.iter().collect()
        } else {
            changed.iter().filter_map(|tp| self.wants.get_key_value(tp)).collect()
        };
        for (tp, want) in named {
            topics.entry((&tp.topic, tp.topic_id)).or_default().push(partition(version, tp.partition, want));
        }
        let topics = topics
            .into_iter()
            .map(|((name, id), partitions)| {
                let topic = FetchTopic::default().with_partitions(partitions);
                if version >= BY_ID { topic.with_topic_id(id) } else { topic.with_topic(topic_name(name)) }
            })
            .collect();
        let forgotten = if full { Vec::new() } else { forgotten_topics(version, &forgotten) };
        FetchRequest::default()
            .with_max_wait_ms(limits.max_wait_ms)
            .with_min_bytes(limits.min_bytes)
            .with_max_bytes(limits.max_bytes)
            .with_isolation_level(i8::from(limits.committed))
            .with_session_id(self.id)
            .with_session_epoch(self.epoch)
            .with_topics(topics)
            .with_forgotten_topics_data(forgotten)
    }

    /// Reads the answer. An error of the session as a whole resets it.
    pub fn response(&mut self, cluster: &str, asked: Asked, body: Bytes) -> Result<Vec<Fetched>, ClientError> {
        let parsed = parse(asked.version, body).map_err(|e| ClientError::Protocol {
            cluster: cluster.to_owned(),
            address: "source".to_owned(),
            api: "Fetch",
            detail: e.to_string(),
        })?;
        if parsed.error != 0 {
            self.reset();
            // An unknown session is answered with UNKNOWN_SERVER_ERROR by some brokers: a new one is opened either way.
            let code = match ResponseError::try_from_code(parsed.error) {
                Some(ResponseError::UnknownServerError) => ResponseError::FetchSessionIdNotFound.code(),
                _ => parsed.error,
            };
            return Err(ClientError::api(cluster, "Fetch", code, "the fetch session", None));
        }
        self.id = parsed.session_id;
        self.epoch = match parsed.session_id {
            // The broker keeps no session for us: every request is a full one.
            0 => 0,
            _ if self.epoch == i32::MAX => 1,
            _ => self.epoch + 1,
        };
        let mut out = Vec::with_capacity(parsed.partitions.len());
        for (topic, mut fetched) in parsed.partitions {
            match topic {
                Topic::Name(name) => fetched.topic = name,
                Topic::Id(id) => match self.names.get(&id) {
                    Some((name, _)) => name.clone_into(&mut fetched.topic),
                    // Forgotten meanwhile.
                    None => continue,
                },
            }
            out.push(fetched);
        }
        Ok(out)
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn partition(version: i16, number: i32, want: &FetchWant) -> FetchPartition {
    let mut partition = FetchPartition::default()
        .with_partition(number)
        .with_fetch_offset(want.offset)
        .with_partition_max_bytes(want.max_bytes);
    if version >= 9 {
        partition.current_leader_epoch = want.current_leader_epoch;
    }
    if version >= 12 {
        partition.last_fetched_epoch = want.last_fetched_epoch;
    }
    partition
}

fn forgotten_topics(version: i16, forgotten: &BTreeSet<TopicPartition>) -> Vec<ForgottenTopic> {
    let mut topics: BTreeMap<(&str, Uuid), Vec<i32>> = BTreeMap::new();
    for tp in forgotten {
        topics.entry((&tp.topic, tp.topic_id)).or_default().push(tp.partition);
    }
    topics
        .into_iter()
        .map(|((name, id), partitions)| {
            let topic = ForgottenTopic::default().with_partitions(partitions);
            if version >= BY_ID { topic.with_topic_id(id) } else { topic.with_topic(topic_name(name)) }
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Topic {
    Name(String),
    Id(Uuid),
}

#[derive(Debug)]
struct Parsed {
    error: i16,
    session_id: i32,
    partitions: Vec<(Topic, Fetched)>,
}

/// `FetchResponse.json` of Kafka, v7 to v17.
fn parse(version: i16, body: Bytes) -> Result<Parsed, Malformed> {
    let mut cursor = Cursor::new(body, version >= FLEXIBLE);
    let _throttle_time_ms = cursor.i32()?;
    let error = cursor.i16()?;
    let session_id = cursor.i32()?;
    let mut partitions = Vec::new();
    for _ in 0..cursor.array_len()?.unwrap_or(0) {
        let topic = if version >= BY_ID { Topic::Id(cursor.uuid()?) } else { Topic::Name(cursor.topic_name()?) };
        for _ in 0..cursor.array_len()?.unwrap_or(0) {
            partitions.push((topic.clone(), parse_partition(version, &mut cursor)?));
        }
        cursor.skip_tags()?;
    }
    cursor.skip_tags()?;
    Ok(Parsed { error, session_id, partitions })
}

fn parse_partition(version: i16, cursor: &mut Cursor) -> Result<Fetched, Malformed> {
    let partition = cursor.i32()?;
    let error = cursor.i16()?;
    let high_watermark = cursor.i64()?;
    let last_stable_offset = cursor.i64()?;
    let log_start_offset = cursor.i64()?;
    let mut aborted = Vec::new();
    for _ in 0..cursor.array_len()?.unwrap_or(0) {
        aborted.push((cursor.i64()?, cursor.i64()?));
        cursor.skip_tags()?;
    }
    if version >= 11 {
        let _preferred_read_replica = cursor.i32()?;
    }
    let records = cursor.bytes()?.unwrap_or_default();
    let mut diverging_epoch = None;
    cursor.tags(|tag, field| {
        if tag == DIVERGING_EPOCH_TAG {
            let (epoch, end) = (field.i32()?, field.i64()?);
            diverging_epoch = (epoch >= 0 || end >= 0).then_some((epoch, end));
        }
        Ok(())
    })?;
    Ok(Fetched {
        topic: String::new(),
        partition,
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        diverging_epoch,
        aborted,
        records,
    })
}

const DIVERGING_EPOCH_TAG: u32 = 0;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{FetchResponse, ProducerId};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::super::goldens;
    use super::*;

    fn tp(topic: &str, id: u128, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), topic_id: Uuid::from_u128(id), partition }
    }

    fn want(offset: i64) -> FetchWant {
        FetchWant { offset, current_leader_epoch: 3, last_fetched_epoch: 2, max_bytes: 1000 }
    }

    const LIMITS: FetchLimits = FetchLimits { max_wait_ms: 10, min_bytes: 1, max_bytes: 5000, committed: true };

    fn response(version: i16, session_id: i32, error: i16, partitions: Vec<PartitionData>) -> Bytes {
        let mut topic = FetchableTopicResponse::default().with_partitions(partitions);
        if version >= BY_ID {
            topic.topic_id = Uuid::from_u128(1);
        } else {
            topic.topic = TopicName(StrBytes::from_static_str("a"));
        }
        let mut bytes = Vec::new();
        FetchResponse::default()
            .with_session_id(session_id)
            .with_error_code(error)
            .with_responses(vec![topic])
            .encode(&mut bytes, version)
            .unwrap();
        bytes.into()
    }

    fn partition_data(version: i16) -> PartitionData {
        let mut data = PartitionData::default()
            .with_partition_index(4)
            .with_high_watermark(100)
            .with_last_stable_offset(90)
            .with_log_start_offset(10)
            .with_aborted_transactions(Some(vec![
                AbortedTransaction::default().with_producer_id(ProducerId(7)).with_first_offset(50),
            ]))
            .with_records(Some(Bytes::from_static(b"batches")));
        if version >= 12 {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(1).with_end_offset(77);
        }
        data
    }

    fn golden_want(topic: &str, partition: i32, offset: i64) -> FetchChange {
        let want = FetchWant { offset, current_leader_epoch: 5, last_fetched_epoch: 4, max_bytes: 1 << 20 };
        FetchChange::Want(golden_tp(topic, partition), want)
    }

    fn golden_tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), topic_id: goldens::topic_id(topic), partition }
    }

    /// The next request as it goes on the wire.
    fn golden_request(session: &mut FetchSession, version: i16) -> Bytes {
        let limits = FetchLimits { max_wait_ms: 500, min_bytes: 1, max_bytes: 50_000_000, committed: true };
        goldens::on_the_wire(encode("c", &session.build(version, limits), version, 0).unwrap())
    }

    /// A session opened as Kafka opens it; its first answer, and the session after it.
    fn golden_session(version: i16) -> (FetchSession, Vec<Fetched>) {
        let mut session = FetchSession::new();
        session.apply(golden_want("alpha", 0, 100));
        session.apply(golden_want("beta", 4, 1 << 40));
        let first = golden_request(&mut session, version);
        assert_eq!(first, goldens::wire(&format!("fetch_full_request_v{version}")), "v{version}");
        let body = goldens::body(&format!("fetch_response_v{version}"), version >= FLEXIBLE);
        let fetched = session.response("c", Asked { version }, body).unwrap();
        (session, fetched)
    }

    #[test]
    fn requests_are_those_that_kafka_writes() {
        for version in MIN_VERSION..=MAX_VERSION {
            let (mut session, _) = golden_session(version);
            session.apply(golden_want("alpha", 0, 104));
            session.apply(golden_want("alpha", 2, 0));
            session.apply(FetchChange::Forget(golden_tp("beta", 4)));
            let next = golden_request(&mut session, version);
            assert_eq!(next, goldens::wire(&format!("fetch_next_request_v{version}")), "v{version}");
        }
    }

    #[test]
    fn an_answer_that_kafka_writes_is_read() {
        let (plain, abort) = (goldens::batch("plain_none"), goldens::batch("abort"));
        let records = [&plain[..], &abort, &plain[..70]].concat();
        for version in MIN_VERSION..=MAX_VERSION {
            let expected = [
                Fetched {
                    topic: "alpha".to_owned(),
                    partition: 0,
                    error: 0,
                    high_watermark: 200,
                    last_stable_offset: 190,
                    log_start_offset: 10,
                    diverging_epoch: None,
                    aborted: vec![(123, 104), (1 << 33, 150)],
                    records: records.clone().into(),
                },
                Fetched {
                    topic: "beta".to_owned(),
                    partition: 4,
                    error: 6,
                    high_watermark: -1,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    diverging_epoch: (version >= 12).then_some((3, 77)),
                    aborted: Vec::new(),
                    records: Bytes::new(),
                },
            ];
            assert_eq!(golden_session(version).1, expected, "v{version}");
        }
    }

    #[test]
    fn every_version_is_read_as_it_was_written() {
        for version in MIN_VERSION..=MAX_VERSION {
            let mut session = FetchSession::new();
            session.apply(FetchChange::want(&tp("a", 1, 4), want(60)));
            let body = response(version, 5, 0, vec![partition_data(version)]);
            let fetched = session.response("c", Asked { version }, body.clone()).unwrap();
            assert_eq!(
                fetched,
                [Fetched {
                    topic: "a".to_owned(),
                    partition: 4,
                    error: 0,
                    high_watermark: 100,
                    last_stable_offset: 90,
                    log_start_offset: 10,
                    diverging_epoch: (version >= 12).then_some((1, 77)),
                    aborted: vec![(7, 50)],
                    records: Bytes::from_static(b"batches"),
                }],
                "v{version}"
            );
            // Every truncation is an error, never a panic.
            for end in 0..body.len() - 1 {
                assert!(parse(version, body.slice(..end)).is_err(), "v{version} cut at {end}");
            }
        }
    }

    #[test]
    fn a_session_names_only_what_changed() {
        let (a0, a1, b0) = (tp("a", 1, 0), tp("a", 1, 1), tp("b", 2, 0));
        let mut session = FetchSession::new();
        session.apply(FetchChange::want(&a0, want(1)));
        session.apply(FetchChange::want(&b0, want(2)));
        let request = session.build(17, LIMITS);
        assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (0, 0, 2));
        session.response("c", Asked { version: 17 }, response(17, 5, 0, vec![])).unwrap();

        let request = session.build(17, LIMITS);
        assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (5, 1, 0));
        session.response("c", Asked { version: 17 }, response(17, 5, 0, vec![])).unwrap();

        session.apply(FetchChange::forget(&b0));
        session.apply(FetchChange::want(&a1, want(3)));
        // Never part of the session: nothing to forget.
        session.apply(FetchChange::forget(&tp("z", 9, 0)));
        let request = session.build(17, LIMITS);
        assert_eq!((request.session_epoch, request.topics.len(), request.forgotten_topics_data.len()), (2, 1, 1));
        assert_eq!(request.topics[0].partitions[0].partition, 1);
        assert_eq!(request.forgotten_topics_data[0].topic_id, Uuid::from_u128(2));
    }

    #[test]
    fn a_lost_session_starts_anew_and_one_that_is_refused_is_full_every_time() {
        let mut session = FetchSession::new();
        session.apply(FetchChange::want(&tp("a", 1, 0), want(1)));
        session.build(12, LIMITS);
        session.response("c", Asked { version: 12 }, response(12, 0, 0, vec![])).unwrap();
        assert_eq!(session.build(12, LIMITS).topics.len(), 1, "full again");
        let error = session.response("c", Asked { version: 12 }, response(12, 0, 71, vec![])).unwrap_err();
        assert!(error.is_retriable());
        assert_eq!(session.build(12, LIMITS).topics.len(), 0, "forgotten with the session");
        let error = session.response("c", Asked { version: 12 }, response(12, 0, -1, vec![])).unwrap_err();
        assert!(error.is_retriable());
    }

    #[test]
    fn the_epoch_wraps_past_zero() {
        let mut session = FetchSession { epoch: i32::MAX, id: 5, ..FetchSession::default() };
        session.response("c", Asked { version: 12 }, response(12, 5, 0, vec![])).unwrap();
        assert_eq!(session.epoch, 1);
    }
}
