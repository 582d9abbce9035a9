//! From the files' objects to one snapshot. An object that two files have is taken from the first by name.

use std::collections::BTreeMap;

use crate::manifest::{Object, Problem};
use crate::snapshot::Snapshot;

/// The snapshot, and a problem for each object that is there twice.
pub(super) fn merge<'a>(files: impl Iterator<Item = (&'a str, &'a [Object])>) -> (Snapshot, Vec<Problem>) {
    let mut snapshot = Snapshot::default();
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, objects) in files {
        for object in objects {
            let title = title(object);
            if let Some(first) = owners.get(&title) {
                let text = format!("{title} is also in {first}, which counts");
                problems.push(Problem::of_file(file, text));
                continue;
            }
            owners.insert(title, file);
            add(&mut snapshot, object.clone());
        }
    }
    (snapshot, problems)
}

fn add(snapshot: &mut Snapshot, object: Object) {
    let named = |name: &Option<String>| name.clone().unwrap_or_default();
    match object {
        Object::Node(name, node) => drop(snapshot.nodes.insert(name, node)),
        Object::Namespace(name, namespace) => drop(snapshot.namespaces.insert(name, namespace)),
        Object::Pod(name, pod) => drop(snapshot.pods.insert(&name, &pod)),
        Object::ServiceAccount(name, account) => drop(snapshot.service_accounts.insert(name, account)),
        Object::Mesh(mesh) => snapshot.mesh = Some(*mesh),
        Object::MeshStatus(status) => snapshot.mesh_status = Some(status),
        Object::NodeTunnel(tunnel) => drop(snapshot.tunnels.insert(named(&tunnel.metadata.name), *tunnel)),
        Object::ExternalPeer(peer) => drop(snapshot.external_peers.insert(named(&peer.metadata.name), *peer)),
        Object::Policy(read) => drop(snapshot.policies.insert(read.policy.origin.clone(), read)),
    }
}

/// Kind and name, for people and to tell objects apart.
fn title(object: &Object) -> String {
    let named = |name: &Option<String>| name.clone().unwrap_or_default();
    match object {
        Object::Node(name, _) => format!("Node {name}"),
        Object::Namespace(name, _) => format!("Namespace {name}"),
        Object::Pod(name, _) => format!("Pod {name}"),
        Object::ServiceAccount(name, _) => format!("ServiceAccount {name}"),
        Object::Mesh(_) => "Mesh default".to_owned(),
        Object::MeshStatus(_) => "the status of Mesh default".to_owned(),
        Object::NodeTunnel(tunnel) => format!("NodeTunnel {}", named(&tunnel.metadata.name)),
        Object::ExternalPeer(peer) => format!("ExternalPeer {}", named(&peer.metadata.name)),
        Object::Policy(read) => read.policy.origin.to_string(),
    }
}
