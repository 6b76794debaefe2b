//! `kmirror translate`: an offset of the source as the target's, and back.

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};

/// Options of `translate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads the offset map on the target: exact in both directions. An offset in a gap (control records, aborted data, records that
retention took) becomes that of the next record mirrored, with \"exact\": false and the reason.

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
pub async fn run(_args: TranslateArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let _mirror = ctx.one_mirror(&config)?;
    Err(CliError::NotYet("kmirror translate".to_owned()).into())
}
