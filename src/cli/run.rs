//! `kmirror run`: mirrors until stopped.

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Runs every mirror of the file, or the one of --mirror, until SIGINT or SIGTERM, and stops cleanly. However it stops, the next
start goes on with nothing lost and nothing twice. A partition in doubt halts, with its reason and the command that frees it;
the others go on.

Examples:
  kmirror run -c standby.yaml
  kmirror run -c standby.yaml --mirror dr --log-level debug")]
pub struct RunArgs {}

/// Mirrors until stopped.
///
/// # Errors
/// What ended the run; see [`super::exit::classify`].
pub async fn run(_args: RunArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.no_dry_run("kmirror check says what a run would do")?;
    let config = ctx.load()?;
    let _mirrors = ctx.mirrors(&config)?;
    Err(CliError::NotYet("kmirror run".to_owned()).into())
}
