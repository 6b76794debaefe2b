//! What happens to the mirror's own records on the target.

use super::case::{Case, PARTITIONS, Pair};
use super::{Scenario, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{Produce, Transact, driver, wait_until};

pub(crate) const STATE: &[Scenario<Pair>] = &[
    Scenario::new("state_topic_deleted", state_topic_deleted),
    Scenario::new("state_topic_cut_off", state_topic_cut_off),
];

/// A flow with everything that makes offsets differ: kills, transactions, aborted ones. Stopped cleanly.
fn eventful(name: &str, pair: &Pair) -> Case {
    let mut case = Case::flowing(name, pair);
    for seed in 0..3 {
        case.mirror.kill();
        let produce = Produce { seed: 900 + seed, ..Produce::odd(name, 300) };
        let done = driver().transact(&pair.source.bootstrap(), &Transact { producers: 2, ..Transact::new(produce) });
        assert!(done.committed > 0 && done.aborted > 0, "{done:?}");
        case.counts(done.committed);
        case.mirror.start();
        case.await_more(&pair.target, 600);
    }
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    case
}

fn rebuild(case: &Case, args: &[&str], code: i32) -> serde_json::Value {
    case.mirror.json(&[&["state", "rebuild"], args].concat(), code)
}

fn count(report: &serde_json::Value, outcome: &str) -> usize {
    report["partitions"].as_array().expect("rows").iter().filter(|row| row["outcome"] == outcome).count()
}

/// Every partition halts; what the two logs tell brings every offset back.
fn state_topic_deleted(pair: &mut Pair) {
    let mut case = eventful("state_topic_deleted", pair);
    let (state, bootstrap) = ("__kmirror.state_topic_deleted".to_owned(), pair.target.bootstrap());
    driver().delete_topic(&bootstrap, &state);
    wait_until("the state topic to be gone", LIMIT, || {
        if driver().list_topics(&bootstrap).contains(&state) { Err("there".to_owned()) } else { Ok(()) }
    });
    case.mirror.start();
    for partition in 0..PARTITIONS {
        let command = case.await_halt(partition, "state_lost");
        assert_eq!(command[..2], ["state", "rebuild"]);
    }
    case.mirror.stop();
    let plan = rebuild(&case, &["--dry-run"], 0);
    assert_eq!(count(&plan, "rebuilt"), PARTITIONS as usize, "{plan}");
    rebuild(&case, &["--yes"], 0);
    case.mirror.start();
    case.write();
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Somebody deletes records of one shard's state: its partition halts, the others go on.
fn state_topic_cut_off(pair: &mut Pair) {
    let mut case = eventful("state_topic_cut_off", pair);
    let (state, bootstrap) = ("__kmirror.state_topic_cut_off".to_owned(), pair.target.bootstrap());
    let used = driver().offsets(&bootstrap, &[&state]).into_iter().filter(|row| row.partition < 16);
    let shard = used.max_by_key(|row| row.end).expect("shards");
    driver().delete_records(&bootstrap, &state, shard.partition, shard.end - 2);
    case.mirror.start();
    let halted = wait_until("a partition to halt", LIMIT, || {
        let rows = case.mirror.status()?;
        let halted = rows.iter().find(|row| row["state"] == "halted").cloned();
        halted.ok_or_else(|| format!("{rows:?}"))
    });
    assert!(halted["reason"].as_str().expect("text").starts_with("state_damaged"), "{halted}");
    case.write();
    case.await_more(&pair.target, 400);
    case.pause_writing();
    case.mirror.stop();
    let done = rebuild(&case, &["--yes"], 0);
    assert_eq!((count(&done, "rebuilt"), &done["kept"]), (1, &(PARTITIONS - 1).into()), "{done}");
    case.mirror.start();
    case.assert_whole(&pair.source, &pair.target);
}

#[test]
fn a_state_that_is_lost_is_found_again_in_the_logs() {
    run("a_state_that_is_lost_is_found_again_in_the_logs", STATE);
}
