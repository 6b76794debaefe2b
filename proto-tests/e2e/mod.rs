//! The program as a user runs it, between real clusters: written to by Kafka's own producers, read back by its own
//! consumers.

mod checking;
pub(crate) mod crash;
pub(crate) mod failover;
mod fleet;
mod group_sync;
mod halting;
pub(crate) mod http;
pub(crate) mod kinds;
mod leaders;
mod log;
mod many;
pub(crate) mod mirror;
mod reencoded;
mod reload;
mod starting;
mod state_size;
mod story;
mod topics;
mod transactions;
mod verify;
mod versions;
mod zombies;

pub(crate) use mirror::Mirror;
