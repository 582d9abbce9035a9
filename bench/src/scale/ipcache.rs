//! What a keyd has programmed, read from its pinned map `IPCACHE`: who has an address.
//!
//! An entry of 128 bits with an identity is a pod's.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use aya::maps::{
    Map, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use hauberk_abi::{ABI_VERSION, Addr, IpcacheEntry};
use ipnet::IpNet;

use super::{
    error::ScaleError,
    verify::{Entries, key_of},
};

/// A keyd's map.
pub struct Ipcache {
    map: LpmTrie<MapData, Addr, IpcacheEntry>,
    path: PathBuf,
}

/// What a pod's address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// keyd's number of the node; 0 for this one.
    pub peer: u32,
    /// keyd's number of the pod's identity.
    pub identity: u32,
}

impl Ipcache {
    /// Opens the map in a keyd's pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self, ScaleError> {
        let path = pin_dir.join(format!("v{ABI_VERSION}/maps/IPCACHE"));
        let open = || LpmTrie::try_from(Map::LpmTrie(MapData::from_pin(&path)?));
        match open() {
            Ok(map) => Ok(Self { map, path }),
            Err(source) => Err(ScaleError::Map { path, source }),
        }
    }

    /// The pod that has an address, if one has.
    pub fn holder(&self, address: IpAddr) -> Result<Option<Holder>, ScaleError> {
        let found = self.longest(IpNet::from(address))?;
        Ok(found.filter(|entry| entry.identity != 0).map(|entry| Holder {
            peer: entry.peer,
            identity: entry.identity,
        }))
    }

    /// The number of the node whose prefix this is.
    pub fn peer_of(&self, prefix: IpNet) -> Result<Option<u32>, ScaleError> {
        let found = self.longest(prefix)?;
        Ok(found.map(|entry| entry.peer))
    }

    /// All that it holds.
    pub fn entries(&self) -> Result<Entries, ScaleError> {
        let entries = self.map.iter().map(|entry| {
            let (key, value) = entry?;
            Ok(((key.data(), key.prefix_len() as u8), value))
        });
        let entries: Result<_, MapError> = entries.collect();
        entries.map_err(|source| self.failed(source))
    }

    /// The entry of the longest prefix that has all of `net`.
    fn longest(&self, net: IpNet) -> Result<Option<IpcacheEntry>, ScaleError> {
        let (address, bits) = key_of(net);
        match self.map.get(&Key::new(u32::from(bits), address), 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: MapError) -> ScaleError {
        let path = self.path.clone();
        ScaleError::Map { path, source }
    }
}
