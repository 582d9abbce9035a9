//! Nodes and pods as network namespaces: tests, bench and demo stand on it.
//!
//! A [`Lab`] is a handful of nodes, each a network namespace with an uplink, an nftables rule that drops
//! `ct state invalid` as kube-proxy's rules do, a cgroup, and pods in namespaces of their own, wired as CNIs
//! wire them: routed or bridged. All uplinks end in one more namespace, the [`Fabric`], whose bridge joins
//! them. An eBPF program on every port of it counts what crosses in clear and, when asked, loses,
//! duplicates and reorders packets.
//!
//! Nothing outside namespaces that the lab made is configured, except by adding to it: a runtime directory
//! under `/run/hauberk-lab`, names in `/run/netns`, a child of the cgroup2 root (for kubelets, one of each
//! cgroup v1 root too). All of it is removed when the [`Lab`] is dropped, when the process panics or dies (by a
//! small guardian process), and by [`sweep`].
//!
//! [`kubernetes`] is a real control plane for it, in a namespace of its own, and makes nodes real ones, with
//! kubelets and containers.
//!
//! Everything needs root and `ip`, `nft` and `ethtool` on the path.

mod capture;
mod error;
mod fabric;
pub mod iperf;
pub mod kubernetes;
mod lab;
mod manifest;
mod mesh;
mod netns;
mod process;
mod replicas;
mod runtime;
mod spec;
mod system;

pub use capture::{Capture, CaptureSpec, Captured, CapturedPacket};
pub use error::LabError;
pub use fabric::{Count, Fabric, FabricCounts, Family, Impairment, Protocol, Tally};
pub use lab::{Lab, Node, Pod};
pub use manifest::{ManifestSpec, set_encryption};
pub use mesh::Mesh;
pub use netns::Netns;
pub use process::{CommandPlacement, Process};
pub use replicas::Replicas;
pub use runtime::{clean_up_on_signals, sweep};
pub use spec::{LabSpec, NodeSpec, Wiring};
