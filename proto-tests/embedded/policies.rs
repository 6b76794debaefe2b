//! Each policy under `on:`, and the command that ends the halt where it says `halt`.

use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

fn recreate_source(pair: &Pair) {
    assert!(pair.source.delete_topic(&pair.topic));
    pair.source.create_topic(&pair.topic, 1, 1, &[]).unwrap();
    append(&pair.source, &pair.topic, 0, "new-", 0, 5);
}

fn both_topics() -> Vec<String> {
    [numbered("", 0, 10), numbered("new-", 0, 5)].concat()
}

#[test]
fn a_recreated_source_topic_halts_and_is_mirrored_behind_the_old_one_on_resume() {
    let pair = Pair::mirrored("recreated-halt", "");
    recreate_source(&pair);
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("source_recreated: "), "{reason}");
    pair.obey(&command);
    pair.ends_with(&both_topics());
}

#[test]
fn a_source_topic_that_was_recreated_while_nobody_looked_halts_too() {
    let mut pair = Pair::mirrored("recreated-meanwhile", "");
    pair.mirror.stop();
    recreate_source(&pair);
    pair.mirror.start();
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("source_recreated: "), "{reason}");
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
    pair.mirror.stop();
    // Said while nobody runs: the next start heeds it.
    pair.obey(&command);
    pair.mirror.start();
    pair.ends_with(&both_topics());
}

#[test]
fn a_recreated_source_topic_is_followed_where_the_policy_says_so() {
    let mut pair = Pair::mirrored("recreated-continue", "    on: { source_recreated: continue }\n");
    recreate_source(&pair);
    pair.await_values(0, &both_topics());
    pair.mirror.kill();
    append(&pair.source, &pair.topic, 0, "newer-", 0, 3);
    pair.mirror.start();
    pair.ends_with(&[both_topics(), numbered("newer-", 0, 3)].concat());
}

/// The source loses its records from 10 on, and gets others there under a new leader.
fn truncate_source(pair: &Pair) {
    assert_eq!(pair.source.truncate(&pair.topic, 0, 10).unwrap(), 10);
    pair.source.move_leader(&pair.topic, 0, 2).unwrap();
    append(&pair.source, &pair.topic, 0, "other-", 0, 12);
}

fn before_truncation(topic: &str, more: &str) -> Pair {
    let pair = Pair::mirrored(topic, more);
    pair.write(0, 10, 15);
    pair.await_values(0, &numbered("", 0, 15));
    pair
}

/// What the source lost stays on the target, in front of what it has instead.
fn both_branches() -> Vec<String> {
    [numbered("", 0, 15), numbered("other-", 0, 12)].concat()
}

#[test]
fn a_truncated_source_halts_until_the_divergence_is_accepted() {
    let pair = before_truncation("truncated-halt", "");
    truncate_source(&pair);
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("truncation at source offsets [10, 15): "), "{reason}");
    assert!(!reason.contains("further down"), "{reason}");
    assert!(command.ends_with(&["--accept-loss".to_owned(), "10..15".to_owned()]), "{command:?}");
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 15));
    pair.obey(&command);
    pair.ends_with(&both_branches());
}

#[test]
fn a_source_that_was_truncated_while_nobody_looked_halts_too() {
    let mut pair = before_truncation("truncated-meanwhile", "");
    pair.mirror.kill();
    truncate_source(&pair);
    pair.mirror.start();
    let (reason, _) = pair.await_halt();
    assert!(reason.starts_with("truncation at source offsets [10, 15): "), "{reason}");
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 15));
    pair.mirror.stop();
}

/// Retention has passed the place where the branches parted: the leader can only name its first offset.
#[test]
fn a_truncation_that_retention_has_passed_says_that_more_may_be_lost() {
    let mut pair = before_truncation("truncated-hidden", "");
    pair.mirror.kill();
    truncate_source(&pair);
    pair.source.delete_before(&pair.topic, 0, 12).unwrap();
    pair.mirror.start();
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("truncation at source offsets [12, 15): "), "{reason}");
    assert!(reason.contains("it may have been truncated further down"), "{reason}");
    pair.obey(&command);
    pair.await_values(0, &[numbered("", 0, 15), numbered("other-", 2, 12)].concat());
    pair.mirror.stop();
}

#[test]
fn a_truncated_source_is_followed_where_the_policy_says_so() {
    let mut pair = before_truncation("truncated-continue", "    on: { truncation: continue }\n");
    truncate_source(&pair);
    pair.await_values(0, &both_branches());
    pair.mirror.kill();
    append(&pair.source, &pair.topic, 0, "last-", 0, 3);
    pair.mirror.start();
    pair.ends_with(&[both_branches(), numbered("last-", 0, 3)].concat());
}

#[test]
fn a_target_topic_made_anew_halts_and_is_filled_anew_on_resume() {
    let pair = Pair::mirrored("target-recreated", "");
    assert!(pair.target.delete_topic(&pair.topic));
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("target_recreated: "), "{reason}");
    pair.obey(&command);
    pair.await_values(0, &numbered("", 0, 10));
    pair.write(0, 10, 12);
    pair.ends_with(&numbered("", 0, 12));
}

#[test]
fn foreign_records_halt_and_stay_where_they_are_on_resume() {
    let pair = Pair::mirrored("foreign-halt", "");
    append(&pair.target, &pair.topic, 0, "foreign-", 0, 3);
    pair.write(0, 10, 12);
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("foreign_records: "), "{reason}");
    pair.obey(&command);
    pair.write(0, 12, 14);
    let expected = [numbered("", 0, 10), numbered("foreign-", 0, 3), numbered("", 10, 14)].concat();
    pair.ends_with(&expected);
}

#[test]
fn foreign_records_are_passed_over_where_the_policy_says_so() {
    let pair = Pair::mirrored("foreign-continue", "    on: { foreign_records: continue }\n");
    append(&pair.target, &pair.topic, 0, "foreign-", 0, 3);
    pair.write(0, 10, 12);
    let expected = [numbered("", 0, 10), numbered("foreign-", 0, 3), numbered("", 10, 12)].concat();
    pair.await_values(0, &expected);
    // The partition was attached anew at the offset that it had been asked for: answers must count again.
    pair.write(0, 12, 14);
    pair.ends_with(&[expected, numbered("", 12, 14)].concat());
}

/// A crash right behind the acceptance: what lies below the divergence must not be taken for the end of the new branch.
#[test]
fn a_crash_behind_an_accepted_divergence_goes_on_there() {
    let mut pair = before_truncation("truncated-crash", "    on: { truncation: continue }\n");
    assert_eq!(pair.source.truncate(&pair.topic, 0, 10).unwrap(), 10);
    pair.source.move_leader(&pair.topic, 0, 2).unwrap();
    wait_until("the divergence to be seen", LIMIT, || {
        let row = pair.mirror.row(&pair.topic, 0)?;
        if row["mirrored_to"] == 10 { Ok(()) } else { Err(row.to_string()) }
    });
    pair.mirror.kill();
    append(&pair.source, &pair.topic, 0, "other-", 0, 12);
    pair.mirror.start();
    pair.ends_with(&both_branches());
}

#[test]
fn a_word_to_the_whole_mirror_frees_no_halted_partition() {
    let mut pair = Pair::mirrored("resume-all", "");
    recreate_source(&pair);
    let (_, command) = pair.await_halt();
    for word in ["pause", "resume"] {
        assert_eq!(pair.mirror.output(&[word]).status.code(), Some(0));
    }
    pair.mirror.stop();
    pair.mirror.start();
    pair.await_halt();
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
    pair.obey(&command);
    pair.await_values(0, &both_topics());
    pair.mirror.stop();
}
