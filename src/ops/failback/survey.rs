//! What the old source has come back as, partition by partition.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Cluster, TopicPartition};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::shard::target_of;
use crate::mirror::{GapReason, Isolation, MapError, OffsetMap, PartitionState};

use super::super::MirrorState;
use super::parting::{Found, Parting, Sides};
use super::seed::{Seed, partitions_of};
use super::tail::{TailRange, count};
use super::{CameBack, Ends, FailbackPartition, newest, source_of, unexpected};

/// Partitions looked at side by side.
const AT_ONCE: usize = 8;

/// A partition with all that is known of it; without a seed it begins as any that is new, or is left out.
pub(super) struct Way {
    pub(super) report: FailbackPartition,
    pub(super) seed: Option<Seed>,
}

/// Looks at every partition that was mirrored.
pub(super) async fn ways(mirror: &MirrorConfig, ends: Ends<'_>) -> Result<Vec<Way>, EngineError> {
    let state = MirrorState::read(&mirror.name, ends.standby).await?.unwrap_or_default();
    let mut questions = questions(&state, ends).await?.into_iter();
    let mut out = Vec::new();
    let mut looks = tokio::task::JoinSet::new();
    loop {
        while looks.len() < AT_ONCE {
            let Some(question) = questions.next() else { break };
            let (old, standby, isolation) = (ends.old.clone(), ends.standby.clone(), mirror.isolation);
            looks.spawn(async move { question.answer(Ends { old: &old, standby: &standby }, isolation).await });
        }
        let Some(done) = looks.join_next().await else { return Ok(out) };
        out.push(done.map_err(|error| unexpected(mirror, &error))??);
    }
}

/// What is known of a partition before its logs are read.
struct Question {
    map: OffsetMap,
    /// End on the standby of what the mirror wrote.
    end: i64,
    /// Both sides as they were mirrored, the old source first.
    recorded: (TopicPartition, TopicPartition),
    /// As they are now.
    old: Option<TopicPartition>,
    standby: Option<TopicPartition>,
    unsettled: bool,
}

async fn questions(state: &MirrorState, ends: Ends<'_>) -> Result<Vec<Question>, EngineError> {
    let unsettled: BTreeSet<TopicPartition> = state.unsettled().map(target_of).collect();
    let known: Vec<&PartitionState> = newest(state).collect();
    let names = |name: fn(&PartitionState) -> &str| -> Vec<&str> {
        known.iter().map(|partition| name(partition)).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let old = partitions_of(ends.old, &names(|partition| &partition.declared.source_topic)).await?;
    let standby = partitions_of(ends.standby, &names(|partition| &partition.declared.target_topic)).await?;
    let now = |found: &BTreeMap<(String, i32), TopicPartition>, tp: &TopicPartition| {
        found.get(&(tp.topic.clone(), tp.partition)).cloned()
    };
    let question = |partition: &&PartitionState| {
        let recorded = (source_of(partition), target_of(partition));
        Question {
            map: partition.map.clone(),
            end: partition.end.unwrap_or(0),
            old: now(&old, &recorded.0),
            standby: now(&standby, &recorded.1),
            unsettled: unsettled.contains(&recorded.1),
            recorded,
        }
    };
    Ok(known.iter().map(question).collect())
}

impl Question {
    async fn answer(self, ends: Ends<'_>, isolation: Isolation) -> Result<Way, EngineError> {
        let standby = match self.standby() {
            Ok(standby) => standby,
            Err(why) => return Ok(self.left_out(why)),
        };
        let standby_bounds = bounds(ends.standby, &standby).await?;
        let Some(old) = self.old.clone() else { return Ok(self.empty(standby_bounds)) };
        let old_bounds = bounds(ends.old, &old).await?;
        if old_bounds.1 == 0 {
            return Ok(self.empty(standby_bounds));
        }
        if old.topic_id != self.recorded.0.topic_id {
            let what = "was deleted and made again, and holds records; delete it to have it copied from its beginning";
            return Ok(self.left_out(format!("{old} {what}")));
        }
        let sides = Sides {
            old: ends.old,
            standby: ends.standby,
            old_tp: &old,
            standby_tp: &standby,
            map: &self.map,
            end: self.end,
            old_bounds,
            standby_start: standby_bounds.0,
        };
        match sides.parting().await? {
            Found::Different { at } => Ok(self.left_out(format!(
                "{old} differs from {standby} in its first record, at offset {at}: it is another log; delete the topic to \
                 have it copied from its beginning"
            ))),
            Found::Parting(parting) => {
                let tail = count(ends.old, &old, isolation, parting.old, old_bounds).await?;
                let mut way = self.parted(parting, tail, standby_bounds);
                let seed = self.seed(parting, standby, old.clone());
                way.seed = Some(seed.map_err(|error| EngineError::Unexpected {
                    mirror: old.to_string(),
                    detail: format!("its offset map cannot be turned round: {error}"),
                })?);
                Ok(way)
            }
        }
    }

    /// The standby's side, if its end is known.
    fn standby(&self) -> Result<TopicPartition, String> {
        let recorded = &self.recorded.1;
        if self.unsettled {
            return Err(format!(
                "{recorded} could not be fenced when the mirror was promoted, so where its data ended is not known; run \
                 kmirror failover again"
            ));
        }
        let same = self.standby.clone().filter(|tp| tp.topic_id == recorded.topic_id);
        same.ok_or_else(|| format!("{recorded} is not the topic any more that was mirrored to"))
    }

    fn way(&self, came_back: CameBack) -> Way {
        let (old, standby) = &self.recorded;
        let report = FailbackPartition {
            topic: old.topic.clone(),
            standby_topic: standby.topic.clone(),
            partition: old.partition,
            came_back,
            parted_at: -1,
            copied_from: -1,
            to_copy: 0,
            tail: TailRange::default(),
            compared: false,
            detail: None,
        };
        Way { report, seed: None }
    }

    fn left_out(&self, why: String) -> Way {
        let mut way = self.way(CameBack::Different);
        way.report.detail = Some(why);
        way
    }

    /// Nothing is in common: it begins as any partition that is new.
    fn empty(&self, (start, end): (i64, i64)) -> Way {
        let mut way = self.way(CameBack::Empty);
        (way.report.copied_from, way.report.to_copy, way.report.compared) = (start, end - start, true);
        way
    }

    fn parted(&self, parting: Parting, tail: TailRange, (start, end): (i64, i64)) -> Way {
        let whole = parting.old >= self.map.position(self.end);
        let mut way = self.way(match (whole, tail.is_any()) {
            (true, false) => CameBack::Intact,
            (true, true) => CameBack::Ahead,
            (false, false) => CameBack::Behind,
            (false, true) => CameBack::Diverged,
        });
        let report = &mut way.report;
        (report.parted_at, report.copied_from, report.compared) = (parting.old, parting.standby, parting.compared);
        report.to_copy = (end - parting.standby.max(start)).max(0);
        report.tail = tail;
        let uncompared =
            (!parting.compared).then(|| "no record is left on both sides that could be compared".to_owned());
        let notes: Vec<String> = uncompared.into_iter().chain(tail.shortfall.words()).collect();
        report.detail = (!notes.is_empty()).then(|| notes.join("; "));
        way
    }

    fn seed(&self, parting: Parting, source: TopicPartition, target: TopicPartition) -> Result<Seed, MapError> {
        let map = self.map.inverted(parting.standby, |_, _| GapReason::TakeOver)?;
        let read = self.map.runs(parting.standby).last().map_or(0, |(_, standby, records)| standby + records);
        // What the old source has alone is known, and no surprise.
        Ok(Seed {
            source,
            target,
            map,
            read,
            written: i64::MAX,
            divergent_from: Some(parting.old),
            from: parting.standby,
        })
    }
}

async fn bounds(cluster: &Cluster, tp: &TopicPartition) -> Result<(i64, i64), EngineError> {
    let found = cluster.log_bounds(std::slice::from_ref(tp)).await?;
    found.get(tp).copied().ok_or_else(|| cluster.api_error("ListOffsets", -1, &tp.to_string()).into())
}
