//! What groups had committed, written as it was: offsets are what they were.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::BackupError;
use super::super::restore::RestoreRow;
use super::super::serve::Stock;
use crate::client::{Cluster, GroupOffsets};
use crate::groups::Committed;

/// How long a group's coordinator is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Commits for every group what it had committed in these partitions; gives how many offsets are as they were, and what is in the way
/// of others.
pub(super) async fn restore(
    target: &Cluster,
    stock: &Stock,
    rows: &[RestoreRow],
) -> Result<(usize, Vec<String>), BackupError> {
    let wanted = wanted(stock, rows);
    let names: Vec<String> = wanted.keys().cloned().collect();
    let found = target.fetch_group_offsets(&names, false, PATIENCE).await;
    let (mut right, mut problems) = (0, Vec::new());
    let mut missing: BTreeMap<String, GroupOffsets> = BTreeMap::new();
    for (group, offsets) in wanted {
        let there = match found.get(&group) {
            Some(Ok(there)) => there,
            Some(Err(error)) => {
                problems.push(format!("group {group}: {error}"));
                continue;
            }
            None => continue,
        };
        for ((topic, partition), committed) in offsets {
            match there.offsets.get(&topic, partition) {
                Some(other) if other.offset == committed.offset => right += 1,
                // Nobody can have read in a topic that was not there: it has gone on since an earlier call.
                Some(other) => problems.push(format!(
                    "group {group} has committed {} in {topic}:{partition}, where it had {}: left as it is",
                    other.offset, committed.offset
                )),
                None => drop(missing.entry(group.clone()).or_default().insert((topic, partition), committed)),
            }
        }
    }
    for (group, answers) in target.commit_group_offsets(missing, PATIENCE).await {
        match answers {
            Err(error) => problems.push(format!("group {group}: {error}")),
            Ok(answers) => {
                for ((topic, partition), answer) in answers {
                    match answer {
                        Ok(()) => right += 1,
                        Err(error) => problems.push(format!("group {group} in {topic}:{partition}: {error}")),
                    }
                }
            }
        }
    }
    problems.sort();
    Ok((right, problems))
}

fn wanted(stock: &Stock, rows: &[RestoreRow]) -> BTreeMap<String, GroupOffsets> {
    let mut wanted: BTreeMap<String, GroupOffsets> = BTreeMap::new();
    for group in &stock.captured.groups.entries {
        for committed in &group.offsets {
            let is_its = |row: &&RestoreRow| (&row.topic, row.partition) == (&committed.topic, committed.partition);
            let Some(row) = rows.iter().find(is_its) else { continue };
            // Who was further than what comes back goes on behind it. Leader epochs are those of another cluster.
            let offset = committed.offset.min(row.to);
            let committed = Committed { offset, leader_epoch: -1, metadata: committed.metadata.clone() };
            let place = (row.target_topic.clone(), row.partition);
            wanted.entry(group.group.clone()).or_default().insert(place, committed);
        }
    }
    wanted
}
