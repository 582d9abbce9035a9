//! What a node says of itself: its NodeTunnel with `Ready`, `Encrypted` and `Degraded`.
//!
//! Conditions only, and no time: publishing keeps `lastTransitionTime` of a condition whose status stays.

use hauberk_abi as abi;
use hauberk_api::{GenerationSpec, NodeTunnel, NodeTunnelSpec, NodeTunnelStatus, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;

use super::{DesiredState, Local, NotReady, Reason};
use crate::pair::{Phase, Want};
use crate::snapshot::{Claims, Snapshot};

/// Reason where something that was computed is not in force.
pub const NOT_IN_FORCE: &str = "NotInForce";
/// So many names are written out in a message.
const NAMES: usize = 8;

/// Builds a condition whose time is still to be filled in.
pub fn condition(kind: &str, status: bool, reason: &str, message: String) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// Some names for a message, and how many more there are.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let mut text = names[..names.len().min(NAMES)].join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}

/// This node's NodeTunnel.
pub(super) fn tunnel(
    snapshot: &Snapshot,
    claims: &Claims,
    local: &Local,
    desired: &DesiredState,
) -> NodeTunnel {
    let generations = local
        .generations
        .iter()
        .filter(|generation| !generation.lanes.is_empty());
    let generations = generations.map(|own| GenerationSpec {
        id: own.id,
        lanes: own.lanes.clone(),
        binding: None,
    });
    let addresses = claims
        .node_addresses
        .get(&local.node)
        .cloned()
        .unwrap_or_default();
    let mut tunnel = NodeTunnel::new(
        &local.node,
        NodeTunnelSpec {
            generations: generations.collect(),
            addresses,
        },
    );
    let uid = snapshot
        .nodes
        .get(&local.node)
        .and_then(|node| node.origin.uid.clone());
    tunnel.metadata.owner_references = uid.map(|uid| {
        let (api_version, kind, name) = ("v1".to_owned(), "Node".to_owned(), local.node.clone());
        vec![OwnerReference {
            api_version,
            kind,
            name,
            uid,
            ..Default::default()
        }]
    });
    tunnel.status = Some(NodeTunnelStatus {
        conditions: vec![ready(), encrypted(desired), degraded(claims, local, desired)],
    });
    tunnel
}

/// Notes that nothing can be computed any more; what was in force stays.
pub fn set_not_ready(tunnel: &mut NodeTunnel, reason: &NotReady) {
    let conditions = tunnel.status.iter_mut().flat_map(|status| &mut status.conditions);
    for ready in conditions.filter(|found| found.type_ == condition::READY) {
        *ready = condition(condition::READY, false, reason.reason(), reason.to_string());
    }
}

/// Notes what is not in force of what the conditions were made from.
pub fn set_not_in_force(tunnel: &mut NodeTunnel, failures: &[String]) {
    if failures.is_empty() {
        return;
    }
    let message = listed(failures.iter().map(String::as_str));
    for found in tunnel.status.iter_mut().flat_map(|status| &mut status.conditions) {
        let kind = found.type_.as_str();
        // A node that encrypts nothing is off whatever else it fails at.
        if kind == condition::READY || kind == condition::ENCRYPTED && found.reason != condition::OFF {
            *found = condition(&found.type_, false, NOT_IN_FORCE, message.clone());
        } else if kind == condition::DEGRADED && found.status == "True" {
            found.message = format!("{}; {NOT_IN_FORCE}: {message}", found.message);
        } else if kind == condition::DEGRADED {
            *found = condition(condition::DEGRADED, true, NOT_IN_FORCE, message.clone());
        }
    }
}

fn ready() -> Condition {
    condition(condition::READY, true, "InSync", String::new())
}

fn encrypted(desired: &DesiredState) -> Condition {
    let phase_of = |number: &u32| {
        desired
            .peers
            .get(number)
            .map_or(abi::PHASE_OFF, |peer| peer.phase)
    };
    let pairs = || {
        desired
            .pairs
            .iter()
            .map(|(name, facts)| (name.as_str(), phase_of(&facts.number)))
    };
    let (lagging, reason, message) = match desired.want {
        Want::On(_) => {
            let lagging: Vec<_> = pairs()
                .filter(|(_, phase)| *phase != Phase::Strict.number())
                .collect();
            (lagging, "AllPairsStrict", "nothing covered leaves in clear")
        }
        Want::Off => {
            let lagging: Vec<_> = pairs()
                .filter(|(_, phase)| *phase != Phase::Off.number())
                .collect();
            (lagging, condition::OFF, "encryption is off")
        }
    };
    if lagging.is_empty() {
        return condition(
            condition::ENCRYPTED,
            desired.want.is_on(),
            reason,
            message.to_owned(),
        );
    }
    let exempt = |name: &str| desired.exempt.contains(name);
    if desired.want.is_on() && lagging.iter().all(|(name, _)| exempt(name)) {
        let names = listed(lagging.iter().map(|(name, _)| *name));
        let message = format!("nodes that cannot take part are exempt: {names}");
        return condition(condition::ENCRYPTED, true, "UnreachableNodesExempt", message);
    }
    let waiting = lagging
        .iter()
        .filter(|(name, _)| !exempt(name))
        .map(|(name, _)| *name);
    condition(
        condition::ENCRYPTED,
        false,
        "PairsLag",
        format!("waiting for {}", listed(waiting)),
    )
}

fn degraded(claims: &Claims, local: &Local, desired: &DesiredState) -> Condition {
    let mut reasons = Vec::new();
    let keyless = desired.pairs.iter().filter(|(_, facts)| {
        desired
            .peers
            .get(&facts.number)
            .is_some_and(|peer| peer.phase >= abi::PHASE_SENDING && peer.sessions == 0)
    });
    let keyless = listed(keyless.map(|(name, _)| name.as_str()));
    if !keyless.is_empty() && desired.want.is_on() {
        reasons.push(Reason::new(
            "PeerKeyMissing",
            format!("covered packets are dropped for lack of keys of {keyless}"),
        ));
    }
    let conflicts: Vec<_> = claims.conflicts.iter().map(ToString::to_string).collect();
    if !conflicts.is_empty() {
        reasons.push(Reason::new(
            "AddressConflict",
            listed(conflicts.iter().map(String::as_str)),
        ));
    }
    if !claims.refused.is_empty() {
        reasons.push(Reason::new(
            "AddressRefused",
            listed(claims.refused.iter().map(String::as_str)),
        ));
    }
    let external: Vec<_> = desired
        .refused_external_peers
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    if !external.is_empty() {
        reasons.push(Reason::new(
            "ExternalPeerRefused",
            listed(external.iter().map(String::as_str)),
        ));
    }
    if !desired.policy_problems.is_empty() {
        reasons.push(Reason::new(
            "PolicyNotUnderstood",
            listed(desired.policy_problems.iter().map(String::as_str)),
        ));
    }
    if !desired.unsupported.is_empty() {
        let settings = listed(desired.unsupported.iter().copied());
        reasons.push(Reason::new(
            "UnsupportedSetting",
            format!("not in this version: {settings}"),
        ));
    }
    // Last, since there may be one for each object.
    reasons.extend(local.problems.iter().cloned());
    match &reasons[..] {
        [] => condition(condition::DEGRADED, false, "AsExpected", String::new()),
        [only] => condition(condition::DEGRADED, true, only.reason, only.message.clone()),
        [first, ..] => {
            let told = reasons.iter().take(NAMES);
            let mut all: Vec<_> = told
                .map(|reason| format!("{}: {}", reason.reason, reason.message))
                .collect();
            if let more @ 1.. = reasons.len().saturating_sub(NAMES) {
                all.push(format!("and {more} more"));
            }
            condition(condition::DEGRADED, true, first.reason, all.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_fails_is_neither_ready_nor_encrypted_and_one_that_is_off_stays_off() {
        let mut tunnel = NodeTunnel::new("a", NodeTunnelSpec::default());
        let say = |encrypted| NodeTunnelStatus {
            conditions: vec![
                ready(),
                encrypted,
                condition(
                    condition::DEGRADED,
                    true,
                    "AddressConflict",
                    "two have it".to_owned(),
                ),
            ],
        };
        tunnel.status = Some(say(condition(
            condition::ENCRYPTED,
            true,
            "AllPairsStrict",
            String::new(),
        )));
        let before = tunnel.clone();
        set_not_in_force(&mut tunnel, &[]);
        assert_eq!(tunnel, before);
        let failures = ["the map IPCACHE is full".to_owned()];
        set_not_in_force(&mut tunnel, &failures);
        let says = |tunnel: &NodeTunnel, kind: &str| {
            let found = tunnel.condition(kind).expect("it is said");
            (found.status.clone(), found.reason.clone(), found.message.clone())
        };
        for kind in [condition::READY, condition::ENCRYPTED] {
            let (status, reason, message) = says(&tunnel, kind);
            assert_eq!((status.as_str(), reason.as_str()), ("False", NOT_IN_FORCE));
            assert_eq!(message, failures[0]);
        }
        let degraded = says(&tunnel, condition::DEGRADED).2;
        assert_eq!(degraded, "two have it; NotInForce: the map IPCACHE is full");
        tunnel.status = Some(say(condition(
            condition::ENCRYPTED,
            false,
            condition::OFF,
            String::new(),
        )));
        set_not_in_force(&mut tunnel, &failures);
        assert_eq!(says(&tunnel, condition::ENCRYPTED).1, condition::OFF);
    }
}
