//! The cluster: starts and stops nodes and keeps time. What tests do to its data is in `control`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::intercept::{Action, Intercept, RequestContext};
use super::node::{self, Signal};
use super::state::{Node, Shared, now_ms};
use super::{BrokerError, ClusterOptions};

/// Markers that are due, time-outs and sweeps are looked at this often.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Running {
    signal: watch::Sender<Signal>,
    task: JoinHandle<()>,
}

/// An embedded cluster of one or more brokers that share one memory. Dropping it stops them all.
#[derive(Debug)]
pub struct Cluster {
    pub(super) shared: Arc<Shared>,
    running: Mutex<BTreeMap<i32, Running>>,
    ticker: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    let wrap = |source| BrokerError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(wrap)?;
    let addr = listener.local_addr().map_err(wrap)?;
    Ok((listener, addr))
}

impl Cluster {
    /// Starts all nodes, each on a free loopback port.
    pub async fn start(options: ClusterOptions) -> Result<Self, BrokerError> {
        let nodes = options.nodes.max(1);
        let shared = Arc::new(Shared::new(options));
        let ticker = tokio::spawn(tick(Arc::downgrade(&shared)));
        let cluster = Self { shared, running: Mutex::new(BTreeMap::new()), ticker };
        for id in 1..=nodes {
            cluster.listen(id, 0).await?;
        }
        Ok(cluster)
    }

    async fn listen(&self, id: i32, port: u16) -> Result<(), BrokerError> {
        let (listener, addr) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let (sender, receiver) = watch::channel(Signal { kills: 0, stop: false });
        {
            let mut state = self.shared.lock();
            state.nodes.insert(id, Node { addr, up: true, sessions: Default::default() });
            state.reelect();
            state.advance_txns();
        }
        let task = tokio::spawn(node::serve(self.shared.clone(), id, listener, receiver));
        self.nodes().insert(id, Running { signal: sender, task });
        self.shared.wake();
        Ok(())
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `host:port` of every node that runs.
    pub fn bootstrap(&self) -> Vec<String> {
        self.shared.lock().nodes.values().filter(|node| node.up).map(|node| node.addr.to_string()).collect()
    }

    /// Address of a node; of its last run when it is down.
    pub fn node_addr(&self, id: i32) -> Result<SocketAddr, BrokerError> {
        self.shared.lock().nodes.get(&id).map(|node| node.addr).ok_or(BrokerError::UnknownNode(id))
    }

    /// Stops a node: its listener closes, its connections break, its fetch sessions are lost and its partitions elect
    /// another replica, or none. Nothing that was appended is lost.
    pub async fn stop_node(&self, id: i32) -> Result<(), BrokerError> {
        let running = self.nodes().remove(&id).ok_or(BrokerError::UnknownNode(id))?;
        {
            let mut state = self.shared.lock();
            if let Some(node) = state.nodes.get_mut(&id) {
                node.up = false;
            }
            state.reelect();
        }
        self.shared.wake();
        running.signal.send_modify(|signal| signal.stop = true);
        // The task only ends by the signal; a panic in it has been reported by the runtime.
        let _ = running.task.await;
        Ok(())
    }

    /// Starts a stopped node, on the port that it had or on this one (0: any free one).
    pub async fn start_node(&self, id: i32, port: Option<u16>) -> Result<(), BrokerError> {
        let old = self.node_addr(id)?;
        self.listen(id, port.unwrap_or(old.port())).await
    }

    /// Breaks all connections that are open now, of one node or of all.
    pub fn kill_connections(&self, node: Option<i32>) {
        for (id, running) in self.nodes().iter() {
            if node.is_none_or(|wanted| wanted == *id) {
                running.signal.send_modify(|signal| signal.kills += 1);
            }
        }
    }

    /// Stops all nodes and waits until their connections are closed.
    pub async fn stop(self) {
        let ids: Vec<i32> = self.nodes().keys().copied().collect();
        for id in ids {
            // It ran a moment ago; if it is gone by now, that is what was wanted.
            let _ = self.stop_node(id).await;
        }
    }

    /// Sets a hook on one API, for this many requests that it does not pass, or until removed. Hooks are asked in the
    /// order in which they were set; the first that does not pass decides.
    pub fn intercept(
        &self,
        api_key: ApiKey,
        times: Option<usize>,
        hook: impl Fn(&RequestContext<'_>) -> Action + Send + Sync + 'static,
    ) -> Intercept {
        self.shared.intercepts.add(api_key, times, hook)
    }

    /// Removes a hook.
    pub fn remove_intercept(&self, intercept: &Intercept) {
        self.shared.intercepts.remove(intercept.id);
    }

    /// Removes all hooks.
    pub fn clear_intercepts(&self) {
        self.shared.intercepts.clear();
    }
}

/// Keeps time: due markers, transaction time-outs, expiry of producers.
async fn tick(shared: Weak<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut since_sweep = Duration::ZERO;
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        since_sweep += TICK;
        let sweep = shared.options.producer_sweep_interval.is_some_and(|every| since_sweep >= every);
        let mut state = shared.lock();
        if sweep {
            since_sweep = Duration::ZERO;
            state.sweep_producers(now_ms());
        }
        let aborted = state.abort_timed_out(shared.options.txn_marker_delay);
        let wrote = state.advance_txns();
        drop(state);
        if aborted || wrote {
            shared.wake();
        }
    }
}
