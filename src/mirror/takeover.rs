//! Taking a partition over: what to do with it by what is on record and what its logs show. The decisions only; who
//! asks the brokers is the engine, and in the tests the simulation.
//!
//! A partition goes on in its own epoch where nothing can have happened since its release; else our marker fences every
//! older writer, the data below the marker is settled, and an origin says from where sequences count.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::batch::BatchHeader;

use super::append::{Displacement, Segment as AppendSegment, Writer};
use super::{Break, Declared, GapReason, Halt, HaltKind, PartitionState, Scan, StateRecord};

/// Everything a partition needs to flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footing {
    /// Index in the shard's state.
    pub index: u32,
    /// Who writes.
    pub writer: Writer,
    /// Target offset of the next batch.
    pub end: i64,
    /// Source offset of the next record.
    pub position: i64,
    /// Source offset up to which there was nothing more to mirror, when that was last noted.
    pub scanned: i64,
    /// Source leader epoch of the record before it.
    pub last_epoch: Option<i32>,
    /// The map segment that goes on.
    pub segment: AppendSegment,
}

/// First offset of a log and the one after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset.
    pub start: i64,
    /// High watermark.
    pub end: i64,
}

/// A truncated source log, as its leader tells (KIP-595): the largest leader epoch not above ours that it knows, and the
/// end of that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// The epoch.
    pub epoch: i32,
    /// Where it ends.
    pub end: i64,
    /// First offset of the log. Where retention has passed the place at which the branches parted, nobody knows that place
    /// any more: the leader names its first offset as the end.
    pub start: i64,
}

impl Divergence {
    /// Whether the place at which the branches parted may lie below the log's start.
    pub fn is_hidden(&self) -> bool {
        self.start > 0 && self.start >= self.end
    }

    /// Below this retention has taken what was read, as far as one can tell: it cannot be read again.
    fn gone_below(&self) -> i64 {
        if self.is_hidden() { 0 } else { self.start }
    }
}

/// What to do with a partition that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
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

/// Decides about a partition on record. `freed` is the halt that a `resume` ended. (Where the shard has another producer
/// id by now, under which no older epoch goes on, there is no release: the new id has voided it.)
pub fn plan(state: &PartitionState, target_topic_id: Uuid, log_end: i64, freed: Option<HaltKind>) -> Plan {
    let declared = &state.declared;
    if declared.target_topic_id != target_topic_id {
        // A topic made anew that holds records already has halted for those after it was freed the first time.
        if freed.is_some_and(HaltKind::ends_with_a_new_target) {
            return Plan::Anew;
        }
        return Plan::Halt(target_recreated(&declared.target_topic, declared.target_topic_id, target_topic_id));
    }
    if state.map.is_empty() {
        return Plan::Fresh;
    }
    match (&state.release, &state.origin) {
        (Some(release), Some(origin)) if release.end == log_end => Plan::Resume(origin.epoch, release.end),
        _ => Plan::Mark,
    }
}

/// The halt over a target topic that bears another id than the one mirrored to.
pub fn target_recreated(topic: &str, was: Uuid, is: Uuid) -> Halt {
    let detail = format!("target topic {topic} was deleted and made again: id {was} is now {is}");
    Halt::new(HaltKind::TargetRecreated, detail)
}

/// What a new partition begins with: the absolute start is written before anything else, so that `start: latest` means
/// the same offset after any crash. The source counts from `begin`, for this reason; the target from `end`.
pub fn first_records(
    declared: &Declared,
    index: u32,
    epoch: i16,
    end: i64,
    (begin, reason): (i64, GapReason),
) -> [StateRecord; 3] {
    let gaps = if begin > 0 { vec![(reason, begin.unsigned_abs())] } else { Vec::new() };
    let first = Break { run: 0, gaps, target_gap: end.unsigned_abs(), leader_epoch: -1, writer_epoch: epoch };
    [
        declared.record(index),
        StateRecord::Resume { index, epoch, end },
        StateRecord::Segments { entries: vec![(index, vec![first])] },
    ]
}

/// Where the data below our marker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEnd {
    /// Behind a batch of ours: its last record is to be compared with the source.
    Behind {
        /// The end.
        end: i64,
        /// Source offset of the last record, by the map.
        source: i64,
        /// Leader epoch it was written in on the source; −1 where unknown.
        leader_epoch: i32,
    },
    /// Nothing was written since this end was recorded.
    Recorded(i64),
}

/// The settled end, from the last data batch below the marker. `at` are the bounds of the target log before the marker;
/// `producer_ids` are all that ever owned the shard.
pub fn data_end(
    state: &PartitionState,
    last: Option<&BatchHeader>,
    producer_ids: &BTreeSet<i64>,
    at: Bounds,
) -> Result<DataEnd, Halt> {
    let target = target_name(state);
    let floor = state.map.floor();
    // A displaced batch of several runs begins below the segment of its last one.
    let Some(last) = last.filter(|header| header.next_offset() > floor) else {
        return recorded_end(state, at, floor).map(DataEnd::Recorded);
    };
    if !is_ours(state, last, producer_ids) {
        return Err(Halt::new(
            HaltKind::ForeignRecords,
            format!(
                "the last batch of target {target} (offset {}) was written by producer id {}, epoch {}, which is not this \
                 mirror's, or not any more",
                last.base_offset, last.producer_id, last.producer_epoch
            ),
        ));
    }
    if let Some(halt) = out_of_step(state, last) {
        return Err(halt);
    }
    let end = last.next_offset();
    let named = state.map.to_source(end - 1, end);
    if !named.exact {
        return Err(Halt::new(
            HaltKind::MapMismatch,
            format!("the offset map names no source record for target {target} offset {}", end - 1),
        ));
    }
    Ok(DataEnd::Behind { end, source: named.offset, leader_epoch: state.map.leader_epoch_at(end) })
}

/// Whether a batch was written by the owner that it was then. Behind the marker of an epoch an older one has nothing to
/// say; where the broker has forgotten the producer, by the age of its records, it lets a late request in all the same.
pub fn is_ours(state: &PartitionState, header: &BatchHeader, producer_ids: &BTreeSet<i64>) -> bool {
    let late = |origin: super::Origin| header.base_offset >= origin.start && header.producer_epoch != origin.epoch;
    producer_ids.contains(&header.producer_id) && !state.origin.is_some_and(late)
}

/// A batch's sequence says which offset it was bound to. One that landed elsewhere, without a record of it (a crash came
/// first), is a shift that the map does not know.
fn out_of_step(state: &PartitionState, last: &BatchHeader) -> Option<Halt> {
    let origin = state.origin.filter(|origin| origin.epoch == last.producer_epoch)?;
    let writer = Writer { producer_id: last.producer_id, producer_epoch: origin.epoch, origin: origin.start };
    let bound = writer.sequence_at(last.base_offset);
    (bound != last.base_sequence).then(|| {
        let what = format!(
            "the batch at offset {} of target {} carries sequence {}, but the offset is that of sequence {bound}: somebody \
             else wrote in front of it",
            last.base_offset,
            target_name(state),
            last.base_sequence
        );
        Halt::new(HaltKind::MapMismatch, what)
    })
}

/// No data between the floor and the marker: nothing was written since. Unless it may have been, and all of it has gone.
fn recorded_end(state: &PartitionState, at: Bounds, floor: i64) -> Result<i64, Halt> {
    match &state.release {
        Some(release) => Ok(release.end),
        None if at.start <= floor => Ok(floor),
        None => Err(Halt::new(
            HaltKind::EndUnreadable,
            format!(
                "target {} holds none of our data below its start {}, and what was written there last is not known: its log \
                 was emptied after source offset {} had been mirrored",
                target_name(state),
                at.start,
                state.map.position(floor)
            ),
        )),
    }
}

/// The record that ends a take-over. One that the map refuses stops its partition, before it is written; in the log it
/// would stop the shard.
pub fn origin_record(
    state: &PartitionState,
    index: u32,
    epoch: i16,
    settled_end: i64,
    marker: i64,
) -> Result<StateRecord, Halt> {
    let refused = state.map.clone().take_over(settled_end, marker, epoch);
    refused.map_err(|refused| {
        let target = target_name(state);
        let what = format!("target {target}: data ends at {settled_end}, our marker stands at {marker}: {refused}");
        Halt::new(HaltKind::MapMismatch, what)
    })?;
    Ok(StateRecord::Origin { index, epoch, settled_end, marker })
}

/// What a truncation of the source means for a partition that has just been settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoBack {
    /// Nothing that was mirrored is concerned.
    Stay,
    /// Nor is it; but what was noted as read behind it is not, once this record is acknowledged.
    Unread(StateRecord),
    /// The mirror goes back on the source once this record is acknowledged.
    To(StateRecord),
    /// It stands still.
    Halt(Halt),
}

const HIDDEN_PARTING: &str = "; it may have been truncated further down: retention has passed that place, copies below it may be \
                              of the lost branch, and what came instead of them is lost";

/// Decides whether to go back on the source to where its log was truncated; `may_lose` says whether a range of source
/// offsets may be left behind.
///
/// It goes back to a record whose leader epoch is known, so that the next fetch asks whether that one still stands. Of
/// gaps no epoch is on record: they are read again, lest a further truncation be missed that took them.
pub fn go_back(
    state: &PartitionState,
    index: u32,
    divergence: Divergence,
    may_lose: impl Fn(i64, i64) -> bool,
) -> GoBack {
    let end = state.end.unwrap_or(0);
    let position = state.map.position(end);
    let first = state.map.segments().first().map_or(0, |s| s.source);
    let to = state.map.end_of_epoch(divergence.epoch, end).min(divergence.end).max(first);
    if to >= position {
        if divergence.end >= position {
            return stay(state, index, position.max(divergence.gone_below()), end);
        }
        let detail = format!(
            "the source log was truncated to {}, below {position}, from where on it is mirrored; wait until it has grown beyond \
             that offset again",
            divergence.end
        );
        return GoBack::Halt(Halt::new(HaltKind::Truncation, detail));
    }
    if !may_lose(to, position) {
        let detail = format!(
            "the source log was truncated to {to} (unclean leader election?), but the records up to {position} were \
             mirrored; their copies stand on target {} below offset {end}{}",
            target_name(state),
            if divergence.is_hidden() { HIDDEN_PARTING } else { "" }
        );
        return GoBack::Halt(Halt::over(HaltKind::Truncation, to, position, detail));
    }
    let source = state.map.end_of_records(to, end).max(divergence.gone_below().min(to));
    GoBack::To(StateRecord::Diverged { index, source, end })
}

/// What was read behind `source` is of the branch that was lost: retention may not take other records for it in silence.
fn stay(state: &PartitionState, index: u32, source: i64, end: i64) -> GoBack {
    if state.scanned.source <= source {
        return GoBack::Stay;
    }
    GoBack::Unread(StateRecord::Scanned { entries: vec![(index, Scan { source, end })] })
}

/// Displacements as they are written down one after another. A record voids what was written ahead beyond its end, and
/// the batches of a later displacement need some of that: each ends where the last one does, before it was pushed
/// further.
pub fn in_turn(displacements: &[Displacement]) -> Vec<Displacement> {
    let mut end = displacements.last().map_or(0, |last| last.end);
    let mut out: Vec<Displacement> = displacements.iter().rev().copied().collect();
    for displacement in &mut out {
        displacement.end = end;
        end -= displacement.to - displacement.at;
    }
    out.reverse();
    out
}

/// The record of batches that landed above the offsets they were bound to, by what lies between; and the halt where that
/// is not only our own markers. The displacement is written down either way: it is a fact of the log.
pub fn displaced_record<'a>(
    state: &PartitionState,
    index: u32,
    displacement: Displacement,
    mut between: impl Iterator<Item = &'a BatchHeader>,
    producer_ids: &BTreeSet<i64>,
) -> (StateRecord, Option<Halt>) {
    let Displacement { at, to, end } = displacement;
    let foreign = between.find(|header| !header.is_control() || !producer_ids.contains(&header.producer_id));
    let reason = if foreign.is_some() { GapReason::Foreign } else { GapReason::TakeOver };
    let halt = foreign.map(|header| {
        let what = format!(
            "offsets [{at}, {to}) of target {} were written by somebody else (offset {}, producer id {})",
            target_name(state),
            header.base_offset,
            header.producer_id
        );
        Halt::new(HaltKind::ForeignRecords, what)
    });
    (StateRecord::Displaced { index, at, by: to - at, end, reason }, halt)
}

/// Whether the map takes these displacements; one that it refuses would stop the shard, in the log.
pub fn displacements_fit(state: &PartitionState, records: &[StateRecord]) -> Result<(), Halt> {
    let mut map = state.map.clone();
    for record in records {
        let StateRecord::Displaced { at, by, end, .. } = record else { continue };
        map.displace(*at, *by, *end).map_err(|refused| {
            let (target, to) = (target_name(state), at + by);
            let what = format!("batches bound for offset {at} of target {target} landed on {to}: {refused}");
            Halt::new(HaltKind::MapMismatch, what)
        })?;
    }
    Ok(())
}

/// What the state says about a partition that may flow now; or what it lacks.
pub fn footing(state: &PartitionState, index: u32, producer_id: i64) -> Result<Footing, &'static str> {
    let origin = state.origin.ok_or("no origin")?;
    let segment = state.map.last().ok_or("empty offset map")?;
    let end = state.end.ok_or("no end")?;
    Ok(Footing {
        index,
        writer: Writer { producer_id, producer_epoch: origin.epoch, origin: origin.start },
        end,
        position: state.map.position(end),
        scanned: state.scanned.source,
        last_epoch: Some(state.map.leader_epoch_at(end)).filter(|epoch| *epoch >= 0),
        segment: AppendSegment::Open { run: (end - segment.target).unsigned_abs(), leader_epoch: segment.leader_epoch },
    })
}

fn target_name(state: &PartitionState) -> String {
    format!("{}:{}", state.declared.target_topic, state.declared.partition)
}

#[cfg(test)]
mod tests;
