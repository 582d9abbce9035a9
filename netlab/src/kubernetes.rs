//! A real Kubernetes, for tests. First a control plane: etcd, kube-apiserver, and where wanted
//! kube-controller-manager and kube-scheduler, with an authority, RBAC and an audit log. Then, where pods
//! are wanted that are more than objects, a [`Worker`] on a lab's node: kubelet, containerd, CNI, kube-proxy.
//!
//! The control plane is a machine of its own: one network namespace with all components, on ports that
//! nobody else can have. It is reached in two ways ([`Vantage`]):
//! - From a lab that it has joined ([`ControlPlane::join`]), by a cable into the fabric. What runs on nodes
//!   talks to it directly, and sees a killed API server as it would in a cluster.
//! - From the machine, by a relay on a loopback port. So a test may use any client on any thread, and
//!   kubectl; no client has to enter a namespace, and no interface or route of the machine's own is
//!   needed.
//!
//! One control plane can serve many labs one after the other: starting it takes about 3 s, joining a lab a
//! few milliseconds.
//!
//! Everything ends with it, and with the process that made it, however that ends: as a lab's, its processes
//! are in a cgroup and its files on a tmpfs that a guardian removes. (The kernel's own signal at a parent's
//! death comes when the *thread* dies that started a process, and a test is a thread.)

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use kube::{Client, api::ListParams, core::Request};
use tokio::time::sleep;

use crate::{Lab, LabError, Netns, error::file, runtime::Runtime, sweep};

mod certificates;
mod component;
mod error;
mod families;
mod flags;
mod identity;
mod image;
mod network;
mod pod;
mod programs;
mod relay;
mod worker;

use certificates::Authority;
use component::Component;
pub use error::KubernetesError;
use error::api;
pub use families::Families;
use flags::Files;
use identity::{Credential, Door};
pub use identity::{Identity, Vantage};
pub use image::Image;
pub use pod::PlacedPod;
use programs::Programs;
use relay::Relay;
pub use worker::{ServiceProxy, Worker, WorkerSpec, vxlan_overlay};

const AUDIT_POLICY: &str = include_str!("kubernetes/audit-policy.yaml");
/// Until the API server is ready; it takes a tenth of that on two idle cores.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Until a component has ended after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at whether the API server is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a control plane consists of besides etcd and the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlPlaneSpec {
    /// Garbage collection, EndpointSlices, DaemonSets, signed CSRs, default ServiceAccounts, and the end
    /// of deleted namespaces. Without it none of that happens, and a pod may name a ServiceAccount that
    /// is not there.
    pub controller_manager: bool,
    /// Pods without a node get one, and the Service `kubernetes` leads to the API server.
    pub scheduler: bool,
}

/// A running control plane; removed when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order of dropping: clients go before servers.
    controllers: Vec<Component>,
    api_server: Option<Component>,
    etcd: Component,
    _relay: Relay,
    admin: Identity,
    authority: Authority,
    door: Door,
    files: Files,
    spec: ControlPlaneSpec,
    families: Families,
    programs: Programs,
    netns: Netns,
    runtime: Runtime,
}

impl ControlPlane {
    /// Starts it and waits until the API server is ready. Builds the programs first if there are none;
    /// that takes minutes.
    ///
    /// # Errors
    /// Not root; no programs, and nothing to build them with; a component that ends or is not ready in time.
    pub fn start(spec: ControlPlaneSpec) -> Result<Self, KubernetesError> {
        Self::start_with(spec, Families::Dual)
    }

    /// The same, for a cluster with these families of addresses.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_with(spec: ControlPlaneSpec, families: Families) -> Result<Self, KubernetesError> {
        let programs = Programs::find()?;
        let runtime = Runtime::create("k8s")?;
        if let Err(e) = sweep() {
            eprintln!("what an earlier run left behind could not be removed: {e}");
        }
        let dir = runtime.directory().to_owned();
        let netns = network::build(&runtime)?;
        let authority = Authority::new(&dir)?;
        let (tokens_private, tokens_public) = certificates::token_keys(&dir)?;
        let files = Files {
            etcd_data: dir.join("etcd"),
            audit_policy: dir.join("audit-policy.yaml"),
            audit_log: dir.join("audit.log"),
            server: authority.server("kube-apiserver", flags::reached_by())?,
            kubelet_client: authority.client(
                "kubelet-client",
                "kube-apiserver-kubelet-client",
                Some("system:masters"),
            )?,
            authority: authority.files().clone(),
            tokens_private,
            tokens_public,
        };
        fs::write(&files.audit_policy, AUDIT_POLICY).map_err(file("cannot write", &files.audit_policy))?;
        let relay = Relay::start(
            netns.clone(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, flags::PORT)),
        )?;
        let door = Door {
            dir: dir.clone(),
            relay: relay.address(),
            lab: families.api_server(),
            authority_file: files.authority.certificate.clone(),
            authority: authority.der(),
        };
        let admin = authority.client("admin", "admin", Some("system:masters"))?;
        let mut control_plane = Self {
            controllers: Vec::new(),
            api_server: None,
            etcd: Component::start("etcd", &flags::etcd(&files), &programs, &netns, &dir)?,
            _relay: relay,
            admin: Identity::new("admin", Credential::Certificate(admin), &door)?,
            authority,
            door,
            files,
            spec,
            families,
            programs,
            netns,
            runtime,
        };
        control_plane.start_api_server()?;
        control_plane.start_controllers()?;
        Ok(control_plane)
    }

    /// Connects it to the lab's fabric, and to that one only, as 192.168.77.250 and fd77::250. Nodes and
    /// pods reach it, and it reaches them. What they send to it is counted and impaired by the fabric,
    /// what it answers is not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn join(&self, lab: &Lab) -> Result<(), LabError> {
        network::join(&self.netns, lab)
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The administrator, who may do anything.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// A user by certificate, as `system:node:NAME` in `system:nodes`. `file_name` names its files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn user(
        &self,
        file_name: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<Identity, KubernetesError> {
        let files = self.authority.client(file_name, user, group)?;
        Identity::new(file_name, Credential::Certificate(files), &self.door)
    }

    /// Whoever `token` speaks for. Once more with the same `file_name`, it gives the earlier identity a
    /// new token, as a kubelet does in a pod's volume.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn bearer(&self, file_name: &str, token: &str) -> Result<Identity, KubernetesError> {
        let path = self.door.dir.join(format!("{file_name}.token"));
        let new = path.with_extension("token.new");
        fs::write(&new, token)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(file("cannot write", &path))?;
        Identity::new(file_name, Credential::Token(path), &self.door)
    }

    /// Runs `work` with a client of the administrator's, to its end, from wherever it is called.
    ///
    /// # Panics
    /// When `work` does, with its panic.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce(Client) -> T + Send) -> Result<T, KubernetesError> {
        self.admin.run(work)
    }

    /// `kubectl` as the administrator, on the machine. Elsewhere, and as somebody else, it needs the same
    /// variables of environment and another `KUBECONFIG`.
    ///
    /// # Errors
    /// The folder of programs has none.
    pub fn kubectl(&self) -> Result<Command, KubernetesError> {
        let mut command = Command::new(self.programs.path("kubectl")?);
        command
            .env("KUBECONFIG", self.admin.kubeconfig(Vantage::Machine))
            // Instead of the home directory of whoever runs the test.
            .env("KUBECACHEDIR", self.door.dir.join("kubectl"))
            .env("KUBERC", "off");
        Ok(command)
    }

    /// Every request since the start, as lines of JSON (`audit.k8s.io/v1`, Event, level Metadata): when it
    /// was answered, and a watch also when it began.
    pub fn audit_log(&self) -> &Path {
        &self.files.audit_log
    }

    /// What a component has logged; the file is there once it was started.
    pub fn log(&self, component: &str) -> PathBuf {
        self.runtime.directory().join(format!("{component}.log"))
    }

    /// Starts the API server where it does not run, on the same data and port, and waits until it is
    /// ready. Returns how long that took.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn start_api_server(&mut self) -> Result<Duration, KubernetesError> {
        let started = Instant::now();
        if self.api_server.is_none() {
            let flags = flags::api_server(&self.files, self.spec, self.families);
            self.api_server = Some(self.component("kube-apiserver", &flags)?);
        }
        self.wait_ready(started)?;
        Ok(started.elapsed())
    }

    /// `kill -9` of the API server; connections break.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_api_server(&mut self) -> Result<(), KubernetesError> {
        self.api_server
            .take()
            .map_or(Ok(()), |server| server.kill().map(drop))
    }

    /// SIGTERM to the API server, and waits for its end: it answers what it was asked, and closes watches.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stop_api_server(&mut self) -> Result<(), KubernetesError> {
        self.api_server
            .take()
            .map_or(Ok(()), |server| server.terminate(STOP_PATIENCE).map(drop))
    }

    /// They use the address for labs, which is the control plane's own also where it has joined none.
    fn start_controllers(&mut self) -> Result<(), KubernetesError> {
        if self.spec.controller_manager {
            let name = "kube-controller-manager";
            let user = self.user(name, "system:kube-controller-manager", None)?;
            let flags = flags::controller_manager(&self.files, self.families, user.kubeconfig(Vantage::Lab));
            self.controllers.push(self.component(name, &flags)?);
        }
        if self.spec.scheduler {
            let name = "kube-scheduler";
            let user = self.user(name, "system:kube-scheduler", None)?;
            let flags = flags::scheduler(user.kubeconfig(Vantage::Lab));
            self.controllers.push(self.component(name, &flags)?);
        }
        Ok(())
    }

    fn component(&self, name: &'static str, flags: &[String]) -> Result<Component, KubernetesError> {
        Component::start(name, flags, &self.programs, &self.netns, self.runtime.directory())
    }

    /// All of its post-start hooks have run: the roles of RBAC are there, caches are filled.
    fn wait_ready(&mut self, started: Instant) -> Result<(), KubernetesError> {
        let server = self.api_server.as_mut().expect("it was just started");
        let etcd = &mut self.etcd;
        self.admin.run(async |client| {
            loop {
                etcd.check()?;
                server.check()?;
                // A list is the request that adds nothing to the path.
                let request = Request::new("/readyz").list(&ListParams::default());
                let request = request.map_err(kube::Error::BuildRequest).map_err(api("ask"))?;
                match client.request_text(request).await {
                    Ok(_) => return Ok(()),
                    Err(_) if started.elapsed() < START_PATIENCE => sleep(LOOK_EVERY).await,
                    Err(e) => {
                        return Err(LabError::Late {
                            what: "the API server is ready".into(),
                            after: START_PATIENCE,
                            seen: format!("{e}\n{}", server.log_end()),
                        }
                        .into());
                    }
                }
            }
        })?
    }
}
