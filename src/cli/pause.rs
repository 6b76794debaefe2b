//! `kmirror pause`: stops a mirror, or one partition of it, over restarts.

use clap::Args;

use super::args::TopicPartition;
use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `pause`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The pause is noted on the target, heeded by a running mirror within seconds, and lasts over restarts until resume.

Examples:
  kmirror pause -c standby.yaml --mirror dr
  kmirror pause -c standby.yaml --mirror dr --partition orders:3 --yes")]
pub struct PauseArgs {
    /// Only this partition, by its name on the source; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION")]
    pub partition: Vec<TopicPartition>,
}

/// Pauses.
///
/// # Errors
/// The pause could not be noted, or was refused.
pub async fn run(_args: PauseArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let _mirror = ctx.one_mirror(&config)?;
    Err(CliError::NotYet("kmirror pause".to_owned()).into())
}
