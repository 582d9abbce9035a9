//! The CNI configuration of a node: the reference plugins, as the lab wires its own pods.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};

use super::{WorkerSpec, machine};
use crate::{LabError, Node, Wiring, error::file, kubernetes::Families};

/// Where container runtimes look for plugins and their configuration, on any distribution.
const PLUGINS: &str = "opt/cni/bin";
const CONFIGURATION: &str = "etc/cni/net.d/10-netlab.conflist";
/// Where Debian's containernetworking-plugins has them.
const INSTALLED: &str = "/usr/lib/cni";

/// Writes both to the node's disk. More plugins can be put beside them.
pub(super) fn write(node: &Node, families: Families, spec: &WorkerSpec, disk: &Path) -> Result<(), LabError> {
    let installed = Path::new(INSTALLED);
    let missing = "containernetworking-plugins are needed; cannot read";
    let plugins = disk.join(PLUGINS);
    fs::create_dir_all(&plugins).map_err(file("cannot make", &plugins))?;
    for plugin in fs::read_dir(installed).map_err(file(missing, installed))? {
        let plugin = plugin.map_err(file(missing, installed))?;
        let link = plugins.join(plugin.file_name());
        symlink(plugin.path(), &link).map_err(file("cannot make", &link))?;
    }
    machine::write(
        disk,
        CONFIGURATION,
        &configuration(node, families, spec).to_string(),
    )
}

/// The conflist: `ptp` gives each pod a veth to the host with host routes, `bridge` a port of `cni0`.
fn configuration(node: &Node, families: Families, spec: &WorkerSpec) -> Value {
    let range = |subnet: &String| json!([{"subnet": subnet}]);
    let ipam = json!({
        "type": "host-local",
        "ranges": families.pod_cidrs(node).iter().map(range).collect::<Value>(),
        "routes": families.of(json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"})),
    });
    let wiring = match node.wiring() {
        Wiring::Routed => json!({"type": "ptp", "mtu": spec.pod_mtu, "ipam": ipam}),
        Wiring::Bridged => json!({
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "mtu": spec.pod_mtu,
            "ipam": ipam,
        }),
    };
    let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let plugins: Vec<_> = [wiring, ports].into_iter().chain(spec.chained.clone()).collect();
    json!({"cniVersion": "1.0.0", "name": "netlab", "plugins": plugins})
}
