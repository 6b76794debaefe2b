//! Rights that the source takes away and gives back while kmirror runs.

use super::case::{Case, PARTITIONS, Pair};
use super::{Rig, Scenario, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::proxy::CLIENTS;
use crate::kafka::harness::{Cluster, ClusterSpec, Version, driver, wait_until};

/// A source with an authorizer, under which everything is allowed that is not denied.
pub(crate) struct Guarded(Pair);

impl Rig for Guarded {
    fn start() -> Self {
        let spec = || ClusterSpec::new(Version::V4_3_1).proxied();
        let guarded = spec()
            .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .set("allow.everyone.if.no.acl.found", "true");
        Self(Pair { source: Cluster::start(guarded), target: Cluster::start(spec()) })
    }

    fn heal(&mut self) {
        self.0.heal();
    }
}

pub(crate) const RIGHTS: &[Scenario<Guarded>] = &[
    Scenario::new("describe_right_lost", |rig| describe_right_lost(&rig.0)),
    Scenario::new("read_right_lost", |rig| rights_lost(&rig.0, "read_right_lost", &["READ"])),
    Scenario::new("all_rights_lost", |rig| rights_lost(&rig.0, "all_rights_lost", &["READ", "DESCRIBE"])),
];

/// To kmirror alone, which comes through the proxies.
fn deny(pair: &Pair, topic: &str, operations: &[&str]) {
    driver().deny(&pair.source.bootstrap(), topic, &CLIENTS.to_string(), operations);
}

/// The topic is hidden and tells no offsets, but may be read.
fn describe_right_lost(pair: &Pair) {
    let mut case = Case::flowing("describe_right_lost", pair);
    deny(pair, &case.topic, &["DESCRIBE"]);
    wait_until("status to say why", LIMIT, || {
        let row = case.mirror.row(&case.topic, 0)?;
        let reason = row["reason"].as_str().unwrap_or_default();
        if reason.contains("TOPIC_AUTHORIZATION_FAILED") { Ok(()) } else { Err(row.to_string()) }
    });
    // For longer than from one discovery to the next.
    case.await_written(12_000);
    case.await_more(&pair.target, 2_000);
    deny(pair, &case.topic, &[]);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

fn rights_lost(pair: &Pair, name: &str, operations: &[&str]) {
    let mut case = Case::flowing(name, pair);
    deny(pair, name, operations);
    for partition in 0..PARTITIONS {
        case.await_halt(partition, "unauthorised");
    }
    case.await_written(1_000);
    deny(pair, name, &[]);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn rights_that_are_lost_for_a_while_cost_nothing() {
    run("rights_that_are_lost_for_a_while_cost_nothing", RIGHTS);
}
