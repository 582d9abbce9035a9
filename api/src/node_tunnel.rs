//! `NodeTunnel`: the keys and ports under which a node can be reached. A node writes its own only.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// A node's tunnel, named as its Node and owned by it. Every node watches it, so it carries no counters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "NodeTunnel",
    status = "NodeTunnelStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "nt",
    category = "hauberk",
    printcolumn = r#"{"name":"Generation","type":"integer","jsonPath":".spec.generations[-1:].id"}"#,
    printcolumn = r#"{"name":"Encrypted","type":"string","jsonPath":".status.conditions[?(@.type==\"Encrypted\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Encrypted\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTunnelSpec {
    /// The node's generations, oldest first. None while the node's tunnel is down; the object alone
    /// says that the node can take part.
    pub generations: Vec<GenerationSpec>,
    /// Addresses of the node at which its lanes receive; each must be one of its Node's.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
}

/// A node's set of lanes with one set of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationSpec {
    /// Rises with every new set of keys.
    pub id: u64,
    /// The lanes, in order; their number and order are part of how pairs of nodes share sessions out.
    pub lanes: Vec<LaneSpec>,
    /// The node certificate's signature over this generation. Required by the `kube` source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
}

/// One lane as its peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneSpec {
    /// The lane's WireGuard public key.
    #[schemars(with = "String")]
    pub public_key: PublicKey,
    /// The lane's UDP port.
    pub port: u16,
}

/// Conditions only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTunnelStatus {
    /// `Ready`, `Encrypted`, `Degraded`.
    pub conditions: Vec<Condition>,
}

impl NodeTunnel {
    /// The generation that peers should use: the one with the highest number.
    pub fn newest_generation(&self) -> Option<&GenerationSpec> {
        self.spec
            .generations
            .iter()
            .max_by_key(|generation| generation.id)
    }

    /// The condition of this type, if the node has reported it.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status
            .as_ref()?
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_generation_is_the_one_with_the_highest_number_wherever_it_stands() {
        let generation = |id| GenerationSpec {
            id,
            lanes: Vec::new(),
            binding: None,
        };
        let spec = NodeTunnelSpec {
            generations: vec![generation(4), generation(9), generation(7)],
            ..Default::default()
        };
        assert_eq!(NodeTunnel::new("a", spec).newest_generation().unwrap().id, 9);
    }

    #[test]
    fn a_lane_reads_back_as_it_was_written() {
        let lane = LaneSpec {
            public_key: PublicKey::from_bytes([7; 32]),
            port: 23400,
        };
        let text = serde_json::to_string(&lane).unwrap();
        assert_eq!(
            text,
            r#"{"publicKey":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","port":23400}"#
        );
        assert_eq!(serde_json::from_str::<LaneSpec>(&text).unwrap(), lane);
    }
}
