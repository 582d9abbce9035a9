//! Health, readiness, metrics and state over HTTP, on loopback or a unix socket.
//!
//! It reads the last report and never asks the node's task anything, so that a slow client holds
//! nothing up. No secret is part of a report.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::metrics;
use crate::options::Listen;
use crate::report::NodeReport;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken.
    #[error("cannot listen on {0}: it is in use; is another keyd running? (choose another --listen)")]
    InUse(Listen),
    /// Anything else.
    #[error("cannot listen on {listen}")]
    Bind {
        /// The address.
        listen: Listen,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ServeError {
    fn of(listen: &Listen, source: io::Error) -> Self {
        let listen = listen.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(listen),
            _ => Self::Bind { listen, source },
        }
    }
}

/// The last report, shared with whoever asks.
pub type Reports = watch::Receiver<Arc<NodeReport>>;

/// Starts serving `reports` on a task of its own.
pub async fn start(listen: &Listen, reports: Reports) -> Result<(), ServeError> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .route("/state", get(state))
        .with_state(reports);
    match listen {
        Listen::Loopback(address) => {
            let bound = TcpListener::bind(address).await;
            let listener = bound.map_err(|source| ServeError::of(listen, source))?;
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Listen::Unix(path) => {
            let listener = bind_unix(path)?;
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
    }
    Ok(())
}

/// A unix socket for root alone, in place of one that a process left that died.
pub fn bind_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let bind_error = |source| ServeError::of(&Listen::Unix(path.to_owned()), source);
    // A socket nobody answers on was left behind.
    match UnixStream::connect(path) {
        Ok(_) => return Err(bind_error(io::ErrorKind::AddrInUse.into())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(bind_error)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(bind_error)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(bind_error)?;
    Ok(listener)
}

async fn ready(State(reports): State<Reports>) -> Response {
    let report = reports.borrow().clone();
    if report.ready {
        "ready\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", report.reason),
        )
            .into_response()
    }
}

async fn metrics_page(State(reports): State<Reports>) -> Response {
    let report = reports.borrow().clone();
    match metrics::render(&report) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn state(State(reports): State<Reports>) -> Response {
    let report = reports.borrow().clone();
    match serde_json::to_string(&*report) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
