//! `kmirror translate`: a source offset to its target offset and back, exactly, or with the reason why not.

use schemars::JsonSchema;
use serde::Serialize;

use crate::batch::BatchHeader;
use crate::client::{Cluster, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::settle::last_data_below;
use crate::mirror::PartitionState;

use super::MirrorState;
use crate::engine::shard::target_of;

/// Which offset to translate. Topic and offset are those of the side that the offset belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslateQuestion {
    /// Topic name: the source's, or the target's where `reverse` is set.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// From target to source.
    pub reverse: bool,
}

/// The answer, as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TranslateAnswer {
    /// Topic on the other side.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Offset on the other side.
    pub offset: i64,
    /// Whether it is the very same record (or the very end of what is mirrored).
    pub exact: bool,
    /// Why not: the gap's reason, or `not_mirrored_yet`.
    pub reason: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// No such mirror on the target, or it does not hold this partition.
    #[error("mirror {mirror} has no record of {topic}:{partition}; it was never mirrored, or goes by another name")]
    Unknown {
        /// Mirror name.
        mirror: String,
        /// Topic asked for.
        topic: String,
        /// Partition asked for.
        partition: i32,
    },
    /// The record of it may stand where the state topic is damaged.
    #[error("mirror {mirror} has no record of {topic}:{partition}, but parts of its state cannot be read: {damage}")]
    Damaged {
        /// Mirror name.
        mirror: String,
        /// Topic asked for.
        topic: String,
        /// Partition asked for.
        partition: i32,
        /// What is wrong with the state.
        damage: crate::mirror::Halt,
    },
    /// The clusters could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Translates one offset. Needs the target only.
pub async fn translate(
    config: &MirrorConfig,
    target: &Cluster,
    question: &TranslateQuestion,
) -> Result<TranslateAnswer, TranslateError> {
    let (mirror, topic, partition) = (config.name.clone(), question.topic.clone(), question.partition);
    let unknown = |state: &MirrorState| match state.damaged.values().next().cloned() {
        Some(damage) => TranslateError::Damaged { mirror: mirror.clone(), topic: topic.clone(), partition, damage },
        None => TranslateError::Unknown { mirror: mirror.clone(), topic: topic.clone(), partition },
    };
    let state = MirrorState::read(&config.name, target).await?.unwrap_or_default();
    let names: Vec<&str> = asked_for(&state, question).map(|p| p.declared.target_topic.as_str()).collect();
    target.refresh(Topics::Named(&names)).await.map_err(EngineError::from)?;
    let asked = find(target, &state, question).ok_or_else(|| unknown(&state))?;
    let end = match state.promoted_end(asked) {
        Some(end) => end,
        None => settled_end(target, asked).await?,
    };
    // Anew, after the end: what lies below it has its breaks in the state by now (they are written ahead).
    let state = MirrorState::read(&config.name, target).await?.unwrap_or_default();
    let found = find(target, &state, question).ok_or_else(|| unknown(&state))?;
    let (translated, topic) = if question.reverse {
        (found.map.to_source(question.offset, end), &found.declared.source_topic)
    } else {
        (found.map.to_target(question.offset, end), &found.declared.target_topic)
    };
    let reason = if translated.beyond_end {
        Some("not_mirrored_yet".to_owned())
    } else {
        translated.reason.map(|r| r.to_string())
    };
    Ok(TranslateAnswer {
        topic: topic.clone(),
        partition: question.partition,
        offset: translated.offset,
        exact: translated.exact,
        reason,
    })
}

/// The partition asked about. Where a topic was made again under its name, the newest: on the target topic that there is
/// now, and furthest up in it.
fn find<'a>(target: &Cluster, state: &'a MirrorState, question: &TranslateQuestion) -> Option<&'a PartitionState> {
    let metadata = target.metadata();
    let age = |p: &&PartitionState| {
        let is_there = metadata.topic(&p.declared.target_topic).is_some_and(|t| t.id == p.declared.target_topic_id);
        (is_there, p.map.segments().first().map_or(-1, |first| first.target))
    };
    asked_for(state, question).max_by_key(age)
}

fn asked_for<'a>(state: &'a MirrorState, question: &TranslateQuestion) -> impl Iterator<Item = &'a PartitionState> {
    state.partitions().filter(|p| {
        let topic = if question.reverse { &p.declared.target_topic } else { &p.declared.source_topic };
        *topic == question.topic && p.declared.partition == question.partition
    })
}

/// The end of what is mirrored, read off the target's log: nothing else knows it while a mirror runs.
pub(crate) async fn settled_end(target: &Cluster, state: &PartitionState) -> Result<i64, EngineError> {
    target.refresh(Topics::Named(&[state.declared.target_topic.as_str()])).await?;
    let end = target.log_end(&target_of(state)).await?;
    settled_end_below(target, state, end).await
}

/// The same, not looking beyond `end`.
pub(crate) async fn settled_end_below(target: &Cluster, state: &PartitionState, end: i64) -> Result<i64, EngineError> {
    settled_end_of(target, state, end, |_| true).await
}

/// The same, of what counts.
pub(crate) async fn settled_end_of(
    target: &Cluster,
    state: &PartitionState,
    end: i64,
    counts: impl Fn(&BatchHeader) -> bool,
) -> Result<i64, EngineError> {
    let tp = target_of(state);
    let start = target.log_start(&tp).await?;
    let known = state.end.unwrap_or(0);
    let floor = start.max(known.min(end));
    // What lies above the last end on record is ours; markers of a start that did not get further are not data.
    Ok(match last_data_below(target, &tp, end, floor, counts).await? {
        Some(batch) => batch.header.next_offset().max(known.min(end)),
        None => known.min(end),
    })
}
