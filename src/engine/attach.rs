//! Attaching partitions to an owned shard: the second half of the take-over.
//!
//! Data markers → complete → settle → origin record → produce. A partition that was released by a clean stop, or that
//! is new and empty, goes on unmarked after an acknowledged resume record.

use std::collections::HashMap;

use crate::batch::{BatchHeader, RawBatch};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, read_log};
use crate::config::{MirrorConfig, Policy, Start};
use crate::mirror::{
    AppendSegment, Break, Displacement, GapReason, Halt, HaltKind, Isolation, PartitionState, StateRecord, Writer,
};

use super::EngineError;
use super::markers::{Marker, await_marker, write_markers};
use super::settle::{LastRecord, compare_last, end_by_sequence, last_data_below};
use super::shard::ShardLog;

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
}

/// A truncated source log, as its leader tells (KIP-595): the largest leader epoch not above ours that it knows, and the
/// end of that epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Divergence {
    pub(crate) epoch: i32,
    pub(crate) end: i64,
    /// Source ranges that may be left behind, by `resume --accept-loss`.
    pub(crate) accepted: Vec<(i64, i64)>,
}

/// What became of a partition.
#[derive(Debug, Clone)]
pub(crate) enum Attached {
    Flowing(Footing),
    Halted(Halt),
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

/// Attaches the partitions, and every one comes back, flowing or halted. `retake` is for those that this shard has been
/// writing to already: they get a new epoch and are settled whatever is on record; the other partitions of the shard keep
/// their epochs.
pub(crate) async fn attach(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: Vec<Wanted>,
    retake: bool,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let targets: Vec<TopicPartition> = wanted.iter().map(|w| w.pair.target.clone()).collect();
    let bounds = ctx.target.log_bounds(&targets).await?;
    let mut done = Vec::with_capacity(wanted.len());
    let mut out = Vec::new();
    let mut fresh = Vec::new();
    let mut marked = Vec::new();
    let mut records = Vec::new();
    for wanted in wanted {
        let (start, end) = bounds[&wanted.pair.target];
        let at = Bounds { start, end };
        let known = shard.state.find(wanted.pair.source.topic_id, wanted.pair.source.partition);
        match known.map(|(index, state)| (index, plan(shard, state, &wanted, at))) {
            None | Some((_, Plan::Anew)) => fresh.push((wanted, None, at)),
            Some((index, Plan::Fresh)) => fresh.push((wanted, Some(index), at)),
            Some((_, Plan::Halt(halt))) => out.push((wanted.pair, Attached::Halted(halt))),
            Some((index, Plan::Resume(writer_epoch, end))) if !retake => {
                records.push(StateRecord::Resume { index, epoch: writer_epoch, end });
                done.push((wanted.pair, index));
            }
            Some((index, Plan::Resume(..) | Plan::Mark)) => marked.push((wanted, index, at)),
        }
    }
    out.extend(attach_fresh(ctx, shard, fresh, &mut records, &mut done).await?);
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

fn plan(shard: &ShardLog, state: &PartitionState, wanted: &Wanted, at: Bounds) -> Plan {
    let target = &wanted.pair.target;
    if state.declared.target_topic_id != target.topic_id {
        // A topic made anew that holds records already has halted for those after it was freed the first time.
        if matches!(wanted.freed, Some(HaltKind::TargetRecreated | HaltKind::ForeignRecords)) {
            return Plan::Anew;
        }
        let was = state.declared.target_topic_id;
        return Plan::Halt(target_recreated(&target.topic, was, target.topic_id));
    }
    if state.map.is_empty() {
        return Plan::Fresh;
    }
    match (&state.release, &state.origin) {
        (Some(release), Some(origin)) if release.end == at.end && shard.replaced_producer.is_none() => {
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

/// New partitions: declared, with their absolute start written before anything else, so that `start: latest` means
/// the same offset after any crash.
async fn attach_fresh(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    fresh: Vec<(Wanted, Option<u32>, Bounds)>,
    records: &mut Vec<StateRecord>,
    done: &mut Vec<(Pair, u32)>,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let mut out = Vec::new();
    // What appears later starts at the beginning, and so does what is made anew.
    let (anew, first): (Vec<_>, Vec<_>) =
        fresh.iter().map(|(w, ..)| w).partition(|w| shard.state.baseline || w.freed.is_some() || w.successor);
    let sources = |part: Vec<&Wanted>| part.iter().map(|w| w.pair.source.clone()).collect::<Vec<_>>();
    let mut starts = start_offsets(ctx, ctx.config.start, &sources(first)).await?;
    starts.extend(start_offsets(ctx, Start::Earliest, &sources(anew)).await?);
    let mut next_index = shard.state.next_index();
    for (wanted, declared, at) in fresh {
        if at.end != at.start && !wanted.successor && !ctx.foreign_allowed(&wanted) {
            let what = format!(
                "target {} holds data at offsets [{}, {}) that this mirror did not write; mirror to an empty topic, or set \
                 `on: {{ foreign_records: continue }}` to append behind it",
                wanted.pair.target, at.start, at.end
            );
            out.push((wanted.pair, Attached::Halted(Halt::new(HaltKind::ForeignRecords, what))));
            continue;
        }
        let begin = starts[&wanted.pair.source];
        let index = declared.unwrap_or(next_index);
        next_index = next_index.max(index + 1);
        let reason = if wanted.successor { GapReason::Recreated } else { GapReason::Start };
        records.extend(first_records(&wanted.pair, index, shard.transactor.producer_epoch, at.end, (begin, reason)));
        done.push((wanted.pair, index));
    }
    Ok(out)
}

fn first_records(pair: &Pair, index: u32, epoch: i16, end: i64, (begin, reason): (i64, GapReason)) -> [StateRecord; 3] {
    let gaps = if begin > 0 { vec![(reason, begin.unsigned_abs())] } else { Vec::new() };
    let first = Break { run: 0, gaps, target_gap: end.unsigned_abs(), leader_epoch: -1, writer_epoch: epoch };
    [
        StateRecord::Declare {
            index,
            source_topic: pair.source.topic.clone(),
            source_topic_id: pair.source.topic_id,
            partition: pair.source.partition,
            target_topic: pair.target.topic.clone(),
            target_topic_id: pair.target.topic_id,
        },
        StateRecord::Resume { index, epoch, end },
        StateRecord::Segments { entries: vec![(index, vec![first])] },
    ]
}

async fn start_offsets(
    ctx: AttachContext<'_>,
    start: Start,
    sources: &[TopicPartition],
) -> Result<HashMap<TopicPartition, i64>, EngineError> {
    let committed = ctx.config.isolation == Isolation::ReadCommitted;
    Ok(match start {
        Start::Earliest => ctx.source.log_starts(sources).await?,
        Start::Latest => ctx.source.log_ends(sources, committed).await?,
        Start::Timestamp(at_ms) => ctx.source.offsets_at(sources, at_ms, committed).await?,
    })
}

/// Partitions whose last owner did not release them.
async fn attach_marked(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    marked: Vec<(Wanted, u32, Bounds)>,
    done: &mut Vec<(Pair, u32)>,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let mut out = Vec::new();
    let mut records = Vec::new();
    let mut settled = Vec::new();
    for part in marked.chunks(MARKED_AT_ONCE) {
        let targets: Vec<TopicPartition> = part.iter().map(|(w, ..)| w.pair.target.clone()).collect();
        let emptied = emptied_ends(ctx, shard, part).await;
        write_markers(&shard.mirror, ctx.target, &shard.transactor, &targets).await?;
        for (wanted, index, at) in part {
            let (pair, from) = (&wanted.pair, at.end);
            let marker =
                await_marker(&shard.mirror, ctx.target, &pair.target, from, &shard.transactor, |_| Ok(())).await?;
            // Nothing came between what the leader told and our marker.
            let emptied = emptied.get(index).copied().filter(|end| *end == marker.offset);
            let outcome = match settle(ctx, shard, wanted, *index, *at, &marker).await {
                // A log that cannot be read concerns nobody else.
                Err(EngineError::Read(error)) if !matches!(error, ReadError::Client(_)) => {
                    Err(Halt::new(HaltKind::EndUnreadable, error.to_string()))
                }
                other => other?,
            };
            match outcome.or_else(|halt| emptied.ok_or(halt)) {
                Ok(end) => {
                    if let Some(halt) = contradiction(shard, pair, *index, end, marker.offset) {
                        out.push((pair.clone(), Attached::Halted(halt)));
                        continue;
                    }
                    records.push(StateRecord::Origin {
                        index: *index,
                        epoch: shard.transactor.producer_epoch,
                        settled_end: end,
                        marker: marker.offset,
                    });
                    settled.push((wanted.clone(), *index));
                }
                Err(halt) => out.push((pair.clone(), Attached::Halted(halt))),
            }
        }
    }
    if !records.is_empty() {
        shard.append(records).await?;
    }
    for (wanted, index) in settled {
        match diverge(ctx, shard, &wanted, index).await? {
            None => done.push((wanted.pair, index)),
            Some(halt) => out.push((wanted.pair, Attached::Halted(halt))),
        }
    }
    Ok(out)
}

/// The ends of logs that hold nothing any more, by index in the shard, where the leader still knows our last sequence.
async fn emptied_ends(ctx: AttachContext<'_>, shard: &ShardLog, part: &[(Wanted, u32, Bounds)]) -> HashMap<u32, i64> {
    let mut ends = HashMap::new();
    for (wanted, index, at) in part.iter().filter(|(.., at)| at.start == at.end) {
        let Some(origin) = shard.state.partitions.get(index).and_then(|state| state.origin) else { continue };
        let producer_id = shard.transactor.producer_id;
        if let Some(end) = end_by_sequence(ctx.target, &wanted.pair.target, producer_id, origin, at.end).await {
            ends.insert(*index, end);
        }
    }
    ends
}

/// Goes back on the source to where its log was truncated, if that may be.
async fn diverge(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: &Wanted,
    index: u32,
) -> Result<Option<Halt>, EngineError> {
    let (Some(divergence), Some(state)) = (&wanted.divergence, shard.state.partitions.get(&index)) else {
        return Ok(None);
    };
    let end = state.end.unwrap_or(0);
    let position = state.map.position(end);
    let first = state.map.segments().first().map_or(0, |s| s.source);
    let to = state.map.end_of_epoch(divergence.epoch, end).min(divergence.end).max(first);
    if to >= position {
        let detail = format!(
            "the source log was truncated to {}, below {position}, from where on it is mirrored; wait until it has grown beyond \
             that offset again",
            divergence.end
        );
        return Ok((divergence.end < position).then(|| Halt::new(HaltKind::Truncation, detail)));
    }
    let accepted = divergence.accepted.iter().any(|(from, until)| *from <= to && position <= *until);
    if ctx.config.on.truncation == Policy::Halt && !accepted {
        let detail = format!(
            "the source log was truncated to {to} (unclean leader election?), but the records up to {position} were \
             mirrored; their copies stand on target {} below offset {end}",
            wanted.pair.target
        );
        return Ok(Some(Halt::over(HaltKind::Truncation, to, position, detail)));
    }
    tracing::warn!(
        topic = %wanted.pair.source.topic, partition = wanted.pair.source.partition, from = to, to = position,
        "the source log was truncated; going on there, the target keeps what the source lost"
    );
    shard.append(vec![StateRecord::Diverged { index, source: to, end }]).await?;
    Ok(None)
}

/// Partitions under one transaction; bounds the request and how long it stays open.
const MARKED_AT_ONCE: usize = 500;

/// An origin that the map refuses stops its partition, before it is written; in the log it would stop the shard.
fn contradiction(shard: &ShardLog, pair: &Pair, index: u32, end: i64, marker: i64) -> Option<Halt> {
    let mut map = shard.state.partitions.get(&index)?.map.clone();
    let refused = map.take_over(end, marker, shard.transactor.producer_epoch).err()?;
    let what = format!("target {}: data ends at {end}, our marker stands at {marker}: {refused}", pair.target);
    Some(Halt::new(HaltKind::MapMismatch, what))
}

/// The settled end, checked against the source; or why it cannot be had.
async fn settle(
    ctx: AttachContext<'_>,
    shard: &ShardLog,
    wanted: &Wanted,
    index: u32,
    at: Bounds,
    marker: &Marker,
) -> Result<Result<i64, Halt>, EngineError> {
    let pair = &wanted.pair;
    let Some(state) = shard.state.partitions.get(&index) else {
        return Ok(Err(Halt::new(HaltKind::Unexpected, format!("index {index} is not declared"))));
    };
    // What lies below is on record already, and may be of another branch of the source or of another topic.
    let floor = state.map.floor();
    let from = floor.max(at.start);
    let ours = |header: &BatchHeader| shard.state.producer_ids.contains(&header.producer_id);
    let mut last = match &marker.last_data {
        Some(batch) => Some(batch.clone()),
        None => last_data_below(ctx.target, &pair.target, at.end, from, |_| true).await?,
    };
    if last.as_ref().is_some_and(|batch| !ours(&batch.header)) && ctx.foreign_allowed(wanted) {
        last = last_data_below(ctx.target, &pair.target, marker.offset, from, ours).await?;
    }
    let Some(last) = last.filter(|batch| batch.header.base_offset >= floor) else {
        return Ok(empty_log_end(state, pair, at, floor));
    };
    if !ours(&last.header) {
        return Ok(Err(Halt::new(
            HaltKind::ForeignRecords,
            format!(
                "the last batch of target {} (offset {}) was written by producer id {}, which is not this mirror's",
                pair.target, last.header.base_offset, last.header.producer_id
            ),
        )));
    }
    if let Some(halt) = out_of_step(state, pair, &last.header) {
        return Ok(Err(halt));
    }
    let end = last.header.next_offset();
    Ok(match check_last(ctx, state, pair, &last, end).await? {
        None => Ok(end),
        Some(halt) => Err(halt),
    })
}

/// A batch's sequence says which offset it was bound to. One that landed elsewhere, without a record of it (a crash came
/// first), is a shift that the map does not know.
fn out_of_step(state: &PartitionState, pair: &Pair, last: &BatchHeader) -> Option<Halt> {
    let origin = state.origin.filter(|origin| origin.epoch == last.producer_epoch)?;
    let writer = Writer { producer_id: last.producer_id, producer_epoch: origin.epoch, origin: origin.start };
    let bound = writer.sequence_at(last.base_offset);
    (bound != last.base_sequence).then(|| {
        let what = format!(
            "the batch at offset {} of target {} carries sequence {}, but the offset is that of sequence {bound}: somebody \
             else wrote in front of it",
            last.base_offset, pair.target, last.base_sequence
        );
        Halt::new(HaltKind::MapMismatch, what)
    })
}

/// No data between the floor and the marker: nothing was written since. Unless it may have been, and all of it has gone.
fn empty_log_end(state: &PartitionState, pair: &Pair, at: Bounds, floor: i64) -> Result<i64, Halt> {
    match &state.release {
        Some(release) => Ok(release.end),
        None if at.start <= floor => Ok(floor),
        None => Err(Halt::new(
            HaltKind::EndUnreadable,
            format!(
                "target {} holds no data below its start {}, and what was written there last is not on record",
                pair.target, at.start
            ),
        )),
    }
}

async fn check_last(
    ctx: AttachContext<'_>,
    state: &PartitionState,
    pair: &Pair,
    last: &RawBatch,
    end: i64,
) -> Result<Option<Halt>, EngineError> {
    let named = state.map.to_source(end - 1, end);
    if !named.exact {
        return Ok(Some(Halt::new(
            HaltKind::MapMismatch,
            format!("the offset map names no source record for target {} offset {}", pair.target, end - 1),
        )));
    }
    let leader_epoch = state.map.leader_epoch_at(end);
    Ok(match compare_last(ctx.source, &pair.source, named.offset, leader_epoch, last, end - 1).await? {
        LastRecord::Same => None,
        LastRecord::NotThere => {
            tracing::info!(topic = %pair.source.topic, partition = pair.source.partition, offset = named.offset,
                "the last mirrored record is not on the source any more; it cannot be compared");
            None
        }
        LastRecord::Differs(what) => Some(Halt::over(
            HaltKind::MapMismatch,
            named.offset,
            named.offset + 1,
            format!("target {} offset {} is not source offset {}: {what}", pair.target, end - 1, named.offset),
        )),
    })
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

/// Makes sure that nobody writes to these target partitions under this shard's producer id any more, without writing
/// there: the shard was theirs, another one follows.
pub(crate) async fn fence(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    target: &TopicPartition,
) -> Result<(), EngineError> {
    let (_, end) = ctx.target.log_bounds(std::slice::from_ref(target)).await?[target];
    shard.bump().await?;
    write_markers(&shard.mirror, ctx.target, &shard.transactor, std::slice::from_ref(target)).await?;
    await_marker(&shard.mirror, ctx.target, target, end, &shard.transactor, |_| Ok(())).await?;
    Ok(())
}

/// Batches landed above the offsets they were bound to, and everything is answered. The map is corrected whatever lies
/// between, for that is a fact of the log; where it is not only our own markers, the partition goes on if it may.
pub(crate) async fn displaced(
    ctx: AttachContext<'_>,
    shard: &mut ShardLog,
    wanted: &Wanted,
    displacements: &[Displacement],
) -> Result<Attached, EngineError> {
    let pair = &wanted.pair;
    let Some((index, _)) = shard.state.find(pair.source.topic_id, pair.source.partition) else {
        return Ok(Attached::Halted(Halt::new(HaltKind::Unexpected, "a partition that is not declared")));
    };
    let mut records = Vec::new();
    let mut halt = None;
    for Displacement { at, to, end } in displacements.iter().copied() {
        let between = read_between(ctx.target, &pair.target, at, to).await?;
        let ours = |h: &BatchHeader| h.is_control() && shard.state.producer_ids.contains(&h.producer_id);
        let foreign = between.iter().find(|batch| !ours(&batch.header));
        let reason = if foreign.is_some() { GapReason::Foreign } else { GapReason::TakeOver };
        records.push(StateRecord::Displaced { index, at, by: to - at, end, reason });
        halt = halt.or(foreign.map(|batch| {
            let what = format!(
                "offsets [{at}, {to}) of target {} were written by somebody else (offset {}, producer id {})",
                pair.target, batch.header.base_offset, batch.header.producer_id
            );
            Halt::new(HaltKind::ForeignRecords, what)
        }));
    }
    shard.append(records).await?;
    Ok(match halt.filter(|_| !ctx.foreign_allowed(wanted)) {
        Some(halt) => Attached::Halted(halt),
        None => Attached::Flowing(footing(shard, index)?),
    })
}

async fn read_between(
    cluster: &Cluster,
    tp: &TopicPartition,
    from: i64,
    to: i64,
) -> Result<Vec<RawBatch>, EngineError> {
    let mut out = Vec::new();
    let mut at = from;
    while at < to {
        let slice = read_log(cluster, tp, at, ReadOptions::default()).await?;
        let Some(last) = slice.batches.last() else { break };
        at = last.header.next_offset();
        out.extend(slice.batches.into_iter().filter(|b| b.header.base_offset < to && b.header.next_offset() > from));
    }
    Ok(out)
}
