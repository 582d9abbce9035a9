//! The kernel's side of a lab: namespaces, links, addresses, routes, as text for `ip -batch`.
//!
//! 1. names of all namespaces;
//! 2. settings that must be there before any device is;
//! 3. the fabric's bridge, the uplinks, and the routes between nodes;
//! 4. pods.
//!
//! No device ever exists outside the lab's namespaces. `rp_filter` is never touched.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::{
    LabError, Netns, Node, Pod, Wiring, error::file, fabric, runtime::Runtime, system::run_with_input,
};

/// The host's side of every routed pod's veth has this MAC address, as with Calico.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
const GATEWAY_V4: &str = "169.254.1.1";
const GATEWAY_V6: &str = "fe80::1";

/// As kube-proxy: what conntrack calls invalid is dropped.
const DROP_INVALID: &str = "table inet kube-proxy-like {
    chain input { type filter hook input priority 0; ct state invalid counter drop; }
    chain forward { type filter hook forward priority 0; ct state invalid counter drop; }
    chain output { type filter hook output priority 0; ct state invalid counter drop; }
}
";

/// Builds it all and returns the fabric's namespace.
pub(super) fn build(
    nodes: &[Node],
    runtime: &Runtime,
    fabric_mtu: u32,
    pod_mtu: u32,
) -> Result<Netns, LabError> {
    let fabric = Netns::new(format!("{}-fabric", runtime.id()), runtime.cgroup());
    let pods = || nodes.iter().flat_map(Node::pods);
    let all = || nodes.iter().map(Node::netns).chain(pods().map(Pod::netns));
    add_namespaces(all().chain([&fabric]))?;
    for netns in all() {
        set(netns, &NO_DAD)?;
    }
    set(&fabric, &[("net/ipv6/conf/default/disable_ipv6", "1")])?;

    batch(
        &fabric,
        &format!("link add br0 mtu {fabric_mtu} type bridge mcast_snooping 0\nlink set br0 up\n"),
    )?;
    for node in nodes {
        set(node.netns(), &FORWARD)?;
        batch(node.netns(), &node_links(node, &fabric, fabric_mtu))?;
    }
    let mut ports = String::new();
    for node in nodes {
        let port = fabric::port(node.number());
        line(&mut ports, format_args!("link set {port} master br0 up"));
    }
    batch(&fabric, &ports)?;
    for node in nodes {
        let mut text = routes(node, nodes);
        for pod in node.pods() {
            text.push_str(&pod_host_side(node, pod, pod_mtu));
        }
        batch(node.netns(), &text)?;
        run_with_input(
            Command::new("nsenter")
                .arg(net(node.netns()))
                .args(["nft", "-f", "-"]),
            DROP_INVALID,
        )?;
    }
    for node in nodes {
        for pod in node.pods() {
            batch(pod.netns(), &pod_inside(node, pod))?;
        }
    }
    Ok(fabric)
}

pub(super) fn add_pod(node: &Node, pod: &Pod, mtu: u32) -> Result<(), LabError> {
    add_namespaces([pod.netns()].into_iter())?;
    set(pod.netns(), &NO_DAD)?;
    batch(node.netns(), &pod_host_side(node, pod, mtu))?;
    batch(pod.netns(), &pod_inside(node, pod))
}

pub(super) fn remove_pod(node: &Node, pod: &Pod) -> Result<(), LabError> {
    batch(node.netns(), &format!("link del {}\n", pod.host_interface()))?;
    run_with_input(
        Command::new("ip").args(["-batch", "-"]),
        &format!("netns del {}\n", pod.netns().name()),
    )
    .map(|_| ())
}

pub(super) fn set_fabric_mtu(nodes: &[Node], fabric: &Netns, mtu: u32) -> Result<(), LabError> {
    let mut text = String::new();
    for node in nodes {
        line(
            &mut text,
            format_args!("link set {} mtu {mtu}", fabric::port(node.number())),
        );
    }
    line(&mut text, format_args!("link set br0 mtu {mtu}"));
    batch(fabric, &text)?;
    for node in nodes {
        batch(node.netns(), &format!("link set {} mtu {mtu}\n", node.uplink()))?;
    }
    Ok(())
}

/// Duplicate address detection would keep every address tentative for a second.
const NO_DAD: [(&str, &str); 2] = [
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];
const FORWARD: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
];

fn node_links(node: &Node, fabric: &Netns, mtu: u32) -> String {
    let (uplink, port, fabric) = (node.uplink(), fabric::port(node.number()), fabric.name());
    let mut text = String::new();
    let t = &mut text;
    line(t, format_args!("link set lo up"));
    line(
        t,
        format_args!("link add {uplink} mtu {mtu} type veth peer name {port} mtu {mtu} netns {fabric}"),
    );
    line(t, format_args!("addr add {}/24 dev {uplink}", node.v4()));
    line(t, format_args!("addr add {}/64 dev {uplink} nodad", node.v6()));
    line(t, format_args!("link set {uplink} up"));
    if node.wiring() == Wiring::Bridged {
        line(t, format_args!("link add cni0 type bridge mcast_snooping 0"));
        line(t, format_args!("addr add {}/24 dev cni0", gateway_v4(node)));
        line(t, format_args!("addr add {}/64 dev cni0 nodad", gateway_v6(node)));
        line(t, format_args!("link set cni0 up"));
    }
    text
}

fn routes(node: &Node, nodes: &[Node]) -> String {
    let mut text = String::new();
    for other in nodes
        .iter()
        .filter(|other| other.number() != node.number() && other.in_cluster())
    {
        line(
            &mut text,
            format_args!("route add {} via {}", other.pod_cidr_v4(), other.v4()),
        );
        line(
            &mut text,
            format_args!("route add {} via {}", other.pod_cidr_v6(), other.v6()),
        );
    }
    text
}

fn pod_host_side(node: &Node, pod: &Pod, mtu: u32) -> String {
    let (host, pod_netns) = (pod.host_interface(), pod.netns().name());
    let mut text = String::new();
    let t = &mut text;
    match node.wiring() {
        Wiring::Routed => {
            line(
                t,
                format_args!(
                    "link add {host} address {GATEWAY_MAC} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod_netns}"
                ),
            );
            line(t, format_args!("addr add {GATEWAY_V6}/64 dev {host} nodad"));
            line(t, format_args!("link set {host} up"));
            line(t, format_args!("route add {}/32 dev {host} scope link", pod.v4()));
            line(t, format_args!("route add {}/128 dev {host}", pod.v6()));
        }
        Wiring::Bridged => {
            line(
                t,
                format_args!(
                    "link add {host} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod_netns}"
                ),
            );
            line(t, format_args!("link set {host} master cni0 up"));
        }
    }
    text
}

fn pod_inside(node: &Node, pod: &Pod) -> String {
    let mut text = String::new();
    let t = &mut text;
    line(t, format_args!("link set lo up"));
    line(t, format_args!("link set eth0 up"));
    match node.wiring() {
        Wiring::Routed => {
            line(t, format_args!("addr add {}/32 dev eth0", pod.v4()));
            line(t, format_args!("addr add {}/128 dev eth0 nodad", pod.v6()));
            // Proxy ARP does not answer for it where the node has no default route.
            line(
                t,
                format_args!("neigh add {GATEWAY_V4} lladdr {GATEWAY_MAC} dev eth0 nud permanent"),
            );
            line(
                t,
                format_args!("neigh add {GATEWAY_V6} lladdr {GATEWAY_MAC} dev eth0 nud permanent"),
            );
            line(t, format_args!("route add {GATEWAY_V4} dev eth0 scope link"));
            line(t, format_args!("route add default via {GATEWAY_V4} dev eth0"));
            line(t, format_args!("route add default via {GATEWAY_V6} dev eth0"));
        }
        Wiring::Bridged => {
            line(t, format_args!("addr add {}/24 dev eth0", pod.v4()));
            line(t, format_args!("addr add {}/64 dev eth0 nodad", pod.v6()));
            line(t, format_args!("route add default via {}", gateway_v4(node)));
            line(t, format_args!("route add default via {}", gateway_v6(node)));
        }
    }
    text
}

fn gateway_v4(node: &Node) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(node.pod_cidr_v4().network().to_bits() | 1)
}

fn gateway_v6(node: &Node) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(node.pod_cidr_v6().network().to_bits() | 1)
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes all that is written");
}

fn add_namespaces<'a>(namespaces: impl Iterator<Item = &'a Netns>) -> Result<(), LabError> {
    let mut text = String::new();
    for netns in namespaces {
        line(&mut text, format_args!("netns add {}", netns.name()));
    }
    run_with_input(Command::new("ip").args(["-batch", "-"]), &text).map(|_| ())
}

fn batch(netns: &Netns, text: &str) -> Result<(), LabError> {
    run_with_input(Command::new("ip").args(["-n", netns.name(), "-batch", "-"]), text).map(|_| ())
}

fn net(netns: &Netns) -> String {
    format!("--net={}", netns.path().display())
}

/// Writes kernel settings below /proc/sys, which shows a reader's own network namespace.
fn set(netns: &Netns, settings: &[(&str, &str)]) -> Result<(), LabError> {
    netns.run(|| {
        for (name, value) in settings {
            let path = Path::new("/proc/sys").join(name);
            fs::write(&path, value).map_err(file("cannot write", &path))?;
        }
        Ok(())
    })?
}
