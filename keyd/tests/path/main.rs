//! The whole path, pod to pod, with keyd on every node of a lab and judged by what crosses its fabric.
//!
//! Each file is a subject. All of it needs root, and fails without.

mod bad_input;
mod bulk;
mod conversation;
mod flip;
mod full_disk;
mod idle;
mod interference;
mod mtu;
mod neighbours;
mod overload;
mod policy;
mod reboot;
mod rp_filter;
mod soak;
mod stage;
