//! The transaction coordinator, as far as fencing needs it (KIP-98, KIP-360).

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeProducersRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TopicName,
    TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::coordinators::KeyType;
use super::error::{ClientError, Verdict};
use super::offsets::PATIENCE;
use super::retry::Tries;
use super::shape::Shaped;
use super::{Cluster, Node, TopicPartition};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// What AddPartitionsToTxn says of the partitions that had to stand back for another one.
const OPERATION_NOT_ATTEMPTED: i16 = 55;
/// Markers that a coordinator has lost the answer to are sent again after the broker's `request.timeout.ms`, 30 s by default,
/// and until then the transaction is CONCURRENT_TRANSACTIONS. Whose partition that was does not matter: this outlasts it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What InitProducerId gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch; not always one more than the last.
    pub producer_epoch: i16,
}

/// A producer as a partition leader knows it (KIP-664), unreplicated tail included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerView {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// Sequence of its last record; −1 where it has written none in this epoch.
    pub last_sequence: i32,
    /// Timestamp of its last batch, ms; −1 where unknown.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that wrote its last marker; −1 where there is none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction; −1 where it has none.
    pub transaction_start: i64,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

impl Cluster {
    /// InitProducerId on a transactional id: aborts what is open, fences who held it. With `current` the coordinator
    /// refuses if somebody else bumped the epoch since (KIP-360).
    pub async fn init_producer_id(
        &self,
        txn_id: &str,
        timeout_ms: i32,
        current: Option<(i64, i16)>,
    ) -> Result<Producer, ClientError> {
        let (producer_id, producer_epoch) = current.unwrap_or((-1, -1));
        let request = || {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(transactional_id(txn_id)))
                .with_transaction_timeout_ms(timeout_ms);
            // Fields of v3; −1 is what lower versions mean.
            request.with_producer_id(ProducerId(producer_id)).with_producer_epoch(producer_epoch)
        };
        self.coordinated(txn_id, "InitProducerId", request, |response| {
            let producer = Producer { producer_id: response.producer_id.0, producer_epoch: response.producer_epoch };
            (response.error_code, producer)
        })
        .await
    }

    /// A producer id that nobody else has, without a transactional id (KIP-98).
    pub async fn allocate_producer_id(&self) -> Result<Producer, ClientError> {
        let mut tries = Tries::new();
        loop {
            // −1 is what versions below 3 mean.
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let error = match self.call(Node::Any, request).await {
                Ok(response) if response.error_code == 0 => {
                    let (producer_id, producer_epoch) = (response.producer_id.0, response.producer_epoch);
                    return Ok(Producer { producer_id, producer_epoch });
                }
                Ok(response) => self.api_error("InitProducerId", response.error_code, "a producer id"),
                Err(error) => error,
            };
            tries.again(self, error, &[]).await?;
        }
    }

    /// Adds partitions to the transaction. It is refused as a whole if one of them is unknown or not ours to write to:
    /// nothing was added then, and those come back with the reason.
    pub async fn add_partitions_to_txn(
        &self,
        txn_id: &str,
        producer_id: i64,
        producer_epoch: i16,
        partitions: &[(String, i32)],
    ) -> Result<Vec<((String, i32), ClientError)>, ClientError> {
        let request = || {
            let topics = by_topic(partitions)
                .into_iter()
                .map(|(topic, partitions)| {
                    AddPartitionsToTxnTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions)
                })
                .collect();
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(transactional_id(txn_id))
                .with_v3_and_below_producer_id(ProducerId(producer_id))
                .with_v3_and_below_producer_epoch(producer_epoch)
                .with_v3_and_below_topics(topics)
        };
        self.coordinated(txn_id, "AddPartitionsToTxn", request, |response| {
            let results = response.results_by_topic_v3_and_below.iter().flat_map(|topic| {
                let name = |partition| (topic.name.to_string(), partition);
                topic.results_by_partition.iter().map(move |p| (name(p.partition_index), p.partition_error_code))
            });
            let (own, all): (Vec<_>, Vec<_>) = results
                .filter(|(_, code)| *code != 0 && *code != OPERATION_NOT_ATTEMPTED)
                .partition(|(_, code)| [UNKNOWN_TOPIC_OR_PARTITION, TOPIC_AUTHORIZATION_FAILED].contains(code));
            let refused = |((topic, partition), code): ((String, i32), i16)| {
                let error = self.api_error("AddPartitionsToTxn", code, &format!("{topic}:{partition}"));
                ((topic, partition), error)
            };
            // What is not about one partition is about the transaction.
            (all.first().map_or(0, |(_, code)| *code), own.into_iter().map(refused).collect())
        })
        .await
    }

    /// Ends the transaction. The answer comes before the markers are written.
    pub async fn end_txn(
        &self,
        txn_id: &str,
        producer_id: i64,
        producer_epoch: i16,
        commit: bool,
    ) -> Result<(), ClientError> {
        let request = || {
            EndTxnRequest::default()
                .with_transactional_id(transactional_id(txn_id))
                .with_producer_id(ProducerId(producer_id))
                .with_producer_epoch(producer_epoch)
                .with_committed(commit)
        };
        self.coordinated(txn_id, "EndTxn", request, |response| (response.error_code, ())).await
    }

    /// Asks the coordinator of a transactional id until it answers; finds it anew where it has moved.
    async fn coordinated<R: Shaped, T>(
        &self,
        txn_id: &str,
        api: &'static str,
        request: impl Fn() -> R,
        read: impl Fn(R::Response) -> (i16, T),
    ) -> Result<T, ClientError> {
        let mut tries = Tries::within(DEADLINE);
        loop {
            let outcome = match self.coordinator(KeyType::Transaction, txn_id).await {
                Ok(node) => self.call(Node::Id(node), request()).await,
                Err(error) => Err(error),
            };
            let error = match outcome.map(&read) {
                Ok((0, value)) => return Ok(value),
                Ok((code, _)) => self.api_error(api, code, txn_id),
                Err(error) => error,
            };
            self.doubt_coordinator(KeyType::Transaction, txn_id, &error);
            tries.again(self, error, &[]).await?;
        }
    }

    /// The producers a partition's leader remembers.
    pub async fn describe_producers(&self, tp: &TopicPartition) -> Result<Vec<ProducerView>, ClientError> {
        self.describe_producers_at(tp, Tries::new()).await
    }

    /// The same where nobody waits for it: tried for [`PATIENCE`] only.
    pub async fn describe_producers_soon(&self, tp: &TopicPartition) -> Result<Vec<ProducerView>, ClientError> {
        self.describe_producers_at(tp, Tries::within(PATIENCE)).await
    }

    async fn describe_producers_at(
        &self,
        tp: &TopicPartition,
        mut tries: Tries,
    ) -> Result<Vec<ProducerView>, ClientError> {
        loop {
            match self.describe_producers_once(tp).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.again(self, error, &[tp.topic.as_str()]).await?,
            }
        }
    }

    async fn describe_producers_once(&self, tp: &TopicPartition) -> Result<Vec<ProducerView>, ClientError> {
        let leader = self.leader_of(&tp.topic, tp.partition)?;
        let topic =
            TopicRequest::default().with_name(TopicName(text(&tp.topic))).with_partition_indexes(vec![tp.partition]);
        let response =
            self.call(Node::Id(leader), DescribeProducersRequest::default().with_topics(vec![topic])).await?;
        let Some(partition) = response.topics.into_iter().flat_map(|t| t.partitions).next() else {
            return Err(self.api_error("DescribeProducers", -1, &tp.to_string()));
        };
        if partition.error_code != 0 {
            let words = partition.error_message.as_deref();
            return Err(self.api_error_with("DescribeProducers", partition.error_code, &tp.to_string(), words));
        }
        let view = |p: kafka_protocol::messages::describe_producers_response::ProducerState| ProducerView {
            producer_id: p.producer_id.0,
            producer_epoch: p.producer_epoch,
            last_sequence: p.last_sequence,
            last_timestamp: p.last_timestamp,
            coordinator_epoch: p.coordinator_epoch,
            transaction_start: p.current_txn_start_offset,
        };
        Ok(partition.active_producers.into_iter().map(view).collect())
    }

    /// Writes ABORT markers of `producer` without a coordinator: the last resort where the transactional id was
    /// forgotten. Needs ALTER (or, before Kafka 3.7, CLUSTER_ACTION) on the cluster. A partition refuses a coordinator epoch
    /// below the one of the marker before.
    pub async fn write_txn_markers(
        &self,
        producer: Producer,
        coordinator_epoch: i32,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let mut missing: Vec<TopicPartition> = partitions.to_vec();
        let mut tries = Tries::new();
        while let Some(first) = missing.first().cloned() {
            let leader = self.leader_of(&first.topic, first.partition);
            let error = match leader {
                Ok(leader) => {
                    let here: Vec<TopicPartition> = missing
                        .iter()
                        .filter(|tp| self.leader_of(&tp.topic, tp.partition).ok() == Some(leader))
                        .cloned()
                        .collect();
                    match self.write_markers_at(leader, producer, coordinator_epoch, &here).await {
                        Ok(()) => {
                            missing.retain(|tp| !here.contains(tp));
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if error.verdict() == Verdict::Fatal {
                return Err(error);
            }
            tries.again(self, error, &[first.topic.as_str()]).await?;
        }
        Ok(())
    }

    /// Writes so many ABORT markers one behind the other into a partition, each of a transaction that holds nothing: what an offset is
    /// filled with that no consumer is ever shown. One try: who repeats it writes more of them. Needs the rights of
    /// [`Self::write_txn_markers`].
    pub async fn write_lone_markers(
        &self,
        producer: Producer,
        tp: &TopicPartition,
        count: u64,
    ) -> Result<(), ClientError> {
        let leader = self.leader_of(&tp.topic, tp.partition)?;
        let topic = WritableTxnMarkerTopic::default()
            .with_name(TopicName(text(&tp.topic)))
            .with_partition_indexes(vec![tp.partition]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(producer.producer_epoch)
            .with_coordinator_epoch(0)
            .with_transaction_result(false)
            .with_topics(vec![topic]);
        let markers = (0..count).map(|_| marker.clone()).collect();
        let response = self.call(Node::Id(leader), WriteTxnMarkersRequest::default().with_markers(markers)).await?;
        let codes = response.markers.iter().flat_map(|m| &m.topics).flat_map(|t| &t.partitions).map(|p| p.error_code);
        match codes.into_iter().find(|code| *code != 0) {
            None => Ok(()),
            Some(code) => Err(self.api_error("WriteTxnMarkers", code, &tp.to_string())),
        }
    }

    async fn write_markers_at(
        &self,
        leader: i32,
        producer: Producer,
        coordinator_epoch: i32,
        tps: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let names: Vec<(String, i32)> = tps.iter().map(|tp| (tp.topic.clone(), tp.partition)).collect();
        let topics = by_topic(&names)
            .into_iter()
            .map(|(topic, partitions)| {
                WritableTxnMarkerTopic::default().with_name(TopicName(text(topic))).with_partition_indexes(partitions)
            })
            .collect();
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(producer.producer_epoch)
            .with_coordinator_epoch(coordinator_epoch)
            .with_transaction_result(false)
            .with_topics(topics);
        let response =
            self.call(Node::Id(leader), WriteTxnMarkersRequest::default().with_markers(vec![marker])).await?;
        let refused = response
            .markers
            .iter()
            .flat_map(|m| &m.topics)
            .flat_map(|t| t.partitions.iter().map(move |p| (t.name.to_string(), p.partition_index, p.error_code)))
            .find(|(_, _, code)| *code != 0);
        match refused {
            None => Ok(()),
            Some((topic, partition, code)) => {
                Err(self.api_error("WriteTxnMarkers", code, &format!("{topic}:{partition}")))
            }
        }
    }
}

fn by_topic(partitions: &[(String, i32)]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    topics
}
