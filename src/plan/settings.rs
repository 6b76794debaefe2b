//! Topic settings at a promotion: the mirror topic gets what the source topic had, as far as it was held back or has changed
//! since the mirror topic was made.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::topics::{DECIDED, OPENED, set_for_mirroring};
use crate::mirror::{SyncKey, SyncKind, Synced};

/// They belong to the cluster that they were set on, at a promotion as well. What was mirrored is of message format v2.
const NEVER: [&str; 3] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas", "message.format.version"];
const MIN_INSYNC: &str = "min.insync.replicas";
const BY_HAND: &str = "what is here was set by hand";

/// One config of a mirror topic, as it is and as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingChange {
    /// Key.
    pub key: String,
    /// What is set on the topic now; `None` where nothing is.
    pub from: Option<String>,
    /// What is to be set; `None`: nothing, the cluster's default counts.
    pub to: Option<String>,
}

/// What a promotion makes of a topic's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct TopicSettings {
    /// Target topic.
    pub topic: String,
    /// Source topic.
    pub source_topic: String,
    /// To be applied.
    pub changes: Vec<SettingChange>,
    /// Left as they are, each with the reason.
    pub left: BTreeMap<String, String>,
}

/// What is known of a topic's settings.
#[derive(Debug, Clone, Copy)]
pub struct SettingFacts<'a> {
    /// The source topic's own configs; `None` where they were never seen.
    pub source: Option<&'a BTreeMap<String, String>>,
    /// The mirror topic's own configs.
    pub target: &'a BTreeMap<String, String>,
    /// The mirror's `target_topics.configs`: what is set there stays.
    pub overrides: &'a BTreeMap<String, String>,
    /// Topic configs that the target knows.
    pub known: &'a BTreeSet<String>,
    /// The least number of replicas of a partition of the mirror topic.
    pub replicas: usize,
    /// What the mirror has set on the topic; `None`: all of it, for nobody else has seen the topic.
    pub synced: Option<&'a Synced>,
}

impl SettingFacts<'_> {
    /// Whether somebody has set or taken away by hand what stands there.
    fn is_by_hand(&self, topic: &str, key: &str) -> bool {
        let Some(synced) = self.synced else { return false };
        let found = self.target.get(key).map(String::as_str);
        match synced.get(&SyncKey::new(SyncKind::TopicConfig, topic, key)) {
            Some(owned) => !owned.is(found),
            None => found.is_some_and(|found| set_for_mirroring(key) != Some(found)),
        }
    }
}

/// What is to change so that the topic is configured as it was on the source. Applied, nothing is left to change.
pub fn promotion_settings(source_topic: &str, topic: &str, facts: SettingFacts<'_>) -> TopicSettings {
    let mut out =
        TopicSettings { topic: topic.to_owned(), source_topic: source_topic.to_owned(), ..TopicSettings::default() };
    let Some(source) = facts.source else {
        out.left.insert("*".to_owned(), "what the source topic was configured with is not on record".to_owned());
        return out;
    };
    let stays = |key: &str| NEVER.contains(&key) || key.starts_with("remote.") || facts.overrides.contains_key(key);
    for (key, value) in source.iter().filter(|(key, _)| !stays(key)) {
        if facts.target.get(key) == Some(value) {
            continue;
        }
        let by_hand = || facts.is_by_hand(topic, key).then(|| format!("{value} on the source; {BY_HAND}"));
        match obstacle(key, value, facts).or_else(by_hand) {
            Some(why) => drop(out.left.insert(key.clone(), why)),
            None => out.changes.push(SettingChange {
                key: key.clone(),
                from: facts.target.get(key).cloned(),
                to: Some(value.clone()),
            }),
        }
    }
    // What the mirror set for its own sake and the source had not set.
    let ours = DECIDED.iter().map(|(key, _)| *key).chain(OPENED);
    for key in ours.filter(|key| !source.contains_key(*key) && !stays(key)) {
        if let Some(value) = facts.target.get(key).filter(|_| !facts.is_by_hand(topic, key)) {
            out.changes.push(SettingChange { key: key.to_owned(), from: Some(value.clone()), to: None });
        }
    }
    out
}

/// What a topic must be configured with to be mirrored to, where a promotion has configured it otherwise.
pub fn mirroring_settings(
    target: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
    known: &BTreeSet<String>,
) -> BTreeMap<String, Option<String>> {
    let wanted = super::topics::target_configs(&BTreeMap::new(), overrides, known).set;
    let differs = |(key, value): &(String, String)| known.contains(key) && target.get(key) != Some(value);
    wanted.into_iter().filter(differs).map(|(key, value)| (key, Some(value))).collect()
}

fn obstacle(key: &str, value: &str, facts: SettingFacts<'_>) -> Option<String> {
    if !facts.known.contains(key) {
        return Some(format!("{value} on the source; the target does not know this setting"));
    }
    let wanted = value.parse::<usize>().ok().filter(|_| key == MIN_INSYNC)?;
    (wanted > facts.replicas).then(|| {
        format!(
            "{value} on the source, but a partition has {} replicas here: producers with acks=all would be refused",
            facts.replicas
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Owned, SyncEntry};

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    struct Case {
        source: Option<BTreeMap<String, String>>,
        target: BTreeMap<String, String>,
        overrides: BTreeMap<String, String>,
        replicas: usize,
        synced: Synced,
    }

    fn settings(case: &Case) -> TopicSettings {
        let known = [MIN_INSYNC, "retention.ms", "compression.type", "message.timestamp.type", "cleanup.policy"]
            .map(str::to_owned)
            .into();
        let facts = SettingFacts {
            source: case.source.as_ref(),
            target: &case.target,
            overrides: &case.overrides,
            known: &known,
            replicas: case.replicas,
            synced: Some(&case.synced),
        };
        promotion_settings("s", "t", facts)
    }

    fn case(source: &[(&str, &str)], target: &[(&str, &str)]) -> Case {
        let mut synced = Synced::default();
        for (key, value) in target {
            let key = SyncKey::new(SyncKind::TopicConfig, "t", *key);
            synced.apply(&[SyncEntry { key, owned: Owned::settled(*value) }]);
        }
        Case { source: Some(map(source)), target: map(target), overrides: map(&[]), replicas: 3, synced }
    }

    fn changes(settings: &TopicSettings) -> Vec<(&str, Option<&str>)> {
        settings.changes.iter().map(|c| (c.key.as_str(), c.to.as_deref())).collect()
    }

    #[test]
    fn what_was_held_back_is_applied_and_what_the_mirror_set_is_taken_back() {
        let mut case = case(
            &[
                (MIN_INSYNC, "2"),
                ("retention.ms", "9"),
                ("compression.type", "zstd"),
                ("remote.storage.enable", "true"),
            ],
            &[("compression.type", "producer"), ("message.timestamp.type", "CreateTime"), ("retention.ms", "5")],
        );
        let settings_of = settings(&case);
        assert_eq!(
            changes(&settings_of),
            [
                ("compression.type", Some("zstd")),
                (MIN_INSYNC, Some("2")),
                ("retention.ms", Some("9")),
                ("message.timestamp.type", None)
            ]
        );
        assert!(settings_of.left.is_empty());
        // Applied, there is nothing left to do.
        for change in &settings_of.changes {
            match &change.to {
                Some(value) => drop(case.target.insert(change.key.clone(), value.clone())),
                None => drop(case.target.remove(&change.key)),
            }
            let owned = Owned { value: change.to.clone(), before: change.to.clone() };
            let key = SyncKey::new(SyncKind::TopicConfig, "t", &change.key);
            case.synced.apply(&[SyncEntry { key, owned }]);
        }
        assert_eq!(changes(&settings(&case)), []);
    }

    #[test]
    fn what_was_set_by_hand_stays_and_is_said() {
        let mut case = case(
            &[("retention.ms", "9"), ("cleanup.policy", "compact"), (MIN_INSYNC, "2")],
            &[("retention.ms", "5"), ("cleanup.policy", "delete"), ("compression.type", "producer")],
        );
        for (key, value) in [("retention.ms", "7"), ("compression.type", "lz4"), (MIN_INSYNC, "3")] {
            case.target.insert(key.to_owned(), value.to_owned());
        }
        let settings_of = settings(&case);
        assert_eq!(changes(&settings_of), [("cleanup.policy", Some("compact"))]);
        assert_eq!(settings_of.left.keys().collect::<Vec<_>>(), [MIN_INSYNC, "retention.ms"]);
        // Of a topic that nobody else has seen, all is the mirror's.
        let known = case.target.keys().chain(case.source.iter().flat_map(BTreeMap::keys)).cloned().collect();
        let facts = SettingFacts {
            source: case.source.as_ref(),
            target: &case.target,
            overrides: &case.overrides,
            known: &known,
            replicas: 3,
            synced: None,
        };
        assert_eq!(promotion_settings("s", "t", facts).changes.len(), 4);
    }

    #[test]
    fn a_promoted_topic_is_made_fit_for_mirroring_again() {
        let known: BTreeSet<String> =
            ["compression.type", "message.timestamp.type", "retention.ms"].map(str::to_owned).into();
        let promoted = map(&[("compression.type", "zstd"), ("retention.ms", "9")]);
        let changes = mirroring_settings(&promoted, &map(&[]), &known);
        let expected = [("compression.type", "producer"), ("message.timestamp.type", "CreateTime")];
        assert_eq!(changes, expected.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).into());
        let fit = map(&[("compression.type", "producer"), ("message.timestamp.type", "CreateTime")]);
        assert!(mirroring_settings(&fit, &map(&[]), &known).is_empty());
    }

    #[test]
    fn what_the_configuration_says_of_the_target_stays() {
        let mut case = case(&[("retention.ms", "9")], &[("retention.ms", "5"), ("compression.type", "producer")]);
        case.overrides = map(&[("retention.ms", "5"), ("compression.type", "producer")]);
        assert_eq!(changes(&settings(&case)), []);
    }

    #[test]
    fn what_would_stop_producers_or_is_unknown_is_left_and_said() {
        let mut case = case(&[(MIN_INSYNC, "2"), ("from.the.future", "1")], &[]);
        case.replicas = 1;
        let settings = settings(&case);
        assert_eq!(changes(&settings), []);
        assert_eq!(settings.left.keys().collect::<Vec<_>>(), ["from.the.future", MIN_INSYNC]);
    }

    #[test]
    fn without_a_record_of_the_source_nothing_is_touched() {
        let mut case = case(&[], &[("compression.type", "producer")]);
        case.source = None;
        let settings = settings(&case);
        assert!(settings.changes.is_empty() && settings.left.contains_key("*"));
    }
}
