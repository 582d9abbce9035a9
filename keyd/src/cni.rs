//! `hauberk-cni`, chained after the cluster's CNI: a pod's containers start once keyd has the pod in force.
//!
//! The plugin ([`plugin`], a small program that the container runtime starts) reads a call ([`call`]), asks keyd
//! ([`ask`]) and waits for its word. keyd listens ([`serve`]) and keeps what it was told over its restarts
//! ([`attachments`]). keyd also puts the plugin into the node's CNI configuration and takes it out again
//! ([`install`], [`conflist`]).
//!
//! The plugin decides nothing and sets nothing up. While keyd is away ADD fails, the kubelet tries again, and so
//! pods queue.

pub mod ask;
pub mod attachments;
pub mod call;
pub mod conflist;
pub mod install;
mod peer;
pub mod plugin;
pub mod serve;

/// The plugin's `type`, and its file's name.
pub const PLUGIN: &str = "hauberk-cni";
/// keyd's socket for the plugin, in the state directory.
pub const SOCKET: &str = "cni.sock";
/// Versions of the CNI specification that the plugin speaks.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// So many seconds ADD waits unless `timeoutSeconds` says otherwise: the kubelet gives the whole
/// sandbox four minutes (twice its `runtimeRequestTimeout`), and what fails sooner says sooner why.
pub const TIMEOUT_SECONDS: u16 = 20;
