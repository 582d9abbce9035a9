//! Inner packets for the tests.

use std::net::{IpAddr, SocketAddr};

use crate::packet::vnet::{Gso, Partial};
use crate::packet::{VnetHdr, checksum, datagram};

pub(super) fn v4(n: u8) -> IpAddr {
    [10, 0, n, 1].into()
}

pub(super) fn v6(n: u8) -> IpAddr {
    [0xfd00, n.into(), 0, 0, 0, 0, 0, 1].into()
}

/// A whole UDP packet.
pub(super) fn udp(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; payload.len() + 48];
    let (source, destination) = (SocketAddr::new(source, 7), SocketAddr::new(destination, 9));
    let length = datagram::build(source, destination, payload, &mut packet).expect("fits its buffer");
    packet.truncate(length);
    packet
}

/// The same, IPv4, with the DF bit or without.
pub(super) fn udp_df(source: IpAddr, destination: IpAddr, payload: &[u8], df: bool) -> Vec<u8> {
    let mut packet = udp(source, destination, payload);
    packet[6] = if df { 0x40 } else { 0 };
    packet[10..12].fill(0);
    let sum = checksum::Sum::default().bytes(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A TCP super-packet of 1,448 payload bytes a segment, as a pod's kernel gives it to the TUN.
pub(super) fn tcp(source: IpAddr, destination: IpAddr, sequence: u32, payload: &[u8]) -> (VnetHdr, Vec<u8>) {
    let mut tcp = Vec::with_capacity(20 + payload.len());
    tcp.extend_from_slice(&[0, 80, 1, 0]);
    tcp.extend_from_slice(&sequence.to_be_bytes());
    tcp.extend_from_slice(&[0, 0, 0, 1, 5 << 4, 0x10, 255, 255, 0, 0, 0, 0]);
    tcp.extend_from_slice(payload);
    let length = tcp.len();
    let (mut packet, gso) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut ip = vec![0x45, 0];
            ip.extend_from_slice(&(20 + length as u16).to_be_bytes());
            ip.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
            ip.extend_from_slice(&source.octets());
            ip.extend_from_slice(&destination.octets());
            let sum = checksum::Sum::default().bytes(&ip).finish();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            (ip, Gso::Tcp4)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend_from_slice(&(length as u16).to_be_bytes());
            ip.extend_from_slice(&[6, 64]);
            ip.extend_from_slice(&source.octets());
            ip.extend_from_slice(&destination.octets());
            (ip, Gso::Tcp6)
        }
        _ => panic!("addresses of two families"),
    };
    let start = packet.len();
    let addresses = if start == 20 { 12..20 } else { 8..40 };
    let sum = checksum::pseudo_header(&packet[addresses], 6, length).fold();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&tcp);
    let header = VnetHdr {
        gso: if payload.len() > 1_448 { gso } else { Gso::None },
        gso_size: if payload.len() > 1_448 { 1_448 } else { 0 },
        hdr_len: start as u16 + 20,
        partial: Some(Partial {
            start: start as u16,
            offset: 16,
        }),
    };
    (header, packet)
}

/// The TCP payload of a packet that [`tcp`] could have made, and its sequence number.
pub(super) fn tcp_payload(packet: &[u8]) -> (u32, &[u8]) {
    let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let sequence = u32::from_be_bytes(*packet[start + 4..].first_chunk().expect("a TCP header"));
    (sequence, &packet[start + 20..])
}

/// Bytes that differ from their neighbours.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}
