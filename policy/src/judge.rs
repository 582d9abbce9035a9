//! Which rule decides about a connection, and how.
//!
//! One side at a time: egress by the policies of the pod that a connection comes from, ingress by those of the pod that
//! it goes to. Tiers in order: 1. Admin, rule by rule; 2. NetworkPolicy and MeshPolicy: a rule that denies, then one
//! that accepts, then whether the pod is isolated; 3. Baseline, rule by rule; 4. what nobody decided is let through.

use std::sync::Arc;

use crate::identity::Identity;
use crate::peer::{Remote, Who};
use crate::policy::{Action, Origin, Policy, Rule, Tier};
use crate::ports::Traffic;

/// Which way, said from the pod that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// Let through or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Let through.
    Allow,
    /// Dropped.
    Deny,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason<'a>,
}

/// Why a verdict is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A rule says so.
    Rule(&'a Origin, &'a Rule),
    /// These policies isolate the pod, and no rule accepts.
    Isolated(Vec<&'a Origin>),
    /// No policy says anything of it.
    Default,
}

/// Policies in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies(Vec<Arc<Policy>>);

impl Policies {
    /// Puts them in order.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        policies.sort_by(|one, other| (one.tier, &one.origin).cmp(&(other.tier, &other.origin)));
        Self(policies)
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter().map(|policy| &**policy)
    }

    /// Judges one side of a connection. Staged policies are asked only with `staged`.
    pub fn judge(
        &self,
        pod: &Identity,
        direction: Direction,
        remote: &Remote,
        traffic: Traffic,
        staged: bool,
    ) -> Decision<'_> {
        let asked = Asked {
            direction,
            remote,
            traffic,
            destination: match (direction, remote.who) {
                (Direction::Ingress, _) => Some(pod),
                (Direction::Egress, Who::Pod(remote)) => Some(remote),
                (Direction::Egress, _) => None,
            },
        };
        let about = |policy: &&Policy| (staged || !policy.staged) && policy.subject.selects(pod);
        let of_tier = |wanted: fn(Tier) -> bool| {
            let found = self.iter().filter(move |policy| wanted(policy.tier));
            found.filter(about)
        };
        asked
            .in_order(of_tier(|tier| matches!(tier, Tier::Admin(_))))
            .or_else(|| asked.in_namespaces(of_tier(|tier| tier == Tier::Namespaced).collect()))
            .or_else(|| asked.in_order(of_tier(|tier| matches!(tier, Tier::Baseline(_)))))
            .unwrap_or(Decision {
                verdict: Verdict::Allow,
                reason: Reason::Default,
            })
    }
}

struct Asked<'r> {
    direction: Direction,
    remote: &'r Remote<'r>,
    traffic: Traffic,
    destination: Option<&'r Identity>,
}

impl Asked<'_> {
    /// The first rule that matches decides.
    fn in_order<'a>(&self, mut policies: impl Iterator<Item = &'a Policy>) -> Option<Decision<'a>> {
        let (policy, rule) = policies.find_map(|policy| {
            let mut rules = policy.side(self.direction).rules.iter();
            Some((policy, rules.find(|rule| self.matches(rule))?))
        })?;
        let verdict = match rule.action {
            Action::Accept => Verdict::Allow,
            Action::Deny => Verdict::Deny,
            Action::Pass => return None,
        };
        let reason = Reason::Rule(&policy.origin, rule);
        Some(Decision { verdict, reason })
    }

    fn in_namespaces<'a>(&self, policies: Vec<&'a Policy>) -> Option<Decision<'a>> {
        for (action, verdict) in [(Action::Deny, Verdict::Deny), (Action::Accept, Verdict::Allow)] {
            let found = policies.iter().find_map(|policy| {
                let mut rules = policy.side(self.direction).rules.iter();
                let rule = rules.find(|rule| rule.action == action && self.matches(rule))?;
                Some(Reason::Rule(&policy.origin, rule))
            });
            if let Some(reason) = found {
                return Some(Decision { verdict, reason });
            }
        }
        let isolating = policies
            .iter()
            .filter(|policy| policy.side(self.direction).isolates);
        let isolating: Vec<_> = isolating.map(|policy| &policy.origin).collect();
        (!isolating.is_empty()).then_some(Decision {
            verdict: Verdict::Deny,
            reason: Reason::Isolated(isolating),
        })
    }

    fn matches(&self, rule: &Rule) -> bool {
        rule.peers.match_remote(self.remote, rule.action.doubt())
            && rule.ports.matches(self.traffic, self.destination)
    }
}
