//! The shard: taking it over, and writing its partition of the state topic (`engine::shard`, `engine::markers`,
//! `engine::shard_worker`).

use kmirror::batch::{self, RawBatch, Stamp};
use kmirror::mirror::{ShardState, StateRecord, decode_state, encode_state, segments_records};

use super::attach;
use super::io::{End, Io, Request, Response, unexpected};
use super::{Event, Job, topic};
use crate::sim::broker::LogId;
use crate::sim::mutation::Mutation;

/// How long a marker may take to appear before the process gives up.
const MARKER_DEADLINE_MS: u64 = 60_000;
/// Records after which the state is written anew; small, so that snapshots are made often.
const SNAPSHOT_RECORDS: usize = 24;

pub(crate) struct Shard {
    pub(crate) io: Io,
    pub(crate) producer: (i64, i16),
    state_epoch: i16,
    next_sequence: i32,
    pub(crate) state: ShardState,
    records_since_snapshot: usize,
}

/// Where a marker stands, and the last data batch between where the search began and it.
pub(crate) struct Marker {
    pub(crate) offset: i64,
    pub(crate) last_data: Option<RawBatch>,
}

pub(crate) async fn write_markers(io: &Io, producer: (i64, i16), logs: &[LogId]) -> Result<(), End> {
    io.ask(Request::AddPartitions(producer, logs.to_vec())).await?;
    io.ask(Request::EndTxn(producer)).await?;
    Ok(())
}

/// Reads on from `from` until the marker of exactly this producer appears below the high watermark.
pub(crate) async fn await_marker(
    io: &Io,
    log: LogId,
    from: i64,
    producer: (i64, i16),
    mut visit: impl FnMut(&RawBatch) -> Result<(), End>,
) -> Result<Marker, End> {
    let began = io.now_ms();
    let (mut at, mut last_data) = (from, None);
    loop {
        let read = io.read(Request::Read { log, offset: at }).await?;
        let Some(batches) = read else { return Err(End::Failed(format!("{log:?} has no offset {at}"))) };
        let empty = batches.is_empty();
        for batch in batches {
            let header = batch.header;
            if header.next_offset() <= at {
                continue;
            }
            at = header.next_offset();
            if !header.is_control() {
                visit(&batch)?;
                last_data = Some(batch);
            } else if (header.producer_id, header.producer_epoch) == producer {
                return Ok(Marker { offset: header.base_offset, last_data });
            }
        }
        if empty && io.broken(Mutation::SkipMarkerWait) {
            return Ok(Marker { offset: at, last_data });
        }
        if io.now_ms() > began + MARKER_DEADLINE_MS {
            return Err(End::Failed(format!("no marker of {producer:?} in {log:?}")));
        }
        if empty {
            io.pause(20).await;
        }
    }
}

/// What the records of a state partition add up to.
pub(crate) fn replay(state: &mut ShardState, batch: &RawBatch) -> Result<(), End> {
    for record in batch::decode(batch, 1 << 20).map_err(|e| End::Broken(e.to_string()))? {
        let at = |error: kmirror::mirror::StateError| End::Broken(format!("state offset {}: {error}", record.offset));
        let decoded = decode_state(&record.value.clone().unwrap_or_default()).map_err(at)?;
        state.apply(&decoded).map_err(at)?;
    }
    Ok(())
}

impl Shard {
    pub(crate) async fn take(io: Io) -> Result<Self, End> {
        let Response::Producer(producer) = io.ask(Request::Init(None)).await? else {
            return Err(End::Broken("Init".to_owned()));
        };
        let mut state = ShardState::default();
        let start = if io.broken(Mutation::SkipStateMarker) {
            read_to_end(&io, &mut state).await?;
            io.bounds(LogId::State).await?.end
        } else {
            io.bounds(LogId::State).await?.start
        };
        write_markers(&io, producer, &[LogId::State]).await?;
        let skip = io.broken(Mutation::SkipStateMarker);
        await_marker(&io, LogId::State, start, producer, |batch| if skip { Ok(()) } else { replay(&mut state, batch) })
            .await?;
        let mut shard =
            Self { io, producer, state_epoch: producer.1, next_sequence: 0, state, records_since_snapshot: 0 };
        shard.append(vec![StateRecord::Id { producer_id: producer.0, producer_epoch: producer.1 }]).await?;
        Ok(shard)
    }

    /// Writes records and applies them once they are acknowledged.
    pub(crate) async fn append(&mut self, records: Vec<StateRecord>) -> Result<(), End> {
        self.append_unapplied(&records).await?;
        for record in &records {
            self.apply(record)?;
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, record: &StateRecord) -> Result<(), End> {
        self.state.apply(record).map_err(|error| End::Broken(format!("{record:?}: {error}")))
    }

    async fn append_unapplied(&mut self, records: &[StateRecord]) -> Result<(), End> {
        if records.is_empty() {
            return Ok(());
        }
        let stamp =
            Stamp { producer_id: self.producer.0, producer_epoch: self.state_epoch, base_sequence: self.next_sequence };
        let values = records.iter().map(encode_state).collect();
        let bytes = batch::encode_values(values, self.io.now_ms() as i64, stamp).unwrap();
        self.records_since_snapshot += records.len();
        match self.io.ask(Request::Produce { log: LogId::State, bytes }).await? {
            Response::Offset(_) => {
                self.next_sequence = batch::sequence_add(self.next_sequence, records.len() as i64);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// One epoch further, to take single partitions over.
    pub(crate) async fn bump(&mut self) -> Result<(), End> {
        match self.io.ask(Request::Init(Some(self.producer))).await? {
            Response::Producer(new) if new.0 == self.producer.0 => {
                self.producer = new;
                Ok(())
            }
            _ => Err(End::Failed("another producer id".to_owned())),
        }
    }

    async fn keep_alive(&mut self) -> Result<(), End> {
        write_markers(&self.io, self.producer, &[LogId::State]).await?;
        if self.state_epoch != self.producer.1 {
            self.state_epoch = self.producer.1;
            self.next_sequence = 0;
        }
        Ok(())
    }

    async fn compact(&mut self) -> Result<(), End> {
        if self.records_since_snapshot < SNAPSHOT_RECORDS {
            return Ok(());
        }
        let below = self.io.bounds(LogId::State).await?.end;
        let records = self.state.snapshot(below.unsigned_abs());
        self.append_unapplied(&records).await?;
        self.records_since_snapshot = 0;
        self.io.ask(Request::DeleteRecords { log: LogId::State, before: below }).await?;
        Ok(())
    }

    async fn work(&mut self, job: Job) -> Result<Option<Event>, End> {
        Ok(Some(match job {
            Job::Segments { tickets, entries } => {
                self.append(segments_records(entries)).await?;
                self.compact().await?;
                Event::Written(tickets)
            }
            Job::Attach { wanted, retake } => Event::Attached(attach::attach(self, wanted, retake).await?),
            Job::Fence { part } => {
                attach::fence(self, part).await?;
                Event::Fenced(part)
            }
            Job::Displaced { wanted, displacements, take_over } => {
                Event::Displaced(attach::displaced(self, wanted, &displacements, take_over).await?)
            }
            Job::Halt { part, halt, resumes } => {
                self.append(vec![StateRecord::Halt { topic: topic(part), partition: 0, halt, resumes }]).await?;
                return Ok(None);
            }
            Job::Scanned { entries } => {
                self.append(vec![StateRecord::Scanned { entries }]).await?;
                return Ok(None);
            }
            Job::KeepAlive => {
                self.keep_alive().await?;
                return Ok(None);
            }
            Job::Release { entries } => {
                self.append(vec![StateRecord::Release { entries }]).await?;
                Event::Released
            }
        }))
    }
}

async fn read_to_end(io: &Io, state: &mut ShardState) -> Result<(), End> {
    let bounds = io.bounds(LogId::State).await?;
    let mut at = bounds.start;
    while at < bounds.end {
        let read = io.read(Request::Read { log: LogId::State, offset: at }).await?;
        for batch in read.unwrap_or_default() {
            at = batch.header.next_offset();
            if !batch.header.is_control() {
                replay(state, &batch)?;
            }
        }
    }
    Ok(())
}

/// Takes the shard, then does one job after another.
pub(crate) async fn worker(io: Io) -> End {
    match run(&io).await {
        Ok(()) => End::Stopped,
        Err(end) => end,
    }
}

async fn run(io: &Io) -> Result<(), End> {
    let mut shard = Shard::take(io.clone()).await?;
    io.0.events.borrow_mut().push_back(Event::Taken(Box::new(shard.state.clone())));
    loop {
        let job = io.next_job().await;
        if let Some(event) = shard.work(job).await? {
            io.0.events.borrow_mut().push_back(event);
        }
    }
}
