//! Copies that are away: what is read goes on, what is written does not, and nothing is begun anew in their place.

use serde_json::Value;

use super::Backed;
use crate::e2e::mirror::LIMIT;
use crate::embedded::numbered;
use crate::kafka::harness::wait_until;

fn names(report: &Value, copy: &std::path::Path) -> bool {
    let away = report["away"].as_array().unwrap_or_else(|| panic!("away: {report}"));
    away.len() == 1 && away[0]["copy"].as_str().unwrap().contains(copy.to_str().unwrap())
}

/// The first of two copies is not mounted: it is named wherever one looks, and the restore takes the other.
#[test]
fn what_is_read_goes_on_without_a_copy() {
    let backed = Backed::new("without", 2, 2, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 100);
    }
    assert_eq!(backed.backup(&[], 0)["pass"]["is_new_archive"], true);
    assert_eq!(backed.backup(&[], 0)["pass"]["is_new_archive"], false);
    let (first, aside) = (&backed.folders[0], backed.folders[0].with_extension("aside"));
    std::fs::rename(first, &aside).unwrap();
    for (look, code) in [("list", 0), ("show", 0), ("verify", 3)] {
        let report = backed.archive(&[look], code);
        assert!(names(&report, first), "{look}: {report}");
    }
    let verified = backed.archive(&["verify"], 3);
    assert_eq!((&verified["damages"], &verified["lost"]), (&serde_json::json!([]), &serde_json::json!([])));
    // Said once, however much is read.
    let verified = pair.mirror.output(&["archive", "verify", "--log-level", "info"]);
    let said = String::from_utf8_lossy(&verified.stderr).matches("does not serve").count();
    assert_eq!(said, 1, "{verified:?}");
    pair.write(0, 100, 110);
    let refused = pair.mirror.output(&["backup"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() != Some(0) && said.contains("is it mounted"), "{said}");
    assert!(!first.exists(), "nothing is begun where the disk is missing");
    backed.restore(&[], 0);
    for partition in 0..2 {
        assert_eq!(pair.values(&pair.target, partition), numbered("", 0, 100));
    }
    std::fs::rename(&aside, first).unwrap();
    assert_eq!(backed.backup(&[], 0)["pass"]["records"], 10);
    backed.archive(&["verify"], 0);
}

/// The second of two copies is away for two passes: topics that are synchronous wait, the others go on, and the third pass catches it up.
#[test]
fn a_copy_that_was_away_is_caught_up() {
    let backed = Backed::new("laggard", 1, 2, "    synchronous: [\".*-sync\"]\n");
    let pair = &backed.pair;
    pair.source.create_topic("laggard-sync", 1, 1, &[]).unwrap();
    let write = |topic: &str, number: usize| {
        let record = (None, Some(bytes::Bytes::from(number.to_string())));
        pair.source.append_records(topic, 0, kmirror::batch::Codec::None, 1_790_000_000_000, &[record]).unwrap();
    };
    ["laggard", "laggard-sync"].iter().for_each(|topic| write(topic, 0));
    backed.backup(&[], 0);
    let (second, aside) = (&backed.folders[1], backed.folders[1].with_extension("aside"));
    std::fs::rename(second, &aside).unwrap();
    for number in 1..3 {
        ["laggard", "laggard-sync"].iter().for_each(|topic| write(topic, number));
        let report = backed.backup(&[], 3);
        assert!(names(&report["pass"], second), "{report}");
        assert_eq!(report["pass"]["records"], 1, "{report}");
        let problems = report["pass"]["problems"].as_array().unwrap();
        assert!(problems.len() == 1 && problems[0]["topic"] == "laggard-sync", "{report}");
        assert!(problems[0]["reason"].as_str().unwrap().contains("synchronous"), "{report}");
    }
    assert!(!second.exists());
    std::fs::rename(&aside, second).unwrap();
    let caught_up = backed.backup(&[], 0);
    assert_eq!(caught_up["pass"]["records"], 2, "{caught_up}");
    let verified = backed.archive(&["verify"], 0);
    assert_eq!(verified["damages"], serde_json::json!([]), "{verified}");
    let shown = backed.archive(&["show"], 0);
    for row in shown["partitions"].as_array().unwrap() {
        assert_eq!((&row["to"], &row["problem"]), (&3.into(), &Value::Null), "{shown}");
    }
}

/// The folder above it is not there: that is no first backup.
#[test]
fn a_folder_is_not_made_where_a_disk_is_missing() {
    let backed = Backed::new("no-disk", 1, 1, "");
    backed.pair.write(0, 0, 10);
    let text = std::fs::read_to_string(&backed.pair.mirror.config).unwrap();
    std::fs::write(&backed.pair.mirror.config, text.replace("/copy-0", "/disk/copy-0")).unwrap();
    let refused = backed.pair.mirror.output(&["backup"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && said.contains("is the disk mounted"), "{said}");
    let disk = backed.folders[0].with_file_name("disk");
    assert!(!disk.exists());
    std::fs::create_dir(disk).unwrap();
    backed.backup(&[], 0);
}

/// While it goes on the disk is taken away, and its empty mount point is left: no other archive is begun in it.
#[test]
fn an_archive_that_vanishes_is_not_begun_anew() {
    let backed = Backed::new("vanishes", 1, 1, "    interval: 1s\n");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    let mut running = pair.mirror.spawn(&["backup", "--continuous", "--log-level", "info"], "backup.log");
    let (folder, aside) = (&backed.folders[0], backed.folders[0].with_extension("aside"));
    let manifest = folder.join("nightly/chains/00000001/units/00000001.json");
    let there = || if manifest.is_file() { Ok(()) } else { Err("no manifest".to_owned()) };
    wait_until("the first pass", LIMIT, there);
    std::fs::rename(folder, &aside).unwrap();
    std::fs::create_dir(folder).unwrap();
    let log = pair.mirror.folder().join("backup.log");
    let told = || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        if log.matches("it was there before").count() > 1 { Ok(()) } else { Err(log) }
    };
    wait_until("two refusals", LIMIT, told);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    std::fs::remove_dir(folder).unwrap();
    std::fs::rename(&aside, folder).unwrap();
    pair.write(0, 10, 20);
    let records = || {
        let shown = pair.mirror.output(&["archive", "show", "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["partitions"][0]["records"].as_i64().unwrap_or(0)
    };
    wait_until("the next pass", LIMIT, || if records() == 20 { Ok(()) } else { Err(records().to_string()) });
    running.signal("TERM");
    assert_eq!(running.wait_exit(LIMIT), 0, "{}", running.log_tail());
}

/// Encryption is turned on: from there on there is a chain that is sealed, and what is not is refused unless the file says otherwise.
#[test]
fn what_is_not_sealed_is_refused_where_it_should_be() {
    let mut backed = Backed::new("unsealed", 1, 1, "    encryption: { key: { env: SEAL_KEY } }\n");
    backed.pair.mirror.env.push(("SEAL_KEY", "5a".repeat(32).into()));
    let config = backed.pair.mirror.config.clone();
    let with = std::fs::read_to_string(&config).unwrap();
    let set = |encryption: &str| {
        let line = "    encryption: { key: { env: SEAL_KEY } }\n";
        std::fs::write(&config, with.replace(line, encryption)).unwrap();
    };
    backed.pair.write(0, 0, 10);
    set("");
    backed.backup(&[], 0);
    set("    encryption: { key: { env: SEAL_KEY } }\n");
    let refused = backed.pair.mirror.output(&["archive", "export"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("is not sealed"), "{said}");
    let verified = backed.archive(&["verify"], 3);
    assert!(verified["damages"][0]["detail"].as_str().unwrap().contains("is not sealed"), "{verified}");
    set("    encryption: { key: { env: SEAL_KEY }, accept_unsealed: true }\n");
    assert!(backed.pair.mirror.output(&["archive", "export"]).status.success());
    backed.archive(&["verify"], 0);
    set("    encryption: { key: { env: SEAL_KEY } }\n");
    let pass = backed.backup(&[], 0);
    assert_eq!((&pass["pass"]["chain"], &pass["pass"]["records"]), (&2.into(), &10.into()), "{pass}");
    let pass = backed.backup(&[], 0);
    assert_eq!((&pass["pass"]["chain"], &pass["pass"]["records"]), (&2.into(), &0.into()), "{pass}");
    backed.restore(&[], 0);
    assert_eq!(backed.pair.values(&backed.pair.target, 0), numbered("", 0, 10));
}
