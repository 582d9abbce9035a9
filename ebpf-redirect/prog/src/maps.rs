//! The maps, pinned by name; user space fills those up to `PORTS`.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};
use hauberk_abi::{
    Addr, Config, Connection, Count, Counter, Device, DropReason, Flow, FlowKey, FragmentKey, IpcacheEntry,
    Lane, LpmAddr, MAX_SLOTS, Peer, Pod, PodAddress, PortKey, Queue, VerdictKey,
};

/// Memory is taken by need, not for the whole capacity.
const NO_PREALLOC: u32 = 1;
/// User space maps the values into its memory.
const MMAPABLE: u32 = 1 << 10;

#[map]
pub static CONFIG: Array<Config> = Array::pinned(1, 0);
#[map]
// Two prefixes of each node that PEERS has room for, and as many again.
pub static COVERED: LpmTrie<LpmAddr, u32> = LpmTrie::pinned(65_536, 0);
#[map]
pub static IPCACHE: LpmTrie<LpmAddr, IpcacheEntry> = LpmTrie::pinned(262_144, 0);
#[map]
pub static PEERS: HashMap<u32, Peer> = HashMap::pinned(16_384, NO_PREALLOC);
#[map]
pub static LANES: Array<Lane> = Array::pinned(MAX_SLOTS, 0);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::pinned(4096, NO_PREALLOC);
#[map]
pub static PODS: HashMap<u32, Pod> = HashMap::pinned(4096, NO_PREALLOC);
#[map]
pub static POD_ADDRESSES: HashMap<PodAddress, u32> = HashMap::pinned(16_384, NO_PREALLOC);
#[map]
pub static LANE_COOKIES: HashMap<u64, u32> = HashMap::pinned(256, NO_PREALLOC);
#[map]
pub static VERDICTS: HashMap<VerdictKey, u32> = HashMap::pinned(262_144, NO_PREALLOC);
#[map]
pub static PORTS: LpmTrie<PortKey, u32> = LpmTrie::pinned(262_144, 0);
#[map]
// As many as a busy node has: the host's own table has 262,144 on a machine with 8 GiB.
pub static CONNECTIONS: LruHashMap<FlowKey, Connection> = LruHashMap::pinned(131_072, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u32> = LruHashMap::pinned(4096, 0);
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::pinned(65_536, 0);
#[map]
pub static QUEUES: Array<Queue> = Array::pinned(MAX_SLOTS, MMAPABLE);
#[map]
pub static DROPS: PerCpuArray<Count> = PerCpuArray::pinned(DropReason::ALL.len() as u32, 0);
#[map]
pub static COUNTERS: PerCpuArray<Count> = PerCpuArray::pinned(Counter::ALL.len() as u32, 0);

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Keys of the packet under judgement, for which the stack (512 bytes) has no room. Each CPU has one, and runs one of these
/// programs at a time: a redirected packet meets the next one after this one's end.
#[repr(C)]
pub struct Scratch {
    /// Its connection, as packets come to the pod.
    pub connection: FlowKey,
    /// The connection that it quotes.
    pub quoted: FlowKey,
}

/// This CPU's.
#[inline(always)]
pub fn scratch() -> Result<&'static mut Scratch, DropReason> {
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(DropReason::InternalError)?;
    // SAFETY: the value lives as long as the program; nobody else has it while this program runs on this CPU, and each
    // program asks for it once. Any bits are a key.
    Ok(unsafe { &mut *scratch })
}

/// `CONFIG_*` bits in force.
#[inline(always)]
pub fn flags() -> u32 {
    match CONFIG.get(0) {
        Some(config) => config.flags,
        // An array's entry always exists; if not, the strictest reading.
        None => u32::MAX,
    }
}

/// Whether a covered prefix has the address.
#[inline(always)]
pub fn is_covered(addr: &Addr) -> bool {
    COVERED.get(Key::new(128, *addr)).is_some()
}

/// Who has the address.
#[inline(always)]
pub fn ipcache(addr: &Addr) -> Option<IpcacheEntry> {
    IPCACHE.get(Key::new(128, *addr)).copied()
}

/// A copy of a hash map's value. User space may remove it meanwhile; what is copied is then an old value or
/// that of a newer entry, both of which were true at some time.
#[inline(always)]
pub fn copied<K, V: Copy>(map: &HashMap<K, V>, key: &K) -> Option<V> {
    // SAFETY: see above: every bit pattern of V is valid, and the memory stays until the program ends (RCU).
    unsafe { map.get(key) }.copied()
}
