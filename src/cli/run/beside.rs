//! What a process does that no mirror does: backups, looks at the clusters' health, the bounds of the whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::membership::Elected;
use crate::config::{BackupConfig, Config, Diff, MirrorConfig, Part};
use crate::engine::Budget;
use crate::observe::BackupBoard;
use crate::observe::clusters::{self, ClusterBoard};

/// A backup that is kept.
struct Kept {
    name: String,
    board: BackupBoard,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// All of it.
pub(super) struct Beside {
    backups: Vec<Kept>,
    pub(super) clusters: ClusterBoard,
    health: JoinSet<()>,
    budget: Budget,
    resizing: Option<JoinHandle<()>>,
    /// Whether this instance makes the backups.
    elected: Elected,
    stop: watch::Receiver<bool>,
}

impl Beside {
    pub(super) fn new(budget: Budget, stop: watch::Receiver<bool>) -> Self {
        let clusters = ClusterBoard::default();
        Self {
            backups: Vec::new(),
            clusters,
            health: JoinSet::new(),
            budget,
            resizing: None,
            elected: Elected::default(),
            stop,
        }
    }

    pub(super) fn start(&mut self, config: &Arc<Config>, mirrors: &[MirrorConfig], elected: Elected) {
        self.elected = elected;
        for backup in &config.backups {
            let kept = self.keep(config, backup, BackupBoard::new(&backup.name), None);
            self.backups.push(kept);
        }
        self.look_after(config, mirrors);
    }

    /// Another election says who makes the backups.
    pub(super) fn follow(&mut self, config: &Arc<Config>, elected: Elected) {
        self.elected = elected;
        for kept in std::mem::take(&mut self.backups) {
            kept.stop.send_replace(true);
            if let Some(backup) = config.backups.iter().find(|backup| backup.name == kept.name) {
                let again = self.keep(config, backup, kept.board, Some(kept.task));
                self.backups.push(again);
            }
        }
    }

    pub(super) fn boards(&self) -> Vec<BackupBoard> {
        self.backups.iter().map(|kept| kept.board.clone()).collect()
    }

    /// Backups are made on this thread. One that is cut short goes on from its last manifest.
    fn keep(
        &self,
        config: &Arc<Config>,
        backup: &BackupConfig,
        board: BackupBoard,
        before: Option<JoinHandle<()>>,
    ) -> Kept {
        let (stop, stopped) = watch::channel(*self.stop.borrow());
        let (config, backup, shown, mut all) =
            (Config::clone(config), backup.clone(), board.clone(), self.stop.clone());
        let (name, told, elected) = (backup.name.clone(), stop.clone(), self.elected.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Two at a time would be two writers of one archive.
                let _ = before.await;
            }
            let job = move |stop| crate::backup::keep(config.clone(), backup.clone(), shown.clone(), stop);
            let work = elected.keep(stopped, job);
            tokio::pin!(work);
            tokio::select! {
                () = &mut work => return,
                _ = all.wait_for(|stop| *stop) => { told.send_replace(true); }
            }
            work.await;
        });
        Kept { name, board, stop, task }
    }

    /// How the clusters of these mirrors fare is asked for where somebody can see it.
    fn look_after(&mut self, config: &Arc<Config>, mirrors: &[MirrorConfig]) {
        self.health = JoinSet::new();
        if config.http.is_none() {
            return;
        }
        let used: BTreeSet<&str> = mirrors.iter().flat_map(|m| [m.source.as_str(), m.target.as_str()]).collect();
        self.clusters.retain(&used);
        let mirrors: Vec<&MirrorConfig> = mirrors.iter().collect();
        self.health = clusters::keep(config, &mirrors, &self.clusters, &self.stop);
    }

    /// Goes by this configuration from now on; `diff` is what differs from the one before.
    pub(super) fn take_up(&mut self, config: &Arc<Config>, mirrors: &[MirrorConfig], diff: &Diff) {
        let mut before = std::mem::take(&mut self.backups);
        for backup in &config.backups {
            let known = before.iter().position(|kept| kept.name == backup.name).map(|at| before.remove(at));
            let is_same =
                diff.of(&Part::Backup(backup.name.clone())).next().is_none() && !diff.has_cluster(&backup.cluster);
            let kept = match known {
                Some(kept) if is_same => kept,
                Some(kept) => {
                    kept.stop.send_replace(true);
                    self.keep(config, backup, kept.board, Some(kept.task))
                }
                None => self.keep(config, backup, BackupBoard::new(&backup.name), None),
            };
            self.backups.push(kept);
        }
        for gone in before {
            gone.stop.send_replace(true);
        }
        let concerns_clusters = diff.0.iter().any(|change| matches!(change.part, Part::Cluster(_) | Part::Mirror(_)));
        if concerns_clusters {
            self.look_after(config, mirrors);
        }
        self.resize(config);
    }

    fn resize(&mut self, config: &Config) {
        let bytes = memory_bytes(config);
        if bytes == self.budget.total_bytes() && self.resizing.is_none() {
            return;
        }
        let (budget, before) = (self.budget.clone(), self.resizing.take());
        self.resizing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            budget.resize(bytes).await;
        }));
    }
}

/// `limits.memory`.
pub(super) fn memory_bytes(config: &Config) -> usize {
    usize::try_from(config.limits.memory_bytes).unwrap_or(usize::MAX)
}
