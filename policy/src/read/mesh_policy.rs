//! `MeshPolicy` of hauberk.dev/v1alpha1, with the `NetworkSet`s that it selects.

use std::collections::BTreeMap;

use hauberk_api::{MeshAction, MeshPeer, MeshPolicy, NetworkSet, PolicyType, ServiceAccounts};
use k8s_openapi::api::networking::v1::NetworkPolicyPort;

use super::network_policy::ports;
use super::{Nonsense, Read, Reader, all_or_known};
use crate::dns_name::NamePattern;
use crate::judge::Direction;
use crate::peer::{Accounts, Block, Namespaces, Peer, Peers, PodPeer};
use crate::policy::{Action, Policy, Problem, Rule, Side, Tier};
use crate::ports::Ports;
use crate::selector::{Labels, Selector};
use crate::validity::{Validity, Word};

/// What a clock says.
pub use crate::validity::Clock;

/// NetworkSets, read, with the labels by which they are selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSets {
    sets: Vec<Set>,
    /// What of them means nothing.
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    namespace: String,
    labels: Labels,
    networks: Result<Vec<Block>, ()>,
    names: Result<Vec<NamePattern>, ()>,
}

impl NetworkSets {
    /// Reads all of a cluster.
    pub fn new<'a>(objects: impl IntoIterator<Item = &'a NetworkSet>) -> Self {
        let mut all = Self::default();
        for object in objects {
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let mut reader = Reader::new("NetworkSet", namespace, name);
            let networks = reader.networks("spec.cidrs", &object.spec.cidrs);
            let names = object.spec.dns_names.iter().enumerate().map(|(number, text)| {
                NamePattern::parse(text)
                    .map_err(|error| reader.note(&format!("spec.dnsNames[{number}]"), error))
            });
            let names: Vec<Result<_, Nonsense>> = names.collect();
            all.sets.push(Set {
                namespace: namespace.to_owned(),
                labels: object.metadata.labels.clone().unwrap_or_default(),
                networks: networks.map_err(|Nonsense| ()),
                names: names.into_iter().collect::<Result<_, _>>().map_err(|Nonsense| ()),
            });
            all.problems.extend(reader.problems);
        }
        all
    }

    fn selected<'a>(
        &'a self,
        namespaces: &'a Namespaces,
        labels_of: &'a BTreeMap<String, Labels>,
        selector: &'a Selector,
    ) -> impl Iterator<Item = &'a Set> {
        self.sets.iter().filter(move |set| {
            let is_in = match namespaces {
                Namespaces::Named(name) => *name == set.namespace,
                Namespaces::Matching(selector) => labels_of
                    .get(&set.namespace)
                    .is_some_and(|labels| selector.matches(labels)),
            };
            is_in && selector.matches(&set.labels)
        })
    }
}

/// Reads one, as it holds at the time of `clock`. `namespaces` has the labels of namespaces by name.
///
/// It isolates a direction that its `policyTypes` say; without them each in which a rule allows, and ingress if there are
/// no rules. One with a validity isolates nothing, since what it closed its end would open.
pub fn mesh_policy(
    object: &MeshPolicy,
    sets: &NetworkSets,
    namespaces: &BTreeMap<String, Labels>,
    clock: Clock,
) -> Read {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut reader = Reader::new("MeshPolicy", namespace, name);
    let spec = &object.spec;
    let mut understood = true;
    let selector = reader.subject("spec.podSelector", spec.pod_selector.as_ref());
    let accounts = spec.service_accounts.as_ref();
    let accounts = accounts.map(|named| self::accounts(&mut reader, "spec.serviceAccounts", named));
    let subject = match (selector, accounts.transpose()) {
        (Ok(pods), Ok(accounts)) => PodPeer {
            namespaces: Namespaces::Named(namespace.to_owned()),
            pods,
            accounts,
        },
        _ => {
            understood = false;
            PodPeer {
                namespaces: Namespaces::Named(namespace.to_owned()),
                pods: Selector::all(),
                accounts: None,
            }
        }
    };
    let context = Context {
        namespace,
        sets,
        namespaces,
    };
    let ingress = spec.ingress.iter().enumerate().map(|(number, rule)| {
        let written = Written {
            direction: Direction::Ingress,
            number,
            name: &rule.name,
            action: rule.action,
            peers: rule.from.as_deref(),
            ports: rule.ports.as_deref(),
        };
        written.read(&mut reader, &context)
    });
    let ingress: Vec<Rule> = ingress.collect();
    let egress = spec.egress.iter().enumerate().map(|(number, rule)| {
        let written = Written {
            direction: Direction::Egress,
            number,
            name: &rule.name,
            action: rule.action,
            peers: rule.to.as_deref(),
            ports: rule.ports.as_deref(),
        };
        written.read(&mut reader, &context)
    });
    let egress: Vec<Rule> = egress.collect();
    let allows = |rules: &[Rule]| rules.iter().any(|rule| rule.action == Action::Accept);
    let (isolates_ingress, isolates_egress) = match (&spec.validity, &spec.policy_types) {
        (Some(_), types) => {
            if types.is_some() {
                reader.note(
                    "spec.policyTypes",
                    "a policy with a validity isolates nothing, since its end would open what it closed",
                );
            }
            (false, false)
        }
        (None, Some(types)) => (
            types.contains(&PolicyType::Ingress),
            types.contains(&PolicyType::Egress),
        ),
        (None, None) => {
            let empty = ingress.is_empty() && egress.is_empty();
            (empty || allows(&ingress), allows(&egress))
        }
    };
    let word = match &spec.validity {
        None => Word::Holds,
        Some(validity) => match Validity::parse(validity) {
            Ok(validity) => validity.at(clock),
            Err(error) => {
                reader.note(&format!("spec.validity.{}", error.field()), &error);
                Word::Unsure
            }
        },
    };
    let holds = |rule: &Rule| match word {
        Word::Holds => understood || rule.action != Action::Accept,
        // A clock that cannot be trusted closes.
        Word::Unsure => rule.action != Action::Accept,
        Word::Over => false,
    };
    let side = |isolates, rules: Vec<Rule>| Side {
        isolates,
        rules: rules.into_iter().filter(holds).collect(),
    };
    let policy = Policy {
        origin: reader.origin.clone(),
        tier: Tier::Namespaced,
        staged: spec.staged,
        subject,
        ingress: side(isolates_ingress, ingress),
        egress: side(isolates_egress, egress),
    };
    reader.done(policy)
}

struct Context<'a> {
    namespace: &'a str,
    sets: &'a NetworkSets,
    namespaces: &'a BTreeMap<String, Labels>,
}

/// A rule as it is written.
struct Written<'a> {
    direction: Direction,
    number: usize,
    name: &'a str,
    action: MeshAction,
    peers: Option<&'a [MeshPeer]>,
    ports: Option<&'a [NetworkPolicyPort]>,
}

impl Written<'_> {
    fn read(&self, reader: &mut Reader, context: &Context) -> Rule {
        let (way, side) = match self.direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let place = format!("{way}[{}]", self.number);
        let field = format!("spec.{place}");
        let action = match self.action {
            MeshAction::Allow => Action::Accept,
            MeshAction::Deny => Action::Deny,
        };
        let peers = match self.peers {
            None => Ok(Peers::All),
            Some(peers) => {
                let mut read = Vec::new();
                for (number, entry) in peers.iter().enumerate() {
                    let field = format!("{field}.{side}[{number}]");
                    match self.peer(reader, context, &field, entry, action) {
                        Ok(found) => read.extend(found.into_iter().map(Ok)),
                        Err(nonsense) => read.push(Err(nonsense)),
                    }
                }
                all_or_known(read, action)
            }
        };
        let ports = self.ports.map_or(Ok(Ports::All), |written| {
            // Here a list is never empty by the schema; one that is means no port.
            match written.is_empty() {
                true => Err(reader.note(&format!("{field}.ports"), "needs at least one port")),
                false => ports(reader, &field, written, action),
            }
        });
        reader.rule(&place, Some(self.name), action, peers, ports)
    }

    fn peer(
        &self,
        reader: &mut Reader,
        context: &Context,
        field: &str,
        peer: &MeshPeer,
        action: Action,
    ) -> Result<Vec<Peer>, Nonsense> {
        let MeshPeer {
            pod_selector,
            namespace_selector,
            service_accounts,
            ip_block,
            network_sets,
            dns_names,
        } = peer;
        let of_pods = pod_selector.is_some() || service_accounts.is_some();
        let kinds = [
            of_pods || (namespace_selector.is_some() && network_sets.is_none()),
            ip_block.is_some(),
            network_sets.is_some(),
            dns_names.is_some(),
        ];
        if kinds.iter().filter(|set| **set).count() != 1 {
            return Err(reader.note(
                field,
                "needs one kind of peer: pods (podSelector, namespaceSelector, serviceAccounts), ipBlock, \
                 networkSets or dnsNames",
            ));
        }
        if let Some(block) = ip_block {
            let except = block.except.as_deref().unwrap_or_default();
            let block = reader.block(&format!("{field}.ipBlock"), &block.cidr, except)?;
            return Ok(vec![Peer::Networks(vec![block])]);
        }
        if let Some(names) = dns_names {
            return Ok(vec![Peer::Names(self.names(
                reader,
                &format!("{field}.dnsNames"),
                names,
                action,
            )?)]);
        }
        let namespaces = match namespace_selector {
            None => Namespaces::Named(context.namespace.to_owned()),
            Some(selector) => {
                Namespaces::Matching(reader.selector(&format!("{field}.namespaceSelector"), selector)?)
            }
        };
        if let Some(selector) = network_sets {
            let selector = reader.selector(&format!("{field}.networkSets"), selector)?;
            return self.sets(reader, context, field, &namespaces, &selector, action);
        }
        let pods = match pod_selector {
            None => Selector::all(),
            Some(selector) => reader.selector(&format!("{field}.podSelector"), selector)?,
        };
        let accounts = match service_accounts {
            None => None,
            Some(named) => Some(accounts(reader, &format!("{field}.serviceAccounts"), named)?),
        };
        Ok(vec![Peer::Pods(PodPeer {
            namespaces,
            pods,
            accounts,
        })])
    }

    /// Names that a rule may have: which addresses they have is never known in full, so that nothing is denied by them,
    /// and nobody's address is learnt for connections to a pod.
    fn names(
        &self,
        reader: &mut Reader,
        field: &str,
        names: &[String],
        action: Action,
    ) -> Result<Vec<NamePattern>, Nonsense> {
        if self.direction == Direction::Ingress || action != Action::Accept {
            return Err(reader.note(field, "is for rules of egress that allow"));
        }
        let numbered = names.iter().enumerate();
        let read = numbered.filter_map(|(number, text)| {
            let pattern = NamePattern::parse(text);
            pattern
                .map_err(|error| reader.note(&format!("{field}[{number}]"), error))
                .ok()
        });
        Ok(read.collect())
    }

    fn sets(
        &self,
        reader: &mut Reader,
        context: &Context,
        field: &str,
        namespaces: &Namespaces,
        selector: &Selector,
        action: Action,
    ) -> Result<Vec<Peer>, Nonsense> {
        let (mut networks, mut names) = (Vec::new(), Vec::new());
        for set in context.sets.selected(namespaces, context.namespaces, selector) {
            match (&set.networks, action) {
                (Ok(found), _) => networks.extend(found.iter().cloned()),
                (Err(()), Action::Accept) => {}
                // What of the set means nothing was told of the set.
                (Err(()), _) => return Err(Nonsense),
            }
            names.extend(set.names.iter().flatten().cloned());
        }
        let mut peers = vec![Peer::Networks(networks)];
        if !names.is_empty() {
            if self.direction == Direction::Ingress || action != Action::Accept {
                reader.note(
                    &format!("{field}.networkSets"),
                    "the sets' DNS names are for rules of egress that allow; here their networks count",
                );
            } else {
                peers.push(Peer::Names(names));
            }
        }
        Ok(peers)
    }
}

fn accounts(reader: &mut Reader, field: &str, named: &ServiceAccounts) -> Result<Accounts, Nonsense> {
    let labels = match &named.selector {
        None => None,
        Some(selector) => Some(reader.selector(&format!("{field}.selector"), selector)?),
    };
    let names = named.names.iter().flatten().cloned().collect();
    Ok(Accounts { names, labels })
}
