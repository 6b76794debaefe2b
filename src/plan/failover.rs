//! The plan of a failover: of which kind it is, what would be lost, what stands against it, and what each step will do.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::groups::Totals;
use crate::mirror::{PromotionMode, PromotionPhase};

use super::acls::AclsOutlook;
use super::settings::TopicSettings;

/// Which kind of failover is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Planned where the source answers, else unplanned.
    #[default]
    Either,
    /// Only where the source answers.
    Planned,
    /// Without waiting for the source, whether it answers or not.
    Unplanned,
}

/// Source offsets that are not on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LostRange {
    /// First source offset.
    pub from: i64,
    /// Source offset after the last.
    pub to: i64,
    /// Why: `not_mirrored`, or the reason of a gap that is a loss.
    pub reason: String,
}

/// A partition, as far as a failover is concerned.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PartitionOutlook {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number.
    pub partition: i32,
    /// `mirroring`, `starting`, `paused`, `halted`, `damaged`; once it was tried to fence it: `fenced`, `empty` (nothing was ever
    /// written to it), `in_doubt` (fenced, but where the data ends is not certain) or `unfenced`.
    pub state: String,
    /// Why it is halted, in doubt or unfenced.
    pub reason: Option<String>,
    /// End of the source log, −1 where nobody has seen it.
    pub source_end: i64,
    /// When the source told it, ms since the epoch; `None`: just now.
    #[serde(skip)]
    pub source_seen_ms: Option<i64>,
    /// The same as RFC 3339; `null`: just now, or never.
    pub source_seen_at: Option<String>,
    /// Source offset up to which everything is mirrored or in a gap; −1 where nothing is known.
    pub mirrored_to: i64,
    /// Target offset behind the last record mirrored; −1 where nothing is known.
    pub target_end: i64,
    /// Source offsets known to exist and not mirrored; −1 where unknown.
    pub lag_records: i64,
    /// Their bytes, by the size of the last records mirrored.
    pub lag_bytes_estimate: Option<u64>,
    /// Age of the first of them, seconds; of a source that is gone: from the last record mirrored to when the source was last
    /// heard of. −1 where unknown.
    pub lag_seconds: f64,
    /// Source offsets without a counterpart on the target that held records, for whatever reason.
    pub lost: Vec<LostRange>,
}

impl PartitionOutlook {
    /// For messages.
    pub fn name(&self) -> String {
        format!("{}:{}", self.topic, self.partition)
    }

    /// Whether it stands still, or nobody can tell how far it is.
    pub fn cannot_be_drained(&self) -> bool {
        ["halted", "damaged", "paused"].contains(&self.state.as_str()) || self.lag_records < 0
    }
}

/// What a failover loses, or would lose now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Rpo {
    /// Source offsets known to exist and not mirrored.
    pub records: i64,
    /// Their bytes, estimated; `null` where some are unknown.
    pub bytes_estimate: Option<u64>,
    /// Age of the oldest, seconds; −1 where some partition does not tell.
    pub seconds: f64,
    /// Whether the source itself was asked, and nothing can have been added unseen.
    pub is_exact: bool,
    /// Partitions of whose source end nothing is known.
    pub unknown_partitions: usize,
}

/// The sum over partitions. `is_exact`: the source has answered.
pub fn rpo(partitions: &[PartitionOutlook], is_exact: bool) -> Rpo {
    let known = || partitions.iter().filter(|p| p.lag_records >= 0);
    let lagging = || known().filter(|p| p.lag_records > 0);
    let unknown_partitions = partitions.len() - known().count();
    let bytes = lagging().map(|p| p.lag_bytes_estimate).try_fold(0_u64, |sum, bytes| Some(sum + bytes?));
    let seconds = if partitions.iter().any(|p| p.lag_seconds < 0.0) {
        -1.0
    } else {
        lagging().map(|p| p.lag_seconds).fold(0.0, f64::max)
    };
    Rpo {
        records: lagging().map(|p| p.lag_records).sum(),
        bytes_estimate: bytes.filter(|_| unknown_partitions == 0),
        seconds,
        is_exact: is_exact && unknown_partitions == 0,
        unknown_partitions,
    }
}

/// What is known before anything is done.
#[derive(Debug, Clone)]
pub struct FailoverFacts {
    /// Mirror name.
    pub mirror: String,
    /// Generation that is ended.
    pub generation: u32,
    /// What was asked for.
    pub wish: Wish,
    /// Why the source does not answer; `None` where it does.
    pub source_trouble: Option<String>,
    /// A promotion that was begun.
    pub begun: Option<PromotionMode>,
    /// Its steps that are through.
    pub phases: BTreeSet<PromotionPhase>,
    /// It is through.
    pub is_done: bool,
    /// The mirror as a whole is paused.
    pub is_paused: bool,
    /// Halted partitions are promoted as they are.
    pub allow_halted: bool,
    /// Shards of the state that cannot be read, in words.
    pub damaged: Vec<String>,
    /// Whether topic settings are to be applied.
    pub apply_settings: bool,
    /// Whether the source's writers are fenced by an ACL.
    pub fence_source: bool,
    /// Consumer groups.
    pub groups: GroupsFacts,
    /// All partitions.
    pub partitions: Vec<PartitionOutlook>,
    /// All topics.
    pub topics: Vec<TopicSettings>,
    /// ACLs that were held back, in words; `None`: ACLs do not follow.
    pub held_back_acls: Option<Vec<String>>,
}

/// What is known of consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupsFacts {
    /// The mirror selects none.
    NotSelected,
    /// They cannot be read off the source: they stay where they were last kept in step.
    SourceGone,
    /// What there is to do now.
    Planned(Totals),
    /// They could not be looked at.
    Unknown(String),
}

/// A step, and what it will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedStep {
    /// Its name.
    pub step: &'static str,
    /// What it does.
    pub action: String,
    /// It is through already, by an earlier call.
    pub is_done: bool,
}

/// `failover --dry-run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FailoverPlan {
    /// Version of this shape.
    pub schema_version: u32,
    /// Mirror name.
    pub mirror: String,
    /// Generation that is ended.
    pub generation: u32,
    /// `planned` or `unplanned`.
    pub mode: PromotionMode,
    /// Whether the source answers.
    pub source_reachable: bool,
    /// Why it does not.
    pub source_trouble: Option<String>,
    /// An earlier call has begun it.
    pub is_begun: bool,
    /// It is through.
    pub is_done: bool,
    /// What would be lost now. A planned failover drains first and loses nothing.
    pub rpo: Rpo,
    /// What each step does, in order.
    pub steps: Vec<PlannedStep>,
    /// What stands against it: nothing is done while there is any.
    pub blockers: Vec<String>,
    /// What should be known.
    pub warnings: Vec<String>,
    /// All partitions.
    pub partitions: Vec<PartitionOutlook>,
    /// Topics whose settings differ.
    pub topics: Vec<TopicSettings>,
    /// Consumer groups as they are now, as `kmirror groups plan --json` shows them; `null` where they cannot be read.
    pub groups: Option<serde_json::Value>,
    /// ACLs that were held back, and are created.
    pub held_back_acls: Vec<String>,
    /// Where the ACLs of topics and selected groups differ, those that were held back aside. A failover leaves them as they are.
    pub acls: AclsOutlook,
}

/// Makes the plan.
pub fn failover_plan(facts: FailoverFacts) -> FailoverPlan {
    let reachable = facts.source_trouble.is_none();
    let mode = facts.begun.unwrap_or(match facts.wish {
        Wish::Either if reachable => PromotionMode::Planned,
        Wish::Planned => PromotionMode::Planned,
        Wish::Either | Wish::Unplanned => PromotionMode::Unplanned,
    });
    FailoverPlan {
        schema_version: 1,
        mode,
        source_reachable: reachable,
        is_begun: facts.begun.is_some(),
        is_done: facts.is_done,
        rpo: rpo(&facts.partitions, reachable),
        steps: steps(&facts, mode),
        blockers: blockers(&facts, mode),
        warnings: warnings(&facts, mode),
        mirror: facts.mirror,
        generation: facts.generation,
        source_trouble: facts.source_trouble,
        partitions: facts.partitions,
        topics: facts.topics.into_iter().filter(|t| !t.changes.is_empty() || !t.left.is_empty()).collect(),
        groups: None,
        held_back_acls: facts.held_back_acls.unwrap_or_default(),
        acls: AclsOutlook::default(),
    }
}

fn steps(facts: &FailoverFacts, mode: PromotionMode) -> Vec<PlannedStep> {
    let begun = facts.begun.is_some();
    let through = |phase| facts.phases.contains(&phase);
    let partitions = facts.partitions.len();
    let mut steps = Vec::new();
    let mut add = |step, action: String, is_done| steps.push(PlannedStep { step, action, is_done });
    if mode == PromotionMode::Planned {
        if facts.fence_source {
            add("fence source", "deny writes to the mirrored topics on the source, by ACL".to_owned(), begun);
        }
        let drain = "wait until nobody writes to the source any more, then until all of it is mirrored";
        add("drain", drain.to_owned(), begun);
    }
    add("announce", "note the promotion on the target: a running kmirror stops writing".to_owned(), begun);
    let fence = format!("fence every older writer of {partitions} partitions, and settle where their data ends");
    add("fence", fence, through(PromotionPhase::Fenced));
    add("groups", groups_action(&facts.groups), through(PromotionPhase::Groups));
    let changed = facts.topics.iter().filter(|t| !t.changes.is_empty()).count();
    let settings = match (facts.apply_settings, changed) {
        (false, _) => "leave the topics' settings as they are".to_owned(),
        (true, 0) => "nothing: no topic setting differs".to_owned(),
        (true, changed) => format!("apply settings that were held back or have changed, on {changed} topics"),
    };
    add("settings", settings, through(PromotionPhase::Settings));
    if let Some(acls) = &facts.held_back_acls {
        let acls = match acls.len() {
            0 => "nothing: no ACL was held back".to_owned(),
            count => format!("create {count} ACLs that were held back: writers get their rights"),
        };
        add("acls", acls, through(PromotionPhase::Acls));
    }
    add("done", "note that the target is promoted".to_owned(), facts.is_done);
    add(
        "verify",
        "see that nothing was written behind the fence, and that older writers are refused".to_owned(),
        false,
    );
    steps
}

fn groups_action(groups: &GroupsFacts) -> String {
    match groups {
        GroupsFacts::NotSelected => "nothing: the mirror selects no consumer groups (mirrors[].groups)".to_owned(),
        GroupsFacts::SourceGone => "leave the consumer groups where they were last kept in step".to_owned(),
        GroupsFacts::Unknown(_) => {
            "translate what the consumer groups have committed, as far as it can be read".to_owned()
        }
        GroupsFacts::Planned(totals) => format!(
            "translate what {} consumer groups have committed at the settled ends: {} offsets to write as of now, {} in place, \
             {} left as somebody has committed them, {} without a counterpart; {} groups are left alone",
            totals.groups, totals.commits, totals.unchanged, totals.left_alone, totals.untranslatable, totals.skipped
        ),
    }
}

fn blockers(facts: &FailoverFacts, mode: PromotionMode) -> Vec<String> {
    let mut blockers = Vec::new();
    // What was begun is finished, whatever the source does.
    if facts.begun.is_some() || facts.is_done || mode == PromotionMode::Unplanned {
        return blockers;
    }
    if let Some(trouble) = &facts.source_trouble {
        blockers.push(format!("the source does not answer ({trouble}); without it only --unplanned is possible"));
    }
    if facts.is_paused {
        blockers.push(format!(
            "the mirror is paused, so it cannot be drained; kmirror resume --mirror {}, or --unplanned",
            facts.mirror
        ));
    }
    for damage in facts.damaged.iter().filter(|_| !facts.allow_halted) {
        blockers.push(format!("{damage}; kmirror state rebuild --mirror {} first, or --allow-halted", facts.mirror));
    }
    for partition in facts.partitions.iter().filter(|p| p.cannot_be_drained() && !facts.allow_halted) {
        blockers.push(format!(
            "{} ({}) cannot be drained{}; settle that first, or --allow-halted to promote it as it is",
            partition.name(),
            partition.state,
            partition.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default()
        ));
    }
    blockers
}

fn warnings(facts: &FailoverFacts, mode: PromotionMode) -> Vec<String> {
    let mut warnings = Vec::new();
    let reachable = facts.source_trouble.is_none();
    if mode == PromotionMode::Unplanned && reachable && facts.begun.is_none() && !facts.is_done {
        warnings.push(
            "the source answers, but is not waited for: stop its writers, or what they write from now on is lost"
                .to_owned(),
        );
    }
    match facts.begun {
        Some(begun)
            if (facts.wish == Wish::Planned) != (begun == PromotionMode::Planned) && facts.wish != Wish::Either =>
        {
            warnings.push(format!("the promotion was begun as {begun}, and is finished as such"));
        }
        _ => {}
    }
    for partition in &facts.partitions {
        if mode == PromotionMode::Unplanned && partition.cannot_be_drained() {
            let why = partition.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            warnings.push(format!("{} is {}{why}", partition.name(), partition.state));
        }
        let lost: i64 = partition.lost.iter().filter(|l| l.reason != NOT_MIRRORED).map(|l| l.to - l.from).sum();
        if lost > 0 {
            warnings.push(format!("{} lacks {lost} source offsets that were given up earlier", partition.name()));
        }
    }
    if mode == PromotionMode::Unplanned || facts.allow_halted {
        let what = "nothing is known of its partitions, and once promoted the state is not rebuilt any more";
        warnings.extend(facts.damaged.iter().map(|damage| format!("{damage}: {what}")));
    }
    if let GroupsFacts::Planned(totals) = &facts.groups
        && totals.left_alone > 0
    {
        warnings.push(format!(
            "{} offsets of consumer groups on the target are not this mirror's, and stay; kmirror groups plan shows them, and \
             --overwrite-groups all writes over them",
            totals.left_alone
        ));
    }
    if let GroupsFacts::Unknown(why) = &facts.groups {
        warnings.push(format!("the consumer groups cannot be looked at now: {why}"));
    }
    for topic in &facts.topics {
        for (key, why) in &topic.left {
            warnings.push(format!("topic {}: {key} is left as it is: {why}", topic.topic));
        }
    }
    warnings
}

/// The reason of source offsets that the mirror had not come to.
pub const NOT_MIRRORED: &str = "not_mirrored";

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(state: &str, lag_records: i64, lag_seconds: f64) -> PartitionOutlook {
        PartitionOutlook {
            topic: "orders".to_owned(),
            target_topic: "orders".to_owned(),
            partition: 0,
            state: state.to_owned(),
            reason: None,
            source_end: 100,
            source_seen_ms: None,
            source_seen_at: None,
            mirrored_to: 100 - lag_records,
            target_end: 100 - lag_records,
            lag_records,
            lag_bytes_estimate: (lag_records > 0).then(|| lag_records.unsigned_abs() * 10),
            lag_seconds,
            lost: Vec::new(),
        }
    }

    fn facts(wish: Wish, trouble: Option<&str>, partitions: Vec<PartitionOutlook>) -> FailoverFacts {
        FailoverFacts {
            mirror: "dr".to_owned(),
            generation: 1,
            wish,
            source_trouble: trouble.map(str::to_owned),
            begun: None,
            phases: BTreeSet::new(),
            is_done: false,
            is_paused: false,
            allow_halted: false,
            damaged: Vec::new(),
            apply_settings: true,
            fence_source: false,
            groups: GroupsFacts::NotSelected,
            partitions,
            held_back_acls: None,
            topics: Vec::new(),
        }
    }

    #[test]
    fn a_source_that_answers_makes_it_planned_unless_told_otherwise() {
        let mode = |wish, trouble| failover_plan(facts(wish, trouble, vec![])).mode;
        assert_eq!(mode(Wish::Either, None), PromotionMode::Planned);
        assert_eq!(mode(Wish::Either, Some("gone")), PromotionMode::Unplanned);
        assert_eq!(mode(Wish::Unplanned, None), PromotionMode::Unplanned);
        assert_eq!(mode(Wish::Planned, Some("gone")), PromotionMode::Planned);
    }

    #[test]
    fn what_cannot_be_drained_stands_against_a_planned_failover_only() {
        let blockers = |facts| failover_plan(facts).blockers.len();
        assert_eq!(blockers(facts(Wish::Planned, Some("gone"), vec![])), 1);
        let halted = || vec![partition("halted", 5, 1.0), partition("mirroring", 0, 0.0)];
        assert_eq!(blockers(facts(Wish::Either, None, halted())), 1);
        assert_eq!(blockers(FailoverFacts { allow_halted: true, ..facts(Wish::Either, None, halted()) }), 0);
        assert_eq!(blockers(FailoverFacts { is_paused: true, ..facts(Wish::Either, None, vec![]) }), 1);
        let unplanned = failover_plan(facts(Wish::Unplanned, None, halted()));
        assert_eq!((unplanned.blockers.len(), unplanned.warnings.len()), (0, 2), "{:?}", unplanned.warnings);
    }

    #[test]
    fn what_was_begun_is_finished_as_it_was_begun() {
        let begun = FailoverFacts {
            begun: Some(PromotionMode::Planned),
            phases: [PromotionPhase::Fenced].into(),
            ..facts(Wish::Unplanned, Some("gone"), vec![partition("halted", 5, 1.0)])
        };
        let plan = failover_plan(begun);
        assert_eq!((plan.mode, plan.blockers.len()), (PromotionMode::Planned, 0));
        let done: Vec<&str> = plan.steps.iter().filter(|step| step.is_done).map(|step| step.step).collect();
        assert_eq!(done, ["drain", "announce", "fence"]);
        assert!(plan.warnings.iter().any(|w| w.contains("begun as planned")), "{:?}", plan.warnings);
    }

    #[test]
    fn the_sum_says_what_it_does_not_know() {
        let sum = rpo(&[partition("mirroring", 5, 2.0), partition("mirroring", 0, 0.0)], true);
        assert_eq!(
            sum,
            Rpo { records: 5, bytes_estimate: Some(50), seconds: 2.0, is_exact: true, unknown_partitions: 0 }
        );
        let sum = rpo(&[partition("mirroring", 5, 2.0), partition("starting", -1, -1.0)], true);
        let expected = Rpo { records: 5, bytes_estimate: None, seconds: -1.0, is_exact: false, unknown_partitions: 1 };
        assert_eq!(sum, expected);
    }
}
