//! kmirror next to MirrorMaker 2, its peer, on real Kafka: the same loads on the same brokers, in turn, several times.
//!
//! `cargo bench --locked --bench peers` runs all loads but `start`; `-- --help` lists what can be chosen. Says figures, and
//! asserts none: what kmirror must hold against is the other one, on the machine where both ran.
//!
//! A round runs both on one load, and the next round in the other order. Both begin with nothing on the target: each run
//! copies to topics of its own (`bN.TOPIC`), which are deleted behind it. The brokers stay, warmed up before the first run.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]
#![allow(clippy::print_stdout, reason = "the tables are its result")]

#[path = "../../kafka"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, which use all of it")]
mod kafka {
    pub(crate) mod harness;
}

#[path = "../relay/plain.rs"]
mod plain;
#[path = "../relay/proc.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine alone, which uses all of it")]
mod proc;

mod backlog;
mod figures;
mod gauge;
mod hands;
mod load;
mod machine;
mod mirror_maker;
mod peer;
mod plot;
mod run;
mod spread;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use figures::Results;
use load::{Filled, Load, Stage};
use machine::Machine;
use peer::Peer;

/// What to run, and where to put what was found.
#[derive(Debug, Parser)]
#[command(name = "peers", about = "kmirror and MirrorMaker 2 under the same loads, on real Kafka 4.3.1")]
struct Args {
    /// Only this load; may be repeated. Without it: all but `start`
    #[arg(long = "load", value_enum, value_name = "NAME")]
    loads: Vec<Load>,
    /// All loads, `start` as well
    #[arg(long, conflicts_with = "loads")]
    all: bool,
    /// Only one of the two; without it they run in turn
    #[arg(long, value_enum)]
    only: Option<Peer>,
    /// How often each of them runs each load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Scales records, topics and time spans of the loads, for a quick try; figures of different factors do not compare
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = factor)]
    records_factor: f64,
    /// Seconds after which a run is given up, and said to be
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    limit: u64,
    /// The same for the load `start`, where whoever misses it is not run again
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    start_limit: u64,
    /// Writes machine, figures of every run, and their spreads to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a plot of each load to this folder
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<plain::Role>,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if factor > 0.0 && factor <= 10.0 { Ok(factor) } else { Err("say more than 0, and at most 10".to_owned()) }
}

impl Args {
    fn chosen(&self) -> Vec<Load> {
        match (&self.loads[..], self.all) {
            ([], false) => vec![Load::Mixed, Load::Tiny, Load::Latency, Load::Idle],
            ([], true) => vec![Load::Mixed, Load::Tiny, Load::Latency, Load::Idle, Load::Start],
            (named, _) => named.to_vec(),
        }
    }

    fn limit(&self, load: Load) -> Duration {
        Duration::from_secs(if load == Load::Start { self.start_limit } else { self.limit })
    }

    /// Who runs in a round, in which order: whoever is second finds warmer brokers.
    fn order(&self, round: u32) -> Vec<Peer> {
        match self.only {
            Some(one) => vec![one],
            None if round.is_multiple_of(2) => vec![Peer::Kmirror, Peer::MirrorMaker2],
            None => vec![Peer::MirrorMaker2, Peer::Kmirror],
        }
    }
}

fn main() {
    let mut args = Args::parse();
    if let Some(role) = args.role.take() {
        return role.run().expect("the relay");
    }
    let machine = Machine::look();
    println!("{machine}");
    let mut all: Vec<Results> = Vec::new();
    let mut stage: Option<Stage> = None;
    for load in args.chosen() {
        // Brokers that have held ten thousand partitions are not those that the other loads shall meet.
        if load == Load::Start || stage.as_ref().is_some_and(Stage::is_large) {
            stage = None;
        }
        let stage = stage.get_or_insert_with(|| Stage::start(load, args.records_factor));
        all.push(run_load(&args, load, stage));
        report(&args, &machine, &all);
    }
}

fn run_load(args: &Args, load: Load, stage: &Stage) -> Results {
    eprintln!("{}: filling the source with {}", load.name(), load.shape(args.records_factor));
    let filled: Filled = load.fill(stage);
    eprintln!("{}: {filled}", load.name());
    let mut results = Results::new(load, args.records_factor, &filled);
    let mut missed: Vec<Peer> = Vec::new();
    for round in 0..args.rounds {
        for peer in args.order(round) {
            if load == Load::Start && missed.contains(&peer) {
                continue;
            }
            let outcome = run::run(load, peer, stage, &filled, args.limit(load));
            if outcome.is_err() {
                missed.push(peer);
            }
            results.add(peer, round, outcome);
        }
    }
    stage.clear();
    results
}

/// After every load, so that a later one that fails takes nothing with it.
fn report(args: &Args, machine: &Machine, all: &[Results]) {
    if let Some(last) = all.last() {
        println!("{}", table::text(last));
        if let Some(folder) = &args.svg {
            plot::write(folder, last);
        }
    }
    if let Some(file) = &args.json {
        table::write_json(file, machine, args.rounds, args.records_factor, all);
    }
}
