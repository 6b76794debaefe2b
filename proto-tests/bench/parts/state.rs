//! A shard's state: what a start has to read, and what a snapshot has to write.

use std::rc::Rc;

use bytes::Bytes;
use kmirror::mirror::{Declared, ShardState, decode_state, encode_state};
use uuid::Uuid;

use super::Work;
use super::map::with_gaps;

fn declared(number: usize) -> Declared {
    Declared {
        source_topic: format!("orders.events.{}", number / 8),
        source_topic_id: Uuid::from_u128(1 + number as u128 / 8),
        partition: (number % 8) as i32,
        target_topic: format!("orders.events.{}", number / 8),
        target_topic_id: Uuid::from_u128(u128::MAX - number as u128 / 8),
    }
}

/// Partitions with maps of so many segments each.
fn state(partitions: usize, segments: usize) -> ShardState {
    let mut state = ShardState::default();
    let (map, end) = with_gaps(segments);
    for number in 0..partitions {
        state.restore(&declared(number), map.clone(), end).expect("a partition that is new");
    }
    state
}

fn records(state: &ShardState) -> Vec<Bytes> {
    state.snapshot(1).iter().map(encode_state).collect()
}

fn load(records: &[Bytes]) -> ShardState {
    let mut state = ShardState::default();
    for record in records {
        state.apply(&decode_state(record).expect("a record of ours")).expect("records in order");
    }
    state
}

pub(super) fn all() -> Vec<Work> {
    let mut all = Vec::new();
    for (partitions, segments) in [(1, 100_000), (100, 1_000), (1_000, 2)] {
        let total = (partitions * segments) as u32;
        let name = format!("state of {partitions} partitions, {segments} segments each");
        all.push(Work::new(format!("{name}, load"), (total, "segment"), move || {
            let records = Rc::new(records(&state(partitions, segments)));
            move || {
                let records = Rc::clone(&records);
                move || assert_eq!(load(&records).partitions.len(), partitions)
            }
        }));
        all.push(Work::new(format!("{name}, snapshot"), (total, "segment"), move || {
            let state = Rc::new(state(partitions, segments));
            move || {
                let state = Rc::clone(&state);
                move || assert!(!records(&state).is_empty())
            }
        }));
    }
    all
}
