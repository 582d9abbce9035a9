//! `keyd controller`: what the cluster needs once. Sums up the flip in the Mesh's status; with the API as the source
//! it also is the mesh's certificate authority and clears away what is over.

mod authority;
mod cluster;
mod signer;
mod summary;
mod upkeep;

use std::path::Path;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{ControllerOptions, SourceSpec};
use crate::source::dir;

pub use summary::summarise;

/// Runs the controller until SIGTERM or SIGINT.
pub async fn run(options: ControllerOptions) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let work = async {
        match &options.source {
            SourceSpec::Dir(path) => sum_up(path).await,
            SourceSpec::Kube => cluster::run(&options).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Keeps the status beside the manifests in step with the nodes' conditions.
async fn sum_up(directory: &Path) -> anyhow::Result<()> {
    let (watch, mut updates) = dir::Watch::start(directory)?;
    loop {
        let snapshot = updates.borrow_and_update().snapshot.clone();
        if snapshot.mesh.is_some() {
            watch.publish_mesh_status(&summarise(&snapshot))?;
        }
        updates
            .changed()
            .await
            .context("the source of objects has ended")?;
    }
}
