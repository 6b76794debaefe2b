//! Signs of life with the real judgement ([`kmirror::plan::fleet::Watch`]) in a world of its own: members that sleep, die and are cut off, a coordinator
//! that is away, answers that come late, and clocks that agree in nothing but their pace. Nobody is suspected who is well, nobody
//! by two who suspect each other, and who is dead is, in time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use fastrand::Rng;
use kmirror::plan::fleet::{Post, Round, Seen, Sign, Watch};

const AFTER_MS: u64 = 1_500;
/// Trouble lasts for so long; then one dies, and all else is quiet.
const TROUBLE_MS: u64 = 60_000;
const QUIET_MS: u64 = 4_000;
const END_MS: u64 = TROUBLE_MS + 3 * QUIET_MS;
/// One way, in times of trouble and else.
const SLOW_MS: u64 = 200;
const FAST_MS: u64 = 10;
/// Until somebody has found the coordinator again that was away for so long that everybody had to look for it.
const LOST_MS: u64 = 2_000;
const LONG_AWAY_MS: u64 = 1_100;
const GENERATION: i32 = 3;

/// Half-open spans of time.
#[derive(Debug, Default, Clone)]
struct Spans(Vec<(u64, u64)>);

impl Spans {
    fn draw(rng: &mut Rng, many: usize, longest_ms: u64) -> Self {
        let one = |rng: &mut Rng| {
            let from = rng.u64(0..TROUBLE_MS);
            (from, (from + rng.u64(20..longest_ms)).min(TROUBLE_MS))
        };
        Self((0..rng.usize(0..=many)).map(|_| one(rng)).collect())
    }

    /// The end of the span that holds it.
    fn until(&self, at: u64) -> Option<u64> {
        self.0.iter().filter(|(from, to)| (*from..*to).contains(&at)).map(|(_, to)| *to).max()
    }

    fn touches(&self, from: u64, to: u64) -> bool {
        self.0.iter().any(|(start, end)| *start < to && from < *end)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    Commit(i64),
    Fetch,
    Leave(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick,
    Arrives {
        round: u64,
        by: String,
        request: Request,
    },
    /// `None`: refused.
    Answered {
        round: u64,
        signs: Option<Vec<(String, i64)>>,
        read_ms: u64,
    },
    TimedOut {
        round: u64,
    },
}

struct Instance {
    id: String,
    watch: Watch,
    /// Its clock shows this much more.
    ahead_ms: u64,
    count: i64,
    round: u64,
    begun_ms: u64,
    /// Whether a request of the round is under way.
    asks: bool,
    committed: bool,
    is_lost: bool,
    asleep: Spans,
    cut: Spans,
    dies_ms: u64,
}

struct World {
    rng: Rng,
    now_ms: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    order: u64,
    instances: Vec<Instance>,
    /// Member ids, whose they are.
    members: BTreeMap<String, usize>,
    signs: BTreeMap<String, i64>,
    committed_ms: BTreeMap<String, Vec<u64>>,
    away: Spans,
    /// Who put out whom, and when.
    put_out: Vec<(usize, usize, u64)>,
    suspected: usize,
    ids: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let away = Spans::draw(&mut rng, 6, 6_000);
        let many = rng.usize(2..=6);
        let mut world = Self {
            now_ms: 0,
            events: BinaryHeap::new(),
            order: 0,
            instances: Vec::new(),
            members: BTreeMap::new(),
            signs: BTreeMap::new(),
            committed_ms: BTreeMap::new(),
            away,
            put_out: Vec::new(),
            suspected: 0,
            ids: 0,
            rng,
        };
        for index in 0..many {
            let rng = &mut world.rng;
            let (mut asleep, cut) = (Spans::draw(rng, 5, 5_000), Spans::draw(rng, 3, 4_000));
            if rng.bool() {
                // On the coordinator's own machine, which stands still as a whole.
                asleep.0.extend(world.away.0.iter().map(|(from, to)| (*from, to + rng.u64(0..50))));
            }
            world.instances.push(Instance {
                id: String::new(),
                watch: Watch::new(AFTER_MS),
                ahead_ms: rng.u64(0..1_000_000_000),
                count: 0,
                round: 0,
                begun_ms: 0,
                asks: false,
                committed: false,
                is_lost: false,
                asleep,
                cut,
                dies_ms: if index == 0 { TROUBLE_MS + QUIET_MS } else { u64::MAX },
            });
            world.join(index);
            let at = world.rng.u64(0..1_000);
            world.at(at, index, Event::Tick);
        }
        world
    }

    fn at(&mut self, at_ms: u64, of: usize, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at_ms, self.order, of, event)));
    }

    fn join(&mut self, index: usize) {
        self.ids += 1;
        let id = format!("member-{}", self.ids);
        self.members.insert(id.clone(), index);
        let instance = &mut self.instances[index];
        (instance.id, instance.watch) = (id, Watch::new(AFTER_MS));
    }

    fn way_ms(&mut self) -> u64 {
        let slow = self.now_ms < TROUBLE_MS && self.rng.u8(0..20) == 0;
        self.rng.u64(1..if slow { SLOW_MS } else { FAST_MS })
    }

    fn run(&mut self) {
        while let Some(Reverse((at_ms, _, of, event))) = self.events.pop() {
            if at_ms > END_MS {
                return;
            }
            self.now_ms = at_ms;
            if let Event::Arrives { round, by, request } = event {
                self.arrives(of, round, &by, request);
                continue;
            }
            if at_ms >= self.instances[of].dies_ms {
                continue;
            }
            // A sleeper does all of it once it wakes.
            if let Some(wakes_ms) = self.instances[of].asleep.until(at_ms) {
                self.at(wakes_ms, of, event);
                continue;
            }
            match event {
                Event::Tick => self.tick(of),
                Event::Answered { round, signs, read_ms } => self.answered(of, round, signs, read_ms),
                Event::TimedOut { round } => {
                    let instance = &mut self.instances[of];
                    if instance.asks && instance.round == round {
                        instance.watch.broken();
                        let is_lost = std::mem::take(&mut instance.is_lost);
                        let lost_ms = if is_lost { self.rng.u64(0..LOST_MS) } else { 0 };
                        self.instances[of].asks = false;
                        self.at(at_ms + 1 + lost_ms, of, Event::Tick);
                    }
                }
                Event::Arrives { .. } => unreachable!("it has arrived above"),
            }
        }
    }

    fn post(&self, of: usize) -> Post {
        Post { member: self.instances[of].id.clone(), generation: GENERATION, slot: 0 }
    }

    fn tick(&mut self, of: usize) {
        let (now_ms, post) = (self.now_ms, self.post(of));
        let instance = &mut self.instances[of];
        instance.count += 1;
        instance.round += 1;
        instance.watch.begin(&post);
        (instance.begun_ms, instance.asks, instance.committed, instance.is_lost) = (now_ms, true, false, false);
        let (round, count, patience_ms) = (instance.round, instance.count, instance.watch.patience_ms());
        self.at(now_ms + patience_ms, of, Event::TimedOut { round });
        self.ask(of, Request::Commit(count));
    }

    fn pause(&mut self, of: usize) {
        self.instances[of].asks = false;
        let at_ms = self.now_ms + self.instances[of].watch.every_ms();
        self.at(at_ms, of, Event::Tick);
    }

    fn ask(&mut self, of: usize, request: Request) {
        let (round, by, at_ms) = (self.instances[of].round, self.instances[of].id.clone(), self.now_ms + self.way_ms());
        self.at(at_ms, of, Event::Arrives { round, by, request });
    }

    fn arrives(&mut self, of: usize, round: u64, by: &str, request: Request) {
        let now_ms = self.now_ms;
        if self.away.until(now_ms).is_some() || self.instances[of].cut.until(now_ms).is_some() {
            let is_long = |(from, to): &(u64, u64)| (*from..*to).contains(&now_ms) && to - from >= LONG_AWAY_MS;
            self.instances[of].is_lost |= self.away.0.iter().any(is_long);
            return;
        }
        let signs = match request {
            Request::Leave(member) => {
                if let Some(whose) = self.members.remove(&member) {
                    self.put_out.push((of, whose, now_ms));
                }
                return;
            }
            Request::Commit(_) if !self.members.contains_key(by) => None,
            Request::Commit(count) => {
                self.signs.insert(by.to_owned(), count);
                self.committed_ms.entry(by.to_owned()).or_default().push(now_ms);
                Some(Vec::new())
            }
            Request::Fetch => Some(self.signs.iter().map(|(id, count)| (id.clone(), *count)).collect()),
        };
        let back_ms = now_ms + self.way_ms();
        self.at(back_ms, of, Event::Answered { round, signs, read_ms: now_ms });
    }

    fn answered(&mut self, of: usize, round: u64, signs: Option<Vec<(String, i64)>>, read_ms: u64) {
        let instance = &mut self.instances[of];
        if !instance.asks || instance.round != round {
            return;
        }
        let Some(signs) = signs else {
            // Put out: it joins as somebody new.
            self.join(of);
            return self.pause(of);
        };
        if !std::mem::replace(&mut instance.committed, true) {
            return self.ask(of, Request::Fetch);
        }
        let every_ms = instance.watch.every_ms();
        let sign =
            |member: String| Sign { member, generation: GENERATION, host: String::new(), every_ms, is_last: false };
        let seen: Vec<Seen> = signs.into_iter().map(|(id, count)| Seen { sign: sign(id), count }).collect();
        let (begun_ms, ended_ms) = (instance.begun_ms + instance.ahead_ms, self.now_ms + instance.ahead_ms);
        let suspects = instance.watch.ended(Round { begun_ms, ended_ms, count: instance.count, seen: &seen });
        for suspect in suspects {
            self.instances[of].watch.forget(&suspect.member);
            self.judge(of, &suspect.member, read_ms);
            self.ask(of, Request::Leave(suspect.member));
        }
        self.pause(of);
    }

    /// Whoever is suspected was silent for long enough, and not well.
    fn judge(&mut self, by: usize, member: &str, read_ms: u64) {
        // One that was put out before is of no interest to anybody.
        let Some(whose) = self.members.get(member).copied() else { return };
        self.suspected += 1;
        // It may have been heard of since, and the answer is still on its way.
        let last_ms = self.committed_ms[member].iter().copied().filter(|at| *at < read_ms).max().unwrap();
        let silent_ms = read_ms - last_ms;
        assert!(silent_ms >= AFTER_MS, "{by} suspects {whose}, of whom it heard {silent_ms} ms before");
        let instance = &self.instances[whose];
        let unwell = read_ms >= instance.dies_ms
            || instance.asleep.touches(last_ms, read_ms)
            || instance.cut.touches(last_ms, read_ms);
        assert!(unwell, "at {} {by} suspects {whose}, who is well: {last_ms} to {read_ms}", self.now_ms);
    }

    /// What must be so in the end.
    fn check(&self) {
        for (by, whose, at_ms) in &self.put_out {
            let near = |other_ms: &u64| other_ms.abs_diff(*at_ms) < AFTER_MS / 2;
            let mutual =
                |(other, victim, other_ms): &(usize, usize, u64)| other == whose && victim == by && near(other_ms);
            assert!(!self.put_out.iter().any(mutual), "two put each other out: {:?}", self.put_out);
        }
        let dies_ms = self.instances[0].dies_ms;
        let found = self.put_out.iter().find(|(_, whose, at_ms)| *whose == 0 && *at_ms >= dies_ms);
        let (_, _, at_ms) = found.unwrap_or_else(|| panic!("nobody has found the dead one: {:?}", self.put_out));
        let took_ms = at_ms - dies_ms;
        let every_ms = self.instances[0].watch.every_ms();
        assert!(took_ms <= AFTER_MS + every_ms + 10 * 4 * FAST_MS, "it took {took_ms} ms");
    }
}

#[test]
fn nobody_who_is_well_is_suspected_and_the_dead_are_in_time() {
    let (mut suspected, mut wakers) = (0, BTreeSet::new());
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.run();
        world.check();
        suspected += world.suspected;
        wakers.extend(world.put_out.iter().filter(|(_, whose, _)| *whose != 0).map(|_| seed));
    }
    eprintln!("{suspected} suspicions; in {} worlds somebody was put out that came back", wakers.len());
    assert!(wakers.len() > 200, "trouble enough for suspicion in {} worlds only", wakers.len());
}
