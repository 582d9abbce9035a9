//! The same verdicts, said once more: naively, from the objects as they are written, by nothing of the rest of this
//! crate. It is what the engine and the kernel are compared with, and slow.
//!
//! It knows only objects that mean something, which [`crate::read`] has no problems with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hauberk_api::{
    ClusterEgressPeer, ClusterNetworkPolicy, ClusterPods, ClusterPorts, ClusterProtocol, MeshAction,
    MeshPeer, MeshPolicy, PolicyType, ServiceAccounts,
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::Objects;

/// A pod with an address of its own, a node, or an address of nobody in the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// A pod, and the address by which it takes part.
    Pod(&'a Pod, Option<IpAddr>),
    /// A node, by name, and its address.
    Node(&'a str, IpAddr),
    /// Anybody else.
    Outside(IpAddr),
}

/// What is asked: protocol by name (`TCP`, `UDP`, `SCTP`, else one without ports) and the destination's port.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who begins it.
    pub from: Side<'a>,
    /// Whom it goes to.
    pub to: Side<'a>,
    /// By name.
    pub protocol: &'a str,
    /// The destination's.
    pub port: u16,
}

/// Peers and ports of a rule of either direction.
type NetworkPolicyRule<'a> = (
    Option<&'a Vec<NetworkPolicyPeer>>,
    Option<&'a Vec<NetworkPolicyPort>>,
);
type MeshRule<'a> = (
    MeshAction,
    Option<&'a Vec<MeshPeer>>,
    Option<&'a Vec<NetworkPolicyPort>>,
);

/// Whether the connection is let through, by all policies without a validity that are not staged.
pub fn allows(objects: &Objects, question: &Question) -> bool {
    if let (Side::Pod(one, _), Side::Pod(other, _)) = (question.from, question.to)
        && one.metadata.name == other.metadata.name
        && one.metadata.namespace == other.metadata.namespace
    {
        return true;
    }
    let out = match question.from {
        Side::Pod(pod, _) => side_allows(objects, pod, question, true),
        Side::Node(..) | Side::Outside(_) => true,
    };
    let into = match question.to {
        Side::Pod(pod, _) => is_own_node(question.from, pod) || side_allows(objects, pod, question, false),
        Side::Node(..) | Side::Outside(_) => true,
    };
    out && into
}

fn is_own_node(side: Side, pod: &Pod) -> bool {
    let Side::Node(name, _) = side else { return false };
    pod.spec.as_ref().unwrap().node_name.as_deref() == Some(name)
}

fn side_allows(objects: &Objects, pod: &Pod, question: &Question, egress: bool) -> bool {
    if let Some(allowed) = cluster_tier(objects, "Admin", pod, question, egress) {
        return allowed;
    }
    let mut isolated = false;
    let mut accepted = false;
    let mut denied = false;
    for policy in &objects.network_policies {
        let spec = policy.spec.as_ref().unwrap();
        let everything = LabelSelector::default();
        let selector = spec.pod_selector.as_ref().unwrap_or(&everything);
        if namespace_of(pod) != policy.metadata.namespace.as_deref().unwrap_or("")
            || !label_match(selector, pod.metadata.labels.as_ref())
            || !network_policy_is_for(policy, egress)
        {
            continue;
        }
        isolated = true;
        let rules: Vec<NetworkPolicyRule> = if egress {
            let rules = spec.egress.iter().flatten();
            rules
                .map(|rule| (rule.to.as_ref(), rule.ports.as_ref()))
                .collect()
        } else {
            let rules = spec.ingress.iter().flatten();
            rules
                .map(|rule| (rule.from.as_ref(), rule.ports.as_ref()))
                .collect()
        };
        for (peers, ports) in rules {
            let peer_ok = match peers {
                None => true,
                Some(peers) if peers.is_empty() => true,
                Some(peers) => peers
                    .iter()
                    .any(|peer| network_policy_peer(objects, policy, peer, remote(question, egress))),
            };
            if peer_ok && any_port(ports, question) {
                accepted = true;
            }
        }
    }
    for policy in &objects.mesh_policies {
        if !mesh_policy_selects(objects, policy, pod) {
            continue;
        }
        let rules: Vec<MeshRule> = if egress {
            let rules = policy.spec.egress.iter();
            rules
                .map(|rule| (rule.action, rule.to.as_ref(), rule.ports.as_ref()))
                .collect()
        } else {
            let rules = policy.spec.ingress.iter();
            rules
                .map(|rule| (rule.action, rule.from.as_ref(), rule.ports.as_ref()))
                .collect()
        };
        let some_allow = rules.iter().any(|(action, _, _)| *action == MeshAction::Allow);
        let no_rules = policy.spec.ingress.is_empty() && policy.spec.egress.is_empty();
        isolated |= match &policy.spec.policy_types {
            Some(types) if egress => types.contains(&PolicyType::Egress),
            Some(types) => types.contains(&PolicyType::Ingress),
            None => some_allow || (!egress && no_rules),
        };
        for (action, peers, ports) in rules {
            let peer_ok = match peers {
                None => true,
                Some(peers) => peers
                    .iter()
                    .any(|peer| mesh_peer(objects, policy, peer, remote(question, egress))),
            };
            if peer_ok && any_port(ports, question) {
                match action {
                    MeshAction::Allow => accepted = true,
                    MeshAction::Deny => denied = true,
                }
            }
        }
    }
    if denied {
        return false;
    }
    if accepted {
        return true;
    }
    if isolated {
        return false;
    }
    cluster_tier(objects, "Baseline", pod, question, egress).unwrap_or(true)
}

fn cluster_tier(objects: &Objects, tier: &str, pod: &Pod, question: &Question, egress: bool) -> Option<bool> {
    let mut policies: Vec<&ClusterNetworkPolicy> = objects
        .cluster_network_policies
        .iter()
        .filter(|policy| policy.spec.tier == tier && cluster_pods(objects, &policy.spec.subject, pod))
        .collect();
    policies.sort_by_key(|policy| (policy.spec.priority, policy.metadata.name.clone()));
    for policy in policies {
        let mut matched: Option<&str> = None;
        if egress {
            for rule in &policy.spec.egress {
                let peer_ok = rule
                    .to
                    .iter()
                    .any(|peer| cluster_egress_peer(objects, peer, remote(question, egress)));
                if matched.is_none() && peer_ok && any_protocol(rule.protocols.as_ref(), question) {
                    matched = Some(&rule.action);
                }
            }
        } else {
            for rule in &policy.spec.ingress {
                let peer_ok = rule.from.iter().any(|peer| match remote(question, egress) {
                    Side::Pod(pod, _) => cluster_pods(objects, peer, pod),
                    Side::Node(..) | Side::Outside(_) => false,
                });
                if matched.is_none() && peer_ok && any_protocol(rule.protocols.as_ref(), question) {
                    matched = Some(&rule.action);
                }
            }
        }
        match matched {
            Some("Accept") => return Some(true),
            Some("Deny") => return Some(false),
            Some("Pass") => return None,
            _ => {}
        }
    }
    None
}

fn remote<'a>(question: &Question<'a>, egress: bool) -> Side<'a> {
    if egress { question.to } else { question.from }
}

fn network_policy_is_for(policy: &NetworkPolicy, egress: bool) -> bool {
    let spec = policy.spec.as_ref().unwrap();
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types
            .iter()
            .any(|kind| kind == if egress { "Egress" } else { "Ingress" }),
        _ => !egress || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

fn network_policy_peer(
    objects: &Objects,
    policy: &NetworkPolicy,
    peer: &NetworkPolicyPeer,
    side: Side,
) -> bool {
    if let Some(block) = &peer.ip_block {
        return in_block(block, side);
    }
    let Side::Pod(pod, _) = side else { return false };
    let namespace_ok = match &peer.namespace_selector {
        None => namespace_of(pod) == policy.metadata.namespace.as_deref().unwrap_or(""),
        Some(selector) => label_match(selector, Some(&namespace_labels(objects, namespace_of(pod)))),
    };
    let pod_ok = match &peer.pod_selector {
        None => true,
        Some(selector) => label_match(selector, pod.metadata.labels.as_ref()),
    };
    namespace_ok && pod_ok
}

fn mesh_policy_selects(objects: &Objects, policy: &MeshPolicy, pod: &Pod) -> bool {
    let labels_ok = match &policy.spec.pod_selector {
        None => true,
        Some(selector) => label_match(selector, pod.metadata.labels.as_ref()),
    };
    let account_ok = match &policy.spec.service_accounts {
        None => true,
        Some(accounts) => runs_as(objects, accounts, pod),
    };
    let same = namespace_of(pod) == policy.metadata.namespace.as_deref().unwrap_or("");
    same && labels_ok && account_ok && !policy.spec.staged && policy.spec.validity.is_none()
}

fn mesh_peer(objects: &Objects, policy: &MeshPolicy, peer: &MeshPeer, side: Side) -> bool {
    if let Some(block) = &peer.ip_block {
        return in_block(block, side);
    }
    if peer.dns_names.is_some() {
        return false;
    }
    let namespaces = |name: &str| match &peer.namespace_selector {
        None => name == policy.metadata.namespace.as_deref().unwrap_or(""),
        Some(selector) => label_match(selector, Some(&namespace_labels(objects, name))),
    };
    if let Some(selector) = &peer.network_sets {
        return objects.network_sets.iter().any(|set| {
            namespaces(set.metadata.namespace.as_deref().unwrap_or(""))
                && label_match(selector, set.metadata.labels.as_ref())
                && set.spec.cidrs.iter().any(|cidr| in_network(cidr, side))
        });
    }
    let Side::Pod(pod, _) = side else { return false };
    let labels_ok = match &peer.pod_selector {
        None => true,
        Some(selector) => label_match(selector, pod.metadata.labels.as_ref()),
    };
    let account_ok = match &peer.service_accounts {
        None => true,
        Some(accounts) => runs_as(objects, accounts, pod),
    };
    namespaces(namespace_of(pod)) && labels_ok && account_ok
}

fn runs_as(objects: &Objects, accounts: &ServiceAccounts, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let name = spec.service_account_name.as_deref().unwrap_or("default");
    let named = accounts.names.iter().flatten().any(|wanted| wanted == name);
    let none = BTreeMap::new();
    let account = objects.service_accounts.iter().find(|account| {
        account.metadata.name.as_deref() == Some(name)
            && account.metadata.namespace.as_deref() == Some(namespace_of(pod))
    });
    let labels = account
        .and_then(|account| account.metadata.labels.as_ref())
        .unwrap_or(&none);
    let labelled = accounts
        .selector
        .as_ref()
        .is_some_and(|selector| label_match(selector, Some(labels)));
    named || labelled
}

fn cluster_pods(objects: &Objects, pods: &ClusterPods, pod: &Pod) -> bool {
    let namespace = namespace_labels(objects, namespace_of(pod));
    if let Some(selector) = &pods.namespaces {
        return label_match(selector, Some(&namespace));
    }
    let pods = pods.pods.as_ref().unwrap();
    label_match(&pods.namespace_selector, Some(&namespace))
        && label_match(&pods.pod_selector, pod.metadata.labels.as_ref())
}

fn cluster_egress_peer(objects: &Objects, peer: &ClusterEgressPeer, side: Side) -> bool {
    if let Some(networks) = &peer.networks {
        return networks.iter().any(|network| in_network(network, side));
    }
    if let Some(selector) = &peer.nodes {
        let Side::Node(name, _) = side else { return false };
        let node = objects
            .nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(name));
        return label_match(selector, node.unwrap().metadata.labels.as_ref());
    }
    if peer.domain_names.is_some() {
        return false;
    }
    let Side::Pod(pod, _) = side else { return false };
    let pods = ClusterPods {
        namespaces: peer.namespaces.clone(),
        pods: peer.pods.clone(),
    };
    cluster_pods(objects, &pods, pod)
}

fn any_port(ports: Option<&Vec<NetworkPolicyPort>>, question: &Question) -> bool {
    let Some(ports) = ports else { return true };
    if ports.is_empty() {
        return true;
    }
    ports.iter().any(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if protocol != question.protocol {
            return false;
        }
        match (&port.port, port.end_port) {
            (None, _) => true,
            (Some(IntOrString::Int(first)), None) => i32::from(question.port) == *first,
            (Some(IntOrString::Int(first)), Some(last)) => {
                *first <= i32::from(question.port) && i32::from(question.port) <= last
            }
            (Some(IntOrString::String(name)), _) => has_port(question, name, Some(protocol)),
        }
    })
}

fn any_protocol(protocols: Option<&Vec<ClusterProtocol>>, question: &Question) -> bool {
    let Some(protocols) = protocols else { return true };
    protocols.iter().any(|entry| {
        if !entry.destination_named_port.is_empty() {
            return has_port(question, &entry.destination_named_port, None);
        }
        let of = |name: &str, ports: &Option<ClusterPorts>| {
            let Some(ports) = ports else { return false };
            if question.protocol != name {
                return false;
            }
            match &ports.destination_port {
                None => true,
                Some(port) => match &port.range {
                    None => port.number == i32::from(question.port),
                    Some(range) => (range.start..=range.end).contains(&i32::from(question.port)),
                },
            }
        };
        of("TCP", &entry.tcp) || of("UDP", &entry.udp) || of("SCTP", &entry.sctp)
    })
}

/// Whether the destination names this port so.
fn has_port(question: &Question, name: &str, protocol: Option<&str>) -> bool {
    let Side::Pod(pod, _) = question.to else {
        return false;
    };
    let spec = pod.spec.as_ref().unwrap();
    let mut containers = spec.containers.clone();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            containers.push(container.clone());
        }
    }
    containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .any(|port| {
            let its = port.protocol.as_deref().unwrap_or("TCP");
            port.name.as_deref() == Some(name)
                && port.container_port == i32::from(question.port)
                && its == question.protocol
                && protocol.is_none_or(|wanted| wanted == its)
        })
}

fn in_block(block: &IPBlock, side: Side) -> bool {
    let excepted = block
        .except
        .iter()
        .flatten()
        .any(|except| in_network(except, side));
    in_network(&block.cidr, side) && !excepted
}

fn in_network(network: &str, side: Side) -> bool {
    let address = match side {
        Side::Pod(_, Some(address)) | Side::Node(_, address) | Side::Outside(address) => address,
        Side::Pod(_, None) => return false,
    };
    network.parse::<IpNet>().unwrap().contains(&address)
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

fn namespace_labels(objects: &Objects, name: &str) -> BTreeMap<String, String> {
    let found = objects
        .namespaces
        .iter()
        .find(|namespace| namespace.metadata.name.as_deref() == Some(name));
    let mut labels = found
        .and_then(|namespace| namespace.metadata.labels.clone())
        .unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    labels
}

fn label_match(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let none = BTreeMap::new();
    let labels = labels.unwrap_or(&none);
    for (key, value) in selector.match_labels.iter().flatten() {
        if labels.get(key) != Some(value) {
            return false;
        }
    }
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.clone().unwrap_or_default();
        let has = labels.get(&expression.key);
        let fine = match expression.operator.as_str() {
            "In" => has.is_some_and(|value| values.contains(value)),
            "NotIn" => has.is_none_or(|value| !values.contains(value)),
            "Exists" => has.is_some(),
            "DoesNotExist" => has.is_none(),
            other => panic!("the oracle knows no operator {other}"),
        };
        if !fine {
            return false;
        }
    }
    true
}
