//! What `deploy/` puts into a cluster before any workload.

use std::path::Path;

use hauberk_netlab::kubernetes::ControlPlane;

const FOLDERS: [&str; 2] = ["crds", "manifests"];

/// Applies it as an administrator would, and waits until the API server serves the kinds.
pub fn install(cluster: &ControlPlane) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for folder in FOLDERS {
        let mut kubectl = cluster.kubectl().expect("there is a kubectl");
        let output = kubectl
            .args(["apply", "--server-side", "-f"])
            .arg(deploy.join(folder))
            .output();
        let output = output.expect("kubectl runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let established = [
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=20s",
    ];
    let mut kubectl = cluster.kubectl().expect("there is a kubectl");
    assert!(
        kubectl
            .args(established)
            .output()
            .expect("kubectl runs")
            .status
            .success()
    );
}
