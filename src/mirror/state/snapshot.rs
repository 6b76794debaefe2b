//! States and breaks as records, however many there are: none is longer than [`RECORD_BYTES`].

use super::super::map::{Break, Segment};
use super::super::{Gap, OffsetMap};
use super::{Declared, PartitionState, Seen, ShardState, StateError, StateRecord, codec};

/// A record of breaks or of a snapshot's map is at most this long, bytes; far below `max.message.bytes` of any broker.
/// Only a single break with thousands of gaps could pass it, and the intake makes none.
pub const RECORD_BYTES: usize = 64 * 1024;

/// The records that write these breaks ahead, each at most [`RECORD_BYTES`] long however many there are. Applied in
/// order they add up to the same maps as one record would.
pub fn segments_records(entries: Vec<(u32, Vec<Break>)>) -> Vec<StateRecord> {
    let mut out = Vec::new();
    let mut record: Vec<(u32, Vec<Break>)> = Vec::new();
    let mut room = RECORD_BYTES - codec::HEAD_BYTES_MAX;
    for (index, breaks) in entries {
        for step in breaks {
            // As if each began an entry of its own: simple, and at most that.
            let need = codec::ENTRY_BYTES_MAX + codec::step_bytes_max(step.gaps.len());
            if room < need && !record.is_empty() {
                out.push(StateRecord::Segments { entries: std::mem::take(&mut record) });
                room = RECORD_BYTES - codec::HEAD_BYTES_MAX;
            }
            room = room.saturating_sub(need);
            match record.last_mut() {
                Some((last, list)) if *last == index => list.push(step),
                _ => record.push((index, vec![step])),
            }
        }
    }
    if !record.is_empty() {
        out.push(StateRecord::Segments { entries: record });
    }
    out
}

/// The records that note what was seen of these source logs, each at most [`RECORD_BYTES`] long; one of them at least.
pub fn seen_records(at_ms: i64, entries: &[(u32, Seen)]) -> Vec<StateRecord> {
    let most = (RECORD_BYTES - codec::HEAD_BYTES_MAX) / codec::SEEN_BYTES_MAX;
    if entries.is_empty() {
        return vec![StateRecord::Seen { at_ms, entries: Vec::new() }];
    }
    entries.chunks(most).map(|chunk| StateRecord::Seen { at_ms, entries: chunk.to_vec() }).collect()
}

impl ShardState {
    /// Adds a partition that mirrors by this map, up to target offset `end`. Nothing says from where sequences count there:
    /// the next start marks and settles it.
    pub fn restore(&mut self, declared: &Declared, map: OffsetMap, end: i64) -> Result<(), StateError> {
        let index = self.next_index();
        self.apply(&declared.record(index))?;
        let state = self.partition(index)?;
        (state.map, state.end) = (map, Some(end));
        self.halts.remove(&(declared.source_topic.clone(), declared.partition));
        Ok(())
    }

    /// The records that add up to this state.
    pub fn snapshot(&self, id: u64) -> Vec<StateRecord> {
        let mut out = vec![StateRecord::SnapshotBegin {
            id,
            owner: self.id,
            producer_ids: self.producer_ids.iter().copied().collect(),
            baseline: self.baseline,
        }];
        for (index, state) in &self.partitions {
            out.extend(state.snapshot(*index));
        }
        let seen = self.partitions.iter().filter(|(_, state)| state.seen != Seen::default());
        let seen: Vec<(u32, Seen)> = seen.map(|(index, state)| (*index, state.seen)).collect();
        if self.alive_ms != 0 || !seen.is_empty() {
            out.extend(seen_records(self.alive_ms, &seen));
        }
        out.extend(self.halts.iter().map(|((topic, partition), (halt, resumes))| StateRecord::Halt {
            topic: topic.clone(),
            partition: *partition,
            halt: Some(halt.clone()),
            resumes: *resumes,
        }));
        out.push(StateRecord::SnapshotEnd { id });
        out
    }
}

impl PartitionState {
    fn snapshot(&self, index: u32) -> Vec<StateRecord> {
        let mut out = vec![
            self.declared.record(index),
            StateRecord::SnapshotPartition {
                index,
                origin: self.origin,
                end: self.end,
                release: self.release,
                scanned: self.scanned,
            },
        ];
        out.extend(self.pending.filter(|_| self.map.is_empty()).map(|begin| StateRecord::Pending { index, begin }));
        let mut segments: Vec<(Segment, Vec<Gap>)> = Vec::new();
        let mut room = RECORD_BYTES - codec::HEAD_BYTES_MAX;
        for (at, segment) in self.map.segments().iter().enumerate() {
            let gaps = self.map.gaps_before(at).to_vec();
            let need = codec::step_bytes_max(gaps.len());
            if room < need && !segments.is_empty() {
                out.push(StateRecord::SnapshotMap { index, segments: std::mem::take(&mut segments) });
                room = RECORD_BYTES - codec::HEAD_BYTES_MAX;
            }
            room = room.saturating_sub(need);
            segments.push((*segment, gaps));
        }
        if !segments.is_empty() {
            out.push(StateRecord::SnapshotMap { index, segments });
        }
        out
    }
}
