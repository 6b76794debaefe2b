//! What the state topic holds, and what it adds up to.
//!
//! The topic `__kmirror.<mirror>` has one partition a shard and one for control. A shard's partition is a log of
//! [`StateRecord`]s (format: [`codec`]); [`ShardState`] is their sum. The control partition holds [`ControlRecord`]s.

pub mod codec;
mod control;
mod snapshot;
mod synced;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::map::{Break, MapError, OffsetMap, Segment};
use super::{Gap, GapReason, Halt};

pub use control::{
    Bandwidth, ControlRecord, ControlState, Generation, Promotion, PromotionMode, PromotionPhase, PromotionStep, Scope,
    Unfenced, UnfencedReason, decode_control, encode_control,
};
pub use snapshot::{RECORD_BYTES, seen_records, segments_records};
pub use synced::{Owned, SyncEntry, SyncKey, SyncKind, Synced};

/// Name of the state topic.
pub fn state_topic(mirror: &str) -> String {
    format!("__kmirror.{mirror}")
}

/// The transactional id of a shard.
pub fn transactional_id(mirror: &str, generation: u32, shard: u32) -> String {
    format!("kmirror.{mirror}.{generation}.{shard}")
}

/// The shard of a source partition: CRC32C of the topic id's 16 bytes, plus the partition, modulo the shards of the
/// generation. Partitions of one topic spread over neighbouring shards.
pub fn shard_of(source_topic_id: Uuid, partition: i32, shards: u32) -> u32 {
    let hash = crc32c::crc32c(source_topic_id.as_bytes());
    hash.wrapping_add(partition.unsigned_abs()) % shards.max(1)
}

/// What is wrong with a state record. The caller adds topic, partition and offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not a state record, or damaged.
    #[error("the record is damaged: {detail}")]
    Corrupt {
        /// In which way.
        detail: String,
    },
    /// Written by a newer kmirror.
    #[error("the record has format version {version}, this kmirror knows up to {known}; use the newer kmirror")]
    Version {
        /// Version of the record.
        version: u8,
        /// Newest version known.
        known: u8,
    },
    /// A record type that this version does not know.
    #[error("the record has type {kind}, which this kmirror does not know; use the newer kmirror")]
    Type {
        /// The type code.
        kind: u8,
    },
    /// A whole record that says what this version does not know.
    #[error("the record says something that this kmirror does not know ({detail}); use the newer kmirror")]
    Unknown {
        /// What.
        detail: String,
    },
    /// The beginning is missing.
    #[error("what was written before offset {start} is gone (retention? DeleteRecords?), and no snapshot follows")]
    CutOff {
        /// Where the log begins now.
        start: i64,
    },
    /// A record about a partition that was not declared.
    #[error("the record speaks of partition index {index}, which was not declared")]
    Undeclared {
        /// The index.
        index: u32,
    },
    /// A record that contradicts the ones before it.
    #[error("the record contradicts the ones before it: {detail}")]
    Contradiction {
        /// In which way.
        detail: String,
    },
    /// An offset map that cannot be.
    #[error("offset map of partition index {index}: {source}")]
    Map {
        /// The index.
        index: u32,
        /// What is wrong.
        source: MapError,
    },
}

impl StateError {
    /// Whether nothing is wrong with the record, but this kmirror is too old for it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Type { .. } | Self::Unknown { .. })
    }
}

/// The clean end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseEntry {
    /// Index of the partition in its shard.
    pub index: u32,
    /// End of the target log.
    pub end: i64,
    /// CRC of the last batch there, 0 where this run appended none.
    pub last_crc: u32,
}

/// One record of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRecord {
    /// Who owns the shard from here on.
    Id {
        /// Producer id of the shard's transactional id.
        producer_id: i64,
        /// Epoch of the owner.
        producer_epoch: i16,
    },
    /// Gives a partition the short index that all other records use.
    Declare {
        /// The index.
        index: u32,
        /// Source topic.
        source_topic: String,
        /// Its id.
        source_topic_id: Uuid,
        /// Partition number, on both sides.
        partition: i32,
        /// Target topic.
        target_topic: String,
        /// Its id.
        target_topic_id: Uuid,
    },
    /// `start:` was applied to everything that existed in this shard.
    Baseline,
    /// The partition was there at the mirror's first start and could not begin then: what `start:` said still holds for it.
    Pending {
        /// The partition.
        index: u32,
        /// The source offset that `start:` named; absent where the source could not tell.
        begin: Option<i64>,
    },
    /// Breaks of the offset maps of several partitions, written ahead.
    Segments {
        /// Index and breaks, in order.
        entries: Vec<(u32, Vec<Break>)>,
    },
    /// A take-over: data ends at `settled_end`, our marker stands at `marker`, sequences count from behind it.
    Origin {
        /// The partition.
        index: u32,
        /// Producer epoch of the marker.
        epoch: i16,
        /// Settled end of the data.
        settled_end: i64,
        /// Offset of the marker.
        marker: i64,
    },
    /// A clean continuation at `end`, in the partition's own epoch; also the beginning of a new partition.
    Resume {
        /// The partition.
        index: u32,
        /// Producer epoch in force there.
        epoch: i16,
        /// End of the target log.
        end: i64,
    },
    /// Batches bound for `at` landed `by` above it, behind markers or foreign records.
    Displaced {
        /// The partition.
        index: u32,
        /// Target offset they were bound for.
        at: i64,
        /// By how much.
        by: i64,
        /// End of the target log.
        end: i64,
        /// What lies between.
        reason: GapReason,
    },
    /// The source was truncated, and the mirror goes on there.
    Diverged {
        /// The partition.
        index: u32,
        /// Source offset from which on the source holds other records now.
        source: i64,
        /// End of the target log, where they go on.
        end: i64,
    },
    /// A clean stop.
    Release {
        /// Every partition that was released.
        entries: Vec<ReleaseEntry>,
    },
    /// How far the source was read without anything more to mirror: retention of that is no loss.
    Scanned {
        /// Index, and how far.
        entries: Vec<(u32, Scan)>,
    },
    /// How far the source logs reached when they were last heard of. A sign of life of the owner as well, also where it names
    /// nobody.
    Seen {
        /// When it was written, ms.
        at_ms: i64,
        /// Index, and what was seen.
        entries: Vec<(u32, Seen)>,
    },
    /// A partition halted (`Some`), or was set free (`None`).
    Halt {
        /// Source topic.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Why.
        halt: Option<Halt>,
        /// How often the partition had been told to go on by then ([`ControlState::resumes`]).
        resumes: u64,
    },
    /// The state anew: what follows up to the end replaces everything before.
    SnapshotBegin {
        /// Names the snapshot.
        id: u64,
        /// Who owns the shard: producer id and epoch.
        owner: Option<(i64, i16)>,
        /// Every producer id that ever owned it.
        producer_ids: Vec<i64>,
        /// See [`StateRecord::Baseline`].
        baseline: bool,
    },
    /// A partition in a snapshot, without its map.
    SnapshotPartition {
        /// The partition.
        index: u32,
        /// Where sequences count from.
        origin: Option<Origin>,
        /// Last end on record.
        end: Option<i64>,
        /// Standing release.
        release: Option<ReleaseEntry>,
        /// See `Scanned`.
        scanned: Scan,
    },
    /// Some segments of a partition's map in a snapshot, each with the gaps in front of it.
    SnapshotMap {
        /// The partition.
        index: u32,
        /// Segments with their gaps.
        segments: Vec<(Segment, Vec<Gap>)>,
    },
    /// The snapshot is whole.
    SnapshotEnd {
        /// Names the snapshot.
        id: u64,
    },
}

/// Where sequences count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Producer epoch in force on the partition.
    pub epoch: i16,
    /// Target offset of sequence 0.
    pub start: i64,
    /// End of the data when it was set.
    pub settled_end: i64,
}

/// How far the source was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Source offset below which nothing is left to mirror.
    pub source: i64,
    /// End of the target when that was so.
    pub end: i64,
}

/// What was last heard of a source log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// End of what can be mirrored: the last stable offset, or the high watermark under read_uncommitted.
    pub end: i64,
    /// When the source said so, ms; 0 where it never did.
    pub at_ms: i64,
}

/// Identity of a mirrored partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Source topic.
    pub source_topic: String,
    /// Its id.
    pub source_topic_id: Uuid,
    /// Partition number, on both sides.
    pub partition: i32,
    /// Target topic.
    pub target_topic: String,
    /// Its id.
    pub target_topic_id: Uuid,
}

impl Declared {
    /// The record that gives the partition its index.
    pub fn record(&self, index: u32) -> StateRecord {
        StateRecord::Declare {
            index,
            source_topic: self.source_topic.clone(),
            source_topic_id: self.source_topic_id,
            partition: self.partition,
            target_topic: self.target_topic.clone(),
            target_topic_id: self.target_topic_id,
        }
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Identity.
    pub declared: Declared,
    /// Offset map.
    pub map: OffsetMap,
    /// Where sequences count from; `None` before its first resume.
    pub origin: Option<Origin>,
    /// The last end of the target log on record; data appended since lies above.
    pub end: Option<i64>,
    /// A clean stop that no start has consumed yet.
    pub release: Option<ReleaseEntry>,
    /// See [`StateRecord::Scanned`].
    pub scanned: Scan,
    /// See [`StateRecord::Seen`].
    pub seen: Seen,
    /// See [`StateRecord::Pending`]; means nothing once the map has begun.
    pub pending: Option<Option<i64>>,
}

/// The sum of a shard's records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardState {
    /// The last owner's producer id and epoch.
    pub id: Option<(i64, i16)>,
    /// Every producer id that ever owned the shard.
    pub producer_ids: BTreeSet<i64>,
    /// See [`StateRecord::Baseline`].
    pub baseline: bool,
    /// Partitions by index.
    pub partitions: BTreeMap<u32, PartitionState>,
    /// Halts by source topic and partition, each with the number of resumes that it followed.
    pub halts: BTreeMap<(String, i32), (Halt, u64)>,
    /// The owner's last sign of life, ms; 0 where there is none.
    pub alive_ms: i64,
    by_source: HashMap<(Uuid, i32), u32>,
    shadow: Option<(u64, Box<ShardState>)>,
}

impl ShardState {
    /// A partition by its source.
    pub fn find(&self, source_topic_id: Uuid, partition: i32) -> Option<(u32, &PartitionState)> {
        let index = *self.by_source.get(&(source_topic_id, partition))?;
        self.partitions.get(&index).map(|state| (index, state))
    }

    /// An index that no partition has.
    pub fn next_index(&self) -> u32 {
        self.partitions.last_key_value().map_or(0, |(index, _)| index + 1)
    }

    /// Adds a record.
    pub fn apply(&mut self, record: &StateRecord) -> Result<(), StateError> {
        match (record, &mut self.shadow) {
            (StateRecord::SnapshotBegin { id, owner, producer_ids, baseline }, _) => {
                let whole = Self {
                    id: *owner,
                    producer_ids: producer_ids.iter().copied().collect(),
                    baseline: *baseline,
                    ..Self::default()
                };
                self.shadow = Some((*id, Box::new(whole)));
                Ok(())
            }
            (StateRecord::SnapshotEnd { id }, shadow) => match shadow.take() {
                Some((begun, whole)) if begun == *id => {
                    *self = *whole;
                    Ok(())
                }
                _ => Err(contradiction(format!("snapshot {id} ends without a beginning"))),
            },
            // A new owner begins with its id: the snapshot of the one before was left unfinished and does not count.
            (StateRecord::Id { .. }, Some(_)) => {
                self.shadow = None;
                self.apply_plain(record)
            }
            (_, Some((_, shadow))) => shadow.apply_plain(record),
            (_, None) => self.apply_plain(record),
        }
    }

    fn apply_plain(&mut self, record: &StateRecord) -> Result<(), StateError> {
        match record {
            StateRecord::Id { producer_id, producer_epoch } => {
                // Epochs of another producer id do not go on: nothing may continue unmarked.
                if self.id.is_some_and(|(before, _)| before != *producer_id) {
                    self.partitions.values_mut().for_each(|state| state.release = None);
                }
                self.id = Some((*producer_id, *producer_epoch));
                self.producer_ids.insert(*producer_id);
            }
            StateRecord::Baseline => self.baseline = true,
            StateRecord::Pending { index, begin } => self.partition(*index)?.pending = Some(*begin),
            StateRecord::Declare { index, .. } => self.declare(*index, record)?,
            StateRecord::Segments { entries } => {
                for (index, breaks) in entries {
                    let state = self.partition(*index)?;
                    for step in breaks {
                        state.map.push(step).map_err(in_map(*index))?;
                    }
                }
            }
            StateRecord::Release { entries } => {
                for entry in entries {
                    let state = self.partition(entry.index)?;
                    state.release = Some(*entry);
                    state.end = Some(entry.end);
                }
            }
            StateRecord::Scanned { entries } => {
                for (index, scan) in entries {
                    self.partition(*index)?.scanned = *scan;
                }
            }
            StateRecord::Seen { at_ms, entries } => {
                self.alive_ms = *at_ms;
                for (index, seen) in entries {
                    self.partition(*index)?.seen = *seen;
                }
            }
            StateRecord::Halt { topic, partition, halt, resumes } => {
                let key = (topic.clone(), *partition);
                match halt {
                    Some(halt) => self.halts.insert(key, (halt.clone(), *resumes)),
                    None => self.halts.remove(&key),
                };
            }
            StateRecord::SnapshotBegin { .. } | StateRecord::SnapshotEnd { .. } => {
                return Err(contradiction("a snapshot within a snapshot".to_owned()));
            }
            other => self.apply_to_partition(other)?,
        }
        Ok(())
    }

    fn apply_to_partition(&mut self, record: &StateRecord) -> Result<(), StateError> {
        match record {
            StateRecord::Origin { index, epoch, settled_end, marker } => {
                let state = self.partition(*index)?;
                state.map.take_over(*settled_end, *marker, *epoch).map_err(in_map(*index))?;
                state.origin = Some(Origin { epoch: *epoch, start: marker + 1, settled_end: *settled_end });
                state.end = Some(marker + 1);
                state.release = None;
                // The target has lost records that came before it: they are read again.
                if *settled_end < state.scanned.end {
                    state.scanned = Scan::default();
                }
            }
            StateRecord::Resume { index, epoch, end } => self.partition(*index)?.resume(*index, *epoch, *end)?,
            StateRecord::Displaced { index, at, by, end, .. } => {
                let state = self.partition(*index)?;
                let start = state.origin.map(|origin| origin.start.checked_add(*by).ok_or(MapError::Overflow));
                let start = start.transpose().map_err(in_map(*index))?;
                state.map.displace(*at, *by, *end).map_err(in_map(*index))?;
                if let (Some(origin), Some(start)) = (&mut state.origin, start) {
                    origin.start = start;
                }
                state.end = Some(*end);
            }
            StateRecord::Diverged { index, source, end } => {
                let state = self.partition(*index)?;
                let epoch = state.origin.map_or(0, |origin| origin.epoch);
                state.map.diverge(*source, *end, epoch).map_err(in_map(*index))?;
                state.scanned.source = state.scanned.source.min(*source);
            }
            StateRecord::SnapshotPartition { index, origin, end, release, scanned } => {
                let state = self.partition(*index)?;
                state.origin = *origin;
                state.end = *end;
                state.release = *release;
                state.scanned = *scanned;
            }
            StateRecord::SnapshotMap { index, segments } => {
                let state = self.partition(*index)?;
                for (segment, gaps) in segments {
                    state.map.add(*segment, gaps).map_err(in_map(*index))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn partition(&mut self, index: u32) -> Result<&mut PartitionState, StateError> {
        self.partitions.get_mut(&index).ok_or(StateError::Undeclared { index })
    }

    fn declare(&mut self, index: u32, record: &StateRecord) -> Result<(), StateError> {
        let StateRecord::Declare { source_topic, source_topic_id, partition, target_topic, target_topic_id, .. } =
            record
        else {
            return Ok(());
        };
        let declared = Declared {
            source_topic: source_topic.clone(),
            source_topic_id: *source_topic_id,
            partition: *partition,
            target_topic: target_topic.clone(),
            target_topic_id: *target_topic_id,
        };
        if let Some(there) = self.partitions.get(&index) {
            return if there.declared == declared {
                Ok(())
            } else {
                Err(contradiction(format!("partition index {index} is declared twice, for different partitions")))
            };
        }
        if index == u32::MAX {
            return Err(contradiction(format!("partition index {index} leaves no index for the next partition")));
        }
        // The newest has the largest index: in a snapshot, too, where they stand in the order of their indexes.
        let newest = self.by_source.entry((*source_topic_id, *partition)).or_insert(index);
        *newest = index.max(*newest);
        let state = PartitionState {
            declared,
            map: OffsetMap::default(),
            origin: None,
            end: None,
            release: None,
            scanned: Scan::default(),
            seen: Seen::default(),
            pending: None,
        };
        self.partitions.insert(index, state);
        Ok(())
    }
}

impl PartitionState {
    fn resume(&mut self, index: u32, epoch: i16, end: i64) -> Result<(), StateError> {
        let begins = Origin { epoch, start: end, settled_end: end };
        // A start that did not get as far as the first break has written nothing: another owner begins anew.
        let origin = self.origin.filter(|_| !self.map.is_empty()).unwrap_or(begins);
        self.origin = Some(origin);
        if origin.epoch != epoch || end < origin.start {
            return Err(contradiction(format!(
                "partition index {index} resumes at {end} in epoch {epoch}, but epoch {} began at {}",
                origin.epoch, origin.start
            )));
        }
        self.map.void_ahead(end);
        self.end = Some(end);
        self.release = None;
        Ok(())
    }
}

fn in_map(index: u32) -> impl Fn(MapError) -> StateError {
    move |source| StateError::Map { index, source }
}

fn contradiction(detail: String) -> StateError {
    StateError::Contradiction { detail }
}

#[cfg(test)]
mod tests;
