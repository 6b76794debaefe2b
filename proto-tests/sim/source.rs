//! A source partition and the memory of everything that ever stood in it: what the oracle judges by.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;

use super::broker::log::Log;

/// Something that was written to the source.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Life of the topic that it belongs to.
    pub(crate) topic: u128,
    pub(crate) offset: i64,
    /// `None` for a transaction marker.
    pub(crate) id: Option<u64>,
    producer: Option<i64>,
    /// It was shown to readers as committed, or as aborted; both, where a marker was lost with the end of the log.
    pub(crate) committed: bool,
    pub(crate) aborted: bool,
    pub(crate) compacted: bool,
    /// The log was truncated in front of it.
    pub(crate) lost: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) topic: u128,
    pub(crate) log: Log,
    written: Vec<Written>,
    /// What stands at an offset now, or stood there until compaction or retention took it.
    standing: BTreeMap<i64, usize>,
    by_id: HashMap<u64, usize>,
    /// Cut below what readers had been shown.
    pub(crate) truncated: bool,
    /// Retention took records that were not mirrored.
    pub(crate) bereft: bool,
    pub(crate) recreated: bool,
}

impl Source {
    pub(crate) fn new(topic: u128) -> Self {
        Self { topic, ..Self::default() }
    }

    fn note(&mut self, offset: i64, id: Option<u64>, producer: Option<i64>) {
        let committed = producer.is_none();
        let entry = Written {
            topic: self.topic,
            offset,
            id,
            producer,
            committed,
            aborted: false,
            compacted: false,
            lost: false,
        };
        let at = self.written.len();
        self.written.push(entry);
        self.standing.insert(offset, at);
        if let Some(id) = id {
            self.by_id.insert(id, at);
        }
    }

    pub(crate) fn write(&mut self, ids: &[u64], producer: Option<i64>, timestamp_ms: i64) {
        let base = self.log.write(ids, producer, timestamp_ms);
        for (offset, id) in (base..).zip(ids) {
            self.note(offset, Some(*id), producer);
        }
    }

    pub(crate) fn end_transaction(&mut self, producer: i64, commit: bool, now_ms: i64) {
        let first = self.log.open_from(producer);
        let Some(marker) = self.log.mark((producer, 0), commit, now_ms) else { return };
        for at in self.standing.range(first..).map(|(_, at)| at) {
            let entry = &mut self.written[*at];
            if entry.producer == Some(producer) {
                entry.committed |= commit;
                entry.aborted |= !commit;
            }
        }
        self.note(marker, None, None);
    }

    /// Another leader, whose log ends at `end`.
    pub(crate) fn elect(&mut self, end: i64) {
        self.truncated |= end < self.log.high_watermark;
        self.log.elect(end);
        for (_, at) in self.standing.split_off(&end) {
            self.written[at].lost = true;
        }
    }

    pub(crate) fn compact(&mut self, rng: &mut Rng) {
        let (written, standing) = (&mut self.written, &self.standing);
        let mut dice = rng.fork();
        let keep = |offset: i64| {
            let kept = dice.u8(..4) > 0;
            if !kept && let Some(at) = standing.get(&offset) {
                written[*at].compacted = true;
            }
            kept
        };
        self.log.compact(keep, || rng.bool());
    }

    pub(crate) fn delete_below(&mut self, start: i64) {
        self.log.delete_below(start);
    }

    /// Deleted, and made again under its name.
    pub(crate) fn recreate(&mut self) {
        self.recreated = true;
        self.topic += 1;
        self.log = Log::default();
        self.standing.clear();
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<&Written> {
        self.by_id.get(&id).map(|at| &self.written[*at])
    }

    pub(crate) fn standing_at(&self, offset: i64) -> Option<&Written> {
        self.standing.get(&offset).map(|at| &self.written[*at])
    }

    /// Committed records between two offsets that were not compacted away.
    pub(crate) fn committed_within(&self, from: i64, to: i64) -> usize {
        let within = self.standing.range(from..to.max(from)).map(|(_, at)| &self.written[*at]);
        within.filter(|w| w.id.is_some() && w.committed && !w.aborted && !w.compacted).count()
    }
}
