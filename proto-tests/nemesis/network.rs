//! What networks do, on either side of the mirror.

use std::time::Duration;

use super::case::{Case, Pair};
use super::{Scenario, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::proxy::{Fault, Way};
use crate::kafka::harness::{Cluster, wait_until};

/// Each fault on the source side and on the target side.
pub(crate) const NETWORK: &[Scenario<Pair>] = &[
    Scenario::new("source_refuses", |pair| stalls(pair, "source_refuses", Side::Source, Fault::Refuse)),
    Scenario::new("target_refuses", |pair| stalls(pair, "target_refuses", Side::Target, Fault::Refuse)),
    Scenario::new("source_hangs", |pair| stalls(pair, "source_hangs", Side::Source, Fault::Hold(Way::Down))),
    Scenario::new("target_hangs", |pair| stalls(pair, "target_hangs", Side::Target, Fault::Hold(Way::Up))),
    Scenario::new("target_answers_held", |pair| {
        stalls(pair, "target_answers_held", Side::Target, Fault::Hold(Way::Down));
    }),
    Scenario::new("source_resets", |pair| {
        limps(pair, "source_resets", Side::Source, Fault::ResetAfter(Way::Down, 50_000), 5);
    }),
    Scenario::new("target_resets", |pair| {
        limps(pair, "target_resets", Side::Target, Fault::ResetAfter(Way::Up, 50_000), 5);
    }),
    Scenario::new("target_answers_reset", |pair| {
        limps(pair, "target_answers_reset", Side::Target, Fault::ResetAfter(Way::Down, 2_000), 5);
    }),
    Scenario::new("source_delayed", |pair| {
        limps(pair, "source_delayed", Side::Source, Fault::Delay(Duration::from_millis(100)), 5);
    }),
    Scenario::new("target_delayed", |pair| {
        limps(pair, "target_delayed", Side::Target, Fault::Delay(Duration::from_millis(100)), 5);
    }),
    Scenario::slow("source_trickles", |pair| {
        limps(pair, "source_trickles", Side::Source, Fault::Trickle(1_000), 200);
    }),
    Scenario::slow("target_trickles", |pair| {
        limps(pair, "target_trickles", Side::Target, Fault::Trickle(1_000), 200);
    }),
    Scenario::slow("source_hangs_long", |pair| hangs_long(pair, "source_hangs_long", Side::Source, Way::Down)),
    Scenario::slow("target_hangs_long", |pair| hangs_long(pair, "target_hangs_long", Side::Target, Way::Up)),
    Scenario::slow("target_answers_held_long", |pair| {
        hangs_long(pair, "target_answers_held_long", Side::Target, Way::Down);
    }),
];

#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn of(self, pair: &Pair) -> &Cluster {
        match self {
            Self::Source => &pair.source,
            Self::Target => &pair.target,
        }
    }
}

/// A fault that lets nothing through: the mirror stands still and goes on by itself when it ends.
fn stalls(pair: &mut Pair, name: &str, side: Side, fault: Fault) {
    let mut case = Case::flowing(name, pair);
    let before = side.of(pair).disturbed();
    side.of(pair).disturb(fault);
    case.await_stall(&pair.target);
    assert!(side.of(pair).disturbed() > before, "the fault met nobody");
    side.of(pair).disturb(Fault::None);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Longer than any request is waited for: the connections are given up, and what was sent on them arrives all the same when
/// the network comes back.
fn hangs_long(pair: &mut Pair, name: &str, side: Side, way: Way) {
    let mut case = Case::flowing(name, pair);
    side.of(pair).disturb(Fault::Hold(way));
    wait_until("a request to be given up", LIMIT, || {
        if case.mirror.log().contains("did not answer") { Ok(()) } else { Err(case.mirror.log()) }
    });
    // Also those that were asked on the next connection.
    case.await_written(1_000);
    side.of(pair).disturb(Fault::None);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// A fault under which the mirror gets on, however slowly: it must have struck so many times, and then end.
fn limps(pair: &mut Pair, name: &str, side: Side, fault: Fault, times: u64) {
    let mut case = Case::flowing(name, pair);
    let before = side.of(pair).disturbed();
    side.of(pair).disturb(fault);
    wait_until("the fault to strike", LIMIT, || match side.of(pair).disturbed() - before {
        struck if struck >= times => Ok(()),
        struck => Err(format!("{struck} times")),
    });
    side.of(pair).disturb(Fault::None);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn networks_that_fail_cost_nothing() {
    run("networks_that_fail_cost_nothing", NETWORK);
}
