//! Every fuzz target on stable and within seconds: the corpus as it is, then seeded mutations of it.
//!
//! `KMIRROR_FUZZ=target:file` or `target:hex` replays one input. CONTRIBUTING.md ("Fuzz") says how to run libFuzzer.

mod mutate;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::mutated;
use targets::{ALL, Target};

const MUTATIONS: u64 = 4000;
/// On a loaded machine fewer mutations, rather than a suite that takes minutes.
const TIME_MAX: Duration = Duration::from_secs(4);

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto-tests/fuzz/corpus").join(target);
    let paths = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = paths
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", folder.display());
    files
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hold(name: &str, target: Target, place: &str, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        panic!(
            "{place} breaks a promise. To replay it:\n\
             KMIRROR_FUZZ={name}:{} cargo test --locked --test proto-tests fuzz::replay -- --nocapture",
            hex(data)
        );
    }
}

/// `KMIRROR_FUZZ_RUNS` of them, `KMIRROR_FUZZ_SEED` to begin with; a number that is given is run to its end.
fn bounded(name: &str) {
    let (_, target) = ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    for (file, data) in &files {
        hold(name, target, file, data);
    }
    let runs = number("KMIRROR_FUZZ_RUNS", MUTATIONS);
    let first = number("KMIRROR_FUZZ_SEED", 1);
    let began = Instant::now();
    let mut done = 0;
    while done < runs && (runs != MUTATIONS || began.elapsed() < TIME_MAX) {
        let data = mutated(&files, first + done);
        hold(name, target, &format!("mutation {}", first + done), &data);
        done += 1;
    }
    eprintln!("{name}: {} files, {done} mutations in {:.1?}", files.len(), began.elapsed());
}

macro_rules! each_target {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            bounded(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            assert_eq!([$(stringify!($name)),*], ALL.map(|(name, _)| name));
        }
    };
}

each_target!(access archive batch config fleet groups intake map notes sasl state wire);

#[test]
fn replay() {
    let Ok(wanted) = std::env::var("KMIRROR_FUZZ") else { return };
    let (name, input) = wanted.split_once(':').expect("KMIRROR_FUZZ=target:file or target:hex");
    let (_, target) = ALL.into_iter().find(|(known, _)| *known == name).expect("no such target");
    let unhex = |at: usize| u8::from_str_radix(input.get(at..at + 2)?, 16).ok();
    let data = fs::read(input).unwrap_or_else(|error| {
        (0..input.len()).step_by(2).map(unhex).collect::<Option<_>>().unwrap_or_else(|| panic!("{input}: {error}"))
    });
    target(&data);
}
