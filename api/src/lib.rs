//! The `hauberk.dev/v1alpha1` kinds as Rust types: what users and nodes write, and nothing that acts on it.
//!
//! One served version, additive changes only: a new field has a default, and readers ignore fields
//! they don't know (keyd's directory source is stricter and names them, since nobody validated those
//! files before). Values that can be wrong in more ways than their shape shows (keys, prefixes,
//! addresses) are parsed here, so that no reader meets them as text. The API server refuses the same, and more, by
//! schemas that are derived from the types; what only it enforces must still do no harm in an object that it let
//! pass, such as one of a later version.
#![forbid(unsafe_code)]

mod cluster_network_policy;
mod crds;
mod defaults;
mod external_peer;
mod mesh;
mod mesh_policy;
mod node_tunnel;
mod public_key;
mod schema;

pub use cluster_network_policy::{
    ClusterEgressPeer, ClusterEgressRule, ClusterIngressRule, ClusterNetworkPolicy, ClusterNetworkPolicySpec,
    ClusterNetworkPolicyStatus, ClusterPods, ClusterPort, ClusterPortRange, ClusterPorts, ClusterProtocol,
    NamespacedPods,
};
pub use crds::{crd_manifests, crds};
pub use external_peer::{ExternalPeer, ExternalPeerSpec, ExternalPeerStatus, SecretKeyRef};
pub use mesh::{
    EncryptionSpec, Enforcer, KeysSpec, Mesh, MeshPhase, MeshSpec, MeshStatus, PolicyMode, PolicySpec,
    ServicesSpec, UnreachableNodes,
};
pub use mesh_policy::{
    MeshAction, MeshEgressRule, MeshIngressRule, MeshPeer, MeshPolicy, MeshPolicySpec, NetworkSet,
    NetworkSetSpec, PolicyStatus, PolicyType, PolicyValidity, ServiceAccounts, Weekday, WeeklyWindow,
};
pub use node_tunnel::{GenerationSpec, LaneSpec, NodeTunnel, NodeTunnelSpec, NodeTunnelStatus};
pub use public_key::{PublicKey, PublicKeyError};

/// API group of every kind here.
pub const GROUP: &str = "hauberk.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as manifests write it.
pub const API_VERSION: &str = "hauberk.dev/v1alpha1";
/// The only name a [`Mesh`] may have.
pub const MESH_NAME: &str = "default";

/// Pod annotation: addresses, comma-separated, that the pod may use as a source besides its own.
pub const EXTRA_ADDRESSES: &str = "hauberk.dev/extra-addresses";

/// Taint that keeps pods off a new node until its keyd is ready; the controller removes it.
pub const STARTUP_TAINT: &str = "hauberk.dev/agent-not-ready";

/// Types of the conditions on [`NodeTunnel`] and [`Mesh`].
pub mod condition {
    /// The node's kernel and tunnel state follow the cluster's.
    pub const READY: &str = "Ready";
    /// Nothing covered leaves in clear.
    pub const ENCRYPTED: &str = "Encrypted";
    /// Something is wrong that an operator should look at; traffic that can be carried still is.
    pub const DEGRADED: &str = "Degraded";
    /// Reason of `Encrypted` when the flag is off and no pair encrypts.
    pub const OFF: &str = "Off";
}
