//! Produce v3–v13 (topic ids v13). Rules as measured on Kafka 4.3.1 and 3.9.1 and read in `LogValidator`,
//! `UnifiedLog.append` and `ReplicaManager`. Omitted: message formats v0 and v1, recompression, quotas, min.insync.replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::dispatch::Call;
use super::log::Appended;
use super::state::{Partition, Shared, State, now_ms};
use super::validate;

/// What became of one partition's batch.
enum Outcome {
    /// Written, or found to be written already.
    Written {
        base_offset: i64,
        log_append_time_ms: i64,
        log_start_offset: i64,
        /// With acks=all the answer waits until the watermark is here.
        end_offset: i64,
        leader_epoch: i32,
    },
    Refused(ResponseError, Option<String>),
}

/// Who sends the batch.
#[derive(Clone, Copy)]
enum Sender<'a> {
    /// A client, which may name a transactional id.
    Client(Option<&'a str>),
    /// A test, which no coordinator knows.
    Test,
}

struct Entry {
    name: String,
    id: Uuid,
    index: i32,
    outcome: Outcome,
}

/// `None` for acks=0: no answer is sent.
pub(super) async fn handle(call: &Call, request: ProduceRequest) -> Option<ProduceResponse> {
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut entries = append_all(call, request);
    call.shared.wake();
    if acks == -1 {
        wait_replicated(call, &mut entries, timeout).await;
    }
    if acks == 0 { None } else { Some(respond(call, entries)) }
}

fn append_all(call: &Call, request: ProduceRequest) -> Vec<Entry> {
    let mut state = call.shared.lock();
    // A partition named twice: the later entry wins silently, because Kafka builds a map first.
    let mut wanted: BTreeMap<(String, Uuid, i32), Option<Bytes>> = BTreeMap::new();
    for topic in request.topic_data {
        let id = topic.topic_id;
        let name =
            if call.version >= 13 { state.names.get(&id).cloned().unwrap_or_default() } else { topic.name.to_string() };
        for partition in topic.partition_data {
            wanted.insert((name.clone(), id, partition.index), partition.records);
        }
    }
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
    let entries = wanted.into_iter().map(|((name, id, index), records)| {
        let outcome = if call.version >= 13 && name.is_empty() {
            Outcome::Refused(ResponseError::UnknownTopicId, None)
        } else if !matches!(request.acks, -1..=1) {
            Outcome::Refused(ResponseError::InvalidRequiredAcks, None)
        } else if state.acls.iter().any(|acl| acl.denies_writes(&name)) {
            Outcome::Refused(ResponseError::TopicAuthorizationFailed, None)
        } else {
            let target = (name, index);
            let outcome = append(call, &mut state, Sender::Client(transactional_id.as_deref()), &target, records);
            let outcome = outcome.unwrap_or_else(|(error, message)| Outcome::Refused(error, message));
            return Entry { name: target.0, id, index, outcome };
        };
        Entry { name, id, index, outcome }
    });
    entries.collect()
}

/// What [`super::Cluster::append`] does: a produce without a request around it.
pub(super) fn append_directly(
    shared: &Arc<Shared>,
    node: i32,
    target: &(String, i32),
    records: Bytes,
) -> Result<i64, validate::Refusal> {
    let newest = i16::MAX;
    let call = Call { shared: shared.clone(), node, version: newest, client_id: "".into() };
    match append(&call, &mut shared.lock(), Sender::Test, target, Some(records))? {
        Outcome::Written { base_offset, .. } => Ok(base_offset),
        Outcome::Refused(error, message) => Err((error, message)),
    }
}

fn append(
    call: &Call,
    state: &mut State,
    sender: Sender<'_>,
    target: &(String, i32),
    records: Option<Bytes>,
) -> Result<Outcome, validate::Refusal> {
    let bare = |error| (error, None);
    let records = records.unwrap_or_default();
    let partition = state.led_mut(call.node, &target.0, target.1).map_err(bare)?;
    partition.log.writable().map_err(bare)?;
    if partition.log.forgets {
        return count(partition, records);
    }
    let limits = validate::Limits::of_topic(state, &target.0);
    let accepted = validate::batch(&records, call.version, &limits)?;
    let header = accepted.batch.header;
    if let (true, Sender::Client(transactional_id)) = (header.is_transactional(), sender) {
        let id = transactional_id.ok_or(bare(ResponseError::TransactionalIdAuthorizationFailed))?;
        verify(call, state, id, &header, target).map_err(bare)?;
    }
    let max_bytes = limits.partition_bytes_max(call.shared.options.partition_bytes_max);
    let log_append_time_ms = limits.log_append_time.then(now_ms);
    let partition = state.led_mut(call.node, &target.0, target.1).map_err(bare)?;
    let leader_epoch = partition.leader_epoch;
    let log = &mut partition.log;
    let appended = log.append(&accepted, leader_epoch, log_append_time_ms).map_err(bare)?;
    if let Some(max_bytes) = max_bytes {
        log.retain_bytes(max_bytes);
    }
    let (base_offset, log_append_time_ms) = match appended {
        Appended::New { base_offset } => (base_offset, log_append_time_ms.unwrap_or(-1)),
        // Kafka answers a duplicate with the timestamp that it remembers of the batch, on CreateTime topics too.
        Appended::Duplicate(range) => (range.first_offset, range.timestamp_ms),
    };
    let end_offset = base_offset + i64::from(header.last_offset_delta) + 1;
    let log_start_offset = log.start_offset;
    Ok(Outcome::Written { base_offset, log_append_time_ms, log_start_offset, end_offset, leader_epoch })
}

fn count(partition: &mut Partition, records: Bytes) -> Result<Outcome, validate::Refusal> {
    let (base_offset, end_offset) = partition.log.count(records)?;
    let (leader_epoch, log_start_offset) = (partition.leader_epoch, partition.log.start_offset);
    Ok(Outcome::Written { base_offset, log_append_time_ms: -1, log_start_offset, end_offset, leader_epoch })
}

/// The partition leader asks the coordinator whether the partition is part of the transaction, once per transaction.
fn verify(
    call: &Call,
    state: &State,
    transactional_id: &str,
    header: &crate::batch::BatchHeader,
    target: &(String, i32),
) -> Result<(), ResponseError> {
    let partition = state.led(call.node, &target.0, target.1)?;
    let known = partition.log.producers.get(header.producer_id);
    if known.is_some_and(|entry| entry.txn_first_offset.is_some()) {
        return Ok(());
    }
    let verified = state.verify_txn(transactional_id, header.producer_id, header.producer_epoch, target);
    verified.map_err(|error| match error {
        ResponseError::InvalidTxnState if call.version >= 11 => ResponseError::TransactionAbortable,
        ResponseError::ConcurrentTransactions if call.version < 11 => ResponseError::NotEnoughReplicas,
        other => other,
    })
}

/// acks=all: the answer waits for the high watermark, at most the request's own time-out.
async fn wait_replicated(call: &Call, entries: &mut [Entry], timeout: Duration) {
    let deadline = Instant::now() + timeout;
    loop {
        let changed = call.shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if settle(call, entries, Instant::now() >= deadline) {
            return;
        }
        // Whichever comes first; settling again tells which it was.
        let _ = tokio::time::timeout_at(deadline, changed).await;
    }
}

/// True when every entry has its final outcome.
fn settle(call: &Call, entries: &mut [Entry], expired: bool) -> bool {
    let state = call.shared.lock();
    let mut done = true;
    for entry in entries.iter_mut() {
        let Outcome::Written { end_offset, leader_epoch, .. } = &entry.outcome else { continue };
        match state.led(call.node, &entry.name, entry.index) {
            Err(error) => entry.outcome = Outcome::Refused(error, None),
            Ok(partition) if partition.leader_epoch != *leader_epoch => {
                entry.outcome = Outcome::Refused(ResponseError::NotLeaderOrFollower, None);
            }
            Ok(partition) if partition.log.high_watermark >= *end_offset => {}
            Ok(_) if expired => entry.outcome = Outcome::Refused(ResponseError::RequestTimedOut, None),
            Ok(_) => done = false,
        }
    }
    done
}

fn respond(call: &Call, entries: Vec<Entry>) -> ProduceResponse {
    let state = call.shared.lock();
    let mut response = ProduceResponse::default().with_throttle_time_ms(state.throttle_ms);
    for entry in entries {
        let partition = answer(call, &state, &entry);
        if call.version >= 10 && partition.current_leader.leader_id.0 >= 0 {
            add_endpoint(&state, &mut response, partition.current_leader.leader_id);
        }
        let name = TopicName(StrBytes::from_string(entry.name));
        match response.responses.last_mut() {
            Some(topic) if topic.name == name && topic.topic_id == entry.id => {
                topic.partition_responses.push(partition);
            }
            _ => response.responses.push(
                TopicProduceResponse::default()
                    .with_name(name)
                    .with_topic_id(entry.id)
                    .with_partition_responses(vec![partition]),
            ),
        }
    }
    response
}

fn answer(call: &Call, state: &State, entry: &Entry) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(entry.index);
    match &entry.outcome {
        Outcome::Written { base_offset, log_append_time_ms, log_start_offset, .. } => answer
            .with_base_offset(*base_offset)
            .with_log_append_time_ms(*log_append_time_ms)
            .with_log_start_offset(*log_start_offset),
        Outcome::Refused(error, message) => {
            let mut answer = answer
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1);
            if let (Some(message), true) = (message, call.version >= 8) {
                let message = Some(StrBytes::from_string(message.clone()));
                let record = BatchIndexAndErrorMessage::default().with_batch_index_error_message(message.clone());
                answer.error_message = message;
                answer.record_errors = vec![record];
            }
            if let (ResponseError::NotLeaderOrFollower, 10.., Ok(partition)) =
                (error, call.version, state.partition(&entry.name, entry.index))
            {
                answer.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                    .with_leader_epoch(partition.leader_epoch);
            }
            answer
        }
    }
}

fn add_endpoint(state: &State, response: &mut ProduceResponse, id: BrokerId) {
    let known = response.node_endpoints.iter().any(|endpoint| endpoint.node_id == id);
    if let (Some(node), false) = (state.nodes.get(&id.0), known) {
        response.node_endpoints.push(
            NodeEndpoint::default()
                .with_node_id(id)
                .with_host(StrBytes::from_string(node.addr.ip().to_string()))
                .with_port(i32::from(node.addr.port())),
        );
    }
}
