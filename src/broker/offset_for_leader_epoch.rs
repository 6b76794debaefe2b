//! OffsetForLeaderEpoch v2–v4 (KIP-101, KIP-320). Omitted: replicas that ask.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::dispatch::Call;
use super::state::State;

pub(super) fn handle(call: &Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let state = call.shared.lock();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match find(call, &state, &topic.topic, wanted) {
                Ok((epoch, end_offset)) => answer.with_leader_epoch(epoch).with_end_offset(end_offset),
                Err(error) => answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn find(
    call: &Call,
    state: &State,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    let partition = state.led(call.node, topic, wanted.partition)?;
    partition.fence(wanted.current_leader_epoch)?;
    let log = &partition.log;
    Ok(log.epochs.end_offset_for(wanted.leader_epoch, log.end_offset).unwrap_or((-1, -1)))
}
