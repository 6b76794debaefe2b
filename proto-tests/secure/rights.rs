//! Least privilege on real Kafka's own authorizer: precisely the ACLs that `check --print-acls` prints, and one less each time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmirror::client::{Allowed, Cluster as Client, ClusterSpec as ClientSpec};
use kmirror::plan::AclBinding;
use serde_json::Value;

use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, TopicSpec, Transact, Version, compare, driver, real_kafka_wanted, wait_until,
};

const PASSWORD: &str = "r1ghts-Hb6";
/// Principals that lack one ACL each.
const LACKING_MAX: usize = 48;
const PLAIN: &str = "rights-plain";
const COMMITTED: &str = "rights-committed";
const GROUP: &str = "rights-readers";

/// A broker where nobody may do anything but the one who comes by the plain listener.
fn guarded() -> Cluster {
    let users: Vec<String> =
        ["reader", "writer"].into_iter().map(str::to_owned).chain((0..LACKING_MAX).map(lacking)).collect();
    let users: Vec<String> = users.iter().map(|user| format!("user_{user}=\"{PASSWORD}\"")).collect();
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let mut spec = ClusterSpec::new(Version::V4_3_1)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:ANONYMOUS");
    for name in ["FROM", "TO"] {
        let listener = format!("listener.name.{}", name.to_lowercase());
        spec = spec
            .listener(name, "SASL_PLAINTEXT")
            .set(&format!("{listener}.sasl.enabled.mechanisms"), "PLAIN")
            .set(&format!("{listener}.plain.sasl.jaas.config"), &format!("{module} required {};", users.join(" ")));
    }
    Cluster::start(spec)
}

fn lacking(at: usize) -> String {
    format!("lacks{at}")
}

/// Both ends are one broker, for the sake of the machine: who reads and who writes are two principals all the same.
fn configuration(kafka: &Cluster, archive: &std::path::Path) -> String {
    let cluster = |name: &str, user: &str| {
        format!(
            "  {name}: {{ bootstrap: [\"{}\"], sasl: {{ mechanism: PLAIN, username: \"${{env:{user}}}\", password: {PASSWORD} }} }}\n",
            kafka.listener(&name.to_uppercase())
        )
    };
    format!(
        "clusters:\n{}{}mirrors:\n  - name: rights\n    source: from\n    target: to\n    topics: {{ include: [\"rights-.*\"] }}\n    \
         rename: \"dr.{{topic}}\"\n    groups: {{ include: [{GROUP}], interval: 1s }}\n    heartbeats: {{ interval: 200ms }}\n\
         backups:\n  - {{ name: nightly, cluster: from, topics: {{ include: [\"rights-.*\"] }}, groups: {{ include: [{GROUP}] }}, \
         to: [{{ url: \"file://{}\" }}] }}\n\
         fleet: {{ session_timeout: 6s }}\n",
        cluster("from", "KMIRROR_READER"),
        cluster("to", "KMIRROR_WRITER"),
        archive.display()
    )
}

struct Rig {
    kafka: Cluster,
    admin: Client,
    runtime: tokio::runtime::Runtime,
    mirror: Mirror,
}

impl Rig {
    fn start() -> Self {
        let kafka = guarded();
        let plain = kafka.bootstrap();
        let mut mirror = Mirror::between("rights", &plain, &plain, &["rights"], "");
        std::fs::write(&mirror.config, configuration(&kafka, &mirror.folder().join("archive"))).unwrap();
        mirror.env.extend([("KMIRROR_READER", "reader".into()), ("KMIRROR_WRITER", "writer".into())]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let spec = ClientSpec::new("admin", vec![plain], "rights-test".to_owned());
        let admin = runtime.block_on(Client::connect(spec)).unwrap();
        Self { kafka, admin, runtime, mirror }
    }

    /// Adds ACLs, and waits until the broker heeds them.
    fn grant(&self, acls: &[AclBinding]) {
        self.runtime.block_on(async {
            assert_eq!(self.admin.create_acls(acls).await.unwrap(), []);
        });
        let wanted: BTreeSet<&AclBinding> = acls.iter().collect();
        wait_until("the ACLs", LIMIT, || {
            let there = self.runtime.block_on(self.admin.acl_bindings()).map_err(|error| error.to_string())?;
            let there: BTreeSet<AclBinding> = there.into_iter().flatten().collect();
            let left = wanted.iter().filter(|acl| !there.contains(**acl)).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} are not there yet")) }
        });
    }

    /// What `check --print-acls` prints, with the cluster that each is for.
    fn printed(&self, more: &[&str]) -> Vec<(String, AclBinding)> {
        let plan = self.mirror.json(&[&["check", "--print-acls"], more].concat(), 0);
        let clusters = plan["clusters"].as_array().unwrap();
        let acls = clusters.iter().flat_map(|cluster| {
            let name = cluster["cluster"].as_str().unwrap();
            let acls = cluster["acls"].as_array().unwrap();
            acls.iter().map(move |acl| (name.to_owned(), serde_json::from_value(acl.clone()).unwrap()))
        });
        acls.collect()
    }

    /// Rights that a check finds missing, as these principals.
    fn missing(&self, reader: &str, writer: &str) -> Vec<Value> {
        let mut command = self.mirror.command(&["check", "--json"]);
        command.env("KMIRROR_READER", reader).env("KMIRROR_WRITER", writer);
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let findings = report["mirrors"][0]["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["right"].is_object()).cloned().collect()
    }
}

fn of(acls: &[(String, AclBinding)]) -> Vec<AclBinding> {
    acls.iter().map(|(_, acl)| acl.clone()).collect()
}

/// Records by transactions and without, and a group in the middle of them.
fn fill(kafka: &Cluster) -> usize {
    let (driver, plain) = (driver(), kafka.bootstrap());
    for topic in [PLAIN, COMMITTED] {
        driver.create_topic(&plain, &TopicSpec::new(topic, 2).set("retention.ms", 888_000_000_000_i64));
    }
    driver.produce(&plain, &Produce { partitions: 2, ..Produce::odd(PLAIN, 600) });
    let produce = Produce { partitions: 2, ..Produce::odd(COMMITTED, 500) };
    let transacted = driver.transact(&plain, &Transact { producers: 2, ..Transact::new(produce) });
    assert!(transacted.aborted > 0);
    let read = driver.read_on(&plain, GROUP, PLAIN, "classic", Some(123));
    assert_eq!(read.len(), 123);
    600 + transacted.committed as usize
}

#[test]
fn precisely_the_printed_acls_suffice_and_each_that_lacks_is_named() {
    if !real_kafka_wanted("precisely_the_printed_acls_suffice_and_each_that_lacks_is_named") {
        return;
    }
    let mut rig = Rig::start();
    let records = fill(&rig.kafka);
    let needed = rig.printed(&[]);
    // Who reads writes nothing, heartbeats aside.
    for (_, acl) in needed.iter().filter(|(cluster, _)| cluster == "from") {
        assert_eq!(acl.principal, "User:reader");
        let is_read = ["READ", "DESCRIBE", "DESCRIBE_CONFIGS"].contains(&acl.operation.as_str());
        assert!(is_read || acl.name == "kmirror.heartbeats.rights", "{acl}");
    }
    rig.grant(&of(&needed));
    assert_eq!(rig.missing("reader", "writer"), Vec::<Value>::new());
    each_that_lacks_is_named(&rig);
    the_job_is_done(&mut rig, records);
}

/// As many principals as there are rights of a run, each without one of them.
fn each_that_lacks_is_named(rig: &Rig) {
    let needed = rig.printed(&["--for", "run"]);
    assert!((20..LACKING_MAX).contains(&needed.len()), "{}", needed.len());
    let mut grants = Vec::new();
    for (at, (cluster, lacks)) in needed.iter().enumerate() {
        let others = needed.iter().filter(|(there, acl)| there == cluster && acl != lacks);
        grants.extend(others.map(|(_, acl)| AclBinding { principal: format!("User:{}", lacking(at)), ..acl.clone() }));
    }
    rig.grant(&grants);
    quotas_are_told_to_others_than_users_are(rig, &needed);
    let next = AtomicUsize::new(0);
    let look = || {
        while let Some((at, (cluster, lacks))) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            needed.get(at).map(|needed| (at, needed))
        } {
            let user = lacking(at);
            let missing = if cluster == "from" { rig.missing(&user, "writer") } else { rig.missing("reader", &user) };
            let [finding] = &missing[..] else { panic!("without {lacks}: {missing:#?}") };
            let right = &finding["right"];
            let found =
                ["principal", "operation", "resource", "name", "pattern"].map(|key| right[key].as_str().unwrap());
            let principal = format!("User:{user}");
            let wanted = [&principal, &lacks.operation, &lacks.resource, &lacks.name, &lacks.pattern];
            assert_eq!(found, wanted.map(String::as_str), "without {lacks}: {finding}");
            let command = right["command"].as_str().unwrap();
            assert!(command.contains("--add --allow-principal") && command.contains(&principal), "{command}");
            assert!(finding["detail"].as_str().unwrap().contains(command), "{finding}");
        }
    };
    std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..3).map(|_| scope.spawn(look)).collect();
        lookers.into_iter().for_each(|looker| looker.join().unwrap());
    });
    the_fleets_group_is_missed(rig, &needed);
    the_state_is_missed_once_it_is_there(rig, &needed);
}

/// What the table says of the rights on the cluster: DESCRIBE_CONFIGS for quotas, DESCRIBE for SCRAM users and ACLs.
fn quotas_are_told_to_others_than_users_are(rig: &Rig, needed: &[(String, AclBinding)]) {
    let at = needed.iter().position(|(cluster, acl)| cluster == "to" && acl.resource != "CLUSTER").unwrap();
    let more = format!(", sasl: {{ mechanism: PLAIN, username: {}, password: {PASSWORD} }}", lacking(at));
    let spec = super::spec(rig.mirror.folder(), &rig.kafka.listener("TO"), &more);
    rig.runtime.block_on(async {
        let client = Client::connect(spec).await.unwrap();
        client.broker_configs().await.unwrap();
        client.client_quotas().await.unwrap();
        for refused in [client.scram_users().await.map(drop), client.acl_bindings().await.map(drop)] {
            let words = refused.unwrap_err().to_string();
            assert!(words.contains(&format!("User:{} lacks DESCRIBE on Cluster: ", lacking(at))), "{words}");
        }
        assert_eq!(client.allowed_on_cluster().await.unwrap(), Allowed::Hidden);
    });
}

/// Who lacks the fleet's group is told so by `status`, and ends with it.
fn the_fleets_group_is_missed(rig: &Rig, needed: &[(String, AclBinding)]) {
    let is_its =
        |(_, acl): &(String, AclBinding)| (acl.resource.as_str(), acl.name.as_str()) == ("GROUP", "kmirror.rights");
    let at = needed.iter().position(is_its).expect("the file has a fleet");
    let as_lacking = |args: &[&str]| {
        let mut command = rig.mirror.command(args);
        command.env("KMIRROR_WRITER", lacking(at)).output().unwrap()
    };
    let wanted = format!("User:{} lacks READ on Group kmirror.rights", lacking(at));
    let status: Value = serde_json::from_slice(&as_lacking(&["status", "--json"]).stdout).unwrap();
    let reason = status["mirrors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains(&wanted), "{reason}");
    let run = as_lacking(&["run"]);
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && log.contains(&wanted), "{:?}: {log}", run.status);
}

/// The run before has made its topic: what cannot be read of it keeps nothing else from being said.
fn the_state_is_missed_once_it_is_there(rig: &Rig, needed: &[(String, AclBinding)]) {
    let reads_state = |(_, acl): &(String, AclBinding)| acl.name == "__kmirror.rights" && acl.operation == "READ";
    let at = needed.iter().position(reads_state).expect("a run reads its state");
    let missing = rig.missing("reader", &lacking(at));
    let found: Vec<&str> = missing.iter().map(|finding| finding["right"]["name"].as_str().unwrap()).collect();
    assert!(found.contains(&"__kmirror.rights"), "{missing:#?}");
}

/// Everything with these rights alone: a run, what is asked beside it, a backup, and with a failover's rights a failover.
fn the_job_is_done(rig: &mut Rig, records: usize) {
    rig.mirror.start().await_caught_up(5);
    let mirror = &rig.mirror;
    assert_eq!(rig.missing("reader", "writer"), Vec::<Value>::new(), "once everything is there");
    wait_until("groups in step", LIMIT, || {
        let plan = mirror.json(&["groups", "plan"], 0);
        let is_done = plan["totals"]["groups"] == 1 && plan["totals"]["commits"] == 0;
        if is_done { Ok(()) } else { Err(plan["totals"].to_string()) }
    });
    let log = mirror.log();
    let refused = log.lines().find(|line| line.contains("AUTHORIZATION_FAILED"));
    assert_eq!(refused, None);
    let (there, reason) = mirror.translate(PLAIN, 0, 17, &[]);
    assert_eq!((mirror.translate("dr.rights-plain", 0, there, &["--reverse"]).0, reason), (17, None));
    let verified = mirror.json(&["verify", "--topic", PLAIN, "--topic", COMMITTED], 0);
    let equal = verified["partitions"].as_array().unwrap().iter().map(|row| row["equal"].as_u64().unwrap());
    assert_eq!(equal.sum::<u64>(), records as u64, "{verified}");
    let backed_up = mirror.json(&["backup"], 0);
    assert_eq!(backed_up["pass"]["problems"].as_array().map(Vec::len), Some(0), "{backed_up}");
    let shown = mirror.json(&["archive", "show"], 0);
    for part in ["topics", "groups", "acls", "quotas", "scram_users"] {
        let captured = &shown["captured"][part];
        assert!(captured["entries"].is_array() && captured["unavailable"].is_null(), "{part}: {captured}");
    }
    let topics = [PLAIN, COMMITTED];
    let names = ["dr.rights-plain", "dr.rights-committed"];
    let (here, there) = mirror.dumps(&topics, &names);
    compare(&here, &there.renamed(|name| name.trim_start_matches("dr.").to_owned())).assert_exactly(records);

    rig.grant(&of(&rig.printed(&["--for", "failover"])));
    let report = rig.mirror.json(&["failover", "--planned", "--quiet", "1s", "--yes"], 0);
    assert_eq!(report["rpo"]["records"], 0, "{report}");
    assert_eq!(rig.mirror.await_end(), 0, "{}", rig.mirror.log());
    let configs = driver().topic_configs(&rig.kafka.bootstrap(), "dr.rights-plain");
    assert_eq!(configs.get("retention.ms").map(String::as_str), Some("888000000000"), "{configs:?}");
}
