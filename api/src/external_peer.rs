//! `ExternalPeer`: a plain WireGuard peer outside the cluster, added by an administrator.

use std::net::SocketAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, schema};

/// A plain WireGuard peer. Nodes cannot write it, and its prefixes never overlap the covered ones.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "ExternalPeer",
    doc = "A plain WireGuard peer outside the cluster, added by an administrator. Nodes cannot write it.",
    status = "ExternalPeerStatus",
    derive = "PartialEq",
    shortname = "xp",
    category = "hauberk",
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint","description":"Where the peer is; it has to speak first where this is empty"}"#,
    printcolumn = r#"{"name":"AllowedIPs","type":"string","jsonPath":".spec.allowedIPs","description":"The prefixes behind the peer"}"#,
    printcolumn = r#"{"name":"PublicKey","type":"string","jsonPath":".spec.publicKey","priority":1,"description":"The peer's WireGuard public key"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPeerSpec {
    /// The peer's WireGuard public key, as `wg pubkey` prints it.
    pub public_key: PublicKey,
    /// A Secret with the pre-shared key, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretKeyRef")]
    pub preshared_key_secret_ref: Option<SecretKeyRef>,
    /// Address and UDP port of the peer, as `192.0.2.1:51820` or `[2001:db8::1]:51820`; without it the peer has to speak first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Endpoint")]
    pub endpoint: Option<SocketAddr>,
    /// The prefixes behind the peer. They may not overlap the covered ones.
    #[serde(rename = "allowedIPs")]
    #[schemars(
        with = "Vec<schema::Prefix>",
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub persistent_keepalive: Option<u16>,
}

/// One entry of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's namespace.
    #[schemars(length(max = 63), extend("x-kubernetes-validations" = [
        Rule::new("!format.dns1123Label().validate(self).hasValue()").message("is no name of a namespace"),
    ]))]
    pub namespace: String,
    /// The Secret's name.
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = [
        Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message("is no name of a Secret"),
    ]))]
    pub name: String,
    /// The entry.
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = [
        Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message("is no name of a Secret's entry"),
    ]))]
    pub key: String,
}

/// What became of the peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalPeerStatus {
    /// `Ready`: accepted by every node, or the reason why not.
    #[schemars(with = "schema::Conditions")]
    pub conditions: Vec<Condition>,
}
