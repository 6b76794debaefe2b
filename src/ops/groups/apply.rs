//! Writing: what a plan asks for, and the way back. Each group goes through its coordinator, and its failure is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::client::{ClientError, Cluster, EachGroup, GroupOffsets, GroupPartition, OffsetAnswers};
use crate::engine::now_ms;
use crate::groups::{Committed, GroupPlan, GroupRollback, Ledger, RollbackDecision, Step, TargetGroup};
use crate::groups::{Snapshot, rollback as way_back};

use super::notes;

/// What plans ask for: offsets by group, and what stood there when the plans were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commits {
    offsets: BTreeMap<String, GroupOffsets>,
    found: BTreeMap<String, BTreeMap<GroupPartition, i64>>,
    /// Groups that somebody has consumed with on the target: what is written for them is noted there first.
    used: BTreeSet<String>,
}

impl Commits {
    /// What these plans ask for.
    pub fn of(plans: &[GroupPlan<'_>], targets: &BTreeMap<String, TargetGroup>) -> Self {
        let mut commits = Self::default();
        plans.iter().for_each(|plan| commits.add(plan, targets.get(plan.group)));
        commits
    }

    /// Adds a group; `target` is what the plan was made for.
    pub fn add(&mut self, plan: &GroupPlan<'_>, target: Option<&TargetGroup>) {
        for commit in plan.commits() {
            let at = (commit.topic.to_owned(), commit.partition);
            if let Some(found) = commit.found {
                self.found.entry(plan.group.to_owned()).or_default().insert(at.clone(), found);
            }
            let offset = Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.to_owned(),
            };
            self.offsets.entry(plan.group.to_owned()).or_default().insert(at, offset);
        }
        if target.is_some_and(|target| target.ever_joined) && self.offsets.contains_key(plan.group) {
            self.used.insert(plan.group.to_owned());
        }
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.offsets.keys().map(String::as_str)
    }

    /// What is written for a group.
    pub fn offsets(&self, group: &str) -> Option<&GroupOffsets> {
        self.offsets.get(group)
    }

    /// Cuts off so many groups, to be written together.
    pub fn split(&mut self, groups: usize) -> Self {
        let Some(from) = self.offsets.keys().nth(groups).cloned() else { return std::mem::take(self) };
        let (offsets, found) = (self.offsets.split_off(&from), self.found.split_off(&from));
        let used = self.used.split_off(&from);
        std::mem::replace(self, Self { offsets, found, used })
    }
}

/// Why something of a group was not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The group.
    pub group: String,
    /// It has come to life meanwhile: it is left alone.
    pub live: bool,
    /// The coordinator's words, or why it did not answer.
    pub error: String,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Groups of which everything was written.
    pub groups: u64,
    /// Offsets that were written.
    pub offsets: u64,
    /// Groups of which something was not, each with its first error.
    pub refused: Vec<Refused>,
}

impl Applied {
    /// Adds what became of another portion.
    pub fn add(&mut self, other: Self) {
        self.groups += other.groups;
        self.offsets += other.offsets;
        self.refused.extend(other.refused);
    }
}

/// Writes, for a mirror. What is sent is noted in the ledger before, and what was taken after; where somebody has consumed with
/// a group on the target, also there, so that a later run tells it from a reader's progress.
pub async fn apply(
    mirror: &str,
    target: &Cluster,
    commits: Commits,
    ledger: &mut Ledger,
    patience: Duration,
) -> Applied {
    let Commits { mut offsets, found, used } = commits;
    let noted = offsets.iter().filter(|(group, _)| used.contains(*group));
    let noted = noted.map(|(group, offsets)| (group.as_str(), offsets, found.get(group))).collect();
    let not_noted = notes::write(mirror, target, noted, patience).await;
    offsets.retain(|group, _| !not_noted.contains_key(group));
    for (group, partitions) in &offsets {
        for ((topic, partition), committed) in partitions {
            let found = found.get(group).and_then(|all| all.get(&(topic.clone(), *partition))).copied();
            ledger.sending(group, topic, *partition, found, committed.offset);
        }
    }
    let answers = target.commit_group_offsets(offsets, patience).await;
    let at_ms = now_ms();
    let mut applied = collect(answers, |group, (topic, partition)| ledger.taken(group, topic, *partition, at_ms));
    let not_noted =
        not_noted.into_iter().map(|(group, error)| Refused { group, live: false, error: error.to_string() });
    applied.refused.extend(not_noted);
    applied
}

fn collect(answers: EachGroup<OffsetAnswers<()>>, mut taken: impl FnMut(&str, &GroupPartition)) -> Applied {
    let mut applied = Applied::default();
    for (group, answers) in answers {
        let mut first: Option<ClientError> = None;
        match answers {
            Ok(answers) => {
                for (at, answer) in answers {
                    match answer {
                        Ok(()) => {
                            applied.offsets += 1;
                            taken(&group, &at);
                        }
                        Err(error) => drop(first.get_or_insert(error)),
                    }
                }
            }
            Err(error) => first = Some(error),
        }
        match first {
            None => applied.groups += 1,
            Some(error) => {
                applied.refused.push(Refused { group, live: error.is_of_live_group(), error: error.to_string() });
            }
        }
    }
    applied
}

/// What became of a way back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// Former offsets that were committed.
    pub committed: Applied,
    /// Offsets that were taken away, for there had been none.
    pub deleted: Applied,
}

/// Goes the way back.
pub async fn rollback(target: &Cluster, steps: &[GroupRollback<'_>], patience: Duration) -> RolledBack {
    let mut commits: BTreeMap<String, GroupOffsets> = BTreeMap::new();
    let mut deletes: BTreeMap<String, BTreeSet<GroupPartition>> = BTreeMap::new();
    for step in steps {
        let RollbackDecision::Planned { lines } = &step.decision else { continue };
        for line in lines {
            let at = (line.topic.to_owned(), line.partition);
            match line.step {
                Step::Commit { to } => drop(commits.entry(step.group.to_owned()).or_default().insert(at, to.clone())),
                Step::Delete => drop(deletes.entry(step.group.to_owned()).or_default().insert(at)),
                Step::Unchanged | Step::LeftAlone => {}
            }
        }
    }
    RolledBack {
        committed: collect(target.commit_group_offsets(commits, patience).await, |_, _| {}),
        deleted: collect(target.delete_group_offsets(deletes, patience).await, |_, _| {}),
    }
}

/// The steps of the way back, as the target's groups are now.
pub fn rollback_plan<'a>(
    snapshot: &'a Snapshot,
    targets: &BTreeMap<String, TargetGroup>,
    force: bool,
) -> Vec<GroupRollback<'a>> {
    way_back(snapshot, targets, force).collect()
}
