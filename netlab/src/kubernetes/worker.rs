//! A real node of a cluster: containerd and a kubelet on a lab's node, pods wired by CNI plugins.
//!
//! 1. The node becomes a machine of its own (`machine`): what runs on it finds everything at its usual
//!    place, and none of it is the real machine's.
//! 2. Files: CNI plugins and their configuration (`cni`), the kubelet's with its certificates (`kubelet`).
//! 3. containerd starts and gets images; there is no registry.
//! 4. The Node object is made, with the lab's podCIDRs, and the kubelet starts.
//!
//! Everything is in the lab's cgroups and namespaces and ends with the lab, however that ends.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{ControlPlane, Image, KubernetesError, component::Component, error::api};
use crate::{Lab, LabError, Node, error::file, system::run_reading};
use machine::Machine;
pub use overlay::vxlan_overlay;
pub use proxy::ServiceProxy;

mod cni;
mod cores;
mod kubelet;
mod machine;
mod overlay;
mod policy;
mod power;
mod proxy;

const CONTAINERD: &str = include_str!("worker/containerd.toml");
/// containerd's, on the node.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Until containerd listens; it takes a fraction of a second.
const CONTAINERD_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a node takes part in the cluster.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// CNI plugins that run after the wiring's own for each pod, as entries of a conflist.
    pub chained: Vec<Value>,
    /// MTU in bytes of pods.
    pub pod_mtu: u32,
    /// Taints that the Node object is made with, each with `key` and `effect`.
    pub taints: Vec<Value>,
    /// Who makes Services work on it.
    pub service_proxy: ServiceProxy,
}

impl Default for WorkerSpec {
    /// Nothing chained, MTU 1500, no taints, kube-proxy with iptables.
    fn default() -> Self {
        Self {
            chained: Vec::new(),
            pod_mtu: 1500,
            taints: Vec::new(),
            service_proxy: ServiceProxy::Iptables,
        }
    }
}

/// A node with containerd and kubelet; they and all pods end when it is dropped.
#[derive(Debug)]
pub struct Worker {
    up: Option<Up>,
    name: String,
    dir: PathBuf,
    programs: PathBuf,
    kubelet_flags: Vec<String>,
    proxy_flags: Option<Vec<String>>,
    policy_flags: Vec<String>,
}

/// What runs while the node has power.
#[derive(Debug)]
struct Up {
    // In the order of dropping.
    kubelet: Option<Component>,
    proxy: Option<Component>,
    policy_engine: Option<Component>,
    containerd: Component,
    machine: Machine,
}

impl Worker {
    /// Makes the lab's `node` one of the cluster: pods are wired by `ptp` where its wiring is routed, by
    /// `bridge` where it is bridged. The control plane must have joined the lab. Returns when the kubelet was
    /// started, with the images `hauberk.test/busybox:1` and `hauberk.test/pause:1` on the node.
    ///
    /// # Errors
    /// containerd, runc, busybox-static or containernetworking-plugins are not installed; no kubelet among
    /// the programs; the API server refuses the Node; the kernel refuses a namespace, a mount or a cgroup.
    ///
    /// # Panics
    /// When the lab has no such node.
    pub fn start(
        control_plane: &ControlPlane,
        lab: &Lab,
        node: &str,
        spec: &WorkerSpec,
    ) -> Result<Self, KubernetesError> {
        let node = lab.node(node);
        for program in ["kubelet", "kube-proxy"] {
            control_plane.programs.path(program)?;
        }
        let dir = lab.dir().join(format!("worker-{}", node.name()));
        let disk = Machine::format(&dir)?;
        cni::write(node, control_plane.families, spec, &disk)?;
        kubelet::write(control_plane, node, &disk)?;
        spec.service_proxy.write(control_plane, node, &disk)?;
        policy::write(control_plane, node, &disk)?;
        machine::write(&disk, "etc/containerd/config.toml", CONTAINERD)?;
        make_node(control_plane, node, &spec.taints)?;
        let mut worker = Self {
            up: None,
            name: node.name().into(),
            dir,
            programs: control_plane.programs.folder().into(),
            kubelet_flags: kubelet::flags(node, control_plane.families),
            proxy_flags: spec.service_proxy.flags(node),
            policy_flags: policy::flags(node),
        };
        worker.boot(node)?;
        let image = worker.dir.join("busybox.tar");
        Image::busybox()?.write(&image)?;
        worker.import(&image)?;
        worker.start_kubelet()?;
        Ok(worker)
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run on the node as on a machine of its own: its files, `/sys`, cgroups, processes
    /// and network; see [`Netns::command`](crate::Netns::command).
    ///
    /// # Panics
    /// When the node has no power.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.up().machine.command(program)
    }

    /// The node's file at an absolute `path`, as this process can open it.
    ///
    /// # Panics
    /// When the node has no power.
    pub fn file(&self, path: &str) -> PathBuf {
        self.up().machine.file(path)
    }

    /// Gives the node the images of an OCI tar, as [`Image::write`] makes it; pods then want
    /// `imagePullPolicy: Never`, or a tag that is not `latest`.
    ///
    /// # Errors
    /// The file cannot be read, or is no such tar.
    ///
    /// # Panics
    /// When the node has no power.
    pub fn import(&self, image: &Path) -> Result<(), KubernetesError> {
        // By a pipe: the node has a /run and a /tmp of its own.
        let tar = fs::File::open(image).map_err(file("cannot read", image))?;
        let mut import = self.command("ctr");
        import.args(["--namespace=k8s.io", "images", "import", "-"]);
        Ok(run_reading(&mut import, tar).map(drop)?)
    }

    /// Waits until the Node object says that the node is ready for pods.
    ///
    /// # Errors
    /// A component ended, or the node is not ready in time.
    pub fn wait_ready(
        &mut self,
        control_plane: &ControlPlane,
        patience: Duration,
    ) -> Result<(), KubernetesError> {
        let started = Instant::now();
        loop {
            for component in self.up.iter_mut().flat_map(Up::components) {
                component.check()?;
            }
            let name = &self.name;
            let node = control_plane.run(async |client| Api::<NodeObject>::all(client).get(name).await)?;
            let node = node.map_err(api(format!("get node {name}")))?;
            let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
            if conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
            {
                return Ok(());
            }
            if started.elapsed() > patience {
                let kubelet = self.up.as_ref().and_then(|up| up.kubelet.as_ref());
                let log = kubelet.map(Component::log_end).unwrap_or_default();
                return Err(LabError::Late {
                    what: format!("node {name} is ready"),
                    after: patience,
                    seen: format!("{conditions:?}\n{log}"),
                }
                .into());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Starts the kubelet where it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// When the node has no power.
    pub fn start_kubelet(&mut self) -> Result<(), KubernetesError> {
        if self.up().kubelet.is_none() {
            let kubelet = self.component("kubelet", &self.kubelet_flags)?;
            self.up.as_mut().expect("it was there").kubelet = Some(kubelet);
        }
        Ok(())
    }

    /// Has kube-router enforce NetworkPolicies on the node for IPv4, until it loses power; needs the package ipset. The
    /// node must be ready: kube-router wants its addresses.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// When the node has no power.
    pub fn start_policy_engine(&mut self) -> Result<(), KubernetesError> {
        let engine = self.component("kube-router", &self.policy_flags)?;
        self.up.as_mut().expect("it was there").policy_engine = Some(engine);
        Ok(())
    }

    /// `kill -9` of the kubelet; pods run on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_kubelet(&mut self) -> Result<(), KubernetesError> {
        let kubelet = self.up.as_mut().and_then(|up| up.kubelet.take());
        kubelet.map_or(Ok(()), |kubelet| kubelet.kill().map(drop))
    }

    /// Keeps all that runs on the node to one core, and what is started from now on too, until it loses power.
    ///
    /// # Errors
    /// The machine has no such core.
    pub fn keep_to_core(&self, lab: &Lab, core: usize) -> Result<(), KubernetesError> {
        Ok(cores::keep_to(lab.node(&self.name), core)?)
    }

    /// Takes the node its power: all that runs on it ends at once, its uplink has no carrier, and what was
    /// only in its kernel or in `/run` is lost. Its files stay.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn power_off(&mut self, lab: &Lab) -> Result<(), KubernetesError> {
        let node = lab.node(&self.name);
        power::set_uplink(lab, node, "down")?;
        self.up = None;
        Ok(power::forget(node)?)
    }

    /// Boots the node again, with containerd, kube-proxy and kubelet. The kubelet starts the pods that it
    /// is to run.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn power_on(&mut self, lab: &Lab) -> Result<(), KubernetesError> {
        if self.up.is_none() {
            let node = lab.node(&self.name);
            power::set_uplink(lab, node, "up")?;
            self.boot(node)?;
            self.start_kubelet()?;
        }
        Ok(())
    }

    /// What `kubelet`, `containerd`, `kube-proxy` or `kube-router` has logged.
    pub fn log(&self, component: &str) -> PathBuf {
        self.dir.join(format!("{component}.log"))
    }

    /// All but the kubelet.
    fn boot(&mut self, node: &Node) -> Result<(), KubernetesError> {
        let machine = Machine::boot(node, &self.dir, &self.programs)?;
        let containerd = Component::run("containerd", machine.command("containerd"), &self.dir)?;
        let up = self.up.insert(Up {
            kubelet: None,
            proxy: None,
            policy_engine: None,
            containerd,
            machine,
        });
        up.wait_for_containerd()?;
        if let Some(flags) = &self.proxy_flags {
            let proxy = self.component("kube-proxy", flags)?;
            self.up.as_mut().expect("it was just made").proxy = Some(proxy);
        }
        Ok(())
    }

    fn component(&self, name: &'static str, flags: &[String]) -> Result<Component, KubernetesError> {
        let mut command = self.command(Path::new(machine::PROGRAMS).join(name));
        command.args(flags);
        Component::run(name, command, &self.dir)
    }

    fn up(&self) -> &Up {
        self.up.as_ref().expect("the node has power")
    }
}

impl Up {
    fn components(&mut self) -> impl Iterator<Item = &mut Component> {
        let Self {
            kubelet,
            proxy,
            policy_engine,
            ..
        } = self;
        let daemons = kubelet.iter_mut().chain(proxy).chain(policy_engine);
        daemons.chain([&mut self.containerd])
    }

    fn wait_for_containerd(&mut self) -> Result<(), KubernetesError> {
        let started = Instant::now();
        while !self.machine.file(SOCKET).exists() {
            self.containerd.check()?;
            if started.elapsed() > CONTAINERD_PATIENCE {
                return Err(LabError::Late {
                    what: "containerd listens".into(),
                    after: CONTAINERD_PATIENCE,
                    seen: self.containerd.log_end(),
                }
                .into());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// The kubelet finds it there and fills in the rest. Its podCIDRs are the lab's, which no controller gives.
fn make_node(control_plane: &ControlPlane, node: &Node, taints: &[Value]) -> Result<(), KubernetesError> {
    let name = node.name();
    let pod_cidrs = control_plane.families.pod_cidrs(node);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {
            "podCIDR": pod_cidrs[0],
            "podCIDRs": pod_cidrs,
            "taints": taints,
        },
    });
    let made = control_plane.run(async |client| {
        let nodes = Api::<NodeObject>::all(client);
        nodes
            .patch(
                name,
                &PatchParams::apply("netlab").force(),
                &Patch::Apply(&object),
            )
            .await
    })?;
    made.map(drop).map_err(api(format!("make node {name}")))
}
