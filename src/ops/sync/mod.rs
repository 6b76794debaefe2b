//! What follows the source beside records: planned, shown, applied; by hand (`kmirror sync`) and beside a running mirror.
//!
//! [`plan`] reads both clusters and compares; [`apply`] notes what it is about to set, sets it, and notes what is there.

mod apply;
mod facts;
mod keep;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::Cluster;
use crate::config::{Config, MirrorConfig};
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::mirror::SyncKind;
use crate::plan::{SyncPlan, Weighing};

use super::state::StateFollower;
use super::time::rfc3339;

pub use apply::Applied;
pub use keep::keep_in_sync;

pub(super) use apply::{create_held_back, noted};

/// `kmirror sync --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SyncReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// What is to be done, and what is left alone.
    #[serde(flatten)]
    pub plan: SyncPlan,
    /// What was done; `null`: nothing, this is the plan.
    pub applied: Option<Applied>,
}

/// How far what follows the source beside records has come, by what is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SyncStatus {
    /// ACLs that a promotion creates.
    pub held_back_acls: usize,
    /// Topics that are gone from the source, and are deleted on the target in time.
    pub pending_deletions: Vec<PendingDeletion>,
}

/// A topic that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PendingDeletion {
    /// Target topic.
    pub topic: String,
    /// Since when it is gone from the source.
    pub gone_since: String,
    /// When it is deleted; `null`: `sync.deletions` is off.
    pub due_at: Option<String>,
}

impl SyncStatus {
    /// What a mirror's control partition says.
    pub(super) fn of(mirror: &MirrorConfig, control: &crate::mirror::ControlState) -> Self {
        let grace_ms = mirror.sync.deletions.map(|grace| i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
        let pending = control.synced().of_kind(SyncKind::Deletion).map(|(key, owned)| {
            let since = owned.value.as_deref().and_then(|since| since.parse::<i64>().ok()).unwrap_or(0);
            PendingDeletion {
                topic: key.of.clone(),
                gone_since: rfc3339(since),
                due_at: grace_ms.map(|grace| rfc3339(since.saturating_add(grace))),
            }
        });
        Self {
            held_back_acls: control.synced().of_kind(SyncKind::HeldBackAcl).filter(|_| mirror.sync.acls).count(),
            pending_deletions: pending.collect(),
        }
    }
}

/// Both ends of a mirror, and what it has on record.
pub struct Syncing {
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    source: Cluster,
    target: Cluster,
    follower: StateFollower,
    take_over: bool,
    is_shut_out: bool,
}

impl std::fmt::Debug for Syncing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncing").field("mirror", &self.mirror.name).finish_non_exhaustive()
    }
}

impl Syncing {
    /// Of a mirror that is connected to. `take_over`: what was set by hand becomes the mirror's.
    #[must_use]
    pub fn new(
        config: &Arc<Config>,
        mirror: &Arc<MirrorConfig>,
        (source, target): (Cluster, Cluster),
        take_over: bool,
    ) -> Self {
        let follower = StateFollower::new(&mirror.name, &target);
        let (config, mirror) = (Arc::clone(config), Arc::clone(mirror));
        Self { config, mirror, source, target, follower, take_over, is_shut_out: false }
    }

    /// Why nothing is to be done, if so.
    ///
    /// # Errors
    /// The target does not answer.
    pub async fn obstacle(&mut self) -> Result<Option<Obstacle>, EngineError> {
        Ok(match self.follower.look_at_control().await? {
            None => Some(Obstacle::NotBegun),
            Some(control) if control.generation().is_none() => Some(Obstacle::NotBegun),
            Some(control) if control.standing_promotion().is_some() => Some(Obstacle::Promoted),
            Some(control) if control.is_all_paused() => Some(Obstacle::Paused),
            Some(_) => None,
        })
    }

    /// Looks at both sides and plans; changes nothing. What cannot be looked at is named, and keeps nothing else from being planned.
    ///
    /// # Errors
    /// One of the clusters does not answer.
    pub async fn plan(&mut self) -> Result<SyncPlan, EngineError> {
        let state = self.follower.look().await?;
        if let Some(generation) = state.control.generation() {
            crate::engine::control::check_clusters(&self.mirror, generation, &self.source, &self.target)?;
        }
        let how = Weighing { synced: state.control.synced(), take_over: self.take_over };
        let facts = facts::Facts {
            config: &self.config,
            mirror: &self.mirror,
            source: &self.source,
            target: &self.target,
            state: &state,
        };
        facts.plan(&how).await
    }

    /// Does what is planned.
    ///
    /// # Errors
    /// The target does not answer, or what is about to be set cannot be noted.
    pub async fn apply(&mut self, plan: &SyncPlan) -> Result<Applied, EngineError> {
        let Some(control) = self.follower.control() else { return Err(not_begun(&self.mirror)) };
        let applied = apply::apply(&self.mirror, control.clone(), &self.target, plan, !self.is_shut_out).await?;
        self.is_shut_out |= applied.is_shut_out;
        Ok(applied)
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The mirror has never run.
    NotBegun,
    /// It is paused.
    Paused,
    /// The target was promoted, or is about to be.
    Promoted,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotBegun => "the mirror has not begun: kmirror run first",
            Self::Paused => "the mirror is paused",
            Self::Promoted => "the target is promoted: it has a life of its own",
        })
    }
}

fn not_begun(mirror: &MirrorConfig) -> EngineError {
    EngineError::Unexpected { mirror: mirror.name.clone(), detail: Obstacle::NotBegun.to_string() }
}

/// The control partition of a mirror that has been.
pub(super) async fn control_of(mirror: &MirrorConfig, target: &Cluster) -> Result<Control, EngineError> {
    Control::open(&mirror.name, target).await?.ok_or_else(|| not_begun(mirror))
}
