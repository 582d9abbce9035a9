//! Network policy: pure. Objects in, verdicts and the kernel's map entries out.
//!
//! In order: 1. [`read`]: Kubernetes' and Hauberk's objects become [`policy::Policy`]s, and what means nothing becomes a
//! [`policy::Problem`]; 2. [`judge::Policies`]: which rule decides about a connection; 3. [`compile`]: the same as tables for
//! the kernel; 4. [`oracle`]: the same, said once more without any of this, to be compared with.
//!
//! Nothing here reads a clock, a file or a socket.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod compile;
pub mod connection;
pub mod distinctions;
pub mod dns_name;
pub mod identity;
pub mod judge;
pub mod networks;
pub mod oracle;
mod paint;
pub mod peer;
pub mod policy;
pub mod ports;
pub mod read;
pub mod selector;
mod subjects;
pub mod validity;
