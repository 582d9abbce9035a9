//! Where the components' programs are: a folder with one program for each, as envtest has it.
//!
//! `$HAUBERK_KUBERNETES` names it where a caller found it already; else `scripts/kubernetes` finds or
//! builds it.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::KubernetesError;
use crate::LabError;

const VARIABLE: &str = "HAUBERK_KUBERNETES";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kubernetes");

#[derive(Debug)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Takes minutes where they have to be built.
    pub(super) fn find() -> Result<Self, KubernetesError> {
        match env::var_os(VARIABLE) {
            Some(folder) if !folder.is_empty() => Ok(Self(folder.into())),
            _ => found_by_script().map(Self),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn path(&self, component: &str) -> Result<PathBuf, KubernetesError> {
        let path = self.0.join(component);
        if path.is_file() {
            Ok(path)
        } else {
            Err(KubernetesError::NoProgram(path))
        }
    }
}

fn found_by_script() -> Result<PathBuf, KubernetesError> {
    let not_run = |source| LabError::Start {
        program: SCRIPT.into(),
        source,
    };
    let mut script = Command::new(SCRIPT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    // Passed on at once, since building takes minutes; the last line says why there is nothing.
    let mut last = String::from("scripts/kubernetes failed without a word");
    for line in BufReader::new(script.stderr.take().expect("it was piped"))
        .lines()
        .map_while(Result::ok)
    {
        eprintln!("{line}");
        last = line;
    }
    let output = script.wait_with_output().map_err(not_run)?;
    if !output.status.success() {
        return Err(KubernetesError::NoPrograms(last));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
