//! Hashes of a flow's addresses and ports: which session carries it, and what a packet is stamped with.
//!
//! Both nodes of a pair compute the same session from [`symmetric_flow_hash`], whatever their byte order.

use crate::{Addr, FlowKey, Peer};

/// Bit of `skb->tc_index` that says: came out of the tunnel. The other 15 are of [`flow_stamp`]. No other
/// packet on the host has it: `from_pod` overwrites the field and `to_network` clears it.
pub const STAMP_TUNNEL: u16 = 1 << 15;

// Odd constants with well spread bits, from SplitMix64 (Steele, Lea, Flood 2014) and the golden ratio.
const MIX_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MIX_2: u64 = 0x94d0_49bb_1331_11eb;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The same for both directions of a flow. Ports are in network byte order; 0 for fragments (all of them, the
/// first too, or a datagram's pieces would part) and for protocols without.
#[inline(always)]
pub fn symmetric_flow_hash(src: &Addr, dst: &Addr, proto: u8, sport: u16, dport: u16) -> u32 {
    let one = side(src, sport);
    let other = side(dst, dport);
    // Sum and exclusive-or are both symmetric; together they keep apart what either alone would merge.
    mix(one.wrapping_add(other) ^ mix(one ^ other) ^ proto as u64) as u32
}

/// What a packet is stamped with, so that a later hook can tell that nothing translated it in between.
/// Never 0, never with [`STAMP_TUNNEL`].
#[inline(always)]
pub fn flow_stamp(key: &FlowKey) -> u16 {
    let from = side(&key.src, key.sport);
    let to = side(&key.dst, key.dport);
    let hash = mix(from ^ to.rotate_left(32) ^ key.proto as u64) as u16 & !STAMP_TUNNEL;
    if hash == 0 { 1 } else { hash }
}

/// The slot of `LANES` that carries a flow to the peer; `None` for a peer without sessions or lanes.
#[inline(always)]
pub fn session_slot(peer: &Peer, flow_hash: u32) -> Option<u32> {
    if peer.sessions == 0 || peer.lanes == 0 {
        return None;
    }
    let session = flow_hash % peer.sessions;
    Some(
        peer.slot_base
            .wrapping_add(session.wrapping_add(peer.shift) % peer.lanes),
    )
}

#[inline(always)]
fn side(addr: &Addr, port: u16) -> u64 {
    let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = *addr;
    let high = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let low = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    let port = u16::from_be(port) as u64;
    mix(high.wrapping_mul(GOLDEN) ^ low ^ (port << 24).wrapping_mul(MIX_2))
}

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(MIX_1);
    z = (z ^ (z >> 27)).wrapping_mul(MIX_2);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> Addr {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 1, last]
    }

    #[test]
    fn both_directions_have_one_hash() {
        for port in 0..2000u16 {
            let there = symmetric_flow_hash(&v4(1), &v4(9), 6, port.to_be(), 443u16.to_be());
            let back = symmetric_flow_hash(&v4(9), &v4(1), 6, 443u16.to_be(), port.to_be());
            assert_eq!(there, back);
        }
    }

    #[test]
    fn ports_spread_over_sessions_evenly() {
        let mut counts = [0u32; 4];
        for port in 1024..(1024 + 4000u16) {
            let hash = symmetric_flow_hash(&v4(1), &v4(9), 17, port.to_be(), 53u16.to_be());
            counts[hash as usize % 4] += 1;
        }
        assert!(counts.iter().all(|&n| (900..1100).contains(&n)), "{counts:?}");
    }

    #[test]
    fn a_stamp_has_neither_zero_nor_the_tunnel_bit_and_knows_directions() {
        let mut same = 0;
        for port in 1..=u16::MAX {
            let key = FlowKey {
                src: v4(1),
                dst: v4(2),
                sport: port,
                dport: 80,
                proto: 6,
                pad: [0; 3],
            };
            let back = FlowKey {
                src: v4(2),
                dst: v4(1),
                sport: 80,
                dport: port,
                proto: 6,
                pad: [0; 3],
            };
            let stamp = flow_stamp(&key);
            assert!(stamp != 0 && stamp & STAMP_TUNNEL == 0);
            same += u32::from(stamp == flow_stamp(&back));
        }
        assert!(same < 20, "{same} of 65535 flows have the stamp of their reverse");
    }

    #[test]
    fn a_session_is_served_by_one_lane_of_each_side() {
        let peer = Peer {
            phase: 3,
            sessions: 2,
            shift: 3,
            lanes: 4,
            slot_base: 16,
        };
        assert_eq!(session_slot(&peer, 0), Some(19));
        assert_eq!(session_slot(&peer, 1), Some(16));
        assert_eq!(session_slot(&peer, 2), Some(19));
        assert_eq!(session_slot(&Peer { sessions: 0, ..peer }, 1), None);
    }
}
