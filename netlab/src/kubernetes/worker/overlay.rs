//! An overlay as flannel's: one VXLAN device a node, and told all that it would otherwise have to learn.

use std::{fmt::Write as _, process::Command};

use crate::{Lab, LabError, Node, system::run_with_input};

pub(super) const DEVICE: &str = "vxlan1";
/// Linux's own default, which flannel took over; not IANA's 4789.
const PORT: u16 = 8472;
/// In bytes: Ethernet, VXLAN, UDP and IPv4 headers around a pod's packet.
const OVERHEAD: u32 = 50;

/// From now on the lab's nodes reach each other's pods by a VXLAN device `vxlan1`, over IPv4, and not by
/// plain routes. Returns the MTU that it leaves to pods, in bytes, where the fabric's is `fabric_mtu`.
///
/// # Errors
/// The kernel refuses.
pub fn vxlan_overlay(lab: &Lab, fabric_mtu: u32) -> Result<u32, LabError> {
    let mtu = fabric_mtu - OVERHEAD;
    let nodes = || lab.nodes().iter().filter(|node| node.in_cluster());
    for node in nodes() {
        let mut links = format!(
            "link add {DEVICE} address {} mtu {mtu} \
                type vxlan id 1 local {} dev {} dstport {PORT} nolearning\n\
             addr add {}/32 dev {DEVICE}\n\
             addr add {}/128 dev {DEVICE} nodad\n\
             link set {DEVICE} up\n",
            mac(node),
            node.v4(),
            node.uplink(),
            node.pod_cidr_v4().network(),
            node.pod_cidr_v6().network(),
        );
        let mut forwarding = String::new();
        for peer in nodes().filter(|peer| peer.number() != node.number()) {
            let mac = mac(peer);
            writeln!(
                forwarding,
                "fdb add {mac} dev {DEVICE} dst {} self permanent",
                peer.v4()
            )
            .expect("a String takes all that is written");
            let (v4, v6) = (peer.pod_cidr_v4(), peer.pod_cidr_v6());
            for (pods, gateway) in [
                (v4.to_string(), v4.network().to_string()),
                (v6.to_string(), v6.network().to_string()),
            ] {
                // Not replaced: IPv6 takes no gateway that it already knows another way to.
                write!(
                    links,
                    "route del {pods}\n\
                     neigh add {gateway} lladdr {mac} dev {DEVICE} nud permanent\n\
                     route add {pods} via {gateway} dev {DEVICE} onlink\n"
                )
                .expect("a String takes all that is written");
            }
        }
        batch("ip", node, &links)?;
        batch("bridge", node, &forwarding)?;
    }
    Ok(mtu)
}

fn mac(node: &Node) -> String {
    format!("0e:77:00:00:00:{:02x}", node.number())
}

fn batch(program: &str, node: &Node, text: &str) -> Result<(), LabError> {
    run_with_input(
        Command::new(program).args(["-n", node.netns().name(), "-batch", "-"]),
        text,
    )
    .map(drop)
}
