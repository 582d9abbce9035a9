//! Where the control plane is: a network namespace of its own, and a cable into a lab's fabric.
//!
//! It has the same address in every lab, so that its certificate and the kubeconfigs hold in all of them.
//! Nothing of the machine's own network is touched.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
};

use crate::{
    Lab, LabError, Netns,
    fabric::BRIDGE,
    runtime::Runtime,
    system::{run, run_with_input},
};

/// In a lab's network 192.168.77.0/24, above the most nodes that a lab can have.
pub(super) const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 250);
/// In a lab's network fd77::/64.
pub(super) const V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x250);

const DEVICE: &str = "eth0";
/// The fabric's port.
const PORT: &str = "kubernetes";
/// In bytes. The least that IPv6 allows, on the control plane's side: what it sends and what it lets others
/// send fits any fabric, also one that becomes narrower during a connection.
const MTU: u32 = 1280;
/// In bytes, on the fabric's side: a bridge takes the least MTU of its ports, and is to keep the lab's.
const PORT_MTU: u32 = 65_535;

pub(super) fn build(runtime: &Runtime) -> Result<Netns, LabError> {
    let netns = Netns::new(format!("{}-control-plane", runtime.id()), runtime.cgroup());
    run(Command::new("ip").args(["netns", "add", netns.name()]))?;
    // The components reach the API server by the same address, in a lab or not.
    batch(
        &netns,
        &format!("link set lo up\naddr add {V4}/32 dev lo\naddr add {V6}/128 dev lo nodad\n"),
    )?;
    Ok(netns)
}

/// Connects the control plane to this lab only; it leaves any other.
pub(super) fn join(netns: &Netns, lab: &Lab) -> Result<(), LabError> {
    let fabric = lab.fabric().netns();
    let mut text = format!(
        "link add {DEVICE} mtu {MTU} type veth peer name {PORT} mtu {PORT_MTU} netns {}\n\
         addr add {V4}/24 dev {DEVICE}\n\
         addr add {V6}/64 dev {DEVICE} nodad\n\
         link set {DEVICE} up\n",
        fabric.name()
    );
    for node in lab.nodes().iter().filter(|node| node.in_cluster()) {
        let (v4, v6) = (node.pod_cidr_v4(), node.pod_cidr_v6());
        write!(
            text,
            "route add {v4} via {}\nroute add {v6} via {}\n",
            node.v4(),
            node.v6()
        )
        .expect("a String takes all that is written");
    }
    // A lab that was dropped takes its end along, but only after a moment.
    if netns.run(|| nix::net::if_::if_nametoindex(DEVICE).is_ok())? {
        // It may go by itself meanwhile; if it stays, adding it again says so.
        let _ = batch(netns, &format!("link del {DEVICE}\n"));
    }
    batch(netns, &text)?;
    batch(fabric, &format!("link set {PORT} master {BRIDGE} up\n"))
}

fn batch(netns: &Netns, text: &str) -> Result<(), LabError> {
    run_with_input(Command::new("ip").args(["-n", netns.name(), "-batch", "-"]), text).map(|_| ())
}
