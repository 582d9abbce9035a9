//! `Mesh`: the settings of the whole cluster, and the one flag that turns encryption on.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defaults;

/// Settings of the mesh. There is one per cluster, named `default`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hauberk.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    status = "MeshStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "hauberk",
    printcolumn = r#"{"name":"Encryption","type":"boolean","jsonPath":".spec.encryption.enabled"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes"}"#,
    printcolumn = r#"{"name":"Encrypted","type":"integer","jsonPath":".status.encryptedNodes"}"#,
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
pub struct EncryptionSpec {
    /// The flag: encrypt traffic of covered addresses between nodes.
    pub enabled: bool,
    /// The covered prefixes. By default every Node's podCIDRs.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub pod_cidrs: Vec<IpNet>,
    /// Lanes of each node, 1 to 16. By default the node's cores, at most 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub lanes: Option<u16>,
    /// First of the two ranges of `lanes` UDP ports each. Default 23400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 65500))]
    pub listen_port: Option<u16>,
    /// Mix a post-quantum pre-shared key into every session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_quantum: Option<bool>,
    /// What happens to covered traffic of nodes that cannot take part.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// Who enforces policy, and with it which way packets take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcer: Option<Enforcer>,
    /// Whether denied packets are dropped or only reported.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// Translate Services in eBPF, in kube-proxy's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_proxy_replacement: Option<bool>,
}

/// The nodes' keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KeysSpec {
    /// How often a node brings up a generation with new keys, as `720h` or `30m`. By default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_interval: Option<String>,
}

/// What the controller sums up from the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshStatus {
    /// Where the flip stands.
    pub phase: MeshPhase,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// Nodes whose condition `Encrypted` is true.
    pub encrypted_nodes: u32,
    /// `Ready`, `Encrypted`, `Degraded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
