//! The control partition: what is said to the mirror as a whole. Records wear the envelope of [`super::codec`] with
//! type 64; the body is JSON, for these records are few and grow fields. First by offset wins.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::GapReason;
use super::StateError;
use super::codec::{seal, unseal, words};
use super::synced::{ENTRIES_AT_ONCE, SyncEntry, Synced};

const KIND: u8 = 64;

/// What a pause or a resume is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole mirror.
    All,
    /// One partition, by its source topic.
    Partition {
        /// Source topic.
        topic: String,
        /// Partition number.
        partition: i32,
    },
}

/// What a command has said of the mirror's bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bandwidth {
    /// Nothing: the configuration file counts.
    #[default]
    File,
    /// No limit, whatever the file says.
    Unlimited,
    /// This limit, whatever the file says.
    BytesPerS(u64),
}

impl Bandwidth {
    /// The limit in force where the file has this one; `None`: unlimited.
    pub fn limit_bytes_per_s(self, file: Option<u64>) -> Option<u64> {
        match self {
            Self::File => file,
            Self::Unlimited => None,
            Self::BytesPerS(limit) => Some(limit),
        }
    }

    /// Where that comes from, in a word: `command` or `file`.
    pub fn origin(self) -> &'static str {
        if self == Self::File { "file" } else { "command" }
    }
}

/// A life of the mirror: from its making, or from a promotion, to the next promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts from 1.
    pub generation: u32,
    /// Shards, fixed for the generation.
    pub shards: u32,
    /// Source cluster id.
    pub source_cluster_id: String,
    /// Target cluster id.
    pub target_cluster_id: String,
    /// Mirror name.
    pub mirror: String,
    /// When it began, ms.
    pub created_ms: i64,
    /// Of a mirror on the way home: the generation, ended by a promotion, of the mirror that it leads back to the start of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_of: Option<u32>,
}

/// A record of the control partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlRecord {
    /// A generation begins. The first record of its number counts, whoever wrote it.
    Generation(Generation),
    /// Stop moving data.
    Pause {
        /// Of what.
        scope: Scope,
        /// When it was said, ms.
        at_ms: i64,
    },
    /// Go on: ends a pause, and of a partition that is named a halt.
    Resume {
        /// What goes on.
        scope: Scope,
        /// Source offsets that may be left out, half-open.
        accept_loss: Option<(i64, i64)>,
        /// When it was said, ms.
        at_ms: i64,
    },
    /// Another bandwidth limit.
    Bandwidth {
        /// Which.
        limit: Bandwidth,
        /// When it was said, ms.
        at_ms: i64,
    },
    /// The target is about to be promoted: nobody produces to it from here on.
    PromotionIntent(Promotion),
    /// A step of the promotion is through, or begins where that matters.
    PromotionStep(PromotionStep),
    /// The promotion is through.
    PromotionDone(Promotion),
    /// The promotion was called off.
    PromotionCancelled(Promotion),
    /// What the target of a mirror on the way home has alone: the mirror goes on behind it.
    Divergent {
        /// Target topic.
        topic: String,
        /// Partition number.
        partition: i32,
        /// First target offset.
        from: i64,
        /// Target offset after the last.
        to: i64,
    },
    /// What the old source has alone is about to be appended to a topic of the target: what stands behind these offsets may be of
    /// that. The first of a topic counts.
    Replay {
        /// Topic of the target.
        into: String,
        /// Its id.
        topic_id: uuid::Uuid,
        /// Where each of its partitions ended.
        ends: Vec<i64>,
        /// When it was said, ms.
        at_ms: i64,
    },
    /// A sign of life.
    Heartbeat {
        /// When, ms.
        at_ms: i64,
    },
    /// Everybody is denied to write to these source topics, by ACL; or not any more.
    SourceFenced {
        /// Source topics.
        topics: Vec<String>,
        /// Denied, or allowed again.
        is_fenced: bool,
        /// When it was said, ms.
        at_ms: i64,
    },
    /// What a source topic is configured with of its own. A promotion applies what was held back, and the source may be gone
    /// by then.
    SourceConfigs {
        /// Source topic.
        topic: String,
        /// Its own (non-default) configs.
        configs: BTreeMap<String, String>,
        /// When they were read, ms.
        at_ms: i64,
    },
    /// What the mirror sets on the target beside records, noted before it is set.
    Synced {
        /// What.
        entries: Vec<SyncEntry>,
        /// When it was said, ms.
        at_ms: i64,
    },
}

impl ControlRecord {
    /// Records of these entries, none of them too large.
    pub fn synced(entries: &[SyncEntry], at_ms: i64) -> Vec<Self> {
        let portions = entries.chunks(ENTRIES_AT_ONCE);
        portions.map(|entries| Self::Synced { entries: entries.to_vec(), at_ms }).collect()
    }
}

/// A promotion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Promotion {
    /// The generation that it ends.
    pub generation: u32,
    /// When it was said, ms.
    pub at_ms: i64,
    /// Of which kind it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PromotionMode>,
    /// When the operator said yes to it, ms: what the recovery time is counted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
}

/// How a promotion comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromotionMode {
    /// The source is there: its writers have stopped, and all that it holds was mirrored first.
    Planned,
    /// It is gone, or is left as it is.
    Unplanned,
}

impl std::fmt::Display for PromotionMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Planned { "planned" } else { "unplanned" })
    }
}

/// The steps of a promotion, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionPhase {
    /// Nobody of before writes to the target any more, and where its data ends is on record.
    Fenced,
    /// Consumer groups are translated.
    Groups,
    /// Topic settings are about to be changed: from here on the mirror cannot simply go on.
    SettingsBegun,
    /// Topic settings that were held back are applied.
    Settings,
    /// ACLs that were held back are created.
    Acls,
    /// One of a newer kmirror.
    #[serde(other)]
    Unknown,
}

/// A step of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionStep {
    /// The generation that the promotion ends.
    pub generation: u32,
    /// Which step.
    pub phase: PromotionPhase,
    /// When it was through, ms.
    pub at_ms: i64,
    /// Partitions that could not be fenced, or settled: they are left for the next call, as far as another one can help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfenced: Vec<Unfenced>,
}

/// A partition that could not be fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfenced {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number.
    pub partition: i32,
    /// Why, in a word.
    pub reason: UnfencedReason,
    /// In more words.
    pub detail: String,
}

/// Why a partition could not be fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnfencedReason {
    /// Its target topic is gone: there is nothing to write to.
    Missing,
    /// Its target topic was deleted and made again: there is nothing of ours in it.
    Recreated,
    /// It has no leader that answers.
    Leaderless,
    /// A right is missing.
    Unauthorised,
    /// The coordinator had forgotten the producer id that wrote to it, and markers without a coordinator were refused.
    Forgotten,
    /// It is fenced, but where its data ends could not be established.
    InDoubt,
    /// Anything else.
    #[serde(other)]
    Refused,
}

impl UnfencedReason {
    /// Whether an older process could still write there, once it is there again.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Missing | Self::Recreated | Self::InDoubt)
    }
}

impl std::fmt::Display for UnfencedReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Recreated => "recreated",
            Self::Leaderless => "leaderless",
            Self::Unauthorised => "unauthorised",
            Self::Forgotten => "forgotten",
            Self::InDoubt => "in_doubt",
            Self::Refused => "refused",
        })
    }
}

/// The sum of the control records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControlState {
    generation: Option<Generation>,
    paused_all: bool,
    /// Partitions that differ from the mirror as a whole since the last word about all.
    paused: BTreeMap<(String, i32), bool>,
    resumes: BTreeMap<(String, i32), u64>,
    accepted: BTreeMap<(String, i32), Vec<(i64, i64)>>,
    divergent: BTreeMap<(String, i32), Vec<(i64, i64)>>,
    /// Those of this generation.
    new_divergent: BTreeMap<(String, i32), (i64, i64)>,
    replays: BTreeMap<uuid::Uuid, Vec<i64>>,
    promotion: Option<Promotion>,
    done: Option<Promotion>,
    steps: BTreeMap<PromotionPhase, PromotionStep>,
    source_configs: BTreeMap<String, BTreeMap<String, String>>,
    source_fenced: BTreeSet<String>,
    bandwidth: Bandwidth,
    synced: Synced,
}

impl ControlState {
    /// Adds the next record.
    pub fn apply(&mut self, record: &ControlRecord) {
        match record {
            ControlRecord::Generation(new)
                if self.generation.as_ref().is_none_or(|old| old.generation.checked_add(1) == Some(new.generation)) =>
            {
                self.generation = Some(new.clone());
                self.forget_promotion();
                self.new_divergent.clear();
                self.replays.clear();
            }
            ControlRecord::Pause { scope, .. } => self.set_paused(scope, true),
            ControlRecord::Resume { scope, accept_loss, .. } => {
                self.set_paused(scope, false);
                self.count_resume(scope, *accept_loss);
            }
            ControlRecord::Bandwidth { limit, .. } => self.bandwidth = *limit,
            ControlRecord::PromotionIntent(promotion) if self.is_present(promotion) && self.promotion.is_none() => {
                self.promotion = Some(promotion.clone());
            }
            // One that is through is ended by a new generation only: the target has a life of its own.
            ControlRecord::PromotionCancelled(promotion) if self.is_present(promotion) && self.done.is_none() => {
                self.forget_promotion();
            }
            ControlRecord::PromotionStep(step) if self.is_of_promotion(step.generation) => {
                self.steps.insert(step.phase, step.clone());
            }
            ControlRecord::PromotionDone(promotion) if self.is_of_promotion(promotion.generation) => {
                self.done.get_or_insert_with(|| promotion.clone());
            }
            ControlRecord::SourceFenced { topics, is_fenced: true, .. } => {
                self.source_fenced.extend(topics.iter().cloned());
            }
            ControlRecord::SourceFenced { topics, .. } => self.source_fenced.retain(|topic| !topics.contains(topic)),
            ControlRecord::Divergent { topic, partition, from, to } => {
                self.divergent.entry((topic.clone(), *partition)).or_default().push((*from, *to));
                self.new_divergent.insert((topic.clone(), *partition), (*from, *to));
            }
            ControlRecord::Replay { topic_id, ends, .. } => {
                self.replays.entry(*topic_id).or_insert_with(|| ends.clone());
            }
            ControlRecord::SourceConfigs { topic, configs, .. } => {
                self.source_configs.insert(topic.clone(), configs.clone());
            }
            ControlRecord::Synced { entries, .. } => self.synced.apply(entries),
            _ => {}
        }
    }

    fn is_present(&self, promotion: &Promotion) -> bool {
        self.generation.as_ref().is_some_and(|g| g.generation == promotion.generation)
    }

    fn is_of_promotion(&self, generation: u32) -> bool {
        self.promotion.as_ref().is_some_and(|promotion| promotion.generation == generation)
    }

    fn forget_promotion(&mut self) {
        (self.promotion, self.done) = (None, None);
        self.steps.clear();
    }

    fn set_paused(&mut self, scope: &Scope, paused: bool) {
        match scope {
            Scope::All => {
                self.paused_all = paused;
                self.paused.clear();
            }
            Scope::Partition { topic, partition } => {
                self.paused.insert((topic.clone(), *partition), paused);
            }
        }
    }

    fn count_resume(&mut self, scope: &Scope, accept_loss: Option<(i64, i64)>) {
        let Scope::Partition { topic, partition } = scope else {
            return;
        };
        let key = (topic.clone(), *partition);
        *self.resumes.entry(key.clone()).or_default() += 1;
        if let Some(range) = accept_loss {
            self.accepted.entry(key).or_default().push(range);
        }
    }

    /// The generation in force.
    pub fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// Whether the mirror as a whole is paused.
    pub fn is_all_paused(&self) -> bool {
        self.paused_all
    }

    /// Whether this partition is paused, by itself or with all.
    pub fn is_paused(&self, topic: &str, partition: i32) -> bool {
        self.paused.get(&(topic.to_owned(), partition)).copied().unwrap_or(self.paused_all)
    }

    /// How often this partition was told to go on, by name: a number that grows ends a halt. A word to the whole mirror ends
    /// a pause only, for nobody has looked at each halt then.
    pub fn resumes(&self, topic: &str, partition: i32) -> u64 {
        self.resumes.get(&(topic.to_owned(), partition)).copied().unwrap_or(0)
    }

    /// Every source range of the partition that may be left out.
    pub fn accepted_ranges(&self, topic: &str, partition: i32) -> &[(i64, i64)] {
        self.accepted.get(&(topic.to_owned(), partition)).map_or(&[], Vec::as_slice)
    }

    /// Whether source offsets `[from, to)` may be left out: the accepted range that covers them all.
    pub fn accepted(&self, topic: &str, partition: i32, from: i64, to: i64) -> Option<((i64, i64), GapReason)> {
        let range = self.accepted_ranges(topic, partition).iter().find(|(start, end)| *start <= from && to <= *end)?;
        Some((*range, GapReason::Accepted))
    }

    /// Ranges of a target partition that are known to be there alone.
    pub fn divergent(&self, topic: &str, partition: i32) -> &[(i64, i64)] {
        self.divergent.get(&(topic.to_owned(), partition)).map_or(&[], Vec::as_slice)
    }

    /// What the target had alone when this generation began: topic, partition, range.
    pub fn new_divergent(&self) -> impl Iterator<Item = (&str, i32, (i64, i64))> {
        self.new_divergent.iter().map(|((topic, partition), range)| (topic.as_str(), *partition, *range))
    }

    /// Where the partitions of a topic of the target ended before anything was replayed into it.
    pub fn replay_began(&self, topic_id: uuid::Uuid) -> Option<&[i64]> {
        self.replays.get(&topic_id).map(Vec::as_slice)
    }

    /// The last word on bandwidth.
    pub fn bandwidth(&self) -> Bandwidth {
        self.bandwidth
    }

    /// A promotion that was announced and not called off.
    pub fn standing_promotion(&self) -> Option<&Promotion> {
        self.promotion.as_ref()
    }

    /// The end of the promotion that stands, where it is through.
    pub fn promotion_done(&self) -> Option<&Promotion> {
        self.done.as_ref()
    }

    /// A step of the promotion that stands, where it is through.
    pub fn promotion_step(&self, phase: PromotionPhase) -> Option<&PromotionStep> {
        self.steps.get(&phase)
    }

    /// Source topics that everybody is denied to write to by an ACL of ours.
    pub fn source_fenced(&self) -> &BTreeSet<String> {
        &self.source_fenced
    }

    /// What a source topic was last seen configured with of its own.
    pub fn source_configs(&self, topic: &str) -> Option<&BTreeMap<String, String>> {
        self.source_configs.get(topic)
    }

    /// What the mirror has set on the target beside records.
    pub fn synced(&self) -> &Synced {
        &self.synced
    }
}

/// A control record as the value of a Kafka record.
pub fn encode_control(record: &ControlRecord) -> Bytes {
    // Names, numbers and texts: writing them as JSON cannot fail.
    seal(KIND, &serde_json::to_vec(record).unwrap_or_default())
}

/// Reads the value of a Kafka record in the control partition.
pub fn decode_control(bytes: &[u8]) -> Result<ControlRecord, StateError> {
    let (kind, body) = unseal(bytes)?;
    if kind != KIND {
        return Err(StateError::Type { kind });
    }
    words(body, "a control record")
}
