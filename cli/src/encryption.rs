//! `enable encryption` and `disable encryption`: one field of the Mesh's manifest, and nothing else.
//!
//! The manifest is edited as text where that gives exactly the object that is wanted, so that comments and
//! layout stay; otherwise that one document is written anew. Documents beside it are never touched. The file
//! is replaced by a rename, so that no reader sees half of it.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use serde_yaml_ng::{Mapping, Value};
use thiserror::Error;

use crate::source::{self, SourceError};

/// What a change came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The Mesh was changed, in this place.
    Changed(String),
    /// It already said so.
    Unchanged(String),
}

/// Why the flag was not changed.
#[derive(Debug, Error)]
pub enum EncryptionError {
    /// The directory cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No manifest has the object.
    #[error("no Mesh named `default` in {}; add its manifest first", .0.display())]
    NoMesh(PathBuf),
    /// A file that may hold the Mesh cannot be understood.
    #[error("{} is not valid YAML; mend it first", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// Two manifests have the object.
    #[error("the Mesh is in {} and in {}; keep one of them", .0.display(), .1.display())]
    TwoMeshes(PathBuf, PathBuf),
    /// The object is not shaped like a Mesh.
    #[error("{}: `{field}` is not a mapping", path.display())]
    NotAMapping { path: PathBuf, field: &'static str },
    /// The new manifest cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Sets `spec.encryption.enabled` of the Mesh in a directory of manifests.
pub fn set_enabled(dir: &Path, enabled: bool) -> Result<Outcome, EncryptionError> {
    let path = mesh_manifest(dir)?;
    let text = fs::read_to_string(&path).map_err(|source| SourceError::Read {
        path: path.clone(),
        source,
    })?;
    let Some(edited) = edit(&text, enabled).map_err(|error| error.at(&path))? else {
        return Ok(Outcome::Unchanged(path.display().to_string()));
    };
    replace(&path, &edited).map_err(|source| EncryptionError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(Outcome::Changed(path.display().to_string()))
}

/// The controller's file: it carries the Mesh's status, not its spec.
const STATUS_FILE: &str = "mesh-status.yaml";

fn mesh_manifest(dir: &Path) -> Result<PathBuf, EncryptionError> {
    let directory = source::read(dir)?;
    let mut meshes = directory
        .objects
        .iter()
        .filter(|object| is_mesh(&object.value))
        .map(|object| &object.path)
        .filter(|path| !path.ends_with(STATUS_FILE));
    match (meshes.next(), meshes.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(one), Some(other)) => Err(EncryptionError::TwoMeshes(one.clone(), other.clone())),
        (None, _) => Err(directory.malformed.into_iter().next().map_or_else(
            || EncryptionError::NoMesh(dir.to_owned()),
            |(path, source)| EncryptionError::Malformed { path, source },
        )),
    }
}

fn is_mesh(object: &Value) -> bool {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    text(object.get("kind")).as_deref() == Some("Mesh")
        && text(object.get("metadata").and_then(|m| m.get("name"))).as_deref() == Some("default")
}

/// An [`EncryptionError`] that does not yet know its file.
#[derive(Debug)]
enum EditError {
    Yaml(serde_yaml_ng::Error),
    NotAMapping(&'static str),
}

impl EditError {
    fn at(self, path: &Path) -> EncryptionError {
        let path = path.to_owned();
        match self {
            Self::Yaml(source) => EncryptionError::Malformed { path, source },
            Self::NotAMapping(field) => EncryptionError::NotAMapping { path, field },
        }
    }
}

/// The manifest with the field set; nothing if it is set already.
fn edit(text: &str, enabled: bool) -> Result<Option<String>, EditError> {
    let mut edited = String::with_capacity(text.len());
    let mut changed = false;
    for document in documents(text) {
        let (separator, body) = split_separator(document);
        edited.push_str(separator);
        let object: Value = serde_yaml_ng::from_str(body).map_err(EditError::Yaml)?;
        let wanted = if is_mesh(&object) {
            with_flag(&object, enabled)?
        } else {
            object.clone()
        };
        if wanted == object {
            edited.push_str(body);
            continue;
        }
        changed = true;
        let in_place = replace_flag(body, enabled)
            .filter(|text| serde_yaml_ng::from_str::<Value>(text).is_ok_and(|object| object == wanted));
        edited.push_str(&match in_place {
            Some(text) => text,
            None => serde_yaml_ng::to_string(&wanted).map_err(EditError::Yaml)?,
        });
    }
    Ok(changed.then_some(edited))
}

/// The documents of a file, each beginning with its `---` line if it has one; joined they are the file.
fn documents(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_separator(line) && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.trim_start().is_empty() || rest.starts_with(" #"))
}

fn split_separator(document: &str) -> (&str, &str) {
    let first = document.find('\n').map_or(document.len(), |end| end + 1);
    if is_separator(&document[..first]) {
        document.split_at(first)
    } else {
        ("", document)
    }
}

fn with_flag(mesh: &Value, enabled: bool) -> Result<Value, EditError> {
    let mut mesh = mesh.clone();
    let object = mesh.as_mapping_mut().ok_or(EditError::NotAMapping("Mesh"))?;
    let spec = entry(object, "spec")?;
    entry(spec, "encryption")?.insert("enabled".into(), enabled.into());
    Ok(mesh)
}

fn entry<'a>(mapping: &'a mut Mapping, key: &'static str) -> Result<&'a mut Mapping, EditError> {
    let value = mapping.entry(key.into()).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Mapping(Mapping::new());
    }
    value.as_mapping_mut().ok_or(EditError::NotAMapping(key))
}

/// Replaces the value on the one line of block style that `spec: encryption: enabled:` leads to. The caller
/// checks the result by parsing it; this only has to be right in the usual case.
fn replace_flag(body: &str, enabled: bool) -> Option<String> {
    const PATH: [&str; 3] = ["spec:", "encryption:", "enabled:"];
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            while found.last().is_some_and(|&outer| indent(line) <= outer) {
                found.pop();
            }
            if content.starts_with(PATH[found.len()]) && (!found.is_empty() || indent(line) == 0) {
                found.push(indent(line));
            }
            if found.len() == PATH.len() {
                let value_at = at + indent(line) + PATH[2].len();
                let rest = &body[value_at..];
                let value = rest.trim_start_matches(' ');
                let value_at = value_at + rest.len() - value.len();
                let end = value_at + value.find(|c: char| c.is_whitespace()).unwrap_or(value.len());
                let space = if rest.len() == value.len() { " " } else { "" };
                return Some(format!("{}{space}{enabled}{}", &body[..value_at], &body[end..]));
            }
        }
        at += line.len();
    }
    None
}

/// Replaces a file by a rename, keeping its mode; of a symbolic link, the file it points to.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // A leading dot: sources skip it until it has its name.
    let mut file = tempfile::Builder::new().prefix(".mesh-").tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests;
