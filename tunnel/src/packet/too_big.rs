//! The answer to a packet that fits no tunnel: ICMP "fragmentation needed" (RFC 792, RFC 1191) or
//! ICMPv6 "packet too big" (RFC 4443 §3.2).
//!
//! Its source is the original destination, as in the kernel's own tunnels (net/ipv4/ip_tunnel_core.c):
//! so it passes strict `rp_filter` and is RELATED to the connection for NAT.

/// The longest answer: IPv6's least MTU (RFC 4443 §2.4(c)).
pub const MAX_LEN: usize = 1280;

/// Writes the answer to `packet` into `out` and returns its length, or `None` where none may be sent:
/// to ICMP errors, later fragments, multicast, or when the sender cannot send less (IPv6 at 1280).
pub fn too_big(packet: &[u8], mtu: usize, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    let _ = (packet, mtu, out);
    todo!()
}
