//! What the clusters say of the mirrors, for whoever watches: asked when somebody wants to know, and not more often than every two
//! seconds, however many they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::client::Cluster;
use crate::config::{Config, MirrorConfig};
use crate::engine::{connect_mirror, connect_target, now_ms};
use crate::ops::time::rfc3339;
use crate::ops::{MirrorStatus, status};

use super::problem::Problem;
use super::verdict::Verdict;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(2);
/// How long clusters are waited for, so that one that hangs does not take the whole view with it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The mirrors, as the clusters had them at one time.
#[derive(Debug)]
pub struct Look {
    /// When, RFC 3339.
    pub at: String,
    /// In the order of the file.
    pub mirrors: Vec<MirrorLook>,
}

impl Look {
    pub(super) fn mirror(&self, name: &str) -> Result<&MirrorLook, Problem> {
        self.mirrors.iter().find(|mirror| mirror.name == name).ok_or_else(|| Problem::no_mirror(name))
    }
}

/// A mirror.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MirrorLook {
    /// Its name.
    pub name: String,
    /// Name of the source cluster.
    pub source: String,
    /// Name of the target cluster.
    pub target: String,
    /// Whether it is safe.
    pub verdict: Verdict,
    /// What `kmirror status` says; `null` where the clusters could not be asked.
    pub status: Option<MirrorStatus>,
}

/// Asks the clusters.
#[derive(Debug)]
pub struct Lookout {
    mirrors: Vec<MirrorConfig>,
    config: Arc<Config>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ends: BTreeMap<String, (Cluster, Cluster)>,
    last: Option<(Instant, Arc<Look>)>,
}

impl Lookout {
    /// For these mirrors of a file.
    pub fn new(config: Arc<Config>, mirrors: Vec<MirrorConfig>) -> Self {
        Self { mirrors, config, inner: Mutex::default() }
    }

    /// The whole file.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The configuration of a mirror that is looked at.
    pub(super) fn mirror(&self, name: &str) -> Option<&MirrorConfig> {
        self.mirrors.iter().find(|mirror| mirror.name == name)
    }

    /// How things stand, at most two seconds ago. Who comes while it is found out waits for the same answer.
    pub async fn look(&self) -> Arc<Look> {
        let mut inner = self.inner.lock().await;
        if let Some((at, look)) = &inner.last
            && at.elapsed() < FRESH
        {
            return Arc::clone(look);
        }
        let mut mirrors = Vec::with_capacity(self.mirrors.len());
        for mirror in &self.mirrors {
            mirrors.push(self.look_at(mirror, &mut inner.ends).await);
        }
        let look = Arc::new(Look { at: rfc3339(now_ms()), mirrors });
        inner.last = Some((Instant::now(), Arc::clone(&look)));
        look
    }

    /// The target of a mirror, whether its source answers or not.
    pub(super) async fn target(&self, mirror: &MirrorConfig) -> Result<Cluster, String> {
        let known = self.inner.lock().await.ends.get(&mirror.name).map(|(_, target)| target.clone());
        match known {
            Some(target) => Ok(target),
            None => connect_target(&self.config, mirror).await.map_err(|error| error.to_string()),
        }
    }

    /// Something was changed: the next who looks wants to see it.
    pub(super) async fn forget(&self) {
        self.inner.lock().await.last = None;
    }

    async fn ends(
        &self,
        mirror: &MirrorConfig,
        known: &mut BTreeMap<String, (Cluster, Cluster)>,
    ) -> Result<(Cluster, Cluster), String> {
        if let Some(ends) = known.get(&mirror.name) {
            return Ok(ends.clone());
        }
        let ends = connect_mirror(&self.config, mirror).await.map_err(|error| error.to_string())?;
        known.insert(mirror.name.clone(), ends.clone());
        Ok(ends)
    }

    async fn look_at(&self, mirror: &MirrorConfig, known: &mut BTreeMap<String, (Cluster, Cluster)>) -> MirrorLook {
        let asked = async {
            let (source, target) = self.ends(mirror, known).await?;
            let seen = status(mirror, self.config.fleet.is_some(), (&source, &target));
            seen.await.map_err(|error| error.to_string())
        };
        let found = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(found) => found,
            Err(_) => Err(format!("the clusters did not answer within {} s", PATIENCE.as_secs())),
        };
        let (verdict, status) = match found {
            Ok(status) => (Verdict::of(&status), Some(status)),
            Err(error) => (Verdict::unknown(&error), None),
        };
        let MirrorConfig { name, source, target, .. } = mirror.clone();
        MirrorLook { name, source, target, verdict, status }
    }
}
