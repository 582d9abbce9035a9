//! The Mesh's status, summed up from the nodes' conditions. Pure.

use hauberk_api::{MeshPhase, MeshStatus, NodeTunnel, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::compute::conditions;
use crate::snapshot::Snapshot;

/// The Mesh's status as the nodes' conditions make it; without `lastTransitionTime`, which publishing fills in.
pub fn summarise(snapshot: &Snapshot) -> MeshStatus {
    let says = |node: &String, kind: &str| snapshot.tunnels.get(node)?.condition(kind);
    let encrypted =
        |node: &&String| says(node, condition::ENCRYPTED).is_some_and(|found| found.status == "True");
    let is_off = |node: &&String| snapshot.tunnels.get(*node).is_none_or(NodeTunnel::is_off);
    let (members, unreachable): (Vec<_>, Vec<_>) = snapshot
        .nodes
        .keys()
        .partition(|node| snapshot.tunnels.contains_key(*node));
    // A Mesh that has been deleted switches nothing off: then the nodes' words alone count.
    let enabled = match &snapshot.mesh {
        Some(mesh) => mesh.spec.encryption.enabled,
        None => members.iter().any(|node| !is_off(node)),
    };
    let phase = match enabled {
        true if !members.is_empty() && members.iter().all(encrypted) => MeshPhase::Encrypted,
        true => MeshPhase::Enabling,
        false if members.iter().all(is_off) => MeshPhase::Off,
        false => MeshPhase::Disabling,
    };
    let was_sealed = snapshot.mesh_status().is_some_and(|before| before.sealed);
    let late = |kind: &str, wanted: &str| {
        let late = |node: &&&String| says(node, kind).is_none_or(|found| found.status != wanted);
        members
            .iter()
            .copied()
            .filter(|node| late(&node))
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    MeshStatus {
        phase,
        sealed: phase == MeshPhase::Encrypted || enabled && was_sealed,
        nodes: count(snapshot.nodes.len()),
        encrypted_nodes: count(members.iter().filter(|node| encrypted(node)).count()),
        conditions: vec![
            ready(&late(condition::READY, "True"), members.len()),
            conditions::condition(
                condition::ENCRYPTED,
                phase == MeshPhase::Encrypted,
                phase.name(),
                match phase {
                    MeshPhase::Enabling | MeshPhase::Disabling => {
                        let waiting = members
                            .iter()
                            .filter(|node| if enabled { !encrypted(node) } else { !is_off(node) });
                        format!(
                            "waiting for {}",
                            conditions::listed(waiting.map(|node| node.as_str()))
                        )
                    }
                    MeshPhase::Off | MeshPhase::Encrypted => String::new(),
                },
            ),
            degraded(&late(condition::DEGRADED, "False"), &unreachable, enabled),
        ],
    }
}

fn ready(late: &[&str], members: usize) -> Condition {
    let waiting = || format!("not ready: {}", conditions::listed(late.iter().copied()));
    match (members, late) {
        (0, _) => conditions::condition(
            condition::READY,
            false,
            "NoNodes",
            "no node has a NodeTunnel".to_owned(),
        ),
        (_, []) => conditions::condition(condition::READY, true, "NodesReady", String::new()),
        _ => conditions::condition(condition::READY, false, "NodesNotReady", waiting()),
    }
}

fn degraded(late: &[&str], unreachable: &[&String], enabled: bool) -> Condition {
    let cut_off = enabled && !unreachable.is_empty();
    let reason = match (cut_off, late) {
        (true, _) => "UnreachableNodes",
        (false, [_, ..]) => "NodesDegraded",
        (false, []) => return conditions::condition(condition::DEGRADED, false, "AsExpected", String::new()),
    };
    let mut parts = Vec::new();
    if cut_off {
        let names = conditions::listed(unreachable.iter().map(|node| node.as_str()));
        parts.push(format!(
            "without a NodeTunnel, see spec.encryption.unreachableNodes: {names}"
        ));
    }
    if !late.is_empty() {
        parts.push(format!("degraded: {}", conditions::listed(late.iter().copied())));
    }
    conditions::condition(condition::DEGRADED, true, reason, parts.join("; "))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use hauberk_api::{Mesh, MeshSpec, NodeTunnel, NodeTunnelSpec, NodeTunnelStatus};

    use super::*;
    use crate::snapshot::Node;

    fn mesh(enabled: bool) -> Option<Mesh> {
        let mut spec = MeshSpec::default();
        spec.encryption.enabled = enabled;
        Some(Mesh::new("default", spec))
    }

    fn snapshot(enabled: bool, nodes: &[(&str, Option<(bool, &str)>)]) -> Snapshot {
        let mut snapshot = Snapshot {
            mesh: mesh(enabled),
            ..Default::default()
        };
        for (name, encrypted) in nodes {
            snapshot.nodes.insert((*name).into(), Node::default());
            if let Some((encrypted, reason)) = encrypted {
                let mut tunnel = NodeTunnel::new(name, NodeTunnelSpec::default());
                let conditions = vec![
                    conditions::condition("Ready", true, "InSync", String::new()),
                    conditions::condition("Encrypted", *encrypted, reason, String::new()),
                    conditions::condition("Degraded", false, "AsExpected", String::new()),
                ];
                tunnel.status = Some(NodeTunnelStatus { conditions });
                snapshot.tunnels.insert((*name).into(), tunnel);
            }
        }
        snapshot
    }

    #[test]
    fn the_mesh_is_encrypted_when_every_node_says_so_and_enabling_until_then() {
        let strict = Some((true, "AllPairsStrict"));
        let summary = summarise(&snapshot(
            true,
            &[("a", strict), ("b", Some((false, "PairsLag")))],
        ));
        assert_eq!(
            (summary.phase, summary.nodes, summary.encrypted_nodes),
            (MeshPhase::Enabling, 2, 1)
        );
        assert!(
            summary
                .conditions
                .iter()
                .any(|found| found.message == "waiting for b")
        );
        let summary = summarise(&snapshot(true, &[("a", strict), ("b", strict)]));
        assert_eq!(
            (summary.phase, summary.encrypted_nodes),
            (MeshPhase::Encrypted, 2)
        );
        assert_eq!(summarise(&snapshot(true, &[])).phase, MeshPhase::Enabling);
    }

    #[test]
    fn a_mesh_that_was_encrypted_is_sealed_until_the_flag_is_off() {
        let (strict, lagging) = (Some((true, "AllPairsStrict")), Some((false, "NotInForce")));
        assert!(!summarise(&snapshot(true, &[("a", lagging)])).sealed);
        let mut one_lags = snapshot(true, &[("a", strict), ("b", lagging)]);
        one_lags.mesh_status = Some(summarise(&snapshot(true, &[("a", strict), ("b", strict)])));
        let summary = summarise(&one_lags);
        assert_eq!((summary.phase, summary.sealed), (MeshPhase::Enabling, true));
        one_lags.mesh = mesh(false);
        assert!(!summarise(&one_lags).sealed);
    }

    #[test]
    fn the_mesh_is_off_only_when_no_node_has_a_pair_left() {
        let off = Some((false, "Off"));
        assert_eq!(
            summarise(&snapshot(false, &[("a", off), ("b", off)])).phase,
            MeshPhase::Off
        );
        let lagging = snapshot(false, &[("a", off), ("b", Some((false, "PairsLag")))]);
        assert_eq!(summarise(&lagging).phase, MeshPhase::Disabling);
        let unaware = snapshot(false, &[("a", Some((true, "AllPairsStrict"))), ("b", off)]);
        assert_eq!(summarise(&unaware).phase, MeshPhase::Disabling);
    }

    #[test]
    fn a_node_that_cannot_take_part_is_listed_and_holds_nobody_up() {
        let summary = summarise(&snapshot(
            true,
            &[("a", Some((true, "AllPairsStrict"))), ("bare", None)],
        ));
        assert_eq!(
            (summary.phase, summary.nodes, summary.encrypted_nodes),
            (MeshPhase::Encrypted, 2, 1)
        );
        let degraded = summary
            .conditions
            .iter()
            .find(|found| found.type_ == "Degraded")
            .unwrap();
        assert_eq!(degraded.reason, "UnreachableNodes");
        assert!(degraded.message.ends_with("bare"));
    }

    #[test]
    fn a_deleted_mesh_leaves_the_phase_to_the_nodes() {
        let strict = Some((true, "AllPairsStrict"));
        let mut without = snapshot(true, &[("a", strict), ("b", strict)]);
        without.mesh = None;
        assert_eq!(summarise(&without).phase, MeshPhase::Encrypted);
    }
}
