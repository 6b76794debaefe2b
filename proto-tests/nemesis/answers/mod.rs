//! Every error that an answer can carry: what can be retried goes on by itself, what cannot halts that one partition with
//! its reason; the others go on, and afterwards nothing is lost or there twice.
//!
//! On embedded brokers, which answer with any code when told to.

mod data;
mod metadata;
mod offsets;
mod rights;

pub(crate) use rights::take_rights;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, RequestContext};

use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, append, numbered};
use crate::kafka::harness::wait_until;

/// What becomes of the partition that gets the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It goes on as if nothing had been.
    GoesOn,
    /// It halts for this reason, and goes on by the command that the halt names.
    Halts(&'static str),
    /// `status` gives this reason, and it goes on by itself when the answers end.
    Waits(&'static str),
}
use Then::{GoesOn, Halts, Waits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn of(self, pair: &Pair) -> &Arc<Cluster> {
        match self {
            Self::Source => &pair.source,
            Self::Target => &pair.target,
        }
    }
}

/// Records of one round and partition.
const ROUND: u64 = 3;
/// How often an answer comes that is got over.
const TIMES: usize = 2;

/// What hangs on nothing that is refused comes within this time: less than any one request is tried for.
const SOON: Duration = Duration::from_secs(20);

/// A pair that has mirrored `rounds` so far; partitions 0 and 1 are led by different nodes on either side, and so never in
/// one request.
struct Bench {
    pair: Pair,
    rounds: u64,
}

impl Bench {
    fn new(topic: &str) -> Self {
        let mut pair = Pair::new(topic, 2, 2, "");
        pair.target.create_topic(topic, 2, 1, &[]).unwrap();
        for cluster in [&pair.source, &pair.target] {
            for partition in 0..2 {
                cluster.move_leader(topic, partition, partition + 1).unwrap();
            }
        }
        pair.mirror.start();
        let mut bench = Self { pair, rounds: 0 };
        bench.write();
        (0..2).for_each(|partition| bench.await_all(partition));
        bench
    }

    fn write(&mut self) {
        let from = self.rounds * ROUND;
        (0..2).for_each(|partition| self.pair.write(partition, from, from + ROUND));
        self.rounds += 1;
    }

    fn await_all(&self, partition: i32) {
        self.pair.await_values(partition, &numbered("", 0, self.rounds * ROUND));
    }

    /// Lets a hook give an answer that concerns partition 0, and follows what becomes of it.
    fn follow(
        &mut self,
        side: Side,
        api: ApiKey,
        error: ResponseError,
        then: Then,
        hook: impl Fn(&RequestContext<'_>) -> Action + Send + Sync + 'static,
    ) {
        let times = match then {
            GoesOn => Some(TIMES),
            // A halt comes with the first.
            Halts(_) => Some(1),
            Waits(_) => None,
        };
        let cluster = Arc::clone(side.of(&self.pair));
        let hook = cluster.intercept(api, times, hook);
        self.write();
        self.await_all(1);
        wait_until(&format!("{error:?} to be answered"), LIMIT, || {
            if hook.hits() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
        });
        match then {
            GoesOn => {}
            Halts(reason) => {
                let (found, command) = self.pair.await_halt();
                assert!(found.starts_with(reason), "{error:?}: {found}");
                self.pair.obey(&without_loss(command));
            }
            Waits(reason) => await_reason(&self.pair, &self.pair.topic, 0, reason),
        }
        if then != GoesOn {
            cluster.remove_intercept(&hook);
        }
        self.await_all(0);
        cluster.remove_intercept(&hook);
        // Records flow before the end of a halt is on record.
        self.pair.mirror.await_state(&self.pair.topic, 0, "mirroring");
    }

    /// Lets a hook give an answer until it was `met`, which is told the number of answers, and everything flows still.
    fn flows_under(
        &mut self,
        side: Side,
        api: ApiKey,
        met: impl Fn(&Self, u64) -> bool,
        hook: impl Fn(&RequestContext<'_>) -> Action + Send + Sync + 'static,
    ) {
        let cluster = Arc::clone(side.of(&self.pair));
        let hook = cluster.intercept(api, None, hook);
        wait_until("the answer to be met", LIMIT, || {
            if met(self, hook.hits()) { Ok(()) } else { Err(format!("{} answers", hook.hits())) }
        });
        self.write();
        (0..2).for_each(|partition| self.await_all(partition));
        cluster.remove_intercept(&hook);
    }

    fn finish(mut self) {
        self.pair.mirror.await_caught_up(2);
        (0..2).for_each(|partition| self.pair.assert_mapped(partition));
        self.pair.mirror.stop();
    }
}

/// The command that frees a partition without giving anything up.
fn without_loss(command: Vec<String>) -> Vec<String> {
    command.into_iter().take_while(|word| word != "--accept-loss").collect()
}

/// Waits until `status` gives a reason that holds this.
fn await_reason(pair: &Pair, topic: &str, partition: i32, reason: &str) {
    wait_until(&format!("{reason} of {topic}:{partition}"), LIMIT, || {
        let row = pair.mirror.row(topic, partition)?;
        if row["reason"].as_str().is_some_and(|found| found.contains(reason)) { Ok(()) } else { Err(row.to_string()) }
    });
}

/// As Kafka writes it.
fn name_of(error: ResponseError) -> String {
    kmirror::client::code_name(error.code()).into_owned()
}

/// One topic for each answer, all at once, and a topic `…-other` that gets none; one partition each.
struct Topics {
    pair: Pair,
    name: &'static str,
    table: &'static [(ResponseError, Then)],
}

impl Topics {
    fn new(name: &'static str, table: &'static [(ResponseError, Then)]) -> Self {
        let pair = Pair::matching(name, &format!("{name}-.*"), 2, "");
        let topics = Self { pair, name, table };
        for topic in topics.all() {
            topics.pair.source.create_topic(&topic, 1, 1, &[]).unwrap();
        }
        topics.write(0);
        topics
    }

    fn other(&self) -> String {
        format!("{}-other", self.name)
    }

    fn topic(&self, error: ResponseError) -> String {
        format!("{}-{}", self.name, error.code())
    }

    fn all(&self) -> Vec<String> {
        self.table.iter().map(|(error, _)| self.topic(*error)).chain([self.other()]).collect()
    }

    /// The answer that a topic gets.
    fn answer_of(name: &str, table: &[(ResponseError, Then)], topic: &str) -> Option<ResponseError> {
        let code: i16 = topic.strip_prefix(name)?.strip_prefix('-')?.parse().ok()?;
        table.iter().map(|(error, _)| *error).find(|error| error.code() == code)
    }

    fn write(&self, round: u64) {
        for topic in self.all() {
            append(&self.pair.source, &topic, 0, "", round * ROUND, (round + 1) * ROUND);
        }
    }

    fn await_all(&self, topic: &str, rounds: u64) {
        wait_until(&format!("{topic} on the target"), LIMIT, || {
            let there = self.pair.target.records(topic, 0, 0).map_err(|error| error.to_string())?;
            let there: Vec<String> = there.iter().map(crate::embedded::value).collect();
            if there == numbered("", 0, rounds * ROUND) { Ok(()) } else { Err(format!("{there:?}")) }
        });
    }

    /// What each topic shows while it gets its answer.
    fn await_reasons(&self, partition: i32) {
        for (error, then) in self.table {
            match then {
                GoesOn => {}
                Halts(reason) | Waits(reason) => await_reason(&self.pair, &self.topic(*error), partition, reason),
            }
        }
    }

    /// The answers have ended: frees what has halted, and everything arrives.
    fn await_whole(&self, rounds: u64) {
        for (error, then) in self.table {
            let topic = self.topic(*error);
            if let Halts(_) = then {
                let row = self.pair.mirror.await_state(&topic, 0, "halted");
                let (_, command) = row["way_out"].as_str().unwrap().split_once("kmirror ").unwrap();
                self.pair.obey(&without_loss(command.split(' ').map(str::to_owned).collect()));
            }
            self.await_all(&topic, rounds);
        }
    }

    fn finish(mut self) {
        self.pair.mirror.await_caught_up(self.table.len() + 1);
        self.pair.mirror.stop();
    }
}
