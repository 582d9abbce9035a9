//! A cluster of real nodes, and pods that talk all the time.

use std::io::Write;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hauberk_netlab::kubernetes::{
    ControlPlane, ControlPlaneSpec, Families, Worker, WorkerSpec, vxlan_overlay,
};
use hauberk_netlab::{Lab, LabSpec, NodeSpec, Wiring};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
const IMAGE: &str = "hauberk.test/busybox:1";
/// In everything that the pods say, so that the fabric finds it, whatever it is wrapped in.
const MARKER: &str = "HBMARK-e2e";
/// The echo server, and the server that speaks by itself.
const ECHO: u16 = 7;
const PUSH: u16 = 19;
/// The echo server's at every node's address.
pub const NODE_PORT: u16 = 30007;

/// The cluster. Fields are dropped in this order.
pub struct Cluster {
    pub workers: Vec<Worker>,
    spec: WorkerSpec,
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
    /// Nodes `a` and `b`, ready; the lab's node `c` is none of the cluster's yet. With an overlay, pods' traffic
    /// crosses by VXLAN.
    pub fn start(name: &str, wiring: Wiring, overlay: bool, families: Families) -> Self {
        let everything = ControlPlaneSpec {
            controller_manager: true,
            scheduler: true,
        };
        let control_plane =
            ControlPlane::start_with(everything, families).unwrap_or_else(|error| panic!("{error}"));
        let nodes = ["a", "b", "c"].map(|name| NodeSpec::new(name, wiring, &[]));
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
        let mut cluster = Self {
            workers: Vec::new(),
            spec,
            lab,
            control_plane,
            ways: Vec::new(),
        };
        for node in ["a", "b"] {
            cluster.start_worker(node, Vec::new());
        }
        for worker in &mut cluster.workers {
            worker
                .wait_ready(&cluster.control_plane, PATIENCE)
                .expect("the node is ready");
        }
        cluster
    }

    /// Makes a node of the lab one of the cluster, which gets ready later.
    pub fn start_worker(&mut self, node: &str, taints: Vec<Value>) {
        let spec = WorkerSpec {
            taints,
            ..self.spec.clone()
        };
        let worker = Worker::start(&self.control_plane, &self.lab, node, &spec);
        self.workers.push(worker.expect("the node starts"));
    }

    /// The cluster's nodes.
    pub fn names(&self) -> Vec<String> {
        self.workers
            .iter()
            .map(|worker| worker.name().to_owned())
            .collect()
    }

    pub fn worker(&self, node: &str) -> &Worker {
        let mut workers = self.workers.iter();
        workers
            .find(|worker| worker.name() == node)
            .expect("there is this node")
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
                "type": "NodePort",
                "ipFamilyPolicy": "PreferDualStack",
                "ports": [
                    {"name": "echo", "port": ECHO, "nodePort": NODE_PORT},
                    {"name": "push", "port": PUSH},
                ],
            },
        });
        self.apply(&service);
        self.kubectl(&["wait", "--for=condition=Ready", "pod/partner", "--timeout=60s"]);
        let pod_ips = self.partners();
        let service_ips = self.texts("service", "partner", |of| of["spec"]["clusterIPs"].clone(), None);
        // The talker's own node, which sends it on to the other.
        let node_ips = self.texts(
            "node",
            "a",
            |node| node["status"]["addresses"].clone(),
            Some("address"),
        );
        let node_ips = node_ips.iter().filter(|text| text.parse::<IpAddr>().is_ok());
        let named = |kind: &str, address: &String, port: u16| {
            let family = if address.contains(':') { "v6" } else { "v4" };
            (format!("{kind}-{family}"), echo_client(address, port))
        };
        let mut ways: Vec<_> = pod_ips
            .iter()
            .map(|address| named("pod", address, ECHO))
            .collect();
        ways.extend(service_ips.iter().map(|address| named("service", address, ECHO)));
        ways.extend(node_ips.map(|address| named("node", address, NODE_PORT)));
        ways.push(("push".to_owned(), push_client(&service_ips[0])));
        self.apply(&pod("talker", "a", &ways));
        self.kubectl(&["wait", "--for=condition=Ready", "pod/talker", "--timeout=60s"]);
        self.ways = ways.into_iter().map(|(way, _)| way).collect();
        for way in &self.ways {
            self.eventually(&format!("{way} hears something"), || self.heard(way).words > 5);
        }
    }

    /// A pod that does nothing by itself.
    pub fn start_sleeper(&self, name: &str, node: &str) {
        self.start_pod(name, node, "sleep 1000000");
    }

    /// A pod that keeps a core busy.
    pub fn start_burner(&self, name: &str, node: &str) {
        self.start_pod(name, node, "while :; do :; done");
    }

    /// The talk's server alone, which the kubelet looks at every second.
    pub fn start_partner(&self, node: &str) {
        let echo = format!("exec nc -ll -p {ECHO} -e cat");
        let mut partner = pod("partner", node, &[("partner".to_owned(), echo)]);
        let probe = json!({"tcpSocket": {"port": ECHO}, "periodSeconds": 1, "failureThreshold": 2});
        partner["spec"]["containers"][0]["readinessProbe"] = probe;
        self.run("partner", &partner);
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "partner"},
            "spec": {
                "selector": {"app": "partner"}, "type": "NodePort", "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"port": ECHO, "nodePort": NODE_PORT}],
            },
        }));
    }

    fn start_pod(&self, name: &str, node: &str, script: &str) {
        self.run(name, &pod(name, node, &[(name.to_owned(), script.to_owned())]));
    }

    /// Applies a pod and waits until it is ready.
    fn run(&self, name: &str, pod: &Value) {
        self.apply(pod);
        let ready = format!("pod/{name}");
        self.kubectl(&["wait", "--for=condition=Ready", &ready, "--timeout=60s"]);
    }

    /// What a way heard so far, over one connection without a word lost.
    pub fn heard(&self, way: &str) -> Heard {
        let now = uptime();
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
        // The one that still lasts counts too.
        let silences = silences.chain(words.last().map(|(_, last)| now - last));
        Heard {
            words: words.len(),
            longest: Duration::from_secs_f64(silences.fold(0.0, f64::max)),
        }
    }

    /// The node loses power, and has it again.
    pub fn reboot(&mut self, node: &str) {
        self.power_off(node);
        let (worker, lab) = self.worker_and_lab(node);
        worker.power_on(lab).expect("power comes");
    }

    /// The node loses power.
    pub fn power_off(&mut self, node: &str) {
        let (worker, lab) = self.worker_and_lab(node);
        worker.power_off(lab).expect("power goes");
    }

    fn worker_and_lab(&mut self, node: &str) -> (&mut Worker, &Lab) {
        let mut workers = self.workers.iter_mut();
        let worker = workers.find(|worker| worker.name() == node);
        (worker.expect("there is this node"), &self.lab)
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
        self.partners().swap_remove(0)
    }

    /// All of its addresses.
    pub fn partners(&self) -> Vec<String> {
        let addresses = |pod: &Value| pod["status"]["podIPs"].clone();
        self.texts("pod", "partner", addresses, Some("ip"))
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
        self.wait_phase(if enabled { "Encrypted" } else { "Off" });
    }

    /// Waits until the Mesh says so.
    pub fn wait_phase(&self, phase: &str) {
        let wanted = format!("--for=jsonpath={{.status.phase}}={phase}");
        let waited = self.try_kubectl(&["wait", &wanted, "mesh/default", "--timeout=30s"], "");
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.describe()));
    }

    /// Waits until a node is open for pods.
    pub fn wait_untainted(&self, node: &str) {
        let taints = ["get", "node", node, "-o=jsonpath={.spec.taints[*].key}"];
        self.eventually("the node has no taint", || self.kubectl(&taints).is_empty());
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

    fn texts(&self, kind: &str, name: &str, of: fn(&Value) -> Value, field: Option<&str>) -> Vec<String> {
        let object = self.kubectl(&["get", kind, name, "-o", "json"]);
        let list = of(&serde_json::from_str(&object).expect("JSON"));
        let texts = list.as_array().expect("a list").iter().map(|item| {
            let text = field.map_or(item, |field| &item[field]);
            text.as_str().expect("a text").to_owned()
        });
        texts.collect()
    }

    pub fn apply(&self, object: &Value) {
        // Without a controller's ServiceAccount a pod is refused; it comes a moment after the namespace.
        self.eventually("the object is accepted", || {
            self.try_kubectl(&["apply", "-f", "-"], &object.to_string())
                .is_ok()
        });
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, "");
        output.unwrap_or_else(|stderr| panic!("kubectl {arguments:?}: {stderr}"))
    }

    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
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
    pub fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
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

/// Seconds since the machine's boot, which pods read too.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("it is there");
    let first = text.split(' ').next().expect("two numbers");
    first.parse().expect("seconds")
}

/// Says a number with the marker every 50 ms.
fn count() -> String {
    format!("i=0; while :; do i=$((i+1)); echo {MARKER} $i; usleep 50000; done")
}

/// Notes each number that comes back, and when.
const NOTE: &str = "while read marker number; do read up rest </proc/uptime; echo $number $up; done";

fn echo_client(address: &str, port: u16) -> String {
    format!("({}) | nc {address} {port} | {NOTE}", count())
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
