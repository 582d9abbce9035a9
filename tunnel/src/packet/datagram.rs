//! Builds and reads the UDP datagrams that lanes exchange inside the tunnel (control messages).

use std::net::SocketAddr;

use super::parse::Packet;

/// Writes a UDP packet with all checksums into `out` and returns its length; `None` when `out` is too
/// short, the payload too long, or the addresses are not of one family.
pub fn build(source: SocketAddr, destination: SocketAddr, payload: &[u8], out: &mut [u8]) -> Option<usize> {
    let _ = (source, destination, payload, out);
    todo!()
}

/// Source, destination and payload of a whole UDP packet whose checksum is right.
pub fn read<'a>(packet: &Packet<'a>) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
    let _ = packet;
    todo!()
}
