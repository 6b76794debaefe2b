//! WriteTxnMarkers v1: markers written at a leader without its coordinator's say (brokers use it among themselves; with
//! cluster rights a client may, which is the last-resort fence). Omitted: group offsets.

use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::dispatch::Call;
use super::marker::Marker;
use super::state::{State, now_ms};

pub(super) fn handle(call: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut state = call.shared.lock();
    let markers =
        request.markers.into_iter().map(|wanted| {
            let marker = Marker {
                producer_id: wanted.producer_id.0,
                producer_epoch: wanted.producer_epoch,
                commit: wanted.transaction_result,
                coordinator_epoch: wanted.coordinator_epoch,
            };
            let topics =
                wanted.topics.into_iter().map(|topic| {
                    let partitions =
                        topic.partition_indexes.iter().map(|index| {
                            WritableTxnMarkerPartitionResult::default()
                                .with_partition_index(*index)
                                .with_error_code(write(call, &mut state, &topic.name, *index, &marker))
                        });
                    let partitions = partitions.collect();
                    WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
                });
            WritableTxnMarkerResult::default().with_producer_id(wanted.producer_id).with_topics(topics.collect())
        });
    let response = WriteTxnMarkersResponse::default().with_markers(markers.collect());
    drop(state);
    call.shared.wake();
    response
}

fn write(call: &Call, state: &mut State, topic: &str, index: i32, marker: &Marker) -> i16 {
    let written = state.led_mut(call.node, topic, index).and_then(|partition| {
        let epoch = partition.leader_epoch;
        partition.log.append_marker(marker, epoch, now_ms())
    });
    written.err().map_or(0, |error| error.code())
}
