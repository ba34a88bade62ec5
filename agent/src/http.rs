//! `/metrics` and `/healthz`, on a loopback address only.

use crate::metrics::Page;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Serves from now on; returns the address, whose port may have been left to the system.
pub(crate) async fn serve(address: SocketAddr, page: Page) -> io::Result<SocketAddr> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    let router = Router::new()
        .route(
            "/metrics",
            get(async move || ([(CONTENT_TYPE, OPEN_METRICS)], page.text())),
        )
        .route("/healthz", get(async || "ok\n"));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics page has ended");
        }
    });
    Ok(local)
}
