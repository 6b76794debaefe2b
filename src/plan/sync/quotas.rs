//! Client quotas, and SCRAM users.

use std::collections::{BTreeMap, BTreeSet};

use super::super::quota_restore::{Quota, QuotaEntity, ScramCredential, missing_users};
use super::{SyncAction, SyncPlan, SyncRow, Weighing};
use crate::mirror::{SyncKey, SyncKind};

/// Value by entity and quota.
type Values = BTreeMap<(String, String), String>;

/// What is to be set of the source's quotas.
#[must_use]
pub fn plan_quota_sync(source: &[Quota], target: &[Quota], how: &Weighing<'_>) -> SyncPlan {
    let (wanted, found) = (values(source), values(target));
    let mut plan = SyncPlan::default();
    let owned: BTreeSet<(String, String)> =
        how.synced.of_kind(SyncKind::Quota).map(|(key, _)| (key.of.clone(), key.key.clone())).collect();
    // An entity without any is left alone: a cluster that tells none may only hide them.
    if wanted.is_empty() && !owned.is_empty() {
        plan.warnings.push("the source tells no client quota at all: none is taken away on the target".to_owned());
        return plan;
    }
    let keys: BTreeSet<(String, String)> = wanted.keys().cloned().chain(owned).collect();
    for key in keys {
        let (from, to) = (found.get(&key), wanted.get(&key));
        let (entity, quota) = key;
        let object = format!("{quota} of {}", in_words(&entity));
        let of = SyncKey::new(SyncKind::Quota, entity, quota);
        plan.weigh(of, object, (from.map(String::as_str), to.map(String::as_str)), how);
    }
    let by_default = source.iter().any(|quota| quota.entity.iter().all(|part| part.name.is_none()));
    if by_default {
        let warning =
            "a default quota holds kmirror on the target, too: give its user or client id there a quota of its own";
        plan.warnings.push(warning.to_owned());
    }
    plan
}

fn values(quotas: &[Quota]) -> Values {
    let of = |quota: &Quota| {
        let entity = name_of(&quota.entity);
        quota
            .values
            .iter()
            .map(move |(key, value)| ((entity.clone(), key.clone()), value.to_string()))
            .collect::<Vec<_>>()
    };
    quotas.iter().flat_map(of).collect()
}

/// The same for every order of its parts.
fn name_of(entity: &[QuotaEntity]) -> String {
    let parts: BTreeSet<&QuotaEntity> = entity.iter().collect();
    // Names and words: writing them as JSON cannot fail.
    serde_json::to_string(&parts).unwrap_or_default()
}

/// The entity that a quota is remembered by.
#[must_use]
pub fn entity_of(key: &SyncKey) -> Option<Vec<QuotaEntity>> {
    serde_json::from_str(&key.of).ok().filter(|_| key.kind == SyncKind::Quota)
}

fn in_words(entity: &str) -> String {
    let parts: Vec<QuotaEntity> = serde_json::from_str(entity).unwrap_or_default();
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Users whom the target lacks: a cluster tells no secret of its users (KIP-554), so nobody else can create them.
#[must_use]
pub fn plan_user_sync(source: &[ScramCredential], target: &[ScramCredential], bootstrap: &str) -> SyncPlan {
    let missing = missing_users(source, target, bootstrap);
    let names: BTreeSet<&str> = source.iter().map(|credential| credential.user.as_str()).collect();
    let in_step = names.len() - missing.len();
    let row = |user: super::super::quota_restore::MissingUser| {
        let mechanisms: Vec<&str> = user.mechanisms.iter().map(|one| one.mechanism.as_str()).collect();
        SyncRow {
            kind: SyncKind::ScramUser,
            object: format!("SCRAM user {}", user.user),
            from: None,
            to: Some(mechanisms.join(", ")),
            action: SyncAction::ByHand,
            reason: Some(user.command),
            of: SyncKey::new(SyncKind::ScramUser, user.user, ""),
        }
    };
    SyncPlan { rows: missing.into_iter().map(row).collect(), in_step, ..SyncPlan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Owned, SyncEntry, Synced};

    fn quota(entity: &[(&str, Option<&str>)], values: &[(&str, f64)]) -> Quota {
        let part =
            |(kind, name): &(&str, Option<&str>)| QuotaEntity { kind: (*kind).into(), name: name.map(Into::into) };
        Quota {
            entity: entity.iter().map(part).collect(),
            values: values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        }
    }

    #[test]
    fn each_value_follows_by_itself() {
        let (alice, bob) = (("user", Some("alice")), ("user", Some("bob")));
        let client = ("client-id", Some("etl"));
        let key = |entity: &[(&str, Option<&str>)], quota_key: &str| {
            SyncKey::new(SyncKind::Quota, name_of(&quota(entity, &[]).entity), quota_key)
        };
        let mut synced = Synced::default();
        synced.apply(&[
            SyncEntry { key: key(&[alice], "producer_byte_rate"), owned: Owned::settled("1") },
            SyncEntry { key: key(&[bob], "producer_byte_rate"), owned: Owned::settled("1") },
        ]);
        let source = [
            quota(&[alice], &[("producer_byte_rate", 2.0), ("consumer_byte_rate", 0.5)]),
            quota(&[alice, client], &[("producer_byte_rate", 9.0)]),
        ];
        let target = [
            quota(&[alice], &[("producer_byte_rate", 1.0), ("consumer_byte_rate", 7.0)]),
            quota(&[bob], &[("producer_byte_rate", 1.0)]),
            quota(&[client, alice], &[("producer_byte_rate", 9.0)]),
        ];
        let how = Weighing { synced: &synced, take_over: false };
        let plan = plan_quota_sync(&source, &target, &how);
        let rows: Vec<_> = plan.rows.iter().map(|row| (row.object.as_str(), row.action, row.to.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("consumer_byte_rate of user alice", SyncAction::LeftAlone, Some("0.5")),
                ("producer_byte_rate of user alice", SyncAction::Set, Some("2")),
                ("producer_byte_rate of user bob", SyncAction::Remove, None),
            ]
        );
        assert_eq!((plan.in_step, plan.warnings.len()), (1, 0));
        assert_eq!(entity_of(&plan.rows[1].of), Some(source[0].entity.clone()));
        let empty = plan_quota_sync(&[], &target, &how);
        assert!(empty.rows.is_empty() && empty.warnings.len() == 1, "{empty:?}");
        let by_default = plan_quota_sync(&[quota(&[("user", None)], &[("request_percentage", 50.0)])], &[], &how);
        assert_eq!(by_default.warnings.len(), 1);
    }

    #[test]
    fn missing_users_are_named_with_their_command() {
        let scram =
            |user: &str| ScramCredential { user: user.into(), mechanism: "SCRAM-SHA-256".into(), iterations: 4096 };
        let plan = plan_user_sync(&[scram("al"), scram("bo")], &[scram("al")], "h:1");
        assert_eq!((plan.in_step, plan.rows.len()), (1, 1));
        assert_eq!(plan.rows[0].action, SyncAction::ByHand);
        assert!(plan.rows[0].reason.as_ref().is_some_and(|command| command.contains("--entity-name bo ")));
    }
}
