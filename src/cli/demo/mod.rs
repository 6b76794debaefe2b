//! `kmirror demo`: the whole story, there and back, with nothing installed.

mod accounts;
mod archiving;
mod disaster;
mod groups;
mod home;
mod live;
mod load;
mod mirroring;
mod side;
mod stage;
mod summary;
mod view;

use std::time::Duration;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Exit;
use super::output;
use stage::{Stage, yaml};
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

Another story is that of kmirror demo backup: a full and an incremental backup, a mistake that a mirror would have repeated, and the way \
back to the moment before it. kmirror demo live tells none: it is a mirror with its dashboard, to look at and to try things on.

Examples:
  kmirror demo
  kmirror demo --pace 3s
  kmirror demo --records 1000000 --partitions 12
  kmirror demo --json | jq .accounts
  kmirror demo backup
  kmirror demo backup --records 1000000 --json
  kmirror demo live")]
pub struct DemoArgs {
    /// Another story than the whole of it
    #[command(subcommand)]
    pub story: Option<Story>,
    /// Records that are produced, all through the story
    #[arg(long, global = true, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub records: u64,
    /// Partitions of the demo's topic
    #[arg(long, global = true, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub partitions: i32,
    /// On a terminal: how long to stay at each step, so that it can be read and talked about
    #[arg(long, global = true, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub pace: Duration,
}

/// The other stories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Story {
    /// Backups, a mistake, and the restore to the moment before it
    #[command(after_help = "\
An in-memory Kafka broker with a load and consumer groups is backed up to a temporary folder: whole, then what came since. A job writes \
rubbish into the topic, which the next backup keeps as faithfully as a mirror would, and then somebody deletes the topic. kmirror restore \
brings it back as it was at the moment before the rubbish: record by record, and every group goes on at exactly the record that it had left. \
Then the whole cluster is lost, and the same archive fills another one, every record at the offset that it had.

Exit code 3 when a record is missing, twice, changed or out of order, when a group does not stand at its record, or when any two figures that \
must agree do not.

Examples:
  kmirror demo backup
  kmirror demo backup --pace 3s
  kmirror demo backup --records 1000000 --partitions 12
  kmirror demo backup --json")]
    Backup,
    /// A mirror with its dashboard, to look at and to try things on, until Ctrl-C
    #[command(after_help = "\
Two in-memory Kafka brokers on loopback ports, records that come in as long as --records lasts (150 a second), consumer groups, and a \
mirror in a process of its own. It prints where the dashboard is, the token that lets it act, and what to type in another terminal to see \
lag rise and fall. A mirror that is killed is started again after ten seconds.

Examples:
  kmirror demo live
  kmirror demo live --port 8080 --partitions 12
  kmirror demo live --json | jq -r .dashboard")]
    Live {
        /// Where the dashboard listens, on loopback
        #[arg(long, value_name = "PORT", default_value_t = 9644)]
        port: u16,
    },
}

const TOPIC: &str = "orders";
const MIRROR: &str = "demo";

/// Plays the demo.
///
/// # Errors
/// What kept it from playing; a record missing or twice, or a figure that does not add up, is [`Exit::Problems`].
pub async fn run(args: DemoArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.start_log();
    let is_open_ended = matches!(args.story, Some(Story::Live { .. }));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Whoever is interrupted still ends its processes and removes its folder.
    tokio::select! {
        exit = play(args, ctx.json) => exit,
        _ = tokio::signal::ctrl_c() => if is_open_ended { Ok(Exit::Done) } else { anyhow::bail!("interrupted") },
        _ = terminate.recv() => if is_open_ended { Ok(Exit::Done) } else { anyhow::bail!("terminated") },
    }
}

async fn play(args: DemoArgs, json: bool) -> anyhow::Result<Exit> {
    match args.story {
        Some(Story::Backup) => return archiving::play(args, json).await,
        Some(Story::Live { port }) => return live::play(args, port, json).await,
        None => {}
    }
    let summary = play_whole(args, json).await?;
    if json {
        output::json(&summary)?;
    } else {
        output::print(&summary::page(&summary))?;
    }
    Ok(if summary.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

async fn play_whole(args: DemoArgs, json: bool) -> anyhow::Result<Summary> {
    let mut stage = Stage::set(args, json, |_, source, standby| yaml(source, standby)).await?;
    let mut summary = Summary::default();
    mirroring::play(&mut stage, &mut summary).await?;
    disaster::play(&mut stage, &mut summary).await?;
    home::play(&mut stage, &mut summary).await?;
    stage.end(&mut summary);
    Ok(summary)
}
