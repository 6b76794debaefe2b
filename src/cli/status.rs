//! `kmirror status`: how far every partition is, what is missing and why.

use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads the clusters themselves, so it needs no running process and cannot be behind. LAG is what a failover would lose now.
Exit code 5 when partitions are halted.

Examples:
  kmirror status -c standby.yaml
  kmirror status -c standby.yaml --watch
  kmirror status -c standby.yaml --json | jq '.mirrors[].rpo_seconds'")]
pub struct StatusArgs {
    /// Show it again and again until stopped
    #[arg(long)]
    pub watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = humantime::parse_duration)]
    pub interval: Duration,
}

/// Shows how far every partition is.
///
/// # Errors
/// What kept it from looking.
pub async fn run(_args: StatusArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let _mirrors = ctx.mirrors(&config)?;
    Err(CliError::NotYet("kmirror status".to_owned()).into())
}
