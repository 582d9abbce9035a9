//! The programs and maps of one node, as one value.
//!
//! Pins lie in `PIN_DIR/v<ABI>/{maps,programs,links}`. Another ABI version has another directory: its
//! programs go on until [`Redirect::retire_other_versions`] is called, when this version's maps are filled
//! and its programs stand before the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapData,
    programs::{ProgramError, SchedClassifier},
};
use hauberk_abi::{
    ABI_VERSION, Config, Connection, Count, Counter, Device, DropReason, Flow, FlowKey, IpcacheEntry, Lane,
    MAX_SLOTS, Peer, Pod, PodAddress, PortKey, VerdictKey,
};

use crate::{Hook, QueueCell, address::Prefix, bpf, requirements};

mod attachments;
mod error;
mod maps;

use attachments::{Attachments, LoadCopy};
pub use error::RedirectError;
use maps::Maps;

/// The programs, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));

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
    /// Other capacities than the built-in ones, by map name; they apply when the maps are made. A prefix trie
    /// keeps one entry of it free.
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

/// A program that was found behind another one, or not at all, and is first again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Which program.
    pub hook: Hook,
    /// On which device.
    pub ifindex: u32,
}

/// The loaded programs and their maps. Dropping it leaves everything in force.
pub struct Redirect {
    loader: Loader,
    maps: Maps,
    attachments: Attachments,
}

impl Redirect {
    /// Loads the programs. Maps that an earlier process pinned are re-used with their content, and its
    /// attachments run the programs of this build from then on, without a gap.
    pub fn open(options: Options) -> Result<Self, RedirectError> {
        requirements::check_bpffs(&options.pin_dir)?;
        let loader = Loader {
            dir: version_dir(&options.pin_dir, ABI_VERSION),
            pin_dir: options.pin_dir,
            capacities: options.capacities,
        };
        loader.make_directories()?;
        loader.check_abi()?;
        let mut programs = loader.load()?;
        let maps = Maps::take(&mut programs)?;
        loader.pin_programs(&mut programs)?;
        let attachments =
            Attachments::recover(options.attach, loader.dir.join("links"), programs, maps.config_id)?;
        let mut this = Self {
            loader,
            maps,
            attachments,
        };
        let config = this.config()?;
        this.set_config(config)?;
        Ok(this)
    }

    /// Writes the flags; `abi_version` is always this build's.
    pub fn set_config(&mut self, config: Config) -> Result<(), RedirectError> {
        let config = Config {
            abi_version: ABI_VERSION,
            ..config
        };
        self.maps
            .config
            .set(0, config, 0)
            .map_err(RedirectError::map("CONFIG"))
    }

    /// The configuration in force.
    pub fn config(&self) -> Result<Config, RedirectError> {
        self.maps.config.get(&0, 0).map_err(RedirectError::map("CONFIG"))
    }

    /// Covered prefixes. When the map is full, nothing that stays covered stops being so.
    pub fn sync_covered(&mut self, desired: &BTreeSet<Prefix>) -> Result<Synced, RedirectError> {
        self.maps.covered.sync(&with_ones(desired))
    }

    /// Who has an address.
    pub fn sync_ipcache(
        &mut self,
        desired: &BTreeMap<Prefix, IpcacheEntry>,
    ) -> Result<Synced, RedirectError> {
        self.maps.ipcache.sync(desired)
    }

    /// Changes single addresses, without a look at the others: what is put in first, and then what is taken out.
    /// What cannot be written keeps nothing else from it; the first error is the answer.
    pub fn change_ipcache(
        &mut self,
        changes: &BTreeMap<Prefix, Option<IpcacheEntry>>,
    ) -> Result<(), RedirectError> {
        self.maps.ipcache.change(changes)
    }

    /// Peers by number (never 0).
    pub fn sync_peers(&mut self, desired: &BTreeMap<u32, Peer>) -> Result<Synced, RedirectError> {
        self.maps.peers.sync(desired)
    }

    /// All slots of lanes.
    pub fn sync_lanes(&mut self, desired: &[Lane; MAX_SLOTS as usize]) -> Result<Synced, RedirectError> {
        let mut synced = Synced::default();
        for (slot, lane) in (0..).zip(desired) {
            if self
                .maps
                .lanes
                .get(&slot, 0)
                .map_err(RedirectError::map("LANES"))?
                != *lane
            {
                self.maps
                    .lanes
                    .set(slot, lane, 0)
                    .map_err(RedirectError::map("LANES"))?;
                synced.changed += 1;
            }
        }
        Ok(synced)
    }

    /// The host's devices by ifindex. `to_network` drops all that would leave by one that is missing here, but
    /// for the lanes' datagrams.
    pub fn sync_devices(&mut self, desired: &BTreeMap<u32, Device>) -> Result<Synced, RedirectError> {
        self.maps.devices.sync(desired)
    }

    /// Pods by the ifindex of the host-side interface.
    pub fn sync_pods(&mut self, desired: &BTreeMap<u32, Pod>) -> Result<Synced, RedirectError> {
        self.maps.pods.sync(desired)
    }

    /// Addresses that pods may send from.
    pub fn sync_pod_addresses(&mut self, desired: &BTreeSet<PodAddress>) -> Result<Synced, RedirectError> {
        self.maps.pod_addresses.sync(&with_ones(desired))
    }

    /// Slots by the cookie (`SO_COOKIE`) of the lane's UDP socket.
    pub fn sync_lane_cookies(&mut self, desired: &BTreeMap<u64, u32>) -> Result<Synced, RedirectError> {
        self.maps.lane_cookies.sync(desired)
    }

    /// Policy: verdicts (`VERDICT_*`, or numbers of programs), and those of the programs by prefixes of ports (keys with
    /// the length of their prefix in bits, [`hauberk_abi::PORT_PREFIX`] and more). What was there stays beside it until
    /// [`Redirect::prune_policy`], as long as there is room. Answers the sets of which something could not be written: no pod
    /// may have one of those.
    pub fn add_policy(
        &mut self,
        verdicts: &BTreeMap<VerdictKey, u32>,
        ports: &BTreeMap<(PortKey, u8), u32>,
    ) -> Result<BTreeSet<u32>, RedirectError> {
        let missing = self.maps.ports.add(ports)?;
        let broken: BTreeSet<u32> = missing.iter().map(|(key, _)| program_of(key)).collect();
        let of_broken = verdicts.iter().filter(|(_, verdict)| broken.contains(verdict));
        let mut incomplete: BTreeSet<u32> = of_broken.map(|(key, _)| key.set).collect();
        incomplete.extend(self.maps.verdicts.add(verdicts)?.iter().map(|key| key.set));
        Ok(incomplete)
    }

    /// Takes out what of policy is not desired any more, once no pod and no address refers to it.
    pub fn prune_policy(
        &mut self,
        verdicts: &BTreeMap<VerdictKey, u32>,
        ports: &BTreeMap<(PortKey, u8), u32>,
    ) -> Result<(), RedirectError> {
        self.maps.verdicts.prune(verdicts)?;
        self.maps.ports.prune(ports)
    }

    /// Connections that were let through, for diagnosis and tests.
    pub fn connections(&self) -> Result<BTreeMap<FlowKey, Connection>, RedirectError> {
        self.maps.connections.entries()
    }

    /// Replaces the connections that were let through. The programs go on learning.
    pub fn sync_connections(
        &mut self,
        desired: &BTreeMap<FlowKey, Connection>,
    ) -> Result<Synced, RedirectError> {
        self.maps.connections.sync(desired)
    }

    /// Flows that may skip the host's stack now, for diagnosis and tests.
    pub fn flows(&self) -> Result<BTreeMap<FlowKey, Flow>, RedirectError> {
        self.maps.flows.entries()
    }

    /// Replaces the flows that may skip the host's stack. The programs go on learning.
    pub fn sync_flows(&mut self, desired: &BTreeMap<FlowKey, Flow>) -> Result<Synced, RedirectError> {
        self.maps.flows.sync(desired)
    }

    /// Puts the program first on the device; nothing happens when it is first already.
    pub fn attach(&mut self, hook: Hook, ifindex: u32) -> Result<(), RedirectError> {
        self.attachments.attach(hook, ifindex, &self.loader)
    }

    /// Takes the program off the device; nothing happens when it is not there, or the device is gone. When it
    /// fails, the program counts as attached still.
    pub fn detach(&mut self, hook: Hook, ifindex: u32) -> Result<(), RedirectError> {
        self.attachments.detach(hook, ifindex)
    }

    /// Where programs are attached, those of earlier processes included.
    pub fn attached(&self) -> BTreeSet<(Hook, u32)> {
        self.attachments.attached().clone()
    }

    /// Looks whether another program got in front of ours anywhere (or ours was taken off), and puts ours
    /// first again, without a moment in which it does not run. Says what was mended, and what failed, which
    /// keeps no other place from being mended. Devices that are gone are forgotten.
    pub fn check_order(&mut self) -> (Vec<Displaced>, Vec<RedirectError>) {
        self.attachments.check_order(&self.loader)
    }

    /// Packets and bytes dropped by reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, Count)>, RedirectError> {
        DropReason::ALL
            .iter()
            .map(|&reason| Ok((reason, total(&self.maps.drops, "DROPS", reason as u32)?)))
            .collect()
    }

    /// Packets and bytes let through by kind.
    pub fn counters(&self) -> Result<Vec<(Counter, Count)>, RedirectError> {
        Counter::ALL
            .iter()
            .map(|&counter| Ok((counter, total(&self.maps.counters, "COUNTERS", counter as u32)?)))
            .collect()
    }

    /// The gauge of the lane in `slot`.
    ///
    /// # Panics
    /// When `slot` is not below [`MAX_SLOTS`].
    pub fn queue(&self, slot: u32) -> QueueCell {
        QueueCell::new(Arc::clone(&self.maps.queues), slot)
    }

    /// Runs a program on a packet that goes nowhere (`BPF_PROG_TEST_RUN`): at the device `ifindex`, to which it came by the
    /// device `received_on`; 0 for one that the host itself made. It counts, and changes maps, as with a real packet.
    pub fn dry_run(
        &self,
        hook: Hook,
        packet: &[u8],
        ifindex: u32,
        received_on: u32,
    ) -> io::Result<bpf::DryRun> {
        let program = self.attachments.program(hook).fd().map_err(io::Error::other)?;
        bpf::dry_run(std::os::fd::AsFd::as_fd(program), packet, ifindex, received_on)
    }

    /// Takes away the programs and pins of other ABI versions, once this one's stand in front of them and
    /// its maps are filled. Says how many versions there were.
    pub fn retire_other_versions(&mut self) -> Result<usize, RedirectError> {
        let mut retired = 0;
        for dir in version_dirs(&self.loader.pin_dir)? {
            if dir != self.loader.dir {
                remove_version(&dir)?;
                retired += 1;
            }
        }
        Ok(retired)
    }

    /// Detaches all programs, unpins everything in `pin_dir` and removes it. Not an error when there is nothing.
    ///
    /// To be called in the network namespace of the node, where the devices are.
    pub fn remove_all(pin_dir: &Path) -> Result<(), RedirectError> {
        for dir in version_dirs(pin_dir)? {
            remove_version(&dir)?;
        }
        remove_directory(pin_dir)
    }
}

/// Loads programs against the pinned maps.
struct Loader {
    pin_dir: PathBuf,
    dir: PathBuf,
    capacities: BTreeMap<String, u32>,
}

impl Loader {
    fn make_directories(&self) -> Result<(), RedirectError> {
        for name in ["maps", "programs", "links"] {
            let dir = self.dir.join(name);
            fs::create_dir_all(&dir).map_err(RedirectError::pin(&dir))?;
        }
        Ok(())
    }

    /// The directory's name says the version; the map must agree, or someone else wrote it.
    fn check_abi(&self) -> Result<(), RedirectError> {
        let pin = self.dir.join("maps/CONFIG");
        if !pin.exists() {
            return Ok(());
        }
        let map = MapData::from_pin(&pin).map_err(RedirectError::map("CONFIG"))?;
        let config = aya::maps::Array::<_, Config>::try_from(aya::maps::Map::Array(map))
            .and_then(|config| config.get(&0, 0))
            .map_err(RedirectError::map("CONFIG"))?;
        match config.abi_version {
            // Zero: made by a process that ended before it wrote anything.
            0 | ABI_VERSION => Ok(()),
            found => Err(RedirectError::AbiVersion {
                path: self.dir.clone(),
                found,
                expected: ABI_VERSION,
            }),
        }
    }

    fn load(&self) -> Result<Ebpf, RedirectError> {
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(self.dir.join("maps"));
        for (map, &capacity) in &self.capacities {
            loader.map_max_entries(map, capacity);
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|e| RedirectError::Load(Box::new(e)))?;
        for hook in Hook::ALL {
            load_program(attachments::program_mut(&mut ebpf, hook)).map_err(|source| {
                RedirectError::LoadProgram {
                    hook,
                    source: Box::new(source),
                }
            })?;
        }
        Ok(ebpf)
    }

    /// The pins of programs are for operators (`bpftool prog show pinned`); attachments hold programs too.
    fn pin_programs(&self, ebpf: &mut Ebpf) -> Result<(), RedirectError> {
        for hook in Hook::ALL {
            let pin = self.dir.join("programs").join(hook.name());
            attachments::remove_file(&pin)?;
            attachments::program_mut(ebpf, hook)
                .pin(&pin)
                .map_err(|e| RedirectError::pin(&pin)(io::Error::other(e)))?;
        }
        Ok(())
    }
}

impl LoadCopy for Loader {
    fn load_copy(&self) -> Result<Ebpf, RedirectError> {
        self.load()
    }
}

/// The verifier gives up with EAGAIN when a signal comes; libbpf tries as often (tools/lib/bpf/bpf.c).
const LOAD_ATTEMPTS: usize = 5;

fn load_program(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    let mut attempts = 1;
    loop {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock && attempts < LOAD_ATTEMPTS =>
            {
                attempts += 1;
            }
            result => return result,
        }
    }
}

fn program_of(key: &PortKey) -> u32 {
    let [a, b, c, d, ..] = *key;
    u32::from_be_bytes([a, b, c, d])
}

fn with_ones<K: Ord + Copy>(keys: &BTreeSet<K>) -> BTreeMap<K, u32> {
    keys.iter().map(|&key| (key, 1)).collect()
}

fn total(
    map: &aya::maps::PerCpuArray<MapData, Count>,
    name: &'static str,
    index: u32,
) -> Result<Count, RedirectError> {
    let per_cpu = map.get(&index, 0).map_err(RedirectError::map(name))?;
    Ok(per_cpu.iter().fold(Count::default(), |sum, count| Count {
        packets: sum.packets.wrapping_add(count.packets),
        bytes: sum.bytes.wrapping_add(count.bytes),
    }))
}

fn version_dir(pin_dir: &Path, version: u32) -> PathBuf {
    pin_dir.join(format!("v{version}"))
}

fn version_dirs(pin_dir: &Path) -> Result<Vec<PathBuf>, RedirectError> {
    let entries = match fs::read_dir(pin_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RedirectError::pin(pin_dir)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(RedirectError::pin(pin_dir))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name
            .strip_prefix('v')
            .is_some_and(|number| number.parse::<u32>().is_ok())
        {
            found.push(path);
        }
    }
    Ok(found)
}

fn remove_version(dir: &Path) -> Result<(), RedirectError> {
    let config = dir.join("maps/CONFIG");
    let config_id = match MapData::from_pin(&config) {
        Ok(map) => Some(map.info().map_err(RedirectError::map("CONFIG"))?.id()),
        Err(_) => None,
    };
    attachments::remove_all(&dir.join("links"), config_id)?;
    remove_directory(dir)
}

fn remove_directory(dir: &Path) -> Result<(), RedirectError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(RedirectError::pin(dir)(e)),
    }
}
