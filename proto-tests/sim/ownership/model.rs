//! The protocol as a model: state, steps, and what must hold. The decisions are kmirror's own.

use stateright::{Model, Property};

use super::logs::{Datum, Entry, readable, sum};

mod effects;

/// A rule of the protocol that is left out, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    Nothing,
    StateMarker,
    DataMarker,
    WriteAhead,
    Origin,
    ResumeRecord,
    /// An outcome that is not known is tried again although the broker may have forgotten the producer.
    TakeOverWhenForgotten,
}

/// What is possible, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ownership {
    pub(crate) dropped: Dropped,
    pub(crate) writers: usize,
    /// Starts of a writer altogether.
    pub(crate) lives: u8,
    pub(crate) source_records: i64,
    pub(crate) compactions: u8,
    pub(crate) repeated_markers: u8,
    /// How often the broker may forget the producer: records are old.
    pub(crate) expiries: u8,
    /// The broker may forget while an older owner sleeps, to wake with a batch in its hand.
    pub(crate) sleepers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    State,
    Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Transaction {
    None,
    Open(Place),
    /// Decided; the marker is still to be written.
    Aborting(Place),
}

/// A produce request on its way: "append at this offset, or tell me".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Produce {
    epoch: i16,
    sequence: i32,
    source: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Off,
    Init,
    StateOpen,
    StateEnded,
    /// The state is read.
    Read,
    DataOpen {
        from: usize,
    },
    DataEnded {
        from: usize,
    },
    Flow {
        epoch: i16,
        origin: i64,
        end: i64,
        unacked: Option<i64>,
    },
    /// It does not know how to go on: never right here.
    Halted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Writer {
    phase: Phase,
    epoch: i16,
    /// The state as it was read, and what this writer wrote since.
    view: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Whether each source record is still there.
    source: Vec<bool>,
    epoch: i16,
    transaction: Transaction,
    state_log: Vec<Entry>,
    data_log: Vec<Datum>,
    /// What the broker remembers of the producer on the data partition: epoch, next sequence, and from where on it
    /// recognises what it has appended.
    memory: Option<(i16, i32, usize)>,
    net: Vec<Produce>,
    writers: Vec<Writer>,
    lives: u8,
    compactions: u8,
    repeats: u8,
    expiries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Init(usize),
    AddPartition(usize),
    EndTransaction(usize),
    WriteMarker,
    RepeatMarker(i16),
    ReadState(usize),
    Decide(usize),
    Settle(usize),
    Break(usize),
    Produce(usize),
    Resend(usize),
    Deliver(usize, bool),
    Stop(usize),
    Crash(usize),
    Compact(usize),
    Forget,
}

impl Ownership {
    fn writer_steps(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let writer = &state.writers[who];
        match &writer.phase {
            Phase::Off if state.lives > 0 => steps.push(Step::Init(who)),
            Phase::Init | Phase::DataOpen { .. } => steps.push(Step::AddPartition(who)),
            Phase::StateOpen => steps.push(Step::EndTransaction(who)),
            Phase::StateEnded => steps.push(Step::ReadState(who)),
            Phase::Read => steps.push(Step::Decide(who)),
            Phase::DataEnded { .. } => steps.extend([Step::EndTransaction(who), Step::Settle(who)]),
            Phase::Flow { unacked: None, .. } => steps.extend([Step::Break(who), Step::Produce(who), Step::Stop(who)]),
            Phase::Flow { unacked: Some(_), .. } => steps.push(Step::Resend(who)),
            Phase::Off | Phase::Halted => {}
        }
        if writer.phase != Phase::Off {
            steps.push(Step::Crash(who));
        }
    }

    fn produce(&self, state: &mut State, who: usize) -> Option<()> {
        let Phase::Flow { epoch, origin, end, unacked: None } = state.writers[who].phase else { return None };
        let position = sum(&state.writers[who].view)?.map.to_source(end, end + 1).offset;
        let source = state.next_record(position)?;
        // Every other record has its break first.
        if source != position && self.dropped != Dropped::WriteAhead {
            return None;
        }
        state.net.push(Produce { epoch, sequence: (end - origin) as i32, source });
        state.writers[who].phase = Phase::Flow { epoch, origin, end, unacked: Some(source) };
        Some(())
    }

    fn write_break(&self, state: &mut State, who: usize) -> Option<()> {
        let Phase::Flow { end, .. } = state.writers[who].phase else { return None };
        let partition = sum(&state.writers[who].view)?;
        let position = partition.map.to_source(end, end + 1).offset;
        let skipped = state.next_record(position)? - position;
        if skipped == 0 || self.dropped == Dropped::WriteAhead {
            return None;
        }
        let run = (end - partition.map.last()?.target) as u64;
        state.write(who, Entry::Break { run, skipped: skipped as u64 });
        Some(())
    }

    fn resend(&self, state: &mut State, who: usize) -> Option<()> {
        let Phase::Flow { epoch, origin, end, unacked: Some(source) } = state.writers[who].phase else { return None };
        let batch = Produce { epoch, sequence: (end - origin) as i32, source };
        // Old records: the outcome is told by a take-over, not by sending again.
        let forgettable = self.expiries > 0 && self.dropped != Dropped::TakeOverWhenForgotten;
        if state.net.len() > 1 || forgettable {
            return None;
        }
        state.net.push(batch);
        Some(())
    }

    fn deliver(&self, state: &mut State, at: usize, answered: bool) -> Option<()> {
        let batch = state.net.remove(at);
        let base = state.append(batch);
        let sender = state.writers.iter().position(|w| match w.phase {
            Phase::Flow { epoch, origin, end, unacked: Some(source) } => {
                (epoch, (end - origin) as i32, source) == (batch.epoch, batch.sequence, batch.source)
            }
            _ => false,
        });
        match (answered, sender) {
            (true, Some(who)) => state.answered(who, base),
            (true, None) => return None,
            (false, _) => {}
        }
        Some(())
    }

    fn add_partition(&self, state: &mut State, who: usize) -> Option<()> {
        let writer = &mut state.writers[who];
        if writer.epoch != state.epoch {
            writer.phase = Phase::Off;
            return Some(());
        }
        if state.transaction != Transaction::None {
            return None;
        }
        let (place, phase) = match writer.phase {
            Phase::DataOpen { from } => (Place::Data, Phase::DataEnded { from }),
            _ => (Place::State, Phase::StateOpen),
        };
        writer.phase = phase;
        state.transaction = Transaction::Open(place);
        Some(())
    }

    fn end_transaction(&self, state: &mut State, who: usize) -> Option<()> {
        let writer = &mut state.writers[who];
        if writer.epoch != state.epoch {
            writer.phase = Phase::Off;
            return Some(());
        }
        let Transaction::Open(place) = state.transaction else { return None };
        state.transaction = Transaction::Aborting(place);
        if writer.phase == Phase::StateOpen {
            writer.phase = Phase::StateEnded;
        }
        Some(())
    }

    fn init(&self, state: &mut State, who: usize) -> Option<()> {
        match state.transaction {
            // Aborted first, under an epoch that nobody owns.
            Transaction::Open(place) => {
                state.epoch += 1;
                state.transaction = Transaction::Aborting(place);
            }
            Transaction::Aborting(_) => return None,
            Transaction::None => {
                state.epoch += 1;
                state.lives -= 1;
                state.writers[who] = Writer { phase: Phase::Init, epoch: state.epoch, view: Vec::new() };
            }
        }
        Some(())
    }

    fn read_state(&self, state: &mut State, who: usize) -> Option<()> {
        let marker = state.marked(Place::State, state.writers[who].epoch);
        let upto = if self.dropped == Dropped::StateMarker { state.state_log.len() } else { marker? };
        state.writers[who].view = state.state_log[..upto].to_vec();
        state.writers[who].phase = Phase::Read;
        Some(())
    }

    fn settle(&self, state: &mut State, who: usize) -> Option<()> {
        let Phase::DataEnded { .. } = state.writers[who].phase else { return None };
        let marker = state.marked(Place::Data, state.writers[who].epoch);
        let ended = matches!(state.transaction, Transaction::Aborting(Place::Data));
        let marker = match marker {
            Some(marker) => marker,
            None if self.dropped == Dropped::DataMarker && ended => state.data_log.len(),
            None => return None,
        };
        state.settle(who, marker, self.dropped);
        Some(())
    }

    fn stop(&self, state: &mut State, who: usize) -> Option<()> {
        let Phase::Flow { end, unacked: None, .. } = state.writers[who].phase else { return None };
        state.write(who, Entry::Release { end });
        state.writers[who].phase = Phase::Off;
        Some(())
    }
}

impl Model for Ownership {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let writer = Writer { phase: Phase::Off, epoch: -1, view: Vec::new() };
        vec![State {
            source: vec![true; self.source_records as usize],
            epoch: -1,
            transaction: Transaction::None,
            state_log: Vec::new(),
            data_log: Vec::new(),
            memory: None,
            net: Vec::new(),
            writers: vec![writer; self.writers],
            lives: self.lives,
            compactions: self.compactions,
            repeats: self.repeated_markers,
            expiries: self.expiries,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        (0..state.writers.len()).for_each(|who| self.writer_steps(state, who, steps));
        if matches!(state.transaction, Transaction::Aborting(_)) {
            steps.push(Step::WriteMarker);
        }
        steps.extend((0..state.net.len()).flat_map(|at| [Step::Deliver(at, true), Step::Deliver(at, false)]));
        if state.repeats > 0 {
            steps.extend(state.data_log.last().and_then(|_| {
                let newest = state.data_log.iter().rev().find_map(|d| match d {
                    Datum::Marker(epoch) => Some(*epoch),
                    Datum::Record { .. } => None,
                });
                newest.map(Step::RepeatMarker)
            }));
        }
        if state.compactions > 0 {
            // The last record of a log is never cleaned.
            steps.extend((0..state.source.len() - 1).filter(|at| state.source[*at]).map(Step::Compact));
        }
        // The fence is remembered for as long as something older may still be on its way.
        let sleeping = |w: &Writer, epoch| matches!(w.phase, Phase::Flow { epoch: older, .. } if older < epoch);
        let asleep = |epoch| state.writers.iter().any(|w| sleeping(w, epoch));
        let older = |epoch| state.net.iter().any(|batch| batch.epoch < epoch) || (asleep(epoch) && !self.sleepers);
        if state.expiries > 0 && state.memory.is_some_and(|(epoch, ..)| !older(epoch)) {
            steps.push(Step::Forget);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Init(who) => self.init(&mut state, who)?,
            Step::AddPartition(who) => self.add_partition(&mut state, who)?,
            Step::EndTransaction(who) => self.end_transaction(&mut state, who)?,
            Step::WriteMarker => {
                let Transaction::Aborting(place) = state.transaction else { return None };
                state.mark(place, state.epoch);
                state.transaction = Transaction::None;
            }
            Step::RepeatMarker(epoch) => {
                state.repeats -= 1;
                state.mark(Place::Data, epoch);
            }
            Step::ReadState(who) => self.read_state(&mut state, who)?,
            Step::Decide(who) => state.decide(who, self.dropped),
            Step::Settle(who) => self.settle(&mut state, who)?,
            Step::Break(who) => self.write_break(&mut state, who)?,
            Step::Produce(who) => self.produce(&mut state, who)?,
            Step::Resend(who) => self.resend(&mut state, who)?,
            Step::Deliver(at, answered) => self.deliver(&mut state, at, answered)?,
            Step::Stop(who) => self.stop(&mut state, who)?,
            Step::Crash(who) => state.writers[who].phase = Phase::Off,
            Step::Compact(at) => {
                state.compactions -= 1;
                state.source[at] = false;
            }
            Step::Forget => {
                state.expiries -= 1;
                state.memory = None;
            }
        }
        // What a writer that is off once knew distinguishes nothing.
        state.writers.iter_mut().filter(|w| w.phase == Phase::Off).for_each(|w| (w.epoch, w.view) = (-1, Vec::new()));
        state.writers.sort_by_key(|w| w.epoch);
        state.net.sort();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each record once and in order", |_, state: &State| state.is_in_order()),
            Property::always("the map is exact and complete", |_, state: &State| state.is_exact()),
            Property::always("the state can be read", |_, state: &State| readable(&state.state_log)),
            Property::always("nobody is at a loss", |_, state: &State| {
                !state.writers.iter().any(|w| w.phase == Phase::Halted)
            }),
            Property::sometimes("everything is mirrored", |_, state: &State| state.is_done()),
            Property::sometimes("a partition is taken over", |_, state: &State| {
                state.state_log.iter().any(|e| matches!(e, Entry::Origin { .. }))
            }),
            Property::sometimes("a release is resumed", |_, state: &State| {
                state.state_log.iter().any(|e| matches!(e, Entry::Resume { .. }))
            }),
        ]
    }
}
