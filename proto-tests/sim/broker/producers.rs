//! What a partition remembers of its producers: the rules measured on Kafka 4.3.1 and 3.9.1 (`proto-tests/conformance`),
//! written a second time and from the table in the design, not from `src/broker`.

use std::collections::{BTreeMap, VecDeque};

pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;

const REMEMBERED: usize = 5;
const SEQUENCES: i64 = 1 << 31;

/// A batch as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) producer: (i64, i16),
    pub(crate) first: i32,
    pub(crate) count: i32,
    pub(crate) timestamp_ms: i64,
}

impl Claim {
    fn last(&self) -> i32 {
        ((i64::from(self.first) + i64::from(self.count) - 1) % SEQUENCES) as i32
    }
}

#[derive(Debug, Clone)]
struct Memory {
    epoch: i16,
    /// First and last sequence, and the offset.
    batches: VecDeque<(i32, i32, i64)>,
    newest_ms: i64,
}

/// What the partition says to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    Append,
    /// Nothing is appended; this is where it stands.
    Duplicate(i64),
    Refuse(i16),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Producers(BTreeMap<i64, Memory>);

impl Producers {
    pub(crate) fn judge(&self, claim: &Claim) -> Judgement {
        let (id, epoch) = claim.producer;
        // State missing: any sequence goes, even of an epoch that was fenced once.
        let Some(memory) = self.0.get(&id) else { return Judgement::Append };
        let same = |(first, last, _): &&(i32, i32, i64)| (*first, *last) == (claim.first, claim.last());
        if epoch == memory.epoch
            && let Some((.., offset)) = memory.batches.iter().find(same)
        {
            return Judgement::Duplicate(*offset);
        }
        if epoch < memory.epoch {
            return Judgement::Refuse(INVALID_PRODUCER_EPOCH);
        }
        let last = memory.batches.back().filter(|_| epoch == memory.epoch).map_or(-1, |(_, last, _)| i64::from(*last));
        if i64::from(claim.first) == (last + 1) % SEQUENCES {
            Judgement::Append
        } else {
            Judgement::Refuse(OUT_OF_ORDER_SEQUENCE_NUMBER)
        }
    }

    pub(crate) fn note(&mut self, claim: &Claim, offset: i64) {
        let memory = self.memory(claim.producer);
        memory.batches.push_back((claim.first, claim.last(), offset));
        if memory.batches.len() > REMEMBERED {
            memory.batches.pop_front();
        }
        memory.newest_ms = claim.timestamp_ms;
    }

    /// Whether a marker of this producer may be written: an older epoch is refused, as with data.
    pub(crate) fn admits_marker(&self, producer: (i64, i16)) -> bool {
        self.0.get(&producer.0).is_none_or(|memory| memory.epoch <= producer.1)
    }

    pub(crate) fn note_marker(&mut self, producer: (i64, i16), now_ms: i64) {
        self.memory(producer).newest_ms = now_ms;
    }

    fn memory(&mut self, (id, epoch): (i64, i16)) -> &mut Memory {
        let new = Memory { epoch, batches: VecDeque::new(), newest_ms: 0 };
        let memory = self.0.entry(id).or_insert_with(|| new.clone());
        if memory.epoch != epoch {
            *memory = new;
        }
        memory
    }

    /// Forgets whoever wrote nothing newer than this, by *record* time; says whether anybody was forgotten.
    pub(crate) fn sweep(&mut self, before_ms: i64) -> bool {
        let held = self.0.len();
        self.0.retain(|_, memory| memory.newest_ms >= before_ms);
        held != self.0.len()
    }
}
