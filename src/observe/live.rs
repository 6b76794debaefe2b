//! What is answered from, in the place where it can be changed while requests come: each takes what there is when it begins.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRef;
use secrecy::SecretString;

use super::api::Api;
use super::guard::Guard;
use super::history::History;
use super::lookout::Lookout;
use super::{App, Shown};
use crate::engine::Board;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Live(Arc<RwLock<(Api, App)>>);

impl Live {
    pub(super) fn new(api: Api, app: App) -> Self {
        Self(Arc::new(RwLock::new((api, app))))
    }

    fn now(&self) -> (Api, App) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn boards(&self) -> Vec<(Board, History)> {
        self.now().0.boards
    }
}

impl FromRef<Live> for Api {
    fn from_ref(live: &Live) -> Self {
        live.now().0
    }
}

impl FromRef<Live> for App {
    fn from_ref(live: &Live) -> Self {
        live.now().1
    }
}

/// A listener that serves.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) live: Live,
    pub(super) guard: Guard,
}

impl Served {
    /// From now on answers are about this, and this token opens.
    pub fn show(&self, shown: Shown, lookout: Lookout, token: Option<&SecretString>) {
        self.guard.take(token);
        let mut live = self.live.0.write().unwrap_or_else(PoisonError::into_inner);
        let (api, app) = &*live;
        let api = api.showing(&shown, lookout);
        let app = App { shown, metrics: app.metrics.clone() };
        *live = (api, app);
    }
}
