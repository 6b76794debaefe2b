//! Archives that were written once (`proto-tests/goldens/archive`): what today's kmirror, and a stranger, read in them. They pin the
//! format of `docs/archive-format.md`.
//!
//! `KMIRROR_WRITE_GOLDENS=1 cargo test --test proto-tests backup::golden` writes them anew: a change of the format, which users have to
//! be told of. Old ones stay then, under another name, for as long as their version is read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::made::{self, BACKUP, Guards, TOPIC};
use crate::embedded::{Pair, value};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Goldens that this run has written: several tests read the same.
static WRITTEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Version of the manifests that are written today. Goldens of those before it are never written again.
const TODAY: &str = "v2";

/// The folder that holds a golden archive.
fn golden(name: &str, guards: &Guards) -> PathBuf {
    let folder = project().join("proto-tests/goldens/archive").join(name);
    if !name.starts_with(TODAY) {
        return folder;
    }
    let mut written = WRITTEN.lock().unwrap();
    if std::env::var_os("KMIRROR_WRITE_GOLDENS").is_some() && written.insert(name.to_owned()) {
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        Runtime::new().unwrap().block_on(made::write(vec![made::in_folder(&folder)], guards));
    }
    folder
}

fn reads(name: &str, guards: &Guards, more: &str) {
    let folder = golden(name, guards);
    let pair = Pair::new(&format!("golden-{}", name.replace('/', "-")), 1, 1, "");
    fs::write(pair.mirror.folder().join("key"), made::KEY).unwrap();
    fs::write(pair.mirror.folder().join("seed"), made::SEED).unwrap();
    let text = fs::read_to_string(&pair.mirror.config).unwrap();
    let to = format!("{{ url: \"file://{}\" }}", folder.display());
    let more = more.replace("FOLDER", &pair.mirror.folder().display().to_string());
    let backups = format!(
        "backups:\n  - name: {BACKUP}\n    cluster: from\n    topics: {{ include: [{TOPIC}] }}\n    to: [{to}]\n{more}"
    );
    fs::write(&pair.mirror.config, text + &backups).unwrap();
    let found = pair.mirror.json(&["archive", "verify"], 0);
    assert_eq!((&found["segments"], &found["damages"]), (&4.into(), &Value::Array(Vec::new())), "{found}");
    assert_eq!(found["chains"][0]["is_good"], true, "{found}");

    pair.mirror.json(&["restore", "--to", "to", "--yes"], 0);
    for partition in 0..2 {
        let there: Vec<String> = pair.target.records(TOPIC, partition, 0).unwrap().iter().map(value).collect();
        let expected: Vec<String> =
            made::committed().into_iter().filter(|of| of.0 == partition).map(|(_, _, value)| value).collect();
        assert_eq!(there, expected, "{TOPIC}:{partition}");
    }
}

#[test]
fn the_golden_archive_is_whole_and_restores() {
    for version in ["v1", TODAY] {
        reads(&format!("{version}/plain"), &Guards::default(), "");
    }
}

#[test]
fn the_golden_archive_that_is_sealed_and_signed_is_whole_and_restores() {
    let more = "    encryption: { key: { file: \"FOLDER/key\" } }\n    signing: { key: { file: \"FOLDER/seed\" } }\n";
    for version in ["v1", TODAY] {
        reads(&format!("{version}/sealed"), &Guards::all(), more);
    }
}

/// `stranger.py` knows the document and Python's standard library: no zstd, LZ4 and Snappy.
#[test]
fn a_stranger_reads_an_archive_with_the_document_in_hand() {
    for version in ["v1", TODAY] {
        read_by_a_stranger(&golden(&format!("{version}/plain"), &Guards::default()).join(BACKUP));
    }
}

fn read_by_a_stranger(archive: &Path) {
    let script = project().join("proto-tests/backup/stranger.py");
    let output = Command::new("python3").arg(script).arg(archive).output();
    let output = output.expect("python3 runs a reader of archives that knows their document alone: install it");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(err.lines().count(), 3, "what it leaves out: a block of zstd, a batch of LZ4, one of Snappy: {err}");
    let found: Vec<(i32, i64, Option<String>, String)> = out.lines().map(line).collect();
    let is_read = |(partition, offset, _): &(i32, i64, String)| match partition {
        0 => !(3..6).contains(offset),
        _ => (110..112).contains(offset),
    };
    let key = |offset: i64| (offset % 2 == 0).then(|| format!("key-{offset}"));
    let expected: Vec<_> = made::committed().into_iter().filter(is_read).map(|(p, o, v)| (p, o, key(o), v)).collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 9);
}

fn line(line: &str) -> (i32, i64, Option<String>, String) {
    let line: Value = serde_json::from_str(line).unwrap();
    let text = |field: &str| {
        let encoded = line[field].as_str()?;
        Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
    };
    let number = |field: &str| line[field].as_i64().unwrap();
    (i32::try_from(number("partition")).unwrap(), number("offset"), text("key"), text("value").unwrap())
}
