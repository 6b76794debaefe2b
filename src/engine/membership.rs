//! A mirror's membership of its fleet: joins the group, tells what the runner holds, tells the runner what to hold, and leaves at the
//! end. What is to be said when is [`crate::plan::fleet::Membership`]'s to decide; here are the socket, the clock and the channels.
//!
//! Data does not wait for any of this. A member that the group has put out goes on with what it holds until somebody fences it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::{Cluster, GroupSeat};
use crate::config::{Config, FleetConfig, MirrorConfig};
use crate::plan::fleet::{
    self, Answer, Ask, End, Joined, Load, Member, Membership as Machine, Next, Origin, PROTOCOL, PROTOCOL_TYPE, Post,
    PutOut, SIGNS_PER_SUSPICION, Subscription, Terms, Told, assign, group_id, slots,
};
use crate::plan::{Assignment, ShardStage};

use super::seat::Desk;
use super::shard::now_ms;
use super::vigil::{Keeper, News, Vigil};
use super::{EngineError, connect_target};

/// Heartbeats in a session: a rebalance is heard of within the time between two.
const HEARTBEATS_PER_SESSION: u32 = 10;
/// Of those that were put out so many are remembered, to be shown.
const PUT_OUT_SHOWN: usize = 4;
/// How often loads are looked at.
const SURVEY_EVERY: Duration = Duration::from_secs(60);
/// How long others may take to be given what a member holds that is about to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a runner may take to end before its member leaves all the same.
const RUNNER_ENDS_WITHIN: Duration = Duration::from_secs(30);
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Between two joins for the sake of shards that somebody else has taken.
const LOST_PAUSE: Duration = Duration::from_secs(5);

/// What the mirrors of this process cost, by name: the fleet of one takes the others into account.
#[derive(Debug, Clone, Default)]
pub struct Workload(Arc<Mutex<BTreeMap<String, u64>>>);

impl Workload {
    fn note(&self, mirror: &str, cost: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(mirror.to_owned(), cost);
    }

    fn elsewhere(&self, mirror: &str) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(name, _)| *name != mirror).map(|(_, cost)| *cost).sum()
    }
}

/// One mirror's membership.
#[derive(Debug)]
pub struct Membership {
    mirror: Arc<MirrorConfig>,
    terms: FleetConfig,
    config_hash: watch::Receiver<String>,
    desk: Desk,
    workload: Workload,
    seat: GroupSeat,
    machine: Machine,
    /// What the leader was told when it joined.
    joined: Option<Joined>,
    /// Costs of shards as they were told last.
    remembered: BTreeMap<u32, u64>,
    /// Generation whose assignment is followed; −1: none that counts.
    follows: i32,
    /// Since when it wants to own nothing.
    draining: Option<Instant>,
    /// The group has heard of that.
    drained: bool,
    lost_joined: Option<Instant>,
    /// Over who falls silent, where that is wanted.
    vigil: Option<Vigil>,
    put_out: Vec<PutOut>,
    started: Instant,
}

impl Membership {
    /// Of this mirror's fleet; `None` where the file asks for none. `config_hash` tells others what this process runs.
    pub fn new(
        config: &Config,
        mirror: Arc<MirrorConfig>,
        config_hash: watch::Receiver<String>,
        desk: Desk,
        workload: Workload,
    ) -> Option<Self> {
        let terms = config.fleet.clone()?;
        let heartbeat = terms.session_timeout / HEARTBEATS_PER_SESSION;
        // Whoever was put out is waited for until everybody has heard of it.
        let heartbeat = terms.suspect_after.map_or(heartbeat, |after| heartbeat.min(after / SIGNS_PER_SUSPICION));
        let machine = Machine::new(Terms {
            session_timeout_ms: ms(terms.session_timeout),
            heartbeat_ms: ms(heartbeat),
            instance_id: terms.instance_id.clone(),
            survey_ms: ms(SURVEY_EVERY),
        });
        let seat = GroupSeat {
            group: group_id(&mirror.name),
            instance_id: terms.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE,
            protocol: PROTOCOL,
            session_timeout: terms.session_timeout,
            rebalance_timeout: terms.session_timeout,
        };
        Some(Self {
            mirror,
            terms,
            config_hash,
            desk,
            workload,
            seat,
            machine,
            joined: None,
            remembered: BTreeMap::new(),
            follows: -1,
            draining: None,
            drained: false,
            lost_joined: None,
            vigil: None,
            put_out: Vec::new(),
            started: Instant::now(),
        })
    }

    /// Keeps it until `stop` says so or the runner ends. Then `release` tells the runner to stop, once what it holds was given to
    /// others or that took too long.
    ///
    /// # Errors
    /// The group refuses this instance for good.
    pub async fn keep(
        mut self,
        config: Arc<Config>,
        mut stop: watch::Receiver<bool>,
        release: watch::Sender<bool>,
    ) -> Result<(), EngineError> {
        let mut target = None;
        let outcome = self.keep_on(&config, &mut stop, &mut target).await;
        release.send_replace(true);
        let runner = async { while self.desk.held.changed().await.is_ok() {} };
        let _ = timeout(RUNNER_ENDS_WITHIN, runner).await;
        if let Some(vigil) = self.vigil.take() {
            vigil.end(self.terms.instance_id.is_some()).await;
        }
        self.machine.leave();
        if let (Some(target), Next::Ask(ask)) = (target, self.machine.next(self.now_ms())) {
            let left = target.ask_as_member(&self.seat, &ask, &[], Vec::new());
            let _ = timeout(LEAVE_WITHIN, left).await;
        }
        self.workload.note(&self.mirror.name, 0);
        outcome
    }

    /// Until it is to leave; `there` becomes the cluster to say so to, where there was anything to join.
    async fn keep_on(
        &mut self,
        config: &Config,
        stop: &mut watch::Receiver<bool>,
        there: &mut Option<Cluster>,
    ) -> Result<(), EngineError> {
        // Without knowing how many shards there are nothing can be shared out.
        while self.desk.held.borrow().shards.is_empty() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                changed = self.desk.held.changed() => if changed.is_err() { return Ok(()) },
            }
        }
        let Some(target) = self.connect(config, stop).await? else { return Ok(()) };
        *there = Some(target.clone());
        self.vigil = self.terms.suspect_after.map(|suspect_after| {
            let (mirror, seat) = (self.mirror.name.clone(), self.seat.clone());
            Vigil::begin(Keeper { mirror, host: host(), target: target.clone(), seat, suspect_after })
        });
        loop {
            if *stop.borrow() {
                self.begin_to_stop();
            }
            if self.is_through() || self.desk.held.has_changed().is_err() {
                return Ok(());
            }
            self.heed_held();
            while let Some(news) = self.vigil.as_mut().and_then(Vigil::news_at_once) {
                self.heed_news(news);
            }
            match self.machine.next(self.now_ms()) {
                Next::Ended(end) => return Err(self.ended(&target, end)),
                Next::Wait { until_ms } => {
                    let pause = Duration::from_millis(until_ms.saturating_sub(self.now_ms()));
                    tokio::select! {
                        () = sleep(pause) => {}
                        news = news_of(&mut self.vigil) => self.heed_news(news),
                        _ = self.desk.held.changed() => {}
                        // The others are to see what it goes by now.
                        Ok(()) = self.config_hash.changed() => self.machine.rejoin(),
                        _ = stop.wait_for(|stop| *stop), if self.draining.is_none() => {}
                    }
                }
                Next::Ask(ask) => {
                    let Some(answer) = self.ask(&target, ask, stop).await? else { return Ok(()) };
                    self.heed(answer)?;
                }
            }
        }
    }

    async fn connect(&self, config: &Config, stop: &mut watch::Receiver<bool>) -> Result<Option<Cluster>, EngineError> {
        loop {
            match connect_target(config, &self.mirror).await {
                Ok(target) => return Ok(Some(target)),
                Err(error) if error.is_retriable() => {
                    tracing::warn!(mirror = %self.mirror.name, %error, "the fleet cannot be joined yet, trying again");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
                () = sleep(CONNECT_PAUSE) => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        ms(self.started.elapsed())
    }

    /// A static member is expected back and keeps its shards; any other gives them away first.
    fn begin_to_stop(&mut self) {
        if self.draining.is_none() {
            self.draining = Some(Instant::now());
            self.machine.rejoin();
        }
    }

    fn is_through(&self) -> bool {
        let Some(since) = self.draining else { return false };
        let holds = !self.desk.held.borrow().held().is_empty();
        let given = !self.desk.assign.borrow().shards.is_empty();
        self.terms.instance_id.is_some()
            || !holds
            || (self.drained && given)
            || self.follows < 0
            || since.elapsed() > DRAIN
    }

    /// What the runner tells may be news for the group.
    fn heed_held(&mut self) {
        let (epoch, wanted) = {
            let assigned = self.desk.assign.borrow();
            (assigned.epoch, assigned.shards.clone())
        };
        let held = self.desk.held.borrow_and_update().clone();
        let lost = (0..).zip(&held.shards).any(|(number, shard)| {
            wanted.contains(&number) && matches!(shard.stage, ShardStage::Lost { epoch: lost } if lost == epoch)
        });
        self.workload.note(&self.mirror.name, self.loads().values().map(Load::cost).sum());
        let lately = self.lost_joined.is_some_and(|at| at.elapsed() < LOST_PAUSE);
        if lost && !lately && self.machine.generation().is_some() {
            tracing::warn!(mirror = %self.mirror.name, "another instance has taken shards that this one was given: joining the fleet again");
            self.lost_joined = Some(Instant::now());
            self.machine.rejoin();
        }
    }

    /// Others hear of who was put out with their next heartbeat; whoever did it need not wait for that, and says whom.
    fn heed_news(&mut self, news: News) {
        match news {
            News::PutOut(suspects) => {
                let at_ms = now_ms();
                self.put_out.extend(suspects.into_iter().map(|suspect| PutOut {
                    member_id: suspect.member,
                    host: suspect.host,
                    silent_ms: suspect.silent_ms,
                    at_ms,
                }));
                let many = self.put_out.len().saturating_sub(PUT_OUT_SHOWN);
                self.put_out.drain(..many);
                self.machine.rejoin();
            }
            News::GoneOn => self.machine.hurry(),
        }
    }

    fn loads(&self) -> BTreeMap<u32, Load> {
        let held = self.desk.held.borrow();
        let owned = (0..).zip(&held.shards).filter(|(_, shard)| shard.stage.is_held());
        let load = |(number, shard): (u32, &crate::plan::ShardHeld)| {
            let load = Load {
                bytes_per_second: shard.bytes_per_s,
                backlog_records: shard.backlog_records,
                partitions: shard.partitions,
            };
            (number, load)
        };
        owned.map(load).collect()
    }

    fn subscription(&mut self) -> Subscription {
        let held = self.loads();
        let assigned = self.desk.assign.borrow();
        Subscription {
            host: host(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            state_version: u32::from(crate::mirror::STATE_VERSION),
            config_hash: self.config_hash.borrow_and_update().clone(),
            shard_count: u32::try_from(self.desk.held.borrow().shards.len()).unwrap_or(u32::MAX),
            generation: self.follows,
            awaited: assigned.shards.iter().copied().filter(|shard| !held.contains_key(shard)).collect(),
            held,
            elsewhere: self.workload.elsewhere(&self.mirror.name),
            weight: self.terms.weight,
            draining: self.draining.is_some(),
            elected: assigned.elected,
            put_out: self.put_out.clone(),
        }
    }

    /// Asks, for as long as an answer may take; `None`: it is to stop, and that takes too long.
    async fn ask(
        &mut self,
        target: &Cluster,
        ask: Ask,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Answer>, EngineError> {
        let (subscription, assignments, patience) = match &ask {
            Ask::Join { .. } => {
                self.drained = self.draining.is_some();
                (self.subscription().to_bytes(), Vec::new(), self.seat.rebalance_timeout * 2)
            }
            Ask::Sync { assigns: true, .. } => (Vec::new(), self.assignments(), self.seat.rebalance_timeout * 2),
            Ask::Sync { .. } => (Vec::new(), Vec::new(), self.seat.rebalance_timeout * 2),
            Ask::Heartbeat { .. } | Ask::Leave { .. } => {
                (Vec::new(), Vec::new(), (self.seat.session_timeout / 3).max(Duration::from_secs(1)))
            }
        };
        let asking = timeout(patience, target.ask_as_member(&self.seat, &ask, &subscription, assignments));
        let too_late = async {
            let _ = stop.wait_for(|stop| *stop).await;
            sleep_until(self.draining.unwrap_or_else(Instant::now) + DRAIN).await;
        };
        let outcome = tokio::select! {
            outcome = asking => outcome,
            () = too_late => return Ok(None),
        };
        match outcome {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) if error.is_retriable() => {
                tracing::warn!(mirror = %self.mirror.name, group = %self.seat.group, %error, "the fleet's coordinator does not answer, trying again");
                Ok(Some(Answer::Silent))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                target.doubt_member_coordinator(&self.seat.group);
                tracing::warn!(mirror = %self.mirror.name, group = %self.seat.group, ?patience, "the fleet's coordinator has not answered in time, trying again");
                Ok(Some(Answer::Silent))
            }
        }
    }

    /// As the leader: what everybody is to own, as bytes.
    fn assignments(&mut self) -> Vec<(String, Vec<u8>)> {
        let Some(joined) = self.joined.take() else { return Vec::new() };
        let mut members = Vec::new();
        for (id, said) in joined.members {
            match Subscription::from_bytes(&said) {
                Ok(said) => members.push(Member { id, said }),
                // It is told nothing, and so owns nothing.
                Err(error) => {
                    tracing::error!(mirror = %self.mirror.name, member = %id, %error, "a member of the fleet gets no shards");
                }
            }
        }
        let costs = members.iter().flat_map(|member| &member.said.held).map(|(shard, load)| (*shard, load.cost()));
        self.remembered.extend(costs);
        let shard_count = members.iter().map(|member| member.said.shard_count).max().unwrap_or(0);
        let targets = assign(shard_count, &members, &self.remembered);
        let moved =
            targets.values().flat_map(|target| target.shards.values()).filter(|o| **o == Origin::Member).count();
        tracing::info!(
            mirror = %self.mirror.name, group = %self.seat.group, generation = joined.generation,
            members = members.len(), shards = shard_count, moved, "shards shared out"
        );
        let slots = slots(&targets, shard_count);
        let message = |id: &str, target: &fleet::Target| {
            let slot = slots.get(id).copied();
            fleet::Assignment { shards: target.shards.clone(), elected: target.elected, slot }.to_bytes()
        };
        targets.iter().map(|(id, target)| (id.clone(), message(id, target))).collect()
    }

    fn heed(&mut self, answer: Answer) -> Result<(), EngineError> {
        if let Answer::Joined(joined) = &answer {
            self.joined = Some(joined.clone());
            self.post(None);
        }
        let now_ms = self.now_ms();
        match self.machine.answered(now_ms, answer) {
            None => {}
            Some(Told::Given { generation, assignment }) => self.give(generation, &assignment)?,
            Some(Told::Out) => {
                tracing::warn!(
                    mirror = %self.mirror.name, group = %self.seat.group,
                    "put out of the fleet: what this instance owns it keeps until another one takes it; joining again"
                );
                self.follows = -1;
                self.post(None);
                // Under the same epoch: nothing that was lost is taken back.
                self.desk.assign.send_modify(|assigned| assigned.elected = false);
            }
            Some(Told::Obstacle(code)) => {
                let (name, advice) = (crate::client::code_name(code), advice(code));
                tracing::error!(mirror = %self.mirror.name, group = %self.seat.group, code, %name, advice, "the fleet does not take this instance, trying again");
            }
        }
        Ok(())
    }

    fn post(&self, slot: Option<(i32, u32)>) {
        let member = || self.machine.member().to_owned();
        let post = slot.map(|(generation, slot)| Post { member: member(), generation, slot });
        if let Some(vigil) = &self.vigil {
            vigil.post(post);
        }
    }

    fn give(&mut self, generation: i32, assignment: &[u8]) -> Result<(), EngineError> {
        // It leaves, for what it is to own waits for it, and the others can have it.
        let given = fleet::Assignment::from_bytes(assignment).map_err(|error| EngineError::NoMember {
            mirror: self.mirror.name.clone(),
            group: self.seat.group.clone(),
            detail: error.to_string(),
        })?;
        self.follows = generation;
        self.post(given.slot.map(|slot| (generation, slot)));
        let handed_over = given.shards.iter().filter(|(_, origin)| **origin == Origin::Member);
        let assigned = Assignment {
            epoch: self.desk.assign.borrow().epoch + 1,
            handed_over: handed_over.map(|(shard, _)| *shard).collect(),
            shards: given.shards.keys().copied().collect(),
            elected: given.elected,
        };
        tracing::info!(
            mirror = %self.mirror.name, group = %self.seat.group, generation, shards = assigned.shards.len(),
            from_others = assigned.handed_over.len(), elected = assigned.elected, "shards to own"
        );
        self.desk.assign.send_replace(assigned);
        Ok(())
    }

    fn ended(&self, target: &Cluster, end: End) -> EngineError {
        let (mirror, group) = (self.mirror.name.clone(), self.seat.group.clone());
        match end {
            End::Refused(code) => target.api_error("JoinGroup", code, &group).into(),
            End::Replaced => {
                let id = self.terms.instance_id.as_deref().unwrap_or_default();
                let detail = format!(
                    "another process has joined under fleet.instance_id {id}; this one stops. Where that was not meant, give \
                     each instance an id of its own"
                );
                EngineError::NoMember { mirror, group, detail }
            }
            End::Left => EngineError::NoMember { mirror, group, detail: "it has left".to_owned() },
        }
    }
}

/// What to do where the group does not take an instance.
fn advice(code: i16) -> &'static str {
    match code {
        INCONSISTENT_GROUP_PROTOCOL => {
            "its members are of a version of kmirror that does not speak this one's protocol, or no kmirror: run one version everywhere"
        }
        _ => "it has as many members as `group.max.size` of the brokers allows",
    }
}

async fn news_of(vigil: &mut Option<Vigil>) -> News {
    match vigil {
        Some(vigil) => vigil.news().await,
        None => std::future::pending().await,
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The name of this machine, and the process.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
    format!("{name}:{}", std::process::id())
}
