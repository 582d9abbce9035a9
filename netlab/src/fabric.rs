//! What joins the nodes: a bridge in a namespace of its own, and an eBPF program on each of its ports that
//! counts and impairs.
//!
//! Captures lose packets at speed, the program does not: it sees each packet that a node sends on the
//! fabric, once, before anything is done to it.

use std::{process::Command, sync::Mutex};

use ipnet::IpNet;

use crate::{Capture, CaptureSpec, LabError, Netns, Node, system};

mod counts;
mod hold;
mod impairment;
#[path = "../prog/src/layout.rs"]
#[allow(missing_docs)]
mod layout;
mod program;

pub use counts::{Count, FabricCounts, Family, Protocol, Tally};
use hold::Hold;
pub use impairment::Impairment;
use program::Program;

/// The device that packets are captured on.
pub(crate) const BRIDGE: &str = "br0";

/// The fabric's port to which node `number` is connected.
pub(crate) fn port(number: u8) -> String {
    format!("p{number}")
}

/// The fabric. All methods take `&self` and may be called from any thread.
#[derive(Debug)]
pub struct Fabric {
    netns: Netns,
    ports: Vec<Port>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Port {
    node: String,
    uplink: &'static str,
    uplink_netns: Netns,
    ifindex: u32,
}

#[derive(Debug)]
struct State {
    program: Program,
    /// By port, at the last reset.
    zero: Vec<FabricCounts>,
    hold: Option<Hold>,
}

impl Fabric {
    /// Shortest marker, in bytes: a shorter one may be in ciphertext by chance.
    pub const MARKER_MIN: usize = 8;
    /// Longest marker, in bytes.
    pub const MARKER_MAX: usize = 16;

    pub(crate) fn start(netns: Netns, nodes: &[Node]) -> Result<Self, LabError> {
        let names: Vec<_> = nodes.iter().map(|node| port(node.number())).collect();
        let (program, ifindexes) = netns.run(|| Program::attach(&names))??;
        let ports = nodes
            .iter()
            .zip(ifindexes)
            .map(|(node, ifindex)| Port {
                node: node.name().into(),
                uplink: node.uplink(),
                uplink_netns: node.netns().clone(),
                ifindex,
            })
            .collect();
        let zero = vec![FabricCounts::default(); nodes.len()];
        Ok(Self {
            netns,
            ports,
            state: Mutex::new(State {
                program,
                zero,
                hold: None,
            }),
        })
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// From now on packets with a source or destination in one of `prefixes` are counted as covered in clear.
    ///
    /// # Errors
    /// The kernel refuses: more than 1,024 prefixes.
    pub fn set_covered(&self, prefixes: &[IpNet]) -> Result<(), LabError> {
        self.state().program.set_covered(prefixes)
    }

    /// From now on packets with these bytes (8 to 16, not all zero at the end) anywhere in their first 300 bytes
    /// or so are counted; an empty marker turns it off.
    ///
    /// # Errors
    /// A marker of another length.
    pub fn set_marker(&self, marker: &[u8]) -> Result<(), LabError> {
        let fits = (Self::MARKER_MIN..=Self::MARKER_MAX).contains(&marker.len());
        if !fits && !marker.is_empty() {
            return Err(LabError::Spec(format!(
                "a marker has {} to {} bytes, not {}",
                Self::MARKER_MIN,
                Self::MARKER_MAX,
                marker.len()
            )));
        }
        self.state().program.set_marker(marker)
    }

    /// Sets what the fabric does to each packet of IPv4 and IPv6, on every port, from now on.
    ///
    /// While it does anything, the nodes' uplinks send no super-packets, so that each decision is about one
    /// packet on the wire.
    ///
    /// # Errors
    /// `ethtool` is missing, or the kernel refuses.
    pub fn set_impairment(&self, impairment: Impairment) -> Result<(), LabError> {
        let offload = if impairment.does_nothing() { "on" } else { "off" };
        for port in &self.ports {
            // The settings of a veth are its own side's: what the node sends.
            let mut ethtool = Command::new("nsenter");
            ethtool.arg(format!("--net={}", port.uplink_netns.path().display()));
            ethtool.args(["ethtool", "-K", port.uplink]);
            for feature in ["tso", "gso", "tx-udp-segmentation"] {
                ethtool.args([feature, offload]);
            }
            system::run(&mut ethtool)?;
        }
        let mut state = self.state();
        let hold_ifindex = match &state.hold {
            _ if impairment.reorder_ppm == 0 => 0,
            Some(hold) => {
                hold.set_time(impairment.reorder_hold);
                hold.ifindex()
            }
            None => {
                let hold = Hold::start(&self.netns, BRIDGE, impairment.reorder_hold)?;
                state.hold.insert(hold).ifindex()
            }
        };
        state.program.set_impairment(impairment, hold_ifindex)
    }

    /// What crossed since the last [`Fabric::reset`], from all nodes together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counts(&self) -> Result<FabricCounts, LabError> {
        let mut sum = FabricCounts::default();
        for counts in self.by_port()? {
            sum.add(&counts);
        }
        Ok(sum)
    }

    /// What came from one node since the last [`Fabric::reset`].
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn counts_from(&self, node: &str) -> Result<FabricCounts, LabError> {
        let port = self.ports.iter().position(|port| port.node == node);
        let port = port.unwrap_or_else(|| panic!("the lab has no node {node}"));
        Ok(self.by_port()?[port])
    }

    fn by_port(&self) -> Result<Vec<FabricCounts>, LabError> {
        let state = self.state();
        let counted = self.ports.iter().zip(&state.zero).map(|(port, zero)| {
            let mut counts = state.program.counts(port.ifindex)?;
            counts.subtract(zero);
            Ok(counts)
        });
        counted.collect()
    }

    /// Begins to count from zero.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reset(&self) -> Result<(), LabError> {
        let mut state = self.state();
        let now: Result<_, LabError> = self
            .ports
            .iter()
            .map(|port| state.program.counts(port.ifindex))
            .collect();
        state.zero = now?;
        Ok(())
    }

    /// Captures what crosses, from now until [`Capture::stop`].
    ///
    /// # Errors
    /// A filter that libpcap does not understand.
    pub fn capture(&self, spec: CaptureSpec) -> Result<Capture, LabError> {
        Capture::start(&self.netns, BRIDGE, spec)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the fabric's state")
    }
}
