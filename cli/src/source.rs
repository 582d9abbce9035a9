//! Where the mesh's objects are: in a cluster, or in a directory of manifests as `keyd --source dir:PATH` reads it.
//!
//! Files end in `.yaml` (or `.yml`) and hold one object or several; names that begin with a dot are unfinished
//! writes. Objects this command has no use for are skipped, whatever they contain.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};
use thiserror::Error;

/// Where the mesh's objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The cluster that kubectl talks to.
    Kube,
    /// A directory of manifests.
    Dir(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Dir(path.into())),
            _ if text == "kube" => Ok(Self::Kube),
            _ => Err(format!("`{text}` is not a source; write kube or dir:PATH")),
        }
    }
}

/// Why a directory of manifests cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It, or a file in it, cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// One object in the directory.
#[derive(Debug, Clone)]
pub struct Object {
    /// The file it is in.
    pub path: PathBuf,
    /// The whole object.
    pub value: Value,
}

impl Object {
    /// Its `kind`; empty where it has none.
    pub fn kind(&self) -> &str {
        self.value.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its `metadata.name`; empty where it has none.
    pub fn name(&self) -> &str {
        self.value
            .get("metadata")
            .and_then(|m| m.get("name"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Directory {
    /// All objects that could be read, by file name.
    pub objects: Vec<Object>,
    /// Files that are not YAML, each with what is wrong.
    pub malformed: Vec<(PathBuf, serde_yaml_ng::Error)>,
}

/// Reads every manifest of a directory.
pub fn read(dir: &Path) -> Result<Directory, SourceError> {
    let mut paths = list(dir)?;
    paths.retain(|path| is_manifest(path));
    read_files(paths)
}

/// The paths of a directory's entries, in order.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(|error| failed(dir, error))?;
    paths.sort();
    Ok(paths)
}

/// Reads the objects of files, as YAML, of which JSON is a part.
pub fn read_files(paths: Vec<PathBuf>) -> Result<Directory, SourceError> {
    let mut directory = Directory::default();
    for path in paths {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Removed or renamed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, error)),
        };
        for document in Deserializer::from_str(&text) {
            match Value::deserialize(document) {
                Ok(Value::Null) => {}
                Ok(value) => directory.objects.push(Object {
                    path: path.clone(),
                    value,
                }),
                Err(error) => {
                    directory.malformed.push((path.clone(), error));
                    break;
                }
            }
        }
    }
    Ok(directory)
}

fn failed(path: &Path, source: io::Error) -> SourceError {
    SourceError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Whether somebody is still writing it, or it is not meant to be seen.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    !is_hidden(path)
        && path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_kind_and_a_path() {
        assert_eq!("dir:/a:b".parse(), Ok(Source::Dir("/a:b".into())));
        assert_eq!("kube".parse(), Ok(Source::Kube));
        for bad in ["dir:", "/a", "", "file:/a", "kube:"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn objects_of_all_manifests_are_read_and_unfinished_and_foreign_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("b.yaml", "kind: Node\nmetadata: {name: n}\n---\n---\nkind: Pod\n");
        write("a.yml", "kind: Mesh\nmetadata:\n  name: default\n");
        write(".c.yaml", "kind: Hidden\n");
        write("state-n.json", "{}");
        let objects = read(dir.path()).unwrap().objects;
        let found: Vec<_> = objects.iter().map(|o| (o.kind(), o.name())).collect();
        assert_eq!(found, [("Mesh", "default"), ("Node", "n"), ("Pod", "")]);
    }

    #[test]
    fn a_malformed_file_is_named_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "kind: [unclosed\n").unwrap();
        fs::write(dir.path().join("b.yaml"), "kind: Mesh\n").unwrap();
        let directory = read(dir.path()).unwrap();
        assert_eq!(directory.objects.len(), 1);
        assert_eq!(directory.malformed[0].0, dir.path().join("a.yaml"));
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let error = read(Path::new("/nonexistent/manifests")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/manifests"), "{error}");
    }
}
