//! Hauberk's node daemon: cluster state in, kernel and tunnel state out.
//!
//! A library and a small binary, so that tests and fuzz targets reach every parser.

pub mod compute;
pub mod control_message;
pub mod controller;
pub mod durable;
pub mod keyfile;
pub mod manifest;
pub mod memory;
pub mod pair;
pub mod snapshot;
pub mod source;
