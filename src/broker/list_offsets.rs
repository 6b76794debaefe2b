//! ListOffsets v1–v10: earliest (−2), latest (−1: the high watermark, under read_committed the last stable offset), by
//! time, maximum timestamp (−3, v7+), earliest local (−4, v8+; the same as earliest). Omitted: tiered offsets (−5, −6:
//! nothing is ever tiered).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::dispatch::Call;
use super::log::Log;
use super::records;
use super::state::{Partition, State};

/// Timestamp and offset; −1 where there is none.
type Found = (i64, i64);

pub(super) fn handle(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let state = call.shared.lock();
    let isolation = (request.replica_id == -1).then_some(request.isolation_level == 1);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            match find(call, &state, &topic.name, wanted, isolation) {
                Ok(((timestamp, offset), epoch)) => {
                    let epoch = if call.version >= 4 { epoch } else { -1 };
                    answer.with_timestamp(timestamp).with_offset(offset).with_leader_epoch(epoch)
                }
                Err(error) => answer.with_error_code(error.code()).with_timestamp(-1).with_offset(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find(
    call: &Call,
    state: &State,
    topic: &str,
    wanted: &ListOffsetsPartition,
    // `None` for a follower, which any replica id but -1 stands for: it may see the unreplicated tail.
    committed_only: Option<bool>,
) -> Result<(Found, i32), ResponseError> {
    let partition = state.led(call.node, topic, wanted.partition_index)?;
    partition.fence(wanted.current_leader_epoch)?;
    let log = &partition.log;
    let bound = match committed_only {
        Some(true) => log.last_stable_offset(),
        Some(false) => log.high_watermark,
        None => log.end_offset,
    };
    let found = match wanted.timestamp {
        -1 => {
            // A new leader does not know yet how far its predecessor had got.
            not_behind_its_epoch(call, partition)?;
            (-1, bound)
        }
        -2 | -4 => (-1, log.start_offset),
        -3 if log.is_backed() => return Err(ResponseError::UnsupportedForMessageFormat),
        -3 => max_timestamp(log, bound),
        timestamp if timestamp < 0 => (-1, -1),
        timestamp => by_time(log, timestamp, bound),
    };
    let epoch = if wanted.timestamp == -1 { log.epochs.latest() } else { log.epochs.epoch_at(found.1) };
    Ok((found, if found.1 < 0 { -1 } else { epoch.unwrap_or(-1) }))
}

fn not_behind_its_epoch(call: &Call, partition: &Partition) -> Result<(), ResponseError> {
    if partition.log.high_watermark >= partition.epoch_start_offset {
        return Ok(());
    }
    Err(if call.version >= 5 { ResponseError::OffsetNotAvailable } else { ResponseError::LeaderNotAvailable })
}

/// First record at or after the log start whose timestamp is at least this.
fn by_time(log: &Log, timestamp: i64, bound: i64) -> Found {
    if let Some(backing) = &log.backing {
        let found = backing.offset_for_time(timestamp);
        return found.filter(|&(offset, _)| offset < bound).map_or((-1, -1), |(offset, at)| (at, offset));
    }
    let candidates = log.batches.iter().filter(|batch| batch.header.max_timestamp >= timestamp);
    for batch in candidates {
        let found =
            records::positions(batch).into_iter().find(|&(at, offset)| at >= timestamp && offset >= log.start_offset);
        match found {
            Some((_, offset)) if offset >= bound => break,
            Some(found) => return found,
            None => {}
        }
    }
    (-1, -1)
}

/// The record with the largest timestamp, the first of those.
fn max_timestamp(log: &Log, bound: i64) -> Found {
    let visible =
        log.batches.iter().filter(|batch| batch.header.next_offset() <= bound && batch.header.records_count > 0);
    let best = visible.fold(None, |best: Option<&crate::batch::RawBatch>, batch| match best {
        Some(best) if best.header.max_timestamp >= batch.header.max_timestamp => Some(best),
        _ => Some(batch),
    });
    let Some(batch) = best else { return (-1, -1) };
    let wanted = batch.header.max_timestamp;
    records::positions(batch).into_iter().find(|&(at, _)| at == wanted).unwrap_or((wanted, batch.header.base_offset))
}
