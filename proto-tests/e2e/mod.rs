//! The program as a user runs it, between real clusters: written to by Kafka's own producers, read back by its own
//! consumers.

mod crash;
mod kinds;
mod mirror;

pub(crate) use mirror::Mirror;
