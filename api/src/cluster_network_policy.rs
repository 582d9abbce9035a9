//! `ClusterNetworkPolicy` of policy.networking.k8s.io/v1alpha2, as far as it is read here.
//!
//! The kind is the network-policy-api's, and so is its CRD. Enumerations are texts here, so that a value of a newer
//! version is told with its place and does not make the whole object unreadable. Of a peer or protocol in which no
//! field is set a newer version knows the field, and nobody here does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What administrators say of all pods, before or after what namespaces say.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.networking.k8s.io",
    version = "v1alpha2",
    kind = "ClusterNetworkPolicy",
    plural = "clusternetworkpolicies",
    status = "ClusterNetworkPolicyStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// 0 to 1000, the lowest first.
    pub priority: i32,
    /// The pods that it is about.
    pub subject: ClusterPods,
    /// Connections to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<ClusterIngressRule>,
    /// Connections from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<ClusterEgressRule>,
}

/// What implementations say of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyStatus {
    /// One of each implementation.
    pub conditions: Vec<Condition>,
}

/// Pods, by one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPods {
    /// All pods of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Pods by label, in namespaces by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// The namespaces; empty is all.
    pub namespace_selector: LabelSelector,
    /// The pods; empty is all.
    pub pod_selector: LabelSelector,
}

/// A rule for connections to the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterIngressRule {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// The other side; at least one.
    pub from: Vec<ClusterPods>,
    /// Ports; all traffic where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ClusterProtocol>>,
}

/// A rule for connections from the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterEgressRule {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// The other side; at least one.
    pub to: Vec<ClusterEgressPeer>,
    /// Ports; all traffic where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ClusterProtocol>>,
}

/// The other side of a connection from the pods, by one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterEgressPeer {
    /// All pods of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// Nodes, with their pods on the host network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// Networks, whoever has an address in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// DNS names, in rules that accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// Ports of a protocol, by one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterProtocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClusterPorts>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClusterPorts>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<ClusterPorts>,
    /// The port that the destination's containers give this name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_named_port: String,
}

/// What of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPorts {
    /// The destination's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<ClusterPort>,
}

/// A port or a range of ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPort {
    /// One port; 0 where it is left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub number: i32,
    /// From one to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<ClusterPortRange>,
}

/// Ports, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPortRange {
    /// The first.
    pub start: i32,
    /// The last.
    pub end: i32,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}
