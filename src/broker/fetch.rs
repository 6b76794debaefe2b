//! Fetch v4–v17: sessions, long polls, isolation levels, byte limits (KIP-74), leader epochs (KIP-320), divergence
//! (KIP-595), topic ids (v13). Omitted: replicas that fetch, preferred read replicas, tiered storage.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::dispatch::Call;
use super::fetch_session::{Cached, Key, Plan};
use super::log::Log;
use super::state::{Partition, State};

/// One pass over the partitions.
struct Pass {
    answers: Vec<(Key, PartitionData)>,
    bytes: usize,
    /// An error or a divergence: answer at once.
    urgent: bool,
}

pub(super) async fn handle(call: &Call, request: &FetchRequest) -> FetchResponse {
    let plan = match plan(call, request) {
        Ok(plan) => plan,
        Err(error) => return failed(error),
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let answers = loop {
        let changed = call.shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let pass = read_all(call, request, &plan);
        let full = pass.bytes >= min_bytes || plan.partitions.is_empty();
        if full || pass.urgent || Instant::now() >= deadline {
            break pass.answers;
        }
        // Whichever comes first: the next pass sees what there is.
        let _ = tokio::time::timeout_at(deadline, changed).await;
    };
    respond(call, &plan, answers)
}

/// The answer of a hook: an error of the session as such, any other for each partition. The session goes on.
pub(super) fn refuse(call: &Call, request: &FetchRequest, error: ResponseError) -> FetchResponse {
    let of_session = matches!(
        error,
        ResponseError::FetchSessionIdNotFound
            | ResponseError::InvalidFetchSessionEpoch
            | ResponseError::FetchSessionTopicIdError
    );
    match plan(call, request) {
        Ok(plan) if !of_session => {
            let answer = |cached: &Cached| (cached.key.clone(), refused(error).with_partition_index(cached.key.index));
            let answers = plan.partitions.iter().map(answer).collect();
            respond(call, &plan, answers)
        }
        Ok(_) => failed(error),
        Err(other) => failed(other),
    }
}

fn plan(call: &Call, request: &FetchRequest) -> Result<Plan, ResponseError> {
    let mut state = call.shared.lock();
    let node = state.nodes.get_mut(&call.node).ok_or(ResponseError::BrokerNotAvailable)?;
    node.sessions.plan(request, call.version, call.shared.options.fetch_sessions_max)
}

fn failed(error: ResponseError) -> FetchResponse {
    FetchResponse::default().with_error_code(error.code())
}

fn read_all(call: &Call, request: &FetchRequest, plan: &Plan) -> Pass {
    let state = call.shared.lock();
    let mut pass = Pass { answers: Vec::with_capacity(plan.partitions.len()), bytes: 0, urgent: false };
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
    for cached in &plan.partitions {
        let reader =
            Reader { call, state: &state, committed_only: request.isolation_level == 1, left, first: pass.bytes == 0 };
        let data = reader.partition(&cached.key, &cached.wanted).unwrap_or_else(refused);
        let data = data.with_partition_index(cached.key.index);
        let bytes = data.records.as_ref().map_or(0, Bytes::len);
        left = left.saturating_sub(bytes);
        pass.bytes += bytes;
        pass.urgent |= data.error_code != 0 || data.diverging_epoch.epoch >= 0;
        pass.answers.push((cached.key.clone(), data));
    }
    pass
}

fn refused(error: ResponseError) -> PartitionData {
    PartitionData::default().with_error_code(error.code()).with_high_watermark(-1).with_aborted_transactions(None)
}

struct Reader<'a> {
    call: &'a Call,
    state: &'a State,
    committed_only: bool,
    /// Bytes that the request still allows.
    left: usize,
    /// Nothing was read yet: the first batch comes whole.
    first: bool,
}

impl Reader<'_> {
    fn partition(&self, key: &Key, wanted: &FetchPartition) -> Result<PartitionData, ResponseError> {
        let name = if key.id.is_nil() {
            if self.call.version >= 13 {
                return Err(ResponseError::UnknownTopicId);
            }
            key.name.as_str()
        } else {
            self.state.names.get(&key.id).ok_or(ResponseError::UnknownTopicId)?
        };
        let partition = match self.state.led(self.call.node, name, key.index) {
            Ok(partition) => partition,
            Err(ResponseError::NotLeaderOrFollower) => return Ok(self.elsewhere(name, key.index)),
            Err(error) => return Err(error),
        };
        match partition.fence(wanted.current_leader_epoch) {
            Err(ResponseError::FencedLeaderEpoch) => {
                let data = refused(ResponseError::FencedLeaderEpoch);
                return Ok(self.with_leader(data, partition));
            }
            other => other?,
        }
        self.read(partition, wanted)
    }

    fn elsewhere(&self, name: &str, index: i32) -> PartitionData {
        let data = refused(ResponseError::NotLeaderOrFollower);
        match self.state.partition(name, index) {
            Ok(partition) => self.with_leader(data, partition),
            Err(_) => data,
        }
    }

    fn with_leader(&self, data: PartitionData, partition: &Partition) -> PartitionData {
        if self.call.version < 12 {
            return data;
        }
        data.with_current_leader(
            LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                .with_leader_epoch(partition.leader_epoch),
        )
    }

    fn read(&self, partition: &Partition, wanted: &FetchPartition) -> Result<PartitionData, ResponseError> {
        let log = &partition.log;
        let stable = log.last_stable_offset();
        let mut data = PartitionData::default()
            .with_high_watermark(log.high_watermark)
            .with_last_stable_offset(stable)
            .with_log_start_offset(log.start_offset)
            .with_aborted_transactions(self.committed_only.then(Vec::new));
        let offset = wanted.fetch_offset;
        if offset < log.start_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if wanted.last_fetched_epoch >= 0
            && let Some(diverging) = diverging(log, wanted)?
        {
            return Ok(data.with_diverging_epoch(diverging));
        }
        if offset > log.end_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let bound = if self.committed_only { stable } else { log.high_watermark };
        let limit = self.left.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
        let records = log.read((offset, bound), limit, self.first)?;
        if self.committed_only {
            data.aborted_transactions = Some(aborted(log, offset, &records));
        }
        Ok(data.with_records(Some(records)))
    }
}

/// The client fetched its last record under an epoch that here ended earlier: its tail is not ours (KIP-595).
fn diverging(log: &Log, wanted: &FetchPartition) -> Result<Option<EpochEndOffset>, ResponseError> {
    let known = log.epochs.end_offset_for(wanted.last_fetched_epoch, log.end_offset);
    let (epoch, end_offset) = known.ok_or(ResponseError::OffsetOutOfRange)?;
    if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset {
        return Ok(Some(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset)));
    }
    Ok(None)
}

fn aborted(log: &Log, offset: i64, records: &Bytes) -> Vec<AbortedTransaction> {
    log.aborted_in(offset, records)
        .into_iter()
        .map(|txn| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(txn.producer_id))
                .with_first_offset(txn.first_offset)
        })
        .collect()
}

fn respond(call: &Call, plan: &Plan, answers: Vec<(Key, PartitionData)>) -> FetchResponse {
    let mut state = call.shared.lock();
    let answers = match state.nodes.get_mut(&call.node) {
        Some(node) => node.sessions.settle(plan, answers),
        None => answers,
    };
    let session_id = if call.version >= 7 { plan.session_id } else { 0 };
    let mut response = FetchResponse::default().with_session_id(session_id).with_throttle_time_ms(state.throttle_ms);
    for (key, data) in answers {
        if call.version >= 16 && data.current_leader.leader_id.0 >= 0 {
            add_endpoint(&state, &mut response, data.current_leader.leader_id);
        }
        match response.responses.last_mut() {
            Some(topic) if topic.topic == key.name && topic.topic_id == key.id => topic.partitions.push(data),
            _ => response.responses.push(
                FetchableTopicResponse::default()
                    .with_topic(key.name)
                    .with_topic_id(key.id)
                    .with_partitions(vec![data]),
            ),
        }
    }
    response
}

fn add_endpoint(state: &State, response: &mut FetchResponse, id: BrokerId) {
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
