//! One nftables table that closes devices which no program guards yet.
//!
//! A device that appears after the start is open until keyd has seen it and attached `to_network`. The rule
//! closes that gap: covered traffic that the stack sends by a device which is not in the list is dropped.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use thiserror::Error;

/// The table's name, family `inet`.
pub const TABLE: &str = "hauberk";

/// What the table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Covered prefixes; IPv4 and IPv6.
    pub covered: BTreeSet<IpNet>,
    /// Other mesh nodes' addresses: replies of covered sources to them are covered too.
    pub nodes: BTreeSet<IpAddr>,
    /// Devices covered traffic may leave by: guarded uplinks, pods' host sides, bridges, TUNs (`lo` always may).
    pub known_devices: BTreeSet<String>,
}

/// nftables refused the table, or is not there.
#[derive(Debug, Error)]
pub enum FenceError {
    /// `nft` failed; is Debian's package `nftables` installed?
    #[error("the nftables table of {TABLE} cannot be written (is `nft` installed?): {0}")]
    Nft(String),
}

/// Makes the table say exactly this, in one transaction.
pub fn apply(_fence: &Fence) -> Result<(), FenceError> {
    todo!()
}

/// Packets the rule has dropped since the table was made; `None` when there is no table.
pub fn dropped_packets() -> Result<Option<u64>, FenceError> {
    todo!()
}

/// Takes the table away; not an error when there is none.
pub fn remove() -> Result<(), FenceError> {
    todo!()
}
