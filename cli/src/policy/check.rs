//! One connection: what happens to it, and why.

use std::fmt::Write as _;

use hauberk_policy::cluster::Cluster;
use hauberk_policy::connection::{End, EndError, Family, Outcome};
use hauberk_policy::judge::{Decision, Reason, Verdict};
use hauberk_policy::ports::Traffic;
use serde::Serialize;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Answered {
    Allow,
    Deny,
    /// Another answer for IPv4 than for IPv6.
    Mixed,
}

/// The answer; a family that an end has no address of is null.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    verdict: Answered,
    #[serde(rename = "byFamily")]
    by_family: ByFamily,
    /// Of the policies of the pod that it comes from.
    egress: Answered,
    /// Of the policies of the pod that it goes to.
    ingress: Answered,
    decided_by: Vec<Decider>,
    #[serde(skip)]
    words: Vec<String>,
    #[serde(skip)]
    title: String,
}

#[derive(Clone, Debug, Serialize)]
struct ByFamily {
    ipv4: Option<Answered>,
    ipv6: Option<Answered>,
}

/// A rule, or a policy that isolates where no rule allows: then `rule` is `isolation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Decider {
    kind: &'static str,
    namespace: String,
    name: String,
    rule: String,
}

/// What decides where no rule of an isolating policy does.
const ISOLATION: &str = "isolation";

impl Answer {
    /// Asks the engine.
    pub fn of(
        cluster: &Cluster,
        from: &End,
        to: &End,
        traffic: Traffic,
        staged: bool,
    ) -> Result<Self, EndError> {
        let outcomes = cluster.connection(from, to, traffic, staged)?;
        let of_family = |family| {
            let found = outcomes.iter().find(|(of, _)| *of == family);
            found.map(|(_, outcome)| answered([outcome.verdict()]))
        };
        let side =
            |pick: fn(&Outcome) -> Verdict| answered(outcomes.iter().map(|(_, outcome)| pick(outcome)));
        let mut decided_by = Vec::new();
        let mut words = Vec::new();
        let agree = outcomes.windows(2).all(|pair| pair[0].1 == pair[1].1);
        for (family, outcome) in &outcomes {
            for (way, decision) in [("egress", &outcome.egress), ("ingress", &outcome.ingress)] {
                for decider in decision.iter().flat_map(deciders) {
                    if !decided_by.contains(&decider) {
                        decided_by.push(decider);
                    }
                }
                let of_family = match (agree, family) {
                    (true, _) => "",
                    (false, Family::Ipv4) => " of IPv4",
                    (false, Family::Ipv6) => " of IPv6",
                };
                let line = format!("  {way}{of_family}: {}", in_words(decision.as_ref()));
                if !words.contains(&line) {
                    words.push(line);
                }
            }
        }
        Ok(Self {
            verdict: side(|outcome| outcome.verdict()),
            by_family: ByFamily {
                ipv4: of_family(Family::Ipv4),
                ipv6: of_family(Family::Ipv6),
            },
            egress: side(|outcome| verdict(outcome.egress.as_ref())),
            ingress: side(|outcome| verdict(outcome.ingress.as_ref())),
            decided_by,
            words,
            title: format!("{from} to {to}, {}/{}", traffic.port, traffic.protocol),
        })
    }

    /// For people.
    pub fn in_words(&self) -> String {
        let Self {
            verdict,
            by_family: ByFamily { ipv4, ipv6 },
            ..
        } = self;
        let verdict = match verdict {
            Answered::Allow => "allowed",
            Answered::Deny => "denied",
            Answered::Mixed => "mixed",
        };
        let mut text = format!("{}: {verdict}\n", self.title);
        for (name, answered) in [("IPv4", ipv4), ("IPv6", ipv6)] {
            let said = match answered {
                Some(Answered::Allow) => "allowed",
                Some(Answered::Deny | Answered::Mixed) => "denied",
                None => "not possible: an end has no such address",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name}: {said}");
        }
        for line in &self.words {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

fn verdict(decision: Option<&Decision>) -> Verdict {
    decision.map_or(Verdict::Allow, |decision| decision.verdict)
}

fn answered(verdicts: impl IntoIterator<Item = Verdict>) -> Answered {
    let (mut allowed, mut denied) = (false, false);
    for verdict in verdicts {
        match verdict {
            Verdict::Allow => allowed = true,
            Verdict::Deny => denied = true,
        }
    }
    match (allowed, denied) {
        (true, true) => Answered::Mixed,
        (true, false) => Answered::Allow,
        (false, _) => Answered::Deny,
    }
}

fn deciders(decision: &Decision) -> Vec<Decider> {
    let decider = |origin: &hauberk_policy::policy::Origin, rule: &str| Decider {
        kind: origin.kind,
        namespace: origin.namespace.clone(),
        name: origin.name.clone(),
        rule: rule.to_owned(),
    };
    match &decision.reason {
        Reason::Rule(origin, rule) => vec![decider(origin, &rule.place)],
        Reason::Isolated(origins) => origins.iter().map(|origin| decider(origin, ISOLATION)).collect(),
        Reason::Default => Vec::new(),
    }
}

fn in_words(decision: Option<&Decision>) -> String {
    let Some(decision) = decision else {
        return "no policy is asked: that end is no pod with an address of its own, or the pod's own node or itself".into();
    };
    match (&decision.reason, decision.verdict) {
        (Reason::Rule(origin, rule), Verdict::Allow) => format!("{} of {origin} allows it", rule.place),
        (Reason::Rule(origin, rule), Verdict::Deny) => format!("{} of {origin} denies it", rule.place),
        (Reason::Isolated(origins), _) => {
            let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
            format!(
                "denied: isolated by {}, and no rule allows it",
                origins.join(", ")
            )
        }
        (Reason::Default, _) => "no policy says anything of it, so it is allowed".into(),
    }
}
