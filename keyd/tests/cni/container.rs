//! Containers of a node of a lab, and the runtime that calls plugins for them.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use hauberk_netlab::{Lab, Node, Wiring};
use serde_json::{Value, json};

/// Where Debian's containernetworking-plugins are.
const REFERENCE: &str = "/usr/lib/cni";
/// Last part of the address that the first container gets; the lab's own pods have the lowest.
const FIRST: u8 = 100;

/// The plugin, as cargo built it.
pub fn plugin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hauberk-cni"))
}

/// What is asked of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Add,
    Check,
    Del,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

/// A container: a network namespace that nobody but the plugins connects.
pub struct Container {
    /// Its id.
    pub id: String,
    netns: PathBuf,
    /// What the last plugin of an ADD said.
    result: Value,
}

impl Container {
    /// Makes its namespace; it goes with the lab.
    pub fn new(lab: &Lab, node: &str, id: &str) -> Self {
        let name = format!("{}-{node}-{id}", lab.id());
        // Duplicate address detection would keep every address tentative for a second.
        let script = format!(
            "ip netns add {name} && for f in all default; do \
             nsenter --net=/run/netns/{name} sysctl -qw net.ipv6.conf.$f.accept_dad=0; done"
        );
        let made = Command::new("sh")
            .args(["-c", &script])
            .status()
            .expect("sh runs");
        assert!(made.success());
        Self {
            id: id.into(),
            netns: Path::new("/run/netns").join(name),
            result: Value::Null,
        }
    }

    /// A command inside it.
    pub fn command(&self, node: &Node, program: &str) -> Command {
        let mut command = node.command("nsenter");
        command
            .arg(format!("--net={}", self.netns.display()))
            .arg(program);
        command
    }

    /// Its addresses, by the result.
    pub fn addresses(&self) -> Vec<String> {
        let ips = self.result["ips"].as_array().cloned().unwrap_or_default();
        let text = |ip: &Value| {
            ip["address"]
                .as_str()
                .and_then(|text| text.split_once('/'))
                .map(|(address, _)| address.to_owned())
        };
        ips.iter().filter_map(text).collect()
    }

    /// Removes the namespace, as when a node loses a container without a word to the plugins.
    pub fn vanish(&self) {
        let name = self.netns.file_name().expect("a name");
        let mut command = Command::new("ip");
        command.args(["netns", "del"]).arg(name);
        assert!(command.status().expect("ip runs").success());
    }
}

/// A chain that gives containers as many addresses as there are from the first on: `ptp` where the node's pods are
/// routed, `bridge` where they are ports of its bridge, then the plugin.
pub fn list(lab: &Lab, node: &Node, addresses: u8, timeout_seconds: u16) -> Value {
    let mut list = reference_list(lab, node, addresses);
    let entry = json!({
        "type": "hauberk-cni",
        "socket": node.state_dir().join("cni.sock"),
        "timeoutSeconds": timeout_seconds,
    });
    list["plugins"].as_array_mut().expect("a list").push(entry);
    list
}

/// The same without the plugin.
pub fn reference_list(lab: &Lab, node: &Node, addresses: u8) -> Value {
    let last = FIRST + addresses - 1;
    let v4 = |number| {
        let [a, b, c, _] = node.pod_cidr_v4().network().octets();
        Ipv4Addr::new(a, b, c, number)
    };
    let v6 = |number: u8| {
        let mut segments = node.pod_cidr_v6().network().segments();
        segments[7] = number.into();
        Ipv6Addr::from(segments)
    };
    let ipam = json!({
        "type": "host-local",
        "dataDir": lab.dir().join("ipam").join(node.name()),
        "ranges": [
            [{"subnet": node.pod_cidr_v4(), "rangeStart": v4(FIRST), "rangeEnd": v4(last), "gateway": v4(1)}],
            [{"subnet": node.pod_cidr_v6(), "rangeStart": v6(FIRST), "rangeEnd": v6(last), "gateway": v6(1)}],
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let first = match node.wiring() {
        Wiring::Routed => json!({"type": "ptp", "ipam": ipam}),
        Wiring::Bridged => json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam}),
    };
    json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [first]})
}

/// Calls the plugins of `list` for a container, as libcni does. An error is what the plugin printed.
pub fn call(node: &Node, list: &Value, verb: Verb, container: &mut Container) -> Result<(), Value> {
    let mut plugins: Vec<&Value> = list["plugins"].as_array().expect("a list").iter().collect();
    if verb == Verb::Del {
        plugins.reverse();
    }
    for plugin in plugins {
        let mut config = plugin.clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        if !container.result.is_null() {
            config["prevResult"] = container.result.clone();
        }
        let output = run(node, &config, verb, container);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if !output.status.success() {
            return Err(said);
        }
        if verb == Verb::Add {
            container.result = said;
        }
    }
    if verb == Verb::Del {
        container.result = Value::Null;
    }
    Ok(())
}

/// An ADD that has to succeed.
pub fn add(node: &Node, list: &Value, container: &mut Container) {
    if let Err(error) = call(node, list, Verb::Add, container) {
        panic!("ADD of {}: {error}", container.id);
    }
}

fn run(node: &Node, config: &Value, verb: Verb, container: &Container) -> Output {
    let kind = config["type"].as_str().expect("a type");
    let program = match kind {
        "hauberk-cni" => plugin().to_owned(),
        _ => Path::new(REFERENCE).join(kind),
    };
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={id};K8S_POD_UID=uid-{id}",
        id = container.id
    );
    let mut command = node.command(program);
    command
        .envs([
            ("CNI_COMMAND", verb.name()),
            ("CNI_CONTAINERID", &container.id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", REFERENCE),
            ("CNI_ARGS", &args),
        ])
        .env("CNI_NETNS", &container.netns)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{kind} of containernetworking-plugins: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin
        .write_all(config.to_string().as_bytes())
        .expect("the plugin reads");
    drop(stdin);
    child.wait_with_output().expect("the plugin ends")
}
