//! Consumer groups: what they commit, and whether the next record that each would read on one side is the very record on the
//! other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::TOPIC;
use super::side::{Side, number};
use crate::batch::Record;
use crate::client::GroupOffsets;
use crate::groups::Committed;

/// The groups, and how much of what is there each has read, in percent.
const GROUPS: [(&str, u64); 4] = [("audit", 5), ("billing", 40), ("search", 75), ("shipping", 95)];
const PATIENCE: Duration = Duration::from_secs(20);

/// Groups of the demo.
pub(super) fn count() -> u64 {
    GROUPS.len() as u64
}

/// Where groups stand on both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Positions {
    /// Committed offsets behind which the same record stands on both sides, or on both sides none.
    pub(super) same: u64,
    /// Where another record does, or nothing is committed on the other side.
    pub(super) different: u64,
}

/// What a group has committed in the topic, by partition.
pub(super) fn committed(side: &Side, group: &str) -> BTreeMap<i32, i64> {
    let all = side.broker.group_offsets(group).into_iter().filter(|((topic, _), _)| topic == TOPIC);
    all.map(|((_, partition), committed)| (partition, committed.offset)).collect()
}

/// Committed offsets of all groups.
pub(super) fn committed_count(side: &Side) -> u64 {
    GROUPS.iter().map(|(group, _)| committed(side, group).len() as u64).sum()
}

/// What is left to read for each group, in offsets.
pub(super) fn to_read(side: &Side) -> Vec<(&'static str, i64)> {
    let left = |group: &str| {
        let all = committed(side, group).into_iter();
        let left = all.filter_map(|(p, offset)| Some(side.broker.log(TOPIC, p).ok()?.high_watermark - offset));
        left.sum::<i64>()
    };
    let known = GROUPS.iter().filter(|(group, _)| !committed(side, group).is_empty());
    known.map(|(group, _)| (*group, left(group))).collect()
}

/// Consumers have read this far, each group its share. Nothing is committed where there is nothing to read.
pub(super) async fn read_some(side: &Side) -> anyhow::Result<u64> {
    let contents = side.contents()?;
    let place = |records: &[Record], percent: u64| {
        let read = usize::try_from(records.len() as u64 * percent / 100).unwrap_or_default();
        records.get(read).map(|record| record.offset)
    };
    commit(side, |_, percent, partition| contents.get(partition).and_then(|records| place(records, percent)), &contents)
        .await
}

/// Consumers read on from where they stand: half of what is left, the last group all.
pub(super) async fn read_on(side: &Side) -> anyhow::Result<u64> {
    let contents = side.contents()?;
    let last = GROUPS.last().map(|(group, _)| *group);
    let place = |group: &str, partition: usize| {
        let from = *committed(side, group).get(&number(partition))?;
        let records = contents.get(partition)?;
        let left = records.get(records.partition_point(|record| record.offset < from)..)?;
        let end = records.last().map_or(from, |record| record.offset + 1);
        if last == Some(group) { Some(end) } else { left.get(left.len() / 2).map(|record| record.offset) }
    };
    commit(side, |group, _, partition| place(group, partition), &contents).await
}

/// Commits for every group and partition for which there is an offset; says how many.
async fn commit(
    side: &Side,
    offset: impl Fn(&str, u64, usize) -> Option<i64>,
    contents: &[Vec<Record>],
) -> anyhow::Result<u64> {
    let of_group = |(group, percent): &(&str, u64)| {
        let all = (0..contents.len()).filter_map(|p| Some((p, offset(group, *percent, p)?)));
        let committed = |offset| Committed { offset, leader_epoch: -1, metadata: String::new() };
        let offsets: GroupOffsets = all.map(|(p, at)| ((TOPIC.to_owned(), number(p)), committed(at))).collect();
        ((*group).to_owned(), offsets)
    };
    let offsets: BTreeMap<String, GroupOffsets> = GROUPS.iter().map(of_group).collect();
    let count = offsets.values().map(|offsets| offsets.len() as u64).sum();
    let client = side.client("consumers").await?;
    for (group, answers) in client.commit_group_offsets(offsets, PATIENCE).await {
        for ((topic, partition), answer) in answers.with_context(|| format!("group {group}"))? {
            answer.with_context(|| format!("group {group} committing in {topic}:{partition}"))?;
        }
    }
    Ok(count)
}

/// What each group has committed in the topic, by partition.
pub(super) type Kept = BTreeMap<&'static str, BTreeMap<i32, i64>>;

/// What all groups have committed now.
pub(super) fn kept(side: &Side) -> Kept {
    GROUPS.iter().map(|(group, _)| (*group, committed(side, group))).collect()
}

/// Records that are left to read for all groups together.
pub(super) fn left(kept: &Kept, contents: &[Vec<Record>]) -> u64 {
    let all = kept.values().flatten();
    let left = all.filter_map(|(partition, offset)| {
        let records = contents.get(usize::try_from(*partition).ok()?)?;
        Some(records.len() - records.partition_point(|record| record.offset < *offset))
    });
    left.map(|left| left as u64).sum()
}

/// Compares, byte for byte, the next record of every group and partition, among those that both sides are to have.
pub(super) fn compare(
    (from, here): (&Side, &[Vec<Record>]),
    there: (&Side, &[Vec<Record>]),
) -> anyhow::Result<Positions> {
    compare_kept((&kept(from), here), there)
}

/// The same with what groups had committed once.
pub(super) fn compare_kept(
    (from, here): (&Kept, &[Vec<Record>]),
    (to, there): (&Side, &[Vec<Record>]),
) -> anyhow::Result<Positions> {
    let mut positions = Positions::default();
    for (group, offsets) in from {
        let written = committed(to, group);
        for (&partition, &offset) in offsets {
            let place = usize::try_from(partition).unwrap_or(usize::MAX);
            let (Some(here), Some(there)) = (here.get(place), there.get(place)) else {
                bail!("group {group} has an offset in {TOPIC}:{partition}, which is not there");
            };
            let is_same = written.get(&partition).is_some_and(|to| same(next(here, offset), next(there, *to)));
            if is_same { positions.same += 1 } else { positions.different += 1 }
        }
    }
    Ok(positions)
}

/// The first record at or behind an offset.
fn next(records: &[Record], offset: i64) -> Option<&Record> {
    records.get(records.partition_point(|record| record.offset < offset))
}

fn same(a: Option<&Record>, b: Option<&Record>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => is_same_record(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Whether somebody who reads both sees no difference, the offset aside.
pub(super) fn is_same_record(a: &Record, b: &Record) -> bool {
    (&a.key, &a.value, &a.headers, a.timestamp) == (&b.key, &b.value, &b.headers, b.timestamp)
}
