//! The comparison against logs that are made up: equal ones show nothing, one change is found.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{ATTR_CONTROL, ATTR_TRANSACTIONAL, Codec, Stamp, encode, rewritten};
use crate::mirror::Break;

const MIRROR: Stamp = Stamp { producer_id: 900, producer_epoch: 3, base_sequence: 5 };
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn record(offset: i64, keys: i64) -> Record {
    Record {
        offset,
        timestamp: 1_790_000_000_000 + offset,
        attributes: 0,
        key: Some(Bytes::from(format!("k{}", offset % keys))),
        value: Some(Bytes::from(format!("value {offset}"))),
        headers: vec![(Bytes::from("h"), Some(Bytes::from(vec![offset as u8])))],
    }
}

/// A batch at its offset, with more attributes.
fn placed(batch: &RawBatch, base_offset: i64, attributes: i16) -> RawBatch {
    let mut header = batch.header;
    header.base_offset = base_offset;
    header.attributes |= attributes;
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&batch.payload());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RawBatch::parse(bytes.into()).unwrap()
}

fn encoded(records: &[Record], codec: Codec, producer_id: i64, attributes: i16) -> RawBatch {
    let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: 0 };
    placed(&encode(records, codec, stamp).unwrap(), records[0].offset, attributes)
}

fn marker(offset: i64, producer_id: i64) -> RawBatch {
    let key = Some(Bytes::from_static(&[0, 0, 0, 0]));
    let end = Record { offset, timestamp: 0, attributes: 0, key, value: None, headers: Vec::new() };
    encoded(&[end], Codec::None, producer_id, ATTR_CONTROL | ATTR_TRANSACTIONAL)
}

#[derive(Debug, Clone)]
enum Op {
    /// A batch that passes through.
    Pass(i64, usize),
    /// Batches that are joined.
    Join(Vec<i64>, usize),
    /// A batch with a hole, re-encoded.
    Holed(usize),
    /// An aborted transaction with its marker.
    Abort(i64),
    /// Offsets that compaction emptied.
    Compacted(i64),
    /// A marker on the target.
    TakeOver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1..6_i64, 0..5_usize).prop_map(|(count, codec)| Op::Pass(count, codec)),
        2 => (prop::collection::vec(1..4_i64, 2..4), 0..5_usize).prop_map(|(counts, codec)| Op::Join(counts, codec)),
        1 => (0..5_usize).prop_map(Op::Holed),
        1 => (1..4_i64).prop_map(Op::Abort),
        1 => (1..4_i64).prop_map(Op::Compacted),
        1 => Just(Op::TakeOver),
    ]
}

/// Both logs of a partition, mirrored without a fault.
#[derive(Debug, Clone)]
struct World {
    source: Vec<RawBatch>,
    target: Vec<RawBatch>,
    /// Producer id, first offset, offset of the marker.
    aborted: Vec<(i64, i64, i64)>,
    map: OffsetMap,
    here: i64,
    there: i64,
    /// Source and target offset of every record that was mirrored.
    records: Vec<(i64, i64)>,
    gaps: Vec<(GapReason, u64)>,
    target_gap: u64,
    run: u64,
    keys: i64,
}

impl World {
    fn new(ops: &[Op], keys: i64) -> Self {
        let mut world = Self {
            source: Vec::new(),
            target: Vec::new(),
            aborted: Vec::new(),
            map: OffsetMap::default(),
            here: 0,
            there: 0,
            records: Vec::new(),
            gaps: Vec::new(),
            target_gap: 0,
            run: 0,
            keys,
        };
        ops.iter().for_each(|op| world.apply(op));
        // What was written ahead, or is a gap still, ends with a record.
        world.apply(&Op::Pass(2, 0));
        world
    }

    fn written(&mut self, count: i64, codec: usize) -> RawBatch {
        let records: Vec<Record> = (self.here..self.here + count).map(|offset| record(offset, self.keys)).collect();
        self.here += count;
        let batch = encoded(&records, CODECS[codec], 5, 0);
        self.source.push(batch.clone());
        batch
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Pass(count, codec) => {
                let batch = self.written(*count, *codec);
                self.map_run(batch.header.base_offset, *count);
                self.target.push(placed(&rewritten(&batch, MIRROR).unwrap(), self.there - *count, 0));
            }
            Op::Join(counts, codec) => {
                let from = self.here;
                counts.iter().for_each(|count| drop(self.written(*count, *codec)));
                self.append(&(from..self.here).collect::<Vec<_>>(), *codec);
            }
            Op::Holed(codec) => {
                let offsets = [self.here, self.here + 1, self.here + 3];
                let records = offsets.map(|offset| record(offset, self.keys));
                self.source.push(encoded(&records, CODECS[*codec], 5, 0));
                self.here += 4;
                let at = self.there;
                self.map_run(offsets[0], 2);
                self.gaps.push((GapReason::Compaction, 1));
                self.map_run(offsets[2], 1);
                let again: Vec<Record> =
                    (at..).zip(records).map(|(offset, record)| Record { offset, ..record }).collect();
                self.target.push(encoded(&again, CODECS[*codec], 900, 0));
            }
            Op::Abort(count) => {
                let records: Vec<Record> =
                    (self.here..self.here + count).map(|offset| record(offset, self.keys)).collect();
                let end = self.here + count;
                self.source.push(encoded(&records, Codec::Lz4, 70, ATTR_TRANSACTIONAL));
                self.source.push(marker(end, 70));
                self.aborted.push((70, self.here, end));
                self.gaps.extend([(GapReason::Aborted, count.unsigned_abs()), (GapReason::Control, 1)]);
                self.here = end + 1;
            }
            Op::Compacted(count) => {
                self.gaps.push((GapReason::Compaction, count.unsigned_abs()));
                self.here += count;
            }
            Op::TakeOver => {
                self.target.push(marker(self.there, 900));
                self.there += 1;
                self.target_gap += 1;
            }
        }
    }

    /// These source records as one batch of the target.
    fn append(&mut self, sources: &[i64], codec: usize) {
        let at = self.there;
        self.map_run(sources[0], sources.len() as i64);
        let records: Vec<Record> =
            (at..).zip(sources).map(|(offset, source)| Record { offset, ..record(*source, self.keys) }).collect();
        self.target.push(encoded(&records, CODECS[codec], 900, 0));
    }

    fn map_run(&mut self, source: i64, count: i64) {
        if !self.gaps.is_empty() || self.target_gap > 0 || self.map.is_empty() {
            let (run, gaps) = (std::mem::take(&mut self.run), std::mem::take(&mut self.gaps));
            let target_gap = std::mem::take(&mut self.target_gap);
            self.map.push(&Break { run, gaps, target_gap, leader_epoch: 0, writer_epoch: 0 }).unwrap();
        }
        self.run += count.unsigned_abs();
        self.records.extend((source..source + count).zip(self.there..));
        self.there += count;
    }

    fn terms(&self) -> Terms {
        Terms {
            source: (0, self.here),
            target: (0, self.there),
            alone_to: self.there,
            kept_from: i64::MAX,
            target_log_end: self.there,
            target_is_compacted: false,
            follow_up: true,
            committed: true,
            gaps_from: 0,
            bytes: false,
            decode_limit_bytes: 1 << 20,
        }
    }

    fn compare(&self, terms: Terms, at_once: usize) -> Tally {
        let stretch = (begins(&self.map), self.map.position(terms.target.1));
        let mut verifier = Verifier::new(&self.map, stretch, terms);
        while let Some(wanted) = verifier.step() {
            let read = |log: &[RawBatch], at: i64| -> Vec<RawBatch> {
                log.iter().filter(|batch| batch.header.next_offset() > at).take(at_once).cloned().collect()
            };
            if let Some(at) = wanted.source {
                let aborted: Vec<(i64, i64)> =
                    self.aborted.iter().filter(|txn| txn.2 >= at).map(|txn| (txn.0, txn.1)).collect();
                verifier.take_source(read(&self.source, at), &aborted);
            }
            if let Some(at) = wanted.target {
                verifier.take_target(read(&self.target, at), &[]);
            }
        }
        verifier.finish()
    }

    /// The target batch that holds this offset.
    fn holding(&self, target: i64) -> usize {
        let holds = |b: &RawBatch| (b.header.base_offset..b.header.next_offset()).contains(&target);
        self.target.iter().position(holds).unwrap()
    }

    /// Changes one record of the target.
    fn alter(&mut self, target: i64, change: impl FnOnce(&mut Record)) {
        let at = self.holding(target);
        let mut records = batch::decode(&self.target[at], 1 << 20).unwrap();
        change(records.iter_mut().find(|record| record.offset == target).unwrap());
        self.target[at] = encoded(&records, self.target[at].header.codec().unwrap(), 900, 0);
    }
}

/// Every offset is accounted for, once.
fn assert_complete(world: &World, tally: &Tally) {
    let sum = tally.equal + tally.differing + tally.missing + tally.in_gaps + tally.not_comparable;
    assert_eq!((tally.offsets, sum), (world.here.unsigned_abs(), world.here.unsigned_abs()), "{tally:?}");
}

proptest! {
    #[test]
    fn a_faithful_copy_shows_nothing(ops in prop::collection::vec(op(), 0..20), at_once in 1..4_usize, bytes: bool) {
        let world = World::new(&ops, 1_000);
        let tally = world.compare(Terms { bytes, ..world.terms() }, at_once);
        prop_assert!(!tally.has_problems() && tally.problems.is_empty(), "{:?}", tally);
        prop_assert_eq!((tally.equal, tally.not_comparable), (world.records.len() as u64, 0));
        assert_complete(&world, &tally);
        let passed = ops.iter().filter(|op| matches!(op, Op::Pass(..))).count() as u64 + 1;
        // Joined batches of which only one was within reach are no exception.
        prop_assert_eq!(tally.batches_by_crc, passed);
    }

    #[test]
    fn one_record_that_differs_is_found_where_it_is(
        ops in prop::collection::vec(op(), 0..20), at_once in 1..4_usize, pick: prop::sample::Index, how in 0..5,
    ) {
        let mut world = World::new(&ops, 1_000);
        let (source, target) = *pick.get(&world.records);
        let (what, change): (What, fn(&mut Record)) = match how {
            0 => (What::Key, |record| record.key = None),
            1 => (What::Value, |record| record.value = Some(Bytes::from_static(b"value x"))),
            2 => (What::Headers, |record| record.headers.clear()),
            3 => (What::Headers, |record| record.headers.push(record.headers[0].clone())),
            _ => (What::Timestamp, |record| record.timestamp -= 1),
        };
        world.alter(target, change);
        let tally = world.compare(world.terms(), at_once);
        let expected = Problem {
            kind: Kind::Differing,
            from: source,
            to: source + 1,
            source_offset: Some(source),
            target_offset: Some(target),
            what: vec![what],
        };
        prop_assert_eq!(&tally.problems, &[expected]);
        assert_complete(&world, &tally);
    }

    #[test]
    fn one_bit_of_a_batch_that_flips_is_found(
        ops in prop::collection::vec(op(), 0..20), on_target: bool, pick: prop::sample::Index, bit: prop::sample::Index,
    ) {
        let mut world = World::new(&ops, 1_000);
        let (source, target) = *pick.get(&world.records);
        let log = if on_target { &mut world.target } else { &mut world.source };
        let offset = if on_target { target } else { source };
        let holds = |b: &&mut RawBatch| (b.header.base_offset..b.header.next_offset()).contains(&offset);
        let batch = log.iter_mut().find(holds).unwrap();
        // Checksum, and what it covers except for what says where the batch ends: a reader would not find the next one.
        let mut bytes = batch.bytes.to_vec();
        let bit = bit.index((bytes.len() - 17) * 8);
        let at = 17 + bit / 8;
        prop_assume!(!(23..27).contains(&at) && !(57..61).contains(&at));
        bytes[at] ^= 1 << (bit % 8);
        *batch = RawBatch::parse(bytes.into()).unwrap();
        let tally = world.compare(world.terms(), 2);
        prop_assert!(tally.differing > 0, "{:?}", tally);
        prop_assert!(tally.problems.iter().any(|p| p.from <= source && source < p.to), "{:?}", tally.problems);
        assert_complete(&world, &tally);
    }

    #[test]
    fn one_batch_that_is_lost_is_missing(
        ops in prop::collection::vec(op(), 0..20), at_once in 1..4_usize, pick: prop::sample::Index,
    ) {
        let mut world = World::new(&ops, 1_000);
        // The last batch of a log is its end.
        let before_last = world.records.len() - 2;
        prop_assume!(before_last > 0);
        let (source, target) = world.records[pick.index(before_last)];
        let lost = world.target.remove(world.holding(target));
        let tally = world.compare(world.terms(), at_once);
        prop_assert_eq!(tally.missing, lost.header.records_count as u64);
        prop_assert_eq!((tally.differing, tally.extra), (0, 0));
        prop_assert!(tally.problems.iter().any(|p| p.from <= source && source < p.to), "{:?}", tally.problems);
        assert_complete(&world, &tally);
    }

    #[test]
    fn one_record_that_moved_is_found(
        ops in prop::collection::vec(op(), 0..20), pick: prop::sample::Index,
    ) {
        let mut world = World::new(&ops, 1_000);
        let pairs: Vec<(i64, i64)> = world.records.windows(2).map(|w| (w[0].1, w[1].1)).collect();
        let (one, other) = *pick.get(&pairs);
        let content = |world: &World, offset: i64| {
            let records = batch::decode(&world.target[world.holding(offset)], 1 << 20).unwrap();
            records.into_iter().find(|record| record.offset == offset).unwrap()
        };
        let (a, b) = (content(&world, one), content(&world, other));
        world.alter(one, |record| *record = Record { offset: one, ..b });
        world.alter(other, |record| *record = Record { offset: other, ..a });
        let tally = world.compare(world.terms(), 2);
        prop_assert_eq!(tally.differing, 2, "{:?}", tally);
    }

    #[test]
    fn somebody_elses_record_among_the_markers_is_extra(
        mut ops in prop::collection::vec(op(), 0..20), at: prop::sample::Index,
    ) {
        ops.insert(0, Op::Pass(1, 0));
        ops.insert(at.index(ops.len()) + 1, Op::TakeOver);
        let mut world = World::new(&ops, 1_000);
        let marker = world.target.iter().position(|batch| batch.header.is_control()).unwrap();
        let offset = world.target[marker].header.base_offset;
        world.target[marker] = encoded(&[record(offset, 1_000)], Codec::None, 31, 0);
        let tally = world.compare(world.terms(), 2);
        let found = [(tally.extra, tally.differing, tally.missing)];
        prop_assert_eq!((found, tally.problems[0].from), ([(1, 0, 0)], offset));
        assert_complete(&world, &tally);
    }

    #[test]
    fn a_gap_that_hides_records_is_found(ops in prop::collection::vec(op(), 0..20), at_once in 1..4_usize) {
        let ops: Vec<Op> = [vec![Op::Pass(1, 0), Op::Abort(3)], ops].concat();
        let mut world = World::new(&ops, 1_000);
        // The transaction was not aborted after all.
        world.aborted.remove(0);
        let tally = world.compare(world.terms(), at_once);
        prop_assert_eq!((tally.missing, &tally.problems[0].what), (3, &vec![What::InGap]));
        prop_assert_eq!((tally.problems[0].from, tally.problems[0].to), (1, 4));
        assert_complete(&world, &tally);
    }

    #[test]
    fn what_either_side_let_go_of_is_told_and_the_rest_compared(
        ops in prop::collection::vec(op(), 0..20), here: prop::sample::Index, there: prop::sample::Index,
    ) {
        let world = World::new(&ops, 1_000);
        let (source, target) = (here.index(world.here as usize) as i64, there.index(world.there as usize) as i64);
        let mut cut = world.clone();
        cut.source.retain(|batch| batch.header.next_offset() > source);
        cut.target.retain(|batch| batch.header.next_offset() > target);
        let terms = Terms { source: (source, world.here), target: (target, world.there), ..world.terms() };
        let tally = cut.compare(terms, 2);
        let left = world.records.iter().filter(|(a, b)| *a >= source && *b >= target).count() as u64;
        prop_assert_eq!((tally.equal, tally.has_problems()), (left, false));
        prop_assert_eq!(tally.equal + tally.not_comparable, world.records.len() as u64);
        assert_complete(&world, &tally);
    }

    /// What the target deleted although it had no reason to is missing, from the first record on that retention must have kept.
    #[test]
    fn what_the_target_deleted_and_had_to_keep_is_missing(
        ops in prop::collection::vec(op(), 0..20), there: prop::sample::Index, kept: prop::sample::Index,
    ) {
        let mut world = World::new(&ops, 1_000);
        let (start, kept_from) = (there.index(world.there as usize + 1) as i64, kept.index(world.here as usize) as i64);
        world.target.retain(|batch| batch.header.next_offset() > start);
        let tally = world.compare(Terms { target: (start, world.there), kept_from, ..world.terms() }, 2);
        let gone = |kept: bool| world.records.iter().filter(|(a, b)| *b < start && (*a >= kept_from) == kept).count() as u64;
        prop_assert_eq!((tally.missing, tally.not_comparable, tally.differing), (gone(true), gone(false), 0), "{:?}", tally);
        prop_assert!(tally.problems.iter().all(|p| p.what == [What::DeletedOnTarget]), "{:?}", tally.problems);
        assert_complete(&world, &tally);
    }

    /// Nobody's business is what the source holds at the offsets that would come next.
    #[test]
    fn what_somebody_else_wrote_behind_the_mirrors_records_is_extra(
        ops in prop::collection::vec(op(), 0..20), strangers in 1..4_i64, lag in 0..4_i64,
    ) {
        let mut world = World::new(&ops, 1_000);
        let (end, mirrored_to) = (world.there, world.here);
        if lag > 0 {
            world.written(lag, 0);
        }
        let records: Vec<Record> = (end..end + strangers).map(|offset| record(offset, 7)).collect();
        world.target.push(encoded(&records, Codec::None, 31, 0));
        let alone_to = end + strangers;
        let terms = Terms { target: (0, end), alone_to, target_log_end: alone_to, ..world.terms() };
        let tally = world.compare(terms, 2);
        prop_assert_eq!((tally.extra, tally.differing, tally.missing), (strangers.unsigned_abs(), 0, 0));
        prop_assert_eq!((tally.problems[0].from, tally.problems[0].to), (end, alone_to));
        prop_assert_eq!(tally.offsets, mirrored_to.unsigned_abs());
    }

    /// Of each key the cleaner keeps the newest record: nothing is missing. Without one of those, just that one is.
    #[test]
    fn on_a_compacted_target_the_newest_of_each_key_must_be_there(
        ops in prop::collection::vec(op(), 0..20), keys in 1..6_i64, pick: prop::sample::Index, at_once in 1..4_usize,
    ) {
        let mut world = World::new(&ops, keys);
        let kept = |world: &World, source: i64| {
            !world.records.iter().any(|(later, _)| *later > source && (*later - source) % world.keys == 0)
        };
        let (alive, dead): (Vec<_>, Vec<_>) = world.records.iter().copied().partition(|(source, _)| kept(&world, *source));
        let is_alive = |target: i64| alive.iter().any(|(_, there)| *there == target);
        let last = world.target.len() - 1;
        let mut at = 0;
        world.target.retain(|batch| {
            at += 1;
            let header = &batch.header;
            at > last || header.is_control() || (header.base_offset..header.next_offset()).any(is_alive)
        });
        let terms = Terms { target_is_compacted: true, ..world.terms() };
        let tally = world.compare(terms, at_once);
        prop_assert!(!tally.has_problems(), "{:?}", tally.problems);
        assert_complete(&world, &tally);
        let lost: Vec<(i64, i64)> = alive.into_iter().filter(|(_, there)| *there < world.there - 2).collect();
        prop_assume!(!lost.is_empty());
        let (source, target) = *pick.get(&lost);
        let gone = world.target.remove(world.holding(target));
        let tally = world.compare(terms, at_once);
        prop_assert!(tally.problems.iter().any(|p| p.from <= source && source < p.to), "{:?}", tally);
        prop_assert!(tally.missing <= u64::from(gone.header.records_count.unsigned_abs()), "{:?} {:?}", tally, dead);
        assert_complete(&world, &tally);
        let not_followed = world.compare(Terms { follow_up: false, ..terms }, at_once);
        prop_assert!(!not_followed.has_problems());
        assert_complete(&world, &not_followed);
    }

    #[test]
    fn samples_lie_within_apart_and_at_the_edges(
        ops in prop::collection::vec(op(), 0..200), count in 0..20_usize, seed: u64, from in 0..50_i64,
    ) {
        let world = World::new(&ops, 1_000);
        let range = (from.min(world.here - 1), world.here);
        let picked = stretches(&world.map, world.there, range, (count, seed));
        prop_assert_eq!(&picked, &stretches(&world.map, world.there, range, (count, seed)));
        prop_assert_eq!((picked[0].0, picked[picked.len() - 1].1), range);
        prop_assert!(picked.iter().all(|(a, b)| a < b) && picked.windows(2).all(|w| w[0].1 < w[1].0), "{:?}", picked);
    }
}

#[test]
fn a_sample_looks_at_both_sides_of_each_break_and_elsewhere_by_its_seed() {
    let mut world = World::new(&[], 1_000);
    for _ in 0..3 {
        world.run += 100_000;
        (world.here, world.there) = (world.here + 100_000, world.there + 100_001);
        world.target_gap = 1;
        world.map_run(world.here, 1);
        world.here += 1;
    }
    let breaks: Vec<i64> = world.map.runs(world.there).map(|(source, ..)| source).skip(1).collect();
    let pick = |seed: u64| stretches(&world.map, world.there, (0, world.here), (5, seed));
    for at in breaks {
        assert!(pick(1).iter().any(|(from, to)| *from < at && at < *to), "{at} {:?}", pick(1));
    }
    assert_ne!(pick(1), pick(2));
}

/// Records that were aborted between two runs, and what stands between those on the target, are looked at whatever lies between.
#[test]
fn a_sample_looks_at_both_sides_of_a_long_gap_and_at_what_stands_between_on_the_target() {
    let mut map = OffsetMap::default();
    let step = |run, gaps, target_gap| Break { run, gaps, target_gap, leader_epoch: 0, writer_epoch: 0 };
    map.push(&step(0, Vec::new(), 0)).unwrap();
    map.push(&step(10_000, vec![(GapReason::Aborted, 5_000)], 3)).unwrap();
    let (end, range) = (20_003, (0, 25_000));
    let picked = stretches(&map, end, range, (0, 0));
    for at in [9_999, 15_000] {
        assert!(picked.iter().any(|(from, to)| (*from..*to).contains(&at)), "{at} {picked:?}");
    }
    let alone: Vec<Piece> = picked.iter().flat_map(|stretch| pieces(&map, (end, end), *stretch)).collect();
    let alone: Vec<&Piece> = alone.iter().filter(|piece| matches!(piece, Piece::Alone { .. })).collect();
    assert_eq!(alone, [&Piece::Alone { from: 10_000, to: 10_003 }]);
}

#[test]
fn a_target_that_lets_go_of_everything_meanwhile_ends_the_search_for_newer_records() {
    let mut world = World::new(&[Op::Pass(1, 0)], 1_000);
    world.target.remove(0);
    let terms = Terms { target_is_compacted: true, target_log_end: world.there + 5, ..world.terms() };
    let mut verifier = Verifier::new(&world.map, (0, world.here), terms);
    let mut asked = Vec::new();
    while let Some(wanted) = verifier.step() {
        assert!(asked.len() < 20, "{asked:?}");
        asked.push(wanted);
        if wanted.source.is_some() {
            verifier.take_source(world.source.clone(), &[]);
        }
        match wanted.target {
            Some(at) if at < world.there => verifier.take_target(world.target.clone(), &[]),
            Some(_) => verifier.target_starts(world.there + 5),
            None => {}
        }
    }
    assert_eq!(verifier.finish().missing, 1);
}

#[test]
fn a_tombstone_that_is_gone_and_what_it_deleted_were_compacted() {
    let mut world = World::new(&[Op::Pass(1, 0), Op::Pass(1, 0)], 1);
    let tombstone = Record { value: None, ..record(1, 1) };
    world.source[1] = encoded(&[tombstone], Codec::None, 5, 0);
    world.target.drain(..2);
    let terms = Terms { target_is_compacted: true, ..world.terms() };
    // The last two records have the same key as the others; under another key they explain nothing.
    for (at, batch) in [world.source.last_mut().unwrap(), world.target.last_mut().unwrap()].into_iter().enumerate() {
        let mut records = batch::decode(batch, 1 << 20).unwrap();
        records.iter_mut().for_each(|record| record.key = Some(Bytes::from_static(b"other")));
        *batch = encoded(&records, Codec::None, if at == 0 { 5 } else { 900 }, 0);
    }
    let tally = world.compare(terms, 2);
    assert_eq!((tally.equal, tally.not_comparable, tally.missing), (2, 2, 0), "{tally:?}");
    world.source[1] = encoded(&[record(1, 1)], Codec::None, 5, 0);
    let tally = world.compare(terms, 2);
    assert_eq!((tally.equal, tally.not_comparable, tally.missing), (2, 1, 1), "{tally:?}");
    assert_eq!(tally.problems[0].what, [What::NoNewerRecord]);
}

/// The newer record may have come after the comparison began.
#[test]
fn a_newer_record_behind_the_settled_end_explains_one_that_is_gone() {
    let mut world = World::new(&[Op::Pass(1, 0)], 1_000);
    world.target.remove(0);
    let terms = Terms { target_is_compacted: true, ..world.terms() };
    assert_eq!(world.compare(terms, 2).missing, 1);
    let newer = Record { offset: world.there, ..record(0, 1_000) };
    world.target.push(encoded(&[newer], Codec::None, 900, 0));
    let tally = world.compare(Terms { target_log_end: world.there + 1, ..terms }, 2);
    assert_eq!((tally.equal, tally.not_comparable, tally.missing), (2, 1, 0), "{tally:?}");
}

#[test]
fn problems_are_listed_up_to_a_bound_and_counted_beyond() {
    let ops: Vec<Op> = (0..300).map(|_| Op::Pass(2, 0)).collect();
    let mut world = World::new(&ops, 1_000);
    for n in 0..250 {
        world.alter(n * 2, |record| record.value = None);
    }
    let tally = world.compare(world.terms(), 50);
    assert_eq!((tally.differing, tally.problem_ranges, tally.problems.len()), (250, 250, 100));
}
