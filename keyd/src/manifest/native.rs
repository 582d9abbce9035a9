//! What keyd reads of Kubernetes' own kinds: the fields that it uses, and nothing else, so that neither a
//! field of a later version nor the size of a pod's template costs anything.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

/// A Node.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Node)]
pub struct Node {
    /// Name, UID, age.
    pub metadata: ObjectMeta,
    /// Prefixes.
    pub spec: Option<NodeSpec>,
    /// Addresses.
    pub status: Option<NodeStatus>,
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeSpec {
    /// The only prefix, where there is no list.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// All prefixes.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
    /// What keeps pods away.
    pub taints: Option<Vec<core::Taint>>,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeStatus {
    /// Addresses of every type.
    pub addresses: Option<Vec<NodeAddress>>,
}

/// One of `status.addresses` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeAddress {
    /// `InternalIP` and others.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address.
    pub address: String,
}

/// A Pod.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Pod)]
pub struct Pod {
    /// Names, labels, annotations.
    pub metadata: ObjectMeta,
    /// Where and as whom it runs.
    pub spec: Option<PodSpec>,
    /// Addresses and phase.
    pub status: Option<PodStatus>,
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The Node it is bound to.
    pub node_name: Option<String>,
    /// It shares the Node's network.
    pub host_network: Option<bool>,
    /// Its ServiceAccount.
    pub service_account_name: Option<String>,
    /// Containers.
    pub containers: Option<Vec<Container>>,
    /// Those that run before; some of them go on.
    pub init_containers: Option<Vec<Container>>,
}

/// A container of a Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its ports.
    pub ports: Option<Vec<core::ContainerPort>>,
    /// `Always` of an init container makes it a sidecar (KEP-753).
    pub restart_policy: Option<String>,
}

/// `status` of a Pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed, Unknown.
    pub phase: Option<String>,
    /// The first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
}

/// One of `status.podIPs`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}
