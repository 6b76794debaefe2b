//! Groups kept in step beside a running mirror, with connections of its own: nothing of the data path waits for it, and
//! whatever fails here is told and tried again.
//!
//! All selected groups of the source are read each time; the target is asked only what changes (which groups live there), what
//! is about to be written over, and now and then everything. So a round in which nothing happens writes nothing and reads one
//! side. Nothing is written while the mirror is paused, and nothing more once a promotion was announced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Cluster, ListedGroup};
use crate::config::{Config, GroupSync, MirrorConfig};
use crate::engine::{Board, EngineError, Lacks, connect_mirror, now_ms};
use crate::groups::{
    ByPartition, Decision, GroupPlan, GroupType, Ledger, Options, Outcome, Overwrite, Planner, Skip, SourceGroup,
    TargetGroup, Views,
};

use super::super::state::StateFollower;
use super::notes;
use super::read::{self, Logs, SettledEnd};
use super::record::{SyncRecord, keep, last_sync};
use super::said::Said;
use super::{Commits, apply, offsets_retention_ms, refresh_ms};

/// Once a promotion stands in the control partition, a running mirror writes no offset later than this.
pub const WRITES_END_WITHIN: Duration = Duration::from_secs(10);
/// How long a group's coordinator is waited for, well within that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Groups written between two looks at what was said to the mirror.
const GROUPS_AT_ONCE: usize = 200;
/// How long what was read of a group on the target is believed, ms: somebody else may have committed there.
const BELIEVED_MS: i64 = 60_000;
/// The same of a group with offsets that are not ours: an operator may have settled that.
const SOMEBODYS_BELIEVED_MS: i64 = 10_000;
/// A mirror that has shown nothing for so long is not running, ms.
const BOARD_STALE_MS: i64 = 10_000;

/// Keeps a mirror's groups in step until told to stop, or the mirror is promoted.
pub async fn keep_in_step(
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    board: Board,
    mut stop: watch::Receiver<bool>,
) {
    let Some(groups) = mirror.groups.clone() else { return };
    board.groups_in_step(now_ms());
    let interval = groups.interval;
    let mut sync = Sync {
        config,
        mirror,
        groups,
        board,
        ends: None,
        ledger: Ledger::default(),
        known: BTreeMap::new(),
        last: SyncRecord::default(),
        said: Said::default(),
    };
    let work = async {
        loop {
            let began = Instant::now();
            let outcome = sync.round().await;
            if matches!(outcome, Ok(Round::Promoted)) {
                return;
            }
            sync.tell(outcome);
            tokio::time::sleep(interval.saturating_sub(began.elapsed()).max(interval / 4)).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// How a round went.
enum Round {
    /// Every group was looked at.
    Whole(SyncRecord),
    /// Nothing is to be done now, and why.
    Waiting(&'static str),
    /// Nothing more is to be done.
    Promoted,
}

struct Ends {
    source: Cluster,
    target: Cluster,
    follower: StateFollower,
    refresh_ms: i64,
}

/// A group on the target as it was last read, with what was written since.
struct Known {
    group: Option<TargetGroup>,
    read_ms: i64,
}

struct Sync {
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    groups: GroupSync,
    board: Board,
    ends: Option<Ends>,
    ledger: Ledger,
    known: BTreeMap<String, Known>,
    last: SyncRecord,
    said: Said,
}

/// What a round has found out so far.
#[derive(Default)]
struct Found {
    record: SyncRecord,
    failed: BTreeMap<String, String>,
    left_alone: BTreeMap<String, String>,
    commits: Commits,
}

impl Found {
    fn count(&mut self, plan: &GroupPlan<'_>) {
        match why_left_alone(plan) {
            None if self.failed.contains_key(plan.group) => {}
            None => self.record.synced += 1,
            Some((why, is_somebodys)) => {
                let counter = match is_somebodys {
                    true => &mut self.record.left_alone,
                    false => &mut self.record.not_translatable,
                };
                *counter += 1;
                self.left_alone.insert(plan.group.to_owned(), why);
            }
        }
        let lost = plan.lines().iter().filter(|line| matches!(line.outcome, Outcome::Untranslatable { .. }));
        self.record.untranslatable_offsets += lost.count() as u64;
    }
}

impl Sync {
    async fn round(&mut self) -> Result<Round, EngineError> {
        if self.board_is_stale() {
            return Ok(Round::Waiting("the mirror is not running yet"));
        }
        let mut ends = match self.ends.take() {
            Some(ends) => ends,
            None => self.connect().await?,
        };
        let outcome = self.round_between(&mut ends).await;
        // After a failure everything begins anew: the state topic may be another one.
        if outcome.is_ok() {
            self.ends = Some(ends);
        }
        outcome
    }

    fn board_is_stale(&self) -> bool {
        let at_ms = i64::try_from(self.board.read().0).unwrap_or(0);
        at_ms + BOARD_STALE_MS < now_ms()
    }

    async fn connect(&mut self) -> Result<Ends, EngineError> {
        let (source, target) = connect_mirror(&self.config, &self.mirror).await?;
        let last = last_sync(&self.mirror.name, &target).await.unwrap_or_default();
        if let Some(last) = last.filter(|last| last.at_ms > self.last.at_ms) {
            self.last = last;
            self.board.groups_in_step(last.at_ms);
        }
        let refresh_ms = refresh_ms(offsets_retention_ms(&target).await);
        let follower = StateFollower::new(&self.mirror.name, &target);
        Ok(Ends { source, target, follower, refresh_ms })
    }

    async fn round_between(&mut self, ends: &mut Ends) -> Result<Round, EngineError> {
        if let Some(round) = held_up(&mut ends.follower).await? {
            return Ok(round);
        }
        let began_ms = now_ms();
        let mirror = Arc::clone(&self.mirror);
        let mut sources = read::sources(&self.groups.filter, &ends.source, PATIENCE).await?;
        sources.groups.retain(|name, _| self.groups.filter.matches(name));
        let settled = self.settled();
        let told = |topic: &str, partition| settled.get(topic)?.get(&partition).copied();
        let mut logs = Logs::read(&mirror, &ends.source, &ends.target, &sources.groups, told).await?;
        let state = ends.follower.look().await?;
        logs.settle(&mirror.name, &state, &ends.target).await?;
        let views = logs.views(&state);
        let listed = read::listed_targets(&ends.target).await?;
        self.follow(&sources.groups, &listed);
        let mut found = Found::default();
        found.failed.extend(sources.failed.iter().map(|(name, error)| (name.clone(), error.to_string())));
        note_unreadable(&sources.groups, &logs.unreadable, &mut found);
        let in_doubt = self.in_doubt(&sources.groups, &views, ends.refresh_ms, &mut found);
        let read = read::targets(&ends.target, &in_doubt, &listed, PATIENCE).await;
        self.learn(&in_doubt, read, &mut found);
        self.recall(&in_doubt, &sources.groups, &views, ends).await;
        self.plan(&in_doubt, &sources.groups, &views, ends.refresh_ms, &mut found);
        if let Some(round) = self.write(ends, &mut found).await? {
            return Ok(round);
        }
        found.record.groups = (sources.groups.len() + sources.failed.len()) as u64;
        found.record.failed = found.failed.len() as u64;
        found.record.at_ms = if found.failed.is_empty() { began_ms } else { self.last.at_ms };
        // What an authorizer refuses is known by Kafka's name of the error.
        let refused = found.failed.values().filter(|why| why.contains("_AUTHORIZATION_FAILED"));
        self.board.note_want(Lacks::Groups, refused.map(String::as_str));
        self.said.groups(&mirror.name, found.failed, found.left_alone);
        if let Some(tp) = ends.follower.control_partition() {
            let at = (tp.topic.clone(), tp.partition);
            self.said.recorded(&mirror.name, keep(&mirror.name, &ends.target, at, &found.record).await);
        }
        Ok(Round::Whole(found.record))
    }

    /// How far the running mirror knows each partition to be settled, by source topic.
    fn settled(&self) -> HashMap<String, HashMap<i32, SettledEnd>> {
        let mut settled: HashMap<String, HashMap<i32, SettledEnd>> = HashMap::new();
        for part in self.board.read().1.iter().filter(|part| part.target_end >= 0) {
            let end = SettledEnd { end: part.target_end, scanned: part.mirrored_to };
            settled.entry(part.topic.clone()).or_default().insert(part.partition, end);
        }
        settled
    }

    /// Takes up what the target's list says of the groups that are known, and forgets those that are gone.
    fn follow(&mut self, sources: &BTreeMap<String, SourceGroup>, listed: &BTreeMap<String, ListedGroup>) {
        self.known.retain(|name, _| sources.contains_key(name));
        for (name, known) in &mut self.known {
            match (listed.get(name), &mut known.group) {
                (Some(listed), Some(group)) => {
                    *group = read::target_group(listed, std::mem::take(&mut group.offsets));
                }
                (None, None) => {}
                // It came or went.
                _ => known.read_ms = 0,
            }
        }
        let gone: Vec<String> = self
            .ledger
            .groups()
            .filter(|name| !sources.contains_key(*name) && !listed.contains_key(*name))
            .map(str::to_owned)
            .collect();
        gone.iter().for_each(|name| self.ledger.forget(name));
    }

    /// Groups whose offsets on the target must be read: those that are not known well enough, and those to be written. The
    /// others are counted.
    fn in_doubt(
        &self,
        sources: &BTreeMap<String, SourceGroup>,
        views: &Views<'_>,
        refresh_ms: i64,
        found: &mut Found,
    ) -> Vec<String> {
        let now_ms = now_ms();
        let planner = Planner::new(views, &self.ledger, options(refresh_ms), now_ms);
        let mut in_doubt = Vec::new();
        for (name, source) in sources {
            let plan = self.known.get(name).map(|known| (known, planner.group(name, source, known.group.as_ref())));
            let sure = plan.filter(|(known, plan)| {
                let believed_ms = if is_somebodys(plan) { SOMEBODYS_BELIEVED_MS } else { BELIEVED_MS };
                now_ms - known.read_ms < believed_ms && plan.commits().next().is_none()
            });
            match sure {
                Some((_, plan)) => found.count(&plan),
                None => in_doubt.push(name.clone()),
            }
        }
        in_doubt
    }

    fn learn(&mut self, asked: &[String], mut read: read::Side<TargetGroup>, found: &mut Found) {
        let read_ms = now_ms();
        for name in asked {
            if let Some(error) = read.failed.remove(name) {
                self.known.remove(name);
                found.failed.insert(name.clone(), error.to_string());
                continue;
            }
            self.known.insert(name.clone(), Known { group: read.groups.remove(name), read_ms });
        }
    }

    /// Looks up what was noted for groups of which something passes for somebody else's: an earlier run may have written it, or
    /// an operator.
    async fn recall(
        &mut self,
        asked: &[String],
        sources: &BTreeMap<String, SourceGroup>,
        views: &Views<'_>,
        ends: &Ends,
    ) {
        let mut left_alone: BTreeMap<String, BTreeSet<(String, i32)>> = BTreeMap::new();
        let planner = Planner::new(views, &self.ledger, options(ends.refresh_ms), now_ms());
        for name in asked {
            let (Some(source), Some(known)) = (sources.get(name), self.known.get(name)) else { continue };
            let plan = planner.group(name, source, known.group.as_ref());
            let lines = plan.lines().iter().filter(|line| matches!(line.outcome, Outcome::LeftAlone { .. }));
            let places = lines.filter_map(|line| Some((line.target_topic?.to_owned(), line.partition)));
            let places: BTreeSet<_> = places.collect();
            if !places.is_empty() {
                left_alone.insert(name.clone(), places);
            }
        }
        let names: Vec<String> = left_alone.keys().cloned().collect();
        for note in notes::read(&self.mirror.name, &ends.target, &names, PATIENCE).await {
            let place = (note.topic, note.partition);
            // What this run has written itself it knows better.
            if left_alone.get(&note.group).is_some_and(|places| places.contains(&place)) {
                self.ledger.recall(&note.group, &place.0, place.1, note.stood, note.sent);
            }
        }
    }

    /// Plans what was in doubt, and counts.
    fn plan(
        &self,
        asked: &[String],
        sources: &BTreeMap<String, SourceGroup>,
        views: &Views<'_>,
        refresh_ms: i64,
        found: &mut Found,
    ) {
        let planner = Planner::new(views, &self.ledger, options(refresh_ms), now_ms());
        for name in asked {
            let (Some(known), Some((name, source))) = (self.known.get(name), sources.get_key_value(name)) else {
                continue;
            };
            let plan = planner.group(name, source, known.group.as_ref());
            found.count(&plan);
            found.commits.add(&plan, known.group.as_ref());
        }
    }

    /// Writes portion by portion, as long as nothing was said against it.
    async fn write(&mut self, ends: &mut Ends, found: &mut Found) -> Result<Option<Round>, EngineError> {
        let mut commits = std::mem::take(&mut found.commits);
        while !commits.is_empty() {
            if let Some(round) = held_up(&mut ends.follower).await? {
                return Ok(Some(round));
            }
            let portion = commits.split(GROUPS_AT_ONCE);
            let sent = portion.clone();
            let applied = apply(&self.mirror.name, &ends.target, portion, &mut self.ledger, PATIENCE).await;
            let refused: BTreeMap<String, (bool, String)> =
                applied.refused.into_iter().map(|refused| (refused.group, (refused.live, refused.error))).collect();
            for name in sent.groups() {
                match refused.get(name) {
                    None => self.written(name, &sent),
                    Some((live, error)) => {
                        self.known.remove(name);
                        let counted = u64::from(!found.failed.contains_key(name));
                        found.record.synced = found.record.synced.saturating_sub(counted);
                        if *live {
                            found.record.left_alone += 1;
                            found.left_alone.insert(name.to_owned(), Skip::LiveOnTarget.to_string());
                        } else {
                            found.failed.insert(name.to_owned(), error.clone());
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    fn written(&mut self, name: &str, sent: &Commits) {
        let (Some(known), Some(offsets)) = (self.known.get_mut(name), sent.offsets(name)) else { return };
        let group = known.group.get_or_insert_with(|| TargetGroup {
            kind: GroupType::Classic,
            live: false,
            ever_joined: false,
            offsets: ByPartition::default(),
        });
        for ((topic, partition), committed) in offsets {
            group.offsets.insert(topic, *partition, committed.clone());
        }
    }

    fn tell(&mut self, outcome: Result<Round, EngineError>) {
        match &outcome {
            // Some of its groups may stand still: that is noted with them.
            Ok(Round::Whole(_)) => {}
            outcome => self.board.note_outcome(Lacks::Groups, outcome),
        }
        match outcome {
            Ok(Round::Whole(record)) => {
                self.said.well(&self.mirror.name, &record);
                // Never yet: then since the start of this process.
                if record.at_ms > 0 {
                    self.board.groups_in_step(record.at_ms);
                }
                self.board.groups_synced(record.synced);
                self.last = record;
            }
            Ok(Round::Waiting(why)) => self.said.waiting(&self.mirror.name, why),
            Ok(Round::Promoted) => {}
            Err(error) => self.said.failed(&self.mirror.name, &error.to_string()),
        }
    }
}

/// A group of which a partition could not be translated this time is not in step.
fn note_unreadable(
    sources: &BTreeMap<String, SourceGroup>,
    unreadable: &BTreeMap<(String, i32), String>,
    found: &mut Found,
) {
    for ((topic, partition), why) in unreadable {
        let concerned = sources.iter().filter(|(_, source)| source.offsets.get(topic, *partition).is_some());
        for (name, _) in concerned {
            found.failed.entry(name.clone()).or_insert_with(|| format!("{topic}:{partition}: {why}"));
        }
    }
}

fn options(refresh_ms: i64) -> Options {
    // What an earlier run wrote is not known any more.
    Options { refresh_ms, overwrite: Overwrite::Unused }
}

/// Why nothing is written now, if so.
async fn held_up(follower: &mut StateFollower) -> Result<Option<Round>, EngineError> {
    Ok(match follower.look_at_control().await? {
        None => Some(Round::Waiting("the mirror has not begun")),
        Some(control) if control.standing_promotion().is_some() => Some(Round::Promoted),
        Some(control) if control.is_all_paused() => Some(Round::Waiting("the mirror is paused")),
        Some(_) => None,
    })
}

/// Whether somebody else's offsets stand on the target.
fn is_somebodys(plan: &GroupPlan<'_>) -> bool {
    plan.lines().iter().any(|line| matches!(line.outcome, Outcome::LeftAlone { .. }))
}

/// Why something of the group is left as it is on the target, and whether it is somebody's there.
fn why_left_alone(plan: &GroupPlan<'_>) -> Option<(String, bool)> {
    match &plan.decision {
        Decision::Skipped { why } => Some((why.to_string(), *why == Skip::LiveOnTarget)),
        Decision::Planned { lines, .. } => lines.iter().find_map(|line| match line.outcome {
            Outcome::LeftAlone { found, .. } => {
                let topic = line.target_topic.unwrap_or(line.topic);
                let at = format!("{topic}:{}", line.partition);
                Some((format!("offset {found} of {at} was committed by somebody else"), true))
            }
            _ => None,
        }),
    }
}
