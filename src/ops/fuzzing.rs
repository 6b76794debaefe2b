//! Readers of what kmirror itself leaves on a cluster, for the fuzz targets alone: others may write there as well.

use super::fleet;
use super::groups::read_sync;
use super::heartbeats::written_ms;
use super::replaying::origin;
use super::{FleetView, groups};
use crate::batch::Record;
use crate::client::DescribedFleet;

/// When a heartbeat was written, ms; `None` where the record is none.
pub fn heartbeat(record: &Record) -> Option<i64> {
    written_ms(record)
}

/// Where a record of a replay comes from; `None` where this replay did not append it.
pub fn replayed_from(record: &Record, mark: Option<&str>) -> Option<(String, i32, i64)> {
    origin(record, mark)
}

/// The record of the last sync of groups, out of the metadata of a committed offset.
pub fn synced(metadata: &str, offset: i64) -> Option<groups::SyncRecord> {
    read_sync(metadata, offset)
}

/// A fleet, as its group's coordinator describes it.
pub fn fleet_shown(described: DescribedFleet) -> Option<FleetView> {
    fleet::shown("fuzzed".to_owned(), described)
}
