//! Backups: topics in object storage, and back from there.
//!
//! A *pass* reads what is new of every partition of the source, batch by batch and unopened, into *segments* ([`segment`]), and names
//! them in a *manifest* ([`manifest`]). Nothing counts before its manifest is there, and a manifest is written where none is yet: two
//! writers cannot interleave, and a pass that dies leaves nothing but objects that nobody names. Manifests follow one another in a
//! *chain* ([`chain`]), each bound to the one before it by its SHA-256; the first pass of a chain begins at the log start offsets, so
//! that a chain restores by itself.
//!
//! A restore is a mirror whose source is the archive: the embedded broker serves its logs ([`backing`]) under the cluster id, topic
//! ids and offsets that they had, and the engine does the rest as it always does: compare-and-append, exact offset maps, groups.

pub mod acls;
pub mod archive;
mod backing;
pub mod bounds;
pub mod capture;
pub mod chain;
mod copies;
mod cut;
pub mod digest;
pub mod envelope;
mod error;
mod examine;
pub mod export;
pub mod fetch;
pub mod identical;
mod inventory;
mod keeper;
mod keys;
pub mod manifest;
mod moment;
mod names;
mod obstacles;
mod open;
mod pass;
pub mod planning;
pub mod principals;
mod reader;
pub mod replay;
pub mod restore;
pub mod seal;
pub mod segment;
mod serve;
mod status;
pub mod store;
#[cfg(test)]
mod tests;
pub mod verify;
mod watch;

pub use copies::{AwayCopy, Copies};
pub use error::BackupError;
pub use keeper::{Keeper, Pruned};
pub use open::{open_archive, open_cluster, open_segments, trusted_key};
pub use pass::{Meter, Outlook, OutlookRow, PassReport, Problem};
pub use status::{BackupStatus, backup_status};
pub use watch::keep;
