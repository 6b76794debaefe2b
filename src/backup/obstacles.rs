//! What stands against a restore by a mirror.

use super::BackupError;
use super::restore::{RestorePlan, RestoreRow};
use crate::client::{Cluster, LogPoint, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::mirror::PartitionState;
use crate::ops::MirrorState;

/// Where the mirror has come further than what is to be served: the engine would take that for a truncation of its source.
fn beyond(state: &MirrorState, row: &RestoreRow) -> Option<String> {
    let is_its = |p: &&PartitionState| (&p.declared.source_topic, p.declared.partition) == (&row.topic, row.partition);
    let known = state.partitions().find(is_its)?;
    let position = known.end.map_or(0, |end| known.map.position(end)).max(known.scanned.source);
    (position > row.to).then(|| {
        format!(
            "{}:{} is mirrored up to offset {position} already, and the archive would give it up to {}: say what the first call said, or \
             --suffix for another restore",
            row.topic, row.partition, row.to
        )
    })
}

/// Topics of the target that hold records already, unless they are of this very restore.
pub(super) async fn obstacles(
    target: &Cluster,
    mirror: &MirrorConfig,
    is_seed: bool,
    plan: &RestorePlan,
) -> Result<Vec<String>, BackupError> {
    let rows = &plan.partitions;
    if rows.is_empty() && plan.empty_topics.is_empty() {
        return Ok(vec!["nothing in the archive is what was asked for".to_owned()]);
    }
    let metadata = target.refresh(Topics::All).await?;
    if let Some(state) = MirrorState::read(&mirror.name, target).await? {
        let is_done = state.control.promotion_done().is_some();
        let done = || match is_seed {
            true => format!("mirror {} was promoted: kmirror failback leads back to mirroring", mirror.name),
            false => format!("{} is done already: say --suffix for another restore", mirror.name),
        };
        // Where it has begun, its state knows whose the records on the target are, and the engine asks it.
        let beyond = || rows.iter().filter_map(|row| beyond(&state, row)).collect();
        return Ok(if is_done { vec![done()] } else { beyond() });
    }
    let there = |row: &&RestoreRow| metadata.partition(&row.target_topic, row.partition).is_some();
    let id = |topic: &str| metadata.topic(topic).map(|topic| topic.id).unwrap_or_default();
    let of = |row: &RestoreRow| TopicPartition {
        topic: row.target_topic.clone(),
        topic_id: id(&row.target_topic),
        partition: row.partition,
    };
    let tps: Vec<TopicPartition> = rows.iter().filter(there).map(of).collect();
    let mut out = Vec::new();
    for (tp, end) in target.offsets_each(&tps, LogPoint::End { committed: false }).await {
        if end? > 0 {
            out.push(format!(
                "topic {tp} of cluster {} holds records already: restore under other names (--rename), or delete it",
                target.name()
            ));
        }
    }
    out.sort();
    Ok(out)
}
