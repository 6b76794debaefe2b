//! What follows the source beside records: topic configs, partition counts, ACLs, client quotas, deletions of topics; and the
//! users that only their owner can bring. Each plan says what is to be set and taken away, and what is left alone and why.

mod acls;
mod configs;
mod deletions;
mod quotas;

use schemars::JsonSchema;
use serde::Serialize;

use super::ownership::Verdict;
use super::topics::set_for_mirroring;
use crate::mirror::{Owned, SyncEntry, SyncKey, SyncKind, Synced};

pub use acls::{AclSyncScope, acl_of, held_back_acls, plan_acl_sync};
pub use configs::{TopicConfigs, plan_partitions, plan_topic_configs};
pub use deletions::{DeletionTerms, GoneTopic, plan_deletions};
pub use quotas::{entity_of, plan_quota_sync, plan_user_sync};

/// What is to be done about one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncAction {
    /// It is set on the target.
    Set,
    /// It is taken away from the target.
    Remove,
    /// It is set when the target is promoted.
    HeldBack,
    /// It waits for its time.
    Pending,
    /// The target's stays as it is.
    LeftAlone,
    /// It does not follow the source.
    LeftOut,
    /// Somebody has to do it.
    ByHand,
}

impl std::fmt::Display for SyncAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Remove => "remove",
            Self::HeldBack => "held back",
            Self::Pending => "pending",
            Self::LeftAlone => "left alone",
            Self::LeftOut => "left out",
            Self::ByHand => "by hand",
        })
    }
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SyncRow {
    /// What kind of thing.
    pub kind: SyncKind,
    /// What it is, in words.
    pub object: String,
    /// What the target has; `null`: nothing.
    pub from: Option<String>,
    /// What the source has, or the file says; `null`: nothing.
    pub to: Option<String>,
    /// What is to be done.
    pub action: SyncAction,
    /// Why.
    pub reason: Option<String>,
    /// What the mirror remembers it by.
    #[serde(skip)]
    #[schemars(skip)]
    pub of: SyncKey,
}

/// The plan of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct SyncPlan {
    /// What is not as on the source.
    pub rows: Vec<SyncRow>,
    /// What is there as it should be.
    pub in_step: usize,
    /// What could not be looked at, and why.
    pub unavailable: Vec<String>,
    /// What should be known.
    pub warnings: Vec<String>,
    /// To be remembered, whatever becomes of the rest.
    #[serde(skip)]
    #[schemars(skip)]
    pub notes: Vec<SyncEntry>,
}

impl SyncPlan {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.in_step += other.in_step;
        self.unavailable.extend(other.unavailable);
        self.warnings.extend(other.warnings);
        self.notes.extend(other.notes);
    }

    /// Nothing could be looked at.
    #[must_use]
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self { unavailable: vec![why.into()], ..Self::default() }
    }

    /// Lines that change the target.
    pub fn changes(&self) -> impl Iterator<Item = &SyncRow> {
        self.rows.iter().filter(|row| matches!(row.action, SyncAction::Set | SyncAction::Remove))
    }

    /// How many lines say this.
    #[must_use]
    pub fn count(&self, action: SyncAction) -> usize {
        self.rows.iter().filter(|row| row.action == action).count()
    }

    fn note(&mut self, key: &SyncKey, owned: Owned) {
        self.notes.push(SyncEntry { key: key.clone(), owned });
    }

    /// Weighs one value of which the source has `to`, and the target `from`.
    fn weigh(&mut self, of: SyncKey, object: String, (from, to): (Option<&str>, Option<&str>), how: &Weighing<'_>) {
        let verdict = super::ownership::verdict(how.owned(&of).as_ref(), to, from, how.take_over);
        let reason = match verdict {
            Verdict::ByHand => Some("set on the target by hand"),
            Verdict::TakenAway => Some("taken away on the target by hand"),
            _ => None,
        };
        let action = match verdict {
            Verdict::Nothing | Verdict::Settled | Verdict::Forget => {
                match (verdict, from) {
                    (Verdict::Forget, _) => self.note(&of, Owned::default()),
                    (Verdict::Settled, Some(from)) => self.note(&of, Owned::settled(from)),
                    _ => {}
                }
                self.in_step += usize::from(to.is_some());
                return;
            }
            Verdict::Set => SyncAction::Set,
            Verdict::Remove => SyncAction::Remove,
            Verdict::ByHand | Verdict::TakenAway => SyncAction::LeftAlone,
        };
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        self.rows.push(SyncRow { kind: of.kind, object, from, to, action, reason: reason.map(str::to_owned), of });
    }
}

/// What every plan weighs by.
#[derive(Debug, Clone, Copy)]
pub struct Weighing<'a> {
    /// What the mirror has set.
    pub synced: &'a Synced,
    /// What was set by hand becomes the mirror's.
    pub take_over: bool,
}

impl Weighing<'_> {
    /// What the mirror has set of this. What it sets for its own sake on topics that it makes is not on record by itself.
    fn owned(&self, of: &SyncKey) -> Option<Owned> {
        let made = || self.synced.get(&SyncKey::new(SyncKind::Topic, &of.of, "")).is_some();
        let by_making = || set_for_mirroring(&of.key).filter(|_| of.kind == SyncKind::TopicConfig && made());
        self.synced.get(of).cloned().or_else(|| by_making().map(Owned::settled))
    }
}
