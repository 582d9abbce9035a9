//! `hauberk status`: the Mesh's phase as the controller sums it up, and what each node says of itself.
//!
//! A node's part comes from `state-NAME.json`, which its keyd keeps beside the manifests. A node that is listed
//! as a Node and has said nothing is shown all the same, as not encrypted: silence is never taken for yes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use hauberk_api::{Mesh, MeshPhase};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::source::{self, Directory, SourceError};

pub mod table;

/// What `-o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `Off`, `Enabling`, `Encrypted` or `Disabling`.
    pub phase: &'static str,
    /// Who enforces policy: `CNI` or `Hauberk`.
    pub enforcer: &'static str,
    /// Who translates Services: `kube-proxy` or `Hauberk`.
    pub services: &'static str,
    /// By name.
    pub nodes: Vec<Node>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// Whether every pair of this node is Strict.
    pub encrypted: bool,
    /// Why, in CamelCase, with the pairs that lag.
    #[serde(default)]
    pub reason: String,
    /// The generation of keys in use; 0 is none.
    #[serde(default)]
    pub generation: u64,
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Bytes with covered addresses that left in clear; null where the node's counters cannot be read.
    #[serde(default)]
    pub clear_bytes: Option<u64>,
    /// Packets dropped, by reason; reasons without a drop are left out; null as above.
    #[serde(default)]
    pub dropped: Option<BTreeMap<String, u64>>,
    /// What is wrong, in words; for people only.
    #[serde(default, skip_serializing)]
    pub problems: Vec<String>,
}

impl Node {
    /// A node that has said nothing.
    pub fn silent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            encrypted: false,
            reason: "NoState".to_owned(),
            generation: 0,
            peers: Vec::new(),
            clear_bytes: None,
            dropped: None,
            problems: Vec::new(),
        }
    }
}

/// Another node as this one sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub node: String,
    /// The pair's phase: `Off`, `Ready`, `Sending` or `Strict`.
    pub phase: String,
    /// Seconds since the youngest handshake; null before the first.
    pub last_handshake_s: Option<u64>,
    /// UDP payload sent to it.
    pub tx_bytes: u64,
    /// UDP payload received from it.
    pub rx_bytes: u64,
}

/// Why there is no status.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The directory cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No manifest has the object.
    #[error("no Mesh named `default` in {}; is this the directory that keyd reads?", .0.display())]
    NoMesh(PathBuf),
    /// No manifest has the object, but it may be in this one.
    #[error("{} is not valid YAML; mend it first", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// The object is there and cannot be understood.
    #[error("{} is not a valid Mesh", path.display())]
    BadMesh {
        path: PathBuf,
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// A node's state is there and cannot be read.
    #[error("cannot read the state of a node from {}", path.display())]
    BadState {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Reads the status out of a directory of manifests.
pub fn read(dir: &Path) -> Result<Status, StatusError> {
    let directory = source::read(dir)?;
    let meshes = meshes(&directory)?;
    let names = directory
        .objects
        .iter()
        .filter(|object| object.kind() == "Node")
        .map(|node| node.name().to_owned());
    if meshes.is_empty() {
        return Err(directory.malformed.into_iter().next().map_or_else(
            || StatusError::NoMesh(dir.to_owned()),
            |(path, source)| StatusError::Malformed { path, source },
        ));
    }
    Ok(sum_up(&meshes, names.collect(), states(dir)?))
}

/// Sums up the Mesh's objects (the one with the spec, the controller's with the status), the names of all nodes
/// and what nodes say of themselves.
pub fn sum_up(meshes: &[Mesh], names: BTreeSet<String>, mut states: Vec<Node>) -> Status {
    let status = meshes.iter().find_map(|mesh| mesh.status.as_ref());
    // The controller's object repeats no spec, so that any setting in either is the setting.
    let spec = |set: fn(&Mesh) -> bool| meshes.iter().find(|mesh| set(mesh));
    let enabled = spec(|mesh| mesh.spec.encryption.enabled).is_some();
    let phase = status.map_or(
        if enabled {
            MeshPhase::Enabling
        } else {
            MeshPhase::Off
        },
        |status| status.phase,
    );
    let enforcer = spec(|mesh| mesh.spec.policy.enforcer.is_some())
        .map(|mesh| mesh.spec.policy.enforcer())
        .unwrap_or_default();
    let replaced = spec(|mesh| mesh.spec.services.kube_proxy_replacement == Some(true)).is_some();

    let silent: Vec<_> = names
        .iter()
        .filter(|name| states.iter().all(|node| node.name != **name))
        .collect();
    states.extend(silent.into_iter().map(|name| Node::silent(name)));
    // A state file of a node that is gone says nothing about the mesh.
    states.retain(|node| names.contains(&node.name));
    states.sort_by(|a, b| a.name.cmp(&b.name));
    for node in &mut states {
        node.peers.sort_by(|a, b| a.node.cmp(&b.node));
        if let Some(dropped) = &mut node.dropped {
            dropped.retain(|_, packets| *packets > 0);
        }
    }
    Status {
        phase: phase.name(),
        enforcer: enforcer.name(),
        services: if replaced { "Hauberk" } else { "kube-proxy" },
        nodes: states,
    }
}

fn meshes(directory: &Directory) -> Result<Vec<Mesh>, StatusError> {
    let mut meshes = Vec::new();
    for object in directory
        .objects
        .iter()
        .filter(|o| o.kind() == "Mesh" && o.name() == "default")
    {
        let mut value = object.value.clone();
        if let Some(fields) = value.as_mapping_mut() {
            // The controller's object has a status only; the type wants a spec, if an empty one.
            fields
                .entry("spec".into())
                .or_insert_with(|| serde_yaml_ng::Mapping::new().into());
        }
        let mesh = serde_yaml_ng::from_value(value).map_err(|source| StatusError::BadMesh {
            path: object.path.clone(),
            source,
        })?;
        meshes.push(mesh);
    }
    Ok(meshes)
}

fn states(dir: &Path) -> Result<Vec<Node>, StatusError> {
    let entries = fs::read_dir(dir).map_err(|source| SourceError::Read {
        path: dir.to_owned(),
        source,
    })?;
    let mut states = Vec::new();
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_state(path))
    {
        let failed = |source| StatusError::BadState {
            path: path.clone(),
            source,
        };
        let text = fs::read(&path).map_err(failed)?;
        states.push(serde_json::from_slice(&text).map_err(|error| failed(error.into()))?);
    }
    Ok(states)
}

fn is_state(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("state-") && name.ends_with(".json"))
}

impl Status {
    /// Whether the mesh and every node of it say so.
    pub fn is_encrypted(&self) -> bool {
        self.phase == MeshPhase::Encrypted.name() && self.nodes.iter().all(|node| node.encrypted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n\
        spec: {encryption: {enabled: true}, policy: {enforcer: Hauberk}}\n";
    const STATUS: &str = "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n\
        status: {phase: Encrypted, nodes: 2, encryptedNodes: 2}\n";
    const NODES: &str = "kind: Node\nmetadata: {name: b}\n---\nkind: Node\nmetadata: {name: a}\n";
    const STATE_A: &str = r#"{"name":"a","encrypted":true,"reason":"AllPeersStrict","generation":3,"ready":true,
        "peers":[{"node":"c","phase":"Strict","last_handshake_s":null,"tx_bytes":1,"rx_bytes":2},
                 {"node":"b","phase":"Strict","last_handshake_s":12,"tx_bytes":100,"rx_bytes":200}],
        "clear_bytes":7,"dropped":{"UnknownPeer":4,"QueueFull":0},"lanes":[]}"#;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn json_has_the_documented_shape_and_nothing_else() {
        let dir = dir(&[
            ("mesh.yaml", SPEC),
            ("mesh-status.yaml", STATUS),
            ("n.yaml", NODES),
            ("state-a.json", STATE_A),
        ]);
        let status = read(dir.path()).unwrap();
        let json = serde_json::to_value(&status).unwrap();
        let expected = serde_json::json!({
            "phase": "Encrypted", "enforcer": "Hauberk", "services": "kube-proxy",
            "nodes": [
                {"name": "a", "encrypted": true, "reason": "AllPeersStrict", "generation": 3,
                 "peers": [
                    {"node": "b", "phase": "Strict", "last_handshake_s": 12, "tx_bytes": 100, "rx_bytes": 200},
                    {"node": "c", "phase": "Strict", "last_handshake_s": null, "tx_bytes": 1, "rx_bytes": 2}],
                 "clear_bytes": 7, "dropped": {"UnknownPeer": 4}},
                {"name": "b", "encrypted": false, "reason": "NoState", "generation": 0,
                 "peers": [], "clear_bytes": null, "dropped": null},
            ],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_node_that_says_nothing_keeps_the_mesh_from_counting_as_encrypted() {
        let files = [
            ("mesh.yaml", SPEC),
            ("mesh-status.yaml", STATUS),
            ("n.yaml", NODES),
            ("state-a.json", STATE_A),
        ];
        let dir = dir(&files);
        assert!(!read(dir.path()).unwrap().is_encrypted());
        fs::write(
            dir.path().join("state-b.json"),
            STATE_A.replace("\"name\":\"a\"", "\"name\":\"b\""),
        )
        .unwrap();
        assert!(read(dir.path()).unwrap().is_encrypted());
    }

    #[test]
    fn state_of_a_node_that_is_gone_is_left_out() {
        let dir = dir(&[("mesh.yaml", SPEC), ("state-a.json", STATE_A)]);
        assert!(read(dir.path()).unwrap().nodes.is_empty());
    }

    #[test]
    fn without_a_controllers_word_an_enabled_mesh_is_enabling_never_encrypted() {
        let dir = dir(&[("mesh.yaml", SPEC)]);
        assert_eq!(read(dir.path()).unwrap().phase, "Enabling");
        fs::write(dir.path().join("mesh.yaml"), SPEC.replace("true", "false")).unwrap();
        assert_eq!(read(dir.path()).unwrap().phase, "Off");
    }

    #[test]
    fn a_directory_without_mesh_and_a_malformed_mesh_are_named() {
        let empty = dir(&[]);
        assert!(matches!(read(empty.path()), Err(StatusError::NoMesh(_))));
        let bad = dir(&[(
            "m.yaml",
            "kind: Mesh\nmetadata: {name: default}\nspec: {encryption: {enabled: maybe}}\n",
        )]);
        assert!(matches!(read(bad.path()), Err(StatusError::BadMesh { .. })));
        let torn = dir(&[("m.yaml", "kind: Mesh\nmetadata: {name: default\n")]);
        let error = read(torn.path()).unwrap_err().to_string();
        assert!(error.contains("m.yaml is not valid YAML"), "{error}");
    }
}
