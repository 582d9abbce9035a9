//! Fills the API server: many requests at once, with progress on a terminal.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use hauberk_netlab::Lab;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    error::ScaleError,
    objects::{self, Host, NAMESPACE, Site},
    requests::{MESHES, NAMESPACES, NODES, PODS, Requests, SYSTEM_CONFIG_MAPS, SYSTEM_SECRETS, TUNNELS},
    signing::{Signing, tunnel_status},
};

/// Objects that are made side by side.
const AT_ONCE: usize = 50;
/// Until the controller has made its authority.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// The generation of the synthetic nodes' keys.
const GENERATION: u64 = 1;

/// What the mesh signs with, once the controller has made and published it.
pub async fn signing(requests: &Requests) -> Result<Signing, ScaleError> {
    let begin = Instant::now();
    loop {
        let secret = requests.find(SYSTEM_SECRETS, "hauberk-ca").await?;
        let bundle = requests.find(SYSTEM_CONFIG_MAPS, "hauberk-trust-bundle").await?;
        if let (Some(secret), Some(bundle)) = (secret, bundle) {
            return Signing::new(&secret, &bundle);
        }
        if begin.elapsed() > PATIENCE {
            return Err(ScaleError::Late {
                what: "the controller has published its authority".into(),
                patience: PATIENCE.as_secs(),
                said: String::new(),
            });
        }
        sleep(LOOK).await;
    }
}

/// The namespace, the Mesh, and the lab's nodes and pods; their numbers follow those of the synthetic pods.
pub async fn real(requests: &Requests, lab: &Lab, lanes: u16, pods: usize) -> Result<(), ScaleError> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    requests.create(NAMESPACES, &namespace).await?;
    requests.create(MESHES, &objects::mesh(lanes)).await?;
    for (number, node) in lab.nodes().iter().enumerate() {
        let mut object = objects::real_node(node);
        let status = json!({"status": object["status"].take()});
        requests.apply(NODES, node.name(), &object).await?;
        requests.put_status(NODES, node.name(), &status).await?;
        for pod in node.pods() {
            let (object, status) = objects::real_pod(pods + number, pod);
            requests.create(PODS, &object).await?;
            requests.put_status(PODS, pod.name(), &status).await?;
        }
    }
    Ok(())
}

/// The synthetic nodes, each with its NodeTunnel.
pub async fn nodes(
    requests: &Requests,
    signing: &Signing,
    count: usize,
    lanes: u16,
) -> Result<(), ScaleError> {
    each("nodes", count, |number| {
        node(requests, signing, Host::first(number), lanes)
    })
    .await
}

/// A synthetic node with its NodeTunnel.
pub async fn node(requests: &Requests, signing: &Signing, host: Host, lanes: u16) -> Result<(), ScaleError> {
    let stored = requests.create(NODES, &objects::synthetic_node(host)).await?;
    let made = tunnel(requests, signing, host, &stored, &[GENERATION], lanes);
    made.await.map(drop)
}

/// The pods that stay.
pub async fn pods(requests: &Requests, count: usize, nodes: usize) -> Result<(), ScaleError> {
    each("pods", count, |number| async move {
        let (object, status) = objects::synthetic_pod(number, Site::staying(number, nodes));
        let stored = requests.create(PODS, &object).await?;
        let name = stored["metadata"]["name"].as_str().unwrap_or_default();
        requests.put_status(PODS, name, &status).await.map(drop)
    })
    .await
}

/// Gives a synthetic node the largest NodeTunnel there can be; returns its size as stored, in bytes of JSON.
pub async fn large_tunnel(requests: &Requests, signing: &Signing, host: Host) -> Result<usize, ScaleError> {
    const LARGE: (&[u64], u16) = (&[1_000_001, 1_000_002], 64);
    let node = requests.find(NODES, &host.name()).await?.unwrap_or_default();
    let stored = tunnel(requests, signing, host, &node, LARGE.0, LARGE.1).await?;
    Ok(stored.to_string().len())
}

/// The size of a node's NodeTunnel as stored, in bytes of JSON; 0 if there is none.
pub async fn tunnel_bytes(requests: &Requests, node: &str) -> Result<usize, ScaleError> {
    let stored = requests.find(TUNNELS, node).await?;
    Ok(stored.map_or(0, |stored| stored.to_string().len()))
}

async fn tunnel(
    requests: &Requests,
    signing: &Signing,
    host: Host,
    node: &Value,
    ids: &[u64],
    lanes: u16,
) -> Result<Value, ScaleError> {
    let name = host.name();
    let uid = node["metadata"]["uid"].as_str().unwrap_or_default();
    let object = signing.tunnel(host, uid, ids, lanes)?;
    requests.apply(TUNNELS, &name, &object).await?;
    requests.apply_status(TUNNELS, &name, &tunnel_status(host)).await
}

async fn each<F>(what: &'static str, count: usize, make: impl Fn(usize) -> F) -> Result<(), ScaleError>
where
    F: Future<Output = Result<(), ScaleError>>,
{
    let bar = progress(count as u64, what);
    let made = stream::iter((0..count).map(make)).buffer_unordered(AT_ONCE);
    let done = made.try_for_each(async |()| {
        bar.inc(1);
        Ok(())
    });
    let done = done.await;
    bar.finish_and_clear();
    done
}

/// On standard error, and only when that is a terminal.
pub fn progress(steps: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg} (about {eta} left)")
            .expect("the template is a constant that parses");
    let bar = ProgressBar::new(steps).with_style(style.progress_chars("=> "));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
