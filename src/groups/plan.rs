//! What has to be written for the groups: the offsets that changed, and those that would expire on the target otherwise.
//!
//! The source is the truth, rewinds included, as long as the target's value is one of this mirror. Any other value is
//! somebody's progress: it is left alone and named.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::translate::{Translated, Untranslatable};
use super::view::{TopicView, View, Views};
use super::{ByPartition, Committed, GroupType, Ledger, SourceGroup, TargetGroup, Written};

/// Refreshes are spread over this last part of the interval, by the group's name: those that began together would be due
/// together for ever.
const SPREAD: i64 = 4;

/// Which offsets of the target may be overwritten. One that is the right one already is no question of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// Those that the ledger knows.
    #[default]
    Own,
    /// And those that it knows nothing of in groups that nobody ever consumed with on the target: no reader has left them
    /// there, but an earlier run or a tool.
    Unused,
    /// All: an operator has said so. (A live group is left alone even so: its coordinator would refuse.)
    All,
}

/// How to plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Age from which on an offset is written again although it is the right one, ms. Well below the target's
    /// `offsets.retention.minutes`: a group that only ever commits expires by the age of each commit (KIP-211). [`i64::MAX`]: what
    /// is right is left as it is.
    pub refresh_ms: i64,
    /// What may be overwritten.
    pub overwrite: Overwrite,
}

/// Why a group is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Skip {
    /// Left out by `groups`.
    #[error("not selected")]
    NotSelected,
    /// It has members on the target.
    #[error("live on the target: left alone")]
    LiveOnTarget,
    /// A share group has no committed offsets; the state of each record is kept by the brokers (KIP-932).
    #[error("a share group: it has no offsets that could be translated")]
    ShareGroup,
    /// Of a type that this version does not know.
    #[error("a group of an unknown type")]
    UnknownType,
    /// The name belongs to another kind of group on the target.
    #[error("a {source_kind} group on the source, a {target_kind} group on the target")]
    TypeDiffers {
        /// On the source.
        source_kind: GroupType,
        /// On the target.
        target_kind: GroupType,
    },
    /// Deleted or expired on the source. Its offsets on the target are left to expire there.
    #[error("gone from the source; its offsets on the target stay until they expire")]
    GoneFromSource,
}

/// Why an offset is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The target has none.
    New,
    /// The group went on, or the mirror did.
    Forward,
    /// The group went back.
    Back,
    /// Only what is noted with it differs.
    Metadata,
    /// It is the right one, and would expire.
    Refresh,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Forward => "forward",
            Self::Back => "back",
            Self::Metadata => "metadata",
            Self::Refresh => "refresh",
        })
    }
}

/// What is done about one partition of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Outcome {
    /// To be written.
    Commit {
        /// The offset.
        to: Translated,
        /// Why.
        why: Why,
    },
    /// It stands there.
    Unchanged {
        /// The offset.
        to: Translated,
    },
    /// Another offset stands there that is not of this mirror.
    LeftAlone {
        /// The offset that it would be.
        to: Translated,
        /// The offset that stands there.
        found: i64,
        /// The last one that was written, where that is known.
        written: Option<i64>,
    },
    /// There is none to write.
    Untranslatable {
        /// Why not.
        why: Untranslatable,
    },
}

/// One partition of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Line<'a> {
    /// Source topic.
    pub topic: &'a str,
    /// Target topic; absent where the topic is not mirrored.
    pub target_topic: Option<&'a str>,
    /// Partition number on both sides.
    pub partition: i32,
    /// What is committed on the source.
    pub committed: &'a Committed,
    /// The offset on the target now.
    pub found: Option<i64>,
    /// What is done.
    pub outcome: Outcome,
}

/// A mirrored partition for which the target has an offset and the source has none (expired, deleted). It stays there until
/// it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gone<'a> {
    /// Target topic.
    pub target_topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// The offset on the target.
    pub found: i64,
}

/// What is done about a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision<'a> {
    /// Nothing.
    Skipped {
        /// Why.
        why: Skip,
    },
    /// Partition by partition.
    Planned {
        /// All that the source has committed, in order.
        lines: Vec<Line<'a>>,
        /// What only the target has.
        gone: Vec<Gone<'a>>,
    },
}

/// A group and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GroupPlan<'a> {
    /// The group, by the same name on both sides.
    pub group: &'a str,
    /// What is done.
    #[serde(flatten)]
    pub decision: Decision<'a>,
}

/// An offset to write, as OffsetCommit takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit<'a> {
    /// Target topic.
    pub topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Leader epoch; −1 where unknown.
    pub leader_epoch: i32,
    /// The source's metadata.
    pub metadata: &'a str,
    /// The offset there now.
    pub found: Option<i64>,
}

impl<'a> GroupPlan<'a> {
    fn skipped(group: &'a str, why: Skip) -> Self {
        Self { group, decision: Decision::Skipped { why } }
    }

    /// All lines; none for a group that is skipped.
    pub fn lines(&self) -> &[Line<'a>] {
        match &self.decision {
            Decision::Skipped { .. } => &[],
            Decision::Planned { lines, .. } => lines,
        }
    }

    /// What is to be written.
    pub fn commits(&self) -> impl Iterator<Item = Commit<'a>> {
        self.lines().iter().filter_map(|line| match line.outcome {
            Outcome::Commit { to, .. } => Some(Commit {
                topic: line.target_topic?,
                partition: line.partition,
                offset: to.offset,
                leader_epoch: to.leader_epoch,
                metadata: &line.committed.metadata,
                found: line.found,
            }),
            _ => None,
        })
    }
}

/// Plans group by group: no more than one group's lines need be held at a time.
#[derive(Debug)]
pub struct Planner<'a> {
    views: &'a Views<'a>,
    /// Source topics by target topic.
    sources: HashMap<&'a str, &'a str>,
    ledger: &'a Ledger,
    options: Options,
    now_ms: i64,
}

/// The same topic on both sides, for one group.
struct Topic<'a> {
    view: Option<&'a TopicView<'a>>,
    found: Option<&'a BTreeMap<i32, Committed>>,
    written: Option<&'a BTreeMap<i32, Written>>,
    may: Overwrite,
    refresh_ms: i64,
}

impl<'a> Planner<'a> {
    /// Plans by these views and what was written before; `now_ms` is the time of day, ms since the epoch.
    pub fn new(views: &'a Views<'a>, ledger: &'a Ledger, options: Options, now_ms: i64) -> Self {
        let sources = views.iter().map(|(topic, view)| (view.target_topic.as_str(), topic.as_str())).collect();
        Self { views, sources, ledger, options, now_ms }
    }

    /// Plans all groups of the source that `selected` names, and tells those that were written once and are gone from the
    /// source. `sources` must be all groups there: who lists only what it may see takes the others for deleted.
    pub fn all(
        &self,
        sources: &'a BTreeMap<String, SourceGroup>,
        targets: &'a BTreeMap<String, TargetGroup>,
        selected: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = GroupPlan<'a>> {
        let gone = self.ledger.groups().filter(move |group| !sources.contains_key(*group));
        let gone = gone.filter_map(move |group| targets.get_key_value(group));
        let gone = gone.map(|(group, _)| GroupPlan::skipped(group, Skip::GoneFromSource));
        let planned = sources.iter().map(move |(group, source)| match selected(group) {
            true => self.group(group, source, targets.get(group)),
            false => GroupPlan::skipped(group, Skip::NotSelected),
        });
        planned.chain(gone)
    }

    /// Plans one group. `target` is absent where the target knows no such group.
    pub fn group(&self, group: &'a str, source: &'a SourceGroup, target: Option<&'a TargetGroup>) -> GroupPlan<'a> {
        if let Some(why) = skip(source, target) {
            return GroupPlan::skipped(group, why);
        }
        let ledger = self.ledger.group(group);
        let ever_joined = target.is_some_and(|target| target.ever_joined);
        let may = match self.options.overwrite {
            Overwrite::Unused if ever_joined => Overwrite::Own,
            other => other,
        };
        let refresh_ms = self.refresh_ms(group);
        let mut lines = Vec::with_capacity(source.offsets.len());
        for (topic, committed) in source.offsets.topics() {
            let view = self.views.get(topic);
            let target_topic = view.map(|view| view.target_topic.as_str());
            let found = target_topic.and_then(|topic| target?.offsets.topic(topic));
            let written = target_topic.and_then(|topic| ledger?.topic(topic));
            let both = Topic { view, found, written, may, refresh_ms };
            lines.extend(committed.iter().map(|(partition, committed)| {
                let (found, outcome) = self.partition(&both, *partition, committed);
                Line { topic, target_topic, partition: *partition, committed, found, outcome }
            }));
        }
        let gone = target.map(|target| self.gone(&source.offsets, &target.offsets)).unwrap_or_default();
        GroupPlan { group, decision: Decision::Planned { lines, gone } }
    }

    fn partition(&self, both: &Topic<'a>, partition: i32, committed: &Committed) -> (Option<i64>, Outcome) {
        let found = both.found.and_then(|found| found.get(&partition)).filter(|found| found.offset >= 0);
        let written = both.written.and_then(|written| written.get(&partition));
        let view: Option<&View<'_>> = both.view.and_then(|view| view.partitions.get(&partition));
        let translated = match view {
            Some(view) => view.translate(committed.offset, committed.leader_epoch),
            None if committed.offset < 0 => Err(Untranslatable::NoOffset),
            None => Err(Untranslatable::NotMirrored),
        };
        let outcome = match (translated, found) {
            (Err(why), _) => Outcome::Untranslatable { why },
            (Ok(to), None) => Outcome::Commit { to, why: Why::New },
            (Ok(to), Some(found)) => self.decide(both, to, &committed.metadata, found, written),
        };
        (found.map(|found| found.offset), outcome)
    }

    /// What is done where `found` stands on the target.
    fn decide(
        &self,
        both: &Topic<'a>,
        to: Translated,
        metadata: &str,
        found: &Committed,
        written: Option<&Written>,
    ) -> Outcome {
        let why = match to.offset.cmp(&found.offset) {
            std::cmp::Ordering::Greater => Why::Forward,
            std::cmp::Ordering::Less => Why::Back,
            std::cmp::Ordering::Equal if found.metadata != metadata => Why::Metadata,
            std::cmp::Ordering::Equal => {
                let known_ms = written.filter(|written| written.offset() == Some(to.offset)).and_then(Written::at_ms);
                // A commit of unknown age, and one of the future after the clock went back, may be of any age.
                let fresh = known_ms.is_some_and(|at| (0..both.refresh_ms).contains(&self.now_ms.saturating_sub(at)));
                return if fresh || self.options.refresh_ms == i64::MAX {
                    Outcome::Unchanged { to }
                } else {
                    Outcome::Commit { to, why: Why::Refresh }
                };
            }
        };
        let may = match both.may {
            Overwrite::Own => written.is_some_and(|written| written.may_be(found.offset)),
            Overwrite::Unused => written.is_none_or(|written| written.may_be(found.offset)),
            Overwrite::All => true,
        };
        if may {
            return Outcome::Commit { to, why };
        }
        Outcome::LeftAlone { to, found: found.offset, written: written.and_then(Written::offset) }
    }

    fn gone(&self, source: &ByPartition<Committed>, target: &'a ByPartition<Committed>) -> Vec<Gone<'a>> {
        let mirrored = target.topics().filter_map(|(topic, found)| Some((topic, *self.sources.get(topic)?, found)));
        let gone = mirrored.flat_map(|(target_topic, topic, found)| {
            let committed = source.topic(topic);
            let is_gone = move |partition: &i32| committed.is_none_or(|all| !all.contains_key(partition));
            let only_there = found.iter().filter(move |(partition, _)| is_gone(partition));
            only_there.map(move |(partition, found)| Gone { target_topic, partition: *partition, found: found.offset })
        });
        gone.collect()
    }

    /// The age from which on this group's offsets are refreshed, ms.
    fn refresh_ms(&self, group: &str) -> i64 {
        let spread = (self.options.refresh_ms / SPREAD).max(1);
        self.options.refresh_ms - i64::from(crc32c::crc32c(group.as_bytes())) % spread
    }
}

fn skip(source: &SourceGroup, target: Option<&TargetGroup>) -> Option<Skip> {
    match source.kind {
        GroupType::Share => return Some(Skip::ShareGroup),
        GroupType::Unknown => return Some(Skip::UnknownType),
        GroupType::Classic | GroupType::Consumer | GroupType::Streams => {}
    }
    let target = target?;
    if !source.kind.fits(target.kind) {
        return Some(Skip::TypeDiffers { source_kind: source.kind, target_kind: target.kind });
    }
    target.live.then_some(Skip::LiveOnTarget)
}

/// How much there is to do, over many groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Totals {
    /// Groups planned.
    pub groups: u64,
    /// Groups skipped that were selected.
    pub skipped: u64,
    /// Groups not selected.
    pub not_selected: u64,
    /// Offsets to write, refreshes among them.
    pub commits: u64,
    /// Offsets written again only so that they do not expire.
    pub refreshes: u64,
    /// Offsets that stand there.
    pub unchanged: u64,
    /// Offsets of somebody else that are left alone.
    pub left_alone: u64,
    /// Committed offsets without a counterpart.
    pub untranslatable: u64,
    /// Offsets that only the target has.
    pub gone: u64,
    /// Records that groups will not find, at most: where they go on, and behind that.
    pub missing: u64,
}

impl Totals {
    /// Counts a group in.
    pub fn add(&mut self, plan: &GroupPlan<'_>) {
        match &plan.decision {
            Decision::Skipped { why: Skip::NotSelected } => self.not_selected += 1,
            Decision::Skipped { .. } => self.skipped += 1,
            Decision::Planned { lines, gone } => {
                self.groups += 1;
                self.gone += gone.len() as u64;
                lines.iter().for_each(|line| self.add_line(&line.outcome));
            }
        }
    }

    fn add_line(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Commit { to, why } => {
                self.commits += 1;
                self.refreshes += u64::from(*why == Why::Refresh);
                self.missing += to.missing + to.missing_later;
            }
            Outcome::Unchanged { to } => {
                self.unchanged += 1;
                self.missing += to.missing + to.missing_later;
            }
            Outcome::LeftAlone { .. } => self.left_alone += 1,
            Outcome::Untranslatable { .. } => self.untranslatable += 1,
        }
    }
}
