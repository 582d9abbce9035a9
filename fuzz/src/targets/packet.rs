//! The small parsers and writers of packets: vnet header, IP headers, ECN, "too big", datagrams.

use hauberk_tunnel::packet::{Packet, VnetHdr, datagram, ecn, parse::Version, too_big};

use super::{
    Target,
    sample::{self, ip_checksum_is_right, transport_sum},
};

pub(crate) const VNET: Target = Target {
    name: "vnet",
    about: "the virtio_net_hdr before each packet of a TUN",
    seeds: || {
        let packet = sample::tcp(false, 1, 3000);
        let header = sample::vnet(&packet, hauberk_tunnel::packet::Gso::Tcp4, 1400);
        vec![header.encode().to_vec(), VnetHdr::default().encode().to_vec()]
    },
    words: &[],
    run: |input| match VnetHdr::decode(input) {
        Ok(header) => {
            assert_eq!(VnetHdr::decode(&header.encode()), Ok(header));
            header.gso as u64
        }
        Err(error) => 0x100 + (format!("{error:?}").len() as u64),
    },
};

pub(crate) const PARSE: Target = Target {
    name: "parse",
    about: "IPv4 and IPv6 headers, options and extension headers",
    seeds: samples,
    words: &[],
    run: |input| match Packet::parse(input) {
        Ok(packet) => {
            assert!(input.starts_with(packet.bytes()));
            assert_eq!(packet.bytes()[packet.l4_offset()..], *packet.l4());
            assert_eq!(packet.source().is_ipv4(), packet.version() == Version::V4);
            assert_eq!(packet.destination().is_ipv4(), packet.version() == Version::V4);
            let _ = (packet.tos(), packet.dont_fragment());
            (packet.l4_offset() as u64) << 16 | u64::from(packet.protocol()) << 8 | packet.fragment() as u64
        }
        Err(error) => error as u64,
    },
};

pub(crate) const ECN: Target = Target {
    name: "ecn",
    about: "carrying congestion marks out of the tunnel (RFC 6040)",
    seeds: || {
        samples()
            .into_iter()
            .map(|packet| [vec![3], packet].concat())
            .collect()
    },
    words: &[],
    run: |input| {
        let Some((outer, packet)) = input.split_first() else {
            return 0;
        };
        let Ok(before) = Packet::parse(packet) else {
            return 1;
        };
        let mut packet = packet.to_vec();
        if ecn::decapsulate(*outer, &mut packet).is_err() {
            assert_eq!(
                (outer & 3, before.tos() & 3),
                (3, 0),
                "only CE around Not-ECT is dropped"
            );
            return 2;
        }
        let after = Packet::parse(&packet).expect("still a packet");
        assert_eq!(before.tos() & !3, after.tos() & !3, "the DSCP stays");
        assert_eq!(before.l4(), after.l4());
        assert_eq!(
            ip_checksum_is_right(&before),
            ip_checksum_is_right(&after),
            "nothing is laundered"
        );
        3 + u64::from(after.tos() & 3) * 4 + u64::from(before.tos() & 3)
    },
};

pub(crate) const TOO_BIG: Target = Target {
    name: "too-big",
    about: "ICMP answers to packets that fit no tunnel",
    seeds: || {
        samples()
            .into_iter()
            .map(|packet| [vec![0x05, 0x8c], packet].concat())
            .collect()
    },
    words: &[],
    run: |input| {
        let Some((mtu, packet)) = input.split_first_chunk() else {
            return 0;
        };
        let mut out = [0; too_big::MAX_LEN];
        let Some(len) = too_big::too_big(packet, usize::from(u16::from_be_bytes(*mtu)), &mut out) else {
            return 1;
        };
        let packet = Packet::parse(packet).expect("only packets are answered");
        let answer = Packet::parse(&out[..len]).expect("a packet");
        assert_eq!(answer.bytes().len(), len);
        assert_eq!(
            (answer.source(), answer.destination()),
            (packet.destination(), packet.source())
        );
        assert!(ip_checksum_is_right(&answer) && transport_sum(&answer).is_valid());
        assert!(
            too_big::too_big(&out[..len], 100, &mut [0; too_big::MAX_LEN]).is_none(),
            "no error to an error"
        );
        2 + len as u64
    },
};

pub(crate) const DATAGRAM: Target = Target {
    name: "datagram",
    about: "UDP datagrams between lanes inside the tunnel",
    seeds: || {
        samples()
            .into_iter()
            .map(|packet| [vec![sample::MEND_ALL], packet].concat())
            .collect()
    },
    words: &[],
    run: |input| {
        let Some((mend, packet)) = input.split_first() else {
            return 0;
        };
        let mut packet = packet.to_vec();
        sample::mend(*mend, &mut packet);
        let Ok(packet) = Packet::parse(&packet) else {
            return 1;
        };
        let Some((source, destination, payload)) = datagram::read(&packet) else {
            return 2;
        };
        let mut out = vec![0; 66_000];
        let len = datagram::build(source, destination, payload, &mut out).expect("fits");
        let again = Packet::parse(&out[..len]).expect("a packet");
        assert_eq!(datagram::read(&again), Some((source, destination, payload)));
        3 + u64::from(source.is_ipv4())
    },
};

/// One packet of each kind.
fn samples() -> Vec<Vec<u8>> {
    let mut hop_by_hop = sample::udp(true, 40);
    hop_by_hop[6] = 0;
    hop_by_hop[40..48].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    let mut fragment = sample::udp(true, 40);
    fragment[6] = 44;
    fragment[40..48].copy_from_slice(&[17, 0, 0, 1, 0, 0, 0, 9]);
    let mut options = sample::may_fragment(sample::udp(false, 40));
    options[0] = 0x46;
    options[20..24].copy_from_slice(&[148, 4, 0, 0]);
    let mut out = vec![hop_by_hop, fragment, options];
    for v6 in [false, true] {
        out.extend([
            sample::tcp(v6, 1, 1400),
            sample::udp(v6, 1450),
            sample::ping(v6, 56),
        ]);
    }
    out
}
