//! The offset map of one partition, found in its two logs.

use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Cluster, TopicPartition};
use crate::engine::EngineError;
use crate::mirror::{Aligner, Alignment, Isolation, Misaligned, Need};

use super::logs::{SourceLog, TargetLog};

/// How far the target logs were read, for a progress bar.
#[derive(Debug, Default)]
pub struct Walked {
    /// Target offsets there are to read.
    pub total: AtomicU64,
    /// Those read.
    pub done: AtomicU64,
}

/// A partition to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) source: TopicPartition,
    pub(super) target: TopicPartition,
    /// Start of the target log, and where its data is to be looked for.
    pub(super) range: (i64, i64),
}

/// Finds the map; or says why that cannot be.
pub(super) async fn find_map(
    source: &Cluster,
    target: &Cluster,
    isolation: Isolation,
    question: &Question,
    walked: &Walked,
) -> Result<Result<Alignment, Misaligned>, EngineError> {
    let committed = isolation == Isolation::ReadCommitted;
    let tps = std::slice::from_ref(&question.source);
    let of = |offsets: std::collections::HashMap<TopicPartition, i64>| offsets.get(&question.source).copied();
    let start = of(source.log_starts(tps).await?).unwrap_or(0);
    let end = of(source.log_ends(tps, committed).await?).unwrap_or(start);
    let sides = Sides { source, target, isolation, question, walked };
    let (from, common) = (sides.source_from(start).await?, sides.target_from().await?);
    let found = sides.walk((from, end), (common, question.range.1)).await?;
    // Timestamps that do not rise hide what both have in common: then all of it is compared.
    let whole = (from, common) == (start, question.range.0);
    match found {
        Err(Misaligned::NothingInCommon { .. } | Misaligned::Tail { .. } | Misaligned::Thin { .. }) if !whole => {
            sides.walk((start, end), question.range).await
        }
        found => Ok(found),
    }
}

struct Sides<'a> {
    source: &'a Cluster,
    target: &'a Cluster,
    isolation: Isolation,
    question: &'a Question,
    walked: &'a Walked,
}

impl Sides<'_> {
    /// Where the source may hold the first record of the target: the same record bears the same timestamp.
    async fn source_from(&self, start: i64) -> Result<i64, EngineError> {
        from(self.target, &self.question.target, self.source, &self.question.source).await.map(|at| at.max(start))
    }

    /// The other way around: what the source has let go of since need not be read.
    async fn target_from(&self) -> Result<i64, EngineError> {
        let start = self.question.range.0;
        from(self.source, &self.question.source, self.target, &self.question.target).await.map(|at| at.max(start))
    }

    async fn walk(&self, source: (i64, i64), target: (i64, i64)) -> Result<Result<Alignment, Misaligned>, EngineError> {
        let keys = RandomState::new();
        let mut theirs = SourceLog::new(self.source, &self.question.source, self.isolation, source, keys.clone());
        let mut ours = TargetLog::new(self.target, &self.question.target, target, keys);
        let mut aligner = Aligner::default();
        loop {
            let need = match aligner.advance() {
                Ok(need) => need,
                Err(misaligned) => return Ok(Err(misaligned)),
            };
            match need {
                Need::Source => match theirs.next().await? {
                    Some(record) => aligner.push_source(record),
                    None => aligner.end_source(),
                },
                Need::Target => {
                    let before = ours.at();
                    match ours.next().await? {
                        Some(record) => aligner.push_target(record),
                        None => aligner.end_target(),
                    }
                    self.walked.done.fetch_add(ours.at().abs_diff(before), Ordering::Relaxed);
                }
                Need::Nothing => break,
            }
        }
        Ok(aligner.finish())
    }
}

/// The first offset of `there` whose record is not older than the first one of `here`.
async fn from(
    here: &Cluster,
    first: &TopicPartition,
    there: &Cluster,
    found: &TopicPartition,
) -> Result<i64, EngineError> {
    let first = here.first_timestamps(std::slice::from_ref(first)).await?.into_values().next().unwrap_or(-1);
    if first < 0 {
        return Ok(0);
    }
    let offsets = there.offsets_at(std::slice::from_ref(found), first, false).await?;
    Ok(offsets.into_values().next().unwrap_or(0))
}
