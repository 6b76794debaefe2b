//! Every alert fires by a real fault: `/metrics` of a running mirror before and after it goes to Prometheus' own rule tests, as if
//! the fault went on for longer than a test may wait.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kmirror::batch::Codec;

use super::threats::open_transaction;
use super::{Pair, append};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;
use crate::monitoring::promtool::{Scrape, expect};

/// Between two scrapes of a fault, so that it shows what grows and what stands.
const APART: Duration = Duration::from_secs(3);
const MINUTE_S: u32 = 60;

fn text(port: u16) -> String {
    http::get(port, "/metrics", "kmirror").unwrap().body
}

fn scrape(port: u16) -> Scrape {
    Scrape { at_s: 0.0, text: text(port) }
}

/// Two scrapes; `meanwhile` happens before the second.
fn twice(port: u16, meanwhile: impl FnOnce()) -> [Scrape; 2] {
    let (began, first) = (Instant::now(), scrape(port));
    meanwhile();
    wait_until("the next scrape", LIMIT, || if began.elapsed() >= APART { Ok(()) } else { Err("not yet".to_owned()) });
    [first, Scrape { at_s: began.elapsed().as_secs_f64(), text: text(port) }]
}

/// Waits until a series has such a value.
fn await_series(port: u16, name: &str, labels: &str, is: impl Fn(f64) -> bool) {
    wait_until(&format!("{name}{labels}"), LIMIT, || {
        let value = http::gauge_of(port, name, &format!("{labels} "))?;
        if is(value) { Ok(()) } else { Err(format!("{name}{labels} is {value}")) }
    });
}

fn fires(name: &str, healthy: &Scrape, faulty: &[Scrape; 2], alerts: &[&str]) {
    expect(name, Some(healthy), [&faulty[0], &faulty[1]], MINUTE_S, alerts);
}

/// In step, and scraped so.
fn healthy(pair: &mut Pair, port: u16, partitions: usize) -> Scrape {
    pair.mirror.await_caught_up(partitions);
    let mirror = format!("{{mirror=\"{}\"}}", pair.topic);
    await_series(port, "kmirror_rpo_seconds", &mirror, |rpo| rpo == 0.0);
    await_series(port, "kmirror_cluster_up", "{cluster=\"from\"}", |up| up == 1.0);
    await_series(port, "kmirror_cluster_up", "{cluster=\"to\"}", |up| up == 1.0);
    scrape(port)
}

/// Appends one record of now.
fn write_now(pair: &Pair, partition: i32) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let record = (None, Some(Bytes::from_static(b"now")));
    pair.source.append_records(&pair.topic, partition, Codec::None, now as i64, &[record]).unwrap();
}

#[test]
fn a_halt_and_slow_records() {
    let port = free_port();
    let name = "alert-halt";
    let mut pair = Pair::new(name, 2, 2, &http::section(port));
    for partition in 0..2 {
        write_now(&pair, partition);
    }
    pair.mirror.start();
    // The position of a partition that halts is known once it was shown.
    let first = format!("{{mirror=\"{name}\",topic=\"{name}\",partition=\"0\"}}");
    await_series(port, "kmirror_lag_records", &first, |lag| lag == 0.0);
    let before = healthy(&mut pair, port, 2);
    append(&pair.target, name, 0, "foreign-", 0, 3);
    write_now(&pair, 0);
    await_series(port, "kmirror_halted_partitions", &format!("{{mirror=\"{name}\"}}"), |halted| halted == 1.0);
    let count = format!("{{mirror=\"{name}\"}}");
    let observed = || http::gauge_of(port, "kmirror_end_to_end_latency_seconds_count", &format!("{count} ")).unwrap();
    // Records of long ago come late, whoever brings them.
    pair.write(1, 0, 10);
    let seen = observed();
    let faulty = twice(port, || {
        pair.write(1, 10, 20);
        await_series(port, "kmirror_end_to_end_latency_seconds_count", &count, |now| now > seen);
    });
    fires(name, &before, &faulty, &["KmirrorPartitionsHalted", "KmirrorBehind", "KmirrorSlow"]);
    let errors = format!("{{mirror=\"{name}\",class=\"foreign_records\"}}");
    await_series(port, "kmirror_errors_total", &errors, |count| count == 1.0);
    pair.mirror.stop();
}

/// The target gone under a mirror with groups and heartbeats.
#[test]
fn a_target_that_goes_away() {
    let port = free_port();
    let name = "alert-target";
    let keys = "    groups: { include: [\".*\"], interval: 1s }\n    heartbeats: { interval: 200ms }\n".to_owned();
    let mut pair = Pair::new(name, 1, 1, &(keys + &http::section(port)));
    write_now(&pair, 0);
    pair.source.commit_offset("billing", name, 0, 1);
    pair.mirror.start();
    let mirror = format!("{{mirror=\"{name}\"}}");
    await_series(port, "kmirror_heartbeat_age_seconds", &mirror, |age| age < 10.0);
    await_series(port, "kmirror_heartbeat_latency_seconds_count", &mirror, |count| count >= 3.0);
    await_series(port, "kmirror_groups_in_step", &mirror, |groups| groups == 1.0);
    let before = scrape(port);
    assert!(before.text.contains("kmirror_cluster_up{cluster=\"to\"} 1\n"), "{}", before.text);
    // What is measured end to end is no more than what was between.
    let of = |what: &str| {
        http::gauge_of(port, &format!("kmirror_heartbeat_latency_seconds_{what}"), &format!("{mirror} ")).unwrap()
    };
    assert!(of("sum") / of("count") < 10.0, "{}", before.text);
    let beats = pair.source.records(&format!("kmirror.heartbeats.{name}"), 0, 0).unwrap();
    let beat = (beats[0].key.as_deref().unwrap(), beats[0].value.as_deref().unwrap());
    assert_eq!(beat.0, b"\0\x04from\0\x02to", "as MirrorMaker 2 writes them");
    assert_eq!((beat.1.len(), &beat.1[..2], &beat.1[2..]), (10, &[0, 0][..], &beats[0].timestamp.to_be_bytes()[..]));

    pair._runtime.block_on(pair.target.stop_node(1)).unwrap();
    write_now(&pair, 0);
    await_series(port, "kmirror_cluster_up", "{cluster=\"to\"}", |up| up == 0.0);
    let failed = format!("{{mirror=\"{name}\",class=\"produce_not_sent\"}}");
    await_series(port, "kmirror_errors_total", &failed, |count| count >= 2.0);
    let so_far = http::gauge_of(port, "kmirror_errors_total", &format!("{failed} ")).unwrap();
    let more = || await_series(port, "kmirror_errors_total", &failed, |count| count >= so_far + 2.0);
    let alerts = [
        "KmirrorClusterUnreachable",
        "KmirrorKeepsFailing",
        "KmirrorBehind",
        "KmirrorHeartbeatsLate",
        "KmirrorGroupsFallBehind",
    ];
    fires(name, &before, &twice(port, more), &alerts);
    pair.mirror.kill();
}

#[test]
fn a_mirror_that_cannot_begin() {
    let port = free_port();
    let name = "alert-start";
    let mut pair = Pair::new(name, 1, 1, &http::section(port));
    pair._runtime.block_on(pair.target.stop_node(1)).unwrap();
    pair.mirror.start();
    let restarts = format!("{{mirror=\"{name}\",class=\"restart\"}}");
    await_series(port, "kmirror_errors_total", &restarts, |count| count >= 2.0);
    let faulty = twice(port, || await_series(port, "kmirror_errors_total", &restarts, |count| count >= 3.0));
    assert!(faulty[1].text.contains(&format!("kmirror_report_age_seconds{{mirror=\"{name}\"}} inf\n")), "{faulty:?}");
    expect(name, None, [&faulty[0], &faulty[1]], MINUTE_S, &["KmirrorNotRunning", "KmirrorRestarts"]);
    // Nothing to be scraped at all.
    pair.mirror.kill();
    let nothing = Scrape { at_s: 1.0, text: String::new() };
    expect(name, None, [&nothing, &nothing], MINUTE_S, &["KmirrorAbsent"]);
}

#[test]
fn a_source_broker_that_is_lost() {
    let port = free_port();
    let name = "alert-broker";
    let mut pair = Pair::new(name, 2, 2, &http::section(port));
    pair.write(0, 0, 10);
    pair.write(1, 0, 10);
    pair._runtime.block_on(pair.source.stop_node(2)).unwrap();
    pair.mirror.start();
    let state = |state: &str| format!("{{mirror=\"{name}\",state=\"{state}\"}}");
    await_series(port, "kmirror_partitions", &state("mirroring"), |count| count == 1.0);
    await_series(port, "kmirror_partitions", &state("starting"), |count| count == 1.0);
    await_series(port, "kmirror_cluster_lost_brokers", "{cluster=\"from\"}", |lost| lost == 1.0);
    await_series(port, "kmirror_cluster_brokers", "{cluster=\"from\"}", |brokers| brokers == 1.0);
    let faulty = twice(port, || {});
    let alerts =
        ["KmirrorBrokersLost", "KmirrorOfflinePartitions", "KmirrorUnderReplicatedPartitions", "KmirrorNotBegun"];
    expect(name, None, [&faulty[0], &faulty[1]], MINUTE_S, &alerts);
    pair.mirror.kill();
}

/// Paused for so long that retention comes close, and takes what was not mirrored; then a transaction that nobody ends.
#[test]
fn a_pause_a_loss_and_a_transaction() {
    let port = free_port();
    let name = "alert-loss";
    let more = "    on: { retention_loss: continue }\n".to_owned() + &http::section(port);
    let mut pair = Pair::matching(name, name, 1, &more);
    pair.source.create_topic(name, 1, 1, &[("retention.ms", "1800000")]).unwrap();
    write_now(&pair, 0);
    pair.mirror.start();
    let before = healthy(&mut pair, port, 1);
    assert_eq!(pair.mirror.output(&["pause"]).status.code(), Some(0));
    await_series(port, "kmirror_partitions", &format!("{{mirror=\"{name}\",state=\"paused\"}}"), |count| count == 1.0);
    write_now(&pair, 0);
    write_now(&pair, 0);
    let place = format!("{{mirror=\"{name}\",topic=\"{name}\",partition=\"0\"}}");
    await_series(port, "kmirror_retention_headroom_seconds", &place, |left| left < 1_800.0);
    // Also of a partition that is not fetched it is known how far it is behind.
    await_series(port, "kmirror_lag_records", &place, |lag| lag == 2.0);
    let faulty = twice(port, || {});
    fires(name, &before, &faulty, &["KmirrorPaused", "KmirrorMayLoseRecords", "KmirrorBehind"]);

    pair.source.delete_before(name, 0, 2).unwrap();
    assert_eq!(pair.mirror.output(&["resume"]).status.code(), Some(0));
    let lost = format!("{{mirror=\"{name}\",reason=\"retention\"}}");
    await_series(port, "kmirror_gaps_total", &lost, |count| count == 1.0);
    fires(name, &before, &twice(port, || {}), &["KmirrorLostRecords"]);

    open_transaction(&pair, 0, 100_000);
    write_now(&pair, 0);
    await_series(port, "kmirror_open_transaction_age_seconds", &place, |age| age >= 100.0);
    fires(name, &before, &twice(port, || {}), &["KmirrorHeldByTransaction"]);
    pair.mirror.stop();
}

#[test]
fn a_drill_that_fails() {
    let port = free_port();
    let name = "alert-drill";
    let drills = format!("drills: [{{ mirror: {name}, reports: drills, every: 1d, max_rto: 1ms }}]\n");
    let mut pair = Pair::new(name, 1, 1, &(http::section(port) + &drills));
    write_now(&pair, 0);
    pair.mirror.start();
    let mirror = format!("{{mirror=\"{name}\"}}");
    await_series(port, "kmirror_drill_passed", &mirror, |passed| passed == 0.0);
    let faulty = twice(port, || {});
    // Days are needed until the next one is overdue.
    let hour_s = 3_600;
    expect(name, None, [&faulty[0], &faulty[1]], hour_s, &["KmirrorDrillFailed", "KmirrorDrillOld"]);
    pair.mirror.stop();
}

/// Another file that is taken up by one instance and not by the other, and then one with a fault.
#[test]
fn a_configuration_that_is_refused_and_one_that_differs() {
    let port = free_port();
    let name = "alert-config";
    let mut pair = Pair::new(name, 1, 1, &http::section(port));
    write_now(&pair, 0);
    pair.mirror.start();
    let before = healthy(&mut pair, port, 1);
    let good = std::fs::read_to_string(&pair.mirror.config).unwrap();
    std::fs::write(&pair.mirror.config, format!("{good}limits: {{ memory: 8MiB }}\n")).unwrap();
    await_series(port, "kmirror_config_reloads_total", "{outcome=\"applied\"}", |count| count == 1.0);
    // As if the instance of before were there still.
    let own = |scrape: &Scrape| {
        let line = scrape.text.lines().find(|line| line.starts_with("kmirror_config_info{")).unwrap();
        format!("{line}\n")
    };
    let other = own(&before);
    std::fs::write(&pair.mirror.config, good.replace("source: from", "source: nowhere")).unwrap();
    await_series(port, "kmirror_config_last_reload_successful", "", |is_in_force| is_in_force == 0.0);
    let mut faulty = twice(port, || {});
    for scrape in &mut faulty {
        let others = scrape.text.lines().filter(|line| !other.starts_with(line));
        scrape.text = others.map(|line| format!("{line}\n")).collect::<String>() + &other;
        assert_ne!(own(scrape), other);
    }
    fires(name, &before, &faulty, &["KmirrorConfigRefused", "KmirrorConfigDiffers"]);
    pair.mirror.stop();
}

#[test]
fn a_backup_whose_place_is_gone() {
    let port = free_port();
    let name = "alert-backup";
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("archive");
    std::fs::create_dir(&place).unwrap();
    let backups = format!(
        "backups: [{{ name: nightly, cluster: from, interval: 1s, topics: {{ include: [{name}] }}, to: [{{ url: \"file://{}\" }}] }}]\n",
        place.display()
    );
    let mut pair = Pair::new(name, 1, 1, &(http::section(port) + &backups));
    write_now(&pair, 0);
    pair.mirror.start();
    let passes = |outcome: &str| format!("{{backup=\"nightly\",outcome=\"{outcome}\"}}");
    await_series(port, "kmirror_backup_passes_total", &passes("complete"), |count| count >= 1.0);
    let age = |name: &str, is: &dyn Fn(f64) -> bool| await_series(port, name, "{backup=\"nightly\"}", is);
    age("kmirror_backup_verified_age_seconds", &|age| age == f64::INFINITY);
    let unverified = twice(port, || {});
    assert_eq!(pair.mirror.output(&["archive", "verify", "--note"]).status.code(), Some(0));
    age("kmirror_backup_verified_age_seconds", &|age| age < 60.0);
    let before = healthy(&mut pair, port, 1);
    fires(name, &before, &unverified, &["KmirrorBackupUnverified"]);
    put_file_in_place_of(&place);
    await_series(port, "kmirror_backup_passes_total", &passes("failed"), |count| count >= 1.0);
    let failed = || await_series(port, "kmirror_backup_passes_total", &passes("failed"), |count| count >= 2.0);
    fires(name, &before, &twice(port, failed), &["KmirrorBackupFails", "KmirrorBackupOld"]);
    pair.mirror.stop();
}

fn put_file_in_place_of(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::write(folder, "no folder").unwrap();
}
