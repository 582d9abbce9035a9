//! Which families of addresses a cluster has.

use std::net::SocketAddr;

use super::{flags::PORT, network};
use crate::Node;

/// The addresses of a cluster's nodes, pods and Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// Both; IPv4 is the family of a Service that asks for none.
    #[default]
    Dual,
    /// IPv6 only. Nodes keep their IPv4 address in the lab, and nothing of the cluster uses it.
    V6,
}

impl Families {
    /// Both, or only the second.
    pub(super) fn of<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::Dual => vec![v4, v6],
            Self::V6 => vec![v6],
        }
    }

    /// Such words, joined by commas.
    pub(super) fn list(self, v4: &str, v6: &str) -> String {
        self.of(v4, v6).join(",")
    }

    /// The API server, from a lab.
    pub(super) fn api_server(self) -> SocketAddr {
        match self {
            Self::Dual => (network::V4, PORT).into(),
            Self::V6 => (network::V6, PORT).into(),
        }
    }

    /// The node's prefixes for pods.
    pub(super) fn pod_cidrs(self, node: &Node) -> Vec<String> {
        self.of(node.pod_cidr_v4().to_string(), node.pod_cidr_v6().to_string())
    }
}
