//! What a cluster says of ACLs, quotas and users: it is compared, remembered and created elsewhere, and said in words and commands.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kmirror::client::fuzzing::access;
use kmirror::mirror::{SyncKind, Synced};
use kmirror::plan::{
    AclBinding, AclScope, AclSyncScope, Quota, ScramCredential, SyncAction, SyncPlan, Weighing, acl_of, entity_of,
    plan_acl_restore, plan_acl_sync, plan_quota_restore, plan_quota_sync, plan_user_sync,
};

use super::Input;

/// A version, counted from the first one of each api; the source's answer with its length in front, then the target's. Each is
/// a frame without its size.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let turn = input.u8();
    let [source, target] = [input.piece(), input.0].map(|frame| access(turn, &Bytes::copy_from_slice(frame)));
    acls(&source.0, &target.0);
    quotas(&source.1, &target.1);
    users(&source.2, &target.2);
}

fn acls(source: &[AclBinding], target: &[AclBinding]) {
    for acl in source {
        assert!(acl.numbers().is_some(), "what a cluster says can be said to another: {acl:?}");
        let _ = acl.compared();
    }
    let topics = BTreeMap::from([("orders".to_owned(), "dr.orders".to_owned())]);
    let groups = BTreeSet::from(["billing".to_owned()]);
    for is_whole in [false, true] {
        let scope = AclScope { topics: &topics, groups: &groups, is_whole };
        let plan = plan_acl_restore(source, target, scope);
        let there = [target, &plan.create].concat();
        assert_eq!(plan_acl_restore(source, &there, scope).create, [], "once created, nothing is left to create");
    }
    let scope = AclSyncScope {
        topic: &|topic| topics.get(topic).cloned(),
        prefix: &|prefix| Some(format!("dr.{prefix}")),
        mirrored: &topics,
        others: &BTreeSet::new(),
        fenced: &BTreeSet::new(),
        own_principal: Some("User:kmirror"),
    };
    let synced = Synced::default();
    let plan = plan_acl_sync(source, target, scope, &Weighing { synced: &synced, take_over: false });
    for row in plan.rows.iter().filter(|row| row.kind == SyncKind::Acl) {
        assert!(acl_of(&row.of).is_some(), "what is remembered can be read: {row:?}");
    }
    settles(&plan, |synced| {
        let created = plan.changes().filter_map(|row| acl_of(&row.of));
        let there: Vec<AclBinding> = target.iter().cloned().chain(created).collect();
        plan_acl_sync(source, &there, scope, &Weighing { synced, take_over: false })
    });
}

fn quotas(source: &[Quota], target: &[Quota]) {
    let _ = plan_quota_restore(source, target);
    let synced = Synced::default();
    let plan = plan_quota_sync(source, target, &Weighing { synced: &synced, take_over: true });
    for row in &plan.rows {
        assert!(entity_of(&row.of).is_some(), "what is remembered can be read: {row:?}");
        assert!(row.to.as_ref().is_none_or(|to| to.parse::<f64>().is_ok_and(f64::is_finite)));
    }
    settles(&plan, |synced| plan_quota_sync(source, source, &Weighing { synced, take_over: true }));
}

/// Carried out and noted, a plan is followed by one that changes nothing.
fn settles(plan: &SyncPlan, again: impl Fn(&Synced) -> SyncPlan) {
    let mut synced = Synced::default();
    synced.apply(&plan.notes);
    let next = again(&synced);
    assert_eq!(next.count(SyncAction::Set), 0, "{plan:#?}\n{next:#?}");
}

fn users(source: &[ScramCredential], target: &[ScramCredential]) {
    for row in plan_user_sync(source, target, "h:1").rows {
        let command = row.reason.unwrap_or_default();
        assert!(is_one_command(&command), "more than one command, or half of one: {command}");
    }
}

/// Whether a shell sees one command in it: outside of single quotes there is nothing that ends it or is expanded.
fn is_one_command(text: &str) -> bool {
    let mut quoted = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '\\' => drop(rest.next()),
            c if c.is_ascii_alphanumeric() || " -._@:/".contains(c) => {}
            _ => return false,
        }
    }
    !quoted
}
