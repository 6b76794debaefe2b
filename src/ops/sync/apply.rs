//! What is planned, done: noted before it is set and after, so that what the mirror has set is known whenever it is cut short.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::acls::shut_out;
use crate::client::{ClientError, Cluster, QuotaChange};
use crate::config::MirrorConfig;
use crate::engine::control::Control;
use crate::engine::{EngineError, now_ms};
use crate::mirror::{ControlRecord, ControlState, Owned, SyncEntry, SyncKey, SyncKind};
use crate::plan::{AclBinding, SyncAction, SyncPlan, SyncRow, acl_of, entity_of, held_back_acls};

/// Topics at which it is tried whether kmirror is let in still.
const TRIED_AT_MOST: usize = 100;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Applied {
    /// Things that were set.
    pub set: usize,
    /// Things that were taken away.
    pub removed: usize,
    /// What could not be, and why.
    pub failed: Vec<String>,
    /// ACLs would keep kmirror off the target.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) is_shut_out: bool,
}

const SHUT_OUT: &str = "ACLs: those that were created closed topics to kmirror itself, and were taken back: on the target what has no ACL \
                        is open to everybody (allow.everyone.if.no.acl.found). Give kmirror's principal its rights there by ACL, and \
                        start it again";

/// Does what is planned. What one thing is refused says nothing of the others.
pub(super) async fn apply(
    mirror: &MirrorConfig,
    mut control: Control,
    target: &Cluster,
    plan: &SyncPlan,
    acls_wanted: bool,
) -> Result<Applied, EngineError> {
    let mut entries: Vec<SyncEntry> = plan.notes.clone();
    entries.extend(plan.changes().filter(|row| is_owned(row.kind)).map(about_to));
    note(&mut control, entries).await?;
    let mut done = Done { target, outcome: Applied::default(), settled: Vec::new() };
    done.topic_configs(plan).await?;
    done.partitions(plan).await?;
    if acls_wanted {
        done.acls(plan).await?;
    } else if plan.changes().any(|row| row.kind == SyncKind::Acl) {
        done.outcome.failed.push(SHUT_OUT.to_owned());
        done.outcome.is_shut_out = true;
    }
    done.quotas(plan).await?;
    let settled = std::mem::take(&mut done.settled);
    note(&mut control, settled).await?;
    for row in of_kind(plan, SyncKind::Deletion) {
        // The last moment to hear of it: after a promotion the topic is the target's own.
        control.read_to_end().await?;
        if control.state.standing_promotion().is_some() {
            break;
        }
        done.deletion(&mirror.name, row).await?;
        note(&mut control, std::mem::take(&mut done.settled)).await?;
    }
    Ok(done.outcome)
}

fn of_kind(plan: &SyncPlan, kind: SyncKind) -> Vec<&SyncRow> {
    plan.changes().filter(|row| row.kind == kind).collect()
}

fn is_owned(kind: SyncKind) -> bool {
    matches!(kind, SyncKind::TopicConfig | SyncKind::Acl | SyncKind::Quota)
}

fn about_to(row: &SyncRow) -> SyncEntry {
    SyncEntry { key: row.of.clone(), owned: Owned { value: row.to.clone(), before: row.from.clone() } }
}

/// Writes what is not on record like that already: what fails again and again leaves one note.
async fn note(control: &mut Control, entries: Vec<SyncEntry>) -> Result<(), EngineError> {
    let records = ControlRecord::synced(&news(&control.state, entries), now_ms());
    control.write_all(&records).await?;
    records.iter().for_each(|record| control.state.apply(record));
    Ok(())
}

fn news(state: &ControlState, entries: Vec<SyncEntry>) -> Vec<SyncEntry> {
    let is_news = |entry: &SyncEntry| match state.synced().get(&entry.key) {
        Some(known) => *known != entry.owned,
        None => entry.owned != Owned::default(),
    };
    entries.into_iter().filter(is_news).collect()
}

/// Changes of a topic's configs, noted before and after: those of a promotion, and those that undo them.
pub(in crate::ops) async fn noted(
    control: &Control,
    target: &Cluster,
    topic: &str,
    changes: &BTreeMap<String, (Option<String>, Option<String>)>,
) -> Result<Result<(), ClientError>, EngineError> {
    let entry = |key: &str, owned| SyncEntry { key: SyncKey::new(SyncKind::TopicConfig, topic, key), owned };
    let before = changes.iter().map(|(key, (from, to))| entry(key, Owned { value: to.clone(), before: from.clone() }));
    control.write_all(&ControlRecord::synced(&before.collect::<Vec<_>>(), now_ms())).await?;
    let wanted = changes.iter().map(|(key, (_, to))| (key.clone(), to.clone())).collect();
    if let Err(error) = target.alter_topic_configs(topic, &wanted).await {
        return Ok(Err(error));
    }
    let after = changes.iter().map(|(key, (_, to))| entry(key, Owned { value: to.clone(), before: to.clone() }));
    control.write_all(&ControlRecord::synced(&after.collect::<Vec<_>>(), now_ms())).await?;
    Ok(Ok(()))
}

/// Creates the ACLs that were held back for a promotion; gives them, and what the target refuses. Said again, it changes nothing.
pub(in crate::ops) async fn create_held_back(
    control: &mut Control,
    target: &Cluster,
) -> Result<(Vec<AclBinding>, Vec<String>), EngineError> {
    let held = held_back_acls(control.state.synced());
    if held.is_empty() {
        return Ok((held, Vec::new()));
    }
    // What stands there by hand already is not the mirror's.
    let there = target.acl_bindings().await?.unwrap_or_default();
    let synced = control.state.synced();
    let is_ours = |key: &SyncKey| synced.get(key).is_some();
    let keys = synced.of_kind(SyncKind::HeldBackAcl).map(|(key, _)| key);
    let keys: Vec<SyncKey> = keys
        .filter(|key| acl_of(key).is_some_and(|acl| !there.contains(&acl)))
        .map(|key| SyncKey { kind: SyncKind::Acl, ..key.clone() })
        .filter(|key| !is_ours(key))
        .collect();
    let entry = |key: &SyncKey, owned| SyncEntry { key: key.clone(), owned };
    let before = keys.iter().map(|key| entry(key, Owned { value: Some(String::new()), before: None }));
    note(control, before.collect()).await?;
    let refused = target.create_acls(&held).await?;
    let is_refused = |acl: &AclBinding| refused.iter().any(|(other, _)| other == acl);
    let there = keys.iter().filter(|key| acl_of(key).is_some_and(|acl| !is_refused(&acl)));
    note(control, there.map(|key| entry(key, Owned::settled(""))).collect()).await?;
    let words = refused.iter().map(|(acl, error)| format!("{acl}: {error}")).collect();
    Ok((held.into_iter().filter(|acl| !is_refused(acl)).collect(), words))
}

struct Done<'a> {
    target: &'a Cluster,
    outcome: Applied,
    settled: Vec<SyncEntry>,
}

impl Done<'_> {
    fn through(&mut self, row: &SyncRow) {
        let is_set = row.action == SyncAction::Set;
        self.outcome.set += usize::from(is_set);
        self.outcome.removed += usize::from(!is_set);
        tracing::info!(object = row.object, from = row.from, to = row.to, action = %row.action, "the target follows");
        if is_owned(row.kind) {
            let owned = row.to.clone().map(Owned::settled).unwrap_or_default();
            self.settled.push(SyncEntry { key: row.of.clone(), owned });
        }
    }

    fn failed(&mut self, row: &SyncRow, error: &ClientError) {
        self.outcome.failed.push(format!("{}: {error}", row.object));
    }

    /// One refusal is one refusal; a cluster that is gone ends it all.
    fn outcome(&mut self, rows: &[&SyncRow], outcome: Result<(), ClientError>) -> Result<(), EngineError> {
        match outcome {
            Ok(()) => rows.iter().for_each(|row| self.through(row)),
            Err(error) if error.is_unreachable() => return Err(error.into()),
            Err(error) => rows.iter().for_each(|row| self.failed(row, &error)),
        }
        Ok(())
    }

    async fn topic_configs(&mut self, plan: &SyncPlan) -> Result<(), EngineError> {
        let mut topics: BTreeMap<&str, Vec<&SyncRow>> = BTreeMap::new();
        for row in of_kind(plan, SyncKind::TopicConfig) {
            topics.entry(&row.of.of).or_default().push(row);
        }
        for (topic, rows) in topics {
            let changes = rows.iter().map(|row| (row.of.key.clone(), row.to.clone())).collect();
            let outcome = self.target.alter_topic_configs(topic, &changes).await;
            self.outcome(&rows, outcome)?;
        }
        Ok(())
    }

    async fn partitions(&mut self, plan: &SyncPlan) -> Result<(), EngineError> {
        for row in of_kind(plan, SyncKind::Partitions) {
            let Some(to) = row.to.as_ref().and_then(|to| to.parse().ok()) else { continue };
            let outcome = self.target.create_partitions(&row.of.of, to).await;
            self.outcome(&[row], outcome)?;
        }
        Ok(())
    }

    /// What is denied comes first and goes last: nobody gets a right in between that neither state gives.
    async fn acls(&mut self, plan: &SyncPlan) -> Result<(), EngineError> {
        let rows: Vec<(&SyncRow, AclBinding)> =
            of_kind(plan, SyncKind::Acl).into_iter().filter_map(|row| Some((row, acl_of(&row.of)?))).collect();
        let turns = [
            (SyncAction::Set, true),
            (SyncAction::Set, false),
            (SyncAction::Remove, false),
            (SyncAction::Remove, true),
        ];
        for (action, denies) in turns {
            let mut turn = rows.clone();
            turn.retain(|(row, acl)| row.action == action && (acl.permission == "DENY") == denies);
            let acls: Vec<AclBinding> = turn.iter().map(|(_, acl)| acl.clone()).collect();
            if acls.is_empty() {
                continue;
            }
            let refused = match action {
                SyncAction::Set => self.target.create_acls(&acls).await,
                _ => self.target.delete_acls(&acls).await,
            };
            let refused = match refused {
                Ok(refused) => refused,
                Err(error) => {
                    let all: Vec<&SyncRow> = turn.iter().map(|(row, _)| *row).collect();
                    self.outcome(&all, Err(error))?;
                    // What should have come first did not: what comes behind it waits.
                    return Ok(());
                }
            };
            for (row, acl) in &turn {
                match refused.iter().find(|(other, _)| other == acl) {
                    None => self.through(row),
                    Some((_, error)) => self.failed(row, error),
                }
            }
            if !refused.is_empty() {
                return Ok(());
            }
            if action == SyncAction::Set && !denies && !self.is_let_in(&rows).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where a topic without ACLs is open to everybody (allow.everyone.if.no.acl.found) its first one may close it to kmirror: then all
    /// that were just created are taken back.
    async fn is_let_in(&mut self, rows: &[(&SyncRow, AclBinding)]) -> Result<bool, EngineError> {
        let mut created: Vec<AclBinding> = Vec::new();
        created.extend(rows.iter().filter(|(row, _)| row.action == SyncAction::Set).map(|(_, acl)| acl.clone()));
        let metadata = self.target.metadata();
        let is_touched = |topic: &&str| created.iter().any(|acl| acl.is_of_topic(topic));
        let topics = metadata.topics.values().filter(|topic| !topic.internal && topic.error == 0);
        let topics: Vec<&str> =
            topics.map(|topic| topic.name.as_str()).filter(is_touched).take(TRIED_AT_MOST).collect();
        if topics.is_empty() {
            return Ok(true);
        }
        let Some(shut_out) = shut_out(self.target, &topics).await? else { return Ok(true) };
        self.target.delete_acls(&created).await?;
        self.settled.retain(|entry| entry.key.kind != SyncKind::Acl);
        let gone = rows.iter().filter(|(row, _)| row.action == SyncAction::Set);
        self.settled.extend(gone.map(|(row, _)| SyncEntry { key: row.of.clone(), owned: Owned::default() }));
        self.outcome.set = self.outcome.set.saturating_sub(created.len());
        tracing::warn!(topic = shut_out, "an ACL closes the topic to kmirror itself: taken back");
        self.outcome.failed.push(SHUT_OUT.to_owned());
        self.outcome.is_shut_out = true;
        Ok(false)
    }

    async fn quotas(&mut self, plan: &SyncPlan) -> Result<(), EngineError> {
        let mut entities: BTreeMap<&str, Vec<&SyncRow>> = BTreeMap::new();
        for row in of_kind(plan, SyncKind::Quota) {
            entities.entry(&row.of.of).or_default().push(row);
        }
        let change = |rows: &Vec<&SyncRow>| {
            let entity = entity_of(&rows.first()?.of)?.into_iter().map(|part| (part.kind, part.name)).collect();
            let value = |row: &&SyncRow| (row.of.key.clone(), row.to.as_ref().and_then(|to| to.parse().ok()));
            Some(QuotaChange { entity, values: rows.iter().map(value).collect() })
        };
        let changes: Vec<(Vec<&SyncRow>, QuotaChange)> =
            entities.into_values().filter_map(|rows| change(&rows).map(|change| (rows, change))).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let wanted: Vec<QuotaChange> = changes.iter().map(|(_, change)| change.clone()).collect();
        let refused = match self.target.change_client_quotas(&wanted).await {
            Ok(refused) => refused,
            Err(error) => {
                let all: Vec<&SyncRow> = changes.iter().flat_map(|(rows, _)| rows.iter().copied()).collect();
                return self.outcome(&all, Err(error));
            }
        };
        for (rows, change) in &changes {
            let error = refused.iter().find(|(other, _)| other == change).map(|(_, error)| error.clone());
            self.outcome(rows, error.map_or(Ok(()), Err))?;
        }
        Ok(())
    }

    async fn deletion(&mut self, mirror: &str, row: &SyncRow) -> Result<(), EngineError> {
        let (topic, Ok(id)) = (&row.of.of, row.of.key.parse()) else { return Ok(()) };
        tracing::warn!(mirror, topic, reason = row.reason, "deleting the topic on the target");
        let outcome = self.target.delete_topic(topic, id).await;
        let is_done = outcome.is_ok();
        self.outcome(&[row], outcome)?;
        if is_done {
            let made = SyncKey::new(SyncKind::Topic, topic, "");
            let gone = [row.of.clone(), made].map(|key| SyncEntry { key, owned: Owned::default() });
            self.settled.extend(gone);
        }
        Ok(())
    }
}
