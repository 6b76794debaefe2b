//! What happens to brokers: single ones that stop, die, hang or run slow on either side, and three of which one is gone.

use std::thread::sleep;
use std::time::Duration;

use super::case::{Case, Pair, Three};
use super::partitions::{LEADERLESS, LEADERLESS_AT_START, UNCLEAN_SOURCE, UNCLEAN_TARGET};
use super::{Scenario, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{Cluster, driver, wait_until};

pub(crate) const SINGLE: &[Scenario<Pair>] = &[
    Scenario::slow("source_broker_stops", |pair| gone(pair, "source_broker_stops", |p| &mut p.source, stop)),
    Scenario::new("target_broker_stops", |pair| gone(pair, "target_broker_stops", |p| &mut p.target, stop)),
    Scenario::new("source_broker_killed", |pair| gone(pair, "source_broker_killed", |p| &mut p.source, kill)),
    Scenario::slow("target_broker_killed", |pair| gone(pair, "target_broker_killed", |p| &mut p.target, kill)),
    Scenario::new("target_broker_hangs", target_broker_hangs),
    Scenario::slow("source_broker_hangs_long", |pair| hangs_long(pair, "source_broker_hangs_long", |p| &mut p.source)),
    Scenario::slow("target_broker_hangs_long", |pair| hangs_long(pair, "target_broker_hangs_long", |p| &mut p.target)),
];

/// What the name of a mirror's state topic begins with.
const STATE_PREFIX: &str = "__kmirror.";

type Of = fn(&mut Pair) -> &mut Cluster;

fn stop(cluster: &mut Cluster) {
    cluster.shut_down_node(1);
}

fn kill(cluster: &mut Cluster) {
    cluster.kill_node(1);
}

/// The only broker of a side is gone for a while, and comes back.
fn gone(pair: &mut Pair, name: &str, of: Of, end: fn(&mut Cluster)) {
    let mut case = Case::flowing(name, pair);
    end(of(pair));
    of(pair).restart_node(1);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// A pause shorter than any time limit: what was sent is taken when the broker goes on.
fn target_broker_hangs(pair: &mut Pair) {
    let mut case = Case::flowing("target_broker_hangs", pair);
    pair.target.pause_node(1);
    case.await_written(3_000);
    pair.target.continue_node(1);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Longer than any request is waited for: connections are given up, and what was sent on them is taken all the same when
/// the broker goes on.
fn hangs_long(pair: &mut Pair, name: &str, of: Of) {
    let mut case = Case::flowing(name, pair);
    of(pair).pause_node(1);
    sleep(Duration::from_secs(70));
    of(pair).continue_node(1);
    assert!(case.mirror.log().contains("did not answer"), "{}", case.mirror.log());
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Leaders that move and brokers that stop are in CI already (`e2e::leaders`).
pub(crate) const OF_THREE: &[Scenario<Three>] = &[
    Scenario::slow("leaders_move", |three| {
        both_ways(three, "leaders_move", |three, topics| {
            for partition in 0..4 {
                for topic in topics {
                    driver().move_leader(&three.bootstrap(), topic, partition, 1 + (partition + 1) % 3);
                }
            }
        });
    }),
    Scenario::slow("one_of_three_stops", |three| {
        both_ways(three, "one_of_three_stops", |three, _| {
            three.shut_down_node(2);
            three.restart_node(2);
        });
    }),
    Scenario::new("controller_killed", |three| {
        both_ways(three, "controller_killed", |three, _| {
            let controller = driver().controller(&three.bootstrap());
            three.kill_node(controller);
            await_another_controller(three, controller);
            three.restart_node(controller);
        });
    }),
    Scenario::new("one_of_three_moves", |three| {
        both_ways(three, "one_of_three_moves", |three, _| {
            three.shut_down_node(3);
            three.move_node(3);
            three.restart_node(3);
        });
    }),
    Scenario::slow("rolling_restart", |three| {
        both_ways(three, "rolling_restart", |three, topics| {
            for node in 1..=3 {
                three.shut_down_node(node);
                three.restart_node(node);
                await_in_sync(three, topics);
            }
        });
    }),
    Scenario::slow("one_of_three_hangs", |three| {
        both_ways(three, "one_of_three_hangs", |three, _| {
            three.pause_node(2);
            sleep(Duration::from_secs(45));
            three.continue_node(2);
        });
    }),
    LEADERLESS,
    LEADERLESS_AT_START,
    UNCLEAN_SOURCE,
    UNCLEAN_TARGET,
];

fn await_another_controller(three: &Cluster, before: u16) {
    wait_until("another controller", LIMIT, || match driver().controller(&three.bootstrap()) {
        now if now == before => Err(now.to_string()),
        _ => Ok(()),
    });
}

/// Every replica follows again, also of what brokers and mirrors keep for themselves. Without that, two restarts are two
/// failures at once, which no client can be asked to see nothing of.
fn await_in_sync(three: &Cluster, topics: [&str; 2]) {
    let own = [format!("{STATE_PREFIX}{}", topics[1]), "__transaction_state".to_owned()];
    for topic in topics.into_iter().chain(own.iter().map(String::as_str)) {
        wait_until(&format!("{topic} to be in sync"), LIMIT, || {
            let partitions = driver().describe_topic(&three.bootstrap(), topic);
            let behind = partitions.iter().any(|partition| partition.isr.len() < partition.replicas.len());
            if behind { Err(format!("{partitions:?}")) } else { Ok(()) }
        });
    }
}

/// The same fault with the three brokers as source of one mirror and as target of another.
fn both_ways(rig: &mut Three, name: &str, fault: impl FnOnce(&mut Cluster, [&str; 2])) {
    let (out, into) = (format!("{name}_out"), format!("{name}_into"));
    let mut from_three = Case::new(&out, &rig.three, &rig.one, 3, "");
    let mut to_three = Case::new(&into, &rig.one, &rig.three, 1, "");
    for (case, target) in [(&mut from_three, &rig.one), (&mut to_three, &rig.three)] {
        case.mirror.start();
        case.write();
        case.await_more(target, 200);
    }
    fault(&mut rig.three, [&out, &into]);
    for (case, target) in [(&mut from_three, &rig.one), (&mut to_three, &rig.three)] {
        case.await_more(target, 400);
    }
    from_three.assert_whole(&rig.three, &rig.one);
    to_three.assert_whole(&rig.one, &rig.three);
}

#[test]
fn single_brokers_that_fail_cost_nothing() {
    run("single_brokers_that_fail_cost_nothing", SINGLE);
}

#[test]
fn one_broker_of_three_that_fails_costs_nothing() {
    run("one_broker_of_three_that_fails_costs_nothing", OF_THREE);
}
