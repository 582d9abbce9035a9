//! The kernel's links, routes, neighbours and forwarding entries as plain data, and what follows
//! from them: the device by which an address is reached, and the host-side interface of a pod.
//!
//! Pure: it reads no socket and knows no clock, so that every rule here is tested without a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// What kind of device a link is, as far as keyd treats devices differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback device.
    Loopback,
    /// A bridge.
    Bridge,
    /// A TUN or TAP device.
    Tun,
    /// One end of a veth pair.
    Veth,
    /// Anything else.
    Other,
}

/// One network device of this namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The device's name.
    pub name: String,
    /// Its kind.
    pub kind: LinkKind,
    /// Its MAC address; `None` for a device without a link header.
    pub mac: Option<[u8; 6]>,
    /// The bridge (or bond) that the device is a port of.
    pub controller: Option<u32>,
}

/// One route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// By which device.
    pub device: u32,
    /// Whether a gateway lies between.
    pub gateway: bool,
    /// The kernel's metric: of equal prefixes the lowest wins.
    pub priority: u32,
}

/// What the kernel said in one dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Devices by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// The main table's unicast routes, both families.
    pub routes: Vec<Route>,
    /// MAC addresses of neighbours by device and address.
    pub neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
    /// Bridge ports by bridge and learnt MAC address.
    pub forwarding: BTreeMap<(u32, [u8; 6]), u32>,
    /// This host's own addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Where a pod's address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodInterface {
    /// The host-side interface is known.
    Found(u32),
    /// The pod is behind this bridge, whose neighbour or forwarding entry is not there (yet).
    Behind(u32),
    /// No route leads to a pod of this node.
    Unknown,
}

impl Tables {
    /// The route by which the kernel reaches `address`: longest prefix, then lowest metric.
    pub fn route(&self, address: IpAddr) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| route.destination.contains(&address))
            .max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.priority)))
    }

    /// The host-side interface of the pod that has `address`: the device of a host route, or the
    /// port of the bridge that the address's route leads to. It is a veth: an uplink never becomes a pod's
    /// because somebody outside announced a pod's address, or a route says so.
    pub fn pod_interface(&self, address: IpAddr) -> PodInterface {
        let Some(route) = self.route(address) else {
            return PodInterface::Unknown;
        };
        let Some(link) = self.links.get(&route.device) else {
            return PodInterface::Unknown;
        };
        if route.gateway {
            return PodInterface::Unknown;
        }
        if link.kind == LinkKind::Bridge {
            let port = self
                .neighbours
                .get(&(route.device, address))
                .and_then(|mac| self.forwarding.get(&(route.device, *mac)))
                .filter(|port| self.is_veth(**port));
            return port.map_or(PodInterface::Behind(route.device), |port| {
                PodInterface::Found(*port)
            });
        }
        let host_route = route.destination.prefix_len() == route.destination.max_prefix_len();
        if host_route && link.kind == LinkKind::Veth {
            PodInterface::Found(route.device)
        } else {
            PodInterface::Unknown
        }
    }

    fn is_veth(&self, index: u32) -> bool {
        self.links
            .get(&index)
            .is_some_and(|link| link.kind == LinkKind::Veth)
    }

    /// The device by which the kernel's routes reach `prefix`.
    pub fn via(&self, prefix: IpNet) -> Option<u32> {
        self.route(prefix.network()).map(|route| route.device)
    }

    /// Devices that `to_network` guards: whatever is not loopback, a pod's interface, a TUN of
    /// keyd's own or a bridge that pods are ports of. A device nobody explained is guarded.
    pub fn uplinks(&self, pods: &BTreeSet<u32>, own: &BTreeSet<u32>) -> BTreeSet<u32> {
        let pod_bridges = self.pod_bridges(pods);
        self.links
            .iter()
            .filter(|(index, link)| {
                link.kind != LinkKind::Loopback
                    && !pods.contains(index)
                    && !own.contains(index)
                    && !pod_bridges.contains(index)
            })
            .map(|(index, _)| *index)
            .collect()
    }

    /// Bridges that have one of `pods` as a port.
    pub fn pod_bridges(&self, pods: &BTreeSet<u32>) -> BTreeSet<u32> {
        pods.iter()
            .filter_map(|pod| self.links.get(pod)?.controller)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: LinkKind, controller: Option<u32>) -> Link {
        Link {
            name: name.into(),
            kind,
            mac: Some([2, 0, 0, 0, 0, 1]),
            controller,
        }
    }

    fn route(destination: &str, device: u32, gateway: bool) -> Route {
        Route {
            destination: destination.parse().expect("a prefix"),
            device,
            gateway,
            priority: 0,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node() -> Tables {
        let mut tables = Tables::default();
        tables.links.insert(1, link("lo", LinkKind::Loopback, None));
        tables.links.insert(2, link("eth0", LinkKind::Other, None));
        tables.links.insert(3, link("cni0", LinkKind::Bridge, None));
        tables.links.insert(4, link("veth-a", LinkKind::Veth, Some(3)));
        tables.links.insert(5, link("veth-b", LinkKind::Veth, None));
        tables.links.insert(6, link("hbk0", LinkKind::Tun, None));
        tables.routes = vec![
            route("0.0.0.0/0", 2, true),
            route("192.168.77.0/24", 2, false),
            route("10.77.1.0/24", 3, false),
            route("10.77.1.9/32", 5, false),
            route("fd77:1::9/128", 5, false),
            route("10.77.2.0/24", 2, true),
        ];
        tables
    }

    #[test]
    fn a_routed_pod_is_found_by_its_host_route_in_both_families() {
        assert_eq!(node().pod_interface(ip("10.77.1.9")), PodInterface::Found(5));
        assert_eq!(node().pod_interface(ip("fd77:1::9")), PodInterface::Found(5));
    }

    #[test]
    fn a_bridged_pod_is_found_once_neighbour_and_port_are_known() {
        let mut tables = node();
        let address = ip("10.77.1.2");
        assert_eq!(tables.pod_interface(address), PodInterface::Behind(3));
        tables.neighbours.insert((3, address), [2, 0, 0, 0, 0, 9]);
        assert_eq!(tables.pod_interface(address), PodInterface::Behind(3));
        tables.forwarding.insert((3, [2, 0, 0, 0, 0, 9]), 4);
        assert_eq!(tables.pod_interface(address), PodInterface::Found(4));
    }

    #[test]
    fn neither_an_uplink_nor_a_gateway_route_is_taken_for_a_pod() {
        assert_eq!(node().pod_interface(ip("192.168.77.2")), PodInterface::Unknown);
        assert_eq!(node().pod_interface(ip("10.77.2.4")), PodInterface::Unknown);
        assert_eq!(node().pod_interface(ip("8.8.8.8")), PodInterface::Unknown);
    }

    #[test]
    fn an_uplink_never_becomes_a_pods_interface() {
        let mut tables = node();
        tables.routes.push(route("10.77.1.7/32", 2, false));
        assert_eq!(tables.pod_interface(ip("10.77.1.7")), PodInterface::Unknown);
        // A bridge that an uplink is a port of as well, with a pod's address announced from outside.
        let address = ip("10.77.1.2");
        tables.links.insert(9, link("eth1", LinkKind::Other, Some(3)));
        tables.neighbours.insert((3, address), [2, 0, 0, 0, 0, 9]);
        tables.forwarding.insert((3, [2, 0, 0, 0, 0, 9]), 9);
        assert_eq!(tables.pod_interface(address), PodInterface::Behind(3));
    }

    #[test]
    fn a_device_nobody_explained_is_guarded_as_an_uplink() {
        let mut tables = node();
        tables.links.insert(7, link("wg-new", LinkKind::Other, None));
        let uplinks = tables.uplinks(&BTreeSet::from([4, 5]), &BTreeSet::from([6]));
        assert_eq!(uplinks, BTreeSet::from([2, 7]));
    }

    #[test]
    fn the_longest_prefix_decides_the_device_and_then_the_metric() {
        let mut tables = node();
        assert_eq!(tables.via("10.77.2.0/24".parse().expect("a prefix")), Some(2));
        tables.routes.push(Route {
            priority: 50,
            ..route("10.77.1.9/32", 2, false)
        });
        assert_eq!(tables.via("10.77.1.9/32".parse().expect("a prefix")), Some(5));
    }
}
