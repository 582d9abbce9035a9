//! `hauberk-cni` as a container runtime calls it, after the reference plugins that make a pod's network, on the nodes of
//! a lab with keyd.
//!
//! Each file is a subject. All of it needs root and the reference plugins, and fails without.

mod chain;
mod container;
mod pods;
