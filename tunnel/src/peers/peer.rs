//! One peer: its WireGuard state machine, where it is, and what its path carries.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use boringtun::noise::Tunn;
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::WaitingRoom;

/// Bytes WireGuard adds to each packet: header 16, tag 16 (whitepaper §5.4.6).
pub(crate) const DATA_OVERHEAD: usize = 32;
const UDP_HEADER: u16 = 8;
/// MTU assumed before the path was asked: Ethernet's.
const ASSUMED_PATH_MTU: u16 = 1_500;
/// No IPv4 link has less (RFC 791); guards the arithmetic against nonsense.
const LEAST_PATH_MTU: u16 = 576;

/// A peer.
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// Seconds; `None` for no persistent keepalive.
    pub(crate) keepalive: Option<u16>,
    pub(crate) control: Option<SocketAddr>,
    /// Names its sessions, see [`super::Peers::free_index`].
    pub(crate) index: u32,
    /// Ten kilobytes, so it is made when there is something to say: of a large mesh's nodes most say nothing to each
    /// other on most lanes.
    pub(crate) tunn: Option<Box<Tunn>>,
    /// The endpoint its owner named last; naming it again does not undo roaming.
    pub(crate) configured_endpoint: Option<SocketAddr>,
    /// Learnt from authenticated datagrams only, or configured.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Largest inner packet for the path to `endpoint`.
    pub(crate) mtu: u16,
    /// Whether `tunn` has a session to send with, as of its last change.
    pub(crate) established: bool,
    pub(crate) waiting: WaitingRoom,
    /// Index of a session that we answered and the peer has not used yet.
    pub(crate) unconfirmed: Option<u32>,
    pub(crate) last_handshake: Option<(Instant, SystemTime)>,
    /// When a handshake was last started because its owner, or a datagram of no session, asked for it.
    pub(crate) last_revival: Option<Instant>,
    /// When something was last sent or received, to a tick's precision, and both byte counts then.
    pub(crate) last_traffic: Option<(Instant, u64)>,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_bytes: u64,
    /// `tx_bytes` when the path was last asked for its MTU.
    pub(crate) probed_at_tx: u64,
}

impl Peer {
    pub(crate) fn new(public_key: PublicKey, index: u32) -> Self {
        Self {
            public_key,
            preshared_key: None,
            keepalive: None,
            control: None,
            index,
            tunn: None,
            configured_endpoint: None,
            endpoint: None,
            mtu: tunnel_mtu(ASSUMED_PATH_MTU, false),
            established: false,
            waiting: WaitingRoom::default(),
            unconfirmed: None,
            last_handshake: None,
            last_revival: None,
            last_traffic: None,
            tx_bytes: 0,
            rx_bytes: 0,
            probed_at_tx: 0,
        }
    }

    /// Looks again whether there is a session to send with.
    pub(crate) fn refresh(&mut self) {
        let last = self
            .tunn
            .as_ref()
            .and_then(|tunn| tunn.time_since_last_handshake());
        self.established = last.is_some();
    }

    /// Takes a new endpoint; `path_mtu` is that of the path to it, if known.
    pub(crate) fn move_to(&mut self, endpoint: SocketAddr, path_mtu: Option<u16>) {
        self.endpoint = Some(endpoint);
        self.set_path_mtu(path_mtu.unwrap_or(ASSUMED_PATH_MTU));
    }

    /// Adapts to the MTU of the path to the endpoint; returns whether that changes anything.
    pub(crate) fn set_path_mtu(&mut self, path_mtu: u16) -> bool {
        let ipv6 = self.endpoint.is_some_and(|endpoint| endpoint.is_ipv6());
        let mtu = tunnel_mtu(path_mtu, ipv6);
        std::mem::replace(&mut self.mtu, mtu) != mtu
    }
}

/// Bytes of the largest inner packet on a path: what IP, UDP and WireGuard leave.
fn tunnel_mtu(path_mtu: u16, ipv6: bool) -> u16 {
    let ip_header = if ipv6 { 40 } else { 20 };
    path_mtu.max(LEAST_PATH_MTU) - ip_header - UDP_HEADER - DATA_OVERHEAD as u16
}

/// The length a packet has when sealed: padded to 16 bytes, but never beyond the MTU (whitepaper §5.4.6).
pub(crate) fn padded(length: usize, mtu: u16) -> usize {
    length.next_multiple_of(16).min(usize::from(mtu)).max(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnel_mtus_are_those_of_wireguard() {
        assert_eq!(tunnel_mtu(1_500, false), 1_440);
        assert_eq!(tunnel_mtu(1_500, true), 1_420);
        assert_eq!(tunnel_mtu(0, false), 516);
    }

    #[test]
    fn padding_stops_at_the_mtu() {
        assert_eq!(padded(1, 1_420), 16);
        assert_eq!(padded(1_419, 1_420), 1_420);
        assert_eq!(padded(1_420, 1_420), 1_420);
        assert_eq!(padded(1_440, 1_440), 1_440);
    }
}
