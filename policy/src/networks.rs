//! The networks that policies speak of: by nothing else addresses differ for them.

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixSet;

use crate::judge::Policies;
use crate::peer::{Peer, Peers};

/// Networks, and parts that rules take out of them. Addresses with the same longest match are judged the same, as far as
/// networks go: so a table of prefixes tells them apart, and an address in none of them is in no network of any rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks(JointPrefixSet<IpNet>);

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Networks {
    /// Those of all rules.
    pub fn of(policies: &Policies) -> Self {
        let sides = policies
            .iter()
            .flat_map(|policy| [&policy.ingress, &policy.egress]);
        let peers = sides
            .flat_map(|side| &side.rules)
            .flat_map(|rule| match &rule.peers {
                Peers::All => &[][..],
                Peers::Any(peers) => peers,
            });
        let blocks = peers.flat_map(|peer| match peer {
            Peer::Networks(blocks) => &blocks[..],
            Peer::Pods(_) | Peer::Nodes(_) | Peer::Names(_) => &[],
        });
        let networks = blocks.flat_map(|block| block.except.iter().chain([&block.network]));
        Self(networks.copied().collect())
    }

    /// The smallest that has all of a place.
    pub fn smallest_around(&self, place: IpNet) -> Option<IpNet> {
        self.0.get_lpm(&place)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter()
    }
}
