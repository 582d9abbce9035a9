//! A cluster of two real nodes, keyd on both, and pods that talk all the time.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hauberk_netlab::kubernetes::{
    ControlPlane, ControlPlaneSpec, Families, PlacedPod, Vantage, Worker, WorkerSpec, vxlan_overlay,
};
use hauberk_netlab::{Lab, LabSpec, NodeSpec, Process, Wiring};
use serde_json::{Value, json};

use crate::install;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
const SYSTEM: &str = "hauberk-system";
const IMAGE: &str = "hauberk.test/busybox:1";
/// In everything that the pods say, so that the fabric finds it, whatever it is wrapped in.
const MARKER: &str = "HBMARK-e2e";
/// The echo server, and the server that speaks by itself.
const ECHO: u16 = 7;
const PUSH: u16 = 19;

/// The cluster. Fields are dropped in this order.
pub struct Cluster {
    daemons: BTreeMap<String, Process>,
    workers: Vec<Worker>,
    pub lab: Lab,
    pub control_plane: ControlPlane,
    /// The ways that [`Cluster::start_talk`] opened: the talker's containers.
    pub ways: Vec<String>,
}

/// What a pod heard of its partner.
pub struct Heard {
    /// How many words.
    pub words: usize,
    /// The longest silence between two of them.
    pub longest: Duration,
}

impl Cluster {
    /// Nodes `a` and `b`, ready; with an overlay, pods' traffic crosses by VXLAN.
    pub fn start(name: &str, wiring: Wiring, overlay: bool, families: Families) -> Self {
        let everything = ControlPlaneSpec {
            controller_manager: true,
            scheduler: true,
        };
        let control_plane =
            ControlPlane::start_with(everything, families).unwrap_or_else(|error| panic!("{error}"));
        install::install(&control_plane);
        let nodes = ["a", "b"].map(|name| NodeSpec::new(name, wiring, &[]));
        let lab = Lab::new(LabSpec::new(name, nodes.into())).expect("the lab comes up");
        control_plane
            .join(&lab)
            .expect("the lab reaches the control plane");
        lab.fabric()
            .set_covered(&lab.pod_cidrs())
            .expect("the fabric counts");
        lab.fabric()
            .set_marker(MARKER.as_bytes())
            .expect("the fabric counts");
        let mut spec = WorkerSpec::default();
        if overlay {
            spec.pod_mtu = vxlan_overlay(&lab, 1500).expect("the overlay comes up");
        }
        let mut workers: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|node| Worker::start(&control_plane, &lab, node, &spec).expect("the node starts"))
            .collect();
        for worker in &mut workers {
            worker
                .wait_ready(&control_plane, PATIENCE)
                .expect("the node is ready");
        }
        Self {
            daemons: BTreeMap::new(),
            workers,
            lab,
            control_plane,
            ways: Vec::new(),
        }
    }

    /// A pod on `b` that answers, and one on `a` with a container for each way to it.
    pub fn start_talk(&mut self) {
        let echo = format!(
            "nc -ll -p {ECHO} -e cat & exec nc -ll -p {PUSH} -e sh -c '{}'",
            count()
        );
        self.apply(&pod("partner", "b", &[("partner".to_owned(), echo)]));
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "partner"},
            "spec": {
                "selector": {"app": "partner"},
                "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"name": "echo", "port": ECHO}, {"name": "push", "port": PUSH}],
            },
        });
        self.apply(&service);
        self.kubectl(&["wait", "--for=condition=Ready", "pod/partner", "--timeout=60s"]);
        let pod_ips = self.texts(
            "pod",
            "partner",
            |pod| pod["status"]["podIPs"].clone(),
            Some("ip"),
        );
        let service_ips = self.texts("service", "partner", |of| of["spec"]["clusterIPs"].clone(), None);
        let named = |kind: &str, address: &String| {
            let family = if address.contains(':') { "v6" } else { "v4" };
            (format!("{kind}-{family}"), echo_client(address))
        };
        let mut ways: Vec<_> = pod_ips.iter().map(|address| named("pod", address)).collect();
        ways.extend(service_ips.iter().map(|address| named("service", address)));
        ways.push(("push".to_owned(), push_client(&service_ips[0])));
        self.apply(&pod("talker", "a", &ways));
        self.kubectl(&["wait", "--for=condition=Ready", "pod/talker", "--timeout=60s"]);
        self.ways = ways.into_iter().map(|(way, _)| way).collect();
        for way in &self.ways {
            self.eventually(&format!("{way} hears something"), || self.heard(way).words > 5);
        }
    }

    /// What a way heard so far, over one connection without a word lost.
    pub fn heard(&self, way: &str) -> Heard {
        let log = self.kubectl(&["logs", "talker", "-c", way]);
        let words: Vec<(usize, f64)> = log
            .lines()
            .filter_map(|line| {
                let (number, time) = line.split_once(' ')?;
                Some((number.parse().ok()?, time.parse().ok()?))
            })
            .collect();
        for (place, (number, _)) in words.iter().enumerate() {
            assert_eq!(
                *number,
                place + 1,
                "{way}: a word was lost, or the connection was another"
            );
        }
        let silences = words.windows(2).map(|pair| pair[1].1 - pair[0].1);
        Heard {
            words: words.len(),
            longest: Duration::from_secs_f64(silences.fold(0.0, f64::max)),
        }
    }

    /// The controller, and keyd on both nodes, in all of their node's namespaces.
    pub fn start_hauberk(&mut self) {
        self.apply(&json!({
            "apiVersion": "hauberk.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}, "spec": {},
        }));
        let controller = self.kubeconfig("controller", "hauberk-controller", "a");
        let path = self.lab.dir().join("controller.kubeconfig");
        fs::write(&path, controller).expect("the lab's directory can be written");
        let mut command = self.control_plane.netns().command(env!("CARGO_BIN_EXE_keyd"));
        command.args(["controller", "--source", "kube", "--namespace", SYSTEM]);
        command.env("KUBECONFIG", path);
        let controller = spawn(&mut command, &self.lab.dir().join("keyd-controller.log"));
        self.daemons.insert("controller".to_owned(), controller);
        for place in 0..self.workers.len() {
            let worker = &self.workers[place];
            let name = worker.name().to_owned();
            let text = self.kubeconfig(&format!("keyd-{name}"), "hauberk-keyd", &name);
            fs::write(worker.file("/etc/kubernetes/keyd.kubeconfig"), text).expect("the node's disk");
            // The node sees nothing of where they were built.
            for (program, path) in [
                ("keyd", env!("CARGO_BIN_EXE_keyd")),
                ("hauberk-cni", env!("CARGO_BIN_EXE_hauberk-cni")),
            ] {
                fs::copy(path, worker.file(&format!("/usr/local/bin/{program}"))).expect("the node's disk");
            }
            self.start_keyd(&name);
        }
        for worker in &self.workers {
            let tunnel = format!("nodetunnel/{}", worker.name());
            let ready = ["wait", "--for=condition=Ready", &tunnel, "--timeout=30s"];
            self.eventually("keyd is ready", || self.try_kubectl(&ready, "").is_ok());
        }
    }

    /// keyd on a node, which chains its CNI plugin.
    pub fn start_keyd(&mut self, node: &str) {
        let worker = self.worker(node);
        let mut command = worker.command("/usr/local/bin/keyd");
        command
            .current_dir("/")
            .args(["node", "--source", "kube", "--node", node, "--namespace", SYSTEM])
            .args([
                "--cni-conf-dir",
                "/etc/cni/net.d",
                "--cni-bin-dir",
                "/opt/cni/bin",
            ])
            .env("KUBECONFIG", "/etc/kubernetes/keyd.kubeconfig");
        let process = spawn(&mut command, &self.lab.dir().join(format!("keyd-{node}.log")));
        self.daemons.insert(node.to_owned(), process);
    }

    /// The node loses power, and has it again: kubelet and containerd start, keyd does not.
    pub fn reboot(&mut self, node: &str) {
        self.daemons.remove(node);
        let Self { workers, lab, .. } = self;
        let worker = workers
            .iter_mut()
            .find(|worker| worker.name() == node)
            .expect("there is this node");
        worker.power_off(lab).expect("power goes");
        worker.power_on(lab).expect("power comes");
    }

    fn worker(&self, node: &str) -> &Worker {
        let mut workers = self.workers.iter();
        workers
            .find(|worker| worker.name() == node)
            .expect("there is this node")
    }

    /// A pod on `node` whose first words, and whose postStart hook, ask `to`; it fails when no answer comes at once.
    /// Waits until it has succeeded.
    pub fn ask_at_once(&self, name: &str, node: &str, to: &str) {
        let ping = format!("ping -c 1 -W 1 {to}");
        let mut asking = pod(name, node, &[("asks".to_owned(), format!("{ping} && sleep 2"))]);
        asking["spec"]["restartPolicy"] = "Never".into();
        let hook = json!({"postStart": {"exec": {"command": ["sh", "-c", ping]}}});
        asking["spec"]["containers"][0]["lifecycle"] = hook;
        self.apply(&asking);
        let done = format!("pod/{name}");
        let succeeded = [
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            &done,
            "--timeout=40s",
        ];
        let waited = self.try_kubectl(&succeeded, "");
        waited.unwrap_or_else(|error| {
            let pod = self
                .try_kubectl(&["describe", "pod", name], "")
                .unwrap_or_default();
            panic!("{error}\n{pod}\n{}", self.describe())
        });
    }

    /// Address of the talk's server, IPv4.
    pub fn partner(&self) -> String {
        self.texts(
            "pod",
            "partner",
            |pod| pod["status"]["podIPs"].clone(),
            Some("ip"),
        )
        .swap_remove(0)
    }

    /// Whether the talk's server is ready.
    pub fn is_partner_ready(&self, patience: Duration) -> bool {
        let timeout = format!("--timeout={}s", patience.as_secs());
        let ready = ["wait", "--for=condition=Ready", "pod/partner", &timeout];
        self.try_kubectl(&ready, "").is_ok()
    }

    /// `kubectl patch`, and waits until the Mesh says so.
    pub fn set_encryption(&self, enabled: bool) {
        let patch = json!({"spec": {"encryption": {"enabled": enabled}}}).to_string();
        self.kubectl(&["patch", "mesh", "default", "--type", "merge", "-p", &patch]);
        let phase = if enabled { "Encrypted" } else { "Off" };
        let wanted = format!("--for=jsonpath={{.status.phase}}={phase}");
        let waited = self.try_kubectl(&["wait", &wanted, "mesh/default", "--timeout=30s"], "");
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.describe()));
    }

    /// How often containers of the pods were started again.
    pub fn restarts(&self) -> String {
        let path = "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        self.kubectl(&["get", "pods", path])
    }

    /// Packets that crossed the fabric with the pods' words in clear, wrapped or not.
    pub fn in_clear(&self) -> u64 {
        self.lab
            .fabric()
            .counts()
            .expect("the fabric counts")
            .marker
            .packets()
    }

    /// Why pods could not be started.
    pub fn sandbox_failures(&self) -> String {
        let failures = ["get", "events", "--field-selector=reason=FailedCreatePodSandBox"];
        self.kubectl(&[&failures[..], &["-o=jsonpath={.items[*].message}"]].concat())
    }

    /// Packets of covered addresses that crossed the fabric in clear.
    pub fn covered_in_clear(&self) -> u64 {
        self.lab
            .fabric()
            .counts()
            .expect("the fabric counts")
            .covered
            .packets()
    }

    /// What keyd and the controller logged last.
    pub fn describe(&self) -> String {
        let logs = ["controller", "a", "b"].map(|name| {
            let log = fs::read_to_string(self.lab.dir().join(format!("keyd-{name}.log")));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            format!(
                "--- {name}\n{}\n",
                lines[lines.len().saturating_sub(20)..].join("\n")
            )
        });
        logs.concat()
    }

    /// A kubeconfig that needs no other file: a node has a file system of its own.
    fn kubeconfig(&self, pod: &str, service_account: &str, node: &str) -> String {
        let placed = PlacedPod {
            namespace: SYSTEM,
            name: pod,
            service_account,
            node,
        };
        self.control_plane.place(placed).expect("the pod is made");
        let identity = self.control_plane.pod(SYSTEM, pod).expect("the pod has a token");
        let text = fs::read_to_string(identity.kubeconfig(Vantage::Lab)).expect("a kubeconfig");
        let mut config: Value = serde_json::from_str(&text).expect("it is JSON");
        let file = |path: &Value| fs::read_to_string(path.as_str().expect("a path")).expect("a file");
        let user = &mut config["users"][0]["user"];
        *user = json!({"token": file(&user["tokenFile"])});
        let cluster = &mut config["clusters"][0]["cluster"];
        let authority = file(&cluster["certificate-authority"]);
        let data = k8s_openapi::ByteString(authority.into_bytes());
        *cluster = json!({"server": cluster["server"], "certificate-authority-data": data});
        config.to_string()
    }

    fn texts(&self, kind: &str, name: &str, of: fn(&Value) -> Value, field: Option<&str>) -> Vec<String> {
        let object = self.kubectl(&["get", kind, name, "-o", "json"]);
        let list = of(&serde_json::from_str(&object).expect("JSON"));
        let texts = list.as_array().expect("a list").iter().map(|item| {
            let text = field.map_or(item, |field| &item[field]);
            text.as_str().expect("a text").to_owned()
        });
        texts.collect()
    }

    fn apply(&self, object: &Value) {
        // Without a controller's ServiceAccount a pod is refused; it comes a moment after the namespace.
        self.eventually("the object is accepted", || {
            self.try_kubectl(&["apply", "-f", "-"], &object.to_string())
                .is_ok()
        });
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, "");
        output.unwrap_or_else(|stderr| panic!("kubectl {arguments:?}: {stderr}"))
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut kubectl = self.control_plane.kubectl().expect("there is a kubectl");
        kubectl
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut kubectl = kubectl.spawn().expect("kubectl runs");
        let mut stdin = kubectl.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = kubectl.wait_with_output().expect("kubectl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    #[track_caller]
    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}",
                self.describe()
            );
            std::thread::sleep(LOOK);
        }
    }
}

/// Says a number with the marker every 50 ms.
fn count() -> String {
    format!("i=0; while :; do i=$((i+1)); echo {MARKER} $i; usleep 50000; done")
}

/// Notes each number that comes back, and when.
const NOTE: &str = "while read marker number; do read up rest </proc/uptime; echo $number $up; done";

fn echo_client(address: &str) -> String {
    format!("({}) | nc {address} {ECHO} | {NOTE}", count())
}

fn push_client(address: &str) -> String {
    format!("sleep 1000000 | nc {address} {PUSH} | {NOTE}")
}

fn pod(name: &str, node: &str, containers: &[(String, String)]) -> Value {
    let containers = containers.iter().map(|(name, script)| {
        json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script]})
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": containers.collect::<Vec<_>>(),
        },
    })
}

fn spawn(command: &mut Command, log: &Path) -> Process {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Process::spawn(command).expect("keyd starts")
}
