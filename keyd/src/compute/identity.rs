//! Identities: what policies can tell pods apart by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::snapshot::{ObjectName, Pod};

/// What policies can tell pods apart by. Its number is local to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The pod's namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Identity {
    /// The identity of a pod.
    pub fn of(name: &ObjectName, pod: &Pod) -> Self {
        Self {
            namespace: name.namespace.clone(),
            service_account: pod.service_account.clone(),
            labels: pod.labels.clone(),
        }
    }
}
