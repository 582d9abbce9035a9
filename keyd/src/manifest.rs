//! YAML manifests in, typed objects out; what is wrong is named by file, line and field.
//!
//! Stages: 1. split the file into documents, 2. tell each one's kind, 3. read it as that kind; in our own
//! kinds an unknown field is an error, because nobody else has validated them, 4. convert to what
//! keyd uses (`convert`), 5. find the line of whatever failed (`locate`). A file counts as a whole: one bad
//! document refuses it, so that half an update never takes force. It touches no file itself.

mod convert;
mod locate;
pub mod native;

use std::fmt;
use std::sync::Arc;

use hauberk_api::{API_VERSION, ExternalPeer, GROUP, Mesh, MeshStatus, NodeTunnel};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Deserializer, Value};

use crate::snapshot::{Namespace, Node, ObjectName, Pod, ServiceAccount};
pub(crate) use convert::{
    Converted, Wrong, external_peer, mesh, namespace, network_policy, node, node_tunnel, pod, service_account,
};
use locate::Step;

/// The largest file that is read, bytes.
pub const MAX_BYTES: u64 = 4 << 20;

/// Something wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name; of what the API server gave, the object's.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// The field's path, as `spec.encryption.lanes`; empty if the file as a whole is meant.
    pub field: String,
    /// What is wrong.
    pub text: String,
}

impl Problem {
    /// Something wrong with a file as a whole.
    pub fn of_file(file: &str, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            field: String::new(),
            text: text.into(),
        }
    }

    /// Something wrong with an object that the API server gave.
    pub(crate) fn of_object(title: &str, wrongs: &[Wrong]) -> Self {
        let texts: Vec<_> = wrongs
            .iter()
            .map(|wrong| format!("{}: {}", locate::name(&wrong.path), wrong.text))
            .collect();
        Self::of_file(title, texts.join("; "))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Something that was ignored on purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// The file's name.
    pub file: String,
    /// What was ignored.
    pub text: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.text)
    }
}

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A node and its name.
    Node(String, Node),
    /// A namespace and its name.
    Namespace(String, Namespace),
    /// A pod.
    Pod(ObjectName, Box<Pod>),
    /// A service account.
    ServiceAccount(ObjectName, ServiceAccount),
    /// The Mesh.
    Mesh(Box<Mesh>),
    /// A Mesh with nothing but its status, as the controller writes it.
    MeshStatus(MeshStatus),
    /// A node's tunnel.
    NodeTunnel(Box<NodeTunnel>),
    /// A peer outside the cluster.
    ExternalPeer(Box<ExternalPeer>),
    /// A NetworkPolicy or ClusterNetworkPolicy, as it was understood.
    Policy(Arc<hauberk_policy::read::Read>),
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its objects, in order.
    pub objects: Vec<Object>,
    /// What was ignored.
    pub notices: Vec<Notice>,
}

/// Reads the manifests in `bytes`; `file` is the name to be used in problems.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Parsed, Vec<Problem>> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(vec![Problem::of_file(
            file,
            format!("larger than {MAX_BYTES} bytes"),
        )]);
    }
    let mut parsed = Parsed::default();
    let mut problems = Vec::new();
    for (index, document) in Deserializer::from_slice(bytes).enumerate() {
        let value = match Value::deserialize(document) {
            Ok(value) => value,
            Err(error) => {
                let line = error.location().map(|location| location.line());
                problems.push(Problem {
                    line,
                    ..Problem::of_file(file, not_yaml(&error))
                });
                // The rest of the stream cannot be told apart any more.
                break;
            }
        };
        match object(value) {
            Ok(Read::Object(object)) => parsed.objects.push(object),
            Ok(Read::Ignored(text)) => parsed.notices.push(Notice {
                file: file.to_owned(),
                text,
            }),
            Ok(Read::Nothing) => {}
            Err(wrongs) => problems.extend(wrongs.into_iter().map(|Wrong { path, text }| Problem {
                file: file.to_owned(),
                line: locate::line(bytes, index, &path),
                field: locate::name(&path),
                text,
            })),
        }
    }
    if problems.is_empty() {
        Ok(parsed)
    } else {
        Err(problems)
    }
}

enum Read {
    Object(Object),
    Ignored(String),
    Nothing,
}

fn object(value: Value) -> Result<Read, Vec<Wrong>> {
    if value.is_null() {
        return Ok(Read::Nothing);
    }
    let text = |field: &str| match value.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(vec![Wrong::at(&[field], "has to be a string")]),
        None => Err(vec![Wrong::at(&[], format!("{field} is missing"))]),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let object = match (version.as_str(), kind.as_str()) {
        ("v1", "Node") => convert::node(lenient(value)?)?,
        ("v1", "Namespace") => convert::namespace(lenient(value)?)?,
        ("v1", "Pod") => convert::pod(lenient(value)?)?,
        ("v1", "ServiceAccount") => convert::service_account(lenient(value)?)?,
        ("networking.k8s.io/v1", "NetworkPolicy") => convert::network_policy(lenient(value)?)?,
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => {
            convert::cluster_network_policy(lenient(value)?)?
        }
        (API_VERSION, "Mesh") if value.get("spec").is_none() && value.get("status").is_some() => {
            convert::mesh_status(ours(value)?)?
        }
        (API_VERSION, "Mesh") => convert::mesh(ours(value)?)?,
        (API_VERSION, "NodeTunnel") => convert::node_tunnel(ours(value)?)?,
        (API_VERSION, "ExternalPeer") => convert::external_peer(ours(value)?)?,
        (other, "Mesh" | "NodeTunnel" | "ExternalPeer") if other.split('/').next() == Some(GROUP) => {
            return Err(vec![Wrong::at(
                &["apiVersion"],
                format!("{other} is not served, use {API_VERSION}"),
            )]);
        }
        _ => {
            return Ok(Read::Ignored(format!(
                "{version} {kind} is no kind that keyd uses"
            )));
        }
    };
    Ok(Read::Object(object))
}

/// One of Kubernetes' own kinds: the API server of some later version may have written it, so that
/// fields unknown here are nothing wrong.
fn lenient<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Wrong>> {
    serde_path_to_error::deserialize(value).map_err(|error| vec![misread(error)])
}

/// One of our kinds: a field that is not known is most likely misspelt.
fn ours<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Wrong>> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(deserializer, |path| {
        let path = locate::ignored(&path);
        if !is_type_field(&path) {
            unknown.push(Wrong {
                path,
                text: "unknown field".to_owned(),
            });
        }
    });
    match read {
        Ok(object) if unknown.is_empty() => Ok(object),
        Ok(_) => Err(unknown),
        Err(error) => Err(vec![misread(serde_path_to_error::Error::new(
            track.path(),
            error,
        ))]),
    }
}

fn is_type_field(path: &[Step]) -> bool {
    matches!(path, [Step::Key(key)] if key == "apiVersion" || key == "kind")
}

fn misread(error: serde_path_to_error::Error<serde_yaml_ng::Error>) -> Wrong {
    let path = locate::tracked(error.path());
    Wrong {
        path,
        text: error.into_inner().to_string(),
    }
}

/// The parser's text without its own place, which the problem gives in front.
fn not_yaml(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    format!("not valid YAML, or half written: {text}")
}

#[cfg(test)]
mod tests;
