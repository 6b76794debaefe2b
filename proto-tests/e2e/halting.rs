//! Pauses and halts: what stands still stands still over restarts, the others go on, and the way out is the one shown.

use serde_json::Value;

use super::Mirror;
use super::mirror::{LIMIT, gaps};
use crate::kafka::harness::dump::Digest;
use crate::kafka::harness::{
    Dump, Produce, TopicSpec, Transact, compare, driver, real_kafka_wanted, source, target, wait_until,
};

const PARTITIONS: i32 = 3;

fn write(topic: &str, seed: u64, each: u64) {
    let count = each * PARTITIONS as u64;
    let spec = Produce { seed, partitions: PARTITIONS, ..Produce::odd(topic, count) };
    driver().produce(&source().bootstrap(), &spec);
}

fn lag(row: &Value) -> i64 {
    row["lag_records"].as_i64().expect("a number")
}

/// Waits until all partitions but the first have everything.
fn await_others(mirror: &Mirror, topic: &str) {
    for partition in 1..PARTITIONS {
        wait_until(&format!("{topic}:{partition} to go on"), LIMIT, || {
            let row = mirror.row(topic, partition)?;
            if row["state"] == "mirroring" && lag(&row) == 0 { Ok(()) } else { Err(row.to_string()) }
        });
    }
}

/// Mirrors 100 records a partition, stops, and lets the source lose offsets 100 to 149 of the first partition.
fn lose_records(name: &str, more: &str) -> Mirror {
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(name, PARTITIONS));
    write(name, 1, 100);
    let mut mirror = Mirror::new(name, source(), target(), &[name], more);
    mirror.start().await_caught_up(PARTITIONS as usize);
    mirror.stop();
    write(name, 2, 100);
    assert_eq!(driver().delete_records(&source().bootstrap(), name, 0, 150), 150);
    mirror.start();
    mirror
}

/// The first partition as it is after the loss: of the target only what came behind it.
fn without_the_lost(there: Dump) -> Dump {
    let behind = |((topic, partition), rows): (_, Vec<Digest>)| {
        let rows = if partition == 0 { rows.into_iter().skip(100).collect() } else { rows };
        ((topic, partition), rows)
    };
    Dump { partitions: there.partitions.into_iter().map(behind).collect() }
}

/// All that the source still has is there, in order, and the loss is a gap with its reason.
fn assert_only_the_lost_is_missing(mirror: &mut Mirror, topic: &str, reason: &str) {
    mirror.await_caught_up(PARTITIONS as usize);
    let row = mirror.row(topic, 0).unwrap();
    assert_eq!(gaps(&row), [(reason.to_owned(), 100, 150)], "{row}");
    let next = mirror.translate(topic, 0, 150, &[]).0;
    assert_eq!(mirror.translate(topic, 0, 120, &[]), (next, Some(reason.to_owned())));
    assert_eq!(mirror.translate(topic, 0, next, &["--reverse"]), (150, None));
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    assert_eq!(there.partitions[&(topic.to_owned(), 0)].len(), 150);
    compare(&here, &without_the_lost(there)).assert_exactly(450);
}

#[test]
fn a_retention_loss_halts_its_partition_until_the_loss_is_accepted() {
    if !real_kafka_wanted("a_retention_loss_halts_its_partition_until_the_loss_is_accepted") {
        return;
    }
    let topic = "halting-loss";
    let mut mirror = lose_records(topic, "");
    let row = mirror.await_state(topic, 0, "halted");
    let reason = row["reason"].as_str().unwrap();
    assert!(reason.starts_with("retention_loss at source offsets [100, 150): "), "{reason}");
    let way_out = row["way_out"].as_str().unwrap();
    let (words, command) = way_out.split_once(": kmirror ").expect("a command");
    assert_eq!(words, "to go on without source offsets [100, 150)");
    assert_eq!(command, format!("resume --mirror {topic} --partition {topic}:0 --accept-loss 100..150"));
    assert!(mirror.log().contains(way_out), "the log of the run tells it too");
    await_others(&mirror, topic);
    assert_eq!(mirror.output(&["status"]).status.code(), Some(5));
    refuses_other_ranges(&mirror, topic);
    mirror.stop();
    mirror.start();
    await_others(&mirror, topic);
    assert_eq!(mirror.await_state(topic, 0, "halted"), row, "a restart settles nothing");
    let freed = mirror.output(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(freed.status.code(), Some(0), "{freed:?}");
    assert_only_the_lost_is_missing(&mut mirror, topic, "accepted");
    assert_eq!(mirror.output(&["status"]).status.code(), Some(0));
}

fn refuses_other_ranges(mirror: &Mirror, topic: &str) {
    let resume = |partition: i32, range: &str| {
        let at = format!("{topic}:{partition}");
        mirror.output(&["resume", "--partition", &at, "--accept-loss", range])
    };
    for (partition, range) in [(0, "100..149"), (0, "99..150"), (0, "100..151"), (1, "100..150")] {
        let refused = resume(partition, range);
        assert_eq!(refused.status.code(), Some(6), "{partition} {range}: {refused:?}");
    }
    assert!(String::from_utf8_lossy(&resume(0, "0..1").stderr).contains("100..150"), "it names the range");
    assert_eq!(mirror.row(topic, 0).unwrap()["state"], "halted");
}

#[test]
fn a_retention_loss_is_passed_over_where_the_policy_says_so() {
    if !real_kafka_wanted("a_retention_loss_is_passed_over_where_the_policy_says_so") {
        return;
    }
    let topic = "halting-continue";
    let mut mirror = lose_records(topic, "    on: { retention_loss: continue }\n");
    assert_only_the_lost_is_missing(&mut mirror, topic, "retention");
}

/// Retention that takes what was mirrored, and the markers behind it, takes nothing that is missing on the target.
#[test]
fn retention_of_what_was_mirrored_is_no_loss() {
    if !real_kafka_wanted("retention_of_what_was_mirrored_is_no_loss") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "halting-no-loss");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 1));
    driver.transact(&bootstrap, &Transact::new(Produce::new(topic, 30)));
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(1);
    mirror.stop();
    let end = driver.offsets(&bootstrap, &[topic])[0].end;
    assert_eq!(driver.delete_records(&bootstrap, topic, 0, end), end);
    driver.produce(&bootstrap, &Produce { seed: 2, ..Produce::new(topic, 10) });
    mirror.start();
    wait_until("what came after", LIMIT, || {
        let row = mirror.row(topic, 0)?;
        assert_ne!(row["state"], "halted", "{row}");
        if row["target_end"] == 30 { Ok(()) } else { Err(row.to_string()) }
    });
    mirror.stop();
}

/// One partition is paused, then all: the pause holds over a restart, and nothing moves in it.
#[test]
fn a_pause_lasts_over_a_restart_until_it_is_ended() {
    if !real_kafka_wanted("a_pause_lasts_over_a_restart_until_it_is_ended") {
        return;
    }
    let topic = "halting-paused";
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, PARTITIONS));
    write(topic, 1, 100);
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(PARTITIONS as usize);
    let first = format!("{topic}:0");
    let told = |args: &[&str]| {
        let output = mirror.output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    };
    told(&["pause", "--partition", &first, "--dry-run"]);
    assert_eq!(mirror.row(topic, 0).unwrap()["state"], "mirroring", "a dry run changes nothing");
    told(&["pause", "--partition", &first]);
    let paused = mirror.await_state(topic, 0, "paused");
    assert_eq!(paused["lag_records"], 0);
    mirror.stop();
    mirror.start();
    write(topic, 2, 100);
    await_others(&mirror, topic);
    let row = mirror.await_state(topic, 0, "paused");
    assert_eq!((lag(&row), row["target_end"].as_i64()), (100, Some(100)), "{row}");
    let told = |args: &[&str]| {
        let output = mirror.output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    };
    told(&["resume", "--partition", &first]);
    mirror.await_caught_up(PARTITIONS as usize);
    pauses_whole(&mut mirror, topic);
    mirror.stop();
    let report = mirror.compare(&[topic]);
    report.assert_exactly(900);
    assert!(report.offsets_identical, "a pause leaves no marker");
}

fn pauses_whole(mirror: &mut Mirror, topic: &str) {
    assert_eq!(mirror.output(&["pause"]).status.code(), Some(0));
    mirror.stop();
    mirror.start();
    write(topic, 3, 100);
    for partition in 0..PARTITIONS {
        let row = mirror.await_state(topic, partition, "paused");
        assert_eq!((lag(&row), row["target_end"].as_i64()), (100, Some(200)), "{row}");
    }
    assert_eq!(mirror.output(&["resume"]).status.code(), Some(0));
    mirror.await_caught_up(PARTITIONS as usize);
}
