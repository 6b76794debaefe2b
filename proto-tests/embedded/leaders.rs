//! Leaders that move and connections that break while data flows: nothing lost, nothing twice, and the map exact.

use kafka_protocol::messages::ApiKey;
use kmirror::broker::Action;

use super::{Pair, numbered};

const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 30;
const BATCH: u64 = 20;

#[test]
fn leaders_move_on_both_sides_while_data_flows() {
    let mut pair = Pair::new("leaders-move", 3, PARTITIONS, "");
    pair.mirror.start();
    for round in 0..ROUNDS {
        write_round(&pair, round);
        let (partition, node) = ((round % 4) as i32, (round % 3) as i32 + 1);
        pair.source.move_leader(&pair.topic, partition, node).unwrap();
        if round > 0 {
            pair.target.move_leader(&pair.topic, partition, node).unwrap();
        }
        await_round(&pair, round);
    }
    assert_whole(&mut pair);
}

#[test]
fn answers_that_get_lost_cost_no_record_and_repeat_none() {
    let mut pair = Pair::new("leaders-lost", 2, PARTITIONS, "");
    pair.mirror.start();
    let lost = pair.target.intercept(ApiKey::Produce, Some(12), |_| Action::DropAfter);
    let refused = pair.source.intercept(ApiKey::Fetch, Some(3), |_| Action::DropBefore);
    for round in 0..ROUNDS {
        write_round(&pair, round);
        await_round(&pair, round);
    }
    assert_eq!((lost.hits(), refused.hits()), (12, 3));
    assert_whole(&mut pair);
}

fn write_round(pair: &Pair, round: u64) {
    for partition in 0..PARTITIONS {
        pair.write(partition, round * BATCH, (round + 1) * BATCH);
    }
}

fn await_round(pair: &Pair, round: u64) {
    for partition in 0..PARTITIONS {
        pair.await_values(partition, &numbered("", 0, (round + 1) * BATCH));
    }
}

fn assert_whole(pair: &mut Pair) {
    pair.mirror.await_caught_up(PARTITIONS as usize);
    pair.mirror.stop();
    for partition in 0..PARTITIONS {
        assert_eq!(pair.values(&pair.target, partition), numbered("", 0, ROUNDS * BATCH));
    }
}
