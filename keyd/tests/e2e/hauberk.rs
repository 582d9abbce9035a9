//! Hauberk in the cluster as an administrator installs it: an image, deploy/hauberk.yaml, kubectl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hauberk_netlab::kubernetes::{Image, Vantage, Worker};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const SYSTEM: &str = "hauberk-system";
/// The image's name; what is in it is the same under both tags.
pub const IMAGE: &str = "hauberk.test/hauberk";
pub const OLD: &str = "1";
pub const NEW: &str = "2";
/// Debian's package nftables installs it.
const NFT: &str = "/usr/sbin/nft";
/// Nodes with this label have keyd, so that a test can keep it from one.
const WANTED: &str = "hauberk.test/keyd";
/// Both daemons' pods.
const PODS: &str = "app.kubernetes.io/name=hauberk";

impl Cluster {
    /// Installs Hauberk by kubectl, with encryption off, and waits until it is ready on every node.
    pub fn install_hauberk(&mut self) {
        self.bring_image();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let crds = deploy.join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &crds]);
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=20s",
        ]);
        let namespace = deploy.join("manifests/namespace.yaml").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &namespace]);
        let (host, port) = self.api_server();
        self.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "hauberk-api-server", "namespace": SYSTEM},
            "data": {"host": host, "port": port},
        }));
        let rendered = fs::read_to_string(deploy.join("hauberk.yaml")).expect("deploy/ is there");
        let ours = format!("image: {IMAGE}:{OLD}");
        let mut lines: Vec<_> = rendered.lines().map(str::to_owned).collect();
        for line in &mut lines {
            if let Some(place) = line.find("image: ghcr.io/") {
                line.replace_range(place.., &ours);
            }
        }
        let bundle = lines.join("\n");
        let applied = self.try_kubectl(&["apply", "--server-side", "-f", "-"], &bundle);
        applied.unwrap_or_else(|error| panic!("deploy/hauberk.yaml: {error}"));
        let wanted = json!({"spec": {"template": {"spec": {"nodeSelector": {WANTED: "yes"}}}}}).to_string();
        self.kubectl(&["-n", SYSTEM, "patch", "ds", "hauberk-keyd", "-p", &wanted]);
        for node in self.names() {
            self.want_keyd(&node, true);
        }
        self.wait_for_keyd();
    }

    /// Gives every node the image.
    pub fn bring_image(&self) {
        let image = self.write_image();
        for worker in &self.workers {
            receive(worker, &image);
        }
    }

    /// The command `hauberk` as an administrator runs it; what it prints.
    pub fn hauberk(&self, arguments: &[&str]) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_keyd")).with_file_name("hauberk");
        let output = Command::new(&program)
            .args(arguments)
            .env_remove("HAUBERK_SOURCE")
            .env(
                "KUBECONFIG",
                self.control_plane.admin().kubeconfig(Vantage::Machine),
            )
            .output();
        let output = output.unwrap_or_else(|error| {
            panic!(
                "{} ({error}); cargo build --workspace makes it",
                program.display()
            )
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "hauberk {arguments:?}: {said}\n{}",
            self.describe()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has keyd run on a node, or not; it does so a moment later.
    pub fn want_keyd(&self, node: &str, is_wanted: bool) {
        let label = match is_wanted {
            true => format!("{WANTED}=yes"),
            false => format!("{WANTED}-"),
        };
        self.kubectl(&["label", "node", node, &label]);
    }

    /// Makes the lab's node `c` one of the cluster, as an autoscaler does: with the startup taint, and keyd wanted.
    pub fn add_node(&mut self) {
        self.start_worker(
            "c",
            vec![json!({"key": "hauberk.dev/agent-not-ready", "effect": "NoSchedule"})],
        );
        receive(self.worker("c"), &self.image());
        self.want_keyd("c", true);
    }

    /// Every node that is to have keyd has it in the newest version, ready.
    pub fn wait_for_keyd(&self) {
        let waited = self.try_kubectl(
            &[
                "-n",
                SYSTEM,
                "rollout",
                "status",
                "ds/hauberk-keyd",
                "--timeout=90s",
            ],
            "",
        );
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.describe()));
        let ready = [
            "wait",
            "--for=condition=Ready",
            "nodetunnel",
            "--all",
            "--timeout=30s",
        ];
        self.eventually("every NodeTunnel is ready", || {
            self.try_kubectl(&ready, "").is_ok()
        });
    }

    /// Gives keyd another version, and waits until all nodes have it.
    pub fn update_keyd(&self, tag: &str) {
        let image = format!("keyd={IMAGE}:{tag}");
        self.kubectl(&["-n", SYSTEM, "set", "image", "ds/hauberk-keyd", &image]);
        self.wait_for_keyd();
    }

    /// What a NodeTunnel's node runs: names of the daemons' pods and their images.
    pub fn images(&self) -> Vec<String> {
        let path = "-o=jsonpath={range .items[*]}{.spec.containers[0].image}{\"\\n\"}{end}";
        let of_keyd = "app.kubernetes.io/component=keyd";
        let images = self.kubectl(&["-n", SYSTEM, "get", "pods", "-l", of_keyd, path]);
        images.lines().map(str::to_owned).collect()
    }

    /// How the daemons' pods are, and what they logged last.
    pub fn describe(&self) -> String {
        let of_pods = |arguments: &[&str]| {
            let output = self.try_kubectl(&[&["-n", SYSTEM], arguments, &["-l", PODS]].concat(), "");
            output.unwrap_or_else(|error| error)
        };
        format!(
            "{}\n{}",
            of_pods(&["get", "pods", "-o", "wide"]),
            of_pods(&["logs", "--prefix", "--tail=20"])
        )
    }

    /// keyd's programs and `nft`, with their libraries: keyd's of the real image are static, which takes longer to build.
    fn write_image(&self) -> PathBuf {
        let path = self.image();
        let programs = [
            ("usr/bin/keyd", self.stripped(env!("CARGO_BIN_EXE_keyd"))),
            (
                "usr/bin/hauberk-cni",
                self.stripped(env!("CARGO_BIN_EXE_hauberk-cni")),
            ),
            ("usr/sbin/nft", NFT.into()),
        ];
        let mut image = Image::new(&format!("{IMAGE}:{OLD}"), &["/usr/bin/keyd"])
            .also_named(&format!("{IMAGE}:{NEW}"))
            .directory("tmp", 0o1777);
        for (inside, program) in programs {
            image = image.program(inside, &program).expect("the program is there");
        }
        image.write(&path).expect("the lab's directory can be written");
        path
    }

    /// A copy of the program without symbols, as the real image has it.
    fn stripped(&self, program: &str) -> PathBuf {
        let name = Path::new(program).file_name().expect("a name");
        let to = self.lab.dir().join(name);
        let strip = Command::new("strip").arg("-o").arg(&to).arg(program).status();
        assert!(strip.expect("binutils is installed").success(), "strip {program}");
        to
    }

    fn image(&self) -> PathBuf {
        self.lab.dir().join("hauberk.tar")
    }

    /// Where nodes reach the API server: host and port of the address by which kubelets do.
    pub fn api_server(&self) -> (String, String) {
        let text = fs::read_to_string(self.control_plane.admin().kubeconfig(Vantage::Lab));
        let config: Value = serde_json::from_str(&text.expect("a kubeconfig")).expect("it is JSON");
        let server = config["clusters"][0]["cluster"]["server"]
            .as_str()
            .expect("a URL");
        let address = server.trim_start_matches("https://").trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').expect("with a port");
        (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
    }
}

fn receive(worker: &Worker, image: &Path) {
    worker.import(image).expect("the node takes the image");
}
