//! ACLs of every kind of resource, staged: while the target is a standby nobody gets a right there by which the mirrored topics
//! could be written to. What is held back so a promotion creates.
//!
//! - An ACL of a topic follows if the mirror takes the topic, under its name there. One of many names (a prefix, `*`) follows as such
//!   where the names that it means there are the mirror's alone; else each mirrored topic that it is about gets one of its own.
//! - READ, DESCRIBE and DESCRIBE_CONFIGS are given at once; of ALL these three are, and the whole is held back.
//! - What is denied is denied at once. But a denial of everybody would keep kmirror off as well: it is held back, and with it
//!   whatever it denies.
//! - Of the cluster itself only what clients need follows; tokens and users of tokens belong to the cluster that issued them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::acl_restore::AclBinding;
use super::super::acls::{Acl, AclResource, Grant};
use super::{SyncAction, SyncPlan, SyncRow, Weighing};
use crate::mirror::{Owned, SyncKey, SyncKind, Synced};

const TOPIC: &str = "TOPIC";
const GROUP: &str = "GROUP";
const CLUSTER: &str = "CLUSTER";
const TRANSACTIONAL_ID: &str = "TRANSACTIONAL_ID";
const LITERAL: &str = "LITERAL";
const PREFIXED: &str = "PREFIXED";
const DENY: &str = "DENY";
const ALLOW: &str = "ALLOW";
const ALL: &str = "ALL";
const DESCRIBE: &str = "DESCRIBE";
const ANY: &str = "*";
const EVERYBODY: &str = "User:*";
/// Rights by which nothing is changed that the mirror looks after.
const READS: [&str; 3] = ["READ", DESCRIBE, "DESCRIBE_CONFIGS"];
/// Of the cluster: what clients need.
const FOR_CLIENTS: [&str; 4] = [DESCRIBE, "DESCRIBE_CONFIGS", "CREATE", "IDEMPOTENT_WRITE"];
/// What an ACL there is remembered with.
const THERE: &str = "";

/// What is to follow.
#[derive(Clone, Copy)]
pub struct AclSyncScope<'a> {
    /// What a topic of the source is called on the target, if the mirror takes it.
    pub topic: &'a dyn Fn(&str) -> Option<String>,
    /// What the names that begin so begin with on the target; `None` where no prefix says that.
    pub prefix: &'a dyn Fn(&str) -> Option<String>,
    /// Mirrored topics by their names on the source → on the target.
    pub mirrored: &'a BTreeMap<String, String>,
    /// Topics of the target that are not this mirror's.
    pub others: &'a BTreeSet<String>,
    /// Source topics that a failover denies writes to.
    pub fenced: &'a BTreeSet<String>,
    /// kmirror's own principal on the target, where it is known.
    pub own_principal: Option<&'a str>,
}

impl std::fmt::Debug for AclSyncScope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AclSyncScope").field("mirrored", &self.mirrored).finish_non_exhaustive()
    }
}

/// What is to be created, taken away, and held back.
#[must_use]
pub fn plan_acl_sync(
    source: &[AclBinding],
    target: &[AclBinding],
    scope: AclSyncScope<'_>,
    how: &Weighing<'_>,
) -> SyncPlan {
    let mut plan = SyncPlan::default();
    let owned = || how.synced.of_kind(SyncKind::Acl).filter_map(|(key, _)| acl_of(key));
    if source.is_empty() && owned().next().is_some() {
        plan.warnings.push("the source tells no ACL at all: none is taken away on the target".to_owned());
        return plan;
    }
    let has: BTreeSet<&AclBinding> = target.iter().collect();
    let Staged { now, held } = staged(source, scope, &mut plan);
    let keys: BTreeSet<AclBinding> = now.iter().cloned().chain(owned()).collect();
    for acl in &keys {
        let found = has.contains(acl).then_some(THERE);
        let wanted = now.contains(acl).then_some(THERE);
        plan.weigh(key_of(SyncKind::Acl, acl), acl.to_string(), (found, wanted), how);
    }
    for (acl, why) in &held {
        let key = key_of(SyncKind::HeldBackAcl, acl);
        if how.synced.get(&key).is_none() {
            plan.note(&key, Owned::settled(THERE));
        }
        let is_there = has.contains(acl) && how.synced.get(&key_of(SyncKind::Acl, acl)).is_none();
        let (action, reason) = match is_there {
            true => (SyncAction::LeftAlone, "set on the target by hand: it is not held back there"),
            false => (SyncAction::HeldBack, *why),
        };
        plan.rows.push(row(SyncKind::HeldBackAcl, acl, action, reason));
    }
    for (key, _) in how.synced.of_kind(SyncKind::HeldBackAcl) {
        if !acl_of(key).is_some_and(|acl| held.contains_key(&acl)) {
            plan.note(key, Owned::default());
        }
    }
    plan
}

fn row(kind: SyncKind, acl: &AclBinding, action: SyncAction, reason: &str) -> SyncRow {
    SyncRow {
        kind,
        object: acl.to_string(),
        from: None,
        to: Some(THERE.to_owned()),
        action,
        reason: Some(reason.to_owned()),
        of: key_of(kind, acl),
    }
}

fn key_of(kind: SyncKind, acl: &AclBinding) -> SyncKey {
    // Names and words: writing them as JSON cannot fail.
    SyncKey::new(kind, "", serde_json::to_string(acl).unwrap_or_default())
}

/// The ACL that is remembered so.
#[must_use]
pub fn acl_of(key: &SyncKey) -> Option<AclBinding> {
    let is_acl = matches!(key.kind, SyncKind::Acl | SyncKind::HeldBackAcl);
    serde_json::from_str(&key.key).ok().filter(|_| is_acl)
}

/// What a promotion is to create: denials first, so that nobody gets a right that is denied.
pub fn held_back_acls(synced: &Synced) -> Vec<AclBinding> {
    let mut acls: Vec<AclBinding> = synced.of_kind(SyncKind::HeldBackAcl).filter_map(|(key, _)| acl_of(key)).collect();
    acls.sort_by_key(|acl| acl.permission != DENY);
    acls
}

impl AclBinding {
    /// As comparisons take it; `None` of other resources than topics and groups.
    #[must_use]
    pub fn compared(&self) -> Option<Acl> {
        let resource = match self.resource.as_str() {
            TOPIC => AclResource::Topic,
            GROUP => AclResource::Group,
            _ => return None,
        };
        let grant = Grant {
            principal: self.principal.clone(),
            host: self.host.clone(),
            operation: self.numbers()?.operation,
            is_denied: self.permission == DENY,
        };
        Some(Acl { resource, name: self.name.clone(), is_prefix: self.pattern == PREFIXED, grant })
    }

    /// Whether it is about this topic.
    #[must_use]
    pub fn is_of_topic(&self, topic: &str) -> bool {
        let named = self.name == topic || self.name == ANY;
        self.resource == TOPIC && (named || self.pattern == PREFIXED && topic.starts_with(&self.name))
    }

    fn is_of_everybody(&self, own: Option<&str>) -> bool {
        self.principal == EVERYBODY || own == Some(self.principal.as_str())
    }

    fn named(&self, name: &str, pattern: &str) -> Self {
        Self { name: name.to_owned(), pattern: pattern.to_owned(), ..self.clone() }
    }

    /// Whether it denies anything that the other allows.
    fn denies(&self, other: &Self) -> bool {
        let takes =
            |one: &Self, name: &str| one.name == ANY || (one.pattern == PREFIXED && name.starts_with(&one.name));
        let names = self.name == other.name || takes(self, &other.name) || takes(other, &self.name);
        // What is denied so is not described either, and whoever may read describes.
        let operations = self.operation == other.operation || [ALL, DESCRIBE].contains(&self.operation.as_str());
        let principals = self.principal == EVERYBODY || self.principal == other.principal;
        self.resource == other.resource && names && operations && principals
    }
}

/// ACLs of the target by when they are to be there.
#[derive(Default)]
struct Staged {
    now: BTreeSet<AclBinding>,
    /// And why they are held back.
    held: BTreeMap<AclBinding, &'static str>,
}

fn staged(source: &[AclBinding], scope: AclSyncScope<'_>, plan: &mut SyncPlan) -> Staged {
    let mut out = Staged::default();
    for acl in source {
        match followed(acl, scope) {
            Ok(acls) => acls.into_iter().for_each(|acl| stage(acl, scope.own_principal, &mut out)),
            Err(Left::Quietly) => {}
            Err(Left::Because(why)) => plan.rows.push(row(SyncKind::Acl, acl, SyncAction::LeftOut, why)),
        }
    }
    // Nobody gets a right before what denies it is there.
    let denials: Vec<AclBinding> = out.held.keys().filter(|acl| acl.permission == DENY).cloned().collect();
    let denied = |acl: &AclBinding| acl.permission == ALLOW && denials.iter().any(|denial| denial.denies(acl));
    let (later, now) = std::mem::take(&mut out.now).into_iter().partition(denied);
    out.now = now;
    let later: BTreeSet<AclBinding> = later;
    out.held.extend(later.into_iter().map(|acl| (acl, "it is denied, and the denial is held back")));
    out
}

fn stage(acl: AclBinding, own: Option<&str>, out: &mut Staged) {
    if acl.permission == DENY {
        if acl.is_of_everybody(own) {
            out.held.insert(acl, "it would keep kmirror off as well");
        } else {
            out.now.insert(acl);
        }
        return;
    }
    if READS.contains(&acl.operation.as_str()) {
        out.now.insert(acl);
        return;
    }
    if acl.operation == ALL {
        let reads: &[&str] = if acl.resource == TRANSACTIONAL_ID { &[DESCRIBE] } else { &READS };
        let part = |operation: &&str| AclBinding { operation: (*operation).to_owned(), ..acl.clone() };
        out.now.extend(reads.iter().map(part));
    }
    out.held.insert(acl, "a standby is not to be written to by others");
}

/// Why an ACL does not follow.
enum Left {
    /// It is about what is not mirrored.
    Quietly,
    /// Somebody should know.
    Because(&'static str),
}

/// What comes of an ACL of the source, by the target's names.
fn followed(acl: &AclBinding, scope: AclSyncScope<'_>) -> Result<Vec<AclBinding>, Left> {
    let is_known = acl.numbers().is_some() && [ALLOW, DENY].contains(&acl.permission.as_str());
    if !is_known || ![LITERAL, PREFIXED].contains(&acl.pattern.as_str()) || acl.operation.parse::<i8>().is_ok() {
        return Err(Left::Because("this kmirror does not know such an ACL; use the newer one"));
    }
    match acl.resource.as_str() {
        TOPIC => topic(acl, scope),
        // kmirror's own, where the source is the target of another mirror.
        GROUP if acl.name.starts_with("__kmirror.") => Err(Left::Quietly),
        TRANSACTIONAL_ID if acl.name.starts_with("kmirror.") => Err(Left::Quietly),
        GROUP | TRANSACTIONAL_ID => Ok(vec![acl.clone()]),
        CLUSTER if FOR_CLIENTS.contains(&acl.operation.as_str()) => Ok(vec![acl.clone()]),
        CLUSTER => Err(Left::Because("it is about administering the cluster that it is set on")),
        "DELEGATION_TOKEN" | "USER" => Err(Left::Because("tokens are of the cluster that has issued them")),
        _ => Err(Left::Because("this kmirror does not know such a resource; use the newer one")),
    }
}

fn topic(acl: &AclBinding, scope: AclSyncScope<'_>) -> Result<Vec<AclBinding>, Left> {
    if acl.pattern == LITERAL && acl.name != ANY {
        let is_fence = acl.permission == DENY && acl.principal == EVERYBODY && acl.operation == "WRITE";
        if is_fence && scope.fenced.contains(&acl.name) {
            return Err(Left::Quietly);
        }
        return (scope.topic)(&acl.name).map(|name| vec![acl.named(&name, LITERAL)]).ok_or(Left::Quietly);
    }
    let prefix = if acl.name == ANY { "" } else { acl.name.as_str() };
    let taken = || scope.mirrored.iter().filter(|(here, _)| here.starts_with(prefix));
    if taken().next().is_none() {
        return Err(Left::Quietly);
    }
    if let Some(there) = (scope.prefix)(prefix)
        && !scope.others.iter().any(|topic| topic.starts_with(&there))
    {
        let pattern = if there.is_empty() { acl.named(ANY, LITERAL) } else { acl.named(&there, PREFIXED) };
        return Ok(vec![pattern]);
    }
    Ok(taken().map(|(_, there)| acl.named(there, LITERAL)).collect())
}

#[cfg(test)]
#[path = "acls/tests.rs"]
mod tests;
