//! The way home after a promotion: what the old source comes back as, and what becomes of it.

use serde_json::Value;

use super::failover::fail_over;
use super::{Pair, append, numbered, value};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Ten records in two batches on both sides, the mirror stopped and promoted.
fn promoted(topic: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 1, "");
    pair.write(0, 0, 6);
    pair.write(0, 6, 10);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.stop();
    promote(&pair);
    pair
}

/// Promotes the standby without a look at the old source.
fn promote(pair: &Pair) {
    fail_over(&pair.mirror, &["--unplanned"], 0);
}

impl Pair {
    fn home(&self) -> String {
        format!("{}.failback", self.topic)
    }

    /// The plan's one partition.
    fn came_back(&self, code: i32) -> Value {
        let report = self.mirror.json(&["failback", "--dry-run"], code);
        report["partitions"][0].clone()
    }

    fn begin(&self, code: i32) -> Value {
        self.mirror.json(&["failback", "--yes"], code)
    }

    /// Runs the mirror of the way home until the old source holds exactly these records.
    fn comes_home(&mut self, expected: &[String]) {
        self.start_home();
        self.is_home(expected);
    }

    fn start_home(&mut self) {
        let home = self.home();
        self.mirror.start_as(|mut command| {
            command.args(["--mirror", &home]);
            command
        });
    }

    fn is_home(&mut self, expected: &[String]) {
        wait_until("the records on the old source", LIMIT, || {
            let there = self.values(&self.source, 0);
            if there == expected { Ok(()) } else { Err(format!("{} records, last {:?}", there.len(), there.last())) }
        });
        self.is_in_step();
        self.mirror.stop();
    }

    fn is_in_step(&self) {
        let home = self.home();
        wait_until("the way home to be in step", LIMIT, || {
            let output = self.mirror.output(&["status", "--mirror", &home, "--json"]);
            let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
            let row = &report["mirrors"][0]["partitions"][0];
            if row["lag_records"] == 0 && row["state"] == "mirroring" { Ok(()) } else { Err(report.to_string()) }
        });
    }

    /// The old source takes over again.
    fn switch(&self) {
        fail_over(&self.mirror, &["--planned", "--mirror", &self.home()], 0);
    }

    /// Every record that both sides hold is mapped to itself on the way home.
    fn assert_mapped_home(&self) {
        let home = self.home();
        let old = self.source.records(&self.topic, 0, 0).unwrap();
        let standby = self.target.records(&self.topic, 0, 0).unwrap();
        for record in &standby {
            let same = old.iter().find(|other| value(other) == value(record)).expect("it came home");
            let there = self.mirror.translate(&self.topic, 0, record.offset, &["--mirror", &home]);
            assert_eq!(there, (same.offset, None), "{}", value(record));
            let back = self.mirror.translate(&self.topic, 0, same.offset, &["--mirror", &home, "--reverse"]);
            assert_eq!(back, (record.offset, None), "{}", value(record));
        }
    }
}

#[test]
fn without_a_promotion_there_is_no_way_back() {
    let mut pair = Pair::mirrored("unpromoted", "");
    pair.mirror.stop();
    let output = pair.mirror.output(&["failback", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_the_old_source_has_alone_stays_and_what_the_standby_wrote_follows_it() {
    let mut pair = promoted("ahead");
    append(&pair.source, "ahead", 0, "alone-", 0, 3);
    append(&pair.target, "ahead", 0, "standby-", 0, 5);
    let plan = pair.came_back(0);
    assert_eq!(plan["came_back"], "ahead", "{plan}");
    assert_eq!((&plan["parted_at"], &plan["compared"]), (&10.into(), &true.into()), "{plan}");
    let whole = serde_json::json!({ "held_from": null, "damaged_offsets": 0, "deleted_offsets": 0 });
    let tail = serde_json::json!({ "from": 10, "to": 13, "records": 3, "shortfall": whole });
    assert_eq!(plan["tail"], tail, "{plan}");
    let refused = pair.mirror.output(&["failback"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert_eq!(pair.source.topics().len(), 1, "nothing was changed");
    pair.begin(0);
    pair.comes_home(&[numbered("", 0, 10), numbered("alone-", 0, 3), numbered("standby-", 0, 5)].concat());
    pair.assert_mapped_home();
}

/// A writer that died in the middle of a transaction, and a coordinator that has not ended it yet.
#[test]
fn what_a_transaction_holds_back_on_the_old_source_does_not_count_and_stops_nothing() {
    let mut pair = promoted("undecided");
    append(&pair.source, "undecided", 0, "alone-", 0, 3);
    super::threats::open_transaction(&pair, 0, 0);
    append(&pair.source, "undecided", 0, "behind-", 0, 2);
    let plan = pair.came_back(0);
    assert_eq!((&plan["came_back"], &plan["tail"]["records"]), (&"ahead".into(), &3.into()), "{plan}");
    assert_eq!(plan["tail"]["shortfall"]["held_from"], 13, "{plan}");
    assert!(plan["detail"].as_str().unwrap().contains("a transaction is open from offset 13 on"), "{plan}");
    let file = pair.mirror.folder().join("tail.jsonl");
    let export = pair.mirror.output(&["failback", "--dry-run", "--export", file.to_str().unwrap()]);
    assert_eq!(export.status.code(), Some(3), "not all of it is there: {export:?}");
    append(&pair.target, "undecided", 0, "standby-", 0, 5);
    pair.begin(0);
    pair.start_home();
    pair.is_in_step();
    pair.mirror.stop();
    // Behind the mirrored ones: three, the open one, two, a marker, and what came home.
    let end = pair.source.log("undecided", 0).unwrap().high_watermark;
    assert!(end >= 10 + 3 + 1 + 2 + 1 + 5, "{end}");
}

#[test]
fn the_divergent_tail_is_exported_once() {
    let pair = promoted("exported");
    append(&pair.source, "exported", 0, "alone-", 0, 2);
    let file = pair.mirror.config.with_file_name("divergent.jsonl");
    let export = ["failback", "--dry-run", "--export", file.to_str().unwrap()];
    pair.mirror.json(&export, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = |number: i64| {
        serde_json::json!({
            "topic": "exported", "partition": 0, "offset": 10 + number, "timestamp_ms": 1_790_000_000_000_i64,
            "key": format!("k{number}"), "value": format!("alone-{number}"), "headers": [],
        })
    };
    assert_eq!(lines, [expected(0), expected(1)]);
    let again = pair.mirror.output(&export);
    assert_eq!(again.status.code(), Some(1), "what is there is not written over: {again:?}");
}

#[test]
fn an_old_source_that_lost_its_end_gets_it_from_the_standby() {
    let mut pair = promoted("behind");
    pair.source.truncate("behind", 0, 6).unwrap();
    append(&pair.target, "behind", 0, "standby-", 0, 5);
    let plan = pair.came_back(0);
    assert_eq!((&plan["came_back"], &plan["parted_at"]), (&"behind".into(), &6.into()), "{plan}");
    pair.begin(0);
    pair.comes_home(&[numbered("", 0, 10), numbered("standby-", 0, 5)].concat());
    pair.assert_mapped_home();
}

#[test]
fn an_old_source_that_went_on_differently_keeps_that_and_gets_what_it_lost() {
    let mut pair = promoted("diverged");
    pair.source.truncate("diverged", 0, 6).unwrap();
    append(&pair.source, "diverged", 0, "alone-", 0, 7);
    append(&pair.target, "diverged", 0, "standby-", 0, 5);
    let plan = pair.came_back(0);
    assert_eq!((&plan["came_back"], &plan["parted_at"]), (&"diverged".into(), &6.into()), "{plan}");
    assert_eq!(plan["tail"]["records"], 7, "{plan}");
    pair.begin(0);
    let expected =
        [numbered("", 0, 6), numbered("alone-", 0, 7), numbered("", 6, 10), numbered("standby-", 0, 5)].concat();
    pair.comes_home(&expected);
    pair.assert_mapped_home();
}

#[test]
fn an_old_source_that_came_back_empty_is_filled_from_its_beginning() {
    let mut pair = promoted("emptied-home");
    assert!(pair.source.delete_topic("emptied-home"));
    append(&pair.target, "emptied-home", 0, "standby-", 0, 5);
    let plan = pair.came_back(0);
    assert_eq!(plan["came_back"], "empty", "{plan}");
    pair.begin(0);
    pair.start_home();
    wait_until("the topic on the old source", LIMIT, || {
        pair.source.log("emptied-home", 0).map(drop).map_err(|error| error.to_string())
    });
    pair.is_home(&[numbered("", 0, 10), numbered("standby-", 0, 5)].concat());
    pair.assert_mapped_home();
}

#[test]
fn another_log_under_the_old_name_is_left_alone() {
    let pair = promoted("another");
    assert!(pair.source.delete_topic("another"));
    pair.source.create_topic("another", 1, 1, &[]).unwrap();
    append(&pair.source, "another", 0, "other-", 0, 3);
    let plan = pair.came_back(3);
    assert_eq!(plan["came_back"], "different", "{plan}");
    pair.begin(3);
    assert_eq!(pair.values(&pair.source, 0), numbered("other-", 0, 3));
}

/// There and back, twice: every record of whichever side was in charge is on both, and mapped.
#[test]
fn home_again_the_mirror_takes_up_as_before() {
    let mut pair = promoted("round");
    append(&pair.source, "round", 0, "alone-", 0, 3);
    append(&pair.target, "round", 0, "standby-", 0, 5);
    pair.begin(0);
    let mut expected = [numbered("", 0, 10), numbered("alone-", 0, 3), numbered("standby-", 0, 5)].concat();
    pair.comes_home(&expected);
    let waits = pair.mirror.json(&["failback", "--yes"], 0);
    assert_eq!(waits["stage"], "returning", "{waits}");
    pair.switch();
    append(&pair.source, "round", 0, "home-", 0, 4);
    let refused = pair.mirror.output(&["failback"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    let taken = pair.begin(0);
    assert_eq!(taken["partitions"][0]["alone_to"], Value::Null, "{taken}");
    pair.mirror.start();
    let mut standby = [numbered("", 0, 10), numbered("standby-", 0, 5), numbered("home-", 0, 4)].concat();
    pair.await_values(0, &standby);
    pair.mirror.await_caught_up(1);
    pair.assert_mapped(0);
    let tail = pair.mirror.translate("round", 0, 11, &[]);
    assert_eq!(tail.1.as_deref(), Some("divergence"));
    pair.mirror.stop();

    promote(&pair);
    append(&pair.target, "round", 0, "again-", 0, 2);
    pair.begin(0);
    expected.extend([numbered("home-", 0, 4), numbered("again-", 0, 2)].concat());
    pair.comes_home(&expected);
    pair.assert_mapped_home();
    pair.switch();
    pair.begin(0);
    append(&pair.source, "round", 0, "last-", 0, 1);
    pair.mirror.start();
    standby.extend([numbered("again-", 0, 2), numbered("last-", 0, 1)].concat());
    pair.await_values(0, &standby);
    pair.mirror.stop();
}

#[test]
fn what_was_written_to_the_standby_after_the_switch_is_told() {
    let mut pair = promoted("late");
    pair.begin(0);
    pair.comes_home(&numbered("", 0, 10));
    pair.switch();
    append(&pair.target, "late", 0, "late-", 0, 2);
    let taken = pair.begin(3);
    assert!(taken["partitions"][0]["alone_to"].as_i64().is_some(), "{taken}");
}
