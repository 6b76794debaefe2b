//! What threatens a partition on the source, as a running mirror sees it: retention that comes close to what is not
//! mirrored, and a transaction that holds back the last stable offset. Only partitions that wait are asked about.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::client::{Cluster, LogPoint, ReadOptions, TopicPartition};
use crate::mirror::{Alarm, Headroom, Hold, Holder, Isolation};

use super::ahead::{AT_ONCE, First, Retentions, hold, look_ahead};
use super::events::PartId;
use super::part::{Part, Stage};

/// Bytes read to learn the time of one record; the batch that holds it comes whole.
const PEEK_BYTES: i32 = 4 << 10;
const PEEK_DEADLINE: Duration = Duration::from_secs(2);

/// What is known of one partition.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The source's end at the last look: what has not reached it by the next one waits.
    end: Option<i64>,
    /// The position that was last asked about, and the time of the record there, ms.
    first: Option<(i64, i64)>,
    pub(crate) headroom: Headroom,
    pub(crate) alarm: Alarm,
    /// A last stable offset that lay behind the high watermark at the last look, and when it was first seen to, ms.
    stands: Option<(i64, i64)>,
    pub(crate) hold: Option<Hold>,
    /// The offset of the hold that was told.
    pub(crate) told: Option<i64>,
    /// The source's end where no fetch has told of it since.
    pub(crate) end_asked: Option<i64>,
    /// A position behind which something waits, and when that was first seen, ms.
    waiting: Option<(i64, i64)>,
    /// The last position that was known, and the id of the topic that it is in.
    last: Option<(Uuid, i64)>,
}

/// What to find out about a partition.
#[derive(Debug)]
pub(crate) struct Question {
    id: PartId,
    tp: TopicPartition,
    lag: Option<Lag>,
    /// The last stable offset, and when it was first seen to stand there.
    hold: Option<(i64, i64)>,
}

/// What is not mirrored: from this offset on.
#[derive(Debug, Clone, Copy)]
struct Lag {
    position: i64,
    /// Time of the first record, where it is known.
    timestamp: Option<i64>,
    /// The source's end; `None` where no fetch tells.
    end: Option<i64>,
}

/// What was found out.
#[derive(Debug)]
pub(crate) struct Found {
    id: PartId,
    lag: Option<(i64, First, Headroom)>,
    /// The source's end, where no fetch tells.
    end: Option<i64>,
    /// The offset asked about, and what stands there; `None` where nobody answered.
    hold: Option<(i64, Option<Hold>)>,
}

/// Everything that one look has found.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) found: Vec<Found>,
    pub(crate) retentions: Retentions,
}

impl Part {
    /// What is to be found out about this partition, if anything. The next call is a look later.
    pub(crate) fn question(&mut self, id: PartId, committed: bool, now_ms: u64) -> Option<Question> {
        let lag = self.lag_question(now_ms);
        let hold = if committed { self.hold_question(i64::try_from(now_ms).unwrap_or(i64::MAX)) } else { None };
        (lag.is_some() || hold.is_some()).then(|| Question { id, tp: self.pair.source.clone(), lag, hold })
    }

    fn lag_question(&mut self, now_ms: u64) -> Option<Lag> {
        let before = self.watch.end.replace(self.source_end);
        let Some((position, under_way)) = self.standing() else {
            self.watch.headroom = Headroom::Unknown;
            return None;
        };
        let timestamp = under_way.or(self.watch.first.filter(|(at, _)| *at == position).map(|(_, time)| time));
        // A flow that asks for more, or has something to send, knows the end.
        let told = under_way.is_some() || self.is_wanted(now_ms);
        if told && self.source_end >= 0 {
            if before.is_none_or(|end| position >= end) {
                self.watch.headroom = Headroom::Unlimited;
                return None;
            }
            return Some(Lag { position, timestamp, end: Some(self.source_end) });
        }
        Some(Lag { position, timestamp, end: None })
    }

    fn hold_question(&mut self, now_ms: i64) -> Option<(i64, i64)> {
        let held = matches!(self.stage, Stage::Flowing(_)) && (0..self.source_high).contains(&self.source_end);
        let before = self.watch.stands.take();
        if !held {
            return None;
        }
        let since_ms = before.filter(|(offset, _)| *offset == self.source_end).map(|(_, since)| since);
        self.watch.stands = Some((self.source_end, since_ms.unwrap_or(now_ms)));
        let known = self.watch.hold.as_ref().filter(|hold| hold.offset == self.source_end);
        match known {
            Some(Hold { holder: Holder::Producer { .. }, .. }) => None,
            Some(hold) if !hold.is_long(now_ms) => None,
            _ => since_ms.map(|since_ms| (self.source_end, since_ms)),
        }
    }

    /// Source offset up to which everything is on the target, and the time of the first record behind it where that is under
    /// way.
    fn position(&self) -> Option<(i64, Option<i64>)> {
        match &self.stage {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } | Stage::Halted { flow: Some(flow), .. } => {
                let open = flow.appender.first_open().map(|(offset, time)| (offset, Some(time)));
                Some(open.unwrap_or((flow.intake.next(), None)))
            }
            Stage::Halted { halt, flow: None } => halt.range.map(|(from, _)| (from, None)),
            Stage::Starting => None,
        }
    }

    /// The same; of a partition that moves no data, such as one that is halted, where it was when it last did.
    pub(crate) fn standing(&self) -> Option<(i64, Option<i64>)> {
        let topic_id = self.pair.source.topic_id;
        let last = || self.watch.last.filter(|(id, _)| *id == topic_id).map(|(_, position)| (position, None));
        self.position().or_else(last)
    }

    /// The source's end as it was last told, by whatever means.
    pub(crate) fn known_end(&self) -> i64 {
        self.watch.end_asked.unwrap_or(self.source_end)
    }

    /// Source offsets that wait.
    pub(crate) fn backlog_records(&self) -> u64 {
        let position = self.standing().map(|(position, _)| position);
        position.and_then(|position| u64::try_from(self.known_end() - position).ok()).unwrap_or(0)
    }

    /// Since when the first record that is not mirrored waits, ms: by its timestamp or, where that is not known yet, by when it was
    /// first seen to. Asked every so often.
    pub(crate) fn waits_since_ms(&mut self, now_ms: i64) -> Option<i64> {
        // What is left is in doubt: where it was before counts.
        if let (Stage::Flowing(_), Some((position, _))) = (&self.stage, self.position()) {
            self.watch.last = Some((self.pair.source.topic_id, position));
        }
        let at = self.standing().filter(|(position, _)| *position < self.known_end());
        let Some((position, under_way)) = at else {
            self.watch.waiting = None;
            return None;
        };
        let seen_ms = match self.watch.waiting {
            Some((at, seen_ms)) if at == position => seen_ms,
            _ => now_ms,
        };
        self.watch.waiting = Some((position, seen_ms));
        let first = self.watch.first.filter(|(at, _)| *at == position).map(|(_, time)| time);
        Some(under_way.or(first).filter(|time| *time >= 0).unwrap_or(seen_ms))
    }

    /// Takes an answer in.
    pub(crate) fn found(&mut self, found: Found) {
        let watch = &mut self.watch;
        watch.end_asked = found.end.or(watch.end_asked);
        if let Some((position, first, headroom)) = found.lag {
            let same = watch.first.is_some_and(|(at, _)| at == position);
            match first {
                First::At(timestamp) => watch.first = Some((position, timestamp)),
                // Time runs on where the source does not answer.
                First::Unreadable if same => {}
                _ => watch.first = None,
            }
            if headroom != Headroom::Unknown || !same {
                watch.headroom = headroom;
            }
        }
        if let Some((offset, hold)) = found.hold
            && offset == self.source_end
        {
            watch.hold = hold;
        }
    }

    /// A hold ends with the offset that it stands at; gives whether one ended that was told.
    pub(crate) fn ends_hold(&mut self) -> bool {
        let stands = matches!(self.stage, Stage::Flowing(_)) && self.source_end < self.source_high;
        let over = self.watch.hold.take_if(|hold| !stands || hold.offset != self.source_end).is_some();
        over && self.watch.told.take().is_some()
    }
}

/// Finds it all out. Nobody waits for it.
pub(crate) async fn look(
    source: Cluster,
    isolation: Isolation,
    mut retentions: Retentions,
    questions: Vec<Question>,
    now_ms: i64,
) -> Looked {
    let untold = questions.iter().filter(|q| q.lag.is_some_and(|lag| lag.end.is_none())).map(|q| q.tp.clone());
    let untold: Vec<TopicPartition> = untold.collect();
    let at = LogPoint::End { committed: isolation == Isolation::ReadCommitted };
    let ends: HashMap<TopicPartition, i64> =
        source.offsets_each(&untold, at).await.into_iter().filter_map(|(tp, end)| Some((tp, end.ok()?))).collect();
    let mut tasks = JoinSet::new();
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        if tasks.len() >= AT_ONCE {
            answers.extend(tasks.join_next().await.and_then(Result::ok));
        }
        let asked = ends.get(&question.tp).copied();
        let end = question.lag.and_then(|lag| lag.end.or(asked));
        let source = source.clone();
        tasks.spawn(async move {
            let first = match question.lag {
                Some(lag) => Some((lag.position, first(&source, isolation, &question.tp, lag, end).await)),
                None => None,
            };
            let hold = match question.hold {
                Some(at) => hold(&source, &question.tp, at, now_ms).await.ok().map(|hold| (at.0, hold)),
                None => None,
            };
            (question.id, question.tp, first, asked, hold)
        });
    }
    while let Some(answer) = tasks.join_next().await {
        answers.extend(answer.ok());
    }
    let firsts: Vec<(TopicPartition, First)> =
        answers.iter().filter_map(|(_, tp, first, ..)| first.map(|(_, first)| (tp.clone(), first))).collect();
    let mut headrooms = retentions.headrooms(&source, &firsts, now_ms).await.into_iter();
    let found = answers.into_iter().map(|(id, _, first, end, hold)| {
        let lag = first.and_then(|(position, first)| Some((position, first, headrooms.next()?)));
        Found { id, lag, end, hold }
    });
    Looked { found: found.collect(), retentions }
}

async fn first(source: &Cluster, isolation: Isolation, tp: &TopicPartition, lag: Lag, end: Option<i64>) -> First {
    let options = ReadOptions { max_bytes: PEEK_BYTES, deadline: PEEK_DEADLINE, ..ReadOptions::default() };
    match (lag.timestamp, end) {
        (_, None) => First::Unreadable,
        (_, Some(end)) if lag.position >= end => First::Nothing,
        (Some(timestamp), _) => First::At(timestamp),
        (None, Some(end)) => match look_ahead(source, isolation, tp, (lag.position, end), options).await {
            Ok((_, first)) => first,
            Err(error) => {
                tracing::debug!(%tp, %error, "what is not mirrored yet cannot be looked at");
                First::Unreadable
            }
        },
    }
}

impl Found {
    pub(crate) fn id(&self) -> PartId {
        self.id
    }
}
