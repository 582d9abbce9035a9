//! Who owns an address, a prefix or a key that several objects claim: the same answer on every node.
//!
//! The older creationTimestamp wins, then the lower UID; objects without them come last, by namespace
//! and name. Nodes' prefixes are settled first, then their addresses, keys, and pods' addresses, because each is
//! judged by what came before it: a node may have no address inside another's prefixes, since kubelets write their
//! Nodes' addresses themselves, and a pod only one inside its node's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_api::{GenerationSpec, PublicKey};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;

use super::{Origin, PackedPod, Snapshot, Symbol};

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
    /// The pod that has each address.
    pub pods: HashMap<IpAddr, Arc<PackedPod>>,
    /// Addresses that more than one pod could have.
    pub contested: BTreeSet<IpAddr>,
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
        let (mut claims, node_owners) = self.settle_nodes();
        self.settle_pods(&node_owners, &mut claims);
        claims
    }

    /// What nodes claim; pods have no say in that.
    pub fn claims_of_nodes(&self) -> Claims {
        self.settle_nodes().0
    }

    /// With the owners of node addresses.
    fn settle_nodes(&self) -> (Claims, BTreeMap<IpAddr, &String>) {
        let mut claims = Claims::default();
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by(|(one, a), (other, b)| age(&a.origin, one).cmp(&age(&b.origin, other)));

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
        let mut owners = BTreeMap::new();
        for (name, node) in &nodes {
            let own = claims.node_addresses.entry((*name).clone()).or_default();
            for address in &node.addresses {
                if is_nobodys(*address) {
                    claims
                        .refused
                        .insert(format!("address {address} of Node {name}: no node can have it"));
                } else if let Some(other) = ranges.owner(*address).filter(|owner| owner != name) {
                    claims.refused.insert(format!(
                        "address {address} of Node {name}: it is inside the podCIDRs of Node {other}"
                    ));
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
        let mut keys = BTreeMap::new();
        for (name, _) in &nodes {
            if let Some(tunnel) = self.usable_tunnel(name, &mut keys, &mut claims) {
                claims.tunnels.insert((*name).clone(), tunnel);
            }
        }
        (claims, owners)
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
        // By symbols, which is what pods know nodes by.
        let prefixes = claims.node_prefixes.iter();
        let prefixes: HashMap<Symbol, &[IpNet]> = prefixes
            .map(|(node, prefixes)| (Symbol::new(node), &prefixes[..]))
            .collect();
        claims.pods.reserve(self.pods.len());
        let mut rivals: BTreeMap<IpAddr, Vec<&Arc<PackedPod>>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| pod.owns_addresses()) {
            let Some(prefixes) = pod.node().and_then(|node| prefixes.get(node)) else {
                continue;
            };
            for address in pod.addresses() {
                if node_owners.contains_key(address) {
                    claims
                        .refused
                        .insert(format!("address {address} of Pod {}: it is a node's", pod.name()));
                } else if !prefixes.iter().any(|prefix| prefix.contains(address)) {
                    claims.refused.insert(format!(
                        "address {address} of Pod {}: outside its Node's podCIDRs",
                        pod.name()
                    ));
                } else {
                    let owner = claims.pods.entry(*address).or_insert_with(|| Arc::clone(pod));
                    if !Arc::ptr_eq(owner, pod) {
                        rivals.entry(*address).or_default().push(pod);
                    }
                }
            }
        }
        // Pods come in no order: who is the oldest is known when all have been seen.
        for (address, rivals) in rivals {
            let first = &claims.pods[&address];
            let all = || rivals.iter().copied().chain([first]);
            let owner = all().min_by(|one, other| one.cmp_age(other));
            let owner = Arc::clone(owner.expect("the first is one of them"));
            let winner = owner.name().to_string();
            for loser in all().filter(|pod| !Arc::ptr_eq(pod, &owner)) {
                let (what, loser) = (format!("address {address}"), loser.name().to_string());
                conflict(&mut claims.conflicts, what, ("Pod", &winner), ("Pod", &loser));
            }
            claims.pods.insert(address, owner);
            claims.contested.insert(address);
        }
    }
}

/// Whether other nodes cannot reach a node by it.
fn is_nobodys(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local
}

/// What nodes' claims are ordered by; the least wins. Pods' are by [`PackedPod::cmp_age`], which is the same.
fn age<'a>(origin: &'a Origin, name: &'a str) -> (Timestamp, bool, Option<&'a str>, &'a str) {
    let created = origin.created.unwrap_or(Timestamp::MAX);
    (created, origin.uid.is_none(), origin.uid.as_deref(), name)
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
        let (first, last) = (bits(prefix.network()), bits(prefix.broadcast()));
        if let Some((_, (end, other))) = self.0.range(..=last).next_back()
            && *end >= first
        {
            return Err(other.clone());
        }
        self.0.insert(first, (last, owner.to_owned()));
        Ok(())
    }

    /// Whose range an address lies in.
    fn owner(&self, address: IpAddr) -> Option<&str> {
        let (_, (last, owner)) = self.0.range(..=bits(address)).next_back()?;
        (bits(address) <= *last).then_some(owner)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use hauberk_api::{LaneSpec, NodeTunnel, NodeTunnelSpec};

    use super::super::{Node, ObjectName, Pod, Pods};
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

    /// How many addresses a pod has.
    fn owned(claims: &Claims, pod: &str) -> usize {
        let owners = claims.pods.values();
        owners.filter(|owner| owner.is_named(&name(pod))).count()
    }

    fn two_nodes() -> Snapshot {
        let nodes = BTreeMap::from([
            ("a".into(), node("192.168.77.1", "10.77.1.0/24")),
            ("b".into(), node("192.168.77.2", "10.77.2.0/24")),
        ]);
        Snapshot {
            nodes: nodes.into(),
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
            &name("x"),
            &Pod {
                origin: at(9, "1"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            &name("y"),
            &Pod {
                origin: at(5, "7"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            &name("z"),
            &Pod {
                origin: at(5, "3"),
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(&name("w"), &pod("a", "10.77.1.5"));
        let claims = snapshot.claims();
        assert_eq!(owned(&claims, "z"), 1);
        assert_eq!(claims.conflicts.len(), 3);
        assert!(
            claims
                .conflicts
                .iter()
                .all(|conflict| conflict.winner == "Pod default/z")
        );

        snapshot.pods = Pods::from_iter([(name("w"), pod("a", "10.77.1.5"))]);
        snapshot.pods.insert(&name("v"), &pod("a", "10.77.1.5"));
        assert_eq!(owned(&snapshot.claims(), "v"), 1);
        assert_eq!(owned(&snapshot.claims(), "w"), 0);
    }

    #[test]
    fn a_pods_address_outside_its_nodes_prefixes_or_of_a_node_is_refused() {
        let mut snapshot = two_nodes();
        snapshot.pods.insert(&name("foreign"), &pod("a", "10.77.2.5"));
        snapshot
            .nodes
            .get_mut("a")
            .unwrap()
            .addresses
            .push("10.77.1.1".parse().unwrap());
        snapshot.pods.insert(&name("gateway"), &pod("a", "10.77.1.1"));
        let claims = snapshot.claims();
        assert!(claims.pods.is_empty());
        assert_eq!(claims.refused.len(), 2, "{:?}", claims.refused);
    }

    #[test]
    fn a_nodes_address_inside_another_nodes_prefixes_or_of_one_link_is_refused() {
        let mut snapshot = two_nodes();
        // Kubelets write them: this one wants the traffic of a pod of b.
        let a = snapshot.nodes.get_mut("a").unwrap();
        a.addresses
            .extend(["10.77.2.5", "169.254.1.1", "fe80::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        snapshot.pods.insert(&name("victim"), &pod("b", "10.77.2.5"));
        let claims = snapshot.claims();
        assert_eq!(
            claims.node_addresses["a"],
            ["192.168.77.1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(owned(&claims, "victim"), 1);
        assert_eq!(claims.refused.len(), 3, "{:?}", claims.refused);
    }

    #[test]
    fn finished_and_host_network_pods_own_nothing() {
        let mut snapshot = two_nodes();
        snapshot.pods.insert(
            &name("done"),
            &Pod {
                finished: true,
                ..pod("a", "10.77.1.5")
            },
        );
        snapshot.pods.insert(
            &name("host"),
            &Pod {
                host_network: true,
                ..pod("a", "192.168.77.1")
            },
        );
        snapshot.pods.insert(&name("new"), &pod("a", "10.77.1.5"));
        let claims = snapshot.claims();
        assert_eq!((claims.pods.len(), owned(&claims, "new")), (1, 1));
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
