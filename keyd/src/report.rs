//! What keyd says about its node: one value, from which `/state`, `/metrics`, `/readyz` and the
//! state file beside the manifests are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why the kernel dropped around a lane, where no program sees it: the TUN's queue was full.
pub const TUN_QUEUE_FULL: &str = "LaneTunQueueFull";
/// The same of the lane's socket.
pub const SOCKET_BUFFER_FULL: &str = "LaneSocketBufferFull";
/// Why the fence dropped.
pub const UNGUARDED_DEVICE: &str = "UnguardedDevice";

/// A node's state, in the shape of `hauberk status -o json`'s `nodes[]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's name.
    pub name: String,
    /// Whether every pair of this node is Strict.
    pub encrypted: bool,
    /// Why, in CamelCase; with the pairs that lag.
    pub reason: String,
    /// The generation of keys in use; 0 while there is none.
    pub generation: u64,
    /// The other nodes.
    pub peers: Vec<PeerReport>,
    /// Bytes with covered addresses that left in clear since the programs were loaded.
    pub clear_bytes: u64,
    /// Packets dropped since then, by reason; reasons without a drop are left out.
    pub dropped: BTreeMap<String, u64>,
    /// Whether the node has read its objects and put them into force.
    pub ready: bool,
    /// `CNI` or `Hauberk`.
    pub enforcer: String,
    /// Packets and bytes that the guard let through, by kind.
    pub guard: BTreeMap<String, Passed>,
    /// The lanes.
    pub lanes: Vec<LaneReport>,
    /// Pod addresses that more than one pod claims.
    pub address_conflicts: u64,
    /// How often a foreign program stood before one of keyd's, and was put behind.
    pub programs_displaced: u64,
    /// What is wrong, one line each: bad manifests, conflicts, failures that are tried again.
    pub problems: Vec<String>,
}

/// One other node, seen from this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its name.
    pub node: String,
    /// The pair's phase: Off, Ready, Sending or Strict.
    pub phase: String,
    /// Seconds since the youngest handshake; absent before the first.
    pub last_handshake_s: Option<u64>,
    /// UDP payload bytes sent to it.
    pub tx_bytes: u64,
    /// UDP payload bytes received from it.
    pub rx_bytes: u64,
}

/// What the guard let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Packets; a super-packet counts its segments.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// One lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// Its TUN.
    pub device: String,
    /// Its UDP port.
    pub port: u16,
    /// Seconds its thread was not waiting.
    pub busy_seconds: f64,
}
