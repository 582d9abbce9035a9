//! `hauberk-wg` and lanes in network namespaces of their own. Needs root, `ip`, `wg`, `nft`, `ping`, `ss`,
//! `nsenter`, `setpriv` and Debian's `wireguard-go`; fails without.
//!
//! Each test has two nodes and a router between them, which counts fragments. Nothing is touched outside
//! of the namespaces it makes, and all of it is gone when the test ends, however it ends.

mod interop;
mod lane;
mod lifetime;
mod mtu;
mod namespace;
mod offload;
mod own;
mod roaming;
mod traffic;
mod tunnel;
