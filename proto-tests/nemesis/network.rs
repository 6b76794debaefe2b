//! What networks do, on either side of the mirror.

use std::time::Duration;

use super::case::{Case, Pair};
use super::{Scenario, run};
use crate::kafka::harness::Cluster;
use crate::kafka::harness::proxy::{Fault, Way};

/// Each fault on the source side and on the target side.
pub(crate) const NETWORK: &[Scenario<Pair>] = &[
    Scenario::new("source_refuses", |pair| stalls(pair, "source_refuses", Side::Source, Fault::Refuse)),
    Scenario::new("target_refuses", |pair| stalls(pair, "target_refuses", Side::Target, Fault::Refuse)),
    Scenario::new("source_hangs", |pair| stalls(pair, "source_hangs", Side::Source, Fault::Hold(Way::Down))),
    Scenario::new("target_hangs", |pair| stalls(pair, "target_hangs", Side::Target, Fault::Hold(Way::Up))),
    Scenario::new("target_answers_held", |pair| {
        stalls(pair, "target_answers_held", Side::Target, Fault::Hold(Way::Down))
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
        limps(pair, "source_delayed", Side::Source, Fault::Delay(Duration::from_millis(300)), 10);
    }),
    Scenario::new("target_delayed", |pair| {
        limps(pair, "target_delayed", Side::Target, Fault::Delay(Duration::from_millis(300)), 10);
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

/// A fault under which the mirror gets on, however slowly: it must have struck so many times, and then end.
fn limps(pair: &mut Pair, name: &str, side: Side, fault: Fault, times: u64) {
    let mut case = Case::flowing(name, pair);
    let before = side.of(pair).disturbed();
    side.of(pair).disturb(fault);
    crate::kafka::harness::wait_until("the fault to strike", crate::e2e::mirror::LIMIT, || {
        match side.of(pair).disturbed() - before {
            struck if struck >= times => Ok(()),
            struck => Err(format!("{struck} times")),
        }
    });
    case.await_more(&pair.target, 400);
    side.of(pair).disturb(Fault::None);
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn networks_that_fail_cost_nothing() {
    run("networks_that_fail_cost_nothing", NETWORK);
}
