//! What a lab is made of, said by the caller.

/// How a node's pods are connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Each pod has a /32 and a /128, a link-local gateway by a permanent neighbour entry, and the host a
    /// route to it (as Calico does).
    Routed,
    /// Pods are ports of a bridge `cni0`, which has the gateway's addresses (as flannel and the bridge plugin do).
    Bridged,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name, as in its manifests; short, lower-case.
    pub name: String,
    /// How its pods are connected.
    pub wiring: Wiring,
    /// Names of its pods, unique in the lab.
    pub pods: Vec<String>,
    /// Whether it is a node of the cluster: has a podCIDR and a Node manifest. Others are hosts outside.
    pub in_cluster: bool,
}

impl NodeSpec {
    /// A node of the cluster with these pods.
    pub fn new(name: &str, wiring: Wiring, pods: &[&str]) -> Self {
        Self {
            name: name.into(),
            wiring,
            pods: pods.iter().map(|&p| p.into()).collect(),
            in_cluster: true,
        }
    }

    /// A host on the fabric that is no node of the cluster; it has routes to the pods.
    pub fn outside(name: &str) -> Self {
        Self {
            name: name.into(),
            wiring: Wiring::Routed,
            pods: Vec::new(),
            in_cluster: false,
        }
    }
}

/// A whole lab.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// Shows in the names of namespaces and cgroups, for whoever looks at the machine meanwhile.
    pub name_hint: String,
    /// The nodes; the first has number 1 in all addresses.
    pub nodes: Vec<NodeSpec>,
    /// MTU in bytes of the uplinks and the fabric. [`Lab::set_fabric_mtu`](crate::Lab::set_fabric_mtu) changes it live.
    pub fabric_mtu: u32,
    /// MTU in bytes of pods, on both sides.
    pub pod_mtu: u32,
}

impl LabSpec {
    /// A lab with MTU 1500 everywhere.
    pub fn new(name_hint: &str, nodes: Vec<NodeSpec>) -> Self {
        Self {
            name_hint: name_hint.into(),
            nodes,
            fabric_mtu: 1500,
            pod_mtu: 1500,
        }
    }

    /// Nodes `a`, `b`, `c`, with pods `a1`, `a2`, `b1`, … each.
    pub fn three_nodes(name_hint: &str, wiring: Wiring) -> Self {
        let nodes = ["a", "b", "c"]
            .map(|name| NodeSpec::new(name, wiring, &[&format!("{name}1"), &format!("{name}2")]))
            .into();
        Self::new(name_hint, nodes)
    }

    /// Nodes `a` and `b`, with pods `a1` and `b1`.
    pub fn two_nodes(name_hint: &str, wiring: Wiring) -> Self {
        Self::new(
            name_hint,
            vec![
                NodeSpec::new("a", wiring, &["a1"]),
                NodeSpec::new("b", wiring, &["b1"]),
            ],
        )
    }
}
