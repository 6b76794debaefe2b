//! `kmirror demo`: the whole story, there and back, with nothing installed.

mod accounts;
mod disaster;
mod groups;
mod home;
mod load;
mod mirroring;
mod side;
mod stage;
mod summary;
mod view;

use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::output;
use stage::Stage;
use summary::Summary;

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Two in-memory Kafka brokers on loopback ports, a load, consumer groups, and a mirror in a process of its own. It is killed \
(kill -9) and started again; a drill is held; the line to the standby stalls, and then the source is lost under load. \
kmirror failover puts the standby in charge: what was lost is listed, every group goes on at exactly its record, and what was \
on its way comes too late. The source comes back with records that the standby never had, and kmirror failback leads home, \
until all is as before. Then every record is accounted for, and every translated offset.

Each step is shown with the command that one would type: they are this program's own commands, run as processes. Reads no \
configuration and writes nothing but a temporary folder, which it removes. On a terminal it shows how far both clusters, the \
mirror and the groups are; elsewhere it prints a line for each step, and with --json the figures alone.

Exit code 3 when a record is missing, twice, changed or out of order, or when any two figures that must agree do not.

Examples:
  kmirror demo
  kmirror demo --pace 3s
  kmirror demo --records 1000000 --partitions 12
  kmirror demo --json | jq .accounts")]
pub struct DemoArgs {
    /// Records that are produced, all through the story
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub records: u64,
    /// Partitions of the demo's topic
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub partitions: i32,
    /// On a terminal: how long to stay at each step, so that it can be read and talked about
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub pace: Duration,
}

const TOPIC: &str = "orders";
const MIRROR: &str = "demo";

/// Plays the demo.
///
/// # Errors
/// What kept it from playing; a record missing or twice, or a figure that does not add up, is [`Exit::Problems`].
pub async fn run(args: DemoArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.start_log();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Whoever is interrupted still ends its processes and removes its folder.
    let summary = tokio::select! {
        summary = play(args, ctx.json) => summary?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    };
    if ctx.json {
        output::json(&summary)?;
    } else {
        output::print(&summary::page(&summary))?;
    }
    Ok(if summary.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

async fn play(args: DemoArgs, json: bool) -> anyhow::Result<Summary> {
    let mut stage = Stage::set(args, json).await?;
    let mut summary = Summary::default();
    mirroring::play(&mut stage, &mut summary).await?;
    disaster::play(&mut stage, &mut summary).await?;
    home::play(&mut stage, &mut summary).await?;
    stage.end(&mut summary);
    Ok(summary)
}
