//! New partitions: declared, with their absolute start written before anything else, so that `start: latest` means the
//! same offset after any crash.

use std::collections::HashMap;

use crate::client::{ClientError, LogPoint, TopicPartition};
use crate::config::Start;
use crate::mirror::{Bounds, Declared, GapReason, Halt, HaltKind, Isolation, StateRecord, first_records};

use super::super::shard::ShardLog;
use super::{AttachContext, Attached, Pair, Wanted, not_attached};

/// A partition to begin with.
pub(super) struct Fresh {
    pub(super) wanted: Wanted,
    /// Its index, where a crash or an obstacle came between its declaration and its start, and what is pending then.
    pub(super) declared: Option<(u32, Option<Option<i64>>)>,
    /// The target's log.
    pub(super) at: Result<Bounds, ClientError>,
}

impl Fresh {
    /// What of the source it begins with. `start:` is for what existed at the mirror's first start; what appears later
    /// starts at the beginning, and so does what is made anew.
    fn start(&self, ctx: AttachContext<'_>, baseline: bool) -> Start {
        let pending = self.declared.is_some_and(|(_, pending)| pending.is_some());
        let later = baseline || self.wanted.freed.is_some() || self.wanted.successor;
        if later && !pending { Start::Earliest } else { ctx.config.start }
    }
}

/// Declares what can begin, and notes where what cannot was to begin.
pub(super) async fn attach_fresh(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    fresh: Vec<Fresh>,
    records: &mut Vec<StateRecord>,
    done: &mut Vec<(Pair, u32)>,
) -> Vec<(Pair, Attached)> {
    let mut out = Vec::new();
    let starts = start_offsets(ctx, shard.state.baseline, &fresh).await;
    let mut next_index = shard.state.next_index();
    for fresh in fresh {
        let index = fresh.declared.map_or(next_index, |(index, _)| index);
        let start = fresh.start(ctx, shard.state.baseline);
        let begin = begin_of(&fresh, &starts);
        let obstacle = match (&begin, &fresh.at) {
            (Err(error), _) | (_, Err(error)) => Some(not_attached(error)),
            (Ok(_), Ok(at)) => foreign(ctx, &fresh.wanted, *at).map(Attached::Halted),
        };
        let pair = fresh.wanted.pair.clone();
        match (obstacle, begin, fresh.at) {
            (None, Ok(begin), Ok(at)) => {
                let reason = if fresh.wanted.successor { GapReason::Recreated } else { GapReason::Start };
                let epoch = shard.transactor.producer_epoch;
                records.extend(first_records(&declared(&pair), index, epoch, at.end, (begin, reason)));
                done.push((pair, index));
            }
            (obstacle, begin, _) => {
                if start != Start::Earliest && fresh.declared.is_none() {
                    records.extend([declared(&pair).record(index), StateRecord::Pending { index, begin: begin.ok() }]);
                }
                let nowhere = || Attached::Later("its start is not known".to_owned());
                out.push((pair, obstacle.unwrap_or_else(nowhere)));
            }
        }
        next_index = next_index.max(index + 1);
    }
    out
}

/// The source offset to begin at: what was noted at the mirror's first start, or what the source says now.
fn begin_of(fresh: &Fresh, starts: &HashMap<TopicPartition, Result<i64, ClientError>>) -> Result<i64, ClientError> {
    if let Some((_, Some(Some(noted)))) = fresh.declared {
        return Ok(noted);
    }
    starts.get(&fresh.wanted.pair.source).cloned().unwrap_or(Ok(0))
}

/// A target that holds records which are not ours to append to.
fn foreign(ctx: AttachContext<'_>, wanted: &Wanted, at: Bounds) -> Option<Halt> {
    if at.end == at.start || wanted.successor || ctx.foreign_allowed(wanted) {
        return None;
    }
    let what = format!(
        "target {} holds data at offsets [{}, {}) that this mirror did not write; mirror to an empty topic, or set \
         `on: {{ foreign_records: continue }}` to append behind it",
        wanted.pair.target, at.start, at.end
    );
    Some(Halt::new(HaltKind::ForeignRecords, what))
}

fn declared(pair: &Pair) -> Declared {
    Declared {
        source_topic: pair.source.topic.clone(),
        source_topic_id: pair.source.topic_id,
        partition: pair.source.partition,
        target_topic: pair.target.topic.clone(),
        target_topic_id: pair.target.topic_id,
    }
}

/// Where each begins on the source, or why that cannot be had.
async fn start_offsets(
    ctx: AttachContext<'_>,
    baseline: bool,
    fresh: &[Fresh],
) -> HashMap<TopicPartition, Result<i64, ClientError>> {
    let committed = ctx.config.isolation == Isolation::ReadCommitted;
    let configured = match ctx.config.start {
        Start::Earliest => LogPoint::Start,
        Start::Latest => LogPoint::End { committed },
        Start::Timestamp(at_ms) => LogPoint::Time { at_ms, committed },
    };
    let (earliest, other): (Vec<&Fresh>, Vec<&Fresh>) =
        fresh.iter().partition(|f| f.start(ctx, baseline) == Start::Earliest);
    let mut starts = HashMap::new();
    for (some, point) in [(earliest, LogPoint::Start), (other, configured)] {
        let sources: Vec<TopicPartition> = some.iter().map(|f| f.wanted.pair.source.clone()).collect();
        if !sources.is_empty() {
            starts.extend(ctx.source.offsets_each(&sources, point).await);
        }
    }
    starts
}
