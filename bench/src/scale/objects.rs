//! The synthetic objects, and the lab's own: pure, as JSON.
//!
//! All of a synthetic node, a [`Host`], follows from numbers; nobody answers at its addresses. A pod is a [`Site`],
//! which is a place on such a node with its addresses, and a number that makes its name and one of its labels
//! unique. Its object has what a common pod's has (probes, mounts, tolerations, conditions), since its size is
//! what lists and watches cost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hauberk_netlab::{Node, Pod};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

/// The namespace of all pods.
pub const NAMESPACE: &str = "scale";
/// All prefixes of pods on synthetic nodes, and all addresses of these nodes.
pub const REMOTE: [&str; 4] = ["10.128.0.0/9", "172.16.0.0/12", "fd78::/32", "fd79::/64"];
/// The first host number of a pod that stays.
const FIRST: usize = 2;
/// So many pods that stay, at most, are on one node; host numbers from there on are for those that come and go.
pub const MOST_PODS: usize = 150;
/// The first host number of a pod that comes and goes.
const FIRST_PASSING: usize = FIRST + MOST_PODS;
/// The last host number of a /24.
const LAST: usize = 254;
/// Synthetic addresses of nodes and their pods start here.
const NODES_V4: u32 = u32::from_be_bytes([172, 16, 0, 0]);
const PODS_V4: u32 = u32::from_be_bytes([10, 128, 0, 0]);

/// The label that tells pods that come and go from those that stay: its number, and its value's number for both.
const PASSING_LABEL: usize = 4;
const STAYS: usize = 4;
const PASSES: usize = 5;

/// A synthetic node: its number makes its name, and its place its addresses. No two that are there at one time
/// have one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    pub number: usize,
    place: usize,
}

/// Where a pod is: a place on a synthetic node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub node: Host,
    host: usize,
}

impl Host {
    /// The first node with this number's place.
    pub fn first(number: usize) -> Self {
        Self {
            number,
            place: number,
        }
    }

    /// Another node, at the same place.
    pub fn heir(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("synthetic-{:05}", self.number)
    }

    /// Its own addresses, IPv4 first.
    pub fn addresses(self) -> [IpAddr; 2] {
        [
            Ipv4Addr::from(NODES_V4 + 1 + self.place as u32).into(),
            Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 1, self.place as u16).into(),
        ]
    }

    /// The prefixes of its pods: a /24 and a /64.
    pub fn pod_cidrs(self) -> [IpNet; 2] {
        let v4 = Ipv4Addr::from(PODS_V4 + ((self.place as u32) << 8));
        let v6 = Ipv6Addr::new(0xfd78, 0, 0, self.place as u16, 0, 0, 0, 0);
        [
            Ipv4Net::new_assert(v4, 24).into(),
            Ipv6Net::new_assert(v6, 64).into(),
        ]
    }
}

impl Site {
    /// The place of the pod with this number that stays, of a cluster with so many synthetic nodes.
    pub fn staying(number: usize, nodes: usize) -> Self {
        Self {
            node: Host::first(number % nodes),
            host: FIRST + number / nodes,
        }
    }

    /// A place for pods that come and go; none where all nodes are full.
    pub fn passing(number: usize, nodes: usize) -> Option<Self> {
        let host = FIRST_PASSING + number / nodes;
        (host <= LAST).then_some(Self {
            node: Host::first(number % nodes),
            host,
        })
    }

    /// The first place for pods that come and go on a node.
    pub fn first_passing(node: Host) -> Self {
        Self {
            node,
            host: FIRST_PASSING,
        }
    }

    fn passes(self) -> bool {
        self.host >= FIRST_PASSING
    }

    /// The pod's addresses, IPv4 first.
    pub fn addresses(self) -> [IpAddr; 2] {
        let [v4, v6] = self.node.pod_cidrs();
        let host = self.host as u32;
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4.network(), v6.network()) else {
            unreachable!("pod_cidrs gives IPv4 first")
        };
        [
            Ipv4Addr::from(u32::from(v4) + host).into(),
            Ipv6Addr::from(u128::from(v6) + u128::from(host)).into(),
        ]
    }
}

/// Selects the pods that come and go.
pub fn passing_pods() -> String {
    format!("{}={}", label_key(PASSING_LABEL), label_value(PASSES))
}

/// A synthetic Node.
pub fn synthetic_node(host: Host) -> Value {
    node(&host.name(), host.addresses(), host.pod_cidrs())
}

/// The Node of one in the lab.
pub fn real_node(real: &Node) -> Value {
    let cidrs = [real.pod_cidr_v4().into(), real.pod_cidr_v6().into()];
    node(real.name(), [real.v4().into(), real.v6().into()], cidrs)
}

/// The Mesh, with encryption on.
pub fn mesh(lanes: u16) -> Value {
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "Mesh",
        "metadata": {"name": "default"},
        "spec": {"encryption": {"enabled": true, "lanes": lanes}, "policy": {"enforcer": "CNI"}},
    })
}

/// A pod on a synthetic node, and its status, which the API server takes by itself only.
pub fn synthetic_pod(number: usize, site: Site) -> (Value, Value) {
    pod(
        &format!("pod-{number:09}"),
        number,
        &site.node.name(),
        site.addresses(),
        if site.passes() { PASSES } else { STAYS },
    )
}

/// The same of a pod in the lab.
pub fn real_pod(number: usize, real: &Pod) -> (Value, Value) {
    pod(
        real.name(),
        number,
        real.node(),
        [real.v4().into(), real.v6().into()],
        STAYS,
    )
}

fn node(name: &str, addresses: [IpAddr; 2], cidrs: [IpNet; 2]) -> Value {
    let mut told: Vec<_> = addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    told.push(json!({"type": "Hostname", "address": name}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": told},
    })
}

fn pod(name: &str, number: usize, node: &str, addresses: [IpAddr; 2], passing: usize) -> (Value, Value) {
    let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                label_key(0): label_value(number),
                label_key(1): label_value(1),
                label_key(2): label_value(number % 10),
                label_key(3): label_value(number % 100),
                label_key(PASSING_LABEL): label_value(passing),
            },
        },
        "spec": {
            "nodeName": node,
            "serviceAccountName": "default",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
            "containers": [{
                "name": "app",
                "image": "registry.example/team/application:1.2.3",
                "ports": [{"containerPort": 8080}],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LOG_LEVEL", "value": "info"},
                ],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}],
                "livenessProbe": probe,
                "readinessProbe": probe,
            }],
        },
    });
    let at = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let status = json!({"status": {
        "phase": "Running",
        "conditions": conditions,
        "podIP": addresses[0],
        "podIPs": ips,
        "startTime": at,
        "containerStatuses": [{
            "name": "app", "ready": true, "started": true, "restartCount": 0,
            "image": "registry.example/team/application:1.2.3",
            "imageID": "registry.example/team/application@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID": "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "state": {"running": {"startedAt": at}},
        }],
    }});
    (object, status)
}

/// 20 bytes.
fn label_key(number: usize) -> String {
    format!("example.com/label-{number:02}")
}

/// 20 bytes.
fn label_value(number: usize) -> String {
    format!("value-{number:014}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_places_share_an_address_and_each_is_in_its_nodes_prefix() {
        let nodes = 3;
        let staying = (0..450).map(|number| Site::staying(number, nodes));
        let passing = (0..300).map(|number| Site::passing(number, nodes).unwrap());
        let mut seen = BTreeSet::new();
        for site in staying.chain(passing) {
            for (address, cidr) in site.addresses().iter().zip(site.node.pod_cidrs()) {
                assert!(cidr.contains(address), "{cidr} {address}");
                assert!(seen.insert(*address), "{address} twice");
            }
        }
        assert_eq!(Site::passing(103 * nodes, nodes), None);
    }

    #[test]
    fn an_heir_has_another_name_and_the_same_addresses() {
        let (old, new) = (Host::first(7), Host::first(7).heir(500));
        assert_ne!(old.name(), new.name());
        assert_eq!(old.addresses(), new.addresses());
        assert_eq!(
            Site::first_passing(old).addresses(),
            Site::first_passing(new).addresses()
        );
    }

    #[test]
    fn labels_are_five_of_twenty_bytes_and_one_is_the_pods_own() {
        let labels = |number| synthetic_pod(number, Site::staying(number, 1)).0["metadata"]["labels"].clone();
        let (one, other) = (labels(7), labels(107));
        let one = one.as_object().unwrap();
        assert_eq!(one.len(), 5);
        assert!(
            one.iter()
                .all(|(key, value)| key.len() == 20 && value.as_str().unwrap().len() == 20)
        );
        let differ = one.iter().filter(|(key, value)| other[key.as_str()] != **value);
        assert_eq!(differ.count(), 1);
    }

    #[test]
    fn all_addresses_lie_in_what_is_routed_to_nowhere() {
        let nets: Vec<IpNet> = REMOTE.iter().map(|net| net.parse().unwrap()).collect();
        for number in [0, 499, 19_999] {
            let host = Host::first(number);
            let own = host.addresses().map(IpNet::from);
            for net in own.into_iter().chain(host.pod_cidrs()) {
                assert_eq!(nets.iter().filter(|all| all.contains(&net)).count(), 1, "{net}");
            }
        }
    }
}
