//! DeleteRecords v0–v2 (KIP-107).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::dispatch::Call;
use super::state::State;

pub(super) fn handle(call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut state = call.shared.lock();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            match delete(call, &mut state, &topic.name, wanted.partition_index, wanted.offset) {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(error) => answer.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    let response = DeleteRecordsResponse::default().with_topics(topics.collect());
    drop(state);
    call.shared.wake();
    response
}

fn delete(call: &Call, state: &mut State, topic: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
    state.led(call.node, topic, index)?.log.writable()?;
    let deletes = state.topic_config(topic, "cleanup.policy").split(',').any(|part| part.trim() == "delete");
    if !deletes {
        return Err(ResponseError::PolicyViolation);
    }
    let log = &mut state.led_mut(call.node, topic, index)?.log;
    // −1 stands for the high watermark.
    let offset = if offset == -1 { log.high_watermark } else { offset };
    if offset < 0 || offset > log.high_watermark {
        return Err(ResponseError::OffsetOutOfRange);
    }
    log.delete_before(offset);
    Ok(log.start_offset)
}
