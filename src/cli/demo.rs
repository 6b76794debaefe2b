//! `kmirror demo`: the whole story in seconds, with nothing installed.

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Starts two in-memory brokers on loopback ports, a workload and a mirror between them, kills the mirror in the middle, starts it
again, and compares both sides record by record. Reads no configuration and touches nothing outside of the process.

Examples:
  kmirror demo
  kmirror demo --records 1000000 --json")]
pub struct DemoArgs {
    /// Records that the workload produces
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub records: u64,
    /// Partitions of the demo's topic
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,
}

/// Plays the demo.
///
/// # Errors
/// What kept it from playing; a record missing or twice is [`Exit::Problems`].
pub async fn run(_args: DemoArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.start_log();
    Err(CliError::NotYet("kmirror demo".to_owned()).into())
}
