//! Topic configs and partition counts.

use std::collections::{BTreeMap, BTreeSet};

use super::super::topics::{TopicAction, TopicShape, target_configs, topic_action};
use super::{SyncAction, SyncPlan, SyncRow, Weighing};
use crate::mirror::{SyncKey, SyncKind};

/// A mirrored topic's own configs on both sides.
#[derive(Debug, Clone, Copy)]
pub struct TopicConfigs<'a> {
    /// Target topic.
    pub topic: &'a str,
    /// On the source.
    pub source: &'a BTreeMap<String, String>,
    /// On the target.
    pub target: &'a BTreeMap<String, String>,
}

/// What is to be set on the target's topics. `overrides` are the mirror's `target_topics.configs`, `known` the topic configs
/// that the target knows.
#[must_use]
pub fn plan_topic_configs(
    topics: &[TopicConfigs<'_>],
    overrides: &BTreeMap<String, String>,
    known: &BTreeSet<String>,
    how: &Weighing<'_>,
) -> SyncPlan {
    let mut plan = SyncPlan::default();
    for facts in topics {
        let wanted = target_configs(facts.source, overrides, known).set;
        let owned = how.synced.of(SyncKind::TopicConfig, facts.topic).map(|(key, _)| key.key.clone());
        let keys: BTreeSet<String> = wanted.keys().cloned().chain(owned).collect();
        for key in keys {
            let (from, to) = (facts.target.get(&key), wanted.get(&key));
            let object = format!("{key} of topic {}", facts.topic);
            let of = SyncKey::new(SyncKind::TopicConfig, facts.topic, key);
            plan.weigh(of, object, (from.map(String::as_str), to.map(String::as_str)), how);
        }
    }
    plan
}

/// Which topics are to grow. Records of a partition that is not there would have no place: so it is of no account who has made the
/// topic, and a topic that has more partitions than the source keeps them.
#[must_use]
pub fn plan_partitions(topics: &[(TopicShape, TopicShape)]) -> SyncPlan {
    let mut plan = SyncPlan::default();
    for (source, target) in topics {
        let Some(TopicAction::Grow { topic, from, to }) = topic_action(source, &target.name, Some(target)) else {
            plan.in_step += 1;
            continue;
        };
        plan.rows.push(SyncRow {
            kind: SyncKind::Partitions,
            object: format!("partitions of topic {topic}"),
            from: Some(from.to_string()),
            to: Some(to.to_string()),
            action: SyncAction::Set,
            reason: None,
            of: SyncKey::new(SyncKind::Partitions, topic, ""),
        });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Owned, SyncEntry, Synced};

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_the_mirror_has_set_follows_and_what_was_set_by_hand_stays() {
        let mut synced = Synced::default();
        for (key, value) in [("retention.ms", "5"), ("segment.ms", "1"), ("cleanup.policy", "compact")] {
            let key = SyncKey::new(SyncKind::TopicConfig, "t", key);
            synced.apply(&[SyncEntry { key, owned: Owned::settled(value) }]);
        }
        let source =
            map(&[("retention.ms", "9"), ("segment.ms", "2"), ("retention.bytes", "7"), ("min.insync.replicas", "2")]);
        let decided = [("compression.type", "producer"), ("message.timestamp.type", "CreateTime")];
        let target = map(&[
            &[("retention.ms", "5"), ("segment.ms", "3"), ("cleanup.policy", "compact"), ("max.message.bytes", "4")],
            &decided[..],
        ]
        .concat());
        let known = source.keys().chain(target.keys()).cloned().collect();
        let topics = [TopicConfigs { topic: "t", source: &source, target: &target }];
        let how = Weighing { synced: &synced, take_over: false };
        let plan = plan_topic_configs(&topics, &map(&[]), &known, &how);
        let rows: Vec<_> = plan.rows.iter().map(|row| (row.of.key.as_str(), row.action, row.to.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("cleanup.policy", SyncAction::Remove, None),
                ("retention.bytes", SyncAction::Set, Some("7")),
                ("retention.ms", SyncAction::Set, Some("9")),
                ("segment.ms", SyncAction::LeftAlone, Some("2")),
            ]
        );
        assert_eq!(plan.in_step, 2, "those that the mirror decides");
        let taken = plan_topic_configs(&topics, &map(&[]), &known, &Weighing { take_over: true, ..how });
        assert!(taken.rows.iter().all(|row| row.action != SyncAction::LeftAlone), "{taken:?}");
    }

    #[test]
    fn partitions_only_grow() {
        let shape = |partitions| TopicShape { name: "t".to_owned(), partitions };
        let plan = plan_partitions(&[(shape(6), shape(4)), (shape(6), shape(9))]);
        assert_eq!((plan.rows.len(), plan.in_step), (1, 1));
        assert_eq!((plan.rows[0].from.as_deref(), plan.rows[0].to.as_deref()), (Some("4"), Some("6")));
    }
}
