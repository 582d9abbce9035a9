//! What a lane and its peers are told by their owner.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Follows how many bytes wait in the lane's TUN, for whoever bounds that queue.
pub trait QueueGauge: Send {
    /// The lane has read a packet of `bytes` bytes (from its IP header on) from its TUN.
    fn consumed(&self, bytes: u64);
    /// The lane found its TUN empty.
    fn empty(&self);
}

/// Offloads a lane may use. Each is probed; what the kernel lacks is left out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// The TUN hands over and takes packets whose checksum is not complete. Without it `tso` and `uso` are off.
    pub checksum: bool,
    /// The TUN hands over and takes TCP super-packets.
    pub tso: bool,
    /// The TUN hands over and takes UDP super-packets (from Linux 6.2).
    pub uso: bool,
    /// `UDP_SEGMENT`: many datagrams leave with one system call.
    pub udp_segment: bool,
    /// `UDP_GRO`: many datagrams come with one system call.
    pub udp_gro: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self {
            checksum: true,
            tso: true,
            uso: true,
            udp_segment: true,
            udp_gro: true,
        }
    }
}

impl Offloads {
    /// None at all.
    pub const NONE: Self = Self {
        checksum: false,
        tso: false,
        uso: false,
        udp_segment: false,
        udp_gro: false,
    };
}

/// How to start a lane. It has no `Debug`, because of its key.
#[derive(Default)]
pub struct LaneConfig {
    /// The TUN's name, at most 15 bytes. An existing persistent TUN of that name is attached to again.
    pub tun_name: String,
    /// MTU of the TUN in bytes; `None` leaves the device's own.
    pub tun_mtu: Option<u32>,
    /// Whether the lane sets the TUN up; else it stays as it is.
    pub tun_up: bool,
    /// UDP port; 0 takes any that is free.
    pub listen_port: u16,
    /// `None`: a throw-away key stands in until one is set by the userspace API.
    pub private_key: Option<StaticSecret>,
    /// What may be used; default all.
    pub offloads: Offloads,
    /// Own node addresses, each with the port of in-tunnel control messages.
    pub control: Vec<SocketAddr>,
    /// Directory of the userspace API's socket `TUN_NAME.sock`; `None` for no socket.
    pub uapi_dir: Option<PathBuf>,
    /// Whether `wg set` may change the lane. A lane that it may not change does not tell its private key either.
    pub uapi_writable: bool,
    /// Told what is taken out of the TUN.
    pub gauge: Option<Box<dyn QueueGauge>>,
    /// The CPU that the lane's thread is bound to.
    pub cpu: Option<usize>,
    /// The TUN outlives the lane: a crash leaves the device, and packets wait in it or are dropped.
    pub persist_tun: bool,
}

/// A peer of a lane. It has no `Debug`, because of its pre-shared key.
#[derive(Clone)]
pub struct PeerConfig {
    /// The peer's public key: who it is.
    pub public_key: PublicKey,
    /// Mixed into the handshake. A new one starts new sessions.
    pub preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// Where to send at first; later the peer's authenticated datagrams decide. `None` keeps what is known.
    pub endpoint: Option<SocketAddr>,
    /// Inner addresses that belong to the peer. A prefix that another peer had moves here.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; `None` or 0 for none.
    pub persistent_keepalive: Option<u16>,
    /// The peer's node address with the port of in-tunnel control messages; within `allowed_ips`.
    pub control: Option<SocketAddr>,
}
