//! What can be seen of a backup that is kept.

use serde_json::Value;

use super::Backed;
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

fn gauge(port: u16, name: &str) -> Result<f64, String> {
    http::gauge_of(port, &format!("kmirror_backup_{name}"), "{backup=\"nightly\"} ")
}

fn passes(port: u16, outcome: &str) -> Result<f64, String> {
    http::gauge_of(port, "kmirror_backup_passes_total", &format!("{{backup=\"nightly\",outcome=\"{outcome}\"}} "))
}

fn backed(topic: &str, interval: &str, port: u16) -> Backed {
    Backed::new(topic, 2, 1, &format!("    interval: {interval}\n{}", http::section(port)))
}

fn await_that(what: &str, is_so: impl Fn() -> Result<bool, String>) {
    wait_until(what, LIMIT, || if is_so()? { Ok(()) } else { Err("not yet".to_owned()) });
}

fn status_of(backed: &Backed) -> Value {
    backed.pair.mirror.json(&["status"], 0)["backups"][0].clone()
}

/// Passes are counted by their outcome, records and bytes as they are kept; the age counts from the last pass that was complete.
#[test]
fn a_backup_that_goes_on_says_how_it_stands() {
    let port = free_port();
    let backed = backed("watched", "1s", port);
    let pair = &backed.pair;
    let never = status_of(&backed);
    assert_eq!(never["age_seconds"], -1.0, "{never}");
    assert!(never["problem"].as_str().unwrap().contains("A first backup makes it"), "{never}");
    for partition in 0..2 {
        pair.write(partition, 0, 10);
    }
    pair.source.set_leaderless("watched", 1).unwrap();
    let mut keeping = pair.mirror.spawn(&["backup", "--continuous"], "backup.log");
    await_that("a pass", || Ok(passes(port, "partial")? >= 1.0));
    assert_eq!(gauge(port, "age_seconds"), Ok(f64::INFINITY), "no pass was complete, ever");
    assert!(gauge(port, "lag_records").unwrap().is_nan(), "one partition does not tell");
    assert_eq!((gauge(port, "records_total"), passes(port, "complete")), (Ok(10.0), Ok(0.0)));
    let partial = status_of(&backed);
    let problem = partial["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("watched:1 was not read to its end: "), "{partial}");
    assert_eq!(partial["complete_at"], Value::Null, "{partial}");

    pair.source.move_leader("watched", 1, 1).unwrap();
    await_that("a complete pass", || Ok(passes(port, "complete")? >= 1.0 && gauge(port, "lag_records")? == 0.0));
    assert_eq!(gauge(port, "records_total"), Ok(20.0));
    let (bytes, age) = (gauge(port, "bytes_total").unwrap(), gauge(port, "age_seconds").unwrap());
    assert!(bytes > 500.0 && (0.0..60.0).contains(&age), "{bytes} {age}");
    let complete = status_of(&backed);
    assert!((0.0..60.0).contains(&complete["age_seconds"].as_f64().unwrap()), "{complete}");
    assert_eq!((&complete["chain"], &complete["problem"]), (&1.into(), &Value::Null), "{complete}");
    assert!(complete["complete_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{complete}");
    let page = String::from_utf8(pair.mirror.output(&["status"]).stdout).unwrap();
    assert!(page.contains("backup nightly of from: complete "), "{page}");

    // A destination that takes nothing: the pass fails, and how far behind it is nobody knows.
    let archive = backed.folders[0].join("nightly");
    let aside = backed.folders[0].join("aside");
    std::fs::rename(&archive, &aside).unwrap();
    std::fs::write(&archive, b"in the way").unwrap();
    await_that("a failure", || Ok(passes(port, "failed")? >= 1.0));
    assert!(gauge(port, "lag_records").unwrap().is_nan());
    assert!(gauge(port, "age_seconds").unwrap().is_finite(), "it is what it was, and older");
    let failed = status_of(&backed);
    assert!(failed["problem"].is_string() && failed["age_seconds"] == -1.0, "{failed}");
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();
    let before = passes(port, "complete").unwrap();
    await_that("it goes on", || Ok(passes(port, "complete")? > before));
    keeping.signal("TERM");
    assert_eq!(keeping.wait_exit(LIMIT), 0, "{}", keeping.log_tail());
}

/// A restart makes no backup young: the age counts on from the archive, before any pass, and in `run` as well.
#[test]
fn the_age_of_a_backup_lasts_over_a_restart() {
    let port = free_port();
    let mut backed = backed("aged", "1h", port);
    for partition in 0..2 {
        backed.pair.write(partition, 0, 10);
    }
    backed.backup(&[], 0);
    let then = std::time::Instant::now();
    backed.pair.source.set_leaderless("aged", 1).unwrap();
    backed.pair.mirror.start();
    await_that("a pass", || Ok(passes(port, "partial")? >= 1.0));
    let age = gauge(port, "age_seconds").unwrap();
    assert!(age > 0.0 && age <= then.elapsed().as_secs_f64() + 5.0, "{age}");
    assert_eq!(passes(port, "complete"), Ok(0.0), "the age is that of the pass before the start");
    backed.pair.mirror.stop();
}

/// Nothing but backups in the file: their state is what there is to show.
#[test]
fn a_file_of_backups_alone_has_a_status() {
    let backed = Backed::new("alone", 1, 1, "");
    backed.pair.write(0, 0, 10);
    backed.backup(&[], 0);
    let text = std::fs::read_to_string(&backed.pair.mirror.config).unwrap();
    let (clusters, rest) = text.split_once("mirrors:").unwrap();
    let backups = rest.split_once("backups:").unwrap().1;
    std::fs::write(&backed.pair.mirror.config, format!("{clusters}backups:{backups}")).unwrap();
    let report = backed.pair.mirror.json(&["status"], 0);
    assert_eq!((&report["mirrors"], &report["backups"][0]["unit"]), (&serde_json::json!([]), &1.into()), "{report}");
    let refused = backed.pair.mirror.output(&["status", "--mirror", "dr"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
