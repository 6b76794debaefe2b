//! AddPartitionsToTxn v0–v3 and EndTxn v0–v4: what a client does between InitProducerId and its markers. Omitted: the
//! broker-side batched form (AddPartitionsToTxn v4), transaction version 2 (EndTxn v5).

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse};

use super::dispatch::Call;
use super::state::State;

/// Clients before v2 of either API do not know PRODUCER_FENCED.
fn known_to(version: i16, error: ResponseError) -> ResponseError {
    let old = version < 2 && error == ResponseError::ProducerFenced;
    if old { ResponseError::InvalidProducerEpoch } else { error }
}

pub(super) fn add_partitions(call: &Call, request: &AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let mut state = call.shared.lock();
    let known = |topic: &str, index: i32| state.partition(topic, index).is_ok();
    let all_known =
        request.v3_and_below_topics.iter().all(|topic| topic.partitions.iter().all(|index| known(&topic.name, *index)));
    // One unknown partition fails the whole request; the others are told that nothing was tried.
    let error = if all_known {
        add(call, &mut state, request).err().map(|error| known_to(call.version, error))
    } else {
        Some(ResponseError::OperationNotAttempted)
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let unknown = state.partition(&topic.name, *index).err();
            let code = unknown.or(error).map_or(0, |error| error.code());
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(results.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

fn add(call: &Call, state: &mut State, request: &AddPartitionsToTxnRequest) -> Result<(), ResponseError> {
    let id = request.v3_and_below_transactional_id.as_str();
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(ResponseError::NotCoordinator);
    }
    let partitions: BTreeSet<(String, i32)> = request
        .v3_and_below_topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)))
        .collect();
    let producer = request.v3_and_below_producer_id.0;
    state.add_to_txn(id, producer, request.v3_and_below_producer_epoch, partitions)
}

pub(super) fn end(call: &Call, request: &EndTxnRequest) -> EndTxnResponse {
    let error = try_end(call, request).err().map(|error| known_to(call.version, error));
    call.shared.wake();
    EndTxnResponse::default().with_error_code(error.map_or(0, |error| error.code()))
}

fn try_end(call: &Call, request: &EndTxnRequest) -> Result<(), ResponseError> {
    let mut state = call.shared.lock();
    let id = request.transactional_id.as_str();
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(ResponseError::NotCoordinator);
    }
    let delay = call.shared.options.txn_marker_delay;
    state.end_txn(id, request.producer_id.0, request.producer_epoch, request.committed, delay)
}
