//! What follows the source beside records, between embedded brokers: whose a value is, what a promotion brings, and what is
//! deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kafka_protocol::ResponseError::TopicAuthorizationFailed;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, RequestContext, ResponseKind};
use kmirror::client::{Cluster as Client, ClusterSpec, QuotaChange};
use kmirror::plan::AclBinding;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::failover::fail_over;
use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;
use crate::nemesis::take_rights;

const SYNC: &str = "    sync: { acls: true, quotas: true, scram_users: true, interval: 1s }\n";

/// An administrator of a cluster.
struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    fn of(cluster: &Cluster) -> Self {
        let runtime = Runtime::new().unwrap();
        let spec = ClusterSpec::new("admin", cluster.bootstrap(), "admin".to_owned());
        let client = runtime.block_on(Client::connect(spec)).unwrap();
        Self { runtime, client }
    }

    fn config(&self, topic: &str, key: &str) -> Option<String> {
        self.runtime.block_on(self.client.topic_overrides(topic)).unwrap().remove(key)
    }

    fn set_config(&self, topic: &str, key: &str, value: Option<&str>) {
        let changes = BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]);
        self.runtime.block_on(self.client.alter_topic_configs(topic, &changes)).unwrap();
    }

    /// `RESOURCE NAME PRINCIPAL OPERATION PERMISSION` of each.
    fn acls(&self) -> Vec<String> {
        let acls = self.runtime.block_on(self.client.acl_bindings()).unwrap().unwrap();
        acls.iter()
            .map(|a| [&a.resource, &a.name, &a.principal, &a.operation, &a.permission].map(String::as_str).join(" "))
            .collect()
    }

    fn add_acls(&self, texts: &[&str]) {
        let acls: Vec<AclBinding> = texts.iter().map(|text| acl(text)).collect();
        assert_eq!(self.runtime.block_on(self.client.create_acls(&acls)).unwrap(), []);
    }

    fn remove_acl(&self, text: &str) {
        assert_eq!(self.runtime.block_on(self.client.delete_acls(&[acl(text)])).unwrap(), []);
    }

    fn set_quota(&self, user: &str, value: Option<f64>) {
        let entity = vec![("user".to_owned(), Some(user.to_owned()))];
        let change = QuotaChange { entity, values: [("producer_byte_rate".to_owned(), value)].into() };
        assert_eq!(self.runtime.block_on(self.client.change_client_quotas(&[change])).unwrap(), []);
    }

    fn quota(&self, user: &str) -> Option<f64> {
        let quotas = self.runtime.block_on(self.client.client_quotas()).unwrap();
        let of = quotas.into_iter().find(|q| q.entity == [("user".to_owned(), Some(user.to_owned()))])?;
        of.values.get("producer_byte_rate").copied()
    }
}

fn acl(text: &str) -> AclBinding {
    let [resource, name, principal, operation, permission] = text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    AclBinding {
        resource: resource.to_owned(),
        name: name.to_owned(),
        pattern: "LITERAL".to_owned(),
        principal: principal.to_owned(),
        host: "*".to_owned(),
        operation: operation.to_owned(),
        permission: permission.to_owned(),
    }
}

fn until<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: impl Fn() -> T) {
    wait_until(what, LIMIT, || {
        let found = found();
        if found == *expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// `WHAT: ACTION` of the rows of `sync --dry-run`.
fn rows(pair: &Pair) -> Vec<String> {
    let plan = pair.mirror.json(&["sync", "--dry-run"], 0);
    let row = |row: &Value| format!("{}: {}", row["object"].as_str().unwrap(), row["action"].as_str().unwrap());
    plan["rows"].as_array().unwrap().iter().map(row).collect()
}

/// Whatever is set on the target by hand stays, before a restart and after; all else follows.
#[test]
fn what_is_set_by_hand_stays_and_the_rest_follows_over_restarts() {
    let topic = "sync-own";
    let mut pair = Pair::matching(topic, topic, 2, SYNC);
    let configs = [("retention.ms", "5000000"), ("retention.bytes", "100")];
    pair.source.create_topic(topic, 1, 1, &configs).unwrap();
    pair.source.plant_scram_user("carol", 1, 4096);
    pair.write(0, 0, 10);
    let (source, target) = (Admin::of(&pair.source), Admin::of(&pair.target));
    source.add_acls(&["TOPIC sync-own User:alice READ ALLOW", "TOPIC sync-own User:writer WRITE ALLOW"]);
    source.set_quota("alice", Some(1.0));
    source.set_quota("bob", Some(1.0));
    target.set_quota("bob", Some(7.0));
    pair.mirror.start();
    until("an ACL", &vec!["TOPIC sync-own User:alice READ ALLOW".to_owned()], || target.acls());
    until("a quota", &Some(1.0), || target.quota("alice"));
    assert_eq!(target.config(topic, "retention.ms"), some("5000000"));

    target.set_config(topic, "retention.bytes", Some("999"));
    source.set_config(topic, "retention.bytes", Some("200"));
    source.set_config(topic, "retention.ms", Some("6000000"));
    source.set_quota("alice", Some(2.0));
    until("a config", &some("6000000"), || target.config(topic, "retention.ms"));
    until("a quota", &Some(2.0), || target.quota("alice"));

    // A kill leaves nothing but what is on the target.
    pair.mirror.kill();
    source.set_config(topic, "retention.ms", None);
    source.set_config(topic, "segment.bytes", Some("300000000"));
    source.set_quota("alice", None);
    source.add_acls(&["TOPIC sync-own User:mallory READ DENY", "GROUP g User:alice READ ALLOW"]);
    source.remove_acl("TOPIC sync-own User:alice READ ALLOW");
    assert!(pair.mirror.output(&["sync"]).status.code() == Some(6), "without a yes nothing is changed");
    assert_eq!(target.quota("alice"), Some(2.0));
    let done = pair.mirror.json(&["sync", "--yes"], 0);
    assert_eq!((done["applied"]["set"].as_u64(), done["applied"]["removed"].as_u64()), (Some(3), Some(3)), "{done}");
    assert_eq!(target.config(topic, "retention.ms"), None);
    assert_eq!(target.config(topic, "segment.bytes"), some("300000000"));
    assert_eq!((target.quota("alice"), target.quota("bob")), (None, Some(7.0)));
    assert_eq!(target.acls(), ["GROUP g User:alice READ ALLOW", "TOPIC sync-own User:mallory READ DENY"]);
    assert_eq!(target.config(topic, "retention.bytes"), some("999"), "set by hand");
    assert_eq!(
        rows(&pair),
        [
            "retention.bytes of topic sync-own: left_alone",
            "allow User:writer WRITE on topic sync-own: held_back",
            "producer_byte_rate of user bob: left_alone",
            "SCRAM user carol: by_hand",
        ]
    );
    // Taken over, it follows as well.
    pair.mirror.json(&["sync", "--overwrite", "--yes"], 0);
    assert_eq!((target.config(topic, "retention.bytes"), target.quota("bob")), (some("200"), Some(1.0)));
    pair.mirror.start();
    source.set_config(topic, "retention.bytes", Some("400"));
    until("a config", &some("400"), || target.config(topic, "retention.bytes"));
    pair.mirror.stop();
}

/// Writers get their rights by the promotion, also where the source is gone by then.
#[test]
fn rights_to_write_wait_for_the_promotion() {
    let topic = "sync-staged";
    let mut pair = Pair::new(topic, 2, 1, SYNC);
    pair.write(0, 0, 10);
    let (source, target) = (Admin::of(&pair.source), Admin::of(&pair.target));
    source.add_acls(&[
        "TOPIC sync-staged User:alice READ ALLOW",
        "TOPIC * User:admin ALL ALLOW",
        "TOPIC sync-staged User:writer WRITE ALLOW",
        "TOPIC sync-staged User:* DELETE DENY",
        "CLUSTER kafka-cluster User:admin ALTER ALLOW",
    ]);
    pair.mirror.start();
    let before = ["TOPIC * User:admin DESCRIBE_CONFIGS ALLOW", "TOPIC sync-staged User:alice READ ALLOW"];
    until("the readers' rights", &true, || before.iter().all(|acl| target.acls().contains(&(*acl).to_owned())));
    let is_open = |acls: Vec<String>| acls.iter().any(|acl| acl.contains(" ALL ") || acl.contains(" WRITE "));
    assert!(!is_open(target.acls()), "{:?}", target.acls());
    until("what is held back to be on record", &Some(3), || {
        pair.mirror.json(&["status"], 0)["mirrors"][0]["sync"]["held_back_acls"].as_u64()
    });
    pair.mirror.await_caught_up(1);
    let dry = pair.mirror.json(&["failover", "--unplanned", "--dry-run"], 0);
    let steps = dry["steps"].as_array().unwrap().iter();
    let action = steps.clone().find(|step| step["step"] == "acls").unwrap()["action"].as_str().unwrap();
    assert_eq!(action, "create 3 ACLs that were held back: writers get their rights");
    assert_eq!(dry["held_back_acls"].as_array().unwrap().len(), 3, "{dry}");
    assert!(!is_open(target.acls()), "a dry run changes nothing");

    pair.lose_source();
    let report = fail_over(&pair.mirror, &["--unplanned"], 0);
    assert_eq!(report["acls"].as_array().unwrap().len(), 3, "{report}");
    pair.mirror.await_end();
    let there = target.acls();
    for acl in [
        "TOPIC * User:admin ALL ALLOW",
        "TOPIC sync-staged User:* DELETE DENY",
        "TOPIC sync-staged User:writer WRITE ALLOW",
    ] {
        assert!(there.contains(&acl.to_owned()), "{acl}: {there:?}");
    }
    assert!(!there.iter().any(|acl| acl.starts_with("CLUSTER")), "{there:?}");
}

/// A topic that is gone is deleted in time; one that is only hidden, or that the mirror has not made, never is.
#[test]
fn a_topic_that_is_gone_is_deleted_in_time_and_a_hidden_one_is_not() {
    let more = "    sync: { deletions: true, deletions_grace: 6s, interval: 1s }\n";
    let mut pair = Pair::matching("sync-gone", "sync-gone-.*", 2, more);
    let topics = ["sync-gone-a", "sync-gone-hidden", "sync-gone-by-hand", "sync-gone-stays"];
    pair.target.create_topic("sync-gone-by-hand", 1, 1, &[]).unwrap();
    for topic in topics {
        pair.source.create_topic(topic, 1, 1, &[]).unwrap();
        append(&pair.source, topic, 0, "", 0, 10);
    }
    pair.mirror.start();
    pair.mirror.await_caught_up(topics.len());
    // Seen no more, it is still read.
    let hooks = take_rights(&pair.source, "sync-gone-hidden");
    hooks[1..].iter().for_each(|hook| pair.source.remove_intercept(hook));
    for topic in ["sync-gone-a", "sync-gone-by-hand"] {
        assert!(pair.source.delete_topic(topic));
    }
    let sync = || pair.mirror.json(&["status"], 0)["mirrors"][0]["sync"].clone();
    let there = |topic: &str| pair.target.topics().iter().any(|found| found.name == topic);
    wait_until("the deletion to be pending", LIMIT, || {
        let pending = sync()["pending_deletions"].clone();
        match pending.as_array().unwrap().as_slice() {
            [one] if one["topic"] == "sync-gone-a" && one["due_at"].is_string() => Ok(()),
            _ => Err(format!("{pending}, there: {}", there("sync-gone-a"))),
        }
    });
    until("the topic to go", &false, || there("sync-gone-a"));
    assert!(pair.mirror.log().contains("deleting the topic on the target"), "{}", pair.mirror.log());
    let left: Vec<String> = rows(&pair);
    assert!(left.contains(&"topic sync-gone-by-hand: left_alone".to_owned()), "{left:?}");
    assert!(!left.iter().any(|row| row.starts_with("topic sync-gone-hidden: pending")), "{left:?}");
    for topic in ["sync-gone-hidden", "sync-gone-by-hand", "sync-gone-stays"] {
        assert!(there(topic), "{topic}");
    }
    pair.source.remove_intercept(&hooks[0]);
    append(&pair.source, "sync-gone-stays", 0, "", 10, 20);
    until("the others to go on", &20, || pair.target.records("sync-gone-stays", 0, 0).unwrap().len());
    pair.mirror.stop();
}

/// On a cluster where all is open that has no ACL the first one of a topic closes it to kmirror: it is taken back, and not tried again.
#[test]
fn an_acl_that_keeps_kmirror_off_is_taken_back() {
    let topic = "sync-closed";
    let mut pair = Pair::new(topic, 2, 1, SYNC);
    pair.write(0, 0, 10);
    pair.mirror.start();
    pair.mirror.await_caught_up(1);
    let (source, target) = (Admin::of(&pair.source), Admin::of(&pair.target));
    let created = Arc::new(AtomicUsize::new(0));
    let (count, closed) = (Arc::clone(&created), Arc::new(AtomicBool::new(false)));
    let (close, open) = (Arc::clone(&closed), Arc::clone(&closed));
    pair.target.intercept(ApiKey::CreateAcls, None, move |_: &RequestContext<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
        close.store(true, Ordering::SeqCst);
        Action::Pass
    });
    pair.target.intercept(ApiKey::DeleteAcls, None, move |_: &RequestContext<'_>| {
        open.store(false, Ordering::SeqCst);
        Action::Pass
    });
    pair.target.intercept(ApiKey::ListOffsets, None, move |_: &RequestContext<'_>| {
        let is_closed = closed.load(Ordering::SeqCst);
        if is_closed { Action::Error(TopicAuthorizationFailed) } else { Action::Pass }
    });
    source.add_acls(&["TOPIC sync-closed User:alice READ ALLOW", "GROUP g User:alice READ ALLOW"]);
    wait_until("it to be noticed", LIMIT, || match pair.mirror.log() {
        log if log.contains("closes the topic to kmirror itself: taken back") => Ok(()),
        log => Err(log),
    });
    until("the ACLs to go", &Vec::<String>::new(), || target.acls());
    let rounds = || pair.mirror.log().matches("not as on the source").count();
    until("it to be told", &true, || rounds() > 0);
    source.set_quota("alice", Some(1.0));
    until("the rest to follow", &Some(1.0), || target.quota("alice"));
    assert_eq!(created.load(Ordering::SeqCst), 1, "tried once");
    pair.write(0, 10, 20);
    pair.ends_with(&numbered("", 0, 20));
}

/// There and back twice: who wrote to the standby while it was in charge does not any more, but for what was set there by hand.
#[test]
fn rights_to_write_are_held_back_again_after_the_way_home() {
    let topic = "sync-home";
    let mut pair = Pair::new(topic, 2, 1, SYNC);
    pair.write(0, 0, 10);
    let (source, target) = (Admin::of(&pair.source), Admin::of(&pair.target));
    let write = |user: &str| format!("TOPIC {topic} User:{user} WRITE ALLOW");
    source.add_acls(&[&write("writer"), &write("both"), "TOPIC * User:admin ALL ALLOW"]);
    target.add_acls(&[&write("both"), &write("operator")]);
    let may_write = |admin: &Admin| {
        let acls = admin.acls().into_iter();
        let mut users: Vec<String> = acls.filter(|acl| acl.contains(" WRITE ") || acl.contains(" ALL ")).collect();
        users.iter_mut().for_each(|acl| *acl = acl.split(' ').nth(2).unwrap().trim_start_matches("User:").to_owned());
        users.sort();
        users.join(" ")
    };
    let home = format!("{topic}.failback");
    let await_held = |pair: &Pair, mirror: &str, count: u64| {
        until("what is held back to be on record", &Some(count), || {
            pair.mirror.json(&["status", "--mirror", mirror], 0)["mirrors"][0]["sync"]["held_back_acls"].as_u64()
        });
    };
    let start = |pair: &mut Pair, mirror: &str| {
        pair.mirror.start_as(|mut command| {
            command.args(["--mirror", mirror]);
            command
        });
    };
    let switch = |pair: &mut Pair, mirror: &str| {
        let report = fail_over(&pair.mirror, &["--mirror", mirror], 0);
        assert_eq!(report["rpo"]["records"].as_i64(), Some(0), "{report}");
        assert_eq!(pair.mirror.await_end(), 0, "{}", pair.mirror.log());
    };
    start(&mut pair, topic);
    await_held(&pair, topic, 3);
    assert_eq!(may_write(&target), "both operator");
    switch(&mut pair, topic);
    assert_eq!(may_write(&target), "admin both operator writer");
    target.add_acls(&[&write("later")]);

    // On the way home the old source is a standby: what the operator had there stays, what is new waits.
    pair.mirror.json(&["failback", "--yes"], 0);
    start(&mut pair, &home);
    await_held(&pair, &home, 5);
    assert_eq!(may_write(&source), "admin both writer");
    switch(&mut pair, &home);
    assert_eq!(may_write(&source), "admin both later operator writer");

    // And the standby is one again.
    pair.mirror.json(&["failback", "--yes"], 0);
    start(&mut pair, topic);
    until("the promotion's rights to be taken back", &"both later operator".to_owned(), || may_write(&target));
    let reads = target.acls().into_iter().filter(|acl| acl.contains("User:admin READ")).count();
    assert_eq!(reads, 1, "who may do all reads on");
    await_held(&pair, topic, 5);
    pair.write(0, 10, 20);
    pair.await_values(0, &numbered("", 0, 20));

    // Once more: what the way home brought to the old source goes again.
    switch(&mut pair, topic);
    assert_eq!(may_write(&target), "admin both later operator writer");
    pair.mirror.json(&["failback", "--yes"], 0);
    start(&mut pair, &home);
    until("what the way home had brought to be taken back", &"admin both writer".to_owned(), || may_write(&source));
    pair.mirror.stop();
}

/// What a broker of long ago has no api for is named, once a round, and everything else follows.
#[test]
fn what_an_old_broker_does_not_know_is_named_and_the_rest_follows() {
    let topic = "sync-old";
    let mut pair = Pair::new(topic, 2, 1, SYNC);
    pair.write(0, 0, 10);
    pair.source.plant_scram_user("carol", 1, 4096);
    let (source, target) = (Admin::of(&pair.source), Admin::of(&pair.target));
    source.set_quota("alice", Some(1.0));
    // Kafka before 2.7, and before 2.6.
    let lacks = |cluster: &Cluster, apis: &'static [ApiKey]| {
        cluster.intercept(ApiKey::ApiVersions, None, move |_: &RequestContext<'_>| {
            Action::Edit(Box::new(|response| {
                let ResponseKind::ApiVersions(response) = response else { return };
                response.api_keys.retain(|offered| apis.iter().all(|api| *api as i16 != offered.api_key));
            }))
        })
    };
    lacks(&pair.source, &[ApiKey::DescribeUserScramCredentials]);
    lacks(&pair.target, &[ApiKey::DescribeClientQuotas, ApiKey::AlterClientQuotas]);
    pair.mirror.start();
    pair.mirror.await_caught_up(1);
    source.add_acls(&["TOPIC sync-old User:alice READ ALLOW"]);
    source.set_config(topic, "retention.ms", Some("5000000"));
    until("the ACL", &vec!["TOPIC sync-old User:alice READ ALLOW".to_owned()], || target.acls());
    until("the config", &some("5000000"), || target.config(topic, "retention.ms"));
    let plan = pair.mirror.json(&["sync", "--dry-run"], 3);
    let unavailable = plan["unavailable"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let named: Vec<&str> = unavailable.map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(named, ["client quotas", "SCRAM users"], "{plan}");
    pair.mirror.stop();
}
