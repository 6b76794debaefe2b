//! `kmirror translate`: an offset of the source as the target's, and back.

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::engine::connect_target;
use crate::ops::{TranslateQuestion, translate};

/// Options of `translate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads the offset map on the target: exact in both directions. An offset in a gap (control records, \
aborted data, records that retention took) becomes that of the next record mirrored, with \"exact\": false and the reason.

Examples:
  kmirror translate -c standby.yaml --topic orders --partition 3 --offset 5000
  kmirror translate -c standby.yaml --topic orders --partition 3 --offset 4990 --reverse --json")]
pub struct TranslateArgs {
    /// The topic, as it is called on the side that the offset belongs to
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// The partition
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: i32,
    /// The offset
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: i64,
    /// The offset is the target's; give the source's
    #[arg(long)]
    pub reverse: bool,
}

/// Translates one offset.
///
/// # Errors
/// The map cannot be read, or does not reach the offset.
pub async fn run(args: TranslateArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let target = connect_target(&config, mirror).await?;
    let TranslateArgs { topic, partition, offset, reverse } = args;
    let answer = translate(mirror, &target, &TranslateQuestion { topic, partition, offset, reverse }).await?;
    if ctx.json {
        output::json(&answer)?;
    } else {
        let how = match (&answer.reason, answer.exact) {
            (_, true) => "exact".to_owned(),
            (Some(reason), false) => format!("not that record: {reason}"),
            (None, false) => "not that record".to_owned(),
        };
        output::print(&format!("{}:{} offset {} ({how})\n", answer.topic, answer.partition, answer.offset))?;
    }
    Ok(Exit::Done)
}
