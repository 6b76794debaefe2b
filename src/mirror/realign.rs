//! Displacements that nobody wrote down: a coordinator repeated our marker, the batch behind it landed one further up, and
//! a crash (or a lost answer) came before the answer that says so. Each batch carries in its sequence the offset that it
//! was bound to, so the log itself tells. How far batches are displaced only grows along the log: each step is found by
//! halving, not by reading all of it.

use crate::batch::{self, BatchHeader};

use super::{Displacement, Origin, PartitionState};

/// The search for the unrecorded displacements below the last batch of a partition.
#[derive(Debug, Clone)]
pub struct Realignment {
    origin: Origin,
    last: BatchHeader,
    /// Batches below are displaced by `shift`, the one that reaches to `high` or follows it by more.
    low: i64,
    high: i64,
    shift: i64,
    found: Vec<Displacement>,
    /// Compaction took the batches around a step: where it was cannot be told.
    blurred: bool,
}

impl Realignment {
    /// A search, where the last batch of the partition does not stand where its sequence says.
    pub fn new(state: &PartitionState, last: &BatchHeader) -> Option<Self> {
        let origin = state.origin?;
        (shift(origin, last)? > 0).then(|| Self {
            origin,
            last: *last,
            low: origin.start,
            high: last.base_offset,
            shift: 0,
            found: Vec::new(),
            blurred: false,
        })
    }

    /// The target offset to look at next: [`Realignment::answer`] wants the first batch that ends behind it and that
    /// [`Realignment::counts`].
    pub fn probe(&self) -> Option<i64> {
        let open = !self.blurred && shift(self.origin, &self.last) != Some(self.shift);
        open.then(|| self.low + (self.high - self.low) / 2)
    }

    /// Whether a batch is data of the epoch in question.
    pub fn counts(&self, header: &BatchHeader) -> bool {
        header.producer_id == self.last.producer_id && !header.is_control() && shift(self.origin, header).is_some()
    }

    /// What was found at the offset asked for.
    pub fn answer(&mut self, header: &BatchHeader) {
        let Some((at, shift)) = self.probe().zip(shift(self.origin, header)) else { return };
        if shift <= self.shift {
            self.low = header.next_offset();
        } else if self.low < self.high {
            self.high = at.min(header.base_offset);
        } else if header.base_offset - (shift - self.shift) != self.low {
            self.blurred = true;
        } else {
            let end = self.last.next_offset();
            if let Some(before) = self.found.last_mut() {
                before.end = self.low;
            }
            self.found.push(Displacement { at: self.low, to: header.base_offset, end });
            (self.low, self.high, self.shift) = (header.next_offset(), self.last.base_offset, shift);
        }
    }

    /// The displacements, once there is nothing more to look at; none where not all of them can be told.
    pub fn found(&self) -> &[Displacement] {
        if self.blurred { &[] } else { &self.found }
    }
}

/// How far above the offset that its sequence names a batch of this epoch stands.
fn shift(origin: Origin, header: &BatchHeader) -> Option<i64> {
    if header.producer_epoch != origin.epoch {
        return None;
    }
    let expected = batch::sequence_add(0, header.base_offset - origin.start);
    let ahead = batch::sequence_difference(header.base_sequence, expected);
    // The ring has no sign: more than half of it means that the batch stands below.
    (ahead < 1 << 30).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::batch::HEADER_LEN;
    use crate::mirror::{Declared, OffsetMap, Scan, Seen};

    fn header(base_offset: i64, count: i32, epoch: i16, base_sequence: i32) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: HEADER_LEN as i32 - 12,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            records_count: count,
        }
    }

    fn state(start: i64) -> PartitionState {
        PartitionState {
            declared: Declared {
                source_topic: "s".to_owned(),
                source_topic_id: Uuid::nil(),
                partition: 0,
                target_topic: "t".to_owned(),
                target_topic_id: Uuid::nil(),
            },
            map: OffsetMap::default(),
            origin: Some(Origin { epoch: 3, start, settled_end: 0 }),
            end: None,
            release: None,
            scanned: Scan::default(),
            seen: Seen::default(),
            pending: None,
        }
    }

    /// Batches of two records from offset 10 on; the marker of each of these offsets pushes what follows one up.
    fn log(batches: i32, markers: &[i64]) -> Vec<BatchHeader> {
        let mut out = Vec::new();
        let mut at = 10;
        for number in 0..batches {
            at += markers.iter().filter(|marker| **marker == at).count() as i64;
            out.push(header(at, 2, 3, number * 2));
            at += 2;
        }
        out
    }

    fn search(log: &[BatchHeader]) -> (Vec<Displacement>, usize) {
        let Some(mut search) = Realignment::new(&state(10), log.last().unwrap()) else { return (Vec::new(), 0) };
        let mut probes = 0;
        while let Some(at) = search.probe() {
            search.answer(log.iter().find(|h| h.next_offset() > at && search.counts(h)).unwrap());
            probes += 1;
        }
        (search.found().to_vec(), probes)
    }

    #[test]
    fn a_log_in_step_needs_no_search() {
        assert_eq!(search(&log(5, &[])), (Vec::new(), 0));
        let older = header(40, 2, 2, 0);
        assert!(Realignment::new(&state(10), &older).is_none(), "of an epoch that says nothing about this origin");
        let below = header(40, 2, 3, 31);
        assert!(Realignment::new(&state(10), &below).is_none());
    }

    #[test]
    fn every_displacement_is_found_wherever_it_is() {
        for first in 10..30 {
            for second in first + 1..32 {
                let log = log(12, &[first, first, second]);
                let mut expected: Vec<Displacement> = Vec::new();
                let mut end = 10;
                for h in &log {
                    if h.base_offset > end {
                        if let Some(before) = expected.last_mut() {
                            before.end = end;
                        }
                        expected.push(Displacement { at: end, to: h.base_offset, end: 0 });
                    }
                    end = h.next_offset();
                }
                if let Some(last) = expected.last_mut() {
                    last.end = end;
                }
                assert_eq!(search(&log).0, expected, "markers at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_step_that_compaction_has_blurred_is_not_guessed() {
        let mut log = log(12, &[20]);
        log.retain(|h| !(16..24).contains(&h.base_offset));
        assert_eq!(search(&log).0, []);
    }

    #[test]
    fn a_long_log_is_not_read_as_a_whole() {
        let (found, probes) = search(&log(100_000, &[150_000]));
        assert_eq!(found, [Displacement { at: 150_000, to: 150_001, end: 200_011 }]);
        assert!(probes < 40, "{probes}");
    }
}
