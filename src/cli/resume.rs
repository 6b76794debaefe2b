//! `kmirror resume`: ends a pause, or frees a halted partition.

use clap::Args;

use super::args::{OffsetRange, TopicPartition};
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use super::pause::{named, scopes, told};
use crate::engine::connect_target;
use crate::ops::{AcceptError, Command, check_accepted_range, send_command};

/// Options of `resume`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A halt names the range of source offsets that going on would lose. Naming that range here accepts \
the loss: it becomes a gap with its reason in the offset map, and the partition goes on behind it. A range that is not \
the halt's is refused (exit code 6). kmirror status shows the \
command that ends each halt: most need no range, and a plain resume goes on in the way that the halt announced.

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
    let mirror = ctx.one_mirror(&config)?;
    let target = connect_target(&config, mirror).await?;
    let accept_loss = args.accept_loss.as_ref().map(|range| (range.from, range.to));
    if let (Some(range), [partition]) = (accept_loss, args.partition.as_slice()) {
        let at = (partition.topic.as_str(), partition.partition);
        check_accepted_range(&mirror.name, &target, at, range).await.map_err(|error| match error {
            AcceptError::Refused(why) => anyhow::Error::from(CliError::Refused(why)),
            AcceptError::Engine(error) => error.into(),
        })?;
    }
    let what = named(&mirror.name, &args.partition);
    if !ctx.dry_run {
        for scope in scopes(&args.partition) {
            send_command(&mirror.name, &target, Command::Resume { scope, accept_loss }).await?;
        }
    }
    if ctx.json {
        return told("resume", &mirror.name, &args.partition, ctx);
    }
    output::print(&format!("{} {what}\n", if ctx.dry_run { "would resume" } else { "resumed" }))?;
    Ok(Exit::Done)
}
