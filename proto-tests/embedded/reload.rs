//! Another configuration while the mirrors run: what changes does, and nothing else notices.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmirror::broker::{Cluster, ClusterOptions};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{append, numbered, value};
use crate::e2e::Mirror;
use crate::e2e::http::{self, Answer, Request};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

const TOKEN: &str = "a-token-that-nobody-guesses";

/// What the file says of one mirror.
#[derive(Debug, Clone, Default)]
struct Written {
    include: String,
    /// Further lines of the mirror, indented by four.
    more: String,
}

/// Clusters, a file with several mirrors, and the process that goes by it.
struct Stage {
    source: Arc<Cluster>,
    target: Arc<Cluster>,
    mirror: Mirror,
    port: u16,
    mirrors: BTreeMap<String, Written>,
    /// The top of the file besides its clusters and mirrors.
    top: String,
    _runtime: Runtime,
}

impl Stage {
    fn new(name: &str, mirrors: &[(&str, &str)]) -> Self {
        let runtime = Runtime::new().unwrap();
        let start = |side: &str| {
            let options = ClusterOptions {
                nodes: 1,
                cluster_id: format!("{name}-{side}"),
                auto_create_topics: false,
                ..ClusterOptions::default()
            };
            Arc::new(runtime.block_on(Cluster::start(options)).unwrap())
        };
        let (source, target) = (start("source"), start("target"));
        let addresses = |cluster: &Cluster| cluster.bootstrap().join(",");
        let mirror = Mirror::between(name, &addresses(&source), &addresses(&target), &["x"], "");
        let port = free_port();
        let top = format!("http: {{ listen: \"127.0.0.1:{port}\", token: {TOKEN} }}\n");
        let mirrors = mirrors.iter().map(|(name, include)| {
            let written = Written { include: (*include).to_owned(), more: String::new() };
            ((*name).to_owned(), written)
        });
        let mirrors = mirrors.collect();
        Self { source, target, mirror, port, mirrors, top, _runtime: runtime }
    }

    fn text(&self) -> String {
        text(&self.source, &self.target, &self.mirrors, &self.top)
    }

    /// Puts the file in its place as an editor does: another one, by a rename.
    fn put(&self, text: &str) {
        let beside = self.mirror.folder().join("new.yaml");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, &self.mirror.config).unwrap();
    }

    fn ask(&self, body: &Value) -> Answer {
        let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        let request = Request::get("/api/v1/reload");
        Request { method: "POST", headers: &headers, body: &body.to_string(), ..request }.send(self.port).unwrap()
    }

    /// Writes the file and has it read; gives what changed.
    fn reload(&self) -> Vec<String> {
        self.put(&self.text());
        let answer = self.ask(&json!({}));
        assert_eq!(answer.status, 200, "{answer:?}");
        keys(&answer.json())
    }

    fn config(&self) -> Value {
        http::get(self.port, "/api/v1/config", "localhost").unwrap().json()["config"].clone()
    }

    fn await_config(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, LIMIT, || {
            let config = self.config();
            if is(&config) { Ok(config) } else { Err(config.to_string()) }
        })
    }

    fn start(&mut self) {
        self.put(&self.text());
        self.mirror.start_by_file();
    }

    fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        self.target.records(topic, partition, 0).map(|all| all.iter().map(value).collect()).unwrap_or_default()
    }

    fn await_values(&self, topic: &str, partition: i32, expected: &[String]) {
        wait_until(&format!("{topic}:{partition} on the target"), LIMIT, || {
            let there = self.values(topic, partition);
            if there == expected { Ok(()) } else { Err(format!("{} records, last {:?}", there.len(), there.last())) }
        });
    }
}

fn text(source: &Cluster, target: &Cluster, mirrors: &BTreeMap<String, Written>, top: &str) -> String {
    let list = |cluster: &Cluster| format!("[\"{}\"]", cluster.bootstrap().join("\", \""));
    let (source, target) = (list(source), list(target));
    let mut text = format!("clusters:\n  from: {{ bootstrap: {source} }}\n  to: {{ bootstrap: {target} }}\nmirrors:\n");
    for (name, Written { include, more }) in mirrors {
        let _ = write!(
            text,
            "  - name: {name}\n    source: from\n    target: to\n    topics: {{ include: [\"{include}\"] }}\n{more}"
        );
    }
    text + top
}

fn keys(answer: &Value) -> Vec<String> {
    let all = answer["changes"].as_array().unwrap().iter();
    all.map(|change| format!("{} {}", change["key"].as_str().unwrap(), change["what"].as_str().unwrap())).collect()
}

/// Topics come and go in place; what has left goes on where it was, unmarked.
#[test]
fn topics_leave_and_come_back_in_place() {
    let mut stage = Stage::new("reload-topics", &[("m", "stays|goes")]);
    for topic in ["stays", "goes", "comes"] {
        stage.source.create_topic(topic, 2, 1, &[]).unwrap();
        append(&stage.source, topic, 0, "", 0, 10);
    }
    stage.start();
    stage.await_values("goes", 0, &numbered("", 0, 10));
    stage.mirrors.get_mut("m").unwrap().include = "stays|comes".to_owned();
    assert_eq!(stage.reload(), ["mirrors.m.topics.include changed"]);
    stage.await_values("comes", 0, &numbered("", 0, 10));
    wait_until("the release", LIMIT, || {
        let log = stage.mirror.log();
        let released = log.matches("not mirrored any more").count();
        if released == 2 { Ok(()) } else { Err(log) }
    });
    for topic in ["stays", "goes", "comes"] {
        append(&stage.source, topic, 0, "", 10, 20);
    }
    stage.await_values("stays", 0, &numbered("", 0, 20));
    stage.await_values("comes", 0, &numbered("", 0, 20));
    assert_eq!(stage.values("goes", 0), numbered("", 0, 10), "nobody asked for it");
    let metrics = http::get(stage.port, "/metrics", "kmirror").unwrap().body;
    assert!(!metrics.contains("kmirror_lag_records{mirror=\"m\",topic=\"goes\""), "{metrics}");
    stage.mirrors.get_mut("m").unwrap().include = "stays|comes|goes".to_owned();
    stage.reload();
    stage.await_values("goes", 0, &numbered("", 0, 20));
    // No marker, no gap: the same offsets as without all of that.
    assert_eq!(stage.target.log("goes", 0).unwrap().end_offset, 20);
    assert_eq!(stage.mirror.translate("goes", 0, 15, &[]), (15, None));
    assert!(!stage.mirror.log().contains("starting it anew") && !stage.mirror.log().contains("ERROR"));
    stage.mirror.stop();
    for topic in ["stays", "goes", "comes"] {
        assert_eq!(stage.target.log(topic, 0).unwrap().end_offset, 20, "{topic}");
    }
}

/// By a rename, in place, by SIGHUP, by another link as in a ConfigMap; and a bad file is refused whole and seen.
#[test]
fn the_file_is_read_again_and_a_bad_one_is_refused_whole() {
    let mut stage = Stage::new("reload-ways", &[("m", "a")]);
    for topic in ["a", "b", "c", "d", "e"] {
        stage.source.create_topic(topic, 1, 1, &[]).unwrap();
        append(&stage.source, topic, 0, "", 0, 10);
    }
    stage.start();
    stage.await_values("a", 0, &numbered("", 0, 10));
    let first = stage.config()["fingerprint"].clone();
    stage.mirrors.get_mut("m").unwrap().include = "a|b".to_owned();
    stage.put(&stage.text());
    stage.await_values("b", 0, &numbered("", 0, 10));
    assert_ne!(stage.config()["fingerprint"], first);
    stage.mirrors.get_mut("m").unwrap().include = "a|b|c".to_owned();
    std::fs::write(&stage.mirror.config, stage.text()).unwrap();
    stage.mirror.process().signal("HUP");
    stage.await_values("c", 0, &numbered("", 0, 10));
    refusals(&mut stage);
    // As Kubernetes does it.
    let folder = stage.mirror.folder().to_owned();
    let version = |name: &str, include: &str| {
        std::fs::create_dir(folder.join(name)).unwrap();
        let text = stage.text().replace("a|b|c|d", include);
        std::fs::write(folder.join(name).join("kmirror.yaml"), text).unwrap();
    };
    version("v1", "a|b|c|d");
    std::os::unix::fs::symlink("v1", folder.join("..data")).unwrap();
    std::fs::remove_file(&stage.mirror.config).unwrap();
    std::os::unix::fs::symlink("..data/kmirror.yaml", &stage.mirror.config).unwrap();
    version("v2", "a|b|c|d|e");
    std::os::unix::fs::symlink("v2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    stage.await_values("e", 0, &numbered("", 0, 10));
    stage.mirror.stop();
}

/// Faults of each kind; what was in force stays so, and everybody is told.
fn refusals(stage: &mut Stage) {
    let good = stage.text();
    let before = stage.config();
    let is_target = |line: &&str| line.starts_with("  to: ");
    let target = good.lines().find(is_target).unwrap().to_owned();
    for (bad, place) in [
        (good.replace("source: from", "sauce: from"), "kmirror.yaml:6:5: mirrors[0].sauce: unknown key"),
        (good.replace("mirrors:", "mirrors: ["), "kmirror.yaml:"),
        (good.replace("    target: to", "    target: from"), "mirrors[0].target"),
        (
            good.replace("name: m\n    source: from\n    target: to", "name: m\n    source: to\n    target: from"),
            "mirrors.m.source: cannot be changed",
        ),
        (
            good.replace(&target, "  to: { bootstrap: [\"127.0.0.1:1\"] }"),
            "clusters.to: what the file says of it now was tried out",
        ),
    ] {
        stage.put(&bad);
        let answer = stage.ask(&json!({}));
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (409, Some("urn:kmirror:problem:refused")),
            "{answer:?}"
        );
        assert!(answer.json()["detail"].as_str().unwrap().contains(place), "{place}: {answer:?}");
        let config = stage.config();
        let shown = http::get(stage.port, "/api/v1/mirrors", "localhost").unwrap().json()["config"].clone();
        assert_eq!(shown, config, "the dashboard has it too");
        assert_eq!((&config["fingerprint"], &config["since_ms"]), (&before["fingerprint"], &before["since_ms"]));
        assert!(config["refused"]["why"].as_str().unwrap().contains(place), "{config}");
        assert!(stage.mirror.log().contains("refused as a whole"));
    }
    let gauge = |name: &str, labels: &str| http::gauge_of(stage.port, name, &format!("{labels} ")).unwrap();
    assert_eq!(gauge("kmirror_config_last_reload_successful", ""), 0.0);
    assert!(gauge("kmirror_config_reloads_total", "{outcome=\"refused\"}") >= 5.0);
    stage.put(&good);
    stage.await_config("the good file", |config| config["refused"].is_null());
    assert_eq!(stage.config()["fingerprint"], before["fingerprint"]);
    // By a dry run it is told what would be, and nothing is done.
    stage.mirrors.get_mut("m").unwrap().include = "a|b|c|d".to_owned();
    let path = stage.mirror.folder().join("next.yaml");
    std::fs::write(&path, stage.text()).unwrap();
    let report = diff(stage, &path, 0);
    assert_eq!(keys(&report), ["mirrors.m.topics.include changed"]);
    stage.put(&stage.text());
    let answer = stage.ask(&json!({ "dry_run": true })).json();
    assert_eq!((keys(&answer), &answer["dry_run"]), (keys(&report), &Value::from(true)));
    stage.await_values("d", 0, &numbered("", 0, 10));
}

fn diff(stage: &Stage, new: &std::path::Path, code: i32) -> Value {
    let old: PathBuf = stage.mirror.config.clone();
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    stage.mirror.json(&["config", "diff", old, new], code)
}

/// What cannot change in place is told, and the rest is in force.
#[test]
fn each_part_takes_up_what_is_its_own() {
    let mut stage = Stage::new("reload-parts", &[("m", "a"), ("n", "b")]);
    for topic in ["a", "b", "c"] {
        stage.source.create_topic(topic, 1, 1, &[]).unwrap();
        append(&stage.source, topic, 0, "", 0, 10);
    }
    stage.start();
    stage.await_values("a", 0, &numbered("", 0, 10));
    stage.await_values("b", 0, &numbered("", 0, 10));
    let started = |stage: &Stage| stage.mirror.log().matches("stopping: draining").count();
    assert_eq!(started(&stage), 0);
    // A mirror is added, one restarts alone, and a key waits.
    stage.mirrors.insert("o".to_owned(), Written { include: "c".to_owned(), more: String::new() });
    stage.mirrors.get_mut("n").unwrap().more = "    isolation: read_uncommitted\n".to_owned();
    stage.top += "log: { level: debug, format: json }\nlimits: { memory: 8MiB }\n";
    assert_eq!(
        stage.reload(),
        [
            "mirrors.n.isolation changed",
            "mirrors.o added",
            "limits.memory changed",
            "log.level changed",
            "log.format changed"
        ]
    );
    stage.await_values("c", 0, &numbered("", 0, 10));
    append(&stage.source, "b", 0, "", 10, 20);
    stage.await_values("b", 0, &numbered("", 0, 20));
    assert_eq!(started(&stage), 1, "n alone");
    assert_eq!(stage.target.log("b", 0).unwrap().end_offset, 20, "it was released, and goes on unmarked");
    let config = stage.config();
    assert_eq!(config["pending_restart"], json!(["log.format"]), "{config}");
    wait_until("the log's level", LIMIT, || match stage.mirror.log() {
        log if log.contains(" DEBUG ") => Ok(()),
        log => Err(log),
    });
    let free = || http::gauge_of(stage.port, "kmirror_memory_budget_bytes", "{state=\"free\"} ").unwrap();
    wait_until(
        "a smaller budget",
        LIMIT,
        || if free() <= f64::from(8 << 20) { Ok(()) } else { Err(free().to_string()) },
    );
    // It goes again, and its name is free.
    stage.mirrors.remove("o");
    assert_eq!(stage.reload(), ["mirrors.o removed"]);
    wait_until("the end of o", LIMIT, || if started(&stage) == 2 { Ok(()) } else { Err(stage.mirror.log()) });
    append(&stage.source, "c", 0, "", 10, 20);
    let summaries = http::get(stage.port, "/api/v1/mirrors", "localhost").unwrap().json()["mirrors"].clone();
    let names: Vec<_> = summaries.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["m", "n"]);
    stage.mirrors.insert("o".to_owned(), Written { include: "c".to_owned(), more: String::new() });
    stage.reload();
    stage.await_values("c", 0, &numbered("", 0, 20));
    assert_eq!(stage.target.log("c", 0).unwrap().end_offset, 20);
    append(&stage.source, "a", 0, "", 10, 20);
    stage.await_values("a", 0, &numbered("", 0, 20));
    assert_eq!(stage.target.log("a", 0).unwrap().end_offset, 20);
    stage.mirror.stop();
}

/// Groups, heartbeats and a backup begin and end by the file, and a token is replaced where it lies; the mirror goes on.
#[test]
fn what_works_beside_the_mirrors_follows_the_file() {
    let mut stage = Stage::new("reload-beside", &[("m", "a")]);
    stage.source.create_topic("a", 1, 1, &[]).unwrap();
    append(&stage.source, "a", 0, "", 0, 10);
    stage.source.commit_offset("billing", "a", 0, 4);
    let token = stage.mirror.folder().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    stage.top = stage.top.replace(TOKEN, "\"${file:token}\"");
    let http = stage.top.clone();
    stage.start();
    stage.await_values("a", 0, &numbered("", 0, 10));
    assert_eq!(stage.ask(&json!({})).json()["changes"], json!([]));
    let place = stage.mirror.folder().join("archive");
    std::fs::create_dir(&place).unwrap();
    let backup = |keep: u32| {
        let to = format!("file://{}", place.display());
        format!(
            "backups: [{{ name: b, cluster: from, interval: 1s, keep: {keep}, topics: {{ include: [a] }}, to: [{{ url: \"{to}\" }}] }}]\n"
        )
    };
    let passes = || {
        let labels = "{backup=\"b\",outcome=\"complete\"} ";
        http::gauge_of(stage.port, "kmirror_backup_passes_total", labels).unwrap_or_default()
    };
    let await_passes = |more: f64| {
        let before = passes();
        wait_until("passes", LIMIT, || if passes() >= before + more { Ok(()) } else { Err(passes().to_string()) });
    };
    let mut written = stage.mirrors["m"].clone();
    written.more = "    groups: { include: [\".*\"], interval: 1s }\n    heartbeats: { interval: 200ms }\n".to_owned();
    let (plain, with) = (stage.mirrors["m"].clone(), written);
    let file = |written: &Written, top: &str| {
        let mirrors = [("m".to_owned(), written.clone())].into();
        text(&stage.source, &stage.target, &mirrors, &(http.clone() + top))
    };
    stage.put(&file(&with, &backup(3)));
    assert_eq!(
        keys(&stage.ask(&json!({})).json()),
        ["mirrors.m.groups added", "mirrors.m.heartbeats added", "backups.b added"]
    );
    wait_until("the group on the target", LIMIT, || {
        let there = stage.target.group_offsets("billing").get(&("a".to_owned(), 0)).map(|committed| committed.offset);
        if there == Some(4) { Ok(()) } else { Err(format!("{there:?}")) }
    });
    wait_until("heartbeats", LIMIT, || {
        let beats = stage.values("kmirror.heartbeats.m", 0).len();
        if beats > 2 { Ok(()) } else { Err(beats.to_string()) }
    });
    await_passes(2.0);
    stage.put(&file(&with, &backup(2)));
    assert_eq!(keys(&stage.ask(&json!({})).json()), ["backups.b.keep changed"]);
    await_passes(2.0);
    stage.put(&file(&plain, ""));
    assert_eq!(stage.ask(&json!({})).status, 200);
    let summaries = || http::get(stage.port, "/api/v1/mirrors", "localhost").unwrap().json();
    assert_eq!(summaries()["backups"], json!([]));
    std::fs::write(&token, "another-token-that-nobody-guesses").unwrap();
    wait_until("the old token to be refused", LIMIT, || match stage.ask(&json!({})).status {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    append(&stage.source, "a", 0, "", 10, 20);
    stage.await_values("a", 0, &numbered("", 0, 20));
    let log = stage.mirror.log();
    assert!(!log.contains("stopping: draining") && !log.contains("another-token"), "{log}");
    assert_eq!(stage.target.log("a", 0).unwrap().end_offset, 20);
    stage.mirror.stop();
}

/// How long a partition's target stood still at most.
#[derive(Debug, Clone, Copy)]
struct Gap {
    last: i64,
    since: Instant,
    longest: Duration,
}

/// Looks at ends of the target every few milliseconds, until told to stop; gives the longest time without progress of each.
fn measure(
    target: Arc<Cluster>,
    partitions: Vec<(String, i32)>,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> std::thread::JoinHandle<BTreeMap<(String, i32), Duration>> {
    std::thread::spawn(move || {
        let now = Instant::now();
        let gap = Gap { last: 0, since: now, longest: Duration::ZERO };
        let mut gaps: BTreeMap<_, _> = partitions.into_iter().map(|at| (at, gap)).collect();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            for ((topic, partition), gap) in &mut gaps {
                let end = target.log(topic, *partition).map_or(0, |log| log.end_offset);
                let now = Instant::now();
                gap.longest = gap.longest.max(now - gap.since);
                if end > gap.last {
                    (gap.last, gap.since) = (end, now);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        gaps.into_iter().map(|(at, gap)| (at, gap.longest)).collect()
    })
}

/// Appends a record to every partition every few milliseconds, until told to stop; gives how many each has, and the longest time
/// between two.
fn load(
    source: Arc<Cluster>,
    partitions: Vec<(String, i32)>,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> std::thread::JoinHandle<(u64, Duration)> {
    std::thread::spawn(move || {
        let (mut number, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            for (topic, partition) in &partitions {
                append(&source, topic, *partition, "", number, number + 1);
            }
            number += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            std::thread::sleep(Duration::from_millis(5));
        }
        (number, longest)
    })
}

const PARTITIONS: i32 = 3;
/// Topics that nothing is ever done about, and those that come and go.
const QUIET: [(&str, &str); 2] = [("still", "q0"), ("moving", "m0")];

fn all(topics: &[&str]) -> Vec<(String, i32)> {
    topics.iter().flat_map(|topic| (0..PARTITIONS).map(|p| ((*topic).to_owned(), p))).collect()
}

/// The change of this turn. Every fifth file is a bad one.
fn change(stage: &mut Stage, turn: usize) -> bool {
    let quiet = "http:".to_owned() + stage.top.split("http:").nth(1).unwrap().split('\n').next().unwrap() + "\n";
    let moving = |more: &str, include: &str| Written { include: include.to_owned(), more: more.to_owned() };
    match turn % 10 {
        0 => drop(stage.mirrors.insert("moving".to_owned(), moving("", "m0|m1"))),
        1 => drop(stage.mirrors.insert("moving".to_owned(), moving("    limits: { bandwidth: 50MiB }\n", "m0|m1|m2"))),
        2 => drop(stage.mirrors.insert("added".to_owned(), moving("", "x0"))),
        3 => stage.top = quiet + "log: { level: debug }\nlimits: { memory: 8MiB }\n",
        4 | 9 => return false,
        5 => drop(stage.mirrors.insert(
            "moving".to_owned(),
            moving("    limits: { coalesced_batch: 0 }\n    on: { truncation: continue }\n", "m0|m2"),
        )),
        6 => drop(stage.mirrors.remove("added")),
        7 => stage.top = quiet + "limits: { memory: 32MiB }\n",
        _ => drop(stage.mirrors.insert("moving".to_owned(), moving("    groups: { include: [\".*\"] }\n", "m0"))),
    }
    true
}

/// Fifty files, ten of them bad, under load: no record is lost, none comes twice, and what nothing was said of never pauses.
#[test]
fn fifty_changes_under_load() {
    const CHANGES: usize = 50;
    let mut stage = Stage::new("reload-load", &QUIET);
    let topics = ["q0", "m0", "m1", "m2", "x0"];
    for topic in topics {
        stage.source.create_topic(topic, PARTITIONS, 1, &[]).unwrap();
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let loading = load(Arc::clone(&stage.source), all(&topics), Arc::clone(&stop));
    stage.start();
    for (topic, partition) in all(&["q0", "m0"]) {
        wait_until("the first records", LIMIT, || {
            if stage.values(&topic, partition).is_empty() { Err(format!("{topic}:{partition}")) } else { Ok(()) }
        });
    }
    let still = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let measuring = measure(Arc::clone(&stage.target), all(&["q0", "m0"]), Arc::clone(&still));
    let mut refused = 0;
    for turn in 0..CHANGES {
        if change(&mut stage, turn) {
            assert!(!stage.reload().is_empty(), "turn {turn} changes something");
        } else {
            let bad = stage.text().replace("source: from", "source: nowhere");
            stage.put(&bad);
            assert_eq!(stage.ask(&json!({})).status, 409);
            refused += 1;
        }
        // What was begun by the one is under way when the next one comes.
        std::thread::sleep(Duration::from_millis(20 * (turn as u64 % 7)));
    }
    still.store(true, std::sync::atomic::Ordering::Relaxed);
    let gaps = measuring.join().unwrap();
    let stopped = || stage.mirror.log().matches("stopping: draining").count();
    let removed = CHANGES / 10;
    wait_until("the last removal", LIMIT, || if stopped() >= removed { Ok(()) } else { Err(stopped().to_string()) });
    assert_eq!(stopped(), removed, "the mirror that was removed each time, and no other");
    // What it would be if the process restarted, on this machine and now.
    let still = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let measuring = measure(Arc::clone(&stage.target), all(&["q0"]), Arc::clone(&still));
    stage.mirror.stop();
    stage.start();
    let before = stage.target.log("q0", 0).unwrap().end_offset;
    wait_until("records after the restart", LIMIT, || {
        let ends: Vec<i64> = (0..PARTITIONS).map(|p| stage.target.log("q0", p).unwrap().end_offset).collect();
        if ends.iter().all(|end| *end > before + 20) { Ok(()) } else { Err(format!("{ends:?} from {before}")) }
    });
    still.store(true, std::sync::atomic::Ordering::Relaxed);
    let restarted = measuring.join().unwrap().into_values().max().unwrap();
    stage.mirrors.insert("moving".to_owned(), Written { include: "m.".to_owned(), more: String::new() });
    stage.mirrors.insert("added".to_owned(), Written { include: "x0".to_owned(), more: String::new() });
    stage.reload();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (count, starved) = loading.join().unwrap();
    for (topic, partition) in all(&topics) {
        stage.await_values(&topic, partition, &numbered("", 0, count));
        assert_eq!(
            stage.target.log(&topic, partition).unwrap().end_offset,
            count as i64,
            "{topic}:{partition}: no marker"
        );
    }
    let longest = gaps.values().max().unwrap();
    eprintln!(
        "{CHANGES} changes, {refused} refused, {count} records a partition; longest gap {longest:?}, of a restart {restarted:?}, of the load \
         itself {starved:?}: {gaps:?}"
    );
    assert_eq!(refused, CHANGES / 5);
    // A machine that is busy with other things holds up all of them alike.
    assert!(*longest < starved + Duration::from_secs(2), "{longest:?}");
    let log = stage.mirror.log();
    assert!(!log.contains("starting it anew") && !log.contains("partition halted"), "{log}");
    stage.mirror.stop();
}
