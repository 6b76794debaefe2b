//! Readers of responses by hand, for the fuzz targets alone: what stands before a connection in ordinary use.

use bytes::Bytes;

use super::error::ClientError;
use super::fetch_session::{Asked, FetchSession, Fetched};
use super::frame;

/// A response's correlation id and body; `None` where its header is malformed.
pub fn split_response(frame: Bytes, flexible: bool) -> Option<(i32, Bytes)> {
    frame::split_response(frame, flexible).ok()
}

/// The session's answer to a request in this version.
pub fn fetch_response(session: &mut FetchSession, version: i16, body: Bytes) -> Result<Vec<Fetched>, ClientError> {
    session.response("fuzzed", Asked { version }, body)
}
