//! One mirrored partition as the runner sees it.

use crate::client::FetchWant;
use crate::config::MirrorConfig;
use crate::mirror::{Appender, Divergence, Footing, GapReason, Halt, HaltKind, Intake, Scan, Seen};

use super::attach::{Pair, Wanted};
use super::board::Totals;
use super::lane::LaneKey;
use super::watched::Watch;

/// Bytes that may wait for the target per partition before it is left out of fetches.
const PART_QUEUE_BYTES: usize = 512 << 10;
/// Caps what a compressed batch may unfold to where it must be re-encoded, bytes.
const DECODE_LIMIT_BYTES: usize = 64 << 20;
const AGAIN_MIN_MS: u64 = 250;
const AGAIN_MAX_MS: u64 = 5_000;
/// Kept between a record's age and the age at which the target forgets producer state, ms.
const STATE_LIFETIME_MARGIN_MS: u64 = 15 * 60 * 1000;

/// A partition that moves data.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) index: u32,
    /// Tells this flow from earlier ones of the partition.
    pub(crate) attachment: u64,
    /// Source offset on record up to which there was nothing more to mirror.
    pub(crate) scanned: i64,
    pub(crate) intake: Intake,
    pub(crate) appender: Appender,
}

/// Where a partition stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its shard is being taken, or the partition attached.
    Starting,
    /// Data moves.
    Flowing(Box<Flow>),
    /// The flow was given up to be taken over again, once nothing of it is in flight.
    Leaving { flow: Box<Flow>, why: Leave },
    /// It stands still; the flow stays for its evidence.
    Halted { halt: Halt, flow: Option<Box<Flow>> },
}

/// Why a flow is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leave {
    /// An outcome that sending again cannot tell.
    TakeOver(String),
    /// Batches landed above their offsets.
    Displaced,
    /// The source topic was made again; `Part::next_pair` follows.
    Recreated,
    /// The mirror does not select the topic any more.
    Unselected,
}

/// What a partition that cannot be reached waits to have done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// To be attached.
    Attach,
    /// To be taken over.
    Retake,
    /// To be fenced off from a shard that it had before.
    Fence(u32),
}

/// Where a partition is that the mirror's topics do not select, or not yet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// It is not: it flows, stands halted, or is under way to one of these.
    No,
    /// Its release is being written.
    Releasing,
    /// Nothing of it is under way; it goes on by being attached.
    Away,
}

/// A partition of the mirror.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) pair: Pair,
    pub(crate) shard: u32,
    pub(crate) stage: Stage,
    pub(crate) paused: bool,
    /// Whether the topics of the mirror select it.
    pub(crate) selected: bool,
    pub(crate) parked: Parked,
    /// Its shard is given back: nothing more is fetched or sent.
    pub(crate) ending: bool,
    /// It is known what the shards of others say of it.
    pub(crate) looked_around: bool,
    pub(crate) source_leader: Option<i32>,
    pub(crate) source_epoch: i32,
    pub(crate) target_leader: Option<i32>,
    pub(crate) lane: Option<LaneKey>,
    /// What the source broker was last asked for: a response to anything else is stale.
    pub(crate) asked: Option<(i32, i64)>,
    /// No fetch before this time, ms (after an error of the partition).
    pub(crate) fetch_not_before_ms: u64,
    /// End of what can be mirrored on the source, by the last response.
    pub(crate) source_end: i64,
    pub(crate) source_start: i64,
    /// Its high watermark.
    pub(crate) source_high: i64,
    /// When the source last told of it outside of the present session, ms.
    pub(crate) heard_ms: u64,
    /// What of that is on record.
    pub(crate) noted: Seen,
    pub(crate) watch: Watch,
    pub(crate) totals: Totals,
    /// Its leaders on source and target, the last ones where there are none.
    pub(crate) led_by: [Option<i32>; 2],
    /// Source ranges given up, with the reason; they hold for every later flow of this partition too.
    pub(crate) given_up: Vec<(i64, i64, GapReason)>,
    /// The halt that a `resume` ended, until the partition flows again.
    pub(crate) freed: Option<HaltKind>,
    /// Where the source log was found truncated, until the partition is attached anew.
    pub(crate) divergence: Option<Divergence>,
    /// A topic was made again under its name: what this partition is now.
    pub(crate) next_pair: Option<Pair>,
    /// It follows a source topic of the same name, by policy or command.
    pub(crate) successor: bool,
    /// Shards that must not write to the target partition any more before this one may.
    pub(crate) fences_open: usize,
    /// What could not be done and is tried again, each from a time on, ms.
    pub(crate) again: Vec<(u64, Again)>,
    /// How often in a row.
    pub(crate) set_backs: u32,
    attachments: u64,
}

impl Flow {
    /// How far the source was read, where that is more than the position tells and not on record yet.
    pub(crate) fn unnoted_scan(&self) -> Option<Scan> {
        let source = self.intake.scanned().filter(|next| self.appender.is_idle() && *next > self.scanned)?;
        Some(Scan { source, end: self.appender.settled() })
    }
}

impl Part {
    pub(crate) fn new(pair: Pair, shard: u32) -> Self {
        Self {
            pair,
            shard,
            stage: Stage::Starting,
            paused: false,
            selected: true,
            parked: Parked::No,
            ending: false,
            looked_around: false,
            source_leader: None,
            source_epoch: -1,
            target_leader: None,
            lane: None,
            asked: None,
            fetch_not_before_ms: 0,
            source_end: -1,
            source_start: -1,
            source_high: -1,
            heard_ms: 0,
            noted: Seen::default(),
            watch: Watch::default(),
            totals: Totals::default(),
            led_by: [None; 2],
            given_up: Vec::new(),
            freed: None,
            divergence: None,
            next_pair: None,
            successor: false,
            fences_open: 0,
            again: Vec::new(),
            set_backs: 0,
            attachments: 0,
        }
    }

    /// Its name in the state and in commands: source topic and partition.
    pub(crate) fn key(&self) -> (String, i32) {
        (self.pair.source.topic.clone(), self.pair.source.partition)
    }

    /// What its shard needs to attach it; source ranges that may be lost are told by the control partition.
    pub(crate) fn wanted(&self, accepted: &[(i64, i64)]) -> Wanted {
        Wanted {
            pair: self.pair.clone(),
            freed: self.freed,
            successor: self.successor,
            divergence: self.divergence,
            accepted: accepted.to_vec(),
        }
    }

    /// Notes what is to be tried again, after a pause that grows.
    pub(crate) fn try_again(&mut self, what: Again, now_ms: u64) {
        let pause = AGAIN_MIN_MS.saturating_mul(1 << self.set_backs.min(10)).min(AGAIN_MAX_MS);
        self.set_backs = self.set_backs.saturating_add(1);
        self.again.push((now_ms + pause, what));
    }

    pub(crate) fn flow(&mut self) -> Option<&mut Flow> {
        match &mut self.stage {
            Stage::Flowing(flow) => Some(flow),
            _ => None,
        }
    }

    /// The flow that answers still belong to, also while the partition is being left or stands still.
    pub(crate) fn answering(&mut self) -> Option<&mut Flow> {
        match &mut self.stage {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } => Some(flow),
            Stage::Halted { flow, .. } => flow.as_deref_mut(),
            Stage::Starting => None,
        }
    }

    pub(crate) fn start(&mut self, config: &MirrorConfig, footing: &Footing, expiration_ms: u64) {
        let lifetime_ms = expiration_ms.saturating_sub(STATE_LIFETIME_MARGIN_MS.min(expiration_ms / 4));
        let mut intake = Intake::new(footing.position, footing.last_epoch, config.isolation, DECODE_LIMIT_BYTES);
        let source = &self.pair.source;
        let known = config.source_gaps.get(&(source.topic.clone(), source.partition));
        for (from, to, reason) in self.given_up.iter().chain(known.into_iter().flatten()) {
            intake.give_up(*from, *to, *reason);
        }
        let appender = Appender::new(footing.writer, footing.end, footing.segment, lifetime_ms)
            .coalescing(config.limits.coalesced_batch_bytes);
        self.asked = None;
        self.set_backs = 0;
        self.attachments += 1;
        let (index, scanned) = (footing.index, footing.scanned);
        let flow = Flow { index, attachment: self.attachments, scanned, intake, appender };
        self.stage = Stage::Flowing(Box::new(flow));
    }

    /// The next time at which something of it is due, ms. What lies in the past waits for an event.
    pub(crate) fn due_ms(&mut self, now_ms: u64) -> Option<u64> {
        let send_ms = self.flow().and_then(|flow| flow.appender.wake_at_ms());
        let times = self.again.iter().map(|(at, _)| *at).chain([self.fetch_not_before_ms]).chain(send_ms);
        times.filter(|at| *at > now_ms).min()
    }

    /// Whether anything is to be fetched for this partition now.
    pub(crate) fn is_wanted(&self, now_ms: u64) -> bool {
        self.want(now_ms, 0).is_some()
    }

    /// What to fetch for this partition now, if anything: at most `max_bytes`.
    pub(crate) fn want(&self, now_ms: u64, max_bytes: i32) -> Option<FetchWant> {
        let Stage::Flowing(flow) = &self.stage else { return None };
        let full = flow.appender.queued_bytes() >= PART_QUEUE_BYTES;
        // What cannot be sent would pin the responses that hold it, and with them the budget of all the others.
        let blocked = self.lane.is_none() || flow.appender.is_failing();
        if self.paused || self.ending || full || blocked || now_ms < self.fetch_not_before_ms {
            return None;
        }
        Some(FetchWant {
            offset: flow.intake.next(),
            current_leader_epoch: self.source_epoch,
            last_fetched_epoch: flow.intake.last_epoch().unwrap_or(-1),
            max_bytes,
        })
    }

    /// Whether more is known to wait for it on this source broker.
    pub(crate) fn is_behind_at(&self, broker: i32) -> bool {
        let Stage::Flowing(flow) = &self.stage else { return false };
        self.source_leader == Some(broker) && flow.intake.next() < self.source_end
    }

    /// The word that `status` uses for it.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.stage {
            Stage::Halted { .. } => "halted",
            _ if self.paused => "paused",
            Stage::Flowing(_) => "mirroring",
            Stage::Starting | Stage::Leaving { .. } => "starting",
        }
    }
}
