//! The lab as manifests, for keyd's directory source.

use std::{fmt::Write as _, fs, path::Path};

use crate::{Lab, LabError, Node, Pod, error::file};

/// What the Mesh manifest says; the rest follows from the lab.
#[derive(Clone, Debug)]
pub struct ManifestSpec {
    /// `spec.policy.enforcer`: `CNI` or `Hauberk`.
    pub enforcer: String,
    /// `spec.encryption.enabled`.
    pub encryption: bool,
    /// `spec.encryption.lanes`, or keyd's default.
    pub lanes: Option<u16>,
    /// Namespace of the pods.
    pub namespace: String,
}

impl Default for ManifestSpec {
    fn default() -> Self {
        Self {
            enforcer: "Hauberk".into(),
            encryption: false,
            lanes: None,
            namespace: "demo".into(),
        }
    }
}

impl Lab {
    /// Writes `mesh.yaml`, `namespace-NAME.yaml`, and `node-`, `serviceaccount-` and `pod-NAME.yaml` of each node in the
    /// cluster and each pod into `dir`, each by rename.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_manifests(&self, dir: &Path, spec: &ManifestSpec) -> Result<(), LabError> {
        write(dir, "mesh.yaml", &mesh(spec))?;
        write(
            dir,
            &format!("namespace-{}.yaml", spec.namespace),
            &namespace(&spec.namespace),
        )?;
        for node in self.nodes().iter().filter(|node| node.in_cluster()) {
            write(dir, &format!("node-{}.yaml", node.name()), &node_manifest(node))?;
            for pod in node.pods() {
                self.write_pod_manifests(dir, spec, pod.name())?;
            }
        }
        Ok(())
    }

    /// Writes `serviceaccount-NAME.yaml` and `pod-NAME.yaml` of one pod, as [`Lab::write_manifests`] does.
    ///
    /// # Errors
    /// The directory cannot be written.
    ///
    /// # Panics
    /// When there is no such pod.
    pub fn write_pod_manifests(&self, dir: &Path, spec: &ManifestSpec, pod: &str) -> Result<(), LabError> {
        let pod = self.pod(pod);
        let account = service_account(&spec.namespace, pod.name());
        write(dir, &format!("serviceaccount-{}.yaml", pod.name()), &account)?;
        let text = pod_manifest(&spec.namespace, self.node(pod.node()), pod);
        write(dir, &format!("pod-{}.yaml", pod.name()), &text)
    }
}

/// Sets the flag in `dir/mesh.yaml`, as `hauberk enable encryption` does; the rest of the file stays.
///
/// # Errors
/// There is no such file, or it was not written by [`Lab::write_manifests`].
pub fn set_encryption(dir: &Path, enabled: bool) -> Result<(), LabError> {
    let path = dir.join("mesh.yaml");
    let text = fs::read_to_string(&path).map_err(file("cannot read", &path))?;
    let (before, after) = (format!("enabled: {}", !enabled), format!("enabled: {enabled}"));
    if !text.contains(&before) && !text.contains(&after) {
        return Err(LabError::Spec(format!(
            "{} has no `enabled: true` or `enabled: false`",
            path.display()
        )));
    }
    write(dir, "mesh.yaml", &text.replacen(&before, &after, 1))
}

fn mesh(spec: &ManifestSpec) -> String {
    let mut text = format!(
        "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata:\n  name: default\nspec:\n  encryption:\n    enabled: {}\n",
        spec.encryption
    );
    if let Some(lanes) = spec.lanes {
        writeln!(text, "    lanes: {lanes}").expect("a String takes all that is written");
    }
    text + &format!("  policy:\n    enforcer: {}\n", spec.enforcer)
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

fn node_manifest(node: &Node) -> String {
    let (name, v4, v6) = (node.name(), node.v4(), node.v6());
    let (cidr_v4, cidr_v6) = (node.pod_cidr_v4(), node.pod_cidr_v6());
    format!(
        "apiVersion: v1
kind: Node
metadata:
  name: {name}
spec:
  podCIDR: {cidr_v4}
  podCIDRs:
    - {cidr_v4}
    - {cidr_v6}
status:
  addresses:
    - type: InternalIP
      address: {v4}
    - type: InternalIP
      address: {v6}
    - type: Hostname
      address: {name}
"
    )
}

fn service_account(namespace: &str, name: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  namespace: {namespace}\n")
}

fn pod_manifest(namespace: &str, node: &Node, pod: &Pod) -> String {
    let (name, v4, v6) = (pod.name(), pod.v4(), pod.v6());
    let (node, host_v4, host_v6) = (node.name(), node.v4(), node.v6());
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app: {name}
spec:
  nodeName: {node}
  serviceAccountName: {name}
  containers:
    - name: {name}
      image: none
status:
  phase: Running
  podIP: {v4}
  podIPs:
    - ip: {v4}
    - ip: {v6}
  hostIP: {host_v4}
  hostIPs:
    - ip: {host_v4}
    - ip: {host_v6}
"
    )
}

/// By rename, so that no reader meets half a file.
fn write(dir: &Path, name: &str, text: &str) -> Result<(), LabError> {
    let hidden = dir.join(format!(".{name}"));
    let path = dir.join(name);
    fs::write(&hidden, text).map_err(file("cannot write", &hidden))?;
    fs::rename(&hidden, &path).map_err(file("cannot write", &path))
}
