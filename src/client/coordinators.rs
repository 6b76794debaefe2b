//! Who coordinates a group or a transactional id (FindCoordinator; several keys in one request since KIP-699).

use std::collections::BTreeMap;

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::error::ClientError;
use super::{Cluster, Node, Topics};

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const UNKNOWN_SERVER_ERROR: i16 = -1;
/// The first version that takes several keys, in fields of their own.
const MANY_KEYS: i16 = 4;
/// Keys in one request, so that none grows without bound.
const KEYS_AT_ONCE: usize = 1_000;

/// What a coordinator is asked for (`FindCoordinatorRequest.CoordinatorType`). A group and a transactional id of one name
/// have different coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KeyType {
    Group = 0,
    Transaction = 1,
}

/// Keys → broker id of the coordinator, or why there is none.
pub(super) type Found = BTreeMap<String, Result<i32, ClientError>>;

/// Whether it is the coordinator that cannot answer, whatever it was asked.
pub(super) fn is_of_coordinator(code: i16) -> bool {
    [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR].contains(&code)
}

impl Cluster {
    /// The coordinator of one key.
    pub(super) async fn coordinator(&self, kind: KeyType, key: &str) -> Result<i32, ClientError> {
        let silent = || Err(self.api_error("FindCoordinator", UNKNOWN_SERVER_ERROR, key));
        self.coordinators(kind, &[key.to_owned()]).await.remove(key).unwrap_or_else(silent)
    }

    /// The coordinator of each key; one that is known is not asked for.
    pub(super) async fn coordinators(&self, kind: KeyType, keys: &[String]) -> Found {
        let mut found = Found::new();
        let mut wanted = Vec::new();
        for key in keys {
            match self.known_coordinator(kind, key) {
                Some(node) => {
                    found.insert(key.clone(), Ok(node));
                }
                None => wanted.push(key.clone()),
            }
        }
        for keys in wanted.chunks(KEYS_AT_ONCE) {
            match self.find_coordinators(kind, keys).await {
                Ok(fresh) => found.extend(fresh),
                Err(error) => found.extend(keys.iter().map(|key| (key.clone(), Err(error.clone())))),
            }
        }
        found
    }

    async fn find_coordinators(&self, kind: KeyType, keys: &[String]) -> Result<Found, ClientError> {
        let connection = self.connection_to(Node::Any).await?;
        let found = if connection.version_of::<FindCoordinatorRequest>()? >= MANY_KEYS {
            self.find_together(&connection, kind, keys).await?
        } else {
            self.find_singly(&connection, kind, keys).await?
        };
        let metadata = self.metadata();
        if found.values().flatten().any(|node| !metadata.brokers.contains_key(node)) {
            self.refresh(Topics::Named(&[])).await?;
        }
        for (key, node) in &found {
            if let Ok(node) = node {
                self.note_coordinator(kind, key, Some(*node));
            }
        }
        Ok(found)
    }

    async fn find_together(&self, at: &Connection, kind: KeyType, keys: &[String]) -> Result<Found, ClientError> {
        let keys = keys.iter().map(|key| StrBytes::from_string(key.clone())).collect();
        let request = FindCoordinatorRequest::default().with_coordinator_keys(keys).with_key_type(kind as i8);
        let answers = at.call(request, 0).await?.coordinators.into_iter();
        let found = |one: Coordinator| {
            let words = one.error_message.as_deref();
            (one.key.to_string(), self.told(&one.key, one.node_id.0, one.error_code, words))
        };
        Ok(answers.map(found).collect())
    }

    /// A request for each key, under way together.
    async fn find_singly(&self, at: &Connection, kind: KeyType, keys: &[String]) -> Result<Found, ClientError> {
        let mut asking = JoinSet::new();
        for key in keys.iter().cloned() {
            let at = at.clone();
            asking.spawn(async move {
                let request = FindCoordinatorRequest::default()
                    .with_key(StrBytes::from_string(key.clone()))
                    .with_key_type(kind as i8);
                (key, at.call(request, 0).await)
            });
        }
        let mut found = Found::new();
        for (key, answer) in asking.join_all().await {
            let one = answer?;
            let node = self.told(&key, one.node_id.0, one.error_code, one.error_message.as_deref());
            found.insert(key, node);
        }
        Ok(found)
    }

    fn told(&self, key: &str, node: i32, code: i16, words: Option<&str>) -> Result<i32, ClientError> {
        match code {
            0 => Ok(node),
            code => Err(self.api_error_with("FindCoordinator", code, key, words)),
        }
    }

    /// Forgets a key's coordinator where an error says that it may be another one by now.
    pub(super) fn doubt_coordinator(&self, kind: KeyType, key: &str, error: &ClientError) {
        if error.code().is_none_or(is_of_coordinator) {
            self.note_coordinator(kind, key, None);
        }
    }
}
