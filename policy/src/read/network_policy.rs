//! `NetworkPolicy` of networking.k8s.io/v1.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Nonsense, Read, Reader, all_or_known};
use crate::peer::{Namespaces, Peer, Peers, PodPeer};
use crate::policy::{Action, Policy, Rule, Side, Tier};
use crate::ports::{PortMatch, Ports, Protocol};
use crate::selector::Selector;

/// Reads one. Without `policyTypes` it isolates ingress, and egress where it has egress rules; a type that is not
/// known isolates both.
pub fn network_policy(object: &NetworkPolicy) -> Read {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let mut reader = Reader::new(
        "NetworkPolicy",
        namespace,
        object.metadata.name.as_deref().unwrap_or_default(),
    );
    let spec = object.spec.clone().unwrap_or_default();
    let selector = reader.subject("spec.podSelector", spec.pod_selector.as_ref());
    let understood = selector.is_ok();
    let types = spec.policy_types.unwrap_or_default();
    let (mut isolates_ingress, mut isolates_egress) = match types.is_empty() {
        true => (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())),
        false => (false, false),
    };
    for (number, kind) in types.iter().enumerate() {
        match kind.as_str() {
            "Ingress" => isolates_ingress = true,
            "Egress" => isolates_egress = true,
            other => {
                reader.note(
                    &format!("spec.policyTypes[{number}]"),
                    format!("{other:?} is neither Ingress nor Egress; both are isolated"),
                );
                (isolates_ingress, isolates_egress) = (true, true);
            }
        }
    }
    let ingress = spec.ingress.unwrap_or_default();
    let egress = spec.egress.unwrap_or_default();
    let mut rules = |way: &str, rules: Vec<(_, _)>| {
        let numbered = rules.into_iter().enumerate();
        numbered
            .map(|(number, (peers, ports))| {
                rule(
                    &mut reader,
                    namespace,
                    &format!("{way}[{number}]"),
                    way,
                    peers,
                    ports,
                )
            })
            .collect::<Vec<_>>()
    };
    let ingress = rules(
        "ingress",
        ingress.into_iter().map(|rule| (rule.from, rule.ports)).collect(),
    );
    let egress = rules(
        "egress",
        egress.into_iter().map(|rule| (rule.to, rule.ports)).collect(),
    );
    // Rules of a direction that is not isolated mean nothing (NetworkPolicySpec.policyTypes).
    let side = |isolates: bool, rules: Vec<Rule>| Side {
        isolates,
        rules: match isolates && understood {
            true => rules,
            false => Vec::new(),
        },
    };
    let policy = Policy {
        origin: reader.origin.clone(),
        tier: Tier::Namespaced,
        staged: false,
        subject: PodPeer {
            namespaces: Namespaces::Named(namespace.to_owned()),
            pods: selector.unwrap_or_default(),
            accounts: None,
        },
        ingress: side(isolates_ingress, ingress),
        egress: side(isolates_egress, egress),
    };
    reader.done(policy)
}

fn rule(
    reader: &mut Reader,
    namespace: &str,
    place: &str,
    way: &str,
    peers: Option<Vec<NetworkPolicyPeer>>,
    ports: Option<Vec<NetworkPolicyPort>>,
) -> Rule {
    let field = format!("spec.{place}");
    let side = if way == "ingress" { "from" } else { "to" };
    let peers = peers.unwrap_or_default();
    // An empty list is no list: everybody (NetworkPolicyIngressRule.from).
    let peers = match peers.is_empty() {
        true => Ok(Peers::All),
        false => {
            let numbered = peers.iter().enumerate();
            let read = numbered
                .map(|(number, entry)| peer(reader, namespace, &format!("{field}.{side}[{number}]"), entry));
            all_or_known(read.collect(), Action::Accept)
        }
    };
    let ports = self::ports(reader, &field, &ports.unwrap_or_default(), Action::Accept);
    reader.rule(place, None, Action::Accept, peers, ports)
}

fn peer(
    reader: &mut Reader,
    namespace: &str,
    field: &str,
    peer: &NetworkPolicyPeer,
) -> Result<Peer, Nonsense> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => {
            let except = block.except.as_deref().unwrap_or_default();
            let block = reader.block(&format!("{field}.ipBlock"), &block.cidr, except)?;
            Ok(Peer::Networks(vec![block]))
        }
        (Some(_), _, _) => Err(reader.note(field, "ipBlock stands alone, without selectors")),
        (None, None, None) => {
            Err(reader.note(field, "says neither podSelector, namespaceSelector nor ipBlock"))
        }
        (None, namespaces, pods) => {
            let namespaces = match namespaces {
                None => Namespaces::Named(namespace.to_owned()),
                Some(selector) => {
                    Namespaces::Matching(reader.selector(&format!("{field}.namespaceSelector"), selector)?)
                }
            };
            let pods = match pods {
                None => Selector::all(),
                Some(selector) => reader.selector(&format!("{field}.podSelector"), selector)?,
            };
            Ok(Peer::Pods(PodPeer {
                namespaces,
                pods,
                accounts: None,
            }))
        }
    }
}

/// Ports as NetworkPolicy writes them; an empty list is every port of every protocol. Those that mean nothing are left
/// out where the others only open.
pub(super) fn ports(
    reader: &mut Reader,
    field: &str,
    ports: &[NetworkPolicyPort],
    action: Action,
) -> Result<Ports, Nonsense> {
    if ports.is_empty() {
        return Ok(Ports::All);
    }
    let mut matches = BTreeSet::new();
    for (number, entry) in ports.iter().enumerate() {
        match port(reader, &format!("{field}.ports[{number}]"), entry) {
            Ok(found) => {
                matches.insert(found);
            }
            Err(nonsense) if action != Action::Accept => return Err(nonsense),
            Err(Nonsense) => {}
        }
    }
    Ok(Ports::Any(matches))
}

fn port(reader: &mut Reader, field: &str, port: &NetworkPolicyPort) -> Result<PortMatch, Nonsense> {
    let name = port.protocol.as_deref().unwrap_or("TCP");
    let Some(protocol) = Protocol::by_name(name) else {
        return Err(reader.note(
            &format!("{field}.protocol"),
            format!("{name:?} is none of TCP, UDP, SCTP"),
        ));
    };
    let mut number = |field: String, number| reader.port(&field, number);
    match (&port.port, port.end_port) {
        (None, None) => Ok(PortMatch::Protocol(protocol)),
        (Some(IntOrString::Int(first)), None) => {
            let first = number(format!("{field}.port"), *first)?;
            Ok(PortMatch::Range(protocol, first, first))
        }
        (Some(IntOrString::Int(first)), Some(last)) => {
            let first = number(format!("{field}.port"), *first)?;
            let last = number(format!("{field}.endPort"), last)?;
            if last < first {
                return Err(reader.note(
                    &format!("{field}.endPort"),
                    format!("{last} is below port {first}"),
                ));
            }
            Ok(PortMatch::Range(protocol, first, last))
        }
        (Some(IntOrString::String(name)), None) => Ok(PortMatch::Named(Some(protocol), name.clone())),
        (None | Some(IntOrString::String(_)), Some(_)) => {
            Err(reader.note(&format!("{field}.endPort"), "needs a port that is a number"))
        }
    }
}
