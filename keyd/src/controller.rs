//! `keyd controller`: sums up the nodes' conditions in the Mesh's status. Pure; the loop is [`run`].

use hauberk_api::MeshStatus;

use crate::snapshot::Snapshot;

/// The Mesh's status as the nodes' conditions make it; without `lastTransitionTime`, which publishing fills in.
pub fn summarise(_snapshot: &Snapshot) -> MeshStatus {
    todo!()
}
