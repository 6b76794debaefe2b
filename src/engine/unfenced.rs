//! A shard whose transactional id the coordinator had forgotten (idle for longer than `transactional.id.expiration.ms`):
//! Init gives another producer id then, and fences nobody who wrote under the one on record. That one is fenced by markers
//! written without a coordinator, and where this right is missing its partitions stand still.

use crate::client::{ClientError, Cluster, Producer, TopicPartition, Topics};
use crate::mirror::{ControlState, Halt, HaltKind, ShardState, StateRecord};

use super::shard::target_of;

/// Writes a marker of a newer epoch of `old` into the partitions. Its epoch is given back: whoever writes under an older
/// one gets INVALID_PRODUCER_EPOCH there.
pub(crate) async fn fence_without_coordinator(
    cluster: &Cluster,
    old: (i64, i16),
    partitions: &[TopicPartition],
) -> Result<i16, ClientError> {
    let (mut epoch, mut coordinator_epoch) = (old.1, 0);
    for tp in partitions {
        for producer in cluster.describe_producers(tp).await?.into_iter().filter(|p| p.producer_id == old.0) {
            epoch = epoch.max(i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX));
            coordinator_epoch = coordinator_epoch.max(producer.coordinator_epoch);
        }
    }
    let epoch = epoch.saturating_add(1);
    let marker = Producer { producer_id: old.0, producer_epoch: epoch };
    cluster.write_txn_markers(marker, coordinator_epoch, partitions).await?;
    Ok(epoch)
}

/// The target partitions of a shard that are still there.
pub(crate) async fn standing_targets(
    cluster: &Cluster,
    state: &ShardState,
) -> Result<Vec<TopicPartition>, ClientError> {
    let targets: Vec<TopicPartition> = state.partitions.values().map(target_of).collect();
    let names: Vec<&str> = targets.iter().map(|tp| tp.topic.as_str()).collect();
    if names.is_empty() {
        return Ok(targets);
    }
    let metadata = cluster.refresh(Topics::Named(&names)).await?;
    let stands = |tp: &TopicPartition| metadata.topic(&tp.topic).is_some_and(|topic| topic.id == tp.topic_id);
    Ok(targets.into_iter().filter(stands).collect())
}

/// The halts of a shard whose earlier owner is not fenced: to be written together with the new owner's id, since the next
/// start finds nothing amiss any more.
pub(crate) fn unfenced_halts(
    state: &ShardState,
    control: &ControlState,
    old_producer_id: i64,
    error: &ClientError,
) -> Vec<StateRecord> {
    let declared = state.partitions.values().map(|partition| &partition.declared);
    let halt = || {
        let what = format!(
            "the coordinator had forgotten producer id {old_producer_id}, under which another process may still write here, \
             and it cannot be fenced: {error}"
        );
        Some(Halt::new(HaltKind::Unfenced, what))
    };
    declared
        .map(|declared| StateRecord::Halt {
            topic: declared.source_topic.clone(),
            partition: declared.partition,
            halt: halt(),
            resumes: control.resumes(&declared.source_topic, declared.partition),
        })
        .collect()
}
