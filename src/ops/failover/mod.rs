//! `kmirror failover`: the target takes over. Survey and plan first; then steps, each of which finds out by the records on the target
//! whether it is through, so that a call that was cut short anywhere is finished by the next one:
//!
//! drain (where the source is there) → announce → fence and settle → groups → topic settings → done → verify → report.
//!
//! What the source held is told by itself, or by what the mirror has noted of it while it was there.

mod drain;
mod fence;
mod groups;
mod report;
mod settings;
mod source_fence;
mod survey;
mod verify;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acls::{self, names_of};
use super::sync::create_held_back;
use crate::client::Cluster;
use crate::config::{Config, MirrorConfig};
use crate::engine::control::Control;
use crate::engine::{EngineError, connect_source, connect_target, now_ms};
use crate::groups::Overwrite;
use crate::mirror::{ControlRecord, Promotion, PromotionMode, PromotionPhase, PromotionStep, Unfenced, UnfencedReason};
use crate::plan::{
    Acl, AclBinding, AclNames, FailoverFacts, FailoverPlan, GroupsFacts, PartitionOutlook, Wish, failover_plan,
    held_back_acls,
};

pub use groups::PromotedGroups;
pub use report::{FailoverReport, LossManifest, LossRange, Sampled, StepReport, UnseenRange, Verification};

pub(super) use groups::left_alone;
pub(super) use settings::prepare_for_mirroring;
pub(super) use source_fence::lift as lift_source_fence;

use survey::{Survey, survey};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct FailoverOptions {
    /// Of which kind.
    pub wish: Wish,
    /// Deny writes on the source, by ACL.
    pub fence_source: bool,
    /// How long the source must not have grown.
    pub quiet: Duration,
    /// How long to wait for that, and for zero lag.
    pub drain_timeout: Duration,
    /// How long the source is waited for before it counts as gone.
    pub source_timeout: Duration,
    /// Promote halted partitions as they are.
    pub allow_halted: bool,
    /// Apply topic settings that were held back.
    pub apply_settings: bool,
    /// Which groups' offsets on the target may be overwritten.
    pub overwrite_groups: Option<Overwrite>,
    /// Where the target groups' former offsets are kept; by default in a file of the working directory.
    pub groups_snapshot: Option<PathBuf>,
    /// No other process runs this mirror, so that none can write a group's offset late.
    pub is_alone: bool,
    /// Stand still for ever once this step is through: for tests, which kill the process there.
    pub pause_after: Option<String>,
}

/// Why a failover did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// One of the clusters, or the state.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It was not begun.
    #[error("mirror {mirror}: {detail}; nothing was changed on the target")]
    NotDrained {
        /// Mirror name.
        mirror: String,
        /// What did not come about.
        detail: String,
    },
    /// It was begun, and is called off: the source was written to all the same.
    #[error(
        "mirror {mirror}: after the drain there was more on the source: {detail}; the promotion is called off, nothing was \
         promoted. Stop the source's writers, start kmirror again (or leave it to the failover), and call this again"
    )]
    StillWritten {
        /// Mirror name.
        mirror: String,
        /// Where.
        detail: String,
    },
    /// The target groups' former offsets cannot be kept, so none is overwritten.
    #[error("the target groups' former offsets cannot be kept in {}: {source}; no group was written", file.display())]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be called off.
    #[error("mirror {mirror}: {detail}")]
    NotCancelled {
        /// Mirror name.
        mirror: String,
        /// Why.
        detail: String,
    },
}

impl From<crate::client::ClientError> for FailoverError {
    fn from(error: crate::client::ClientError) -> Self {
        EngineError::from(error).into()
    }
}

/// A failover that was looked into, and not begun by this call.
#[derive(Debug)]
pub struct Failover {
    config: Arc<Config>,
    mirror: MirrorConfig,
    options: FailoverOptions,
    source: Option<Cluster>,
    target: Cluster,
    control: Control,
    /// What it would do.
    pub plan: FailoverPlan,
}

impl Failover {
    /// Looks at both sides and makes the plan.
    pub async fn prepare(
        config: &Arc<Config>,
        mirror: &MirrorConfig,
        options: FailoverOptions,
    ) -> Result<Self, FailoverError> {
        let target = connect_target(config, mirror).await?;
        let connecting = tokio::time::timeout(options.source_timeout, connect_source(config, mirror)).await;
        let (mut source, mut trouble) = match connecting {
            Ok(Ok(source)) => (Some(source), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some(no_answer(options.source_timeout))),
        };
        let control = open(mirror, &target).await?;
        let found = survey(mirror, source.as_ref(), &target, options.source_timeout).await?;
        if let Some(why) = &found.source_trouble {
            (source, trouble) = (None, Some(why.clone()));
        }
        let groups = groups::Groups {
            mirror,
            source: source.as_ref(),
            source_trouble: trouble.as_deref(),
            target: &target,
            overwrite: overwrite(mirror, options.overwrite_groups, control.state.promotion_done().is_some()),
            is_done: control.state.promotion_done().is_some(),
        };
        let (groups, groups_plan) = groups.facts().await;
        let mut plan = plan(mirror, &options, &control, (found, groups), trouble)?;
        let (topics, selected) = names_of(&plan.partitions, groups_plan.as_ref());
        let names = AclNames { topics: &topics, groups: &selected, fenced: control.state.source_fenced() };
        let held = if mirror.sync.acls { held_back_acls(control.state.synced()) } else { Vec::new() };
        let held: Vec<Acl> = held.iter().filter_map(AclBinding::compared).collect();
        plan.acls = acls::compare(source.as_ref(), (&target, held), names, options.source_timeout).await;
        plan.groups = groups_plan;
        Ok(Self { config: Arc::clone(config), mirror: mirror.clone(), options, source, target, control, plan })
    }

    /// Does it: begins, or goes on where an earlier call was cut short.
    pub async fn run(mut self) -> Result<FailoverReport, FailoverError> {
        let begun = Instant::now();
        let mut steps = Vec::new();
        let started_ms = now_ms();
        if !self.plan.is_begun {
            if self.plan.mode == PromotionMode::Planned {
                let step = Instant::now();
                self.drain().await?;
                steps.push(StepReport::through("drain", step, None));
                self.pause("drain").await;
            }
            self.announce(started_ms).await?;
            self.pause("announce").await;
        }
        let mut unfenced = self.fence_step(&mut steps).await?;
        self.pause("fence").await;
        let mut groups = self.groups_step(&mut steps).await?;
        self.pause("groups").await;
        let settings = self.settings_step(&mut steps).await?;
        self.pause("settings").await;
        let acls = self.acls_step(&mut steps).await?;
        self.pause("acls").await;
        self.done_step().await?;
        self.pause("done").await;
        let step = Instant::now();
        let found = self.survey().await?;
        self.look_at_groups_again(&found.partitions, &mut groups).await?;
        let mut verification = verify::verify(&self.mirror, &self.target, &found, &unfenced).await?;
        if let Some(source) = &self.source {
            let how = (started_ms.unsigned_abs(), self.options.source_timeout);
            verification.sampled = verify::sample(&self.mirror, (source, &self.target), &found, how).await;
        }
        steps.push(StepReport::through("verify", step, None));
        unfenced.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        tracing::info!(mirror = %self.mirror.name, seconds = begun.elapsed().as_secs_f64(), "the target is promoted");
        let acts = report::Acts { steps, groups, settings, acls, unfenced, verification };
        report::report(&self.mirror, &self.control.state, found, acts).ok_or_else(|| {
            let detail = "the promotion was called off by somebody else".to_owned();
            EngineError::Unexpected { mirror: self.mirror.name.clone(), detail }.into()
        })
    }

    async fn survey(&mut self) -> Result<Survey, FailoverError> {
        self.control.read_to_end().await?;
        Ok(survey(&self.mirror, self.source.as_ref(), &self.target, self.options.source_timeout).await?)
    }

    /// For tests: stands still where they want to kill the process.
    async fn pause(&self, step: &str) {
        tracing::info!(mirror = %self.mirror.name, step, "failover step through");
        if self.options.pause_after.as_deref() == Some(step) {
            std::future::pending::<()>().await;
        }
    }

    async fn drain(&self) -> Result<(), FailoverError> {
        let Some(source) = &self.source else { return Ok(()) };
        if self.options.fence_source {
            let topics: BTreeSet<&str> = self.plan.partitions.iter().map(|p| p.topic.as_str()).collect();
            source_fence::raise(&self.mirror, source, &self.control, &topics.into_iter().collect::<Vec<_>>()).await?;
        }
        let left_out = self.left_out();
        let drain = drain::Drain { config: &self.config, mirror: &self.mirror, source, target: &self.target, left_out };
        let outcome = drain.run(self.options.quiet, self.options.drain_timeout).await;
        if outcome.is_err() {
            self.lift_source_fence().await;
        }
        outcome
    }

    /// What is not promoted is written to again.
    /// Gives the topics whose ACLs stay, where they could not be taken back.
    async fn lift_source_fence(&self) -> Vec<String> {
        let fenced: Vec<String> = self.control.state.source_fenced().iter().cloned().collect();
        let Some(source) = &self.source else {
            if !fenced.is_empty() {
                tracing::warn!(mirror = %self.mirror.name, "the source does not answer: the ACLs that deny writes to it stay");
            }
            return fenced;
        };
        match source_fence::lift(&self.mirror, source, &self.target).await {
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::error!(mirror = %self.mirror.name, %error, "the ACLs that deny writes to the source stay");
                fenced
            }
        }
    }

    /// Partitions that are promoted as they are.
    fn left_out(&self) -> BTreeSet<(String, i32)> {
        let still = |p: &&PartitionOutlook| self.options.allow_halted && p.cannot_be_drained();
        self.plan.partitions.iter().filter(still).map(|p| (p.topic.clone(), p.partition)).collect()
    }

    async fn announce(&mut self, started_ms: i64) -> Result<(), FailoverError> {
        let intent = Promotion {
            generation: self.plan.generation,
            at_ms: now_ms(),
            mode: Some(self.plan.mode),
            started_ms: Some(started_ms),
        };
        self.control.write(ControlRecord::PromotionIntent(intent)).await?;
        self.control.read_to_end().await?;
        Ok(())
    }

    async fn step_through(&mut self, phase: PromotionPhase, unfenced: Vec<Unfenced>) -> Result<(), FailoverError> {
        let step = PromotionStep { generation: self.plan.generation, phase, at_ms: now_ms(), unfenced };
        self.control.write(ControlRecord::PromotionStep(step)).await?;
        self.control.read_to_end().await?;
        Ok(())
    }

    /// Fences all there is, or what an earlier call had to leave. Gives what is left now.
    async fn fence_step(&mut self, steps: &mut Vec<StepReport>) -> Result<Vec<Unfenced>, FailoverError> {
        let before = self.control.state.promotion_step(PromotionPhase::Fenced).cloned();
        let only: Option<BTreeSet<(String, i32)>> = before.as_ref().map(|step| {
            let open = step.unfenced.iter().filter(|u| u.reason.is_open());
            open.map(|u| (u.topic.clone(), u.partition)).collect()
        });
        if let (Some(step), Some(only)) = (&before, &only)
            && only.is_empty()
        {
            return Ok(step.unfenced.clone());
        }
        let step = Instant::now();
        let fence = fence::Fence {
            mirror: &self.mirror,
            source: self.source.as_ref(),
            source_timeout: self.options.source_timeout,
            target: &self.target,
            control: &self.control,
            generation: self.plan.generation,
            is_resumed: self.plan.is_begun,
        };
        let mut unfenced = fence.run(only.as_ref()).await?;
        self.pause("half").await;
        if let Some(before) = before {
            unfenced.extend(before.unfenced.into_iter().filter(|u| !u.reason.is_open()));
        } else {
            self.check_drained(&unfenced).await?;
        }
        self.step_through(PromotionPhase::Fenced, unfenced.clone()).await?;
        let detail = (!unfenced.is_empty()).then(|| format!("{} partitions are not fenced", unfenced.len()));
        steps.push(StepReport::through("fence", step, detail));
        Ok(unfenced)
    }

    /// A planned failover loses nothing, or does not take place.
    async fn check_drained(&mut self, unfenced: &[Unfenced]) -> Result<(), FailoverError> {
        if self.plan.mode != PromotionMode::Planned || self.source.is_none() {
            return Ok(());
        }
        let left_out = self.left_out();
        let found = self.survey().await?;
        if found.source_trouble.is_some() {
            return Ok(());
        }
        let is_left = |p: &PartitionOutlook| {
            let key = (p.topic.clone(), p.partition);
            left_out.contains(&key) || unfenced.iter().any(|u| (&u.topic, u.partition) == (&p.topic, p.partition))
        };
        let more: Vec<String> = (found.partitions.iter())
            .filter(|p| p.lag_records > 0 && !is_left(p))
            .map(|p| format!("{} holds offsets [{}, {})", p.name(), p.mirrored_to, p.source_end))
            .collect();
        if more.is_empty() {
            return Ok(());
        }
        let cancelled = Promotion { generation: self.plan.generation, at_ms: now_ms(), ..Promotion::default() };
        self.control.write(ControlRecord::PromotionCancelled(cancelled)).await?;
        self.lift_source_fence().await;
        Err(FailoverError::StillWritten { mirror: self.mirror.name.clone(), detail: more.join(", ") })
    }

    /// Translates the groups. What keeps it from that keeps nobody from the promotion: it is said, and the next call, or
    /// `kmirror groups apply`, does it.
    async fn groups_step(&mut self, steps: &mut Vec<StepReport>) -> Result<GroupsDone, FailoverError> {
        if self.control.state.promotion_step(PromotionPhase::Groups).is_some() {
            return Ok(Ok(None));
        }
        let step = Instant::now();
        let found = self.survey().await?;
        let promoted = match self.groups().promote(&found.partitions, &self.groups_file()).await {
            Ok(promoted) => promoted,
            Err(error @ FailoverError::Snapshot { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(mirror = %self.mirror.name, %error, "the consumer groups are not translated");
                return Ok(Err(error.to_string()));
            }
        };
        if promoted.as_ref().is_none_or(PromotedGroups::is_through) {
            self.step_through(PromotionPhase::Groups, Vec::new()).await?;
        }
        if let Some(groups) = &promoted {
            let detail = format!("{} offsets of {} groups", groups.applied.offsets, groups.applied.groups);
            steps.push(StepReport::through("groups", step, Some(detail)));
        }
        Ok(Ok(promoted))
    }

    async fn look_at_groups_again(
        &self,
        partitions: &[PartitionOutlook],
        groups: &mut GroupsDone,
    ) -> Result<(), FailoverError> {
        // Of a call that finds all of it through, the time is long past.
        let (Ok(groups), false) = (groups, self.plan.is_done || self.options.is_alone) else { return Ok(()) };
        let told_ms = self.told_ms();
        match self.groups().look_again(partitions, &self.groups_file(), told_ms).await {
            Ok(applied) => {
                if let Some(groups) = groups {
                    groups.applied.add(applied);
                }
            }
            Err(error @ FailoverError::Snapshot { .. }) => return Err(error),
            Err(error) => tracing::warn!(mirror = %self.mirror.name, %error, "the groups cannot be looked at again"),
        }
        Ok(())
    }

    fn groups(&self) -> groups::Groups<'_> {
        groups::Groups {
            mirror: &self.mirror,
            source: self.source.as_ref(),
            source_trouble: self.plan.source_trouble.as_deref(),
            target: &self.target,
            overwrite: overwrite(&self.mirror, self.options.overwrite_groups, self.plan.is_done),
            is_done: self.plan.is_done,
        }
    }

    /// When a running mirror was told to stop, ms.
    fn told_ms(&self) -> i64 {
        self.control.state.standing_promotion().map_or(0, |intent| intent.at_ms)
    }

    /// The same for every call of one failover.
    fn groups_file(&self) -> PathBuf {
        let by_default = || {
            let time = super::time::rfc3339(self.told_ms()).replace([':', '.'], "-");
            PathBuf::from(format!("kmirror-groups-{}-{time}.json", self.mirror.name))
        };
        self.options.groups_snapshot.clone().unwrap_or_else(by_default)
    }

    async fn settings_step(&mut self, steps: &mut Vec<StepReport>) -> Result<settings::Applied, FailoverError> {
        let is_through = self.control.state.promotion_step(PromotionPhase::Settings).is_some();
        if is_through || !self.options.apply_settings || !self.mirror.sync.topic_configs {
            return Ok(settings::Applied::default());
        }
        let step = Instant::now();
        if self.control.state.promotion_step(PromotionPhase::SettingsBegun).is_none() {
            self.step_through(PromotionPhase::SettingsBegun, Vec::new()).await?;
            self.pause("settings_begun").await;
        }
        let topics = self.survey().await?.topics;
        let applied = settings::apply(&self.control, &self.target, topics).await?;
        if applied.failed.is_empty() {
            self.step_through(PromotionPhase::Settings, Vec::new()).await?;
        }
        let detail = Some(format!("{} topics changed, {} failed", applied.changed.len(), applied.failed.len()));
        steps.push(StepReport::through("settings", step, detail));
        Ok(applied)
    }

    /// Creates the ACLs that were held back. What keeps it from that keeps nobody from the promotion: it is said, and the next call
    /// does it.
    async fn acls_step(&mut self, steps: &mut Vec<StepReport>) -> Result<HeldBackAcls, FailoverError> {
        let is_through = self.control.state.promotion_step(PromotionPhase::Acls).is_some();
        if is_through || !self.mirror.sync.acls {
            return Ok(HeldBackAcls::default());
        }
        let step = Instant::now();
        let (created, failed) = match create_held_back(&mut self.control, &self.target).await {
            Ok(done) => done,
            Err(error) if error.client().is_some_and(|error| !error.is_unreachable()) => {
                (Vec::new(), vec![error.to_string()])
            }
            Err(error) => return Err(error.into()),
        };
        if failed.is_empty() {
            self.step_through(PromotionPhase::Acls, Vec::new()).await?;
        }
        let detail = Some(format!("{} created, {} failed", created.len(), failed.len()));
        steps.push(StepReport::through("acls", step, detail));
        Ok(HeldBackAcls { created: created.iter().map(ToString::to_string).collect(), failed })
    }

    async fn done_step(&mut self) -> Result<(), FailoverError> {
        if self.control.state.promotion_done().is_none() {
            let done = Promotion { generation: self.plan.generation, at_ms: now_ms(), ..Promotion::default() };
            self.control.write(ControlRecord::PromotionDone(done)).await?;
            self.control.read_to_end().await?;
        }
        Ok(())
    }

    /// Calls a promotion off that is not through, where the mirror can go on as if nothing had been.
    /// Gives the source topics that still deny writes, where that could not be taken back.
    pub async fn cancel(mut self, dry_run: bool) -> Result<Vec<String>, FailoverError> {
        self.control.read_to_end().await?;
        let refuse = |detail: String| FailoverError::NotCancelled { mirror: self.mirror.name.clone(), detail };
        let state = &self.control.state;
        if state.standing_promotion().is_none() && !state.source_fenced().is_empty() {
            // A drain that was cut short has left it.
            return Ok(if dry_run { Vec::new() } else { self.lift_source_fence().await });
        }
        if state.standing_promotion().is_none() {
            return Err(refuse("no promotion stands that could be called off".to_owned()));
        }
        if state.promotion_done().is_some() {
            return Err(refuse("the promotion is through; kmirror failback is the way back".to_owned()));
        }
        if state.promotion_step(PromotionPhase::SettingsBegun).is_some() {
            return Err(refuse(
                "topic settings of the target were changed, which the mirror cannot live with; finish the failover, then fail back"
                    .to_owned(),
            ));
        }
        if let Some(where_) = verify::foreign_records(&self.mirror, &self.target).await? {
            return Err(refuse(format!(
                "somebody has written to the target since ({where_}): it has a life of its own; finish the failover, then fail back"
            )));
        }
        if !dry_run {
            let cancelled = Promotion { generation: self.plan.generation, at_ms: now_ms(), ..Promotion::default() };
            self.control.write(ControlRecord::PromotionCancelled(cancelled)).await?;
            return Ok(self.lift_source_fence().await);
        }
        Ok(Vec::new())
    }
}

/// Whose offsets on the target are written over. On the way home consumers have left theirs there before the first failover. Once the
/// target is promoted, consumers may have gone on with any of them: unless it is asked for, none is set back.
pub(super) fn overwrite(mirror: &MirrorConfig, asked: Option<Overwrite>, is_done: bool) -> Overwrite {
    asked.unwrap_or(match (is_done, mirror.is_way_home()) {
        (true, _) => Overwrite::Own,
        (false, true) => Overwrite::All,
        (false, false) => Overwrite::Unused,
    })
}

/// What became of the ACLs that were held back.
#[derive(Debug, Default)]
struct HeldBackAcls {
    created: Vec<String>,
    failed: Vec<String>,
}

/// What became of the groups, if anything; or why nothing did.
type GroupsDone = Result<Option<PromotedGroups>, String>;

fn no_answer(within: Duration) -> String {
    format!("no answer within {:.0} s", within.as_secs_f64())
}

async fn open(mirror: &MirrorConfig, target: &Cluster) -> Result<Control, EngineError> {
    Control::open(&mirror.name, target).await?.ok_or_else(|| EngineError::Unexpected {
        mirror: mirror.name.clone(),
        detail: "it has never run: there is nothing on the target to promote".to_owned(),
    })
}

fn plan(
    mirror: &MirrorConfig,
    options: &FailoverOptions,
    control: &Control,
    (found, groups): (Survey, GroupsFacts),
    source_trouble: Option<String>,
) -> Result<FailoverPlan, EngineError> {
    let state = &control.state;
    let phases = [
        PromotionPhase::Fenced,
        PromotionPhase::Groups,
        PromotionPhase::SettingsBegun,
        PromotionPhase::Settings,
        PromotionPhase::Acls,
    ];
    // An intent of a version that did not say of which kind it is was written without a drain.
    let begun = state.standing_promotion().map(|p| p.mode.unwrap_or(PromotionMode::Unplanned));
    let fenced_well = |phase: &PromotionPhase| {
        state.promotion_step(*phase).is_some_and(|step| !step.unfenced.iter().any(|u| u.reason.is_open()))
    };
    Ok(failover_plan(FailoverFacts {
        mirror: mirror.name.clone(),
        generation: control.generation()?.generation,
        wish: options.wish,
        source_trouble,
        begun,
        phases: phases.into_iter().filter(fenced_well).collect(),
        is_done: state.promotion_done().is_some(),
        is_paused: state.is_all_paused(),
        allow_halted: options.allow_halted,
        damaged: found.damaged,
        apply_settings: options.apply_settings && mirror.sync.topic_configs,
        fence_source: options.fence_source,
        groups,
        partitions: found.partitions,
        topics: found.topics,
        held_back_acls: mirror
            .sync
            .acls
            .then(|| held_back_acls(state.synced()).iter().map(ToString::to_string).collect()),
    }))
}

/// Whether a partition was fenced, and only its end is not certain.
fn is_in_doubt(unfenced: &Unfenced) -> bool {
    unfenced.reason == UnfencedReason::InDoubt
}
