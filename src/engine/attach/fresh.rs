//! New partitions: declared, with their absolute start written before anything else, so that `start: latest` means the
//! same offset after any crash.

use std::collections::HashMap;

use crate::client::{ClientError, LogPoint, ReadError, TopicPartition};
use crate::config::Start;
use crate::mirror::{Bounds, GapReason, Halt, HaltKind, Isolation, StateRecord, first_records};

use super::super::settle::last_data_below;
use super::super::shard::{ShardLog, declared};
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
    let traces = traces(ctx, shard, &fresh).await;
    let mut next_index = shard.state.next_index();
    for fresh in fresh {
        let index = fresh.declared.map_or(next_index, |(index, _)| index);
        let start = fresh.start(ctx, shard.state.baseline);
        let begin = begin_of(ctx, &fresh, &starts);
        let pair = fresh.wanted.pair.clone();
        match footing_of(ctx, &fresh, &begin, traces.get(&pair.target)) {
            Ok((begin, at)) => {
                let reason = if fresh.wanted.successor { GapReason::Recreated } else { GapReason::Start };
                let epoch = shard.transactor.producer_epoch;
                records.extend(first_records(
                    &declared(&pair.source, &pair.target),
                    index,
                    epoch,
                    at.end,
                    (begin, reason),
                ));
                done.push((pair, index));
            }
            Err(obstacle) => {
                if start != Start::Earliest && fresh.declared.is_none() {
                    records.extend([
                        declared(&pair.source, &pair.target).record(index),
                        StateRecord::Pending { index, begin: begin.ok() },
                    ]);
                }
                out.push((pair, obstacle));
            }
        }
        next_index = next_index.max(index + 1);
    }
    out
}

/// Where both sides begin, or what stands in the way.
fn footing_of(
    ctx: AttachContext<'_>,
    fresh: &Fresh,
    begin: &Result<i64, ClientError>,
    traces: Option<&Result<Traces, ClientError>>,
) -> Result<(i64, Bounds), Attached> {
    let begin = begin.clone().map_err(|error| not_attached(&error))?;
    let at = fresh.at.clone().map_err(|error| not_attached(&error))?;
    let halt = match traces {
        Some(Err(error)) => return Err(not_attached(error)),
        Some(Ok(Traces::Ours(halt))) => Some(halt.clone()),
        Some(Ok(Traces::None)) => None,
        Some(Ok(Traces::Others)) | None => foreign(ctx, &fresh.wanted, at),
    };
    halt.map_or(Ok((begin, at)), |halt| Err(Attached::Halted(halt)))
}

/// The source offset to begin at: what was noted at the mirror's first start, or what the source says now.
fn begin_of(
    ctx: AttachContext<'_>,
    fresh: &Fresh,
    starts: &HashMap<TopicPartition, Result<i64, ClientError>>,
) -> Result<i64, ClientError> {
    if let Some((_, Some(Some(noted)))) = fresh.declared {
        return Ok(noted);
    }
    let source = &fresh.wanted.pair.source;
    starts.get(source).cloned().unwrap_or_else(|| Err(ctx.source.api_error("ListOffsets", -1, &source.to_string())))
}

/// What a target that the shard has no record of bears.
#[derive(Debug, Clone)]
enum Traces {
    /// No data: it may hold markers.
    None,
    /// Somebody's data.
    Others,
    /// The shard's own: the state that said what they are is lost. Whatever policy says of foreign records, these would be
    /// copied a second time.
    Ours(Halt),
}

async fn traces(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    fresh: &[Fresh],
) -> HashMap<TopicPartition, Result<Traces, ClientError>> {
    let mut out = HashMap::new();
    for Fresh { wanted, at, .. } in fresh {
        let Ok(at) = at else { continue };
        let target = &wanted.pair.target;
        out.insert(target.clone(), traces_of(ctx, shard, wanted, *at).await);
    }
    out
}

/// By the last batch, and by what the leader remembers of who wrote. A topic that was made again under its name has a record,
/// if another one.
async fn traces_of(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    wanted: &Wanted,
    at: Bounds,
) -> Result<Traces, ClientError> {
    let target = &wanted.pair.target;
    if at.end == 0 {
        return Ok(Traces::None);
    }
    let last = match last_data_below(ctx.target, target, at.end, at.start, |_| true).await {
        Ok(last) => last,
        Err(ReadError::Client(error)) => return Err(error),
        // What cannot be read is somebody's, and halts as that.
        Err(_) => return Ok(Traces::Others),
    };
    let others = if last.is_some() { Traces::Others } else { Traces::None };
    if wanted.successor {
        return Ok(others);
    }
    let ours = |id: i64| shard.state.producer_ids.contains(&id);
    let is_last = last.is_some_and(|batch| ours(batch.header.producer_id));
    let is_remembered = match ctx.target.describe_producers(target).await {
        Ok(producers) => producers.iter().any(|p| ours(p.producer_id) && p.last_sequence >= 0),
        Err(error) if error.is_retriable() => return Err(error),
        // Older brokers, or a right that is missing: then it is not told.
        Err(_) => false,
    };
    if !is_last && !is_remembered {
        return Ok(others);
    }
    let what = format!(
        "target {target} ends at offset {} and was written by this mirror, but state topic {} has no record of it",
        at.end, shard.tp.topic
    );
    Ok(Traces::Ours(Halt::new(HaltKind::StateLost, what)))
}

/// A target that holds records which are not ours to append to.
fn foreign(ctx: AttachContext<'_>, wanted: &Wanted, at: Bounds) -> Option<Halt> {
    if at.end == at.start || wanted.successor || ctx.foreign_allowed(wanted) {
        return None;
    }
    let what = format!(
        "target {} holds data at offsets [{}, {}) that this mirror did not write, by all that it knows; mirror to an empty \
         topic, or set `on: {{ foreign_records: continue }}` to append behind it; if a lost state topic knew of it, `kmirror \
         state rebuild` can find it again",
        wanted.pair.target, at.start, at.end
    );
    Some(Halt::new(HaltKind::ForeignRecords, what))
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
