//! The mirror under faults, by seed.
//!
//! A run is a world: source partitions and a target cluster that follow the measured rules ([`broker`], [`source`],
//! [`target`]), a network that delays, loses and delivers late ([`net`]), and processes that drive the pure core as the
//! engine does ([`driver`]). A seed decides what may happen ([`profile`]) and what happens ([`world`]). When the faults
//! have ended and everything stands still, the [`oracle`] compares the target with all that was ever written to the
//! source. Broken on purpose in any of the ways of [`mutation`], the engine is caught.
//!
//! `KMIRROR_SIM_SEEDS=1000000` runs that many seeds; `KMIRROR_SIM_SEED=17` with the test `sim::replay` runs one and
//! prints what happened.

mod broker;
mod driver;
mod fleet;
mod mutants;
mod mutation;
mod net;
mod oracle;
mod ownership;
mod profile;
mod source;
mod suspicion;
mod target;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mutation::Mutation;
use world::World;

const SEEDS: u64 = 20_000;

fn run(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let mut world = World::new(seed, mutation, false);
    world.run()?;
    oracle::judge(&world)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Failing seeds below `seeds` with what is wrong, until `enough` are found.
fn failures(seeds: u64, mutation: Option<Mutation>, enough: usize) -> Vec<(u64, String)> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        while failed.lock().unwrap().len() < enough {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = std::panic::catch_unwind(|| run(seed, mutation));
            if let Err(wrong) = outcome.unwrap_or_else(|_| Err("a panic".to_owned())) {
                failed.lock().unwrap().push((seed, wrong));
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed
}

#[test]
fn no_seed_shows_a_fault() {
    let failed = failures(number("KMIRROR_SIM_SEEDS").unwrap_or(SEEDS), None, 20);
    for (seed, wrong) in &failed {
        eprintln!(
            "KMIRROR_SIM_SEED={seed} cargo test --locked --test proto-tests sim::replay -- --nocapture\n    {wrong}"
        );
    }
    assert!(failed.is_empty(), "{} seeds fail; the lines above replay them", failed.len());
}

/// Silence means nothing where nothing happens.
#[test]
fn the_simulation_gets_there() {
    const RUNS: u64 = 1_000;
    let wanted = [
        "Declare {",
        "Resume {",
        "Origin {",
        "Displaced {",
        "Diverged {",
        "Release {",
        "Scanned {",
        "SnapshotBegin {",
        "diverging Some",
        "error 1 ",
        "Error(45)",
        "Error(47)",
        "Error(51)",
        "Error(100)",
        "late (",
        "stalls",
        "forgets a producer",
        "id forgotten: true",
        "ends: Stopped",
        "ends: Fenced",
        "ends: Failed",
        "halts: retention_loss",
        "halts: truncation",
        "halts: source_recreated",
        "halts: foreign_records",
        "resume Some",
        "(Aborted, ",
        "(Control, ",
        "(Compaction, ",
        "(Retention, ",
        "(Accepted, ",
        "(Recreated, ",
        "(Start, ",
    ];
    let mut runs = [0; 33];
    for seed in 0..RUNS {
        let mut world = World::new(seed, None, true);
        world.run().unwrap();
        let trace = world.trace.take().unwrap_or_default().join("\n");
        for (count, word) in runs.iter_mut().zip(wanted) {
            *count += usize::from(trace.contains(word));
        }
    }
    let seldom: Vec<_> = wanted.iter().zip(runs).filter(|(_, count)| *count == 0).collect();
    assert!(seldom.is_empty(), "never in {RUNS} runs: {seldom:?}");
    eprintln!("of {RUNS} runs: {:?}", wanted.iter().zip(runs).collect::<Vec<_>>());
}

#[test]
fn replay() {
    let Some(seed) = number("KMIRROR_SIM_SEED") else { return };
    let named = std::env::var("KMIRROR_SIM_MUTATION").ok();
    let mutation = named.map(|name| Mutation::ALL.into_iter().find(|m| format!("{m:?}") == name).unwrap());
    let mut world = World::new(seed, mutation, true);
    let outcome = world.run().and_then(|()| oracle::judge(&world));
    for line in world.trace.take().unwrap_or_default() {
        eprintln!("{line}");
    }
    outcome.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
}
