//! The other nodes: their phase, how sessions are shared out over lanes, and the WireGuard peers of each lane.
//!
//! A pair with nA and nB lanes has m = min(nA, nB) sessions; each side serves session k on its lane
//! (k + H) mod its own n, H being the same on both sides. So a lane holds one session a peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hauberk_abi as abi;
use hauberk_api::{LaneSpec, PublicKey, UnreachableNodes};
use ipnet::IpNet;

use super::{CONTROL_PORT, LaneId, Local, LocalGeneration, PairFacts, PeerOwner, TunnelPeer};
use crate::memory::Memory;
use crate::pair::{PeerKeys, Phase, Want};
use crate::snapshot::{Claims, claims::UsableTunnel};

/// The kernel's peers, the lanes' peers, and what the pairs need to know.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) peers: BTreeMap<u32, abi::Peer>,
    pub(super) lane_peers: BTreeMap<LaneId, BTreeMap<PublicKey, TunnelPeer>>,
    pub(super) pairs: BTreeMap<String, PairFacts>,
}

/// What holds for all pairs of this node.
pub(super) struct Flip {
    pub(super) want: Want,
    /// The controller has said that every pair of the mesh has encrypted.
    pub(super) mesh_sealed: bool,
}

impl Peers {
    /// Of every other node.
    pub(super) fn of(claims: &Claims, local: &Local, memory: &mut Memory, flip: &Flip) -> Self {
        let mut peers = Self::default();
        for generation in &local.generations {
            for lane in 0..generation.lanes.len() {
                peers.lane_peers.insert(
                    LaneId {
                        generation: generation.id,
                        lane,
                    },
                    BTreeMap::new(),
                );
            }
        }
        for node in claims.node_prefixes.keys().filter(|node| **node != local.node) {
            peers.insert(node, claims, local, memory, flip);
        }
        if flip.want.is_on() {
            peers.cut_off_lost(claims, memory);
        }
        peers
    }

    /// A Node that is gone keeps its phase, without sessions.
    fn cut_off_lost(&mut self, claims: &Claims, memory: &mut Memory) {
        let Memory { phases, numbers, .. } = memory;
        let lost = phases
            .iter()
            .filter(|(name, _)| !claims.node_prefixes.contains_key(*name));
        for (name, phase) in lost {
            let peer = abi::Peer {
                phase: phase.number(),
                ..Default::default()
            };
            self.peers.insert(numbers.peer(name), peer);
        }
    }

    fn insert(&mut self, node: &str, claims: &Claims, local: &Local, memory: &mut Memory, flip: &Flip) {
        let number = memory.numbers.peer(node);
        let tunnel = claims.tunnels.get(node);
        let keys = match tunnel {
            None => PeerKeys::NoTunnel,
            Some(UsableTunnel { generation: None, .. }) => PeerKeys::Down,
            Some(UsableTunnel {
                generation: Some(_), ..
            }) => PeerKeys::Up,
        };
        let initial = initial_phase(keys, flip);
        let phase = memory.phases.get(node).copied().unwrap_or(initial);
        let remote = tunnel
            .and_then(|tunnel| tunnel.generation.as_ref())
            .map_or(&[][..], |found| &found.lanes);
        let hash = pair_hash(&local.node, node);
        let mut peer = abi::Peer {
            phase: phase.number(),
            ..Default::default()
        };
        let mut session = None;
        if let Some(own) = serving(&local.generations, node) {
            let (lanes, sessions) = (own.lanes.len(), own.lanes.len().min(remote.len()));
            peer.lanes = lanes as u32;
            peer.shift = (hash % lanes as u64) as u32;
            peer.slot_base = own.slot_base;
            peer.sessions = sessions as u32;
            session = (sessions > 0).then(|| {
                let lane = LaneId {
                    generation: own.id,
                    lane: place(0, hash, lanes),
                };
                (lane, remote[place(0, hash, remote.len())].public_key)
            });
        }
        self.peers.insert(number, peer);
        for own in &local.generations {
            for k in 0..own.lanes.len().min(remote.len()) {
                let lane = LaneId {
                    generation: own.id,
                    lane: place(k, hash, own.lanes.len()),
                };
                let far = remote[place(k, hash, remote.len())];
                let peer = tunnel_peer(node, k as u32, far, claims, local);
                self.lane_peers
                    .entry(lane)
                    .or_default()
                    .insert(far.public_key, peer);
            }
        }
        self.pairs.insert(
            node.to_owned(),
            PairFacts {
                number,
                keys,
                initial,
                session,
            },
        );
    }
}

/// The phase of a pair that this node remembers nothing of. In a mesh that is encrypted a new node is
/// Strict from its first packet; so is the pair with a node that cannot take part and shall be cut off.
fn initial_phase(keys: PeerKeys, flip: &Flip) -> Phase {
    match flip.want {
        Want::On(_) if flip.mesh_sealed && keys != PeerKeys::NoTunnel => Phase::Strict,
        Want::On(UnreachableNodes::Drop) if keys == PeerKeys::NoTunnel => Phase::Strict,
        Want::On(_) | Want::Off => Phase::Off,
    }
}

/// The generation that serves a peer: the newest with a handshake, else the newest.
fn serving<'a>(generations: &'a [LocalGeneration], node: &str) -> Option<&'a LocalGeneration> {
    let up = || {
        generations
            .iter()
            .filter(|generation| !generation.lanes.is_empty())
    };
    let connected = up()
        .filter(|generation| generation.connected.contains(node))
        .max_by_key(|found| found.id);
    connected.or_else(|| up().max_by_key(|found| found.id))
}

fn place(session: usize, hash: u64, lanes: usize) -> usize {
    ((session as u64).wrapping_add(hash % lanes as u64) % lanes as u64) as usize
}

fn tunnel_peer(node: &str, session: u32, far: LaneSpec, claims: &Claims, local: &Local) -> TunnelPeer {
    let own = claims
        .node_addresses
        .get(&local.node)
        .map_or(&[][..], Vec::as_slice);
    let theirs = &claims.tunnels[node].addresses;
    // By family and not by the order of either list: both sides must mean the same addresses, since a control
    // message is only heard from the address that it is expected from.
    let of_family = |ipv4: bool| {
        let found = theirs.iter().copied().find(|address| address.is_ipv4() == ipv4);
        found.filter(|_| own.iter().any(|address| address.is_ipv4() == ipv4))
    };
    let address = of_family(true).or_else(|| of_family(false));
    let addresses = claims.node_addresses[node].iter().copied().map(IpNet::from);
    TunnelPeer {
        owner: PeerOwner::Node(node.to_owned()),
        session,
        endpoint: address.map(|address| SocketAddr::new(address, far.port)),
        allowed_ips: claims.node_prefixes[node]
            .iter()
            .copied()
            .chain(addresses)
            .collect(),
        persistent_keepalive: None,
        control: address.map(|address| SocketAddr::new(address, CONTROL_PORT)),
    }
}

/// H of a pair: FNV-1a over both names in order, so that it is the same on both sides and in every version.
fn pair_hash(one: &str, other: &str) -> u64 {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let bytes = first.bytes().chain([0]).chain(second.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_pair_is_the_same_on_both_sides_and_never_changes() {
        assert_eq!(pair_hash("a", "b"), pair_hash("b", "a"));
        assert_ne!(pair_hash("a", "bc"), pair_hash("ab", "c"));
        assert_eq!(pair_hash("a", "b"), 0xe5d2_9919_0426_66b2);
    }

    #[test]
    fn both_sides_put_a_session_on_one_lane_each_and_no_lane_twice() {
        for (near, far) in [(1, 1), (2, 4), (4, 3), (16, 5)] {
            for hash in [0, 7, u64::MAX] {
                let sessions = near.min(far);
                for lanes in [near, far] {
                    let mut places: Vec<_> = (0..sessions).map(|k| place(k, hash, lanes)).collect();
                    places.sort_unstable();
                    places.dedup();
                    assert_eq!(places.len(), sessions);
                }
            }
        }
    }

    #[test]
    fn the_kernels_formula_and_this_one_choose_the_same_lane() {
        for lanes in 1..=16_u32 {
            for hash in [3, 1_000_003, u64::MAX - 1] {
                let shift = (hash % u64::from(lanes)) as u32;
                for k in 0..lanes {
                    assert_eq!(
                        place(k as usize, hash, lanes as usize),
                        ((k + shift) % lanes) as usize
                    );
                }
            }
        }
    }

    #[test]
    fn a_generation_serves_a_peer_once_it_has_a_handshake_and_the_old_one_until_then() {
        let lane = LaneSpec {
            public_key: PublicKey::from_bytes([1; 32]),
            port: 1,
        };
        let generation = |id, connected: &[&str]| LocalGeneration {
            id,
            lanes: vec![lane],
            connected: connected.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let both = [generation(1, &["b", "c"]), generation(2, &["b"])];
        assert_eq!(serving(&both, "b").unwrap().id, 2);
        assert_eq!(serving(&both, "c").unwrap().id, 1);
        assert_eq!(serving(&both, "new").unwrap().id, 2);
    }
}
