//! ACLs and quotas that follow, on real Kafka with an authorizer: what somebody may do on the standby before a promotion and after.

use std::collections::BTreeMap;
use std::thread;

use bytes::Bytes;
use kmirror::batch::{Stamp, encode_values};
use kmirror::client::{Cluster as Client, ReadOptions, TopicPartition, Topics, append_batch, read_log};
use kmirror::plan::AclNumbers;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::spec;
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, Tier, TopicSpec, Version, driver, real_kafka_wanted, tier, wait_until,
};

const TOPIC: &str = "sync-real";
const REFUSED: i16 = 29;

/// kmirror and the brokers are ANONYMOUS, and super users; alice, mallory and writer log in.
fn guarded(version: Version) -> Cluster {
    let users = ["alice", "mallory", "writer"].map(|user| format!("user_{user}=\"pw\""));
    let jaas = format!("org.apache.kafka.common.security.plain.PlainLoginModule required {};", users.join(" "));
    let authorizer = match version {
        Version::V2_8_2 => "kafka.security.authorizer.AclAuthorizer",
        Version::V3_9_1 | Version::V4_3_1 => "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    };
    let spec = ClusterSpec::new(version)
        .set("authorizer.class.name", authorizer)
        .set("super.users", "User:ANONYMOUS")
        .listener("USERS", "SASL_PLAINTEXT")
        .set("listener.name.users.sasl.enabled.mechanisms", "PLAIN")
        .set("listener.name.users.plain.sasl.jaas.config", &jaas);
    Cluster::start(spec)
}

/// What somebody may do with the topic on a cluster.
struct Somebody<'a> {
    runtime: &'a Runtime,
    client: Client,
}

impl<'a> Somebody<'a> {
    fn on(runtime: &'a Runtime, cluster: &Cluster, user: &str) -> Self {
        let sasl = format!(", sasl: {{ mechanism: PLAIN, username: {user}, password: pw }}");
        let spec = spec(std::path::Path::new("."), &cluster.listener("USERS"), &sasl);
        Self { runtime, client: runtime.block_on(Client::connect(spec)).unwrap() }
    }

    fn tp(&self) -> TopicPartition {
        let metadata = self.runtime.block_on(self.client.refresh(Topics::Named(&[TOPIC]))).unwrap();
        let topic_id = metadata.topic(TOPIC).map(|topic| topic.id).unwrap_or_default();
        TopicPartition { topic: TOPIC.to_owned(), topic_id, partition: 0 }
    }

    /// The refusal, if it is one.
    fn writes(&self) -> Result<(), i16> {
        let batch = encode_values(vec![Bytes::from_static(b"mine")], 1_790_000_000_000, Stamp::NONE).unwrap();
        let tp = self.tp();
        let outcome = self.runtime.block_on(append_batch(&self.client, &tp, batch));
        outcome.map(|_| ()).map_err(|error| error.code().unwrap_or_else(|| panic!("{error}")))
    }

    fn reads(&self) -> Result<(), String> {
        let tp = self.tp();
        let outcome = self.runtime.block_on(read_log(&self.client, &tp, 0, ReadOptions::default()));
        outcome.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Each release as source and as target: ACLs, quotas and topic configs follow; what the target does not know stays behind.
macro_rules! pairings {
    ($($tier:ident $test:ident: $from:ident => $to:ident;)*) => {$(
        #[test]
        fn $test() {
            if real_kafka_wanted(stringify!($test)) && (tier() == Tier::Full || Tier::$tier == Tier::Ci) {
                writers_get_their_rights_by_the_promotion_and_quotas_follow(Version::$from, Version::$to);
            }
        }
    )*};
}

pairings! {
    Ci from_4_3_to_4_3: V4_3_1 => V4_3_1;
    Ci from_4_3_to_2_8: V4_3_1 => V2_8_2;
    Full from_2_8_to_4_3: V2_8_2 => V4_3_1;
    Full from_4_3_to_3_9: V4_3_1 => V3_9_1;
    Full from_3_9_to_4_3: V3_9_1 => V4_3_1;
    Full from_2_8_to_3_9: V2_8_2 => V3_9_1;
    Full from_3_9_to_2_8: V3_9_1 => V2_8_2;
}

/// What the target does not know does not keep the rest from following.
fn topic_configs_follow(runtime: &Runtime, (source, target): (&Client, &Client), knows_local_retention: bool) {
    let config = |key: &str| runtime.block_on(target.topic_overrides(TOPIC)).unwrap().remove(key);
    assert_eq!(config("local.retention.ms").as_deref(), knows_local_retention.then_some("555000000"));
    assert_eq!(config("retention.ms").as_deref(), Some("777000000"));
    let changed = BTreeMap::from([("retention.ms".to_owned(), Some("666000000".to_owned()))]);
    runtime.block_on(source.alter_topic_configs(TOPIC, &changed)).unwrap();
    wait_until("the topic's config", LIMIT, || match config("retention.ms").as_deref() {
        Some("666000000") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn writers_get_their_rights_by_the_promotion_and_quotas_follow(from: Version, to: Version) {
    let (from_version, to_version) = (from, to);
    let (from, to) = thread::scope(|scope| {
        let (from, to) = (scope.spawn(|| guarded(from_version)), scope.spawn(|| guarded(to_version)));
        (from.join().unwrap(), to.join().unwrap())
    });
    let (here, there, driver) = (from.bootstrap(), to.bootstrap(), driver());
    let mut topic = TopicSpec::new(TOPIC, 1).set("retention.ms", 777_000_000);
    if from_version != Version::V2_8_2 {
        // Brought by Kafka 3.0.
        topic = topic.set("local.retention.ms", 555_000_000);
    }
    driver.create_topic(&here, &topic);
    driver.allow(&here, ["TOPIC", TOPIC, "LITERAL"], "User:alice", "READ");
    driver.allow(&here, ["TOPIC", "sync-", "PREFIXED"], "User:writer", "ALL");
    driver.allow(&here, ["TOPIC", "*", "LITERAL"], "User:mallory", "READ");
    driver.allow(&here, ["CLUSTER", "kafka-cluster", "LITERAL"], "User:writer", "ALTER");
    driver.set_quota(&here, "etl", "producer_byte_rate", Some(123_456));
    driver.set_quota(&here, "by-hand", "producer_byte_rate", Some(1_000));
    driver.set_quota(&there, "by-hand", "producer_byte_rate", Some(2_000));
    driver.set_scram(&here, "carol", "SCRAM-SHA-256", 4096, "pw");
    driver.produce(&here, &Produce::new(TOPIC, 100));
    let runtime = Runtime::new().unwrap();
    let admin = |bootstrap: &str| {
        let spec = spec(std::path::Path::new("."), bootstrap, "");
        runtime.block_on(Client::connect(spec)).unwrap()
    };
    let (source, target) = (admin(&here), admin(&there));
    let denial =
        AclNumbers { resource: 2, pattern: 3, operation: 3, permission: 2 }.binding(TOPIC, "User:mallory", "*");
    assert_eq!(runtime.block_on(source.create_acls(std::slice::from_ref(&denial))).unwrap(), []);

    let sync = "    sync: { acls: true, quotas: true, scram_users: true, interval: 1s }\n";
    let mut mirror = Mirror::new(TOPIC, &from, &to, &[TOPIC], sync);
    mirror.start();
    mirror.await_caught_up(1);
    let quota = |client: &str| {
        let quotas = runtime.block_on(target.client_quotas()).unwrap();
        let of = quotas.iter().find(|quota| quota.entity.iter().any(|(_, name)| name.as_deref() == Some(client)))?;
        of.values.get("producer_byte_rate").copied()
    };
    wait_until("the quota", LIMIT, || if quota("etl") == Some(123_456.0) { Ok(()) } else { Err("none".to_owned()) });
    assert_eq!(quota("by-hand"), Some(2_000.0));
    let knows = from_version != Version::V2_8_2 && to_version != Version::V2_8_2;
    topic_configs_follow(&runtime, (&source, &target), knows);
    let (alice, mallory) = (Somebody::on(&runtime, &to, "alice"), Somebody::on(&runtime, &to, "mallory"));
    let writer = Somebody::on(&runtime, &to, "writer");
    wait_until("alice to read", LIMIT, || alice.reads());
    wait_until("the writer to read", LIMIT, || writer.reads());
    assert_eq!((alice.writes(), writer.writes()), (Err(REFUSED), Err(REFUSED)));
    assert!(mallory.reads().is_err_and(|error| error.contains("TOPIC_AUTHORIZATION_FAILED")));

    let plan = mirror.json(&["sync", "--dry-run"], 0);
    let row = |row: &Value| (row["kind"].as_str().unwrap().to_owned(), row["action"].as_str().unwrap().to_owned());
    let rows: Vec<(String, String)> = plan["rows"].as_array().unwrap().iter().map(row).collect();
    let expected =
        [("acl", "left_out"), ("held_back_acl", "held_back"), ("quota", "left_alone"), ("scram_user", "by_hand")];
    assert_eq!(rows, expected.map(|(kind, action)| (kind.to_owned(), action.to_owned())), "{plan}");
    // What the source takes back is taken back.
    driver.set_quota(&here, "etl", "producer_byte_rate", None);
    assert_eq!(runtime.block_on(source.delete_acls(&[denial])).unwrap(), []);
    wait_until("the quota to go", LIMIT, || if quota("etl").is_none() { Ok(()) } else { Err("there".to_owned()) });
    wait_until("mallory to read", LIMIT, || mallory.reads());

    let report = mirror.json(&["failover", "--unplanned", "--yes"], 0);
    assert_eq!(report["acls"], serde_json::json!(["allow User:writer ALL on topic prefix sync-"]), "{report}");
    assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
    wait_until("the writer to write", LIMIT, || writer.writes().map_err(|code| code.to_string()));
    assert_eq!(alice.writes(), Err(REFUSED));
}
