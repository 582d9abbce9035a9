//! What the machine must offer, checked before anything is changed; every error is one line with a remedy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::{
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};
use thiserror::Error;

/// The oldest kernel the programs are tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Something the programs need is missing.
#[derive(Debug, Error)]
pub enum RequirementError {
    /// A capability is missing from the effective set.
    #[error("{0} is missing: run as root, or give the process CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Capability(&'static str),
    /// The pin directory is on some other file system.
    #[error("{} is not on a BPF file system: `mount -t bpf bpf /sys/fs/bpf` and choose a directory below it", path.display())]
    Bpffs {
        /// The directory asked for.
        path: PathBuf,
    },
    /// TCX was asked for on a kernel without.
    #[error(
        "this kernel has no TCX (it came with Linux 6.6): choose clsact, or leave the choice to the loader"
    )]
    Tcx,
    /// The kernel is older than what the programs are tested on.
    #[error("Linux {0} is too old: 6.1 or newer is needed")]
    Kernel(String),
    /// The process's own state cannot be read.
    #[error("/proc/self/status cannot be read (is /proc mounted?): {0}")]
    Proc(#[from] io::Error),
}

/// How programs can be attached here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// By TCX links (Linux 6.6 and newer).
    Tcx,
    /// By filters of a clsact qdisc.
    Clsact,
}

/// Checks capabilities, the kernel and the file system of `pin_dir` (which need not exist yet), and says
/// how programs are attached on this kernel.
pub fn check(pin_dir: &Path) -> Result<Attachment, RequirementError> {
    check_kernel()?;
    check_capabilities(&fs::read_to_string("/proc/self/status")?)?;
    check_bpffs(pin_dir)?;
    Ok(attachment())
}

/// Asked of the kernel, not of its version: distributions build it without, and backport it.
pub(crate) fn attachment() -> Attachment {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Attachment::Tcx,
        Err(_) => Attachment::Clsact,
    }
}

pub(crate) fn check_bpffs(pin_dir: &Path) -> Result<(), RequirementError> {
    let not_bpffs = || RequirementError::Bpffs {
        path: pin_dir.to_owned(),
    };
    let existing = pin_dir
        .ancestors()
        .find(|path| path.exists())
        .ok_or_else(not_bpffs)?;
    let kind = statfs(existing).map_err(|_| not_bpffs())?.filesystem_type();
    if kind == BPF_FS_MAGIC {
        Ok(())
    } else {
        Err(not_bpffs())
    }
}

fn check_kernel() -> Result<(), RequirementError> {
    let Ok(name) = uname() else { return Ok(()) };
    let release = name.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version < OLDEST_KERNEL => Err(RequirementError::Kernel(release)),
        // A release that does not read as a version is left to the loading itself.
        _ => Ok(()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn check_capabilities(status: &str) -> Result<(), RequirementError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    if !has(CAP_NET_ADMIN) {
        return Err(RequirementError::Capability("CAP_NET_ADMIN"));
    }
    // CAP_SYS_ADMIN stands for both in the kernel (capability.h, bpf_capable and perfmon_capable).
    if !has(CAP_SYS_ADMIN) {
        if !has(CAP_BPF) {
            return Err(RequirementError::Capability("CAP_BPF"));
        }
        if !has(CAP_PERFMON) {
            return Err(RequirementError::Capability("CAP_PERFMON"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_capabilities_is_told_which_is_missing() {
        let none = check_capabilities("Name:\tkeyd\nCapEff:\t0000000000000000\n");
        assert!(matches!(none, Err(RequirementError::Capability("CAP_NET_ADMIN"))));
        let net_only = check_capabilities("CapEff:\t0000000000001000\n");
        assert!(matches!(net_only, Err(RequirementError::Capability("CAP_BPF"))));
        assert!(check_capabilities("CapEff:\t000001ffffffffff\n").is_ok());
        assert!(check_capabilities("CapEff:\t000000c000001000\n").is_ok());
    }

    #[test]
    fn a_directory_outside_bpffs_is_refused_with_the_remedy() {
        let error = check_bpffs(Path::new("/tmp/not/there")).expect_err("not a BPF file system");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
    }

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-37-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert!(version("5.15.0").expect("a version") < OLDEST_KERNEL);
        assert_eq!(version("unknown"), None);
    }
}
