use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::groups::{
    Basis, Decision, Gone, GroupPlan, Ledger, Line, Options, Outcome, Overwrite, Planner, Skip, TopicView, Totals,
    Untranslatable, Views, Why,
};

const HOUR_MS: i64 = 3_600_000;
const NOW_MS: i64 = 1_000 * HOUR_MS;

fn options(overwrite: Overwrite) -> Options {
    Options { refresh_ms: 24 * HOUR_MS, overwrite }
}

/// Topic `a` as `dr.a`, partitions 0 and 1, with the same offsets on both sides.
fn views(map: &OffsetMap, end: i64) -> Views<'_> {
    let partitions = BTreeMap::from([(0, view(map, end)), (1, view(map, end))]);
    Views::from([("a".to_owned(), TopicView { target_topic: "dr.a".to_owned(), partitions })])
}

/// Both clusters' groups and what was written, as a caller keeps them.
struct World {
    map: OffsetMap,
    end: i64,
    sources: BTreeMap<String, SourceGroup>,
    targets: BTreeMap<String, TargetGroup>,
    ledger: Ledger,
    overwrite: Overwrite,
}

impl World {
    /// One group, `g`, and none on the target.
    fn new(entries: &[(&str, i32, i64)]) -> Self {
        let sources = BTreeMap::from([("g".to_owned(), source(entries))]);
        let targets = BTreeMap::new();
        Self { map: plain(100), end: 100, sources, targets, ledger: Ledger::default(), overwrite: Overwrite::Own }
    }

    /// And `g` on the target with these offsets, which the ledger knows nothing of.
    fn with_target(mut self, entries: &[(&str, i32, i64)]) -> Self {
        self.targets.insert("g".to_owned(), target(entries));
        self
    }

    /// And the ledger has it that they were written at this time.
    fn and_written(mut self, at_ms: i64) -> Self {
        for (topic, partition, found) in self.targets["g"].offsets.clone().iter() {
            self.ledger.restore("g", topic, partition, found.offset, at_ms);
        }
        self
    }

    fn commit(&mut self, partition: i32, offset: i64) {
        self.sources.get_mut("g").unwrap().offsets.insert("a", partition, at(offset));
    }

    /// Somebody else commits on the target.
    fn interfere(&mut self, partition: i32, offset: i64) {
        self.targets.get_mut("g").unwrap().offsets.insert("dr.a", partition, at(offset));
    }

    fn plan<R>(&self, now_ms: i64, look: impl FnOnce(Vec<GroupPlan<'_>>) -> R) -> R {
        let views = views(&self.map, self.end);
        let planner = Planner::new(&views, &self.ledger, options(self.overwrite), now_ms);
        look(planner.all(&self.sources, &self.targets, |group| !group.starts_with('x')).collect())
    }

    /// The outcome of the one partition of `g`.
    fn outcome(&self) -> Outcome {
        self.plan(NOW_MS, |plans| {
            let [Line { outcome, .. }] = plans[0].lines() else { panic!("{plans:?}") };
            *outcome
        })
    }

    fn why(&self) -> Option<Why> {
        match self.outcome() {
            Outcome::Commit { why, .. } => Some(why),
            _ => None,
        }
    }

    fn skipped(&self) -> Skip {
        self.plan(NOW_MS, |plans| match plans[0].decision {
            Decision::Skipped { why } => why,
            Decision::Planned { .. } => panic!("{plans:?}"),
        })
    }

    fn totals(&self, now_ms: i64) -> Totals {
        let mut totals = Totals::default();
        self.plan(now_ms, |plans| plans.iter().for_each(|plan| totals.add(plan)));
        totals
    }

    /// Plans and commits all that is to be, and says how much that was. Answers may get lost.
    fn apply(&mut self, now_ms: i64, answered: bool) -> usize {
        let commits: Vec<_> = self.plan(now_ms, |plans| {
            let all = plans.iter().flat_map(|plan| plan.commits().map(|commit| (plan.group.to_owned(), commit)));
            all.map(|(group, c)| (group, c.topic.to_owned(), c.partition, c.found, c.offset, c.metadata.to_owned()))
                .collect()
        });
        for (group, topic, partition, found, offset, metadata) in &commits {
            self.ledger.sending(group, topic, *partition, *found, *offset);
            let group_there = self.targets.entry(group.clone()).or_insert_with(|| target(&[]));
            let committed = Committed { metadata: metadata.clone(), ..at(*offset) };
            group_there.offsets.insert(topic, *partition, committed);
            if answered {
                self.ledger.taken(group, topic, *partition, now_ms);
            }
        }
        commits.len()
    }
}

#[test]
fn a_group_that_the_target_does_not_know_gets_all_its_offsets() {
    let mut world = World::new(&[("a", 0, 7), ("a", 1, 0)]);
    world.sources.get_mut("g").unwrap().offsets.insert("a", 1, Committed { metadata: "m".to_owned(), ..at(100) });
    world.plan(NOW_MS, |plans| {
        let commits: Vec<_> =
            plans[0].commits().map(|c| (c.topic, c.partition, c.offset, c.metadata, c.found)).collect();
        assert_eq!(commits, [("dr.a", 0, 7, "", None), ("dr.a", 1, 100, "m", None)]);
    });
    assert_eq!(world.apply(NOW_MS, true), 2);
    assert_eq!(world.apply(NOW_MS, true), 0);
    assert_eq!(world.totals(NOW_MS), Totals { groups: 1, unchanged: 2, ..Totals::default() });
}

#[test]
fn only_what_changed_is_written_also_backwards_and_for_metadata_alone() {
    let world =
        |committed, there| World::new(&[("a", 0, committed)]).with_target(&[("dr.a", 0, there)]).and_written(NOW_MS);
    assert_eq!(world(7, 7).why(), None);
    assert!(matches!(world(7, 7).outcome(), Outcome::Unchanged { .. }));
    assert_eq!(world(8, 7).why(), Some(Why::Forward));
    assert_eq!(world(6, 7).why(), Some(Why::Back));
    let mut noted = world(7, 7);
    noted.sources.get_mut("g").unwrap().offsets.insert("a", 0, Committed { metadata: "m".to_owned(), ..at(7) });
    assert_eq!(noted.why(), Some(Why::Metadata));
}

#[test]
fn what_does_not_change_is_refreshed_before_it_expires() {
    let aged = |age_ms| World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 7)]).and_written(NOW_MS - age_ms);
    assert_eq!(aged(18 * HOUR_MS - 1).why(), None, "no earlier than after three quarters of the interval");
    assert_eq!(aged(24 * HOUR_MS).why(), Some(Why::Refresh));
    assert_eq!(aged(-HOUR_MS).why(), Some(Why::Refresh), "the clock went back: it may be of any age");
    let unknown = World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 7)]);
    assert_eq!(unknown.why(), Some(Why::Refresh), "the right one already, of unknown age");
    let counted = aged(24 * HOUR_MS).totals(NOW_MS);
    assert_eq!(counted, Totals { groups: 1, commits: 1, refreshes: 1, ..Totals::default() });
}

#[test]
fn refreshes_of_many_groups_are_spread() {
    let mut world = World::new(&[]);
    for number in 0..1000 {
        world.sources.insert(format!("g{number}"), source(&[("a", 0, 7)]));
    }
    assert_eq!(world.apply(NOW_MS, true), 1000);
    let due = |hours| world.totals(NOW_MS + hours * HOUR_MS).refreshes;
    assert_eq!((due(18), due(24)), (0, 1000));
    assert!((400..600).contains(&due(21)), "{}", due(21));
}

#[test]
fn somebody_elses_progress_is_left_alone_and_named() {
    let mut world = World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 7)]).and_written(NOW_MS);
    world.interfere(0, 30);
    world.commit(0, 9);
    let left_alone = |outcome| match outcome {
        Outcome::LeftAlone { to, found, written } => Some((to.offset, found, written)),
        _ => None,
    };
    assert_eq!(left_alone(world.outcome()), Some((9, 30, Some(7))));
    assert_eq!(world.apply(NOW_MS, true), 0);
    assert_eq!(world.totals(NOW_MS), Totals { groups: 1, left_alone: 1, ..Totals::default() });
    world.overwrite = Overwrite::Unused;
    assert_eq!(left_alone(world.outcome()), Some((9, 30, Some(7))), "it is known to be none of ours");
    world.overwrite = Overwrite::All;
    assert_eq!(world.why(), Some(Why::Back));
    // The source has come to where the user of the target is: then it is the right one, whoever wrote it.
    world.overwrite = Overwrite::Own;
    world.commit(0, 30);
    assert_eq!(world.why(), Some(Why::Refresh));
    world.apply(NOW_MS, true);
    world.commit(0, 31);
    assert_eq!(world.why(), Some(Why::Forward));
}

#[test]
fn what_the_ledger_does_not_know_is_overwritten_only_where_nobody_consumed() {
    let mut world = World::new(&[("a", 0, 9)]).with_target(&[("dr.a", 0, 30)]);
    assert!(matches!(world.outcome(), Outcome::LeftAlone { found: 30, written: None, .. }));
    world.overwrite = Overwrite::Unused;
    assert_eq!(world.why(), Some(Why::Back));
    world.targets.get_mut("g").unwrap().ever_joined = true;
    assert!(matches!(world.outcome(), Outcome::LeftAlone { .. }));
    world.overwrite = Overwrite::All;
    assert_eq!(world.why(), Some(Why::Back));
}

/// A time-out says nothing: the commit may have been taken, or not.
#[test]
fn a_commit_without_an_answer_is_ours_either_way() {
    let mut world = World::new(&[("a", 0, 7)]);
    world.apply(NOW_MS, false);
    world.commit(0, 8);
    assert_eq!(world.why(), Some(Why::Forward), "7 was taken");
    world.apply(NOW_MS, false);
    world.interfere(0, 7);
    world.commit(0, 9);
    assert_eq!(world.why(), Some(Why::Forward), "8 was not");
    world.apply(NOW_MS, true);
    world.interfere(0, 7);
    world.commit(0, 10);
    assert!(matches!(world.outcome(), Outcome::LeftAlone { found: 7, written: Some(9), .. }), "9 was taken for sure");
}

/// Told by the operator to overwrite a foreign value once, a mirror does not take it for its own.
#[test]
fn a_foreign_value_does_not_become_ours_by_being_overwritten() {
    let mut world = World::new(&[("a", 0, 9)]).with_target(&[("dr.a", 0, 30)]);
    world.overwrite = Overwrite::All;
    world.apply(NOW_MS, false);
    world.interfere(0, 30);
    world.overwrite = Overwrite::Own;
    assert!(matches!(world.outcome(), Outcome::LeftAlone { found: 30, .. }));
}

#[test]
fn an_offset_that_the_target_lost_is_written_again() {
    let mut world = World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 7)]).and_written(NOW_MS);
    world.targets.clear();
    assert_eq!(world.why(), Some(Why::New));
}

#[test]
fn groups_are_skipped_with_a_reason() {
    let world = || World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 3)]).and_written(NOW_MS);
    let mut live = world();
    live.targets.get_mut("g").unwrap().live = true;
    live.overwrite = Overwrite::All;
    assert_eq!(live.skipped(), Skip::LiveOnTarget);
    assert_eq!(live.apply(NOW_MS, true), 0);
    let mut kinds = world();
    let mut skipped = |source: GroupType, target: GroupType| {
        kinds.sources.get_mut("g").unwrap().kind = source;
        kinds.targets.get_mut("g").unwrap().kind = target;
        kinds.plan(NOW_MS, |plans| match plans[0].decision {
            Decision::Skipped { why } => Some(why),
            Decision::Planned { .. } => None,
        })
    };
    use GroupType::{Classic, Consumer, Share, Streams, Unknown};
    for plain in [(Classic, Classic), (Classic, Consumer), (Consumer, Classic), (Consumer, Consumer)] {
        assert_eq!(skipped(plain.0, plain.1), None);
    }
    assert_eq!((skipped(Streams, Classic), skipped(Streams, Streams)), (None, None));
    assert_eq!((skipped(Share, Share), skipped(Share, Classic)), (Some(Skip::ShareGroup), Some(Skip::ShareGroup)));
    assert_eq!(skipped(Unknown, Unknown), Some(Skip::UnknownType));
    for (source_kind, target_kind) in [(Classic, Share), (Consumer, Streams), (Streams, Consumer), (Classic, Unknown)] {
        assert_eq!(skipped(source_kind, target_kind), Some(Skip::TypeDiffers { source_kind, target_kind }));
    }
    let mut left_out = world();
    left_out.sources = BTreeMap::from([("xg".to_owned(), source(&[("a", 0, 7)]))]);
    assert_eq!(left_out.skipped(), Skip::NotSelected);
}

#[test]
fn what_the_source_has_no_more_is_told_and_stays() {
    let mut world =
        World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, 7), ("dr.a", 1, 5), ("b", 0, 1)]).and_written(NOW_MS);
    world.plan(NOW_MS, |plans| {
        let Decision::Planned { lines, gone } = &plans[0].decision else { panic!("{plans:?}") };
        assert_eq!(lines.len(), 1);
        // Topic b is not mirrored: what a group does there is no concern of the mirror.
        assert_eq!(gone[..], [Gone { target_topic: "dr.a", partition: 1, found: 5 }]);
    });
    assert_eq!(world.apply(NOW_MS, true), 0);
    world.sources.clear();
    assert_eq!(world.skipped(), Skip::GoneFromSource);
    world.targets.clear();
    world.plan(NOW_MS, |plans| assert!(plans.is_empty(), "gone from the target as well"));
}

#[test]
fn a_partition_without_a_translation_is_told_and_its_target_untouched() {
    let mut world = World::new(&[("a", 0, -1)]).with_target(&[("dr.a", 0, 4)]).and_written(0);
    assert_eq!(world.outcome(), Outcome::Untranslatable { why: Untranslatable::NoOffset });
    for (topic, partition, offset, why) in [
        ("b", 0, 3, Untranslatable::NotMirrored),
        ("a", 2, 3, Untranslatable::NotMirrored),
        ("b", 0, -1, Untranslatable::NoOffset),
    ] {
        world.sources.insert("g".to_owned(), source(&[(topic, partition, offset)]));
        assert_eq!(world.outcome(), Outcome::Untranslatable { why });
    }
    assert_eq!(world.apply(NOW_MS, true), 0);
    world.map = OffsetMap::default();
    world.sources.insert("g".to_owned(), source(&[("a", 0, 3)]));
    assert_eq!(world.outcome(), Outcome::Untranslatable { why: Untranslatable::NotBegun });
}

#[test]
fn a_group_ahead_of_the_mirror_follows_its_end() {
    let mut world = World::new(&[("a", 0, 90)]);
    for (end, offset, basis) in [
        (40, 40, Basis::NotMirroredYet { ahead: 50 }),
        (70, 70, Basis::NotMirroredYet { ahead: 20 }),
        (90, 90, Basis::CaughtUp),
        (95, 90, Basis::SameRecord),
    ] {
        world.end = end;
        world.plan(NOW_MS, |plans| match plans[0].lines()[0].outcome {
            Outcome::Commit { to, .. } | Outcome::Unchanged { to } => {
                assert_eq!((to.offset, to.basis), (offset, basis));
            }
            other => panic!("{other:?}"),
        });
        world.apply(NOW_MS, true);
    }
}

#[test]
fn a_negative_offset_on_the_target_is_none() {
    let world = World::new(&[("a", 0, 7)]).with_target(&[("dr.a", 0, -1)]);
    assert_eq!(world.why(), Some(Why::New));
}

#[test]
fn missing_records_are_added_up() {
    let mut world = World::new(&[("a", 0, 15), ("a", 1, 6)]);
    (world.map, world.end) = (with_a_loss(), 20);
    assert_eq!(world.totals(NOW_MS), Totals { groups: 1, commits: 2, missing: 20, ..Totals::default() });
}

#[test]
fn a_plan_is_written_as_json() {
    let world = World::new(&[("a", 0, 103), ("b", 0, 1)]);
    let json = world.plan(NOW_MS, |plans| serde_json::to_value(&plans[0]).unwrap());
    let translated = serde_json::json!({
        "offset": 100, "leader_epoch": -1, "basis": "not_mirrored_yet", "ahead": 3, "missing": 0, "missing_later": 0
    });
    let committed = |offset| serde_json::json!({ "offset": offset, "leader_epoch": -1, "metadata": "" });
    let want = serde_json::json!({
        "group": "g",
        "decision": "planned",
        "lines": [
            { "topic": "a", "target_topic": "dr.a", "partition": 0, "committed": committed(103), "found": null,
              "outcome": { "action": "commit", "to": translated, "why": "new" } },
            { "topic": "b", "target_topic": null, "partition": 0, "committed": committed(1), "found": null,
              "outcome": { "action": "untranslatable", "why": { "reason": "not_mirrored" } } },
        ],
        "gone": [],
    });
    assert_eq!(json, want);
}

#[derive(Debug, Clone)]
enum Move {
    /// The group commits on the source.
    Commit(i32, i64),
    /// The mirror goes on.
    Mirror(i64),
    /// Somebody commits on the target.
    Interfere(i32, i64),
    /// Offsets are translated, and the answers come or not.
    Apply(bool),
    Time(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..2, 0i64..120).prop_map(|(partition, offset)| Move::Commit(partition, offset)),
        2 => (1i64..30).prop_map(Move::Mirror),
        1 => (0..2, 0i64..100).prop_map(|(partition, offset)| Move::Interfere(partition, offset)),
        4 => any::<bool>().prop_map(Move::Apply),
        2 => (0..30 * HOUR_MS).prop_map(Move::Time),
    ];
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: a second plan writes nothing, what stands on the target is the translation or somebody else's and
    /// named so, and nothing of somebody else is ever overwritten by something different.
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(moves in moves()) {
        let mut world = World::new(&[("a", 0, 0), ("a", 1, 50)]).with_target(&[]);
        world.end = 0;
        let mut now_ms = NOW_MS;
        let mut foreign: BTreeMap<i32, i64> = BTreeMap::new();
        for step in moves {
            match step {
                Move::Commit(partition, offset) => world.commit(partition, offset),
                Move::Mirror(records) => world.end = (world.end + records).min(100),
                Move::Interfere(partition, offset) => {
                    let written = world.ledger.group("g").and_then(|written| written.get("dr.a", partition));
                    if written.is_none_or(|written| !written.may_be(offset)) {
                        world.interfere(partition, offset);
                        foreign.insert(partition, offset);
                    }
                }
                Move::Time(ms) => now_ms += ms,
                Move::Apply(answered) => {
                    world.apply(now_ms, answered);
                    let there = &world.targets["g"].offsets;
                    for partition in 0..2 {
                        let wanted = world.sources["g"].offsets.get("a", partition).unwrap().offset.min(world.end);
                        let found = there.get("dr.a", partition).map(|found| found.offset);
                        let theirs = foreign.get(&partition).copied();
                        prop_assert!(found == Some(theirs.unwrap_or(wanted)));
                        if theirs == Some(wanted) {
                            foreign.remove(&partition);
                        }
                    }
                    let again = world.totals(now_ms);
                    prop_assert_eq!(again.commits, if answered { 0 } else { again.refreshes }, "{:?}", again);
                }
            }
        }
        world.apply(now_ms, true);
        prop_assert_eq!(world.apply(now_ms, true), 0);
    }
}
