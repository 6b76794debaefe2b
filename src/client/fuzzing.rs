//! Readers of responses, for the fuzz targets alone: what stands before a connection in ordinary use.

use bytes::Bytes;
use kafka_protocol::messages::{
    DescribeAclsRequest, DescribeClientQuotasRequest, DescribeUserScramCredentialsRequest, MetadataRequest,
};
use kafka_protocol::protocol::HeaderVersion;

use super::api_name::api_name;
use super::error::ClientError;
use super::fetch_session::{Asked, FetchSession, Fetched};
use super::metadata::{Metadata, Topics};
use super::shape::{Shaped, Visitor, both, decode, each};
use super::{acls, frame, principals};
use crate::plan::{AclBinding, Quota, ScramCredential};

pub use super::transport::sasl::fuzzing::{bearer_refusal, scram_dialogue, token_answer};

/// A response's correlation id and body; `None` where its header is malformed.
pub fn split_response(frame: Bytes, flexible: bool) -> Option<(i32, Bytes)> {
    frame::split_response(frame, flexible).ok()
}

/// The session's answer to a request in this version.
pub fn fetch_response(session: &mut FetchSession, version: i16, body: Bytes) -> Result<Vec<Fetched>, ClientError> {
    session.response("fuzzed", Asked { version }, body)
}

/// How a body was read as the response of an api.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Name of the api.
    pub api: &'static str,
    /// The version that it was read in.
    pub version: i16,
    /// Bytes that the api's layout covers.
    pub walked: usize,
    /// Bytes that `kafka-protocol` decodes; `None` where it refuses.
    pub decoded: Option<usize>,
}

/// The frame as a response of each api, in the version that `turn` falls on; those that the layout refuses are left out.
pub fn readings(turn: u8, frame: &Bytes) -> Vec<Reading> {
    let mut all = Readings { turn, frame, found: Vec::new() };
    each(&mut all);
    all.found
}

struct Readings<'a> {
    turn: u8,
    frame: &'a Bytes,
    found: Vec<Reading>,
}

impl Visitor for Readings<'_> {
    fn visit<R: Shaped>(&mut self)
    where
        R::Response: Default,
    {
        let (first, last) = R::LAYOUT.versions;
        let version = first + i16::from(self.turn) % (last - first + 1);
        let Some((_, body)) = split_response(self.frame.clone(), R::Response::header_version(version) >= 1) else {
            return;
        };
        if let Ok((walked, decoded)) = both::<R>(version, body) {
            self.found.push(Reading { api: api_name(R::KEY), version, walked, decoded });
        }
    }
}

/// The frame as a response to `R`, in the version that `turn` falls on.
fn response<R: Shaped>(turn: u8, frame: &Bytes) -> Option<R::Response> {
    let (first, last) = R::LAYOUT.versions;
    let version = first + i16::from(turn) % (last - first + 1);
    let (_, body) = split_response(frame.clone(), R::Response::header_version(version) >= 1)?;
    decode::<R>(version, body).ok()
}

/// Who may do what, and how much of it: the frame as an answer of a cluster about each.
pub fn access(turn: u8, frame: &Bytes) -> (Vec<AclBinding>, Vec<Quota>, Vec<ScramCredential>) {
    let listed = response::<DescribeAclsRequest>(turn, frame).map(|answer| acls::bindings(&answer.resources));
    let quotas = response::<DescribeClientQuotasRequest>(turn, frame).and_then(|answer| answer.entries);
    let quotas = quotas.unwrap_or_default().into_iter().map(|entry| principals::quota(entry).into());
    let users = response::<DescribeUserScramCredentialsRequest>(turn, frame).map(|answer| answer.results);
    let users = users.unwrap_or_default();
    let credentials = users.iter().flat_map(|user| principals::scram_user(user).credentials());
    (listed.unwrap_or_default(), quotas.collect(), credentials.collect())
}

/// What is known of a cluster after the frame as its answer, to a question about everything.
pub fn metadata(turn: u8, known: &Metadata, frame: &Bytes) -> Option<Metadata> {
    response::<MetadataRequest>(turn, frame).map(|answer| known.merged(Topics::All, answer))
}
