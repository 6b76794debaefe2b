//! What is looked at once all is done: nothing of the mirror stands behind the fence, and the leaders refuse what would follow.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Cluster, TopicPartition};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::ahead::AT_ONCE;
use crate::engine::attach::written_behind;
use crate::engine::settle::last_data_below;
use crate::engine::shard::target_of;
use crate::mirror::{PartitionState, Unfenced};
use crate::plan::PartitionOutlook;

use super::super::MirrorState;
use super::super::verify::{VerifyOptions, verify as compare};
use super::report::{Sampled, Verification};
use super::survey::Survey;

/// Looks at every partition that was fenced.
pub(super) async fn verify(
    mirror: &MirrorConfig,
    target: &Cluster,
    found: &Survey,
    unfenced: &[Unfenced],
) -> Result<Verification, EngineError> {
    let mut tasks = JoinSet::new();
    let mut out = Verification::default();
    let mut waiting = Vec::new();
    for shard in &found.state.shards {
        let Some((owner, _)) = shard.id else { continue };
        let is_left = |p: &PartitionState| {
            let declared = &p.declared;
            unfenced.iter().any(|u| (&u.topic, u.partition) == (&declared.source_topic, declared.partition))
        };
        for state in shard.partitions.values().filter(|p| !p.map.is_empty() && !is_left(p)) {
            if let Some(origin) = state.origin {
                waiting.push((target_of(state), origin.start, origin.epoch, owner, shard.producer_ids.clone()));
            }
        }
    }
    let mut waiting = waiting.into_iter();
    loop {
        while tasks.len() < AT_ONCE {
            let Some((tp, from, epoch, owner, ids)) = waiting.next() else { break };
            let target = target.clone();
            tasks.spawn(async move { look(&target, &tp, from, (owner, epoch), &ids).await });
        }
        let Some(done) = tasks.join_next().await else { break };
        let done = done.map_err(|e| EngineError::Unexpected {
            mirror: mirror.name.clone(),
            detail: format!("verifying a partition: {e}"),
        })?;
        out.partitions += 1;
        match done {
            Ok(Refusal::Certain) => out.refusing += 1,
            Ok(Refusal::Forgotten) => {}
            Err(problem) => out.problems.push(problem),
        }
    }
    out.problems.sort();
    Ok(out)
}

/// Whether the leader would refuse an older writer.
enum Refusal {
    Certain,
    /// It remembers producers for a while only. Nobody of before may write by then without asking the coordinator.
    Forgotten,
}

async fn look(
    target: &Cluster,
    tp: &TopicPartition,
    from: i64,
    (owner, epoch): (i64, i16),
    ids: &BTreeSet<i64>,
) -> Result<Refusal, String> {
    match written_behind(target, tp, from, ids).await {
        Ok(None) => {}
        Ok(Some(offset)) => {
            return Err(format!("{tp}: the mirror has written at offset {offset}, behind the fence at {from}"));
        }
        Err(error) => return Err(format!("{tp}: what stands behind the fence cannot be read: {error}")),
    }
    let producers = target.describe_producers_soon(tp).await.map_err(|error| format!("{tp}: {error}"))?;
    match producers.iter().find(|p| p.producer_id == owner) {
        Some(known) if known.producer_epoch >= i32::from(epoch) => Ok(Refusal::Certain),
        Some(known) => Err(format!(
            "{tp}: its leader takes epoch {} of producer {owner}, older than the fence's",
            known.producer_epoch
        )),
        None => Ok(Refusal::Forgotten),
    }
}

/// Partitions of which some records are compared.
const SAMPLED_MAX: usize = 64;
/// Stretches of each.
const STRETCHES: usize = 3;

/// Compares some records of both sides, while the source is there. A source that is slow to answer is not waited for.
pub(super) async fn sample(
    mirror: &MirrorConfig,
    (source, target): (&Cluster, &Cluster),
    found: &Survey,
    (seed, limit): (u64, Duration),
) -> Option<Sampled> {
    let fenced: Vec<&PartitionOutlook> = found.partitions.iter().filter(|p| p.state == "fenced").collect();
    let step = fenced.len().div_ceil(SAMPLED_MAX).max(1);
    let only: Vec<_> = fenced.iter().step_by(step).map(|p| (p.topic.clone(), Some(p.partition))).collect();
    if only.is_empty() {
        return None;
    }
    let options = VerifyOptions {
        only,
        sample: Some(STRETCHES),
        seed,
        // The settings step may have raised it a moment ago.
        trust_retention: false,
        ..VerifyOptions::default()
    };
    let report = match tokio::time::timeout(limit, compare(mirror, source, target, &options)).await {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            tracing::warn!(mirror = %mirror.name, %error, "no records are compared: the source cannot be read");
            return Some(Sampled { detail: Some(error.to_string()), ..Sampled::default() });
        }
        Err(_) => {
            let detail = format!("the comparison was not through within {} s", limit.as_secs());
            return Some(Sampled { detail: Some(detail), ..Sampled::default() });
        }
    };
    let mut sampled = Sampled { partitions: report.partitions.len(), ..Sampled::default() };
    for partition in &report.partitions {
        sampled.equal += partition.tally.equal;
        // What the target holds alone is somebody else's: foreign records, or what a way home has left in front of it.
        sampled.alone += partition.tally.extra;
        let wrong = partition.tally.differing + partition.tally.missing;
        if wrong > 0 {
            let name = format!("{}:{}", partition.topic, partition.partition);
            sampled.problems.push(format!(
                "{name}: {wrong} records differ from the source's, or are missing; kmirror verify shows which"
            ));
        }
    }
    Some(sampled)
}

/// Where somebody else has written to a mirror topic behind our data, if anybody has.
pub(super) async fn foreign_records(mirror: &MirrorConfig, target: &Cluster) -> Result<Option<String>, EngineError> {
    let state = MirrorState::read(&mirror.name, target).await?.unwrap_or_default();
    let ids: BTreeSet<i64> = state.shards.iter().flat_map(|shard| shard.producer_ids.iter().copied()).collect();
    let targets: Vec<TopicPartition> = state.partitions().filter(|p| !p.map.is_empty()).map(target_of).collect();
    for (tp, bounds) in target.log_bounds_each(&targets).await {
        let Ok((start, end)) = bounds else { continue };
        let last = last_data_below(target, &tp, end, start, |_| true).await?;
        if let Some(batch) = last.filter(|batch| !ids.contains(&batch.header.producer_id)) {
            return Ok(Some(format!("{tp} at offset {}", batch.header.base_offset)));
        }
    }
    Ok(None)
}
