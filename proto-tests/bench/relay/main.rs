//! The engine alone: kmirror between two ends that cost next to nothing, and in the same run a plain TCP relay of as many
//! bytes, which no replicator can undercut. What matters is how many times the relay's CPU kmirror takes.
//!
//! `cargo bench --bench relay -- --help`. Linux only: CPU time and memory are read from /proc.

mod args;
mod ends;
mod mirror;
mod plain;
mod proc;
mod report;

use anyhow::Context as _;
use clap::Parser as _;

use args::{Args, Child};
use ends::{Ends, Source};
use report::{Report, Round};

/// Buffers of the relay, bytes; the better one counts.
const BUFFERS: [usize; 2] = [64 * 1024, 256 * 1024];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Child::Relay { from, to, buffer }) = args.child {
        return plain::relay(from, to, buffer);
    }
    let source = Source::new(&args)?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime for the ends")?;
    let mut report = Report::new(&args, &source);
    for number in 1..=args.rounds {
        let kmirror = runtime.block_on(async {
            let ends = Ends::start(&source).await?;
            mirror::measure(&args.kmirror, &ends).await
        });
        let kmirror = kmirror.with_context(|| format!("kmirror, round {number}"))?;
        let mut relays = Vec::new();
        for buffer in BUFFERS {
            relays.push(plain::measure(source.bytes(), buffer).with_context(|| format!("the relay, round {number}"))?);
        }
        report.add(Round { kmirror, relays });
    }
    report.print();
    report.write(args.json.as_deref())
}
