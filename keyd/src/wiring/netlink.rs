//! Reads the kernel's tables over rtnetlink and says when they changed.
//!
//! Every dump is whole: after an overrun nothing has to be pieced together. It writes nothing but
//! the request that a neighbour behind a bridge be resolved.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;

use super::WiringError;
use super::tables::{Link, LinkKind, Route, Tables};

/// `RT_TABLE_MAIN` of linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;

/// A netlink socket with subscriptions, and the tables as it last read them.
pub struct Netlink {
    handle: Handle,
    changed: watch::Receiver<u64>,
    seen: watch::Sender<Tables>,
}

impl Netlink {
    /// Opens the socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, WiringError> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(WiringError::Open)?;
        tokio::spawn(connection);
        let (seen, tables) = watch::channel(Tables::default());
        let (notify, changed) = watch::channel(0u64);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                // Neighbours change their state all the time; only a new mapping is news.
                let news = match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => {
                        is_news(&tables.borrow(), &entry)
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(_)) => false,
                    _ => true,
                };
                if news {
                    notify.send_modify(|count| *count += 1);
                }
            }
        });
        Ok(Self {
            handle,
            changed,
            seen,
        })
    }

    /// Waits until something changed since the last call; cancel safe. Without end if the socket broke.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads everything.
    pub async fn dump(&mut self) -> Result<Tables, WiringError> {
        self.changed.mark_unchanged();
        let mut tables = Tables::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links
            .try_next()
            .await
            .map_err(|e| WiringError::read("links", e))?
        {
            let (index, link) = read_link(message);
            tables.links.insert(index, link);
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses
            .try_next()
            .await
            .map_err(|e| WiringError::read("addresses", e))?
        {
            tables
                .addresses
                .extend(message.attributes.iter().filter_map(|attribute| match attribute {
                    AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                }));
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessageBuilder::<IpAddr>::new().build();
            request.header.address_family = family;
            let mut routes = self.handle.route().get(request).execute();
            while let Some(message) = routes
                .try_next()
                .await
                .map_err(|e| WiringError::read("routes", e))?
            {
                tables.routes.extend(read_route(&message));
            }
            let mut entries = self
                .handle
                .neighbours()
                .get()
                .set_address_family(family)
                .execute();
            while let Some(message) = entries
                .try_next()
                .await
                .map_err(|e| WiringError::read("neighbours", e))?
            {
                if let Some((address, mac)) = read_neighbour(&message) {
                    tables.neighbours.insert((message.header.ifindex, address), mac);
                }
            }
        }
        let mut entries = self
            .handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Bridge)
            .execute();
        while let Some(message) = entries
            .try_next()
            .await
            .map_err(|e| WiringError::read("bridge entries", e))?
        {
            if let Some((bridge, mac)) = read_forwarding(&message) {
                tables.forwarding.insert((bridge, mac), message.header.ifindex);
            }
        }
        self.seen.send_replace(tables.clone());
        Ok(tables)
    }

    /// Asks the kernel to resolve `address` on `device`, as if a packet waited for it
    /// (`NTF_USE`, net/core/neighbour.c). The answer comes as a change.
    pub async fn resolve(&self, device: u32, address: IpAddr) -> Result<(), WiringError> {
        let request = self
            .handle
            .neighbours()
            .add(device, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        request
            .execute()
            .await
            .map_err(|e| WiringError::read("a neighbour", e))
    }

    /// Removes a device; one that is gone already is no error.
    pub async fn remove(&self, device: u32) -> Result<(), WiringError> {
        match self.handle.link().del(device).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -nix::libc::ENODEV => {
                Ok(())
            }
            result => result.map_err(|e| WiringError::read("a device", e)),
        }
    }
}

fn is_news(tables: &Tables, entry: &NeighbourMessage) -> bool {
    if entry.header.family == AddressFamily::Bridge {
        read_forwarding(entry).is_some_and(|key| tables.forwarding.get(&key) != Some(&entry.header.ifindex))
    } else {
        read_neighbour(entry).is_some_and(|(address, mac)| {
            tables.neighbours.get(&(entry.header.ifindex, address)) != Some(&mac)
        })
    }
}

fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}

fn read_link(message: LinkMessage) -> (u32, Link) {
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        name: String::new(),
        kind: LinkKind::Other,
        mac: None,
        controller: None,
    };
    if message.header.link_layer_type == LinkLayerType::Loopback {
        link.kind = LinkKind::Loopback;
    }
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) if ethernet => link.mac = mac(&bytes),
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Tun) => link.kind = LinkKind::Tun,
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (message.header.index, link)
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut table = u32::from(message.header.table);
    let (mut destination, mut device, mut gateway, mut priority) = (None, None, false, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address))
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address))
            }
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
            RouteAttribute::Priority(metric) => priority = *metric,
            RouteAttribute::MultiPath(hops) => {
                device = device.or(hops.first().map(|hop| hop.interface_index));
                gateway = true;
            }
            _ => {}
        }
    }
    let address = destination.or(match message.header.address_family {
        AddressFamily::Inet => Some(IpAddr::from([0u8; 4])),
        AddressFamily::Inet6 => Some(IpAddr::from([0u8; 16])),
        _ => None,
    })?;
    let destination = IpNet::new(address, message.header.destination_prefix_length).ok()?;
    (table == TABLE_MAIN).then_some(Route {
        destination,
        device: device?,
        gateway,
        priority,
    })
}

fn read_neighbour(message: &NeighbourMessage) -> Option<(IpAddr, [u8; 6])> {
    let mut address = None;
    let mut lladdr = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => lladdr = mac(bytes),
            _ => {}
        }
    }
    Some((address?, lladdr?))
}

fn read_forwarding(message: &NeighbourMessage) -> Option<(u32, [u8; 6])> {
    let mut bridge = None;
    let mut lladdr = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::LinkLayerAddress(bytes) => lladdr = mac(bytes),
            _ => {}
        }
    }
    Some((bridge?, lladdr?))
}
