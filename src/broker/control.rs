//! What tests and the demo do to a cluster from outside the protocol: make and read data, move leaders, hold the high
//! watermark, lose and forget things.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::cluster::Cluster;
use super::log::Log;
use super::marker::Marker;
use super::state::{Partition, now_ms};
use super::{BrokerError, create_topics, produce, records};
use crate::batch::{Codec, RawBatch, Record, Stamp, encode};

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id: new at every creation.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
    /// Configs set on it.
    pub configs: BTreeMap<String, String>,
}

/// A partition: its leader and how far its log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogView {
    /// Node that leads; `None` without a leader.
    pub leader: Option<i32>,
    /// Counts elections.
    pub leader_epoch: i32,
    /// First offset that may be read.
    pub start_offset: i64,
    /// Offset of the next record.
    pub end_offset: i64,
    /// What consumers see ends here.
    pub high_watermark: i64,
    /// What read_committed consumers see ends here.
    pub last_stable_offset: i64,
    /// Batches in the log, markers included.
    pub batches: usize,
    /// Bytes of all batches.
    pub size_bytes: u64,
}

/// What a partition remembers of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerView {
    /// Its id.
    pub producer_id: i64,
    /// Newest epoch, from data or from a marker.
    pub epoch: i16,
    /// Sequence of the newest record of that epoch; −1 when there is none.
    pub last_sequence: i32,
    /// Timestamp of the newest batch or marker, ms: expiry goes by it.
    pub last_timestamp_ms: i64,
    /// First offset of the open transaction.
    pub txn_first_offset: Option<i64>,
}

/// What the coordinator knows of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionView {
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Kafka's name of the state, as `Ongoing` or `CompleteAbort`.
    pub state: &'static str,
    /// Time-out, ms.
    pub timeout_ms: i32,
    /// Partitions that take part and have no marker yet.
    pub partitions: Vec<(String, i32)>,
}

impl LogView {
    fn of(partition: &Partition) -> Self {
        let log = &partition.log;
        Self {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            start_offset: log.start_offset,
            end_offset: log.end_offset,
            high_watermark: log.high_watermark,
            last_stable_offset: log.last_stable_offset(),
            batches: log.batches.len(),
            size_bytes: log.size_bytes,
        }
    }
}

fn unknown(topic: &str, partition: i32) -> BrokerError {
    BrokerError::UnknownPartition { topic: topic.to_owned(), partition }
}

impl Cluster {
    fn look<T>(&self, topic: &str, index: i32, look: impl FnOnce(&Partition) -> T) -> Result<T, BrokerError> {
        let state = self.shared.lock();
        state.partition(topic, index).map(look).map_err(|_| unknown(topic, index))
    }

    pub(super) fn change<T>(
        &self,
        topic: &str,
        index: i32,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> Result<T, BrokerError> {
        let mut state = self.shared.lock();
        let changed = state.partition_mut(topic, index).map(change).map_err(|_| unknown(topic, index));
        drop(state);
        self.shared.wake();
        changed
    }

    /// Creates a topic and gives its id. Configs by Kafka's names.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, BrokerError> {
        let configs = configs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut state = self.shared.lock();
        let plan = create_topics::plan(&state, &self.shared.options, name, (partitions, replicas), configs);
        let plan = plan.map_err(|(error, message)| BrokerError::Refused {
            operation: "creation",
            object: format!("topic {name} ({message})"),
            error,
        })?;
        let id = state.create_topic(name, plan.partitions, plan.replicas, plan.configs);
        drop(state);
        self.shared.wake();
        Ok(id)
    }

    /// Deletes a topic; false when there is none.
    pub fn delete_topic(&self, name: &str) -> bool {
        let deleted = self.shared.lock().delete_topic(name);
        self.shared.wake();
        deleted
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<TopicView> {
        let state = self.shared.lock();
        let view = |(name, topic): (&String, &super::state::Topic)| TopicView {
            name: name.clone(),
            id: topic.id,
            partitions: topic.partitions.len(),
            configs: topic.configs.clone(),
        };
        state.topics.iter().map(view).collect()
    }

    /// From now on every Produce and Fetch answer says this throttle time, and the broker keeps it (KIP-219). 0 ends it.
    pub fn set_throttle(&self, throttle_ms: i32) {
        self.shared.lock().throttle_ms = throttle_ms;
    }

    /// Appends one batch as a produce request to the leader would, checks included; gives its base offset. A
    /// transactional batch opens a transaction, coordinator or not; [`Cluster::write_markers`] ends it.
    pub fn append(&self, topic: &str, partition: i32, records: Bytes) -> Result<i64, BrokerError> {
        let leader = self.log(topic, partition)?.leader;
        let target = (topic.to_owned(), partition);
        let appended = match leader {
            Some(node) => produce::append_directly(&self.shared, node, &target, records),
            None => Err((ResponseError::LeaderNotAvailable, None)),
        };
        self.shared.wake();
        let (error, message) = match appended {
            Ok(base_offset) => return Ok(base_offset),
            Err(refusal) => refusal,
        };
        let object = format!("{topic}-{partition} ({})", message.unwrap_or_default());
        Err(BrokerError::Refused { operation: "append", object, error })
    }

    /// Appends keys and values as one batch, all with one timestamp, from a producer that is not idempotent; gives its
    /// base offset.
    pub fn append_records(
        &self,
        topic: &str,
        partition: i32,
        codec: Codec,
        timestamp_ms: i64,
        records: &[(Option<Bytes>, Option<Bytes>)],
    ) -> Result<i64, BrokerError> {
        let records = (0..).zip(records).map(|(offset, (key, value))| Record {
            offset,
            timestamp: timestamp_ms,
            attributes: 0,
            key: key.clone(),
            value: value.clone(),
            headers: Vec::new(),
        });
        let batch = encode(&records.collect::<Vec<_>>(), codec, Stamp::NONE)?;
        self.append(topic, partition, batch.bytes)
    }

    /// Puts the bytes of one batch behind the log's end as they are, base offset included: no rule of a broker applies.
    /// This is how a log comes by what no producer could write: holes, damage, foreign epochs. The base offset must not
    /// lie below the end; gives it.
    pub fn place(&self, topic: &str, partition: i32, bytes: Bytes) -> Result<i64, BrokerError> {
        let batch = RawBatch::parse(bytes)?;
        let base_offset = batch.header.base_offset;
        self.change(topic, partition, |partition| partition.log.place(batch))?.map_err(|error| {
            BrokerError::Refused { operation: "placing", object: format!("{topic}-{partition}"), error }
        })?;
        Ok(base_offset)
    }

    /// Leader and offsets of a partition.
    pub fn log(&self, topic: &str, partition: i32) -> Result<LogView, BrokerError> {
        self.look(topic, partition, LogView::of)
    }

    /// All batches from the one that holds `from` to the log's end, unreplicated tail and markers included.
    pub fn read(&self, topic: &str, partition: i32, from: i64) -> Result<Vec<RawBatch>, BrokerError> {
        self.look(topic, partition, |partition| {
            let log = &partition.log;
            log.batches.range(log.index_of(from)..).cloned().collect()
        })
    }

    /// Adds an ACL.
    pub fn add_acl(&self, acl: &kafka_protocol::messages::create_acls_request::AclCreation) {
        super::acls::add(&mut self.shared.lock().acls, acl);
    }

    /// The records from this offset on that a read_committed consumer would get: up to the last stable offset, without
    /// aborted ones and markers.
    pub fn records(&self, topic: &str, partition: i32, from: i64) -> Result<Vec<Record>, BrokerError> {
        let (batches, from) = self.look(topic, partition, |partition| {
            let from = from.max(partition.log.start_offset);
            (committed(&partition.log, from), from)
        })?;
        let mut found = Vec::new();
        for batch in batches {
            found.extend(records::decode(&batch)?.into_iter().filter(|record| record.offset >= from));
        }
        Ok(found)
    }

    /// Waits until the partition exists and its high watermark is at least this; gives what it then looks like.
    pub async fn wait_for(&self, topic: &str, partition: i32, high_watermark: i64) -> LogView {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Ok(view) = self.log(topic, partition)
                && view.high_watermark >= high_watermark
            {
                return view;
            }
            changed.await;
        }
    }

    /// Makes this node the leader, under a new leader epoch; it becomes a replica if it was none.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), BrokerError> {
        if !self.shared.lock().nodes.get(&node).is_some_and(|node| node.up) {
            return Err(BrokerError::UnknownNode(node));
        }
        self.change(topic, partition, |partition| {
            if !partition.replicas.contains(&node) {
                partition.replicas.push(node);
            }
            partition.elect(Some(node));
        })
    }

    /// Takes the leader away until [`Cluster::move_leader`] or until a replica's node starts.
    pub fn set_leaderless(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| partition.elect(None))
    }

    /// Holds the high watermark at this offset (within the log) as if followers lagged: acks=all waits, consumers see
    /// no further.
    pub fn hold_high_watermark(&self, topic: &str, partition: i32, offset: i64) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| partition.log.hold_watermark(offset))
    }

    /// Lets the high watermark follow the log's end again.
    pub fn release_high_watermark(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| partition.log.release_watermark())
    }

    /// Cuts the log back to this offset, at a batch boundary: what an unclean election loses. Producer state goes back
    /// with it. Follow with [`Cluster::move_leader`] for the new leader epoch. Gives the new end.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, BrokerError> {
        self.change(topic, partition, |partition| {
            partition.log.truncate(offset);
            partition.log.end_offset
        })
    }

    /// Moves the log start to this offset, as retention or DeleteRecords does; gives the new log start.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, BrokerError> {
        self.change(topic, partition, |partition| {
            partition.log.delete_before(offset);
            partition.log.start_offset
        })
    }

    /// Applies `retention.ms` and `retention.bytes` now, batch by batch; gives the new log start. Never on its own.
    pub fn run_retention(&self, topic: &str, partition: i32) -> Result<i64, BrokerError> {
        let (retention_ms, retention_bytes) = {
            let state = self.shared.lock();
            (state.topic_config_number(topic, "retention.ms"), state.topic_config_number(topic, "retention.bytes"))
        };
        self.change(topic, partition, |partition| {
            let log = &mut partition.log;
            if retention_ms >= 0 {
                log.retain_since(now_ms() - retention_ms);
            }
            if let Ok(bytes) = u64::try_from(retention_bytes) {
                log.retain_bytes(bytes);
            }
            log.start_offset
        })
    }

    /// What the partition remembers of each producer, by id.
    pub fn producers(&self, topic: &str, partition: i32) -> Result<Vec<ProducerView>, BrokerError> {
        self.look(topic, partition, |partition| {
            let view = |(producer_id, entry): (i64, &super::producers::ProducerEntry)| ProducerView {
                producer_id,
                epoch: entry.epoch,
                last_sequence: entry.last_sequence(),
                last_timestamp_ms: entry.last_timestamp_ms,
                txn_first_offset: entry.txn_first_offset,
            };
            partition.log.producers.iter().map(view).collect()
        })
    }

    /// Forgets all producers of a partition that have no open transaction.
    pub fn expire_producers(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| partition.log.expire_producers(i64::MAX))
    }

    /// Forgets producers everywhere whose newest record is older than `producer.id.expiration.ms`.
    pub fn sweep_producers(&self) {
        self.shared.lock().sweep_producers(now_ms());
    }

    /// What the coordinator knows of a transactional id.
    pub fn transaction(&self, transactional_id: &str) -> Option<TransactionView> {
        let state = self.shared.lock();
        let txn = state.txns.get(transactional_id)?;
        Some(TransactionView {
            producer_id: txn.producer_id,
            epoch: txn.epoch,
            state: txn.status.name(),
            timeout_ms: txn.timeout_ms,
            partitions: txn.partitions.iter().cloned().collect(),
        })
    }

    /// Forgets a transactional id, as `transactional.id.expiration.ms` does; false when it is unknown or has a
    /// transaction open.
    pub fn expire_transactional_id(&self, transactional_id: &str) -> bool {
        self.shared.lock().expire_txn(transactional_id)
    }

    /// Writes a transaction marker at the partition's leader, past the coordinator; gives its offset.
    pub fn write_markers(
        &self,
        topic: &str,
        partition: i32,
        producer: (i64, i16),
        commit: bool,
    ) -> Result<i64, BrokerError> {
        let (producer_id, producer_epoch) = producer;
        let marker = Marker { producer_id, producer_epoch, commit, coordinator_epoch: 0 };
        let written = self.change(topic, partition, |partition| {
            let epoch = partition.leader_epoch;
            partition.log.append_marker(&marker, epoch, now_ms())
        })?;
        let object = format!("producer {producer_id} on {topic}-{partition}");
        written.map_err(|error| BrokerError::Refused { operation: "marker", object, error })
    }
}

/// Data batches from this offset to the last stable offset, aborted ones left out.
fn committed(log: &Log, from: i64) -> Vec<RawBatch> {
    let bound = log.last_stable_offset();
    let aborted = log.aborted_between(from, bound);
    let is_aborted = |batch: &RawBatch| {
        let header = &batch.header;
        header.is_transactional()
            && aborted.iter().any(|txn| {
                txn.producer_id == header.producer_id
                    && (txn.first_offset..txn.last_offset).contains(&header.base_offset)
            })
    };
    let visible = log.batches.range(log.index_of(from)..).take_while(|batch| batch.header.next_offset() <= bound);
    visible.filter(|batch| !batch.header.is_control() && !is_aborted(batch)).cloned().collect()
}
