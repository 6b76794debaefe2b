//! DescribeProducers v0 (KIP-664): what a partition's producer table holds, the unreplicated tail included.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::dispatch::Call;
use super::state::Partition;

pub(super) fn handle(call: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let state = call.shared.lock();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            match state.led(call.node, &topic.name, *index) {
                Ok(partition) => answer.with_active_producers(producers(partition)),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(partition: &Partition) -> Vec<ProducerState> {
    let describe = |(id, entry): (i64, &super::producers::ProducerEntry)| {
        ProducerState::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(i32::from(entry.epoch))
            .with_last_sequence(entry.last_sequence())
            .with_last_timestamp(entry.last_timestamp_ms)
            .with_coordinator_epoch(entry.coordinator_epoch)
            .with_current_txn_start_offset(entry.txn_first_offset.unwrap_or(-1))
    };
    partition.log.producers.iter().map(describe).collect()
}
