//! Topics that are gone from the source, and are to be deleted on the target once nobody can have meant otherwise.

use super::super::time::rfc3339 as at;
use super::{SyncAction, SyncPlan, SyncRow, Weighing};
use crate::mirror::{Owned, SyncKey, SyncKind};

/// A mirrored topic that the source does not list any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneTopic {
    /// Source topic.
    pub source_topic: String,
    /// Target topic.
    pub topic: String,
    /// Its id, by what the mirror has written to it under.
    pub topic_id: String,
    /// Its id now; `None`: it is not there.
    pub found_id: Option<String>,
    /// Why it may be there all the same: not every broker of the source has said that there is no such topic.
    pub doubt: Option<String>,
}

/// When a topic may be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeletionTerms {
    /// `sync.deletions`.
    pub is_enabled: bool,
    /// How long a topic must be gone, ms.
    pub grace_ms: i64,
    /// Now, ms since the epoch.
    pub now_ms: i64,
    /// Topics that the source lists, mirrored or not.
    pub topics_there: usize,
}

/// What is to be deleted, and what waits.
#[must_use]
pub fn plan_deletions(gone: &[GoneTopic], terms: DeletionTerms, how: &Weighing<'_>) -> SyncPlan {
    let mut plan = SyncPlan::default();
    let is_gone = |key: &SyncKey| gone.iter().any(|topic| topic.topic == key.of && topic.topic_id == key.key);
    for (key, _) in how.synced.of_kind(SyncKind::Deletion) {
        let is_in_doubt = gone.iter().any(|topic| topic.topic == key.of && topic.doubt.is_some());
        if !is_gone(key) || is_in_doubt || !terms.is_enabled {
            plan.note(key, Owned::default());
        }
    }
    for topic in gone.iter().filter(|topic| topic.found_id.is_some()) {
        let of = SyncKey::new(SyncKind::Deletion, &topic.topic, &topic.topic_id);
        let obstacle = obstacle(topic, terms, how);
        let since = how.synced.get(&of).and_then(|owned| owned.value.as_deref()?.parse::<i64>().ok());
        let (action, reason) = match (obstacle, since) {
            (Some(why), _) => (SyncAction::LeftAlone, why),
            (None, Some(since)) if terms.now_ms.saturating_sub(since) >= terms.grace_ms => {
                (SyncAction::Remove, format!("{} is gone from the source since {}", topic.source_topic, at(since)))
            }
            (None, since) => {
                if since.is_none() {
                    plan.note(&of, Owned::settled(terms.now_ms.to_string()));
                }
                let due = since.unwrap_or(terms.now_ms).saturating_add(terms.grace_ms);
                (SyncAction::Pending, format!("{} is gone from the source; deleted at {}", topic.source_topic, at(due)))
            }
        };
        plan.rows.push(SyncRow {
            kind: SyncKind::Deletion,
            object: format!("topic {}", topic.topic),
            from: topic.found_id.clone(),
            to: None,
            action,
            reason: Some(reason),
            of,
        });
    }
    plan
}

fn obstacle(topic: &GoneTopic, terms: DeletionTerms, how: &Weighing<'_>) -> Option<String> {
    let made = how.synced.get(&SyncKey::new(SyncKind::Topic, &topic.topic, ""));
    let source = &topic.source_topic;
    if let Some(doubt) = &topic.doubt {
        return Some(format!("{source} may only be hidden: {doubt}"));
    }
    if topic.found_id.as_ref() != Some(&topic.topic_id) {
        return Some("it was deleted and made again on the target: it is not the mirror's".to_owned());
    }
    if !made.is_some_and(|made| made.is(Some(&topic.topic_id))) {
        return Some(format!("{source} is gone from the source, but the mirror has not made this topic"));
    }
    if terms.topics_there == 0 {
        return Some("the source lists no topic at all: nothing is deleted while it seems to be empty".to_owned());
    }
    (!terms.is_enabled).then(|| format!("{source} is gone from the source; sync.deletions is off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{SyncEntry, Synced};

    const GRACE_MS: i64 = 1_000;

    fn gone() -> GoneTopic {
        GoneTopic {
            source_topic: "s".into(),
            topic: "t".into(),
            topic_id: "id".into(),
            found_id: Some("id".into()),
            doubt: None,
        }
    }

    fn terms(now_ms: i64) -> DeletionTerms {
        DeletionTerms { is_enabled: true, grace_ms: GRACE_MS, now_ms, topics_there: 1 }
    }

    fn made() -> Synced {
        let mut synced = Synced::default();
        let key = SyncKey::new(SyncKind::Topic, "t", "");
        synced.apply(&[SyncEntry { key, owned: Owned::settled("id") }]);
        synced
    }

    fn planned(synced: &Synced, topic: GoneTopic, terms: DeletionTerms) -> (Option<SyncAction>, SyncPlan) {
        let plan = plan_deletions(&[topic], terms, &Weighing { synced, take_over: false });
        (plan.rows.first().map(|row| row.action), plan)
    }

    #[test]
    fn it_waits_for_its_time() {
        let mut synced = made();
        let (action, plan) = planned(&synced, gone(), terms(5));
        assert_eq!(action, Some(SyncAction::Pending));
        synced.apply(&plan.notes);
        let (action, plan) = planned(&synced, gone(), terms(5 + GRACE_MS - 1));
        assert_eq!((action, plan.notes.len()), (Some(SyncAction::Pending), 0));
        assert_eq!(planned(&synced, gone(), terms(5 + GRACE_MS)).0, Some(SyncAction::Remove));
        // Seen again in between: it begins anew.
        let back = plan_deletions(&[], terms(9), &Weighing { synced: &synced, take_over: false });
        synced.apply(&back.notes);
        assert_eq!(planned(&synced, gone(), terms(5 + GRACE_MS)).0, Some(SyncAction::Pending));
    }

    #[test]
    fn in_doubt_nothing_is_deleted() {
        let mut synced = made();
        let key = SyncKey::new(SyncKind::Deletion, "t", "id");
        synced.apply(&[SyncEntry { key, owned: Owned::settled("0") }]);
        let late = terms(100 * GRACE_MS);
        assert_eq!(planned(&synced, gone(), late).0, Some(SyncAction::Remove), "else it would be");
        let hidden = GoneTopic { doubt: Some("TOPIC_AUTHORIZATION_FAILED".into()), ..gone() };
        let (action, plan) = planned(&synced, hidden, late);
        assert_eq!((action, plan.notes.len()), (Some(SyncAction::LeftAlone), 1), "and its time begins anew");
        let again = GoneTopic { found_id: Some("other".into()), ..gone() };
        assert_eq!(planned(&synced, again, late).0, Some(SyncAction::LeftAlone));
        let empty = DeletionTerms { topics_there: 0, ..late };
        assert_eq!(planned(&synced, gone(), empty).0, Some(SyncAction::LeftAlone));
        let off = DeletionTerms { is_enabled: false, ..late };
        assert_eq!(planned(&synced, gone(), off).0, Some(SyncAction::LeftAlone));
        let by_hand = Synced::default();
        assert_eq!(planned(&by_hand, gone(), late).0, Some(SyncAction::LeftAlone));
        assert_eq!(planned(&synced, GoneTopic { found_id: None, ..gone() }, late).0, None, "it is gone there as well");
    }
}
