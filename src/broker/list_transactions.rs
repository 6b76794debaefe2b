//! DescribeTransactions v0 and ListTransactions v0–v2 (KIP-664, KIP-994). Omitted: the id pattern of v2 matches as a
//! plain substring, not as a regular expression.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::state::{State, now_ms};

const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(super) fn describe(call: &Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let state = call.shared.lock();
    let states = request.transactional_ids.into_iter().map(|id| describe_one(call, &state, id));
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn describe_one(call: &Call, state: &State, id: TransactionalId) -> Described {
    let answer = Described::default();
    let found = state.txns.get(id.as_str());
    let wrong_node = state.coordinator(&id) != Some(call.node);
    let answer = answer.with_transactional_id(id);
    if wrong_node {
        return answer.with_error_code(ResponseError::NotCoordinator.code());
    }
    let Some(txn) = found else {
        return answer.with_error_code(ResponseError::TransactionalIdNotFound.code());
    };
    let topics = State::by_topic(&txn.partitions).into_iter().map(|(topic, partitions)| {
        TopicData::default().with_topic(TopicName(StrBytes::from_string(topic))).with_partitions(partitions)
    });
    answer
        .with_transaction_state(StrBytes::from_static_str(txn.status.name()))
        .with_transaction_timeout_ms(txn.timeout_ms)
        .with_transaction_start_time_ms(txn.started_ms)
        .with_producer_id(ProducerId(txn.producer_id))
        .with_producer_epoch(txn.epoch)
        .with_topics(topics.collect())
}

pub(super) fn list(call: &Call, request: &ListTransactionsRequest) -> ListTransactionsResponse {
    let state = call.shared.lock();
    let states: BTreeSet<&str> = request.state_filters.iter().map(|name| &**name).collect();
    let producers: BTreeSet<i64> = request.producer_id_filters.iter().map(|id| id.0).collect();
    let pattern = request.transactional_id_pattern.as_deref().unwrap_or_default();
    let longer_than_ms = if call.version >= 1 { request.duration_filter } else { -1 };
    let now = now_ms();
    let found = state.txns.iter().filter(|(id, txn)| {
        state.coordinator(id) == Some(call.node)
            && (states.is_empty() || states.contains(txn.status.name()))
            && (producers.is_empty() || producers.contains(&txn.producer_id))
            && (longer_than_ms < 0 || (txn.started_ms >= 0 && now - txn.started_ms > longer_than_ms))
            && id.contains(pattern)
    });
    let listed = found.map(|(id, txn)| {
        Listed::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(id.clone())))
            .with_producer_id(ProducerId(txn.producer_id))
            .with_transaction_state(StrBytes::from_static_str(txn.status.name()))
    });
    let unknown = request.state_filters.iter().filter(|name| !STATES.contains(&&***name)).cloned();
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.collect())
        .with_transaction_states(listed.collect())
}
