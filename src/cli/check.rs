//! `kmirror check`: what would go wrong, before the first byte is copied.

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Looks at both clusters and changes nothing: reachability and rights, versions and APIs, message sizes, replication factors, topics
of the target that hold foreign data, producer ids that expire before the backlog is copied.
Exit code 0 when nothing is in the way, 3 when something is.

Examples:
  kmirror check -c standby.yaml
  kmirror check -c standby.yaml --json")]
pub struct CheckArgs {}

/// Says what would go wrong.
///
/// # Errors
/// What kept it from looking; findings are [`Exit::Problems`].
pub async fn run(_args: CheckArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let _mirrors = ctx.mirrors(&config)?;
    Err(CliError::NotYet("kmirror check".to_owned()).into())
}
