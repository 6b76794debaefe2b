//! Where a runner learns which shards it is to hold, and tells which it does.

use std::sync::Arc;

use tokio::sync::watch;

use crate::plan::{Assignment, Held, ShardHeld, ShardStage};

/// The runner's end.
#[derive(Debug, Clone)]
pub struct Seat {
    /// `None`: nobody assigns anything, this process holds all shards alone.
    assigned: Option<watch::Receiver<Assignment>>,
    held: Arc<watch::Sender<Held>>,
}

/// The other end: whoever assigns shards to this process.
#[derive(Debug)]
pub struct Desk {
    /// What the runner is to hold. Before the first assignment it holds nothing.
    pub assign: watch::Sender<Assignment>,
    /// What it holds; told with every change of a stage, and once a second for the load.
    pub held: watch::Receiver<Held>,
}

impl Seat {
    /// All shards of the mirror, without a fleet.
    pub fn alone() -> Self {
        Self { assigned: None, held: Arc::new(watch::Sender::new(Held::default())) }
    }

    /// A member of a fleet.
    pub fn member() -> (Desk, Self) {
        let (assign, assigned) = watch::channel(Assignment::default());
        let (held, told) = watch::channel(Held::default());
        (Desk { assign, held: told }, Self { assigned: Some(assigned), held: Arc::new(held) })
    }

    /// Whether somebody assigns shards to this process.
    pub fn is_member(&self) -> bool {
        self.assigned.is_some()
    }

    /// What this process is to hold; `None`: everything, alone.
    pub fn assignment(&self) -> Option<Assignment> {
        self.assigned.as_ref().map(|assigned| assigned.borrow().clone())
    }

    /// What was told last.
    pub fn told(&self) -> Held {
        self.held.borrow().clone()
    }

    /// Tells what this process holds, if that is news.
    pub fn tell(&self, held: Held) {
        self.held.send_if_modified(|told| {
            let news = *told != held;
            *told = held;
            news
        });
    }

    /// Nothing is held any more. What was lost stays lost.
    pub(crate) fn end(&self) {
        let mut held = self.told();
        for shard in &mut held.shards {
            let lost = matches!(shard.stage, ShardStage::Lost { .. });
            *shard = if lost { *shard } else { ShardHeld::default() };
        }
        self.tell(held);
    }

    /// Waits for another assignment; for ever where there is none to come.
    pub async fn changed(&mut self) {
        let changed = match &mut self.assigned {
            Some(assigned) => assigned.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }
}
