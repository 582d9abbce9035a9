//! Policies of every kind in one form, with nothing left to parse.

use std::fmt;

use crate::judge::Direction;
use crate::peer::{Doubt, Peers, PodPeer};
use crate::ports::Ports;

/// An object that says who may talk to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The object.
    pub origin: Origin,
    /// Where it stands among the others.
    pub tier: Tier,
    /// Only told, not enforced.
    pub staged: bool,
    /// The pods that it is about.
    pub subject: PodPeer,
    /// What it says of connections to them.
    pub ingress: Side,
    /// What it says of connections from them.
    pub egress: Side,
}

/// What a policy says of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Side {
    /// What no rule of the tier allows is denied. Always false outside [`Tier::Namespaced`].
    pub isolates: bool,
    /// In the order written.
    pub rules: Vec<Rule>,
}

/// What happens to the connections that it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where it stands in its object, as `ingress[0]`, and its name if it has one.
    pub place: String,
    /// What happens.
    pub action: Action,
    /// The other side.
    pub peers: Peers,
    /// The destination's port.
    pub ports: Ports,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let through; no later rule is asked.
    Accept,
    /// Dropped; no later rule is asked.
    Deny,
    /// The rest of the tier is skipped.
    Pass,
}

impl Policy {
    /// What it says of a direction.
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Action {
    /// How somebody who is not known counts for a rule that does this.
    pub fn doubt(self) -> Doubt {
        match self {
            Self::Accept => Doubt::Excludes,
            // What it skips may be what denies.
            Self::Pass => Doubt::Excludes,
            Self::Deny => Doubt::Includes,
        }
    }
}

/// Tiers are asked in this order; policies of one by their priority, then by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// ClusterNetworkPolicy of tier Admin, the lowest number first.
    Admin(i32),
    /// NetworkPolicy and MeshPolicy. Of its rules one that denies goes before those that accept.
    Namespaced,
    /// ClusterNetworkPolicy of tier Baseline, the lowest number first.
    Baseline(i32),
}

/// Which object something comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for a kind without.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        match namespace.as_str() {
            "" => write!(f, "{kind} {name}"),
            namespace => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

/// Something in an object that means nothing, or not what was meant. What it is part of never opens anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub origin: Origin,
    /// The field, as `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    /// What is wrong, and what comes of it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.field, self.what)
    }
}
