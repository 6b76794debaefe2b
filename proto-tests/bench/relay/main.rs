//! The engine alone: kmirror between two ends that cost next to nothing, and in the same run a plain TCP relay of as many
//! bytes, which no replicator can undercut. What matters is how many times the relay's CPU kmirror takes.
//!
//! `cargo bench --bench relay -- --help`. Linux only: CPU time and memory are read from /proc.

mod args;
mod ends;
mod growth;
mod mirror;
mod plain;
mod proc;
mod report;

use anyhow::Context as _;
use clap::Parser as _;

use args::Args;
use ends::{Ends, Source};
use plain::BUFFERS;
use report::{Report, Round};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(role) = args.role {
        return role.run();
    }
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime for the ends")?;
    let measure = |args: &Args, source: &Source| {
        runtime.block_on(async {
            let ends = Ends::start(source).await?;
            mirror::measure(&args.kmirror, &ends, args.instances).await
        })
    };
    if args.growth {
        return growth::run(&args, measure);
    }
    let source = Source::new(&args)?;
    let mut report = Report::new(&args, &source);
    for number in 1..=args.rounds {
        let kmirror = measure(&args, &source).with_context(|| format!("kmirror, round {number}"))?;
        let mut relays = Vec::new();
        for buffer in BUFFERS {
            relays.push(plain::measure(source.bytes(), buffer).with_context(|| format!("the relay, round {number}"))?);
        }
        report.add(Round { kmirror, relays });
    }
    report.print();
    report.write(args.json.as_deref())
}
