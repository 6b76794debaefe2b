//! Consumer groups, as far as carrying their offsets over needs them: which there are, whether they live, and what they
//! have committed. kmirror joins none of them; the one that it does join is its fleet's ([`GroupSeat`]).
//!
//! A coordinator answers for its groups alone, so what is asked of many groups is dealt out to their coordinators, all of
//! which are asked at once, and each group gets its own answer: one whose coordinator is gone holds up no other for
//! longer than the caller's patience.

mod describe;
mod members;
mod offsets;
mod signs;

pub use describe::{GroupState, GroupView, ListedGroup};
pub use members::{DescribedFleet, FleetMember, GroupSeat};
pub use offsets::{FetchedOffsets, GroupOffsets, GroupPartition, OffsetAnswers, OffsetErrors};

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Cluster;
use super::connection::Connection;
use super::coordinators::KeyType;
use super::error::ClientError;
use super::retry::Tries;

/// Group id → answer, or why there is none.
pub type EachGroup<T> = BTreeMap<String, Result<T, ClientError>>;

const UNKNOWN_SERVER_ERROR: i16 = -1;
/// Requests under way to one coordinator: enough for a long way there, few enough that it is not swamped.
const UNDER_WAY: usize = 32;

/// Something that is asked of group coordinators.
trait GroupCall: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// Name of the api, for errors.
    const API: &'static str;
    /// Groups in one request at most.
    const AT_ONCE: usize;

    /// Asks the coordinator of these groups. An error is one of them all.
    fn ask(
        &self,
        cluster: &Cluster,
        at: &Connection,
        groups: &[String],
    ) -> impl Future<Output = Result<EachGroup<Self::Answer>, ClientError>> + Send;
}

impl Cluster {
    /// Asks about each group until its coordinator answers, or patience is at its end.
    async fn ask_coordinators<C: GroupCall>(
        &self,
        call: C,
        mut missing: Vec<String>,
        patience: Duration,
    ) -> EachGroup<C::Answer> {
        let mut each = EachGroup::new();
        let mut tries = Tries::within(patience);
        loop {
            each.extend(self.ask_coordinators_once(&call, &missing).await);
            let failed = |group: &String| each.get(group)?.as_ref().err().filter(|error| error.is_retriable());
            missing.retain(|group| failed(group).is_some());
            for group in &missing {
                if let Some(error) = failed(group) {
                    self.doubt_coordinator(KeyType::Group, group, error);
                }
            }
            let Some(error) = missing.first().and_then(failed).cloned() else { return each };
            if tries.again(self, error, &[]).await.is_err() {
                return each;
            }
        }
    }

    async fn ask_coordinators_once<C: GroupCall>(&self, call: &C, groups: &[String]) -> EachGroup<C::Answer> {
        let mut each = EachGroup::new();
        let mut by_node: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (group, node) in self.coordinators(KeyType::Group, groups).await {
            match node {
                Ok(node) => by_node.entry(node).or_default().push(group),
                Err(error) => {
                    each.insert(group, Err(error));
                }
            }
        }
        // Each coordinator on its own: one that does not answer takes no turns from the others.
        let mut nodes = JoinSet::new();
        for (node, groups) in by_node {
            let (cluster, call) = (self.clone(), call.clone());
            nodes.spawn(async move { cluster.ask_coordinator(node, &call, &groups).await });
        }
        nodes.join_all().await.into_iter().for_each(|answers| each.extend(answers));
        for group in groups {
            // What an answer passes over has no answer.
            each.entry(group.clone()).or_insert_with(|| Err(self.api_error(C::API, UNKNOWN_SERVER_ERROR, group)));
        }
        each
    }

    async fn ask_coordinator<C: GroupCall>(&self, node: i32, call: &C, groups: &[String]) -> EachGroup<C::Answer> {
        let mut each = EachGroup::new();
        let mut asking = JoinSet::new();
        for portion in groups.chunks(C::AT_ONCE) {
            if asking.len() >= UNDER_WAY
                && let Some(Ok(answers)) = asking.join_next().await
            {
                each.extend(answers);
            }
            let (cluster, call, portion) = (self.clone(), call.clone(), portion.to_vec());
            asking.spawn(async move { cluster.ask_portion(node, &call, &portion).await });
        }
        asking.join_all().await.into_iter().for_each(|answers| each.extend(answers));
        each
    }

    async fn ask_portion<C: GroupCall>(&self, node: i32, call: &C, groups: &[String]) -> EachGroup<C::Answer> {
        let answers = match self.group_connection(node).await {
            Ok(connection) => call.ask(self, &connection, groups).await,
            Err(error) => Err(error),
        };
        answers.unwrap_or_else(|error| groups.iter().map(|group| (group.clone(), Err(error.clone()))).collect())
    }
}
