//! What joins the nodes: a bridge in a namespace of its own, and an eBPF program on each of its ports that
//! counts and impairs.

use ipnet::IpNet;

use crate::{Capture, CaptureSpec, LabError, Netns};

mod counts;
mod impairment;

pub use counts::{Count, FabricCounts, Family, Protocol, Tally};
pub use impairment::Impairment;

/// The fabric.
#[derive(Debug)]
pub struct Fabric {
    netns: Netns,
}

impl Fabric {
    /// Longest marker, in bytes.
    pub const MARKER_MAX: usize = 16;

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// From now on packets with a source or destination in one of `prefixes` are counted as covered in clear.
    pub fn set_covered(&self, _prefixes: &[IpNet]) -> Result<(), LabError> {
        todo!()
    }

    /// From now on packets with these bytes (4 to 16) anywhere in their first 300 bytes or so are counted; an
    /// empty marker turns it off.
    pub fn set_marker(&self, _marker: &[u8]) -> Result<(), LabError> {
        todo!()
    }

    /// Sets what the fabric does to each packet of IPv4 and IPv6, on every port, from now on.
    ///
    /// While it does anything, the nodes' uplinks send no super-packets, so that each decision is about one
    /// packet on the wire.
    pub fn set_impairment(&self, _impairment: Impairment) -> Result<(), LabError> {
        todo!()
    }

    /// What crossed since the last [`Fabric::reset`], on all ports together.
    pub fn counts(&self) -> Result<FabricCounts, LabError> {
        todo!()
    }

    /// What came from one node since the last [`Fabric::reset`].
    pub fn counts_from(&self, _node: &str) -> Result<FabricCounts, LabError> {
        todo!()
    }

    /// Begins to count from zero.
    pub fn reset(&self) -> Result<(), LabError> {
        todo!()
    }

    /// Captures what crosses, from now until [`Capture::stop`].
    pub fn capture(&self, _spec: CaptureSpec) -> Result<Capture, LabError> {
        todo!()
    }
}
