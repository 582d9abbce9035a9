//! The nodes' part: keyd stops everywhere, then one pod on each node takes away what keyd left there.
//!
//! keyd is stopped by a selector that no node has, not by deleting its DaemonSet: that one says which directories and
//! which image, also to a later run. The pods are placed on their nodes directly, past the scheduler and the CNI.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Capabilities, Node, Pod, PodSpec};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{LOOK, UninstallError, gone};
use crate::cluster::{ClusterError, request};
use crate::install::{DAEMON_SET, Namespace};
use crate::print;

/// No node has it.
const NOWHERE: &str = "hauberk.dev/uninstalling";
const KEYD: &str = "app.kubernetes.io/name=hauberk,app.kubernetes.io/component=keyd";
const CLEANING: &str = "app.kubernetes.io/name=hauberk,app.kubernetes.io/component=cleanup";
/// What the DaemonSet's affinity says of nodes, as label selectors: the image is built for these.
const PLATFORMS: [&str; 2] = ["kubernetes.io/os=linux", "kubernetes.io/arch=amd64"];
/// What takes away; keyd must not run beside it.
const COMMAND: [&str; 2] = ["/usr/bin/keyd", "uninstall"];

/// Stops keyd and cleans all nodes on which it was.
pub async fn clean(
    client: &Client,
    namespace: &Namespace,
    set: &DaemonSet,
    patience: Duration,
) -> Result<(), UninstallError> {
    let nodes = nodes(client, set).await?;
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace.as_str());
    let nowhere = json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: "true"}}}}});
    sets.patch(DAEMON_SET, &PatchParams::default(), &Patch::Merge(nowhere))
        .await
        .map_err(request("stop keyd"))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    until(patience, "keyd still runs", async || {
        let left = pods
            .list(&ListParams::default().labels(KEYD))
            .await
            .map_err(request("list pods"))?;
        Ok(left
            .iter()
            .filter_map(node_of)
            .filter(|node| nodes.contains(node))
            .collect())
    })
    .await?;
    print(&format!("keyd is stopped; cleaning {} nodes\n", nodes.len()))?;
    // What an earlier run left says nothing of now.
    remove_cleaners(&pods).await?;
    let cleaning = ListParams::default().labels(CLEANING);
    until(patience, "pods of an earlier run do not end", async || {
        let left = pods.list(&cleaning).await.map_err(request("list pods"))?;
        Ok(left.iter().filter_map(node_of).collect())
    })
    .await?;
    for node in &nodes {
        let made = pods.create(&PostParams::default(), &cleaner(set, node)).await;
        made.map_err(request("start a pod that cleans a node"))?;
    }
    until(patience, "not cleaned", async || {
        let found = pods.list(&cleaning).await.map_err(request("list pods"))?;
        let clean: BTreeSet<_> = found
            .iter()
            .filter(|pod| has_succeeded(pod))
            .filter_map(node_of)
            .collect();
        Ok(nodes.difference(&clean).cloned().collect())
    })
    .await?;
    Ok(remove_cleaners(&pods).await?)
}

/// Undoes what a [`clean`] that did not finish did: keyd may run, and nothing cleans beside it.
pub async fn take_back(client: &Client, namespace: &Namespace) -> Result<(), ClusterError> {
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace.as_str());
    let set = sets
        .get_opt(DAEMON_SET)
        .await
        .map_err(request("read the DaemonSet"))?;
    let Some(set) = set else { return Ok(()) };
    remove_cleaners(&Api::namespaced(client.clone(), namespace.as_str())).await?;
    let selector = template(&set).node_selector.unwrap_or_default();
    if selector.contains_key(NOWHERE) {
        let anywhere = json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: null}}}}});
        sets.patch(DAEMON_SET, &PatchParams::default(), &Patch::Merge(anywhere))
            .await
            .map_err(request("let keyd start again"))?;
    }
    Ok(())
}

async fn remove_cleaners(pods: &Api<Pod>) -> Result<(), ClusterError> {
    let cleaning = ListParams::default().labels(CLEANING);
    for pod in pods.list(&cleaning).await.map_err(request("list pods"))? {
        gone(pods.delete(&pod.name_any(), &DeleteParams::default()).await)
            .map_err(request("delete a pod"))?;
    }
    Ok(())
}

/// The nodes that the DaemonSet selects, or did before it was told to select none.
async fn nodes(client: &Client, set: &DaemonSet) -> Result<BTreeSet<String>, UninstallError> {
    let mut selector = template(set).node_selector.unwrap_or_default();
    selector.remove(NOWHERE);
    let mut terms: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.extend(PLATFORMS.map(str::to_owned));
    let all: Api<Node> = Api::all(client.clone());
    let found = all
        .list_metadata(&ListParams::default().labels(&terms.join(",")))
        .await;
    Ok(found
        .map_err(request("list Nodes"))?
        .iter()
        .map(ResourceExt::name_any)
        .collect())
}

fn template(set: &DaemonSet) -> PodSpec {
    let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
    spec.unwrap_or_default()
}

/// As keyd's pod: the same image and directories; without its capabilities.
fn cleaner(set: &DaemonSet, node: &str) -> Pod {
    let mut spec = template(set);
    spec.node_selector = None;
    spec.affinity = None;
    spec.node_name = Some(node.to_owned());
    spec.restart_policy = Some("OnFailure".to_owned());
    // It asks the API server nothing.
    spec.automount_service_account_token = Some(false);
    for container in &mut spec.containers {
        container.name = "cleanup".to_owned();
        container.command = Some(COMMAND.map(str::to_owned).into());
        container.args = None;
        (
            container.startup_probe,
            container.liveness_probe,
            container.readiness_probe,
        ) = (None, None, None);
        container.resources = None;
        if let Some(context) = &mut container.security_context {
            context.capabilities = Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            });
        }
    }
    let labels = CLEANING.split(',').filter_map(|term| term.split_once('='));
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("hauberk-cleanup-{node}")),
            namespace: set.namespace(),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect::<BTreeMap<_, _>>(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn has_succeeded(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
}

/// Waits until no node lags.
async fn until(
    patience: Duration,
    what: &'static str,
    lagging: impl AsyncFn() -> Result<BTreeSet<String>, UninstallError>,
) -> Result<(), UninstallError> {
    let began = Instant::now();
    loop {
        let lag = lagging().await?;
        if lag.is_empty() {
            return Ok(());
        }
        if began.elapsed() > patience {
            return Err(UninstallError::Nodes {
                what,
                nodes: lag.into_iter().collect::<Vec<_>>().join(", "),
                patience,
            });
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, to_value};

    use super::*;

    #[test]
    fn what_cleans_a_node_has_keyds_directories_and_none_of_its_rights() {
        let set: DaemonSet = from_value(json!({
            "metadata": {"namespace": "mesh", "name": DAEMON_SET},
            "spec": {"selector": {}, "template": {"spec": {
                "hostNetwork": true,
                "nodeSelector": {NOWHERE: "true"},
                "tolerations": [{"operator": "Exists"}],
                "volumes": [{"name": "cni-conf", "hostPath": {"path": "/etc/cni/net.d"}}],
                "containers": [{
                    "name": "keyd", "image": "i", "command": ["/usr/bin/keyd", "node"],
                    "livenessProbe": {"httpGet": {"port": 1}},
                    "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
                    "volumeMounts": [{"name": "cni-conf", "mountPath": "/etc/cni/net.d"}],
                }],
            }}},
        }))
        .expect("a DaemonSet");
        let pod = to_value(cleaner(&set, "a.example")).expect("JSON");
        assert_eq!(pod["metadata"]["name"], "hauberk-cleanup-a.example");
        assert_eq!(pod["spec"]["nodeName"], "a.example");
        assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/etc/cni/net.d");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["command"], json!(COMMAND));
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert!(container.get("livenessProbe").is_none() && pod["spec"].get("nodeSelector").is_none());
    }
}
