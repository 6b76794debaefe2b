//! `kmirror run`: mirrors until stopped.

mod beside;
mod fleet;
mod reload;
mod watch;

use std::sync::Arc;

use clap::Args;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::MissedTickBehavior;

use super::context::Context;
use super::exit::Exit;
use super::logging;
use crate::config::options::Takes;
use crate::config::{Config, MirrorConfig};
use crate::engine::Budget;
use crate::observe::config_board::ReloadAsk;
use crate::observe::lookout::Lookout;
use crate::observe::{self, Served, Shown};
use beside::Beside;
use fleet::Fleet;
use reload::{LOOK_EVERY, Ready, Reloader, Why};
use watch::Watched;

/// Who asks over HTTP for the file to be read again waits for so many others at most.
const ASKS_MAX: usize = 4;

/// Options of `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Runs every mirror of the file, or the one of --mirror, until SIGINT or SIGTERM, and stops cleanly. However it stops, the \
next start goes on with nothing lost and nothing twice. A cluster that cannot be reached is tried again until it can. \
A partition in doubt halts, with its reason and the command that frees it; the others go on. Drills and backups of the file are \
done on the side, each at its interval.

The file is read again when it or a file that it reads has changed, at SIGHUP, and at POST /api/v1/reload. What differs is taken up \
while everything else goes on; a file with a fault is refused as a whole, and the one before stays in force. kmirror config diff says \
beforehand what would happen.

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
    let mut signals = Signals::new()?;
    let mut watched = Watched::new(&ctx.config_path);
    watched.about_to_read();
    let (loaded, files) = ctx.read();
    let loaded = loaded?;
    ctx.begin_log(&loaded.config);
    let config = Arc::new(loaded.config);
    let (stop, stopped) = channel::channel(false);
    let reloader = Reloader::new(ctx, loaded.written, files, watched);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let mirrors: Vec<MirrorConfig> = ctx.mirrors(&config)?.into_iter().cloned().collect();
    let budget = Budget::new(beside::memory_bytes(&config));
    let fingerprint = reloader.board().read().fingerprint;
    let mut beside = Beside::new(budget.clone(), stopped.clone());
    let mut fleet = Fleet::new(&config, mirrors.clone(), (budget.clone(), fingerprint), stopped.clone());
    let shown = Shown {
        boards: fleet.boards(),
        budget: Some(budget),
        clusters: beside.clusters.clone(),
        config: Some(reloader.board()),
        reload: Some(asks),
        ..Shown::default()
    };
    // Who cannot be asked does not begin.
    let served = serve(&config, shown.clone(), &mirrors, &stopped).await?;
    fleet.start_waiting()?;
    beside.start(&config, &mirrors, fleet.newly_elected().unwrap_or_default());
    let mut process = Process { config: Arc::clone(&config), fleet, beside, shown, served };
    process.show(&config, mirrors);
    let ended = process.work(reloader, asked, &mut signals, &stop).await;
    drop(process.beside);
    ended?;
    match process.fleet.into_failure() {
        None => Ok(Exit::Done),
        Some(error) => Err(error.into()),
    }
}

/// All that runs.
struct Process {
    config: Arc<Config>,
    fleet: Fleet,
    beside: Beside,
    shown: Shown,
    served: Option<Served>,
}

impl Process {
    async fn work(
        &mut self,
        mut reloader: Reloader,
        mut asked: mpsc::Receiver<ReloadAsk>,
        signals: &mut Signals,
        stop: &channel::Sender<bool>,
    ) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hung_up = Hangup::new()?;
        let mut stopping = false;
        loop {
            let why = tokio::select! {
                () = signals.recv() => {
                    stopping = true;
                    stop.send_replace(true);
                    self.fleet.stop();
                    None
                }
                more = self.fleet.next_end() => match more? {
                    true => None,
                    false => return Ok(()),
                },
                _ = looks.tick(), if !stopping => reloader.look(),
                () = hung_up.recv(), if !stopping && reloader.is_idle() => Some(Why::Signal),
                Some(ask) = asked.recv(), if !stopping && reloader.is_idle() => Some(Why::Asked(ask)),
                Some(read) = reloader.done(), if !stopping => {
                    if let Some(ready) = reloader.judge(read) {
                        self.take_up(ready)?;
                    }
                    None
                }
            };
            if let Some(elected) = self.fleet.newly_elected() {
                self.beside.follow(&self.config, elected);
            }
            if let Some(why) = why {
                reloader.begin(why, self.fleet.cluster_ids());
            }
        }
    }

    /// Goes by another configuration from now on.
    fn take_up(&mut self, ready: Ready) -> anyhow::Result<()> {
        let Ready { loaded, mirrors, diff } = ready;
        let config = Arc::new(loaded.config);
        self.config = Arc::clone(&config);
        if diff.taking(Takes::Live).any(|change| change.key == "log.level") {
            logging::change(config.log.level);
        }
        self.beside.take_up(&config, &mirrors, &diff);
        self.fleet.take_up((&config, loaded.written.fingerprint()), mirrors.clone(), &diff)?;
        self.show(&config, mirrors);
        Ok(())
    }

    fn show(&mut self, config: &Arc<Config>, mirrors: Vec<MirrorConfig>) {
        self.shown.boards = self.fleet.boards();
        self.shown.backups = self.beside.boards();
        if let (Some(served), Some(http)) = (&self.served, &config.http) {
            self.shown.max_series = http.max_series;
            served.show(self.shown.clone(), Lookout::new(Arc::clone(config), mirrors), http.token.as_ref());
        }
    }
}

/// Probes and metrics, where the file asks for them.
pub(super) async fn serve(
    config: &Config,
    shown: Shown,
    mirrors: &[MirrorConfig],
    stop: &channel::Receiver<bool>,
) -> anyhow::Result<Option<Served>> {
    let Some(http) = &config.http else { return Ok(None) };
    let shown = Shown { max_series: http.max_series, ..shown };
    let lookout = Lookout::new(Arc::new(config.clone()), mirrors.to_vec());
    Ok(Some(observe::serve(http, shown, lookout, logging::control(), stop.clone()).await?))
}

/// SIGHUP.
struct Hangup(tokio::signal::unix::Signal);

impl Hangup {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    async fn recv(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
