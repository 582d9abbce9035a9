//! Hauberk's node daemon: cluster state in, kernel and tunnel state out.
//!
//! A library and a small binary, so that tests and fuzz targets reach every parser.

pub mod cni;
pub mod compute;
pub mod conntrack;
pub mod control_message;
pub mod controller;
pub mod durable;
pub mod kernel;
pub mod keyfile;
pub mod lanes;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod options;
pub mod pair;
pub mod preflight;
pub mod report;
pub mod serve;
pub mod snapshot;
pub mod source;
pub mod sysctl;
pub mod uninstall;
pub mod version;
pub mod wiring;
