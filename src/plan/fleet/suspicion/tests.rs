use super::*;

const AFTER: u64 = 1_500;
const EVERY: u64 = 300;

fn post(generation: i32) -> Post {
    Post { member: "me".to_owned(), generation, slot: 0 }
}

fn sign(member: &str, generation: i32, count: i64) -> Seen {
    let (member, host) = (member.to_owned(), "host:1".to_owned());
    Seen { sign: Sign { member, generation, host, every_ms: EVERY, is_last: false }, count }
}

/// One who watches, at whatever time the test says.
struct Watcher {
    watch: Watch,
    now_ms: u64,
    count: i64,
}

impl Watcher {
    fn new() -> Self {
        Self { watch: Watch::new(AFTER), now_ms: 0, count: 0 }
    }

    /// A round of 10 ms that reads these signs besides its own, an interval after the last; names of suspects.
    fn round(&mut self, others: &[Seen]) -> Vec<String> {
        self.round_of(1, EVERY, 10, others)
    }

    fn round_of(&mut self, generation: i32, pause: u64, takes: u64, others: &[Seen]) -> Vec<String> {
        self.now_ms += pause;
        self.count += 1;
        let mut seen = others.to_vec();
        seen.push(sign("me", generation, self.count));
        let begun_ms = self.now_ms;
        self.now_ms += takes;
        self.watch.begin(&post(generation));
        let round = Round { begun_ms, ended_ms: self.now_ms, count: self.count, seen: &seen };
        self.watch.ended(round).into_iter().map(|suspect| suspect.member).collect()
    }

    /// Rounds in which each of these was heard of: their signs before, and these.
    fn hear(&mut self, others: &[Seen]) {
        let before: Vec<Seen> = others.iter().map(|seen| Seen { count: seen.count - 1, ..seen.clone() }).collect();
        assert!(self.round(&before).is_empty());
        assert!(self.round(others).is_empty());
    }

    /// Rounds in which these signs stand unchanged until somebody is suspected; how many, of at most so many.
    fn until_suspected(&mut self, others: &[Seen], most: usize) -> Option<usize> {
        (1..=most).find(|_| !self.round(others).is_empty())
    }
}

#[test]
fn silence_over_rounds_of_ones_own_is_suspected() {
    let mut me = Watcher::new();
    let silent = sign("b", 1, 7);
    me.hear(&[silent.clone(), sign("c", 1, 0)]);
    for count in 1..20 {
        let suspects = me.round(&[silent.clone(), sign("c", 1, count)]);
        assert_eq!(suspects, if count < 5 { vec![] } else { vec!["b"] }, "{count}");
    }
}

#[test]
fn what_is_silent_is_said() {
    let mut watch = Watch::new(AFTER);
    let at = post(1);
    for (count, begun_ms) in (0..).zip((0..=2_100).step_by(300)) {
        watch.begin(&at);
        let seen = [sign("me", 1, count), sign("b", 1, count.min(1))];
        let suspects = watch.ended(Round { begun_ms, ended_ms: begun_ms + 1, count, seen: &seen });
        if begun_ms == 2_100 {
            // Read after 301 ms, and given just before perhaps.
            let suspect = Suspect { member: "b".to_owned(), host: "host:1".to_owned(), silent_ms: 1_799 };
            assert_eq!(suspects, [suspect]);
        } else {
            assert_eq!(suspects, [], "after {begun_ms} ms");
        }
    }
}

#[test]
fn who_never_gave_a_sign_is_not_suspected_nor_who_said_that_it_was_the_last() {
    let mut me = Watcher::new();
    let mut last = sign("b", 1, 3);
    last.sign.is_last = true;
    // Of another generation: from before, or of one that is ahead.
    let signs = [last, sign("c", 0, 4), sign("d", 2, 4)];
    me.hear(&signs);
    assert_eq!(me.until_suspected(&signs, 50), None);
}

#[test]
fn one_that_gives_signs_more_rarely_is_waited_for() {
    let mut me = Watcher::new();
    let mut rare = sign("b", 1, 3);
    rare.sign.every_ms = 1_000;
    me.hear(&[rare.clone()]);
    // 3,000 ms of silence after the round that heard it, one round each 310 ms.
    assert_eq!(me.until_suspected(&[rare], 50), Some(10));
}

#[test]
fn an_observer_that_slept_suspects_nobody_before_it_is_heard_of_again() {
    for (pause, takes) in [(60_000, 10), (EVERY, 60_000)] {
        let mut me = Watcher::new();
        for count in 0..3 {
            assert!(me.round(&[sign("b", 1, count)]).is_empty());
        }
        assert!(me.round_of(1, pause, takes, &[sign("b", 1, 2)]).is_empty());
        assert_eq!(me.until_suspected(&[sign("b", 1, 2)], 50), None, "not heard of since");
        assert_eq!(me.until_suspected(&[sign("b", 1, 3)], 50), Some(6));
    }
}

#[test]
fn what_came_while_the_observer_slept_does_not_count_as_heard() {
    let mut me = Watcher::new();
    me.round(&[sign("b", 1, 0)]);
    assert!(me.round_of(1, 60_000, 10, &[sign("b", 1, 100)]).is_empty());
    assert_eq!(me.until_suspected(&[sign("b", 1, 100)], 50), None);
}

#[test]
fn rounds_that_fail_are_none() {
    let mut me = Watcher::new();
    me.round(&[sign("b", 1, 0)]);
    for _ in 0..20 {
        me.now_ms += EVERY;
        me.watch.begin(&post(1));
        me.watch.broken();
    }
    // The first that succeeds may show what was there before.
    assert!(me.round(&[sign("b", 1, 1), sign("c", 1, 9)]).is_empty());
    assert_eq!(me.until_suspected(&[sign("b", 1, 1), sign("c", 1, 9)], 50), None);
    assert_eq!(me.until_suspected(&[sign("b", 1, 2), sign("c", 1, 9)], 50), Some(6));
}

#[test]
fn what_stands_there_at_first_may_be_old() {
    let mut me = Watcher::new();
    assert_eq!(me.until_suspected(&[sign("b", 1, 0)], 50), None);
    // Nor is one heard of that appears later, but once.
    assert_eq!(me.until_suspected(&[sign("b", 1, 0), sign("c", 1, 0)], 50), None);
    assert_eq!(me.until_suspected(&[sign("b", 1, 1), sign("c", 1, 0)], 50), Some(6));
}

#[test]
fn a_round_that_does_not_read_its_own_sign_back_is_none() {
    let mut watch = Watch::new(AFTER);
    for count in 0..50 {
        watch.begin(&post(1));
        let (begun_ms, seen) = (count as u64 * EVERY, [sign("me", 1, count - 1), sign("b", 1, count.min(1))]);
        assert_eq!(watch.ended(Round { begun_ms, ended_ms: begun_ms + 1, count, seen: &seen }), []);
    }
}

#[test]
fn a_new_generation_is_heard_anew() {
    let mut me = Watcher::new();
    me.hear(&[sign("b", 1, 0)]);
    assert!(me.round_of(2, EVERY, 10, &[sign("b", 1, 0)]).is_empty());
    for _ in 0..50 {
        assert!(me.round_of(2, EVERY, 10, &[sign("b", 1, 0)]).is_empty());
    }
    assert!(me.round_of(2, EVERY, 10, &[sign("b", 2, 0)]).is_empty());
    let heard = (1..=50).find(|_| !me.round_of(2, EVERY, 10, &[sign("b", 2, 1)]).is_empty());
    assert_eq!(heard, Some(6));
}

#[test]
fn a_sign_survives_its_text_and_what_is_none_is_passed_over() {
    let given = sign("b", 4, 0).sign;
    assert_eq!(Sign::from_text(&given.to_text()), Some(given.clone()));
    assert!(given.to_text().len() < 200, "{}", given.to_text());
    let last = Sign { is_last: true, ..given };
    assert_eq!(Sign::from_text(&last.to_text()), Some(last));
    for text in ["", "{}", "null", "[1]", "{\"member\":\"a\"}"] {
        assert_eq!(Sign::from_text(text), None);
    }
    let older = r#"{"member":"a","generation":1,"every_ms":300,"mood":"good"}"#;
    assert!(!Sign::from_text(older).unwrap().is_last);
}

#[test]
fn those_that_own_something_have_places_first() {
    let owns = |shards: &[u32]| Target {
        shards: shards.iter().map(|shard| (*shard, super::super::Origin::Kept)).collect(),
        elected: false,
    };
    let members = [("a", owns(&[])), ("b", owns(&[0])), ("c", owns(&[])), ("d", owns(&[1]))];
    let targets = members.into_iter().map(|(member, target)| (member.to_owned(), target)).collect();
    assert_eq!(slots(&targets, 16), [("b", 0), ("d", 1), ("a", 2), ("c", 3)].into());
    assert_eq!(slots(&targets, 2), [("b", 0), ("d", 1), ("a", 2)].into());
}
