//! A node from the outside.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{Netns, NodeSpec, Pod, Wiring, runtime::Runtime};

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
    pub(super) pods: Vec<Pod>,
    cgroup: PathBuf,
    pin_dir: PathBuf,
    state_dir: PathBuf,
    in_cluster: bool,
}

impl Node {
    pub(super) fn new(spec: &NodeSpec, number: u8, runtime: &Runtime) -> Self {
        let cgroup = runtime.cgroup().join(&spec.name);
        let segment =
            u16::from_str_radix(&number.to_string(), 16).expect("decimal digits are hexadecimal ones");
        Self {
            name: spec.name.clone(),
            number,
            wiring: spec.wiring,
            netns: Netns::new(format!("{}-{}", runtime.id(), spec.name), &cgroup),
            v4: Ipv4Addr::new(192, 168, 77, number),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, segment),
            pod_cidr_v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 77, number, 0), 24),
            pod_cidr_v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd77, segment, 0, 0, 0, 0, 0, 0), 64),
            pods: Vec::new(),
            cgroup,
            pin_dir: runtime.bpf().join(&spec.name),
            state_dir: runtime.directory().join(&spec.name),
            in_cluster: spec.in_cluster,
        }
    }

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
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
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
            .find(|p| p.name() == name)
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

    /// What stands for the node's disk: keyd's memory, which it makes itself.
    pub fn memory_dir(&self) -> PathBuf {
        self.state_dir.join("memory")
    }
}
