//! A chain of units as one: where each partition stands, and what is in it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::manifest::{Aborted, Gap, Manifest, OpenTransaction, PartitionPart, SegmentPart};
use crate::client::TopicPartition;
use crate::mirror::Isolation;

/// A log: topics that were made again under their name are others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Topic.
    pub topic: String,
    /// Its id on the source.
    pub topic_id: Uuid,
    /// Partition.
    pub partition: i32,
}

impl LogId {
    /// The log of a partition.
    pub fn of(tp: &TopicPartition) -> Self {
        Self { topic: tp.topic.clone(), topic_id: tp.topic_id, partition: tp.partition }
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Offset behind the last that is accounted for.
    pub to: i64,
    /// Leader epoch of the last batch; −1 where there is none.
    pub epoch: i32,
    /// Transactions that are open there.
    pub open: Vec<OpenTransaction>,
}

/// The end of a chain: what the next unit goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the chain.
    pub chain: u32,
    /// Units so far.
    pub units: u32,
    /// SHA-256 of the last manifest.
    pub last_sha256: Option<String>,
    /// When the first unit began, ms; 0 where there is none.
    pub begun_at_ms: i64,
    /// Which records of transactions its units hold; `None` where it has none.
    pub isolation: Option<Isolation>,
    /// Whether one of the units is complete and nothing stood in its way: the chain restores by itself.
    pub is_good: bool,
    /// Where each partition stands.
    pub positions: BTreeMap<LogId, Position>,
}

impl Head {
    /// An empty chain.
    pub fn new(chain: u32) -> Self {
        Self { chain, ..Self::default() }
    }

    /// What a unit says that cannot follow.
    pub fn gainsaid_by(&self, manifest: &Manifest) -> Option<String> {
        if self.isolation.is_some_and(|isolation| isolation != manifest.isolation) {
            return Some("the units before it were read under another isolation".to_owned());
        }
        let goes_on = |part: &&PartitionPart| part.to > part.from;
        manifest.partitions.iter().enumerate().filter(|(_, part)| goes_on(part)).find_map(|(number, part)| {
            let id = LogId { topic: part.topic.clone(), topic_id: part.topic_id, partition: part.partition };
            let due = self.positions.get(&id)?.to;
            (part.from != due)
                .then(|| format!("partitions[{number}].from: {id} goes on at offset {}, and {due} is due", part.from))
        })
    }

    /// Takes a unit in.
    pub fn advance(&mut self, manifest: &Manifest, sha256: String) {
        if self.units == 0 {
            self.begun_at_ms = manifest.begun_at_ms;
        }
        self.units = manifest.unit;
        self.isolation = Some(manifest.isolation);
        self.last_sha256 = Some(sha256);
        self.is_good |= manifest.is_complete && manifest.partitions.iter().all(|part| part.problem.is_none());
        for part in &manifest.partitions {
            if part.to <= part.from {
                continue;
            }
            let id = LogId { topic: part.topic.clone(), topic_id: part.topic_id, partition: part.partition };
            let epoch = part.segments.last().map(SegmentPart::last_leader_epoch);
            let known = self.positions.get(&id).map_or(-1, |position| position.epoch);
            let position = Position { to: part.to, epoch: epoch.unwrap_or(known), open: part.open.clone() };
            self.positions.insert(id, position);
        }
    }
}

/// What a chain has of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Which.
    pub id: LogId,
    /// First offset that is accounted for.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
    /// Segments, by offset.
    pub segments: Vec<SegmentPart>,
    /// What was gone.
    pub gaps: Vec<Gap>,
    /// Aborted transactions.
    pub aborted: Vec<Aborted>,
    /// Transactions that are open where it ends. Under read_committed too: the last stable offset is where the first one that is not
    /// decided begins, and others that began before it may have their markers behind it.
    pub open: Vec<OpenTransaction>,
    /// What stood in the way in the last unit that tried.
    pub problem: Option<String>,
    /// When the last pass began that had something of it, ms.
    pub tried_at_ms: i64,
    /// Offsets that no copy has any more, where that was looked into: a restore leaves them out.
    pub lost: Vec<(i64, i64)>,
}

impl Log {
    /// Records in it, those of control batches and aborted transactions included.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }

    /// Leader epochs and where they begin.
    pub fn leader_epochs(&self) -> Vec<(i32, i64)> {
        let mut out: Vec<(i32, i64)> = Vec::new();
        for segment in &self.segments {
            let begins = std::iter::once((segment.first_leader_epoch, segment.from));
            for (epoch, from) in begins.chain(segment.leader_epochs.iter().copied()) {
                // Records of before KIP-101 bear none; they are served under the first there can be.
                let epoch = epoch.max(0);
                if out.last().is_none_or(|(last, _)| epoch > *last) {
                    out.push((epoch, from));
                }
            }
        }
        out
    }
}

/// All logs of these units, which follow one another from the first of a chain.
pub fn logs<'a>(units: impl IntoIterator<Item = &'a Manifest>) -> BTreeMap<LogId, Log> {
    let mut logs: BTreeMap<LogId, Log> = BTreeMap::new();
    for unit in units {
        take_in(&mut logs, unit);
    }
    logs
}

fn take_in(logs: &mut BTreeMap<LogId, Log>, unit: &Manifest) {
    if unit.captured.is_some() {
        // The last of a pass: whom it says nothing of stood where it ended.
        logs.values_mut().filter(|log| log.tried_at_ms < unit.begun_at_ms).for_each(|log| log.problem = None);
    }
    for part in &unit.partitions {
        let id = LogId { topic: part.topic.clone(), topic_id: part.topic_id, partition: part.partition };
        let log = logs.entry(id.clone()).or_insert_with(|| Log {
            id,
            from: part.from,
            to: part.from,
            segments: Vec::new(),
            gaps: Vec::new(),
            aborted: Vec::new(),
            open: Vec::new(),
            problem: None,
            tried_at_ms: 0,
            lost: Vec::new(),
        });
        if log.to <= log.from {
            // Nothing was read of it before: it was tried, and did not go.
            (log.from, log.to) = (part.from, part.from);
        }
        if part.to > part.from {
            log.open.clone_from(&part.open);
        }
        log.to = log.to.max(part.to);
        log.segments.extend(part.segments.iter().cloned());
        log.gaps.extend(&part.gaps);
        log.aborted.extend(&part.aborted);
        log.problem.clone_from(&part.problem);
        log.tried_at_ms = unit.begun_at_ms;
    }
}
