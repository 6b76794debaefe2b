//! Where consumer groups go on after a failover: kmirror next to MirrorMaker 2, all at once on the same records and the same
//! groups of one source, each into topics of its own on one target.
//!
//! `cargo bench --locked --bench groups` fails (exit code 1) where a group of kmirror's would read a record again or miss one.
//! Of MirrorMaker 2 it asserts nothing. Positions are no matter of speed: any build will do.
//!
//! The source holds half of its records, in part compacted, before anybody copies. Then more come, round by round, and the
//! groups move on with them, each at its own distance. In the end all groups stand still until the replicators have written
//! nothing new for them for a while; then what stands on the target is held against the records.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]
#![allow(clippy::print_stdout, reason = "the table is its result")]

#[path = "../../kafka"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, which use all of it")]
mod kafka {
    pub(crate) mod harness;
}

#[path = "../peers/machine.rs"]
mod machine;
#[path = "../peers/mirror_maker.rs"]
mod mirror_maker;

mod hands;
mod judge;
mod peers;
mod stage;
mod standing;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;

use judge::Judged;
use machine::Machine;
use peers::{Peer, Running};
use stage::Stage;
use standing::Round;

/// Between two commits of the groups: several intervals of each replicator.
const ROUND_PAUSE: Duration = Duration::from_secs(4);

/// What to run, and where to put what was found.
#[derive(Debug, Parser)]
#[command(name = "groups", about = "Offset translation of kmirror and MirrorMaker 2, on real Kafka 4.3.1")]
struct Args {
    /// Records on the source in the end, about
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    records: u64,
    /// Writes machine, totals, and every single position to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let machine = Machine::look();
    println!("{machine}");
    let stage = Stage::start(args.records);
    stage.write_backlog();
    stage.commit(Round::FIRST);
    let mut running: Vec<Running> = Peer::ALL.into_iter().map(|peer| Running::start(peer, &stage)).collect();
    stage.await_copied(&mut running);
    stage.await_first_offsets(&mut running);
    for number in 1..=Round::LAST {
        stage.write_round(number);
        stage.commit(Round(number));
        eprintln!("round {number} of {}: written and committed", Round::LAST);
        sleep(ROUND_PAUSE);
    }
    stage.await_copied(&mut running);
    stage.await_rest(&mut running);
    let judged = Judged::look(&stage);
    running.into_iter().for_each(Running::stop);
    println!("{}", table::text(&judged));
    if let Some(file) = &args.json {
        table::write_json(file, &machine, &judged);
    }
    match judged.faults_of(Peer::Kmirror) {
        faults if faults.is_empty() => ExitCode::SUCCESS,
        faults => {
            faults.iter().for_each(|fault| eprintln!("kmirror: {fault}"));
            ExitCode::FAILURE
        }
    }
}
