//! The offset map found again from the two logs alone, where the state that held it is lost: which record of the target is
//! which one of the source.
//!
//! Both logs are walked record by record, each record standing for what it says (a hash of timestamp, key, value and
//! headers). Where both run in step nothing has to be searched. Behind a break the next record of the target is looked for
//! among those of the source that follow; what is found twice is compared by what follows it, and what cannot be told apart
//! is not guessed. Records that compaction or retention took from the source since stay mapped where both ends of the hole
//! run in step. The tail decides: unless the last record of the target is found, nobody knows where to go on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use super::gap::push_gap;
use super::{Gap, GapReason, MapError, OffsetMap, Segment};

/// A record of the source that counts, as the intake gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// Its offset.
    pub offset: i64,
    /// What it says, hashed.
    pub print: u64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
    /// Source offsets right before it that hold nothing to mirror.
    pub gaps: Vec<(GapReason, u64)>,
}

/// A data record of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetRecord {
    /// Its offset.
    pub offset: i64,
    /// What it says, hashed.
    pub print: u64,
    /// Producer id of its batch.
    pub writer: i64,
    /// Producer epoch of its batch.
    pub writer_epoch: i16,
    /// A marker stands between it and the record in front of it.
    pub behind_marker: bool,
}

/// Records of one side that are held to search among.
const WINDOW: usize = 16_384;
/// Records that are compared to tell apart two places where the same record stands.
const FOLLOWERS: usize = 256;

/// Records in a row that prove a place which had to be searched for: a single one may stand there by chance.
const PROOF: u64 = 16;

/// What the walk needs to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The next record of the source, or its end.
    Source,
    /// The next record of the target, or its end.
    Target,
    /// Nothing: it is through.
    Nothing,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The offset map.
    pub map: OffsetMap,
    /// Target offset behind the last record.
    pub end: i64,
    /// Records that stand on both sides.
    pub matched: u64,
    /// Target records in front of the map: the source does not hold them any more, or never did.
    pub leading: u64,
    /// Target records behind its beginning that the map says nothing of.
    pub unmapped: u64,
    /// Source records in front of the position that are not on the target.
    pub missing: u64,
    /// Who wrote what was matched: producer ids with their newest epochs.
    pub writers: BTreeMap<i64, i16>,
}

/// Why the map cannot be found again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misaligned {
    /// No record stands on both sides.
    #[error("none of the {target} records of the target is on the source")]
    NothingInCommon {
        /// Records looked at.
        target: u64,
    },
    /// The end of the target is not on the source.
    #[error(
        "the last {count} records of the target, from offset {from} on, are not on the source: retention or compaction took \
         them there, or somebody else wrote them"
    )]
    Tail {
        /// First of them.
        from: i64,
        /// How many.
        count: u64,
    },
    /// Too little stands on both sides behind the last place where records of one side are not on the other.
    #[error(
        "only {count} records in a row, from target offset {from} on, stand on both sides behind records that do not: too few \
         to tell that they are the same"
    )]
    Thin {
        /// First of them.
        from: i64,
        /// How many.
        count: u64,
    },
    /// The same records stand in several places.
    #[error("target offset {target} could be source offset {first} or {second}: the same records follow on both")]
    Ambiguous {
        /// On the target.
        target: i64,
        /// On the source.
        first: i64,
        /// On the source, too.
        second: i64,
    },
    /// What was found makes no map.
    #[error("what was found makes no offset map: {0}")]
    Map(#[from] MapError),
}

/// Target records that were not found on the source.
#[derive(Debug, Clone, Copy)]
struct Lost {
    from: i64,
    count: u64,
    /// Where one of them would be in step the source holds another record: what follows is not in step, whatever it says.
    out_of_step: bool,
}

/// A walk through both logs.
#[derive(Debug, Default)]
pub struct Aligner {
    source: VecDeque<SourceRecord>,
    target: VecDeque<TargetRecord>,
    source_ended: bool,
    target_ended: bool,
    map: OffsetMap,
    /// The last pair: target and source offset, and the source's leader epoch.
    last: Option<(i64, i64, i32)>,
    /// Target records behind the last pair that were not found.
    lost: Option<Lost>,
    matched: u64,
    leading: u64,
    unmapped: u64,
    missing: u64,
    writers: BTreeMap<i64, i16>,
    /// Where a place was last searched for, and how many records have been matched in a row since.
    jump: Option<(i64, u64)>,
    /// Records of the source that were let go of before the beginning.
    dropped: bool,
}

impl Aligner {
    /// Adds the next record of the source.
    pub fn push_source(&mut self, record: SourceRecord) {
        self.source.push_back(record);
    }

    /// Adds the next record of the target.
    pub fn push_target(&mut self, record: TargetRecord) {
        self.target.push_back(record);
    }

    /// The source holds no more.
    pub fn end_source(&mut self) {
        self.source_ended = true;
    }

    /// The target holds no more.
    pub fn end_target(&mut self) {
        self.target_ended = true;
    }

    /// Walks on as far as it can.
    pub fn advance(&mut self) -> Result<Need, Misaligned> {
        loop {
            let Some(next) = self.target.front().copied() else {
                return Ok(if self.target_ended { Need::Nothing } else { Need::Target });
            };
            if self.source.is_empty() && !self.source_ended {
                return Ok(Need::Source);
            }
            if self.reaches_too_short(next) {
                return Ok(Need::Source);
            }
            if let Some(at) = self.in_step(next)? {
                self.pair(next, at)?;
                continue;
            }
            // A search looks as far ahead as it may, on both sides.
            if self.source.len() < WINDOW && !self.source_ended {
                return Ok(Need::Source);
            }
            if self.target.len() < WINDOW && !self.target_ended {
                return Ok(Need::Target);
            }
            self.search(next)?;
        }
    }

    /// The result, once [`Need::Nothing`] is needed.
    pub fn finish(self) -> Result<Alignment, Misaligned> {
        let Some((last, ..)) = self.last else { return Err(Misaligned::NothingInCommon { target: self.leading }) };
        if let Some(Lost { from, count, .. }) = self.lost {
            return Err(Misaligned::Tail { from, count });
        }
        if let Some((from, count)) = self.jump.filter(|(_, count)| *count < PROOF) {
            return Err(Misaligned::Thin { from, count });
        }
        Ok(Alignment {
            map: self.map,
            end: last + 1,
            matched: self.matched,
            leading: self.leading,
            unmapped: self.unmapped,
            missing: self.missing,
            writers: self.writers,
        })
    }

    /// Behind a hole of the target, which markers or compaction have left, the records that may be meant must be at hand: the
    /// one in step, and as many in turn as the hole has room for.
    fn reaches_too_short(&self, next: TargetRecord) -> bool {
        let Some((target, source, _)) = self.last else { return false };
        let due = source + (next.offset - target);
        let short = self.source.back().is_none_or(|last| last.offset < due) || self.source.len() <= self.room(next);
        next.offset > target + 1 && short && !self.source_ended && self.source.len() < WINDOW
    }

    /// Records that the target may have let go of in front of this one.
    fn room(&self, next: TargetRecord) -> usize {
        let hole = self.last.map_or(0, |(target, ..)| next.offset - target - 1);
        usize::try_from(hole).unwrap_or(0).min(WINDOW)
    }

    /// Where the record stands if nothing came between: at the offset that is in step, or next in turn. (In turn only where
    /// no record before it is lost: one of those may be the same.) Where several say the same, what follows tells.
    fn in_step(&self, next: TargetRecord) -> Result<Option<usize>, Misaligned> {
        if self.last.is_none() {
            return Ok(None);
        }
        let is_same = |at: &usize| self.source.get(*at).is_some_and(|record| record.print == next.print);
        let torn = self.lost.is_some_and(|lost| lost.out_of_step);
        let due = self.due(next).filter(|_| !torn).filter(is_same);
        let in_turn = if self.lost.is_none() { 0..=self.room(next) } else { RangeInclusive::new(1, 0) };
        let mut places: Vec<usize> = in_turn.filter(is_same).collect();
        places.extend(due.filter(|due| !places.contains(due)));
        if places.is_empty() { Ok(None) } else { self.likeliest(places, 0, next).map(Some) }
    }

    /// Of several places on the source the one that is followed by most of the records that follow on the target.
    fn likeliest(&self, places: Vec<usize>, on_target: usize, next: TargetRecord) -> Result<usize, Misaligned> {
        most_alike(places, |at| self.likeness(on_target, at)).map_err(|(one, other)| {
            let offset = |at: usize| self.source.get(at).map_or(-1, |record| record.offset);
            Misaligned::Ambiguous { target: next.offset, first: offset(one), second: offset(other) }
        })
    }

    /// The source record at the offset that is in step.
    fn due(&self, next: TargetRecord) -> Option<usize> {
        let (target, source, _) = self.last?;
        let due = source + (next.offset - target);
        let at = self.source.partition_point(|record| record.offset < due);
        self.source.get(at).filter(|record| record.offset == due).map(|_| at)
    }

    fn search(&mut self, next: TargetRecord) -> Result<(), Misaligned> {
        if self.last.is_none() {
            return self.search_beginning();
        }
        match self.candidate(0, next)? {
            Some(at) => self.pair(next, at),
            None => {
                self.lose(next);
                Ok(())
            }
        }
    }

    /// The first record of the source that stands on the target as well. Whatever is before it on either side is of
    /// another time.
    fn search_beginning(&mut self) -> Result<(), Misaligned> {
        let mut there: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, record) in self.target.iter().enumerate() {
            there.entry(record.print).or_default().push(at);
        }
        let both = |(at, record): (usize, &SourceRecord)| Some((at, there.get(&record.print)?.clone()));
        let Some((skipped, places)) = self.source.iter().enumerate().find_map(both) else {
            // Neither side's window holds anything of the other's: what is older goes.
            self.drop_older();
            return Ok(());
        };
        // On the target, too, the same record may stand in several places; one that cannot be told begins nothing.
        let Ok(leading) = most_alike(places, |at| self.likeness(at, skipped)) else {
            self.source.drain(..=skipped);
            self.dropped = true;
            return Ok(());
        };
        let Some(next) = self.target.get(leading).copied() else { return Ok(()) };
        let Some(at) = self.candidate(leading, next)?.filter(|at| *at == skipped) else {
            self.source.drain(..=skipped);
            self.dropped = true;
            return Ok(());
        };
        self.target.drain(..leading);
        self.leading += leading as u64;
        self.pair(next, at)
    }

    fn drop_older(&mut self) {
        let half = (self.target.len() / 2).max(1).min(self.target.len());
        if self.source_ended {
            self.leading += half as u64;
            self.target.drain(..half);
        } else {
            let half = (self.source.len() / 2).max(1).min(self.source.len());
            self.source.drain(..half);
            self.dropped = true;
        }
    }

    /// Where on the source a record of the target may stand that is out of step. Of several places that one which is
    /// followed by the same records; none where the records in front of it still come on the target.
    fn candidate(&self, on_target: usize, next: TargetRecord) -> Result<Option<usize>, Misaligned> {
        let same = |(at, record): (usize, &SourceRecord)| (record.print == next.print).then_some(at);
        let places: Vec<usize> = self.source.iter().enumerate().filter_map(same).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let found = self.likeliest(places, on_target, next)?;
        let passed_over =
            |record: &SourceRecord| self.target.iter().skip(on_target + 1).any(|later| later.print == record.print);
        Ok(Some(found).filter(|found| self.last.is_none() || !self.source.iter().take(*found).any(passed_over)))
    }

    /// How many records in a row are the same from here on.
    fn likeness(&self, on_target: usize, on_source: usize) -> usize {
        let ours = self.target.iter().skip(on_target).take(FOLLOWERS);
        let theirs = self.source.iter().skip(on_source);
        ours.zip(theirs).take_while(|(ours, theirs)| ours.print == theirs.print).count()
    }

    fn lose(&mut self, record: TargetRecord) {
        self.target.pop_front();
        let taken = self.due(record).is_some();
        let Lost { from, count, out_of_step } =
            self.lost.unwrap_or(Lost { from: record.offset, count: 0, out_of_step: false });
        self.lost = Some(Lost { from, count: count + 1, out_of_step: out_of_step || taken });
    }

    /// The next record of the target is the source's record at this place of the window.
    fn pair(&mut self, next: TargetRecord, at: usize) -> Result<(), Misaligned> {
        let mut gaps = Vec::new();
        for skipped in self.source.drain(..at) {
            skipped.gaps.iter().for_each(|(reason, len)| push_gap(&mut gaps, *reason, *len));
            push_gap(&mut gaps, GapReason::Unknown, 1);
        }
        let Some(found) = self.source.pop_front() else { return Ok(()) };
        self.target.pop_front();
        found.gaps.iter().for_each(|(reason, len)| push_gap(&mut gaps, *reason, *len));
        let lost = self.lost.take();
        // Where a marker stands no record can have stood: what was passed over was never there.
        let torn = lost.is_some_and(|lost| lost.out_of_step) || (next.behind_marker && at > 0);
        self.prove(next, at);
        match self.last {
            None => self.begin(next, &found)?,
            Some((target, source, _)) if torn || next.offset - target != found.offset - source => {
                self.unmapped += lost.map_or(0, |lost| lost.count);
                self.missing += at as u64;
                self.segment(next, &found, &from_offset(source + 1, found.offset, &gaps))?;
            }
            // What lies between is in step: compaction may have taken some of it on either side.
            Some((.., leader_epoch)) if leader_epoch != found.leader_epoch => self.segment(next, &found, &[])?,
            Some(_) => {}
        }
        self.last = Some((next.offset, found.offset, found.leader_epoch));
        self.matched += 1;
        if next.writer >= 0 {
            let newest = self.writers.entry(next.writer).or_insert(next.writer_epoch);
            *newest = next.writer_epoch.max(*newest);
        }
        Ok(())
    }

    /// Counts what speaks for the present place. It had to be searched for if more of the source was passed over than the
    /// target may have let go of, or if it is the beginning of neither log.
    fn prove(&mut self, next: TargetRecord, passed_over: usize) {
        let searched = match self.last {
            None => passed_over > 0 || self.leading > 0 || self.dropped,
            Some((target, ..)) => passed_over as i64 > next.offset - target - 1,
        };
        if searched {
            self.jump = Some((next.offset, 0));
        }
        if let Some((_, count)) = &mut self.jump {
            *count += 1;
        }
    }

    /// What lies in front of a map that begins with the first record of its target was never to be mirrored; of what lies
    /// in front of any other nobody knows.
    fn begin(&mut self, next: TargetRecord, found: &SourceRecord) -> Result<(), MapError> {
        let whole = next.offset == 0 && found.offset > 0;
        let start = [Gap { reason: GapReason::Start, from: 0, to: found.offset }];
        self.segment(next, found, if whole { &start } else { &[] })
    }

    fn segment(&mut self, next: TargetRecord, found: &SourceRecord, gaps: &[Gap]) -> Result<(), MapError> {
        let (leader_epoch, writer_epoch) = (found.leader_epoch, next.writer_epoch);
        let (target, source) = (next.offset, found.offset);
        self.map.add(Segment { target, source, leader_epoch, writer_epoch, fixed: true }, gaps)
    }
}

/// Of several places the one that is followed by most of the same records; two of them where that does not tell. (There is at
/// least one.)
fn most_alike(places: Vec<usize>, likeness: impl Fn(usize) -> usize) -> Result<usize, (usize, usize)> {
    if let [only] = places.as_slice() {
        return Ok(*only);
    }
    let mut ranked: Vec<(usize, usize)> = places.into_iter().map(|at| (likeness(at), at)).collect();
    ranked.sort_by_key(|(like, at)| (std::cmp::Reverse(*like), *at));
    match ranked.as_slice() {
        [(most, one), (as_much, other), ..] if most == as_much => Err((*one, *other)),
        [(_, one), ..] => Ok(*one),
        [] => Ok(0),
    }
}

/// Gaps that lead from one source offset to another. The intake tells of every offset; where it does not, nobody knows.
fn from_offset(from: i64, to: i64, gaps: &[(GapReason, u64)]) -> Vec<Gap> {
    let told: u64 = gaps.iter().map(|(_, len)| len).sum();
    let unknown = [(GapReason::Unknown, to.abs_diff(from))];
    let gaps = if told == to.abs_diff(from) { gaps } else { &unknown };
    let mut at = from;
    let gap = |(reason, len): &(GapReason, u64)| {
        let gap = Gap { reason: *reason, from: at, to: at + len.cast_signed() };
        at = gap.to;
        gap
    };
    gaps.iter().map(gap).filter(|gap| gap.from < gap.to).collect()
}

#[cfg(test)]
mod tests;
