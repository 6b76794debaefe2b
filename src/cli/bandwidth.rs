//! `kmirror bandwidth`: shows or changes a mirror's bandwidth limit while it runs.

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::config::{MirrorConfig, bytes};
use crate::engine::connect_target;
use crate::mirror::Bandwidth;
use crate::ops::{Command, bandwidth, parse_rate, send_command};

/// Options of `bandwidth`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The limit counts bytes of records a second, from the source and to the target alike. It is noted on the target, heeded by a \
running mirror within seconds, and wins over the file's mirrors[].limits.bandwidth, over restarts too, until --reset. A change \
of the file counts from the next start on. Without a limit to set, the one in force is shown.

Examples:
  kmirror bandwidth -c standby.yaml --mirror dr
  kmirror bandwidth -c standby.yaml --mirror dr 10MiB
  kmirror bandwidth -c standby.yaml --mirror dr unlimited
  kmirror bandwidth -c standby.yaml --mirror dr --reset")]
pub struct BandwidthArgs {
    /// Bytes of records a second, such as 10MiB, or unlimited
    #[arg(value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<Bandwidth>,
    /// Back to what the file says
    #[arg(long, conflicts_with = "rate")]
    pub reset: bool,
}

/// Shows the limit, or changes it.
///
/// # Errors
/// The limit could not be read, or the change not be noted.
pub async fn run(args: BandwidthArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let wanted = if args.reset { Some(Bandwidth::File) } else { args.rate };
    let Some(wanted) = wanted else {
        let target = connect_target(&config, mirror).await?;
        return show("show", mirror, bandwidth(&mirror.name, &target).await?, ctx);
    };
    if !ctx.dry_run {
        let target = connect_target(&config, mirror).await?;
        send_command(&mirror.name, &target, Command::Bandwidth(wanted)).await?;
    }
    show(if args.reset { "reset" } else { "set" }, mirror, wanted, ctx)
}

fn show(action: &str, mirror: &MirrorConfig, said: Bandwidth, ctx: &Context) -> anyhow::Result<Exit> {
    let limit = said.limit_bytes_per_s(mirror.limits.bandwidth_bytes_per_s);
    if ctx.json {
        output::json(&serde_json::json!({
            "schema_version": 1, "action": action, "mirror": mirror.name, "bandwidth_bytes_per_s": limit,
            "bandwidth_from": said.origin(), "dry_run": ctx.dry_run
        }))?;
        return Ok(Exit::Done);
    }
    let would = if ctx.dry_run && action != "show" { "would be " } else { "" };
    let until = if action == "set" && !ctx.dry_run { "; kmirror bandwidth --reset ends it" } else { "" };
    output::print(&format!("mirror {}: bandwidth {would}{}{until}\n", mirror.name, in_words(limit, said.origin())))?;
    Ok(Exit::Done)
}

/// For people: the limit and where it comes from.
pub(super) fn in_words(limit_bytes_per_s: Option<u64>, from: &str) -> String {
    let limit = limit_bytes_per_s.map_or_else(|| "unlimited".to_owned(), |limit| format!("{}/s", bytes(limit)));
    format!("{limit} (by {from})")
}
