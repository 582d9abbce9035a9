//! `keyd uninstall`: takes away what keyd left on its node, once encryption is off there and keyd has ended.
//!
//! Stages: 1. hauberk-cni out of the container runtime's configuration, and its program away, 2. keys, phases and what
//! else is in keyd's own two directories. Nothing is done while something is in force: that would open it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::cni;
use crate::options::UninstallOptions;
use crate::preflight::{self, PreflightError};

/// Why something of keyd is still on the node.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// Another keyd runs, or a directory cannot be used.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Programs and maps are pinned.
    #[error(
        "encryption is still in force on this node ({} is not empty): start keyd again, switch encryption off \
         (`hauberk disable encryption`) and wait until `hauberk status` says Off", .0.display()
    )]
    InForce(PathBuf),
    /// The plugin cannot be taken out everywhere.
    #[error("{0}")]
    Cni(String),
    /// Something cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Takes everything away.
pub fn run(options: &UninstallOptions) -> Result<(), UninstallError> {
    let lock = preflight::lock(&options.state_dir)?;
    if !entries(&options.pin_dir)?.is_empty() {
        return Err(UninstallError::InForce(options.pin_dir.clone()));
    }
    let failed = cni::install::uninstall(&options.cni());
    if !failed.is_empty() {
        let texts = failed
            .into_iter()
            .map(|error| format!("{:#}", anyhow::Error::from(error)));
        return Err(UninstallError::Cni(texts.collect::<Vec<_>>().join("; ")));
    }
    for dir in [&options.state_dir, &options.memory_dir] {
        for path in entries(dir)? {
            remove(&path)?;
        }
    }
    drop(lock);
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, UninstallError> {
    let error = |source| UninstallError::Remove {
        path: dir.to_owned(),
        source,
    };
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(error))
            .collect(),
        Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(error(source)),
    }
}

fn remove(path: &Path) -> Result<(), UninstallError> {
    let removed = match path.is_dir() && !path.is_symlink() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(|source| UninstallError::Remove {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn options(dir: &Path) -> UninstallOptions {
        for name in ["state/cni", "memory", "pins", "net.d", "bin"] {
            fs::create_dir_all(dir.join(name)).expect("a directory");
        }
        fs::write(dir.join("state/node.key"), "key").expect("a file");
        fs::write(dir.join("memory/phases.json"), "{}").expect("a file");
        UninstallOptions {
            state_dir: dir.join("state"),
            memory_dir: dir.join("memory"),
            pin_dir: dir.join("pins"),
            cni_conf_dir: dir.join("net.d"),
            cni_bin_dir: dir.join("bin"),
        }
    }

    fn left(dir: &Path) -> usize {
        let count = |name: &str| fs::read_dir(dir.join(name)).expect("a directory").count();
        count("state") + count("memory")
    }

    #[test]
    fn keys_and_phases_go_once_nothing_is_in_force() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = options(dir.path());
        fs::write(dir.path().join("pins/COVERED"), "").expect("a file");
        let refused = run(&options).expect_err("it is in force").to_string();
        assert!(refused.contains("hauberk disable encryption"), "{refused}");
        assert!(left(dir.path()) >= 3);
        fs::remove_file(dir.path().join("pins/COVERED")).expect("removed");
        run(&options).expect("taken away");
        assert_eq!(left(dir.path()), 0);
        run(&options).expect("twice is no failure");
    }

    #[test]
    fn nothing_is_taken_from_a_keyd_that_runs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = options(dir.path());
        let lock = preflight::lock(&options.state_dir).expect("taken");
        run(&options).expect_err("keyd runs");
        drop(lock);
        run(&options).expect("keyd has ended");
    }
}
