//! Who owns an address, a prefix or a key that several objects claim: the same answer on every node.
//!
//! The older creationTimestamp wins, then the lower UID; objects without them come last, by namespace
//! and name. Node addresses are settled first, then nodes' prefixes, keys, and pods' addresses, because
//! each is judged by what came before it: a pod may have an address only inside its node's prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hauberk_api::{GenerationSpec, PublicKey};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;

use super::{ObjectName, Origin, Snapshot};

/// Two objects claim the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// What both claim.
    pub what: String,
    /// Who has it.
    pub winner: String,
    /// Who does not.
    pub loser: String,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} is claimed by {} and {}; {} has it",
            self.what, self.winner, self.loser, self.winner
        )
    }
}

/// Settled claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Nodes' own addresses.
    pub node_addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Nodes' prefixes for pods.
    pub node_prefixes: BTreeMap<String, Vec<IpNet>>,
    /// Nodes' tunnels as far as they may be used.
    pub tunnels: BTreeMap<String, UsableTunnel>,
    /// Pods' own addresses.
    pub pod_addresses: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// What two objects claim.
    pub conflicts: BTreeSet<Conflict>,
    /// What was refused for another reason, with that reason.
    pub refused: BTreeSet<String>,
}

/// A NodeTunnel that has passed the checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsableTunnel {
    /// The generation to use, if the node's tunnel is up.
    pub generation: Option<GenerationSpec>,
    /// Addresses at which its lanes receive; all are the Node's. Empty only while the tunnel is down.
    pub addresses: Vec<IpAddr>,
}

impl Snapshot {
    /// Settles what several objects claim.
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(name, node)| age(&node.origin, *name));

        let mut owners = BTreeMap::new();
        for (name, node) in &nodes {
            let own = claims.node_addresses.entry((*name).clone()).or_default();
            for address in &node.addresses {
                if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
                    claims
                        .refused
                        .insert(format!("address {address} of Node {name}: no node can have it"));
                } else if let Some(owner) = owners.insert(*address, *name) {
                    owners.insert(*address, owner);
                    conflict(
                        &mut claims.conflicts,
                        format!("address {address}"),
                        ("Node", owner),
                        ("Node", name),
                    );
                } else {
                    own.push(*address);
                }
            }
        }
        let mut ranges = Ranges::default();
        for (name, node) in &nodes {
            let own = claims.node_prefixes.entry((*name).clone()).or_default();
            for prefix in node.pod_cidrs.iter().map(IpNet::trunc) {
                match ranges.claim(prefix, name) {
                    Ok(()) => own.push(prefix),
                    Err(owner) if owner == **name => {}
                    Err(owner) => {
                        let what = format!("prefix {prefix}");
                        conflict(&mut claims.conflicts, what, ("Node", &owner), ("Node", name));
                    }
                }
            }
        }
        let mut keys = BTreeMap::new();
        for (name, _) in &nodes {
            if let Some(tunnel) = self.usable_tunnel(name, &mut keys, &mut claims) {
                claims.tunnels.insert((*name).clone(), tunnel);
            }
        }
        self.settle_pods(&owners, &mut claims);
        claims
    }

    fn usable_tunnel<'a>(
        &'a self,
        name: &'a str,
        keys: &mut BTreeMap<PublicKey, &'a str>,
        claims: &mut Claims,
    ) -> Option<UsableTunnel> {
        let tunnel = self.tunnels.get(name)?;
        let own = &claims.node_addresses[name];
        let (addresses, foreign): (Vec<_>, Vec<_>) = tunnel
            .spec
            .addresses
            .iter()
            .copied()
            .partition(|address| own.contains(address));
        for address in foreign {
            claims.refused.insert(format!(
                "address {address} of NodeTunnel {name}: it is not one of the Node's"
            ));
        }
        let generation = tunnel.newest_generation().cloned();
        for lane in generation.iter().flat_map(|generation| &generation.lanes) {
            let owner = *keys.entry(lane.public_key).or_insert(name);
            if owner != name {
                let what = format!("public key {}", lane.public_key);
                conflict(
                    &mut claims.conflicts,
                    what,
                    ("NodeTunnel", owner),
                    ("NodeTunnel", name),
                );
                return None;
            }
        }
        if generation.is_some() && addresses.is_empty() {
            claims
                .refused
                .insert(format!("NodeTunnel {name}: none of its addresses is the Node's"));
            return None;
        }
        Some(UsableTunnel {
            generation,
            addresses,
        })
    }

    fn settle_pods(&self, node_owners: &BTreeMap<IpAddr, &String>, claims: &mut Claims) {
        let mut pods: Vec<_> = self.pods.iter().filter(|(_, pod)| pod.owns_addresses()).collect();
        pods.sort_by_key(|(name, pod)| age(&pod.origin, *name));
        let mut owners: BTreeMap<IpAddr, &ObjectName> = BTreeMap::new();
        for (name, pod) in pods {
            let Some(prefixes) = pod.node.as_ref().and_then(|node| claims.node_prefixes.get(node)) else {
                continue;
            };
            let mut own = Vec::new();
            for address in &pod.addresses {
                if node_owners.contains_key(address) {
                    claims
                        .refused
                        .insert(format!("address {address} of Pod {name}: it is a node's"));
                } else if !prefixes.iter().any(|prefix| prefix.contains(address)) {
                    claims.refused.insert(format!(
                        "address {address} of Pod {name}: outside its Node's podCIDRs"
                    ));
                } else if let Some(owner) = owners.get(address) {
                    if *owner != name {
                        let (winner, loser) = (owner.to_string(), name.to_string());
                        let what = format!("address {address}");
                        conflict(&mut claims.conflicts, what, ("Pod", &winner), ("Pod", &loser));
                    }
                } else {
                    owners.insert(*address, name);
                    own.push(*address);
                }
            }
            claims.pod_addresses.insert(name.clone(), own);
        }
    }
}

/// What claims are ordered by; the least wins.
fn age<N: Ord>(origin: &Origin, name: N) -> (Timestamp, bool, Option<String>, N) {
    (
        origin.created.unwrap_or(Timestamp::MAX),
        origin.uid.is_none(),
        origin.uid.clone(),
        name,
    )
}

fn conflict(conflicts: &mut BTreeSet<Conflict>, what: String, winner: (&str, &str), loser: (&str, &str)) {
    let [winner, loser] = [winner, loser].map(|(kind, name)| format!("{kind} {name}"));
    conflicts.insert(Conflict { what, winner, loser });
}

/// Disjoint ranges of addresses with their owners, by first address in the 128-bit form.
#[derive(Default)]
struct Ranges(BTreeMap<u128, (u128, String)>);

impl Ranges {
    /// Takes the prefix if nobody has any of it; else says who has.
    fn claim(&mut self, prefix: IpNet, owner: &str) -> Result<(), String> {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let (first, last) = (bits(prefix.network()), bits(prefix.broadcast()));
        if let Some((_, (end, other))) = self.0.range(..=last).next_back()
            && *end >= first
        {
            return Err(other.clone());
        }
        self.0.insert(first, (last, owner.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hauberk_api::{LaneSpec, NodeTunnel, NodeTunnelSpec};

    use super::super::{Node, Pod};
    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName {
            namespace: "default".into(),
            name: name.into(),
        }
    }

    fn node(address: &str, prefix: &str) -> Node {
        Node {
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: vec![prefix.parse().unwrap()],
            ..Default::default()
        }
    }

    fn pod(node: &str, address: &str) -> Pod {
        Pod {
            node: Some(node.into()),
            addresses: vec![address.parse().unwrap()],
            ..Default::default()
        }
    }

    fn two_nodes() -> Snapshot {
        Snapshot {
            nodes: BTreeMap::from([
                ("a".into(), node("192.168.77.1", "10.77.1.0/24")),
                ("b".into(), node("192.168.77.2", "10.77.2.0/24")),
            ]),
            ..Default::default()
        }
    }

    fn at(seconds: i64, uid: &str) -> Origin {
        Origin {
            created: Some(Timestamp::from_second(seconds).unwrap()),
            uid: Some(uid.into()),
        }
    }

    #[test]
    fn of_two_pods_with_one_address_the_older_has_it_then_the_lower_uid_then_the_first_name() {
        let mut snapshot = two_nodes();
        snapshot.pods.insert(
            name("x"),
            Pod {
                origin: at(9, "1"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            name("y"),
            Pod {
                origin: at(5, "7"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            name("z"),
            Pod {
                origin: at(5, "3"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(name("w"), pod("a", "10.77.1.5"));
        let claims = snapshot.claims();
        assert_eq!(claims.pod_addresses[&name("z")].len(), 1);
        assert_eq!(claims.conflicts.len(), 3);
        assert!(
            claims
                .conflicts
                .iter()
                .all(|conflict| conflict.winner == "Pod default/z")
        );

        snapshot.pods.retain(|known, _| known.name == "w");
        snapshot.pods.insert(name("v"), pod("a", "10.77.1.5"));
        assert_eq!(snapshot.claims().pod_addresses[&name("v")].len(), 1);
        assert_eq!(snapshot.claims().pod_addresses[&name("w")].len(), 0);
    }

    #[test]
    fn a_pods_address_outside_its_nodes_prefixes_or_of_a_node_is_refused() {
        let mut snapshot = two_nodes();
        snapshot.pods.insert(name("foreign"), pod("a", "10.77.2.5"));
        snapshot
            .nodes
            .get_mut("a")
            .unwrap()
            .addresses
            .push("10.77.1.1".parse().unwrap());
        snapshot.pods.insert(name("gateway"), pod("a", "10.77.1.1"));
        let claims = snapshot.claims();
        assert!(claims.pod_addresses.values().all(Vec::is_empty));
        assert_eq!(claims.refused.len(), 2, "{:?}", claims.refused);
    }

    #[test]
    fn finished_and_host_network_pods_own_nothing() {
        let mut snapshot = two_nodes();
        snapshot.pods.insert(
            name("done"),
            Pod {
                finished: true,
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            name("host"),
            Pod {
                host_network: true,
                ..pod("a", "192.168.77.1")
            },
        );
        snapshot.pods.insert(name("new"), pod("a", "10.77.1.5"));
        let claims = snapshot.claims();
        assert_eq!(claims.pod_addresses.len(), 1);
        assert_eq!(claims.pod_addresses[&name("new")].len(), 1);
        assert!(claims.conflicts.is_empty() && claims.refused.is_empty());
    }

    #[test]
    fn a_prefix_inside_another_nodes_prefix_goes_to_the_older_node() {
        let mut snapshot = two_nodes();
        snapshot.nodes.get_mut("b").unwrap().pod_cidrs = vec!["10.77.0.0/16".parse().unwrap()];
        assert_eq!(snapshot.claims().node_prefixes["b"], []);
        snapshot.nodes.get_mut("b").unwrap().origin = at(1, "u");
        assert_eq!(snapshot.claims().node_prefixes["a"], []);
        assert_eq!(snapshot.claims().node_prefixes["b"].len(), 1);
    }

    #[test]
    fn a_tunnel_with_an_address_that_is_not_the_nodes_or_with_anothers_key_is_not_used() {
        let lane = LaneSpec {
            public_key: PublicKey::from_bytes([1; 32]),
            port: 23400,
        };
        let tunnel = |name: &str, address: &str| {
            let generations = vec![GenerationSpec {
                id: 1,
                lanes: vec![lane],
                binding: None,
            }];
            NodeTunnel::new(
                name,
                NodeTunnelSpec {
                    generations,
                    addresses: vec![address.parse().unwrap()],
                },
            )
        };
        let mut snapshot = two_nodes();
        snapshot.tunnels.insert("a".into(), tunnel("a", "192.168.77.1"));
        snapshot.tunnels.insert("b".into(), tunnel("b", "192.168.77.2"));
        let claims = snapshot.claims();
        assert!(claims.tunnels.contains_key("a") && !claims.tunnels.contains_key("b"));
        assert_eq!(claims.conflicts.len(), 1);

        snapshot.tunnels.insert("a".into(), tunnel("a", "192.168.77.2"));
        assert!(!snapshot.claims().tunnels.contains_key("a"));
    }
}
