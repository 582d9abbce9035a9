//! Reads Kubernetes' and Hauberk's policy objects into [`Policy`]s.
//!
//! What cannot be understood is a [`Problem`] and never opens anything: a peer or port that means nothing matches
//! nothing in a rule that accepts, and everything in one that denies; a policy whose subject means nothing is about all
//! pods that it could be about, and accepts nothing.

mod cluster_network_policy;
mod mesh_policy;
mod network_policy;

pub use cluster_network_policy::cluster_network_policy;
pub use mesh_policy::{Clock, NetworkSets, mesh_policy};
pub use network_policy::network_policy;

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::peer::{Block, Peer, Peers};
use crate::policy::{Action, Origin, Policy, Problem, Rule};
use crate::ports::Ports;
use crate::selector::Selector;

/// A policy as it was understood, and what of it was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What holds.
    pub policy: Arc<Policy>,
    /// What means nothing.
    pub problems: Vec<Problem>,
}

/// Collects what of one object means nothing.
struct Reader {
    origin: Origin,
    problems: Vec<Problem>,
}

/// A part of a rule that means nothing; it is noted already.
struct Nonsense;

impl Reader {
    fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        let origin = Origin {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        Self {
            origin,
            problems: Vec::new(),
        }
    }

    fn note(&mut self, field: &str, what: impl ToString) -> Nonsense {
        self.problems.push(Problem {
            origin: self.origin.clone(),
            field: field.to_owned(),
            what: what.to_string(),
        });
        Nonsense
    }

    fn selector(&mut self, field: &str, selector: &LabelSelector) -> Result<Selector, Nonsense> {
        Selector::parse(selector).map_err(|error| self.note(field, error))
    }

    /// A selector of those that a policy is about. One that means nothing selects all: what a policy is about it
    /// closes.
    fn subject(&mut self, field: &str, selector: Option<&LabelSelector>) -> Result<Selector, Nonsense> {
        selector.map_or(Ok(Selector::all()), |selector| self.selector(field, selector))
    }

    fn network(&mut self, field: &str, text: &str) -> Result<IpNet, Nonsense> {
        let Ok(network) = text.parse::<IpNet>() else {
            return Err(self.note(
                field,
                format!("{text:?} is no network, such as 10.0.0.0/8 or fd00::/8"),
            ));
        };
        if network != network.trunc() {
            let meant = network.trunc();
            return Err(self.note(
                field,
                format!("{text} has bits set behind its length; is {meant} meant?"),
            ));
        }
        Ok(network)
    }

    /// Each of a list; what means nothing is noted of all of them.
    fn networks(&mut self, field: &str, texts: &[String]) -> Result<Vec<Block>, Nonsense> {
        let numbered = texts.iter().enumerate();
        let blocks = numbered.map(|(number, text)| {
            let network = self.network(&format!("{field}[{number}]"), text)?;
            Ok(Block {
                network,
                except: Vec::new(),
            })
        });
        let blocks: Vec<_> = blocks.collect();
        blocks.into_iter().collect()
    }

    fn port(&mut self, field: &str, number: i32) -> Result<u16, Nonsense> {
        match u16::try_from(number) {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(self.note(field, format!("{number} is no port, which are 1 to 65535"))),
        }
    }

    fn block(&mut self, field: &str, cidr: &str, except: &[String]) -> Result<Block, Nonsense> {
        let network = self.network(&format!("{field}.cidr"), cidr)?;
        let mut excepted = Vec::new();
        for (number, text) in except.iter().enumerate() {
            let field = format!("{field}.except[{number}]");
            let part = self.network(&field, text)?;
            if !network.contains(&part) {
                return Err(self.note(&field, format!("{part} is no part of {network}")));
            }
            excepted.push(part);
        }
        Ok(Block {
            network,
            except: excepted,
        })
    }

    /// A rule of what was read; what was not understood closes.
    fn rule(
        &mut self,
        place: &str,
        name: Option<&str>,
        action: Action,
        peers: Result<Peers, Nonsense>,
        ports: Result<Ports, Nonsense>,
    ) -> Rule {
        let place = match name {
            Some(name) if !name.is_empty() => format!("{place} ({name})"),
            _ => place.to_owned(),
        };
        match (action, peers, ports) {
            (action, Ok(peers), Ok(ports)) => Rule {
                place,
                action,
                peers,
                ports,
            },
            (Action::Accept, _, _) => Rule {
                place,
                action,
                peers: Peers::Any(Vec::new()),
                ports: Ports::All,
            },
            (Action::Deny | Action::Pass, _, _) => Rule {
                place,
                action: Action::Deny,
                peers: Peers::All,
                ports: Ports::All,
            },
        }
    }

    fn done(self, policy: Policy) -> Read {
        Read {
            policy: Arc::new(policy),
            problems: self.problems,
        }
    }
}

/// All of them; in a rule that accepts those that mean something are kept, since each by itself only opens.
fn all_or_known(peers: Vec<Result<Peer, Nonsense>>, action: Action) -> Result<Peers, Nonsense> {
    let understood = peers.iter().all(Result::is_ok);
    match action {
        Action::Deny | Action::Pass if !understood => Err(Nonsense),
        _ => Ok(Peers::Any(peers.into_iter().flatten().collect())),
    }
}
