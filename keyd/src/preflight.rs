//! Checks at the start that save an operator a puzzle later: each failure is one line that says
//! what is missing and what to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hauberk_ebpf_redirect::requirements::{self, RequirementError};
use nix::sys::statfs::{FsType, statfs};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILESYSTEMS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The programs cannot run here.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The kernel has no TUN.
    #[error("no TUN: /dev/net/tun cannot be opened; load the module `tun`, or use a kernel with CONFIG_TUN")]
    Tun(#[source] io::Error),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Checks capabilities, kernel, pin directory, TUN and the state directory, which is made if it is absent.
pub fn check(state_dir: &Path, pin_dir: &Path) -> Result<(), PreflightError> {
    requirements::check(pin_dir)?;
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(PreflightError::Tun)?;
    let state_error = |source| PreflightError::StateDir {
        path: state_dir.to_owned(),
        source,
    };
    fs::create_dir_all(state_dir).map_err(state_error)?;
    let FsType(kind) = statfs(state_dir)
        .map_err(|errno| state_error(errno.into()))?
        .filesystem_type();
    if !MEMORY_FILESYSTEMS.contains(&kind) {
        tracing::warn!(path = %state_dir.display(), "the state directory is not on tmpfs: private keys reach a disk");
    }
    Ok(())
}
