//! A broker under test, and the requests that the tests make of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeProducersRequest, FetchRequest, ListOffsetsRequest,
    ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kmirror::batch::{Batches, RawBatch};
use kmirror::broker::{Cluster, ClusterOptions};
use tokio::runtime::Runtime;

use super::batch::BatchSpec;
use super::wire::Conn;
use crate::kafka::harness::cluster::{older, oldest};
use crate::kafka::harness::{Tier, source, tier, wait_until};

/// Produce with topic names and flexible fields; the last version before topic ids that all the brokers know.
pub(crate) const PRODUCE: i16 = 9;
/// Fetch with names and LastFetchedEpoch.
pub(crate) const FETCH: i16 = 12;
/// Time for a broker to do something that it does by and by.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One running broker. Tests share it: each makes its own topics.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) address: String,
    /// Where it is the embedded one: what no client can do to it.
    pub(crate) embedded: Option<Arc<Cluster>>,
}

/// The embedded broker. It is there in every tier.
#[expect(clippy::unnecessary_wraps, reason = "the three brokers are asked for alike")]
pub(crate) fn embedded(_test: &str) -> Option<&'static Subject> {
    static SUBJECT: OnceLock<(Runtime, Subject)> = OnceLock::new();
    let start = || {
        let runtime = Runtime::new().unwrap();
        let options = ClusterOptions { auto_create_topics: false, ..ClusterOptions::default() };
        let cluster = Arc::new(runtime.block_on(Cluster::start(options)).unwrap());
        let address = cluster.bootstrap().remove(0);
        (runtime, Subject { address, embedded: Some(cluster) })
    };
    Some(&SUBJECT.get_or_init(start).1)
}

/// Kafka 4.3.1, or nothing where real Kafka was not asked for.
pub(crate) fn kafka_4_3_1(test: &str) -> Option<&'static Subject> {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    let start = || Subject { address: source().bootstrap(), embedded: None };
    crate::kafka::harness::real_kafka_wanted(test).then(|| SUBJECT.get_or_init(start))
}

/// Kafka 3.9.1, or nothing where real Kafka was not asked for.
pub(crate) fn kafka_3_9_1(test: &str) -> Option<&'static Subject> {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    let start = || Subject { address: older().bootstrap(), embedded: None };
    crate::kafka::harness::real_kafka_wanted(test).then(|| SUBJECT.get_or_init(start))
}

/// Kafka 2.8.2, or nothing where not everything was asked for.
pub(crate) fn kafka_2_8_2(test: &str) -> Option<&'static Subject> {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    let start = || Subject { address: oldest().bootstrap(), embedded: None };
    let wanted = tier() == Tier::Full;
    if !wanted {
        eprintln!("{test}: not run, KMIRROR_TESTS=full has it");
    }
    wanted.then(|| SUBJECT.get_or_init(start))
}

/// Makes each function a test on every broker: `<module>::kafka_4_3_1::<function>` and so on. What is asked in words that
/// Kafka 2.8 does not know, or answered otherwise there, stands behind `since_3:`.
macro_rules! on_every_broker {
    ($($test:ident),* $(,)?) => {
        on_every_broker!($($test),*; since_3:);
    };
    ($($test:ident),*; since_3: $($later:ident),* $(,)?) => {
        on_every_broker!(@ embedded $($test)* $($later)*);
        on_every_broker!(@ kafka_4_3_1 $($test)* $($later)*);
        on_every_broker!(@ kafka_3_9_1 $($test)* $($later)*);
        on_every_broker!(@ kafka_2_8_2 $($test)*);
    };
    (@ $broker:ident) => {};
    (@ $broker:ident $($test:ident)*) => {
        mod $broker {
            $(
                #[test]
                fn $test() {
                    let name = concat!(stringify!($broker), "::", stringify!($test));
                    if let Some(subject) = $crate::conformance::subject::$broker(name) {
                        super::$test(subject);
                    }
                }
            )*
        }
    };
}
pub(crate) use on_every_broker;

/// The part of a Produce answer that the rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Produced {
    /// Kafka's error code.
    pub(crate) error: i16,
    /// −1 with an error.
    pub(crate) base_offset: i64,
    /// −1 for records appended to a CreateTime topic.
    pub(crate) log_append_time_ms: i64,
}

impl Produced {
    /// The base offset; panics with the error.
    #[track_caller]
    pub(crate) fn offset(self) -> i64 {
        assert_eq!(self.error, 0, "{self:?}");
        self.base_offset
    }
}

impl Subject {
    /// A new connection.
    pub(crate) fn connect(&self) -> Conn {
        Conn::open(&self.address)
    }

    /// A topic of one partition that no other test knows, ready for use.
    pub(crate) fn topic(&self) -> Topic<'_> {
        self.topic_with(1, &[])
    }

    /// The same with partitions and configs.
    pub(crate) fn topic_with(&self, partitions: i32, configs: &[(&str, &str)]) -> Topic<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("conformance-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = self.connect().call(5, &request);
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0]);
        let topic = Topic { subject: self, name };
        wait_until("a leader for the new topic", LIMIT, || {
            let error = (0..partitions).map(|partition| topic.list_offset(partition, -1).0).find(|error| *error != 0);
            error.map_or(Ok(()), |error| Err(format!("error {error}")))
        });
        topic
    }
}

/// A topic on a broker under test.
#[derive(Debug)]
pub(crate) struct Topic<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) name: String,
}

impl Topic<'_> {
    /// Produce with acks=all to partition 0.
    pub(crate) fn produce(&self, batch: &BatchSpec) -> Produced {
        self.produce_bytes(batch.encode())
    }

    /// The same with bytes that need not be one batch.
    pub(crate) fn produce_bytes(&self, records: Bytes) -> Produced {
        produced(
            &self.subject.connect().call(PRODUCE, &self.produce_request(records)).responses[0].partition_responses[0],
        )
    }

    /// The request that [`Topic::produce`] sends.
    pub(crate) fn produce_request(&self, records: Bytes) -> ProduceRequest {
        self.produce_request_for(vec![(0, records)])
    }

    /// A request for several partitions, in this order.
    pub(crate) fn produce_request_for(&self, partitions: Vec<(i32, Bytes)>) -> ProduceRequest {
        let data = |(index, records)| PartitionProduceData::default().with_index(index).with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(topic_name(&self.name))
            .with_partition_data(partitions.into_iter().map(data).collect());
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
    }

    /// Fetch of partition 0, read_uncommitted, not waiting.
    pub(crate) fn fetch(&self, offset: i64) -> PartitionData {
        self.fetch_with(FetchPartition::default().with_fetch_offset(offset), 0)
    }

    /// Fetch with these partition fields; `isolation` 1 is read_committed.
    pub(crate) fn fetch_with(&self, partition: FetchPartition, isolation: i8) -> PartitionData {
        let max_bytes = if partition.partition_max_bytes == 0 { 1 << 20 } else { partition.partition_max_bytes };
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.name))
            .with_partitions(vec![partition.with_partition_max_bytes(max_bytes)]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_min_bytes(0)
            .with_max_bytes(max_bytes)
            .with_isolation_level(isolation)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let mut answer = self.subject.connect().call(FETCH, &request);
        assert_eq!(answer.error_code, 0);
        answer.responses.remove(0).partitions.remove(0)
    }

    /// All batches of partition 0 from this offset on.
    pub(crate) fn batches(&self, offset: i64) -> Vec<RawBatch> {
        let data = self.fetch(offset);
        assert_eq!(data.error_code, 0);
        Batches::new(data.records.unwrap_or_default()).map(|batch| batch.unwrap()).collect()
    }

    /// ListOffsets of a partition (−1 latest, −2 earliest): error and offset.
    pub(crate) fn list_offset(&self, partition: i32, timestamp: i64) -> (i16, i64) {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(&self.name)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = self.subject.connect().call(5, &request);
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.offset)
    }

    /// The high watermark of partition 0.
    pub(crate) fn end(&self) -> i64 {
        let (error, offset) = self.list_offset(0, -1);
        assert_eq!(error, 0);
        offset
    }

    /// DeleteRecords below `before` on partition 0; gives the new log start.
    pub(crate) fn delete_records(&self, before: i64) -> i64 {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(before);
        let topic = DeleteRecordsTopic::default().with_name(topic_name(&self.name)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = self.subject.connect().call(1, &request);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.low_watermark
    }

    /// What DescribeProducers says of this producer id on partition 0.
    pub(crate) fn producer_state(&self, producer_id: i64) -> Option<ProducerState> {
        let topic = TopicRequest::default().with_name(topic_name(&self.name)).with_partition_indexes(vec![0]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let answer = self.subject.connect().call(0, &request);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.active_producers.iter().find(|state| state.producer_id.0 == producer_id).cloned()
    }
}

/// The telling part of an answer.
pub(crate) fn produced(answer: &PartitionProduceResponse) -> Produced {
    Produced {
        error: answer.error_code,
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
    }
}

/// A string for a request.
pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic's name for a request.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
