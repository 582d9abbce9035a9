//! The programs in the real kernel: verdicts by `BPF_PROG_TEST_RUN`, attaching, maps, and traffic between
//! namespaces. Needs root, and fails without. `HAUBERK_ATTACH=tcx|clsact` forces how programs are attached.

mod attaching;
mod contents;
mod fencing;
mod frames;
mod from_pod;
mod nodes;
mod policy;
mod rival;
mod sandbox;
mod to_network;
mod to_pod;
mod traffic;
mod tunnel_ingress;
mod wire;
