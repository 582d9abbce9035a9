//! Cutting what a pod gave to the TUN.
//!
//! Input: what to mend, a vnet header, the tunnel's MTU, a packet.

use std::cell::RefCell;

use hauberk_tunnel::packet::{
    CutError, Cutter, Gso, Packet, VnetHdr,
    cut::{MAX_PACKET, PADDING},
    parse::{Fragment, protocol},
    vnet,
};

use super::{
    Target,
    sample::{self, ip_checksum_is_right, transport_sum},
};

pub(crate) const CUT: Target = Target {
    name: "cut",
    about: "super-packets and large packets on their way into the tunnel",
    seeds,
    words: &[],
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut add = |vnet: VnetHdr, packet: Vec<u8>| {
        out.push(
            [
                &[sample::MEND_ALL][..],
                &vnet.encode(),
                &1420u16.to_be_bytes(),
                &packet,
            ]
            .concat(),
        );
    };
    for v6 in [false, true] {
        let tso = sample::tcp(v6, u32::MAX - 2000, 5000);
        let gso = if v6 { Gso::Tcp6 } else { Gso::Tcp4 };
        add(sample::vnet(&tso, gso, 1448), tso);
        let uso = sample::udp(v6, 5000);
        add(sample::vnet(&uso, Gso::Udp, 1200), uso);
        let tcp = sample::tcp(v6, 1, 1400);
        add(sample::vnet(&tcp, Gso::None, 0), tcp.clone());
        add(VnetHdr::default(), tcp);
        add(VnetHdr::default(), sample::ping(v6, 1472));
    }
    add(VnetHdr::default(), sample::may_fragment(sample::udp(false, 3000)));
    let uso = sample::may_fragment(sample::udp(false, 4400));
    add(sample::vnet(&uso, Gso::Udp, 1450), uso);
    out
}

thread_local! {
    static CUTTER: RefCell<Cutter> = RefCell::new(Cutter::new());
}

fn run(input: &[u8]) -> u64 {
    let Some((&mend, rest)) = input.split_first() else {
        return 0;
    };
    let Some((header, rest)) = rest.split_first_chunk::<{ vnet::LEN }>() else {
        return 1;
    };
    let Some((mtu, packet)) = rest.split_first_chunk::<2>() else {
        return 2;
    };
    let Ok(vnet) = VnetHdr::decode(header) else {
        return 3;
    };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    let mut packet = packet.to_vec();
    if vnet.partial.is_none() {
        sample::mend(mend, &mut packet);
    } else {
        // A partial checksum is the pseudo-header's sum; only the IP header is to be mended.
        sample::mend(mend & 3, &mut packet);
    }
    let mut segments = Vec::new();
    let result = CUTTER.with_borrow_mut(|cutter| {
        cutter.cut(vnet, &packet, mtu, |segment| {
            assert!(segment.padded.len() <= mtu && segment.padded.len() - segment.len < PADDING);
            assert!(segment.padded[segment.len..].iter().all(|byte| *byte == 0));
            segments.push(segment.padded[..segment.len].to_vec());
        })
    });
    match result {
        Ok(count) => {
            assert_eq!(count, segments.len());
            check(vnet, &packet, &segments);
            0x1000 + vnet.gso as u64 * 8 + count.min(3) as u64 * 2 + u64::from(vnet.partial.is_some())
        }
        Err(error) => {
            assert!(segments.is_empty(), "no segment together with an error");
            match error {
                CutError::Malformed => 4,
                CutError::BadChecksum => 5,
                CutError::TooBig { mtu: told } => {
                    assert_eq!(told, mtu.min(MAX_PACKET));
                    6
                }
            }
        }
    }
}

/// Checks that the segments are valid and carry the packet's payload.
fn check(vnet: VnetHdr, packet: &[u8], segments: &[Vec<u8>]) {
    let whole = Packet::parse(packet).expect("only packets are cut");
    if vnet.gso == Gso::None && segments.len() == 1 {
        let changed = whole
            .bytes()
            .iter()
            .zip(&segments[0])
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(segments[0].len(), whole.bytes().len());
        assert!(
            changed <= if vnet.partial.is_some() { 2 } else { 0 },
            "only the checksum may change"
        );
        return;
    }
    let mut payload = Vec::new();
    let mut fragmented = false;
    for segment in segments {
        let view = Packet::parse(segment).expect("a packet");
        assert_eq!(view.bytes().len(), segment.len());
        assert!(ip_checksum_is_right(&view));
        assert_eq!(
            (view.source(), view.destination()),
            (whole.source(), whole.destination())
        );
        assert_eq!((view.tos(), view.protocol()), (whole.tos(), whole.protocol()));
        fragmented |= view.fragment() != Fragment::Whole;
        let header = match view.protocol() {
            _ if fragmented => 0,
            protocol::TCP => usize::from(view.l4()[12] >> 4) * 4,
            _ => 8,
        };
        if !fragmented {
            let no_checksum = view.protocol() == protocol::UDP && view.l4()[6..8] == [0, 0];
            assert!(no_checksum || transport_sum(&view).is_valid());
        }
        payload.extend_from_slice(&view.l4()[header..]);
    }
    if fragmented {
        // A UDP super-packet repeats its header in each datagram.
        if vnet.gso == Gso::None && vnet.partial.is_none() {
            assert_eq!(payload, whole.l4());
        }
    } else {
        assert!(whole.l4().ends_with(&payload), "the stream is the same");
        let header = if whole.protocol() == protocol::TCP {
            usize::from(whole.l4()[12] >> 4) * 4
        } else {
            8
        };
        assert_eq!(payload.len(), whole.l4().len() - header);
    }
}
