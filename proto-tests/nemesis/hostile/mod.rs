//! Brokers that mean harm, on either side of a mirror: whatever they answer, the program neither ends nor hangs, takes no more
//! memory than it may, says what is wrong, and goes on with what is right.
//!
//! Embedded brokers, which can be made to send any bytes.

mod answers;
mod bombs;
mod frames;
mod slow;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, Intercept};

use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, numbered};
use crate::kafka::harness::wait_until;

/// What the program may take at most, bytes: its budget for records is 32 MiB, one batch is unfolded to 64 MiB, and a buffer that grows is there
/// twice for a moment.
const CEILING_BYTES: u64 = 160 << 20;

/// Makes of an honest frame, its length in front, what is sent instead.
type Lie = fn(&[u8]) -> Vec<u8>;

fn forged(lie: Lie) -> Action {
    Action::Forge(Box::new(move |frame| vec![(Duration::ZERO, Bytes::from(lie(&frame)))]))
}

/// Tells all lies, one after another, to those who ask for this; every other answer is honest.
fn lie_in_turn(cluster: &Cluster, api: ApiKey, lies: &'static [(&'static str, Lie)]) -> Intercept {
    let turn = Arc::new(AtomicUsize::new(0));
    cluster.intercept(api, Some(lies.len()), move |_| match turn.fetch_add(1, Ordering::SeqCst) {
        turn if turn % 2 == 0 => forged(lies[turn / 2 % lies.len()].1),
        _ => Action::Pass,
    })
}

fn assert_unharmed(mirror: &mut Mirror, what: &str) {
    assert!(mirror.is_running(), "{what}: it ended; its log:\n{}", mirror.log());
    let peak = mirror.process().peak_rss_bytes().expect("of a running process");
    eprintln!("{what}: at most {} MB", peak >> 20);
    assert!(peak < CEILING_BYTES, "{what}: {peak} bytes");
    assert!(!mirror.log().contains("panicked"), "{what}:\n{}", mirror.log());
}

/// Waits until the hook has struck so often.
fn await_hits(what: &str, hook: &Intercept, hits: u64) {
    wait_until(what, LIMIT, || match hook.hits() {
        there if there >= hits => Ok(()),
        there => Err(format!("{there} of {hits} times")),
    });
}

/// The mirror goes on with both of its partitions.
fn assert_goes_on(pair: &Pair, from: u64) {
    for partition in 0..2 {
        pair.write(partition, from, from + 10);
        pair.await_values(partition, &numbered("", 0, from + 10));
    }
}
