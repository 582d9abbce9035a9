//! A lab: what it consists of, its building and its changes.

use std::{fs, path::Path};

use ipnet::IpNet;

use crate::{Fabric, LabError, LabSpec, error::file, runtime::Runtime, sweep};

mod addressing;
mod network;
mod node;
mod pod;

pub use node::Node;
pub use pod::Pod;

/// Nodes, pods and the fabric between them; removed when dropped.
#[derive(Debug)]
pub struct Lab {
    // In the order of dropping: what holds devices in namespaces goes before the namespaces.
    fabric: Fabric,
    nodes: Vec<Node>,
    pod_mtu: u32,
    runtime: Runtime,
}

impl Lab {
    /// Builds the lab; all addresses and routes work when this returns. Removes what earlier killed runs left.
    ///
    /// # Errors
    /// Not root; a spec that contradicts itself; a missing program; whatever the kernel refuses.
    pub fn new(spec: LabSpec) -> Result<Self, LabError> {
        addressing::check(&spec)?;
        let runtime = Runtime::create(&spec.name_hint)?;
        if let Err(e) = sweep() {
            eprintln!("what an earlier run of the lab left behind could not be removed: {e}");
        }
        let mut nodes = Vec::new();
        for (spec, number) in spec.nodes.iter().zip(1..) {
            let mut node = Node::new(spec, number, &runtime);
            for pod in &spec.pods {
                let pod = Pod::new(pod, &node, addressing::free_pod_number(&node)?, &runtime);
                node.pods.push(pod);
            }
            nodes.push(node);
        }
        for node in &nodes {
            for dir in [node.cgroup(), node.pin_dir(), node.state_dir()] {
                fs::create_dir(dir).map_err(file("cannot make", dir))?;
            }
        }
        let fabric_netns = network::build(&nodes, &runtime, spec.fabric_mtu, spec.pod_mtu)?;
        let fabric = Fabric::start(fabric_netns, &nodes)?;
        Ok(Self {
            fabric,
            nodes,
            pod_mtu: spec.pod_mtu,
            runtime,
        })
    }

    /// Unique on this machine; all namespaces' names begin with it.
    pub fn id(&self) -> &str {
        self.runtime.id()
    }

    /// A tmpfs of the lab, for whatever should vanish with it.
    pub fn dir(&self) -> &Path {
        self.runtime.directory()
    }

    /// All nodes, in the spec's order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    /// The pod of this name, on whichever node.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, name: &str) -> &Pod {
        let mut pods = self.nodes.iter().flat_map(Node::pods);
        pods.find(|p| p.name() == name)
            .unwrap_or_else(|| panic!("the lab has no pod {name}"))
    }

    /// All podCIDRs of all nodes of the cluster.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let nodes = self.nodes.iter().filter(|n| n.in_cluster());
        nodes
            .flat_map(|n| [n.pod_cidr_v4().into(), n.pod_cidr_v6().into()])
            .collect()
    }

    /// What joins the nodes.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Adds a pod to a node, live.
    ///
    /// # Errors
    /// The name is taken or too long, or the kernel refuses.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pod(&mut self, node: &str, name: &str) -> Result<&Pod, LabError> {
        addressing::check_name(name)?;
        if self.nodes.iter().flat_map(Node::pods).any(|p| p.name() == name) {
            return Err(LabError::Spec(format!("two pods are named {name}")));
        }
        let index = self.index(node);
        let node = &mut self.nodes[index];
        let pod = Pod::new(name, node, addressing::free_pod_number(node)?, &self.runtime);
        network::add_pod(node, &pod, self.pod_mtu)?;
        node.pods.push(pod);
        Ok(node.pod(name))
    }

    /// Removes a pod with its interface, live; processes in it lose their network.
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Panics
    /// When there is no such pod.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), LabError> {
        let index = self.index(self.pod(name).node());
        let node = &mut self.nodes[index];
        network::remove_pod(node, node.pod(name))?;
        node.pods.retain(|p| p.name() != name);
        Ok(())
    }

    /// Changes the MTU of all uplinks, the fabric's ports and its bridge, in bytes.
    ///
    /// # Errors
    /// The kernel refuses it: less than 68, or more than 65,535. Below 1,280 IPv6 goes away with its addresses.
    pub fn set_fabric_mtu(&self, mtu: u32) -> Result<(), LabError> {
        network::set_fabric_mtu(&self.nodes, self.fabric.netns(), mtu)
    }

    fn index(&self, node: &str) -> usize {
        let found = self.nodes.iter().position(|n| n.name() == node);
        found.unwrap_or_else(|| panic!("the lab has no node {node}"))
    }
}
