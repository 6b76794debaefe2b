//! The partitions of the shards that are held, each under an id that is never given again: answers to what was asked for a
//! partition that has left mean nobody any more.

use super::super::events::PartId;
use super::super::part::Part;

/// By id.
#[derive(Debug, Default)]
pub(super) struct Parts {
    slots: Vec<Option<Box<Part>>>,
    count: usize,
}

impl Parts {
    pub(super) fn add(&mut self, part: Part) -> PartId {
        self.slots.push(Some(Box::new(part)));
        self.count += 1;
        self.slots.len() - 1
    }

    pub(super) fn remove(&mut self, id: PartId) -> Option<Box<Part>> {
        let part = self.slots.get_mut(id)?.take()?;
        self.count -= 1;
        Some(part)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, id: PartId) -> Option<&Part> {
        self.slots.get(id)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: PartId) -> Option<&mut Part> {
        self.slots.get_mut(id)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PartId, &Part)> {
        self.slots.iter().enumerate().filter_map(|(id, part)| Some((id, part.as_deref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PartId, &mut Part)> {
        self.slots.iter_mut().enumerate().filter_map(|(id, part)| Some((id, part.as_deref_mut()?)))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Part> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }

    /// The ids that there are.
    pub(super) fn ids(&self) -> Vec<PartId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn of_shard(&self, shard: u32) -> Vec<PartId> {
        self.iter().filter(|(_, part)| part.shard == shard).map(|(id, _)| id).collect()
    }
}
