//! What happens to kmirror's own process: killed at every step, too few file descriptors, two of it, one that wakes late.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::case::{Case, PARTITIONS, Pair};
use super::{Rig, Scenario, preloadable, run};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::proxy::Fault;
use crate::kafka::harness::{driver, wait_until};

pub(crate) const PROCESSES: &[Scenario<Pair>] = &[
    Scenario::new("killed_at_every_step", killed_at_every_step),
    Scenario::new("few_file_descriptors", few_file_descriptors),
    Scenario::new("second_by_mistake", second_by_mistake),
    Scenario::new("two_at_the_first_start", |pair| two_at_the_first_start(pair, "two_at_the_first_start", "")),
    Scenario::new("two_at_the_first_start_latest", |pair| {
        two_at_the_first_start(pair, "two_at_the_first_start_latest", "    start: latest\n");
    }),
    Scenario::new("wakes_after_a_take_over", wakes_after_a_take_over),
    Scenario::new("clock_runs_ahead", |pair| clock_jumps(pair, "clock_runs_ahead", &[72])),
    Scenario::new("clock_jumps_back", |pair| clock_jumps(pair, "clock_jumps_back", &[72, 0, -72, 1, 0])),
];

const KILLS: u32 = 14;
const STEP: Duration = Duration::from_millis(30);

/// Killed later and later after its start: while it connects, creates topics, takes shards, attaches, and produces.
fn killed_at_every_step(pair: &mut Pair) {
    let mut case = Case::new("killed_at_every_step", &pair.source, &pair.target, 1, "");
    case.write();
    for kill in 0..KILLS {
        case.mirror.start();
        std::thread::sleep(STEP * kill);
        case.mirror.kill();
    }
    case.mirror.start();
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

fn limited(command: &Command, files: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {files} && exec \"$@\""), "limited"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// With too few descriptors for its connections it makes no progress, or little; it loses nothing, and with enough goes on.
fn few_file_descriptors(pair: &mut Pair) {
    let mut case = Case::new("few_file_descriptors", &pair.source, &pair.target, 1, "");
    case.write();
    for files in [12, 14, 16, 18] {
        case.mirror.start_as(|command| limited(&command, files));
        case.await_written(1_000);
        if case.mirror.is_running() {
            case.mirror.kill();
        } else {
            assert_ne!(case.mirror.await_end(), 0, "with {files} descriptors");
        }
    }
    assert!(case.mirror.log().contains("Too many open files"), "{}", case.mirror.log());
    case.mirror.start();
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// The one whose shards another process has taken ends, and says why.
fn assert_ends_fenced(mirror: &mut Mirror) {
    let code = mirror.await_end();
    let log = mirror.log();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("fenced"), "{log}");
}

fn second_by_mistake(pair: &mut Pair) {
    let mut case = Case::flowing("second_by_mistake", pair);
    let mut first = case.hand_over();
    case.mirror.start();
    assert_ends_fenced(&mut first);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Both at once, before there is anything on the target.
fn two_at_the_first_start(pair: &mut Pair, name: &str, more: &str) {
    let mut case = Case::new(name, &pair.source, &pair.target, 1, more);
    let latest = !more.is_empty();
    if latest {
        case.write();
        case.await_written(1_000);
    }
    let mut other = case.twin();
    case.mirror.start();
    other.start();
    if !latest {
        case.write();
    }
    wait_until("one of them to end", LIMIT, || {
        if case.mirror.is_running() && other.is_running() { Err("both run".to_owned()) } else { Ok(()) }
    });
    if other.is_running() {
        std::mem::swap(&mut case.mirror, &mut other);
    }
    assert_ends_fenced(&mut other);
    assert!(case.mirror.is_running(), "both ended:\n{}\n--- and\n{}", case.mirror.log(), other.log());
    case.await_more(&pair.target, 400);
    if latest { assert_suffix(&mut case, pair) } else { case.assert_whole(&pair.source, &pair.target) }
}

/// What the mirror began with is a suffix of the source, and complete.
fn assert_suffix(case: &mut Case, pair: &Pair) {
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let topic = [case.topic.as_str()];
    let (mut here, there) =
        (driver().dump(&pair.source.bootstrap(), &topic), driver().dump(&pair.target.bootstrap(), &topic));
    assert!(there.len() < here.len(), "what was there before the first start is left out");
    for (partition, records) in &mut here.partitions {
        let kept = there.partitions.get(partition).map_or(0, Vec::len);
        records.drain(..records.len() - kept);
    }
    case.assert_same(&pair.target, &here, &there, there.len());
}

/// Stopped for as long as another one took over and the source was compacted, it finds out with its first word.
fn wakes_after_a_take_over(pair: &mut Pair) {
    let mut case = Case::flowing("wakes_after_a_take_over", pair);
    case.mirror.process().signal("STOP");
    let mut sleeper = case.hand_over();
    case.mirror.start();
    case.await_more(&pair.target, 1_000);
    sleeper.process().signal("CONT");
    assert_ends_fenced(&mut sleeper);
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// A library that shifts the wall clock of what it is preloaded into, and the file that says how far.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        preloadable("clock.c", &clock.file("clock.so"));
        clock.shift(0);
        clock
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// So many hours from the true time. Written in place: the file is mapped.
    fn shift(&self, hours: i64) {
        let ns = hours * 3_600_000_000_000;
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(self.file("shift")).unwrap();
        file.write_all(&ns.to_ne_bytes()).unwrap();
    }

    fn dress(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", self.file("clock.so")).env("CLOCK_SHIFT", self.file("shift"));
        command
    }
}

/// The wall clock is set to so many hours from the true time while it runs, with answers that get lost, so that pauses are
/// under way.
fn clock_jumps(pair: &mut Pair, name: &str, jumps: &[i64]) {
    let clock = Clock::new();
    let mut case = Case::new(name, &pair.source, &pair.target, 1, "");
    case.mirror.start_as(|command| clock.dress(command));
    case.write();
    case.await_more(&pair.target, 400);
    for hours in jumps {
        for cluster in [&pair.source, &pair.target] {
            cluster.disturb(Fault::Refuse);
        }
        case.await_stall(&pair.target);
        clock.shift(*hours);
        pair.heal();
        case.await_more(&pair.target, 400);
    }
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn processes_that_die_or_meet_cost_nothing() {
    run("processes_that_die_or_meet_cost_nothing", PROCESSES);
}
