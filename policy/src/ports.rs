//! Protocols and ports: what a packet has, and what a rule asks for.

use std::collections::BTreeSet;

use crate::identity::Identity;

/// A protocol above IP. Those without ports are known by their number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
    /// Any other, by its number: 1 is ICMP, 58 ICMPv6.
    Other(u8),
}

impl Protocol {
    /// Those that have ports.
    pub const WITH_PORTS: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number in an IP header, <https://www.iana.org/assignments/protocol-numbers>.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }

    /// As Kubernetes names those that have ports.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::WITH_PORTS
            .into_iter()
            .find(|protocol| protocol.to_string() == name)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp => f.write_str("UDP"),
            Self::Sctp => f.write_str("SCTP"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// What is judged: the protocol, and the destination's port where it has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traffic {
    /// The protocol.
    pub protocol: Protocol,
    /// The destination's port; 0 where the protocol has none.
    pub port: u16,
}

/// What a rule says of ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// All traffic, of protocols without ports too.
    All,
    /// Any of these; none match nothing.
    Any(BTreeSet<PortMatch>),
}

/// One entry of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// Ports of a protocol, both ends included.
    Range(Protocol, u16, u16),
    /// The ports that the destination's containers give this name; of one protocol only, if one is said.
    Named(Option<Protocol>, String),
}

/// Ports from one number to another, both included, of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The protocol.
    pub protocol: Protocol,
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    /// Whether the traffic is to one of them. `destination` says what names stand for; nothing does where it is no pod.
    pub fn matches(&self, traffic: Traffic, destination: Option<&Identity>) -> bool {
        match self {
            Self::All => true,
            Self::Any(_) => self.ranges(destination).any(|range| range.contains(traffic)),
        }
    }

    /// What its entries stand for at a destination; none where it is all traffic.
    pub fn ranges(&self, destination: Option<&Identity>) -> impl Iterator<Item = PortRange> {
        let matches = match self {
            Self::All => None,
            Self::Any(matches) => Some(matches),
        };
        let ranges = move |one: &PortMatch| one.ranges(destination);
        matches.into_iter().flatten().flat_map(ranges)
    }

    /// Names that have to be looked up at the destination.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let matches = match self {
            Self::All => None,
            Self::Any(matches) => Some(matches),
        };
        matches.into_iter().flatten().filter_map(|one| match one {
            PortMatch::Named(_, name) => Some(name.as_str()),
            PortMatch::Protocol(_) | PortMatch::Range(..) => None,
        })
    }
}

impl PortMatch {
    /// What it stands for at a destination.
    pub fn ranges(&self, destination: Option<&Identity>) -> Vec<PortRange> {
        let range = |protocol, first, last| PortRange {
            protocol,
            first,
            last,
        };
        match self {
            Self::Protocol(protocol) => vec![range(*protocol, 0, u16::MAX)],
            Self::Range(protocol, first, last) => vec![range(*protocol, *first, *last)],
            Self::Named(protocol, name) => {
                let named = destination.into_iter().flat_map(|pod| pod.ports_named(name));
                named
                    .filter(|port| protocol.is_none_or(|wanted| wanted == port.protocol))
                    .map(|port| range(port.protocol, port.number, port.number))
                    .collect()
            }
        }
    }
}

impl PortRange {
    fn contains(&self, traffic: Traffic) -> bool {
        self.protocol == traffic.protocol && (self.first..=self.last).contains(&traffic.port)
    }
}
