//! REST routes by resource; HTTP types stay here.
//!
//! | route | answers | shapes in |
//! |---|---|---|
//! | `GET /api/v1/assets` | assets, points, channels, each asset with its grade | [`asset`] |
//! | `GET /api/v1/advisories` | what people are told | [`advisory`] |
//! | `GET /api/v1/alarms` | what nodes raised | [`alarm`] |
//! | `GET /api/v1/baselines` | what is normal, how far that is known, and how assets are judged | [`baseline`] |
//! | `GET /api/v1/series` | names of series, or a part of one | [`series`] |
//! | `GET /api/v1/corrections` | windows told otherwise, with what they said before | [`correction`] |
//! | `GET /api/v1/dead-letters` | what could not be used, and what became of it | [`dead_letter`] |
//! | `GET /api/v1/ledger` | where every sample went | [`ledger`] |
//! | `GET /api/v1/gateways` | who delivers | [`gateway`] |
//! | `GET /api/v1/pipeline` | how far behind, what with, what it counted | [`pipeline`] |
//! | `GET /api/v1/latency` | from a window's end to its published features | [`health`] |
//! | `GET /healthz`, `/readyz`, `/metrics` | for supervisors | [`health`] |
//! | `GET /` | the status page, which uses only the above | [`crate::page`] |
//!
//! Instants are RFC 3339 in UTC, each with a twin in nanoseconds since 1970 (`_ns`). Lists are bounded
//! and say `truncated` when there is more. An error is `{"error": {"code": ..., "message": ...}}`.

pub mod advisory;
pub mod alarm;
pub mod asset;
pub mod baseline;
pub mod correction;
pub mod dead_letter;
mod error;
pub mod gateway;
mod guard;
pub mod health;
pub mod ledger;
mod listener;
pub mod pipeline;
mod readers;
pub mod series;
pub(crate) mod time;

pub(crate) use time::{parse as parse_time, rfc3339 as write_time};

use crate::ingest::Gateway;
use crate::metrics::Metrics;
use crate::page;
use crate::state::StateError;
use axum::Router;
use axum::middleware;
use axum::routing::get;
use error::ApiError;
use health::Check;
use readers::Readers;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use trunnion_common::id::GatewayId;
use trunnion_common::time::EventTime;

/// How long answers under way may take after the shutdown; then their connections are cut.
const DRAIN: Duration = Duration::from_secs(5);

/// What the routes answer from. Cloning shares it.
#[derive(Clone)]
pub struct Api {
    readers: Readers,
    metrics: Metrics,
    now: Arc<dyn Fn() -> EventTime + Send + Sync>,
    gateways: Arc<dyn Fn() -> BTreeMap<GatewayId, Gateway> + Send + Sync>,
    checks: Arc<[Check]>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Answers from the state database at `path`, which has to be there. `now` is the wall clock, `gateways` what is known of the gateways, `checks` what has to
    /// hold for the collector to be ready.
    pub fn new(
        path: &Path,
        metrics: Metrics,
        now: impl Fn() -> EventTime + Send + Sync + 'static,
        gateways: impl Fn() -> BTreeMap<GatewayId, Gateway> + Send + Sync + 'static,
        checks: Vec<Check>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            readers: Readers::open(path)?,
            metrics,
            now: Arc::new(now),
            gateways: Arc::new(gateways),
            checks: checks.into(),
        })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/api/v1/assets", get(asset::list))
            .route("/api/v1/advisories", get(advisory::list))
            .route("/api/v1/baselines", get(baseline::list))
            .route("/api/v1/alarms", get(alarm::list))
            .route("/api/v1/series", get(series::read))
            .route("/api/v1/corrections", get(correction::list))
            .route("/api/v1/dead-letters", get(dead_letter::list))
            .route("/api/v1/ledger", get(ledger::read))
            .route("/api/v1/gateways", get(gateway::list))
            .route("/api/v1/pipeline", get(pipeline::read))
            .route("/api/v1/latency", get(health::latency))
            .route("/healthz", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(health::metrics))
            .merge(page::routes())
            .fallback(async || ApiError::NoRoute)
            .method_not_allowed_fallback(async || ApiError::NoMethod)
            .layer(middleware::from_fn(guard::guard))
            .with_state(self)
    }

    /// Serves until `shutdown` resolves, then finishes the answers under way.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let shutdown = async move {
            shutdown.await;
            // The other end has gone only when serving has ended by itself.
            let _ = stopping.send(());
        };
        let served = axum::serve(listener::Bounded::new(listener), self.router())
            .with_graceful_shutdown(shutdown)
            .into_future();
        let overdue = async {
            if stopped.await.is_ok() {
                tokio::time::sleep(DRAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            outcome = served => outcome,
            () = overdue => Ok(()),
        }
    }
}

/// Cuts a list to its bound; whether something was cut.
fn clip<T>(list: &mut Vec<T>, most: usize) -> bool {
    let truncated = list.len() > most;
    list.truncate(most);
    truncated
}

#[cfg(test)]
mod tests;
