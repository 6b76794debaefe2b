use proptest::prelude::*;

use super::super::{Load, Subscription};
use super::*;

fn member(id: &str, held: &[(u32, u64)]) -> Member {
    let held = held.iter().map(|(shard, bytes)| (*shard, Load { bytes_per_second: *bytes, ..Load::default() }));
    let said = Subscription {
        generation: 1,
        held: held.collect(),
        ..Subscription::from_bytes(br#"{"host":"h","shard_count":0}"#).unwrap()
    };
    Member { id: id.to_owned(), said }
}

fn shards(targets: &BTreeMap<String, Target>, id: &str) -> Vec<u32> {
    targets[id].shards.keys().copied().collect()
}

fn assigned(count: u32, members: &[Member]) -> BTreeMap<String, Target> {
    assign(count, members, &BTreeMap::new())
}

/// Members as they are once they have taken what they were told to.
fn after(members: &[Member], targets: &BTreeMap<String, Target>, load: impl Fn(u32) -> Load) -> Vec<Member> {
    let taken = members.iter().map(|member| {
        let target = &targets[&member.id];
        let held = target.shards.keys().map(|shard| (*shard, load(*shard))).collect();
        let said = Subscription {
            held,
            generation: member.said.generation + 1,
            elected: target.elected,
            ..member.said.clone()
        };
        Member { id: member.id.clone(), said }
    });
    taken.collect()
}

#[test]
fn the_first_member_owns_everything_and_is_elected() {
    let targets = assigned(16, &[member("a", &[])]);
    assert_eq!(targets["a"].shards, (0..16).map(|shard| (shard, Origin::Free)).collect());
    assert!(targets["a"].elected);
}

#[test]
fn a_second_one_gets_half_and_the_rest_stays() {
    let held: Vec<(u32, u64)> = (0..16).map(|shard| (shard, 1_000)).collect();
    let targets = assigned(16, &[member("a", &held), member("b", &[])]);
    assert_eq!((targets["a"].shards.len(), targets["b"].shards.len()), (8, 8));
    assert!(targets["a"].shards.values().all(|origin| *origin == Origin::Kept));
    assert!(targets["b"].shards.values().all(|origin| *origin == Origin::Member));
}

#[test]
fn it_is_load_that_counts() {
    let mut held: Vec<(u32, u64)> = (1..9).map(|shard| (shard, 1_000_000)).collect();
    held.push((0, 8_000_000));
    let targets = assigned(9, &[member("a", &held), member("b", &[])]);
    assert_eq!(shards(&targets, "b"), [0], "one move halves it");
}

#[test]
fn what_a_dead_member_had_is_shared_and_nothing_else_moves() {
    let members = [member("a", &[(0, 9), (1, 9)]), member("b", &[(2, 9), (3, 9)])];
    let targets = assigned(6, &members);
    assert_eq!((shards(&targets, "a").len(), shards(&targets, "b").len()), (3, 3));
    for (id, kept) in [("a", [0, 1]), ("b", [2, 3])] {
        assert!(kept.iter().all(|shard| targets[id].shards[shard] == Origin::Kept));
    }
}

#[test]
fn of_two_that_claim_a_shard_the_newer_generation_owns_it() {
    let stale = member("a", &[(0, 9), (1, 9)]);
    let mut owner = member("b", &[(0, 9), (1, 9)]);
    owner.said.generation = 5;
    let targets = assigned(2, &[stale, owner]);
    assert_eq!(targets["b"].shards.get(&0), Some(&Origin::Kept));
    assert_eq!(targets["a"].shards.get(&1), Some(&Origin::Member), "its share, from the owner");
}

#[test]
fn what_was_on_its_way_still_goes_there() {
    let mut to = member("b", &[]);
    to.said.awaited = [3].into();
    let members = [member("a", &[(0, 9), (1, 9)]), to, member("c", &[(2, 9)])];
    assert_eq!(assigned(4, &members)["b"].shards.get(&3), Some(&Origin::Free));
}

#[test]
fn who_leaves_gives_everything_away_but_to_nobody() {
    let mut leaving = member("a", &[(0, 9), (1, 9)]);
    leaving.said.draining = true;
    leaving.said.elected = true;
    let targets = assigned(2, &[leaving.clone(), member("b", &[])]);
    assert!(targets["a"].shards.is_empty() && !targets["a"].elected);
    assert_eq!(targets["b"].shards, [(0, Origin::Member), (1, Origin::Member)].into());
    let alone = assigned(2, &[leaving]);
    assert_eq!(alone["a"].shards, [(0, Origin::Kept), (1, Origin::Kept)].into());
}

fn reading(version: u32, id: &str, held: &[(u32, u64)]) -> Member {
    let mut member = member(id, held);
    member.said.state_version = version;
    member
}

/// As in a rolling upgrade: a newer one comes, an older one restarts beside it, a newer one leaves.
#[test]
fn no_shard_goes_to_one_that_may_not_be_able_to_read_it() {
    let all: Vec<(u32, u64)> = (0..16).map(|shard| (shard, 1_000)).collect();
    let targets = assigned(16, &[reading(1, "old", &all), reading(2, "new", &[])]);
    assert_eq!((targets["old"].shards.len(), targets["new"].shards.len()), (8, 8), "an older one keeps its own");
    let targets = assigned(16, &[reading(1, "old", &[]), reading(2, "new", &all)]);
    assert_eq!((targets["old"].shards.len(), targets["new"].shards.len()), (0, 16));
    // What nobody owns may be the newer one's writing.
    let targets = assigned(16, &[reading(1, "old", &all[..4]), reading(2, "new", &all[4..8])]);
    assert_eq!((shards(&targets, "old"), targets["new"].shards.len()), (vec![0, 1, 2, 3], 12));
    // Even where it was on its way there.
    let mut awaiting = reading(1, "old", &all[..4]);
    awaiting.said.awaited = [9].into();
    assert!(assigned(16, &[awaiting, reading(2, "new", &all[4..8])])["new"].shards.contains_key(&9));
    // Who reads it is gone: whoever is left finds out by itself.
    let mut leaving = reading(2, "new", &all);
    leaving.said.draining = true;
    assert_eq!(assigned(16, &[leaving, reading(1, "old", &[])])["old"].shards.len(), 16);
}

#[test]
fn other_mirrors_count() {
    let mut busy = member("a", &[]);
    busy.said.elsewhere = 1 << 30;
    assert_eq!(shards(&assigned(4, &[busy, member("b", &[])]), "b"), [0, 1, 2, 3]);
}

#[test]
fn a_shard_without_owner_weighs_what_it_did() {
    let remembered = [(0, 10_000_000), (1, 100_000), (2, 100_000), (3, 100_000)].into();
    let targets = assign(4, &[member("a", &[]), member("b", &[])], &remembered);
    assert_eq!((shards(&targets, "a"), shards(&targets, "b")), (vec![0], vec![1, 2, 3]));
}

#[test]
fn the_elected_one_stays_and_is_followed_by_another() {
    let mut second = member("b", &[]);
    second.said.elected = true;
    let members = [member("a", &[]), second, member("c", &[])];
    assert!(assigned(3, &members)["b"].elected);
    assert!(assigned(3, &[members[0].clone(), members[2].clone()])["a"].elected);
}

#[test]
fn small_changes_of_load_move_nothing() {
    let held = |from: u32, bytes| (from..from + 10).map(|shard| (shard, bytes)).collect::<Vec<_>>();
    let members = [member("a", &held(0, 115_000)), member("b", &held(10, 100_000))];
    let targets = assigned(20, &members);
    assert!(targets.values().all(|target| target.shards.values().all(|origin| *origin == Origin::Kept)));
    let members = [member("a", &held(0, 300_000)), member("b", &held(10, 100_000))];
    assert!(shards(&assigned(20, &members), "b").len() > 10);
}

fn loads() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0_u64), 0_u64..1_000, 0_u64..50_000_000], 1..80)
}

/// Members with shards at random, some of which claim the same.
fn fleets() -> impl Strategy<Value = (u32, Vec<Member>)> {
    loads().prop_flat_map(|loads| {
        let count = loads.len() as u32;
        let one = (proptest::collection::vec(any::<bool>(), loads.len()), 0..5, 50_u32..200, 0_u8..8, 0_u64..1_000_000);
        let one = one.prop_map(move |(holds, generation, weight, dice, elsewhere)| {
            let held: Vec<(u32, u64)> =
                (0..count).zip(&loads).zip(&holds).filter(|(_, holds)| **holds).map(|((s, l), _)| (s, *l)).collect();
            let mut member = member("", &held);
            member.said =
                Subscription { generation, weight, elsewhere, draining: dice == 0, elected: dice == 1, ..member.said };
            member
        });
        proptest::collection::vec(one, 1..9).prop_map(move |members| {
            let named = members.into_iter().enumerate();
            (count, named.map(|(i, member)| Member { id: format!("m{i}"), ..member }).collect())
        })
    })
}

proptest! {
    #[test]
    fn every_shard_has_one_owner_and_the_load_is_within_its_bound((count, members) in fleets()) {
        let targets = assigned(count, &members);
        let mut seen: Vec<u32> = targets.values().flat_map(|target| target.shards.keys().copied()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
        prop_assert_eq!(targets.values().filter(|target| target.elected).count(), 1);

        let sorted: Vec<&Member> = members.iter().collect();
        let owners = owners(count, &sorted);
        let costs = costs(count, &sorted, &owners, &BTreeMap::new());
        let all_leave = members.iter().all(|m| m.said.draining);
        let takers: Vec<&Member> = members.iter().filter(|m| all_leave || !m.said.draining).collect();
        let load = |m: &Member| {
            let own: u64 = targets[&m.id].shards.keys().map(|shard| costs[*shard as usize]).sum();
            (m.said.elsewhere + own) * SCALE / u64::from(m.said.weight)
        };
        let weights: u64 = takers.iter().map(|m| u64::from(m.said.weight)).sum();
        let all: u64 = takers.iter().map(|m| m.said.elsewhere).sum::<u64>() + costs.iter().sum::<u64>();
        let mean = all * SCALE / weights;
        for m in &takers {
            let lightest = targets[&m.id].shards.keys().map(|shard| costs[*shard as usize]).min();
            let within = load(m) <= mean * HEAVY_PERCENT / 100 + 1;
            // Or not even its lightest shard would be better off with whoever has the least.
            let stuck = lightest.is_none_or(|cost| {
                let others = takers.iter().filter(|t| t.id != m.id);
                others.map(|t| load(t) + cost * SCALE / u64::from(t.said.weight) + 1).all(|after| load(m) <= after)
            });
            prop_assert!(within || stuck, "{} has {} of {mean}", m.id, load(m));
        }
    }

    #[test]
    fn the_order_of_members_says_nothing((count, members) in fleets()) {
        let turned: Vec<Member> = members.iter().rev().cloned().collect();
        prop_assert_eq!(assigned(count, &members), assigned(count, &turned));
    }

    #[test]
    fn once_all_is_taken_nothing_moves_any_more((count, members) in fleets(), loads in loads()) {
        let load = |shard: u32| Load { bytes_per_second: loads[shard as usize % loads.len()], ..Load::default() };
        let mut members = members;
        // Loads are known from here on; the second time there is nothing to do.
        for _ in 0..2 {
            members = after(&members, &assigned(count, &members), load);
        }
        let again = assigned(count, &members);
        let moved = again.values().flat_map(|target| target.shards.values()).filter(|o| **o != Origin::Kept).count();
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn who_comes_takes_and_who_goes_gives_and_nobody_else(count in 40_u32..200, size in 2_usize..6) {
        let load = |_| Load { bytes_per_second: 100_000, ..Load::default() };
        let named = |size: usize| (0..size).map(|i| member(&format!("m{i}"), &[])).collect::<Vec<_>>();
        let fleet = named(size);
        let fleet = after(&fleet, &assigned(count, &fleet), load);
        let mut grown = fleet.clone();
        grown.push(member("new", &[]));
        let targets = assigned(count, &grown);
        let moved: Vec<(&String, u32)> = targets.iter().flat_map(|(id, target)| {
            target.shards.iter().filter(|(_, origin)| **origin != Origin::Kept).map(move |(shard, _)| (id, *shard))
        }).collect();
        prop_assert!(moved.iter().all(|(id, _)| *id == "new"));
        prop_assert!(moved.len() <= (count as usize).div_ceil(size + 1), "{} of {count} moved", moved.len());

        let gone: Vec<Member> = fleet[1..].to_vec();
        let targets = assigned(count, &gone);
        let moved = targets.values().flat_map(|t| t.shards.values()).filter(|o| **o != Origin::Kept).count();
        prop_assert_eq!(moved, fleet[0].said.held.len());
    }
}

/// Members may say anything of their load.
#[test]
fn loads_at_the_end_of_all_numbers_share_out_every_shard() {
    let all = [(0, u64::MAX), (1, u64::MAX), (2, 1)];
    let mut members = [member("a", &all), member("b", &[]), member("c", &[])];
    members[1].said.elsewhere = u64::MAX;
    for count in [3, 8] {
        let targets = assigned(count, &members);
        let mut given: Vec<u32> = targets.values().flat_map(|target| target.shards.keys().copied()).collect();
        given.sort_unstable();
        assert_eq!(given, (0..count).collect::<Vec<_>>());
    }
}
