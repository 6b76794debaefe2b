//! The systemd unit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kmirror::engine::STOP_SECONDS_MAX;

use crate::tidy::assert_parses;

const UNIT: &str = "configs/systemd/kmirror.service";

fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap()
}

fn settings(unit: &str) -> BTreeMap<&str, &str> {
    unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn its_commands_are_some() {
    let text = text();
    let settings = settings(&text);
    for key in ["ExecStartPre", "ExecStart"] {
        let line = settings[key].strip_prefix("/usr/local/bin/").unwrap();
        assert_parses(line, UNIT);
    }
}

#[test]
fn it_has_the_time_for_a_clean_stop() {
    let text = text();
    let wait: u32 = settings(&text)["TimeoutStopSec"].parse().unwrap();
    assert!(wait >= STOP_SECONDS_MAX + 15, "{wait}");
    // Of exit codes: 2 is usage and configuration.
    assert_eq!(settings(&text)["RestartPreventExitStatus"], "2");
}

/// By systemd itself, where it is installed: every key and every value, and that the commands are there.
#[test]
fn systemd_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kmirror.service");
    std::fs::write(&file, text().replace("/usr/local/bin/kmirror", env!("CARGO_BIN_EXE_kmirror"))).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        eprintln!("\n*** systemd-analyze is not here: the unit was NOT held against systemd. ***\n");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // It looks at all units that this one names, and some machines have broken ones of their own.
    let about: Vec<&str> = said.lines().filter(|line| line.contains("kmirror.service")).collect();
    assert!(about.is_empty(), "{said}");
}
