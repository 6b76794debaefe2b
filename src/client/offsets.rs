//! Offsets of logs: starts, ends, by time; and cutting a log's head off.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node, TopicPartition};

/// `ListOffsetsRequest`: the high watermark, or the last stable offset under read_committed.
const LATEST: i64 = -1;
/// The log start offset.
const EARLIEST: i64 = -2;
/// `ListOffsetsRequest.CONSUMER_REPLICA_ID`. Any other replica id, such as the crate's default of 0, makes the broker take
/// us for a follower: it then passes the isolation level over, and `LATEST` is the log end.
const CONSUMER: BrokerId = BrokerId(-1);
const DELETE_TIMEOUT_MS: i32 = 30_000;

/// How long single partitions are asked for where the others do not wait for them: about an election.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
const UNKNOWN_SERVER_ERROR: i16 = -1;

/// An answer for each partition, or why there is none.
pub type Each<T> = HashMap<TopicPartition, Result<T, ClientError>>;

/// A point of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPoint {
    /// The log start offset.
    Start,
    /// The high watermark, or the last stable offset where `committed`.
    End {
        /// Up to the last stable offset only.
        committed: bool,
    },
    /// The first record at or after a time; the end where there is none.
    Time {
        /// Milliseconds since the epoch.
        at_ms: i64,
        /// Up to the last stable offset only.
        committed: bool,
    },
}

/// Topic-partition → offset, or a timestamp.
pub(super) type Offsets = HashMap<TopicPartition, i64>;

#[derive(Debug, Clone, Copy)]
struct Found {
    offset: i64,
    timestamp: i64,
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Cluster {
    /// Start of a log.
    pub async fn log_start(&self, tp: &TopicPartition) -> Result<i64, ClientError> {
        self.one(tp, &self.log_starts(std::slice::from_ref(tp)).await?)
    }

    /// End of what is replicated of a log (the high watermark).
    pub async fn log_end(&self, tp: &TopicPartition) -> Result<i64, ClientError> {
        self.one(tp, &self.log_ends(std::slice::from_ref(tp), false).await?)
    }

    fn one(&self, tp: &TopicPartition, found: &Offsets) -> Result<i64, ClientError> {
        found.get(tp).copied().ok_or_else(|| self.api_error("ListOffsets", -1, &tp.to_string()))
    }

    /// Starts of logs.
    pub async fn log_starts(&self, tps: &[TopicPartition]) -> Result<Offsets, ClientError> {
        self.offsets(tps, EARLIEST, false).await
    }

    /// Waits until the leader of every partition serves it; metadata name a leader before that broker holds the partition.
    pub async fn await_served(&self, tps: &[TopicPartition]) -> Result<(), ClientError> {
        self.await_served_at(tps, Tries::new()).await
    }

    pub(super) async fn await_served_at(&self, tps: &[TopicPartition], tries: Tries) -> Result<(), ClientError> {
        self.list_offsets(tps, EARLIEST, false, tries).await.map(drop)
    }

    /// High watermarks, or last stable offsets where `committed`.
    pub async fn log_ends(&self, tps: &[TopicPartition], committed: bool) -> Result<Offsets, ClientError> {
        self.offsets(tps, LATEST, committed).await
    }

    /// Start and high watermark. The start is read first, so that it is never beyond the end.
    pub async fn log_bounds(&self, tps: &[TopicPartition]) -> Result<HashMap<TopicPartition, (i64, i64)>, ClientError> {
        let starts = self.log_starts(tps).await?;
        let ends = self.log_ends(tps, false).await?;
        Ok(starts
            .into_iter()
            .map(|(tp, start)| {
                let end = ends.get(&tp).copied().unwrap_or(start);
                (tp, (start, end))
            })
            .collect())
    }

    /// The first offset whose record is at or after a time (ms since the epoch); the end where there is none.
    pub async fn offsets_at(
        &self,
        tps: &[TopicPartition],
        at_ms: i64,
        committed: bool,
    ) -> Result<Offsets, ClientError> {
        let found = self.list_offsets(tps, at_ms.max(0), committed, Tries::new()).await?;
        let missing: Vec<TopicPartition> =
            found.iter().filter(|(_, f)| f.offset < 0).map(|(tp, _)| tp.clone()).collect();
        let ends = if missing.is_empty() { Offsets::new() } else { self.log_ends(&missing, committed).await? };
        Ok(found
            .into_iter()
            .map(|(tp, f)| {
                let offset = if f.offset >= 0 { f.offset } else { ends.get(&tp).copied().unwrap_or(0) };
                (tp, offset)
            })
            .collect())
    }

    /// Timestamp (ms since the epoch) of the first record of each log; −1 where it has none.
    pub async fn first_timestamps(&self, tps: &[TopicPartition]) -> Result<Offsets, ClientError> {
        let found = self.list_offsets(tps, 0, false, Tries::new()).await?;
        Ok(found.into_iter().map(|(tp, f)| (tp, f.timestamp)).collect())
    }

    /// Offset and timestamp of the first record of each log, −1 and −1 where it has none; under the terms of
    /// [`Self::log_bounds_each`].
    pub async fn first_records_each(&self, tps: &[TopicPartition]) -> Each<(i64, i64)> {
        let found = self.list_offsets_each(tps, 0, false, Tries::within(PATIENCE)).await;
        found.into_iter().map(|(tp, f)| (tp, f.map(|f| (f.offset, f.timestamp)))).collect()
    }

    /// Start and high watermark of each log. What has no leader or no answer within [`PATIENCE`] is not waited for: it
    /// concerns nobody else.
    pub async fn log_bounds_each(&self, tps: &[TopicPartition]) -> Each<(i64, i64)> {
        let starts = self.offsets_each(tps, LogPoint::Start).await;
        let known: Vec<TopicPartition> =
            tps.iter().filter(|tp| starts.get(*tp).is_some_and(Result::is_ok)).cloned().collect();
        let mut ends = self.offsets_each(&known, LogPoint::End { committed: false }).await;
        let mut bounds = |tp: &TopicPartition, start: Result<i64, ClientError>| match (start, ends.remove(tp)) {
            (Ok(start), Some(end)) => end.map(|end| (start, end.max(start))),
            (start, _) => start.map(|start| (start, start)),
        };
        starts.into_iter().map(|(tp, start)| (tp.clone(), bounds(&tp, start))).collect()
    }

    /// An offset of each log, under the same terms.
    pub async fn offsets_each(&self, tps: &[TopicPartition], at: LogPoint) -> Each<i64> {
        let (timestamp, committed) = match at {
            LogPoint::Start => (EARLIEST, false),
            LogPoint::End { committed } => (LATEST, committed),
            LogPoint::Time { at_ms, committed } => (at_ms.max(0), committed),
        };
        let found = self.list_offsets_each(tps, timestamp, committed, Tries::within(PATIENCE)).await;
        let behind = |found: &Result<Found, ClientError>| found.as_ref().is_ok_and(|f| f.offset < 0);
        let behind: Vec<TopicPartition> = found.iter().filter(|(_, f)| behind(f)).map(|(tp, _)| tp.clone()).collect();
        let mut out: Each<i64> = found.into_iter().map(|(tp, f)| (tp, f.map(|f| f.offset))).collect();
        if !behind.is_empty() {
            // No record is that young: the end stands for it.
            let ends = self.list_offsets_each(&behind, LATEST, committed, Tries::within(PATIENCE)).await;
            out.extend(ends.into_iter().map(|(tp, f)| (tp, f.map(|f| f.offset))));
        }
        out
    }

    async fn offsets(&self, tps: &[TopicPartition], timestamp: i64, committed: bool) -> Result<Offsets, ClientError> {
        let found = self.list_offsets(tps, timestamp, committed, Tries::new()).await?;
        Ok(found.into_iter().map(|(tp, f)| (tp, f.offset)).collect())
    }

    async fn list_offsets(
        &self,
        tps: &[TopicPartition],
        timestamp: i64,
        committed: bool,
        tries: Tries,
    ) -> Result<HashMap<TopicPartition, Found>, ClientError> {
        let each = self.list_offsets_each(tps, timestamp, committed, tries).await;
        each.into_iter().map(|(tp, found)| found.map(|found| (tp, found))).collect()
    }

    /// Asks every leader for its partitions; partitions whose leader is not found are asked for again.
    async fn list_offsets_each(
        &self,
        tps: &[TopicPartition],
        timestamp: i64,
        committed: bool,
        mut tries: Tries,
    ) -> Each<Found> {
        let mut each = Each::with_capacity(tps.len());
        let mut missing: Vec<TopicPartition> = tps.to_vec();
        loop {
            each.extend(self.list_offsets_once(&missing, timestamp, committed).await);
            let again = |tp: &TopicPartition| each.get(tp)?.as_ref().err().filter(|e| e.is_retriable()).cloned();
            missing.retain(|tp| again(tp).is_some());
            let Some(error) = missing.first().and_then(again) else { return each };
            let topics: BTreeSet<&str> = missing.iter().map(|tp| tp.topic.as_str()).collect();
            let topics: Vec<&str> = topics.into_iter().collect();
            if tries.again(self, error, &topics).await.is_err() {
                return each;
            }
        }
    }

    async fn list_offsets_once(&self, tps: &[TopicPartition], timestamp: i64, committed: bool) -> Each<Found> {
        let mut each = Each::with_capacity(tps.len());
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for tp in tps {
            match self.leader_of(&tp.topic, tp.partition) {
                Ok(leader) => by_leader.entry(leader).or_default().push(tp.clone()),
                Err(error) => {
                    each.insert(tp.clone(), Err(error));
                }
            }
        }
        for (leader, asked) in by_leader {
            match self.list_offsets_of(leader, &asked, timestamp, committed).await {
                Ok(found) => each.extend(found),
                Err(error) => each.extend(asked.into_iter().map(|tp| (tp, Err(error.clone())))),
            }
        }
        each
    }

    async fn list_offsets_of(
        &self,
        leader: i32,
        tps: &[TopicPartition],
        timestamp: i64,
        committed: bool,
    ) -> Result<Each<Found>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for tp in tps {
            let partition =
                ListOffsetsPartition::default().with_partition_index(tp.partition).with_timestamp(timestamp);
            topics.entry(&tp.topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions))
            .collect();
        let request = ListOffsetsRequest::default()
            .with_replica_id(CONSUMER)
            .with_isolation_level(i8::from(committed))
            .with_topics(topics);
        let response = self.call(Node::Id(leader), request).await?;
        // A partition that the answer passes over has no answer.
        let silent = |tp: &TopicPartition| Err(self.api_error("ListOffsets", UNKNOWN_SERVER_ERROR, &tp.to_string()));
        let mut each: Each<Found> = tps.iter().map(|tp| (tp.clone(), silent(tp))).collect();
        let by_name: HashMap<(&str, i32), &TopicPartition> =
            tps.iter().map(|tp| ((tp.topic.as_str(), tp.partition), tp)).collect();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let Some(tp) = by_name.get(&(topic.name.as_str(), partition.partition_index)) else { continue };
                let found = match partition.error_code {
                    0 => Ok(Found { offset: partition.offset, timestamp: partition.timestamp }),
                    code => Err(self.api_error("ListOffsets", code, &tp.to_string())),
                };
                each.insert((*tp).clone(), found);
            }
        }
        Ok(each)
    }

    /// Lets go of all records below `offset` (KIP-107).
    pub async fn delete_records_before(&self, tp: &TopicPartition, offset: i64) -> Result<(), ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.delete_records_once(tp, offset).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(self, error, &[tp.topic.as_str()]).await?,
            }
        }
    }

    async fn delete_records_once(&self, tp: &TopicPartition, offset: i64) -> Result<(), ClientError> {
        let leader = self.leader_of(&tp.topic, tp.partition)?;
        let partition = DeleteRecordsPartition::default().with_partition_index(tp.partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(&tp.topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(DELETE_TIMEOUT_MS).with_topics(vec![topic]);
        let response = self.call_waiting(Node::Id(leader), request, DELETE_TIMEOUT_MS.unsigned_abs().into()).await?;
        let code = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).find(|code| *code != 0);
        match code {
            None => Ok(()),
            Some(code) => Err(self.api_error("DeleteRecords", code, &format!("{tp} below offset {offset}"))),
        }
    }
}
