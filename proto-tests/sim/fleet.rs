//! A fleet through a day: instances come, go and die, loads drift and jump, with the real assignment code. What moves at each change, and
//! how evenly the load lies; beside it what Kafka's own sticky assignor moves, which counts partitions and knows no load
//! (`fleet_next_to_kafkas_sticky_assignor`, in the full tier).

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use kmirror::plan::fleet::{HEAVY_PERCENT, Load, Member, Origin, Subscription, Target, assign};

use serde_json::json;

use crate::kafka::harness::{Tier, driver, tier};

/// Instances, partitions, shards, changes.
const SMALL: (usize, u32, u32, usize) = (12, 1_200, 128, 150);
const LARGE: (usize, u32, u32, usize) = (100, 100_000, 1_024, 400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Comes,
    Dies,
    Drains,
    Drifts,
    Jumps,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    changes: usize,
    shards_moved: usize,
    partitions_moved: usize,
    worst_moved: usize,
    /// What one instance had on average, at each change.
    fair_shards: usize,
}

struct World {
    rng: Rng,
    shard_count: u32,
    partitions: Vec<u32>,
    loads: Vec<Load>,
    members: Vec<Member>,
    remembered: BTreeMap<u32, u64>,
    generation: i32,
    born: usize,
    tallies: BTreeMap<Change, Tally>,
    /// Most that anybody had, in percent of the mean, after each change.
    heaviest: Vec<u64>,
}

impl World {
    fn new(seed: u64, (instances, partitions, shard_count, _): (usize, u32, u32, usize)) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut per_shard = vec![0; shard_count as usize];
        (0..partitions).for_each(|_| per_shard[rng.usize(0..shard_count as usize)] += 1);
        let mut world = Self {
            rng,
            shard_count,
            loads: vec![Load::default(); shard_count as usize],
            partitions: per_shard,
            members: Vec::new(),
            remembered: BTreeMap::new(),
            generation: 0,
            born: 0,
            tallies: BTreeMap::new(),
            heaviest: Vec::new(),
        };
        world.loads = (0..shard_count as usize).map(|shard| world.draw(shard)).collect();
        (0..instances).for_each(|_| world.come());
        world.share(None);
        world.share(None);
        world
    }

    /// Partitions differ by orders of magnitude; a shard is the sum of some of them.
    fn draw(&mut self, shard: usize) -> Load {
        let partitions = self.partitions[shard];
        let bytes_per_second = (0..partitions).map(|_| 1_000 << self.rng.u32(0..9)).sum();
        Load { bytes_per_second, backlog_records: 0, partitions }
    }

    fn come(&mut self) {
        self.born += 1;
        let said = Subscription::from_bytes(br#"{"host":"sim","shard_count":0}"#).unwrap();
        self.members.push(Member { id: format!("m{:04}", self.born), said });
    }

    fn happen(&mut self) {
        let many = self.members.len();
        let one = self.rng.usize(0..many);
        let change = match self.rng.u8(0..10) {
            0..2 => Change::Comes,
            2..4 if many > 2 => Change::Dies,
            4..5 if many > 2 => Change::Drains,
            5..9 => Change::Drifts,
            _ => Change::Jumps,
        };
        match change {
            Change::Comes => self.come(),
            Change::Dies => drop(self.members.remove(one)),
            Change::Drains => self.members[one].said.draining = true,
            Change::Drifts => {
                for shard in 0..self.loads.len() {
                    let percent = self.rng.u64(90..=110);
                    self.loads[shard].bytes_per_second = self.loads[shard].bytes_per_second * percent / 100;
                }
            }
            Change::Jumps => {
                let shard = self.rng.usize(0..self.loads.len());
                self.loads[shard].bytes_per_second *= 8;
                self.loads[shard].backlog_records = self.rng.u64(0..1_000_000);
            }
        }
        self.share(Some(change));
    }

    fn share(&mut self, change: Option<Change>) {
        for member in &mut self.members {
            let held: Vec<u32> = member.said.held.keys().copied().collect();
            member.said.held = held.into_iter().map(|shard| (shard, self.loads[shard as usize])).collect();
        }
        let told = self.members.iter().flat_map(|member| &member.said.held);
        self.remembered.extend(told.map(|(shard, load)| (*shard, load.cost())));
        let targets = assign(self.shard_count, &self.members, &self.remembered);
        self.check(&targets);
        if let Some(change) = change {
            self.count(change, &targets);
        }
        self.generation += 1;
        self.members.retain(|member| !member.said.draining);
        for member in &mut self.members {
            let target = &targets[&member.id];
            let held = target.shards.keys().map(|shard| (*shard, self.loads[*shard as usize]));
            member.said = Subscription {
                held: held.collect(),
                elected: target.elected,
                generation: self.generation,
                ..member.said.clone()
            };
        }
    }

    /// One owner each, nothing moved without need, and nobody has more than its bound.
    fn check(&mut self, targets: &BTreeMap<String, Target>) {
        let owned: Vec<u32> = targets.values().flat_map(|target| target.shards.keys().copied()).collect();
        let different: BTreeSet<u32> = owned.iter().copied().collect();
        assert_eq!((owned.len(), different.len()), (self.shard_count as usize, self.shard_count as usize));
        assert_eq!(targets.values().filter(|target| target.elected).count(), 1);
        // Of shards that nobody has owned yet no load is known.
        if self.generation == 0 {
            return;
        }
        let cost = |shard: &u32| self.loads[*shard as usize].cost();
        let takers: Vec<&Member> = self.members.iter().filter(|member| !member.said.draining).collect();
        let loads: Vec<u64> = takers.iter().map(|m| targets[&m.id].shards.keys().map(cost).sum()).collect();
        let mean = loads.iter().sum::<u64>() / loads.len() as u64;
        let least = loads.iter().min().copied().unwrap();
        for (member, load) in takers.iter().zip(&loads) {
            let lightest = targets[&member.id].shards.keys().map(cost).min().unwrap_or(0);
            let bound = (mean * HEAVY_PERCENT / 100).max(least + lightest);
            assert!(*load <= bound + 1, "{} has {load}, mean {mean}, least {least}, lightest {lightest}", member.id);
        }
        self.heaviest.push(loads.iter().max().unwrap() * 100 / mean);
    }

    fn count(&mut self, change: Change, targets: &BTreeMap<String, Target>) {
        let all = targets.values().flat_map(|target| &target.shards);
        let moved: Vec<u32> = all.filter(|(_, origin)| **origin != Origin::Kept).map(|(shard, _)| *shard).collect();
        let tally = self.tallies.entry(change).or_default();
        tally.changes += 1;
        let instances = self.members.len() + usize::from(change == Change::Dies);
        tally.fair_shards += self.shard_count as usize / instances;
        tally.shards_moved += moved.len();
        tally.partitions_moved += moved.iter().map(|shard| self.partitions[*shard as usize] as usize).sum::<usize>();
        tally.worst_moved = tally.worst_moved.max(moved.len());
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for (change, tally) in &self.tallies {
            let mean = |sum: usize| sum as f64 / tally.changes as f64;
            text += &format!(
                "{change:?}: {} times, {:.1} shards ({:.0} partitions) moved on average, {} at most\n",
                tally.changes,
                mean(tally.shards_moved),
                mean(tally.partitions_moved),
                tally.worst_moved
            );
        }
        let mut heaviest = self.heaviest.clone();
        heaviest.sort_unstable();
        let at = |percent: usize| heaviest[(heaviest.len() - 1) * percent / 100];
        text + &format!(
            "the heaviest instance has {} % of the mean at the median, {} % at the worst\n",
            at(50),
            at(100)
        )
    }
}

fn a_day(seed: u64, size: (usize, u32, u32, usize)) -> World {
    let mut world = World::new(seed, size);
    (0..size.3).for_each(|_| world.happen());
    world
}

#[test]
fn a_fleet_moves_little_and_shares_evenly() {
    for seed in 0..8 {
        let world = a_day(seed, SMALL);
        let drifts = world.tallies[&Change::Drifts];
        let shards = world.shard_count as usize;
        assert!(
            drifts.shards_moved * 50 <= drifts.changes * shards,
            "seed {seed}: loads that drift move shards: {drifts:?}"
        );
        for change in [Change::Comes, Change::Dies, Change::Drains] {
            let tally = world.tallies[&change];
            // What the one that comes or goes has must move; the loads of the others may be put right with it.
            assert!(tally.shards_moved <= tally.fair_shards * 2, "seed {seed}: {change:?} {tally:?}");
        }
        if seed == 0 {
            eprintln!("{SMALL:?}:\n{}", world.report());
        }
    }
}

#[test]
fn a_large_fleet_moves_little_and_shares_evenly() {
    if tier() != Tier::Full {
        return;
    }
    let began = std::time::Instant::now();
    let world = a_day(1, LARGE);
    eprintln!("{LARGE:?} in {:?}:\n{}", began.elapsed(), world.report());
    let (instances, partitions, ..) = LARGE;
    let asked =
        json!({ "members": instances, "topics": 1_000, "partitions": partitions / 1_000, "changes": 20, "seed": 1 });
    let kafkas = driver().try_call("sticky_moves", "", asked).unwrap();
    eprintln!("Kafka's cooperative sticky assignor, partitions moved on average: {kafkas:?}");
    let fair = f64::from(partitions) / instances as f64;
    // Ours go by load: what has drifted apart since, within the hysteresis, is put right by the way.
    let ours = world.tallies[&Change::Comes];
    assert!(ours.partitions_moved as f64 <= 2.5 * fair * ours.changes as f64, "{ours:?}, a fair share is {fair}");
    assert!(kafkas["comes"].as_f64().unwrap() > 0.0);
}
