//! `hauberk install`, `status` and `uninstall` against a real API server. No kubelet runs: the test does what it would.
//!
//! Needs root, the control plane's programs, and helm to see whether deploy/ is as the chart renders it.

mod cluster;

use std::process::Command;

use cluster::{Cluster, text};
use serde_json::json;

const SYSTEM: &str = "hauberk-system";
const ADDRESS: &str = "--api-server=192.168.77.250:6443";

#[test]
fn install_puts_everything_in_without_warnings_and_uninstall_leaves_nothing() {
    let cluster = Cluster::start();
    let before = cluster.everything();
    cluster.kubectl(
        &["create", "-f", "-"],
        &json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {
                "name": "a", "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            },
        })
        .to_string(),
    );
    let installed = cluster.succeeds(&["install", ADDRESS, "--timeout=0s"]);
    assert!(installed.contains("hauberk enable encryption"), "{installed}");

    // kubectl prints warnings of the API server, and refuses unknown fields.
    let bundle = cluster.succeeds(&["install", ADDRESS, "--dry-run"]);
    let (_, warnings) = cluster.kubectl(
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "-f",
            "-",
        ],
        &bundle,
    );
    assert_eq!(warnings, "");
    // What admission does to pods shows only when one is made.
    cluster.eventually("the DaemonSet's pod is admitted", || {
        let pods = cluster.get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=keyd"]);
        pods["items"].as_array().is_some_and(|pods| pods.len() == 1)
    });
    cluster.eventually("the controller's pods are admitted", || {
        let pods = cluster.get(&[
            "pods",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/component=controller",
        ]);
        pods["items"].as_array().is_some_and(|pods| pods.len() == 2)
    });
    let status = cluster.succeeds(&["status"]);
    assert!(status.contains("Off (0 of 1 nodes encrypted)"), "{status}");

    cluster.succeeds(&["enable", "encryption"]);
    cluster.succeeds(&["install", ADDRESS, "--timeout=0s"]);
    let mesh = cluster.get(&["mesh", "default"]);
    assert_eq!(
        mesh["spec"]["encryption"]["enabled"], true,
        "an upgrade changes no setting"
    );

    let late = cluster.fails(&["install", ADDRESS, "--timeout=1s"]);
    assert!(late.contains("keyd is ready on 0 of 1 nodes"), "{late}");
    let stuck = cluster.fails(&["uninstall", "--timeout=4s"]);
    assert!(stuck.contains("not cleaned after 4 s: a;"), "{stuck}");
    let said = cluster.with_kubelet(|| cluster.succeeds(&["uninstall"]));
    assert!(said.ends_with("uninstalled\n"), "{said}");
    cluster.kubectl(&["delete", "node", "a"], "");
    assert_eq!(cluster.everything(), before);
    // Twice is no failure.
    cluster.succeeds(&["uninstall"]);
}

#[test]
fn kinds_and_settings_may_be_kept_and_another_namespace_is_used() {
    let cluster = Cluster::start();
    cluster.succeeds(&[
        "install",
        ADDRESS,
        "--namespace=mesh",
        "--image=mirror.example/hauberk:x",
    ]);
    let set = cluster.get(&["daemonset", "-n", "mesh", "hauberk-keyd"]);
    let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, "mirror.example/hauberk:x");
    for arguments in [["uninstall", "--timeout=1s"], ["install", ADDRESS]] {
        let elsewhere = cluster.fails(&arguments);
        assert!(elsewhere.contains("give --namespace=mesh"), "{elsewhere}");
    }
    cluster.succeeds(&["uninstall", "--namespace=mesh", "--keep-crds"]);
    cluster.get(&["mesh", "default"]);
    let left = cluster.everything();
    let of_ours = left
        .iter()
        .filter(|name| name.contains("/mesh") || name.contains("hauberk"));
    let stays: Vec<_> = of_ours
        .filter(|name| !name.starts_with("CustomResourceDefinition"))
        .collect();
    assert!(stays.is_empty(), "{stays:?}");
}

#[test]
fn a_namespace_of_somebody_elses_is_left_alone() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", "monitoring"], "");
    cluster.kubectl(
        &[
            "label",
            "namespace",
            "monitoring",
            "app.kubernetes.io/part-of=another",
        ],
        "",
    );
    let before = cluster.everything();
    let refused = cluster.fails(&["install", ADDRESS, "--namespace=monitoring"]);
    assert!(
        refused.contains("namespace monitoring is there already"),
        "{refused}"
    );
    assert_eq!(cluster.everything(), before);
}

#[test]
fn while_a_node_encrypts_nothing_is_removed() {
    let cluster = Cluster::start();
    cluster.succeeds(&["install", ADDRESS, "--timeout=0s"]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}});
    cluster.kubectl(&["create", "-f", "-"], &node.to_string());
    let owner = &cluster.get(&["node", "a"])["metadata"]["uid"];
    let tunnel = json!({
        "apiVersion": "hauberk.dev/v1alpha1", "kind": "NodeTunnel", "metadata": {
            "name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": owner}],
        }, "spec": {},
    });
    cluster.kubectl(&["create", "-f", "-"], &tunnel.to_string());
    let status = json!({"status": {"conditions": [{
        "type": "Encrypted", "status": "True", "reason": "AllPairsStrict", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let patch = [
        "patch",
        "nodetunnel",
        "a",
        "--subresource=status",
        "--type=merge",
        "-p",
    ];
    cluster.kubectl(&[&patch[..], &[&status.to_string()]].concat(), "");
    // Pods of the controller come when they come.
    let lasting = || {
        let all = cluster.everything().into_iter();
        all.filter(|name| !name.starts_with("Pod/")).collect::<Vec<_>>()
    };
    let before = lasting();
    let late = cluster.fails(&["uninstall", "--timeout=1s"]);
    assert!(late.contains("encryption is still on at a after 1 s"), "{late}");
    cluster.kubectl(&["delete", "mesh", "default"], "");
    let lost = cluster.fails(&["uninstall", "--timeout=1s"]);
    assert!(lost.contains("without a Mesh named default"), "{lost}");
    assert_eq!(lasting(), before);
}

#[test]
fn what_was_not_proved_is_refused_and_nothing_is_changed() {
    let cluster = Cluster::start();
    let unknown = cluster.fails(&["install"]);
    assert!(unknown.contains("give --api-server HOST:PORT"), "{unknown}");
    let join = "clusters: [{name: '', cluster: {server: 'https://192.168.77.250:6443'}}]";
    let literal = format!("--from-literal=kubeconfig={join}");
    cluster.kubectl(
        &[
            "create",
            "configmap",
            "-n",
            "kube-public",
            "cluster-info",
            &literal,
        ],
        "",
    );
    let bundle = cluster.succeeds(&["install", "--dry-run"]);
    assert!(bundle.contains("host: \"192.168.77.250\"\n  port: \"6443\""));

    let before = cluster.everything();
    let labels = json!({"app": "cilium"});
    let cilium = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "agent", "image": "agent"}]},
            },
        },
    });
    cluster.kubectl(&["create", "-f", "-"], &cilium.to_string());
    let refused = cluster.fails(&["install", ADDRESS]);
    assert!(
        refused.contains("Cilium (DaemonSet kube-system/cilium) was not proved"),
        "{refused}"
    );
    cluster.kubectl(&["delete", "daemonset", "-n", "kube-system", "cilium"], "");
    assert_eq!(cluster.everything(), before);

    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "felixconfigurations.crd.projectcalico.org"},
        "spec": {
            "group": "crd.projectcalico.org", "scope": "Cluster",
            "names": {"kind": "FelixConfiguration", "plural": "felixconfigurations"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    cluster.kubectl(&["create", "-f", "-"], &definition.to_string());
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    let felix = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "FelixConfiguration", "metadata": {"name": "default"},
        "spec": {"bpfEnabled": true},
    });
    cluster.kubectl(&["create", "-f", "-"], &felix.to_string());
    let refused = cluster.fails(&["install", ADDRESS]);
    assert!(
        refused.contains("Calico's eBPF data plane (bpfEnabled of a FelixConfiguration)"),
        "{refused}"
    );
}

#[test]
fn two_kubectl_commands_install_the_rendered_file() {
    let cluster = Cluster::start();
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    // The Mesh cannot be known before its kind is.
    cluster.kubectl(&["apply", "--server-side", "-f", &format!("{deploy}/crds")], "");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    let (_, warnings) = cluster.kubectl(
        &["apply", "--server-side", "-f", &format!("{deploy}/hauberk.yaml")],
        "",
    );
    assert_eq!(warnings, "");
    cluster.get(&["mesh", "default"]);
    // And what kubectl installed the command upgrades.
    cluster.succeeds(&["install", ADDRESS]);
}

#[test]
fn what_helm_runs_before_it_deletes_is_granted_all_that_it_needs() {
    let cluster = Cluster::start();
    cluster.succeeds(&["install", ADDRESS, "--timeout=0s"]);
    cluster.succeeds(&["enable", "encryption"]);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {
            "name": "a", "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
    });
    cluster.kubectl(&["create", "-f", "-"], &node.to_string());
    let chart = "\"$(scripts/helm)\" template hauberk deploy/chart/hauberk --namespace hauberk-system \
                 --set apiServer.host=192.0.2.1 --show-only templates/uninstall.yaml";
    let rendered = Command::new("sh")
        .args(["-c", chart])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("sh runs");
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    // Without the Job itself: the test does what its pod would.
    let rendered = text(&rendered.stdout);
    let (job, grants): (Vec<_>, Vec<_>) = rendered
        .split("\n---\n")
        .partition(|object| object.contains("\nkind: Job\n"));
    assert!(job.len() == 1 && job[0].contains("- --nodes-only\n"), "{job:?}");
    cluster.kubectl(&["apply", "-f", "-"], &grants.join("\n---\n"));
    let hook = cluster.account("hauberk-uninstall");
    let output = cluster.with_kubelet(|| cluster.hauberk_as(&hook, &["uninstall", "--nodes-only"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).ends_with("every node is clean\n"),
        "{output:?}"
    );
}

#[test]
fn deploy_is_as_the_chart_renders_it() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/manifests");
    let output = Command::new(script)
        .arg("--check")
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}
