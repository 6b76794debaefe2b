//! How long the pure parts of the data path take: `cargo bench --bench micro`, or `-- WORD` for those with it in their name.
//! Times differ from machine to machine and with what else runs; `instructions` counts the same work without that.

#[path = "../parts/mod.rs"]
mod parts;

use std::time::{Duration, Instant};

use clap::Parser;

use parts::{Run, Work, chosen};

/// Times the pure parts of the data path.
#[derive(Debug, Parser)]
struct Args {
    /// Only those with one of these words in their name
    words: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// The first turns fill caches and are not counted.
const WARM_UP: f64 = 0.2;
const SAMPLES_MIN: usize = 10;
/// Shorter than this the clock itself would count: so many runs are timed as one.
const LEAST: Duration = Duration::from_micros(20);
const TURNS_MAX: u32 = 1024;

#[allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
fn main() {
    let args = Args::parse();
    println!("{:44} {:>10} {:>10} {:>10}", "nanoseconds", "least", "median", "90 %");
    for work in chosen(&args.words) {
        let sorted = sample(&work, Duration::from_secs_f64(args.seconds));
        let at = |share: usize| sorted.get((sorted.len() - 1) * share / 100).copied().unwrap_or(f64::NAN);
        println!("{:44} {:>10.1} {:>10.1} {:>10.1}  per {}", work.name, at(0), at(50), at(90), work.unit);
    }
}

/// Nanoseconds for each unit, ascending.
fn sample(work: &Work, time: Duration) -> Vec<f64> {
    let mut prepare = (work.make)();
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut turns = 1;
    while samples.len() < SAMPLES_MIN || began.elapsed() < time {
        let runs: Vec<Run> = (0..turns).map(|_| prepare()).collect();
        let start = Instant::now();
        runs.into_iter().for_each(|run| run());
        let took = start.elapsed();
        let nanoseconds = took.as_secs_f64() * 1e9 / f64::from(turns) / f64::from(work.units);
        if took < LEAST && turns < TURNS_MAX {
            turns *= 2;
        }
        if began.elapsed() > time.mul_f64(WARM_UP) {
            samples.push(nanoseconds);
        }
    }
    samples.sort_by(f64::total_cmp);
    samples
}
