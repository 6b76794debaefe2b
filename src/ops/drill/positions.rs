//! Whether the record at a translated offset is the record at the committed one.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::client::{Cluster, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::shard::target_of;
use crate::groups::GroupPlan;
use crate::mirror::PartitionState;
use crate::plan::{Check, Verdict, Witness, spread, witness};

use super::super::MirrorState;
use super::super::records::{is_same, record_at};
use super::super::translate::settled_end;
use super::{Position, Tally, translated};

/// Records read side by side.
const AT_ONCE: usize = 16;

/// What the comparison has shown.
#[derive(Debug, Default)]
pub(super) struct Positions {
    tally: Tally,
    compared: usize,
    differ: Vec<String>,
    /// Not to be compared: retention or compaction has taken one of the two, or nothing was read yet.
    unknown: Vec<String>,
}

impl Positions {
    pub(super) fn of_group(&self, group: &str) -> (usize, usize) {
        self.tally.get(group).copied().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Check {
        let verdict = match (self.differ.is_empty(), self.compared > 0 || self.unknown.is_empty()) {
            (false, _) => Verdict::Fail,
            (true, true) => Verdict::Pass,
            (true, false) => Verdict::Warn,
        };
        let summary = format!(
            "of {} committed offsets whose records were compared on both sides, {} lead to another record; {} could not be \
             compared",
            self.compared,
            self.differ.len(),
            self.unknown.len()
        );
        Check::new("positions", verdict, summary, [self.differ.as_slice(), self.unknown.as_slice()].concat())
    }
}

/// A comparison to make.
#[derive(Debug, Clone)]
struct Question {
    group: String,
    what: String,
    source: TopicPartition,
    target: TopicPartition,
    witness: Witness,
}

#[derive(Debug)]
enum Answer {
    Same,
    Differs,
    Gone,
}

/// Compares a sample of every group's offsets.
pub(super) async fn positions(
    mirror: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    plans: &[GroupPlan<'_>],
    sample: usize,
) -> Result<Positions, EngineError> {
    let mut found = Positions::default();
    let questions = questions(mirror, source, target, plans, sample, &mut found).await?;
    let mut questions = questions.into_iter();
    let mut reads = JoinSet::new();
    loop {
        while reads.len() < AT_ONCE {
            let Some(question) = questions.next() else { break };
            let (source, target) = (source.clone(), target.clone());
            reads.spawn(async move {
                let answer = compare(&source, &target, &question).await;
                (question, answer)
            });
        }
        let Some(done) = reads.join_next().await else { return Ok(found) };
        let (question, answer) = done.map_err(|error| EngineError::Unexpected {
            mirror: mirror.name.clone(),
            detail: format!("comparing records: {error}"),
        })?;
        let tally = found.tally.entry(question.group).or_default();
        match answer {
            Ok(Answer::Same) => {
                found.compared += 1;
                (tally.0, tally.1) = (tally.0 + 1, tally.1 + 1);
            }
            Ok(Answer::Differs) => {
                found.compared += 1;
                tally.0 += 1;
                found.differ.push(format!("{}: the records differ", question.what));
            }
            Ok(Answer::Gone) => found.unknown.push(format!("{}: one of the records is gone", question.what)),
            Err(error) => found.unknown.push(format!("{}: {error}", question.what)),
        }
    }
}

async fn compare(source: &Cluster, target: &Cluster, question: &Question) -> Result<Answer, EngineError> {
    let theirs = record_at(source, &question.source, question.witness.source).await?;
    let ours = record_at(target, &question.target, question.witness.target).await?;
    Ok(match (theirs, ours) {
        (Some(theirs), Some(ours)) if is_same(&theirs, &ours) => Answer::Same,
        (Some(_), Some(_)) => Answer::Differs,
        _ => Answer::Gone,
    })
}

async fn questions(
    mirror: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    plans: &[GroupPlan<'_>],
    sample: usize,
    found: &mut Positions,
) -> Result<Vec<Question>, EngineError> {
    // The maps of now, which know every offset that was planned by those of a moment ago.
    let state = MirrorState::read(&mirror.name, target).await?.unwrap_or_default();
    let mut known: BTreeMap<(&str, i32), &PartitionState> = BTreeMap::new();
    for partition in state.partitions().filter(|partition| !partition.map.is_empty()) {
        known.insert((partition.declared.source_topic.as_str(), partition.declared.partition), partition);
    }
    let topics: Vec<&str> = known.keys().map(|(topic, _)| *topic).collect();
    if !topics.is_empty() {
        source.refresh(Topics::Named(&topics)).await?;
    }
    let mut ends: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    let mut out = Vec::new();
    for plan in plans {
        let all: Vec<Position<'_>> = translated(plan).collect();
        for nth in spread(all.len(), sample) {
            let Some(position) = all.get(nth) else { continue };
            let key = (position.topic, position.partition);
            let what = format!(
                "{} {}:{} offset {} → {}:{} offset {}",
                plan.group,
                position.topic,
                position.partition,
                position.committed,
                position.target_topic,
                position.partition,
                position.offset
            );
            let Some(partition) = known.get(&key) else {
                found.unknown.push(format!("{what}: the mirror has no record of this partition"));
                continue;
            };
            let end = match ends.get(&key) {
                Some(end) => *end,
                None => {
                    let end = settled_end(target, partition).await?;
                    ends.insert(key, end);
                    end
                }
            };
            match witness(&partition.map, end, position.offset) {
                Some(witness) => out.push(question(plan.group, what, partition, witness)),
                None => found.unknown.push(format!("{what}: nothing is mirrored in front of it yet")),
            }
        }
    }
    Ok(out)
}

fn question(group: &str, what: String, partition: &PartitionState, witness: Witness) -> Question {
    let declared = &partition.declared;
    let source = TopicPartition {
        topic: declared.source_topic.clone(),
        topic_id: declared.source_topic_id,
        partition: declared.partition,
    };
    Question { group: group.to_owned(), what, source, target: target_of(partition), witness }
}
