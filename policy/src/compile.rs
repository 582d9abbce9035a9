//! What the kernel is told: tables in which a verdict is found in a few steps, however many policies there are.
//!
//! Stages: 1. pods that the same policies are about, and whose ports have the same names, share a set; 2. for a set, a
//! direction and a remote the rules that match the remote are found, and painted over the ports in their order: that is
//! a [`Program`], and remotes that the same rules match share it; 3. a program's ranges become prefixes of ports
//! ([`Program::prefixes`]), at most 30 to a range.
//!
//! A pod that comes costs what its set's rules are, not the number of policies; one with an identity that is known costs
//! nothing here.

use std::collections::{BTreeSet, HashMap};

use crate::identity::{Identity, NamedPort, Vocabulary};
use crate::judge::{Direction, Policies, Verdict};
pub use crate::paint::Column;
use crate::paint::Painting;
use crate::peer::{Accounts, Namespaces, Peer, Peers, PodPeer, Remote, Who};
use crate::policy::{Action, Policy, Rule, Tier};
use crate::ports::Traffic;
use crate::selector::Labels;
use crate::subjects::Subjects;

/// Number of a set of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

/// Number of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId(pub u32);

/// The verdict of every port, of one set, direction and kind of remote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program(Vec<(Column, u16, u16, Verdict)>);

impl Program {
    /// Looks up as the kernel does.
    pub fn verdict(&self, traffic: Traffic) -> Verdict {
        let (column, port) = place(traffic);
        let found = self
            .0
            .iter()
            .find(|(of, first, last, _)| *of == column && (*first..=*last).contains(&port));
        found.map_or(Verdict::Deny, |(_, _, _, verdict)| *verdict)
    }

    /// The verdict that all ports have, if there is one.
    pub fn constant(&self) -> Option<Verdict> {
        let (_, _, _, first) = self.0.first()?;
        self.0
            .iter()
            .all(|(_, _, _, verdict)| verdict == first)
            .then_some(*first)
    }

    /// As keys of a prefix trie: column, port, length of the prefix in bits, verdict. No two overlap.
    pub fn prefixes(&self) -> impl Iterator<Item = (Column, u16, u8, Verdict)> {
        self.0.iter().flat_map(|(column, first, last, verdict)| {
            prefixes(*first, *last)
                .into_iter()
                .map(|(port, length)| (*column, port, length, *verdict))
        })
    }
}

fn place(traffic: Traffic) -> (Column, u16) {
    match Column::of(traffic.protocol) {
        Column::Other => (Column::Other, 0),
        column => (column, traffic.port),
    }
}

/// The fewest prefixes that are a range of ports together.
fn prefixes(first: u16, last: u16) -> Vec<(u16, u8)> {
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut found = Vec::new();
    while at <= end {
        let aligned = if at == 0 { 1 << 16 } else { at & at.wrapping_neg() };
        let mut size = aligned;
        while at + size - 1 > end {
            size /= 2;
        }
        found.push((at as u16, 16 - size.trailing_zeros() as u8));
        at += size;
    }
    found
}

/// Compiles for the pods of one node, and remembers what it compiled.
#[derive(Debug)]
pub struct Compiler<'p> {
    policies: Vec<&'p Policy>,
    subjects: Subjects,
    sets: HashMap<(Vec<usize>, BTreeSet<NamedPort>), SetId>,
    /// By number.
    members: Vec<(Vec<usize>, BTreeSet<NamedPort>)>,
    painted: HashMap<Matched, ProgramId>,
    numbers: HashMap<Program, ProgramId>,
    programs: Vec<Program>,
}

/// Which of a set's rules match a remote, and which ports the names in them stand for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Matched {
    set: SetId,
    direction: Direction,
    rules: Vec<bool>,
    ports: BTreeSet<NamedPort>,
}

impl<'p> Compiler<'p> {
    /// For these policies; staged ones only with `staged`.
    pub fn new(policies: &'p Policies, staged: bool) -> Self {
        let policies: Vec<_> = policies
            .iter()
            .filter(|policy| staged || !policy.staged)
            .collect();
        Self {
            subjects: Subjects::new(&policies),
            policies,
            sets: HashMap::new(),
            members: Vec::new(),
            painted: HashMap::new(),
            numbers: HashMap::new(),
            programs: Vec::new(),
        }
    }

    /// The set of policies that are about a pod.
    pub fn set(&mut self, pod: &Identity) -> SetId {
        let mut about = self.subjects.candidates(pod);
        about.retain(|&number| self.policies[number].subject.selects(pod));
        let rules = about
            .iter()
            .flat_map(|&number| &self.policies[number].ingress.rules);
        let named = ports_of(pod, rules);
        let next = SetId(self.members.len() as u32);
        let key = (about, named);
        let set = *self.sets.entry(key.clone()).or_insert(next);
        if set == next {
            self.members.push(key);
        }
        set
    }

    /// What a set is made of: the policies in it, and the ports that their names stand for. The same for the same set, whatever
    /// its number.
    pub fn members(&self, set: SetId) -> (Vec<&'p Policy>, &BTreeSet<NamedPort>) {
        let (about, ports) = &self.members[set.0 as usize];
        (about.iter().map(|&number| self.policies[number]).collect(), ports)
    }

    /// Whether a policy might be about a pod of a namespace, of which nothing else is known.
    pub fn could_select(&self, namespace: &str, labels: &Labels) -> bool {
        let mut subjects = self.policies.iter().map(|policy| &policy.subject.namespaces);
        subjects.any(|namespaces| namespaces.have(namespace, labels))
    }

    /// What happens between a set's pods and a remote.
    pub fn program(&mut self, set: SetId, direction: Direction, remote: &Remote) -> ProgramId {
        let (about, own_ports) = &self.members[set.0 as usize];
        let rules = || {
            about
                .iter()
                .flat_map(|&number| &self.policies[number].side(direction).rules)
        };
        let matches = |rule: &Rule| rule.peers.match_remote(remote, rule.action.doubt());
        let matched: Vec<bool> = rules().map(matches).collect();
        let ports = match (direction, remote.who) {
            (Direction::Ingress, _) => own_ports.clone(),
            (Direction::Egress, Who::Pod(pod)) => {
                let matching = rules().zip(&matched).filter(|(_, matches)| **matches);
                ports_of(pod, matching.map(|(rule, _)| rule))
            }
            (Direction::Egress, _) => BTreeSet::new(),
        };
        let key = Matched {
            set,
            direction,
            rules: matched,
            ports,
        };
        if let Some(known) = self.painted.get(&key) {
            return *known;
        }
        let program = self.paint(&key);
        let next = ProgramId(self.programs.len() as u32);
        let id = *self.numbers.entry(program.clone()).or_insert(next);
        if id == next {
            self.programs.push(program);
        }
        self.painted.insert(key, id);
        id
    }

    /// The programs so far, by number.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    fn paint(&self, matched: &Matched) -> Program {
        let (about, _) = &self.members[matched.set.0 as usize];
        // What names stand for: a destination that has just those ports.
        let destination = Identity {
            ports: matched.ports.clone(),
            ..Identity::default()
        };
        let policies = || about.iter().map(|&number| self.policies[number]);
        let rules = policies()
            .flat_map(|policy| {
                policy
                    .side(matched.direction)
                    .rules
                    .iter()
                    .map(|rule| (policy.tier, rule))
            })
            .zip(&matched.rules)
            .filter(|(_, matches)| **matches)
            .map(|(of, _)| of);
        let rules: Vec<(Tier, &Rule)> = rules.collect();
        let mut verdicts = Painting::new();
        let in_order = |is_its: fn(Tier) -> bool, verdicts: &mut Painting<Verdict>| {
            let mut tier = Painting::new();
            for (_, rule) in rules.iter().filter(|(tier, _)| is_its(*tier)) {
                tier.fill_ports(&rule.ports, rule.ports.ranges(Some(&destination)), rule.action);
            }
            for (column, first, last, action) in tier.strips() {
                match action {
                    Action::Accept => verdicts.fill(column, first, last, Verdict::Allow),
                    Action::Deny => verdicts.fill(column, first, last, Verdict::Deny),
                    Action::Pass => {}
                }
            }
        };
        in_order(|tier| matches!(tier, Tier::Admin(_)), &mut verdicts);
        for (action, verdict) in [(Action::Deny, Verdict::Deny), (Action::Accept, Verdict::Allow)] {
            let its = rules
                .iter()
                .filter(|(tier, rule)| *tier == Tier::Namespaced && rule.action == action);
            for (_, rule) in its {
                verdicts.fill_ports(&rule.ports, rule.ports.ranges(Some(&destination)), verdict);
            }
        }
        if policies().any(|policy| policy.side(matched.direction).isolates) {
            verdicts.fill_all(Verdict::Deny);
        }
        in_order(|tier| matches!(tier, Tier::Baseline(_)), &mut verdicts);
        verdicts.fill_all(Verdict::Allow);
        Program(verdicts.strips())
    }
}

/// Those of a pod's named ports that rules ask for.
fn ports_of<'r>(pod: &Identity, rules: impl Iterator<Item = &'r Rule>) -> BTreeSet<NamedPort> {
    let names: BTreeSet<&str> = rules.flat_map(|rule| rule.ports.names()).collect();
    let asked = pod.ports.iter().filter(|port| names.contains(port.name.as_str()));
    asked.cloned().collect()
}

impl Policies {
    /// What they can tell pods apart by.
    pub fn vocabulary(&self) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for policy in self.iter() {
            vocabulary.add_pods(&policy.subject);
            for rule in policy.ingress.rules.iter().chain(&policy.egress.rules) {
                vocabulary.ports.extend(rule.ports.names().map(str::to_owned));
                let Peers::Any(peers) = &rule.peers else { continue };
                for peer in peers {
                    match peer {
                        Peer::Pods(pods) => vocabulary.add_pods(pods),
                        Peer::Nodes(nodes) => vocabulary.node_labels.extend(nodes.keys().map(str::to_owned)),
                        Peer::Networks(_) | Peer::Names(_) => {}
                    }
                }
            }
        }
        vocabulary
    }
}

impl Vocabulary {
    fn add_pods(&mut self, pods: &PodPeer) {
        match &pods.namespaces {
            Namespaces::Named(name) => drop(self.namespaces.insert(name.clone())),
            Namespaces::Matching(selector) => {
                self.namespace_labels.extend(selector.keys().map(str::to_owned));
            }
        }
        self.labels.extend(pods.pods.keys().map(str::to_owned));
        let Some(Accounts { names, labels }) = &pods.accounts else {
            return;
        };
        self.service_accounts.extend(names.iter().cloned());
        let keys = labels.iter().flat_map(|selector| selector.keys());
        self.service_account_labels.extend(keys.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prefixes_are_just_the_range_and_at_most_thirty(first in any::<u16>(), last in any::<u16>()) {
            let (first, last) = (first.min(last), first.max(last));
            let found = prefixes(first, last);
            prop_assert!(found.len() <= 30);
            let mut next = u32::from(first);
            for (port, length) in found {
                let size = 1 << (16 - length);
                prop_assert_eq!(u32::from(port), next);
                prop_assert_eq!(next % size, 0, "a prefix begins at a multiple of its size");
                next += size;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
        }
    }

    #[test]
    fn all_ports_are_one_prefix_and_one_port_is_one() {
        assert_eq!(prefixes(0, u16::MAX), [(0, 0)]);
        assert_eq!(prefixes(443, 443), [(443, 16)]);
        assert_eq!(prefixes(u16::MAX, u16::MAX), [(u16::MAX, 16)]);
    }
}
