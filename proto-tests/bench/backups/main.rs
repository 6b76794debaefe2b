//! `kmirror backup` next to what else brings a topic to a disk, on one real broker: the load `mixed` of the benchmark `peers`, in turn,
//! several times.
//!
//! `cargo bench --locked --bench backups` runs kmirror without and with its own compression, Kafka's console consumer (which writes
//! nothing), and a plain copy of the archive's bytes, which is less than any backup can do; and kafka-backup, where
//! `--kafka-backup FILE` names its binary. Says figures, and asserts none but that each brought all there is.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]
#![allow(clippy::print_stdout, reason = "the table is its result")]

#[path = "../../kafka"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, which use all of it")]
mod kafka {
    pub(crate) mod harness;
}

#[path = "../peers/backlog.rs"]
mod backlog;
#[path = "../peers/machine.rs"]
mod machine;
#[path = "../peers/spread.rs"]
mod spread;

mod spent;
mod table;
mod tools;

use std::path::PathBuf;

use clap::Parser;

use backlog::{CODECS, fill_mixed, logged, scaled};
use kafka::harness::{Cluster, ClusterSpec, TopicSpec, Version, driver};
use machine::Machine;
use table::Row;
use tools::{Load, Tool};

const PARTITIONS: i32 = 6;

/// What to run, and where to put what was found.
#[derive(Debug, Parser)]
#[command(name = "backups", about = "kmirror backup next to others, on real Kafka 4.3.1")]
struct Args {
    /// The binary of kafka-backup, to run it as well
    #[arg(long, value_name = "FILE")]
    kafka_backup: Option<PathBuf>,
    /// How often each of them runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Scales the records; figures of different factors do not compare
    #[arg(long, default_value_t = 0.5, value_name = "FACTOR")]
    records_factor: f64,
    /// Writes machine, figures of every run, and their spreads to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let machine = Machine::look();
    println!("{machine}");
    let cluster = Cluster::start(ClusterSpec::new(Version::V4_3_1).for_bench());
    let load = fill(&cluster, args.records_factor);
    println!(
        "{} records in {} batches, {:.3} GB on the wire",
        load.records,
        load.logged.batches,
        load.logged.wire_bytes as f64 / 1e9
    );
    let mut rows: Vec<Row> = Tool::all(args.kafka_backup.as_deref()).into_iter().map(Row::new).collect();
    for round in 0..args.rounds {
        for row in &mut rows {
            let spent = row.tool.run(&cluster, &load, round);
            eprintln!("round {}, {}: {spent}", round + 1, row.tool.name());
            row.spent.push(spent);
        }
    }
    println!("{}", table::text(&rows, load.logged.wire_bytes));
    if let Some(file) = &args.json {
        table::write_json(file, &machine, &load, &rows);
    }
}

fn fill(cluster: &Cluster, factor: f64) -> Load {
    let topics = CODECS.map(|codec| format!("mixed-{codec}")).to_vec();
    for topic in &topics {
        driver().create_topic(&cluster.bootstrap(), &TopicSpec::new(topic, PARTITIONS));
    }
    let records = fill_mixed(cluster, &topics, PARTITIONS, scaled(2_000_000, factor, 6_000));
    Load { logged: logged(cluster, &topics, PARTITIONS), topics, records }
}
