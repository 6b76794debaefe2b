//! `kmirror demo`, as somebody runs it who has nothing installed.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::e2e::http::Request;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::{free_port, run_folder};
use crate::kafka::harness::process::Process;
use crate::kafka::harness::wait_until;

const RECORDS: u64 = 3_000;
/// The steps of the story, in order.
const STEPS: [&str; 23] = [
    "brokers", "mirror", "load", "kill -9", "restart", "in step", "groups", "drill", "stall", "lag", "lost",
    "failover", "too late", "groups", "standby", "return", "tail", "replay", "failback", "home", "switch", "groups",
    "again",
];

/// A demo whose files can be looked for.
struct Demo {
    folder: PathBuf,
}

impl Demo {
    fn new(name: &str) -> Self {
        Self { folder: run_folder(name) }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmirror"));
        command.args(["demo", "--records", &RECORDS.to_string(), "--partitions", "4"]).args(more);
        // A file that it must not read, and the one place where it may write.
        command.current_dir(&self.folder).env("TMPDIR", &self.folder).env("KMIRROR_CONFIG", "/not/there.yaml");
        command
    }

    fn output(&self, more: &[&str]) -> Output {
        self.command(more).stdin(Stdio::null()).output().unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {value}"))
}

#[test]
fn the_demo_accounts_for_every_record() {
    let demo = Demo::new("demo-json");
    let output = demo.output(&["--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    let of = |path: &str| number(&report, path);
    // Lost, listed, divergent, exported, replayed: as many counts by as many ways.
    let lost = of("/accounts/lost");
    assert!(lost > 0 && of("/accounts/lost_listed") > 0, "{report}");
    assert_eq!(of("/accounts/lost_listed") + of("/accounts/lost_unseen"), lost, "{report}");
    assert_eq!((of("/failback/divergent_records"), of("/failback/exported_records")), (lost, lost), "{report}");
    assert_eq!(of("/failback/replayed_records"), lost, "{report}");
    assert_eq!((of("/accounts/source/lost"), of("/accounts/standby/lost")), (lost, 0), "{report}");
    // All that was produced is on the source, and all but what was lost on the standby.
    assert_eq!((of("/produced"), of("/accounts/source/records")), (RECORDS, RECORDS), "{report}");
    assert_eq!((of("/equal"), of("/accounts/standby/records")), (RECORDS - lost, RECORDS - lost), "{report}");
    assert_eq!((of("/offsets_exact"), of("/verify/equal")), (RECORDS - lost, RECORDS - lost), "{report}");
    assert_eq!((of("/wrong"), of("/surplus"), of("/offsets_wrong")), (0, 0, 0), "{report}");
    let stretches = ["mirrored", "from_standby", "from_home"].map(|what| of(&format!("/accounts/standby/{what}")));
    assert!(stretches.iter().all(|records| *records > 0), "{report}");
    assert_eq!(stretches.iter().sum::<u64>(), RECORDS - lost, "{report}");
    // The kill was in the middle, and something was on its way when the source was lost.
    assert!((1..RECORDS).contains(&of("/killed_at")) && of("/failover/late_records") > 0, "{report}");
    assert_eq!((of("/failover/late_records_appended"), of("/failover/partitions_fenced")), (0, 4), "{report}");
    for when in ["in_step", "after_failover", "after_switch"] {
        let positions = &report["groups"][when];
        assert_eq!((&positions["same"], &positions["different"]), (&16.into(), &0.into()), "{when}: {report}");
    }
    assert_eq!((&report["drill"]["passed"], &report["drill"]["records_same"]), (&true.into(), &16.into()), "{report}");
    for seconds in ["/recovery_seconds", "/failover/rto_seconds", "/failover/outage_seconds", "/switch/rto_seconds"] {
        let seconds = report.pointer(seconds).and_then(Value::as_f64).unwrap();
        assert!(seconds > 0.0 && seconds < 120.0, "{report}");
    }
    let steps: Vec<&str> = report["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps[..STEPS.len()], STEPS);
    assert_eq!(demo.files(), Vec::<PathBuf>::new(), "nothing is left behind");
}

#[test]
fn elsewhere_than_on_a_terminal_the_demo_prints_plain_lines() {
    let demo = Demo::new("demo-plain");
    // Nobody looks on, so it stays nowhere.
    let output = demo.output(&["--pace", "1h"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{output:?}");
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
    let of_steps = text.lines().filter(|line| line.get(6..9) == Some("s  "));
    let steps: Vec<&str> = of_steps.filter_map(|line| line.get(9..18)).map(str::trim).collect();
    assert_eq!(steps[..STEPS.len()], STEPS, "{text}");
    let commands: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    for command in [
        "kmirror run --mirror demo",
        "kmirror groups plan --mirror demo",
        "kmirror drill --mirror demo --isolated --reports drills",
        "kmirror failover --mirror demo --yes",
        "kmirror failback --mirror demo --replay orders.lost --yes",
        "kmirror failback --mirror demo --yes",
        "kmirror run --mirror demo.failback",
        "kmirror failover --mirror demo.failback --planned --quiet 1s --yes",
        "kmirror verify --mirror demo",
    ] {
        assert!(commands.contains(&command), "{command}: {text}");
    }
    let table = text.split("\n RECORDS ").nth(1).unwrap_or_else(|| panic!("no table: {text}"));
    assert!(table.contains("records produced") && table.contains("3,000"), "{text}");
    assert!(text.trim_end().lines().last().unwrap().starts_with("every record is accounted for"), "{text}");
}

/// The steps of the story of a backup.
const BACKUP_STEPS: [&str; 16] = [
    "brokers", "load", "full", "load", "backup", "mistake", "backup", "deleted", "verify", "plan", "restore", "groups",
    "go on", "backup", "lost", "restore",
];

#[test]
fn the_demo_of_a_backup_brings_every_record_and_every_group_back() {
    let demo = Demo::new("demo-backup");
    let output = demo.output(&["backup", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    let of = |path: &str| number(&report, path);
    // Half, three tenths, the rubbish, and everything once more once the topic was made again.
    let records = |unit| of(&format!("/backups/{unit}/records")) - of(&format!("/backups/{unit}/markers"));
    let read: Vec<u64> = (0..4).map(records).collect();
    assert_eq!(of("/backups/3/markers"), 4, "one of the promotion in each partition: {report}");
    assert_eq!(read, [RECORDS / 2, RECORDS * 3 / 10, RECORDS / 10, RECORDS * 9 / 10], "{report}");
    assert_eq!((of("/produced"), of("/rubbish")), (RECORDS * 9 / 10, RECORDS / 10), "{report}");
    for (restored, due) in [("restored", RECORDS * 8 / 10), ("elsewhere", RECORDS * 9 / 10)] {
        let of = |field: &str| of(&format!("/{restored}/{field}"));
        assert_eq!((of("due"), of("records"), of("equal")), (due, due, due), "{restored}: {report}");
        assert_eq!((of("groups/same"), of("groups/different")), (16, 0), "{restored}: {report}");
        assert!(of("left_before") > 0 && of("left_before") == of("left_after"), "{restored}: {report}");
    }
    assert_eq!(of("/elsewhere/at_their_offset"), RECORDS * 9 / 10, "{report}");
    let steps: Vec<&str> = report["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps[..BACKUP_STEPS.len()], BACKUP_STEPS);
    assert_eq!(demo.files(), Vec::<PathBuf>::new(), "nothing is left behind");
}

#[test]
fn the_demo_of_a_backup_prints_its_commands_and_a_table() {
    let demo = Demo::new("demo-backup-plain");
    let output = demo.output(&["backup"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{output:?}");
    let commands: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    assert!(commands.contains(&"kmirror backup --backup nightly --full"), "{text}");
    let is_restore = |command: &&&str| command.starts_with("kmirror restore --backup nightly --to source --at 20");
    assert_eq!(commands.iter().filter(is_restore).count(), 2, "planned, and done: {text}");
    assert!(text.contains("\n RESTORED ") && text.contains("at the offset that they had"), "{text}");
    assert!(text.trim_end().lines().last().unwrap().starts_with("every record is accounted for"), "{text}");
}

/// Who has seen enough finds nothing left behind.
#[test]
fn a_demo_that_is_interrupted_takes_its_processes_and_files_along() {
    let demo = Demo::new("demo-cut");
    let logs = run_folder("demo-cut-logs");
    let (out, log) = (logs.join("out"), logs.join("log"));
    let mut process = Process::start(&demo.command(&[]), &out, &log, None);
    let told = || std::fs::read_to_string(&out).unwrap_or_default();
    wait_until("the mirror", LIMIT, || if told().contains("  restart  ") { Ok(()) } else { Err(told()) });
    let line = told();
    let (_, id) = line.lines().find_map(|line| line.split_once("restart    process ")).expect("the mirror's process");
    let id = id.split(' ').next().unwrap();
    // One that has ended has no command line any more, whether its parent has asked for it or not.
    let runs = || std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(runs() && !demo.files().is_empty(), "{line}");
    process.signal("TERM");
    assert_eq!(process.wait_exit(Duration::from_secs(30)), 1, "{}", process.log_tail());
    wait_until("the mirror's end", LIMIT, || if runs() { Err(String::new()) } else { Ok(()) });
    assert_eq!(demo.files(), Vec::<PathBuf>::new());
}

/// Lag that a stranger sees rise and fall, with the token that the demo has told.
#[test]
fn a_live_demo_shows_its_mirror_and_obeys_until_it_is_ended() {
    let demo = Demo::new("demo-live");
    let logs = run_folder("demo-live-logs");
    let (out, log, port) = (logs.join("out"), logs.join("log"), free_port());
    let live = ["live", "--json", "--port", &port.to_string()];
    let mut process = Process::start(&demo.command(&live), &out, &log, None);
    let place = wait_until("the dashboard's place", LIMIT, || {
        let told = std::fs::read_to_string(&out).unwrap_or_default();
        serde_json::from_str::<Value>(&told).map_err(|error| format!("{error}: {told}"))
    });
    assert_eq!(place["dashboard"], format!("http://localhost:{port}/"));
    let lag = |wanted: fn(i64) -> bool| {
        wait_until("another lag", LIMIT, || {
            let found = Request::get("/api/v1/mirrors").send(port)?.json()["mirrors"][0].clone();
            let lag = found["lag_records"].as_i64().ok_or_else(|| found.to_string())?;
            if found["partitions"] == 4 && wanted(lag) { Ok(()) } else { Err(found.to_string()) }
        });
    };
    let act = |what: &str| {
        let headers =
            format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", place["token"].as_str().unwrap());
        let path = format!("/api/v1/mirrors/demo/{what}");
        Request { method: "POST", headers: &headers, body: "{}", ..Request::get(&path) }.send(port).unwrap().status
    };
    lag(|lag| lag < 300);
    assert_eq!(act("pause"), 200);
    lag(|lag| lag > 400);
    assert_eq!(act("resume"), 200);
    lag(|lag| lag < 300);
    process.signal("TERM");
    assert_eq!(process.wait_exit(Duration::from_secs(30)), 0, "{}", process.log_tail());
    assert_eq!(demo.files(), Vec::<PathBuf>::new());
}
