//! Attaching partitions to an owned shard: the second half of the take-over.
//!
//! Data markers → complete → settle → origin record → produce. A partition that was released by a clean stop, or that
//! is new and empty, goes on unmarked after an acknowledged resume record.

mod displaced;
mod fresh;
mod marked;
mod promote;
mod settled;

use crate::client::{ClientError, Cluster, ReadError, TopicPartition};
use crate::config::{MirrorConfig, Policy};
use crate::mirror::{
    Bounds, Divergence, Footing, Halt, HaltKind, PartitionState, Plan, StateRecord, TOPIC_AUTHORIZATION_FAILED,
    footing, plan,
};

use super::EngineError;
use super::shard::ShardLog;
use fresh::{Fresh, attach_fresh};
use marked::{Marked, attach_marked};

pub(crate) use displaced::{displaced, fence};
pub(crate) use promote::{Fenced, FencedPartition, fence_shard, written_behind};

/// A source partition and the target partition it is mirrored to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) source: TopicPartition,
    pub(crate) target: TopicPartition,
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
    if error.is_retriable() { Attached::Later(error.to_string()) } else { Attached::Halted(halt_of(error)) }
}

/// The halt of a partition about which a request failed for good.
pub(crate) fn halt_of(error: &ClientError) -> Halt {
    let kind = match error {
        ClientError::Api { code: TOPIC_AUTHORIZATION_FAILED, .. } => HaltKind::Unauthorised,
        _ => HaltKind::Unexpected,
    };
    Halt::new(kind, error.to_string())
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

impl<'a> AttachContext<'a> {
    fn there(self) -> There<'a> {
        There { config: self.config, target: self.target }
    }

    fn foreign_allowed(self, wanted: &Wanted) -> bool {
        self.there().foreign_allowed(wanted)
    }
}

/// The target alone, where the source may be gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct There<'a> {
    pub(crate) config: &'a MirrorConfig,
    pub(crate) target: &'a Cluster,
}

impl There<'_> {
    fn foreign_allowed(self, wanted: &Wanted) -> bool {
        self.config.on.foreign_records == Policy::Continue || wanted.freed == Some(HaltKind::ForeignRecords)
    }
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
        let footing = footing_of(shard, index)?;
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
        match (known.map(|(index, state)| (index, state, plan_of(state, &wanted, &at))), at) {
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

fn plan_of(state: &PartitionState, wanted: &Wanted, at: &Result<Bounds, ClientError>) -> Plan {
    // No log ends at −1: what cannot be reached is never plainly gone on with.
    let end = at.as_ref().map_or(-1, |at| at.end);
    plan(state, wanted.pair.target.topic_id, end, wanted.freed)
}

fn undeclared(index: u32) -> Halt {
    Halt::new(HaltKind::Unexpected, format!("index {index} is not declared"))
}

/// What the state says about a partition that may flow now.
fn footing_of(shard: &ShardLog, index: u32) -> Result<Footing, EngineError> {
    let unexpected = |detail: &str| EngineError::Unexpected {
        mirror: shard.mirror.clone(),
        detail: format!("shard {} partition index {index}: {detail}", shard.shard),
    };
    let state = shard.state.partitions.get(&index).ok_or_else(|| unexpected("not declared"))?;
    footing(state, index, shard.transactor.producer_id).map_err(unexpected)
}
