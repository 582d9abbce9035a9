//! How this node is wired: devices, routes, and the host-side interface of each pod.
//!
//! Stages: 1. wait for a netlink event, 2. read all tables, 3. find each pod by its route or
//! through its bridge. A pod found once stays found until its interface goes, because neighbour
//! and forwarding entries age out while the pod is silent. It changes no route, rule or setting, and
//! removes no device but TUNs of keyd's own that a dead process left.

pub mod netlink;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink::Netlink;
use tables::{LinkKind, PodInterface, Tables};

use crate::lanes;

/// Why the wiring cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    /// A request failed.
    #[error("cannot read {what} by netlink")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// The kernel's or the library's answer.
        #[source]
        source: Box<rtnetlink::Error>,
    },
}

impl WiringError {
    fn read(what: &'static str, source: rtnetlink::Error) -> Self {
        Self::Read {
            what,
            source: Box::new(source),
        }
    }
}

/// The tables as last read, and the pods found in them.
pub struct Wiring {
    netlink: Netlink,
    tables: Tables,
    found: BTreeMap<IpAddr, u32>,
}

impl Wiring {
    /// Opens netlink in the calling thread's network namespace and reads everything once.
    pub async fn open() -> Result<Self, WiringError> {
        let mut netlink = Netlink::open()?;
        let tables = netlink.dump().await?;
        Ok(Self {
            netlink,
            tables,
            found: BTreeMap::new(),
        })
    }

    /// Waits for a change of links, addresses, routes or neighbours; cancel safe.
    pub async fn changed(&mut self) {
        self.netlink.changed().await;
    }

    /// Reads the tables again; says whether they differ.
    pub async fn refresh(&mut self) -> Result<bool, WiringError> {
        let tables = self.netlink.dump().await?;
        let differs = tables != self.tables;
        self.tables = tables;
        Ok(differs)
    }

    /// The tables as last read.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The host-side interfaces of the pods that have `addresses`, as far as they are known.
    pub fn pod_interfaces(&mut self, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, u32> {
        let (tables, found) = (&self.tables, &mut self.found);
        found.retain(|address, port| addresses.contains(address) && tables.links.contains_key(port));
        for address in addresses {
            if let PodInterface::Found(port) = tables.pod_interface(*address) {
                found.insert(*address, port);
            }
        }
        found.clone()
    }

    /// The TUNs that are named as lanes name theirs.
    pub fn lane_tuns(&self) -> BTreeSet<u32> {
        let links = self.tables.links.iter();
        links
            .filter(|(_, link)| link.kind == LinkKind::Tun && lanes::is_tun_name(&link.name))
            .map(|(index, _)| *index)
            .collect()
    }

    /// Removes the TUNs that are named as lanes name theirs: no lane may run.
    pub async fn remove_lane_tuns(&self) -> Result<(), WiringError> {
        for device in self.lane_tuns() {
            self.netlink.remove(device).await?;
        }
        Ok(())
    }

    /// Has the kernel look for the pods that sit behind a bridge and are not found yet.
    pub async fn resolve_missing(&self, addresses: &BTreeSet<IpAddr>) {
        for address in addresses
            .iter()
            .filter(|address| !self.found.contains_key(address))
        {
            if let PodInterface::Behind(bridge) = self.tables.pod_interface(*address)
                && let Err(error) = self.netlink.resolve(bridge, *address).await
            {
                tracing::debug!(%address, %error, "pod behind a bridge not resolved");
            }
        }
    }
}
