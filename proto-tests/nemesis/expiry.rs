//! A target that forgets quickly: producers by the age of their records, transactional ids by the time since their last
//! transaction.

use super::case::{Case, PARTITIONS, Pair};
use super::{Rig, Scenario, run};
use crate::e2e::mirror::{LIMIT, await_end_offsets};
use crate::kafka::harness::proxy::{Fault, Way};
use crate::kafka::harness::{Cluster, ClusterSpec, Produce, Version, driver, wait_until};

/// Memory of the target, ms.
const FORGETS: [(&str, &str); 4] = [
    ("producer.id.expiration.ms", "4000"),
    ("producer.id.expiration.check.interval.ms", "300"),
    ("transactional.id.expiration.ms", "4000"),
    ("transaction.remove.expired.transaction.cleanup.interval.ms", "300"),
];

/// A source, and the target that forgets.
pub(crate) struct Forgetful(Pair);

impl Rig for Forgetful {
    fn start() -> Self {
        let spec = || ClusterSpec::new(Version::V4_3_1).proxied();
        let target = FORGETS.iter().fold(spec(), |spec, (key, value)| spec.set(key, value));
        Self(Pair { source: Cluster::start(spec()), target: Cluster::start(target) })
    }

    fn heal(&mut self) {
        self.0.heal();
    }
}

pub(crate) const EXPIRY: &[Scenario<Forgetful>] = &[
    Scenario::new("backfill_of_old_records", |rig| backfill_of_old_records(&mut rig.0)),
    Scenario::new("transactional_ids_expired", |rig| transactional_ids_expired(&mut rig.0)),
];

const OLD: u64 = 30_000;

/// Records of 2023, whose sequences the target forgets while they come: answers get lost, the mirror is killed, and still
/// nothing is there twice.
fn backfill_of_old_records(pair: &mut Pair) {
    let name = "backfill_of_old_records";
    let mut case = Case::new(name, &pair.source, &pair.target, 1, "");
    let old = Produce { partitions: PARTITIONS, batch_size: 2_000, ..Produce::odd(name, OLD) };
    driver().produce(&pair.source.bootstrap(), &old);
    case.counts(OLD);
    let before = pair.target.disturbed();
    case.mirror.start();
    await_end_offsets(&pair.target, name, 200, LIMIT);
    pair.target.disturb(Fault::ResetAfter(Way::Down, 400));
    wait_until("answers to get lost", LIMIT, || match pair.target.disturbed() - before {
        lost if lost > 10 => Ok(()),
        lost => Err(lost.to_string()),
    });
    case.mirror.kill();
    pair.target.disturb(Fault::None);
    case.mirror.start();
    case.write();
    case.await_more(&pair.target, 400);
    case.mirror.kill();
    case.mirror.start();
    case.assert_whole(&pair.source, &pair.target);
}

fn await_forgotten(pair: &Pair) {
    wait_until("the transactional ids to be forgotten", LIMIT, || {
        let ids = driver().transactional_ids(&pair.target.bootstrap());
        let ours = ids.iter().filter(|id| id.starts_with("kmirror.transactional_ids_expired")).count();
        if ours == 0 { Ok(()) } else { Err(format!("{ours} ids")) }
    });
}

/// The next owner gets other producer ids, after a clean stop and after a kill.
fn transactional_ids_expired(pair: &mut Pair) {
    let mut case = Case::flowing("transactional_ids_expired", pair);
    case.mirror.stop();
    await_forgotten(pair);
    case.mirror.start();
    case.await_more(&pair.target, 400);
    // While it runs it keeps them known, where data flows.
    case.mirror.kill();
    await_forgotten(pair);
    case.mirror.start();
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn a_target_that_forgets_is_written_to_once() {
    run("a_target_that_forgets_is_written_to_once", EXPIRY);
}
