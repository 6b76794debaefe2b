//! What must hold when a run has come to rest. The oracle knows everything that was ever written to the source; of the
//! mirror it sees what everybody sees: the target's log, and the state topic.

use std::collections::HashSet;

use kmirror::batch::RawBatch;
use kmirror::mirror::{GapReason, Halt, HaltKind, Isolation, PartitionState, ShardState};
use uuid::Uuid;

use super::driver::shard::replay;
use super::driver::{Policy, topic};
use super::source::{Source, Written};
use super::world::{FOREIGN, World};

/// The sum of the state topic.
pub(crate) fn recorded(world: &World) -> Result<ShardState, String> {
    let mut state = ShardState::default();
    let log = &world.target.state;
    let replicated = log.batches.iter().filter(|b| b.header.next_offset() <= log.high_watermark);
    for stored in replicated.filter(|b| !b.header.is_control()) {
        let raw = RawBatch { header: stored.header, bytes: stored.bytes.clone() };
        replay(&mut state, &raw).map_err(|end| format!("the state topic cannot be read: {end:?}"))?;
    }
    Ok(state)
}

fn end_of_data(world: &World, part: usize, state: &PartitionState) -> i64 {
    let ids: HashSet<i64> = world.target.coordinator.written.iter().map(|m| m.producer.0).collect();
    let data = world.target.data[part].batches.iter().rev();
    let replicated = data.filter(|b| b.header.next_offset() <= world.target.data[part].high_watermark);
    let mut ours = replicated.filter(|b| b.commits.is_none() && ids.contains(&b.header.producer_id));
    ours.next().map_or(0, |b| b.header.next_offset()).max(state.map.floor())
}

/// Source offset below which everything has been read, by what stands on the target and in the state topic.
pub(crate) fn read_up_to(world: &World, part: usize) -> i64 {
    let Ok(shard) = recorded(world) else { return 0 };
    let Some((_, state)) = shard.find(Uuid::from_u128(world.sources[part].topic), 0) else { return 0 };
    let log = &world.target.data[part];
    let replicated = log.batches.iter().filter(|b| b.header.next_offset() <= log.high_watermark);
    let copies = replicated.flat_map(|b| &b.records).filter_map(|(_, id)| world.sources[part].by_id(*id));
    let mirrored = copies.filter(|w| w.topic == world.sources[part].topic && !w.lost).map(|w| w.offset + 1).max();
    mirrored.unwrap_or(0).max(state.scanned.source)
}

/// Everything that is wrong with a run that has come to rest; `Ok` where nothing is.
pub(crate) fn judge(world: &World) -> Result<(), String> {
    let shard = recorded(world)?;
    for part in 0..world.sources.len() {
        let at = |what: String| format!("part {part}: {what}");
        judge_copies(world, part).map_err(at)?;
        let (halt, _) = world.processes[0].standing(part, 0);
        if let Some(halt) = halt {
            if !world.explains(part, halt) {
                return Err(at(format!("halted without a cause: {halt}")));
            }
            continue;
        }
        let source = &world.sources[part];
        let Some((_, state)) = shard.find(Uuid::from_u128(source.topic), 0) else {
            return Err(at("it flows, but is not on record".to_owned()));
        };
        let end = end_of_data(world, part, state);
        judge_records(world, part, state, end).map_err(at)?;
        judge_offsets(world, part, state, end).map_err(at)?;
    }
    Ok(())
}

/// Each record of the source stands at most once on the target, in order.
fn judge_copies(world: &World, part: usize) -> Result<(), String> {
    let (source, log) = (&world.sources[part], &world.target.data[part]);
    let uncommitted = world.profile.settings.isolation == Isolation::ReadUncommitted;
    let (mut seen, mut last) = (HashSet::new(), (0, -1));
    for (at, id) in log.batches.iter().flat_map(|b| &b.records) {
        if id & FOREIGN != 0 {
            continue;
        }
        let Some(written) = source.by_id(*id) else {
            return Err(format!("target {at}: record {id} was never written"));
        };
        if !seen.insert(*id) && !was_told(world, part) {
            return Err(format!("target {at}: source offset {} stands there again", written.offset));
        }
        if !written.committed && !uncommitted {
            return Err(format!("target {at}: source offset {} was not committed", written.offset));
        }
        // Truncation may lead back; nothing else may.
        if (written.topic, written.offset) <= last && !source.truncated && !was_told(world, part) {
            return Err(format!("target {at}: source offset {} after {}", written.offset, last.1));
        }
        last = (written.topic, written.offset);
    }
    Ok(())
}

/// Whether a batch of a fenced epoch was let in, which only the broker could have kept out, and the mirror said so: it may
/// not be silent about it.
fn was_told(world: &World, part: usize) -> bool {
    let excuses = &world.excuses[part];
    let told = |halt: &Halt| matches!(halt.kind, HaltKind::ForeignRecords | HaltKind::MapMismatch);
    let by_policy = world.profile.settings.foreign_records == Policy::Continue;
    excuses.unfenced && (by_policy || excuses.halts.iter().any(told))
}

/// The map names every record of the target, both ways, and no copy of what the source has lost.
fn judge_records(world: &World, part: usize, state: &PartitionState, end: i64) -> Result<(), String> {
    let (source, log) = (&world.sources[part], &world.target.data[part]);
    for (at, id) in log.batches.iter().flat_map(|b| &b.records) {
        let named = state.map.to_source(*at, end);
        if !named.exact && was_told(world, part) {
            continue;
        }
        let stands = source.by_id(*id).filter(|w| w.topic == source.topic && !w.lost);
        let Some(written) = stands else {
            if named.exact && *at < end {
                return Err(format!("target {at} is named source {}, but it is no record of it", named.offset));
            }
            continue;
        };
        if (named.exact, named.offset) != (true, written.offset) {
            return Err(format!("target {at} is source {}, the map says {named:?}", written.offset));
        }
        let back = state.map.to_target(written.offset, end);
        if (back.exact, back.offset) != (true, *at) {
            return Err(format!("source {} is target {at}, the map says {back:?}", written.offset));
        }
    }
    Ok(())
}

/// Every source offset up to the end is mirrored, or in a gap with its true reason.
fn judge_offsets(world: &World, part: usize, state: &PartitionState, end: i64) -> Result<(), String> {
    let source = &world.sources[part];
    let position = state.map.position(end);
    let readable = world.readable(part);
    let accepted = world.control.accepted_ranges(&topic(part), 0).iter().map(|(_, to)| *to).max().unwrap_or(0);
    // A loss behind the last record is on record with the next one.
    let trails_loss = source.bereft || !world.control.accepted_ranges(&topic(part), 0).is_empty();
    if position.max(state.scanned.source) < readable && !trails_loss {
        return Err(format!("on record the source is read up to {position}, {}, not {readable}", state.scanned.source));
    }
    let rest = source.committed_within(position.max(source.log.start).max(accepted), readable);
    if rest > 0 {
        return Err(format!("{rest} committed records from {position} on are not mirrored"));
    }
    let mut next = 0;
    for offset in 0..position {
        let named = state.map.to_target(offset, end);
        if named.offset < next {
            return Err(format!("source {offset} leads back to target {}, below {next}", named.offset));
        }
        next = named.offset + i64::from(named.exact);
        let written = source.standing_at(offset);
        if named.exact {
            let there = written.and_then(|w| w.id);
            let mut records = world.target.data[part].batches.iter().flat_map(|b| &b.records);
            let on_target = records.find(|(at, _)| *at == named.offset).map(|(_, id)| *id);
            if there.is_none() || there != on_target {
                return Err(format!("source {offset} is {there:?}, but target {} is {on_target:?}", named.offset));
            }
        } else if !is_true(world, source, offset, written, named.reason) {
            return Err(format!("source {offset} is not mirrored, and {:?} is no reason: {written:?}", named.reason));
        }
    }
    Ok(())
}

fn is_true(world: &World, source: &Source, offset: i64, written: Option<&Written>, reason: Option<GapReason>) -> bool {
    let holds = |truth: fn(&Written) -> bool| written.is_some_and(truth);
    let nothing_lost = |w: &Written| w.id.is_none() || w.aborted || w.compacted;
    match reason {
        Some(GapReason::Start) => world.profile.settings.starts_latest || offset < source.log.start,
        Some(GapReason::Recreated) => source.recreated && offset < source.log.start,
        // Retention took what had been read: of the whole stretch it is only known that nothing was lost.
        Some(GapReason::Control) => holds(|w| w.id.is_none()) || (offset < source.log.start && holds(nothing_lost)),
        Some(GapReason::Aborted) => holds(|w| w.aborted),
        Some(GapReason::Compaction) => holds(|w| w.compacted),
        Some(GapReason::Retention) => offset < source.log.start,
        Some(GapReason::Accepted) => world.profile.resumes,
        _ => false,
    }
}
