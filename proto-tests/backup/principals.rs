//! Client quotas and SCRAM users on their way back, on real Kafka.

use std::process::Command;

use serde_json::{Value, json};

use super::kafka::backed;
use crate::kafka::harness::cluster::Version;
use crate::kafka::harness::{Produce, TopicSpec, driver, jars, real_kafka_wanted, source, target};

fn of_client<'a>(list: &'a Value, client: &str) -> Option<&'a Value> {
    let is_its = |quota: &&Value| quota["entity"] == json!([{ "type": "client-id", "name": client }]);
    list.as_array().expect("a list").iter().find(is_its)
}

/// A quota that is gone is set again, one that is another by now stays and is shown; a part of the backup leaves both alone. A user whom
/// the target lacks is named, with a command that works.
#[test]
fn quotas_come_back_and_users_are_named() {
    if !real_kafka_wanted("quotas_come_back_and_users_are_named") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "bq-topic");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 1));
    driver.produce(&bootstrap, &Produce::new(topic, 100));
    let quota = |client: &str, value| driver.set_quota(&bootstrap, client, "producer_byte_rate", value);
    quota("bq-gone", Some(1_000_000));
    quota("bq-other", Some(2_000_000));
    quota("bq-same", Some(3_000_000));
    driver.set_scram(&bootstrap, "bq user's", "SCRAM-SHA-512", 8_192, "not-in-the-archive");
    let (mirror, _) = backed("bq-topic", "");
    mirror.json(&["backup"], 0);
    quota("bq-gone", None);
    quota("bq-other", Some(2_500_000));

    let again = ["restore", "--to", "from", "--suffix", "bq", "--rename", "again.{topic}"];
    let plan = mirror.json(&[&again[..], &["--dry-run"]].concat(), 0);
    let quotas = &plan["quotas"];
    let created = of_client(&quotas["create"], "bq-gone").expect("it is to be created");
    assert_eq!(created["values"], json!({ "producer_byte_rate": 1_000_000.0 }), "{plan}");
    assert!(of_client(&quotas["create"], "bq-same").is_none() && of_client(&quotas["create"], "bq-other").is_none());
    let differing = quotas["differing"].as_array().unwrap().iter();
    let differing: Vec<_> =
        differing.filter(|one| one["captured"]["entity"][0]["name"] == "bq-other").map(|one| &one["found"]).collect();
    assert_eq!(differing.len(), 1, "{plan}");
    assert_eq!(differing[0]["values"]["producer_byte_rate"], json!(2_500_000.0), "{plan}");
    let is_named = |plan: &Value| {
        let missing = plan["users"]["missing"].as_array().expect("users").clone();
        missing.into_iter().find(|user| user["user"] == "bq user's")
    };
    assert!(is_named(&plan).is_none(), "the source has it: {plan}");
    let part = mirror.json(&[&again[..], &["--topic", "bq.*", "--dry-run"]].concat(), 0);
    assert_eq!((&part["quotas"], &part["users"]), (&Value::Null, &Value::Null), "{part}");
    let without = mirror.json(&[&again[..], &["--no-quotas", "--dry-run"]].concat(), 0);
    assert_eq!(without["quotas"], Value::Null, "{without}");

    let done = mirror.json(&[&again[..], &["--yes"]].concat(), 0);
    let quotas = &done["restored"]["plan"]["quotas"];
    assert!(of_client(&quotas["created"], "bq-gone").is_some() && quotas["refused"] == json!([]), "{done}");
    let plan = mirror.json(&["restore", "--to", "from", "--suffix", "bq-b", "--rename", "b.{topic}", "--dry-run"], 0);
    assert!(of_client(&plan["quotas"]["create"], "bq-gone").is_none(), "it is there again: {plan}");

    let elsewhere = ["restore", "--to", "to", "--suffix", "bq", "--dry-run"];
    let user = is_named(&mirror.json(&elsewhere, 0)).expect("the target lacks it");
    let command = user["command"].as_str().unwrap();
    assert!(command.contains(&target().bootstrap()) && command.contains("SCRAM-SHA-512=[iterations=8192"), "{command}");
    let tool = format!("java -Xmx128m -cp '{}' kafka.admin.ConfigCommand", jars::class_path(Version::V4_3_1));
    let typed = command.replace("kafka-configs.sh", &tool).replace("PASSWORD", "chosen-anew");
    jars::run(Command::new("sh").args(["-c", &typed]));
    assert!(is_named(&mirror.json(&elsewhere, 0)).is_none(), "the command has created it: {command}");
}
