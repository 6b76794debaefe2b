//! ACLs of both sides: who may do something with a topic or a group on the source, and may not on the target.
//!
//! By what is allowed and denied for a name, whatever the patterns say (KIP-290): an ACL of a prefix on one side counts for one of
//! the literal name on the other. What one operation implies follows `AclAuthorizer`: ALL implies each; READ, WRITE, DELETE and
//! ALTER imply DESCRIBE.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

/// What an ACL is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AclResource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
}

/// Operations, by their number in the protocol (`AclOperation`).
const NAMES: [(i8, &str); 10] = [
    (2, "ALL"),
    (3, "READ"),
    (4, "WRITE"),
    (5, "CREATE"),
    (6, "DELETE"),
    (7, "ALTER"),
    (8, "DESCRIBE"),
    (10, "DESCRIBE_CONFIGS"),
    (11, "ALTER_CONFIGS"),
    (12, "IDEMPOTENT_WRITE"),
];
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;
/// READ, WRITE, DELETE, ALTER.
const IMPLY_DESCRIBE: [i8; 4] = [READ, WRITE, 6, 7];
const EVERYBODY: &str = "User:*";
const ANY: &str = "*";

/// An ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// What it is about.
    pub resource: AclResource,
    /// Name, prefix, or `*`.
    pub name: String,
    /// Whether the name is a prefix.
    pub is_prefix: bool,
    /// To whom.
    pub grant: Grant,
}

/// Who may do what, or may not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Principal; `User:*` is everybody.
    pub principal: String,
    /// Host; `*` is any.
    pub host: String,
    /// Operation, by its number in the protocol.
    pub operation: i8,
    /// Whether it is denied, not allowed.
    pub is_denied: bool,
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.is_denied { "deny" } else { "allow" };
        let name = NAMES.iter().find(|(number, _)| *number == self.operation).map(|(_, name)| *name);
        let operation = name.map_or_else(|| format!("operation {}", self.operation), str::to_owned);
        write!(f, "{verb} {} {operation}", self.principal)?;
        if self.host == ANY { Ok(()) } else { write!(f, " from {}", self.host) }
    }
}

impl Acl {
    fn matches(&self, resource: AclResource, name: &str) -> bool {
        let by_name = if self.is_prefix { name.starts_with(&self.name) } else { self.name == ANY || self.name == name };
        self.resource == resource && by_name
    }
}

impl Grant {
    /// Whether this one says all that the other does.
    fn covers(&self, other: &Self) -> bool {
        let implied = !self.is_denied && other.operation == DESCRIBE && IMPLY_DESCRIBE.contains(&self.operation);
        self.is_denied == other.is_denied
            && (self.principal == EVERYBODY || self.principal == other.principal)
            && (self.host == ANY || self.host == other.host)
            && (self.operation == ALL || self.operation == other.operation || implied)
    }

    /// What a failover denies the source's writers.
    fn is_fence(&self) -> bool {
        self.is_denied && self.operation == WRITE && self.principal == EVERYBODY && self.host == ANY
    }
}

/// Everything that a cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acls {
    /// It has no authorizer: everybody may do everything.
    None,
    /// Its ACLs.
    Listed(Vec<Acl>),
}

/// Of one topic or group: what is different on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AclDifference {
    /// What it is about.
    pub resource: AclResource,
    /// Name on the source.
    pub source: String,
    /// Name on the target.
    pub target: String,
    /// Allowed on the source, and not on the target.
    pub missing: Vec<String>,
    /// Denied on the target, and not on the source.
    pub denied: Vec<String>,
    /// Denied on the source, and not on the target.
    pub let_in: Vec<String>,
    /// Consumers (principals that may READ a selected group on the source) that could not read here.
    pub shut_out: Vec<String>,
}

impl AclDifference {
    /// In words, one for each kind of difference.
    pub fn findings(&self) -> Vec<String> {
        let kind = if self.resource == AclResource::Topic { "topic" } else { "group" };
        let of = |what: &str, list: &[String]| match list {
            [] => None,
            list => Some(format!("{kind} {}: {what}: {}", self.target, list.join(", "))),
        };
        let lists = [
            of("cannot read there, as they can on the source", &self.shut_out),
            of("not there as on the source", &self.missing),
            of("there and not on the source", &self.denied),
            of("on the source, and not there", &self.let_in),
        ];
        lists.into_iter().flatten().collect()
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct AclsOutlook {
    /// Whether both sides' ACLs were compared.
    pub compared: bool,
    /// Why not, or what should be known.
    pub detail: Option<String>,
    /// Topics and groups where they differ.
    pub differences: Vec<AclDifference>,
}

impl AclsOutlook {
    /// They were not compared.
    pub fn not_compared(detail: impl Into<String>) -> Self {
        Self { compared: false, detail: Some(detail.into()), differences: Vec::new() }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct AclNames<'a> {
    /// Topics, by their names on the source and on the target.
    pub topics: &'a BTreeMap<String, String>,
    /// Selected groups.
    pub groups: &'a BTreeSet<String>,
    /// Source topics that a failover keeps writers off by an ACL.
    pub fenced: &'a BTreeSet<String>,
}

/// Compares.
pub fn compare_acls(source: &Acls, target: &Acls, names: AclNames<'_>) -> AclsOutlook {
    let (source, target) = match (source, target) {
        (Acls::None, Acls::None) => return AclsOutlook::not_compared("neither cluster has an authorizer"),
        (Acls::None, Acls::Listed(_)) => {
            return AclsOutlook::not_compared(
                "the source has no authorizer and the target has one: whom it must let in is not told by the source",
            );
        }
        (Acls::Listed(_), Acls::None) => {
            return AclsOutlook::not_compared(
                "the source has an authorizer and the target has none: there everybody may do everything",
            );
        }
        (Acls::Listed(source), Acls::Listed(target)) => (source, target),
    };
    let consumers = consumers(source, names.groups);
    let topics = names.topics.iter().map(|(here, there)| (AclResource::Topic, here, there));
    let groups = names.groups.iter().map(|group| (AclResource::Group, group, group));
    let differences = topics.chain(groups).filter_map(|(resource, here, there)| {
        let is_fenced = resource == AclResource::Topic && names.fenced.contains(here);
        let here_grants = grants(source, resource, here).filter(|grant| !(is_fenced && grant.is_fence()));
        let (here_grants, there_grants) = (here_grants.collect(), grants(target, resource, there).collect());
        difference((resource, here, there), &here_grants, &there_grants, &consumers)
    });
    AclsOutlook { compared: true, detail: None, differences: differences.collect() }
}

fn grants<'a>(acls: &'a [Acl], resource: AclResource, name: &str) -> impl Iterator<Item = &'a Grant> {
    acls.iter().filter(move |acl| acl.matches(resource, name)).map(|acl| &acl.grant)
}

/// Principals that may read a selected group.
fn consumers<'a>(source: &'a [Acl], groups: &BTreeSet<String>) -> BTreeSet<&'a str> {
    let of = |group| grants(source, AclResource::Group, group);
    let reads = groups.iter().flat_map(|group| of(group)).filter(|grant| !grant.is_denied);
    reads.filter(|grant| [READ, ALL].contains(&grant.operation)).map(|grant| grant.principal.as_str()).collect()
}

fn difference(
    (resource, source, target): (AclResource, &str, &str),
    here: &BTreeSet<&Grant>,
    there: &BTreeSet<&Grant>,
    consumers: &BTreeSet<&str>,
) -> Option<AclDifference> {
    let lacks = |one: &BTreeSet<&Grant>, other: &BTreeSet<&Grant>, is_denied: bool| -> Vec<Grant> {
        let uncovered =
            |grant: &&&Grant| grant.is_denied == is_denied && !other.iter().any(|other| other.covers(grant));
        one.iter().filter(uncovered).map(|grant| (*grant).clone()).collect()
    };
    let (missing, denied, let_in) = (lacks(here, there, false), lacks(there, here, true), lacks(here, there, true));
    let reads = |grant: &&Grant| [READ, ALL].contains(&grant.operation);
    let shut: BTreeSet<&str> = missing
        .iter()
        .chain(&denied)
        .filter(reads)
        .flat_map(|grant| consumers.iter().filter(move |p| grant.names(p)))
        .copied()
        // Who could not read on the source either loses nothing; nor who can on the target, by whatever is said there.
        .filter(|principal| can_read(here, principal) && !can_read(there, principal))
        .collect();
    let words = |grants: Vec<Grant>| grants.iter().map(ToString::to_string).collect::<Vec<_>>();
    let shut_out = shut.into_iter().map(str::to_owned).collect();
    let out = AclDifference {
        resource,
        source: source.to_owned(),
        target: target.to_owned(),
        missing: words(missing),
        denied: words(denied),
        let_in: words(let_in),
        shut_out,
    };
    (!(out.missing.is_empty() && out.denied.is_empty() && out.let_in.is_empty())).then_some(out)
}

impl Grant {
    fn names(&self, principal: &str) -> bool {
        self.principal == EVERYBODY || self.principal == principal
    }
}

/// From any host, by what is listed: a denial wins (`AclAuthorizer`).
fn can_read(grants: &BTreeSet<&Grant>, principal: &str) -> bool {
    let of = || grants.iter().filter(|grant| [READ, ALL].contains(&grant.operation) && grant.names(principal));
    of().any(|grant| !grant.is_denied) && !of().any(|grant| grant.is_denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(resource: AclResource, name: &str, who: &str, operation: i8) -> Acl {
        let (name, is_prefix) = name.strip_suffix('~').map_or((name, false), |name| (name, true));
        let (who, is_denied) = who.strip_prefix('!').map_or((who, false), |who| (who, true));
        let grant = Grant { principal: format!("User:{who}"), host: "*".to_owned(), operation, is_denied };
        Acl { resource, name: name.to_owned(), is_prefix, grant }
    }

    fn compared(source: Vec<Acl>, target: Vec<Acl>, fenced: &[&str]) -> Vec<AclDifference> {
        let topics = [("orders".to_owned(), "dr.orders".to_owned())].into();
        let groups = ["billing".to_owned()].into();
        let fenced = fenced.iter().map(|topic| (*topic).to_owned()).collect();
        let names = AclNames { topics: &topics, groups: &groups, fenced: &fenced };
        let outlook = compare_acls(&Acls::Listed(source), &Acls::Listed(target), names);
        assert!(outlook.compared);
        outlook.differences
    }

    use AclResource::{Group, Topic};

    #[test]
    fn what_counts_is_the_name_and_not_the_pattern() {
        let source = vec![
            acl(Topic, "orders", "alice", READ),
            acl(Topic, "orders", "alice", DESCRIBE),
            acl(Topic, "*", "audit", READ),
            acl(Group, "bill~", "alice", READ),
            acl(Topic, "other", "bob", READ),
        ];
        let target =
            vec![acl(Topic, "dr.~", "alice", READ), acl(Topic, "dr.orders", "audit", ALL), acl(Group, "*", "*", READ)];
        assert_eq!(compared(source, target, &[]), []);
    }

    #[test]
    fn a_consumer_that_could_not_read_is_named() {
        let source = vec![
            acl(Topic, "orders", "alice", READ),
            acl(Topic, "orders", "writer", WRITE),
            acl(Group, "billing", "alice", READ),
        ];
        let target = vec![acl(Group, "billing", "alice", READ)];
        let found = compared(source, target, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].missing, ["allow User:alice READ", "allow User:writer WRITE"]);
        assert_eq!(found[0].shut_out, ["User:alice"], "the writer is no consumer");
        assert_eq!((found[0].source.as_str(), found[0].target.as_str()), ("orders", "dr.orders"));
    }

    #[test]
    fn who_can_read_by_another_acl_or_could_not_before_is_not_shut_out() {
        let source = vec![
            acl(Topic, "orders", "*", READ),
            acl(Group, "billing", "alice", READ),
            acl(Group, "billing", "bob", READ),
            acl(Topic, "orders", "!bob", READ),
        ];
        let target = vec![
            acl(Topic, "dr.orders", "alice", READ),
            acl(Group, "billing", "*", READ),
            acl(Topic, "dr.orders", "!bob", READ),
        ];
        let found = compared(source, target, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].missing, ["allow User:* READ"]);
        assert_eq!(found[0].shut_out, Vec::<String>::new());
    }

    #[test]
    fn what_is_denied_on_one_side_alone_shows() {
        let reads = || vec![acl(Topic, "~", "*", READ), acl(Group, "billing", "alice", READ)];
        let there = |more: Acl| [reads(), vec![more]].concat();
        let found = compared(reads(), there(acl(Topic, "dr.orders", "!alice", READ)), &[]);
        assert_eq!(
            (&found[0].denied[..], &found[0].shut_out[..]),
            (&["deny User:alice READ".to_owned()][..], &["User:alice".to_owned()][..])
        );
        let found = compared(there(acl(Topic, "orders", "!mallory", ALL)), reads(), &[]);
        assert_eq!((&found[0].let_in[..], found[0].shut_out.len()), (&["deny User:mallory ALL".to_owned()][..], 0));
    }

    #[test]
    fn what_a_failover_denies_on_the_source_is_no_difference() {
        let source = vec![acl(Topic, "orders", "!*", WRITE)];
        assert_eq!(compared(source.clone(), Vec::new(), &[]).len(), 1);
        assert_eq!(compared(source, Vec::new(), &["orders"]), []);
    }

    #[test]
    fn without_an_authorizer_there_is_nothing_to_compare() {
        let names = AclNames { topics: &BTreeMap::new(), groups: &BTreeSet::new(), fenced: &BTreeSet::new() };
        for (source, target) in
            [(Acls::None, Acls::None), (Acls::None, Acls::Listed(vec![])), (Acls::Listed(vec![]), Acls::None)]
        {
            let outlook = compare_acls(&source, &target, names);
            assert!(!outlook.compared && outlook.detail.is_some());
        }
    }
}
