//! The lab as manifests, for keyd's directory source.

use std::path::Path;

use crate::{Lab, LabError};

/// What the Mesh manifest says; the rest follows from the lab.
#[derive(Clone, Debug)]
pub struct ManifestSpec {
    /// `spec.policy.enforcer`: `CNI` or `Hauberk`.
    pub enforcer: String,
    /// `spec.encryption.enabled`.
    pub encryption: bool,
    /// `spec.encryption.lanes`, or keyd's default.
    pub lanes: Option<u16>,
    /// Namespace of the pods.
    pub namespace: String,
}

impl Default for ManifestSpec {
    fn default() -> Self {
        Self {
            enforcer: "Hauberk".into(),
            encryption: false,
            lanes: None,
            namespace: "demo".into(),
        }
    }
}

impl Lab {
    /// Writes `mesh.yaml`, `namespace-NAME.yaml`, and `node-`, `serviceaccount-` and `pod-NAME.yaml` of each node in the
    /// cluster and each pod into `dir`, each by rename.
    pub fn write_manifests(&self, _dir: &Path, _spec: &ManifestSpec) -> Result<(), LabError> {
        todo!()
    }
}

/// Sets the flag in `dir/mesh.yaml`, as `hauberk enable encryption` does; the rest of the file stays.
pub fn set_encryption(_dir: &Path, _enabled: bool) -> Result<(), LabError> {
    todo!()
}
