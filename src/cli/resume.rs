//! `kmirror resume`: ends a pause, or frees a halted partition.

use clap::Args;

use super::args::{OffsetRange, TopicPartition};
use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `resume`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A halt names the range of source offsets that going on would lose. Naming that range here accepts the loss: it becomes a gap with
its reason in the offset map, and the partition goes on behind it. A range that is not the halt's is refused.

Examples:
  kmirror resume -c standby.yaml --mirror dr
  kmirror resume -c standby.yaml --mirror dr --partition orders:3
  kmirror resume -c standby.yaml --mirror dr --partition orders:3 --accept-loss 4000..5000")]
pub struct ResumeArgs {
    /// Only this partition, by its name on the source; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION")]
    pub partition: Vec<TopicPartition>,
    /// Accept that the source offsets [FROM, TO) of the one partition are not mirrored
    #[arg(long, value_name = "FROM..TO", requires = "partition")]
    pub accept_loss: Option<OffsetRange>,
}

/// Resumes.
///
/// # Errors
/// The end of the pause or the acceptance could not be noted, or was refused.
pub async fn run(args: ResumeArgs, ctx: &Context) -> anyhow::Result<Exit> {
    if args.accept_loss.is_some() && args.partition.len() != 1 {
        return Err(CliError::Usage("--accept-loss is for one --partition at a time".to_owned()).into());
    }
    let config = ctx.load()?;
    let _mirror = ctx.one_mirror(&config)?;
    Err(CliError::NotYet("kmirror resume".to_owned()).into())
}
