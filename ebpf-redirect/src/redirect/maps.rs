//! The maps, with the types of their contents, and how they are brought in step with a desired state.
//!
//! What a table is brought in step with is always compared with the kernel's actual content, never with a memory of
//! it: the maps outlive this process, and anyone with the right may write them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd as _,
    sync::Arc,
};

use aya::{
    Ebpf, Pod as Plain,
    maps::{
        Array, HashMap, Map, MapData, MapError, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    sys::SyscallError,
};
use hauberk_abi::{
    Addr, Config, Connection, Count, Device, Flow, FlowKey, IpcacheEntry, Lane, Peer, Pod, PodAddress,
    PortKey, VerdictKey,
};

use super::{RedirectError, Synced};
use crate::queue::Mapping;

/// All maps by their names in the kernel.
pub(super) struct Maps {
    pub(super) config: Array<MapData, Config>,
    pub(super) covered: Table<LpmTrie<MapData, Addr, u32>>,
    pub(super) ipcache: Table<LpmTrie<MapData, Addr, IpcacheEntry>>,
    pub(super) peers: Table<HashMap<MapData, u32, Peer>>,
    pub(super) lanes: Array<MapData, Lane>,
    pub(super) devices: Table<HashMap<MapData, u32, Device>>,
    pub(super) pods: Table<HashMap<MapData, u32, Pod>>,
    pub(super) pod_addresses: Table<HashMap<MapData, PodAddress, u32>>,
    pub(super) lane_cookies: Table<HashMap<MapData, u64, u32>>,
    pub(super) verdicts: Table<HashMap<MapData, VerdictKey, u32>>,
    pub(super) ports: Table<LpmTrie<MapData, PortKey, u32>>,
    pub(super) connections: Table<HashMap<MapData, FlowKey, Connection>>,
    pub(super) flows: Table<HashMap<MapData, FlowKey, Flow>>,
    pub(super) drops: PerCpuArray<MapData, Count>,
    pub(super) counters: PerCpuArray<MapData, Count>,
    pub(super) queues: Arc<Mapping>,
    /// The kernel's number of `CONFIG`, by which programs of ours are recognised.
    pub(super) config_id: u32,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, RedirectError> {
        let (config, config_info) = take(ebpf, "CONFIG")?;
        let (queues, _) = take(ebpf, "QUEUES")?;
        let Map::Array(queues) = queues else {
            unreachable!("QUEUES is defined as an array")
        };
        Ok(Self {
            config: Array::try_from(config).map_err(RedirectError::map("CONFIG"))?,
            covered: table(ebpf, "COVERED")?,
            ipcache: table(ebpf, "IPCACHE")?,
            peers: table(ebpf, "PEERS")?,
            lanes: plain(ebpf, "LANES")?,
            devices: table(ebpf, "DEVICES")?,
            pods: table(ebpf, "PODS")?,
            pod_addresses: table(ebpf, "POD_ADDRESSES")?,
            lane_cookies: table(ebpf, "LANE_COOKIES")?,
            verdicts: table(ebpf, "VERDICTS")?,
            ports: table(ebpf, "PORTS")?,
            connections: table(ebpf, "CONNECTIONS")?,
            flows: table(ebpf, "FLOWS")?,
            drops: plain(ebpf, "DROPS")?,
            counters: plain(ebpf, "COUNTERS")?,
            queues: Mapping::new(queues.fd().as_fd())
                .map(Arc::new)
                .map_err(|source| RedirectError::Map {
                    map: "QUEUES",
                    source: Box::new(MapError::IoError(source)),
                })?,
            config_id: config_info.id,
        })
    }
}

struct Info {
    id: u32,
    capacity: u32,
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<(Map, Info), RedirectError> {
    let map = ebpf
        .take_map(name)
        .expect("every map is defined in the object, and taken once");
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)) = &map
    else {
        unreachable!("{name} is of none of the kinds defined in the object")
    };
    let info = data.info().map_err(RedirectError::map(name))?;
    // Before Linux 6.13 a prefix trie that is full refuses to change the entries it has, too
    // (trie_update_elem in kernel/bpf/lpm_trie.c).
    let spare = u32::from(matches!(map, Map::LpmTrie(_)));
    let info = Info {
        id: info.id(),
        capacity: info.max_entries().saturating_sub(spare),
    };
    Ok((map, info))
}

fn plain<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, RedirectError> {
    M::try_from(take(ebpf, name)?.0).map_err(RedirectError::map(name))
}

fn table<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Table<M>, RedirectError> {
    let (map, info) = take(ebpf, name)?;
    let map = M::try_from(map).map_err(RedirectError::map(name))?;
    Ok(Table {
        name,
        capacity: info.capacity,
        map,
    })
}

/// A map whose entries come and go.
pub(super) struct Table<M> {
    name: &'static str,
    /// Most entries that are put into it.
    capacity: u32,
    map: M,
}

/// What hashes and prefix tries have in common.
pub(super) trait Entries<K, V> {
    fn entries(&self) -> Result<BTreeMap<K, V>, MapError>;
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    fn delete(&mut self, key: &K) -> Result<(), MapError>;
}

impl<K: Plain + Ord, V: Plain> Entries<K, V> for HashMap<MapData, K, V> {
    fn entries(&self) -> Result<BTreeMap<K, V>, MapError> {
        self.iter().collect()
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        self.remove(key)
    }
}

impl<D: Plain + Ord, V: Plain> Entries<(D, u8), V> for LpmTrie<MapData, D, V> {
    fn entries(&self) -> Result<BTreeMap<(D, u8), V>, MapError> {
        self.iter()
            .map(|entry| entry.map(|(key, value)| ((key.data(), key.prefix_len() as u8), value)))
            .collect()
    }

    fn put(&mut self, (data, length): &(D, u8), value: &V) -> Result<(), MapError> {
        self.insert(&Key::new(u32::from(*length), *data), value, 0)
    }

    fn delete(&mut self, (data, length): &(D, u8)) -> Result<(), MapError> {
        self.remove(&Key::new(u32::from(*length), *data))
    }
}

impl<M> Table<M> {
    /// Makes the map say what is desired: changes first, which need no room, then additions, and removals last,
    /// so that nothing that stays is ever missing; only where there is no room do removals go before additions.
    /// What cannot be written keeps nothing else from it; the first error is the answer.
    pub(super) fn sync<K, V>(&mut self, desired: &BTreeMap<K, V>) -> Result<Synced, RedirectError>
    where
        K: Ord + Copy,
        V: PartialEq,
        M: Entries<K, V>,
    {
        let actual = self.map.entries().map_err(RedirectError::map(self.name))?;
        let mut stale: Vec<K> = actual
            .keys()
            .filter(|key| !desired.contains_key(key))
            .copied()
            .collect();
        let mut synced = Synced {
            removed: stale.len(),
            ..Synced::default()
        };
        let mut done = Ok(());
        for (key, value) in desired {
            if actual.get(key).is_some_and(|present| present != value) {
                synced.changed += 1;
                done = done.and(self.put(key, value));
            }
        }
        let mut entries = actual.len();
        for (key, value) in desired.iter().filter(|(key, _)| !actual.contains_key(key)) {
            if entries >= self.capacity as usize {
                entries -= stale.len();
                done = done.and(self.delete_all(&mut stale));
            }
            if entries >= self.capacity as usize {
                done = done.and(Err(self.full()));
                break;
            }
            entries += 1;
            synced.added += 1;
            done = done.and(self.put(key, value));
        }
        done = done.and(self.delete_all(&mut stale));
        done.map(|()| synced)
    }

    /// Puts in what is missing or has another value, and leaves what is there beside it, unless there is no room else.
    /// Answers the keys for which there is none, or that could not be written.
    pub(super) fn add<K, V>(&mut self, desired: &BTreeMap<K, V>) -> Result<BTreeSet<K>, RedirectError>
    where
        K: Ord + Copy,
        V: PartialEq,
        M: Entries<K, V>,
    {
        let actual = self.map.entries().map_err(RedirectError::map(self.name))?;
        let is_new = |(key, value): &(&K, &V)| actual.get(key) != Some(value);
        let missing: Vec<_> = desired.iter().filter(is_new).collect();
        let (capacity, mut entries) = (self.capacity as usize, actual.len());
        if missing.len() > capacity.saturating_sub(entries) {
            let stale = actual.keys().filter(|key| !desired.contains_key(key));
            let mut stale: Vec<K> = stale.copied().collect();
            entries -= stale.len();
            self.delete_all(&mut stale)?;
        }
        let mut failed = BTreeSet::new();
        for (key, value) in missing {
            let is_new = !actual.contains_key(key);
            if is_new && entries >= capacity || self.put(key, value).is_err() {
                failed.insert(*key);
            } else {
                entries += usize::from(is_new);
            }
        }
        Ok(failed)
    }

    /// Takes out what is not desired.
    pub(super) fn prune<K, V>(&mut self, desired: &BTreeMap<K, V>) -> Result<(), RedirectError>
    where
        K: Ord + Copy,
        M: Entries<K, V>,
    {
        let actual = self.map.entries().map_err(RedirectError::map(self.name))?;
        let stale = actual.into_keys().filter(|key| !desired.contains_key(key));
        self.delete_all(&mut stale.collect())
    }

    /// Puts in what has a value and takes out the rest.
    pub(super) fn change<K, V>(&mut self, changes: &BTreeMap<K, Option<V>>) -> Result<(), RedirectError>
    where
        K: Copy,
        M: Entries<K, V>,
    {
        let mut done = Ok(());
        for (key, value) in changes {
            if let Some(value) = value {
                done = done.and(self.put(key, value));
            }
        }
        let gone = changes.iter().filter(|(_, value)| value.is_none());
        done.and(self.delete_all(&mut gone.map(|(key, _)| *key).collect()))
    }

    /// What the map says now.
    pub(super) fn entries<K, V>(&self) -> Result<BTreeMap<K, V>, RedirectError>
    where
        M: Entries<K, V>,
    {
        self.map.entries().map_err(RedirectError::map(self.name))
    }

    fn put<K, V>(&mut self, key: &K, value: &V) -> Result<(), RedirectError>
    where
        M: Entries<K, V>,
    {
        self.map.put(key, value).map_err(|error| {
            if is_full(&error) {
                self.full()
            } else {
                RedirectError::map(self.name)(error)
            }
        })
    }

    fn delete_all<K, V>(&mut self, stale: &mut Vec<K>) -> Result<(), RedirectError>
    where
        M: Entries<K, V>,
    {
        let mut done = Ok(());
        for key in stale.drain(..) {
            match self.map.delete(&key) {
                Ok(()) => {}
                // Gone already, which is what was wanted.
                Err(error) if errno(&error) == Some(libc::ENOENT) => {}
                Err(error) => done = done.and(Err(RedirectError::map(self.name)(error))),
            }
        }
        done
    }

    fn full(&self) -> RedirectError {
        RedirectError::MapFull {
            map: self.name,
            capacity: self.capacity,
        }
    }
}

/// A hash answers E2BIG when full, a prefix trie ENOSPC.
fn is_full(error: &MapError) -> bool {
    matches!(errno(error), Some(libc::E2BIG | libc::ENOSPC))
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        MapError::KeyNotFound | MapError::ElementNotFound => Some(libc::ENOENT),
        MapError::IoError(e) => io::Error::raw_os_error(e),
        _ => None,
    }
}
