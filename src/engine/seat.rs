//! A mirror's seat in a fleet: what its membership tells the runner to own, and what the runner tells of it.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::plan::fleet::{Load, Origin};

/// What this instance shall own of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Generation of the group; goes up.
    pub generation: i32,
    /// Its shards, and how each comes to it. One that is told as kept and was released in the meantime is free.
    pub shards: BTreeMap<u32, Origin>,
    /// Does what a mirror does once: topics, groups, heartbeats, drills.
    pub elected: bool,
}

/// What this instance owns of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Shards of the mirror's present generation; 0: not known yet. No group is joined before it is.
    pub shard_count: u32,
    /// Taken and not yet released or lost, with their loads.
    pub shards: BTreeMap<u32, Load>,
    /// The runner has ended for good.
    pub stopped: bool,
}

/// The runner's end.
#[derive(Debug, Clone)]
pub struct Seat {
    /// What to own; `None`: no member yet, or not any more. What is owned is kept then, nothing is taken.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// What is owned: told at every change, and about once a second for the loads.
    pub held: watch::Sender<Held>,
}

/// The membership's end.
#[derive(Debug)]
pub struct Desk {
    /// What to own.
    pub wanted: watch::Sender<Option<Wanted>>,
    /// What is owned.
    pub held: watch::Receiver<Held>,
}

/// A seat, and the desk that it is told from.
pub fn seat() -> (Seat, Desk) {
    let (tell, wanted) = watch::channel(None);
    let (held, hear) = watch::channel(Held::default());
    (Seat { wanted, held }, Desk { wanted: tell, held: hear })
}
