//! The programs and maps of one node, as one value.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use hauberk_abi::{
    Config, Count, Counter, Device, DropReason, IpcacheEntry, Lane, MAX_SLOTS, Peer, Pod, PodAddress,
    VerdictKey,
};
use thiserror::Error;

use crate::{Hook, QueueCell, address::Prefix, requirements::RequirementError};

/// How to attach the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// TCX, or an error.
    Tcx,
    /// clsact, also where TCX exists (other programs in TCX then run before).
    Clsact,
}

/// What [`Redirect::open`] needs to know.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A directory on a BPF file system, made if missing; one for each node.
    pub pin_dir: PathBuf,
    /// How to attach.
    pub attach: AttachMode,
    /// Other capacities than the built-in ones, by map name; they apply when the maps are made.
    pub capacities: BTreeMap<String, u32>,
}

/// What a `sync_*` call changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Entries that were missing.
    pub added: usize,
    /// Entries that had another value.
    pub changed: usize,
    /// Entries that no longer belong.
    pub removed: usize,
}

/// A program that was found behind another one, and is first again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Which program.
    pub hook: Hook,
    /// On which device.
    pub ifindex: u32,
}

/// Why the programs or maps could not be changed.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// The machine lacks something.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// A map has no room; the entries it has stay in force, what is missing is treated as unknown.
    #[error("the map {map} is full at {capacity} entries")]
    MapFull {
        /// The map's name.
        map: &'static str,
        /// Its capacity in entries.
        capacity: u32,
    },
    /// Pins were written by another version.
    #[error("the pins in {} have ABI version {found}, this program has {expected}: remove the directory after draining the node", path.display())]
    AbiVersion {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// A device is gone or never was.
    #[error("there is no device with index {0} in this network namespace")]
    NoDevice(u32),
    /// A pin could not be written, read or removed.
    #[error("the pin {} cannot be used: {source}", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// The loaded programs and their maps. Dropping it leaves everything in force.
pub struct Redirect {}

impl Redirect {
    /// Loads the programs. Maps that an earlier process pinned are re-used with their content, and its
    /// attachments run the programs of this build from then on, without a gap.
    pub fn open(_options: Options) -> Result<Self, RedirectError> {
        todo!()
    }

    /// Writes the flags; `abi_version` is always this build's.
    pub fn set_config(&mut self, _config: Config) -> Result<(), RedirectError> {
        todo!()
    }

    /// The configuration in force.
    pub fn config(&self) -> Result<Config, RedirectError> {
        todo!()
    }

    /// Covered prefixes. When the map is full, nothing that was covered stops being so.
    pub fn sync_covered(&mut self, _desired: &BTreeSet<Prefix>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Who has an address.
    pub fn sync_ipcache(
        &mut self,
        _desired: &BTreeMap<Prefix, IpcacheEntry>,
    ) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Peers by number (never 0).
    pub fn sync_peers(&mut self, _desired: &BTreeMap<u32, Peer>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// All slots of lanes.
    pub fn sync_lanes(&mut self, _desired: &[Lane; MAX_SLOTS as usize]) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// The host's devices by ifindex.
    pub fn sync_devices(&mut self, _desired: &BTreeMap<u32, Device>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Pods by the ifindex of the host-side interface.
    pub fn sync_pods(&mut self, _desired: &BTreeMap<u32, Pod>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Addresses that pods may send from.
    pub fn sync_pod_addresses(&mut self, _desired: &BTreeSet<PodAddress>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Slots by the cookie (`SO_COOKIE`) of the lane's UDP socket.
    pub fn sync_lane_cookies(&mut self, _desired: &BTreeMap<u64, u32>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Policy verdicts (`VERDICT_*`).
    pub fn sync_verdicts(&mut self, _desired: &BTreeMap<VerdictKey, u32>) -> Result<Synced, RedirectError> {
        todo!()
    }

    /// Puts the program first on the device; nothing happens when it is attached already.
    pub fn attach(&mut self, _hook: Hook, _ifindex: u32) -> Result<(), RedirectError> {
        todo!()
    }

    /// Takes the program off the device; nothing happens when it is not there, or the device is gone.
    pub fn detach(&mut self, _hook: Hook, _ifindex: u32) -> Result<(), RedirectError> {
        todo!()
    }

    /// Where programs are attached, those of earlier processes included.
    pub fn attached(&self) -> BTreeSet<(Hook, u32)> {
        todo!()
    }

    /// Looks whether another program got in front of ours anywhere (or ours was taken off), and puts ours
    /// first again, without a moment in which it does not run. Says what was mended.
    pub fn check_order(&mut self) -> Result<Vec<Displaced>, RedirectError> {
        todo!()
    }

    /// Packets and bytes dropped by reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, Count)>, RedirectError> {
        todo!()
    }

    /// Packets and bytes let through by kind.
    pub fn counters(&self) -> Result<Vec<(Counter, Count)>, RedirectError> {
        todo!()
    }

    /// The gauge of the lane in `slot`.
    ///
    /// # Panics
    /// When `slot` is not below [`MAX_SLOTS`].
    pub fn queue(&self, _slot: u32) -> QueueCell {
        todo!()
    }

    /// Detaches all programs, unpins everything in `pin_dir` and removes it. Not an error when there is nothing.
    pub fn remove_all(_pin_dir: &Path) -> Result<(), RedirectError> {
        todo!()
    }
}
