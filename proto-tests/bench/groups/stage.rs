//! Two clusters, the records, and the groups that move on with them.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::hands::{self, Committed, Offsets};
use crate::kafka::harness::{Cluster, ClusterSpec, Dump, Produce, TopicSpec, Transact, Version, driver, wait_until};
use crate::peers::{Peer, Running};
use crate::standing::{GROUPS, Round, ids};

/// Plain records in large batches; transactions, every third aborted; and few keys, compacted.
pub(crate) const TOPICS: [&str; 3] = [PLAIN, TRANSACTIONS, COMPACTED];
const PLAIN: &str = "plain";
const TRANSACTIONS: &str = "transactions";
const COMPACTED: &str = "compacted";
/// Of each topic.
pub(crate) const PARTITIONS: i32 = 2;
/// Their shares of all records, %.
const SHARES: [u64; 3] = [60, 20, 20];

/// For all that is waited for.
const LIMIT: Duration = Duration::from_secs(300);
/// Groups whose offsets have not changed on the target for so long stay there: many intervals of each replicator.
const REST: Duration = Duration::from_secs(20);

/// Where it happens.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) from: Cluster,
    pub(crate) to: Cluster,
    records: u64,
}

impl Stage {
    /// Clusters, and the source's topics.
    pub(crate) fn start(records: u64) -> Self {
        let spec = ClusterSpec::new(Version::V4_3_1).for_bench();
        let (from, to) = (Cluster::start(spec.clone()), Cluster::start(spec));
        for topic in TOPICS {
            let spec = TopicSpec::new(topic, PARTITIONS);
            let compacted = |spec: TopicSpec| {
                let spec = spec.set("cleanup.policy", "compact").set("segment.ms", 100);
                spec.set("min.cleanable.dirty.ratio", 0.01)
            };
            let spec = if topic == COMPACTED { compacted(spec) } else { spec };
            driver().create_topic(&from.bootstrap(), &spec);
        }
        Self { from, to, records }
    }

    /// Half of the records, with holes of compaction among them.
    pub(crate) fn write_backlog(&self) {
        eprintln!("writing the first half of {} records", self.records);
        self.write(0, 2);
        let bootstrap = self.from.bootstrap();
        driver().compact(&bootstrap, COMPACTED, self.share(2, 2) as u32 / PARTITIONS as u32 / 4);
        self.end_compaction();
    }

    /// A cleaner that goes on, here or on the target, would take away records that groups are judged by.
    fn end_compaction(&self) {
        driver().alter_configs(&self.from.bootstrap(), COMPACTED, &[("cleanup.policy", "delete")]);
        let mut before = self.visible();
        let mut same = 0;
        wait_until("the cleaner to rest", LIMIT, || {
            let now = self.visible();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            if same >= 5 { Ok(()) } else { Err(format!("{same} dumps alike")) }
        });
    }

    /// A part of the second half.
    pub(crate) fn write_round(&self, number: u32) {
        self.write(u64::from(number), 2 * u64::from(Round::LAST));
    }

    fn share(&self, topic: usize, part: u64) -> u64 {
        self.records * SHARES[topic] / 100 / part
    }

    /// Records of each kind; no seed comes twice, nor does a record.
    fn write(&self, seed: u64, part: u64) {
        let bootstrap = self.from.bootstrap();
        let batches =
            Produce { partitions: PARTITIONS, linger_ms: 50, batch_size: 64 << 10, seed, ..Produce::new("", 0) };
        let plain = Produce { topic: PLAIN.to_owned(), codec: "lz4", count: self.share(0, part), ..batches.clone() };
        driver().produce(&bootstrap, &plain);
        let few_keys = Produce { keys: 500, burst_min: 50, burst_max: 200, linger_ms: 1_000, ..batches.clone() };
        let keyed = Produce { topic: COMPACTED.to_owned(), count: self.share(2, part), codec: "zstd", ..few_keys };
        driver().produce(&bootstrap, &keyed);
        let each = Produce { topic: TRANSACTIONS.to_owned(), count: self.share(1, part), linger_ms: 5, ..batches };
        driver().transact(
            &bootstrap,
            &Transact { producers: 3, records_per_transaction: 20, abort_every: 3, ..Transact::new(each) },
        );
    }

    /// What a read_committed consumer sees of the source.
    pub(crate) fn visible(&self) -> Dump {
        driver().dump(&self.from.bootstrap(), &TOPICS)
    }

    /// What it sees of a peer's topics, under the names of the source's.
    pub(crate) fn copied(&self, peer: Peer) -> Dump {
        let names: BTreeMap<String, &str> = TOPICS.iter().map(|topic| (peer.topic(topic), *topic)).collect();
        let topics: Vec<&str> = names.keys().map(String::as_str).collect();
        driver().dump(&self.to.bootstrap(), &topics).renamed(|name| names[name].to_owned())
    }

    /// Every group commits what it has read by this round.
    pub(crate) fn commit(&self, round: Round) {
        let visible = self.visible();
        let ends = driver().offsets(&self.from.bootstrap(), &TOPICS);
        let offsets: Offsets = GROUPS
            .iter()
            .map(|group| {
                let rows = ends.iter().filter_map(|row| {
                    let records = &visible.partitions[&(row.topic.clone(), row.partition)];
                    let offset = group.standing.offset(round, row.stable_end, records)?;
                    Some(Committed { topic: row.topic.clone(), partition: row.partition, offset })
                });
                (group.id(), rows.collect())
            })
            .filter(|(_, rows): &(String, Vec<Committed>)| !rows.is_empty())
            .collect();
        hands::commit(&self.from, &offsets);
    }

    /// Waits until every peer has copied the last record of every partition.
    pub(crate) fn await_copied(&self, running: &mut [Running]) {
        let visible = self.visible();
        for one in running {
            let peer = one.peer;
            wait_until(&format!("{} to copy all", peer.name()), LIMIT, || {
                one.assert_runs();
                let there = driver().list_topics(&self.to.bootstrap());
                if let Some(missing) = TOPICS.iter().find(|topic| !there.contains(&peer.topic(topic))) {
                    return Err(format!("no topic {}", peer.topic(missing)));
                }
                let copied = self.copied(peer);
                let behind = visible.partitions.iter().find(|(at, records)| {
                    let last = records.last().map(|record| (record.timestamp, record.value));
                    let there = copied.partitions.get(at).and_then(|all| all.last());
                    there.map(|record| (record.timestamp, record.value)) != last
                });
                behind.map_or(Ok(()), |(at, _)| Err(format!("{at:?}: {} of {}", copied.len(), visible.len())))
            });
            eprintln!("{} has copied everything so far", peer.name());
        }
    }

    /// Waits until each peer has translated something.
    pub(crate) fn await_first_offsets(&self, running: &mut [Running]) {
        for one in running {
            let topic = one.peer.topic(PLAIN);
            wait_until(&format!("{} to translate", one.peer.name()), LIMIT, || {
                one.assert_runs();
                let all = hands::committed(&self.to, &ids());
                let some = all.values().flatten().any(|row| row.topic == topic);
                if some { Ok(()) } else { Err(format!("no group has an offset of {topic}")) }
            });
        }
    }

    /// Waits until nobody writes offsets of these groups any more.
    pub(crate) fn await_rest(&self, running: &mut [Running]) {
        eprintln!("waiting until no offset changes for {} s", REST.as_secs());
        let began = Instant::now();
        let (mut last, mut since) = (Offsets::new(), Instant::now());
        while since.elapsed() < REST {
            assert!(began.elapsed() < LIMIT, "offsets still change after {LIMIT:?}");
            running.iter_mut().for_each(Running::assert_runs);
            let now = hands::committed(&self.to, &ids());
            if now != last {
                (last, since) = (now, Instant::now());
            }
            sleep(Duration::from_secs(1));
        }
    }
}
