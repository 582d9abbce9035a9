//! The one kernel setting keyd changes: `nf_conntrack_tcp_be_liberal`.
//!
//! Around a flip the kernel's conntrack sees half of a connection, and `ct state invalid drop`
//! rules would stall it. So the setting is 1 from before Ready until after Off; what it was before
//! is kept in the state directory, survives a crash, and is put back. A kernel without conntrack
//! has nothing to set.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable;

/// The setting, below the directory of settings; its `net` shows the reader's own network namespace.
const BE_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";

/// Why the setting cannot be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct SysctlError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Keeps conntrack liberal while any pair is not Off.
#[derive(Debug)]
pub struct Liberal {
    setting: PathBuf,
    saved: PathBuf,
}

impl Liberal {
    /// Below `sysctl_dir`, usually `/proc/sys`; remembers the previous value in `state_dir`.
    pub fn new(sysctl_dir: &Path, state_dir: &Path) -> Self {
        Self {
            setting: sysctl_dir.join(BE_LIBERAL),
            saved: state_dir.join("nf_conntrack_tcp_be_liberal"),
        }
    }

    /// Sets 1; the first time the previous value is saved before.
    pub fn set(&self) -> Result<(), SysctlError> {
        let Some(now) = self.read()? else { return Ok(()) };
        if !self.saved.exists() {
            durable::write(&self.saved, now.as_bytes(), 0o600)
                .map_err(|e| self.error("write", &self.saved, e))?;
        }
        if now != "1" {
            fs::write(&self.setting, "1").map_err(|e| self.error("write", &self.setting, e))?;
        }
        Ok(())
    }

    /// Whether there is a value to put back.
    pub fn is_set(&self) -> bool {
        self.saved.exists()
    }

    /// Puts the saved value back, if there is one; says whether there was.
    pub fn restore(&self) -> Result<bool, SysctlError> {
        let before = match fs::read_to_string(&self.saved) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.error("read", &self.saved, error)),
        };
        fs::write(&self.setting, before.trim()).map_err(|e| self.error("write", &self.setting, e))?;
        fs::remove_file(&self.saved).map_err(|e| self.error("remove", &self.saved, e))?;
        Ok(true)
    }

    fn read(&self) -> Result<Option<String>, SysctlError> {
        match fs::read_to_string(&self.setting) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", &self.setting, error)),
        }
    }

    fn error(&self, action: &'static str, path: &Path, source: io::Error) -> SysctlError {
        SysctlError {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn liberal(dir: &Path, before: &str) -> Liberal {
        let setting = dir.join("setting");
        fs::write(&setting, before).expect("a file in a fresh directory");
        Liberal {
            setting,
            ..Liberal::new(dir, dir)
        }
    }

    #[test]
    fn the_value_before_comes_back_even_after_a_crash_between() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let liberal = liberal(dir.path(), "0\n");
        liberal.set().expect("set");
        // The daemon dies and starts again: what is saved must not become the 1 it set itself.
        liberal.set().expect("set again");
        assert_eq!(fs::read_to_string(&liberal.setting).expect("readable"), "1");
        assert!(liberal.restore().expect("restored"));
        assert_eq!(fs::read_to_string(&liberal.setting).expect("readable"), "0");
        assert!(!liberal.restore().expect("nothing left to restore"));
    }

    #[test]
    fn a_setting_that_appears_late_or_is_reset_is_set_and_its_first_value_comes_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let liberal = liberal(dir.path(), "0\n");
        fs::remove_file(&liberal.setting).expect("conntrack is not loaded yet");
        liberal.set().expect("nothing to do");
        for reset in ["0\n", "2\n"] {
            fs::write(&liberal.setting, reset).expect("loaded, or reset");
            liberal.set().expect("set");
            assert_eq!(fs::read_to_string(&liberal.setting).expect("readable"), "1");
        }
        assert!(liberal.restore().expect("restored"));
        assert_eq!(fs::read_to_string(&liberal.setting).expect("readable"), "0");
    }

    #[test]
    fn a_kernel_without_conntrack_has_nothing_to_set() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let liberal = Liberal {
            setting: dir.path().join("absent"),
            ..Liberal::new(dir.path(), dir.path())
        };
        liberal.set().expect("nothing to do");
        assert!(!liberal.restore().expect("nothing to do"));
    }
}
