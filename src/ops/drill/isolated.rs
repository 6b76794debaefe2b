//! Copies of the groups under another name, consumed for real: committed, read back, read from, and taken away again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::{Cluster, GroupOffsets, GroupPartition, ReadError, ReadOptions, TopicPartition, Topics, read_log};
use crate::config::{MirrorConfig, STATE_TOPIC_PREFIX};
use crate::groups::{Committed, GroupPlan};
use crate::plan::{Check, Verdict, spread};

use super::translated;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a copy of a group is called: kmirror's own, so that no mirror takes it up.
fn copy_of(mirror: &str, group: &str) -> String {
    format!("{STATE_TOPIC_PREFIX}{mirror}.drill.{group}")
}

/// Consumes with copies, and says what went wrong.
pub(super) async fn check(mirror: &MirrorConfig, target: &Cluster, plans: &[GroupPlan<'_>], sample: usize) -> Check {
    let copies = copies(&mirror.name, plans, sample);
    let offsets: usize = copies.values().map(BTreeMap::len).sum();
    let mut findings = commit(target, &copies).await;
    if findings.is_empty() {
        findings.extend(read_back(target, &copies).await);
    }
    findings.extend(take_away(target, &copies).await);
    let verdict = if findings.is_empty() { Verdict::Pass } else { Verdict::Fail };
    let summary =
        format!("copies of {} groups were committed at {offsets} offsets, and read on from there", copies.len());
    Check::new("isolated", verdict, summary, findings)
}

fn copies(mirror: &str, plans: &[GroupPlan<'_>], sample: usize) -> BTreeMap<String, GroupOffsets> {
    let mut copies = BTreeMap::new();
    for plan in plans {
        let all: Vec<_> = translated(plan).collect();
        let offsets: GroupOffsets = spread(all.len(), sample)
            .into_iter()
            .filter_map(|nth| all.get(nth))
            .map(|position| {
                let committed = Committed { offset: position.offset, leader_epoch: -1, metadata: String::new() };
                ((position.target_topic.to_owned(), position.partition), committed)
            })
            .collect();
        if !offsets.is_empty() {
            copies.insert(copy_of(mirror, plan.group), offsets);
        }
    }
    copies
}

async fn commit(target: &Cluster, copies: &BTreeMap<String, GroupOffsets>) -> Vec<String> {
    let mut findings = Vec::new();
    for (group, answers) in target.commit_group_offsets(copies.clone(), PATIENCE).await {
        match answers {
            Err(error) => findings.push(format!("{group}: {error}")),
            Ok(answers) => findings.extend(answers.into_iter().filter_map(|((topic, partition), answer)| {
                answer.err().map(|error| format!("{group} {topic}:{partition}: {error}"))
            })),
        }
    }
    findings
}

/// As a consumer does that starts: asks for its offsets, and fetches from there.
async fn read_back(target: &Cluster, copies: &BTreeMap<String, GroupOffsets>) -> Vec<String> {
    let mut findings = Vec::new();
    let names: Vec<String> = copies.keys().cloned().collect();
    let mut fetched = target.fetch_group_offsets(&names, false, PATIENCE).await;
    for (group, offsets) in copies {
        let found = match fetched.remove(group) {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                findings.push(format!("{group}: {error}"));
                continue;
            }
            None => continue,
        };
        for ((topic, partition), wanted) in offsets {
            let at = format!("{group} {topic}:{partition}");
            let refused = found.failed.get(&(topic.clone(), *partition));
            match refused.map_or_else(|| Ok(found.offsets.get(topic, *partition)), Err) {
                Ok(Some(committed)) if committed.offset == wanted.offset => {
                    if let Err(why) = read_from(target, topic, *partition, wanted.offset).await {
                        findings.push(format!("{at} offset {}: {why}", wanted.offset));
                    }
                }
                Ok(Some(committed)) => {
                    findings.push(format!("{at}: committed {}, and {} came back", wanted.offset, committed.offset));
                }
                Err(error) => findings.push(format!("{at}: {error}")),
                Ok(None) => findings.push(format!("{at}: the committed offset did not come back")),
            }
        }
    }
    findings
}

async fn read_from(target: &Cluster, topic: &str, partition: i32, offset: i64) -> Result<(), String> {
    let metadata = target.refresh(Topics::Named(&[topic])).await.map_err(|error| error.to_string())?;
    let topic_id = metadata.topic(topic).map(|found| found.id).ok_or("the topic is not there")?;
    let tp = TopicPartition { topic: topic.to_owned(), topic_id, partition };
    let options = ReadOptions { max_bytes: 64 << 10, max_wait_ms: 0, committed: true, ..ReadOptions::default() };
    match read_log(target, &tp, offset, options).await {
        Ok(_) => Ok(()),
        Err(ReadError::OutOfRange { .. }) => Err("a consumer would be told that the offset is out of range".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn take_away(target: &Cluster, copies: &BTreeMap<String, GroupOffsets>) -> Vec<String> {
    let partitions: BTreeMap<String, BTreeSet<GroupPartition>> =
        copies.iter().map(|(group, offsets)| (group.clone(), offsets.keys().cloned().collect())).collect();
    let answers = target.delete_group_offsets(partitions, PATIENCE).await;
    let failed = answers.into_iter().filter_map(|(group, answer)| {
        let why = match answer {
            Err(error) => error.to_string(),
            Ok(answers) => answers.into_values().find_map(Result::err)?.to_string(),
        };
        Some(format!("{group} stays, until its offsets expire: {why}"))
    });
    failed.collect()
}
