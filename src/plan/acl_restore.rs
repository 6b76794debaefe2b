//! ACLs of every kind in words, and which of those that were captured a restore adds to a cluster.
//!
//! Only additions: what the cluster has stays, and what it has already is not said again. Renamed topics follow. Where a part is
//! restored, an ACL of many names (a prefix, `*`) is narrowed to the names that are: on a cluster with other topics it would
//! let somebody into those.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// `ResourceType`, `PatternType`, `AclOperation` and `AclPermissionType` by their numbers in the protocol.
const RESOURCES: [(i8, &str); 6] =
    [(2, TOPIC), (3, GROUP), (4, "CLUSTER"), (5, "TRANSACTIONAL_ID"), (6, "DELEGATION_TOKEN"), (7, "USER")];
const PATTERNS: [(i8, &str); 2] = [(3, LITERAL), (4, PREFIXED)];
const OPERATIONS: [(i8, &str); 14] = [
    (2, "ALL"),
    (3, "READ"),
    (4, "WRITE"),
    (5, "CREATE"),
    (6, "DELETE"),
    (7, "ALTER"),
    (8, "DESCRIBE"),
    (9, "CLUSTER_ACTION"),
    (10, "DESCRIBE_CONFIGS"),
    (11, "ALTER_CONFIGS"),
    (12, "IDEMPOTENT_WRITE"),
    (13, "CREATE_TOKENS"),
    (14, "DESCRIBE_TOKENS"),
    (15, "TWO_PHASE_COMMIT"),
];
const PERMISSIONS: [(i8, &str); 2] = [(2, "DENY"), (3, "ALLOW")];
const TOPIC: &str = "TOPIC";
const GROUP: &str = "GROUP";
const LITERAL: &str = "LITERAL";
const PREFIXED: &str = "PREFIXED";
const ANY: &str = "*";

/// An ACL of any kind of resource, by Kafka's words; a number stands for what is not known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AclBinding {
    /// `TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN` or `USER`.
    pub resource: String,
    /// Name, prefix, or `*`.
    pub name: String,
    /// `LITERAL` or `PREFIXED`.
    pub pattern: String,
    /// To whom; `User:*` is everybody.
    pub principal: String,
    /// From where; `*` is anywhere.
    pub host: String,
    /// `READ`, `WRITE`, …
    pub operation: String,
    /// `ALLOW` or `DENY`.
    pub permission: String,
}

/// The same by the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclNumbers {
    /// `ResourceType`.
    pub resource: i8,
    /// `PatternType`.
    pub pattern: i8,
    /// `AclOperation`.
    pub operation: i8,
    /// `AclPermissionType`.
    pub permission: i8,
}

impl AclNumbers {
    /// An ACL of these numbers.
    #[must_use]
    pub fn binding(self, name: &str, principal: &str, host: &str) -> AclBinding {
        AclBinding {
            resource: word(&RESOURCES, self.resource),
            name: name.to_owned(),
            pattern: word(&PATTERNS, self.pattern),
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation: word(&OPERATIONS, self.operation),
            permission: word(&PERMISSIONS, self.permission),
        }
    }
}

impl AclBinding {
    /// Its numbers; `None` where a word is none of Kafka's.
    #[must_use]
    pub fn numbers(&self) -> Option<AclNumbers> {
        Some(AclNumbers {
            resource: number(&RESOURCES, &self.resource)?,
            pattern: number(&PATTERNS, &self.pattern)?,
            operation: number(&OPERATIONS, &self.operation)?,
            permission: number(&PERMISSIONS, &self.permission)?,
        })
    }

    fn takes(&self, name: &str) -> bool {
        if self.pattern == PREFIXED { name.starts_with(&self.name) } else { self.name == ANY || self.name == name }
    }

    /// Whether it is about names that are not told.
    fn is_of_many(&self) -> bool {
        self.pattern == PREFIXED || self.name == ANY
    }

    fn of(&self, name: &str) -> Self {
        Self { name: name.to_owned(), pattern: LITERAL.to_owned(), ..self.clone() }
    }
}

impl std::fmt::Display for AclBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pattern = if self.pattern == PREFIXED { "prefix " } else { "" };
        let (permission, operation) = (self.permission.to_lowercase(), &self.operation);
        let resource = self.resource.to_lowercase().replace('_', " ");
        write!(f, "{permission} {} {operation} on {resource} {pattern}{}", self.principal, self.name)?;
        if self.host == ANY { Ok(()) } else { write!(f, " from {}", self.host) }
    }
}

fn word(table: &[(i8, &str)], number: i8) -> String {
    let known = table.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

fn number(table: &[(i8, &str)], word: &str) -> Option<i8> {
    table.iter().find(|(_, known)| *known == word).map(|(number, _)| *number).or_else(|| word.parse().ok())
}

/// What is restored.
#[derive(Debug, Clone, Copy)]
pub struct AclScope<'a> {
    /// Topics, by their captured names → their names on the cluster.
    pub topics: &'a BTreeMap<String, String>,
    /// Groups.
    pub groups: &'a BTreeSet<String>,
    /// Everything that was captured is restored: ACLs of many names and of other resources come along as they are.
    pub is_whole: bool,
}

/// What a restore does about ACLs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AclRestorePlan {
    /// To be created.
    pub create: Vec<AclBinding>,
    /// There already.
    pub there: Vec<AclBinding>,
    /// Captured, and neither of these.
    pub left_out: Vec<LeftOutAcl>,
}

/// An ACL that a restore leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutAcl {
    /// It.
    pub acl: AclBinding,
    /// Why.
    pub reason: &'static str,
}

/// What of the captured ACLs is to be created where `target` are those that the cluster has.
#[must_use]
pub fn plan_acl_restore(captured: &[AclBinding], target: &[AclBinding], scope: AclScope<'_>) -> AclRestorePlan {
    let has: BTreeSet<&AclBinding> = target.iter().collect();
    let mut plan = AclRestorePlan::default();
    let mut wanted = BTreeSet::new();
    for acl in captured {
        match followed(acl, scope) {
            Ok(acls) => wanted.extend(acls),
            Err(reason) => plan.left_out.push(LeftOutAcl { acl: acl.clone(), reason }),
        }
    }
    (plan.there, plan.create) = wanted.into_iter().partition(|acl| has.contains(acl));
    plan
}

/// What comes of one captured ACL.
fn followed(acl: &AclBinding, scope: AclScope<'_>) -> Result<Vec<AclBinding>, &'static str> {
    if acl.numbers().is_none() {
        return Err("this kmirror does not know such an ACL; use the newer one");
    }
    let names: Vec<(&str, &str)> = match acl.resource.as_str() {
        TOPIC => scope.topics.iter().map(|(here, there)| (here.as_str(), there.as_str())).collect(),
        GROUP => scope.groups.iter().map(|group| (group.as_str(), group.as_str())).collect(),
        _ if scope.is_whole => return Ok(vec![acl.clone()]),
        _ => return Err("it is about no topic and no group, and only a part is restored"),
    };
    let mut acls: Vec<AclBinding> = Vec::new();
    let keep = scope.is_whole && acl.is_of_many();
    if keep {
        acls.push(acl.clone());
    }
    // Where the ACL itself comes along, only those need one of their own that it does not reach under their new names.
    let reached = |there: &str| keep && acl.takes(there);
    let taken = names.iter().filter(|(here, there)| acl.takes(here) && !reached(there));
    acls.extend(taken.map(|(_, there)| acl.of(there)));
    match acls.is_empty() {
        // Named for something that is not there yet, or that was not backed up.
        true if scope.is_whole => Ok(vec![acl.clone()]),
        true => Err("nothing that it is about is restored"),
        false => Ok(acls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RESOURCE NAME PRINCIPAL`; a name that ends in `~` is a prefix.
    fn acl(text: &str) -> AclBinding {
        let [resource, name, principal] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let (name, pattern) = name.strip_suffix('~').map_or((name, 3), |name| (name, 4));
        let resource = number(&RESOURCES, resource).unwrap();
        AclNumbers { resource, pattern, operation: 3, permission: 3 }.binding(name, principal, "*")
    }

    fn planned(captured: &[&str], target: &[&str], is_whole: bool) -> AclRestorePlan {
        let topics = [("orders", "dr.orders"), ("orders.eu", "dr.orders.eu"), ("bills", "bills")];
        let topics = topics.map(|(here, there)| (here.to_owned(), there.to_owned())).into();
        let groups = ["billing".to_owned()].into();
        let all = |texts: &[&str]| texts.iter().map(|text| acl(text)).collect::<Vec<_>>();
        plan_acl_restore(&all(captured), &all(target), AclScope { topics: &topics, groups: &groups, is_whole })
    }

    fn created(captured: &[&str], target: &[&str], is_whole: bool) -> Vec<String> {
        let show = |acl: &AclBinding| {
            let mark = if acl.pattern == PREFIXED { "~" } else { "" };
            format!("{} {}{mark} {}", acl.resource, acl.name, acl.principal)
        };
        planned(captured, target, is_whole).create.iter().map(show).collect()
    }

    #[test]
    fn words_and_numbers_are_the_same() {
        for (resource, _) in RESOURCES.into_iter().chain([(9, "")]) {
            for (operation, _) in OPERATIONS.into_iter().chain([(99, "")]) {
                let numbers = AclNumbers { resource, pattern: 4, operation, permission: 2 };
                let binding = numbers.binding("n", "User:p", "h");
                assert_eq!(binding.numbers(), Some(numbers));
                let json = serde_json::to_string(&binding).unwrap();
                assert_eq!(serde_json::from_str::<AclBinding>(&json).unwrap(), binding);
            }
        }
        assert_eq!(AclBinding { operation: "FLY".to_owned(), ..acl("TOPIC t u") }.numbers(), None);
        assert_eq!(acl("TOPIC t~ User:u").to_string(), "allow User:u READ on topic prefix t");
    }

    #[test]
    fn renamed_topics_follow() {
        for is_whole in [true, false] {
            assert_eq!(
                created(&["TOPIC orders a", "TOPIC bills b"], &[], is_whole),
                ["TOPIC bills b", "TOPIC dr.orders a"]
            );
        }
    }

    #[test]
    fn of_many_names_a_part_gets_those_that_are_restored() {
        let captured = ["TOPIC orders~ a", "TOPIC * b", "GROUP * c", "GROUP other d", "CLUSTER kafka-cluster e"];
        assert_eq!(
            created(&captured, &[], false),
            [
                "GROUP billing c",
                "TOPIC bills b",
                "TOPIC dr.orders a",
                "TOPIC dr.orders b",
                "TOPIC dr.orders.eu a",
                "TOPIC dr.orders.eu b",
            ]
        );
        let left_out = planned(&captured, &[], false).left_out;
        let left_out: Vec<_> = left_out.iter().map(|left| (left.acl.principal.as_str(), left.reason)).collect();
        assert_eq!(
            left_out,
            [
                ("d", "nothing that it is about is restored"),
                ("e", "it is about no topic and no group, and only a part is restored"),
            ]
        );
    }

    #[test]
    fn of_the_whole_all_comes_along_and_what_is_renamed_besides() {
        let captured = ["TOPIC orders~ a", "TOPIC * b", "GROUP bill~ c", "TOPIC later d", "CLUSTER kafka-cluster e"];
        assert_eq!(
            created(&captured, &[], true),
            [
                "CLUSTER kafka-cluster e",
                "GROUP bill~ c",
                "TOPIC * b",
                "TOPIC dr.orders a",
                "TOPIC dr.orders.eu a",
                "TOPIC later d",
                "TOPIC orders~ a",
            ]
        );
    }

    #[test]
    fn what_is_there_is_not_said_again() {
        let plan = planned(&["TOPIC orders a", "TOPIC bills b"], &["TOPIC dr.orders a", "TOPIC bills x"], false);
        assert_eq!((plan.create, plan.there), (vec![acl("TOPIC bills b")], vec![acl("TOPIC dr.orders a")]));
        let unknown = AclBinding { permission: "MAYBE".to_owned(), ..acl("TOPIC orders a") };
        let (topics, groups) = (BTreeMap::new(), BTreeSet::new());
        let scope = AclScope { topics: &topics, groups: &groups, is_whole: true };
        let plan = plan_acl_restore(std::slice::from_ref(&unknown), &[], scope);
        assert!(plan.create.is_empty() && plan.left_out[0].acl == unknown, "{plan:?}");
    }
}
