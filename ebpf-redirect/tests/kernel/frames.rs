//! Packets for the programs, built byte by byte.

use std::net::IpAddr;

use hauberk_ebpf_redirect::{
    abi::{Addr, FlowKey},
    address::mapped,
};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

pub const ACK: u8 = 0x10;
pub const SYN: u8 = 0x02;
pub const FIN: u8 = 0x11;
pub const RST: u8 = 0x04;

pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A packet to be: IP addresses and what lies behind them.
#[derive(Clone, Debug)]
pub struct Frame {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    transport: Vec<u8>,
    /// IPv6 extension headers: each kind with its bytes, whose first is overwritten by what follows.
    extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4 flags and fragment offset.
    fragment: u16,
    /// What the fragments of one datagram have in common.
    id: u16,
}

impl Frame {
    pub fn new(src: &str, dst: &str, proto: u8, transport: Vec<u8>) -> Self {
        let parse = |text: &str| text.parse().expect("an address");
        Self {
            src: parse(src),
            dst: parse(dst),
            proto,
            transport,
            extensions: Vec::new(),
            fragment: 0,
            id: 1,
        }
    }

    pub fn tcp(src: &str, dst: &str, sport: u16, dport: u16, flags: u8) -> Self {
        let mut header = vec![0; 20];
        header[..2].copy_from_slice(&sport.to_be_bytes());
        header[2..4].copy_from_slice(&dport.to_be_bytes());
        header[12] = 5 << 4;
        header[13] = flags;
        Self::new(src, dst, TCP, header)
    }

    pub fn udp(src: &str, dst: &str, sport: u16, dport: u16) -> Self {
        let mut header = vec![0; 8];
        header[..2].copy_from_slice(&sport.to_be_bytes());
        header[2..4].copy_from_slice(&dport.to_be_bytes());
        header[4..6].copy_from_slice(&8u16.to_be_bytes());
        Self::new(src, dst, UDP, header)
    }

    /// With one chunk.
    pub fn sctp(src: &str, dst: &str, sport: u16, dport: u16, chunk: u8) -> Self {
        let mut packet = vec![0; 16];
        packet[..2].copy_from_slice(&sport.to_be_bytes());
        packet[2..4].copy_from_slice(&dport.to_be_bytes());
        packet[12] = chunk;
        packet[15] = 4;
        Self::new(src, dst, SCTP, packet)
    }

    /// ICMP or ICMPv6 by the addresses.
    pub fn icmp(src: &str, dst: &str, kind: u8, rest: &[u8]) -> Self {
        let proto = if src.contains(':') { ICMPV6 } else { ICMP };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(rest);
        message.resize(message.len().max(8), 0);
        Self::new(src, dst, proto, message)
    }

    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = (offset / 8) | if more { 0x2000 } else { 0 };
        self
    }

    /// Of either family, with the number that it shares with the others of its datagram.
    pub fn fragment_of(mut self, id: u16, offset: u16, more: bool) -> Self {
        self.id = id;
        if self.src.is_ipv4() {
            return self.fragment(offset, more);
        }
        let place = (offset | u16::from(more)).to_be_bytes();
        let id = u32::from(id).to_be_bytes();
        self.extension(44, &[&[0, 0], &place[..], &id].concat())
    }

    pub fn extension(mut self, kind: u8, bytes: &[u8]) -> Self {
        self.extensions.push((kind, bytes.to_vec()));
        self
    }

    /// From the IP header on, with at least the 14 bytes that the kernel wants of a test packet.
    pub fn ip(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut bytes = vec![0x45, 0, 0, 0];
                let total = 20 + self.transport.len() as u16;
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
                bytes.extend(self.id.to_be_bytes());
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([64, self.proto, 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(&self.transport);
                bytes
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut behind = Vec::new();
                for (i, (_, extension)) in self.extensions.iter().enumerate() {
                    let start = behind.len();
                    behind.extend(extension);
                    behind[start] = self.extensions.get(i + 1).map_or(self.proto, |next| next.0);
                }
                behind.extend(&self.transport);
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend((behind.len() as u16).to_be_bytes());
                bytes.push(self.extensions.first().map_or(self.proto, |first| first.0));
                bytes.push(64);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(behind);
                bytes
            }
            _ => panic!("addresses of one family"),
        }
    }

    /// With an Ethernet header.
    pub fn ethernet(&self) -> Vec<u8> {
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut bytes = [HOST_MAC, POD_MAC].concat();
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(self.ip());
        bytes
    }
}

/// An ARP request with a sender's address.
pub fn arp(sender: [u8; 4]) -> Vec<u8> {
    let mut bytes = [[0xff; 6], POD_MAC].concat();
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(POD_MAC);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend([10, 77, 1, 1]);
    bytes
}

pub fn addr(text: &str) -> Addr {
    mapped(text.parse().expect("an address"))
}

pub fn flow(src: &str, dst: &str, sport: u16, dport: u16, proto: u8) -> FlowKey {
    FlowKey {
        src: addr(src),
        dst: addr(dst),
        sport: sport.to_be(),
        dport: dport.to_be(),
        proto,
        pad: [0; 3],
    }
}
