//! What stands on the target for each group, held against the records.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::hands::{self, Offsets};
use crate::kafka::harness::dump::{Digest, TopicPartition};
use crate::kafka::harness::{Dump, compare};
use crate::peers::Peer;
use crate::stage::Stage;
use crate::standing::{GROUPS, ids};

/// Where a peer lets a group go on in a partition.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Found {
    /// On the target; `null` where nothing is committed there.
    pub(crate) target_offset: Option<i64>,
    /// Records in front of the right one that it reads a second time.
    pub(crate) again: u64,
    /// Records that it never reads.
    pub(crate) skipped: u64,
    /// Where nothing is committed: the records in front of the right one. `auto.offset.reset` says whether they are read again
    /// (`earliest`), or those behind it are skipped (`latest`).
    pub(crate) in_front: Option<u64>,
}

/// A group in a partition.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Position {
    pub(crate) group: &'static str,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// What it has committed on the source.
    pub(crate) source_offset: i64,
    /// Whether a record that a consumer sees stands at that offset; else it is in a gap or at the end.
    pub(crate) at_a_record: bool,
    /// Records that it has not read yet.
    pub(crate) unread: u64,
    /// By peer, in the order of [`Peer::ALL`].
    #[serde(skip)]
    pub(crate) found: [Found; 3],
}

/// Sums over some positions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sums {
    pub(crate) positions: u64,
    pub(crate) again: u64,
    /// The most of a single position.
    pub(crate) again_worst: u64,
    pub(crate) skipped: u64,
    pub(crate) skipped_worst: u64,
    pub(crate) without_offset: u64,
}

impl Sums {
    pub(crate) fn of<'a>(positions: impl Iterator<Item = &'a Position>, peer: Peer) -> Self {
        positions.fold(Self::default(), |sums, position| {
            let found = position.found[peer as usize];
            Self {
                positions: sums.positions + 1,
                again: sums.again + found.again,
                again_worst: sums.again_worst.max(found.again),
                skipped: sums.skipped + found.skipped,
                skipped_worst: sums.skipped_worst.max(found.skipped),
                without_offset: sums.without_offset + u64::from(found.target_offset.is_none()),
            }
        })
    }
}

/// All positions.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) positions: Vec<Position>,
    /// Records on the source, for a read_committed consumer.
    pub(crate) records: usize,
    /// What of the copies is not as on the source, by peer.
    pub(crate) differences: [usize; 3],
}

impl Judged {
    /// Reads both sides.
    pub(crate) fn look(stage: &Stage) -> Self {
        let visible = stage.visible();
        let copies = Peer::ALL.map(|peer| stage.copied(peer));
        let differences = [0, 1, 2].map(|peer: usize| compare(&visible, &copies[peer]).differences.len());
        let (here, there) = (hands::committed(&stage.from, &ids()), hands::committed(&stage.to, &ids()));
        let mut positions = Vec::new();
        for group in &GROUPS {
            for row in &here[&group.id()] {
                let at = (row.topic.clone(), row.partition);
                let records = &visible.partitions[&at];
                let next = records.partition_point(|record| record.offset < row.offset);
                let found = Peer::ALL.map(|peer| {
                    let copy = &copies[peer as usize];
                    judge(&records[next..], copied(copy, &at), offset_of(&there, &group.id(), peer, &at))
                });
                positions.push(Position {
                    group: group.name,
                    topic: at.0,
                    partition: at.1,
                    source_offset: row.offset,
                    at_a_record: records.get(next).is_some_and(|record| record.offset == row.offset),
                    unread: (records.len() - next) as u64,
                    found,
                });
            }
        }
        Self { positions, records: visible.len(), differences }
    }

    /// What of a peer's offsets and copies is not exact.
    pub(crate) fn faults_of(&self, peer: Peer) -> Vec<String> {
        let inexact = self.positions.iter().filter_map(|position| {
            let found = position.found[peer as usize];
            let exact = found.target_offset.is_some() && found.again == 0 && found.skipped == 0;
            (!exact).then(|| format!("{position:?}"))
        });
        let differences = self.differences[peer as usize];
        let copy = (differences > 0).then(|| format!("{differences} differences between source and copy"));
        inexact.chain(copy).collect()
    }
}

fn copied<'a>(copy: &'a Dump, at: &TopicPartition) -> &'a [Digest] {
    copy.partitions.get(at).map_or(&[], Vec::as_slice)
}

fn offset_of(there: &Offsets, group: &str, peer: Peer, at: &TopicPartition) -> Option<i64> {
    let topic = peer.topic(&at.0);
    there[group].iter().find(|row| row.topic == topic && row.partition == at.1).map(|row| row.offset)
}

/// What makes a record that record; no two of a partition are alike.
fn content(record: &Digest) -> (i64, u64, u64, u64) {
    (record.timestamp, record.key, record.value, record.headers)
}

/// `unread`: what the group has not read of the source; `copy`: the partition on the target.
fn judge(unread: &[Digest], copy: &[Digest], target_offset: Option<i64>) -> Found {
    let places: HashMap<_, usize> = copy.iter().enumerate().map(|(at, record)| (content(record), at)).collect();
    let right = unread.iter().find_map(|record| places.get(&content(record))).copied().unwrap_or(copy.len());
    let Some(offset) = target_offset else {
        return Found { target_offset, again: 0, skipped: 0, in_front: Some(right as u64) };
    };
    let goes_on = copy.partition_point(|record| record.offset < offset);
    let (again, skipped) = (right.saturating_sub(goes_on) as u64, goes_on.saturating_sub(right) as u64);
    Found { target_offset, again, skipped, in_front: None }
}

/// Sums by peer over the positions of a group, or of all.
pub(crate) fn sums(judged: &Judged, group: Option<&str>) -> BTreeMap<&'static str, Sums> {
    let of = |peer: Peer| {
        let chosen = judged.positions.iter().filter(|position| group.is_none_or(|name| name == position.group));
        (peer.key(), Sums::of(chosen, peer))
    };
    Peer::ALL.into_iter().map(of).collect()
}
