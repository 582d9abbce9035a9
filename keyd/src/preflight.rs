//! Checks at the start that save an operator a puzzle later: each failure is one line that says
//! what is missing and what to do.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

use crate::options::NodeOptions;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILESYSTEMS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The kernel has no TUN.
    #[error("no TUN: /dev/net/tun cannot be opened; load the module `tun`, or use a kernel with CONFIG_TUN")]
    Tun(#[source] io::Error),
    /// Another keyd keeps this node.
    #[error("another keyd runs with --state-dir {}", .0.display())]
    Running(PathBuf),
    /// A directory cannot be used.
    #[error("cannot use {} ({flag})", path.display())]
    Directory {
        /// The flag that names it.
        flag: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes the node's directories where they are absent, and takes them for this process alone until the file is
/// dropped: of two that settle the same node each would undo what the other did.
pub fn directories(options: &NodeOptions) -> Result<File, PreflightError> {
    let state = &options.state_dir;
    if !in_memory("--state-dir", state)? {
        tracing::warn!(path = %state.display(), "--state-dir is not on tmpfs: private keys reach a disk");
    }
    let memory = &options.memory_dir;
    if in_memory("--memory-dir", memory)? {
        tracing::warn!(path = %memory.display(), "--memory-dir is on tmpfs: phases do not survive a reboot");
    }
    lock(state)
}

/// Takes the state directory for this process alone until the file is dropped.
pub fn lock(state: &Path) -> Result<File, PreflightError> {
    let lock = File::create(state.join("lock"));
    let taken = lock.and_then(|lock| match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(source),
    });
    match taken {
        Ok(lock) => lock.ok_or_else(|| PreflightError::Running(state.to_owned())),
        Err(source) => Err(PreflightError::Directory {
            flag: "--state-dir",
            path: state.to_owned(),
            source,
        }),
    }
}

/// Checks that there is TUN.
pub fn tun() -> Result<(), PreflightError> {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    device.map(drop).map_err(PreflightError::Tun)
}

/// Makes the directory, and says whether what is in it is gone after a reboot.
fn in_memory(flag: &'static str, path: &Path) -> Result<bool, PreflightError> {
    let error = |source| PreflightError::Directory {
        flag,
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(error)?;
    let FsType(kind) = statfs(path)
        .map_err(|errno| error(errno.into()))?
        .filesystem_type();
    Ok(MEMORY_FILESYSTEMS.contains(&kind))
}
