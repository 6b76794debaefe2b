//! Every byte of a small archive changed and every object cut at every length, in turn: it is found, located, and costs what it must.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kmirror::backup::Copies;
use kmirror::backup::archive::Archive;
use kmirror::backup::chain::logs;
use kmirror::backup::fetch::Segments;
use kmirror::backup::manifest::SegmentPart;
use kmirror::backup::store::Store;
use kmirror::backup::verify::{ArchiveReport, Look, verify_archive};
use tokio::runtime::Runtime;

use super::made::{self, Guards, manifest_of};

/// Offsets `from..to` of a segment, and the bytes that they need.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    from: i64,
    to: i64,
    bytes: std::ops::Range<usize>,
}

/// An archive in memory, and what is where in it.
struct Bench {
    runtime: Runtime,
    stores: Vec<Store>,
    archive: Archive,
    segments: Segments,
    objects: BTreeMap<String, Bytes>,
    parts: Vec<SegmentPart>,
    blocks: BTreeMap<String, Vec<Block>>,
}

impl Bench {
    fn new(copies: usize, guards: &Guards, with_key: bool) -> Self {
        let runtime = Runtime::new().unwrap();
        let stores: Vec<Store> = (0..copies).map(|copy| Store::in_memory(&format!("copy-{copy}"))).collect();
        let archive = runtime.block_on(made::write(stores.clone(), guards));
        let keyring = guards.keyring.clone().map(Arc::new);
        let all = Segments::new(Copies::new(stores.clone()), keyring);
        let segments = if with_key { all.clone() } else { Segments::new(Copies::new(stores.clone()), None) };
        let (objects, parts, blocks) = runtime.block_on(async {
            let mut objects = BTreeMap::new();
            for object in stores[0].list("").await.unwrap() {
                objects.insert(object.path.clone(), stores[0].get(&object.path).await.unwrap());
            }
            let chain = archive.chain(1, None).await.unwrap();
            let logs = logs(chain.manifests());
            let parts: Vec<SegmentPart> = logs.into_values().flat_map(|log| log.segments).collect();
            let mut blocks = BTreeMap::new();
            for part in &parts {
                let index = all.open(part).await.unwrap().index;
                let block = index.blocks.iter().map(|place| {
                    let begins = usize::try_from(place.position).unwrap();
                    let bytes = begins..begins + place.bytes as usize;
                    Block { from: place.first_offset, to: place.next_offset, bytes }
                });
                blocks.insert(part.object.clone(), block.collect::<Vec<_>>());
            }
            (objects, parts, blocks)
        });
        assert_eq!((objects.len(), parts.len()), (7, 4), "label, two manifests, four segments");
        Self { runtime, stores, archive, segments, objects, parts, blocks }
    }

    fn put(&self, copy: usize, object: &str, bytes: impl Into<Bytes>) {
        self.runtime.block_on(self.stores[copy].put(object, bytes.into())).unwrap();
    }

    fn heal(&self, object: &str) {
        (0..self.stores.len()).for_each(|copy| self.put(copy, object, self.objects[object].clone()));
    }

    fn verify(&self, repair: bool) -> ArchiveReport {
        let look = Look { trusted: None, repair };
        self.runtime.block_on(verify_archive(&self.archive, &self.segments, look, &|_, _| {})).unwrap()
    }

    /// What cannot be read of a segment, block by block, and what can.
    fn unreadable(&self, part: &SegmentPart) -> Vec<(i64, i64)> {
        self.runtime.block_on(async {
            let Ok(opened) = self.segments.open(part).await else { return vec![(part.from, part.to)] };
            let mut lost = Vec::new();
            let mut at = part.from;
            for (number, place) in opened.index.blocks.iter().enumerate() {
                match self.segments.batches(&opened, number).await {
                    Ok(batches) => assert!(!batches.is_empty() && batches[0].header.base_offset >= at),
                    Err(_) => lost.push((place.first_offset, place.next_offset)),
                }
                at = place.next_offset;
            }
            assert_eq!(at, part.to, "an index that ends early hides a loss");
            lost
        })
    }

    /// The damage of an object is found; exactly these of its blocks are lost, and every other block of the archive is read.
    fn costs(&self, object: &str, lost: &[&Block], what: &str) {
        let report = self.verify(false);
        assert!(report.has_problems(), "{what}: not found");
        let named = report.damages.iter().any(|damage| damage.object == object)
            || report.chains.iter().any(|chain| chain.broken.as_ref().is_some_and(|broken| broken.contains(object)));
        assert!(named, "{what}: found, and not where: {report:?}");
        let found: Vec<(i64, i64)> = report.lost.iter().map(|lost| (lost.from, lost.to)).collect();
        assert_eq!(each(&found), each_of(lost), "{what}: {report:?}");
        if self.segments_have_key() {
            for part in &self.parts {
                let expected = if part.object == object { each_of(lost) } else { Vec::new() };
                assert_eq!(each(&self.unreadable(part)), expected, "{what}: reading {}", part.object);
            }
        }
    }

    fn segments_have_key(&self) -> bool {
        self.parts.iter().any(|part| self.unreadable(part).is_empty())
    }

    /// A manifest that cannot be read: what is before it counts, and what it named is listed.
    fn breaks(&self, unit: u32, what: &str) {
        let report = self.verify(false);
        let chain = &report.chains[0];
        assert_eq!(chain.units, unit - 1, "{what}: {chain:?}");
        assert!(chain.broken.as_ref().is_some_and(|broken| broken.contains(&manifest_of(unit))), "{what}: {chain:?}");
        assert_eq!(report.unnamed.len(), 2 * (3 - unit as usize), "{what}: {report:?}");
        assert!(report.has_problems());
    }

    fn each_object(&self, mut damage: impl FnMut(&str, &Bytes)) {
        for (object, bytes) in &self.objects {
            damage(object, bytes);
            self.heal(object);
        }
        assert!(!self.verify(false).has_problems());
    }

    fn flip_everything(&self) {
        self.each_object(|object, bytes| {
            for at in 0..bytes.len() {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << (at % 8);
                self.put(0, object, changed);
                let what = format!("{object}: byte {at} of {}", bytes.len());
                if let Some(unit) = unit_of(object) {
                    self.breaks(unit, &what);
                    continue;
                }
                let blocks = self.blocks.get(object).into_iter().flatten();
                let lost: Vec<&Block> = blocks.filter(|block| block.bytes.contains(&at)).collect();
                self.costs(object, &lost, &what);
            }
        });
    }

    fn cut_everything(&self) {
        self.each_object(|object, bytes| {
            for len in 0..bytes.len() {
                self.put(0, object, bytes.slice(..len));
                let what = format!("{object}: cut to {len} of {}", bytes.len());
                if let Some(unit) = unit_of(object) {
                    self.breaks(unit, &what);
                    continue;
                }
                let blocks = self.blocks.get(object).into_iter().flatten();
                let lost: Vec<&Block> = blocks.filter(|block| block.bytes.end > len).collect();
                self.costs(object, &lost, &what);
            }
        });
    }
}

fn unit_of(object: &str) -> Option<u32> {
    (1..=2).find(|unit| object == manifest_of(*unit))
}

/// Offsets one by one: ranges that touch are the same as one. What compaction removed between two lost blocks counts for neither.
fn each(ranges: &[(i64, i64)]) -> Vec<i64> {
    let hole = |offset: &i64| (6..8).contains(offset) || *offset == 104;
    ranges.iter().flat_map(|(from, to)| *from..*to).filter(|offset| !hole(offset)).collect()
}

fn each_of(blocks: &[&Block]) -> Vec<i64> {
    each(&blocks.iter().map(|block| (block.from, block.to)).collect::<Vec<_>>())
}

#[test]
fn every_byte_that_changes_is_found_and_costs_its_block_alone() {
    Bench::new(1, &Guards::default(), true).flip_everything();
}

#[test]
fn every_byte_that_changes_is_found_in_what_is_sealed_and_signed() {
    Bench::new(1, &Guards::all(), true).flip_everything();
}

/// Who keeps the archive need not be who may read it.
#[test]
fn every_byte_that_changes_is_found_without_the_key() {
    Bench::new(1, &Guards::all(), false).flip_everything();
}

#[test]
fn a_cut_at_every_length_is_found_and_costs_what_is_cut_off() {
    Bench::new(1, &Guards::default(), true).cut_everything();
    Bench::new(1, &Guards::all(), true).cut_everything();
}

/// Nothing is lost that another copy has, and a repair brings it back byte for byte.
#[test]
fn what_another_copy_has_is_not_lost_and_is_repaired() {
    let bench = Bench::new(2, &Guards::default(), true);
    bench.each_object(|object, bytes| {
        for at in (0..bytes.len()).step_by(11) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0xff;
            if at % 2 == 0 {
                changed.truncate(at);
            }
            let copy = at % 3 % 2;
            bench.put(copy, object, changed);
            bench.costs(object, &[], &format!("{object}: byte {at} in copy {copy}"));
            let report = bench.verify(true);
            assert!(!report.has_problems() && report.damages.len() == 1, "{object}: byte {at}: {report:?}");
            let healed = bench.runtime.block_on(bench.stores[copy].get(object)).unwrap();
            assert_eq!(&healed, bytes, "{object}: byte {at}");
        }
    });
}

/// The label says nothing that a manifest does not say.
#[test]
fn a_label_that_is_lost_is_made_anew() {
    let bench = Bench::new(1, &Guards::default(), true);
    bench.runtime.block_on(bench.stores[0].delete("archive.json")).unwrap();
    assert!(bench.verify(false).has_problems());
    assert!(!bench.verify(true).has_problems());
    assert_eq!(bench.runtime.block_on(bench.archive.cluster_id()).unwrap(), made::CLUSTER_ID);
}

#[test]
fn manifests_that_are_gone_or_moved_are_missed() {
    let bench = Bench::new(1, &Guards::default(), true);
    let take = |unit: u32| bench.runtime.block_on(bench.stores[0].delete(&manifest_of(unit))).unwrap();
    take(1);
    bench.breaks(1, "the first is gone");
    bench.heal(&manifest_of(1));
    // Nothing tells how long a chain is but its end. What the last one named is left, and is shown.
    take(2);
    let report = bench.verify(false);
    assert_eq!((report.chains[0].units, report.unnamed.len()), (1, 2), "{report:?}");
    assert_eq!((report.unnamed[0].from, report.unnamed[0].to), (11, 15), "{report:?}");
    assert!(!report.has_problems());
    for unit in 1..=2 {
        bench.put(0, &manifest_of(unit), bench.objects[&manifest_of(3 - unit)].clone());
    }
    bench.breaks(1, "one stands in the other's place");
}

/// Another segment of the same archive, whole in itself.
#[test]
fn a_segment_in_the_place_of_another_is_not_taken_for_it() {
    let bench = Bench::new(1, &Guards::default(), true);
    let (one, other) = (&bench.parts[0], &bench.parts[2]);
    bench.put(0, &one.object, bench.objects[&other.object].clone());
    let report = bench.verify(false);
    assert_eq!((report.lost[0].from, report.lost[0].to), (one.from, one.to), "{report:?}");
    assert_eq!(bench.unreadable(one), [(one.from, one.to)]);
}
