//! What the API server has, as maps should show it.
//!
//! While pods come and go, one look at the API server is no truth: a map is read between two looks, and judged by
//! what was in both.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde_json::Value;

use super::{
    error::ScaleError,
    objects,
    requests::{ALL_PODS, NODES, Requests},
    verify::{Expected, Name},
};

/// Nodes and pods at one time.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    nodes: BTreeMap<Name, Vec<IpNet>>,
    pods: BTreeMap<Name, Pod>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    node: String,
    addresses: Vec<IpAddr>,
}

impl Truth {
    /// Everything there is.
    pub async fn whole(requests: &Requests) -> Result<Self, ScaleError> {
        Self::default()
            .add_nodes(requests)
            .await?
            .add_pods(requests, None)
            .await
    }

    /// All nodes, and those pods that come and go.
    pub async fn passing(requests: &Requests) -> Result<Self, ScaleError> {
        Self::passing_pods(requests).await?.add_nodes(requests).await
    }

    /// Those pods that come and go.
    pub async fn passing_pods(requests: &Requests) -> Result<Self, ScaleError> {
        Self::default()
            .add_pods(requests, Some(&objects::passing_pods()))
            .await
    }

    async fn add_nodes(mut self, requests: &Requests) -> Result<Self, ScaleError> {
        let nodes = &mut self.nodes;
        requests
            .each(NODES, None, |node| {
                nodes.insert(name(&node), of_node(&node));
            })
            .await?;
        Ok(self)
    }

    async fn add_pods(mut self, requests: &Requests, labels: Option<&str>) -> Result<Self, ScaleError> {
        let pods = &mut self.pods;
        requests
            .each(ALL_PODS, labels, |pod| {
                let told = pod["status"]["podIPs"].as_array().into_iter().flatten();
                let addresses: Vec<_> = told.filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect();
                let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
                if !addresses.is_empty() {
                    pods.insert(name(&pod), Pod { node, addresses });
                }
            })
            .await?;
        Ok(self)
    }

    /// With the nodes of another look.
    pub fn with_nodes_of(mut self, other: &Self) -> Self {
        self.nodes.clone_from(&other.nodes);
        self
    }

    /// With the pods of another look.
    pub fn with_pods_of(mut self, other: &Self) -> Self {
        let pods = other.pods.iter().map(|(name, pod)| (name.clone(), pod.clone()));
        self.pods.extend(pods);
        self
    }

    /// What a map should hold that is read after this and before `later`.
    pub fn until(&self, later: &Self) -> Expected {
        let mut expected = Expected::default();
        for (name, nets) in &self.nodes {
            if later.nodes.get(name) == Some(nets) {
                expected
                    .nodes
                    .extend(nets.iter().map(|net| (*net, Name::clone(name))));
            } else {
                expected.open.extend(nets);
            }
        }
        let came = later
            .nodes
            .iter()
            .filter(|(name, nets)| self.nodes.get(*name) != Some(nets));
        expected.open.extend(came.flat_map(|(_, nets)| nets));
        for (name, pod) in &self.pods {
            let stayed = later.pods.get(name) == Some(pod);
            for address in &pod.addresses {
                let mut of_node = self.nodes.get(pod.node.as_str()).into_iter().flatten();
                match of_node.find(|net| net.contains(address)) {
                    Some(prefix) if stayed && expected.nodes.contains_key(prefix) => {
                        expected.pods.insert(*address, (Name::clone(name), *prefix));
                    }
                    _ => {
                        expected.open.insert(IpNet::from(*address));
                    }
                }
            }
        }
        let came = later
            .pods
            .iter()
            .filter(|(name, pod)| self.pods.get(*name) != Some(pod));
        let addresses = came.flat_map(|(_, pod)| &pod.addresses);
        expected
            .open
            .extend(addresses.map(|address| IpNet::from(*address)));
        // An address that went from one to the other meanwhile is nobody's for certain.
        let Expected { pods, nodes, open } = &mut expected;
        pods.retain(|address, _| !open.contains(&IpNet::from(*address)));
        nodes.retain(|net, _| !open.contains(net));
        expected
    }
}

/// A node's prefixes for pods, and its own addresses.
fn of_node(node: &Value) -> Vec<IpNet> {
    let cidrs = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
    let cidrs = cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok());
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let own = addresses.filter_map(|one| one["address"].as_str()?.parse::<IpAddr>().ok());
    cidrs.chain(own.map(IpNet::from)).collect()
}

fn name(object: &Value) -> Name {
    object["metadata"]["name"].as_str().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn truth(nodes: &[(&str, &str)], pods: &[(&str, &str, &str)]) -> Truth {
        Truth {
            nodes: nodes
                .iter()
                .map(|(name, net)| ((*name).into(), vec![net.parse().unwrap()]))
                .collect(),
            pods: pods
                .iter()
                .map(|(name, node, address)| {
                    let addresses = vec![address.parse().unwrap()];
                    let node = (*node).to_owned();
                    ((*name).into(), Pod { node, addresses })
                })
                .collect(),
        }
    }

    #[test]
    fn only_what_is_in_both_looks_is_expected() {
        let nodes = [("n", "10.1.0.0/24"), ("m", "10.2.0.0/24")];
        let before = truth(&nodes, &[("stays", "n", "10.1.0.2"), ("went", "n", "10.1.0.3")]);
        let after = truth(&nodes, &[("stays", "n", "10.1.0.2"), ("came", "n", "10.1.0.3")]);
        let expected = before.until(&after);
        assert_eq!(expected.nodes.len(), 2);
        let prefix = "10.1.0.0/24".parse().unwrap();
        let stays = ("10.1.0.2".parse().unwrap(), (Name::from("stays"), prefix));
        assert_eq!(expected.pods, [stays].into());
        assert_eq!(expected.open, ["10.1.0.3/32".parse().unwrap()].into());
    }

    #[test]
    fn a_prefix_that_passed_to_another_node_is_open_and_its_pods_are() {
        let before = truth(&[("n", "10.1.0.0/24")], &[("pod", "n", "10.1.0.2")]);
        let after = truth(&[("heir", "10.1.0.0/24")], &[("pod", "n", "10.1.0.2")]);
        let expected = before.until(&after);
        assert!(expected.nodes.is_empty() && expected.pods.is_empty());
        let open: BTreeSet<IpNet> = ["10.1.0.0/24", "10.1.0.2/32"]
            .map(|net| net.parse().unwrap())
            .into();
        assert_eq!(expected.open, open);
    }
}
