//! From the source: plans, responses, out-of-range offsets, truncation.

use std::collections::{BTreeSet, HashMap};

use tokio::sync::mpsc;

use crate::client::{ClientError, Cluster, FetchChange, FetchLimits, Fetched, TopicPartition, Verdict};
use crate::config::Policy;
use crate::mirror::{Bounds, Divergence, FetchedRecords, GapReason, Halt, Isolation, OutOfRange};

use super::super::attach::halt_of;
use super::super::events::{Event, PartId};
use super::super::fetcher::{FetchPlan, Pace, fetcher};
use super::super::part::{Leave, Stage};
use super::super::throttle::{Ask, Asker};
use super::super::turns::Turns;
use super::{Fetcher, Runner};

const OFFSET_OUT_OF_RANGE: i16 = 1;
/// How long a fetch waits for data when nothing is held back.
const LONG_POLL_MS: i32 = 500;
/// How long it waits while some partition has no room: it may have room again soon.
const SHORT_POLL_MS: i32 = 5;
/// And while partitions are about to join: they are asked for with the next one.
const JOINING_POLL_MS: i32 = 50;
/// A fetch asks for no less, however small the budget is.
const FETCH_BYTES_MIN: usize = 64 << 10;
const RETRY_MS: u64 = 100;
const RETRY_MAX_MS: u64 = 5_000;

impl Runner {
    pub(super) fn note_fetch_change(&mut self, id: PartId) {
        let leader = self.parts.get(id).and_then(|p| p.source_leader);
        if let Some(fetcher) = leader.and_then(|l| self.fetchers.get_mut(&l)) {
            fetcher.changed.insert(id);
        }
    }

    pub(super) fn ensure_fetcher(&mut self, broker: i32) {
        if self.fetchers.contains_key(&broker) {
            return;
        }
        let (plans, receiver) = mpsc::channel(1);
        let cluster = self.shared.source.clone();
        let budget = self.shared.budget.clone();
        let sender = self.sender.clone();
        let took = self.counting.fetched.clone();
        self.tasks.spawn(fetcher(cluster, broker, budget, took, receiver, sender));
        let state = Fetcher {
            plans,
            busy: false,
            changed: BTreeSet::new(),
            wants: HashMap::new(),
            forgets: Vec::new(),
            pace: Pace::default(),
            not_before_ms: 0,
            failures: 0,
            heard_ms: 0,
            planned_in: 0,
            asked_bytes: 0,
            reserved_bytes: 0,
            behind: BTreeSet::new(),
            turns: Turns::default(),
        };
        self.fetchers.insert(broker, state);
    }

    /// Gives every idle fetcher its next plan.
    pub(super) fn plan_fetches(&mut self) {
        let now_ms = self.now_ms();
        let share = self.shared.budget.share_bytes();
        for broker in self.fetchers_in_turn(now_ms) {
            let others_bytes = self.fetchers.values().map(|fetcher| fetcher.reserved_bytes).sum();
            let who = Asker { fetchers: self.fetchers.len(), is_behind: self.is_behind(broker, now_ms) };
            let Some(ask) = self.throttle.ask(who, others_bytes, now_ms) else { continue };
            let pace = self.fetchers.get(&broker).map(|fetcher| fetcher.pace).unwrap_or_default();
            let max_bytes = pace.bytes().min(share).max(FETCH_BYTES_MIN) as u64;
            self.plan_fetch(broker, Ask { bytes: ask.bytes.min(max_bytes), ..ask }, now_ms);
        }
    }

    fn plan_fetch(&mut self, broker: i32, ask: Ask, now_ms: u64) {
        let held = self.hold_back(broker, now_ms);
        let (limited, joining) = (self.throttle.is_limited(), self.is_joining());
        let Some(fetcher) = self.fetchers.get_mut(&broker) else { return };
        let max_bytes = i32::try_from(ask.bytes).unwrap_or(i32::MAX);
        // Two partitions at least have their turn in a fetch, unless turns are told off one by one.
        let part_bytes = if limited { max_bytes } else { max_bytes / 2 };
        let mut changes = std::mem::take(&mut fetcher.forgets);
        let mut held_back = false;
        for id in std::mem::take(&mut fetcher.changed) {
            let Some(part) = self.parts.get_mut(id) else { continue };
            let mine = part.source_leader == Some(broker);
            let its_turn = !held.contains(&id);
            let want = if mine && its_turn { part.want(now_ms, part_bytes) } else { None };
            let waits = mine && want.is_none() && matches!(part.stage, Stage::Flowing(_)) && !part.paused;
            held_back |= waits && its_turn && part.flow().is_some_and(|flow| flow.appender.in_flight() > 0);
            match want {
                Some(want) => {
                    // Also where the session asks for it already: a partition that was attached anew has forgotten.
                    part.asked = Some((broker, want.offset));
                    if fetcher.wants.insert(id, want) != Some(want) {
                        changes.push(FetchChange::want(&part.pair.source, want));
                    }
                }
                None if fetcher.wants.remove(&id).is_some() => {
                    part.heard_ms = part.heard_ms.max(fetcher.heard_ms);
                    changes.push(FetchChange::forget(&part.pair.source));
                }
                _ => {}
            }
            if waits {
                // Looked at again with the next plan.
                fetcher.changed.insert(id);
            }
        }
        if fetcher.wants.is_empty() && changes.is_empty() {
            return;
        }
        let max_wait_ms = match () {
            () if held_back => SHORT_POLL_MS,
            () if joining => JOINING_POLL_MS,
            () => LONG_POLL_MS,
        };
        let limits = FetchLimits {
            max_wait_ms,
            min_bytes: 1,
            max_bytes,
            committed: self.shared.config.isolation == Isolation::ReadCommitted,
        };
        fetcher.busy = fetcher.plans.try_send(FetchPlan { changes, limits }).is_ok();
        if fetcher.busy {
            self.turn += 1;
            (fetcher.planned_in, fetcher.asked_bytes, fetcher.reserved_bytes) =
                (self.turn, ask.bytes, ask.reserved_bytes);
        }
    }

    pub(super) fn on_fetched(&mut self, broker: i32, pace: Pace, outcome: Result<Vec<Fetched>, ClientError>) {
        let now_ms = self.now_ms();
        let Some(fetcher) = self.fetchers.get_mut(&broker) else { return };
        (fetcher.busy, fetcher.pace) = (false, pace);
        fetcher.reserved_bytes = 0;
        match outcome {
            Ok(partitions) => {
                (fetcher.failures, fetcher.heard_ms) = (0, now_ms);
                self.account(broker, &partitions, now_ms);
                for fetched in partitions {
                    self.on_partition(broker, fetched, now_ms);
                }
            }
            Err(error) => {
                // The session starts anew; everything it held must be asked for again.
                fetcher.failures = fetcher.failures.saturating_add(1);
                let pause = RETRY_MS.saturating_mul(1 << fetcher.failures.min(8)).min(RETRY_MAX_MS);
                fetcher.not_before_ms = now_ms + pause;
                self.end_session(broker);
                self.counting.failed("fetch");
                tracing::warn!(mirror = %self.shared.config.name, broker, %error, "fetch failed, trying again");
                self.refresh();
            }
        }
    }

    fn on_partition(&mut self, broker: i32, fetched: Fetched, now_ms: u64) {
        let key = (fetched.topic.clone(), fetched.partition);
        let Some(id) = self.by_source.get(&key).copied() else { return };
        let Some(part) = self.parts.get_mut(id) else { return };
        let asked = part.asked;
        let Some(flow) = part.flow() else { return };
        if asked != Some((broker, flow.intake.next())) {
            return;
        }
        self.touched.insert(id);
        match fetched.error {
            0 => {}
            OFFSET_OUT_OF_RANGE => return self.spawn_bounds(id),
            code => return self.on_fetch_error(id, code, now_ms),
        }
        if let Some((epoch, end)) = fetched.diverging_epoch {
            return self.spawn_divergence(id, Divergence { epoch, end, start: fetched.log_start_offset });
        }
        let committed = self.shared.config.isolation == Isolation::ReadCommitted;
        let Some(part) = self.parts.get_mut(id) else { return };
        part.source_end = if committed { fetched.last_stable_offset } else { fetched.high_watermark };
        part.source_start = fetched.log_start_offset;
        part.source_high = fetched.high_watermark;
        part.watch.end_asked = None;
        part.totals.in_bytes += fetched.records.len() as u64;
        if fetched.records.is_empty() {
            return self.note_behind(broker, id);
        }
        let Some(flow) = part.flow() else { return };
        let data = FetchedRecords { aborted: fetched.aborted, records: fetched.records };
        let (ready, halt) = flow.intake.take(&data);
        for batch in ready {
            flow.appender.push(batch);
        }
        self.note_behind(broker, id);
        match halt {
            Some(halt) if self.passes_over(&halt) => self.accept(id, &halt, GapReason::Corrupt),
            Some(halt) => self.halt(id, halt),
            None => {}
        }
    }

    fn on_fetch_error(&mut self, id: PartId, code: i16, now_ms: u64) {
        let subject = self.parts.get(id).map(|p| p.pair.source.to_string()).unwrap_or_default();
        let error = self.shared.source.api_error("Fetch", code, &subject);
        if let Some(part) = self.parts.get_mut(id) {
            part.fetch_not_before_ms = now_ms + RETRY_MS;
        }
        match error.verdict() {
            Verdict::Fatal => self.halt(id, halt_of(&error)),
            Verdict::Retry => tracing::debug!(%error, "fetch refused, trying again"),
            Verdict::Refresh => {
                tracing::debug!(%error, "fetch refused, looking for the leader");
                self.refresh();
            }
        }
    }

    fn spawn_bounds(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        // No further fetch until the bounds are known.
        part.fetch_not_before_ms = u64::MAX;
        let cluster = self.shared.source.clone();
        let tp = part.pair.source.clone();
        self.spawn(async move { Some(Event::Bounds { part: id, outcome: bounds_of(&cluster, &tp).await }) });
    }

    /// An offset out of range: retention took what was next, or the source lost its end.
    pub(super) fn on_bounds(&mut self, id: PartId, outcome: Result<Option<(i64, i64)>, ClientError>) {
        let now_ms = self.now_ms();
        self.touched.insert(id);
        let policy = self.shared.config.on.retention_loss;
        let Some(part) = self.parts.get_mut(id) else { return };
        part.fetch_not_before_ms = now_ms + RETRY_MS;
        let Some(flow) = part.flow() else { return };
        let (start, end) = match outcome {
            Ok(Some(bounds)) => bounds,
            Ok(None) => return self.look_up_topics(),
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "log bounds of the source are unknown, trying again");
                return;
            }
            Err(error) => return self.halt(id, halt_of(&error)),
        };
        match flow.intake.out_of_range(flow.scanned, Bounds { start, end }) {
            OutOfRange::No => {}
            OutOfRange::Lost(lost) => match policy {
                Policy::Continue => self.accept(id, &lost, GapReason::Retention),
                Policy::Halt => self.halt(id, lost),
            },
            OutOfRange::Truncated => self.on_divergence(id, Divergence { epoch: i32::MAX, end, start }),
        }
    }

    /// Topics under these names are not those that were mirrored: the next discovery tells.
    fn look_up_topics(&mut self) {
        self.next_discovery_ms = 0;
    }

    /// Below Fetch v13 a topic is asked for by its name: what looks truncated may have been made again.
    fn spawn_divergence(&mut self, id: PartId, at: Divergence) {
        let Some(part) = self.parts.get_mut(id) else { return };
        part.fetch_not_before_ms = u64::MAX;
        let tp = part.pair.source.clone();
        let Some(attachment) = part.flow().map(|flow| flow.attachment) else { return };
        let cluster = self.shared.source.clone();
        self.spawn(async move {
            let outcome = cluster.is_same_topic(&tp).await;
            Some(Event::Diverged { part: id, attachment, at, outcome })
        });
    }

    pub(super) fn on_diverged(
        &mut self,
        id: PartId,
        attachment: u64,
        at: Divergence,
        outcome: Result<bool, ClientError>,
    ) {
        let now_ms = self.now_ms();
        self.touched.insert(id);
        let Some(part) = self.parts.get_mut(id) else { return };
        part.fetch_not_before_ms = now_ms + RETRY_MS;
        if part.flow().is_none_or(|flow| flow.attachment != attachment) {
            return;
        }
        match outcome {
            Ok(true) => self.on_divergence(id, at),
            Ok(false) => self.look_up_topics(),
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "it is not known whether the topic is the same still, trying again");
                self.refresh();
            }
            Err(error) => self.halt(id, halt_of(&error)),
        }
    }

    /// The source log was truncated. What of it was mirrored is told by the map, once everything under way is settled.
    fn on_divergence(&mut self, id: PartId, at: Divergence) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let end = at.end;
        // Other records will stand there.
        part.given_up.retain(|(_, to, _)| *to <= end);
        part.divergence = Some(at);
        self.leave(id, Leave::TakeOver(format!("the source log was truncated to {end} or before")));
    }

    /// Goes on without a source range, noted as a gap.
    pub(super) fn accept(&mut self, id: PartId, halt: &Halt, reason: GapReason) {
        let Some((from, to)) = halt.range else { return };
        let Some(part) = self.parts.get_mut(id) else { return };
        tracing::warn!(
            topic = %part.pair.source.topic, partition = part.pair.source.partition, from, to, reason = %reason,
            "going on without source offsets"
        );
        part.given_up.push((from, to, reason));
        if let Some(flow) = part.flow() {
            flow.intake.give_up(from, to, reason);
        }
        part.fetch_not_before_ms = 0;
        self.touched.insert(id);
    }
}

/// Start and end of a source log; nothing where another topic bears its name by now. Offsets are asked for by name, so the
/// topic is looked at afterwards.
async fn bounds_of(cluster: &Cluster, tp: &TopicPartition) -> Result<Option<(i64, i64)>, ClientError> {
    let mut bounds = cluster.log_bounds(std::slice::from_ref(tp)).await?;
    if !cluster.is_same_topic(tp).await? {
        return Ok(None);
    }
    bounds.remove(tp).map(Some).ok_or_else(|| cluster.api_error("ListOffsets", -1, &tp.to_string()))
}
