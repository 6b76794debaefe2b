//! The mirror under faults: each scenario is a workload, faults, and a checker that looks for lost, duplicated, reordered
//! and wrongly mapped records. README.md declares for each of them what kmirror does ("Under faults").
//!
//! Scenarios that need the same clusters are a group, one test that runs them in turn and names all that failed.
//! `KMIRROR_NEMESIS` picks those whose names hold a word; slow ones run with `KMIRROR_TESTS=full` only.

mod answers;
mod brokers;
mod case;
mod corrupt;
mod data;
mod expiry;
mod hostile;
mod mirror_topics;
mod names;
mod network;
mod partitions;
mod processes;
mod rights;
mod state;
mod threats;

pub(crate) use answers::take_rights;

pub(crate) use corrupt::serve_another_format;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::kafka::harness::{Tier, jars, real_kafka_wanted, tier};

/// A scenario by its name in the README, and when it runs.
pub(crate) struct Scenario<R> {
    pub(crate) name: &'static str,
    when: When,
    run: fn(&mut R),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Takes long: not in CI.
    Full,
}

impl<R> Scenario<R> {
    pub(crate) const fn new(name: &'static str, run: fn(&mut R)) -> Self {
        Self { name, when: When::Always, run }
    }

    /// Takes long: not in CI.
    pub(crate) const fn slow(name: &'static str, run: fn(&mut R)) -> Self {
        Self { name, when: When::Full, run }
    }

    fn is_wanted(&self) -> bool {
        let word = std::env::var("KMIRROR_NEMESIS").unwrap_or_default();
        let runs = match self.when {
            When::Always => true,
            When::Full => tier() == Tier::Full,
        };
        runs && self.name.contains(&word)
    }
}

/// The names of all scenarios; the README declares each of them.
pub(crate) fn names() -> Vec<&'static str> {
    fn of<R>(scenarios: &[Scenario<R>]) -> impl Iterator<Item = &'static str> {
        scenarios.iter().map(|scenario| scenario.name)
    }
    let pairs = [
        network::NETWORK,
        processes::PROCESSES,
        brokers::SINGLE,
        data::SOURCE_DATA,
        mirror_topics::TARGET_DATA,
        state::STATE,
    ];
    let others = of(brokers::OF_THREE).chain(of(expiry::EXPIRY)).chain(of(names::NAMES)).chain(of(rights::RIGHTS));
    pairs.into_iter().flat_map(of).chain(others).collect()
}

/// Compiles a library of this folder that is to be preloaded into a process.
fn preloadable(source: &str, library: &Path) {
    let source = jars::tests_folder("nemesis").join(source);
    jars::run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source));
}

/// What a group's scenarios share.
pub(crate) trait Rig {
    fn start() -> Self;
    /// Ends whatever fault a scenario left in force.
    fn heal(&mut self);
}

/// Runs a group's scenarios in turn on one rig; one that fails does not keep the others from running.
pub(crate) fn run<R: Rig>(group: &str, scenarios: &[Scenario<R>]) {
    let wanted: Vec<&Scenario<R>> = scenarios.iter().filter(|scenario| scenario.is_wanted()).collect();
    if wanted.is_empty() || !real_kafka_wanted(group) {
        return;
    }
    let mut rig = R::start();
    let mut failed = Vec::new();
    for scenario in wanted {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut rig)));
        rig.heal();
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        eprintln!("nemesis: {group}: {} {word} in {:.1} s", scenario.name, began.elapsed().as_secs_f64());
        if outcome.is_err() {
            failed.push(scenario.name);
        }
    }
    assert!(failed.is_empty(), "{group}: {failed:?} failed; what they said stands above");
}
