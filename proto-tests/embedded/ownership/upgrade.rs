//! Another build of the program beside this one, `KMIRROR_OLD_BINARY`: a fleet that is upgraded instance by instance.

use std::ffi::OsString;
use std::process::Command;

use super::fleet::{FLEET, another, await_shared, everywhere};
use super::load::Load;
use super::{PARTITIONS, Pair, ends_well, markers};
use crate::e2e::Mirror;
use crate::kafka::harness::{Tier, tier};

fn old_binary() -> Option<OsString> {
    let named = std::env::var_os("KMIRROR_OLD_BINARY").filter(|_| tier() == Tier::Full);
    if named.is_none() {
        eprintln!("no rolling upgrade: KMIRROR_TESTS=full and KMIRROR_OLD_BINARY name the build to begin with");
    }
    named
}

/// The same command by the other build.
fn start_old(mirror: &mut Mirror, binary: &OsString) {
    mirror.start_as(|command| {
        let mut old = Command::new(binary);
        old.args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            old.current_dir(folder);
        }
        old
    });
}

#[test]
fn a_rolling_upgrade_from_another_build_loses_nothing() {
    let Some(binary) = old_binary() else { return };
    let mut pair = Pair::new("fleet-upgrade", 2, PARTITIONS, FLEET);
    let mut second = another(&pair, FLEET);
    start_old(&mut pair.mirror, &binary);
    start_old(&mut second, &binary);
    await_shared(&pair, 2);
    let load = Load::start(&pair);
    load.await_flow();
    let mut stalls = Vec::new();
    let mut measured = |what: &'static str, load: &Load| {
        load.await_flow();
        stalls.push((what, load.stalls(&everywhere()).0));
    };
    load.forget_stalls();
    // As a service manager does it, one after the other; in between both builds share the mirror.
    second.stop();
    await_shared(&pair, 1);
    second.start();
    await_shared(&pair, 2);
    measured("the first is upgraded", &load);
    assert_eq!(markers(&pair), [0; PARTITIONS as usize], "each move was a hand-over");
    // The older one takes shards back, and gives them again.
    second.stop();
    await_shared(&pair, 1);
    second.start();
    await_shared(&pair, 2);
    measured("shards went back and forth", &load);
    assert_eq!(markers(&pair), [0; PARTITIONS as usize], "each move was a hand-over");
    // And the other one is not asked.
    pair.mirror.kill();
    await_shared(&pair, 1);
    measured("the older one is killed", &load);
    pair.mirror.start();
    await_shared(&pair, 2);
    measured("all are upgraded", &load);
    let written = load.stop();
    eprintln!("longest stall of any partition: {stalls:?}; {} records", written.iter().sum::<u64>());
    ends_well(&pair, &written);
    pair.mirror.stop();
    second.stop();
}
