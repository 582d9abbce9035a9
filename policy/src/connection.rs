//! A whole connection: who it is from and to, judged on both sides and by address family.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::identity::{Node, Pod};
use crate::judge::{Decision, Direction, Verdict};
use crate::peer::{Remote, Who};
use crate::ports::Traffic;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// One end of a connection, as asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A pod by namespace and name.
    Pod(String, String),
    /// Whoever has an address.
    Address(IpAddr),
    /// Whatever has addresses under a DNS name, in lower case.
    Name(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(namespace, name) => write!(f, "{namespace}/{name}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why nothing can be said of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// No such pod.
    #[error("there is no pod {0}")]
    NoPod(End),
    /// It owns no address.
    #[error("pod {0} has ended and has no address any more")]
    Finished(End),
    /// Nothing comes from a name.
    #[error("{0} is a name; connections come from pods and addresses")]
    FromName(End),
    /// One has IPv4 addresses only and the other IPv6 ones.
    #[error("{0} and {1} have no address family in common")]
    NoFamily(End, End),
}

/// What happens to a connection of one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// By the policies of the pod that it comes from; none where that is no pod with an address of its own.
    pub egress: Option<Decision<'a>>,
    /// By those of the pod that it goes to.
    pub ingress: Option<Decision<'a>>,
}

impl Outcome<'_> {
    /// Both sides have to allow.
    pub fn verdict(&self) -> Verdict {
        let sides = [&self.egress, &self.ingress];
        let denied = |side: &&Option<Decision>| {
            side.as_ref()
                .is_some_and(|decision| decision.verdict == Verdict::Deny)
        };
        match sides.iter().any(denied) {
            true => Verdict::Deny,
            false => Verdict::Allow,
        }
    }
}

/// Who is at an end.
#[derive(Clone, Copy)]
enum Found<'a> {
    Pod(&'a Pod),
    Node(&'a str, &'a Node),
    Outside,
}

impl Cluster {
    /// Judges a connection in each address family that both ends have. Where neither has an address yet, as in
    /// manifests that were never applied, both are judged, and no network matches.
    pub fn connection(
        &self,
        from: &End,
        to: &End,
        traffic: Traffic,
        staged: bool,
    ) -> Result<Vec<(Family, Outcome<'_>)>, EndError> {
        if let End::Name(_) = from {
            return Err(EndError::FromName(from.clone()));
        }
        let (source, target) = (self.find(from)?, self.find(to)?);
        let (here, there) = (addresses(from, source), addresses(to, target));
        let mut outcomes = Vec::new();
        for family in Family::ALL {
            let of_family = |known: &Option<Vec<IpAddr>>| match known {
                None => Some(None),
                Some(all) => {
                    let address = all.iter().copied().find(|address| Family::of(*address) == family);
                    address.map(Some)
                }
            };
            if let (Some(here), Some(there)) = (of_family(&here), of_family(&there)) {
                let names = |end: &End| match end {
                    End::Name(name) => BTreeSet::from([name.clone()]),
                    End::Pod(..) | End::Address(_) => BTreeSet::new(),
                };
                let judge =
                    |pod: Found, direction, remote: Found, address: Option<IpAddr>, end: &End| match pod {
                        Found::Pod(pod) if !pod.host_network && !is_exempt(direction, pod, remote) => {
                            let remote = Remote {
                                who: self.who(remote),
                                place: address.map(IpNet::from),
                                names: names(end),
                            };
                            Some(
                                self.policies
                                    .judge(&pod.identity, direction, &remote, traffic, staged),
                            )
                        }
                        _ => None,
                    };
                let outcome = Outcome {
                    egress: judge(source, Direction::Egress, target, there, to),
                    ingress: judge(target, Direction::Ingress, source, here, from),
                };
                outcomes.push((family, outcome));
            }
        }
        match outcomes.is_empty() {
            true => Err(EndError::NoFamily(from.clone(), to.clone())),
            false => Ok(outcomes),
        }
    }

    fn find(&self, end: &End) -> Result<Found<'_>, EndError> {
        match end {
            End::Pod(namespace, name) => {
                let pod = self.world.pods.get(&(namespace.clone(), name.clone()));
                let pod = pod.ok_or_else(|| EndError::NoPod(end.clone()))?;
                match pod.finished {
                    true => Err(EndError::Finished(end.clone())),
                    false => Ok(Found::Pod(pod)),
                }
            }
            End::Address(address) => Ok(self.holder(*address)),
            End::Name(_) => Ok(Found::Outside),
        }
    }

    fn holder(&self, address: IpAddr) -> Found<'_> {
        let mut nodes = self.world.nodes.iter();
        let node = nodes.find(|(_, node)| node.addresses.contains(&address));
        let pods = || self.world.pods.values();
        let owns = |pod: &&Pod| !pod.host_network && !pod.finished && pod.addresses.contains(&address);
        node.map(|(name, node)| Found::Node(name, node))
            .or_else(|| pods().find(owns).map(Found::Pod))
            .unwrap_or(Found::Outside)
    }

    fn who<'a>(&'a self, found: Found<'a>) -> Who<'a> {
        match found {
            Found::Pod(pod) if pod.host_network => {
                let node = pod.node.as_ref().and_then(|node| self.world.nodes.get(node));
                node.map_or(Who::Unknown, |node| Who::Node(&node.labels))
            }
            Found::Pod(pod) => Who::Pod(&pod.identity),
            Found::Node(_, node) => Who::Node(&node.labels),
            Found::Outside => Who::Outside,
        }
    }
}

/// A pod reaches itself, and its own node reaches it, whatever policies say (kubernetes.io, concepts of NetworkPolicy):
/// the kubelet's probes come from there.
fn is_exempt(direction: Direction, pod: &Pod, remote: Found) -> bool {
    match remote {
        Found::Pod(other) if std::ptr::eq(pod, other) => true,
        Found::Pod(other) if other.host_network => {
            direction == Direction::Ingress && other.node.is_some() && other.node == pod.node
        }
        Found::Node(name, _) => direction == Direction::Ingress && pod.node.as_deref() == Some(name),
        Found::Pod(_) | Found::Outside => false,
    }
}

/// The addresses of an end; none where they are not known, which is no address at all.
fn addresses(end: &End, found: Found) -> Option<Vec<IpAddr>> {
    match (end, found) {
        (End::Address(address), _) => Some(vec![*address]),
        (_, Found::Pod(pod)) => (!pod.addresses.is_empty()).then(|| pod.addresses.clone()),
        _ => None,
    }
}
