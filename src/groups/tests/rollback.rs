use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::groups::{
    Ledger, Options, Overwrite, Planner, RollbackDecision, SNAPSHOT_VERSION, Snapshot, SnapshotError, Step, TopicView,
    Views, rollback,
};

type Targets = BTreeMap<String, TargetGroup>;

/// Plans the source's offsets over these targets, keeps what stood there, and carries it out.
fn write(snapshot: &mut Snapshot, targets: &mut Targets, group: &str, entries: &[(&str, i32, i64)]) {
    let map = plain(100);
    let partitions = (0..3).map(|partition| (partition, view(&map, 100))).collect();
    let views = Views::from([("a".to_owned(), TopicView { target_topic: "a".to_owned(), partitions })]);
    let (ledger, source) = (Ledger::default(), source(entries));
    let options = Options { refresh_ms: 1, overwrite: Overwrite::All };
    let before = targets.get(group).cloned();
    let plan = Planner::new(&views, &ledger, options, 0).group(group, &source, before.as_ref());
    snapshot.add(&plan, before.as_ref());
    let there = targets.entry(group.to_owned()).or_insert_with(|| target(&[]));
    for commit in plan.commits() {
        there.offsets.insert(commit.topic, commit.partition, at(commit.offset));
    }
}

/// Carries a rollback out; the answer is how much was written.
fn roll_back(snapshot: &Snapshot, targets: &mut Targets, force: bool) -> usize {
    let plans: Vec<_> = rollback(snapshot, targets, force).collect();
    let mut written = 0;
    for plan in plans {
        let RollbackDecision::Planned { lines } = plan.decision else { continue };
        let there = targets.entry(plan.group.to_owned()).or_insert_with(|| target(&[]));
        for line in lines {
            written += usize::from(matches!(line.step, Step::Commit { .. } | Step::Delete));
            match line.step {
                Step::Commit { to } => drop(there.offsets.insert(line.topic, line.partition, to.clone())),
                Step::Delete => drop(there.offsets.remove(line.topic, line.partition)),
                Step::Unchanged | Step::LeftAlone => {}
            }
        }
    }
    written
}

fn steps<'a>(snapshot: &'a Snapshot, targets: &Targets, force: bool) -> Vec<Step<'a>> {
    let plans = rollback(snapshot, targets, force);
    let lines = plans.flat_map(|plan| match plan.decision {
        RollbackDecision::Planned { lines } => lines,
        RollbackDecision::LeftAlone => Vec::new(),
    });
    lines.map(|line| line.step).collect()
}

#[test]
fn former_offsets_come_back_and_new_ones_go() {
    let mut snapshot = Snapshot::new("m", "cluster", 5);
    let mut targets = Targets::from([("g".to_owned(), target(&[("a", 0, 3), ("a", 2, 9)]))]);
    let before = targets.clone();
    write(&mut snapshot, &mut targets, "g", &[("a", 0, 7), ("a", 1, 8)]);
    assert_eq!(targets["g"].offsets, offsets(&[("a", 0, 7), ("a", 1, 8), ("a", 2, 9)]));
    let three = at(3);
    assert_eq!(steps(&snapshot, &targets, false), [Step::Commit { to: &three }, Step::Delete]);
    assert_eq!(roll_back(&snapshot, &mut targets, false), 2);
    assert_eq!(targets, before);
    assert_eq!(steps(&snapshot, &targets, false), [Step::Unchanged, Step::Unchanged]);
}

#[test]
fn a_plan_made_anew_does_not_replace_what_stood_there_first() {
    let mut snapshot = Snapshot::new("m", "cluster", 5);
    let mut targets = Targets::from([("g".to_owned(), target(&[("a", 0, 3)]))]);
    let before = targets.clone();
    for offset in [7, 8, 8, 9] {
        write(&mut snapshot, &mut targets, "g", &[("a", 0, offset)]);
    }
    let (_, kept) = snapshot.groups().next().unwrap();
    assert_eq!(kept.get("a", 0).unwrap().wrote, [7, 8, 9]);
    // The last one was not carried out.
    targets.insert("g".to_owned(), target(&[("a", 0, 8)]));
    roll_back(&snapshot, &mut targets, false);
    assert_eq!(targets, before);
}

#[test]
fn a_group_that_was_used_since_is_left_alone_unless_forced() {
    let mut snapshot = Snapshot::new("m", "cluster", 5);
    let mut targets = Targets::from([("g".to_owned(), target(&[("a", 0, 3)]))]);
    write(&mut snapshot, &mut targets, "g", &[("a", 0, 7), ("a", 1, 7)]);
    targets.insert("g".to_owned(), target(&[("a", 0, 12), ("a", 1, 13)]));
    assert_eq!(steps(&snapshot, &targets, false), [Step::LeftAlone, Step::LeftAlone]);
    let three = at(3);
    assert_eq!(steps(&snapshot, &targets, true), [Step::Commit { to: &three }, Step::Delete]);
    for (live, kind) in [(true, GroupType::Consumer), (false, GroupType::Share)] {
        targets.insert("g".to_owned(), TargetGroup { live, kind, ..target(&[("a", 0, 7)]) });
        let decisions: Vec<_> = rollback(&snapshot, &targets, true).map(|plan| plan.decision).collect();
        assert_eq!(decisions, [RollbackDecision::LeftAlone]);
    }
}

#[test]
fn what_is_gone_since_is_written_again_and_metadata_count() {
    let mut snapshot = Snapshot::new("m", "cluster", 5);
    let noted = Committed { metadata: "m".to_owned(), leader_epoch: 4, ..at(7) };
    let mut targets = Targets::from([("g".to_owned(), target(&[]))]);
    targets.get_mut("g").unwrap().offsets.insert("a", 0, noted.clone());
    write(&mut snapshot, &mut targets, "g", &[("a", 0, 7), ("a", 1, 7)]);
    assert_eq!(steps(&snapshot, &targets, false), [Step::Commit { to: &noted }, Step::Delete]);
    targets.clear();
    assert_eq!(steps(&snapshot, &targets, false), [Step::Commit { to: &noted }, Step::Unchanged]);
}

#[test]
fn the_document_comes_back_as_it_was() {
    let mut snapshot = Snapshot::new("m", "cluster", 5);
    let mut targets = Targets::from([("g".to_owned(), target(&[("a", 0, 3)]))]);
    write(&mut snapshot, &mut targets, "g", &[("a", 0, 7), ("a", 1, 8)]);
    let text = snapshot.to_json().unwrap();
    assert_eq!(Snapshot::from_json(&text), Ok(snapshot));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let want = serde_json::json!({
        "schema_version": 1, "mirror": "m", "cluster_id": "cluster", "taken_at_ms": 5,
        "groups": { "g": { "a": {
            "0": { "before": { "offset": 3, "leader_epoch": -1, "metadata": "" }, "wrote": [7] },
            "1": { "before": null, "wrote": [8] },
        } } },
    });
    assert_eq!(json, want);
}

#[test]
fn another_document_or_version_is_refused() {
    let newer = format!(r#"{{"schema_version": {}, "unheard": "of"}}"#, SNAPSHOT_VERSION + 1);
    assert_eq!(Snapshot::from_json(&newer), Err(SnapshotError::Version { version: 2 }));
    for text in ["", "{}", "[]", r#"{"schema_version": 1}"#, r#"{"schema_version": "1"}"#] {
        assert!(matches!(Snapshot::from_json(text), Err(SnapshotError::Damaged { .. })), "{text}");
    }
}

fn entries() -> impl Strategy<Value = Vec<(i32, i64)>> {
    proptest::collection::vec((0..3, 0i64..100), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_written_in_how_many_goes_a_rollback_undoes_it(
        before in entries(), goes in proptest::collection::vec((0..2, entries()), 0..6),
    ) {
        let with_topic = |entries: &[(i32, i64)]| -> Vec<(&str, i32, i64)> {
            entries.iter().map(|(partition, offset)| ("a", *partition, *offset)).collect()
        };
        let mut targets: Targets = ["g0", "g1"].map(|g| (g.to_owned(), target(&with_topic(&before)))).into();
        let former = targets.clone();
        let mut snapshot = Snapshot::new("m", "cluster", 0);
        for (group, entries) in goes {
            write(&mut snapshot, &mut targets, &format!("g{group}"), &with_topic(&entries));
        }
        roll_back(&snapshot, &mut targets, false);
        prop_assert_eq!(&targets, &former);
        prop_assert_eq!(roll_back(&snapshot, &mut targets, false), 0);
        let again = Snapshot::from_json(&snapshot.to_json().unwrap()).unwrap();
        prop_assert_eq!(roll_back(&again, &mut targets, true), 0);
    }
}
