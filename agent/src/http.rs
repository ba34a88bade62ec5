//! `/metrics`, `/advisories` and `/healthz`, on a loopback address only: served by the running agent, asked by `diag`.

use crate::metrics::Page;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves from now on; returns the address, whose port may have been left to the system.
pub(crate) async fn serve(
    address: SocketAddr,
    page: Page,
    advisories: watch::Receiver<Bytes>,
) -> io::Result<SocketAddr> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    let router = Router::new()
        .route(
            "/metrics",
            get(async move || ([(CONTENT_TYPE, OPEN_METRICS)], page.text())),
        )
        .route(
            "/advisories",
            get(async move || ([(CONTENT_TYPE, "application/json")], advisories.borrow().clone())),
        )
        .route("/healthz", get(async || "ok\n"));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics page has ended");
        }
    });
    Ok(local)
}

/// Longest answer read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What a page says; each step may take as long as `patience`. Blocks.
pub(crate) fn fetch(address: SocketAddr, path: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        Some((head, _)) => Err(io::Error::other(
            head.lines().next().unwrap_or_default().to_owned(),
        )),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
