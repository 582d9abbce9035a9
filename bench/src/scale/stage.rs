//! What stands for a cluster: a control plane with Hauberk installed, a lab with as many nodes as there are real
//! keyds, and a controller.
//!
//! The lab's nodes have routes to the synthetic nodes and their pods by a neighbour that nobody is: what keyd
//! sends to them leaves the node and is lost, as with nodes that are down.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hauberk_netlab::{
    Lab, LabSpec, Node, NodeSpec, Process, Wiring,
    kubernetes::{ControlPlane, ControlPlaneSpec, PlacedPod, Vantage},
};

use super::{
    daemon::{self, Daemon},
    error::{ScaleError, file},
    objects::REMOTE,
};
use crate::program;

/// Namespace of the installation, as `deploy/` has it.
pub const SYSTEM: &str = "hauberk-system";
/// What an administrator applies before any workload, in order.
const INSTALLED: [&str; 2] = ["crds", "manifests"];
/// Addresses on the fabric that nobody has, and the hardware address that is said to be theirs.
const NOBODY_V4: &str = "192.168.77.251";
const NOBODY_V6: &str = "fd77::251";
const NOBODY_MAC: &str = "02:00:00:00:02:51";

/// All of it. Fields are dropped in this order: clients before servers.
pub struct Stage {
    pub daemons: Vec<Daemon>,
    _controller: Process,
    logs: PathBuf,
    keyd: PathBuf,
    pub lab: Lab,
    pub cluster: ControlPlane,
}

impl Stage {
    /// Starts everything but the keyds. The controller comes up meanwhile.
    pub fn set(keyds: usize) -> Result<Self, ScaleError> {
        let keyd = program::own("keyd")?;
        hauberk_netlab::sweep()?;
        let cluster = ControlPlane::start(ControlPlaneSpec::default())?;
        install(&cluster)?;
        let nodes = ('a'..).take(keyds).map(|name| {
            let pod = format!("{name}1");
            NodeSpec::new(&name.to_string(), Wiring::Routed, &[pod.as_str()])
        });
        let lab = Lab::new(LabSpec::new("scale", nodes.collect()))?;
        cluster.join(&lab)?;
        lab.nodes().iter().try_for_each(lead_nowhere)?;
        let logs = lab.dir().join("scale");
        fs::create_dir_all(&logs).map_err(file(&logs))?;
        let token = kubeconfig(
            &cluster,
            "hauberk-controller",
            "hauberk-controller",
            &lab.nodes()[0],
        )?;
        let mut controller = cluster.netns().command(&keyd);
        controller
            .args([
                "controller",
                "--source",
                "kube",
                "--identity",
                "scale",
                "--namespace",
                SYSTEM,
            ])
            .env("KUBECONFIG", token);
        let controller = daemon::spawn(&mut controller, &logs.join("controller.log"))?;
        Ok(Self {
            daemons: Vec::new(),
            _controller: controller,
            logs,
            keyd,
            lab,
            cluster,
        })
    }

    /// Starts keyd on the node with this number.
    pub fn start(&mut self, number: usize) -> Result<&mut Daemon, ScaleError> {
        let node = &self.lab.nodes()[number];
        let token = kubeconfig(
            &self.cluster,
            &format!("keyd-{}", node.name()),
            "hauberk-keyd",
            node,
        )?;
        let daemon = Daemon::start(&self.keyd, node, &token, &self.logs)?;
        self.daemons.push(daemon);
        Ok(self.daemons.last_mut().expect("it was just put there"))
    }
}

/// The token of a pod that is bound to the node; the pod is made.
fn kubeconfig(
    cluster: &ControlPlane,
    pod: &str,
    service_account: &str,
    node: &Node,
) -> Result<PathBuf, ScaleError> {
    cluster.place(PlacedPod {
        namespace: SYSTEM,
        name: pod,
        service_account,
        node: node.name(),
    })?;
    Ok(cluster.pod(SYSTEM, pod)?.kubeconfig(Vantage::Lab).to_owned())
}

fn install(cluster: &ControlPlane) -> Result<(), ScaleError> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for folder in INSTALLED {
        let mut kubectl = cluster.kubectl()?;
        kubectl
            .args(["apply", "--server-side", "-f"])
            .arg(deploy.join(folder));
        run(&mut kubectl)?;
    }
    let mut wait = cluster.kubectl()?;
    wait.args([
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ]);
    run(&mut wait)
}

fn lead_nowhere(node: &Node) -> Result<(), ScaleError> {
    let uplink = node.uplink();
    let ip = |args: &[&str]| run(node.command("ip").args(args));
    for nobody in [NOBODY_V4, NOBODY_V6] {
        ip(&[
            "neigh",
            "replace",
            nobody,
            "lladdr",
            NOBODY_MAC,
            "dev",
            uplink,
            "nud",
            "permanent",
        ])?;
    }
    REMOTE.iter().try_for_each(|net| {
        let nobody = if net.contains(':') { NOBODY_V6 } else { NOBODY_V4 };
        ip(&["route", "add", net, "via", nobody, "dev", uplink])
    })
}

fn run(command: &mut Command) -> Result<(), ScaleError> {
    let what = format!("{command:?}");
    let output = command.output().map_err(file(command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ScaleError::Setup { what, why })
}
