//! A cluster's objects, read: who is there, and what policies say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hauberk_api::{ClusterNetworkPolicy, MeshPolicy, NetworkSet};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::identity::{Identity, NAMESPACE_NAME, NamedPort, Node, Pod, World};
use crate::judge::Policies;
use crate::policy::Problem;
use crate::read::{self, Clock, NetworkSets};
use crate::selector::Labels;

/// Annotation of pods that a kubelet made from a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Objects of every kind that has to do with policy, as they are written.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is named after its kind")]
pub struct Objects {
    pub namespaces: Vec<v1::Namespace>,
    pub nodes: Vec<v1::Node>,
    pub pods: Vec<v1::Pod>,
    pub service_accounts: Vec<v1::ServiceAccount>,
    pub network_policies: Vec<NetworkPolicy>,
    pub cluster_network_policies: Vec<ClusterNetworkPolicy>,
    pub mesh_policies: Vec<MeshPolicy>,
    pub network_sets: Vec<NetworkSet>,
}

/// Who is there, and what policies say of it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces, nodes and pods.
    pub world: World,
    /// Policies in force at the time of the clock, staged ones too.
    pub policies: Policies,
    /// What means nothing.
    pub problems: Vec<Problem>,
}

impl Cluster {
    /// Reads them, as they hold at the time of `clock`. A namespace that is only named has no labels but its name.
    pub fn read(objects: &Objects, clock: Clock) -> Self {
        let world = world(objects);
        let sets = NetworkSets::new(&objects.network_sets);
        let read = objects.network_policies.iter().map(read::network_policy);
        let read = read.chain(
            objects
                .cluster_network_policies
                .iter()
                .map(read::cluster_network_policy),
        );
        let read = read.chain(
            objects
                .mesh_policies
                .iter()
                .map(|policy| read::mesh_policy(policy, &sets, &world.namespaces, clock)),
        );
        let (mut policies, mut problems) = (Vec::new(), sets.problems.clone());
        for read in read {
            policies.push(read.policy);
            problems.extend(read.problems);
        }
        Self {
            world,
            policies: Policies::new(policies),
            problems,
        }
    }
}

fn world(objects: &Objects) -> World {
    let mut world = World::default();
    for namespace in &objects.namespaces {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let labels = with_name(&name, namespace.metadata.labels.clone().unwrap_or_default());
        world.namespaces.insert(name, labels);
    }
    let accounts: BTreeMap<_, _> = objects
        .service_accounts
        .iter()
        .map(|account| {
            let metadata = &account.metadata;
            let name = (
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            );
            (name, metadata.labels.clone().unwrap_or_default())
        })
        .collect();
    for node in &objects.nodes {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let addresses = addresses.into_iter().flatten();
        let read = Node {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        };
        world
            .nodes
            .insert(node.metadata.name.clone().unwrap_or_default(), read);
    }
    for pod in &objects.pods {
        let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let labels_of = world.namespaces.entry(namespace.clone());
        let namespace_labels = labels_of
            .or_insert_with(|| with_name(&namespace, Labels::new()))
            .clone();
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".into());
        let account_labels = accounts.get(&(namespace.as_str(), account.as_str()));
        let identity = Identity {
            namespace: namespace.clone(),
            namespace_labels,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            service_account_labels: account_labels.cloned().unwrap_or_default(),
            service_account: account,
            ports: named_ports(pod),
            is_anonymous: pod
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|annotations| annotations.contains_key(MIRROR)),
        };
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let read = Pod {
            identity: Arc::new(identity),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            host_network: pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            addresses: addresses(pod),
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        world.pods.insert((namespace, name), read);
    }
    world
}

/// The API server gives every namespace its name as a label.
fn with_name(name: &str, mut labels: Labels) -> Labels {
    labels.insert(NAMESPACE_NAME.into(), name.into());
    labels
}

fn addresses(pod: &v1::Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let one = status.pod_ip.iter();
    let mut addresses: Vec<IpAddr> = all.chain(one).filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Of the containers that stay, restartable init containers (sidecars, KEP-753) among them.
fn named_ports(pod: &v1::Pod) -> BTreeSet<NamedPort> {
    let Some(spec) = &pod.spec else {
        return BTreeSet::new();
    };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(NamedPort::read).collect()
}
