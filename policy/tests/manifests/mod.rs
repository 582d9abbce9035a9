//! Manifests as text.

use hauberk_policy::cluster::Objects;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Deserializer, Value};

/// The objects of all documents; `apiVersion` may be left out.
pub fn objects(text: &str) -> Objects {
    let mut objects = Objects::default();
    for document in Deserializer::from_str(text) {
        let value = Value::deserialize(document).unwrap();
        if value.is_null() {
            continue;
        }
        match value["kind"].as_str().unwrap() {
            "Namespace" => objects.namespaces.push(parse(value, "v1")),
            "Node" => objects.nodes.push(parse(value, "v1")),
            "Pod" => objects.pods.push(parse(value, "v1")),
            "NetworkPolicy" => objects
                .network_policies
                .push(parse(value, "networking.k8s.io/v1")),
            "ClusterNetworkPolicy" => {
                let version = "policy.networking.k8s.io/v1alpha2";
                objects.cluster_network_policies.push(parse(value, version));
            }
            "MeshPolicy" => objects.mesh_policies.push(parse(value, "hauberk.dev/v1alpha1")),
            "NetworkSet" => objects.network_sets.push(parse(value, "hauberk.dev/v1alpha1")),
            other => panic!("{other}"),
        }
    }
    objects
}

fn parse<T: DeserializeOwned>(mut value: Value, version: &str) -> T {
    value["apiVersion"] = version.into();
    serde_yaml_ng::from_value(value).unwrap()
}
