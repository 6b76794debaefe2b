//! Attaching partitions: `engine::attach` and `engine::settle`, with the same questions in the same order.

use kmirror::batch::{self, BatchHeader, RawBatch, Record};
use kmirror::mirror::{
    Bounds, DataEnd, Declared, Displacement, GapReason, GoBack, Halt, HaltKind, Isolation, Plan, Realignment,
    StateRecord, data_end, displaced_record, displacements_fit, first_records, footing, go_back, in_turn, is_ours,
    origin_record, plan,
};
use uuid::Uuid;

use super::io::{End, Request, Response, unexpected};
use super::shard::{Marker, Shard, await_marker, write_markers};
use super::{Attached, Policy, Wanted, topic};
use crate::sim::broker::LogId;
use crate::sim::mutation::Mutation;

/// The target topics are never made anew here.
const TARGET_ID: Uuid = Uuid::from_u128(77);

type Outcome = Vec<(usize, Attached)>;

pub(crate) async fn attach(shard: &mut Shard, wanted: Vec<Wanted>, retake: bool) -> Result<Outcome, End> {
    let (mut done, mut out) = (Vec::new(), Vec::new());
    let (mut fresh, mut marked, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for wanted in wanted {
        let at = shard.io.bounds(LogId::Data(wanted.part)).await?;
        let known = shard.state.find(Uuid::from_u128(wanted.source_id), 0);
        let planned = known.map(|(index, state)| (index, state, plan(state, TARGET_ID, at.end, wanted.freed)));
        match planned {
            None | Some((_, _, Plan::Anew)) => fresh.push((wanted, None, at)),
            Some((index, _, Plan::Fresh)) => fresh.push((wanted, Some(index), at)),
            Some((_, _, Plan::Halt(halt))) => out.push((wanted.part, Attached::Halted(halt))),
            Some((index, _, Plan::Resume(epoch, end))) if !retake => {
                records.push(StateRecord::Resume { index, epoch, end });
                done.push((wanted.part, index));
            }
            Some((index, state, Plan::Mark))
                if !retake && state.release.is_some() && shard.io.broken(Mutation::IgnoreReleasedEnd) =>
            {
                let epoch = state.origin.map_or(0, |origin| origin.epoch);
                records.push(StateRecord::Resume { index, epoch, end: at.end });
                done.push((wanted.part, index));
            }
            Some((index, _, Plan::Resume(..) | Plan::Mark)) => marked.push((wanted, index, at)),
        }
    }
    if shard.io.broken(Mutation::ResumeUnrecorded) {
        std::mem::take(&mut records).iter().try_for_each(|record| shard.apply(record))?;
    }
    out.extend(attach_fresh(shard, fresh, &mut records, &mut done).await?);
    if !shard.state.baseline {
        records.push(StateRecord::Baseline);
    }
    if !records.is_empty() {
        shard.append(records).await?;
    }
    if retake && !marked.is_empty() {
        shard.bump().await?;
    }
    out.extend(attach_marked(shard, marked, &mut done).await?);
    for (part, index) in done {
        let state = &shard.state.partitions[&index];
        let footing = footing(state, index, shard.producer.0).map_err(|e| End::Broken(e.to_owned()))?;
        out.push((part, Attached::Flowing(Box::new(footing))));
    }
    Ok(out)
}

fn foreign_allowed(shard: &Shard, wanted: &Wanted) -> bool {
    shard.io.settings().foreign_records == Policy::Continue || wanted.freed == Some(HaltKind::ForeignRecords)
}

async fn attach_fresh(
    shard: &Shard,
    fresh: Vec<(Wanted, Option<u32>, Bounds)>,
    records: &mut Vec<StateRecord>,
    done: &mut Vec<(usize, u32)>,
) -> Result<Outcome, End> {
    let mut out = Vec::new();
    let mut next_index = shard.state.next_index();
    for (wanted, on_record, at) in fresh {
        if at.end != at.start && !wanted.successor && !foreign_allowed(shard, &wanted) {
            let halt =
                Halt::new(HaltKind::ForeignRecords, format!("the target holds data at [{}, {})", at.start, at.end));
            out.push((wanted.part, Attached::Halted(halt)));
            continue;
        }
        let anew = shard.state.baseline || wanted.freed.is_some() || wanted.successor;
        let latest = shard.io.settings().starts_latest && !anew;
        let committed = shard.io.settings().isolation == Isolation::ReadCommitted;
        let request = Request::SourceBounds { part: wanted.part, topic: wanted.source_id, committed };
        let begin = match shard.io.ask(request).await? {
            Response::Bounds(bounds) if latest => bounds.end,
            Response::Bounds(bounds) => bounds.start,
            other => return Err(unexpected(&other)),
        };
        let index = on_record.unwrap_or(next_index);
        next_index = next_index.max(index + 1);
        let reason = if wanted.successor { GapReason::Recreated } else { GapReason::Start };
        records.extend(first_records(&declared(&wanted), index, shard.producer.1, at.end, (begin, reason)));
        done.push((wanted.part, index));
    }
    Ok(out)
}

fn declared(wanted: &Wanted) -> Declared {
    Declared {
        source_topic: topic(wanted.part),
        source_topic_id: Uuid::from_u128(wanted.source_id),
        partition: 0,
        target_topic: topic(wanted.part),
        target_topic_id: TARGET_ID,
    }
}

async fn attach_marked(
    shard: &mut Shard,
    marked: Vec<(Wanted, u32, Bounds)>,
    done: &mut Vec<(usize, u32)>,
) -> Result<Outcome, End> {
    let (mut out, mut records, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    if !marked.is_empty() {
        let mut early = Vec::new();
        if shard.io.broken(Mutation::SettleBeforeMarker) {
            for (wanted, index, at) in &marked {
                let none = Marker { offset: at.end, last_data: None };
                early.push(settle(shard, wanted, *index, *at, &none).await?);
            }
        }
        let logs: Vec<LogId> = marked.iter().map(|(w, ..)| LogId::Data(w.part)).collect();
        write_markers(&shard.io, shard.producer, &logs).await?;
        for (at_marked, (wanted, index, at)) in marked.into_iter().enumerate() {
            let log = LogId::Data(wanted.part);
            let marker = await_marker(&shard.io, log, at.end, shard.producer, |_| Ok(())).await?;
            let outcome = match early.get(at_marked) {
                Some(outcome) => outcome.clone(),
                None => settle(shard, &wanted, index, at, &marker).await?,
            };
            let state = &shard.state.partitions[&index];
            match outcome.and_then(|end| origin_record(state, index, shard.producer.1, end, marker.offset)) {
                Ok(record) => {
                    records.push(record);
                    settled.push((wanted, index));
                }
                Err(halt) => out.push((wanted.part, Attached::Halted(halt))),
            }
        }
    }
    if shard.io.broken(Mutation::DropOrigin) {
        records.iter().try_for_each(|record| shard.apply(record))?;
    } else if !records.is_empty() {
        shard.append(records).await?;
    }
    for (wanted, index) in settled {
        match diverge(shard, &wanted, index).await? {
            None => done.push((wanted.part, index)),
            Some(halt) => out.push((wanted.part, Attached::Halted(halt))),
        }
    }
    Ok(out)
}

async fn diverge(shard: &mut Shard, wanted: &Wanted, index: u32) -> Result<Option<Halt>, End> {
    let Some(divergence) = wanted.divergence else { return Ok(None) };
    let follow = shard.io.settings().truncation == Policy::Continue;
    let accepted = |from, to| wanted.accepted.iter().any(|(start, end)| *start <= from && to <= *end);
    match go_back(&shard.state.partitions[&index], index, divergence, |from, to| follow || accepted(from, to)) {
        GoBack::Stay => Ok(None),
        GoBack::Halt(halt) => Ok(Some(halt)),
        GoBack::Unread(record) | GoBack::To(record) => shard.append(vec![record]).await.map(|()| None),
    }
}

/// The settled end, checked against the source; or why it cannot be had.
async fn settle(
    shard: &mut Shard,
    wanted: &Wanted,
    index: u32,
    at: Bounds,
    marker: &Marker,
) -> Result<Result<i64, Halt>, End> {
    let state = &shard.state.partitions[&index];
    let from = state.map.floor().max(at.start);
    let ours = |header: &BatchHeader| is_ours(state, header, &shard.state.producer_ids);
    let mut last = match &marker.last_data {
        Some(batch) => Some(batch.clone()),
        None => last_data_below(shard, wanted.part, at.end, from, |_| true).await?,
    };
    if last.as_ref().is_some_and(|batch| !ours(&batch.header)) && foreign_allowed(shard, wanted) {
        last = last_data_below(shard, wanted.part, marker.offset, from, ours).await?;
    }
    let header = last.as_ref().map(|batch| &batch.header);
    if let Some(header) = header
        && let Err(halt) = realign(shard, wanted, index, header).await?
    {
        return Ok(Err(halt));
    }
    let state = &shard.state.partitions[&index];
    let (end, source, leader_epoch) = match data_end(state, header, &shard.state.producer_ids, at) {
        Ok(DataEnd::Behind { end, source, leader_epoch }) => (end, source, leader_epoch),
        Ok(DataEnd::Recorded(end)) => return Ok(Ok(end)),
        Err(halt) => return Ok(Err(halt)),
    };
    let ours = last.and_then(|batch| record_at(&batch, end - 1));
    let request = Request::SourceRead { part: wanted.part, topic: wanted.source_id, offset: source };
    let batches = shard.io.read(request).await?.unwrap_or_default();
    let mut theirs = batches.iter().filter(|b| leader_epoch < 0 || b.header.partition_leader_epoch == leader_epoch);
    let theirs = theirs.find_map(|batch| record_at(batch, source));
    Ok(match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs.value != ours.value => {
            let what = format!("target offset {} is not source offset {source}", end - 1);
            Err(Halt::over(HaltKind::MapMismatch, source, source + 1, what))
        }
        _ => Ok(end),
    })
}

/// `engine::realign`, reading all of the log where the engine reads on.
async fn realign(shard: &mut Shard, wanted: &Wanted, index: u32, last: &BatchHeader) -> Result<Result<(), Halt>, End> {
    let (state, part) = (&shard.state.partitions[&index], wanted.part);
    let Some(mut search) = Realignment::new(state, last) else { return Ok(Ok(())) };
    while let Some(at) = search.probe() {
        let batches = read_between(shard, part, at, last.next_offset()).await?;
        let Some(batch) = batches.iter().find(|b| b.header.next_offset() > at && search.counts(&b.header)) else {
            return Ok(Ok(()));
        };
        search.answer(&batch.header);
    }
    if search.found().is_empty() {
        return Ok(Ok(()));
    }
    let (records, halt) = match displacement_records(shard, part, index, search.found()).await? {
        Ok(records) => records,
        Err(halt) => return Ok(Err(halt)),
    };
    shard.append(records).await?;
    Ok(halt.filter(|_| !foreign_allowed(shard, wanted)).map_or(Ok(()), Err))
}

async fn displacement_records(
    shard: &Shard,
    part: usize,
    index: u32,
    displacements: &[Displacement],
) -> Result<Result<(Vec<StateRecord>, Option<Halt>), Halt>, End> {
    let (mut records, mut halt) = (Vec::new(), None);
    let (state, ids) = (&shard.state.partitions[&index], &shard.state.producer_ids);
    for displacement in in_turn(displacements) {
        let between = read_between(shard, part, displacement.at, displacement.to).await?;
        let headers = between.iter().map(|batch| &batch.header);
        let (record, foreign) = displaced_record(state, index, displacement, headers, ids);
        records.push(record);
        halt = halt.or(foreign);
    }
    Ok(displacements_fit(state, &records).map(|()| (records, halt)))
}

fn record_at(batch: &RawBatch, offset: i64) -> Option<Record> {
    batch::decode(batch, 1 << 20).ok()?.into_iter().find(|r| r.offset == offset)
}

async fn last_data_below(
    shard: &Shard,
    part: usize,
    below: i64,
    log_start: i64,
    counts: impl Fn(&BatchHeader) -> bool,
) -> Result<Option<RawBatch>, End> {
    let (mut at, mut found) = (log_start, None);
    while at < below {
        let batches = shard.io.read(Request::Read { log: LogId::Data(part), offset: at }).await?.unwrap_or_default();
        let Some(last) = batches.last() else { break };
        at = last.header.next_offset();
        let data = batches.into_iter().filter(|b| b.header.base_offset < below && !b.header.is_control());
        found = data.filter(|b| counts(&b.header)).last().or(found);
    }
    Ok(found)
}

/// Nobody writes to this partition under the shard's producer id any more: another topic follows there.
pub(crate) async fn fence(shard: &mut Shard, part: usize) -> Result<(), End> {
    let log = LogId::Data(part);
    let end = shard.io.bounds(log).await?.end;
    shard.bump().await?;
    write_markers(&shard.io, shard.producer, &[log]).await?;
    await_marker(&shard.io, log, end, shard.producer, |_| Ok(())).await?;
    Ok(())
}

pub(crate) async fn displaced(
    shard: &mut Shard,
    wanted: Wanted,
    displacements: &[Displacement],
    take_over: bool,
) -> Result<Outcome, End> {
    let (index, _) = shard.state.find(Uuid::from_u128(wanted.source_id), 0).unwrap();
    let (records, halt) = match displacement_records(shard, wanted.part, index, displacements).await? {
        Ok(records) => records,
        Err(halt) => return Ok(vec![(wanted.part, Attached::Halted(halt))]),
    };
    shard.append(records).await?;
    if let Some(halt) = halt.filter(|_| !foreign_allowed(shard, &wanted)) {
        return Ok(vec![(wanted.part, Attached::Halted(halt))]);
    }
    if take_over {
        return attach(shard, vec![wanted], true).await;
    }
    let state = &shard.state.partitions[&index];
    let footing = footing(state, index, shard.producer.0).map_err(|e| End::Broken(e.to_owned()))?;
    Ok(vec![(wanted.part, Attached::Flowing(Box::new(footing)))])
}

async fn read_between(shard: &Shard, part: usize, from: i64, to: i64) -> Result<Vec<RawBatch>, End> {
    let (mut at, mut out) = (from, Vec::new());
    while at < to {
        let batches = shard.io.read(Request::Read { log: LogId::Data(part), offset: at }).await?.unwrap_or_default();
        let Some(last) = batches.last() else { break };
        at = last.header.next_offset();
        out.extend(batches.into_iter().filter(|b| b.header.base_offset < to && b.header.next_offset() > from));
    }
    Ok(out)
}
