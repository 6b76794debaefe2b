//! Random faults against a model of the broker.

use super::*;
use crate::batch::{RawBatch, sequence_difference};

/// A partition leader by the measured rules: sequence check, the last five batches, unknown state takes any sequence.
#[derive(Default)]
struct Broker {
    /// Record values; `None` where somebody else wrote.
    log: Vec<Option<Bytes>>,
    /// (first, last, base offset) of the last five batches; empty: no state.
    batches: VecDeque<(i32, i32, i64)>,
    /// A batch of more records is too large, or holds one that is refused.
    most: usize,
}

impl Broker {
    fn produce(&mut self, out: &Outgoing) -> Answer {
        let bytes = [&out.header[..], &out.payload].concat();
        let sent = RawBatch::parse(bytes.into()).unwrap();
        let records = batch::decode(&sent, 1 << 20).unwrap();
        if records.len() > self.most {
            let code = if self.most > 5 { code::MESSAGE_TOO_LARGE } else { code::INVALID_RECORD };
            return Answer::Refused { code, message: "no".to_owned(), retriable: false };
        }
        let (first, base_offset) = (sent.header.base_sequence, self.log.len() as i64);
        let last = batch::sequence_add(first, records.len() as i64 - 1);
        if let Some((.., base_offset)) = self.batches.iter().find(|b| (b.0, b.1) == (first, last)) {
            return Answer::Appended { base_offset: *base_offset };
        }
        if self.batches.back().is_some_and(|b| sequence_difference(b.1, first) != 1) {
            let message = "out of order".to_owned();
            return Answer::Refused { code: code::OUT_OF_ORDER_SEQUENCE_NUMBER, message, retriable: false };
        }
        self.batches.push_back((first, last, base_offset));
        if self.batches.len() > 5 {
            self.batches.pop_front();
        }
        self.log.extend(records.into_iter().map(|record| record.value));
        Answer::Appended { base_offset }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    NotSent,
    LoseRequest,
    LoseAnswer,
    Busy,
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    Send,
    Deliver(Fault),
    Foreign,
    Forget,
    MoveLeader,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        8 => Just(Fault::None),
        2 => Just(Fault::LoseRequest),
        2 => Just(Fault::NotSent),
        2 => Just(Fault::LoseAnswer),
        1 => Just(Fault::Busy)
    ];
    let step = prop_oneof![
        20 => (1u32..4).prop_map(Step::Push),
        60 => Just(Step::Send),
        60 => fault.prop_map(Step::Deliver),
        1 => Just(Step::Foreign),
        1 => Just(Step::Forget),
        2 => Just(Step::MoveLeader),
    ];
    proptest::collection::vec(step, 1..160)
}

/// One partition under way: what is in the pipe arrives in order.
struct World {
    appender: Appender,
    broker: Broker,
    pipe: VecDeque<Outgoing>,
    now_ms: u64,
    input: i64,
    over: Option<Verdict>,
    foreign: bool,
}

impl World {
    fn new(counts: &[u32], origin: i64, coalesce_bytes: usize, most: usize) -> Self {
        let writer = Writer { origin: -origin, ..WRITER };
        let appender = Appender::new(writer, 0, Segment::Open { run: 0, leader_epoch: 3 }, 1 << 40);
        let appender = appender.coalescing(coalesce_bytes);
        let (broker, pipe) = (Broker { most, ..Broker::default() }, VecDeque::new());
        let mut world = Self { appender, broker, pipe, now_ms: NOW, input: 0, over: None, foreign: false };
        counts.iter().for_each(|count| world.push(*count));
        world
    }

    fn push(&mut self, count: u32) {
        self.appender.push(young(self.input, count));
        self.input += i64::from(count);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push(count) => self.push(*count),
            Step::Send => {
                self.now_ms += BACKOFF_MAX_MS;
                self.pipe.extend(self.appender.take_outgoing(self.now_ms));
            }
            Step::Deliver(fault) => self.deliver(*fault),
            Step::Foreign => {
                self.foreign = true;
                self.broker.log.push(None);
            }
            // Only what is not in doubt may be forgotten: the state outlives young records.
            Step::Forget if self.appender.is_clean() => {
                self.broker.batches.clear();
                self.appender.leader_changed();
            }
            Step::Forget => {}
            Step::MoveLeader => self.appender.leader_changed(),
        }
    }

    fn deliver(&mut self, fault: Fault) {
        let Some(out) = self.pipe.pop_front() else { return };
        let busy = Answer::Refused { code: 6, message: "not the leader".to_owned(), retriable: true };
        let answer = match fault {
            Fault::None => self.broker.produce(&out),
            Fault::LoseRequest => Answer::Lost,
            Fault::NotSent => Answer::NotSent,
            Fault::LoseAnswer => {
                self.broker.produce(&out);
                Answer::Lost
            }
            Fault::Busy => busy,
        };
        match self.appender.answer(out.target, answer, self.now_ms) {
            Verdict::Go | Verdict::Refresh => {}
            verdict => self.over = self.over.take().or(Some(verdict)),
        }
    }

    /// A coalesced batch of which it is not known whether it was appended was refused: sending it again does not tell.
    fn refused_in_doubt(&self) -> bool {
        let refused = self.appender.sent().any(|e| e.unknown && e.ready.count() as usize > self.broker.most);
        refused && matches!(self.over, Some(Verdict::TakeOver(_)))
    }

    fn ours(&self) -> Vec<Bytes> {
        self.broker.log.iter().flatten().cloned().collect()
    }

    fn check(&self) {
        let want = |n: usize| (0..n).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>();
        let ours = self.ours();
        assert_eq!(ours, want(ours.len()), "in order, each once");
        assert!(self.appender.settled() as usize <= self.broker.log.len());
        let settled = &self.broker.log[..self.appender.settled() as usize];
        let below = settled.iter().flatten().count();
        assert!(self.appender.displacements().is_empty() || self.foreign);
        assert!(below == settled.len() || self.foreign);
        let Appender { queue, sent, queued_bytes, .. } = &self.appender;
        assert!(queue.range(sent..).all(|e| e.status == Status::Queued && !e.unknown), "what is open was sent");
        assert_eq!(queue.iter().map(|e| e.ready.bytes()).sum::<usize>(), *queued_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_holds_the_input_in_order_each_once_whatever_breaks(
        counts in proptest::collection::vec(1u32..4, 1..30),
        origin in prop_oneof![Just(0i64), Just((1i64 << 31) - 20)],
        coalesce_bytes in prop_oneof![Just(0), Just(64 << 10), 200..2000usize],
        most in prop_oneof![Just(usize::MAX), 3..20usize],
        steps in steps(),
    ) {
        let mut world = World::new(&counts, origin, coalesce_bytes, most);
        for step in &steps {
            world.step(step);
            world.check();
            if world.over.is_some() {
                if world.refused_in_doubt() {
                    return Ok(());
                }
                prop_assert!(world.foreign, "{:?}", world.over);
                // Or a take-over, where an outcome stays open behind a batch that was refused.
                let told = matches!(world.over, Some(Verdict::Displaced { .. } | Verdict::TakeOver(_)));
                prop_assert!(told && !world.appender.displacements().is_empty(), "{:?}", world.over);
                prop_assert_eq!(world.appender.settled(), world.broker.log.len() as i64 - trailing(&world.broker.log));
                return Ok(());
            }
        }
        if !world.foreign {
            for _ in 0..4 * (counts.len() + steps.len()) {
                world.step(&Step::Send);
                world.step(&Step::Deliver(Fault::None));
                world.check();
                if world.refused_in_doubt() {
                    return Ok(());
                }
            }
            prop_assert!(world.appender.is_idle(), "everything arrives once nothing breaks any more");
            prop_assert_eq!((world.appender.settled(), world.ours().len() as i64), (world.input, world.input));
        }
    }
}

/// Foreign records behind the last of ours.
fn trailing(log: &[Option<Bytes>]) -> i64 {
    log.iter().rev().take_while(|value| value.is_none()).count() as i64
}
