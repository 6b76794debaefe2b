use proptest::prelude::*;

use super::*;
use crate::mirror::SyncEntry;

/// `RESOURCE NAME PRINCIPAL OPERATION`; a name that ends in `~` is a prefix, a principal that begins with `!` is denied.
fn acl(text: &str) -> AclBinding {
    let [resource, name, principal, operation] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let (name, pattern) = name.strip_suffix('~').map_or((name, LITERAL), |name| (name, PREFIXED));
    let (principal, permission) = principal.strip_prefix('!').map_or((principal, ALLOW), |who| (who, DENY));
    AclBinding {
        resource: resource.to_owned(),
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        principal: format!("User:{principal}"),
        host: ANY.to_owned(),
        operation: operation.to_owned(),
        permission: permission.to_owned(),
    }
}

fn short(acl: &AclBinding) -> String {
    let mark = if acl.pattern == PREFIXED { "~" } else { "" };
    let deny = if acl.permission == DENY { "!" } else { "" };
    let who = acl.principal.trim_start_matches("User:");
    format!("{} {}{mark} {deny}{who} {}", acl.resource, acl.name, acl.operation)
}

struct World {
    mirrored: BTreeMap<String, String>,
    others: BTreeSet<String>,
    rename: &'static str,
    suffix: &'static str,
    synced: Synced,
    target: Vec<AclBinding>,
}

impl World {
    fn new(rename: &'static str, suffix: &'static str) -> Self {
        let name = |topic: &str| format!("{rename}{topic}{suffix}");
        let mirrored = ["orders", "orders.eu", "bills"].map(|topic| (topic.to_owned(), name(topic))).into();
        Self { mirrored, others: BTreeSet::new(), rename, suffix, synced: Synced::default(), target: Vec::new() }
    }

    fn plan(&self, source: &[&str]) -> SyncPlan {
        let source: Vec<AclBinding> = source.iter().map(|text| acl(text)).collect();
        let topic = |topic: &str| {
            let takes = topic.starts_with("orders") || topic == "bills";
            takes.then(|| format!("{}{topic}{}", self.rename, self.suffix))
        };
        let prefix = |prefix: &str| self.suffix.is_empty().then(|| format!("{}{prefix}", self.rename));
        let scope = AclSyncScope {
            topic: &topic,
            prefix: &prefix,
            mirrored: &self.mirrored,
            others: &self.others,
            fenced: &["bills".to_owned()].into(),
            own_principal: Some("User:mirror"),
        };
        plan_acl_sync(&source, &self.target, scope, &Weighing { synced: &self.synced, take_over: false })
    }

    /// Does what is planned.
    fn follow(&mut self, source: &[&str]) -> SyncPlan {
        let plan = self.plan(source);
        self.synced.apply(&plan.notes);
        for row in plan.changes() {
            let acl = acl_of(&row.of).unwrap();
            self.target.retain(|there| *there != acl);
            let owned = match row.action {
                SyncAction::Set => Owned::settled(THERE),
                _ => Owned::default(),
            };
            if row.action == SyncAction::Set {
                self.target.push(acl);
            }
            self.synced.apply(&[SyncEntry { key: row.of.clone(), owned }]);
        }
        plan
    }

    fn there(&self) -> Vec<String> {
        let mut there: Vec<String> = self.target.iter().map(short).collect();
        there.sort();
        there
    }

    fn held(&self) -> Vec<String> {
        held_back_acls(&self.synced).iter().map(short).collect()
    }
}

fn rows(plan: &SyncPlan, action: SyncAction) -> Vec<String> {
    let of = plan.rows.iter().filter(|row| row.action == action);
    of.map(|row| acl_of(&row.of).as_ref().map(short).unwrap_or_default()).collect()
}

#[test]
fn readers_get_their_rights_and_writers_wait_for_the_promotion() {
    let mut world = World::new("", "");
    let source = [
        "TOPIC orders alice READ",
        "TOPIC orders writer WRITE",
        "TOPIC * admin ALL",
        "TOPIC ord~ janitor DELETE",
        "TOPIC unmirrored alice READ",
        "GROUP billing alice READ",
        "GROUP billing janitor DELETE",
        "TRANSACTIONAL_ID pay~ writer WRITE",
        "CLUSTER kafka-cluster writer IDEMPOTENT_WRITE",
        "TOPIC orders !mallory WRITE",
    ];
    world.follow(&source);
    assert_eq!(
        world.there(),
        [
            "GROUP billing alice READ",
            "TOPIC * admin DESCRIBE",
            "TOPIC * admin DESCRIBE_CONFIGS",
            "TOPIC * admin READ",
            "TOPIC orders !mallory WRITE",
            "TOPIC orders alice READ",
        ]
    );
    let mut held = world.held();
    held.sort();
    assert_eq!(
        held,
        [
            "CLUSTER kafka-cluster writer IDEMPOTENT_WRITE",
            "GROUP billing janitor DELETE",
            "TOPIC * admin ALL",
            "TOPIC orders writer WRITE",
            "TOPIC ord~ janitor DELETE",
            "TRANSACTIONAL_ID pay~ writer WRITE",
        ]
    );
    assert_eq!(world.plan(&source).changes().count(), 0, "applied, nothing is left to do");
    // What the source takes away is taken away, and so is what is held back.
    world.follow(&source[3..]);
    assert_eq!(world.there(), ["GROUP billing alice READ", "TOPIC orders !mallory WRITE"]);
    assert!(!world.held().contains(&"TOPIC orders writer WRITE".to_owned()), "{:?}", world.held());
}

#[test]
fn renamed_topics_follow_and_patterns_where_they_mean_the_same() {
    let source = ["TOPIC orders a READ", "TOPIC ord~ b READ", "TOPIC * c READ", "TOPIC other~ d READ"];
    let mut world = World::new("dr.", "");
    world.follow(&source);
    assert_eq!(world.there(), ["TOPIC dr.orders a READ", "TOPIC dr.ord~ b READ", "TOPIC dr.~ c READ"]);
    // Another topic of the target must not come under it.
    world.others.insert("dr.orders-local".to_owned());
    world.follow(&source);
    let of_each = |who: &str| ["bills", "orders", "orders.eu"].map(|topic| format!("TOPIC dr.{topic} {who} READ"));
    let mut expected = [&of_each("b")[1..], &of_each("c")[..], &["TOPIC dr.orders a READ".to_owned()]].concat();
    expected.sort();
    assert_eq!(world.there(), expected);
    // Names that end in something of their own are in no prefix.
    let mut world = World::new("", ".dr");
    world.follow(&source[..2]);
    assert_eq!(world.there(), ["TOPIC orders.dr a READ", "TOPIC orders.dr b READ", "TOPIC orders.eu.dr b READ"]);
}

#[test]
fn what_somebody_has_set_or_taken_away_by_hand_stays() {
    let mut world = World::new("", "");
    world.target = vec![acl("TOPIC orders bob READ"), acl("TOPIC orders writer WRITE")];
    let source = ["TOPIC orders alice READ", "TOPIC orders bob READ", "TOPIC orders writer WRITE"];
    let plan = world.follow(&source);
    assert_eq!(rows(&plan, SyncAction::LeftAlone), ["TOPIC orders writer WRITE"], "it is not held back, and said");
    world.target.retain(|there| *there != acl("TOPIC orders alice READ"));
    let plan = world.follow(&source);
    assert_eq!(rows(&plan, SyncAction::LeftAlone), ["TOPIC orders alice READ", "TOPIC orders writer WRITE"]);
    // The source gives them up: what was set by hand stays.
    world.follow(&["TOPIC bills x READ"]);
    assert_eq!(world.there(), ["TOPIC bills x READ", "TOPIC orders bob READ", "TOPIC orders writer WRITE"]);
}

#[test]
fn rights_of_a_promotion_are_staged_again_once_the_mirror_goes_on() {
    let mut world = World::new("", "");
    let source = ["TOPIC orders writer WRITE"];
    world.follow(&source);
    for acl in held_back_acls(&world.synced) {
        world.synced.apply(&[SyncEntry { key: key_of(SyncKind::Acl, &acl), owned: Owned::settled(THERE) }]);
        world.target.push(acl);
    }
    assert_eq!(world.there(), source);
    world.follow(&source);
    assert_eq!((world.there(), world.held()), (vec![], source.map(str::to_owned).to_vec()));
}

#[test]
fn a_denial_of_everybody_waits_and_so_does_what_it_denies() {
    let mut world = World::new("", "");
    world.follow(&[
        "TOPIC orders !* READ",
        "TOPIC ord~ alice READ",
        "TOPIC bills alice READ",
        "TOPIC bills !mirror WRITE",
        "TOPIC bills !* WRITE",
    ]);
    assert_eq!(world.there(), ["TOPIC bills alice READ"]);
    assert_eq!(
        world.held(),
        ["TOPIC bills !mirror WRITE", "TOPIC orders !* READ", "TOPIC ord~ alice READ"],
        "denials first; what a failover has denied on the source does not follow"
    );
}

#[test]
fn what_belongs_to_the_cluster_does_not_follow_and_is_named() {
    let world = World::new("", "");
    let plan = world.plan(&[
        "CLUSTER kafka-cluster admin ALTER",
        "CLUSTER kafka-cluster broker CLUSTER_ACTION",
        "DELEGATION_TOKEN t alice DESCRIBE",
        "USER alice bob CREATE_TOKENS",
        "TOPIC orders alice 99",
        "TRANSACTIONAL_ID kmirror.back~ mirror WRITE",
    ]);
    assert_eq!(plan.count(SyncAction::LeftOut), 5, "{plan:?}");
    assert_eq!((plan.changes().count(), plan.count(SyncAction::HeldBack)), (0, 0));
}

#[test]
fn a_source_that_tells_nothing_takes_nothing_away() {
    let mut world = World::new("", "");
    world.follow(&["TOPIC orders alice READ"]);
    let plan = world.plan(&[]);
    assert!(plan.rows.is_empty() && plan.warnings.len() == 1, "{plan:?}");
}

fn any_acl() -> impl Strategy<Value = String> {
    let resource = prop::sample::select(vec!["TOPIC", "GROUP", "TRANSACTIONAL_ID", "CLUSTER", "USER"]);
    let name = prop::sample::select(vec!["orders", "ord~", "*", "bills", "other~", "x"]);
    let who = prop::sample::select(vec!["alice", "bob", "!alice", "!*", "*", "!mirror"]);
    let operation = prop::sample::select(vec![
        "ALL",
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "ALTER_CONFIGS",
        "DESCRIBE_CONFIGS",
        "IDEMPOTENT_WRITE",
        "CLUSTER_ACTION",
    ]);
    (resource, name, who, operation)
        .prop_map(|(resource, name, who, operation)| format!("{resource} {name} {who} {operation}"))
}

proptest! {
    /// Whatever the source says, and in whatever turn: nobody gets a right by which the standby could be changed, kmirror is
    /// never denied, what was set by hand stays, and a second round finds nothing to do.
    #[test]
    fn a_standby_is_never_opened(rounds in prop::collection::vec(prop::collection::vec(any_acl(), 0..8), 1..4),
                                 suffix in prop::bool::ANY) {
        let mut world = World::new("dr.", if suffix { ".x" } else { "" });
        let by_hand = acl("TOPIC dr.orders hand READ");
        world.target.push(by_hand.clone());
        for source in &rounds {
            let source: Vec<&str> = source.iter().map(String::as_str).collect();
            world.follow(&source);
            for there in world.target.iter().filter(|there| **there != by_hand) {
                let reads = READS.contains(&there.operation.as_str());
                prop_assert!(there.permission == DENY || reads, "{}", short(there));
                let denies_us = ["User:*", "User:mirror"].contains(&there.principal.as_str());
                prop_assert!(!(there.permission == DENY && denies_us), "{}", short(there));
            }
            prop_assert!(world.target.contains(&by_hand));
            prop_assert_eq!(world.plan(&source).changes().count(), 0);
        }
    }
}
