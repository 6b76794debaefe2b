//! Digests of all records of some topics, and the comparison of two of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What must be the same on both sides, and the offset, which need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Where the record stands in its partition.
    pub(crate) offset: i64,
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// 0 CreateTime, 1 LogAppendTime.
    pub(crate) timestamp_type: i8,
    /// Of the key; null and empty differ.
    pub(crate) key: u64,
    /// Of the value; null and empty differ.
    pub(crate) value: u64,
    /// Of all headers in their order.
    pub(crate) headers: u64,
}

impl Digest {
    /// Which of the things that a mirror must keep differ. The timestamp's type is the topic's affair.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("timestamp", self.timestamp == other.timestamp),
            ("key", self.key == other.key),
            ("value", self.value == other.value),
            ("headers", self.headers == other.headers),
        ];
        fields.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
    }

    fn content(&self) -> (i64, u64, u64, u64) {
        (self.timestamp, self.key, self.value, self.headers)
    }
}

/// A topic and a partition.
pub(crate) type TopicPartition = (String, i32);

/// All records by topic-partition, in the order read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// Partitions that have records.
    pub(crate) partitions: BTreeMap<TopicPartition, Vec<Digest>>,
}

impl Dump {
    /// Reads the driver's file; its format is described at `Consuming.dump`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { rest: bytes };
        let topics: Vec<String> =
            (0..i32::from_be_bytes(reader.take()?)).map(|_| reader.name()).collect::<Result<_, _>>()?;
        let mut partitions: BTreeMap<(usize, i32), Vec<Digest>> = BTreeMap::new();
        while !reader.rest.is_empty() {
            let at = (i32::from_be_bytes(reader.take()?) as usize, i32::from_be_bytes(reader.take()?));
            partitions.entry(at).or_default().push(Digest {
                offset: i64::from_be_bytes(reader.take()?),
                timestamp: i64::from_be_bytes(reader.take()?),
                timestamp_type: i8::from_be_bytes(reader.take()?),
                key: u64::from_be_bytes(reader.take()?),
                value: u64::from_be_bytes(reader.take()?),
                headers: u64::from_be_bytes(reader.take()?),
            });
        }
        let name = |at: usize| topics.get(at).cloned().ok_or(format!("topic {at} of {}", topics.len()));
        let named = partitions.into_iter().map(|((topic, partition), rows)| Ok(((name(topic)?, partition), rows)));
        Ok(Self { partitions: named.collect::<Result<_, String>>()? })
    }

    /// Records in all partitions.
    pub(crate) fn len(&self) -> usize {
        self.partitions.values().map(Vec::len).sum()
    }

    /// The same dump with topics named otherwise, for a mirror that renames.
    pub(crate) fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        let rename = |((topic, partition), rows): (TopicPartition, Vec<Digest>)| ((name(&topic), partition), rows);
        Self { partitions: self.partitions.into_iter().map(rename).collect() }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or("the file ends inside a record")?;
        self.rest = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| "length".to_owned())
    }

    fn name(&mut self) -> Result<String, String> {
        let len = u16::from_be_bytes(self.take()?);
        String::from_utf8(self.bytes(usize::from(len))?.to_vec()).map_err(|error| error.to_string())
    }
}

/// One thing that is not as it should be, with its offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// On the source only.
    Lost {
        /// Source offset.
        source: i64,
    },
    /// On the target once more.
    Duplicate {
        /// Source offset of the record that it repeats.
        source: i64,
        /// Target offset of the repetition.
        target: i64,
    },
    /// On the target, and nowhere on the source.
    Foreign {
        /// Target offset.
        target: i64,
    },
    /// Both there, at different places in the order.
    Moved {
        /// Source offset.
        source: i64,
        /// Target offset.
        target: i64,
    },
    /// At the same place in the order, with other content.
    Changed {
        /// Source offset.
        source: i64,
        /// Target offset.
        target: i64,
        /// What of it.
        fields: Vec<&'static str>,
    },
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Records that are the same on both sides, in order.
    pub(crate) equal: usize,
    /// Whether each stands at its source offset on the target too.
    pub(crate) offsets_identical: bool,
    /// All that is wrong; no more than [`Report::KEPT`] for a partition.
    pub(crate) differences: Vec<(TopicPartition, Difference)>,
}

impl Report {
    /// Differences kept for each partition: one lost record shifts all that follow.
    pub(crate) const KEPT: usize = 20;

    /// Panics with what was found unless all `count` records are there, once, in order, unchanged.
    #[track_caller]
    pub(crate) fn assert_exactly(&self, count: usize) {
        assert!(self.differences.is_empty(), "{self}");
        assert_eq!(self.equal, count, "records compared");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records equal, {} differences:", self.equal, self.differences.len())?;
        for ((topic, partition), difference) in &self.differences {
            writeln!(f, "  {topic}-{partition}: {difference:?}")?;
        }
        Ok(())
    }
}

/// Compares record by record, partition by partition: every record of the source once on the target, in the same order,
/// with the same key, value, headers and timestamp.
pub(crate) fn compare(source: &Dump, target: &Dump) -> Report {
    let mut report = Report { offsets_identical: true, ..Report::default() };
    let empty = Vec::new();
    let mut all: Vec<&TopicPartition> = source.partitions.keys().chain(target.partitions.keys()).collect();
    all.sort();
    all.dedup();
    for partition in all {
        let from = source.partitions.get(partition).unwrap_or(&empty);
        let to = target.partitions.get(partition).unwrap_or(&empty);
        let same = |(a, b): &(&Digest, &Digest)| a.content() == b.content();
        if from.len() == to.len() && from.iter().zip(to).all(|pair| same(&pair)) {
            report.equal += from.len();
            report.offsets_identical &= from.iter().zip(to).all(|(a, b)| a.offset == b.offset);
        } else {
            report.offsets_identical = false;
            report.equal += from.iter().zip(to).filter(same).count();
            let found = explain(from, to).into_iter().take(Report::KEPT);
            report.differences.extend(found.map(|difference| (partition.clone(), difference)));
        }
    }
    report
}

/// Why two sequences differ. Records are matched by content, the n-th of one content with the n-th; what then stands in
/// the same place unmatched on both sides was changed.
fn explain(source: &[Digest], target: &[Digest]) -> Vec<Difference> {
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, record) in source.iter().enumerate().rev() {
        places.entry(record.content()).or_default().push(at);
    }
    let first: HashMap<_, usize> = places.iter().filter_map(|(key, list)| Some((*key, *list.last()?))).collect();
    let mut matched = vec![false; source.len()];
    let mut extra = Vec::new();
    let mut kept: Vec<(usize, i64)> = Vec::new();
    for record in target {
        match places.get_mut(&record.content()).and_then(Vec::pop) {
            Some(at) => {
                matched[at] = true;
                kept.push((at, record.offset));
            }
            None => extra.push(record),
        }
    }
    let mut found = changed_pairs(source, target, &mut matched, &mut extra);
    found.extend(matched.iter().zip(source).filter(|(m, _)| !**m).map(|(_, r)| Difference::Lost { source: r.offset }));
    found.extend(extra.iter().map(|record| match first.get(&record.content()) {
        Some(at) => Difference::Duplicate { source: source[*at].offset, target: record.offset },
        None => Difference::Foreign { target: record.offset },
    }));
    found.extend(moved(source, &kept));
    found
}

/// Pairs of an unmatched record on each side in the same place counted from the start, or from the end.
fn changed_pairs(
    source: &[Digest],
    target: &[Digest],
    matched: &mut [bool],
    extra: &mut Vec<&Digest>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    extra.retain(|record| {
        let Some(at) = target.iter().position(|other| other.offset == record.offset) else { return true };
        let from_end = (source.len() + at).checked_sub(target.len());
        let place = [Some(at), from_end].into_iter().flatten().find(|place| matched.get(*place) == Some(&false));
        let Some(place) = place else { return true };
        matched[place] = true;
        let fields = source[place].differences(record);
        found.push(Difference::Changed { source: source[place].offset, target: record.offset, fields });
        false
    });
    found
}

/// Matched records that stand before one that the source has earlier.
fn moved(source: &[Digest], kept: &[(usize, i64)]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut earliest_after = usize::MAX;
    for (at, target) in kept.iter().rev() {
        if *at > earliest_after {
            found.push(Difference::Moved { source: source[*at].offset, target: *target });
        }
        earliest_after = earliest_after.min(*at);
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, value: u64) -> Digest {
        Digest { offset, timestamp: 1_000 + value as i64, timestamp_type: 0, key: value % 3, value, headers: 77 }
    }

    fn dump(records: Vec<Digest>) -> Dump {
        Dump { partitions: [(("t".to_owned(), 0), records)].into() }
    }

    fn ten() -> Vec<Digest> {
        (0..10).map(|n| record(n, 100 + n as u64)).collect()
    }

    fn found(source: Vec<Digest>, target: Vec<Digest>) -> Vec<Difference> {
        compare(&dump(source), &dump(target)).differences.into_iter().map(|(_, difference)| difference).collect()
    }

    #[test]
    fn equal_records_at_other_offsets_are_equal() {
        let report = compare(&dump(ten()), &dump(ten()));
        report.assert_exactly(10);
        assert!(report.offsets_identical);
        let shifted: Vec<Digest> = ten().into_iter().map(|r| Digest { offset: r.offset + 5, ..r }).collect();
        let report = compare(&dump(ten()), &dump(shifted));
        report.assert_exactly(10);
        assert!(!report.offsets_identical);
    }

    #[test]
    fn loss_is_found_in_the_middle_and_at_the_end() {
        let mut target = ten();
        target.remove(4);
        assert_eq!(found(ten(), target), vec![Difference::Lost { source: 4 }]);
        assert_eq!(found(ten(), ten()[..9].to_vec()), vec![Difference::Lost { source: 9 }]);
        assert_eq!(found(ten(), Vec::new()).len(), 10);
    }

    #[test]
    fn a_whole_partition_lost_is_found() {
        let report = compare(&dump(ten()), &Dump::default());
        assert_eq!((report.equal, report.differences.len()), (0, 10));
    }

    #[test]
    fn a_duplicate_is_found() {
        let mut target = ten();
        target.insert(7, record(10, 103));
        assert_eq!(found(ten(), target), vec![Difference::Duplicate { source: 3, target: 10 }]);
    }

    #[test]
    fn a_foreign_record_is_found() {
        let mut target = ten();
        target.push(record(10, 999));
        assert_eq!(found(ten(), target), vec![Difference::Foreign { target: 10 }]);
    }

    #[test]
    fn records_that_changed_places_are_found() {
        let mut target = ten();
        target.swap(2, 3);
        assert_eq!(found(ten(), target), vec![Difference::Moved { source: 3, target: 3 }]);
    }

    type Change = fn(&mut Digest);

    #[test]
    fn each_changed_field_is_found_and_named() {
        let changes: [(&str, Change); 4] = [
            ("timestamp", |r| r.timestamp += 1),
            ("key", |r| r.key += 1),
            ("value", |r| r.value += 1_000),
            ("headers", |r| r.headers += 1),
        ];
        for (field, change) in changes {
            let mut target = ten();
            change(&mut target[6]);
            let expected = Difference::Changed { source: 6, target: 6, fields: vec![field] };
            assert_eq!(found(ten(), target), vec![expected]);
        }
    }

    #[test]
    fn identical_records_are_counted_not_just_looked_up() {
        let same: Vec<Digest> = (0..5).map(|n| record(n, 1)).collect();
        let report = compare(&dump(same.clone()), &dump(same[..4].to_vec()));
        assert_eq!(report.differences.len(), 1);
        assert_eq!(report.equal, 4);
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let mut bytes = vec![0, 0, 0, 1, 0, 1, b't'];
        bytes.extend([0; 49]);
        assert_eq!(Dump::parse(&bytes).unwrap().len(), 1);
        assert!(Dump::parse(&bytes[..40]).is_err());
        bytes[10] = 9;
        assert!(Dump::parse(&bytes).is_err(), "a topic that the file does not name");
    }
}
