//! kube-router's network policy controller on a node: NetworkPolicies by iptables and ipset, IPv4, and nothing
//! else of it.

use std::path::Path;

use crate::{
    Node,
    kubernetes::{ControlPlane, KubernetesError, flags::SERVICES},
};

use super::kubelet;

const KUBECONFIG: &str = "kube-router.kubeconfig";

/// Writes its kubeconfig to the node's disk.
pub(super) fn write(control_plane: &ControlPlane, node: &Node, disk: &Path) -> Result<(), KubernetesError> {
    let files = format!("kube-router-{}", node.name());
    // No role of RBAC's is made for it; what it may do is no matter of the tests.
    let client = control_plane
        .authority
        .client(&files, "kube-router", Some("system:masters"))?;
    kubelet::write_kubeconfig(control_plane.families, disk, KUBECONFIG, "kube-router", &client)
}

/// Its flags.
pub(super) fn flags(node: &Node) -> Vec<String> {
    vec![
        "--run-firewall=true".into(),
        "--run-router=false".into(),
        "--run-service-proxy=false".into(),
        "--run-loadbalancer=false".into(),
        "--enable-cni=false".into(),
        // Of IPv6 this version names ipsets that it does not make.
        "--enable-ipv6=false".into(),
        format!("--hostname-override={}", node.name()),
        format!("--kubeconfig={}", kubelet::path(KUBECONFIG).display()),
        format!("--service-cluster-ip-range={}", SERVICES.0),
        "--v=1".into(),
    ]
}
