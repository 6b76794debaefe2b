//! The assignor: every shard to one member, as little moved as possible, the load shared.
//!
//! What a member owns it keeps. What nobody owns goes to whoever has the least, the heaviest first. Only where somebody has more
//! than [`HEAVY_PERCENT`] of the mean or less than [`LIGHT_PERCENT`], shards move, the heaviest that fit, until everybody is
//! within [`SETTLED_PERCENT`] of it or no move would help: between the two lies the hysteresis that keeps shards where they
//! are while loads go up and down.
//!
//! While versions differ, a shard goes to nobody who reads older state than its owner does; one that nobody owns goes to the newest. Where
//! no such member is left it goes to whoever there is, and what that one cannot read stops it.
//!
//! The same members and loads always give the same answer, in whatever order they are named.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Origin, Target};

/// More than this part of the mean load, and shards are taken away.
pub const HEAVY_PERCENT: u64 = 120;
/// Less than this part of it, and shards are given.
pub const LIGHT_PERCENT: u64 = 80;
/// How far from the mean a member may stay once shards move, in percent of it.
pub const SETTLED_PERCENT: u64 = 10;

/// Parts of a unit in which loads relative to weights are counted.
const SCALE: u64 = 1_000;

/// Who is to own what: a target for every member. `remembered` are costs of shards that nobody owns now, from the time when somebody
/// did; others count as much as the mean.
pub fn assign(shard_count: u32, members: &[Member], remembered: &BTreeMap<u32, u64>) -> BTreeMap<String, Target> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let owners = owners(shard_count, &sorted);
    let costs = costs(shard_count, &sorted, &owners, remembered);
    let mut table = Table::new(&sorted, &costs, &owners);
    let orphans = table.keep(&owners);
    table.place(orphans, &awaiting(&sorted));
    table.balance();
    let elected = elected(&sorted);
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for (index, (member, shards)) in sorted.iter().zip(&table.shards).enumerate() {
        let origin = |shard: u32| match owners.get(&shard) {
            Some(owner) if *owner == index => Origin::Kept,
            Some(_) => Origin::Member,
            None => Origin::Free,
        };
        let shards = shards.iter().map(|(_, shard)| (*shard, origin(*shard))).collect();
        targets.insert(member.id.clone(), Target { shards, elected: elected == Some(index) });
    }
    targets
}

/// Who owns each shard, by index. Of two who say so, the one that follows the newer generation: the other was out of the group in
/// between and does not know.
fn owners(shard_count: u32, members: &[&Member]) -> BTreeMap<u32, usize> {
    let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for shard in member.said.held.keys().copied().filter(|shard| *shard < shard_count) {
            let newer = |owner: &usize| members[*owner].said.generation < member.said.generation;
            if owners.get(&shard).is_none_or(newer) {
                owners.insert(shard, index);
            }
        }
    }
    owners
}

fn awaiting(members: &[&Member]) -> BTreeMap<u32, usize> {
    let mut awaiting: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for shard in &member.said.awaited {
            let newer = |other: &usize| members[*other].said.generation < member.said.generation;
            if awaiting.get(shard).is_none_or(newer) {
                awaiting.insert(*shard, index);
            }
        }
    }
    awaiting
}

fn costs(
    shard_count: u32,
    members: &[&Member],
    owners: &BTreeMap<u32, usize>,
    remembered: &BTreeMap<u32, u64>,
) -> Vec<u64> {
    let told = |shard: u32| {
        let owner = owners.get(&shard)?;
        members.get(*owner)?.said.held.get(&shard).map(super::Load::cost)
    };
    let known: Vec<Option<u64>> =
        (0..shard_count).map(|shard| told(shard).or_else(|| remembered.get(&shard).copied())).collect();
    let some: Vec<u64> = known.iter().copied().flatten().collect();
    // What members say of their load is theirs to say, and may be anything.
    let sum = some.iter().fold(0_u64, |sum, cost| sum.saturating_add(*cost));
    let mean = sum.checked_div(some.len() as u64).unwrap_or(1).max(1);
    known.into_iter().map(|cost| cost.unwrap_or(mean).max(1)).collect()
}

/// Whoever was, as long as it stays; else the first that does not leave. Ids are random, so that of several mirrors not all elect
/// the same instance.
fn elected(members: &[&Member]) -> Option<usize> {
    let stays = |member: &&&Member| !member.said.draining;
    let was = |member: &&&Member| member.said.elected;
    let newest = members.iter().filter(stays).filter(was).map(|member| member.said.generation).max();
    let again = members.iter().position(|m| !m.said.draining && m.said.elected && Some(m.said.generation) == newest);
    again.or_else(|| members.iter().position(|m| !m.said.draining)).or(if members.is_empty() { None } else { Some(0) })
}

/// The assignment as it comes about; members by index.
struct Table<'a> {
    costs: &'a [u64],
    weights: Vec<u64>,
    /// Whether a member takes shards.
    takes: Vec<bool>,
    /// The newest state that a member reads, and the one that whoever gets a shard has to read.
    reads: Vec<u32>,
    needs: Vec<u32>,
    loads: Vec<u64>,
    /// Shards of each member, with their cost in front.
    shards: Vec<BTreeSet<(u64, u32)>>,
}

impl<'a> Table<'a> {
    fn new(members: &[&Member], costs: &'a [u64], owners: &BTreeMap<u32, usize>) -> Self {
        let all_leave = members.iter().all(|member| member.said.draining);
        let reads: Vec<u32> = members.iter().map(|member| member.said.state_version).collect();
        let stay = members.iter().filter(|member| all_leave || !member.said.draining);
        let newest = stay.map(|member| member.said.state_version).max().unwrap_or(0);
        let need = |shard| owners.get(&shard).and_then(|owner| reads.get(*owner)).map_or(newest, |of| newest.min(*of));
        let needs = (0..costs.len() as u32).map(need).collect();
        Self {
            costs,
            weights: members.iter().map(|member| u64::from(member.said.weight.max(1))).collect(),
            takes: members.iter().map(|member| all_leave || !member.said.draining).collect(),
            reads,
            needs,
            loads: members.iter().map(|member| member.said.elsewhere).collect(),
            shards: vec![BTreeSet::new(); members.len()],
        }
    }

    fn cost(&self, shard: u32) -> u64 {
        self.costs.get(shard as usize).copied().unwrap_or(1)
    }

    fn give(&mut self, member: usize, shard: u32) {
        let cost = self.cost(shard);
        self.loads[member] = self.loads[member].saturating_add(cost);
        self.shards[member].insert((cost, shard));
    }

    /// Everybody keeps what it owns; what is left is returned.
    fn keep(&mut self, owners: &BTreeMap<u32, usize>) -> Vec<u32> {
        let mut orphans = Vec::new();
        for shard in 0..self.costs.len() as u32 {
            match owners.get(&shard) {
                Some(owner) if self.takes[*owner] => self.give(*owner, shard),
                _ => orphans.push(shard),
            }
        }
        orphans
    }

    /// What has no owner goes to whoever was to have it, or else has the least.
    fn place(&mut self, mut orphans: Vec<u32>, awaiting: &BTreeMap<u32, usize>) {
        orphans.retain(|shard| match awaiting.get(shard) {
            Some(member) if self.can_take(*member, *shard) => {
                self.give(*member, *shard);
                false
            }
            _ => true,
        });
        orphans.sort_by_key(|shard| (std::cmp::Reverse(self.cost(*shard)), *shard));
        for shard in orphans {
            let cost = self.cost(shard);
            let after = |member: &usize| (self.relative(self.loads[*member].saturating_add(cost), *member), *member);
            let able = self.takers().filter(|member| self.can_take(*member, shard));
            if let Some(member) = able.min_by_key(after) {
                self.give(member, shard);
            }
        }
    }

    fn can_take(&self, member: usize, shard: u32) -> bool {
        self.takes[member] && self.reads[member] >= self.needs[shard as usize]
    }

    fn takers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.takes.len()).filter(|member| self.takes[*member])
    }

    fn relative(&self, load: u64, member: usize) -> u64 {
        load.saturating_mul(SCALE) / self.weights[member]
    }

    fn load(&self, member: usize) -> u64 {
        self.relative(self.loads[member], member)
    }

    fn mean(&self) -> u64 {
        let (loads, weights) =
            self.takers().fold((0_u64, 0), |(l, w), m| (l.saturating_add(self.loads[m]), w + self.weights[m]));
        loads.saturating_mul(SCALE).checked_div(weights).unwrap_or(0)
    }

    fn balance(&mut self) {
        let mean = self.mean();
        let part = |percent: u64| mean.saturating_mul(percent) / 100;
        if self.takers().all(|m| (part(LIGHT_PERCENT)..=part(HEAVY_PERCENT)).contains(&self.load(m))) {
            return;
        }
        let (low, high) = (part(100 - SETTLED_PERCENT), part(100 + SETTLED_PERCENT));
        // Each move brings a pair nearer together; the bound is there so that nobody has to prove that for all roundings.
        for _ in 0..self.costs.len().saturating_mul(self.takes.len()) {
            let mut givers: Vec<usize> = self.takers().collect();
            givers.sort_by_key(|m| (std::cmp::Reverse(self.load(*m)), *m));
            let Some(least) = givers.last().map(|m| self.load(*m)) else { return };
            let goes_on = |giver: &usize| self.load(*giver) > if least < low { mean } else { high };
            let pair = givers.into_iter().take_while(goes_on).find_map(|giver| {
                let (lot, taker) = self.lot(giver, mean)?;
                Some((lot, giver, taker))
            });
            let Some((lot, giver, taker)) = pair else { return };
            self.shift(lot, giver, taker);
        }
    }

    /// What a giver gives, and to whom: the heaviest shard that leaves both on their side of the mean; or else the lightest,
    /// if the taker then has less than the giver had.
    fn lot(&self, giver: usize, mean: u64) -> Option<((u64, u32), usize)> {
        let with = |cost: u64, taker: usize| self.relative(self.loads[taker].saturating_add(cost), taker);
        let lightest =
            |taker: usize| self.shards[giver].iter().find(|(_, shard)| self.can_take(taker, *shard)).copied();
        let takers = self.takers().filter(|m| *m != giver).filter_map(|m| Some((m, lightest(m)?)));
        let (taker, lightest) = takers.min_by_key(|(m, lot)| (with(lot.0, *m), *m))?;
        let surplus = self.load(giver).saturating_sub(mean).saturating_mul(self.weights[giver]) / SCALE;
        let room = mean.saturating_sub(self.load(taker)).saturating_mul(self.weights[taker]) / SCALE;
        let mut fits = self.shards[giver].range(..=(surplus.min(room), u32::MAX)).rev();
        let lot = fits.find(|(_, shard)| self.can_take(taker, *shard)).copied().unwrap_or(lightest);
        (with(lot.0, taker) < self.load(giver)).then_some((lot, taker))
    }

    fn shift(&mut self, lot: (u64, u32), giver: usize, taker: usize) {
        self.shards[giver].remove(&lot);
        self.loads[giver] = self.loads[giver].saturating_sub(lot.0);
        self.give(taker, lot.1);
    }
}

#[cfg(test)]
mod tests;
