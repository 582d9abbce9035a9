//! Own objects into the directory, by rename, and only when they differ from what is there.
//!
//! `lastTransitionTime` of a condition stays as long as its status does.

use std::fs;
use std::path::Path;

use hauberk_api::{API_VERSION, MESH_NAME, MeshStatus, NodeTunnel};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::SourceError;
use crate::durable;
use crate::manifest::{self, Object};

/// The controller's file.
pub(super) const MESH_STATUS: &str = "mesh-status.yaml";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MeshOfStatus<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Name,
    status: &'a MeshStatus,
}

#[derive(Serialize)]
struct Name {
    name: &'static str,
}

pub(super) fn tunnel(directory: &Path, tunnel: &NodeTunnel) -> Result<bool, SourceError> {
    let name = tunnel.metadata.name.as_deref().unwrap_or_default();
    let path = directory.join(format!("nodetunnel-{name}.yaml"));
    let published = objects(&path).into_iter().find_map(|object| match object {
        Object::NodeTunnel(tunnel) => Some(*tunnel),
        _ => None,
    });
    let mut wanted = tunnel.clone();
    if let Some(status) = &mut wanted.status {
        let before = published.iter().filter_map(|published| published.status.as_ref());
        keep_times(
            &mut status.conditions,
            &before
                .flat_map(|status| status.conditions.clone())
                .collect::<Vec<_>>(),
        );
    }
    if published.as_ref() == Some(&wanted) {
        return Ok(false);
    }
    write(&path, &wanted)
}

pub(super) fn mesh_status(directory: &Path, status: &MeshStatus) -> Result<bool, SourceError> {
    let path = directory.join(MESH_STATUS);
    let published = objects(&path).into_iter().find_map(|object| match object {
        Object::MeshStatus(status) => Some(status),
        _ => None,
    });
    let mut wanted = status.clone();
    keep_times(
        &mut wanted.conditions,
        published.as_ref().map_or(&[], |published| &published.conditions),
    );
    if published.as_ref() == Some(&wanted) {
        return Ok(false);
    }
    let metadata = Name { name: MESH_NAME };
    write(
        &path,
        &MeshOfStatus {
            api_version: API_VERSION,
            kind: "Mesh",
            metadata,
            status: &wanted,
        },
    )
}

/// What is published; nothing if it cannot be read, so that it is written anew.
fn objects(path: &Path) -> Vec<Object> {
    let bytes = fs::read(path).unwrap_or_default();
    manifest::parse("", &bytes).map_or(Vec::new(), |parsed| parsed.objects)
}

/// Fills in when each condition came to its status: as it was `before`, or now.
pub(crate) fn keep_times(conditions: &mut [Condition], before: &[Condition]) {
    // Whole seconds, as Kubernetes keeps them: what is read back has to equal what was written.
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("the present is a valid time");
    for condition in conditions {
        let same = before
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time = same.map_or(Time(now), |old| old.last_transition_time.clone());
    }
}

fn write(path: &Path, object: &impl Serialize) -> Result<bool, SourceError> {
    let text = serde_yaml_ng::to_string(object).expect("our kinds are maps with text keys");
    durable::write(path, text.as_bytes(), 0o644).map_err(|source| SourceError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(true)
}
