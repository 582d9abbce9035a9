//! From Kubernetes' types to keyd's: what may be wrong beyond its shape is found here.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use hauberk_api::{
    ClusterNetworkPolicy, EXTRA_ADDRESSES, ExternalPeer, MESH_NAME, Mesh, MeshStatus, NodeTunnel,
    STARTUP_TAINT,
};
use hauberk_policy::identity::NamedPort;
use hauberk_policy::read;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::Object;
use super::locate::Step;
use super::native;
use crate::snapshot::{Namespace, Node, ObjectName, Origin, Pod, ServiceAccount};

/// Marks the API's picture of a static pod (`ConfigMirrorAnnotationKey`, kubernetes/pkg/kubelet/types).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Lanes of a generation, and ports of both ranges, that the kernel's slots and UDP allow.
const MAX_LANES: u16 = 16;
const PORTS: std::ops::RangeInclusive<u16> = 1024..=65_500;

/// A field that is wrong.
pub(crate) struct Wrong {
    pub(super) path: Vec<Step>,
    pub(super) text: String,
}

impl Wrong {
    /// At a path of fields.
    pub(super) fn at(path: &[&str], text: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|key| Step::Key((*key).to_owned())).collect(),
            text: text.into(),
        }
    }

    /// At an item of the list at that path.
    fn at_item(path: &[&str], item: usize, text: impl Into<String>) -> Self {
        let mut wrong = Self::at(path, text);
        wrong.path.push(Step::Item(item));
        wrong
    }
}

/// An object of the kind that was asked for, or what is wrong with it.
pub(crate) type Converted = Result<Object, Vec<Wrong>>;

pub(crate) fn node(node: native::Node) -> Converted {
    let name = name(&node.metadata)?;
    let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
    let mut wrongs = Vec::new();
    let pod_cidrs = match (spec.pod_cidrs, spec.pod_cidr) {
        (Some(prefixes), _) => parse_all(&prefixes, &["spec", "podCIDRs"], "prefix", &mut wrongs),
        (None, Some(prefix)) => match prefix.parse() {
            Ok(prefix) => vec![prefix],
            Err(_) => {
                wrongs.push(Wrong::at(&["spec", "podCIDR"], not_a(&prefix, "prefix")));
                Vec::new()
            }
        },
        (None, None) => Vec::new(),
    };
    let starting = spec
        .taints
        .is_some_and(|taints| taints.iter().any(|taint| taint.key == STARTUP_TAINT));
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let mut addresses = Vec::new();
    for (item, address) in status.addresses.iter().flatten().enumerate() {
        if address.type_ == "InternalIP" {
            match address.address.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => wrongs.push(Wrong::at_item(
                    &["status", "addresses"],
                    item,
                    not_a(&address.address, "address"),
                )),
            }
        }
    }
    finish(
        Object::Node(
            name,
            Node {
                origin: origin(node.metadata),
                pod_cidrs,
                addresses,
                starting,
                labels,
            },
        ),
        wrongs,
    )
}

pub(crate) fn namespace(namespace: core::Namespace) -> Converted {
    let name = name(&namespace.metadata)?;
    Ok(Object::Namespace(
        name,
        Namespace {
            labels: labels(namespace.metadata),
        },
    ))
}

pub(crate) fn service_account(account: core::ServiceAccount) -> Converted {
    let name = namespaced(&account.metadata)?;
    Ok(Object::ServiceAccount(
        name,
        ServiceAccount {
            labels: labels(account.metadata),
        },
    ))
}

pub(crate) fn network_policy(policy: NetworkPolicy) -> Converted {
    namespaced(&policy.metadata)?;
    Ok(Object::Policy(Arc::new(read::network_policy(&policy))))
}

pub(crate) fn cluster_network_policy(policy: ClusterNetworkPolicy) -> Converted {
    name(&policy.metadata)?;
    Ok(Object::Policy(Arc::new(read::cluster_network_policy(&policy))))
}

pub(crate) fn pod(pod: native::Pod) -> Converted {
    let name = namespaced(&pod.metadata)?;
    let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
    let mut wrongs = Vec::new();
    let mut addresses = Vec::new();
    let listed = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .enumerate();
    for (item, address) in listed {
        match address.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => wrongs.push(Wrong::at_item(
                &["status", "podIPs"],
                item,
                not_a(address, "address"),
            )),
        }
    }
    if let Some(address) = status.pod_ip.filter(|_| addresses.is_empty()) {
        match address.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => wrongs.push(Wrong::at(&["status", "podIP"], not_a(&address, "address"))),
        }
    }
    let extra = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|found| found.get(EXTRA_ADDRESSES));
    let mut extra_addresses = Vec::new();
    for address in extra
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match address.parse() {
            Ok(address) => extra_addresses.push(address),
            Err(_) => wrongs.push(Wrong::at(
                &["metadata", "annotations", EXTRA_ADDRESSES],
                not_a(address, "address"),
            )),
        }
    }
    let stay = spec.containers.into_iter().flatten();
    let sidecars = spec.init_containers.into_iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = stay
        .chain(sidecars)
        .flat_map(|container| container.ports.unwrap_or_default());
    let origin = Origin {
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: pod.metadata.uid.clone(),
    };
    let is_mirror = pod
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|found| found.contains_key(MIRROR));
    let mut converted = Pod {
        origin,
        node: spec.node_name.filter(|node| !node.is_empty()),
        addresses,
        extra_addresses,
        host_network: spec.host_network.unwrap_or(false),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        labels: labels(pod.metadata),
        service_account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
        ports: ports.filter_map(|port| NamedPort::read(&port)).collect(),
        is_anonymous: is_mirror,
    };
    // A kubelet makes them as it likes, past whoever grants labels and ServiceAccounts to pods. What is left is what
    // CNI tells of a static pod as well.
    if is_mirror {
        converted.labels.clear();
        converted.service_account.clear();
        converted.extra_addresses.clear();
        converted.ports.clear();
    }
    finish(Object::Pod(name, Box::new(converted)), wrongs)
}

/// A Mesh as the controller writes it.
#[derive(Deserialize)]
pub(super) struct MeshOfStatus {
    metadata: ObjectMeta,
    status: MeshStatus,
}

pub(super) fn mesh_status(mesh: MeshOfStatus) -> Converted {
    mesh_name(&mesh.metadata)?;
    Ok(Object::MeshStatus(mesh.status))
}

pub(crate) fn mesh(mesh: Mesh) -> Converted {
    mesh_name(&mesh.metadata)?;
    let mut wrongs = Vec::new();
    let encryption = &mesh.spec.encryption;
    if encryption
        .lanes
        .is_some_and(|lanes| !(1..=MAX_LANES).contains(&lanes))
    {
        let path = ["spec", "encryption", "lanes"];
        wrongs.push(Wrong::at(&path, format!("has to be between 1 and {MAX_LANES}")));
    }
    if encryption.listen_port.is_some_and(|port| !PORTS.contains(&port)) {
        let path = ["spec", "encryption", "listenPort"];
        wrongs.push(Wrong::at(
            &path,
            format!("has to be between {} and {}", PORTS.start(), PORTS.end()),
        ));
    }
    finish(Object::Mesh(Box::new(mesh)), wrongs)
}

pub(crate) fn node_tunnel(tunnel: NodeTunnel) -> Converted {
    name(&tunnel.metadata)?;
    let mut wrongs = Vec::new();
    let path = ["spec", "generations"];
    for (item, generation) in tunnel.spec.generations.iter().enumerate() {
        if generation.lanes.is_empty() || generation.lanes.len() > usize::from(MAX_LANES) {
            wrongs.push(Wrong::at_item(
                &path,
                item,
                format!("has to have between 1 and {MAX_LANES} lanes"),
            ));
        }
        if generation.lanes.iter().any(|lane| lane.port == 0) {
            wrongs.push(Wrong::at_item(&path, item, "a lane's port cannot be 0"));
        }
    }
    finish(Object::NodeTunnel(Box::new(tunnel)), wrongs)
}

pub(crate) fn external_peer(peer: ExternalPeer) -> Converted {
    name(&peer.metadata)?;
    Ok(Object::ExternalPeer(Box::new(peer)))
}

fn mesh_name(metadata: &ObjectMeta) -> Result<(), Vec<Wrong>> {
    if name(metadata)? == MESH_NAME {
        return Ok(());
    }
    Err(vec![Wrong::at(
        &["metadata", "name"],
        format!("the only Mesh is named {MESH_NAME}"),
    )])
}

/// The name, which ends up in names of files: as Kubernetes wants it (RFC 1123, dots allowed).
fn name(metadata: &ObjectMeta) -> Result<String, Vec<Wrong>> {
    let Some(name) = metadata.name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(vec![Wrong::at(&["metadata"], "name is missing")]);
    };
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.len() <= 253
        && name.starts_with(inner)
        && name.ends_with(inner)
        && name.chars().all(|c| inner(c) || c == '-' || c == '.');
    if !fits {
        let text = format!("{name:?} is no name: lower-case letters, digits, '-' and '.' only, at most 253");
        return Err(vec![Wrong::at(&["metadata", "name"], text)]);
    }
    Ok(name.to_owned())
}

fn namespaced(metadata: &ObjectMeta) -> Result<ObjectName, Vec<Wrong>> {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    Ok(ObjectName {
        namespace,
        name: name(metadata)?,
    })
}

fn origin(metadata: ObjectMeta) -> Origin {
    Origin {
        created: metadata.creation_timestamp.map(|time| time.0),
        uid: metadata.uid,
    }
}

fn labels(metadata: ObjectMeta) -> BTreeMap<String, String> {
    metadata.labels.unwrap_or_default()
}

fn parse_all<T: FromStr>(texts: &[String], path: &[&str], what: &str, wrongs: &mut Vec<Wrong>) -> Vec<T> {
    let mut values = Vec::new();
    for (item, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(value) => values.push(value),
            Err(_) => wrongs.push(Wrong::at_item(path, item, not_a(text, what))),
        }
    }
    values
}

fn not_a(text: &str, what: &str) -> String {
    match what {
        "prefix" => format!("{text:?} is no prefix, such as 10.77.1.0/24 or fd77:1::/64"),
        _ => format!("{text:?} is no IP address"),
    }
}

fn finish(object: Object, wrongs: Vec<Wrong>) -> Converted {
    if wrongs.is_empty() {
        Ok(object)
    } else {
        Err(wrongs)
    }
}
