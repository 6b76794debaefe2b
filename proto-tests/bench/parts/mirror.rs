//! Runs of batches: the walk over what was fetched, and the binding to target offsets.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use kmirror::batch::{BatchHeader, Codec};
use kmirror::mirror::{Answer, AppendSegment, Appender, FetchedRecords, Intake, Isolation, Ready, WINDOW, Writer};

use super::Work;
use super::batches::{TIME_MS, batch};

const FETCHED_BYTES: usize = 1 << 20;
const LIMIT_BYTES: usize = 64 << 20;
const DAY_MS: u64 = 86_400_000;

/// Batches of one shape behind one another, as a fetch brings them.
fn fetched(records: i64, len: usize, codec: Codec) -> (FetchedRecords, u32) {
    let batch = batch(records, len, 1, codec);
    let count = FETCHED_BYTES / batch.bytes.len();
    let mut out = BytesMut::with_capacity(FETCHED_BYTES);
    for number in 0..count as i64 {
        let header = BatchHeader { base_offset: number * records, partition_leader_epoch: 0, ..batch.header };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&batch.payload());
    }
    (FetchedRecords { aborted: Vec::new(), records: out.freeze() }, u32::try_from(count).unwrap_or(1))
}

fn take(fetched: &FetchedRecords) -> Vec<Ready> {
    let (ready, halt) = Intake::new(0, Some(0), Isolation::ReadCommitted, LIMIT_BYTES).take(fetched);
    assert!(halt.is_none(), "{halt:?}");
    ready
}

pub(super) fn all() -> Vec<Work> {
    let shapes = [
        ("16k of 16 records", 16, 1000, Codec::None),
        ("16k of 16 records, lz4", 16, 1000, Codec::Lz4),
        ("1k of 8 records", 8, 110, Codec::None),
        ("1k of 1 record", 1, 950, Codec::None),
        ("200 bytes of 1 record", 1, 130, Codec::None),
    ];
    let taking = shapes.map(|(name, records, len, codec)| {
        let units = (fetched(records, len, codec).1, "batch");
        Work::new(format!("intake of 1 MB, {name}"), units, move || {
            let fetched = fetched(records, len, codec).0;
            move || {
                let fetched = fetched.clone();
                move || drop(black_box(take(&fetched)))
            }
        })
    });
    let appending = shapes.map(|(name, records, len, codec)| {
        let units = (fetched(records, len, codec).1, "batch");
        Work::new(format!("append 1 MB, {name}"), units, move || {
            let ready = take(&fetched(records, len, codec).0);
            move || {
                let ready = ready.clone();
                move || append(ready)
            }
        })
    });
    taking.into_iter().chain(appending).collect()
}

/// As a flow does while it runs: as many under way as may be, each answered in turn.
fn append(ready: Vec<Ready>) {
    let now_ms = TIME_MS.unsigned_abs();
    let writer = Writer { producer_id: 1000, producer_epoch: 0, origin: 0 };
    let mut appender = Appender::new(writer, 0, AppendSegment::Open { run: 0, leader_epoch: 0 }, DAY_MS);
    let mut under_way = std::collections::VecDeque::with_capacity(WINDOW);
    for ready in ready {
        appender.push(ready);
    }
    loop {
        while let Some(outgoing) = appender.take_outgoing(now_ms) {
            under_way.push_back(outgoing.target);
            black_box::<Bytes>(outgoing.payload);
        }
        let Some(target) = under_way.pop_front() else { break };
        black_box(appender.answer(target, Answer::Appended { base_offset: target }, now_ms));
    }
    assert!(appender.is_idle());
}
