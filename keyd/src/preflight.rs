//! Checks at the start that save an operator a puzzle later: each failure is one line that says
//! what is missing and what to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

/// linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILESYSTEMS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The process may not do what it must.
    #[error("missing capability {0}: run keyd as root, or grant it CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON")]
    Capability(&'static str),
    /// The kernel has no TUN.
    #[error("no TUN: /dev/net/tun cannot be opened; load the module `tun` or build the kernel with CONFIG_TUN")]
    Tun(#[source] io::Error),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Checks capabilities, TUN and the state directory, which is made if it is absent.
pub fn check(state_dir: &Path) -> Result<(), PreflightError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(name) = missing_capability(effective_capabilities(&status)) {
        return Err(PreflightError::Capability(name));
    }
    fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(PreflightError::Tun)?;
    let state_error = |source| PreflightError::StateDir { path: state_dir.to_owned(), source };
    fs::create_dir_all(state_dir).map_err(state_error)?;
    let FsType(kind) = statfs(state_dir).map_err(|errno| state_error(errno.into()))?.filesystem_type();
    if !MEMORY_FILESYSTEMS.contains(&kind) {
        tracing::warn!(path = %state_dir.display(), "state directory is not on tmpfs: private keys reach a disk");
    }
    Ok(())
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing_capability(effective: u64) -> Option<&'static str> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    // From 5.8 on CAP_SYS_ADMIN is split up, and still covers both parts.
    if !has(CAP_NET_ADMIN) {
        Some("CAP_NET_ADMIN")
    } else if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        Some("CAP_BPF")
    } else if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
        Some("CAP_PERFMON")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capability_is_named() {
        let all = effective_capabilities("Name:\tkeyd\nCapEff:\t000001ffffffffff\n");
        assert_eq!(missing_capability(all), None);
        assert_eq!(missing_capability(all & !(1 << CAP_NET_ADMIN)), Some("CAP_NET_ADMIN"));
        assert_eq!(missing_capability(1 << CAP_NET_ADMIN), Some("CAP_BPF"));
        assert_eq!(missing_capability(1 << CAP_NET_ADMIN | 1 << CAP_BPF), Some("CAP_PERFMON"));
        assert_eq!(missing_capability(1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN), None);
        assert_eq!(missing_capability(effective_capabilities("")), Some("CAP_NET_ADMIN"));
    }
}
