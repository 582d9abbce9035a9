//! keyd with the Kubernetes API as its source: a real API server, nodes and pods as network namespaces.
//!
//! Needs root and the control plane's programs. Pods are objects and namespaces that belong together; no kubelet runs.

#[path = "../path/conversation.rs"]
mod conversation;
mod flip;
mod install;
mod nonsense;
mod outage;
mod privilege;
mod stage;
mod trust;
