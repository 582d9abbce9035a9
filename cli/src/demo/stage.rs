//! The set of the demo: three nodes with two pods each, keyd on all of them, and the two flows that run from the
//! first step to the last.
//!
//! Node b is wired by a bridge, a and c by routes. Beside the nodes' own prefixes one more is covered that belongs to
//! no node: addresses of which nobody knows yet whose they are.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::{Duration, Instant},
};

use hauberk_netlab::{FabricCounts, Lab, LabSpec, ManifestSpec, Mesh, NodeSpec, Pod, Protocol, Wiring};
use ipnet::IpNet;
use serde_yaml_ng::Value;

use super::{error::DemoError, marker::MARKER, tcp_flow::TcpFlow, udp_flow::UdpFlow};
use crate::{
    encryption,
    status::{self, Status},
};

/// The covered prefixes that belong to no node.
const UNKNOWN_PREFIXES: [&str; 2] = ["10.77.200.0/24", "fd77:200::/64"];
/// An address in each of them.
pub const UNKNOWN: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 200, 9)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0x200, 0, 0, 0, 0, 0, 9)),
];
/// How often a condition is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What every step works with. Fields are dropped in this order: flows, daemons, nodes.
pub struct Stage {
    /// From a1 to b1 over IPv4, never opened again.
    pub tcp: TcpFlow,
    /// From c1 to b2 over IPv6.
    pub udp: UdpFlow,
    /// keyd on every node, and the controller.
    pub mesh: Mesh,
    /// The nodes.
    pub lab: Lab,
}

impl Stage {
    /// Builds the nodes, starts everything with the flag off and waits until it is ready.
    pub fn set(keyd: &Path) -> Result<Self, DemoError> {
        let lab = Lab::new(LabSpec::new(
            "demo",
            vec![
                NodeSpec::new("a", Wiring::Routed, &["a1", "a2"]),
                NodeSpec::new("b", Wiring::Bridged, &["b1", "b2"]),
                NodeSpec::new("c", Wiring::Routed, &["c1", "c2"]),
            ],
        ))?;
        let mesh = Mesh::start(&lab, keyd, &ManifestSpec::default(), &[])?;
        let mut covered = lab.pod_cidrs();
        covered.extend(UNKNOWN_PREFIXES.map(|prefix| prefix.parse::<IpNet>().expect("a constant prefix")));
        cover(mesh.replicas().shared(), &covered)?;
        lab.fabric().set_covered(&covered)?;
        lab.fabric().set_marker(&MARKER)?;
        route_unknown(&lab)?;
        mesh.wait_ready()?;

        let tcp = TcpFlow::start(
            lab.pod("a1").netns(),
            lab.pod("b1").netns(),
            lab.pod("b1").v4().into(),
        )?;
        let udp = UdpFlow::start(
            lab.pod("c1").netns(),
            lab.pod("b2").netns(),
            lab.pod("b2").v6().into(),
        )?;
        Ok(Self { tcp, udp, mesh, lab })
    }

    /// The directory of manifests that all nodes' replicas come from.
    pub fn manifests(&self) -> &Path {
        self.mesh.replicas().shared()
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> &Pod {
        self.lab.pod(name)
    }

    /// What `hauberk enable encryption` and `hauberk disable encryption` do.
    pub fn set_flag(&self, enabled: bool) -> Result<(), DemoError> {
        encryption::set_enabled(self.manifests(), enabled)?;
        Ok(())
    }

    /// What `hauberk status` says.
    pub fn status(&self) -> Result<Status, DemoError> {
        Ok(status::read(self.manifests())?)
    }

    /// Waits until the status is as wanted; none when that takes longer than `patience`.
    pub fn wait_status(
        &self,
        patience: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Option<Instant>, DemoError> {
        let began = Instant::now();
        loop {
            if wanted(&self.status()?) {
                return Ok(Some(Instant::now()));
            }
            if began.elapsed() > patience {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Packets that the nodes say they dropped for this reason, together.
    pub fn dropped(&self, reason: &str) -> Result<u64, DemoError> {
        let status = self.status()?;
        Ok(status
            .nodes
            .iter()
            .filter_map(|node| node.dropped.as_ref()?.get(reason))
            .sum())
    }

    /// Waits, if need be, until the nodes say that they dropped more than `before` for this reason; how many more.
    pub fn dropped_since(&self, reason: &str, before: u64) -> Result<u64, DemoError> {
        /// Nodes tell their state once a second.
        const TOLD: Duration = Duration::from_millis(2500);
        let began = Instant::now();
        loop {
            let more = self.dropped(reason)?.saturating_sub(before);
            if more > 0 || began.elapsed() > TOLD {
                return Ok(more);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// What crossed the fabric during one step.
#[derive(Debug, Clone, Copy)]
pub struct Crossed {
    /// Packets with a covered address in clear, or with the marker in clear: 0 is what encryption promises.
    pub clear: u64,
    /// UDP datagrams between the nodes' own addresses, which in this lab only lanes send.
    pub datagrams: u64,
}

impl From<FabricCounts> for Crossed {
    fn from(counts: FabricCounts) -> Self {
        use hauberk_netlab::Family::{V4, V6};
        let udp = |tally: hauberk_netlab::Tally| -> u64 {
            [V4, V6]
                .map(|family| tally.of(family, Protocol::Udp).packets)
                .iter()
                .sum()
        };
        Self {
            clear: counts.covered.packets().max(counts.marker.packets()),
            datagrams: udp(counts.all).saturating_sub(udp(counts.covered)),
        }
    }
}

/// Sets `spec.encryption.podCIDRs` of the Mesh, by rename.
fn cover(manifests: &Path, prefixes: &[IpNet]) -> Result<(), DemoError> {
    let unknown = |what: &dyn std::fmt::Display| DemoError::Manifest(what.to_string());
    let path = manifests.join("mesh.yaml");
    let mut mesh: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(&path)?).map_err(|error| unknown(&error))?;
    let encryption = mesh
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("encryption"))
        .and_then(Value::as_mapping_mut)
        .ok_or_else(|| unknown(&"it has no spec.encryption"))?;
    let prefixes = prefixes
        .iter()
        .map(|prefix| Value::from(prefix.to_string()))
        .collect();
    encryption.insert("podCIDRs".into(), Value::Sequence(prefixes));
    let text = serde_yaml_ng::to_string(&mesh).map_err(|error| unknown(&error))?;
    let unfinished = manifests.join(".mesh.yaml");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)?;
    Ok(())
}

/// On node b, leads the prefixes that belong to nobody to node c: without encryption packets to them cross the fabric.
fn route_unknown(lab: &Lab) -> Result<(), DemoError> {
    let (b, c) = (lab.node("b"), lab.node("c"));
    let gateways = [c.v4().to_string(), c.v6().to_string()];
    for (prefix, gateway) in UNKNOWN_PREFIXES.iter().zip(&gateways) {
        let output = b
            .command("ip")
            .args(["route", "add", prefix, "via", gateway])
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(DemoError::Command {
                command: format!("ip route add {prefix}"),
                why,
            });
        }
    }
    Ok(())
}
