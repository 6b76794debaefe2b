//! What stands in the two logs of the model, small enough to enumerate, and what kmirror reads out of it.

use std::collections::BTreeSet;

use kmirror::batch::BatchHeader;
use kmirror::mirror::{
    Break, Declared, GapReason, PartitionState, ReleaseEntry, ShardState, StateRecord, first_records,
};
use uuid::Uuid;

pub(crate) const PRODUCER: i64 = 7;
const INDEX: u32 = 0;

/// An entry of the state partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Marker(i16),
    /// The partition is declared, resumed at offset 0, and its map begins.
    First(i16),
    /// Source offsets skipped behind a run of records.
    Break {
        run: u64,
        skipped: u64,
    },
    Origin {
        epoch: i16,
        settled: i64,
        marker: i64,
    },
    Resume {
        epoch: i16,
        end: i64,
    },
    Displaced {
        at: i64,
        by: i64,
        end: i64,
    },
    Release {
        end: i64,
    },
}

/// An entry of the data partition; batches hold one record each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Datum {
    Marker(i16),
    Record { epoch: i16, sequence: i32, source: i64 },
}

impl Datum {
    pub(crate) fn header(self, offset: i64) -> BatchHeader {
        let (control, epoch, sequence) = match self {
            Self::Marker(epoch) => (true, epoch, -1),
            Self::Record { epoch, sequence, .. } => (false, epoch, sequence),
        };
        BatchHeader {
            base_offset: offset,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: if control { 0x30 } else { 0 },
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: PRODUCER,
            producer_epoch: epoch,
            base_sequence: sequence,
            records_count: 1,
        }
    }
}

pub(crate) fn producer_ids() -> BTreeSet<i64> {
    BTreeSet::from([PRODUCER])
}

pub(crate) fn declared() -> Declared {
    Declared {
        source_topic: "s".to_owned(),
        source_topic_id: Uuid::from_u128(1),
        partition: 0,
        target_topic: "t".to_owned(),
        target_topic_id: Uuid::from_u128(2),
    }
}

fn records(entry: &Entry) -> Vec<StateRecord> {
    match *entry {
        Entry::Marker(_) => Vec::new(),
        Entry::First(epoch) => first_records(&declared(), INDEX, epoch, 0, (0, GapReason::Start)).to_vec(),
        Entry::Break { run, skipped } => {
            let gaps = vec![(GapReason::Compaction, skipped)];
            let step = Break { run, gaps, target_gap: 0, leader_epoch: -1, writer_epoch: 0 };
            vec![StateRecord::Segments { entries: vec![(INDEX, vec![step])] }]
        }
        Entry::Origin { epoch, settled, marker } => {
            vec![StateRecord::Origin { index: INDEX, epoch, settled_end: settled, marker }]
        }
        Entry::Resume { epoch, end } => vec![StateRecord::Resume { index: INDEX, epoch, end }],
        Entry::Displaced { at, by, end } => {
            vec![StateRecord::Displaced { index: INDEX, at, by, end, reason: GapReason::TakeOver }]
        }
        Entry::Release { end } => {
            vec![StateRecord::Release { entries: vec![ReleaseEntry { index: INDEX, end, last_crc: 0 }] }]
        }
    }
}

/// What the entries add up to: `None` where they contradict each other, or the partition is not declared.
pub(crate) fn sum(entries: &[Entry]) -> Option<PartitionState> {
    let mut state = ShardState::default();
    for record in entries.iter().flat_map(records) {
        state.apply(&record).ok()?;
    }
    state.partitions.remove(&INDEX)
}

/// Whether the entries can be read at all.
pub(crate) fn readable(entries: &[Entry]) -> bool {
    let mut state = ShardState::default();
    entries.iter().flat_map(records).all(|record| state.apply(&record).is_ok())
}
