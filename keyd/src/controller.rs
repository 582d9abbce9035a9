//! `keyd controller`: sums up the nodes' conditions in the Mesh's status. Pure; the loop is [`run`].

use anyhow::Context;
use hauberk_api::MeshStatus;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{ControllerOptions, SourceSpec};
use crate::snapshot::Snapshot;
use crate::source::Source;

/// Keeps the Mesh's status in step with the nodes' conditions until SIGTERM or SIGINT.
pub async fn run(options: ControllerOptions) -> anyhow::Result<()> {
    let SourceSpec::Dir(directory) = &options.source;
    let (source, mut updates) = Source::dir(directory)?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    loop {
        let snapshot = updates.borrow_and_update().snapshot.clone();
        if snapshot.mesh.is_some() {
            source.publish_mesh_status(&summarise(&snapshot))?;
        }
        tokio::select! {
            changed = updates.changed() => changed.context("the source of objects has ended")?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// The Mesh's status as the nodes' conditions make it; without `lastTransitionTime`, which publishing fills in.
pub fn summarise(_snapshot: &Snapshot) -> MeshStatus {
    todo!()
}
