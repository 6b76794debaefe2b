//! A fetcher: one connection and one incremental fetch session (KIP-227) to a source broker.
//!
//! Strict turns with the runner: a plan comes in, one fetch goes out, its answer goes back as an event. The runner
//! decides when the next fetch is due and what it asks for, so that backpressure is a missing plan and nothing else.

use tokio::sync::mpsc;

use crate::client::{ClientError, Cluster, FetchChange, FetchLimits, FetchSession, Fetched};

use super::budget::Budget;
use super::events::Event;

/// What to ask for next.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    /// Partitions that changed since the last plan: wanted from another offset, or not wanted any more.
    pub(crate) changes: Vec<FetchChange>,
    /// Bounds of this fetch.
    pub(crate) limits: FetchLimits,
}

/// Runs until the plans end.
pub(crate) async fn fetcher(
    cluster: Cluster,
    broker: i32,
    budget: Budget,
    mut plans: mpsc::Receiver<FetchPlan>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut session = FetchSession::new();
    while let Some(plan) = plans.recv().await {
        for change in plan.changes {
            session.apply(change);
        }
        let outcome = fetch(&cluster, broker, &budget, &mut session, plan.limits).await;
        if outcome.is_err() {
            session.reset();
        }
        if events.send(Event::Fetched { broker, outcome }).is_err() {
            return;
        }
    }
}

/// The lane number of fetches; produce lanes of a cluster that is source and target at once do not collide with it.
const FETCH_LANE: u16 = 1000;

async fn fetch(
    cluster: &Cluster,
    broker: i32,
    budget: &Budget,
    session: &mut FetchSession,
    limits: FetchLimits,
) -> Result<Vec<Fetched>, ClientError> {
    let Some(lease) = budget.lease(usize::try_from(limits.max_bytes).unwrap_or(0)).await else {
        return Ok(Vec::new());
    };
    let connection = cluster.connection(broker, FETCH_LANE).await?;
    let (frame, asked) = session.request(&connection, limits)?;
    let body = connection.submit(frame, Some(Box::new(lease.clone()))).await?;
    lease.shrink_to(body.len());
    session.response(cluster.name(), asked, body)
}
