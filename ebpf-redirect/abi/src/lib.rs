//! What the eBPF programs and user space share: map keys and values, drop reasons, counters.
//!
//! Every struct is `#[repr(C)]` with explicit padding and an asserted size; no field is a bool, an
//! `Option` or a Rust enum. Addresses are 16 bytes everywhere, IPv4 as ::ffff:a.b.c.d. A change of
//! any layout or meaning raises [`ABI_VERSION`]; so does a new drop reason or counter, for which a pinned map of
//! counts has no slot.
#![no_std]

mod flow_hash;

pub use flow_hash::{STAMP_TUNNEL, flow_stamp, session_slot, symmetric_flow_hash};

/// Raised with every change of a layout or a meaning; pinned maps of another version are not re-used.
pub const ABI_VERSION: u32 = 3;

/// An IPv6 address, or an IPv4 address mapped into ::ffff:0:0/96, in network byte order.
pub type Addr = [u8; 16];

/// Most lanes of one node, both generations together (`LANES` has as many slots).
pub const MAX_SLOTS: u32 = 32;

/// Peer number of an ipcache entry that belongs to no peer (this node's own pods and addresses).
pub const NO_PEER: u32 = 0;

/// Map `CONFIG`: Array of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`ABI_VERSION`] of the writer.
    pub abi_version: u32,
    /// `CONFIG_*` bits.
    pub flags: u32,
}
/// Hauberk enforces: the shortcuts past the host's stack apply and sources and verdicts are checked.
pub const CONFIG_ENFORCE: u32 = 1 << 0;
/// A covered address that belongs to no known peer is dropped, not sent in clear.
pub const CONFIG_DROP_UNKNOWN: u32 = 1 << 1;
/// What policy denies is counted and let through all the same.
pub const CONFIG_AUDIT: u32 = 1 << 2;

/// Key data of the LPM maps `COVERED` (value: u32, 1) and `IPCACHE` (value: [`IpcacheEntry`]).
/// Prefix lengths count from the 128-bit form: an IPv4 /24 is 120.
pub type LpmAddr = Addr;

/// Value of `IPCACHE`, found by the longest prefix: who has an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpcacheEntry {
    /// Key of `PEERS`, or [`NO_PEER`].
    pub peer: u32,
    /// Identity number, local to this node; [`IDENTITY_OUTSIDE`] for what is nobody's.
    pub identity: u32,
    /// `IP_*` bits.
    pub flags: u32,
    /// `IP_LOCAL_POD`: the pod's host-side interface. Else: the device by which the kernel's routes reach
    /// the address; what comes out of the tunnel enters the stack as if received there (strict rp_filter passes).
    pub ifindex: u32,
}
/// A pod of this node that has an interface of its own.
pub const IP_LOCAL_POD: u32 = 1 << 0;
/// An address of a mesh node (this one or another).
pub const IP_NODE: u32 = 1 << 1;
/// This node's own address.
pub const IP_SELF: u32 = 1 << 2;

/// Value of `PEERS` (hash by peer number, never 0).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `PHASE_*`.
    pub phase: u32,
    /// Sessions of the pair, m; 0: no key is known, covered packets are dropped from Sending on.
    pub sessions: u32,
    /// H(pair), already reduced mod `lanes`.
    pub shift: u32,
    /// This node's lanes, n, in the generation that serves the peer.
    pub lanes: u32,
    /// First slot in `LANES` of that generation. Session k goes to slot `slot_base + (k + shift) % lanes`.
    pub slot_base: u32,
}
/// Clear is sent and accepted.
pub const PHASE_OFF: u32 = 0;
/// Handshake done; clear is sent, both are accepted.
pub const PHASE_READY: u32 = 1;
/// Ciphertext is sent, both are accepted.
pub const PHASE_SENDING: u32 = 2;
/// Ciphertext is sent, clear is refused.
pub const PHASE_STRICT: u32 = 3;

/// Value of `LANES` (Array of [`MAX_SLOTS`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The lane's TUN device; 0: no lane in this slot.
    pub tun_ifindex: u32,
    /// Bytes that may wait in the TUN's queue; beyond that packets are dropped as `QueueFull`.
    pub queue_limit_bytes: u32,
}

/// Value of `QUEUES` (memory-mapped Array of [`MAX_SLOTS`]): bytes put into and taken out of a TUN.
/// Two cache lines, one written by the kernel's side, one by the lane.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Bytes the programs redirected into the TUN (IP headers included, link header not), wrapping.
    pub produced: u64,
    #[doc(hidden)]
    pub pad0: [u64; 7],
    /// Bytes the lane has read from the TUN, wrapping. Set equal to `produced` when the lane finds it empty.
    pub consumed: u64,
    #[doc(hidden)]
    pub pad1: [u64; 7],
}

/// Value of `DEVICES` (hash by ifindex): devices of the host that packets are handed to by ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The device's own MAC address; zero for a device without a link header.
    pub mac: [u8; 6],
    /// `DEVICE_*`
    pub kind: u16,
}
/// An uplink or overlay device, guarded by `to_network`.
pub const DEVICE_UPLINK: u16 = 1;

/// Value of `PODS` (hash by the ifindex of the host-side interface).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Number of the set of policies that are about the pod, local to this node; [`SET_CLOSED`] denies everything.
    pub set: u32,
}
/// A set without verdicts.
pub const SET_CLOSED: u32 = 0;

/// Key of `POD_ADDRESSES` (hash; value u32, 1): an address that a pod may use as its source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodAddress {
    /// ifindex of the host-side interface.
    pub ifindex: u32,
    /// The address.
    pub addr: Addr,
}

/// Key of `VERDICTS` (hash; value u32: [`VERDICT_DENY`], [`VERDICT_ALLOW`], or the number of a program in `PORTS`).
/// Looked up as given, then with [`IDENTITY_ANY`]; nothing found is deny.
///
/// What a set and an identity stand for never changes under their number, so a verdict that was looked up once holds as
/// long as the pod has that set and the remote that identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictKey {
    /// Set of the pod of this node that is judged.
    pub set: u32,
    /// Identity of the other side.
    pub remote: u32,
    /// `DIR_*`, said from the pod.
    pub direction: u32,
}
/// Into the pod.
pub const DIR_INGRESS: u32 = 0;
/// Out of the pod.
pub const DIR_EGRESS: u32 = 1;
/// Identity of addresses of which no prefix says anything.
pub const IDENTITY_OUTSIDE: u32 = 0;
/// In [`VerdictKey`]: every identity that has no entry of its own.
pub const IDENTITY_ANY: u32 = u32::MAX;
/// Drop, counted as `PolicyDenied`.
pub const VERDICT_DENY: u32 = 0;
/// Let through.
pub const VERDICT_ALLOW: u32 = 1;
/// Numbers of programs begin here.
pub const FIRST_PROGRAM: u32 = 2;

/// Key data of the LPM map `PORTS` (value: u32, `VERDICT_*`; nothing found is deny): a program's number, a `COLUMN_*` and
/// a port, all in network byte order, and a zero.
pub type PortKey = [u8; 8];
/// Bits of a [`PortKey`] before the port.
pub const PORT_PREFIX: u32 = 40;
/// Ports of TCP.
pub const COLUMN_TCP: u8 = 0;
/// Ports of UDP.
pub const COLUMN_UDP: u8 = 1;
/// Ports of SCTP.
pub const COLUMN_SCTP: u8 = 2;
/// All protocols that have no ports; the port is 0.
pub const COLUMN_OTHER: u8 = 3;

/// The key of one port, or of the prefix of ports that begins with it.
#[inline(always)]
pub const fn port_key(program: u32, column: u8, port: u16) -> PortKey {
    let [a, b, c, d] = program.to_be_bytes();
    let [high, low] = port.to_be_bytes();
    [a, b, c, d, column, high, low, 0]
}

/// Value of `CONNECTIONS` (LRU hash by [`FlowKey`], as packets come to the pod): a connection that was let through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The pod's set when it was judged last.
    pub set: u32,
    /// The other side's identity then.
    pub remote: u32,
    /// Until when it is one without a further packet, in seconds of `CLOCK_MONOTONIC_COARSE`.
    pub expires_s: u32,
    /// `CONNECTION_*` bits.
    pub flags: u32,
}
/// The pod opened it; else the other side did.
pub const CONNECTION_EGRESS: u32 = 1 << 0;
/// A socket of this node opened it (a probe of the kubelet's), about which policy has no say.
pub const CONNECTION_OF_HOST: u32 = 1 << 1;
/// The side that did not open it has answered.
pub const CONNECTION_REPLIED: u32 = 1 << 2;
/// The pod said that it sends no more.
pub const CONNECTION_POD_DONE: u32 = 1 << 3;
/// The other side said so.
pub const CONNECTION_REMOTE_DONE: u32 = 1 << 4;
/// Either side broke it off.
pub const CONNECTION_RESET: u32 = 1 << 5;
/// Policy denies it, and it is there because of [`CONFIG_AUDIT`] only.
pub const CONNECTION_AUDITED: u32 = 1 << 6;

/// Key of `FRAGMENTS` (LRU hash; value u32: until when, as [`Connection::expires_s`]): a datagram whose first fragment was
/// let through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FragmentKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// IPv4: 16 bits. Network byte order.
    pub id: u32,
    /// `DIR_*`, said from the pod that was asked about.
    pub direction: u32,
}

/// Key of `FLOWS` (LRU hash): a flow as its packets are delivered to a pod of this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address.
    pub src: Addr,
    /// Destination address, the pod's.
    pub dst: Addr,
    /// Source port (ICMP: identifier), network byte order.
    pub sport: u16,
    /// Destination port, network byte order.
    pub dport: u16,
    /// IP protocol number.
    pub proto: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
/// Value of `FLOWS`: the flow was seen to pass the host's stack untranslated; deliver it thus.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The pod's host-side interface.
    pub ifindex: u32,
    /// The pod's MAC address.
    pub dst_mac: [u8; 6],
    /// The host side's MAC address as the pod sees it.
    pub src_mac: [u8; 6],
    /// When a packet last proved it, in seconds of `CLOCK_MONOTONIC_COARSE`; good for [`FLOW_PROOF_SECONDS`].
    pub proved_s: u32,
}
/// How long a proof in `FLOWS` lasts. Then packets pass the host's stack again, which renews the proof and,
/// with it, the entry in the host's conntrack: a FIN after a long time must still find that entry, because
/// one that finds none is "invalid", and nodes drop what is.
pub const FLOW_PROOF_SECONDS: u32 = 60;

/// Value of `DROPS` and `COUNTERS` (per-CPU arrays by [`DropReason`] and [`Counter`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets; a super-packet counts its segments.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident: $($(#[$vmeta:meta])* $variant:ident = $n:literal $text:literal,)*) => {
        $(#[$meta])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant = $n,)* }
        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name used in metrics and in `hauberk status`.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}
numbered! {
    /// Why a program dropped a packet. Numbers never change their meaning; new ones are added at the end.
    DropReason:
    /// Headers that cannot be read.
    Malformed = 0 "Malformed",
    /// The source address is not the pod's.
    SpoofedSource = 1 "SpoofedSource",
    /// Covered, and no node is known to have the address.
    UnknownPeer = 2 "UnknownPeer",
    /// The peer is known and encryption is on, but not its key.
    PeerKeyMissing = 3 "PeerKeyMissing",
    /// No lane in the slot that serves the peer.
    LaneMissing = 4 "LaneMissing",
    /// More bytes wait in the lane's TUN than its limit.
    QueueFull = 5 "QueueFull",
    /// Covered source in clear from a peer in phase Strict.
    ClearRefused = 6 "ClearRefused",
    /// Policy denies it.
    PolicyDenied = 7 "PolicyDenied",
    /// A map lookup that must succeed found nothing, or a helper failed.
    InternalError = 8 "InternalError",
    /// No device is known by which the packet could enter the host's stack.
    NoDevice = 9 "NoDevice",
    /// The device by which the packet would leave is not known.
    UnknownDevice = 10 "UnknownDevice",
    /// A fragment of a datagram whose first one was not let through, or not seen.
    UnknownFragment = 11 "UnknownFragment",
}
numbered! {
    /// What the programs let through.
    Counter:
    /// Datagrams of lanes that left by an uplink.
    Ciphertext = 0 "ciphertext",
    /// Covered packets that left in clear because their pair is Off or Ready.
    Clear = 1 "clear",
    /// Node to node traffic, exempt for now.
    ExemptHost = 2 "exempt_host",
    /// Not covered.
    NotCovered = 3 "not_covered",
    /// Sent to a lane by `to_network`.
    ToLaneFromStack = 4 "to_lane_from_stack",
    /// Sent to a lane by `from_pod`.
    ToLaneFromPod = 5 "to_lane_from_pod",
    /// Delivered by `from_tunnel` straight to a pod.
    TunnelShortcut = 6 "tunnel_shortcut",
    /// Handed by `from_tunnel` to the host's stack.
    TunnelToStack = 7 "tunnel_to_stack",
    /// Delivered by `from_pod` straight to a pod of this node.
    LocalShortcut = 8 "local_shortcut",
    /// Denied by policy, and let through because it is only audited.
    WouldDeny = 9 "would_deny",
}

const _: () = {
    assert!(size_of::<Config>() == 8);
    assert!(size_of::<IpcacheEntry>() == 16);
    assert!(size_of::<Peer>() == 20);
    assert!(size_of::<Lane>() == 8);
    assert!(size_of::<Queue>() == 128);
    assert!(size_of::<Device>() == 8);
    assert!(size_of::<Pod>() == 4);
    assert!(size_of::<PodAddress>() == 20);
    assert!(size_of::<VerdictKey>() == 12);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<Flow>() == 20);
    assert!(size_of::<Connection>() == 16);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<Count>() == 16);
    assert!(DropReason::ALL.len() == 12);
    assert!(Counter::ALL.len() == 10);
};

#[cfg(feature = "user")]
mod user {
    #![allow(unsafe_code)]
    use super::*;
    // SAFETY: each is `#[repr(C)]`, `Copy`, 'static, has no implicit padding (sizes asserted above) and is
    // valid for every bit pattern.
    unsafe impl aya::Pod for Config {}
    unsafe impl aya::Pod for IpcacheEntry {}
    unsafe impl aya::Pod for Peer {}
    unsafe impl aya::Pod for Lane {}
    unsafe impl aya::Pod for Queue {}
    unsafe impl aya::Pod for Device {}
    unsafe impl aya::Pod for Pod {}
    unsafe impl aya::Pod for PodAddress {}
    unsafe impl aya::Pod for VerdictKey {}
    unsafe impl aya::Pod for FlowKey {}
    unsafe impl aya::Pod for Flow {}
    unsafe impl aya::Pod for Connection {}
    unsafe impl aya::Pod for FragmentKey {}
    unsafe impl aya::Pod for Count {}
}
