//! The cluster as keyd uses it: typed objects by name, with nothing left to parse.
//!
//! A [`Snapshot`] is built from whatever source there is; conflicts between objects are settled here
//! ([`Snapshot::claims`]), the same on every node.

pub mod claims;
mod digest;
mod pods;
mod shared;
mod symbol;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_api::{ExternalPeer, Mesh, MeshStatus, NodeTunnel};
use hauberk_policy::identity::NamedPort;
use hauberk_policy::policy::Origin as PolicyOrigin;
use hauberk_policy::read::Read;
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;

pub use claims::{Claims, Conflict};
pub use digest::Digest;
pub use pods::{Change, PackedPod, Pods};
pub use shared::Shared;
pub use symbol::Symbol;

/// All objects of the cluster that keyd looks at, at one moment. What did not change since another moment is shared
/// with the snapshot of that one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Nodes by name.
    pub nodes: Shared<BTreeMap<String, Node>>,
    /// Namespaces by name.
    pub namespaces: Shared<BTreeMap<String, Namespace>>,
    /// Pods.
    pub pods: Pods,
    /// ServiceAccounts.
    pub service_accounts: Shared<BTreeMap<ObjectName, ServiceAccount>>,
    /// NetworkPolicies and ClusterNetworkPolicies, by what they come from.
    pub policies: Shared<BTreeMap<PolicyOrigin, Arc<Read>>>,
    /// The Mesh named `default`.
    pub mesh: Option<Mesh>,
    /// The Mesh's status, which has a file of its own in a directory of manifests.
    pub mesh_status: Option<MeshStatus>,
    /// NodeTunnels by name.
    pub tunnels: Shared<BTreeMap<String, NodeTunnel>>,
    /// ExternalPeers by name.
    pub external_peers: Shared<BTreeMap<String, ExternalPeer>>,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// When an object was made, and its UID: who was first decides a conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.uid`.
    pub uid: Option<String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its age and UID.
    pub origin: Origin,
    /// Prefixes from which its pods get their addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Its InternalIPs.
    pub addresses: Vec<IpAddr>,
    /// It carries the taint of nodes whose keyd is not ready yet.
    pub starting: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceAccount {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A pod as it was read; a snapshot keeps it as a [`PackedPod`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its age and UID.
    pub origin: Origin,
    /// The node it is bound to.
    pub node: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Addresses that it may also use as a source, by annotation.
    pub extra_addresses: Vec<IpAddr>,
    /// It shares its node's network namespace and has no address of its own.
    pub host_network: bool,
    /// Succeeded or Failed: its addresses may be somebody else's by now.
    pub finished: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its ServiceAccount's name.
    pub service_account: String,
    /// Names that its containers give to ports.
    pub ports: BTreeSet<NamedPort>,
    /// A kubelet made it as it likes: no label of its counts, and no selector matches it.
    pub is_anonymous: bool,
}

impl Pod {
    /// Whether the addresses in its status are its own.
    pub fn owns_addresses(&self) -> bool {
        !self.host_network && !self.finished
    }
}

impl Snapshot {
    /// Whether some NodeTunnel has keys.
    pub fn has_keys(&self) -> bool {
        let mut tunnels = self.tunnels.values();
        tunnels.any(|tunnel| !tunnel.spec.generations.is_empty())
    }

    /// The Mesh's status, from wherever it is kept.
    pub fn mesh_status(&self) -> Option<&MeshStatus> {
        self.mesh_status
            .as_ref()
            .or_else(|| self.mesh.as_ref()?.status.as_ref())
    }
}
