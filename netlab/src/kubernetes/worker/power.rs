//! What a node's kernel forgets when the power goes. The node stays the same network namespace and the same
//! cgroups, so all that is not the lab's own is removed from them.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{machine, overlay};
use crate::{
    Lab, LabError, Node,
    error::file,
    fabric,
    system::{run, run_with_input},
};

/// The lab's own table of nftables.
const LABS_TABLE: &str = "inet kube-proxy-like";
/// What Hauberk sets on nodes; 0 after a boot.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";

/// Plugs the node's uplink in or out.
pub(super) fn set_uplink(lab: &Lab, node: &Node, state: &str) -> Result<(), LabError> {
    let fabric = lab.fabric().netns().name();
    let port = fabric::port(node.number());
    run(Command::new("ip").args(["-n", fabric, "link", "set", &port, state])).map(drop)
}

/// Only when nothing runs on the node: cgroups, pins, devices, programs on the lab's own devices, nftables.
pub(super) fn forget(node: &Node) -> Result<(), LabError> {
    remove_cgroups(node)?;
    let pins = node.pin_dir();
    for pin in fs::read_dir(pins).map_err(file("cannot read", pins))?.flatten() {
        let path = pin.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(file("cannot remove", &path))?;
    }
    for device in devices(node)? {
        if ["lo", node.uplink(), "cni0", overlay::DEVICE].contains(&&*device) {
            // It fails where there is no such qdisc.
            let _ = run(in_node(node, "tc").args(["qdisc", "del", "dev", &device, "clsact"]));
        } else {
            // The other end of a pod's veth goes by itself meanwhile.
            let _ = run(in_node(node, "ip").args(["link", "del", &device]));
        }
    }
    // Packets that wait for a neighbour's answer would be sent when the uplink is back.
    run(in_node(node, "ip").args(["neigh", "flush", "dev", node.uplink()]))?;
    let tables = run(in_node(node, "nft").args(["list", "tables"]))?.stdout;
    let others: String = String::from_utf8_lossy(&tables)
        .lines()
        .filter(|line| !line.ends_with(LABS_TABLE))
        .map(|line| format!("delete {line}\n"))
        .collect();
    run_with_input(in_node(node, "nft").args(["-f", "-"]), &others)?;
    let liberal = Path::new(LIBERAL);
    let written = node.netns().run(|| fs::write(liberal, "0"))?;
    written.map_err(file("cannot write", liberal))
}

/// Those of containers, which a kubelet would look into at length when it starts.
fn remove_cgroups(node: &Node) -> Result<(), LabError> {
    for cgroup in machine::cgroups(node)? {
        run(Command::new("find")
            .arg(cgroup)
            .args(["-mindepth", "1", "-depth", "-type", "d", "-delete"]))?;
    }
    Ok(())
}

fn devices(node: &Node) -> Result<Vec<String>, LabError> {
    let links = run(in_node(node, "ip").args(["-json", "link"]))?.stdout;
    let links: Vec<Value> = serde_json::from_slice(&links).unwrap_or_default();
    let name = |link: &Value| link["ifname"].as_str().map(str::to_owned);
    Ok(links.iter().filter_map(name).collect())
}

fn in_node(node: &Node, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", node.netns().path().display()))
        .arg(program);
    command
}
