//! What policies can tell pods apart by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1;

use crate::ports::Protocol;
use crate::selector::Labels;

/// Label that the API server gives every namespace; its value is the namespace's name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A pod as policies see it. Pods that share it are never judged differently, but by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its namespace's name.
    pub namespace: String,
    /// Its namespace's labels.
    pub namespace_labels: Labels,
    /// Its labels; none where [`Identity::is_anonymous`].
    pub labels: Labels,
    /// Its ServiceAccount's name.
    pub service_account: String,
    /// Its ServiceAccount's labels.
    pub service_account_labels: Labels,
    /// Names that its containers give to ports. One name may stand for a port of each protocol.
    pub ports: BTreeSet<NamedPort>,
    /// A kubelet made it by itself (a mirror pod) and could have given it any label: no selector matches it.
    pub is_anonymous: bool,
}

/// A port that a container names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl NamedPort {
    /// Of a container's port, if it has a name and its protocol and number are some.
    pub fn read(port: &v1::ContainerPort) -> Option<Self> {
        Some(Self {
            name: port.name.clone()?,
            protocol: Protocol::by_name(port.protocol.as_deref().unwrap_or("TCP"))?,
            number: u16::try_from(port.container_port).ok()?,
        })
    }
}

/// The labels and names to which some policy refers. By nothing else identities differ for it, so that pods which
/// differ in what nobody asks for share one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Keys of pods' labels.
    pub labels: BTreeSet<String>,
    /// Keys of namespaces' labels.
    pub namespace_labels: BTreeSet<String>,
    /// Keys of ServiceAccounts' labels.
    pub service_account_labels: BTreeSet<String>,
    /// Keys of nodes' labels.
    pub node_labels: BTreeSet<String>,
    /// Namespaces by name: whose policies there are, and which policies name.
    pub namespaces: BTreeSet<String>,
    /// ServiceAccounts are told apart by name.
    pub service_accounts: BTreeSet<String>,
    /// Names of ports.
    pub ports: BTreeSet<String>,
}

impl Vocabulary {
    /// Each kind of them.
    pub(crate) fn names(&self) -> [&BTreeSet<String>; 7] {
        let Self {
            labels,
            namespace_labels,
            service_account_labels,
            node_labels,
            namespaces,
            service_accounts,
            ports,
        } = self;
        [
            labels,
            namespace_labels,
            service_account_labels,
            node_labels,
            namespaces,
            service_accounts,
            ports,
        ]
    }

    /// The same, in the same order.
    pub(crate) fn names_mut(&mut self) -> [&mut BTreeSet<String>; 7] {
        let Self {
            labels,
            namespace_labels,
            service_account_labels,
            node_labels,
            namespaces,
            service_accounts,
            ports,
        } = self;
        [
            labels,
            namespace_labels,
            service_account_labels,
            node_labels,
            namespaces,
            service_accounts,
            ports,
        ]
    }
}

impl Identity {
    /// What `vocabulary` can tell of it. Policies within the vocabulary judge it as they judge the whole.
    pub fn seen_by(&self, vocabulary: &Vocabulary) -> Self {
        let named = |name: &String, known: &BTreeSet<String>| match known.contains(name) {
            true => name.clone(),
            false => String::new(),
        };
        Self {
            namespace: named(&self.namespace, &vocabulary.namespaces),
            namespace_labels: only(&self.namespace_labels, &vocabulary.namespace_labels),
            labels: only(&self.labels, &vocabulary.labels),
            service_account: named(&self.service_account, &vocabulary.service_accounts),
            service_account_labels: only(&self.service_account_labels, &vocabulary.service_account_labels),
            ports: self
                .ports
                .iter()
                .filter(|port| vocabulary.ports.contains(&port.name))
                .cloned()
                .collect(),
            is_anonymous: self.is_anonymous,
        }
    }

    /// The numbers that a name stands for, each with its protocol.
    pub fn ports_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a NamedPort> {
        self.ports.iter().filter(move |port| port.name == name)
    }
}

fn only(labels: &Labels, keys: &BTreeSet<String>) -> Labels {
    let known = labels.iter().filter(|(key, _)| keys.contains(*key));
    known.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Namespaces, nodes and pods by name, as whoever asks has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Namespaces' labels, [`NAMESPACE_NAME`] among them.
    pub namespaces: BTreeMap<String, Labels>,
    /// Nodes.
    pub nodes: BTreeMap<String, Node>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<(String, String), Pod>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// What policies can tell it by.
    pub identity: Arc<Identity>,
    /// The node that it is on.
    pub node: Option<String>,
    /// It has its node's network and is the node for every policy.
    pub host_network: bool,
    /// It has ended, and owns no address any more.
    pub finished: bool,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}
