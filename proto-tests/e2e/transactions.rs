//! Transactions: committed records arrive once, at exact offsets; every other offset is a gap that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use kmirror::mirror::{GapReason, OffsetMap};

use super::Mirror;
use super::crash::{assert_map_is_exact, maps};
use super::mirror::gaps;
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::{
    Cluster, Dump, Produce, TopicSpec, Transact, compare, driver, real_kafka_wanted, source, target,
};

const PARTITIONS: i32 = 3;

/// Three transactional producers and a plain one, all at once, and aborted transactions at the very end. Gives the
/// number of records that a read_committed consumer shall see.
pub(crate) fn interleaved(cluster: &Cluster, topic: &str, count: u64) -> u64 {
    let bootstrap = cluster.bootstrap();
    driver().create_topic(&bootstrap, &TopicSpec::new(topic, PARTITIONS));
    let odd = |seed: u64, count| Produce { seed, partitions: PARTITIONS, codec: "zstd", ..Produce::odd(topic, count) };
    let committed = thread::scope(|scope| {
        let plain = Produce { burst_min: 1, burst_max: 20, codec: "lz4", ..odd(1, count) };
        let writer = scope.spawn({
            let bootstrap = &bootstrap;
            move || driver().produce(bootstrap, &plain)
        });
        let done = driver().transact(&bootstrap, &Transact { producers: 3, ..Transact::new(odd(2, count)) });
        assert!(done.committed > 0 && done.aborted > 0, "{done:?}");
        writer.join().unwrap();
        done.committed
    });
    let last = Transact { abort_every: 1, producers: 2, ..Transact::new(odd(3, 60)) };
    assert_eq!(driver().transact(&bootstrap, &last).aborted, 60);
    count + committed
}

/// What Kafka says of every offset of a partition: whether a committed record, an aborted one or a marker stands there.
pub(crate) struct Fates {
    committed: BTreeSet<i64>,
    aborted: BTreeSet<i64>,
    end: i64,
}

impl Fates {
    pub(crate) fn of(cluster: &Cluster, topic: &str) -> BTreeMap<i32, Self> {
        let offsets = |isolation: &str| {
            let mut all: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
            for record in driver().records(&cluster.bootstrap(), topic, isolation) {
                all.entry(record.partition).or_default().insert(record.offset);
            }
            all
        };
        let (mut committed, mut all) = (offsets("read_committed"), offsets("read_uncommitted"));
        let rows = driver().offsets(&cluster.bootstrap(), &[topic]);
        rows.into_iter()
            .map(|row| {
                let committed = committed.remove(&row.partition).unwrap_or_default();
                let aborted = &all.remove(&row.partition).unwrap_or_default() - &committed;
                (row.partition, Self { committed, aborted, end: row.end })
            })
            .collect()
    }

    fn gap(&self, offset: i64) -> Option<GapReason> {
        match offset {
            at if self.committed.contains(&at) => None,
            at if self.aborted.contains(&at) => Some(GapReason::Aborted),
            _ => Some(GapReason::Control),
        }
    }

    fn last(&self) -> i64 {
        *self.committed.last().expect("records")
    }

    /// Offsets in front of the last record that have no counterpart, and why.
    fn gaps(&self) -> BTreeMap<i64, String> {
        (0..self.last()).filter_map(|at| Some((at, self.gap(at)?.to_string()))).collect()
    }
}

/// An offset in a gap translates to the next record, with the reason of the gap; behind the last record to the end.
fn assert_gaps_are_told(map: &OffsetMap, end: i64, fates: &Fates, targets: &BTreeMap<i64, i64>) {
    let mut told = BTreeSet::new();
    for offset in 0..fates.end {
        let Some(reason) = fates.gap(offset) else { continue };
        let answer = map.to_target(offset, end);
        match targets.range(offset..).next() {
            Some((_, next)) => {
                assert_eq!((answer.offset, answer.exact, answer.reason), (*next, false, Some(reason)), "{offset}");
                told.insert(reason);
            }
            None => assert_eq!((answer.offset, answer.reason), (end, None), "{offset}"),
        }
    }
    assert_eq!(told, BTreeSet::from([GapReason::Control, GapReason::Aborted]));
}

/// The gaps of `status --json`, offset by offset.
fn spread(gaps: Vec<(String, i64, i64)>) -> BTreeMap<i64, String> {
    gaps.into_iter().flat_map(|(reason, from, to)| (from..to).map(move |at| (at, reason.clone()))).collect()
}

pub(crate) fn assert_status_is_exact(mirror: &Mirror, topic: &str, fates: &BTreeMap<i32, Fates>) {
    for (partition, fates) in fates {
        let row = mirror.row(topic, *partition).unwrap();
        assert!(fates.last() + 1 < fates.end, "the log ends in aborted data and markers");
        let shown = ["source_end", "mirrored_to", "lag_records"].map(|field| row[field].as_i64());
        assert_eq!(shown, [Some(fates.end), Some(fates.end), Some(0)], "{row}");
        assert_eq!(row["lag_seconds"].as_f64(), Some(0.0), "{row}");
        assert_eq!(row["target_end"].as_i64(), Some(fates.committed.len() as i64), "{row}");
        assert_eq!(spread(gaps(&row)), fates.gaps(), "{topic}:{partition}");
    }
}

/// As a user asks: in a gap of either kind, at the end, beyond it, and back.
fn assert_answers(mirror: &Mirror, topic: &str, fates: &Fates) {
    for (reason, offsets) in [("aborted", true), ("control", false)].map(|(r, aborted)| {
        (r, fates.gaps().into_keys().filter(|at| fates.aborted.contains(at) == aborted).collect::<Vec<_>>())
    }) {
        let at = offsets[offsets.len() / 2];
        let next = fates.committed.range(..at).count() as i64;
        assert_eq!(mirror.translate(topic, 0, at, &[]), (next, Some(reason.to_owned())), "{at}");
    }
    let end = fates.committed.len() as i64;
    assert_eq!(mirror.translate(topic, 0, fates.last(), &[]), (end - 1, None));
    assert_eq!(mirror.translate(topic, 0, fates.last() + 1, &[]), (end, None), "the very end");
    let beyond = Some("not_mirrored_yet".to_owned());
    assert_eq!(mirror.translate(topic, 0, fates.end + 1_000, &[]), (end, beyond.clone()));
    assert_eq!(mirror.translate(topic, 0, end - 1, &["--reverse"]), (fates.last(), None));
    assert_eq!(mirror.translate(topic, 0, end + 5, &["--reverse"]), (fates.last() + 1, beyond));
    let unknown = mirror.output(&["translate", "--topic", "none-such", "--partition", "0", "--offset", "1"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("none-such:0"), "{unknown:?}");
}

fn targets_by_source(here: &Dump, there: &Dump, partition: i32, topic: &str) -> BTreeMap<i64, i64> {
    let at = (topic.to_owned(), partition);
    here.partitions[&at].iter().zip(&there.partitions[&at]).map(|(a, b)| (a.offset, b.offset)).collect()
}

#[test]
fn committed_records_arrive_and_every_other_offset_is_accounted_for() {
    if !real_kafka_wanted("committed_records_arrive_and_every_other_offset_is_accounted_for") {
        return;
    }
    let topic = "transactions";
    let records = interleaved(source(), topic, 900);
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(PARTITIONS as usize);
    let fates = Fates::of(source(), topic);
    assert_status_is_exact(&mirror, topic, &fates);
    assert_answers(&mirror, topic, &fates[&0]);
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    compare(&here, &there).assert_exactly(records as usize);
    assert_map_is_exact(topic, target(), &here, &there);
    assert_status_is_exact(&mirror, topic, &fates);
    let maps = maps(topic, target());
    for (partition, fates) in &fates {
        let (map, end) = &maps[&(topic.to_owned(), *partition)];
        assert_gaps_are_told(map, *end, fates, &targets_by_source(&here, &there, *partition, topic));
    }
}

fn contents(cluster: &Cluster, topic: &str, isolation: &str) -> Vec<FullRecord> {
    let records = driver().records(&cluster.bootstrap(), topic, isolation);
    records.into_iter().map(|record| FullRecord { topic: String::new(), offset: 0, ..record }).collect()
}

#[test]
fn read_uncommitted_brings_the_aborted_records_as_well() {
    if !real_kafka_wanted("read_uncommitted_brings_the_aborted_records_as_well") {
        return;
    }
    let topic = "transactions-all";
    let committed = interleaved(source(), topic, 300) as usize;
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "    isolation: read_uncommitted\n");
    mirror.start().await_caught_up(PARTITIONS as usize);
    let (here, there) = (contents(source(), topic, "read_uncommitted"), contents(target(), topic, "read_committed"));
    assert_eq!((here.len(), here.len() > committed), (660, true));
    assert_eq!(here, there);
    for (partition, fates) in Fates::of(source(), topic) {
        let told = spread(gaps(&mirror.row(topic, partition).unwrap()));
        assert!(told.values().all(|reason| reason == "control"), "{told:?}");
        for (at, _) in fates.gaps().iter().filter(|(_, reason)| *reason == "control") {
            assert!(told.contains_key(at), "{topic}:{partition}: marker at {at} of {told:?}");
        }
    }
    mirror.stop();
}

/// Records behind an open transaction are not there for anybody to read yet: neither mirrored nor a lag.
#[test]
fn what_an_open_transaction_holds_back_is_no_lag() {
    if !real_kafka_wanted("what_an_open_transaction_holds_back_is_no_lag") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "transactions-open");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 1));
    driver.produce(&bootstrap, &Produce::new(topic, 20));
    let open = Transact {
        leave_open: true,
        records_per_transaction: 100,
        transaction_timeout_ms: 900_000,
        ..Transact::new(Produce::new(topic, 30))
    };
    assert_eq!(driver.transact(&bootstrap, &open).left_open, 30);
    driver.produce(&bootstrap, &Produce::new(topic, 40));
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(1);
    let row = mirror.row(topic, 0).unwrap();
    assert_eq!((row["source_end"].as_i64(), row["target_end"].as_i64()), (Some(20), Some(20)), "{row}");
    assert_eq!(mirror.translate(topic, 0, 60, &[]), (20, Some("not_mirrored_yet".to_owned())));
    mirror.stop();
    mirror.compare(&[topic]).assert_exactly(20);
}
