//! The accounts: every record that was produced, and where it is.

use std::collections::BTreeSet;

use serde::Serialize;

use super::groups::is_same_record;
use super::load::{Origin, order};
use super::side::number;
use super::stage::Stage;
use super::summary::Summary;
use super::{MIRROR, TOPIC};
use crate::batch::Record;
use crate::ops::MirrorState;
use crate::ops::failback::ORIGIN;

/// Where every record is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Accounts {
    /// Records that were lost with the source: it has them alone.
    pub(super) lost: u64,
    /// Those in ranges that the failover's report calls lost.
    pub(super) lost_listed: u64,
    /// Those of which the mirror had not heard; the report says from where on that is.
    pub(super) lost_unseen: u64,
    pub(super) source: Held,
    pub(super) standby: Held,
    /// Records on the source when it was lost, by partition.
    #[serde(skip)]
    pub(super) landed: Vec<u64>,
    /// Those of them that were on the standby.
    #[serde(skip)]
    pub(super) mirrored: Vec<u64>,
    /// Written to the standby.
    #[serde(skip)]
    pub(super) on_standby: Vec<u64>,
    /// Written at home again.
    #[serde(skip)]
    pub(super) at_home: Vec<u64>,
}

/// What a side holds in the end.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    /// Records of the first load that both have.
    pub(super) mirrored: u64,
    /// And those that the source has alone.
    pub(super) lost: u64,
    /// Records that were written to the standby.
    pub(super) from_standby: u64,
    /// Records that were written at home again.
    pub(super) from_home: u64,
    /// All of them.
    pub(super) records: u64,
    /// Records that are missing, changed or out of order.
    pub(super) wrong: u64,
    /// Records beyond those that are to be there.
    pub(super) surplus: u64,
}

/// A stretch of records that must stand there: who wrote them, and their numbers.
type Stretch = (Origin, u64, u64);

/// Records that stand at the same place on both sides, equal.
pub(super) fn equal_in_order(here: &[Vec<Record>], there: &[Vec<Record>]) -> u64 {
    let pairs = here.iter().zip(there).flat_map(|(here, there)| here.iter().zip(there));
    pairs.filter(|(a, b)| is_same_record(a, b)).count() as u64
}

/// Accounts for every record, and for every offset.
pub(super) async fn settle(stage: &Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let (source, standby) = (stage.source().contents()?, stage.standby().contents()?);
    let on_both = without_tail(&source, &summary.accounts);
    let accounts = &mut summary.accounts;
    accounts.source = held(&source, accounts, true);
    accounts.standby = held(&standby, accounts, false);
    let sum = |of: &[u64]| of.iter().sum::<u64>();
    summary.produced = sum(&accounts.landed) + sum(&accounts.on_standby) + sum(&accounts.at_home);
    summary.equal = equal_in_order(&on_both, &standby);
    summary.wrong = accounts.source.wrong + accounts.standby.wrong;
    summary.surplus = accounts.source.surplus + accounts.standby.surplus;
    let (of_source, of_standby, lost) = (accounts.source.records, accounts.standby.records, accounts.lost);
    let mapped = check_offsets(stage, &on_both, &standby, summary).await?;
    summary.expect("records produced", stage.args.records, summary.produced);
    summary.expect("records on the source", summary.produced, of_source);
    summary.expect("records on the standby, and those that were lost", summary.produced, of_standby + lost);
    summary.expect("records equal on both sides", of_standby, summary.equal);
    summary.expect("records missing, changed or out of order", 0, summary.wrong);
    summary.expect("records twice", 0, summary.surplus);
    summary.expect("offsets translated wrongly", 0, summary.offsets_wrong);
    summary.expect("offsets translated exactly", summary.equal, summary.offsets_exact);
    summary.expect("partitions with an offset map", stage.args.partitions.unsigned_abs() as usize, mapped);
    summary.expect("records that verify found equal", summary.equal, summary.verify.equal);
    let found = summary.verify.differing + summary.verify.missing + summary.verify.extra;
    summary.expect("records that verify found otherwise", 0, found);
    Ok(())
}

/// Records of the standby's topic that are, but for the header which says so, records of the source; each counts once.
pub(super) fn replayed(stage: &Stage, topic: &str) -> anyhow::Result<u64> {
    let source = stage.source().contents()?;
    let mut found = BTreeSet::new();
    for partition in 0..stage.args.partitions {
        for mut record in stage.standby().broker.records(topic, partition, 0)? {
            let Some((_, Some(origin))) = record.headers.pop_if(|(name, _)| name == ORIGIN.as_bytes()) else {
                continue;
            };
            let place = String::from_utf8_lossy(&origin).into_owned();
            let Some((from, offset)) = place.strip_prefix(TOPIC).and_then(|rest| rest.get(1..)?.split_once(':')) else {
                continue;
            };
            let (from, offset): (usize, i64) = (from.parse()?, offset.parse()?);
            let records = source.get(from).map_or(&[][..], Vec::as_slice);
            let original = records.get(records.partition_point(|record| record.offset < offset));
            let original = original.filter(|record| record.offset == offset);
            if original.is_some_and(|original| is_same_record(original, &record)) {
                found.insert((from, offset));
            }
        }
    }
    Ok(found.len() as u64)
}

/// What a side holds, against what it must hold, stretch by stretch and in this order.
fn held(contents: &[Vec<Record>], accounts: &Accounts, is_source: bool) -> Held {
    let mut held = Held::default();
    for (index, records) in contents.iter().enumerate() {
        let of = |counts: &[u64]| counts.get(index).copied().unwrap_or_default();
        let (landed, mirrored) = (of(&accounts.landed), of(&accounts.mirrored));
        let stretches: [(Stretch, &mut u64); 4] = [
            ((Origin::Source, 0, mirrored), &mut held.mirrored),
            ((Origin::Source, mirrored, if is_source { landed } else { mirrored }), &mut held.lost),
            ((Origin::Standby, 0, of(&accounts.on_standby)), &mut held.from_standby),
            ((Origin::Home, 0, of(&accounts.at_home)), &mut held.from_home),
        ];
        let mut left = records.iter();
        for ((origin, from, to), found) in stretches {
            for expected in from..to {
                let is_there = left.next().is_some_and(|record| is_order(record, origin, number(index), expected));
                if is_there { *found += 1 } else { held.wrong += 1 }
            }
        }
        held.surplus += left.count() as u64;
        held.records += records.len() as u64;
    }
    held
}

fn is_order(record: &Record, origin: Origin, partition: i32, number: u64) -> bool {
    is_same_record(record, &order(origin, partition, number, record.timestamp))
}

/// The source without what it has alone.
pub(super) fn without_tail(source: &[Vec<Record>], accounts: &Accounts) -> Vec<Vec<Record>> {
    let ends = accounts.mirrored.iter().zip(&accounts.landed);
    let kept = |(records, (mirrored, landed)): (&Vec<Record>, (&u64, &u64))| {
        let numbered = records.iter().zip(0_u64..);
        numbered.filter(|(_, n)| !(*mirrored..*landed).contains(n)).map(|(record, _)| record.clone()).collect()
    };
    source.iter().zip(ends).map(kept).collect()
}

/// Every record's offset, both ways, through the map in the state topic; gives the partitions that have one.
async fn check_offsets(
    stage: &Stage,
    source: &[Vec<Record>],
    standby: &[Vec<Record>],
    summary: &mut Summary,
) -> anyhow::Result<usize> {
    let client = stage.standby().client("accounts").await?;
    let Some(state) = MirrorState::read(MIRROR, &client).await? else { return Ok(0) };
    let mut mapped = 0;
    for known in state.partitions() {
        let place = usize::try_from(known.declared.partition).unwrap_or(usize::MAX);
        let (Some(here), Some(there)) = (source.get(place), standby.get(place)) else { continue };
        mapped += 1;
        let end = there.last().map_or(0, |record| record.offset + 1);
        for (a, b) in here.iter().zip(there) {
            let (to_target, to_source) = (known.map.to_target(a.offset, end), known.map.to_source(b.offset, end));
            let exact = to_target.exact && to_source.exact;
            let right = exact && (to_target.offset, to_source.offset) == (b.offset, a.offset);
            if right {
                summary.offsets_exact += 1;
            } else {
                summary.offsets_wrong += 1;
            }
            summary.shift_max = summary.shift_max.max((b.offset - a.offset).abs());
        }
    }
    Ok(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six records of the load, of which four were mirrored, then two of the standby's and one more at home.
    fn accounts() -> Accounts {
        Accounts { landed: vec![6], mirrored: vec![4], on_standby: vec![2], at_home: vec![1], ..Accounts::default() }
    }

    fn written(stretches: &[Stretch]) -> Vec<Record> {
        let numbers = stretches.iter().flat_map(|&(origin, from, to)| (from..to).map(move |n| (origin, n)));
        let records = numbers.zip(0..).map(|((origin, n), at)| Record { offset: at, ..order(origin, 0, n, 77 + at) });
        records.collect()
    }

    fn source() -> Vec<Record> {
        written(&[(Origin::Source, 0, 6), (Origin::Standby, 0, 2), (Origin::Home, 0, 1)])
    }

    #[test]
    fn each_record_is_counted_where_it_belongs() {
        let found = held(&[source()], &accounts(), true);
        let expected = Held { mirrored: 4, lost: 2, from_standby: 2, from_home: 1, records: 9, ..Held::default() };
        assert_eq!(found, expected);
        let standby = without_tail(&[source()], &accounts());
        let found = held(&standby, &accounts(), false);
        assert_eq!(found, Held { lost: 0, records: 7, ..expected });
        assert_eq!(equal_in_order(&standby, &standby), 7);
    }

    #[test]
    fn what_is_missing_twice_changed_or_in_another_place_is_found() {
        let mut missing = source();
        missing.remove(2);
        assert!(held(&[missing], &accounts(), true).wrong > 0);
        let mut twice = source();
        twice.push(source()[8].clone());
        assert_eq!(held(&[twice], &accounts(), true).surplus, 1);
        let mut swapped = source();
        swapped.swap(0, 1);
        assert_eq!(held(&[swapped], &accounts(), true).wrong, 2);
        let mut changed = source();
        changed[3].headers.pop();
        assert_eq!(held(&[changed.clone()], &accounts(), true).wrong, 1);
        assert_eq!(equal_in_order(&[changed], &[source()]), 8);
        // What the standby must not have: the records that were lost.
        assert!(held(&[source()], &accounts(), false).wrong > 0);
    }

    #[test]
    fn figures_that_do_not_agree_are_problems() {
        let mut summary = Summary::default();
        summary.expect("apples", 3, 3);
        assert!(summary.problems.is_empty());
        summary.expect("apples", 3, 4);
        assert_eq!(summary.problems, ["apples: 4, where 3 was to be"]);
        let page = super::super::summary::page(&summary);
        assert!(page.contains("PROBLEM apples") && page.contains("it does not add up"), "{page}");
    }
}
