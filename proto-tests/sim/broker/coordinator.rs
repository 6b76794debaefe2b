//! The transaction coordinator, for one transactional id: epochs, and markers that come after the answer, one partition
//! at a time, sometimes twice.

use super::LogId;

pub(crate) const CONCURRENT_TRANSACTIONS: i16 = 51;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const PRODUCER_FENCED: i16 = 90;
const INVALID_TXN_STATE: i16 = 48;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Settled,
    Open(Vec<LogId>),
    /// The abort is decided; markers are still to be written.
    Aborting(Vec<LogId>),
}

/// A marker on its way to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) log: LogId,
    pub(crate) producer: (i64, i16),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Coordinator {
    /// Producer id and epoch; `None` before the first Init, and once the id has expired.
    producer: Option<(i64, i16)>,
    /// Epoch before the last bump that named its epoch: that bump may be asked for again (KIP-360).
    bumped_from: Option<i16>,
    stage: Stage,
    next_producer_id: i64,
    /// Markers that were written already.
    pub(crate) written: Vec<Marker>,
}

impl Coordinator {
    pub(crate) fn init(&mut self, expected: Option<(i64, i16)>) -> Result<(i64, i16), i16> {
        match &self.stage {
            Stage::Open(_) => {
                if self.producer.is_some_and(|now| expected.is_some_and(|e| e != now)) {
                    return Err(PRODUCER_FENCED);
                }
                self.fence();
                return Err(CONCURRENT_TRANSACTIONS);
            }
            Stage::Aborting(_) => return Err(CONCURRENT_TRANSACTIONS),
            Stage::Settled => {}
        }
        let Some((id, epoch)) = self.producer else {
            self.next_producer_id += 1;
            let new = (1000 + self.next_producer_id, 0);
            self.producer = Some(new);
            return Ok(new);
        };
        match expected {
            Some((other, named)) if other != id || (named != epoch && self.bumped_from != Some(named)) => {
                return Err(PRODUCER_FENCED);
            }
            // The answer was lost: the same bump again.
            Some((_, named)) if named != epoch => return Ok((id, epoch)),
            _ => {}
        }
        self.bumped_from = expected.map(|(_, named)| named);
        self.producer = Some((id, epoch + 1));
        Ok((id, epoch + 1))
    }

    /// An open transaction is aborted under a new epoch, which fences its owner.
    fn fence(&mut self) {
        if let (Stage::Open(logs), Some((id, epoch))) = (&self.stage, self.producer) {
            self.stage = Stage::Aborting(logs.clone());
            self.producer = Some((id, epoch + 1));
            self.bumped_from = None;
        }
    }

    /// The time of a transaction is up.
    pub(crate) fn time_out(&mut self) -> bool {
        let open = matches!(self.stage, Stage::Open(_));
        self.fence();
        open
    }

    fn check(&self, producer: (i64, i16)) -> Result<(), i16> {
        match self.producer {
            Some(now) if now == producer => Ok(()),
            Some((id, _)) if id == producer.0 => Err(PRODUCER_FENCED),
            _ => Err(INVALID_PRODUCER_ID_MAPPING),
        }
    }

    pub(crate) fn add_partitions(&mut self, producer: (i64, i16), logs: &[LogId]) -> Result<(), i16> {
        self.check(producer)?;
        match &mut self.stage {
            Stage::Aborting(_) => return Err(CONCURRENT_TRANSACTIONS),
            Stage::Open(open) => open.extend_from_slice(logs),
            Stage::Settled => self.stage = Stage::Open(logs.to_vec()),
        }
        Ok(())
    }

    /// Answers before the markers are written.
    pub(crate) fn end(&mut self, producer: (i64, i16)) -> Result<(), i16> {
        self.check(producer)?;
        match &self.stage {
            Stage::Open(logs) => {
                self.stage = Stage::Aborting(logs.clone());
                Ok(())
            }
            Stage::Aborting(_) => Err(CONCURRENT_TRANSACTIONS),
            Stage::Settled if self.written.iter().any(|m| m.producer == producer) => Ok(()),
            Stage::Settled => Err(INVALID_TXN_STATE),
        }
    }

    /// Markers still to be written.
    pub(crate) fn due(&self) -> Vec<Marker> {
        match (&self.stage, self.producer) {
            (Stage::Aborting(logs), Some(producer)) => logs.iter().map(|log| Marker { log: *log, producer }).collect(),
            _ => Vec::new(),
        }
    }

    /// A marker stands below the high watermark, or was refused for a newer one.
    pub(crate) fn done(&mut self, marker: Marker) {
        if let Stage::Aborting(logs) = &mut self.stage {
            logs.retain(|log| *log != marker.log);
            if logs.is_empty() {
                self.stage = Stage::Settled;
            }
        }
        self.written.push(marker);
    }

    /// Idle for longer than `transactional.id.expiration.ms`: the next Init gets another producer id and fences nobody.
    pub(crate) fn forget(&mut self) -> bool {
        let idle = self.stage == Stage::Settled && self.producer.is_some();
        if idle {
            self.producer = None;
            self.bumped_from = None;
        }
        idle
    }
}
