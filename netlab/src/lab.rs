//! A lab from the outside.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{Fabric, LabError, LabSpec, Netns, Wiring};

/// Nodes, pods and the fabric between them; removed when dropped.
#[derive(Debug)]
pub struct Lab {
    id: String,
    runtime_dir: PathBuf,
    nodes: Vec<Node>,
    fabric: Fabric,
}

impl Lab {
    /// Builds the lab; all addresses and routes work when this returns.
    pub fn new(_spec: LabSpec) -> Result<Self, LabError> {
        todo!()
    }

    /// Unique on this machine; part of the names of all namespaces.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A tmpfs of the lab, for whatever should vanish with it.
    pub fn dir(&self) -> &Path {
        &self.runtime_dir
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
        self.nodes
            .iter()
            .find(|n| n.name == name)
            .unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// The pod of this name, on whichever node.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, name: &str) -> &Pod {
        self.nodes
            .iter()
            .flat_map(|n| &n.pods)
            .find(|p| p.name == name)
            .unwrap_or_else(|| panic!("the lab has no pod {name}"))
    }

    /// All podCIDRs of all nodes.
    pub fn pod_cidrs(&self) -> Vec<ipnet::IpNet> {
        todo!()
    }

    /// What joins the nodes.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Adds a pod to a node, live.
    pub fn add_pod(&mut self, _node: &str, _pod: &str) -> Result<&Pod, LabError> {
        todo!()
    }

    /// Removes a pod, live, with its processes' connectivity.
    pub fn remove_pod(&mut self, _pod: &str) -> Result<(), LabError> {
        todo!()
    }

    /// Changes the MTU of all uplinks, the fabric's ports and its bridge, in bytes.
    pub fn set_fabric_mtu(&self, _mtu: u32) -> Result<(), LabError> {
        todo!()
    }
}

/// A node: a namespace with an uplink `eth0`, and pods.
#[derive(Debug)]
pub struct Node {
    name: String,
    number: u8,
    wiring: Wiring,
    netns: Netns,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    pod_cidr_v4: Ipv4Net,
    pod_cidr_v6: Ipv6Net,
    pods: Vec<Pod>,
    cgroup: PathBuf,
    pin_dir: PathBuf,
    state_dir: PathBuf,
    in_cluster: bool,
}

impl Node {
    /// Its name, as in the spec.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its number in all addresses, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }
    /// How its pods are connected.
    pub fn wiring(&self) -> Wiring {
        self.wiring
    }
    /// Whether it is a node of the cluster.
    pub fn in_cluster(&self) -> bool {
        self.in_cluster
    }
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
    /// A command that will run on the node; see [`Netns::command`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.netns.command(program)
    }
    /// Its address on the fabric, 192.168.77.number.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }
    /// Its address on the fabric, fd77::number.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }
    /// Its pods' prefix, 10.77.number.0/24.
    pub fn pod_cidr_v4(&self) -> Ipv4Net {
        self.pod_cidr_v4
    }
    /// Its pods' prefix, fd77:number::/64.
    pub fn pod_cidr_v6(&self) -> Ipv6Net {
        self.pod_cidr_v6
    }
    /// Its uplink's name.
    pub fn uplink(&self) -> &'static str {
        "eth0"
    }
    /// Its pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }
    /// The pod of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods
            .iter()
            .find(|p| p.name == name)
            .unwrap_or_else(|| panic!("node {} has no pod {name}", self.name))
    }
    /// Its own cgroup2, in which its processes and its pods' run.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
    /// Its own directory in a bpffs.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }
    /// Its own directory on a tmpfs, for keyd's state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

/// A pod: a namespace with `eth0`.
#[derive(Debug)]
pub struct Pod {
    name: String,
    node: String,
    netns: Netns,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    host_interface: String,
}

impl Pod {
    /// Its name, as in the spec and its manifest.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its node's name.
    pub fn node(&self) -> &str {
        &self.node
    }
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
    /// A command that will run in the pod; see [`Netns::command`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.netns.command(program)
    }
    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }
    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }
    /// The name, on its node, of the other end of its `eth0`.
    pub fn host_interface(&self) -> &str {
        &self.host_interface
    }
}
