//! kube-proxy on a node: Services' addresses and node ports.

use std::path::Path;

use crate::{
    Node,
    kubernetes::{ControlPlane, KubernetesError},
};

use super::kubelet;

const KUBECONFIG: &str = "kube-proxy.kubeconfig";

/// Who makes Services' addresses work on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceProxy {
    /// Nobody.
    None,
    /// kube-proxy with iptables, its default.
    Iptables,
    /// kube-proxy with nftables.
    Nftables,
}

impl ServiceProxy {
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Iptables => Some("iptables"),
            Self::Nftables => Some("nftables"),
        }
    }

    /// Writes its kubeconfig to the node's disk. RBAC knows the user.
    pub(super) fn write(
        self,
        control_plane: &ControlPlane,
        node: &Node,
        disk: &Path,
    ) -> Result<(), KubernetesError> {
        let files = format!("kube-proxy-{}", node.name());
        let client = control_plane
            .authority
            .client(&files, "system:kube-proxy", None)?;
        kubelet::write_kubeconfig(control_plane.families, disk, KUBECONFIG, "kube-proxy", &client)
    }

    /// Its flags, where it is to run.
    pub(super) fn flags(self, node: &Node) -> Option<Vec<String>> {
        let mode = self.mode()?;
        Some(vec![
            format!("--proxy-mode={mode}"),
            format!("--kubeconfig={}", kubelet::path(KUBECONFIG).display()),
            format!("--hostname-override={}", node.name()),
            // It would set limits of connection tracking, most of them the whole machine's.
            "--conntrack-max-per-core=0".into(),
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
            // Services follow their pods at once: the defaults are for thousands of them.
            "--iptables-min-sync-period=100ms".into(),
        ])
    }
}
