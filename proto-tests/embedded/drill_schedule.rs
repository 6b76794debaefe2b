//! Drills that a running kmirror does by itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{Pair, append};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

/// A pair whose mirror drills every minute, at first as soon as it runs.
fn scheduled(topic: &str) -> (Pair, u16) {
    let port = free_port();
    let mut more = "    groups: { include: [\".*\"], interval: 1s }\n".to_owned() + &http::section(port);
    let _ = writeln!(more, "drills: [{{ mirror: {topic}, reports: drills, every: 1m, max_rpo: 1000d, sample: 5 }}]");
    let pair = Pair::new(topic, 2, 1, &more);
    pair.write(0, 0, 10);
    pair.source.commit_offset("billing", topic, 0, 4);
    (pair, port)
}

fn reports(pair: &Pair) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(pair.mirror.folder().join("drills")) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    all.sort();
    all
}

fn await_reports(pair: &Pair, count: usize) -> Value {
    let mut last = None;
    wait_until("a report", LIMIT, || {
        let all = reports(pair);
        let read = all.last().and_then(|path| serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok());
        last = read;
        if all.len() >= count && last.is_some() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    last.unwrap()
}

#[test]
fn a_running_mirror_drills_and_says_how_it_went() {
    let (mut pair, port) = scheduled("scheduled");
    pair.mirror.start();
    let report = await_reports(&pair, 1);
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["groups"][0]["group"], "billing", "{report}");
    wait_until("the metric", LIMIT, || match http::mirror_gauge(port, "kmirror_drill_passed", "scheduled")? {
        1.0 => Ok(()),
        other => Err(other.to_string()),
    });
    let age = http::mirror_gauge(port, "kmirror_drill_age_seconds", "scheduled").unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
    assert!(pair.mirror.log().contains("the drill passed"));

    // A restart counts on from the report that is kept: no drill before its time, and then one that fails.
    pair.mirror.stop();
    pair.source.truncate("scheduled", 0, 0).unwrap();
    append(&pair.source, "scheduled", 0, "other-", 0, 10);
    pair.mirror.start();
    let report = await_reports(&pair, 2);
    assert_eq!(report["passed"], false, "{report}");
    let started = |path: &PathBuf| -> f64 {
        let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        kmirror::config::parse_rfc3339_ms(report["started_at"].as_str().unwrap()).unwrap() as f64 / 1000.0
    };
    let all = reports(&pair);
    assert!(started(&all[1]) - started(&all[0]) >= 60.0, "{all:?}");
    wait_until("the metric", LIMIT, || match http::mirror_gauge(port, "kmirror_drill_passed", "scheduled")? {
        0.0 => Ok(()),
        other => Err(other.to_string()),
    });
    assert!(pair.mirror.log().contains("the drill failed"), "{}", pair.mirror.log());
    pair.mirror.stop();
}

#[test]
fn a_drill_of_a_mirror_that_is_not_there_is_refused_by_line() {
    let more = "drills: [{ mirror: other, reports: drills, every: 10s }]\n";
    let pair = Pair::new("drills-refused", 1, 1, more);
    let output = pair.mirror.output(&["config", "validate"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("drills[0].mirror: no mirror has this name; mirrors are: drills-refused"), "{said}");
    assert!(said.contains("drills[0].every: is too short"), "{said}");
}
