//! Each node's own replica of the directory of manifests, so that an object can be late at, or hidden
//! from, one node.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::LabError;

/// A shared directory, and a replica of it for each node; kept equal until dropped.
///
/// A manifest written in any of them appears in all others, as do changes and removals. `*.json` files (keyd's
/// state) go from replicas to the shared directory only. Files whose names begin with a dot are nobody's business.
#[derive(Debug)]
pub struct Replicas {
    shared: PathBuf,
}

impl Replicas {
    /// Makes a replica of `shared` for each of `nodes`, below `parent`, and keeps them equal.
    pub fn start(_shared: &Path, _parent: &Path, _nodes: &[&str]) -> Result<Self, LabError> {
        todo!()
    }

    /// The shared directory.
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// The replica that `node` reads.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn dir(&self, _node: &str) -> &Path {
        todo!()
    }

    /// From now on changes of files that match `pattern` (with `*`) reach `node` late by `delay`.
    pub fn delay(&self, _node: &str, _pattern: &str, _delay: Duration) {
        todo!()
    }

    /// Takes files that match `pattern` out of `node`'s replica until [`Replicas::unhide`].
    pub fn hide(&self, _node: &str, _pattern: &str) {
        todo!()
    }

    /// Gives them back.
    pub fn unhide(&self, _node: &str, _pattern: &str) {
        todo!()
    }
}
