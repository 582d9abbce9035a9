//! Hauberk's WireGuard data plane.
//!
//! A [`Lane`] is one thread with a TUN device, a UDP socket and a key pair of its own; lanes share
//! nothing. What leaves: TUN super-packet → peer (once) → cut to fit the path → sealed → one `sendmsg`.
//! What comes: one `recvmsg` → session by receiver index → opened → source checked → coalesced → TUN.
//! It knows WireGuard and IP, and nothing of Kubernetes or eBPF.

mod core;
mod drop_reason;
mod lane;
pub mod packet;
mod peers;
mod socket;
mod tun;
pub mod uapi;

pub use drop_reason::{DropReason, Drops};
pub use lane::{
    Lane, LaneConfig, LaneError, LaneEvent, LaneEventKind, LaneStats, Offloads, PeerConfig, PeerStats,
    QueueGauge,
};
pub use x25519_dalek as x25519;
