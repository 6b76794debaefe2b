//! The report of a failover: what was done, how long it took, what was lost.

use std::time::Instant;

use serde::Serialize;

use crate::config::MirrorConfig;
use crate::mirror::{ControlState, Promotion, PromotionMode, PromotionPhase, Unfenced};
use crate::plan::{NOT_MIRRORED, PartitionOutlook, Rpo, TopicSettings, rpo};

use super::super::groups::Refused;
use super::super::time::rfc3339;
use super::groups::PromotedGroups;
use super::settings::Applied;
use super::survey::Survey;
use super::{GroupsDone, HeldBackAcls, is_in_doubt};

/// A step as this call has done it.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Its name.
    pub step: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What is to be said of it.
    pub detail: Option<String>,
}

impl StepReport {
    pub(super) fn through(step: &'static str, began: Instant, detail: Option<String>) -> Self {
        Self { step, seconds: began.elapsed().as_secs_f64(), detail }
    }
}

/// What was looked at in the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// Partitions looked at.
    pub partitions: usize,
    /// Those whose leader is known to refuse older writers.
    pub refusing: usize,
    /// Records compared with the source's, where it was there.
    pub sampled: Option<Sampled>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Some records of both sides, compared.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sampled {
    /// Partitions.
    pub partitions: usize,
    /// Records that are the same.
    pub equal: u64,
    /// Records that the target holds alone: somebody else's.
    pub alone: u64,
    /// What differs or is missing.
    pub problems: Vec<String>,
    /// Why nothing was compared.
    pub detail: Option<String>,
}

/// Source offsets that are known to exist and are not on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossRange {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First source offset.
    pub from: i64,
    /// Source offset after the last.
    pub to: i64,
    /// `not_mirrored`, or the reason of an earlier gap.
    pub reason: String,
}

/// Source offsets of which nobody knows whether they exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnseenRange {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The first of them; the source's end when it was last heard of. −1 where it never was.
    pub from: i64,
    /// When that was; `null` where it never was.
    pub since: Option<String>,
}

/// What an unplanned failover has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossManifest {
    /// Known to exist, and not on the target. Offsets of markers and aborted records count as well where nobody could look.
    pub lost: Vec<LossRange>,
    /// What the source has got after it was last heard of, if anything.
    pub unseen: Vec<UnseenRange>,
}

/// `failover --json`, and the report file.
#[derive(Debug, Clone, Serialize)]
pub struct FailoverReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// Name of the source cluster in the configuration.
    pub source: String,
    /// Name of the target cluster.
    pub target: String,
    /// Generation that was ended.
    pub generation: u32,
    /// `planned` or `unplanned`.
    pub mode: PromotionMode,
    /// When the operator said yes.
    pub started_at: String,
    /// When a running mirror was told to stop.
    pub announced_at: String,
    /// When every older writer was fenced.
    pub fenced_at: Option<String>,
    /// When the target was promoted.
    pub done_at: Option<String>,
    /// From yes to promoted, over all calls.
    pub rto_seconds: f64,
    /// From when the source was last heard of to promoted, where the source is gone.
    pub outage_seconds: Option<f64>,
    /// What was lost.
    pub rpo: Rpo,
    /// What this call has done.
    pub steps: Vec<StepReport>,
    /// All partitions.
    pub partitions: Vec<PartitionOutlook>,
    /// Partitions that are not fenced, or whose end is in doubt.
    pub unfenced: Vec<Unfenced>,
    /// Consumer groups, as this call has translated them; `null` where an earlier one has, or none are selected.
    pub groups: Option<PromotedGroups>,
    /// Topic settings that this call has applied.
    pub settings: Vec<TopicSettings>,
    /// ACLs that this call has created: they had been held back.
    pub acls: Vec<String>,
    /// What was looked at in the end.
    pub verification: Verification,
    /// Of an unplanned failover.
    pub loss_manifest: Option<LossManifest>,
    /// What somebody has to look after.
    pub problems: Vec<String>,
}

/// What a call has done.
pub(super) struct Acts {
    pub(super) steps: Vec<StepReport>,
    pub(super) groups: GroupsDone,
    pub(super) settings: Applied,
    pub(super) acls: HeldBackAcls,
    pub(super) unfenced: Vec<Unfenced>,
    pub(super) verification: Verification,
}

/// The report; `None` where somebody has called the promotion off.
pub(super) fn report(
    mirror: &MirrorConfig,
    control: &ControlState,
    found: Survey,
    acts: Acts,
) -> Option<FailoverReport> {
    let intent = control.standing_promotion()?;
    let mode = intent.mode.unwrap_or(PromotionMode::Unplanned);
    let started_ms = intent.started_ms.unwrap_or(intent.at_ms);
    let done_ms = control.promotion_done().map(|done| done.at_ms);
    let seen_ms = found.partitions.iter().filter_map(|p| p.source_seen_ms).max();
    let since = |from: i64| done_ms.map(|done| (done - from).max(0) as f64 / 1000.0);
    Some(FailoverReport {
        schema_version: 1,
        mirror: mirror.name.clone(),
        source: mirror.source.clone(),
        target: mirror.target.clone(),
        generation: intent.generation,
        mode,
        started_at: rfc3339(started_ms),
        announced_at: rfc3339(intent.at_ms),
        fenced_at: control.promotion_step(PromotionPhase::Fenced).map(|step| rfc3339(step.at_ms)),
        done_at: done_ms.map(rfc3339),
        rto_seconds: since(started_ms).unwrap_or(-1.0),
        outage_seconds: seen_ms.filter(|_| !found.source_asked).and_then(since),
        rpo: rpo(&found.partitions, found.source_asked || was_drained(&found.partitions, intent)),
        loss_manifest: (mode == PromotionMode::Unplanned).then(|| manifest(&found.partitions)),
        problems: problems(&acts, &found.damaged),
        steps: acts.steps,
        partitions: found.partitions,
        unfenced: acts.unfenced,
        groups: acts.groups.ok().flatten(),
        settings: acts.settings.changed,
        acls: acts.acls.created,
        verification: acts.verification,
    })
}

/// A planned failover notes what the source holds when all is fenced; that stays true when the source is gone later.
fn was_drained(partitions: &[PartitionOutlook], intent: &Promotion) -> bool {
    let seen_since = |p: &PartitionOutlook| p.source_seen_ms.is_some_and(|at_ms| at_ms >= intent.at_ms);
    intent.mode == Some(PromotionMode::Planned) && partitions.iter().all(seen_since)
}

fn manifest(partitions: &[PartitionOutlook]) -> LossManifest {
    let lost = partitions.iter().flat_map(|p| {
        p.lost.iter().map(|lost| LossRange {
            topic: p.topic.clone(),
            partition: p.partition,
            from: lost.from,
            to: lost.to,
            reason: lost.reason.clone(),
        })
    });
    // A source that was asked just now has told all there is.
    let unseen = partitions.iter().filter(|p| p.source_seen_ms.is_some() || p.source_end < 0).map(|p| UnseenRange {
        topic: p.topic.clone(),
        partition: p.partition,
        from: p.source_end,
        since: p.source_seen_at.clone(),
    });
    LossManifest { lost: lost.collect(), unseen: unseen.collect() }
}

fn problems(acts: &Acts, damaged: &[String]) -> Vec<String> {
    let unfenced = acts.unfenced.iter().map(|u| {
        let name = format!("{}:{} (target {})", u.topic, u.partition, u.target_topic);
        match (is_in_doubt(u), u.reason.is_open()) {
            (true, _) => format!("{name} is fenced, but where its data ends is in doubt: {}", u.detail),
            (_, true) => format!(
                "{name} is not fenced ({}): {}; call kmirror failover again once that is settled",
                u.reason, u.detail
            ),
            (_, false) => format!("{name} is not there to be fenced ({}): {}", u.reason, u.detail),
        }
    });
    let damaged = damaged.iter().map(|words| format!("{words}; what it holds is fenced by the coordinator only"));
    let sampled = acts.verification.sampled.iter().flat_map(|sampled| sampled.problems.iter().cloned());
    unfenced
        .chain(group_problems(&acts.groups))
        .chain(acts.settings.failed.iter().cloned())
        .chain(
            acts.acls
                .failed
                .iter()
                .map(|what| format!("an ACL that was held back is not there: {what}; call kmirror failover again")),
        )
        .chain(acts.verification.problems.iter().cloned())
        .chain(sampled)
        .chain(damaged)
        .collect()
}

fn group_problems(groups: &GroupsDone) -> Vec<String> {
    let again = "call kmirror failover again, or kmirror groups apply";
    let groups = match groups {
        Ok(groups) => groups,
        Err(why) => return vec![format!("the consumer groups were not translated: {why}; {again}")],
    };
    let words = |refused: &Refused| match refused.live {
        true => {
            format!("group {} has members on the target already, and was left alone: {}", refused.group, refused.error)
        }
        false => format!("group {} was not written: {}; {again}", refused.group, refused.error),
    };
    let refused = groups.iter().flat_map(|groups| &groups.applied.refused).map(words);
    refused.chain(groups.iter().flat_map(|groups| groups.unmoved.iter().cloned())).collect()
}

impl FailoverReport {
    /// Source offsets lost that were known to exist when it began, earlier gaps aside.
    pub fn not_mirrored(&self) -> i64 {
        let ranges = self.partitions.iter().flat_map(|p| &p.lost).filter(|lost| lost.reason == NOT_MIRRORED);
        ranges.map(|lost| lost.to - lost.from).sum()
    }
}
