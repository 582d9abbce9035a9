//! The other side of a connection: who it is, and what rules say of it.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::dns_name::NamePattern;
use crate::identity::Identity;
use crate::selector::{Labels, Selector};

/// The other side of a connection, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<'a> {
    /// Who it is.
    pub who: Who<'a>,
    /// Its address; or the smallest of the [`crate::networks::Networks`] around it, which says as much. None for a pod that has
    /// no address yet, and where no network is around it.
    pub place: Option<IpNet>,
    /// DNS names that the address was learnt for, in lower case, without the dot at the end.
    pub names: BTreeSet<String>,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// A pod with an address of its own.
    Pod(&'a Identity),
    /// A node, and with it its pods on the host network; its labels.
    Node(&'a Labels),
    /// Nobody in the cluster.
    Outside,
    /// The cluster's, but nobody has said whose: a pod that is not known yet, say. Nothing that allows matches it but
    /// by address, and all that denies does.
    Unknown,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everybody, unknown ones and those outside too.
    All,
    /// Any of these; none match nobody.
    Any(Vec<Peer>),
}

/// One entry of a rule's peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods with an address of their own.
    Pods(PodPeer),
    /// Whoever has an address in one of these, pods too.
    Networks(Vec<Block>),
    /// Nodes by their labels.
    Nodes(Selector),
    /// Addresses that were learnt for one of these names.
    Names(Vec<NamePattern>),
}

/// Pods by namespace, labels and ServiceAccount; all of it has to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodPeer {
    /// Their namespaces.
    pub namespaces: Namespaces,
    /// Their labels.
    pub pods: Selector,
    /// Their ServiceAccounts; any where it is none.
    pub accounts: Option<Accounts>,
}

/// Which namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// The one with this name.
    Named(String),
    /// Those with such labels.
    Matching(Selector),
}

/// Which ServiceAccounts; those that are named, and those with such labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Accounts {
    /// By name.
    pub names: BTreeSet<String>,
    /// By label.
    pub labels: Option<Selector>,
}

/// A network without some of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The network.
    pub network: IpNet,
    /// What does not belong to it.
    pub except: Vec<IpNet>,
}

/// How an unknown one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// For a rule that allows: not as what is asked for.
    Excludes,
    /// For a rule that denies: as what is asked for.
    Includes,
}

impl Peers {
    /// Whether the other side is one of them.
    pub fn match_remote(&self, remote: &Remote, doubt: Doubt) -> bool {
        match self {
            Self::All => true,
            Self::Any(peers) => peers.iter().any(|peer| peer.matches(remote, doubt)),
        }
    }
}

impl Peer {
    fn matches(&self, remote: &Remote, doubt: Doubt) -> bool {
        match (self, remote.who) {
            (Self::Networks(blocks), _) => remote
                .place
                .is_some_and(|place| blocks.iter().any(|block| block.contains(place))),
            (Self::Names(patterns), _) => patterns
                .iter()
                .any(|pattern| remote.names.iter().any(|name| pattern.matches(name))),
            (Self::Pods(_) | Self::Nodes(_), Who::Unknown) => doubt == Doubt::Includes,
            (Self::Pods(peer), Who::Pod(identity)) => peer.matches(identity, doubt),
            (Self::Nodes(selector), Who::Node(labels)) => selector.matches(labels),
            (Self::Pods(_), Who::Node(_) | Who::Outside) | (Self::Nodes(_), Who::Pod(_) | Who::Outside) => {
                false
            }
        }
    }
}

impl PodPeer {
    /// Whether the pod is one of them. Of one that nobody vouches for no label counts.
    pub fn matches(&self, pod: &Identity, doubt: Doubt) -> bool {
        match pod.is_anonymous {
            true => doubt == Doubt::Includes,
            false => self.matches_known(pod),
        }
    }

    /// Whether a policy for these is about the pod: one that nobody vouches for is meant where all of a namespace are.
    pub fn selects(&self, pod: &Identity) -> bool {
        match pod.is_anonymous {
            true => self.has_namespace(pod) && self.pods == Selector::all() && self.accounts.is_none(),
            false => self.matches_known(pod),
        }
    }

    fn matches_known(&self, pod: &Identity) -> bool {
        let runs_as = || {
            self.accounts
                .as_ref()
                .is_none_or(|accounts| accounts.matches(pod))
        };
        self.has_namespace(pod) && self.pods.matches(&pod.labels) && runs_as()
    }

    fn has_namespace(&self, pod: &Identity) -> bool {
        self.namespaces.have(&pod.namespace, &pod.namespace_labels)
    }
}

impl Namespaces {
    /// Whether one with that name and these labels is one of them.
    pub(crate) fn have(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Self::Named(wanted) => wanted == name,
            Self::Matching(selector) => selector.matches(labels),
        }
    }
}

impl Accounts {
    fn matches(&self, pod: &Identity) -> bool {
        let labelled = |selector: &Selector| selector.matches(&pod.service_account_labels);
        self.names.contains(&pod.service_account) || self.labels.as_ref().is_some_and(labelled)
    }
}

impl Block {
    /// Whether it has all of a place; an IPv4 address is never in an IPv6 network.
    pub fn contains(&self, place: IpNet) -> bool {
        self.network.contains(&place) && !self.except.iter().any(|except| except.contains(&place))
    }
}
