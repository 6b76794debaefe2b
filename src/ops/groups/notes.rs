//! What was written for groups that somebody has consumed with on the target, kept there: without it a restart could not tell
//! the mirror's own offsets from a reader's progress, and such groups would stand still for ever.
//!
//! For group `billing` it is the group `__kmirror.<mirror>/billing` (no mirror's name has a slash): each partition's offset is the
//! one about to be written, its metadata what stood there then. It is committed before, as in a write-ahead log: whichever
//! of the two is found later is ours. It is written as often as the group is, and expires as it does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{ClientError, Cluster, GroupOffsets, GroupPartition};
use crate::groups::Committed;
use crate::mirror::state_topic;

/// A group's offsets, and what stands in their places.
pub(super) type ToNote<'a> = (&'a str, &'a GroupOffsets, Option<&'a BTreeMap<GroupPartition, i64>>);

/// What was noted for one partition of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) stood: Option<i64>,
    pub(super) sent: i64,
}

fn name(mirror: &str, group: &str) -> String {
    format!("{}/{group}", state_topic(mirror))
}

/// Notes what is about to be written; groups for which that failed, and why.
pub(super) async fn write(
    mirror: &str,
    target: &Cluster,
    groups: Vec<ToNote<'_>>,
    patience: Duration,
) -> BTreeMap<String, ClientError> {
    let note = |at: &GroupPartition, sent: &Committed, found: Option<&BTreeMap<GroupPartition, i64>>| {
        let metadata = found.and_then(|found| found.get(at)).map(ToString::to_string).unwrap_or_default();
        (at.clone(), Committed { offset: sent.offset, leader_epoch: -1, metadata })
    };
    let notes = groups.iter().map(|(group, offsets, found)| {
        let offsets = offsets.iter().map(|(at, sent)| note(at, sent, *found)).collect();
        (name(mirror, group), offsets)
    });
    let mut answers = target.commit_group_offsets(notes.collect(), patience).await;
    let mut failed = BTreeMap::new();
    for (group, ..) in groups {
        let answer = answers.remove(&name(mirror, group)).unwrap_or_else(|| Ok(BTreeMap::new()));
        if let Err(error) = answer.and_then(|each| each.into_values().collect::<Result<(), _>>()) {
            failed.insert(group.to_owned(), error);
        }
    }
    failed
}

/// What was noted for these groups. What cannot be read is not known: the group is left alone for that long.
pub(super) async fn read(mirror: &str, target: &Cluster, groups: &[String], patience: Duration) -> Vec<Note> {
    let mut notes = Vec::new();
    let names: Vec<String> = groups.iter().map(|group| name(mirror, group)).collect();
    let mut fetched = target.fetch_group_offsets(&names, false, patience).await;
    for (group, name) in groups.iter().zip(&names) {
        let Some(Ok(answers)) = fetched.remove(name) else { continue };
        for ((topic, partition), committed) in answers {
            let Ok(committed) = committed else { continue };
            let stood = committed.metadata.parse().ok();
            notes.push(Note { group: group.clone(), topic, partition, stood, sent: committed.offset });
        }
    }
    notes
}
