//! The divergent tail once more: appended to a topic of the standby, by choice (`ops::replaying` says how). Where the first replay
//! into a topic began stands in the mirror's control partition.

use serde::Serialize;

use crate::client::TopicPartition;
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::shard::now_ms;
use crate::mirror::ControlRecord;

use super::super::records::{Shortfall, Stretch};
use super::super::replaying::{Appender, Due, Into, ReplayError, Replayer, There, find_into, in_parts, read_back};
use super::Ends;
use super::tail::{Tail, located};

/// What a replay did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Version of this shape.
    pub schema_version: u32,
    /// The mirror.
    pub mirror: String,
    /// Topic on the standby.
    pub into: String,
    /// Records that were appended; in a plan, that would be.
    pub records: u64,
    /// Records that an earlier replay had appended.
    pub already: u64,
    /// By partition of the old source.
    pub partitions: Vec<ReplayedPartition>,
    /// What is not among them, by partition.
    pub shortfalls: Vec<String>,
}

/// A partition of the old source in a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayedPartition {
    /// Topic on the old source.
    pub topic: String,
    /// Partition there.
    pub partition: i32,
    /// Partition of the topic that is replayed into.
    pub into_partition: i32,
    /// Records that were appended, or would be.
    pub records: u64,
    /// Records that were there.
    pub already: u64,
}

/// A replay to be.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The mirror that was promoted.
    pub mirror: &'a MirrorConfig,
    /// Both clusters.
    pub ends: Ends<'a>,
    /// What is replayed.
    pub tails: &'a [Tail],
    /// Topic on the standby.
    pub into: &'a str,
}

impl Replay<'_> {
    /// What a replay would append.
    pub async fn plan(&self) -> Result<Replayed, ReplayError> {
        let into = find_into(self.ends.standby, self.into, &[]).await?;
        let control = self.control().await?;
        let ends = self.ends.standby.log_ends(&into.partitions, false).await.map_err(EngineError::from)?;
        let mut there = There::new();
        if let Some(began) = into.partitions.first().and_then(|tp| control.state.replay_began(tp.topic_id)) {
            for (tp, from) in into.partitions.iter().zip(began) {
                let range = (*from, ends.get(tp).copied().unwrap_or(*from));
                read_back(self.ends.standby, tp, range, None, &mut there).await?;
            }
        }
        let mut report = self.report();
        for (tp, tail) in located(self.ends.old, self.tails).await? {
            let (behind, already) = place(&there, tail);
            let stretch = Stretch::new(self.ends.old, &tp, self.mirror.isolation, (behind, tail.range.1));
            let (records, shortfall) = stretch.count().await?;
            report.add((&tp, tail), into.of(tail.partition), (records, already), shortfall);
        }
        Ok(report)
    }

    /// Appends what is not there yet; `each` is told of every batch how many records it had.
    pub async fn run(&self, mut each: impl FnMut(u64)) -> Result<Replayed, ReplayError> {
        let into = find_into(self.ends.standby, self.into, &[]).await?;
        let mut control = self.control().await?;
        let began = self.begin(&mut control, &into).await?;
        let transactional_id = format!("kmirror.{}.{}.replay", self.mirror.name, control.generation()?.generation);
        let replayer =
            Replayer { name: self.mirror.name.clone(), transactional_id, mark: None, lease: control.tp.clone() };
        let mut appender = Appender::take_over(self.ends.standby, replayer, into.partitions.clone()).await?;
        let mut there = There::new();
        appender.read_back(&began, &mut there).await?;
        let mut report = self.report();
        for (tp, tail) in located(self.ends.old, self.tails).await? {
            let (behind, already) = place(&there, tail);
            let target = into.of(tail.partition);
            let topic: std::sync::Arc<str> = tail.topic.as_str().into();
            let mut stretch = Stretch::new(self.ends.old, &tp, self.mirror.isolation, (behind, tail.range.1));
            let mut records = 0;
            while let Some(some) = stretch.next().await? {
                let due = |record| Due { topic: topic.clone(), partition: tail.partition, record };
                for part in in_parts(some.into_iter().map(due).collect()) {
                    let count = part.len() as u64;
                    appender.append(vec![(target, part)]).await?;
                    records += count;
                    each(count);
                }
            }
            report.add((&tp, tail), target, (records, already), stretch.shortfall);
        }
        Ok(report)
    }

    fn report(&self) -> Replayed {
        let (mirror, into) = (self.mirror.name.clone(), self.into.to_owned());
        Replayed {
            schema_version: 1,
            mirror,
            into,
            records: 0,
            already: 0,
            partitions: Vec::new(),
            shortfalls: Vec::new(),
        }
    }

    async fn control(&self) -> Result<Control, EngineError> {
        let control = Control::open(&self.mirror.name, self.ends.standby).await?;
        control.ok_or_else(|| EngineError::Unexpected {
            mirror: self.mirror.name.clone(),
            detail: "its state topic is gone".to_owned(),
        })
    }

    /// Where the first replay into this topic began; this one, if there was none.
    async fn begin(&self, control: &mut Control, into: &Into) -> Result<Vec<i64>, EngineError> {
        let Some(topic_id) = into.partitions.first().map(|tp| tp.topic_id) else { return Ok(Vec::new()) };
        if control.state.replay_began(topic_id).is_none() {
            let ends = self.ends.standby.log_ends(&into.partitions, false).await?;
            let ends = into.partitions.iter().map(|tp| ends.get(tp).copied().unwrap_or(0)).collect();
            let record = ControlRecord::Replay { into: self.into.to_owned(), topic_id, ends, at_ms: now_ms() };
            control.write(record).await?;
            control.read_to_end().await?;
        }
        Ok(control.state.replay_began(topic_id).unwrap_or_default().to_vec())
    }
}

/// Where to go on in a tail, and how many of its records are there.
fn place(there: &There, tail: &Tail) -> (i64, u64) {
    let (last, count) = there.get(&(tail.topic.clone(), tail.partition)).copied().unwrap_or((-1, 0));
    (tail.range.0.max(last + 1), count)
}

impl Replayed {
    fn add(
        &mut self,
        (from, tail): (&TopicPartition, &Tail),
        target: usize,
        (records, already): (u64, u64),
        shortfall: Shortfall,
    ) {
        self.shortfalls.extend(shortfall.words().map(|words| format!("{from}: {words}")));
        self.records += records;
        self.already += already;
        let (topic, partition) = (tail.topic.clone(), tail.partition);
        let into_partition = i32::try_from(target).unwrap_or(i32::MAX);
        self.partitions.push(ReplayedPartition { topic, partition, into_partition, records, already });
    }
}
