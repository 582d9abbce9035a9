//! How far the pods are: what the DaemonSet and the Deployment say, and what keeps pods that wait.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::{DAEMON_SET, InstallError, Namespace};
use crate::cluster::request;

const DEPLOYMENT: &str = "hauberk-controller";
/// All pods of the installation.
const PODS: &str = "app.kubernetes.io/name=hauberk";

/// Counts of pods that are ready, and that should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The numbers are of the newest specification.
    is_current: bool,
    nodes: i32,
    ready: i32,
    replicas: i32,
    available: i32,
}

impl Rollout {
    /// As the API server has it now.
    pub async fn look(client: &Client, namespace: &Namespace) -> Result<Self, InstallError> {
        let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace.as_str());
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace.as_str());
        let set = sets
            .get(DAEMON_SET)
            .await
            .map_err(request("read the DaemonSet"))?;
        let deployment = deployments.get(DEPLOYMENT).await;
        let deployment = deployment.map_err(request("read the controller's Deployment"))?;
        Ok(Self::of(&set, &deployment))
    }

    fn of(set: &DaemonSet, deployment: &Deployment) -> Self {
        let nodes = set.status.clone().unwrap_or_default();
        let controller = deployment.status.clone().unwrap_or_default();
        let wanted = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        // What was not updated yet is ready in its old version.
        let updated = nodes.updated_number_scheduled.unwrap_or_default();
        Self {
            is_current: nodes.observed_generation == set.metadata.generation
                && controller.observed_generation == deployment.metadata.generation,
            nodes: nodes.desired_number_scheduled,
            ready: updated.min(nodes.number_available.unwrap_or_default()),
            replicas: wanted,
            available: controller
                .updated_replicas
                .unwrap_or_default()
                .min(controller.available_replicas.unwrap_or_default()),
        }
    }

    /// One controller does the work.
    pub fn is_done(&self) -> bool {
        self.is_current && self.ready == self.nodes && (self.available > 0 || self.nodes == 0)
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            ready,
            replicas,
            available,
            ..
        } = self;
        match (self.is_current, nodes) {
            (false, _) => f.write_str("the pods are being made"),
            (true, 0) => f.write_str(
                "the cluster has no node for keyd (Linux on amd64) yet; it will start on each that joins",
            ),
            (true, _) => write!(
                f,
                "keyd is ready on {ready} of {nodes} nodes, {available} of {replicas} controllers"
            ),
        }
    }
}

/// What keeps pods from being ready, each cause once.
pub async fn why_not(client: &Client, namespace: &Namespace) -> Result<BTreeSet<String>, InstallError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    let pods = pods
        .list(&ListParams::default().labels(PODS))
        .await
        .map_err(request("list pods"))?;
    Ok(pods.iter().filter_map(cause).collect())
}

fn cause(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers
        .into_iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status != "True");
    let (reason, message) = match (waiting, unscheduled) {
        (Some(waiting), _) => (waiting.reason.clone(), waiting.message.clone()),
        (None, Some(condition)) => (condition.reason.clone(), condition.message.clone()),
        (None, None) => return None,
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let place = node.map_or_else(|| pod.name_any(), |node| format!("node {node}"));
    let message = message.map(|text| format!(" ({text})")).unwrap_or_default();
    Some(format!("{place}: {}{message}", reason.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn rollout(set: serde_json::Value, deployment: serde_json::Value) -> Rollout {
        let set =
            json!({"metadata": {"generation": 2}, "spec": {"selector": {}, "template": {}}, "status": set});
        let deployment = json!({
            "metadata": {"generation": 1},
            "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": deployment,
        });
        Rollout::of(
            &from_value(set).expect("a DaemonSet"),
            &from_value(deployment).expect("a Deployment"),
        )
    }

    #[test]
    fn old_pods_that_are_ready_are_not_the_new_ones() {
        let controller = json!({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2});
        let set = |observed, updated| {
            json!({
                "observedGeneration": observed, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated,
                "numberAvailable": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3,
            })
        };
        assert!(
            !rollout(set(1, 3), controller.clone()).is_done(),
            "the specification was not seen yet"
        );
        assert!(!rollout(set(2, 1), controller.clone()).is_done());
        assert!(rollout(set(2, 3), controller).is_done());
        assert!(
            !rollout(set(2, 3), json!({"observedGeneration": 1})).is_done(),
            "nobody signs certificates"
        );
    }

    #[test]
    fn a_pod_that_waits_says_where_and_why() {
        let pod = json!({
            "metadata": {"name": "hauberk-keyd-x"}, "spec": {"nodeName": "a", "containers": []},
            "status": {"containerStatuses": [{
                "name": "keyd", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            }]},
        });
        let cause = cause(&from_value(pod).expect("a Pod"));
        assert_eq!(cause.as_deref(), Some("node a: ImagePullBackOff (no such image)"));
    }
}
