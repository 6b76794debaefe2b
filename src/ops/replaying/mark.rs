//! What a replayed record bears, and how records go together into a batch.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Record;

/// Name of the header that a replayed record gets; its value is `TOPIC:PARTITION:OFFSET` where it comes from.
pub const ORIGIN: &str = "kmirror-origin";
/// Name of the header behind it, where the replay has a name.
pub const REPLAY: &str = "kmirror-replay";

/// Bytes of keys and values in one batch; brokers take a mebibyte by default.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
pub(crate) const BATCH_RECORDS: usize = 1_000;

/// A record that is to be replayed.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    /// Topic that it comes from.
    pub(crate) topic: Arc<str>,
    /// Partition there.
    pub(crate) partition: i32,
    /// The record, with its offset there.
    pub(crate) record: Record,
}

/// The record as it is appended.
pub(super) fn marked(due: &Due, at: i64, mark: Option<&str>) -> Record {
    let Due { topic, partition, record } = due;
    let mut copy = Record { offset: at, ..record.clone() };
    let mut push = |name: &'static str, value: String| {
        copy.headers.push((Bytes::from_static(name.as_bytes()), Some(Bytes::from(value))));
    };
    push(ORIGIN, format!("{topic}:{partition}:{}", record.offset));
    if let Some(mark) = mark {
        push(REPLAY, mark.to_owned());
    }
    copy
}

/// Where a record comes from, if this replay put it here. The last headers count: a record may have been replayed before, by another.
pub(in crate::ops) fn origin(record: &Record, mark: Option<&str>) -> Option<(String, i32, i64)> {
    let (last, rest) = record.headers.split_last()?;
    let origin = match mark {
        None => last,
        Some(mark)
            if *last == (Bytes::from_static(REPLAY.as_bytes()), Some(Bytes::copy_from_slice(mark.as_bytes()))) =>
        {
            rest.last()?
        }
        Some(_) => return None,
    };
    if origin.0.as_ref() != ORIGIN.as_bytes() {
        return None;
    }
    let text = std::str::from_utf8(origin.1.as_ref()?).ok()?;
    let (rest, offset) = text.rsplit_once(':')?;
    let (topic, partition) = rest.rsplit_once(':')?;
    Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
}

/// Bytes of a record, its origin and the fields around included.
pub(crate) fn size_of(record: &Record) -> usize {
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + text(value) + 10).sum();
    text(&record.key) + text(&record.value) + headers + 350
}

/// Records in parts that fit a batch; one that does not is alone.
pub(crate) fn in_parts(all: Vec<Due>) -> Vec<Vec<Due>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for due in all {
        let size = size_of(&due.record);
        if !part.is_empty() && (bytes + size > BATCH_BYTES || part.len() >= BATCH_RECORDS) {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push(due);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        let value = Some(Bytes::from(vec![1; bytes]));
        Record { offset, timestamp: 7, attributes: 0, key: None, value, headers: Vec::new() }
    }

    fn due(partition: i32, record: Record) -> Due {
        Due { topic: "a:b".into(), partition, record }
    }

    #[test]
    fn a_record_says_where_it_comes_from() {
        let once = marked(&due(3, record(42, 1)), 0, None);
        assert_eq!(origin(&once, None), Some(("a:b".to_owned(), 3, 42)));
        let twice = marked(&due(4, Record { offset: 9, ..once }), 0, None);
        assert_eq!(origin(&twice, None), Some(("a:b".to_owned(), 4, 9)));
        assert_eq!(origin(&record(1, 1), None), None);
    }

    #[test]
    fn replays_of_one_topic_are_told_apart() {
        let first = marked(&due(3, record(42, 1)), 0, Some("first"));
        assert_eq!(origin(&first, Some("first")), Some(("a:b".to_owned(), 3, 42)));
        assert_eq!((origin(&first, Some("second")), origin(&first, None)), (None, None));
        // Replayed once more, out of the topic that it was replayed into: it is the later one's.
        let again = marked(&due(0, first), 0, Some("second"));
        assert_eq!(origin(&again, Some("second")), Some(("a:b".to_owned(), 0, 0)));
        assert_eq!(origin(&again, Some("first")), None);
        let by_a_failback = marked(&due(0, again), 0, None);
        assert!(origin(&by_a_failback, None).is_some() && origin(&by_a_failback, Some("second")).is_none());
    }

    #[test]
    fn parts_are_bounded_and_leave_nothing_out() {
        let parts = |records: Vec<Record>| in_parts(records.into_iter().map(|record| due(0, record)).collect());
        let lengths = |records: Vec<Record>| parts(records).iter().map(Vec::len).collect::<Vec<_>>();
        let many: Vec<Record> = (0..1_500).map(|offset| record(offset, 10)).collect();
        assert_eq!(lengths(many.clone()).iter().sum::<usize>(), 1_500);
        for part in parts(many) {
            let bytes: usize = part.iter().map(|due| size_of(&due.record)).sum();
            assert!(bytes <= BATCH_BYTES && part.len() <= BATCH_RECORDS);
        }
        let large = [record(0, BATCH_BYTES * 2), record(1, BATCH_BYTES / 3), record(2, BATCH_BYTES / 3), record(3, 1)];
        assert_eq!(lengths(large.to_vec()), [1, 3]);
        // What is in the headers counts as well.
        let header = (Bytes::from_static(b"token"), Some(Bytes::from(vec![7; BATCH_BYTES / 2])));
        let with = |offset| Record { headers: vec![header.clone()], ..record(offset, 1) };
        assert_eq!(lengths(vec![with(0), with(1), with(2)]), [1, 1, 1]);
        assert!(parts(Vec::new()).is_empty());
    }
}
