//! `ClusterNetworkPolicy` of policy.networking.k8s.io/v1alpha2.

use hauberk_api::{
    ClusterEgressPeer, ClusterNetworkPolicy, ClusterPods, ClusterPort, ClusterPorts, ClusterProtocol,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Nonsense, Read, Reader, all_or_known};
use crate::dns_name::NamePattern;
use crate::peer::{Namespaces, Peer, PodPeer};
use crate::policy::{Action, Policy, Rule, Side, Tier};
use crate::ports::{PortMatch, Ports, Protocol};
use crate::selector::Selector;

/// No peer, which a newer version of the kind may know.
const NO_PEER: &str = "says no peer that is known here";

/// Reads one. A tier that is not known is Admin: asked first, its rules that deny hold, and those that accept do not.
pub fn cluster_network_policy(object: &ClusterNetworkPolicy) -> Read {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut reader = Reader::new("ClusterNetworkPolicy", "", name);
    let spec = &object.spec;
    let mut understood = true;
    let tier = match spec.tier.as_str() {
        "Admin" => Tier::Admin(spec.priority),
        "Baseline" => Tier::Baseline(spec.priority),
        other => {
            reader.note(
                "spec.tier",
                format!("{other:?} is neither Admin nor Baseline; none of its rules opens anything"),
            );
            understood = false;
            Tier::Admin(spec.priority)
        }
    };
    let subject = pods(&mut reader, "spec.subject", &spec.subject).unwrap_or_else(|Nonsense| {
        understood = false;
        everywhere(Selector::all(), Selector::all())
    });
    let ingress = spec.ingress.iter().enumerate().map(|(number, rule)| {
        let field = format!("spec.ingress[{number}]");
        let action = action(&mut reader, &field, &rule.action);
        let from = rule.from.iter().enumerate().map(|(number, peer)| {
            let field = format!("{field}.from[{number}]");
            pods(&mut reader, &field, peer).map(Peer::Pods)
        });
        let from = from.collect();
        let parts = Parts {
            place: format!("ingress[{number}]"),
            name: &rule.name,
            action,
            peers: from,
            protocols: rule.protocols.as_deref(),
        };
        parts.rule(&mut reader, &field, "from")
    });
    let ingress: Vec<Rule> = ingress.collect();
    let egress = spec.egress.iter().enumerate().map(|(number, rule)| {
        let field = format!("spec.egress[{number}]");
        let action = action(&mut reader, &field, &rule.action);
        let to = rule.to.iter().enumerate().map(|(number, peer)| {
            let field = format!("{field}.to[{number}]");
            egress_peer(&mut reader, &field, peer, action.as_ref().ok().copied())
        });
        let to = to.collect();
        let parts = Parts {
            place: format!("egress[{number}]"),
            name: &rule.name,
            action,
            peers: to,
            protocols: rule.protocols.as_deref(),
        };
        parts.rule(&mut reader, &field, "to")
    });
    let egress: Vec<Rule> = egress.collect();
    let side = |rules: Vec<Rule>| Side {
        isolates: false,
        rules: match understood {
            true => rules,
            false => rules
                .into_iter()
                .filter(|rule| rule.action == Action::Deny)
                .collect(),
        },
    };
    let policy = Policy {
        origin: reader.origin.clone(),
        tier,
        staged: false,
        subject,
        ingress: side(ingress),
        egress: side(egress),
    };
    reader.done(policy)
}

struct Parts<'a> {
    place: String,
    name: &'a str,
    action: Result<Action, Nonsense>,
    peers: Vec<Result<Peer, Nonsense>>,
    protocols: Option<&'a [ClusterProtocol]>,
}

impl Parts<'_> {
    fn rule(self, reader: &mut Reader, field: &str, side: &str) -> Rule {
        let action = self.action;
        // What is to happen is not known, so nothing may.
        let taken = *action.as_ref().unwrap_or(&Action::Deny);
        let peers = match self.peers.is_empty() {
            true => Err(reader.note(&format!("{field}.{side}"), "needs at least one peer")),
            // Each rule as a whole fails closed, as the kind's documentation has it for peers.
            false => all_or_known(self.peers, Action::Deny),
        };
        let ports = self.protocols.map_or(Ok(Ports::All), |protocols| {
            let numbered = protocols.iter().enumerate();
            let read = numbered
                .map(|(number, entry)| protocol(reader, &format!("{field}.protocols[{number}]"), entry));
            let read: Vec<_> = read.collect();
            read.into_iter().collect::<Result<_, _>>().map(Ports::Any)
        });
        let peers = action.and(peers);
        reader.rule(&self.place, Some(self.name), taken, peers, ports)
    }
}

fn action(reader: &mut Reader, field: &str, text: &str) -> Result<Action, Nonsense> {
    match text {
        "Accept" => Ok(Action::Accept),
        "Deny" => Ok(Action::Deny),
        "Pass" => Ok(Action::Pass),
        other => Err(reader.note(
            &format!("{field}.action"),
            format!("{other:?} is none of Accept, Deny, Pass; the rule denies all"),
        )),
    }
}

fn pods(reader: &mut Reader, field: &str, pods: &ClusterPods) -> Result<PodPeer, Nonsense> {
    match (&pods.namespaces, &pods.pods) {
        (Some(namespaces), None) => {
            let namespaces = reader.selector(&format!("{field}.namespaces"), namespaces)?;
            Ok(everywhere(namespaces, Selector::all()))
        }
        (None, Some(pods)) => {
            let namespaces = reader.selector(
                &format!("{field}.pods.namespaceSelector"),
                &pods.namespace_selector,
            )?;
            let pods = reader.selector(&format!("{field}.pods.podSelector"), &pods.pod_selector)?;
            Ok(everywhere(namespaces, pods))
        }
        (Some(_), Some(_)) => Err(reader.note(field, "says both namespaces and pods, where one is allowed")),
        (None, None) => Err(reader.note(field, NO_PEER)),
    }
}

fn egress_peer(
    reader: &mut Reader,
    field: &str,
    peer: &ClusterEgressPeer,
    action: Option<Action>,
) -> Result<Peer, Nonsense> {
    let ClusterEgressPeer {
        namespaces,
        pods: named,
        nodes,
        networks,
        domain_names,
    } = peer;
    let set = [
        namespaces.is_some() || named.is_some(),
        nodes.is_some(),
        networks.is_some(),
        domain_names.is_some(),
    ];
    match set.iter().filter(|set| **set).count() {
        0 => return Err(reader.note(field, NO_PEER)),
        1 => {}
        _ => return Err(reader.note(field, "says more than one kind of peer, where one is allowed")),
    }
    if let Some(selector) = nodes {
        return Ok(Peer::Nodes(node_selector(reader, field, selector)?));
    }
    if let Some(networks) = networks {
        let blocks = reader.networks(&format!("{field}.networks"), networks)?;
        return Ok(Peer::Networks(blocks));
    }
    if let Some(names) = domain_names {
        let field = format!("{field}.domainNames");
        // Which addresses a name has is never known in full, so that nothing can be denied by it.
        if action != Some(Action::Accept) {
            return Err(reader.note(&field, "is for rules that Accept only"));
        }
        let numbered = names.iter().enumerate();
        let patterns = numbered.map(|(number, text)| {
            NamePattern::parse(text).map_err(|error| reader.note(&format!("{field}[{number}]"), error))
        });
        let patterns: Vec<_> = patterns.collect();
        return patterns.into_iter().collect::<Result<_, _>>().map(Peer::Names);
    }
    let as_pods = ClusterPods {
        namespaces: namespaces.clone(),
        pods: named.clone(),
    };
    pods(reader, field, &as_pods).map(Peer::Pods)
}

fn node_selector(reader: &mut Reader, field: &str, selector: &LabelSelector) -> Result<Selector, Nonsense> {
    reader.selector(&format!("{field}.nodes"), selector)
}

fn protocol(reader: &mut Reader, field: &str, entry: &ClusterProtocol) -> Result<PortMatch, Nonsense> {
    let ClusterProtocol {
        tcp,
        udp,
        sctp,
        destination_named_port: name,
    } = entry;
    let named = (!name.is_empty()).then(|| PortMatch::Named(None, name.clone()));
    let numbered = [
        (Protocol::Tcp, tcp, "tcp"),
        (Protocol::Udp, udp, "udp"),
        (Protocol::Sctp, sctp, "sctp"),
    ];
    let mut found: Vec<Result<PortMatch, Nonsense>> = named.map(Ok).into_iter().collect();
    for (protocol, ports, key) in numbered {
        if let Some(ports) = ports {
            found.push(port(reader, &format!("{field}.{key}"), protocol, ports));
        }
    }
    match found.len() {
        1 => found.remove(0),
        0 => Err(reader.note(field, "says no protocol that is known here")),
        _ => Err(reader.note(field, "says more than one protocol, where one is allowed")),
    }
}

fn port(
    reader: &mut Reader,
    field: &str,
    protocol: Protocol,
    ports: &ClusterPorts,
) -> Result<PortMatch, Nonsense> {
    let Some(port) = &ports.destination_port else {
        return Ok(PortMatch::Protocol(protocol));
    };
    let field = format!("{field}.destinationPort");
    let mut number = |part: &str, number| reader.port(&format!("{field}.{part}"), number);
    match port {
        ClusterPort {
            number: one,
            range: None,
        } => {
            let one = number("number", *one)?;
            Ok(PortMatch::Range(protocol, one, one))
        }
        ClusterPort {
            number: 0,
            range: Some(range),
        } => {
            let (first, last) = (
                number("range.start", range.start)?,
                number("range.end", range.end)?,
            );
            if last < first {
                return Err(reader.note(&format!("{field}.range.end"), format!("{last} is below {first}")));
            }
            Ok(PortMatch::Range(protocol, first, last))
        }
        ClusterPort { .. } => Err(reader.note(&field, "says both number and range, where one is allowed")),
    }
}

fn everywhere(namespaces: Selector, pods: Selector) -> PodPeer {
    PodPeer {
        namespaces: Namespaces::Matching(namespaces),
        pods,
        accounts: None,
    }
}
