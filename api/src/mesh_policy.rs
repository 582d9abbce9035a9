//! `MeshPolicy` and `NetworkSet`: what NetworkPolicy cannot say.

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Who may talk to pods of a namespace, by label, ServiceAccount, network or DNS name.
///
/// Stands in NetworkPolicy's tier: rules that allow add to NetworkPolicy's, and a rule that denies goes before all of
/// them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "MeshPolicy",
    plural = "meshpolicies",
    namespaced,
    doc = "Who may talk to pods of a namespace, by label, ServiceAccount, network or DNS name. Stands in NetworkPolicy's tier: rules that allow add to NetworkPolicy's, and a rule that denies goes before all of them.",
    status = "PolicyStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "mpol",
    category = "hauberk",
    printcolumn = r#"{"name":"Staged","type":"boolean","jsonPath":".spec.staged","description":"Whether it is only told, not enforced"}"#,
    printcolumn = r#"{"name":"Until","type":"date","jsonPath":".spec.validity.notAfter","priority":1,"description":"When it ends by itself"}"#,
    printcolumn = r#"{"name":"Understood","type":"string","jsonPath":".status.conditions[?(@.type==\"Understood\")].status","description":"Whether all of it means something"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("!has(self.spec.validity) || !has(self.spec.policyTypes)")
        .message("a policy with a validity cannot isolate, since its end would open what it closed: leave policyTypes out")
)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshPolicySpec {
    /// The pods of its namespace that it is about, by label; all where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Selector")]
    pub pod_selector: Option<LabelSelector>,
    /// Of these, those that run as such ServiceAccounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceAccounts")]
    pub service_accounts: Option<ServiceAccounts>,
    /// Directions in which the pods are isolated: what no rule allows is denied. Left out: each direction in which a rule
    /// allows something; with no rules at all, Ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<PolicyType>", length(max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub policy_types: Option<Vec<PolicyType>>,
    /// Connections to the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub ingress: Vec<MeshIngressRule>,
    /// Connections from the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub egress: Vec<MeshEgressRule>,
    /// Only tell what it would do: in flows and metrics.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub staged: bool,
    /// When it holds; always where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PolicyValidity")]
    pub validity: Option<PolicyValidity>,
}

/// A direction, said from the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyType {
    /// To them.
    Ingress,
    /// From them.
    Egress,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeshAction {
    /// It is let through, unless some rule of the tier denies it.
    Allow,
    /// It is dropped.
    Deny,
}

/// A rule for connections to the pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshIngressRule {
    /// For people, flows and metrics.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 100))]
    pub name: String,
    /// What happens.
    pub action: MeshAction,
    /// The other side; everybody where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<MeshPeer>", length(min = 1, max = 100))]
    pub from: Option<Vec<MeshPeer>>,
    /// The pods' ports, by number or name; all traffic where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<schema::PolicyPort>", length(min = 1, max = 100))]
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// A rule for connections from the pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshEgressRule {
    /// For people, flows and metrics.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 100))]
    pub name: String,
    /// What happens.
    pub action: MeshAction,
    /// The other side; everybody where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<MeshPeer>", length(min = 1, max = 100))]
    pub to: Option<Vec<MeshPeer>>,
    /// The destination's ports, by number or name; all traffic where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<schema::PolicyPort>", length(min = 1, max = 100))]
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// The other side of a connection: pods (`podSelector`, `namespaceSelector` and `serviceAccounts`, of which all that are
/// given have to match), or one of `ipBlock`, `networkSets` and `dnsNames`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [one_kind_of_peer()]))]
pub struct MeshPeer {
    /// Pods by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Selector")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces by label, of pods or NetworkSets; the policy's own where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Selector")]
    pub namespace_selector: Option<LabelSelector>,
    /// ServiceAccounts that pods run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceAccounts")]
    pub service_accounts: Option<ServiceAccounts>,
    /// A network, and parts that do not belong to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Block")]
    pub ip_block: Option<IPBlock>,
    /// NetworkSets by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Selector")]
    pub network_sets: Option<LabelSelector>,
    /// DNS names, as `api.example.com`, or `*.example.com` for all names below one; for rules of egress that allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<schema::DnsName>", length(min = 1, max = 100))]
    pub dns_names: Option<Vec<String>>,
}

/// ServiceAccounts: those that are named, and those with such labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("has(self.names) || has(self.selector)").message("needs names, a selector, or both"),
]))]
pub struct ServiceAccounts {
    /// By name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<schema::ObjectName>", length(min = 1, max = 100))]
    pub names: Option<Vec<String>>,
    /// By label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Selector")]
    pub selector: Option<LabelSelector>,
}

/// When a policy holds. Outside of it the policy says nothing; on a clock that cannot be trusted its rules that allow say
/// nothing, and those that deny hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyValidity {
    /// From this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Moment")]
    pub not_before: Option<Time>,
    /// Up to this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Moment")]
    pub not_after: Option<Time>,
    /// Within that, in any of these hours of the week; always where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<WeeklyWindow>", length(min = 1, max = 50))]
    pub windows: Option<Vec<WeeklyWindow>>,
    /// The time zone of the windows, as `Europe/Berlin`. Default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 64))]
    pub time_zone: Option<String>,
}

/// Hours of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeeklyWindow {
    /// The days on which it begins; every day where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Weekday>", length(min = 1, max = 7))]
    pub days: Option<Vec<Weekday>>,
    /// When it begins, as `22:00`.
    #[schemars(with = "schema::Hour")]
    pub start: String,
    /// When it ends, as `06:00`; the next day, if that is not after its beginning.
    #[schemars(with = "schema::Hour")]
    pub end: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What a node daemon or the controller says of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// `Understood`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "schema::Conditions")]
    pub conditions: Vec<Condition>,
}

/// Networks and DNS names under one name, which MeshPolicies select by label.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "NetworkSet",
    namespaced,
    doc = "Networks and DNS names under one name, which MeshPolicies select by label.",
    derive = "Default",
    derive = "PartialEq",
    shortname = "nset",
    category = "hauberk",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkSetSpec {
    /// Networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::Network>", length(max = 1000), extend("x-kubernetes-list-type" = "set"))]
    pub cidrs: Vec<String>,
    /// DNS names, as `api.example.com`, or `*.example.com` for all names below one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::DnsName>", length(max = 1000), extend("x-kubernetes-list-type" = "set"))]
    pub dns_names: Vec<String>,
}

fn one_kind_of_peer() -> Rule {
    Rule::new(
        "[has(self.podSelector) || has(self.serviceAccounts) || (has(self.namespaceSelector) && \
         !has(self.networkSets)), has(self.ipBlock), has(self.networkSets), has(self.dnsNames)].filter(set, set).size() \
         == 1 && (!has(self.namespaceSelector) || !(has(self.ipBlock) || has(self.dnsNames)))",
    )
    .message(
        "needs one kind of peer: pods (podSelector, namespaceSelector, serviceAccounts), ipBlock, networkSets \
         (with a namespaceSelector or without), or dnsNames",
    )
}
