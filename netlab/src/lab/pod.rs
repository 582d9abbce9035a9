//! A pod from the outside.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
};

use crate::{Netns, Node, runtime::Runtime};

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
    /// `number` is the last part of its addresses.
    pub(super) fn new(name: &str, node: &Node, number: u8, runtime: &Runtime) -> Self {
        let [a, b, c, _] = node.pod_cidr_v4().network().octets();
        let mut v6 = node.pod_cidr_v6().network().segments();
        v6[7] = number.into();
        Self {
            name: name.into(),
            node: node.name().into(),
            netns: Netns::new(format!("{}-{}-{name}", runtime.id(), node.name()), node.cgroup()),
            v4: Ipv4Addr::new(a, b, c, number),
            v6: v6.into(),
            host_interface: format!("v-{name}"),
        }
    }

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
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
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
