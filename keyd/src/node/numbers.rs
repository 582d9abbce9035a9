//! Collects what the kernel, the lanes and the pairs count into one report.

use std::collections::BTreeMap;

use hauberk_abi as abi;
use hauberk_api::{NodeTunnel, condition};
use hauberk_tunnel::LaneStats;

use super::pairs::Pairs;
use crate::compute::{DesiredState, LocalGeneration, PeerOwner};
use crate::report::{
    LaneReport, NodeReport, Passed, PeerReport, SOCKET_BUFFER_FULL, TUN_QUEUE_FULL, UNGUARDED_DEVICE,
};

/// What was counted, still apart.
#[derive(Default)]
pub struct Counted {
    /// The programs' counts of drops.
    pub drops: Vec<(abi::DropReason, abi::Count)>,
    /// The programs' counts of what passed.
    pub passed: Vec<(abi::Counter, abi::Count)>,
    /// Packets that the fence dropped.
    pub fence_drops: u64,
    /// Lanes by slot.
    pub lanes: BTreeMap<u32, LaneStats>,
}

impl Counted {
    /// Writes the counts into `report`.
    pub fn fill(&self, report: &mut NodeReport) {
        for (reason, count) in &self.drops {
            add(report, reason.name(), count.packets);
        }
        add(report, UNGUARDED_DEVICE, self.fence_drops);
        for stats in self.lanes.values() {
            for (reason, packets) in stats.drops.iter() {
                add(report, reason.name(), packets);
            }
            add(report, TUN_QUEUE_FULL, stats.tun_tx_dropped);
            add(report, SOCKET_BUFFER_FULL, stats.socket_rx_dropped);
        }
        for (counter, count) in &self.passed {
            let passed = Passed {
                packets: count.packets,
                bytes: count.bytes,
            };
            report.guard.insert(counter.name().to_owned(), passed);
            if *counter == abi::Counter::Clear {
                report.clear_bytes = count.bytes;
            }
        }
    }
}

/// Writes what this node says of its encryption into `report`.
pub fn fill_conditions(report: &mut NodeReport, tunnel: &NodeTunnel) {
    if let Some(condition) = tunnel.condition(condition::ENCRYPTED) {
        report.encrypted = condition.status == "True";
        report.reason = match condition.message.as_str() {
            "" => condition.reason.clone(),
            message => format!("{}: {message}", condition.reason),
        };
    }
}

/// Writes what the desired state says of this node into `report`.
pub fn fill_state(report: &mut NodeReport, desired: &DesiredState) {
    report.enforcer = if desired.config.flags & abi::CONFIG_ENFORCE != 0 {
        "Hauberk"
    } else {
        "CNI"
    }
    .to_owned();
    report.address_conflicts = desired.conflicts.len() as u64;
    report.problems.extend(
        desired
            .conflicts
            .iter()
            .map(|found| format!("{}: {} has it, not {}", found.what, found.winner, found.loser)),
    );
    report.problems.extend(
        desired
            .refused_external_peers
            .iter()
            .map(|(name, why)| format!("ExternalPeer {name} refused: {why}")),
    );
}

/// Writes pairs and lanes into `report`.
pub fn fill_peers(
    report: &mut NodeReport,
    desired: &DesiredState,
    generations: &[LocalGeneration],
    pairs: &Pairs,
    lanes: &BTreeMap<u32, LaneStats>,
) {
    let mut peers: BTreeMap<&str, PeerReport> = pairs
        .phases()
        .map(|(name, phase)| {
            (
                name,
                PeerReport {
                    node: name.to_owned(),
                    phase: phase.name().to_owned(),
                    ..PeerReport::default()
                },
            )
        })
        .collect();
    for (id, of_lane) in &desired.lane_peers {
        let Some(generation) = generations
            .iter()
            .find(|generation| generation.id == id.generation)
        else {
            continue;
        };
        let Some(stats) = lanes.get(&(generation.slot_base + id.lane as u32)) else {
            continue;
        };
        for peer in &stats.peers {
            let key = hauberk_api::PublicKey::from_bytes(peer.public_key.to_bytes());
            let Some(PeerOwner::Node(name)) = of_lane.get(&key).map(|peer| &peer.owner) else {
                continue;
            };
            let Some(entry) = peers.get_mut(name.as_str()) else {
                continue;
            };
            entry.tx_bytes += peer.tx_bytes;
            entry.rx_bytes += peer.rx_bytes;
            let age = peer.last_handshake.map(|age| age.as_secs());
            entry.last_handshake_s = [entry.last_handshake_s, age].into_iter().flatten().min();
        }
    }
    report.peers = peers.into_values().collect();
    for generation in generations {
        report.generation = generation.id;
        for (place, spec) in generation.lanes.iter().enumerate() {
            let slot = generation.slot_base + place as u32;
            report.lanes.push(LaneReport {
                device: crate::lanes::tun_name(slot),
                port: spec.port,
                busy_seconds: lanes.get(&slot).map_or(0.0, |stats| stats.busy_seconds),
            });
        }
    }
}

fn add(report: &mut NodeReport, reason: &str, packets: u64) {
    if packets > 0 {
        *report.dropped.entry(reason.to_owned()).or_default() += packets;
    }
}
