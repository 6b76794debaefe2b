//! Attaching partitions to an owned shard: the second half of the take-over.
//!
//! Data markers → complete → settle → origin record → produce. A partition that was released by a clean stop, or that
//! is new and empty, goes on unmarked after an acknowledged resume record.

mod displaced;
mod fresh;
mod marked;
mod settled;

use crate::client::{ClientError, Cluster, ReadError, TopicPartition, Verdict};
use crate::config::{MirrorConfig, Policy};
use crate::mirror::{AppendSegment, Halt, HaltKind, PartitionState, StateRecord, TOPIC_AUTHORIZATION_FAILED, Writer};

use super::EngineError;
use super::shard::ShardLog;
use fresh::{Fresh, attach_fresh};
use marked::{Marked, attach_marked};

pub(crate) use displaced::{displaced, fence};

/// A source partition and the target partition it is mirrored to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) source: TopicPartition,
    pub(crate) target: TopicPartition,
}

/// Everything a partition needs to flow.
#[derive(Debug, Clone)]
pub(crate) struct Footing {
    /// Index in the shard's state.
    pub(crate) index: u32,
    pub(crate) writer: Writer,
    /// Target offset of the next batch.
    pub(crate) end: i64,
    /// Source offset of the next record.
    pub(crate) position: i64,
    /// Source offset up to which there was nothing more to mirror, when that was last noted.
    pub(crate) scanned: i64,
    /// Source leader epoch of the record before it.
    pub(crate) last_epoch: Option<i32>,
    pub(crate) segment: AppendSegment,
}

/// A partition to attach, and what speaks for going on where it would halt otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) pair: Pair,
    /// The halt that a `resume` ended.
    pub(crate) freed: Option<HaltKind>,
    /// The source topic was made again under its name, and that was accepted: what stands on the target is of the one
    /// before.
    pub(crate) successor: bool,
    /// Where the source log was found truncated.
    pub(crate) divergence: Option<Divergence>,
    /// Source ranges that may be lost, by `resume --accept-loss`.
    pub(crate) accepted: Vec<(i64, i64)>,
}

impl Wanted {
    fn may_lose(&self, from: i64, to: i64) -> bool {
        self.accepted.iter().any(|(start, end)| *start <= from && to <= *end)
    }
}

/// A truncated source log, as its leader tells (KIP-595): the largest leader epoch not above ours that it knows, and the
/// end of that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Divergence {
    pub(crate) epoch: i32,
    pub(crate) end: i64,
}

/// What became of a partition.
#[derive(Debug, Clone)]
pub(crate) enum Attached {
    Flowing(Footing),
    Halted(Halt),
    /// Not now, and why: it has no leader, or does not answer. To be tried again, while the others go on.
    Later(String),
}

/// What a failed request about one partition means for it.
fn not_attached(error: &ClientError) -> Attached {
    match error {
        error if error.verdict() != Verdict::Fatal => Attached::Later(error.to_string()),
        ClientError::Api { code: TOPIC_AUTHORIZATION_FAILED, .. } => {
            Attached::Halted(Halt::new(HaltKind::Unauthorised, error.to_string()))
        }
        error => Attached::Halted(Halt::new(HaltKind::Unexpected, error.to_string())),
    }
}

/// What a failure to read one partition means for it; whatever else failed concerns its shard.
fn one_partition(error: EngineError) -> Result<Attached, EngineError> {
    match error {
        EngineError::Client(error) | EngineError::Read(ReadError::Client(error)) => Ok(not_attached(&error)),
        EngineError::NoMarker { .. } => Ok(Attached::Later(error.to_string())),
        // A log that cannot be read concerns nobody else.
        EngineError::Read(error) => Ok(Attached::Halted(Halt::new(HaltKind::EndUnreadable, error.to_string()))),
        error => Err(error),
    }
}

/// Both clusters and what the mirror wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttachContext<'a> {
    pub(crate) config: &'a MirrorConfig,
    pub(crate) source: &'a Cluster,
    pub(crate) target: &'a Cluster,
}

impl AttachContext<'_> {
    fn foreign_allowed(&self, wanted: &Wanted) -> bool {
        self.config.on.foreign_records == Policy::Continue || wanted.freed == Some(HaltKind::ForeignRecords)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    start: i64,
    end: i64,
}

/// Attaches the partitions, and every one comes back: flowing, halted, or to be tried again. `retake` is for those that
/// this shard has been writing to already: they get a new epoch and are settled whatever is on record; the other
/// partitions of the shard keep their epochs.
pub(crate) async fn attach(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: Vec<Wanted>,
    retake: bool,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let Sorted { fresh, marked, mut records, mut done, mut out } = sort(ctx, shard, wanted, retake).await;
    out.extend(attach_fresh(ctx, shard, fresh, &mut records, &mut done).await);
    if !shard.state.baseline {
        records.push(StateRecord::Baseline);
    }
    if !records.is_empty() {
        shard.append(records).await?;
    }
    if retake && !marked.is_empty() {
        shard.bump().await?;
    }
    out.extend(attach_marked(ctx, shard, marked, &mut done).await?);
    for (pair, index) in done {
        let footing = footing(shard, index)?;
        out.push((pair, Attached::Flowing(footing)));
    }
    Ok(out)
}

/// Partitions by the way that each must go.
#[derive(Default)]
struct Sorted {
    fresh: Vec<Fresh>,
    marked: Vec<Marked>,
    /// To be written for those that go on as they are, and those.
    records: Vec<StateRecord>,
    done: Vec<(Pair, u32)>,
    out: Vec<(Pair, Attached)>,
}

async fn sort(ctx: AttachContext<'_>, shard: &ShardLog, wanted: Vec<Wanted>, retake: bool) -> Sorted {
    let targets: Vec<TopicPartition> = wanted.iter().map(|w| w.pair.target.clone()).collect();
    let bounds = ctx.target.log_bounds_each(&targets).await;
    let mut sorted = Sorted::default();
    for wanted in wanted {
        let at = match bounds.get(&wanted.pair.target) {
            Some(Ok((start, end))) => Ok(Bounds { start: *start, end: *end }),
            Some(Err(error)) => Err(error.clone()),
            None => Err(ctx.target.api_error("ListOffsets", -1, &wanted.pair.target.to_string())),
        };
        let known = shard.state.find(wanted.pair.source.topic_id, wanted.pair.source.partition);
        match (known.map(|(index, state)| (index, state, plan(state, &wanted, &at))), at) {
            (None | Some((.., Plan::Anew)), at) => sorted.fresh.push(Fresh { wanted, declared: None, at }),
            (Some((index, state, Plan::Fresh)), at) => {
                sorted.fresh.push(Fresh { wanted, declared: Some((index, state.pending)), at });
            }
            (Some((.., Plan::Halt(halt))), _) => sorted.out.push((wanted.pair, Attached::Halted(halt))),
            (Some((index, _, Plan::Resume(epoch, end))), _) if !retake => {
                sorted.records.push(StateRecord::Resume { index, epoch, end });
                sorted.done.push((wanted.pair, index));
            }
            (Some((index, ..)), Ok(at)) => sorted.marked.push(Marked { wanted, index, at }),
            (Some(_), Err(error)) => sorted.out.push((wanted.pair, not_attached(&error))),
        }
    }
    sorted
}

enum Plan {
    /// Declared, and nothing more: a crash came between. Nothing was written yet.
    Fresh,
    /// Declared for a target topic that is no more: to be declared anew.
    Anew,
    /// Not to be attached.
    Halt(Halt),
    /// Clean: goes on in this epoch at this end.
    Resume(i16, i64),
    /// Anything else: mark and settle.
    Mark,
}

fn plan(state: &PartitionState, wanted: &Wanted, at: &Result<Bounds, ClientError>) -> Plan {
    let target = &wanted.pair.target;
    if state.declared.target_topic_id != target.topic_id {
        // A topic made anew that holds records already has halted for those after it was freed the first time.
        if wanted.freed.is_some_and(HaltKind::ends_with_a_new_target) {
            return Plan::Anew;
        }
        let was = state.declared.target_topic_id;
        return Plan::Halt(target_recreated(&target.topic, was, target.topic_id));
    }
    if state.map.is_empty() {
        return Plan::Fresh;
    }
    match (&state.release, &state.origin) {
        (Some(release), Some(origin)) if at.as_ref().is_ok_and(|at| release.end == at.end) => {
            Plan::Resume(origin.epoch, release.end)
        }
        _ => Plan::Mark,
    }
}

/// The halt over a target topic that bears another id than the one mirrored to.
pub(crate) fn target_recreated(topic: &str, was: uuid::Uuid, is: uuid::Uuid) -> Halt {
    let detail = format!("target topic {topic} was deleted and made again: id {was} is now {is}");
    Halt::new(HaltKind::TargetRecreated, detail)
}

/// What the state says about a partition that may flow now.
fn footing(shard: &ShardLog, index: u32) -> Result<Footing, EngineError> {
    let unexpected = |detail: &str| EngineError::Unexpected {
        mirror: shard.mirror.clone(),
        detail: format!("shard {} partition index {index}: {detail}", shard.shard),
    };
    let state = shard.state.partitions.get(&index).ok_or_else(|| unexpected("not declared"))?;
    let origin = state.origin.ok_or_else(|| unexpected("no origin"))?;
    let segment = state.map.last().ok_or_else(|| unexpected("empty offset map"))?;
    let end = state.end.ok_or_else(|| unexpected("no end"))?;
    Ok(Footing {
        index,
        writer: Writer {
            producer_id: shard.transactor.producer_id,
            producer_epoch: origin.epoch,
            origin: origin.start,
        },
        end,
        position: state.map.position(end),
        scanned: state.scanned,
        last_epoch: Some(state.map.leader_epoch_at(end)).filter(|epoch| *epoch >= 0),
        segment: AppendSegment::Open { run: (end - segment.target).unsigned_abs(), leader_epoch: segment.leader_epoch },
    })
}
