//! `ExternalPeer`: a plain WireGuard peer outside the cluster, added by an administrator.

use std::net::SocketAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// A plain WireGuard peer. Nodes cannot write it, and its prefixes never overlap the covered ones.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "ExternalPeer",
    status = "ExternalPeerStatus",
    derive = "PartialEq",
    shortname = "xp",
    category = "hauberk",
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint"}"#,
    printcolumn = r#"{"name":"AllowedIPs","type":"string","jsonPath":".spec.allowedIPs"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPeerSpec {
    /// The peer's WireGuard public key.
    #[schemars(with = "String")]
    pub public_key: PublicKey,
    /// A Secret with the pre-shared key, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_secret_ref: Option<SecretKeyRef>,
    /// Address and UDP port of the peer; without it the peer has to speak first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<SocketAddr>,
    /// The prefixes behind the peer.
    #[serde(rename = "allowedIPs")]
    #[schemars(with = "Vec<String>")]
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_keepalive: Option<u16>,
}

/// One entry of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub name: String,
    /// The entry.
    pub key: String,
}

/// Conditions only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalPeerStatus {
    /// `Ready`: accepted by every node, or the reason why not.
    pub conditions: Vec<Condition>,
}
