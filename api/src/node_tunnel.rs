//! `NodeTunnel`: the keys and ports under which a node can be reached. A node writes its own only.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, condition, schema};

/// The one in use, and the one that follows it.
const MAX_GENERATIONS: usize = 2;
/// Highest id: what every reader of JSON keeps exactly (RFC 8259 §6).
const MAX_GENERATION: i64 = (1 << 53) - 1;
/// Longest binding, in bytes: as long as readers accept, so that an object of two generations stays under 16 KiB.
const MAX_BINDING: usize = 2560;

/// A node's tunnel, named as its Node and owned by it. Every node watches it, so it carries no counters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "NodeTunnel",
    doc = "The keys and ports under which a node can be reached. Named as its Node and owned by it; only the node's own keyd writes it.",
    status = "NodeTunnelStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "nt",
    category = "hauberk",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the node's kernel and tunnel follow the cluster"}"#,
    printcolumn = r#"{"name":"Encrypted","type":"string","jsonPath":".status.conditions[?(@.type==\"Encrypted\")].status","description":"Whether nothing covered leaves in clear"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Encrypted\")].reason","description":"Why it is encrypted, or not"}"#,
    printcolumn = r#"{"name":"Generation","type":"integer","jsonPath":".spec.generations[-1:].id","description":"The newest generation of keys"}"#,
    printcolumn = r#"{"name":"Addresses","type":"string","jsonPath":".spec.addresses","priority":1,"description":"Where the node's lanes receive"}"#,
    printcolumn = r#"{"name":"Degraded","type":"string","jsonPath":".status.conditions[?(@.type==\"Degraded\")].message","priority":1,"description":"What an operator should look at"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTunnelSpec {
    /// The node's generations of keys, oldest first, at most two. None while the node's tunnel is down; the object
    /// alone says that the node can take part.
    #[schemars(
        length(max = MAX_GENERATIONS),
        extend(
            "x-kubernetes-list-type" = "atomic",
            "x-kubernetes-validations" = [
                Rule::new("self.size() < 2 || self[0].id < self[1].id")
                    .message("generations stand oldest first, each with a higher id than the one before"),
                Rule::new(
                    "self.size() == 0 || oldSelf.size() == 0 \
                     || self[self.size() - 1].id >= oldSelf[oldSelf.size() - 1].id"
                )
                .message("the newest generation's id may not go down: peers refuse keys older than they have seen"),
            ]
        )
    )]
    pub generations: Vec<GenerationSpec>,
    /// Addresses of the node at which its lanes receive; each must be one of its Node's.
    #[schemars(
        with = "Vec<schema::Address>",
        length(max = 16),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub addresses: Vec<IpAddr>,
}

/// A node's set of lanes with one set of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationSpec {
    /// Rises with every new set of keys; from 1.
    #[schemars(with = "i64", range(min = 1, max = MAX_GENERATION))]
    pub id: u64,
    /// The lanes, in order; their number and order are part of how pairs of nodes share sessions out.
    #[schemars(
        length(min = 1, max = 64),
        extend(
            "x-kubernetes-list-type" = "atomic",
            "x-kubernetes-validations" = [
                Rule::new("self.all(one, self.exists_one(other, other.port == one.port))")
                    .message("each lane has a port of its own"),
                Rule::new("self.all(one, self.exists_one(other, other.publicKey == one.publicKey))")
                    .message("each lane has a key of its own"),
            ]
        )
    )]
    pub lanes: Vec<LaneSpec>,
    /// The node certificate's signature over this generation, without which no peer in a cluster accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = MAX_BINDING))]
    pub binding: Option<String>,
}

/// One lane as its peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneSpec {
    /// The lane's WireGuard public key.
    pub public_key: PublicKey,
    /// The lane's UDP port.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,
}

/// How the node is, as conditions only: every node watches it, so it carries no counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTunnelStatus {
    /// `Ready`, `Encrypted`, `Degraded`.
    #[schemars(with = "schema::Conditions")]
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

    /// Whether the node encrypts nothing, by its own last word; one that has said nothing yet never did.
    pub fn is_off(&self) -> bool {
        self.condition(condition::ENCRYPTED)
            .is_none_or(|found| found.reason == condition::OFF)
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
