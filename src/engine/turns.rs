//! Whose turn it is at a source broker while bandwidth is short.
//!
//! A broker fills an answer in its session's order, partition by partition: a topic with many partitions would get as many
//! shares, and one with few would wait for all of them. So of what is known to wait on the source only the next in turn is
//! asked for: the topic that got least, and of it the partition that was served longest ago. What is not known to wait is
//! always asked for, and its news show in the next answer.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::events::PartId;

/// A turn asks for 2^this many partitions at most.
const WIDENED_MAX: u32 = 20;
/// What brought nothing so many times in a row does not wait.
const MISSES_MAX: u32 = 3;

/// The account of one fetcher.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Bytes of each topic that waits.
    got_bytes: HashMap<String, u64>,
    /// Partitions that wait.
    parts: HashMap<PartId, Served>,
    turn: u64,
    chosen: BTreeSet<PartId>,
    /// How often answers had room left, less how often they were full: each doubles or halves how many are asked for.
    widened: u32,
}

#[derive(Debug, Default)]
struct Served {
    /// The turn in which records of it last came.
    turn: u64,
    /// Times in a row that it was asked for in vain.
    misses: u32,
}

impl Turns {
    /// Of the partitions that wait those whose turn it is. One that was asked for in vain keeps its turn: something small may
    /// have stood in front of it in the answer, and then a large batch comes only once it stands in front itself.
    pub(crate) fn choose(&mut self, waiting: &[(PartId, &str)]) -> &BTreeSet<PartId> {
        self.turn += 1;
        let (ids, topics): (HashSet<PartId>, HashSet<&str>) = waiting.iter().copied().unzip();
        self.got_bytes.retain(|topic, _| topics.contains(topic.as_str()));
        self.parts.retain(|id, _| ids.contains(id));
        // Who comes later has no claim on what the others got before.
        let least = self.got_bytes.values().copied().min().unwrap_or(0);
        for topic in topics {
            self.got_bytes.entry(topic.to_owned()).or_insert(least);
        }
        let rank = |(id, topic): &(PartId, &str)| {
            (self.got_bytes.get(*topic).copied(), self.parts.get(id).map_or(0, |part| part.turn), *id)
        };
        let mut order: Vec<_> = waiting.iter().map(rank).collect();
        order.sort_unstable();
        self.chosen = order.into_iter().map(|(.., id)| id).take(1 << self.widened).collect();
        &self.chosen
    }

    /// Records came.
    pub(crate) fn got(&mut self, id: PartId, topic: &str, bytes: usize) {
        if let Some(got) = self.got_bytes.get_mut(topic) {
            *got = got.saturating_add(bytes as u64);
        }
        if bytes > 0 {
            self.parts.insert(id, Served { turn: self.turn, misses: 0 });
        }
    }

    /// An answer is through. Gives what turns out not to wait after all.
    pub(crate) fn answered(&mut self, asked_bytes: u64, came_bytes: usize) -> Vec<PartId> {
        let came = came_bytes as u64;
        if came < asked_bytes / 4 * 3 {
            self.widened = (self.widened + 1).min(WIDENED_MAX);
        } else if came >= asked_bytes / 8 * 7 {
            self.widened = self.widened.saturating_sub(1);
        }
        let in_vain = |id: &PartId| {
            let part = self.parts.entry(*id).or_default();
            part.misses += u32::from(part.turn != self.turn);
            part.misses >= MISSES_MAX || came == 0
        };
        std::mem::take(&mut self.chosen).into_iter().filter(in_vain).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: u64 = 1000;

    /// Answers so many turns in full, and gives what each partition got.
    fn serve(turns: &mut Turns, waiting: &[(PartId, &str)], times: usize) -> HashMap<PartId, usize> {
        let mut got = HashMap::new();
        for _ in 0..times {
            let first = *turns.choose(waiting).first().expect("somebody's turn");
            let topic = waiting.iter().find(|(id, _)| *id == first).expect("one that waits").1;
            turns.got(first, topic, ASKED as usize);
            assert!(turns.answered(ASKED, ASKED as usize).is_empty());
            *got.entry(first).or_default() += 1;
        }
        got
    }

    #[test]
    fn topics_get_the_same_however_many_partitions_they_have() {
        let mut waiting: Vec<(PartId, &str)> = (0..8).map(|id| (id, "many")).collect();
        waiting.push((8, "one"));
        let got = serve(&mut Turns::default(), &waiting, 160);
        assert_eq!(got.get(&8), Some(&80));
        assert!((0..8).all(|id| got.get(&id) == Some(&10)), "{got:?}");
    }

    #[test]
    fn who_comes_later_is_next_and_catches_nothing_up() {
        let mut turns = Turns::default();
        serve(&mut turns, &[(0, "old"), (1, "old")], 100);
        let got = serve(&mut turns, &[(0, "old"), (1, "old"), (2, "new")], 100);
        assert_eq!(got.get(&2), Some(&50));
        // It left, and was not there for long: no debt, no credit.
        serve(&mut turns, &[(0, "old"), (1, "old")], 100);
        assert_eq!(serve(&mut turns, &[(0, "old"), (1, "old"), (2, "new")], 10).get(&2), Some(&5));
    }

    #[test]
    fn answers_with_room_left_ask_for_more_at_once_and_full_ones_for_less() {
        let waiting: Vec<(PartId, &str)> = (0..100).map(|id| (id, "small")).collect();
        let mut turns = Turns::default();
        let mut chosen = Vec::new();
        for _ in 0..9 {
            chosen.push(turns.choose(&waiting).len());
            turns.answered(ASKED, 10);
        }
        assert_eq!(chosen, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        let mut after = |came| {
            turns.answered(ASKED, came);
            turns.choose(&waiting).len()
        };
        assert_eq!([800, 1000, 1000, 1000].map(&mut after), [100, 100, 100, 64]);
        assert_eq!([(); 7].map(|()| after(2000)), [32, 16, 8, 4, 2, 1, 1]);
    }

    #[test]
    fn what_brings_nothing_does_not_wait() {
        let mut turns = Turns::default();
        turns.choose(&[(3, "quiet"), (4, "quiet")]);
        assert_eq!(turns.answered(ASKED, 0), [3]);
        assert_eq!(turns.choose(&[]).len(), 0);
        assert!(turns.answered(ASKED, 0).is_empty());
    }

    /// Something small is in front of it in each answer, which then has no room for a large batch.
    #[test]
    fn what_is_asked_for_in_vain_keeps_its_turn_but_not_for_ever() {
        let waiting = [(3, "large"), (4, "large")];
        let mut turns = Turns::default();
        for (misses, waits) in [(1, &[][..]), (2, &[]), (3, &[3])] {
            assert_eq!(turns.choose(&waiting).first(), Some(&3), "{misses}");
            turns.got(9, "small", 900);
            assert_eq!(turns.answered(ASKED, 900), waits, "{misses}");
        }
        turns.choose(&waiting);
        turns.got(3, "large", 1000);
        assert!(turns.answered(ASKED, 1000).is_empty());
        assert_eq!(turns.choose(&waiting).first(), Some(&4));
    }
}
