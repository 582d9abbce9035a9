//! `Mesh`: the settings of the whole cluster, and the one flag that turns encryption on.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{defaults, schema};

/// Settings of the mesh. There is one per cluster, named `default`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    doc = "Settings of the mesh, and the flag that turns encryption between nodes on. There is one per cluster, named `default`.",
    status = "MeshStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hmesh",
    category = "hauberk",
    printcolumn = r#"{"name":"Encryption","type":"boolean","jsonPath":".spec.encryption.enabled","description":"The flag: whether encryption is wanted"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Where the flip of the whole mesh stands"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes","description":"Nodes of the cluster"}"#,
    printcolumn = r#"{"name":"Encrypted","type":"integer","jsonPath":".status.encryptedNodes","description":"Nodes from which nothing covered leaves in clear"}"#,
    printcolumn = r#"{"name":"Degraded","type":"string","jsonPath":".status.conditions[?(@.type==\"Degraded\")].reason","priority":1,"description":"What an operator should look at"}"#,
    printcolumn = r#"{"name":"Enforcer","type":"string","jsonPath":".spec.policy.enforcer","priority":1,"description":"Who enforces network policy; CNI where it is empty"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("self.metadata.name == 'default'").message("the only Mesh is named default")
)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshSpec {
    /// Encryption between nodes.
    pub encryption: EncryptionSpec,
    /// Who enforces network policy, and how.
    pub policy: PolicySpec,
    /// Services.
    pub services: ServicesSpec,
    /// The nodes' keys.
    pub keys: KeysSpec,
}

/// Encryption between nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [ports_outside_of_node_ports()]))]
pub struct EncryptionSpec {
    /// The flag: encrypt traffic of covered addresses between nodes. Default false.
    pub enabled: bool,
    /// The covered prefixes. By default every Node's podCIDRs.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<schema::Prefix>",
        length(max = 64),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub pod_cidrs: Vec<IpNet>,
    /// Lanes of each node, 1 to 16. By default the node's cores, at most 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = defaults::MAX_LANES))]
    pub lanes: Option<u16>,
    /// First of the two ranges of `lanes` UDP ports each, outside of 30000-32767, the usual NodePort range.
    /// Firewalls between nodes have to pass both ranges. Default 23400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = defaults::MIN_LISTEN_PORT, max = defaults::MAX_LISTEN_PORT))]
    pub listen_port: Option<u16>,
    /// Mix a post-quantum pre-shared key into every session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub post_quantum: Option<bool>,
    /// What happens to covered traffic of nodes that cannot take part: `Drop` (the default) drops and counts it,
    /// `Exempt` sends it in clear and counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UnreachableNodes")]
    pub unreachable_nodes: Option<UnreachableNodes>,
}

impl EncryptionSpec {
    /// Lanes of a node with this many cores: as set, else the cores, at most 4; never 0, never above 16.
    pub fn lanes(&self, cores: usize) -> usize {
        let wanted = self
            .lanes
            .map_or(cores.min(defaults::MAX_DEFAULT_LANES), usize::from);
        wanted.clamp(1, defaults::MAX_LANES)
    }

    /// First UDP port of the lanes.
    pub fn listen_port(&self) -> u16 {
        self.listen_port.unwrap_or(defaults::LISTEN_PORT)
    }

    /// What happens to covered traffic of nodes that cannot take part; by default it is dropped.
    pub fn unreachable_nodes(&self) -> UnreachableNodes {
        self.unreachable_nodes.unwrap_or_default()
    }
}

/// What happens to covered traffic of nodes that cannot take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnreachableNodes {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Sent in clear and counted.
    Exempt,
}

/// Network policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySpec {
    /// Who enforces network policy, and with it which way packets take: `CNI` (the default) leaves it to the CNI and
    /// the host's stack; `Hauberk` takes it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Enforcer")]
    pub enforcer: Option<Enforcer>,
    /// What a deny does: `Enforce` (the default) drops packets, `Audit` lets them pass and reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PolicyMode")]
    pub mode: Option<PolicyMode>,
}

impl PolicySpec {
    /// Who enforces; the CNI unless the user hands the job over.
    pub fn enforcer(&self) -> Enforcer {
        self.enforcer.unwrap_or_default()
    }

    /// Whether denied packets are dropped or only reported.
    pub fn mode(&self) -> PolicyMode {
        self.mode.unwrap_or_default()
    }
}

/// Who enforces network policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcer {
    /// The CNI, in the host's stack: every packet passes it.
    #[default]
    #[serde(rename = "CNI")]
    Cni,
    /// Hauberk's eBPF programs: packets may skip the host's stack.
    Hauberk,
}

impl Enforcer {
    /// As manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cni => "CNI",
            Self::Hauberk => "Hauberk",
        }
    }
}

/// What a deny does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyMode {
    /// Denied packets are dropped.
    #[default]
    Enforce,
    /// Denied packets pass and are reported.
    Audit,
}

/// Services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicesSpec {
    /// Translate Services in eBPF, in kube-proxy's place. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub kube_proxy_replacement: Option<bool>,
}

/// The nodes' keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KeysSpec {
    /// How often a node brings up a generation with new keys, as `720h` or `1h30m`; at least `1h`. By default
    /// never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Interval")]
    pub rotation_interval: Option<String>,
}

/// What the controller sums up from the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshStatus {
    /// Where the flip of the whole mesh stands: `Off`, no pair of nodes encrypts; `Enabling`, some pair may still
    /// send in clear; `Encrypted`, every pair encrypts; `Disabling`, some pair still encrypts.
    pub phase: MeshPhase,
    /// Whether every pair has encrypted since the flag was turned on. From then on a node that joins encrypts from its
    /// first packet, also while some other lags again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// Nodes of the cluster.
    #[schemars(with = "i32", range(min = 0))]
    pub nodes: u32,
    /// Nodes whose condition `Encrypted` is true.
    #[schemars(with = "i32", range(min = 0))]
    pub encrypted_nodes: u32,
    /// `Ready`, `Encrypted`, `Degraded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "schema::Conditions")]
    pub conditions: Vec<Condition>,
}

/// Where the flip of the whole mesh stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeshPhase {
    /// The flag is off and no pair encrypts.
    #[default]
    Off,
    /// The flag is on; some pair may still send in clear.
    Enabling,
    /// Every pair encrypts.
    Encrypted,
    /// The flag is off; some pair still encrypts.
    Disabling,
}

impl MeshPhase {
    /// As manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Enabling => "Enabling",
            Self::Encrypted => "Encrypted",
            Self::Disabling => "Disabling",
        }
    }
}

/// The kernel gives a NodePort's packets to the Service before a lane's socket is asked, and a Service may get its port
/// long after the lanes are up.
fn ports_outside_of_node_ports() -> Rule {
    let lanes = format!("(has(self.lanes) ? self.lanes : {})", defaults::MAX_DEFAULT_LANES);
    Rule::new(format!(
        "!has(self.listenPort) || self.listenPort + 2 * {lanes} <= 30000 || self.listenPort > 32767"
    ))
    .message(
        "the ports listenPort to listenPort + 2 * lanes - 1 may not touch 30000-32767: a Service with one of them as \
         its NodePort would take the tunnel's packets",
    )
    .field_path(".listenPort")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mesh_leaves_out_takes_its_default() {
        let mesh: Mesh = serde_json::from_str(
            r#"{"apiVersion":"hauberk.dev/v1alpha1","kind":"Mesh","metadata":{"name":"default"},"spec":{}}"#,
        )
        .unwrap();
        let encryption = &mesh.spec.encryption;
        assert!(!encryption.enabled);
        assert_eq!(
            (encryption.lanes(2), encryption.lanes(64), encryption.lanes(0)),
            (2, 4, 1)
        );
        assert_eq!(encryption.listen_port(), 23400);
        assert_eq!(encryption.unreachable_nodes(), UnreachableNodes::Drop);
        assert_eq!(mesh.spec.policy.enforcer(), Enforcer::Cni);
        assert_eq!(mesh.spec.policy.mode(), PolicyMode::Enforce);
    }

    #[test]
    fn two_generations_of_the_most_lanes_fit_the_kernels_slots() {
        let spec = EncryptionSpec {
            lanes: Some(500),
            ..Default::default()
        };
        assert_eq!(spec.lanes(2) * 2, 32);
    }

    #[test]
    fn the_flag_is_patched_where_the_documented_command_says() {
        let mut mesh = serde_json::to_value(Mesh::new("default", MeshSpec::default())).unwrap();
        assert_eq!(mesh["spec"]["encryption"]["enabled"], false);
        mesh["spec"]["encryption"]["enabled"] = true.into();
        assert!(
            serde_json::from_value::<Mesh>(mesh)
                .unwrap()
                .spec
                .encryption
                .enabled
        );
    }

    #[test]
    fn only_the_name_default_is_admitted() {
        let crd = serde_json::to_string(&<Mesh as kube::CustomResourceExt>::crd()).unwrap();
        assert!(crd.contains("self.metadata.name == 'default'"), "{crd}");
    }
}
