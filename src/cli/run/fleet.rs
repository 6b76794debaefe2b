//! The mirrors of a process: each starts, stops and takes other settings without the others noticing.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::drill_schedule::keep_drilling;
use super::super::membership::{self, Elected};
use super::super::one_thread;
use crate::config::options::Takes;
use crate::config::{Change, Config, Diff, MirrorConfig, Part};
use crate::engine::{Board, Budget, EngineError, Settings};
use crate::ops::groups::keep_in_step;
use crate::ops::{keep_beating, keep_in_sync};

/// What is to become of a mirror that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It stays as it ended.
    Stay,
    /// It starts anew.
    Again,
    /// It is not in the file any more.
    Go,
}

/// A mirror of the file.
struct Member {
    mirror: Arc<MirrorConfig>,
    board: Board,
    run: Option<Run>,
    /// Whether this instance does what is done once a mirror.
    elected: Elected,
    /// It is to start once nothing stops any more: what it writes to may be what another one is leaving.
    waits: bool,
    /// Groups and heartbeats.
    beside: Vec<JoinHandle<()>>,
    /// Drills go on as long as the one is there.
    drills: Option<(watch::Sender<()>, JoinHandle<()>)>,
    failure: Option<EngineError>,
}

/// A mirror that runs.
struct Run {
    settings: watch::Sender<Settings>,
    stop: watch::Sender<bool>,
    then: Then,
}

/// All of them.
pub(super) struct Fleet {
    config: Arc<Config>,
    members: Vec<Member>,
    ended: JoinSet<(String, Result<(), EngineError>)>,
    budget: Budget,
    /// The instances that share the mirrors.
    shared: membership::Fleet,
    /// The first mirror has started anew since somebody asked.
    first_has_begun: bool,
    threads: Vec<(Handle, usize)>,
    /// What is done beside the mirrors ends with it.
    stop: watch::Receiver<bool>,
    failure: Option<EngineError>,
}

impl Fleet {
    /// These mirrors, which wait for [`Self::start_waiting`].
    pub(super) fn new(
        config: &Arc<Config>,
        mirrors: Vec<MirrorConfig>,
        (budget, fingerprint): (Budget, String),
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            members: mirrors.into_iter().map(Member::new).collect(),
            ended: JoinSet::new(),
            budget,
            shared: membership::Fleet::of(fingerprint),
            first_has_begun: false,
            threads: Vec::new(),
            stop,
            failure: None,
        }
    }

    /// In the order of the file.
    pub(super) fn boards(&self) -> Vec<Board> {
        let there = self.members.iter().filter(|member| member.run.as_ref().is_none_or(|run| run.then != Then::Go));
        there.map(|member| member.board.clone()).collect()
    }

    /// Tells all to stop.
    pub(super) fn stop(&mut self) {
        for member in &mut self.members {
            member.waits = false;
            if let Some(run) = &mut member.run {
                run.then = if run.then == Then::Go { Then::Go } else { Then::Stay };
                run.stop.send_replace(true);
            }
        }
    }

    /// Waits for a mirror to end; gives false when none runs any more and none is to.
    pub(super) async fn next_end(&mut self) -> anyhow::Result<bool> {
        let Some(outcome) = self.ended.join_next().await else { return Ok(false) };
        let (name, outcome) = outcome.context("a mirror's task ended")?;
        self.on_end(&name, outcome);
        self.start_waiting()?;
        Ok(!self.ended.is_empty())
    }

    /// One mirror that cannot go on does not stop the others; the exit code tells in the end.
    pub(super) fn into_failure(self) -> Option<EngineError> {
        self.failure.or_else(|| self.members.into_iter().find_map(|member| member.failure))
    }

    fn on_end(&mut self, name: &str, outcome: Result<(), EngineError>) {
        let Some(at) = self.members.iter().position(|member| member.mirror.name == name) else { return };
        let Some(member) = self.members.get_mut(at) else { return };
        let then = member.run.take().map_or(Then::Stay, |run| run.then);
        // Nothing goes on beside it either: a promoted target gets no offsets, and its old source no heartbeats.
        member.beside.drain(..).for_each(|task| task.abort());
        if let Err(error) = outcome {
            tracing::error!(%error, "mirror stopped");
            member.failure = Some(error);
        }
        match then {
            Then::Stay => {}
            Then::Again => member.waits = !member.board.is_promoted(),
            Then::Go => {
                let gone = self.members.remove(at);
                self.failure = self.failure.take().or(gone.failure);
            }
        }
    }

    /// Starts what is to start, unless something is stopping.
    pub(super) fn start_waiting(&mut self) -> anyhow::Result<()> {
        if self.members.iter().any(|member| member.run.as_ref().is_some_and(|run| *run.stop.borrow())) {
            return Ok(());
        }
        for at in 0..self.members.len() {
            if self.members.get(at).is_some_and(|member| member.waits) {
                self.start_one(at)?;
            }
        }
        Ok(())
    }

    fn start_one(&mut self, at: usize) -> anyhow::Result<()> {
        let thread = self.thread()?;
        let Some(member) = self.members.get_mut(at) else { return Ok(()) };
        let now = Settings { all: Arc::clone(&self.config), mirror: Arc::clone(&member.mirror) };
        let (settings, heeded) = watch::channel(now);
        let (stop, stopped) = watch::channel(false);
        let (run, elected) = self.shared.run(heeded, self.budget.clone(), member.board.clone(), stopped);
        member.elected = elected;
        self.first_has_begun |= at == 0;
        let name = member.mirror.name.clone();
        self.ended.spawn_on(async { (name, run.await) }, &thread);
        member.run = Some(Run { settings, stop, then: Then::Stay });
        (member.waits, member.failure) = (false, None);
        member.work_beside(&self.config, &self.stop);
        member.drill(&self.config, &self.stop);
        Ok(())
    }

    /// Each mirror stays on one thread. There are no more of them than cores: with more, each would be woken for every answer by
    /// itself, and work on it with a cold cache.
    fn thread(&mut self) -> anyhow::Result<Handle> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads.len() < cores.min(self.members.len()) {
            self.threads.push((thread()?, 0));
        }
        let least = self.threads.iter_mut().min_by_key(|(_, started)| *started).context("no thread to run on")?;
        least.1 += 1;
        Ok(least.0.clone())
    }

    /// Who does what is done once, where it is another one than when this was last asked: whoever is elected for the first mirror.
    pub(super) fn newly_elected(&mut self) -> Option<Elected> {
        let has_begun = std::mem::take(&mut self.first_has_begun);
        has_begun.then(|| self.elected())
    }

    /// Whether this instance does what is done once.
    pub(super) fn elected(&self) -> Elected {
        self.members.first().map(|member| member.elected.clone()).unwrap_or_default()
    }

    /// Goes by this configuration from now on; `diff` is what differs from the one before.
    pub(super) fn take_up(
        &mut self,
        (config, fingerprint): (&Arc<Config>, String),
        mirrors: Vec<MirrorConfig>,
        diff: &Diff,
    ) -> anyhow::Result<()> {
        self.shared.goes_by(fingerprint);
        self.config = Arc::clone(config);
        let mut before = std::mem::take(&mut self.members);
        for mirror in mirrors {
            match before.iter().position(|member| member.mirror.name == mirror.name) {
                Some(at) => {
                    let mut member = before.remove(at);
                    member.take_up(mirror, config, diff, &self.stop);
                    self.members.push(member);
                }
                None => self.members.push(Member::new(mirror)),
            }
        }
        for mut gone in before {
            gone.beside.drain(..).for_each(|task| task.abort());
            (gone.waits, gone.drills) = (false, None);
            match &mut gone.run {
                Some(run) => {
                    run.then = Then::Go;
                    run.stop.send_replace(true);
                    tracing::info!(mirror = %gone.mirror.name, "not in the file any more: the mirror stops; its state on the target stays");
                    self.members.push(gone);
                }
                None => self.failure = self.failure.take().or(gone.failure),
            }
        }
        self.start_waiting()
    }

    /// Cluster ids by name, as far as mirrors have found them out.
    pub(super) fn cluster_ids(&self) -> Vec<(String, String)> {
        let ids = self.members.iter().filter_map(|member| Some((&member.mirror, member.board.cluster_ids()?)));
        ids.flat_map(|(mirror, (source, target))| [(mirror.source.clone(), source), (mirror.target.clone(), target)])
            .collect()
    }
}

impl Member {
    fn new(mirror: MirrorConfig) -> Self {
        Self {
            board: Board::new(&mirror.name),
            mirror: Arc::new(mirror),
            run: None,
            elected: Elected::default(),
            waits: true,
            beside: Vec::new(),
            drills: None,
            failure: None,
        }
    }

    fn take_up(&mut self, mirror: MirrorConfig, config: &Arc<Config>, diff: &Diff, stop: &watch::Receiver<bool>) {
        let takes = diff.of_mirror(&mirror);
        self.mirror = Arc::new(mirror);
        let name = &self.mirror.name;
        match (&mut self.run, takes) {
            (Some(run), Some(Takes::Mirror)) => {
                tracing::info!(mirror = %name, "what differs cannot be changed in place: the mirror stops cleanly and starts anew");
                run.then = Then::Again;
                run.stop.send_replace(true);
            }
            (Some(run), _) => {
                // It was about to go, and is in the file again.
                run.then = if *run.stop.borrow() { Then::Again } else { Then::Stay };
                let is_concerned = |change: &Change| matches!(change.part, Part::Mirror(_) | Part::Cluster(_));
                if diff.0.iter().any(is_concerned) {
                    let now = Settings { all: Arc::clone(config), mirror: Arc::clone(&self.mirror) };
                    run.settings.send_replace(now);
                }
            }
            // What has ended by an error may have lacked just this; what was promoted has done its work.
            (None, Some(_)) => self.waits = !self.board.is_promoted(),
            (None, None) => {}
        }
        let of_drill = Part::Drill(self.mirror.name.clone());
        let is_running = self.run.as_ref().is_some_and(|run| !*run.stop.borrow());
        if is_running && takes.is_some() {
            self.work_beside(config, stop);
        }
        if takes.is_some() || diff.of(&of_drill).next().is_some() {
            self.drill(config, stop);
        }
    }

    /// Consumer groups, heartbeats and what else follows are seen to on this thread, by mirror: what they cost is not taken from the data. They begin
    /// anew with other settings.
    fn work_beside(&mut self, config: &Arc<Config>, stop: &watch::Receiver<bool>) {
        self.beside.drain(..).for_each(|task| task.abort());
        let all = || (Arc::clone(config), Arc::clone(&self.mirror), self.board.clone(), stop.clone());
        if self.mirror.groups.is_some() {
            let (config, mirror, board, stop) = all();
            let job = move |stop| keep_in_step(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop);
            self.beside.push(tokio::spawn(self.elected.clone().keep(stop, job)));
        } else {
            self.board.without_groups();
        }
        if self.mirror.heartbeats.is_some() {
            let (config, mirror, board, stop) = all();
            let job = move |stop| keep_beating(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop);
            self.beside.push(tokio::spawn(self.elected.clone().keep(stop, job)));
        } else {
            self.board.without_heartbeats();
        }
        if self.mirror.sync.is_wanted() {
            let (config, mirror, board, stop) = all();
            let job = move |stop| keep_in_sync(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop);
            self.beside.push(tokio::spawn(self.elected.clone().keep(stop, job)));
        }
    }

    /// Drills are done on this thread, too.
    fn drill(&mut self, config: &Arc<Config>, stop: &watch::Receiver<bool>) {
        let before = self.drills.take().map(|(_, task)| task);
        let (going, over) = watch::channel(());
        let its = config.drills.iter().filter(|terms| terms.mirror == self.mirror.name);
        let work: Vec<_> = its
            .map(|terms| {
                let (config, board, terms, over) =
                    (Arc::clone(config), self.board.clone(), terms.clone(), over.clone());
                let job =
                    move |stop| keep_drilling(Arc::clone(&config), terms.clone(), board.clone(), stop, over.clone());
                self.elected.clone().keep(stop.clone(), job)
            })
            .collect();
        if work.is_empty() && before.is_none() {
            return;
        }
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // One at a time: both would make their copies of the same groups.
                let _ = before.await;
            }
            futures_util::future::join_all(work).await;
        });
        self.drills = Some((going, task));
    }
}

/// A thread that runs what is spawned on it, until the process ends.
fn thread() -> anyhow::Result<Handle> {
    let runtime = one_thread().context("cannot start a runtime")?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("mirrors".to_owned()).spawn(run).context("cannot start a thread")?;
    Ok(handle)
}
