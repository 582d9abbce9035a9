//! The kinds that keyd follows in the API, as one stream of events.
//!
//! Each kind is listed once and watched from there. A watch that ends, is refused or has expired (410) is taken
//! up again with growing, random pauses; what was seen stays valid meanwhile. One object that cannot be read
//! does not hide the others.

use std::fmt::Debug;

use futures_util::stream::{BoxStream, StreamExt, select_all};
use hauberk_api::{ExternalPeer, Mesh, NodeTunnel};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::trust::{self, Anchors};
use crate::manifest::{self, Converted, Object, Problem, native};
use crate::snapshot::ObjectName;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Namespace,
    Pod,
    ServiceAccount,
    Mesh,
    NodeTunnel,
    ExternalPeer,
    NetworkPolicy,
    TrustBundle,
}

impl Kind {
    /// As operators write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
            Self::Mesh => "Mesh",
            Self::NodeTunnel => "NodeTunnel",
            Self::ExternalPeer => "ExternalPeer",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::TrustBundle => "ConfigMap",
        }
    }

    /// Whether what it says has a part in whom to believe.
    pub(super) fn concerns_trust(self) -> bool {
        match self {
            Self::Node | Self::Mesh | Self::NodeTunnel | Self::ExternalPeer | Self::TrustBundle => true,
            Self::Namespace | Self::Pod | Self::ServiceAccount | Self::NetworkPolicy => false,
        }
    }
}

/// What was seen.
pub(super) enum Item {
    Object(Object),
    Anchors(Anchors),
}

/// News of one kind.
pub(super) enum Event {
    /// A list begins: what is not seen until [`Event::Listed`] is gone.
    Listing(Kind),
    /// An object as it is now.
    Seen(Kind, ObjectName, Result<Item, Problem>),
    /// An object was deleted.
    Gone(Kind, ObjectName),
    /// The list is complete.
    Listed(Kind),
    /// The API server does not answer, or refuses; tried again.
    Failed(Kind, String),
}

/// Follows what a node needs. `namespace` is keyd's own, where the trust bundle lies.
pub(super) fn of_node(client: &Client, namespace: &str) -> (Vec<Kind>, BoxStream<'static, Event>) {
    let bundle = watcher::Config::default().fields(&format!("metadata.name={}", trust::BUNDLE));
    let all = watcher::Config::default;
    let streams = [
        (Kind::Node, follow(cluster(client), Kind::Node, all(), node)),
        (
            Kind::Namespace,
            follow(cluster(client), Kind::Namespace, all(), labels_of_namespace),
        ),
        (Kind::Pod, follow(cluster(client), Kind::Pod, all(), pod)),
        (
            Kind::ServiceAccount,
            follow(cluster(client), Kind::ServiceAccount, all(), service_account),
        ),
        (Kind::Mesh, follow(cluster(client), Kind::Mesh, all(), mesh)),
        (
            Kind::NodeTunnel,
            follow(cluster(client), Kind::NodeTunnel, all(), node_tunnel),
        ),
        (
            Kind::ExternalPeer,
            follow(cluster(client), Kind::ExternalPeer, all(), external_peer),
        ),
        (
            Kind::NetworkPolicy,
            follow(cluster(client), Kind::NetworkPolicy, all(), network_policy),
        ),
        (
            Kind::TrustBundle,
            follow(
                Api::namespaced(client.clone(), namespace),
                Kind::TrustBundle,
                bundle,
                anchors,
            ),
        ),
    ];
    joined(streams.into())
}

/// Follows what the controller sums up.
pub(super) fn of_controller(client: &Client) -> (Vec<Kind>, BoxStream<'static, Event>) {
    let all = watcher::Config::default;
    let streams = [
        (Kind::Node, follow(cluster(client), Kind::Node, all(), node)),
        (Kind::Mesh, follow(cluster(client), Kind::Mesh, all(), mesh)),
        (
            Kind::NodeTunnel,
            follow(cluster(client), Kind::NodeTunnel, all(), node_tunnel),
        ),
    ];
    joined(streams.into())
}

fn joined(streams: Vec<(Kind, BoxStream<'static, Event>)>) -> (Vec<Kind>, BoxStream<'static, Event>) {
    let (kinds, streams): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    (kinds, select_all(streams).boxed())
}

fn cluster<K: Resource<DynamicType = ()>>(client: &Client) -> Api<K> {
    Api::all(client.clone())
}

fn follow<K>(
    api: Api<K>,
    kind: Kind,
    config: watcher::Config,
    read: fn(K) -> Result<Item, Problem>,
) -> BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let seen = move |object: K| {
        let name = object_name(&object);
        Event::Seen(kind, name, read(object))
    };
    watcher(api, config)
        .default_backoff()
        .map(move |event| match event {
            Ok(watcher::Event::Init) => Event::Listing(kind),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => seen(object),
            Ok(watcher::Event::InitDone) => Event::Listed(kind),
            Ok(watcher::Event::Delete(object)) => Event::Gone(kind, object_name(&object)),
            Err(error) => Event::Failed(kind, reason(error)),
        })
        .boxed()
}

/// Why, without the words of the watcher around it.
fn reason(error: watcher::Error) -> String {
    use watcher::Error;
    match error {
        Error::InitialListFailed(cause) | Error::WatchStartFailed(cause) | Error::WatchFailed(cause) => {
            super::told(&cause.into())
        }
        Error::WatchError(status) => status.message,
        Error::NoResourceVersion => error.to_string(),
    }
}

fn object_name(object: &impl Resource) -> ObjectName {
    ObjectName {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

fn node(node: native::Node) -> Result<Item, Problem> {
    let title = format!("Node {}", node.name_any());
    read(&title, manifest::node(node))
}

fn labels_of_namespace(namespace: core::Namespace) -> Result<Item, Problem> {
    let title = format!("Namespace {}", namespace.name_any());
    read(&title, manifest::namespace(namespace))
}

fn service_account(account: core::ServiceAccount) -> Result<Item, Problem> {
    let title = format!("ServiceAccount {}", object_name(&account));
    read(&title, manifest::service_account(account))
}

fn network_policy(policy: NetworkPolicy) -> Result<Item, Problem> {
    let title = format!("NetworkPolicy {}", object_name(&policy));
    read(&title, manifest::network_policy(policy))
}

fn pod(pod: native::Pod) -> Result<Item, Problem> {
    let title = format!("Pod {}", object_name(&pod));
    read(&title, manifest::pod(pod))
}

fn mesh(guarded: DeserializeGuard<Mesh>) -> Result<Item, Problem> {
    guard("Mesh", guarded, manifest::mesh)
}

fn node_tunnel(guarded: DeserializeGuard<NodeTunnel>) -> Result<Item, Problem> {
    guard("NodeTunnel", guarded, manifest::node_tunnel)
}

fn external_peer(guarded: DeserializeGuard<ExternalPeer>) -> Result<Item, Problem> {
    guard("ExternalPeer", guarded, manifest::external_peer)
}

fn anchors(bundle: core::ConfigMap) -> Result<Item, Problem> {
    let title = format!("ConfigMap {}", object_name(&bundle));
    let anchors = Anchors::read(&bundle.data.unwrap_or_default());
    anchors
        .map(Item::Anchors)
        .map_err(|error| Problem::of_file(&title, error.to_string()))
}

/// An object of a later version may have values that this one doesn't know.
fn guard<K: Resource<DynamicType = ()>>(
    kind: &str,
    guarded: DeserializeGuard<K>,
    convert: fn(K) -> Converted,
) -> Result<Item, Problem> {
    let title = format!("{kind} {}", guarded.name_any());
    match guarded.0 {
        Ok(mut object) => {
            // Neither belongs to what the object says, and both change with every write.
            object.meta_mut().managed_fields = None;
            object.meta_mut().resource_version = None;
            read(&title, convert(object))
        }
        Err(invalid) => Err(Problem::of_file(&title, invalid.error)),
    }
}

fn read(title: &str, converted: Converted) -> Result<Item, Problem> {
    converted
        .map(Item::Object)
        .map_err(|wrongs| Problem::of_object(title, &wrongs))
}

#[cfg(test)]
mod tests;
