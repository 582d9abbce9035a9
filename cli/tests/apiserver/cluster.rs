//! A control plane, the command as an administrator runs it, and the part of a kubelet that the test needs.

use std::collections::BTreeSet;
use std::io::Write;
use std::panic;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hauberk_netlab::kubernetes::{ControlPlane, ControlPlaneSpec, Identity, Vantage};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const SUCCEEDED: &str = r#"{"status":{"phase":"Succeeded"}}"#;
const LOOK: Duration = Duration::from_millis(100);
/// Of every installation's objects, each of these kinds has some.
const KINDS: &str = "crd,namespace,validatingadmissionpolicy,validatingadmissionpolicybinding,clusterrole,\
                     clusterrolebinding,role,rolebinding,serviceaccount,configmap,secret,lease,csr,daemonset,deployment,\
                     poddisruptionbudget,pod,priorityclass";

pub struct Cluster(ControlPlane);

impl Cluster {
    pub fn start() -> Self {
        let control_plane = ControlPlane::start(ControlPlaneSpec {
            // It makes pods of DaemonSets and Deployments, and ends namespaces.
            controller_manager: true,
            scheduler: false,
        });
        Self(control_plane.unwrap_or_else(|error| panic!("{error}\n{error:?}")))
    }

    pub fn hauberk(&self, arguments: &[&str]) -> Output {
        self.hauberk_as(self.0.admin(), arguments)
    }

    pub fn hauberk_as(&self, who: &Identity, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hauberk"))
            .args(arguments)
            .env_remove("HAUBERK_SOURCE")
            .env("KUBECONFIG", who.kubeconfig(Vantage::Machine))
            .output()
            .expect("hauberk runs")
    }

    /// A ServiceAccount of Hauberk's, as a pod of it would be.
    pub fn account(&self, name: &str) -> Identity {
        let (token, _) = self.kubectl(&["create", "token", name, "-n", "hauberk-system"], "");
        self.0.bearer(name, token.trim()).expect("a file is written")
    }

    /// What it prints.
    #[track_caller]
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.hauberk(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The one line that says why not.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.hauberk(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            text(&output.stdout)
        );
        let line = text(&output.stderr);
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    /// What kubectl prints, and what it prints to stderr.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> (String, String) {
        let output = self.try_kubectl(arguments, input);
        let said = text(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}");
        (text(&output.stdout), said)
    }

    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let (printed, _) = self.kubectl(&[&["get", "-o", "json"], arguments].concat(), "");
        serde_json::from_str(&printed).expect("kubectl prints JSON")
    }

    /// Kind, namespace and name of every object that an installation might leave; not those that Kubernetes makes
    /// for itself, some of them only after a while.
    pub fn everything(&self) -> BTreeSet<String> {
        let list = self.get(&[KINDS, "--all-namespaces"]);
        let items = list["items"].as_array().expect("a list");
        let own = |item: &&Value| {
            let of = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
            let is_system = ["kube-system", "kube-node-lease"].contains(&of("namespace"));
            let is_made_by_itself = ["default", "kube-root-ca.crt"].contains(&of("name"));
            !is_system && !is_made_by_itself && !of("name").starts_with("system:")
        };
        let name = |item: &Value| {
            let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &item["metadata"];
            format!(
                "{}/{}/{}",
                of(&item["kind"]),
                of(&metadata["namespace"]),
                of(&metadata["name"])
            )
        };
        items.iter().filter(own).map(name).collect()
    }

    /// While `work` runs, pods that clean nodes do as if a kubelet ran them.
    pub fn with_kubelet<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.play_kubelet();
                    thread::sleep(LOOK);
                }
            });
            // Also where it panics, or this scope would wait for ever.
            let worked = panic::catch_unwind(panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            worked.unwrap_or_else(|failure| panic::resume_unwind(failure))
        })
    }

    /// Pods that clean a node are done at once, and gone when they are deleted. Each may be gone before.
    fn play_kubelet(&self) {
        let form = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
        let of_cleanup = ["-l", "app.kubernetes.io/component=cleanup", "-o", form];
        let system = ["-n", "hauberk-system"];
        let pods = self.try_kubectl(&[&["get", "pods"], &system[..], &of_cleanup].concat(), "");
        for line in text(&pods.stdout).lines() {
            let (pod, deleted) = line.split_once(' ').unwrap_or((line, ""));
            let gone = [
                "delete",
                "pod",
                pod,
                "--force",
                "--grace-period=0",
                "--wait=false",
            ];
            let done = [
                "patch",
                "pod",
                pod,
                "--subresource=status",
                "--type=merge",
                "-p",
                SUCCEEDED,
            ];
            let order = if deleted.is_empty() { &done[..] } else { &gone };
            self.try_kubectl(&[order, &system].concat(), "");
        }
    }

    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(LOOK);
        }
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut kubectl = self.0.kubectl().expect("there is a kubectl");
        let mut kubectl = kubectl
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut stdin = kubectl.stdin.take().expect("a pipe");
        // kubectl that reads nothing has closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        kubectl.wait_with_output().expect("kubectl ends")
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
