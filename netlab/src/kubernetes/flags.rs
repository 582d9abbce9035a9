//! The components' flags, and why they are so.

use std::path::{Path, PathBuf};

use super::{ControlPlaneSpec, Families, certificates::CertificateFiles, network};

/// The API server's port, on all addresses of its namespace.
pub(super) const PORT: u16 = 6443;

/// In the namespace of the control plane nobody else listens.
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
pub(super) const SERVICES: (&str, &str) = ("10.96.0.0/16", "fd96::/112");
/// What a lab gives to its nodes' pods.
const PODS: (&str, &str) = ("10.77.0.0/16", "fd77::/16");

/// The files that flags name.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) etcd_data: PathBuf,
    pub(super) audit_policy: PathBuf,
    pub(super) audit_log: PathBuf,
    pub(super) authority: CertificateFiles,
    pub(super) server: CertificateFiles,
    /// By which the API server proves itself to kubelets.
    pub(super) kubelet_client: CertificateFiles,
    /// Signs ServiceAccount tokens.
    pub(super) tokens_private: PathBuf,
    /// Verifies them.
    pub(super) tokens_public: PathBuf,
}

/// Names and addresses that the API server is reached by: from the machine, from a lab, as a Service.
pub(super) fn reached_by() -> Vec<String> {
    let fixed = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes.default.svc",
        "10.96.0.1",
        "fd96::1",
    ];
    let lab = [network::V4.to_string(), network::V6.to_string()];
    fixed.map(str::to_owned).into_iter().chain(lab).collect()
}

pub(super) fn etcd(files: &Files) -> Vec<String> {
    vec![
        path("--data-dir", &files.etcd_data),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={ETCD_PEERS}"),
        // The data live on a tmpfs, and no longer than the machine is up.
        "--unsafe-no-fsync".into(),
        // What the API server's bookmarks and consistent reads from its cache wait for.
        "--watch-progress-notify-interval=5s".into(),
        "--log-level=warn".into(),
    ]
}

pub(super) fn api_server(files: &Files, spec: ControlPlaneSpec, families: Families) -> Vec<String> {
    let mut flags = vec![
        format!("--etcd-servers={ETCD}"),
        "--bind-address=::".into(),
        format!("--secure-port={PORT}"),
        // It would look for a default route, and there is none.
        format!("--advertise-address={}", families.api_server().ip()),
        // Without pods there is nobody who would translate the Service's address to it.
        format!(
            "--endpoint-reconciler-type={}",
            if spec.scheduler { "lease" } else { "none" }
        ),
        path("--tls-cert-file", &files.server.certificate),
        path("--tls-private-key-file", &files.server.key),
        path("--client-ca-file", &files.authority.certificate),
        path("--kubelet-certificate-authority", &files.authority.certificate),
        path("--kubelet-client-certificate", &files.kubelet_client.certificate),
        path("--kubelet-client-key", &files.kubelet_client.key),
        // Nobody resolves the nodes' names.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        path("--service-account-key-file", &files.tokens_public),
        path("--service-account-signing-key-file", &files.tokens_private),
        format!(
            "--service-cluster-ip-range={}",
            families.list(SERVICES.0, SERVICES.1)
        ),
        "--allow-privileged".into(),
        // Otherwise it waits a minute for watchers to leave by themselves.
        "--shutdown-watch-termination-grace-period=1s".into(),
        path("--audit-policy-file", &files.audit_policy),
        path("--audit-log-path", &files.audit_log),
        // In megabytes; a rotated log would be half a proof.
        "--audit-log-maxsize=4096".into(),
    ];
    if !spec.controller_manager {
        // It refuses pods of ServiceAccounts that nobody makes.
        flags.push("--disable-admission-plugins=ServiceAccount".into());
    }
    flags
}

pub(super) fn controller_manager(files: &Files, families: Families, kubeconfig: &Path) -> Vec<String> {
    vec![
        path("--kubeconfig", kubeconfig),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        path("--root-ca-file", &files.authority.certificate),
        path("--service-account-private-key-file", &files.tokens_private),
        path("--cluster-signing-cert-file", &files.authority.certificate),
        path("--cluster-signing-key-file", &files.authority.key),
        format!("--cluster-cidr={}", families.list(PODS.0, PODS.1)),
        // A lab's nodes have their podCIDRs from the lab.
        "--allocate-node-cidrs=false".into(),
        "--node-monitor-grace-period=16s".into(),
        // Only its health is served there.
        "--bind-address=127.0.0.1".into(),
    ]
}

pub(super) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    vec![
        path("--kubeconfig", kubeconfig),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
    ]
}

fn path(flag: &str, path: &Path) -> String {
    format!("{flag}={}", path.display())
}
