//! Reads of one partition without a fetch session: the state topic, markers, the end of a log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::FetchableTopicResponse;
use kafka_protocol::messages::{ApiKey, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::batch::{Batches, RawBatch};

use super::{ClientError, Cluster, Node, Topics, Verdict};

/// A topic-partition as it is asked for: by name below Fetch v13, by id from there on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: String,
    /// Topic id (KIP-516).
    pub topic_id: Uuid,
    /// Partition number.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}

/// What a read brought.
#[derive(Debug, Clone)]
pub struct LogSlice {
    /// Whole batches, from the one that contains the offset asked for (or the next there is).
    pub batches: Vec<RawBatch>,
    /// End of what is replicated.
    pub high_watermark: i64,
    /// End of what is decided (transactions).
    pub last_stable_offset: i64,
    /// First offset there is.
    pub log_start_offset: i64,
    /// Aborted transactions (producer id, first offset), where asked for with read_committed.
    pub aborted: Vec<(i64, i64)>,
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Bytes at most; the first batch comes whole whatever its size.
    pub max_bytes: i32,
    /// How long the broker may wait for data, ms.
    pub max_wait_ms: i32,
    /// read_committed instead of read_uncommitted.
    pub committed: bool,
    /// How long to try altogether.
    pub deadline: Duration,
    /// Leader epoch of the record in front of the offset asked for, so that a log that went on differently is told (KIP-320);
    /// −1 where it is not known. Brokers below Fetch v12 are not asked.
    pub last_fetched_epoch: i32,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_wait_ms: 100,
            committed: false,
            deadline: Duration::from_secs(30),
            last_fetched_epoch: -1,
        }
    }
}

/// Why a read brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies outside the log (OFFSET_OUT_OF_RANGE).
    #[error("cluster {cluster}: {subject} has no offset {offset}")]
    OutOfRange {
        /// Cluster name.
        cluster: String,
        /// Topic-partition.
        subject: String,
        /// Offset asked for.
        offset: i64,
    },
    /// The log has other records in front of the offset than those of the epoch that was named: it was truncated and went on.
    #[error(
        "cluster {cluster}: {subject} was truncated: its leader epoch {epoch} ends at {end_offset}, in front of {offset}"
    )]
    Diverged {
        /// Cluster name.
        cluster: String,
        /// Topic-partition.
        subject: String,
        /// Offset asked for.
        offset: i64,
        /// Last epoch that both know.
        epoch: i32,
        /// Where it ends in this log.
        end_offset: i64,
    },
    /// Bytes that are not batches.
    #[error("cluster {cluster}: {subject} from offset {offset}: {source}")]
    Batch {
        /// Cluster name.
        cluster: String,
        /// Topic-partition.
        subject: String,
        /// Offset asked for.
        offset: i64,
        /// What is wrong with them.
        source: crate::batch::BatchError,
    },
    /// Anything else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

const OFFSET_OUT_OF_RANGE: i16 = 1;
const OFFSET_NOT_AVAILABLE: i16 = 78;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
/// What is asked for at least where a broker throttles.
const THROTTLED_BYTES: i32 = 4 << 10;
/// The version of Fetch that brought LastFetchedEpoch.
const EPOCHS_SINCE: i16 = 12;

/// A read that brought nothing below an end that is known. A leader that has just been elected may not know yet how far its log
/// is replicated: that is no end of the log, and is to be tried again.
pub(crate) fn nothing_below_end(cluster: &Cluster, tp: &TopicPartition) -> ClientError {
    cluster.api_error("Fetch", OFFSET_NOT_AVAILABLE, &tp.to_string())
}

/// Reads from `offset` on; retries what can be retried until the deadline. What a broker puts off for its quota (KIP-219) does
/// not count against it: the broker is there, and who gave up would begin anew and ask for the same bytes again, for ever.
pub async fn read_log(
    cluster: &Cluster,
    tp: &TopicPartition,
    offset: i64,
    options: ReadOptions,
) -> Result<LogSlice, ReadError> {
    let mut until = Instant::now() + options.deadline;
    let mut options = options;
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match read_once(cluster, tp, offset, options).await {
            Ok(slice) => return Ok(slice),
            Err(ReadError::Client(error)) if error.verdict() != Verdict::Fatal => error,
            Err(error) => return Err(error),
        };
        if is_throttled(&error) {
            until = Instant::now() + options.deadline;
            // A broker refuses whole what does not fit into the rest of its quota.
            options.max_bytes = (options.max_bytes / 2).max(THROTTLED_BYTES);
        }
        if Instant::now() + pause > until {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
        if error.verdict() == Verdict::Refresh {
            // A refresh that fails is tried again with the next read.
            let _ = cluster.refresh(Topics::Named(&[tp.topic.as_str()])).await;
        }
    }
}

fn is_throttled(error: &ClientError) -> bool {
    matches!(error, ClientError::Api { code: THROTTLING_QUOTA_EXCEEDED, .. })
}

async fn read_once(
    cluster: &Cluster,
    tp: &TopicPartition,
    offset: i64,
    options: ReadOptions,
) -> Result<LogSlice, ReadError> {
    let leader = cluster.leader_of(&tp.topic, tp.partition)?;
    let max_wait_ms = u64::try_from(options.max_wait_ms).unwrap_or(0);
    let options = ReadOptions { last_fetched_epoch: epoch_to_name(cluster, leader, options).await?, ..options };
    let response = cluster.call_waiting(Node::Id(leader), request(tp, offset, options), max_wait_ms).await?;
    let failed = |code: i16| cluster.api_error("Fetch", code, &format!("{tp} at offset {offset}"));
    if response.error_code != 0 {
        return Err(failed(response.error_code).into());
    }
    let throttle_ms = response.throttle_time_ms;
    let of_topic = response.responses.into_iter().filter(|told| is_about(told, tp));
    let Some(data) = of_topic.flat_map(|told| told.partitions).find(|told| told.partition_index == tp.partition) else {
        // A broker that throttles answers without any partition (`FetchRequest.getErrorResponse`, KIP-219), and for how long:
        // that says nothing of the log, least of all that it ends here. Without the pause it is no answer.
        let error = if throttle_ms > 0 { failed(THROTTLING_QUOTA_EXCEEDED) } else { untold(cluster, leader, tp) };
        return Err(error.into());
    };
    match data.error_code {
        0 => {}
        OFFSET_OUT_OF_RANGE => {
            return Err(ReadError::OutOfRange { cluster: cluster.name().to_owned(), subject: tp.to_string(), offset });
        }
        code => return Err(failed(code).into()),
    }
    let diverging = &data.diverging_epoch;
    if diverging.epoch >= 0 || diverging.end_offset >= 0 {
        return Err(ReadError::Diverged {
            cluster: cluster.name().to_owned(),
            subject: tp.to_string(),
            offset,
            epoch: diverging.epoch,
            end_offset: diverging.end_offset,
        });
    }
    let mut batches = Vec::new();
    for batch in Batches::new(data.records.unwrap_or_else(Bytes::new)) {
        match batch {
            Ok(batch) => batches.push(batch),
            // What is whole in front of it can be used; a read that begins at it tells.
            Err(_) if !batches.is_empty() => break,
            Err(source) => {
                let (cluster, subject) = (cluster.name().to_owned(), tp.to_string());
                return Err(ReadError::Batch { cluster, subject, offset, source });
            }
        }
    }
    Ok(LogSlice {
        batches,
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start_offset: data.log_start_offset,
        aborted: data
            .aborted_transactions
            .unwrap_or_default()
            .into_iter()
            .map(|t| (t.producer_id.0, t.first_offset))
            .collect(),
    })
}

/// By id from v13 on, by name before.
fn is_about(told: &FetchableTopicResponse, tp: &TopicPartition) -> bool {
    if told.topic_id.is_nil() { told.topic.as_str() == tp.topic } else { told.topic_id == tp.topic_id }
}

fn untold(cluster: &Cluster, leader: i32, tp: &TopicPartition) -> ClientError {
    ClientError::Protocol {
        cluster: cluster.name().to_owned(),
        address: cluster.address(leader).unwrap_or_else(|| format!("broker {leader}")),
        api: "Fetch",
        detail: format!("it says nothing of {tp}, which was asked for, and does not throttle"),
    }
}

/// The epoch to name, where the leader knows the field.
async fn epoch_to_name(cluster: &Cluster, leader: i32, options: ReadOptions) -> Result<i32, ClientError> {
    if options.last_fetched_epoch < 0 {
        return Ok(-1);
    }
    let versions = cluster.api_versions(leader).await?;
    let knows = versions.get(&(ApiKey::Fetch as i16)).is_some_and(|(_, max)| *max >= EPOCHS_SINCE);
    Ok(if knows { options.last_fetched_epoch } else { -1 })
}

fn request(tp: &TopicPartition, offset: i64, options: ReadOptions) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(tp.partition)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(options.last_fetched_epoch)
        .with_partition_max_bytes(options.max_bytes);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(tp.topic.clone())))
        .with_topic_id(tp.topic_id)
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(options.max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(options.max_bytes)
        .with_isolation_level(i8::from(options.committed))
        // No session: the broker keeps nothing for this connection (KIP-227).
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}
