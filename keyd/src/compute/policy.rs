//! What policies mean on this node: which addresses they tell apart, and what each pod may do with them.
//!
//! Stages: 1. each address gets a class, which is all that policies can tell of it; 2. each pod of this node gets the set of
//! policies that are about it; 3. for each set and class the ports are compiled to a verdict or a program. Classes, sets
//! and programs are numbered by their content, so that what a number stands for never changes under it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use hauberk_abi as abi;
use hauberk_policy::compile::{Column, Compiler, Program, ProgramId, SetId};
use hauberk_policy::distinctions::Distinctions;
use hauberk_policy::identity::{Identity, NAMESPACE_NAME, Vocabulary};
use hauberk_policy::judge::{Direction, Policies, Verdict};
use hauberk_policy::networks::Networks;
use hauberk_policy::peer::{Remote, Who};
use hauberk_policy::selector::Labels;
use ipnet::IpNet;

use crate::memory::Numbers;
use crate::snapshot::{Digest, ObjectName, PackedPod, Snapshot, Symbol};

/// Policies in force, and the classes by which the kernel knows addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    policies: Policies,
    pub(super) classes: Classes,
}

/// A step on the way from the rule that is in force to other policies.
pub(super) struct Step {
    policies: Policies,
    distinctions: Distinctions,
    /// It leads there.
    pub(super) is_last: bool,
}

impl Step {
    /// The next one. Addresses and pods get new numbers one by one, and in between each must be judged as before or as after.
    ///
    /// 1. Addresses are told apart by all that the old and the new policies ask for, and judged by the old ones.
    /// 2. Pods go over to the new ones.
    /// 3. What nobody asks for any more is no longer told apart.
    pub(super) fn next(before: Option<&Rule>, policies: Policies) -> Self {
        let wanted = Distinctions::of(&policies);
        let Some(before) = before else {
            return Self {
                policies,
                distinctions: wanted,
                is_last: true,
            };
        };
        let told_apart = &before.classes.distinctions;
        if !told_apart.include(&wanted) {
            Self {
                policies: before.policies.clone(),
                distinctions: wanted.and(told_apart),
                is_last: false,
            }
        } else if before.policies != policies {
            Self {
                policies,
                distinctions: told_apart.clone(),
                is_last: *told_apart == wanted,
            }
        } else {
            Self {
                policies,
                distinctions: wanted,
                is_last: true,
            }
        }
    }
}

/// Who has an address, as far as policies can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A pod.
    Pod(Arc<Identity>),
    /// A pod, where no policy asks who it is.
    Looks(Digest),
    /// A node, and its pods on the host's network.
    Node(Labels),
    /// Nobody in the cluster.
    Outside,
    /// The cluster's, and nobody has said whose.
    Unknown,
}

/// Addresses that all policies judge alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Class {
    holder: Holder,
    place: Option<IpNet>,
}

impl Class {
    fn remote(&self) -> Remote<'_> {
        let who = match &self.holder {
            Holder::Pod(identity) => Who::Pod(identity),
            Holder::Node(labels) => Who::Node(labels),
            Holder::Outside => Who::Outside,
            Holder::Unknown | Holder::Looks(_) => Who::Unknown,
        };
        Remote {
            who,
            place: self.place,
            names: Default::default(),
        }
    }
}

/// Numbers by content, and which of them are in use.
pub(super) struct Numbering<'m> {
    pub(super) numbers: &'m mut Numbers,
    in_use: HashSet<Digest>,
}

impl Numbering<'_> {
    fn number(&mut self, content: &impl Hash) -> u32 {
        self.number_of(Digest::of(content))
    }

    fn number_of(&mut self, digest: Digest) -> u32 {
        self.in_use.insert(digest);
        self.numbers.content(digest)
    }
}

/// The classes of addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Classes {
    distinctions: Distinctions,
    networks: Networks,
    numbers: HashMap<Class, u32>,
    /// No policy is enforced here: only pods have numbers, each that looks different one of its own.
    is_idle: bool,
}

impl Classes {
    /// As these tell addresses apart.
    fn new(distinctions: Distinctions, is_idle: bool) -> Self {
        Self {
            networks: distinctions.networks.iter().copied().collect(),
            distinctions,
            numbers: HashMap::new(),
            is_idle,
        }
    }

    /// The number of the class of an address, or of all in a prefix that nothing longer tells apart.
    fn number(&mut self, holder: Holder, at: IpNet, numbering: &mut Numbering) -> u32 {
        if self.is_idle {
            return match holder {
                Holder::Looks(looks) => numbering.number_of(looks),
                Holder::Pod(_) | Holder::Node(_) | Holder::Outside | Holder::Unknown => abi::IDENTITY_OUTSIDE,
            };
        }
        let class = self.class(holder, at);
        if class.holder == Holder::Outside && class.place.is_none() {
            return abi::IDENTITY_OUTSIDE;
        }
        if let Some(number) = self.numbers.get(&class) {
            return *number;
        }
        let number = numbering.number(&("class", &class));
        self.numbers.insert(class, number);
        number
    }

    /// The same of a pod whose class has its number already, or gets it now because nothing else depends on it.
    pub(super) fn follow(
        &self,
        pod: &PackedPod,
        at: IpNet,
        snapshot: &Snapshot,
        numbers: &mut Numbers,
    ) -> Option<u32> {
        match self.pod(pod, snapshot) {
            Holder::Looks(looks) => Some(numbers.content(looks)),
            holder => self.numbers.get(&self.class(holder, at)).copied(),
        }
    }

    fn class(&self, holder: Holder, at: IpNet) -> Class {
        Class {
            holder,
            place: self.networks.smallest_around(at),
        }
    }

    /// Networks at whose borders classes change, beside those of pods and nodes.
    pub(super) fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.distinctions.networks.iter().copied()
    }

    /// Whether it is one of those networks.
    pub(super) fn is_network(&self, at: IpNet) -> bool {
        self.distinctions.networks.contains(&at)
    }

    /// A node by its labels.
    pub(super) fn node(&self, node: &str, snapshot: &Snapshot) -> Holder {
        let labels = snapshot.nodes.get(node).map(|node| &node.labels);
        let labels = labels.into_iter().flatten();
        let known = labels.filter(|(key, _)| self.distinctions.vocabulary.node_labels.contains(*key));
        Holder::Node(known.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// A pod by what policies ask for.
    pub(super) fn pod(&self, pod: &PackedPod, snapshot: &Snapshot) -> Holder {
        match self.is_idle {
            true => Holder::Looks(pod.looks()),
            false => Holder::Pod(Arc::new(self.identity(pod, snapshot))),
        }
    }

    fn identity(&self, pod: &PackedPod, snapshot: &Snapshot) -> Identity {
        let Vocabulary {
            labels,
            namespace_labels,
            service_account_labels,
            namespaces,
            service_accounts,
            ports,
            ..
        } = &self.distinctions.vocabulary;
        let named = |symbol: &Symbol, wanted: &BTreeSet<String>| match wanted.is_empty() {
            true => String::new(),
            false => symbol.with(|text| wanted.get(text).cloned().unwrap_or_default()),
        };
        let account_labels = || {
            let name = ObjectName {
                namespace: pod.namespace().to_string(),
                name: pod.service_account().to_string(),
            };
            let account = snapshot.service_accounts.get(&name);
            account.map(|account| account.labels.clone()).unwrap_or_default()
        };
        let only = |all: Labels, wanted: &BTreeSet<String>| -> Labels {
            all.into_iter().filter(|(key, _)| wanted.contains(key)).collect()
        };
        Identity {
            namespace: named(pod.namespace(), namespaces),
            namespace_labels: match namespace_labels.is_empty() {
                true => Labels::new(),
                false => only(
                    labels_of(&pod.namespace().to_string(), snapshot),
                    namespace_labels,
                ),
            },
            labels: match labels.is_empty() {
                true => Labels::new(),
                false => {
                    let known = pod.labels().iter();
                    let known = known.map(|(key, value)| (key.to_string(), value.to_string()));
                    known.filter(|(key, _)| labels.contains(key)).collect()
                }
            },
            service_account: named(pod.service_account(), service_accounts),
            service_account_labels: match service_account_labels.is_empty() {
                true => Labels::new(),
                false => only(account_labels(), service_account_labels),
            },
            ports: match ports.is_empty() {
                true => Default::default(),
                false => pod.ports().filter(|port| ports.contains(&port.name)).collect(),
            },
            is_anonymous: pod.is_anonymous(),
        }
    }
}

/// A namespace's labels; the API server gives each its name as one.
fn labels_of(namespace: &str, snapshot: &Snapshot) -> Labels {
    let known = snapshot.namespaces.get(namespace);
    let mut labels = known.map(|known| known.labels.clone()).unwrap_or_default();
    labels.insert(NAMESPACE_NAME.to_owned(), namespace.to_owned());
    labels
}

/// What every set may do with each of these classes. A set's number stands for what it says of all other classes too.
fn compile(
    compiler: &mut Compiler,
    sets: &BTreeSet<SetId>,
    known: &BTreeMap<u32, &Class>,
    numbering: &mut Numbering,
) -> Tables {
    let mut tables = Tables::default();
    let mut programs = HashMap::new();
    for id in sets {
        let mut found = |direction| -> Vec<(u32, ProgramId)> {
            let mut of = |class: &Class| compiler.program(*id, direction, &class.remote());
            known.iter().map(|(number, class)| (*number, of(class))).collect()
        };
        let sides = [
            (abi::DIR_INGRESS, found(Direction::Ingress)),
            (abi::DIR_EGRESS, found(Direction::Egress)),
        ];
        let others = sides.each_ref().map(|(_, found)| most_common(found));
        let others_say = others.map(|program| &compiler.programs()[program.0 as usize]);
        let set = numbering.number(&("set", compiler.members(*id), others_say));
        tables.sets.insert(*id, set);
        for ((direction, found), others) in sides.into_iter().zip(others) {
            let rows = found.into_iter().filter(|(_, program)| *program != others);
            for (remote, program) in rows.chain([(abi::IDENTITY_ANY, others)]) {
                let verdict = programs
                    .entry(program)
                    .or_insert_with(|| tables.add(&compiler.programs()[program.0 as usize], numbering));
                let key = abi::VerdictKey {
                    set,
                    remote,
                    direction,
                };
                tables.verdicts.insert(key, *verdict);
            }
        }
    }
    tables
}

/// That of most, of those the first.
fn most_common(found: &[(u32, ProgramId)]) -> ProgramId {
    let mut counts = BTreeMap::<ProgramId, usize>::new();
    for (_, program) in found {
        *counts.entry(*program).or_default() += 1;
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.expect("what is outside is a class too").0
}

/// What is asked while addresses and pods are gone through.
pub(super) struct Policing<'p, 'm> {
    pub(super) classes: Classes,
    pub(super) numbering: Numbering<'m>,
    policies: &'p Policies,
    compiler: Compiler<'p>,
    sets: BTreeSet<SetId>,
}

impl<'p, 'm> Policing<'p, 'm> {
    /// `is_idle` where no policy is enforced.
    pub(super) fn new(step: &'p Step, is_idle: bool, numbers: &'m mut Numbers) -> Self {
        Self {
            classes: Classes::new(step.distinctions.clone(), is_idle),
            numbering: Numbering {
                numbers,
                in_use: HashSet::new(),
            },
            policies: &step.policies,
            compiler: Compiler::new(&step.policies, false),
            sets: BTreeSet::new(),
        }
    }

    /// The number of the class of an address, or of all in a prefix that nothing longer tells apart.
    pub(super) fn number(&mut self, holder: Holder, at: IpNet) -> u32 {
        self.classes.number(holder, at, &mut self.numbering)
    }

    /// A pod of this node, and its set.
    pub(super) fn pod(&mut self, pod: &PackedPod, snapshot: &Snapshot) -> (Holder, Option<SetId>) {
        let set = self.set(&self.classes.identity(pod, snapshot));
        (self.classes.pod(pod, snapshot), Some(set))
    }

    /// A pod of this node that the API does not show yet. Nobody can tell which policies are meant for it, so it has to wait
    /// where there is any that could be.
    pub(super) fn unseen(&mut self, namespace: &str, snapshot: &Snapshot) -> (Holder, Option<SetId>) {
        let labels = labels_of(namespace, snapshot);
        let waits = self.compiler.could_select(namespace, &labels);
        let set = (!waits).then(|| self.set(&Identity::default()));
        (Holder::Unknown, set)
    }

    fn set(&mut self, pod: &Identity) -> SetId {
        let set = self.compiler.set(pod);
        self.sets.insert(set);
        set
    }

    /// The tables, for the classes of now and for those that the kernel knows addresses by before that; numbers that nothing
    /// asked for are forgotten.
    pub(super) fn finish(mut self, before: Option<&Rule>) -> (Rule, Tables) {
        let outside = Class {
            holder: Holder::Outside,
            place: None,
        };
        let before = before.into_iter().flat_map(|before| &before.classes.numbers);
        let known = before.chain(&self.classes.numbers);
        let known = known.map(|(class, number)| (*number, class));
        let known = known.chain([(abi::IDENTITY_OUTSIDE, &outside)]).collect();
        let tables = compile(&mut self.compiler, &self.sets, &known, &mut self.numbering);
        self.numbering.numbers.retain_contents(&self.numbering.in_use);
        let rule = Rule {
            policies: self.policies.clone(),
            classes: self.classes,
        };
        (rule, tables)
    }
}

/// What the kernel is told.
#[derive(Default)]
pub(super) struct Tables {
    sets: HashMap<SetId, u32>,
    pub(super) verdicts: BTreeMap<abi::VerdictKey, u32>,
    pub(super) ports: BTreeMap<(abi::PortKey, u8), u32>,
}

impl Tables {
    /// The pods' entries by the sets that they have; one without is closed.
    pub(super) fn pods(&self, pods: &BTreeMap<u32, Option<SetId>>) -> BTreeMap<u32, abi::Pod> {
        let number = |set: &Option<SetId>| set.map_or(abi::SET_CLOSED, |set| self.sets[&set]);
        pods.iter()
            .map(|(interface, set)| (*interface, abi::Pod { set: number(set) }))
            .collect()
    }

    /// Adds a program; answers what stands for it among the verdicts.
    fn add(&mut self, program: &Program, numbering: &mut Numbering) -> u32 {
        if let Some(verdict) = program.constant() {
            return number_of(verdict);
        }
        let number = numbering.number(&("program", program));
        for (column, port, length, verdict) in program.prefixes() {
            let column = match column {
                Column::Tcp => abi::COLUMN_TCP,
                Column::Udp => abi::COLUMN_UDP,
                Column::Sctp => abi::COLUMN_SCTP,
                Column::Other => abi::COLUMN_OTHER,
            };
            let length = abi::PORT_PREFIX as u8 + length;
            self.ports
                .insert((abi::port_key(number, column, port), length), number_of(verdict));
        }
        number
    }
}

fn number_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => abi::VERDICT_ALLOW,
        Verdict::Deny => abi::VERDICT_DENY,
    }
}
