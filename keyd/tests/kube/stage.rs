//! A lab whose nodes and pods are objects of a real API server, with keyd on every node.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hauberk_api::{ExternalPeer, MESH_NAME, Mesh, NodeTunnel};
use hauberk_netlab::kubernetes::{ControlPlane, ControlPlaneSpec, PlacedPod, Vantage};
use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Process};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::install;

/// Namespace of the installation, as `deploy/` has it.
pub const SYSTEM: &str = "hauberk-system";
/// Namespace of the lab's pods.
pub const PODS: &str = "demo";
const LOOK: Duration = Duration::from_millis(50);

/// A lab, its objects, and keyd on its nodes. Fields are dropped in this order.
pub struct Stage {
    nodes: BTreeMap<String, Process>,
    controllers: BTreeMap<String, Process>,
    /// Kubeconfigs of the nodes' keyd.
    tokens: BTreeMap<String, PathBuf>,
    pub lab: Lab,
    pub cluster: MutexGuard<'static, ControlPlane>,
}

/// One control plane for all tests; its guardian removes it when the process ends.
fn control_plane() -> MutexGuard<'static, ControlPlane> {
    static SHARED: LazyLock<Mutex<ControlPlane>> = LazyLock::new(|| {
        let spec = ControlPlaneSpec::default();
        let cluster = ControlPlane::start(spec).unwrap_or_else(|error| panic!("{error}"));
        install::install(&cluster);
        Mutex::new(cluster)
    });
    let mut cluster = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.start_api_server().expect("the API server runs");
    cluster
}

impl Stage {
    /// Nodes, pods and a Mesh with the flag off; a controller, and keyd on every node, all ready.
    pub fn clear(spec: LabSpec, manifests: ManifestSpec) -> Self {
        let mut stage = Self::bare(spec, manifests);
        stage.start_controller("controller-1");
        for name in stage.members() {
            stage.start_node(&name);
        }
        stage.wait_conditions("every node is ready", "Ready", "True");
        stage
    }

    /// The objects only.
    pub fn bare(spec: LabSpec, manifests: ManifestSpec) -> Self {
        let cluster = control_plane();
        let lab = Lab::new(spec).expect("the lab comes up");
        cluster.join(&lab).expect("the lab reaches the control plane");
        lab.fabric()
            .set_covered(&lab.pod_cidrs())
            .expect("the fabric counts");
        let stage = Self {
            nodes: BTreeMap::new(),
            controllers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            lab,
            cluster,
        };
        stage.run(async |client| clean(&client).await);
        stage.write_objects(&manifests);
        stage
    }

    /// As [`Stage::clear`], then the flag is turned on and all nodes say they encrypt; the fabric counts from zero.
    pub fn encrypted(spec: LabSpec, manifests: ManifestSpec) -> Self {
        let stage = Self::clear(spec, manifests);
        stage.encrypt();
        stage
    }

    /// Turns the flag on and waits until the Mesh says so; the fabric counts from zero.
    pub fn encrypt(&self) {
        self.set_encryption(true);
        self.wait_phase("Encrypted");
        self.lab.fabric().reset().expect("the fabric counts from zero");
    }

    /// As an operator does it, with `kubectl patch`.
    pub fn set_encryption(&self, enabled: bool) {
        let patch = json!({"spec": {"encryption": {"enabled": enabled}}}).to_string();
        let mut kubectl = self.cluster.kubectl().expect("there is a kubectl");
        let output = kubectl
            .args(["patch", "mesh", MESH_NAME, "--type", "merge", "-p", &patch])
            .output()
            .expect("kubectl runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Works with a client of the administrator's.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce(Client) -> T + Send) -> T {
        self.cluster.run(work).expect("a client can be made")
    }

    /// The nodes of the cluster.
    pub fn members(&self) -> Vec<String> {
        let members = self.lab.nodes().iter().filter(|node| node.in_cluster());
        members.map(|node| node.name().to_owned()).collect()
    }

    /// Starts keyd on a node, with the token of a pod that is bound to it.
    pub fn start_node(&mut self, name: &str) {
        let token = self.identity(&format!("keyd-{name}"), "hauberk-keyd", name);
        self.tokens.insert(name.to_owned(), token);
        self.start_node_again(name);
    }

    /// The same with the token of before, which the API server need not be there for.
    pub fn start_node_again(&mut self, name: &str) {
        let token = &self.tokens[name];
        let node = self.lab.node(name);
        let uapi = self.lab.dir().join("uapi").join(name);
        fs::create_dir_all(&uapi).expect("the lab's directory can be written");
        let mut command = node.command(env!("CARGO_BIN_EXE_keyd"));
        command
            .args(["node", "--source", "kube", "--node", name, "--namespace", SYSTEM])
            .arg("--state-dir")
            .arg(node.state_dir())
            .arg("--memory-dir")
            .arg(node.memory_dir())
            .arg("--pin-dir")
            .arg(node.pin_dir())
            .arg("--cgroup")
            .arg(node.cgroup())
            .arg("--uapi-dir")
            .arg(uapi)
            .env("KUBECONFIG", token);
        let process = spawn(&mut command, &self.log_path(name));
        self.nodes.insert(name.to_owned(), process);
    }

    /// Starts a replica of the controller, beside the API server.
    pub fn start_controller(&mut self, name: &str) {
        let node = &self.members()[0];
        let token = self.identity(name, "hauberk-controller", node);
        let mut command = self.cluster.netns().command(env!("CARGO_BIN_EXE_keyd"));
        command
            .args([
                "controller",
                "--source",
                "kube",
                "--identity",
                name,
                "--namespace",
                SYSTEM,
            ])
            .env("KUBECONFIG", token);
        let process = spawn(&mut command, &self.log_path(name));
        self.controllers.insert(name.to_owned(), process);
    }

    /// `kill -9` of keyd on a node.
    pub fn kill_node(&mut self, name: &str) {
        let process = self.nodes.remove(name).expect("keyd runs there");
        process.kill().expect("the process is killed");
    }

    /// `kill -9` of a controller.
    pub fn kill_controller(&mut self, name: &str) {
        let process = self.controllers.remove(name).expect("this controller runs");
        process.kill().expect("the process is killed");
    }

    /// What a process has logged: of a node or a controller.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// A kubeconfig for a pod's token; the pod is made where there is none.
    fn identity(&self, pod: &str, service_account: &str, node: &str) -> PathBuf {
        let placed = PlacedPod {
            namespace: SYSTEM,
            name: pod,
            service_account,
            node,
        };
        self.cluster.place(placed).expect("the pod is made");
        let identity = self.cluster.pod(SYSTEM, pod).expect("the pod has a token");
        identity.kubeconfig(Vantage::Lab).to_owned()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.lab.dir().join(format!("keyd-{name}.log"))
    }

    fn write_objects(&self, manifests: &ManifestSpec) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let manifests = ManifestSpec {
            namespace: PODS.into(),
            ..manifests.clone()
        };
        self.lab
            .write_manifests(dir.path(), &manifests)
            .expect("manifests are written");
        let texts: Vec<_> = ["namespace-", "mesh.yaml", "serviceaccount-", "node-", "pod-"]
            .into_iter()
            .flat_map(|prefix| manifests_named(dir.path(), prefix))
            .collect();
        self.run(async |client| {
            for text in &texts {
                apply(&client, text).await;
            }
        });
    }

    /// Waits until the Mesh's status says this phase.
    pub fn wait_phase(&self, phase: &str) -> Duration {
        self.wait(
            &format!("the mesh is {phase}"),
            Duration::from_secs(30),
            async |client| {
                let mesh = Api::<Mesh>::all(client).get(MESH_NAME).await?;
                Ok(mesh.status.is_some_and(|status| status.phase.name() == phase))
            },
        )
    }

    /// Waits until all NodeTunnels have a condition with this status.
    pub fn wait_conditions(&self, what: &str, kind: &str, status: &str) -> Duration {
        let members = self.members();
        self.wait(what, Duration::from_secs(30), async |client| {
            let tunnels = Api::<NodeTunnel>::all(client)
                .list(&ListParams::default())
                .await?;
            let holds = |name: &String| {
                let tunnel = tunnels.items.iter().find(|tunnel| tunnel.name_any() == *name);
                let condition = tunnel.and_then(|tunnel| tunnel.condition(kind));
                condition.is_some_and(|condition| condition.status == status)
            };
            Ok(members.iter().all(holds))
        })
    }

    /// Waits until `holds`; says how long it took. Fails with what everybody logged.
    #[track_caller]
    pub fn wait(
        &self,
        what: &str,
        patience: Duration,
        mut holds: impl AsyncFnMut(Client) -> kube::Result<bool> + Send,
    ) -> Duration {
        let begin = Instant::now();
        loop {
            let held = self.run(async |client| holds(client).await);
            if matches!(held, Ok(true)) {
                eprintln!("{what}: after {:.1?}", begin.elapsed());
                return begin.elapsed();
            }
            if begin.elapsed() > patience {
                panic!("not within {patience:?}: {what} ({held:?})\n{}", self.describe());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn describe(&self) -> String {
        let tunnels = self.run(async |client| {
            let tunnels = Api::<NodeTunnel>::all(client).list(&ListParams::default()).await;
            tunnels.map(|tunnels| {
                let told = |tunnel: &NodeTunnel| format!("{}: {:?}\n", tunnel.name_any(), tunnel.status);
                tunnels.items.iter().map(told).collect::<String>()
            })
        });
        let names = self.nodes.keys().chain(self.controllers.keys());
        let end = |name: &String| {
            let log = self.log(name);
            let lines: Vec<_> = log.lines().collect();
            format!(
                "--- {name}\n{}\n",
                lines[lines.len().saturating_sub(25)..].join("\n")
            )
        };
        format!(
            "{}{}",
            tunnels.unwrap_or_default(),
            names.map(end).collect::<String>()
        )
    }

    /// Nothing covered crossed the fabric in clear since encryption, and something crossed at all.
    #[track_caller]
    pub fn assert_no_clear(&self) {
        let counts = self.lab.fabric().counts().expect("the fabric counts");
        assert!(
            counts.all.packets() > 0,
            "nothing crossed the fabric, which proves nothing"
        );
        assert_eq!(
            counts.covered.packets(),
            0,
            "covered packets in clear: {:?}",
            counts.covered
        );
    }

    /// What a node's condition `Degraded` says, while it is true.
    pub fn degraded(&self, node: &str) -> String {
        let tunnel = self.run(async |client| Api::<NodeTunnel>::all(client).get_opt(node).await);
        let tunnel = tunnel.ok().flatten();
        let degraded = tunnel.as_ref().and_then(|tunnel| tunnel.condition("Degraded"));
        let degraded = degraded.filter(|degraded| degraded.status == "True");
        degraded.map_or_else(String::new, |degraded| degraded.message.clone())
    }

    /// How many of so many pings from a pod come back.
    pub fn pings(&self, pod: &str, to: Ipv4Addr, count: usize) -> usize {
        let mut ping = self.lab.pod(pod).command("ping");
        ping.args([
            "-n",
            "-i",
            "0.2",
            "-W",
            "1",
            "-c",
            &count.to_string(),
            &to.to_string(),
        ]);
        let output = ping.output().expect("ping runs");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter(|line| line.contains(" time=")).count()
    }

    /// What keyd on a node says of itself, over its socket.
    pub fn state(&self, node: &str) -> Value {
        let socket = self.lab.node(node).state_dir().join("keyd.sock");
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(&socket)?;
            stream.write_all(b"GET /state HTTP/1.1\r\nHost: keyd\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }
}

/// Starts keyd, logging into a file.
fn spawn(command: &mut std::process::Command, log: &Path) -> Process {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Process::spawn(command).expect("keyd starts")
}

fn manifests_named(dir: &Path, prefix: &str) -> Vec<String> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read_to_string(path).expect("a manifest"))
        .collect()
}

/// Makes an object, and its status, which the API server takes by itself only.
async fn apply(client: &Client, text: &str) {
    let value = Value::deserialize(serde_yaml_ng::Deserializer::from_str(text)).expect("YAML");
    match value["kind"].as_str().unwrap_or_default() {
        "Namespace" => put::<Namespace>(Api::all(client.clone()), value).await,
        "Mesh" => put::<Mesh>(Api::all(client.clone()), value).await,
        "Node" => put::<Node>(Api::all(client.clone()), value).await,
        "ServiceAccount" => {
            put::<k8s_openapi::api::core::v1::ServiceAccount>(Api::namespaced(client.clone(), PODS), value)
                .await;
        }
        "Pod" => put::<Pod>(Api::namespaced(client.clone(), PODS), value).await,
        other => panic!("no way to make a {other}"),
    }
}

async fn put<K>(objects: Api<K>, mut value: Value)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = value["metadata"]["name"].as_str().expect("a name").to_owned();
    let status = value.as_object_mut().and_then(|object| object.remove("status"));
    let parameters = PatchParams::apply("lab").force();
    let put = objects.patch(&name, &parameters, &Patch::Apply(&value)).await;
    put.unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Some(status) = status {
        let put = objects
            .patch_status(
                &name,
                &PatchParams::default(),
                &Patch::Merge(json!({ "status": status })),
            )
            .await;
        put.unwrap_or_else(|error| panic!("status of {name}: {error}"));
    }
}

/// Takes away what an earlier test left.
async fn clean(client: &Client) {
    let all = ListParams::default();
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    let system = || Api::<ConfigMap>::namespaced(client.clone(), SYSTEM);
    for pods in [PODS, SYSTEM] {
        let pods = Api::<Pod>::namespaced(client.clone(), pods);
        pods.delete_collection(&now, &all)
            .await
            .expect("pods are deleted");
    }
    Api::<Node>::all(client.clone())
        .delete_collection(&now, &all)
        .await
        .expect("deleted");
    Api::<NodeTunnel>::all(client.clone())
        .delete_collection(&now, &all)
        .await
        .expect("deleted");
    Api::<ExternalPeer>::all(client.clone())
        .delete_collection(&now, &all)
        .await
        .expect("deleted");
    Api::<Mesh>::all(client.clone())
        .delete_collection(&now, &all)
        .await
        .expect("deleted");
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    requests.delete_collection(&now, &all).await.expect("deleted");
    system().delete_collection(&now, &all).await.expect("deleted");
    let secrets = Api::<Secret>::namespaced(client.clone(), SYSTEM);
    secrets.delete_collection(&now, &all).await.expect("deleted");
    let leases = Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(client.clone(), SYSTEM);
    leases.delete_collection(&now, &all).await.expect("deleted");
}
