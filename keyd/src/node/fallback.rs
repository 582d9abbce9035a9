//! What closes a node while nothing of its encryption can be put in force: the fence alone.
//!
//! After a reboot the kernel holds nothing, and keyd may have to wait, or to end, before it can load programs.
//! Where ciphertext was sent before, covered traffic then leaves by no device but those of the node's own pods.
//! What an earlier process of the same boot left in force is finer than that, and stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hauberk_ebpf_redirect::fence::{self, Fence, FenceError};

use crate::memory::Memory;
use crate::pair::Phase;

/// The fence that this process put up in place of everything else.
#[derive(Default)]
pub struct Fallback {
    fence: Option<Fence>,
    /// Programs of an earlier process are pinned.
    inherited: bool,
}

impl Fallback {
    /// To be called before this process pins anything in `pin_dir`.
    pub fn new(pin_dir: &Path) -> Self {
        Self {
            fence: None,
            inherited: fs::read_dir(pin_dir).is_ok_and(|mut pins| pins.next().is_some()),
        }
    }

    /// Closes all devices but `own` for what is covered as far as `memory` knows, if anything was encrypted.
    pub fn close(&mut self, memory: &Memory, own: BTreeSet<u32>) -> Result<(), FenceError> {
        let encrypts = memory.phases.values().any(|phase| *phase >= Phase::Sending);
        if !encrypts && !memory.drop_unknown {
            return Ok(());
        }
        if self.fence.is_none() && self.inherited && fence::dropped_packets()?.is_some() {
            return Ok(());
        }
        let fence = Fence {
            covered: memory.covered_prefixes(),
            nodes: memory.node_addresses(),
            known_devices: own,
        };
        if self.fence.as_ref() != Some(&fence) {
            fence::apply(&fence)?;
            tracing::warn!("nothing can be put in force yet: what was encrypted before leaves by no device");
            self.fence = Some(fence);
        }
        Ok(())
    }

    /// The same before any device is known; what fails is logged.
    pub fn close_all(&mut self, memory: &Memory) {
        if let Err(error) = self.close(memory, BTreeSet::new()) {
            tracing::error!(%error, "not closed");
        }
    }
}
