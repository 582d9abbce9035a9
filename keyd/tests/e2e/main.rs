//! Real nodes and real pods: kubelets, containerd, Debian's CNI plugins, kube-proxy, and keyd between them.
//!
//! Needs root, the control plane's programs, containerd and the CNI plugins.

mod boot;
mod busy;
mod cluster;
mod flip;
mod hauberk;
mod nodes;
mod policy;
mod uninstall;
