//! ExternalPeers: plain WireGuard peers. Each is served by the first lane of the newest generation, in one
//! session, and never in clear while encryption is on: to one that is refused nothing is sent at all.

use std::collections::BTreeMap;

use hauberk_abi as abi;
use hauberk_api::{ExternalPeer, PublicKey};
use ipnet::IpNet;

use super::{LaneId, Local, PeerOwner, TunnelPeer};
use crate::memory::Memory;
use crate::pair::Phase;
use crate::snapshot::{Claims, Snapshot};

/// Accepted and refused peers.
#[derive(Default)]
pub(super) struct External {
    /// Their prefixes by number.
    pub(super) prefixes: Vec<(u32, IpNet)>,
    pub(super) peers: BTreeMap<u32, abi::Peer>,
    pub(super) lane_peers: Vec<(LaneId, PublicKey, TunnelPeer)>,
    pub(super) refused: BTreeMap<String, String>,
}

impl External {
    /// Judges all ExternalPeers, in the order of their names.
    pub(super) fn of(
        snapshot: &Snapshot,
        claims: &Claims,
        covered: impl Fn(&IpNet) -> bool,
        local: &Local,
        memory: &mut Memory,
    ) -> Self {
        let mut external = Self::default();
        let generation = local
            .generations
            .iter()
            .filter(|found| !found.lanes.is_empty())
            .max_by_key(|found| found.id);
        for (name, peer) in snapshot.external_peers.iter() {
            if let Err(reason) = external.admit(peer, claims, &covered) {
                external.refused.insert(name.clone(), reason);
                continue;
            }
            let number = memory.numbers.peer(&number_name(name));
            let allowed: Vec<IpNet> = peer.spec.allowed_ips.iter().map(IpNet::trunc).collect();
            external
                .prefixes
                .extend(allowed.iter().map(|prefix| (number, *prefix)));
            let mut kernel = abi::Peer {
                phase: Phase::Strict.number(),
                lanes: 1,
                ..Default::default()
            };
            if let Some(generation) = generation {
                kernel.sessions = 1;
                kernel.slot_base = generation.slot_base;
                let lane = LaneId {
                    generation: generation.id,
                    lane: 0,
                };
                let tunnel = TunnelPeer {
                    owner: PeerOwner::External(name.clone()),
                    session: 0,
                    endpoint: peer.spec.endpoint,
                    allowed_ips: allowed,
                    persistent_keepalive: peer.spec.persistent_keepalive,
                    control: None,
                };
                external.lane_peers.push((lane, peer.spec.public_key, tunnel));
            }
            external.peers.insert(number, kernel);
        }
        external.cut_off(snapshot, claims, covered, memory);
        external
    }

    /// Prefixes of those that are refused, or cannot be read any more, get a peer without sessions. What is the
    /// mesh's own, or another ExternalPeer's, stays theirs.
    fn cut_off(
        &mut self,
        snapshot: &Snapshot,
        claims: &Claims,
        covered: impl Fn(&IpNet) -> bool,
        memory: &mut Memory,
    ) {
        let Memory {
            external, numbers, ..
        } = memory;
        let served: Vec<IpNet> = self.prefixes.iter().map(|(_, prefix)| *prefix).collect();
        let holds_node = |prefix: &IpNet| {
            let mut nodes = claims.node_addresses.values().flatten();
            nodes.any(|address| prefix.contains(address))
        };
        for (name, prefixes) in external.iter() {
            if snapshot.external_peers.contains_key(name) && !self.refused.contains_key(name) {
                continue;
            }
            let number = numbers.peer(&number_name(name));
            let free = prefixes.iter().filter(|prefix| {
                !covered(prefix) && !served.iter().any(|other| other.contains(*prefix)) && !holds_node(prefix)
            });
            self.prefixes.extend(free.map(|prefix| (number, *prefix)));
            let peer = abi::Peer {
                phase: Phase::Strict.number(),
                ..Default::default()
            };
            self.peers.insert(number, peer);
        }
    }

    fn admit(
        &self,
        peer: &ExternalPeer,
        claims: &Claims,
        covered: impl Fn(&IpNet) -> bool,
    ) -> Result<(), String> {
        if peer.spec.preshared_key_secret_ref.is_some() {
            return Err(
                "presharedKeySecretRef needs the kube source: a directory holds no Secrets".to_owned(),
            );
        }
        let of_nodes = claims
            .tunnels
            .values()
            .filter_map(|tunnel| tunnel.generation.as_ref());
        let mut node_keys = of_nodes
            .flat_map(|generation| &generation.lanes)
            .map(|lane| lane.public_key);
        let taken = self
            .lane_peers
            .iter()
            .any(|(_, key, _)| *key == peer.spec.public_key);
        if taken || node_keys.any(|key| key == peer.spec.public_key) {
            return Err("its publicKey is another peer's".to_owned());
        }
        for prefix in &peer.spec.allowed_ips {
            if covered(prefix) {
                return Err(format!("allowedIPs {prefix} overlaps the covered prefixes"));
            }
            if let Some(address) = claims
                .node_addresses
                .values()
                .flatten()
                .find(|address| prefix.contains(*address))
            {
                return Err(format!("allowedIPs {prefix} contains the node address {address}"));
            }
            if let Some((_, other)) = self.prefixes.iter().find(|(_, other)| overlap(prefix, other)) {
                return Err(format!(
                    "allowedIPs {prefix} overlaps {other} of another ExternalPeer"
                ));
            }
        }
        Ok(())
    }
}

/// The name by which the memory keeps an ExternalPeer's number; no Node can have it.
pub(super) fn number_name(name: &str) -> String {
    format!("external/{name}")
}

/// Whether two prefixes have an address in common.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
