//! Real nodes and pods: kubelets and containerd on a lab's nodes, with the real programs. As root.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{
    Lab, LabSpec, NodeSpec, Wiring,
    kubernetes::{
        ControlPlane, ControlPlaneSpec, Families, Image, ServiceProxy, Worker, WorkerSpec, vxlan_overlay,
    },
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "hauberk.test/busybox:1";

/// A cluster of two nodes, `a` and `b`.
struct Cluster {
    // In the order of dropping.
    workers: Vec<Worker>,
    lab: Lab,
    control_plane: ControlPlane,
}

impl Cluster {
    fn start(name_hint: &str, wiring: Wiring) -> Self {
        Self::start_with(name_hint, wiring, Families::Dual, false, WorkerSpec::default())
    }

    fn start_with(
        name_hint: &str,
        wiring: Wiring,
        families: Families,
        overlay: bool,
        spec: WorkerSpec,
    ) -> Self {
        let everything = ControlPlaneSpec {
            controller_manager: true,
            scheduler: true,
        };
        let control_plane = ControlPlane::start_with(everything, families).unwrap();
        let nodes = ["a", "b"].map(|name| NodeSpec::new(name, wiring, &[]));
        let lab = Lab::new(LabSpec::new(name_hint, nodes.into())).unwrap();
        control_plane.join(&lab).unwrap();
        let pod_mtu = if overlay {
            vxlan_overlay(&lab, 1500).unwrap()
        } else {
            1500
        };
        let spec = WorkerSpec { pod_mtu, ..spec };
        let started = Instant::now();
        let mut workers = ["a", "b"].map(|node| Worker::start(&control_plane, &lab, node, &spec).unwrap());
        for worker in &mut workers {
            worker.wait_ready(&control_plane, PATIENCE).unwrap();
        }
        eprintln!("two nodes were ready after {:?}", started.elapsed());
        Self {
            workers: workers.into(),
            lab,
            control_plane,
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, "");
        output.unwrap_or_else(|stderr| panic!("kubectl {arguments:?}: {stderr}"))
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut kubectl = self.control_plane.kubectl().unwrap();
        kubectl.args(arguments).stdin(Stdio::piped());
        let mut kubectl = kubectl
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        kubectl.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = kubectl.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    fn apply(&self, object: &Value) {
        self.try_kubectl(&["apply", "-f", "-"], &object.to_string())
            .unwrap();
    }

    /// A web server on every node, which answers with its pod's name, and a Service of both families.
    fn start_web(&self) {
        let started = Instant::now();
        self.apply(&web_daemon_set());
        self.apply(&web_service());
        self.wait_for_web();
        eprintln!("a pod on each node was ready after {:?}", started.elapsed());
    }

    /// (`rollout status` is content before the controller knows how many there are to be.)
    fn wait_for_web(&self) {
        self.kubectl(&[
            "wait",
            "--for=jsonpath={.status.numberReady}=2",
            "daemonset/web",
            "--timeout=60s",
        ]);
    }

    /// Name and addresses, IPv4 first, of the web server on this node.
    fn web_on(&self, node: &str) -> (String, Vec<String>) {
        let selector = format!("--field-selector=spec.nodeName={node},status.phase=Running");
        let pods = self.kubectl(&["get", "pods", "-l", "app=web", &selector, "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).unwrap();
        let pod = &pods["items"][0];
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let addresses = pod["status"]["podIPs"].as_array().unwrap().iter();
        let address = |entry: &Value| entry["ip"].as_str().unwrap().to_owned();
        (name, addresses.map(address).collect())
    }

    fn exec(&self, pod: &str, command: &[&str]) -> Result<String, String> {
        self.try_kubectl(&[&["exec", pod, "--"], command].concat(), "")
    }

    /// From the pod on `a` to the one on `b`, and by the Service, in so many families.
    fn assert_connected(&self, families: usize) {
        let (on_a, _) = self.web_on("a");
        let (on_b, addresses) = self.web_on("b");
        assert_eq!(addresses.len(), families);
        for address in &addresses {
            self.exec(&on_a, &["ping", "-c1", "-W5", address]).unwrap();
            let said = self.exec(&on_a, &["wget", "-qO-", &url(address)]).unwrap();
            assert_eq!(said.trim(), on_b);
        }
        let service: Value =
            serde_json::from_str(&self.kubectl(&["get", "service", "web", "-o", "json"])).unwrap();
        let service = service["spec"]["clusterIPs"].as_array().unwrap();
        assert_eq!(service.len(), families);
        for address in service {
            let url = url(address.as_str().unwrap());
            eventually(&format!("{url} answers from both nodes"), || {
                let mut said: Vec<_> = (0..10)
                    .filter_map(|_| self.exec(&on_a, &["wget", "-qO-", &url]).ok())
                    .collect();
                said.sort();
                said.dedup();
                said.len() == 2
            });
        }
    }
}

fn url(address: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]:80/")
    } else {
        format!("http://{address}:80/")
    }
}

fn web_daemon_set() -> Value {
    let serve = "mkdir /www && hostname >/www/index.html && echo serving && exec httpd -f -p 80 -h /www";
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "web",
                        "image": IMAGE,
                        "imagePullPolicy": "Never",
                        "command": ["sh", "-c", serve],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}

fn web_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"port": 80}],
        },
    })
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Everything on the machine that a lab of this id may have left.
fn traces(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let cgroups = format!("hauberk-lab-{id}");
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        found.push(hierarchy.path().join(&cgroups));
    }
    // The second where cgroup2 is all there is.
    found.extend([
        Path::new("/run/hauberk-lab").join(id),
        Path::new("/sys/fs/cgroup").join(&cgroups),
    ]);
    found.retain(|path| path.exists());
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    found.extend(
        namespaces
            .map(|n| n.path())
            .filter(|p| p.to_string_lossy().contains(id)),
    );
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&cgroups) {
            found.push(process.path());
        }
    }
    found
}

#[test]
fn pods_wired_by_ptp_reach_each_other_and_services_and_nothing_is_left_of_them() {
    let cluster = Cluster::start("ptp", Wiring::Routed);
    cluster.start_web();
    cluster.assert_connected(2);
    let (pod, addresses) = cluster.web_on("a");
    assert_eq!(cluster.kubectl(&["logs", &pod]), "serving\n");
    let mut routes = cluster.workers[0].command("ip");
    let routes = routes.args(["route", "get", &addresses[0]]).output().unwrap();
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    assert!(routes.contains("dev veth"), "{routes}");

    let id = cluster.lab.id().to_owned();
    assert!(traces(&id).len() > 20, "{:?}", traces(&id));
    drop(cluster);
    eventually("nothing is left", || traces(&id).is_empty());
}

#[test]
fn pods_wired_by_a_bridge_reach_each_other_by_vxlan() {
    let spec = WorkerSpec {
        service_proxy: ServiceProxy::Nftables,
        chained: vec![json!({"type": "tuning", "mtu": 1400})],
        ..WorkerSpec::default()
    };
    let cluster = Cluster::start_with("vxlan", Wiring::Bridged, Families::Dual, true, spec);
    cluster.start_web();
    cluster.assert_connected(2);
    let (pod, _) = cluster.web_on("b");
    let mtu = cluster.exec(&pod, &["cat", "/sys/class/net/eth0/mtu"]).unwrap();
    assert_eq!(mtu, "1400\n", "the chained plugin's, not the wiring's");
    for worker in &cluster.workers {
        let ports = worker.command("ls").arg("/sys/class/net/cni0/brif").output();
        assert!(String::from_utf8_lossy(&ports.unwrap().stdout).starts_with("veth"));
        let sent = worker
            .command("cat")
            .arg("/sys/class/net/vxlan1/statistics/tx_packets")
            .output();
        let sent = String::from_utf8_lossy(&sent.unwrap().stdout)
            .trim()
            .parse::<u64>();
        assert!(sent.unwrap() > 10);
    }
}

#[test]
fn a_cluster_may_have_ipv6_only() {
    let spec = WorkerSpec::default();
    let cluster = Cluster::start_with("v6", Wiring::Routed, Families::V6, false, spec);
    cluster.start_web();
    cluster.assert_connected(1);
    let (pod, _) = cluster.web_on("a");
    let addresses = cluster.exec(&pod, &["ip", "-4", "-o", "addr"]).unwrap();
    assert!(!addresses.contains("eth0"), "{addresses}");
}

#[test]
fn a_node_that_loses_power_comes_back_with_its_pods() {
    let mut cluster = Cluster::start("power", Wiring::Bridged);
    cluster.start_web();
    cluster.workers[1].power_off(&cluster.lab).unwrap();
    eventually("the API server misses the node", || {
        cluster.kubectl(&["get", "node", "b"]).contains("NotReady")
    });
    let started = Instant::now();
    cluster.workers[1].power_on(&cluster.lab).unwrap();
    cluster.workers[1]
        .wait_ready(&cluster.control_plane, PATIENCE)
        .unwrap();
    cluster.wait_for_web();
    eprintln!("the node and its pod were back after {:?}", started.elapsed());
    cluster.assert_connected(2);
}

#[test]
fn an_image_is_made_imported_and_run_and_a_kubelet_may_be_killed() {
    let mut cluster = Cluster::start("image", Wiring::Routed);
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("image.tar");
    let program = fs::read("/bin/busybox").unwrap();
    let image = Image::new("hauberk.test/own:7", &["/busybox", "echo", "from its entrypoint"]);
    image.file("busybox", 0o755, &program).write(&tar).unwrap();
    cluster.workers[0].import(&tar).unwrap();
    let container = json!({"name": "c", "image": "hauberk.test/own:7", "imagePullPolicy": "Never"});
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "own"},
        "spec": {"nodeName": "a", "restartPolicy": "Never", "containers": [container]},
    });
    eventually("there is a ServiceAccount", || {
        cluster
            .try_kubectl(&["get", "serviceaccount", "default"], "")
            .is_ok()
    });
    cluster.apply(&pod);
    cluster.workers[0].kill_kubelet().unwrap();
    cluster.workers[0].start_kubelet().unwrap();
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/own",
        "--timeout=60s",
    ]);
    assert_eq!(cluster.kubectl(&["logs", "own"]), "from its entrypoint\n");
}

const HOLDER: &str = "NETLAB_TEST_HOLDS_A_CLUSTER";

/// Not a test by itself: what the next one starts as a process of its own, to kill it.
#[test]
fn a_process_that_holds_a_cluster() {
    if env::var_os(HOLDER).is_none() {
        return;
    }
    let cluster = Cluster::start("killed", Wiring::Routed);
    cluster.start_web();
    println!("\nid={}", cluster.lab.id());
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn nothing_is_left_of_nodes_and_pods_whose_test_was_killed() {
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_process_that_holds_a_cluster", "--nocapture"])
        .env(HOLDER, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(holder.stdout.take().unwrap()).lines();
    let id = said
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("id=").map(str::to_owned))
        .expect("the cluster is up");
    assert!(traces(&id).len() > 20, "{:?}", traces(&id));
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("nothing is left", || traces(&id).is_empty());
}
