//! The kubelet's files and flags, and why they are so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{SOCKET, machine};
use crate::{
    LabError, Node,
    error::file,
    kubernetes::{
        ControlPlane, Families, KubernetesError, certificates::CertificateFiles, identity::kubeconfig,
    },
};

const DIRECTORY: &str = "etc/kubernetes";
const CONFIGURATION: &str = "kubelet.json";
const KUBECONFIG: &str = "kubelet.kubeconfig";

/// Writes certificates, kubeconfig and configuration to the node's `disk`.
pub(super) fn write(control_plane: &ControlPlane, node: &Node, disk: &Path) -> Result<(), KubernetesError> {
    let name = node.name();
    let directory = disk.join(DIRECTORY);
    fs::create_dir_all(directory.join("manifests")).map_err(file("cannot make", &directory))?;
    let authority = &control_plane.authority;
    let group = Some("system:nodes");
    let client = authority.client(&format!("kubelet-{name}"), &format!("system:node:{name}"), group)?;
    let reached_by = vec![name.into(), node.v4().to_string(), node.v6().to_string()];
    let server = authority.server(&format!("kubelet-{name}-server"), reached_by)?;
    copy(disk, "ca.crt", &authority.files().certificate)?;
    copy(disk, "server.crt", &server.certificate)?;
    copy(disk, "server.key", &server.key)?;
    write_kubeconfig(control_plane.families, disk, KUBECONFIG, "kubelet", &client)?;
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": path("ca.crt")},
            "webhook": {"enabled": true},
            "anonymous": {"enabled": false},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": path("server.crt"),
        "tlsPrivateKeyFile": path("server.key"),
        "staticPodPath": path("manifests"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        // Its default is to refuse cgroup v1, which some machines have.
        "failCgroupV1": false,
        "failSwapOn": false,
        // No limits on all pods together.
        "enforceNodeAllocatable": [],
        // The default needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        // The machine's disk is no matter of the lab's: nothing is evicted, no image removed.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        // Where a cluster's DNS usually is; the machine's own would be out of reach.
        "clusterDNS": control_plane.families.of("10.96.0.10", "fd96::a"),
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        // It says of itself that the node is up; a lost one is to be noticed soon.
        "nodeStatusUpdateFrequency": "4s",
        // Instead of a minute, for ConfigMaps and Secrets that pods have as volumes.
        "syncFrequency": "10s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    });
    // JSON is YAML as well.
    let text = configuration.to_string();
    Ok(machine::write(
        disk,
        &format!("{DIRECTORY}/{CONFIGURATION}"),
        &text,
    )?)
}

pub(super) fn flags(node: &Node, families: Families) -> Vec<String> {
    vec![
        format!("--config={}", path(CONFIGURATION).display()),
        format!("--kubeconfig={}", path(KUBECONFIG).display()),
        format!("--hostname-override={}", node.name()),
        // It would look for a default route, and there is none.
        format!(
            "--node-ip={}",
            families.list(&node.v4().to_string(), &node.v6().to_string())
        ),
    ]
}

/// A kubeconfig by this `name`, for programs on the node; with copies of the certificate and key, named
/// `user`.
pub(super) fn write_kubeconfig(
    families: Families,
    disk: &Path,
    name: &str,
    user: &str,
    client: &CertificateFiles,
) -> Result<(), KubernetesError> {
    let (certificate, key) = (format!("{user}.crt"), format!("{user}.key"));
    copy(disk, &certificate, &client.certificate)?;
    copy(disk, &key, &client.key)?;
    let user = json!({"client-certificate": path(&certificate), "client-key": path(&key)});
    let text = kubeconfig(families.api_server(), &path("ca.crt"), &user).to_string();
    Ok(machine::write(disk, &format!("{DIRECTORY}/{name}"), &text)?)
}

/// Where the node has this file.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/").join(DIRECTORY).join(name)
}

fn copy(disk: &Path, name: &str, from: &Path) -> Result<(), LabError> {
    let to = disk.join(DIRECTORY).join(name);
    fs::copy(from, &to).map(drop).map_err(file("cannot write", &to))
}
