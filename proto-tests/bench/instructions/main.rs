//! How many instructions the pure parts of the data path take, under valgrind: no noise of a machine is in that, so more is more.
//! `cargo bench --bench instructions` compares with `proto-tests/bench/instructions.txt`, and fails where something got worse;
//! `-- --accept` writes that file anew. Counts depend on the compiler: of another one they are shown and not judged.

mod baseline;
mod count;
#[path = "../parts/mod.rs"]
mod parts;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Parser;

use baseline::{Baseline, Finding};
use parts::chosen;

/// Counts the instructions of the pure parts of the data path.
#[derive(Debug, Parser)]
struct Args {
    /// Only those with one of these words in their name
    words: Vec<String>,
    /// Take the counts as the ones to compare with from now on
    #[arg(long)]
    accept: bool,
    /// Per cent more that count as worse
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
    /// The counts to compare with
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-tests/bench/instructions.txt"))]
    file: PathBuf,
    /// Do this work, as valgrind's child
    #[arg(long, hide = true)]
    run: Option<String>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(name) = &args.run {
        count::run(name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let works = chosen(&args.words);
    ensure!(!works.is_empty(), "nothing has {:?} in its name", args.words);
    let tools = baseline::tools()?;
    let known = Baseline::read(&args.file)?;
    let judged = known.is_of(&tools);
    ensure!(judged || !args.accept || args.words.is_empty(), "{}; accept all of them", known.not_comparable(&tools));
    let mut counted = if args.words.is_empty() { Baseline::default() } else { known.clone() };
    let tolerance = if judged { args.tolerance } else { f64::INFINITY };
    let mut worse = 0;
    for work in &works {
        let count = count::under_valgrind(work).with_context(|| work.name.clone())?;
        let finding = known.compare(&work.name, count, tolerance);
        worse += u32::from(matches!(finding, Finding::Worse(_)));
        println!("{:44} {count:>12.1}  per {:9} {finding}", work.name, work.unit);
        counted.set(&work.name, work.unit, count);
    }
    if args.accept {
        counted.write(&args.file, &tools)?;
        println!("written to {}", args.file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !judged {
        println!("{}", known.not_comparable(&tools));
    }
    if worse > 0 {
        println!("{worse} got worse by more than {} %; where that is meant: -- --accept", args.tolerance);
    }
    Ok(if worse > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
